"""Names of results, and files that are not overwritten."""

import pytest
from helpers.cli import MODEL
from helpers.random_graphs import random_graph

import cotrace
from cotrace.cli.output_paths import file_stem, save_result, with_ending
from cotrace.cli.trace import write


def test_a_name_is_the_prompt_where_that_says_it_all():
    assert file_stem("The opposite of hot is") == "the-opposite-of-hot-is"
    assert file_stem("Été 2024") == "été-2024"


DIFFERENT = [
    ("The sky is",),
    ("the sky is",),
    ("The sky is ",),
    ("The  sky is",),
    ("The sky is.",),
    ("The Sky is",),
    ("The sky-is",),
    ("The sky is\n",),
    ("The sky is", ["1"]),
    ("The sky is", ["9"]),
    ("The sky is", [" blue"]),
    ("The sky is", ["blue"]),
    ("The sky is", ["blue", "red"]),
    ("The sky is", [], ["1"]),
    ("The sky is", [], ["-1"]),
    ("The sky is", ["1"], ["1"]),
    ("The sky is", [], [], True),
    ("?!",),
    ("!?",),
    ("word " * 50 + "a",),
    ("word " * 50 + "b",),
    ("天" * 300,),
    ("𝒜" * 300, ["𝒜" * 300] * 5),
    ("half \ud800",),
]


def test_different_questions_have_different_names():
    names = [file_stem(*question) for question in DIFFERENT]
    assert len({name.lower() for name in names}) == len(DIFFERENT)
    for name in names:
        assert len(name.encode()) < 140
        assert not set(name) & set('/\\:*?"<>|\0\n ')
        assert name.strip(".-") == name
    assert file_stem("The sky is", [" blue"]).startswith("the-sky-is-to-blue-")


def written(text):
    return lambda path: path.write_text(text)


def test_other_content_is_kept(tmp_path):
    path = tmp_path / "a.arrow.zst"
    for _ in range(2):  # the same content again
        assert save_result(path, written("one"), force=False) == path
        others = [save_result(path, written(text), force=False) for text in ("two", "three", "two")]
    assert path.read_text() == "one"
    assert others[0] == others[2] != others[1]
    assert [other.read_text() for other in others] == ["two", "three", "two"]
    assert all(other.name.startswith("a-") and other.name.endswith(".arrow.zst") for other in others)
    with pytest.raises(cotrace.FileError, match=r"exists; add --force .* with --out"):
        save_result(path, written("two"), force=False, option="--out")
    assert save_result(path, written("one"), force=False, option="--out") == path
    assert save_result(path, written("two"), force=True, option="--out") == path
    assert path.read_text() == "two"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_failed_save_names_the_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.svg"
    path.write_text("one")

    def fail(at):
        raise cotrace.ResourceError(f"cannot write {at}: the disk is full")

    with pytest.raises(cotrace.ResourceError, match=f"cannot write {path}:"):
        save_result(path, fail, force=False)
    assert [each.name for each in tmp_path.iterdir()] == ["a.svg"]
    assert with_ending(path, "-x").name == "a-x.svg"


def test_traces_of_other_targets_prompts_and_settings_are_all_kept(tmp_path, command):
    prompt = cotrace.load(MODEL[1], device="cpu").tokenizer.hf_tokenizer.decode([20, 30, 40])
    calls = [
        (prompt, "--targets", "id:1"),
        (prompt, "--targets", "id:9"),
        (prompt,),
        (prompt, "--max-features", "2"),  # the name of the one before
        (prompt, "--position", "1"),
        (prompt + prompt[-1],),
    ]
    for _repeated in range(2):
        for call in calls:
            status, output, problem = command("trace", *call, *MODEL, "--out", tmp_path)
            assert status == 0, problem
            named = [line.split()[1] for line in output.splitlines() if line.startswith("wrote")]
            assert all((tmp_path / name).is_file() for name in named)
        graphs = sorted(tmp_path.glob("*.arrow"))
        assert len(graphs) == len(calls)
        assert len({str(cotrace.open(graph).info) for graph in graphs}) == len(calls)
        assert "has other content and was kept" in command("trace", *calls[3], *MODEL, "--out", tmp_path)[1]


def test_prune_and_render_keep_their_last_results(tmp_path, command):
    file = random_graph(3, n_features=40, n_errors=10).save(tmp_path / "a.arrow")
    for options, name in (
        ([], "a.pruned.arrow"),
        (["--node-threshold", "0.5"], "a.pruned-n0.5.arrow"),
        (["--edge-threshold", "0.5", "--keep-errors"], "a.pruned-e0.5-errors.arrow"),
        ([], "a.pruned.arrow"),
    ):
        assert f"{tmp_path / name}\n" in command("prune", file, *options)[1]
    other = random_graph(4, n_features=40, n_errors=10).save(tmp_path / "a.arrow")
    assert "a.pruned.arrow has other content and was kept" in command("prune", other)[1]
    for options, name in (([], "a.svg"), (["--max-nodes", "9"], "a-n9.svg"), (["--to", "dot"], "a.dot")):
        assert f"{tmp_path / name}\n" in command("render", file, *options)[1]
    out = ["--out", tmp_path / "a.pruned.arrow"]
    for name, suffix in (("prune", ".arrow"), ("render", ".svg")):
        out = ["--out", tmp_path / f"a{suffix}"]
        (tmp_path / "a.svg").write_text("mine")
        before = out[1].read_bytes()
        status, _, problem = command(name, file, *out)
        assert status == 2
        assert "add --force" in problem
        assert out[1].read_bytes() == before
        assert command(name, file, *out, "--force")[0] == 0
        assert out[1].read_bytes() != before


def test_a_reader_that_closes_its_pipe_loses_no_file(tmp_path, monkeypatch):
    def closed(_graph):
        raise BrokenPipeError

    monkeypatch.setattr("cotrace.cli.report.print_summary", closed)
    graph = random_graph(1)
    with pytest.raises(BrokenPipeError):
        write(graph.prune(), graph, tmp_path / "a", {"max_nodes": 20, "max_edges": 20}, False, full=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a.arrow", "a.full.arrow.zst", "a.html", "a.svg"}
