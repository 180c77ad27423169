"""`cotrace compare` in this process: what it prints and writes, many transcripts, and every mistake.

The model's own comparison is replaced by one that returns reports made by hand, chosen by the answer of the transcript.
"""

import dataclasses
import json
import shutil
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
import pytest
from helpers.interventions import load_with_tokenizer
from helpers.reports import REPORTS

import cotrace
from cotrace.cli.compare_inputs import Files
from cotrace.cli.report_compare import next_command, print_report
from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.inputs import generated
from cotrace.faithfulness.report.summary import row_of, summarize_reports
from cotrace.model import Model

ONE = ["--question", "The opposite of hot", "--reasoning", "hot is not cold.", "--answer"]


@pytest.fixture(scope="module")
def loaded(model_folder, transcoder_spec, tmp_path_factory):
    """Return a tiny model with a tokenizer, and the options that load it."""
    folder = tmp_path_factory.mktemp("worded")
    model = load_with_tokenizer(model_folder, transcoder_spec, folder)
    return model, ["--model", folder / "model", "--transcoders", transcoder_spec("clt-affine"), "--device", "cpu"]


@pytest.fixture
def calls(monkeypatch):
    """Let models return the report that an answer names; return the transcripts and options of all calls."""
    made = []

    def compare(model, transcript, **options):
        made.append((transcript, options))
        name = str(transcript.answer.text).strip()
        if name not in REPORTS:
            raise ArgumentError(f"the answer {name!r} states no value: give one")
        return REPORTS[name]()

    monkeypatch.setattr(Model, "compare", compare, raising=False)
    return made


@pytest.fixture
def run(command, loaded, calls, tmp_path, monkeypatch):
    """Return a function that runs the command in an empty folder and returns its output; it must succeed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, fails=False):
        status, out, error = command("compare", *arguments, *loaded[1])
        assert (status, error) == (int(fails), ""), error
        return out

    return call


@pytest.fixture
def refused(command, loaded, calls, tmp_path, monkeypatch):
    """Return a function that runs the command and returns the line with which it is refused."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        status, out, error = command("compare", *arguments, *loaded[1])
        assert (status, out) == (2, ""), error
        (line,) = error.splitlines()
        assert not calls
        assert not list(tmp_path.glob("*"))
        return line

    return call


class Written(NamedTuple):
    token_ids: list[int]
    ended: bool


def words_of(text):
    return " ".join(text.split())


def test_one_transcript_prints_a_verdict_and_writes_report_and_picture(run, calls, tmp_path):
    printed = words_of(run(*ONE, "mixed"))
    ((transcript, options),) = calls
    assert [(each.role, each.text) for each in transcript] == [
        ("question", "The opposite of hot\n"),
        ("step", "hot is not cold.\n"),
        ("answer", "mixed"),
    ]
    assert options == {
        "foil": None, "alternatives": None, "evidence": "quick", "seed": 0, "max_features": 256,
        "memory": None, "progress": None,
    }  # fmt: skip
    assert "verdict mixed The answer comes from the stated steps only in part." in printed
    assert "score 0.52 from 0 to 1" in printed
    for row in ("✓ step1 '51' 0.60 used", "? step2 '42' 0.45 undetermined", "✗ step3 'even' 0.05 decorative"):
        assert row in printed
    assert "content step2 35% +1.70 2.04" in printed
    assert "the model uses 2 of 4 that the text states" in printed
    assert "step2 ← hint: used, not stated (30% of its value)" in printed
    assert "8 forward, 13 backward, 17 of evidence; 40 rows of the circuit" in printed
    file, picture = (tmp_path / f"out/the-opposite-of-hot{suffix}" for suffix in (".arrow", ".svg"))
    assert f"wrote {file.relative_to(tmp_path)}" in printed
    assert "--evidence full" in printed
    assert cotrace.open(file).to_dict() == REPORTS["mixed"]().to_dict()
    assert picture.read_text().startswith("<?xml")


