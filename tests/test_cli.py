"""The command line from outside: files, texts, one-line errors and exit statuses."""

import inspect
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import cli
from helpers.cli import MODEL, REFERENCE, run
from helpers.processes import Fork

import cotrace
from cotrace import Feature, loading
from cotrace.cli.app import main
from cotrace.cli.evaluate import evaluate as evaluate_command
from cotrace.cli.output_paths import file_stem
from cotrace.cli.render import PictureFormat, picture_path
from cotrace.cli.steer import steer as steer_command
from cotrace.cli.trace import trace as trace_command
from cotrace.cli.train import train as train_command
from cotrace.cli.validate import validate as validate_command
from cotrace.target_syntax import parse_bytes, parse_positions, parse_target, parse_targets


@pytest.fixture(scope="module")
def prompt():
    """Return a text that the reference model's tokenizer knows."""
    return cotrace.load(REFERENCE / "model", device="cpu").tokenizer.hf_tokenizer.decode([20, 30, 40])


@pytest.fixture(scope="module")
def traced(tmp_path_factory, prompt):
    out = tmp_path_factory.mktemp("out")
    result = run("trace", prompt, *MODEL, "--out", out, "--full")
    assert result.returncode == 0, result.stderr
    return out, result


def test_trace_writes_a_graph_and_prints_its_path(traced, prompt):
    out, result = traced
    circuit, full = (cotrace.open(out / f"{file_stem(prompt)}{ending}") for ending in (".arrow", ".full.arrow.zst"))
    assert circuit.info["pruning"] == {"node_threshold": 0.8, "edge_threshold": 0.98, "keep_errors": False}
    assert full.info["pruning"] is None
    assert circuit.order.n_nodes < full.order.n_nodes
    for words in ("tokens", "traced", "pruned to", "replacement", "strongest paths", f"{file_stem(prompt)}.arrow"):
        assert words in result.stdout


def test_without_dot_graph_picture_and_page_are_written(tmp_path, prompt):
    result = run("trace", prompt, *MODEL, "--out", tmp_path, PATH="/nowhere")
    assert result.returncode == 0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".arrow", ".html", ".svg"]
    assert f"{file_stem(prompt)}.html" in result.stdout.splitlines()[-1]
    file = next(tmp_path.glob("*.arrow"))
    refused = run("render", file, "--to", "png", PATH="/nowhere")
    assert refused.returncode != 0
    assert "apt install graphviz" in refused.stderr
    assert ".svg and .dot need no Graphviz" in refused.stderr


def test_show_prune_and_render(traced, prompt, tmp_path):
    file = traced[0] / f"{file_stem(prompt)}.full.arrow.zst"
    shown = run("show", file, "--top", "3", "--paths", "2")
    assert shown.returncode == 0
    assert "largest expected effects" in shown.stdout
    small = tmp_path / "small.arrow"
    assert run("prune", file, "--node-threshold", "0.3", "--out", small).returncode == 0
    assert cotrace.open(small).order.n_nodes < cotrace.open(file).order.n_nodes
    assert run("render", small, "--to", "dot").returncode == 0
    assert (tmp_path / "small.dot").read_text().count("digraph") == 1


