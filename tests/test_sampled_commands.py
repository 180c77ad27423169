"""Sampled traces as users meet them: refusals, printed errors, merging, Ctrl-C, many prompts, every kind of prompt."""

import json
import pickle
import shutil

import numpy as np
import pytest
from helpers.random_graphs import random_graph
from helpers.sampled_graphs import sampled_graph
from tiny_checkpoints import write_tokenizer

import cotrace
from cotrace.attribution.tracing import sampled_rows
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.batch.worker import BatchConfig
from cotrace.common.progress import watch_progress
from cotrace.graphs import open_graph, summarize
from cotrace.graphs.prune import PruneConfig
from cotrace.graphs.verdicts import coverage_verdict

TEXT = "The opposite of hot is"
CHAT = [{"role": "user", "content": TEXT}]
TRANSCRIPT = cotrace.Transcript([("question", TEXT), ("step", " a b"), ("answer", " cold")])
FEW = {"sampled": True, "max_features": 60}
SIZES = {"n_features": 60, "n_errors": 15, "n_positions": 8}


@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory):
    """Return the folder of the tiny model with a tokenizer."""
    return write_tokenizer(shutil.copytree(model_folder, tmp_path_factory.mktemp("worded") / "model"))


@pytest.fixture(scope="module")
def model(folder):
    return cotrace.load(folder, "neurons:10", device="cpu")


@pytest.fixture
def graph():
    return sampled_graph(3, **SIZES)[0]


@pytest.fixture
def path(graph, tmp_path):
    return graph.save(tmp_path / "x.full.arrow.zst")


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--sampled", "--sampled needs a limit: --max-features, --max-seconds or --standard-error;"),
        ("--sampled --max-features 99 --coverage 0.9", "coverage skips the least influential rows and --sampled draws"),
        ("--sampled --max-features 99 --select effect", "--select effect chooses rows and --sampled draws them"),
        ("--seed 3", "--seed and --standard-error are for rows drawn at random: add --sampled"),
        ("--standard-error 0.01", "--seed and --standard-error are for rows drawn at random: add --sampled"),
        ("--sampled --standard-error 1", "--standard-error is 1.0: it is that of a share of the influence"),
        ("--sampled --standard-error nan", "--standard-error is nan: it is that of a share of the influence"),
        ("--keep-partial", "--keep-partial keeps finished rounds of --sampled: add it"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_options_that_do_not_go_together_are_one_line(options, message, many, command, tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"prompt": TEXT}))
    given = ["--prompts", file] if many else [TEXT]
    status, out, error = command("trace", *given, *options.split(), "--out", tmp_path / "out")
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert message in error
    assert not (tmp_path / "out").exists()


def test_too_few_rows_and_partial_graphs_without_sampling_are_refused(model, tmp_path):
    with pytest.raises(cotrace.ArgumentError, match=r"max_features is 5: .* need at least 48 for this model"):
        model.trace(TEXT, sampled=True, max_features=5)
    with pytest.raises(cotrace.ArgumentError, match="keep_partial keeps finished rounds of sampled=True"):
        model.trace(TEXT, keep_partial=True)
    summary = cotrace.trace_many([TEXT], tmp_path, model=model, sampled=True, max_features=5)
    assert summary.failed == 1
    assert "need at least 48" in summary.reasons[0]


def test_partial_graphs_of_several_prompts_are_refused(command, tmp_path):
    options = ["--sampled", "--max-features", "99", "--keep-partial", "--out", tmp_path / "out"]
    assert "--keep-partial is for one PROMPT" in command("trace", "--prompts", "x.jsonl", *options)[2]


# --- what is printed ----------------------------------------------------------------------------