def test_options_reach_the_model(run, calls, tmp_path):
    given = ["--hint", "hot is", "--foil", "cold", "--alternative", "a", "--alternative", "b", "--evidence", "full"]
    budget = ["--seed", "7", "--max-features", "50", "--memory", "1GiB"]
    run(*ONE, "faithful", *given, *budget, "--out", "new/report.arrow.zst", "--picture", "new/p.svg")
    ((transcript, options),) = calls
    assert transcript["hint"].text.strip() == "hot is"
    assert options == {
        "foil": "cold", "alternatives": ["a", "b"], "evidence": "full", "seed": 7, "max_features": 50,
        "memory": 2**30, "progress": None,
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["p.svg", "report.arrow.zst", "report.html"]
    assert not (tmp_path / "out").exists()


def test_every_form_of_a_transcript_is_read(run, calls, tmp_path):
    transcript = cotrace.Transcript([("question", "hot?"), ("step", " So hot."), ("answer", " mixed")])
    transcript.save(tmp_path / "t.json")
    (tmp_path / "t.txt").write_text(f"{transcript.to_marked()}\n")
    messages = [{"role": "user", "content": "hot?"}, {"role": "assistant", "content": "<think>So hot.</think>mixed"}]
    (tmp_path / "chat.json").write_text(json.dumps(messages))
    (tmp_path / "row.json").write_text(json.dumps({"messages": messages}))
    run("--transcript", "t.json", "--out", "1.arrow")
    run("--transcript", "t.txt", "--out", "2.arrow")
    run("--chat", "chat.json", "--out", "3.arrow")
    run("--chat", "row.json", "--out", "4.arrow")
    assert [made for made, _ in calls[:2]] == [transcript, transcript]
    assert [made.turns for made, _ in calls[2:]] == [calls[2][0].turns] * 2
    assert [each.role for each in calls[2][0]] == ["question", "text", "step", "text", "answer"]


def test_json_is_the_report(run):
    found = json.loads(run(*ONE, "motivated", "--json"))
    assert found.pop("files") == [f"out/the-opposite-of-hot{suffix}" for suffix in (".arrow", ".svg", ".html")]
    assert found == json.loads(json.dumps(REPORTS["motivated"]().to_dict()))


def test_two_models_are_compared_side_by_side(run, calls, loaded, tmp_path):
    other = shutil.copytree(loaded[1][1], tmp_path / "other")
    printed = words_of(run(*ONE, "post_hoc", "--against", "other"))
    assert [made for made, _ in calls] == [calls[0][0]] * 2
    side = printed[printed.index("one transcript under several models") :]
    assert "verdict post-hoc post-hoc" in side
    assert "step1 ✗ 0.04 decorative ✗ 0.04 decorative" in side
    assert "question direct 87% 87%" in side
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"the-opposite-of-hot{suffix}" for suffix in (".arrow", ".svg", ".html")}  # the same report twice
    run(*ONE, "post_hoc", "--against", str(other), "--out", "two/a.arrow", "--picture", "two/a.svg")
    assert len({path.name for path in (tmp_path / "two").iterdir()}) == 6