def test_doctor_reports_devices_kernels_and_models():
    result = run("doctor")
    assert result.returncode == 0
    for words in ("torch", "kernel encode", "kernel influence", "cuda", "dot", "gemma-3-270m", "transcoders"):
        assert words in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trace", ""], "the prompt is empty"),
        (["trace", "a \udcff", *MODEL], "is not valid Unicode"),
        (["trace", "x", "--out", "caf\udce9", *MODEL], "choose another folder with --out"),
        (["trace", "x", "--targets", "caf\udce9", *MODEL], "is not valid Unicode"),
        (["trace", "x", "--model", "caf\udce9"], "rename the model's folder"),
        (["show", "caf\udce9.arrow"], "cannot open caf\\udce9.arrow"),
        (["trace"], "give PROMPT, or --prompt-file FILE"),
        (["trace", "x", "--prompts", "x.jsonl"], "not both"),
        (["trace", "x", "--workers", "2"], "only be used with --prompts"),
        (["trace", "--prompts", "x.jsonl", "--dry-run"], "--dry-run is for one PROMPT"),
        (["trace", "x", "--targets", "next", "--targets", "y"], "name it alone"),
        (["trace", "x", "--memory", "8 elephants"], "such as 8GiB"),
        (["trace", "x", *MODEL, "--memory", "1MB"], "--memory allows 976.6 KiB in all"),
        (["trace", "x", "--position", "2:2"], "empty range"),
        (["trace", "x", "--position", "two"], "FIRST:STOP"),
        (["trace", "x", *MODEL, "--targets", "next"], "nothing follows position"),
        (["trace", "--prompts", "/no/such.jsonl"], "is not a file"),
        (["trace", "x", "--node-threshold", "1.1"], "between 0 and 1"),
        (["trace", "x", "--model", "no/such/folder/anywhere/"], "neither an existing file or folder nor a Hub id"),
        (["trace", "x", *MODEL, "--transcoders", "/no/such/folder"], "does not exist"),
        (["trace", "x", *MODEL, "--position", "99"], "outside the prompt"),
        (["trace", "x", *MODEL, "--targets", "diff:a"], "diff:FIRST|SECOND"),
        (["trace", "x", *MODEL, "--targets", "L3#99"], "expected one position"),
        (["trace", "x", *MODEL, "--masked-positions", "x"], "--masked-positions: 'x' names no integers"),
        (["trace", "x", "--row-cache-bytes", "1GB"], "only be used with --prompts"),
        (["trace", "x", *MODEL, "--device", "cuda:77"], "use cpu"),
        (["trace", "x", *MODEL, "--dtype", "int8"], "expected one of"),
        (["trace", "x", *MODEL, "--out", "/dev/null/x"], "choose another folder with --out"),
        (["trace", "x", *MODEL, "--device", "meta"], "is not supported"),
        (["trace", "x", "--transcoders", "/no/such/folder"], "does not exist"),
        (["trace", "x", "--target-mass", "2"], "above 0 and at most 1"),
        (["show", "/no/such.arrow"], "does not exist"),
        (["render", "/no/such.arrow"], "does not exist"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_a_non_zero_exit(command, arguments, message, tmp_path):
    if arguments[0] == "trace" and "--out" not in arguments:
        arguments = [*arguments, "--out", tmp_path]
    status, out, error = command(*arguments)
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert message in error
    assert error.startswith("error: ")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (" cold", " cold"),
        ("id:12", 12),
        ("diff: cold| hot", (" cold", " hot")),
        ("L3#99@2", Feature(3, 99, position=2)),
        ("3_99_2", Feature(3, 99, position=2)),
        ("id:x", "id:x"),
    ],
)
def test_targets_as_users_write_them(text, target):
    assert parse_target(text) == target


def test_next_cannot_be_combined_with_other_targets():
    assert parse_targets(["next"]) == "next"
    assert parse_targets([" next", "id:3"]) == [" next", 3]
    with pytest.raises(cotrace.ArgumentError, match="name it alone"):
        parse_targets(["next", " cold"])


@pytest.mark.parametrize(
    ("texts", "positions"),
    [(["-1"], -1), (["3", "7"], [3, 7]), (["2:5"], [2, 3, 4]), (["-3:-1", "0"], [-3, -2, 0]), (["4:5"], 4)],
)
def test_positions_as_users_write_them(texts, positions):
    assert parse_positions("--position", texts) == positions


@pytest.mark.parametrize("text", ["5:5", "-2:1", "x", "1:", ":3", "1:2:3", ""])
def test_invalid_positions_are_refused(text):
    with pytest.raises(ValueError, match="--position"):
        parse_positions("--position", [text])


@pytest.mark.parametrize(("text", "size"), [("8GiB", 2**33), ("500MB", 5 * 10**8), ("1.5 gib", 3 * 2**29), ("12", 12)])
def test_sizes_as_users_write_them(text, size):
    assert parse_bytes("--memory", text) == size


