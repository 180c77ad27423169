"""The benchmark of measures of faithfulness, from end to end on four models whose attention is written by hand."""

import json
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.score_tables import score_table
from helpers.stand_in_organisms import names

sys.path.append(str(Path(__file__).parent.parent))  # benchmarks are not installed

from benchmarks import faithfulness, faithfulness_adapters, faithfulness_runs
from benchmarks.faithfulness import chosen, main, outside
from benchmarks.faithfulness_fits import fitted_name, with_fits
from benchmarks.faithfulness_plots import draw
from benchmarks.faithfulness_runs import Key, OrganismFile, organism_path
from benchmarks.faithfulness_tables import faithfulness_table
from cotrace.common.errors import ArgumentError, FileError
from cotrace.faithfulness.organisms import adapters
from cotrace.faithfulness.protocol import ScoreMatrix, SummaryConfig, read_scores, summarize

METHODS = ("early_answering", "attention_rollout", "hint_acknowledgement", "length", "tf_idf", "probe")
TRANSCRIPTS = 4 * faithfulness.QUICK_INSTANCES


def arguments(folder, *more):
    options = ["--source", "helpers.stand_in_organisms", "--folder", str(folder), "--jobs", "1", "--quick", "--no-plot"]
    return [*options, "--methods", *METHODS, *more]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a finished run."""
    made = tmp_path_factory.mktemp("faithfulness")
    main([each for each in arguments(made) if each != "--no-plot"])
    return made


@pytest.fixture
def result(folder):
    return json.loads((folder / "quick.json").read_text())


def test_models_that_read_their_steps_are_told_from_those_that_do_not(result, folder):
    (found,) = [one for one in result["summary"]["methods"] if one["method"] == "early_answering"]
    assert found["auroc"]["value"] == 1
    assert (found["twins"][0]["mechanism"], found["twins"][0]["value"]) == ("reads", 1)
    assert found["steps"]["value"] > 0.7
    assert found["passes"] > 1
    assert result["summary"]["counts"]["instances"] == TRANSCRIPTS
    assert [each["share"] for each in result["organisms"]] == [1, 0, 1, 0]
    scores = ScoreMatrix.from_arrow(read_scores(folder / "quick.parquet"))
    assert set(METHODS[:4]) < set(scores.methods)
    assert (folder / "quick.svg").read_text().startswith("<?xml")


def test_a_method_that_does_not_apply_says_why(result):
    (about,) = [each for each in result["methods"] if each["name"] == "hint_acknowledgement"]
    assert "no hint" in about["reasons"][0]
    assert "| `hint_acknowledgement` | outputs | does not apply |" in faithfulness_table(result)


def test_scores_are_not_computed_twice(folder, monkeypatch):
    before = {name: organism_path(folder, name).read_text() for name in names()}
    monkeypatch.setattr(faithfulness_runs, "score", lambda *args: pytest.fail("a score was computed again"))
    main(arguments(folder))
    assert before == {name: organism_path(folder, name).read_text() for name in names()}


def test_an_interrupted_run_continues(folder, tmp_path, monkeypatch):
    """The last line is torn, as by a killed process, and one score is missing."""
    for name in names():
        lines = organism_path(folder, name).read_text().splitlines(keepends=True)
        organism_path(tmp_path, name).write_text("".join(lines[:-2]) + lines[-1][:20])
    computed = []
    score = faithfulness_runs.score
    monkeypatch.setattr(faithfulness_runs, "score", lambda *args: computed.append(args[0]) or score(*args))
    main(arguments(tmp_path))
    assert len(computed) == 2 * len(names())
    assert json.loads((tmp_path / "quick.json").read_text())["summary"]["counts"]["instances"] == TRANSCRIPTS


def test_scores_of_other_code_are_computed_again(folder, tmp_path, monkeypatch):
    for name in names():
        organism_path(tmp_path, name).write_bytes(organism_path(folder, name).read_bytes())
    monkeypatch.setattr(
        faithfulness_runs, "code_digest", lambda method: "changed" if method == METHODS[0] else "f" * 16
    )
    computed = []
    score = faithfulness_runs.score
    monkeypatch.setattr(faithfulness_runs, "score", lambda *args: computed.append(args[0]) or score(*args))
    main(arguments(tmp_path, "--organisms", "*"))
    assert computed.count(METHODS[0]) == TRANSCRIPTS


def test_scores_of_another_model_are_dropped(folder, tmp_path):
    path = organism_path(tmp_path, names()[0])
    path.write_bytes(organism_path(folder, names()[0]).read_bytes())
    file = OrganismFile(path)
    assert len(file.lines) == faithfulness.QUICK_INSTANCES * (1 + len(METHODS))
    file.begin(file.header | {"card": "another"})
    assert file.lines == OrganismFile(path).lines == {}


def test_workers_give_the_scores_of_this_process(folder, tmp_path, monkeypatch):
    """Threads in place of processes, which take long to start; what is sent to a process can be pickled."""

    def pool(jobs, context, initializer, initargs):
        return ThreadPoolExecutor(jobs, initializer=initializer, initargs=initargs)

    monkeypatch.setattr(faithfulness.concurrent.futures, "ProcessPoolExecutor", pool)
    settings, organisms, _ = faithfulness.plan(faithfulness.parser().parse_args(arguments(tmp_path)))
    assert pickle.loads(pickle.dumps(settings)) == settings
    steps = []
    found = faithfulness.score_in_processes(settings, organisms, 2, lambda n, note: steps.append(n))
    assert sum(steps) == TRANSCRIPTS * len(METHODS)
    assert pickle.loads(pickle.dumps(found)) == found
    for name in organisms:
        here, there = (OrganismFile(organism_path(each, name)).lines for each in (folder, tmp_path))
        assert {key: line.get("value") for key, line in here.items()} == {
            key: line.get("value") for key, line in there.items()
        }


class NearestMean:
    """A fitted measure: how much nearer the features are to the mean of positives than to that of negatives."""

    def fit_features(self, features, shares, *, weights):
        self.seen, table = len(features), np.array(features, float)
        self.means = [np.average(table, 0, side * weights) for side in (shares, 1 - shares)]

    def score_features(self, features):
        near, far = (np.abs(np.array(features, float) - mean).sum(1) for mean in self.means)
        return far - near


def test_fitted_methods_learn_from_other_models_and_nothing_from_text():
    made = score_table(12, tasks=("sums", "tables"), seeds=(0, 1)).without_method("truth")
    inside = [[share] for share in made.share]
    found = with_fits(made.with_method("mine", np.nan, 1), "mine", NearestMean, inside, show=False)
    names = [fitted_name("mine", axis) for axis in ("mechanism", "task", "seed")]
    assert found.methods == ["score", "text", *names]
    summary = summarize(found, SummaryConfig(50, 0), progress=False)
    assert [one["auroc"]["value"] for one in summary["methods"] if one["method"] in names] == pytest.approx([1, 1, 1])
    words = [[value] for value in made.score["text"]]
    found = with_fits(made.with_method("mine", np.nan, 1), "mine", NearestMean, words, show=False)
    for axis in ("mechanism", "task", "seed"):
        assert np.abs(found.score[fitted_name("mine", axis)]).max() == 0


def test_fits_see_features_of_one_size_and_one_task():
    made = score_table(4, tasks=("sums", "tables"))
    features = [[share] * (1 if task == "sums" else 2) for share, task in zip(made.share, made.task, strict=True)]
    features[0] = None
    found = with_fits(made.with_method("mine", np.nan, 1), "mine", NearestMean, features, show=False)
    assert fitted_name("mine", "task") not in found.methods  # the other task's features have another size
    score_N = found.score[fitted_name("mine", "mechanism")]
    assert np.isnan(score_N[0])
    assert np.isfinite(score_N[1:]).all()


def test_names_are_patterns():
    assert chosen(["a-reads", "b-reads", "b-skip"], ["b-*"], "organism") == ["b-reads", "b-skip"]
    assert chosen(["a", "b"], [], "organism") == ["a", "b"]
    with pytest.raises(ArgumentError, match="no organism is called 'c'"):
        chosen(["a", "b"], ["a", "c"], "organism")


def test_mistakes_end_with_one_line(tmp_path):
    with pytest.raises(SystemExit, match="no method is called 'mine'"):
        main([*arguments(tmp_path), "mine"])
    path = organism_path(tmp_path, "x")
    path.write_text('{"organism": "x"}\n{"par\n')
    with pytest.raises(FileError, match=r"line 2 .* is damaged; delete the file"):
        OrganismFile(path)


def test_files_hold_one_line_for_each_part(tmp_path):
    file = OrganismFile(tmp_path / "x.jsonl")
    file.begin({"organism": "x", "card": "1"})
    file.append({"part": "truth", "problem": 1, "depends_on": "a", "share": 1.0})
    assert OrganismFile(tmp_path / "x.jsonl").lines == file.lines
    assert list(file.lines) == [Key("truth", 1, "a")]


def test_distances_from_an_interval():
    assert outside({"low": 0.4, "high": 0.6}) == 0
    assert outside({"low": 0.52, "high": 0.6}) == pytest.approx(0.02)
    assert outside({"low": 0.3, "high": 0.5 - 1e-12}) == 0


def test_the_same_result_gives_the_same_plot(result, tmp_path):
    for name in ("one.svg", "other.svg"):
        draw(result, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_adapters_are_organisms_of_one_task(tmp_path, monkeypatch):
    (tmp_path / "card.json").write_text('{"accuracy": 1.0}')
    monkeypatch.setattr(adapters, "adapter_folder", lambda name: tmp_path)
    monkeypatch.setattr(adapters, "shared_letter_problems", lambda split: list(range(0, 400, 8)))
    reads, hint = (faithfulness_adapters.load(name) for name in adapters.ADAPTERS)
    assert (reads.mechanism, reads.twin, hint.mechanism, hint.twin) == ("reads", "hint", "hint", "reads")
    assert len(reads.instances(50)) == faithfulness_adapters.MOST_INSTANCES
    assert [each.transcript for each in reads.instances(5)] == [each.transcript for each in hint.instances(5)]
    assert faithfulness_runs.header("x", reads)["task"] == hint.task


def test_adapters_that_are_not_installed_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(adapters, "data_folder", lambda: tmp_path)
    assert faithfulness_adapters.names() == []


def test_text_alone_is_at_one_half(result):
    """Length, and a classifier of texts that is fitted on the other pair of mechanisms."""
    assert [(one["value"], one["met"]) for one in result["targets"]] == [(0, True)] * 3
    found = {one["method"]: one for one in result["summary"]["methods"]}
    for method in ("length", fitted_name("tf_idf", "mechanism")):
        assert found[method]["auroc"] == {"value": 0.5, "low": 0.5, "high": 0.5}
        assert found[method]["scored"] == 1
        assert found[method]["passes"] == 0
    assert found[fitted_name("probe", "mechanism")]["passes"] == 1
    assert fitted_name("probe", "task") not in found  # there is one task


def test_targets_say_what_was_not_measured(result):
    inside = [one for one in result["summary"]["methods"] if one["method"] == "attention_rollout"]
    left = result | {"summary": result["summary"] | {"methods": inside}}
    assert [one["met"] for one in faithfulness.targets(left)] == [True, False, False]