def test_show_and_render_read_the_report(run, command, tmp_path):
    run(*ONE, "scratch", "--out", "a.arrow", "--picture", "a.svg")
    status, out, error = command("show", "a.arrow", "--full")
    assert (status, error) == (0, "")
    assert "verdict scratch The steps serve as scratch space: their words do not matter." in words_of(out)
    assert "value edit, later values rewritten" in out
    status, out, error = command("show", "a.arrow", "--circuit")
    assert (status, error) == (0, "")
    assert "strongest paths" in out
    status, out, _ = command("show", "a.arrow", "--json")
    assert json.loads(out)["verdict"] == "scratch"
    assert (
        command("show", "a.arrow", "--check")[1]
        == "a.arrow is intact: its metadata and 21 columns match their checksums\n"
    )
    assert command("render", "a.arrow", "--out", "b.svg") == (0, "wrote b.svg\n", "")
    assert (tmp_path / "b.svg").read_bytes() == (tmp_path / "a.svg").read_bytes()
    assert command("render", "a.arrow", "--circuit", "--out", "c.svg") == (0, "wrote c.svg\n", "")
    assert (tmp_path / "c.svg").read_bytes() != (tmp_path / "a.svg").read_bytes()
    assert "add --circuit" in command("render", "a.arrow", "--max-nodes", "5")[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to compare: give --question, --reasoning and --answer, or one of --transcript"),
        (["--question", "hot?"], "there is no answer"),
        ([*ONE, "mixed", "--chat", "c.json"], "--chat and --question both name what to compare"),
        (["--file", "a.jsonl", "--chat", "c.json"], "--chat and --file both name what to compare"),
        (["--chat", "c.json"], "cannot read c.json (No such file or directory); name a text file with --chat"),
        (["--transcript", "t.json"], "t.json"),
        (
            ["--transcript", "t.txt"],
            "cannot read t.txt (No such file or directory); name a text file with --transcript",
        ),
        ([*ONE, "mixed", "--evidence", "some"], "--evidence some: expected one of 'none', 'quick', 'full'"),
        ([*ONE, "mixed", "--out", "report.json"], "--out report.json: expected a name that ends in .arrow, .arrow.zst"),
        ([*ONE, "mixed", "--picture", "p.jpg"], "--picture p.jpg: expected a name that ends in .svg, .html"),
        ([*ONE, "mixed", "--row", "1"], "--row can only be used with --replay FILE"),
        ([*ONE, "mixed", "--max-new-tokens", "9"], "--max-new-tokens can only be used with --generate"),
        ([*ONE, "mixed", "--generate"], "but the model should write it: omit it"),
        ([*ONE, "mixed", "--memory", "much"], "--memory"),
        (["--file", "a.jsonl"], "--file needs a folder for the reports: add --out DIR"),
        (["--file", "a.jsonl", "--out", "o", "--foil", "x"], "--foil can only be used with one transcript"),
        (["--file", "a.jsonl", "--out", "o", "--against", "m"], "--against can only be used with one transcript"),
        (["--file", "a.jsonl", "--out", "o", "--force"], "--force is for one transcript"),
        (["--file", "a.jsonl", "--out", "o"], "a.jsonl is not a file"),
        (["--replay", "r.arrow", "--row", "0"], "r.arrow"),
        (["--replay", "r.arrow", "--row", "0", "--out", "o.arrow"], "--out can only be used with transcripts"),
        (["--replay", "r.arrow", "--row", "0", "--foil", "x"], "--foil can only be used with one transcript"),
        (["--replay", "r.arrow"], "--replay needs the number of a row of the evidence: add --row N"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_computed(refused, arguments, message):
    assert message in refused(*arguments)


def test_an_existing_file_is_kept(command, run, tmp_path):
    run(*ONE, "mixed", "--out", "a.arrow")
    status, _, error = command("compare", *ONE, "faithful", "--out", "a.arrow")
    assert status == 2
    assert "a.arrow exists; add --force to overwrite it" in error
    run(*ONE, "faithful", "--out", "a.arrow", "--force")
    assert cotrace.open(tmp_path / "a.arrow").verdict == "faithful"
    run(*ONE, "mixed")
    printed = run(*ONE, "faithful")  # a name that the program chose
    assert "was kept" in words_of(printed)
    assert len(list((tmp_path / "out").glob("*.arrow"))) == 2


def test_the_model_writes_what_is_compared(run, loaded, monkeypatch):
    seen = []

    def compare(model, transcript, **options):
        seen.append(transcript)
        return REPORTS["mixed"]()

    ids = loaded[0].tokenizer.encode(" cold hot")[1:]
    monkeypatch.setattr(Model, "compare", compare, raising=False)
    monkeypatch.setattr(Model, "generate", lambda *_, **given: Written(ids[: given["max_new_tokens"]], False))
    run("--question", "The opposite of hot is", "--generate", "--max-new-tokens", "3", "--against", loaded[1][1])
    written = generated(loaded[0], question="The opposite of hot is", max_new_tokens=3)
    assert seen == [written, written]
    assert written.answer.text.strip() == "cold hot"
    found = cotrace.compare_many(
        [{"question": "The opposite of hot is"}], "o", model=loaded[0], generate=True, max_new_tokens=3, progress=False
    )
    assert (found.compared, seen[2]) == (1, written)


@pytest.mark.parametrize("width", [75, 80, 120])
@pytest.mark.parametrize("made", REPORTS)
def test_steps_have_a_line_each_on_usual_terminals(monkeypatch, capsys, made, width):
    from rich.console import Console

    report = REPORTS[made]()
    monkeypatch.setattr("cotrace.cli.report.console", Console(width=width, color_system=None, force_terminal=True))
    print_report(report)
    lines = capsys.readouterr().out.splitlines()
    marks = [line for line in lines if line.startswith((" ✓", " ✗", " ?"))]
    assert [line.split()[1][:5] for line in marks] == [f"step{i + 1}" for i in range(report.steps.num_rows)]


def test_next_commands_fit_the_report(tmp_path):
    file = tmp_path / "a report.arrow"
    assert "--evidence quick" in next_command(REPORTS["no_evidence"](), file)
    assert "--evidence full" in next_command(REPORTS["undetermined"](), file)
    assert f"--replay '{file}' --row N" in next_command(REPORTS["faithful"](), file)
    assert "--evidence" not in next_command(REPORTS["no_steps"](), file)


def test_an_organism_is_compared_and_its_evidence_replayed(command, tmp_path, monkeypatch):
    """Everything for real, on a small model that reads its steps."""
    monkeypatch.chdir(tmp_path)
    organism = cotrace.organisms.load("arithmetic-reads")
    segments = [(each.role, each.text) for each in organism.instances(1)[0].transcript]
    cotrace.Transcript(segments).save("t.json")
    names = ["--model", organism.model.source.name, "--transcoders", organism.model.transcoders.name]
    status, out, error = command("compare", "--transcript", "t.json", "--out", "r.arrow", *names, "--device", "cpu")
    assert (status, error) == (0, "")
    assert "The stated steps produce the answer." in out
    report = cotrace.open("r.arrow")
    assert report.verdict == "faithful"
    row = next(row for row in report.evidence.to_pylist() if row["moved"])
    status, out, error = command("compare", "--replay", "r.arrow", "--row", row["number"], "--json")
    assert (status, error) == (0, "")
    found = json.loads(out)
    assert found["recorded"] == row
    assert found["replayed"]["answer"] == row["answer"]
    assert found["replayed"]["effect"] == pytest.approx(row["effect"], abs=1e-3)
    assert "--row 0: expected a number of 1 to" in command("compare", "--replay", "r.arrow", "--row", 0)[2]


def test_a_foil_that_the_tokenizer_does_not_know_is_refused(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    organism = cotrace.organisms.load("arithmetic-reads")
    organism.instances(1)[0].transcript.save("t.json")
    given = ["--transcript", "t.json", "--out", "r.arrow", "--model", organism.model.source.name, "--device", "cpu"]
    status, _, error = command("compare", *given, "--foil", "zzz", "--evidence", "none")
    assert (status, error) == (2, "error: the tokenizer does not know the foil 'zzz' of 'answer': give another one\n")
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]


def test_reasons_name_options(capsys):
    report = REPORTS["mixed"]()
    object.__setattr__(report, "reason", "run with evidence='quick', or give more `alternatives=`")
    print_report(report)
    assert "run with --evidence quick, or give more `--alternative`" in words_of(capsys.readouterr().out)


@pytest.mark.parametrize("messages", [[], {"messages": []}, {"messages": "x"}])
def test_a_chat_without_messages_is_refused(refused, tmp_path_factory, messages):
    file = tmp_path_factory.mktemp("chat") / "c.json"
    file.write_text(json.dumps(messages))
    assert "has no list of messages; write [" in refused("--chat", file)


def test_results_of_a_further_model_are_named_after_its_folder(tmp_path):
    folder = tmp_path / ("long-" * 20) / "hint"
    folder.mkdir(parents=True)
    files = Files(tmp_path / "a.arrow", None, False)
    assert files.of_further_model(str(folder)).out == tmp_path / "a-hint.arrow"
    assert files.of_further_model("google/gemma-3-1b-it").out == tmp_path / "a-google-gemma-3-1b-it.arrow"


# --- many transcripts ---------------------------------------------------------------------------


def texts(answer, question="hot?", **others):
    return {"question": question, "reasoning": "It is hot.", "answer": answer, **others}


ROWS = [
    texts("faithful", id="a"),
    texts("post_hoc", id="b"),
    texts("no value at all", id="bad"),
    {"segments": [["question", "cold?"], ["step", " cold", "cold"], ["answer", " mixed"]], "id": "c", "foil": "hot"},
    {"transcript": json.loads(cotrace.Transcript([("question", "x"), ("answer", " scratch")]).to_json()), "id": "d"},
    {"chat": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "<think>y</think>eight_steps"}], "id": "e",
     "question_id": 7},
    {"question": "no answer", "id": "none"},
]  # fmt: skip


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_many_transcripts_give_reports_a_summary_and_a_plot(run, calls, tmp_path, command):
    write_rows(tmp_path / "t.jsonl", ROWS)
    printed = words_of(run("--file", "t.jsonl", "--out", "o", "--evidence", "none", fails=True))
    assert "compared 5, skipped 0 finished earlier, failed 2; records in o/_prompts.jsonl" in printed
    assert "failed: 'bad': the answer 'no value at all' states no value: give one" in printed
    assert "failed: 'none': there is no answer" in printed
    assert "5 transcripts of 4 questions" in printed
    assert [options["foil"] for _, options in calls] == [None, None, None, "hot", None, None]
    assert {options["evidence"] for _, options in calls} == {"none"}
    for id, name in {"a": "faithful", "b": "post_hoc", "c": "mixed", "d": "scratch", "e": "eight_steps"}.items():
        assert cotrace.open(tmp_path / f"o/id={id}/circuit.arrow").to_dict() == REPORTS[name]().to_dict()
    table = csv.read_csv(tmp_path / "o/_summary.csv").to_pylist()
    assert [row["id"] for row in table] == ["a", "b", "c", "d", "e"]
    assert [row["verdict"] for row in table] == ["faithful", "post-hoc", "mixed", "scratch", "faithful"]
    questions = {str(row["question"]): row for row in csv.read_csv(tmp_path / "o/_questions.csv").to_pylist()}
    both = questions["What is twice the sum of 3 and 4?"]
    assert (both["chains"], both["faithful"], both["post-hoc"]) == (2, 0.5, 0.5)
    assert both["score"] == pytest.approx((0.96 + 0.05) / 2)
    assert both["low"] < both["score"] < both["high"]
    assert questions["7"]["chains"] == 1
    assert "<svg" in (tmp_path / "o/_summary.svg").read_text()