def test_errors_are_printed_with_influence_scores_and_shares(graph, path, command):
    status, out, _ = command("show", path, "--full", "--top", "3")
    assert status == 0
    sampling, scores = graph.info["traced"]["sampling"], graph.info["traced"]["scores"]
    low, high = scores["replacement_interval"]
    node = summarize(graph).nodes[1]
    words = " ".join(out.split())
    for text in (
        f"influence is estimated from {sampling['rows']} of 60 rows in 6 replicates",
        f"{graph.info['traced']['rows']} rows were computed, 2 of them only for the circuit; seed 0",
        "95% intervals",
        f"replacement {scores['replacement']:.3f} ({low:.3f} to {high:.3f})",
        f"{node.influence:.4f} ± {node.standard_error:.4f}",
    ):
        assert text in words, text
    assert "coverage" not in words


def test_a_circuit_has_the_estimates_of_the_traced_graph(graph, path, command):
    status, out, _ = command("prune", path, "--node-threshold", "0.7", "--out", path.with_name("small.arrow"))
    assert status == 0
    small = open_graph(path.with_name("small.arrow"))
    verdict = coverage_verdict(small.info)
    assert "around the node threshold" in verdict
    assert verdict in " ".join(out.split())
    node = summarize(small).nodes[0]
    assert node.traced_influence == small.column("influence")[node.node]
    assert node.standard_error == small.column("standard_error")[node.node] > 0
    out = command("show", path.with_name("small.arrow"), "--paths", "0")[1]
    assert "in the traced graph" in out
    assert f"{node.influence:.4f}  " in out
    assert f"{node.traced_influence:.4f} ± {node.standard_error:.4f}" in out
    assert "cotrace trace --full" in command("show", path.with_name("small.arrow"), "--shares")[1]


def test_shares_of_spans(graph, path, command):
    out = command("show", path, "--shares", "--segment", "question=1:3", "--segment", "answer=-1:")[1]
    for text in ("± standard error", "95% interval", "question  1:3", "answer    7", "other     0,3:7", "errors"):
        assert text in out
    status, out, _ = command("show", path, "--shares", "--json")
    found = json.loads(out)["shares"]
    assert status == 0
    assert found["rows"] == graph.shares().to_pylist()
    assert found["sampled"]
    assert found["targets"] == [target["node"] for target in graph.info["targets"]]
    one = graph.info["targets"][0]["node"]
    of_one = json.loads(command("show", path, "--shares", "--json", "--target", one)[1])["shares"]
    assert (of_one["targets"], of_one["rows"]) == ([one], graph.shares(targets=one).to_pylist())
    assert "influence on 'target 83', by where it starts" in command("show", path, "--shares", "--target", one)[1]
    assert list(found["spans"]) == graph.shares()["name"].to_pylist()[:-1]
    assert max(row["standard_error"] for row in found["rows"]) == graph.info["traced"]["sampling"]["span_error"]


def test_shares_add_up_over_targets(graph):
    whole = sampled_graph(3, **SIZES)[1]
    for each in (graph, whole):
        of_targets = [t["weight"] * each.shares(targets=t["node"])["share"].to_numpy() for t in each.info["targets"]]
        np.testing.assert_allclose(sum(of_targets), each.shares()["share"].to_numpy(), rtol=1e-9)
    feature = int(np.flatnonzero(~graph.computed[: graph.order.n_features])[0])
    assert graph.shares(targets=feature)["share"].to_numpy().sum() == 0  # its row is not there
    assert whole.shares(targets=feature)["share"].to_numpy().sum() == pytest.approx(1)


def test_shares_of_an_exact_graph_have_no_errors(command, tmp_path):
    whole = random_graph(3).save(tmp_path / "whole.arrow")
    out = command("show", whole, "--shares")[1]
    assert "±" not in out
    assert "interval" not in out
    assert "add it, or omit --segment" in command("show", whole, "--segment", "a=1:2")[2]
    with pytest.raises(cotrace.ArgumentError, match="names all error nodes"):
        open_graph(whole).shares({"errors": (0, 1)})


# --- merging ------------------------------------------------------------------------------------


