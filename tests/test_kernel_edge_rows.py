"""Edge rows: every backend against the float64 reference; columns of other groups stay as they are, bit for bit."""

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
    virtual_memory,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cotrace.kernels.edge_rows import SourceVectors, edge_rows, position_rows


def added(problem: Problem, backend: str) -> Tensor:
    """Return the rows after the call."""
    rows_TC = problem.rows_TC.clone()
    edge_rows(problem.grad_QTD, problem.first, problem.sources, rows_TC, backend=backend)
    return rows_TC


def assert_untouched_elsewhere(found_TC: Tensor, problem: Problem) -> None:
    """Assert that the bits of all other columns are unchanged."""
    others = other_columns(problem)
    assert torch.equal(bits(found_TC)[:, others], bits(problem.rows_TC)[:, others])


def assert_exact(runner: Runner, problem: Problem, dtype: torch.dtype = torch.float32) -> None:
    """Assert that edge rows in `dtype` equal the float64 reference; for problems of small integers."""
    here = problem.map(lambda tensor: tensor.to(runner.device, dtype))
    poison_elsewhere(here)
    found_TC = poisoned(runner, lambda: added(here, runner.backend))
    expected_TC = added(problem, "reference")
    columns = problem.columns()
    assert torch.equal(found_TC.cpu().double()[:, columns], expected_TC[:, columns])
    assert_untouched_elsewhere(found_TC, here)


# Values


@every_backend
@every_sum_type
@pytest.mark.parametrize("case", CASES)
def test_integers_are_added_exactly_to_the_rows(runner, case, dtype):
    assert_exact(runner, problem_of(*CASES[case]), dtype)


@every_backend
def test_the_same_vector_at_several_positions(runner):
    problem = problem_of([3, 3, 1], 5, 8)
    vectors_ED = problem.sources.vectors_ED
    vectors_ED[3:6] = vectors_ED[:3]
    vectors_ED[6] = vectors_ED[0]
    assert_exact(runner, problem)


@every_backend
def test_some_vectors_may_belong_to_no_group(runner):
    """Offsets may start after the first vector and end before the last."""
    problem = problem_of([3, 2], 5, 8)
    vectors_ED = torch.cat(
        [torch.full((2, 8), torch.nan).double(), problem.sources.vectors_ED, torch.full((1, 8), torch.nan)]
    )
    assert_exact(runner, problem._replace(sources=SourceVectors(vectors_ED, [2, 5, 7], problem.sources.columns)))


@every_backend
@pytest.mark.parametrize("which", ["grad", "vectors", "rows"])
def test_nothing_needs_to_be_contiguous(runner, which):
    problem = problem_of([5, 0, 4], 6, 8)
    expected_TC = added(problem, "reference")
    here = problem.map(lambda tensor: tensor.to(runner.device, torch.float32))
    poison_elsewhere(here)
    if which == "grad":
        here = here._replace(grad_QTD=turned(here.grad_QTD))
    if which == "vectors":
        sources = SourceVectors(turned(here.sources.vectors_ED), here.sources.offsets, here.sources.columns)
        here = here._replace(sources=sources)
    rows_TC = turned(here.rows_TC) if which == "rows" else here.rows_TC.clone()
    edge_rows(here.grad_QTD, here.first, here.sources, rows_TC, backend=runner.backend)
    columns = problem.columns()
    assert torch.equal(rows_TC.cpu().double()[:, columns], expected_TC[:, columns])
    assert_untouched_elsewhere(rows_TC, here)


@every_backend
@pytest.mark.filterwarnings("ignore:invalid value encountered")  # by numpy, in Triton's interpreter
def test_values_that_are_not_finite_do_not_spread(runner):
    """A target's gradient counts in its row alone, a vector in its column alone."""
    problem = problem_of([5, 3, 4], 6, 8)
    here = problem.map(lambda tensor: tensor.to(runner.device, torch.float32))
    here.grad_QTD[1, 2], here.sources.vectors_ED[6] = torch.nan, torch.inf
    wrong_TC = torch.zeros(here.rows_TC.shape, dtype=torch.bool)
    second = here.sources.columns[1]
    wrong_TC[2, second : second + 3] = wrong_TC[:, second + 1] = True
    found_TC = poisoned(runner, lambda: added(here, runner.backend)).cpu()
    assert not found_TC[wrong_TC].isfinite().any()
    assert torch.equal(found_TC[~wrong_TC].double(), added(problem, "reference")[~wrong_TC])


