"""The benchmark of sampled rows: comparisons, targets, pages, and the parts of a sweep."""

import argparse
import json
from dataclasses import asdict

import numpy as np
import pytest
import tiny

import cotrace
from benchmarks.measure import DONE
from benchmarks.run_sampling import one_trace
from benchmarks.sampling import PARTS, Case, SamplingBenchmark
from benchmarks.sampling_tables import sampling_table
from benchmarks.sampling_targets import covered, largest_error, n_found, own_shares, peer_seconds, peer_shares, targets
from benchmarks.sweep_flops import sweep_flops
from benchmarks.sweep_profile import (
    ELEMENTWISE,
    OTHER,
    PROJECTIONS,
    VECTORS,
    WAITING,
    PartTimes,
    product_operations,
    profile_table,
    profile_trace,
)
from benchmarks.sweep_profile import PARTS as SWEEP_PARTS
from cotrace.attribution.tracing import plan
from cotrace.attribution.tracing.flops import SweepShape


def record(seconds, shares=(0.5, 0.2, 0.3), half_width=0.0, **more):
    """Return the record of a trace by cotrace."""
    values = np.array(shares)
    columns = {"name": ["0:2", "2:4", "errors"], "share": list(shares), "standard_error": [half_width / 2] * 3}
    columns |= {"low": (values - half_width).tolist(), "high": (values + half_width).tolist()}
    common = {
        "status": DONE,
        "seconds": seconds,
        "rows": 10,
        "features": 20,
        "peak_bytes": 10**9,
        "others_cores": 0.0,
        "wall_seconds": seconds,
    }
    known = {"coverage": 0.5, "bound": 0.5, "standard_error": half_width / 2, "half_width": half_width}
    return common | known | {"shares": columns, "strongest": ["0.1.2"], "sampling": None} | more


def test_circuit_tracers_shares_are_those_of_the_same_spans():
    tokens = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    found = peer_shares({"sources": {"status": DONE, "tokens": tokens, "errors": 21.0}})
    np.testing.assert_allclose(found, np.array([3, 3, 4, 5, 6, 21]) / 42)
    assert peer_shares({}) is None


def test_shares_are_compared_with_exact_ones():
    exact, drawn = record(9.0), record(1.0, (0.53, 0.19, 0.28), 0.025)
    assert largest_error(own_shares(drawn), own_shares(exact)) == pytest.approx(0.03)
    assert largest_error(None, own_shares(exact)) is None
    assert covered(drawn, own_shares(exact)) == (2, 3)
    assert n_found(record(1.0, strongest=["a", "b", "c"]), record(1.0, strongest=["c", "a", "d"])) == 2


def test_targets_are_those_of_what_was_measured():
    runs = {"drawn_random": record(2.0, half_width=0.02), "every_random": record(30.0), "peer": record(400.0)}
    runs |= {"drawn_2000": record(310.0, half_width=0.01, peak_bytes=13 * 10**9), "drawn_512": {"status": "failed"}}
    runs |= {"drawn_shipped": record(2.0), "every_shipped": record(20.0)}
    found = [(one["what"], one["value"], one["met"]) for one in targets(runs)]
    assert found == [
        ("half-width of a share", 0.02, False),
        ("largest error of a share", 0.0, True),
        ("speedup over circuit-tracer's exact graph", 200.0, True),
        ("of the 100 strongest features, found", 1, False),
        ("speedup over every row", 10.0, True),
        ("half-width of a share", 0.01, True),
        ("seconds", 310.0, False),
        ("peak memory in bytes", 13 * 10**9, False),
    ]


def test_an_earlier_run_of_circuit_tracer_is_named(tmp_path):
    case = {
        "transcoders": "clt",
        "tokens": 64,
        "runs": {"circuit_tracer": {"status": DONE, "seconds": 600.0, "rows": 1234}},
    }
    earlier = tmp_path / "trace.json"
    earlier.write_text(json.dumps({"date": "2026-01-01", "cases": [case]}))
    seconds, note = peer_seconds({}, earlier)
    assert seconds == 600.0
    assert "2026-01-01" in note
    assert "1,234" in note
    assert peer_seconds({}, tmp_path / "none.json") == (None, "")
    assert peer_seconds({"peer": record(3.0)}, earlier) == (3.0, "")