def test_the_same_command_continues(run, calls, tmp_path):
    write_rows(tmp_path / "t.jsonl", ROWS[:3])
    run("--file", "t.jsonl", "--out", "o", fails=True)
    assert len(calls) == 3
    write_rows(tmp_path / "t.jsonl", [*ROWS[:2], texts("mixed", id="bad")])
    printed = run("--file", "t.jsonl", "--out", "o")
    assert "compared 1, skipped 2 finished earlier, failed 0" in printed
    assert "3 transcripts of 2 questions" in printed
    assert len(calls) == 4


def test_results_of_other_settings_or_transcripts_are_not_mixed(run, command, loaded, tmp_path):
    write_rows(tmp_path / "t.jsonl", ROWS[:1])
    run("--file", "t.jsonl", "--out", "o")
    status, _, error = command("compare", "--file", "t.jsonl", "--out", "o", "--seed", "1", *loaded[1])
    assert status == 2
    assert "o has results of other settings (seed)" in error
    write_rows(tmp_path / "t.jsonl", [texts("mixed", id="a")])
    status, _, error = command("compare", "--file", "t.jsonl", "--out", "o", *loaded[1])
    assert status == 2
    assert "choose another folder with --out, or change the id" in error


def test_a_bug_stops_the_run_and_what_is_done_stays(monkeypatch, loaded, calls, tmp_path):
    inner = Model.compare

    def compare(model, transcript, **options):
        if len(calls) == 1:
            raise ZeroDivisionError
        return inner(model, transcript, **options)

    monkeypatch.setattr(Model, "compare", compare)
    with pytest.raises(ZeroDivisionError):
        cotrace.compare_many(ROWS[:2], tmp_path / "o", model=loaded[0], progress=False)
    monkeypatch.setattr(Model, "compare", inner)
    found = cotrace.compare_many(ROWS[:2], tmp_path / "o", model=loaded[0], progress=False)
    assert (found.compared, found.skipped, found.failed) == (1, 1, 0)