def test_merge_joins_files(graph, path, command, tmp_path):
    other = sampled_graph(3, draw_seed=1, **SIZES)[0]
    second = other.save(tmp_path / "second.arrow")
    status, out, _ = command("merge", path, second)
    merged = tmp_path / "x.merged.arrow.zst"
    assert status == 0
    assert f"wrote {merged}" in out
    assert "in 12 replicates" in " ".join(out.split())
    assert open_graph(merged).nodes.equals(cotrace.merge([graph, other]).nodes)
    assert open_graph(merged).nodes.equals(graph.merge(other).nodes)
    assert command("merge", path, second, "--out", tmp_path / "y.arrow", "--quiet")[0] == 0
    assert open_graph(tmp_path / "y.arrow").info["traced"]["sampling"]["seeds"] == [0, 1]


def test_what_cannot_be_merged_is_one_line(graph, path, command, tmp_path):
    small = graph.prune(0.5).save(tmp_path / "small.arrow")
    for files, message in (
        ([path], "name two or more files"),
        ([path, path], "seed 0 is in graph 2 and an earlier one"),
        ([path, small], "graph 2 has no draws"),
        ([path, tmp_path / "none.arrow"], "does not exist"),
    ):
        status, out, error = command("merge", *files, "--out", tmp_path / "y.arrow")
        assert (status, out, error.count("\n")) == (2, "", 1)
        assert message in error
    for given in ([graph], graph, [graph, path]):
        with pytest.raises(cotrace.ArgumentError, match="a list of two or more graphs"):
            cotrace.merge(given)
    assert not (tmp_path / "y.arrow").exists()


# --- Ctrl-C -------------------------------------------------------------------------------------


def stop_in_round(number):
    """Return a watcher that interrupts a trace in one of its rounds."""

    def watch(name, _done, _total):
        if f"round {number} of" in name:
            raise KeyboardInterrupt

    return watch


@pytest.fixture
def four_rounds(monkeypatch):
    """Draw few rows in four rounds."""
    monkeypatch.setattr(sampled_rows, "MIN_BATCH_TARGETS", 1)


def test_ctrl_c_keeps_finished_rounds_if_asked(folder, four_rounds, command, tmp_path):
    out = tmp_path / "out"
    options = ["--model", folder, "--transcoders", "neurons:10", "--device", "cpu", "--out", out]
    options += ["--sampled", "--max-features", "120", "--full"]
    with watch_progress(stop_in_round(3)):
        status, printed, error = command("trace", TEXT, *options, "--keep-partial")
    assert status == 0
    assert "the trace was interrupted: the graph has the 8 replicates that were finished" in error
    assert "the trace was stopped before it was finished" in " ".join(printed.split())
    assert "by where it starts" in printed
    (file,) = out.glob("*.full.arrow.zst")
    graph = open_graph(file)
    assert graph.info["traced"]["sampling"]["partial"]
    assert graph.draws.n_replicates == 8
    too_early = "warning: the trace was interrupted before its first round ended: there is nothing to keep\n"
    for stopped, keep, warning in ((1, ["--keep-partial"], too_early), (3, [], "")):
        with watch_progress(stop_in_round(stopped)):
            status, _, error = command("trace", TEXT, *options, *keep, "--out", tmp_path / "none")
        assert (status, error) == (130, f"{warning}cancelled; no file is incomplete\n")
        assert not (tmp_path / "none").exists()


def test_a_partial_graph_is_that_of_its_rounds(model, four_rounds):
    options = {"sampled": True, "max_features": 120, "progress": False}
    whole = model.trace(TEXT, **options)
    with watch_progress(stop_in_round(3)), pytest.warns(cotrace.CotraceWarning, match="8 replicates"):
        part = model.trace(TEXT, **options, keep_partial=True)
    assert whole.draws.n_replicates == 16
    for graph in (part, whole):
        rows = np.zeros((graph.order.n_nodes, 8))
        rows[graph.draws.row_D] = graph.draws.factor_DR[:, :8]
        graph.first_rounds = rows
    assert (part.first_rounds == whole.first_rounds).all()


# --- many prompts -------------------------------------------------------------------------------