@every_backend
def test_any_sample_of_small_integers_is_added_exactly(runner):
    counts = st.lists(st.integers(0, 6), max_size=4)

    @settings(max_examples=examples(runner), deadline=None, derandomize=True)
    @given(counts, st.integers(0, 5), st.integers(1, 4), st.integers(0, 4), st.integers(0, 99))
    def check(counts, n_targets, width, first, seed):
        def numbers(*shape: int, seed: int, start: int = seed) -> Tensor:
            return integers(*shape, seed=3 * start + seed, largest=3)

        assert_exact(runner, problem_of(counts, n_targets, width, min(first, len(counts)), numbers))

    check()


@every_backend
@every_sum_type
@pytest.mark.parametrize(
    "shape", [(0, 3, 5, 2), (2, 0, 5, 2), (2, 3, 5, 0), (1, 1, 1, 1), (63, 2, 7, 2), (3, 70, 60, 3)], ids=str
)
def test_position_rows_of_integers_are_exact(runner, shape, dtype):
    n_positions, n_targets, width, n_kinds = shape
    grad_QTD = integers(n_positions, n_targets, width, seed=0)
    vectors_KQD = integers(n_kinds, n_positions, width, seed=1)
    here = [tensor.to(runner.device, dtype) for tensor in (grad_QTD, vectors_KQD)]
    expected_KQT = torch.einsum("qtd,kqd->kqt", grad_QTD, vectors_KQD)
    if n_kinds:
        assert torch.equal(position_rows(grad_QTD, vectors_KQD, backend="reference"), expected_KQT)
    found_KQT = poisoned(runner, lambda: position_rows(*here, backend=runner.backend))
    assert (found_KQT.dtype, found_KQT.device.type) == (dtype, runner.device)
    assert torch.equal(found_KQT.cpu().double(), expected_KQT)


@every_backend
def test_position_rows_of_arrays_that_are_not_contiguous(runner):
    """As the sweep passes them: one layer of several, and positions from an offset on."""
    grad_QTD = integers(3, 4, 5, seed=0, dtype=torch.float32).to(runner.device)
    vectors_LKPD = integers(2, 2, 9, 5, seed=1, dtype=torch.float32).to(runner.device)
    found_KQT = position_rows(grad_QTD, vectors_LKPD[1, :, 4:7], backend=runner.backend)
    assert torch.equal(found_KQT, torch.einsum("qtd,kqd->kqt", grad_QTD, vectors_LKPD[1, :, 4:7]))
    found_KQT = position_rows(turned(grad_QTD), turned(vectors_LKPD[1, :, 4:7]), backend=runner.backend)
    assert torch.equal(found_KQT, torch.einsum("qtd,kqd->kqt", grad_QTD, vectors_LKPD[1, :, 4:7]))


# Rounding


def assert_near(
    found: Tensor, exact: Tensor, absolute: Tensor, width: int, precision: str, device: str, there: Tensor
) -> None:
    """D products and what was there are a sum of D + 1 terms.

    In bfloat16, both the products' sum and the result of adding it may be rounded to be stored, and each
    is at most the sum of absolute values.
    """
    dtype = PRECISIONS[precision]
    sums = gamma(width + 1, dtype) + 2 * rounding(dtype, dtype)
    budget = (sums + of_products(precision, device)) * (absolute + there.abs())
    assert ((found.cpu().double() - exact).abs() <= budget).all()


def assert_errors_are_those_of_rounding(runner: Runner, precision: str) -> None:
    problem = problem_of([4, 0, 30], 12, 60, 0, gaussian, dtype=PRECISIONS[precision])
    columns = problem.columns()
    exact, absolute = added(problem, "reference"), added(problem.map(torch.abs), "reference")
    here = problem.map(lambda tensor: tensor.to(runner.device, PRECISIONS[precision]))
    poison_elsewhere(here)
    with matrix_products_in(precision):
        found = poisoned(runner, lambda: added(here, runner.backend))
    of_columns = [tensor[:, columns] for tensor in (found.cpu(), exact, absolute)]
    assert_near(*of_columns, 60, precision, runner.device, problem.rows_TC[:, columns])
    assert_untouched_elsewhere(found, here)


