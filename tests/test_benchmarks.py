"""The parts of the benchmarks that do not measure: operation counts, speedups, targets, cases, tables."""

import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.random_graphs import dense, random_graph

sys.path.append(str(Path(__file__).parent.parent))  # benchmarks are not installed

from benchmarks.baselines import NAMES, TraceCase, stopped_progress
from benchmarks.contention import MODES, busy_processes, fair_ratio, summarize
from benchmarks.contention import targets as contention_targets
from benchmarks.effects import effects_table, transcript
from benchmarks.effects import targets as effects_targets
from benchmarks.estimates import estimates_table, summarize_estimates
from benchmarks.hops import DirectShares, feature_paths, path_length
from benchmarks.measure import DONE, FAILED, OUT_OF_MEMORY, OVER_TIME
from benchmarks.run_cotrace import rows_needed
from benchmarks.tables import hops_table
from benchmarks.trace import is_measured
from benchmarks.trace_tables import trace_table
from benchmarks.trace_targets import TARGETS, speedup, targets
from benchmarks.validate import interval
from cotrace.attribution.tracing.flops import SweepShape, count_vectors, row_flops

WINDOWS = ([None, None, None], [2, None, 3], [2, 2, 2], [1, 4, 9])


def counted(sizes, entries_LP, layer, position):
    """Count the operations of one row, product by product over the positions that its gradient reaches."""
    total, here = 0, {position}
    for below in range(layer, -1, -1):
        if below < layer:
            for p in here:
                total += 2 * sizes.d_model * entries_LP[below, p] + 2 * sizes.d_model**2 * sizes.skips[below]
        window = sizes.windows[below] or len(entries_LP[0])
        seen = {p: [q for q in range(p + 1) if p - q < window] for p in here}
        total += 2 * sizes.d_model * sizes.query_width * len(here)
        total += sum(2 * sizes.query_width * len(attended) for attended in seen.values())
        here = {q for attended in seen.values() for q in attended}
        total += 2 * sizes.d_model * sizes.value_width * len(here)
    return total


@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("cross_layer", [True, False])
def test_row_flops_equal_a_count_product_by_product(windows, cross_layer):
    random = np.random.default_rng(0)
    sizes = SweepShape(d_model=5, query_width=8, value_width=4, windows=windows, skips=[True, False, True])
    counts_LP = random.integers(0, 4, (3, 7))
    layers, positions = (np.repeat(index, counts_LP.ravel()) for index in np.indices(counts_LP.shape).reshape(2, -1))
    entries_LP = count_vectors(counts_LP, cross_layer)
    expected = sum(counted(sizes, entries_LP, *row) for row in zip(layers, positions, strict=True))
    assert row_flops(sizes, entries_LP, layers, positions) == expected


def test_no_rows_take_no_operations():
    sizes = SweepShape(d_model=5, query_width=8, value_width=4, windows=[None], skips=[False])
    assert row_flops(sizes, np.zeros((1, 3), int), np.array([], int), np.array([], int)) == 0


def test_ratio_against_a_run_that_ended():
    assert speedup({"status": DONE, "seconds": 2.0}, {"status": DONE, "seconds": 30.0}) == (15.0, False)


def test_ratio_against_a_stopped_run_is_a_lower_bound():
    stopped = {"status": OVER_TIME, "at_least_seconds": 90.0}
    assert speedup({"status": DONE, "seconds": 2.0}, stopped) == (45.0, True)
    assert speedup(stopped, {"status": DONE, "seconds": 2.0}) == (None, False)


@pytest.mark.parametrize("other", [None, {"status": OUT_OF_MEMORY}, {"status": OVER_TIME}])
def test_no_ratio_without_a_measurement(other):
    assert speedup({"status": DONE, "seconds": 2.0}, other) == (None, False)