def test_a_dry_run_prints_an_estimate_and_writes_nothing(tmp_path, prompt):
    result = run("trace", prompt, *MODEL, "--out", tmp_path, "--dry-run", "--memory", "100GiB")
    assert result.returncode == 0, result.stderr
    for words in ("active features", "memory", "disk", "time", "batches"):
        assert words in result.stdout
    assert not list(tmp_path.iterdir())


def test_the_prompts_own_tokens_as_targets(tmp_path, prompt):
    result = run("trace", prompt, *MODEL, "--out", tmp_path, "--targets", "next", "--position", "1:3")
    assert result.returncode == 0, result.stderr
    circuit = cotrace.open(tmp_path / f"{file_stem(prompt, ['next'], ['1:3'])}.arrow")
    assert [target["position"] for target in circuit.info["targets"]] == [1, 2]
    assert [target["token_ids"] for target in circuit.info["targets"]] == [[t] for t in circuit.info["token_ids"][2:4]]


def trace_and_mark_loading(mark, out):
    find_source = loading.find_source
    loading.find_source = lambda *arguments: (mark.touch(), find_source(*arguments))[1]
    cli.main("trace", "x", *MODEL, "--out", str(out))


def test_ctrl_c_prints_one_line_and_leaves_no_files(tmp_path):
    out, mark = tmp_path / "out", tmp_path / "loading"
    running = Fork(trace_and_mark_loading, mark, out)
    while not mark.exists() and running.is_running():
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    done = running.finish(timeout=600)
    assert done.returncode == 130
    assert done.stderr == "cancelled; no file is incomplete\n"
    assert not out.exists()


def test_a_failed_prune_leaves_files_unchanged(traced, prompt, tmp_path):
    missing = run("prune", tmp_path / "deep" / "x.arrow")
    assert missing.returncode == 2
    assert not (tmp_path / "deep").exists()
    folder = run("prune", traced[0] / f"{file_stem(prompt)}.arrow", "--out", tmp_path)
    assert (folder.returncode, folder.stderr.count("\n")) == (2, 1)
    assert "is a folder" in folder.stderr


@pytest.mark.parametrize(
    ("to", "out", "path"),
    [
        (None, None, "g.svg"),
        (PictureFormat.PNG, None, "g.png"),
        (None, "pic.pdf", "pic.pdf"),
        (PictureFormat.DOT, "pic.dot", "pic.dot"),
        (None, "circuit", "circuit.svg"),
        (PictureFormat.PNG, "circuit", "circuit.png"),
    ],
)
def test_pictures_are_written_to_out(to, out, path):
    assert picture_path(Path("g.arrow"), to, None if out is None else Path(out)) == Path(path)


@pytest.mark.parametrize("name", ["x.jpg", "x.v1", "x.svg.gz"])
def test_unknown_picture_formats_are_refused(name):
    with pytest.raises(ValueError, match=r"ends in \.svg, \.png, \.pdf, \.dot"):
        picture_path(Path("g.arrow"), None, Path(name))


def test_contradicting_picture_formats_are_refused():
    with pytest.raises(ValueError, match="omit one of them"):
        picture_path(Path("g.arrow"), PictureFormat.PNG, Path("pic.svg"))


def test_a_user_error_is_one_line_and_a_bug_shows_its_traceback(command, monkeypatch, tmp_path):
    def failing(error):
        def fail(*_, **__):
            raise error

        return fail

    for error in (cotrace.CotraceError("too small; use a larger one"), cotrace.FileError("no such file")):
        monkeypatch.setattr(cotrace, "open", failing(error))
        assert command("show", tmp_path / "x.arrow") == (2, "", f"error: {error}\n")
    for error in (ValueError("a bug"), KeyError("a bug"), OSError("a bug"), MemoryError()):
        monkeypatch.setattr(cotrace, "open", failing(error))
        monkeypatch.setattr(sys, "argv", ["cotrace", "show", "x.arrow"])
        with pytest.raises(type(error)) as raised:
            main()
        assert raised.value is error