def test_records_have_errors_and_runs_resume(model, tmp_path):
    prompts = [{"id": "text", "prompt": TEXT}, {"id": "chat", "prompt": CHAT}, {"id": "steps", "prompt": TRANSCRIPT}]
    assert cotrace.trace_many(prompts, tmp_path, model=model, **FEW, full=True)[:3] == (3, 0, 0)
    assert cotrace.trace_many(prompts, tmp_path, model=model, **FEW, full=True)[:3] == (0, 3, 0)
    for record in map(json.loads, (tmp_path / "_prompts.jsonl").read_text().splitlines()):
        graph = open_graph(tmp_path / f"_full/id={record['id']}/graph.arrow")
        assert record["standard_error"] == max(graph.shares()["standard_error"].to_pylist()) > 0
        low, high = record["replacement_interval"]
        assert low < record["replacement"] < high
        assert open_graph(tmp_path / record["file"]).estimated
    for changed in ({**FEW, "seed": 1}, {"max_features": 60}, {**FEW, "standard_error": 0.1}):
        with pytest.raises(cotrace.ArgumentError, match="other settings"):
            cotrace.trace_many(prompts, tmp_path, model=model, full=True, **changed)


def test_folders_from_before_these_options_can_be_resumed(model, tmp_path):
    few = {"model": model, "max_targets": 2, "max_features": 60}
    cotrace.trace_many([TEXT], tmp_path, **few)
    settings = json.loads((tmp_path / "_settings.json").read_text())
    older = {name: value for name, value in settings.items() if name not in ("sampled", "seed", "standard_error")}
    (tmp_path / "_settings.json").write_text(json.dumps(older))
    assert cotrace.trace_many([TEXT], tmp_path, **few)[:3] == (0, 1, 0)
    with pytest.raises(cotrace.ArgumentError, match=r"other settings \(.*sampled"):
        cotrace.trace_many([TEXT], tmp_path, **few, sampled=True)


def test_workers_get_the_options():
    config = BatchConfig(None, False, False, TraceConfig(sampled=True, standard_error=0.01, seed=3), PruneConfig())
    assert pickle.loads(pickle.dumps(config)) == config
    assert config.settings()["seed"] == 3


# --- prompts and targets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        (TEXT, {"targets": "next", "position": [2, 3, 4]}),
        (TEXT, {"targets": [cotrace.Feature(2, 9, position=5), " cold"]}),
        (CHAT, {}),
        (TRANSCRIPT, {}),
        (TRANSCRIPT, {"standard_error": 0.02, "max_features": None}),
    ],
    ids=["several positions", "a feature", "chat", "transcript", "standard error"],
)
def test_every_kind_of_prompt_and_target_is_sampled(model, prompt, options):
    if isinstance(options.get("targets"), list):
        options["targets"][0] = strongest_feature(model)
    few = {**FEW, **options}
    whole = model.trace(prompt, **{name: value for name, value in options.items() if name in ("targets", "position")})
    graph = model.trace(prompt, **few)
    exact, found = whole.shares(), graph.shares()
    assert found["name"].equals(exact["name"])
    errors = found["standard_error"].to_numpy()
    assert (np.abs(found["share"].to_numpy() - exact["share"].to_numpy()) < 5 * errors + 1e-6).all()
    assert errors.max() == pytest.approx(graph.info["traced"]["sampling"]["span_error"], rel=1e-12)
    is_target = graph.target_weights[: graph.order.n_features] > 0
    assert (graph.column("inclusion")[: graph.order.n_features][is_target] == 1).all()
    assert graph.computed[graph.target_weights > 0].all()
    if isinstance(prompt, cotrace.Transcript):
        assert found["name"].to_pylist() == ["question", "step", "answer", "other", "errors"]


def strongest_feature(model):
    """Return an active feature at the last position, of the last layer."""
    row = model.active_features(TEXT).to_pylist()[-1]
    return cotrace.Feature(row["layer"], row["feature"], position=row["position"])