def assert_errors_of_position_rows_are_those_of_rounding(runner: Runner, precision: str) -> None:
    numbers = [gaussian(*shape, seed=0, dtype=PRECISIONS[precision]) for shape in ((5, 7, 60), (3, 5, 60))]
    here = [tensor.to(runner.device, PRECISIONS[precision]) for tensor in numbers]
    exact = position_rows(*numbers, backend="reference")
    absolute = position_rows(*[tensor.abs() for tensor in numbers], backend="reference")
    with matrix_products_in(precision):
        found = poisoned(runner, lambda: position_rows(*here, backend=runner.backend))
    assert_near(found, exact, absolute, 60, precision, runner.device, torch.zeros(()))


@every_backend
@pytest.mark.parametrize("precision", ["float32", "float64", "tf32"])
def test_errors_are_those_of_rounding(runner, precision):
    assert_errors_are_those_of_rounding(runner, precision)
    assert_errors_of_position_rows_are_those_of_rounding(runner, precision)


@every_backend_but_numba
def test_errors_are_those_of_rounding_in_bfloat16(runner):
    assert_errors_are_those_of_rounding(runner, "bfloat16")


@every_backend
def test_errors_of_position_rows_are_those_of_rounding_in_bfloat16(runner):
    assert_errors_of_position_rows_are_those_of_rounding(runner, "bfloat16")


def test_numba_refuses_bfloat16():
    here = problem_of([2], 1, 3).map(lambda tensor: tensor.bfloat16())
    with pytest.raises(ValueError, match=r"edge_rows cannot use numba: it has no torch\.bfloat16"):
        added(here, "numba")


# Reproducibility


@every_backend
def test_the_same_input_gives_the_same_bits(runner):
    problem = problem_of([20, 3, 70], 33, 60, 0, gaussian).map(lambda tensor: tensor.to(runner.device, torch.float32))
    vectors_KQD = gaussian(2, 3, 60, seed=9).to(runner.device, torch.float32)
    first, second = (bits(added(problem, runner.backend)) for _ in range(2))
    assert torch.equal(first, second)
    first, second = (bits(position_rows(problem.grad_QTD, vectors_KQD, backend=runner.backend)) for _ in range(2))
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
    [("grad", 0), ("grad", 1), ("grad", 2), ("vectors", 0), ("vectors", 1), ("rows", 0), ("rows", 1)],
)
def test_offsets_do_not_overflow(runner, which, axis):
    """Along any axis of any array."""
    if (runner.backend, which, axis) == ("torch", "vectors", 1):
        pytest.skip("NOT TESTED: torch 2.13's own matrix-vector product crashes on a vector of such steps")
    problem = problem_of([2, 0, 1, 2], 4, 5)
    here = problem.map(lambda tensor: tensor.to(runner.device, torch.float32))
    poison_elsewhere(here)
    grad_QTD, vectors_ED, rows_TC = here.grad_QTD, here.sources.vectors_ED, here.rows_TC.clone()
    if which == "grad":
        grad_QTD = spread(grad_QTD, axis)
    if which == "vectors":
        vectors_ED = spread(vectors_ED, axis)
    if which == "rows":
        rows_TC = spread(rows_TC, axis)
    sources = SourceVectors(vectors_ED, here.sources.offsets, here.sources.columns)
    assert_adds_in_place(runner, problem, here._replace(grad_QTD=grad_QTD, sources=sources), rows_TC)


@every_backend
def test_offsets_of_vectors_may_exceed_32_bits(runner):
    """The first group, which has no gradients, takes 8.6 GB."""
    problem = problem_of([2, 0, 1, 2], 4, 5, first=1)
    here = problem.map(lambda tensor: tensor.to(runner.device, torch.float32))
    poison_elsewhere(here)
    n_vectors = (1 << 31) // 5 + 9
    vectors_ED = virtual_memory(n_vectors * 5, runner.device).view(n_vectors, 5)
    vectors_ED[-5:] = here.sources.vectors_ED
    offsets = [0, *(offset + n_vectors - 5 for offset in here.sources.offsets[1:])]
    here = here._replace(sources=SourceVectors(vectors_ED, offsets, here.sources.columns))
    assert_adds_in_place(runner, problem, here, here.rows_TC.clone())