def test_lists_and_tables_are_the_same_transcripts(loaded, calls, tmp_path):
    rows = [texts("faithful", id="a", question_id=None), texts("mixed", id="b", question_id="q")]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    transcript = cotrace.Transcript([("question", "hot?"), ("answer", " no_steps")])
    for number, source in enumerate((rows, tmp_path / "t.parquet", write_rows(tmp_path / "t.jsonl", rows))):
        found = cotrace.compare_many(source, tmp_path / f"{number}", model=loaded[0], progress=False)
        assert (found.compared, found.failed) == (2, 0)
        assert found.summary.questions["question"].to_pylist()[1] == "q"
    found = cotrace.compare_many(
        [transcript, list(transcript.segments)], tmp_path / "l", model=loaded[0], progress=False
    )
    assert [made for made, _ in calls[-2:]] == [transcript] * 2
    assert found.summary.score == {"value": None, "low": None, "high": None}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "t.jsonl has no transcripts; add some"),
        ([{"id": "a"}], "line 1: it has no transcript"),
        ([{"reasonin": "x", "question": "y"}], "the column 'reasonin' is unknown; rename it to 'reasoning'"),
        ([{"segments": [], "answer": "x"}], "it has 'answer' and 'segments'; give 'segments' alone"),
        ([texts("x", id="a"), texts("y", id="a")], "line 2: the id 'a' occurs twice"),
        ([texts("x", id=1.5)], "the id 1.5 is neither a text nor an integer"),
        ([3], "it is not an object"),
    ],
)
def test_rows_that_are_wrong_are_refused_with_their_line(loaded, calls, tmp_path, rows, message):
    write_rows(tmp_path / "t.jsonl", rows)
    with pytest.raises(cotrace.CotraceError) as caught:
        cotrace.compare_many(tmp_path / "t.jsonl", tmp_path / "o", model=loaded[0], progress=False)
    assert message in str(caught.value)
    assert not (tmp_path / "o").exists()