def test_progress_of_a_stopped_run_is_projected():
    bar = "Feature influence computation:  25%|██▌  | 1024/4096 [01:40<05:00, 10.2it/s]"
    record = {"status": OVER_TIME, "wall_seconds": 130.0, "started_after": 10.0, "detail": bar}
    assert stopped_progress(record) == {"at_least_seconds": 120.0, "done": 0.25, "projected_seconds": 420.0}
    assert stopped_progress(record | {"detail": "loading"}) == {"at_least_seconds": 120.0}
    assert stopped_progress({"status": OUT_OF_MEMORY, "wall_seconds": 9.0}) == {}


def test_cases_are_read():
    assert TraceCase.parse("clt:64") == TraceCase("clt", 64, NAMES)
    assert TraceCase.parse("shipped:16:cotrace,circuit_tracer:90") == TraceCase(
        "shipped", 16, ("cotrace", "circuit_tracer"), 90.0
    )
    assert TraceCase.parse("shipped:16::90").names == NAMES


@pytest.mark.parametrize("text", ["other:64", "clt:64:mine", "clt:many", "clt"])
def test_bad_cases_are_refused(text):
    with pytest.raises(ValueError):
        TraceCase.parse(text)


def test_finished_measurements_are_not_repeated():
    assert not is_measured(None, 60)
    assert not is_measured({"status": FAILED}, 60)
    assert is_measured({"status": DONE}, 60)
    assert is_measured({"status": OVER_TIME, "time_limit": 60}, 60)
    assert not is_measured({"status": OVER_TIME, "time_limit": 60}, 120)


def test_rows_needed_is_the_smallest_share_for_a_coverage():
    needed = dict(rows_needed(np.array([0.3, 0.04, 0.005, 0.1], np.float32)))
    assert needed[0.99] == 0.75
    assert needed[0.95] == 0.5
    assert needed[0.5] == 0.0


def finished(seconds, **more):
    """Return the record of a trace that finished."""
    return {"status": DONE, "seconds": seconds, "wall_seconds": seconds, "peak_bytes": 10**9, "time_limit": 60.0} | {
        "others_cores": 0.0,
        "file_bytes": 10**6,
        **more,
    }


def case(**runs):
    return {"operation": "trace", "case": "random CLT, 64 tokens", "transcoders": "clt", "tokens": 64, "runs": runs}


def test_targets_report_met_and_unmeasured():
    own, peer = finished(2.0, pruned_bytes=10), finished(30.0, file_bytes=10**7)
    found = {one["what"]: one for one in targets(case(cotrace=own, circuit_tracer=peer), "cpu")}
    assert len(found) == sum(
        goal.tokens == 64 and goal.transcoders == "clt" and goal.device == "cpu" for goal in TARGETS
    )
    faster = found["speedup over circuit-tracer"]
    assert faster == {"what": faster["what"], "value": 15.0, "met": True, "least": 10}
    assert found["graph file over circuit-tracer's"]["met"]
    assert not found["peak memory over circuit-tracer's"]["met"]
    assert found["largest bound, with coverage"]["value"] is None


def test_the_page_shows_how_a_run_ended():
    stopped = finished(0.0, status=OVER_TIME, at_least_seconds=50.0, projected_seconds=200.0, detail="")
    patched = {**stopped, "status": FAILED}
    own = finished(2.0, rows_needed=[[0.9, 0.5]])
    record = case(cotrace=own, circuit_tracer=stopped, circuit_tracer_patched=patched)
    record["targets"] = targets(record, "cpu")
    settings = {"model": "m", "transcoders": {"clt": "random"}, "coverage": 0.95, "max_seconds": 60.0}
    settings |= {"repeats": 1, "peer_batch": 64, "device": "cpu", "dtype": "float32"}
    machine = {"cpu": "a cpu", "cores": 2, "memory_bytes": 2e10}
    page = trace_table(
        {"benchmark": "trace", "date": "today", "machine": machine, "settings": settings, "cases": [record]}
    )
    assert "over the time limit: more than 50 s, about 200 s" in page
    assert "| speedup over circuit-tracer | more than 25 |" in page
    assert "1.00 GB when stopped" in page