def assert_adds_in_place(runner: Runner, problem: Problem, here: Problem, rows_TC: Tensor) -> None:
    """Assert that edge rows are added into arrays of which only the needed parts are touched."""
    with memory_grows_by_less_than(200_000_000):
        edge_rows(here.grad_QTD, here.first, here.sources, rows_TC, backend=runner.backend)
    columns = problem.columns()
    assert torch.equal(rows_TC.cpu().double()[:, columns], added(problem, "reference")[:, columns])
    assert_untouched_elsewhere(rows_TC, here)


# Refusals


def zeros(*shape: int) -> Tensor:
    return torch.zeros(shape)


# Arguments after the gradients of 2 positions, 3 targets, width 4, and a part of the message.
MISTAKES = {
    "vectors of another width": (
        0,
        (zeros(5, 3), [0, 2, 5], [0, 2]),
        zeros(3, 9),
        "vectors are 3 wide and gradients 4",
    ),
    "rows of other targets": (
        0,
        (zeros(5, 4), [0, 2, 5], [0, 2]),
        zeros(2, 9),
        "2 rows for the gradients of 3 targets",
    ),
    "positions after the last group": (1, (zeros(5, 4), [0, 2, 5], [0, 2]), zeros(3, 9), "there are 2 groups"),
    "a position before the first": (-1, (zeros(5, 4), [0, 2, 5], [0, 2]), zeros(3, 9), "there are 2 groups"),
    "columns after the last": (0, (zeros(5, 4), [0, 2, 5], [0, 7]), zeros(3, 9), "rows have 9"),
    "a column before the first": (0, (zeros(5, 4), [0, 2, 5], [-1, 2]), zeros(3, 9), "groups"),
    "offsets that descend": (0, (zeros(5, 4), [0, 5, 2], [0, 2]), zeros(3, 9), "offsets"),
    "offsets that descend later": (0, (zeros(5, 4), [0, 2, 9, 5], [0, 2, 0]), zeros(3, 9), "offsets"),
    "offsets that descend before": (1, (zeros(5, 4), [0, 9, 2, 5], [0, 0, 2]), zeros(3, 9), "offsets"),
    "columns that overlap": (0, (zeros(5, 4), [0, 2, 5], [3, 2]), zeros(3, 9), "must not be negative or overlap"),
    "offsets after the last vector": (
        0,
        (zeros(5, 4), [0, 2, 6], [0, 2]),
        zeros(3, 9),
        "at most 5, the number of vectors",
    ),
    "an offset before the first vector": (
        0,
        (zeros(5, 4), [-1, 2, 5], [0, 3]),
        zeros(3, 9),
        "at most 5, the number of vectors",
    ),
}


@every_backend
@pytest.mark.parametrize("mistake", MISTAKES)
def test_groups_of_wrong_sizes_are_refused(runner, mistake):
    first, (vectors_ED, *groups), rows_TC, message = MISTAKES[mistake]
    grad_QTD, vectors_ED, rows_TC = (tensor.to(runner.device) for tensor in (zeros(2, 3, 4), vectors_ED, rows_TC))
    with pytest.raises(ValueError, match=message):
        edge_rows(grad_QTD, first, SourceVectors(vectors_ED, *groups), rows_TC, backend=runner.backend)


def test_different_numbers_of_offsets_and_columns_are_refused():
    for offsets in ([], [0, 1], [0, 1, 2, 3]):
        with pytest.raises(ValueError, match=f"^2 groups have 3 offsets, not {len(offsets)}$"):
            SourceVectors(zeros(3, 4), offsets, [0, 1])


@every_backend
@pytest.mark.parametrize("shape", [(2, 4), (1, 2, 5), (1, 3, 4), (1, 2, 4, 1)], ids=str)
def test_position_vectors_of_wrong_shapes_are_refused(runner, shape):
    grad_QTD, vectors = (zeros(*each).to(runner.device) for each in ((2, 3, 4), shape))
    with pytest.raises(ValueError, match="shapes do not fit"):
        position_rows(grad_QTD, vectors, backend=runner.backend)