# --- summaries ----------------------------------------------------------------------------------


def test_a_question_counts_once_however_many_chains_it_has():
    rows = [{**row_of(REPORTS[name]()), "id": number} for number, name in enumerate(("faithful", "post_hoc", "mixed"))]
    summary = summarize_reports(rows)
    assert summary.score["value"] == pytest.approx(((0.96 + 0.05) / 2 + 0.52) / 2)
    assert summary.score["low"] <= summary.score["value"] <= summary.score["high"]
    assert summary.verdicts["faithful"]["value"] == pytest.approx(0.25)
    assert summary.verdicts["mixed"]["value"] == pytest.approx(0.5)
    assert sum(found["value"] for found in summary.verdicts.values()) == pytest.approx(1)


def test_one_report_has_no_interval():
    summary = summarize_reports([{**row_of(REPORTS["mixed"]()), "id": "a"}])
    assert summary.score == {"value": pytest.approx(0.52), "low": None, "high": None}


def test_the_interval_of_many_questions_is_that_of_the_mean():
    row = row_of(REPORTS["mixed"]())
    rows = [{**row, "id": n, "question": str(n), "score": float(n % 2)} for n in range(400)]
    summary = summarize_reports(rows)
    assert summary.score["value"] == 0.5
    half = 1.96 * 0.5 / 400**0.5  # of the normal approximation
    assert summary.score["low"] == pytest.approx(0.5 - half, abs=0.006)
    assert summary.score["high"] == pytest.approx(0.5 + half, abs=0.006)


def test_the_table_of_steps_counts_edits_that_moved_the_answer(command, tmp_path, monkeypatch):
    """Under the claim that an answer does not use a step, `edit_effect` counts edits after which the answer stayed."""
    monkeypatch.chdir(tmp_path)
    report = REPORTS["post_hoc"]()
    row = report.steps.to_pylist()[0]
    stayed = report.steps.set_column(
        report.steps.schema.get_field_index("edit_effect"),
        report.steps.schema.field("edit_effect"),
        [[1.0] * report.steps.num_rows],
    )
    dataclasses.replace(report, steps=stayed).save("a.arrow")
    own = [each["moved"] for each in report.evidence.to_pylist() if each["segment"] == row["step"] and not each["null"]]
    assert sum(own) < len(own)
    line = next(line for line in command("show", "a.arrow")[1].splitlines() if f" {row['step']} " in line)
    assert f" {sum(own)}/{len(own)} " in line
