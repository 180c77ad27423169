"""Weighted sums of source vectors: every backend against the float64 reference, and the transpose of edge rows."""

import pytest
import torch
from helpers.edge_row_problems import (
    CASES,
    Problem,
    every_sum_type,
    other_columns,
    poison_elsewhere,
    problem_of,
    turned,
)
from helpers.kernel_problems import (
    PRECISIONS,
    Runner,
    bits,
    every_backend,
    every_backend_but_numba,
    examples,
    gamma,
    gaussian,
    integers,
    matrix_products_in,
    memory_grows_by_less_than,
    of_products,
    poisoned,
    rounding,
    spread,
    threads,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cotrace.kernels.edge_rows import SourceVectors, add_source_vectors, edge_rows


def added(problem: Problem, backend: str) -> Tensor:
    """Return the gradients after the call; the rows of the problem are the weights."""
    grad_QTD = problem.grad_QTD.clone()
    add_source_vectors(problem.rows_TC, problem.first, problem.sources, grad_QTD, backend=backend)
    return grad_QTD


def assert_exact(runner: Runner, problem: Problem, dtype: torch.dtype = torch.float32) -> None:
    """Assert that the gradients in `dtype` equal the float64 reference; for problems of small integers.

    Weights of other columns are NaN: a backend that reads one would spread it.
    """
    here = problem.map(lambda tensor: tensor.to(runner.device, dtype))
    poison_elsewhere(here)
    found_QTD = poisoned(runner, lambda: added(here, runner.backend))
    assert found_QTD.dtype == dtype
    assert torch.equal(found_QTD.cpu().double(), added(problem, "reference"))
    empty_Q = torch.tensor(problem.sources.sizes[problem.first :], dtype=torch.int64) == 0
    assert torch.equal(bits(found_QTD)[empty_Q], bits(here.grad_QTD)[empty_Q])


# Values


@every_backend
@every_sum_type
@pytest.mark.parametrize("case", CASES)
def test_integers_are_added_exactly_to_the_gradients(runner, case, dtype):
    assert_exact(runner, problem_of(*CASES[case]), dtype)


@every_backend
def test_it_is_the_transpose_of_edge_rows(runner):
    """For all gradients g and weights w: edge rows of g, times w, add up to g times the weighted sums of w."""
    problem = problem_of([5, 0, 9, 2], 7, 33, 1).map(lambda tensor: tensor.to(runner.device, torch.float32))
    rows_TC, sums_QTD = torch.zeros_like(problem.rows_TC), torch.zeros_like(problem.grad_QTD)
    edge_rows(problem.grad_QTD, problem.first, problem.sources, rows_TC, backend=runner.backend)
    add_source_vectors(problem.rows_TC, problem.first, problem.sources, sums_QTD, backend=runner.backend)
    assert (rows_TC * problem.rows_TC).double().sum() == (problem.grad_QTD * sums_QTD).double().sum() != 0


@every_backend
def test_some_vectors_may_belong_to_no_group(runner):
    """Offsets may start after the first vector and end before the last."""
    problem = problem_of([3, 2], 5, 8)
    vectors_ED = torch.cat(
        [torch.full((2, 8), torch.nan).double(), problem.sources.vectors_ED, torch.full((1, 8), torch.nan)]
    )
    assert_exact(runner, problem._replace(sources=SourceVectors(vectors_ED, [2, 5, 7], problem.sources.columns)))


@every_backend
@pytest.mark.parametrize("which", ["grad", "vectors", "weights"])
def test_nothing_needs_to_be_contiguous(runner, which):
    problem = problem_of([5, 0, 4], 6, 8)
    here = problem.map(lambda tensor: tensor.to(runner.device, torch.float32))
    poison_elsewhere(here)
    if which == "vectors":
        sources = SourceVectors(turned(here.sources.vectors_ED), here.sources.offsets, here.sources.columns)
        here = here._replace(sources=sources)
    grad_QTD = turned(here.grad_QTD) if which == "grad" else here.grad_QTD.clone()
    weights_TC = turned(here.rows_TC) if which == "weights" else here.rows_TC
    add_source_vectors(weights_TC, here.first, here.sources, grad_QTD, backend=runner.backend)
    assert torch.equal(grad_QTD.cpu().double(), added(problem, "reference"))


@every_backend
@pytest.mark.filterwarnings("ignore:invalid value encountered")  # by numpy, in Triton's interpreter
def test_values_that_are_not_finite_do_not_spread(runner):
    """A weight counts for its target and position alone, a number of a vector in its column of the gradients alone."""
    problem = problem_of([5, 3, 4], 6, 8)
    here = problem.map(lambda tensor: tensor.to(runner.device, torch.float32))
    here.rows_TC[2, here.sources.columns[1]] = torch.nan
    here.sources.vectors_ED[-1, 3] = torch.inf
    wrong_QTD = torch.zeros(here.grad_QTD.shape, dtype=torch.bool)
    wrong_QTD[1, 2] = wrong_QTD[2, :, 3] = True
    found_QTD = poisoned(runner, lambda: added(here, runner.backend)).cpu()
    assert not found_QTD[wrong_QTD].isfinite().any()
    assert torch.equal(found_QTD[~wrong_QTD].double(), added(problem, "reference")[~wrong_QTD])


@every_backend
def test_any_sample_of_small_integers_is_added_exactly(runner):
    @settings(max_examples=examples(runner), deadline=None, derandomize=True)
    @given(
        st.lists(st.integers(0, 6), max_size=4),
        st.integers(0, 5),
        st.integers(1, 4),
        st.integers(0, 4),
        st.integers(0, 99),
    )
    def check(counts, n_targets, width, first, seed):
        def numbers(*shape: int, seed: int, start: int = seed) -> Tensor:
            return integers(*shape, seed=3 * start + seed, largest=3)

        assert_exact(runner, problem_of(counts, n_targets, width, min(first, len(counts)), numbers))

    check()


# Rounding


def assert_errors_are_those_of_rounding(runner: Runner, precision: str) -> None:
    """At most 30 products and what was there are one sum; in bfloat16 it may be rounded twice."""
    dtype = PRECISIONS[precision]
    problem = problem_of([4, 0, 30], 12, 60, 0, gaussian, dtype=dtype)
    exact, absolute = added(problem, "reference"), added(problem.map(torch.abs), "reference")
    here = problem.map(lambda tensor: tensor.to(runner.device, dtype))
    poison_elsewhere(here)
    with matrix_products_in(precision):
        found = poisoned(runner, lambda: added(here, runner.backend))
    budget = (gamma(31, dtype) + 2 * rounding(dtype, dtype) + of_products(precision, runner.device)) * absolute
    assert ((found.cpu().double() - exact).abs() <= budget).all()


@every_backend
@pytest.mark.parametrize("precision", ["float32", "float64", "tf32"])
def test_errors_are_those_of_rounding(runner, precision):
    assert_errors_are_those_of_rounding(runner, precision)


@every_backend_but_numba
def test_errors_are_those_of_rounding_in_bfloat16(runner):
    assert_errors_are_those_of_rounding(runner, "bfloat16")


def test_numba_refuses_bfloat16():
    here = problem_of([2], 1, 3).map(lambda tensor: tensor.bfloat16())
    with pytest.raises(ValueError, match=r"add_source_vectors cannot use numba: it has no torch\.bfloat16"):
        added(here, "numba")


# Reproducibility


@every_backend
def test_the_same_input_gives_the_same_bits(runner):
    problem = problem_of([20, 3, 70], 33, 60, 0, gaussian).map(lambda tensor: tensor.to(runner.device, torch.float32))
    first, second = (bits(added(problem, runner.backend)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_threads_of_numba_share_the_work(n_threads):
    """Also more threads than positions."""
    with threads(n_threads):
        assert_exact(Runner("numba", "cpu"), problem_of([20, 3, 70], 40, 60))


# Size


@every_backend
@pytest.mark.parametrize(
    ("which", "axis"),
    [("grad", 0), ("grad", 1), ("grad", 2), ("vectors", 0), ("vectors", 1), ("weights", 0), ("weights", 1)],
)
def test_offsets_do_not_overflow(runner, which, axis):
    """Along any axis of any array."""
    if (runner.backend, which, axis) == ("torch", "vectors", 1):
        pytest.skip("NOT TESTED: torch 2.13's own matrix-vector product crashes on a vector of such steps")
    problem = problem_of([2, 0, 1, 2], 4, 5)
    here = problem.map(lambda tensor: tensor.to(runner.device, torch.float32))
    grad_QTD, vectors_ED, weights_TC = here.grad_QTD.clone(), here.sources.vectors_ED, here.rows_TC
    if which == "grad":
        grad_QTD = spread(grad_QTD, axis)
    if which == "vectors":
        vectors_ED = spread(vectors_ED, axis)
    if which == "weights":
        weights_TC = spread(weights_TC, axis)
    sources = SourceVectors(vectors_ED, here.sources.offsets, here.sources.columns)
    with memory_grows_by_less_than(200_000_000):
        add_source_vectors(weights_TC, here.first, sources, grad_QTD, backend=runner.backend)
    assert torch.equal(grad_QTD.cpu().double(), added(problem, "reference"))


# Refusals


@every_backend
@pytest.mark.parametrize(
    ("first", "vectors", "weights", "message"),
    [
        (0, (5, 3), (3, 9), "vectors are 3 wide and gradients 4"),
        (0, (5, 4), (2, 9), "2 rows of weights for the gradients of 3 targets"),
        (1, (5, 4), (3, 9), "there are 2 groups"),
        (-1, (5, 4), (3, 9), "there are 2 groups"),
        (0, (5, 4), (3, 4), "groups end at column 5 and rows have 4"),
    ],
)
def test_wrong_sizes_are_refused(runner, first, vectors, weights, message):
    grad_QTD, vectors_ED, weights_TC = (torch.zeros(s, device=runner.device) for s in ((2, 3, 4), vectors, weights))
    with pytest.raises(ValueError, match=message):
        add_source_vectors(
            weights_TC, first, SourceVectors(vectors_ED, [0, 2, 5], [0, 2]), grad_QTD, backend=runner.backend
        )


def test_the_poison_reaches_other_columns():
    """Guards the helper: without columns between groups, tests above would not see a wrong read."""
    problem = problem_of([5, 0, 4], 6, 8).map(lambda tensor: tensor.float())
    poison_elsewhere(problem)
    assert problem.rows_TC[:, other_columns(problem)].isnan().all()
