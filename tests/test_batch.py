"""Many prompts: a bad prompt fails alone, a stopped run resumes, and the results are one data set."""

import functools
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as parquet
import pytest
import torch
import typer
from helpers import cli
from helpers.processes import Fork
from hypothesis import given
from hypothesis import strategies as st
from tiny_checkpoints import write_tokenizer

import cotrace
from cotrace.batch import BatchSummary
from cotrace.batch.file_layout import partition
from cotrace.batch.prompts import check_prompts
from cotrace.batch.ray_pool import cluster, share_of_cpus
from cotrace.batch.result_store import open_folder
from cotrace.cli.app import main
from cotrace.cli.trace import report_batch
from cotrace.model import Model

TEXT = "The opposite of hot is"
CHAT = [{"role": "user", "content": "The opposite"}]
IDS = [2, 7, 31, 7, 10]
GOOD = {"text": TEXT, "ids": IDS, "chat": CHAT}
LITTLE = {"max_targets": 2, "coverage": 0.9}
TEXTS = {"id": pa.string()}


@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory):
    """Return the folder of the tiny model with a tokenizer."""
    return write_tokenizer(shutil.copytree(model_folder, tmp_path_factory.mktemp("worded") / "model"))


@pytest.fixture(scope="module")
def model(folder):
    return cotrace.load(folder, "neurons:2", device="cpu")


def rows(prompts):
    return [{"id": name, "prompt": content} for name, content in prompts.items()]


def write_lines(path, prompts):
    path.write_text("".join(json.dumps(row) + "\n" for row in prompts))
    return path


def records(out):
    return [json.loads(line) for line in (out / "_prompts.jsonl").read_text().splitlines()]


def by_status(out):
    """Return ids by the status of their last record."""
    last = {record["id"]: record["status"] for record in records(out)}
    return {status: {name for name in last if last[name] == status} for status in set(last.values())}


def as_dataset(out):
    return ds.dataset(out, format="ipc", partitioning=ds.partitioning(pa.schema(TEXTS), flavor="hive"))