def test_equal_shares_of_the_cores():
    assert [fair_ratio(n_busy, cores=2, threads=2) for n_busy in (0, 1, 2, 4)] == [1, 1.5, 2, 3]
    assert fair_ratio(1, cores=8, threads=2) == 1


def test_contention_is_measured_against_the_same_mode_alone():
    seconds = {"spin": {0: [2, 1, 9], 1: [6, 6, 6]}, "adaptive": {0: [4, 4, 4], 1: [5, 6, 70]}}
    runs = [
        {"mode": mode, "busy": n_busy, "seconds": value}
        for mode in MODES
        for n_busy, values in seconds[mode].items()
        for value in values
    ]
    alone, beside_one = summarize(runs, cores=2, threads=2)
    assert (alone["spin"], alone["adaptive"], alone["adaptive_ratio"]) == (2, 4, 1)
    assert (beside_one["spin_ratio"], beside_one["adaptive_ratio"]) == (3, 1.5)
    assert [(one["value"], one["met"]) for one in contention_targets([alone, beside_one])] == [(2, False), (1.5, True)]


def test_busy_processes_end_whatever_happens():
    started = []

    def fail():
        with busy_processes(2) as processes:
            started.extend(processes)
            assert all(process.is_running() for process in processes)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(started) == 2
    assert not any(process.is_running() for process in started)


@pytest.mark.parametrize("tokens", [200, 2000])
def test_every_cut_of_the_transcript_is_before_every_target(tokens):
    made = transcript(tokens)
    assert len(set(made.positions)) == 50
    assert made.positions[-1] == tokens - 1
    assert [start for start, _ in made.cuts] == [1, *(stop for _, stop in made.cuts[:-1])]
    assert made.cuts[-1][1] <= tokens // 2 <= made.positions[0]


def effects_result(rows_seconds: float, long_status: str) -> dict:
    runs = {"effects": {"seconds": 2.0}, "rows": {"seconds": rows_seconds}}
    return {
        "date": "2026-01-01",
        "machine": {"cpu": "x", "cores": 2},
        "settings": {"model": "m", "transcoders": "t", "tokens": 64, "transcript": 2000, "repeats": 3},
        "batch": {"status": DONE, "runs": runs, "rows": 32, "others_cores": 0.0},
        "transcript": {"status": long_status, "seconds": 90.0, "tokens": 2000, "columns": 300, "peak_bytes": 8e9},
    }


def test_effects_are_measured_against_rows_and_limits():
    result = effects_result(1.0, DONE)
    result["targets"] = effects_targets(result)
    assert [(one["value"], one["met"]) for one in result["targets"]] == [(2.0, True), (90.0, True), (8e9, True)]
    assert "| 2.00 |" in effects_table(result)
    assert [one["met"] for one in effects_targets(effects_result(0.5, OVER_TIME))] == [False, False, False]


@pytest.mark.parametrize("by", ["effect", "influence"])
def test_mean_hops_are_those_of_all_paths(by):
    """Count the paths of each length with powers of the matrix of gains."""
    graph = random_graph(dtype=np.float64)
    gains, activation = np.abs(dense(graph)), np.abs(np.nan_to_num(graph.column("activation")))
    if by == "influence":
        gains /= np.maximum(gains.sum(1, keepdims=True), 1e-30)
    else:
        gains[:, graph.order.features] /= activation[graph.order.features]
    targets = [target["node"] for target in graph.info["targets"]]
    weights, mass, hops = np.array([t["weight"] for t in graph.info["targets"]]), 0.0, 0.0
    leaves, power = np.arange(graph.order.n_features, graph.order.n_editable), gains
    for length in range(1, graph.order.n_features + 2):
        along = weights @ power[targets][:, leaves].sum(1)
        mass, hops, power = mass + along, hops + length * along, power @ gains
    assert path_length(graph, by) == pytest.approx(hops / mass, rel=1e-9)