def test_a_bug_shows_its_traceback_on_the_terminal(tmp_path):
    code = "import cotrace; cotrace.open = lambda path: 1 / 0; from cotrace.cli.app import main; main()"
    command = [sys.executable, "-c", code, "show", "x.arrow"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    assert "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize("name", ["show", "prune", "render", "validate"])
def test_a_folder_or_a_damaged_file_in_place_of_a_graph_is_one_line(command, name, tmp_path):
    (tmp_path / "damaged.arrow").write_bytes(b"no graph")
    for path in (tmp_path, tmp_path / "damaged.arrow", tmp_path / "none.arrow"):
        status, out, error = command(name, path)
        assert (status, out, error.count("\n")) == (2, "", 1)
        assert error.startswith("error: ")


def test_the_version_is_printed_from_any_folder(tmp_path):
    root = str(Path(cotrace.__file__).parents[1])
    command = [sys.executable, "-m", "cotrace", "--version"]
    environment = {**os.environ, "PYTHONPATH": root}
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert (result.returncode, result.stdout) == (0, f"{cotrace.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["trace", "--prompts", "missing.jsonl", "--out"],
        ["train", "--resume", "--out"],
        ["train", "--learning-rate", "nan", "--out"],
        ["trace", "x", "--model", "missing-model", "--out"],
    ],
)
def test_a_command_that_fails_leaves_no_folder(arguments, command, tmp_path):
    status, _, error = command(*arguments, tmp_path / "new" / "out")
    assert (status, error.count("\n")) == (2, 1)
    assert not list(tmp_path.iterdir())


def test_star_imports_do_not_replace_the_built_in_open():
    names = {}
    exec("from cotrace import *", names)
    assert "open" not in names
    assert names["Feature"] is Feature


def test_public_names_are_listed_and_importable():
    assert {"open", "load", "Feature"} <= {*dir(cotrace)} <= {*cotrace.__all__, "open"}
    assert {*cotrace.__all__} <= {*dir(cotrace)}
    for name in cotrace.__all__:
        assert getattr(cotrace, name) is not None


COMMANDS = [
    "trace",
    "show",
    "steer",
    "validate",
    "prune",
    "merge",
    "label",
    "render",
    "train",
    "evaluate",
    "convert",
    "doctor",
]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help_text(command, name):
    status, out, _ = command(name, "--help")
    assert status == 0
    assert "Usage" in out


def test_the_command_line_has_the_parameters_of_the_python_functions():
    """Options and parameters have the same names and defaults."""
    only_python = {"progress", "prompts"}
    for command, functions in (
        (trace_command, (cotrace.Model.trace, cotrace.Graph.prune, cotrace.load)),
        (validate_command, (cotrace.Model.validate,)),
        (evaluate_command, (cotrace.evaluate_transcoders,)),
        (steer_command, (cotrace.Model.generate, cotrace.load)),
    ):
        options = inspect.signature(command).parameters
        for function in functions:
            for name, parameter in inspect.signature(function).parameters.items():
                if parameter.kind is not parameter.KEYWORD_ONLY or name in only_python:
                    continue
                if command is steer_command and name in (
                    "use_cache",
                    "row_cache_bytes",
                    "features",
                    "segments",
                    "regenerate",
                ):
                    continue
                option = options[name]
                assert option.default in (parameter.default, None), name


def test_the_options_of_trace_are_grouped(command):
    out = command("trace", "-h")[1]
    for panel in ("Target", "Budget", "Circuit and picture", "Many prompts", "Model"):
        assert f"─ {panel} ─" in out


def test_a_misspelt_dtype_is_refused_before_torch_is_imported():
    code = "import sys; sys.argv = ['cotrace', 'trace', 'x', '--dtype', 'int8']\nfrom cotrace.cli.app import main\n"
    code += "try: main()\nexcept SystemExit as stopped: print(stopped.code, 'torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "2 False\n"
    assert "float32, float64, bfloat16" in result.stderr


def test_help_texts_need_no_torch():
    code = "import cotrace.cli, sys; print([m for m in ('torch', 'triton', 'transformers') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_defaults_that_train_shows_are_those_of_a_training_run():
    from cotrace.training import TrainingConfig

    for name, parameter in inspect.signature(train_command, eval_str=True).parameters.items():
        shown = parameter.annotation.__metadata__[0].show_default
        if isinstance(shown, str) and name not in ("affine", "data"):
            assert shown == str(getattr(TrainingConfig, name)).removesuffix(".0")