def test_the_page_shows_every_part():
    drawn = {"sampling": {"replicates": 8}, "half_width": 0.02}
    runs = {"drawn_random": record(2.0, **drawn), "every_random": record(30.0), "every_shipped": record(20.0)}
    runs |= {"drawn_shipped": record(2.0, **drawn), "drawn_2000": record(290.0, **drawn), "top_2000": record(300.0)}
    runs["peer_rows"] = record(90.0, sources={"status": DONE, "tokens": [1.0, 2.0], "errors": 1.0})
    sampled = [record(1.0, half_width=0.02, options={"max_features": 500, "sampled": True, "seed": s}) for s in (0, 1)]
    top = record(0.5, (0.25, 0.1, 0.15), options={"max_features": 500})
    runs["spread_random"] = {"status": DONE, "others_cores": 0.0, "runs": [*sampled, top]}
    parts = {part: {"time": 0.1, "least": 0.0, "done": 0.0} for part in SWEEP_PARTS}
    parts[PROJECTIONS] = {"time": 0.1, "least": 0.05, "done": 0.07}
    runs["profile"] = {"status": DONE, "others_cores": 0.0, "rows": 9, "cores": 2, "sweep_seconds": 3.0, "parts": parts}
    machine = {"cpu": "a cpu", "cores": 2, "memory_bytes": 2e10}
    settings = {"model": "m", "transcoders": {"clt": "random"}, "peer_batch": 64}
    result = {"date": "today", "machine": machine, "settings": settings, "runs": runs, "targets": targets(runs)}
    page = sampling_table(result)
    assert "| 500 | 1 s | 0.0100 | 0.0000 | 1.0e-04 | 500 ms | 0.2500 | 0.0000 |" in page
    assert "| projections and skips | 10.0% | 5.0% | 2.0% | 3.0% |" in page
    assert "3 of the 3 intervals contain the exact share" in page
    assert "| circuit-tracer, as many rows | 10 | 90 s | 1.00 GB |" in page


def test_only_missing_runs_are_measured(tmp_path, monkeypatch):
    measured = []
    options = {"only": ["512"], "resume": True, "quick": False, "peer_python": None, "model": tmp_path}
    args = argparse.Namespace(**options, out=tmp_path / "out.json", transcoders={}, peer_batch=64)
    monkeypatch.setattr("benchmarks.sampling.token_ids", lambda model, length: list(range(length)))
    monkeypatch.setattr(SamplingBenchmark, "_own", lambda self, case, ids: measured.append(case.name) or record(1.0))
    SamplingBenchmark(args, tmp_path).measure()
    SamplingBenchmark(args, tmp_path).measure()
    assert measured == ["drawn_512", "top_512"]
    args.resume = False
    SamplingBenchmark(args, tmp_path).measure()
    assert len(measured) == 4


def test_cases_have_different_names_and_quick_forms():
    cases = [case for part in PARTS.values() for case in part]
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        quick = case.quick()
        assert quick.tokens < case.tokens
        assert json.loads(json.dumps(asdict(quick))) == asdict(quick)
    assert Case("a", "clt", 512, {"max_seconds": 60.0}).quick().options == {"max_seconds": 3.0}


def test_steps_are_taken_out_of_the_part_that_calls_them():
    clock = iter(range(100))
    times = PartTimes(lambda: float(next(clock)))
    inner = times.timing(PROJECTIONS, lambda: None)
    step = times.timing(VECTORS, inner)  # what a step calls is its own
    whole = times.timing(ELEMENTWISE, lambda: (step(), inner()))
    inner()  # outside of a sweep
    assert not times.seconds
    whole()
    assert set(times.seconds) == {PROJECTIONS, VECTORS, ELEMENTWISE}
    assert times.seconds.total() == sum(times.seconds.values())
    assert times.seconds[PROJECTIONS] == 1.0
    assert times.seconds[VECTORS] > times.seconds[PROJECTIONS]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampling")
    tiny.write_model(folder / "model")
    spec = tiny.write_transcoders(folder / "clt-affine", "clt-affine")
    return cotrace.load(folder / "model", spec, device="cpu", dtype="float32", progress=False)


@pytest.mark.parametrize("keeps_vectors", [True, False])
def test_the_parts_of_a_sweep_add_up(model, monkeypatch, keeps_vectors):
    tokens = [2, 5, 6, 7, 8, 9]
    if not keeps_vectors:  # then batches are computed one after another
        monkeypatch.setitem(plan.MAX_STORED_VECTORS_BYTES, "cpu", 0)
    found = profile_trace(model, tokens)
    parts = found["parts"]
    assert sum(part["time"] for part in parts.values()) == pytest.approx(1.0)
    graph = model.trace(tokens, progress=False)
    least = sweep_flops(graph, SweepShape.of(model.architecture, model.transcoders))
    full = found["machine_rate"] * found["sweep_seconds"]
    assert sum(part["least"] for part in parts.values()) * full == pytest.approx(least)
    for part in (PROJECTIONS, VECTORS):
        assert parts[part]["done"] >= parts[part]["least"] > 0
    assert parts[OTHER]["least"] == parts[WAITING]["done"] == 0
    assert "| waiting |" in profile_table(found)


def test_operations_of_products(model):
    import torch

    one, other = torch.zeros(3, 4), torch.zeros(2, 4, 5)
    assert product_operations(one @ other, one, other) == 2 * 2 * 3 * 4 * 5


def test_a_trace_is_recorded(model):
    found = one_trace(model, [2, 5, 6, 7, 8, 9], {})
    assert sum(found["shares"]["share"]) == pytest.approx(1.0)
    assert found["half_width"] == found["standard_error"] == 0
    assert found["rows"] == found["features"]
    assert len(found["strongest"]) == min(100, found["features"])
    assert found["sampling"] is None
