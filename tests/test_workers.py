"""Batches are computed side by side: in order, with the same rows, and with every setting restored."""

import threading

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import prompt

from cotrace.attribution.tracing import plan as planning
from cotrace.attribution.tracing.batches import BatchSize, _slices
from cotrace.kernels.workers import MAX_WORKERS, Workers, n_workers


@pytest.fixture
def four_threads():
    """Four threads for torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_and_each_thread_has_its_share(four_threads):
    seen = []

    def compute(item):
        seen.append((threading.current_thread(), torch.get_num_threads(), numba.get_num_threads()))
        return item, (torch.ones(3, requires_grad=True) * item).requires_grad

    with Workers(2) as workers:
        assert list(workers.map(compute, range(20))) == [(item, False) for item in range(20)]
    assert torch.get_num_threads() == 4
    assert threading.current_thread() not in {thread for thread, *_ in seen}
    assert {n for _, n, _ in seen} == {2}
    assert max(n for *_, n in seen) <= 2


def test_items_are_taken_when_a_worker_is_free(four_threads):
    taken = []
    with Workers(2) as workers:
        results = workers.map(lambda item: item, (taken.append(item) or item for item in range(9)))
        assert next(results) == 0
        assert len(taken) <= 2 + 1
        assert list(results) == list(range(1, 9))


def test_one_worker_is_the_calling_thread():
    before = torch.get_num_threads()
    with Workers(1) as workers:
        assert list(workers.map(lambda _: threading.current_thread(), [0])) == [threading.current_thread()]
        assert torch.get_num_threads() == before


def test_an_error_ends_the_run_and_restores_the_threads(four_threads):
    def fail(item):
        raise KeyError(item)

    with pytest.raises(KeyError), Workers(2) as workers:
        list(workers.map(fail, range(5)))
    assert torch.get_num_threads() == 4
    with Workers(2) as workers:  # the error has not left the setting to the first
        assert list(workers.map(lambda _: threading.current_thread(), [0])) != [threading.current_thread()]


def test_a_second_user_of_the_process_computes_one_result_after_another(four_threads):
    with Workers(2), Workers(2) as second:
        assert list(second.map(lambda _: threading.current_thread(), [0])) == [threading.current_thread()]
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4


def test_workers_share_the_threads(monkeypatch):
    for n_threads, expected in ((1, 1), (2, 2), (64, MAX_WORKERS)):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        assert n_workers() == expected


@given(
    positions=st.lists(st.integers(0, 300), max_size=200).map(sorted),
    workers=st.integers(1, 4),
    max_gradients=st.sampled_from([1, 100, 2048, 10**6]),
)
def test_slices_cover_all_targets_with_equal_work(positions, workers, max_gradients):
    size = BatchSize(None, True, max_gradients)
    alone = _slices(torch.tensor(positions, dtype=torch.long), size)
    slices = _slices(torch.tensor(positions, dtype=torch.long), size._replace(n_workers=workers))
    covered = [target for part in reversed(slices) for target in range(part.start, part.stop)]
    assert covered == list(range(len(positions)))
    cost = [(part.stop - part.start) * (positions[part.stop - 1] + 1) for part in slices]
    assert len(alone) <= len(slices) <= -(-len(alone) // workers) * workers
    if slices:
        assert max(cost) <= max((part.stop - part.start) * (positions[part.stop - 1] + 1) for part in alone)


@pytest.mark.parametrize("kind", ["clt-affine", "per-layer-affine", "neurons"])
@pytest.mark.parametrize("options", [{}, {"coverage": 0.7}, {"max_features": 9}, {"batch_size": 2}])
def test_rows_do_not_depend_on_the_workers(load, monkeypatch, kind, options):
    targets = {"position": [3, -1]}
    monkeypatch.setattr(planning, "n_workers", lambda: 1)
    expected = load(kind).trace(prompt(), **targets, **options)
    monkeypatch.setattr(planning, "n_workers", lambda: 3)
    found = load(kind).trace(prompt(), **targets, **options)
    left, right = found.adjacency().toarray(), expected.adjacency().toarray()
    assert np.allclose(left, right, rtol=1e-9, atol=1e-11 * np.abs(right).max())
    again = load(kind).trace(prompt(), **targets, **options)
    assert (again.adjacency() != found.adjacency()).nnz == 0


def test_a_plan_counts_the_batches_in_memory(load, monkeypatch):
    monkeypatch.setattr(planning, "n_workers", lambda: 1)
    one = load("clt").plan(prompt())
    monkeypatch.setattr(planning, "n_workers", lambda: 3)
    three = load("clt").plan(prompt())
    assert three.batch_bytes == 4 * one.batch_bytes
    assert three.batch_size.n_workers == 3