def test_paths_are_named_by_features_and_target():
    graph = random_graph(dtype=np.float64)
    paths, share = feature_paths(graph)
    assert 0 < share <= 1 + 1e-9
    assert len(set(paths)) == len(paths)
    for *features, target in paths:
        assert features == sorted(features)
        assert features[-1] < graph.order.n_features
        assert target < len(graph.info["targets"])
    shares, matrix = DirectShares(graph), dense(graph)
    row = graph.info["targets"][0]["node"]
    for node in range(graph.order.n_features):
        longer = shares.total_TM[0, node] - matrix[row, node]
        assert shares.mostly_direct(node, 0) == (abs(matrix[row, node]) > abs(longer))


def validation_case(prompt, gain):
    """Return a case of a validation with estimates."""
    names = ["first_order_all", "first_order_norms", "first_order_attention", "first_order_none"]
    found = {"value": 0.5, "low": 0.4, "high": 0.6}
    summary = {f"spearman_{name}{of}": found for name in names for of in ("", "_top")}
    summary |= {"spearman_first_order_none_top": {**found, "value": 0.5 + gain}}
    random = np.random.default_rng(len(prompt))
    rows = [
        {**dict.fromkeys(["predicted", "first_order_none", "integrated", "measured"], sign * size), "size": size}
        for sign, size in zip((1, -1, 1, -1), random.random(4), strict=True)
    ]
    rows = [
        row | {f"{name}_size": row["size"] for name in ("predicted", "first_order_none", "integrated")} for row in rows
    ]
    rows[0]["integrated"] = None
    return {"basis": "set", "prompt": prompt, "summary": summary, "errors": rows, "groups": rows, "paths": rows}


def test_gains_are_paired_and_agreement_is_over_all_prompts():
    cases = [validation_case("a", 0.2), validation_case("bcd", 0.4)]
    (found,) = summarize_estimates([*cases, {"basis": "set", "summary": {}}], interval)
    assert (found["basis"], found["prompts"]) == ("set", 2)
    assert found["gains"]["none"]["top"] == {
        "mean": pytest.approx(0.3),
        "low": pytest.approx(0.2),
        "high": pytest.approx(0.4),
    }
    assert found["gains"]["norms"]["top"]["mean"] == pytest.approx(0)
    errors = found["kinds"]["errors"]
    assert errors["rows"] == 8
    assert errors["spearman_integrated"]["mean"] == pytest.approx(1)
    assert errors["signs_predicted"]["mean"] == 1


def test_the_page_shows_estimates_and_hops():
    cases = [validation_case("a", 0.2), validation_case("bcd", 0.4)]
    mean = {"mean": 0.91, "low": 0.9, "high": 0.92}
    names = [*cases[0]["summary"], "spearman_integrated_top", "spearman", "spearman_top"]
    names += [
        f"{name}_null_{null}{of}"
        for null in ("directions", "signs")
        for name, of in (("times", ""), ("spearman", "_top"), ("signs", "_top"))
    ]
    row = {"basis": "set", **dict.fromkeys(names, mean)}
    result = {"summary": [row, {"basis": "set", "mode": "frozen"}], "estimates": summarize_estimates(cases, interval)}
    page = estimates_table(result | {"estimates_date": "2026-11-30", "settings": {"model": "gemma"}})
    for words in (
        "| set | **first order, the model responds** | 0.91 (0.90 to 0.92)",
        "+0.30 (+0.20 to +0.40)",
        "2 for `set`",
    ):
        assert words in page
    of_set = {"influence_length": 2.5, "effect_length": 3.5}
    case = {"prompt": "a", "share": 0.25, "several_hops": 40, "matched": 30, "single_hop": 20, "direct_there_too": 10}
    case |= {"per_layer": of_set, "clt": of_set}
    chosen = {"paths": 300, "similar": 0.3, "note": "Trained on 9 tokens."}
    page = hops_table({"cases": [case, case], "settings": chosen, "date": "2026-11-30"})
    for words in ("| a | 40 | 30 | 20 | 10 | 2.50 | 2.50 |", "| all | 80 | 60 | 40 | 20 |", "25% of its", "9 tokens"):
        assert words in page