def content(out):
    """Return the bytes of every file."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


# --- results ------------------------------------------------------------------------------------


def test_each_file_is_what_a_single_trace_gives(model, tmp_path):
    assert cotrace.trace_many(rows(GOOD), tmp_path, model=model, full=True, **LITTLE)[:3] == (3, 0, 0)
    for name, prompt in GOOD.items():
        graph = model.trace(prompt, **LITTLE)
        assert cotrace.open(tmp_path / f"id={name}/circuit.arrow").nodes.equals(
            graph.prune().nodes, check_metadata=True
        )
        assert cotrace.open(tmp_path / f"_full/id={name}/graph.arrow").nodes.equals(graph.nodes, check_metadata=True)


def test_ranges_and_arrays_are_options_too(model, tmp_path):
    options = {"targets": "next", "position": range(1, 3), "masked_positions": torch.tensor([0, 1])}
    assert cotrace.trace_many(rows({"text": TEXT}), tmp_path, model=model, **options).traced == 1
    circuit = cotrace.open(tmp_path / "id=text/circuit.arrow")
    assert [target["position"] for target in circuit.info["targets"]] == [1, 2]
    assert cotrace.trace_many(rows({"text": TEXT}), tmp_path, model=model, **options).skipped == 1
    with pytest.raises(ValueError, match="neither text nor numbers"):
        cotrace.trace_many([{"id": "a", "prompt": object()}], tmp_path / "other", model=model)


def test_a_record_has_sizes_and_scores(model, tmp_path):
    cotrace.trace_many(rows({"text": TEXT}), tmp_path, model=model, **LITTLE)
    (record,) = records(tmp_path)
    circuit = cotrace.open(tmp_path / record["file"])
    assert (record["id"], record["status"]) == ("text", "done")
    assert (record["nodes"], record["edges"]) == (circuit.order.n_nodes, circuit.n_edges)
    assert record["traced_nodes"] == circuit.info["traced"]["nodes"]
    assert {name: record[name] for name in ("replacement", "completeness")} == circuit.info["traced"]["scores"]
    assert record["coverage"] == circuit.info["traced"]["coverage"] >= 0.9
    assert record["seconds"] > 0


def test_targets_and_chat_of_a_prompt_or_of_the_batch(model, tmp_path):
    prompts = [{"prompt": TEXT, "targets": ["diff: cold| hot"]}, {"prompt": TEXT}]
    cotrace.trace_many(prompts, tmp_path, model=model, targets=[" cold"], chat=True)
    own, common = (cotrace.open(tmp_path / f"id={number}/circuit.arrow").info for number in range(2))
    assert [target["label"] for target in own["targets"]] == [" cold −  hot"]
    assert [target["label"] for target in common["targets"]] == [" cold"]
    assert common["token_ids"] == model.tokenize([{"role": "user", "content": TEXT}])


def test_a_table_and_lines_are_the_same_prompts(tmp_path):
    lists = [{"id": name, "prompt": [2, name], "targets": ["id:3"]} for name in range(3)]
    chats = [{"id": "x", "prompt": CHAT}, {"id": "y", "prompt": [*CHAT, {"role": "assistant", "content": "hot"}]}]
    for number, prompts in enumerate((rows(GOOD)[:1], lists, chats)):
        parquet.write_table(pa.Table.from_pylist(prompts), tmp_path / f"{number}.parquet")
        lines = write_lines(tmp_path / f"{number}.jsonl", prompts)
        assert check_prompts(lines) == check_prompts(tmp_path / f"{number}.parquet") == check_prompts(prompts)


def test_lines_may_be_blank_and_ids_are_row_numbers(tmp_path):
    (tmp_path / "p.jsonl").write_text('\ufeff{"prompt": "a"}\n\n{"prompt": "b"}', encoding="utf-8")
    assert list(check_prompts(tmp_path / "p.jsonl")) == ["id=0", "id=1"]


# --- the data set -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data_set(model, tmp_path_factory):
    """Return the results of three numbered prompts with unpruned graphs, and leftovers of a killed process."""
    out = tmp_path_factory.mktemp("set")
    cotrace.trace_many([TEXT, IDS, CHAT], out, model=model, full=True, **LITTLE)
    (out / "id=1/.circuit.arrow.77.part").write_bytes(b"torn")
    return out, {record["id"]: record["nodes"] for record in records(out)}


def test_pyarrow_reads_all_circuits(data_set):
    out, sizes = data_set
    table = ds.dataset(out, format="ipc", partitioning="hive").to_table()
    assert Counter(table["id"].to_pylist()) == sizes
    assert {*table["kind"].to_pylist()} == {"feature", "error", "token", "logit"}


def test_polars_reads_all_circuits(data_set):
    polars = pytest.importorskip("polars", reason="NOT TESTED: polars is not installed: pip install 'cotrace[dev]'")
    out, sizes = data_set
    nodes = polars.scan_ipc(out / "id=*/*.arrow", hive_partitioning=True).collect()
    assert Counter(nodes["id"].to_list()) == sizes
    assert nodes.filter(polars.col("kind") == "token")["text"].str.contains("hot").any()
    schema = {"id": polars.String}
    texts = polars.scan_ipc(out / "id=*/*.arrow", hive_partitioning=True, hive_schema=schema).collect()
    assert {*texts["id"]} == {str(number) for number in sizes}


def test_duckdb_reads_all_circuits(data_set):
    duckdb = pytest.importorskip("duckdb", reason="NOT TESTED: duckdb is not installed: pip install 'cotrace[dev]'")
    out, sizes = data_set
    nodes = ds.dataset(out, format="ipc", partitioning="hive")
    found = duckdb.sql("SELECT id, count(*) FROM nodes GROUP BY id").fetchall()
    assert nodes.count_rows() == sum(sizes.values())
    assert dict(found) == sizes


HOSTILE = [
    "../x",
    "/etc/x",
    "A",
    "a",
    "é",
    "e\u0301",
    "日本",
    "50%",
    "%41",
    "a=b",
    "x.",
    "..",
    " ",
    "nul",
    "007",
    "7",
    "\0",
]


def test_hostile_ids_stay_inside_the_folder_and_are_read_back(model, tmp_path):
    cotrace.trace_many([{"id": name, "prompt": IDS} for name in HOSTILE], tmp_path / "out", model=model, **LITTLE)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {*as_dataset(tmp_path / "out").to_table()["id"].to_pylist()} == {*HOSTILE}
    assert by_status(tmp_path / "out") == {"done": {*HOSTILE}}


@given(st.lists(st.text(min_size=1), min_size=2, unique=True))
def test_folder_names_are_safe_different_and_readable(ids):
    names = [partition(one) for one in ids]
    assert len({name.casefold() for name in names}) == len(ids)
    assert [unquote(name.removeprefix("id=")) for name in names] == ids
    assert all(name.isascii() and not {*'/\\:*?"<>|\0'} & {*name} and not name.endswith(".") for name in names)


# --- mistakes in the file -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b'{"prompt": "a"}\n{"prompt": ', "line 2 is not JSON"),
        (b"[" * 10**5, "line 1 is not JSON"),
        (b'"a"\n', "line 1: it is not an object"),
        (b'{"id": 1}\n', "line 1: it has no prompt"),
        (b'{"prompt": null}\n', "line 1: it has no prompt"),
        (b'{"prompt": "a", "target": "b"}\n', "line 1: the column 'target' is unknown; rename it to 'targets'"),
        (b'{"promt": "a"}\n', "line 1: the column 'promt' is unknown; rename it to 'prompt'"),
        (b'{"id": "p0", "text": "a"}\n', "line 1: the column 'text' is unknown; rename it to 'prompt'"),
        (b'{"prompt": "a", "text": "b"}\n', "line 1: the column 'text' is unknown; remove it"),
        (b'[{"id": "p0", "text": "a"}]\n', "is one JSON array and not JSON lines; write one object a line"),
        (b'[\n{"prompt": "a"}\n]\n', "is not JSON lines: its first line is no whole object; write one object a line"),
        (b'{\n"prompt": "a"}\n', "is not JSON lines: its first line is no whole object; write one object a line"),
        (b'{"prompt": "a", "id": 1}\n\n{"prompt": "b", "id": "1"}\n', "line 3: the id '1' occurs twice"),
        (b'{"prompt": "a", "id": 1}\n{"prompt": "b"}\n', "line 2: the id 1 occurs twice"),
        (b'{"prompt": "a", "id": ""}\n', "means no value"),
        (b'{"prompt": "a", "id": "__HIVE_DEFAULT_PARTITION__"}\n', "means no value"),
        (b'{"prompt": "a", "id": 1.5}\n', "neither a text nor an integer"),
        (b'{"prompt": "a", "id": true}\n', "neither a text nor an integer"),
        (b'{"prompt": "a", "id": "' + b"x" * 300 + b'"}\n', "too long"),
        (b'{"prompt": "a", "id": "\\ud800"}\n', "line 1: "),
        (b'{"prompt": "a", "targets": "b"}\n', "a list of texts"),
        (b'{"prompt": "a", "targets": []}\n', "a list of texts"),
        (b'{"prompt": "a", "targets": ["diff:a"]}\n', "line 1: invalid target 'diff:a': expected"),
        (b"\n", "has no prompts"),
        (b"", "has no prompts"),
    ],
)
def test_a_malformed_file_is_one_line_before_anything_is_loaded(lines, message, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(lines)
    with pytest.raises(ValueError) as told:
        cotrace.trace_many(path, tmp_path / "out", model="/no/model")
    assert message in str(told.value)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


def test_paths_that_are_not_files_of_prompts_are_refused(tmp_path):
    (tmp_path / "p.csv").write_text("prompt\na\n")
    (tmp_path / "p.parquet").write_text("no table")
    parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "q.parquet")
    for name, message in [
        ("p.csv", "should end in .jsonl or .parquet"),
        ("p.parquet", "cannot be read as Parquet"),
        ("q.parquet", "row 0: the column 'text' is unknown"),
        ("none.jsonl", "is not a file"),
    ]:
        with pytest.raises(ValueError, match=message):
            cotrace.trace_many(tmp_path / name, tmp_path / "out")


def test_an_unknown_option_is_a_type_error(tmp_path):
    with pytest.raises(TypeError, match="max_target"):
        cotrace.trace_many([TEXT], tmp_path, model="/no/model", max_target=3)


# --- bad prompts --------------------------------------------------------------------------------

HALF = "a \ud800"  # half of a surrogate pair
BAD = {
    "empty": "",
    "surrogate": HALF,
    "in a chat": [{"role": "user", "content": HALF}],
    "in a partial answer": [{"role": "user", "content": TEXT}, {"role": "assistant", "content": HALF}],
    "in a role": [{"role": HALF, "content": TEXT}],
    "outside": [2, 10**6],
    "number": 5,
    "roles": [{"role": "poet", "content": "x"}],
}


def test_a_bad_prompt_fails_alone_and_is_tried_again(model, tmp_path):
    assert cotrace.trace_many(rows({**BAD, **GOOD}), tmp_path, model=model)[:3] == (3, 0, len(BAD))
    assert by_status(tmp_path) == {"done": {*GOOD}, "failed": {*BAD}}
    errors = {record["id"]: record.get("error") for record in records(tmp_path)}
    assert errors["empty"] == "the prompt is empty; write some text"
    assert "outside the vocabulary" in errors["outside"]
    mended = {**dict.fromkeys(BAD, TEXT), **GOOD}
    assert cotrace.trace_many(iter(rows(mended)), tmp_path, model=model)[:3] == (len(BAD), 3, 0)
    assert by_status(tmp_path) == {"done": {*mended}}


INVALID = {  # rows of a file of prompts with text that is not valid Unicode
    "half a pair": rb'{"prompt": "a \ud800"}',
    "latin-1": b'{"prompt": "caf\xe9"}',
    "in a chat": b'{"prompt": [{"role": "user", "content": "caf\xe9"}]}',
    "in a target": rb'{"prompt": "hot is", "targets": ["\ud800"]}',
    "in a difference": b'{"prompt": "hot is", "targets": ["diff:hot|caf\xe9"]}',
}


@pytest.mark.parametrize("case", INVALID)
@pytest.mark.parametrize("chat", [False, True])
def test_invalid_unicode_in_a_file_fails_alone(case, chat, model, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"prompt": "hot is"}\n' + INVALID[case] + b'\n{"prompt": "hot"}\n')
    assert cotrace.trace_many(path, tmp_path / "out", model=model, chat=chat)[:3] == (2, 0, 1)
    (error,) = [record["error"] for record in records(tmp_path / "out") if "error" in record]
    assert "is not valid Unicode" in error


def test_invalid_unicode_in_parquet_fails_alone(model, tmp_path):
    raw = pa.array([b"hot is", b"caf\xe9", b"hot"], pa.binary())
    texts = pa.StringArray.from_buffers(3, *raw.buffers()[1:])
    parquet.write_table(pa.table({"prompt": texts}), tmp_path / "p.parquet")
    assert cotrace.trace_many(tmp_path / "p.parquet", tmp_path / "out", model=model)[:3] == (2, 0, 1)


@pytest.fixture
def raising(monkeypatch):
    """Return a function that makes the tracing of some texts raise errors."""
    trace = Model.trace

    def install(errors):
        @functools.wraps(trace)  # with its signature, from which settings are read
        def broken(self, prompt, *arguments, **options):
            if isinstance(prompt, str) and prompt in errors:
                raise errors[prompt]
            return trace(self, prompt, *arguments, **options)

        monkeypatch.setattr(Model, "trace", broken)

    return install


def test_an_unknown_target_and_too_little_memory_fail_alone(model, tmp_path, raising):
    raising({"hot": MemoryError(), "cold": torch.OutOfMemoryError("2 GiB\nmore")})
    prompts = [{"prompt": TEXT, "targets": ["hot cold"]}, "hot", "cold", TEXT]
    summary = cotrace.trace_many(prompts, tmp_path, model=model)
    assert summary[:3] == (1, 0, 3)
    errors = {record["id"]: record.get("error") for record in records(tmp_path)}
    assert errors[0].startswith("'hot cold' is not one token")
    assert (
        errors[1]
        == errors[2]
        == "out of memory: shorten the prompt, or compute fewer rows with max_features= or coverage="
    )


def test_a_batch_with_failures_prints_the_first_reasons(capsys, tmp_path):
    reasons = tuple(f"{number}: lower max_features=" for number in range(5))
    with pytest.raises(typer.Exit):
        report_batch(BatchSummary(1, 2, 7, tmp_path / "_records.jsonl", reasons))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("traced 1, skipped 2 finished earlier, failed 7; records in ")
    assert lines[1:6] == [f"failed: {number}: lower --max-features" for number in range(5)]
    assert lines[6].startswith("… and 2 more")


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug"), OSError("a bug")], ids=repr)
def test_a_bug_stops_the_run_and_finished_prompts_stay(model, tmp_path, raising, error):
    raising({"is": error})
    with pytest.raises(type(error), match="a bug"):
        cotrace.trace_many([TEXT, "is", "hot"], tmp_path, model=model)
    assert by_status(tmp_path) == {"done": {0}}
    raising({})
    assert cotrace.trace_many([TEXT, "is", "hot"], tmp_path, model=model)[:3] == (2, 1, 0)


# --- stopped and resumed ------------------------------------------------------------------------


def test_finished_prompts_are_skipped(model, tmp_path, raising):
    cotrace.trace_many(rows(GOOD), tmp_path, model=model)
    before = content(tmp_path)
    raising({TEXT: AssertionError("it is traced again")})
    assert cotrace.trace_many(rows(GOOD), tmp_path, model=model)[:3] == (0, 3, 0)
    assert content(tmp_path) == before


def test_an_incomplete_record_and_a_lost_graph_are_traced_again(model, tmp_path):
    cotrace.trace_many(rows(GOOD), tmp_path, model=model)
    path = tmp_path / "_prompts.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    (tmp_path / "id=chat/.circuit.arrow.1.part").write_bytes(b"torn")
    (tmp_path / "id=ids/circuit.arrow").unlink()
    assert cotrace.trace_many(rows(GOOD), tmp_path, model=model)[:3] == (2, 1, 0)
    assert [record["id"] for record in records(tmp_path)] == ["text", "ids", "ids", "chat"]
    assert [path.name for path in (tmp_path / "id=chat").iterdir()] == ["circuit.arrow"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"coverage": 0.5}, "coverage"),
        ({"node_threshold": 0.5}, "pruning"),
        ({"full": True}, "full"),
        ({"chat": True}, "chat"),
        ({"targets": [" cold"]}, "targets"),
        ({"transcoders": "neurons:3"}, "transcoders"),
        ({"dtype": "bfloat16"}, "dtype"),
    ],
)
def test_other_settings_need_another_folder(changes, named, folder, tmp_path):
    usual = {"model": folder, "transcoders": "neurons:2", "device": "cpu"}
    cotrace.trace_many([TEXT], tmp_path, **usual)
    before = content(tmp_path)
    with pytest.raises(ValueError, match=rf"other settings \(.*{named}.*\); choose another folder with --out"):
        cotrace.trace_many([TEXT], tmp_path, **{**usual, **changes})
    assert content(tmp_path) == before


def test_settings_without_results_can_be_changed(model, tmp_path):
    cotrace.trace_many([TEXT], tmp_path, model=model, position=99)
    assert cotrace.trace_many([TEXT], tmp_path, model=model, position=1)[:3] == (1, 0, 0)


def test_another_prompt_under_the_same_id_needs_another_folder(model, tmp_path):
    cotrace.trace_many([TEXT, IDS], tmp_path, model=model)
    before = content(tmp_path)
    for other in ([IDS, TEXT], [{"prompt": TEXT, "targets": [" cold"]}, IDS]):
        with pytest.raises(ValueError, match="has the graph of another prompt or other targets; choose another folder"):
            cotrace.trace_many(other, tmp_path, model="/no/model")
    assert content(tmp_path) == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="contains other files"):
        cotrace.trace_many([TEXT], tmp_path, model="/no/model")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_place_of_the_folder_is_a_file_error(tmp_path):
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "deep"):
        with pytest.raises(cotrace.FileError, match="choose another folder with --out"):
            cotrace.trace_many([TEXT], out, model="/no/model")
    (tmp_path / "records" / "_prompts.jsonl").mkdir(parents=True)
    with pytest.raises(cotrace.FileError, match="cannot write"):
        cotrace.trace_many([TEXT], tmp_path / "records", model="/no/model")


def test_damaged_records_are_refused(tmp_path):
    (tmp_path / "_prompts.jsonl").write_text('{"id": 1}\n{"id": 2, "status": "done", "sha256": ""}\n')
    with pytest.raises(ValueError, match="line 1 is damaged"):
        cotrace.trace_many([TEXT], tmp_path, model="/no/model")


@pytest.mark.skipif(sys.platform == "win32", reason="NOT TESTED: there are no such locks")
def test_two_processes_do_not_share_a_folder(tmp_path):
    with open_folder(tmp_path), pytest.raises(ValueError, match="another process is writing"):
        cotrace.trace_many([TEXT], tmp_path, model="/no/model")


# --- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def command(folder):
    """Return a function that returns the command that traces a file into a folder."""

    def arguments(file, out, *more):
        return [
            *("trace", "--prompts", str(file), "--out", str(out)),
            *("--model", str(folder), "--transcoders", "neurons:2", "--device", "cpu", *more),
        ]

    return arguments


def test_the_same_command_resumes_after_any_interruption(command, tmp_path):
    prompts = {f"p{number}": [2, *range(number % 30, number % 30 + 8), number % 7] for number in range(40)}
    file, out = write_lines(tmp_path / "p.jsonl", rows({**prompts, "bad": ""})), tmp_path / "out"
    for stop, status in [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)]:
        error = stop_after(command(file, out), out, stop, status)
        assert error == ("cancelled; no file is incomplete\n" if status == 130 else "")
        assert all(cotrace.open(path).order.n_nodes for path in out.rglob("*.arrow"))
    done = len(by_status(out)["done"])
    ended = cli.run(*command(file, out))
    assert ended.returncode == 1
    assert ended.stdout.startswith(f"traced {40 - done}, skipped {done} finished earlier, failed 1;")
    assert by_status(out) == {"done": {*prompts}, "failed": {"bad"}}
    assert {*as_dataset(out).to_table(["id"])["id"].to_pylist()} == {*prompts}
    times = Counter(record["id"] for record in records(out) if record["status"] == "done")
    assert {*times.values()} == {1}


def stop_after(arguments, out, stop, status, n_more=3):
    """Start a command, stop it after this many more prompts, and return its output."""
    before = len(records(out)) if out.exists() else 0
    running, path = Fork(cli.main, *arguments), out / "_prompts.jsonl"
    while running.is_running() and (not path.exists() or path.read_bytes().count(b"\n") < before + n_more):
        time.sleep(0.005)
    running.send_signal(stop)
    done = running.finish(timeout=600)
    assert done.returncode == status, done.stderr
    return done.stderr


# --- Ray ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ray():
    """Return Ray, connected to a local cluster of two CPUs."""
    pytest.importorskip("ray", reason="NOT TESTED: Ray is not installed: pip install 'cotrace[ray]'")
    with cluster("local") as ray:
        yield ray


def test_workers_give_what_one_process_gives(ray, command, model, tmp_path, monkeypatch, capsys):
    few = {"sampled": True, "max_features": 60, "seed": 3}
    prompts = {**GOOD, "long": [2, *range(5, 38)]}
    file = write_lines(tmp_path / "p.jsonl", [*rows(prompts), {"id": "bad", "prompt": ""}])
    options = "--workers", "2", "--full", "--sampled", "--max-features", "60", "--seed", "3"
    arguments = command(file, tmp_path / "out", *options)
    monkeypatch.setattr(sys, "argv", ["cotrace", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().out.startswith("traced 4, skipped 0 finished earlier, failed 1;")
    assert by_status(tmp_path / "out") == {"done": {*prompts}, "failed": {"bad"}}
    for name, prompt in prompts.items():
        graph = cotrace.open(tmp_path / f"out/_full/id={name}/graph.arrow")
        assert graph.sampled == (name == "long")  # the others have every row
        same_graph(graph, model.trace(prompt, **few))
    # without workers it is the same run
    assert cotrace.trace_many(rows(prompts), tmp_path / "out", model=model, full=True, **few)[:3] == (0, 4, 0)


def same_graph(ours, other):
    assert ours.nodes["sources"].equals(other.nodes["sources"])
    assert {**ours.info, "traced": 0} == {**other.info, "traced": 0, "targets": ours.info["targets"]}
    assert abs(ours.csr.weights - other.csr.weights).max() < 1e-5 * abs(other.csr.weights).max()


def test_a_worker_that_dies_is_replaced_and_its_prompt_tried_once_more(ray, folder, tmp_path, monkeypatch):
    from cotrace.batch import ray_pool

    tried = tmp_path / "tried"

    class Mortal(ray_pool.RayWorker):  # defined in no module, so that Ray sends its code
        def trace(self, prompt):
            if prompt.id == "deadly" or (prompt.id == "once" and not tried.exists()):
                with tried.open("a") as file:
                    file.write(f"{prompt.id} ")
                os._exit(1)
            return super().trace(prompt)

    monkeypatch.setattr(ray_pool, "RayWorker", Mortal)
    prompts = rows({"once": TEXT, **GOOD, "deadly": TEXT})
    summary = cotrace.trace_many(prompts, tmp_path / "out", model=folder, transcoders="neurons:2", workers=1)
    assert summary[:3] == (4, 0, 1)
    assert by_status(tmp_path / "out") == {"done": {"once", *GOOD}, "failed": {"deadly"}}
    assert records(tmp_path / "out")[-1]["error"].startswith("its worker died twice")
    assert tried.read_text() == "once deadly deadly "


def test_mistakes_come_back_as_one_line_and_bugs_as_bugs(ray, folder, tmp_path, monkeypatch):
    from cotrace.batch import ray_pool

    class Buggy(ray_pool.RayWorker):
        def trace(self, prompt):
            raise KeyError("a bug")

    with pytest.raises(ValueError, match=r"^/no/folder does not exist"):
        cotrace.trace_many([TEXT], tmp_path / "a", model=folder, transcoders="/no/folder", workers=1)
    monkeypatch.setattr(ray_pool, "RayWorker", Buggy)
    with pytest.raises(KeyError, match="a bug"):
        cotrace.trace_many([TEXT], tmp_path / "b", model=folder, transcoders="neurons:2", workers=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 99999}, "use fewer workers"),
        ({"workers": 99999, "device": "cuda"}, "use fewer workers"),
        ({"workers": 2, "device": "cuda:1"}, "Ray gives each its own"),
    ],
)
def test_impossible_numbers_of_workers_are_refused(ray, options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        cotrace.trace_many([TEXT], tmp_path, model="/no/model", **options)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "ray://host:1", "auto"])
def test_a_missing_cluster_is_refused(address, tmp_path, monkeypatch):
    module = pytest.importorskip("ray", reason="NOT TESTED: Ray is not installed: pip install 'cotrace[ray]'")
    monkeypatch.setattr(module, "is_initialized", lambda: False)

    def init(**_):
        raise ConnectionError("none")

    monkeypatch.setattr(module, "init", init)
    with pytest.raises(ValueError, match=r"Ray cluster|start a cluster"):
        cotrace.trace_many([TEXT], tmp_path, model="/no/model", ray=address)


def test_without_ray_the_cure_is_named(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r'pip install "cotrace\[ray\]"'):
        cotrace.trace_many([TEXT], tmp_path, model="/no/model", workers=2)
    with pytest.raises(ValueError, match="name it"):
        cotrace.trace_many([TEXT], tmp_path, model=model, workers=2)


@pytest.mark.parametrize(
    ("cpus", "workers", "share"), [([16], 4, 4), ([16], 1, 16), ([3, 5], 2, 3), ([3, 5], 8, 1), ([7, 1], 3, 2)]
)
def test_shares_of_cpus_fit_their_machines(cpus, workers, share):
    assert share_of_cpus(cpus, workers) == share
