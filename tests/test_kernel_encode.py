"""Encode: every backend against the float64 reference and the guarantees of its interface."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from helpers.kernel_problems import (
    PRECISIONS,
    Runner,
    bits,
    counts_memory,
    every_backend,
    every_compiled_backend,
    every_precision,
    examples,
    forget_peak_memory,
    gamma,
    gaussian,
    integers,
    matrix_products_in,
    memory_grows_by_less_than,
    of_products,
    peak_memory,
    poisoned,
    rounding,
    spread,
    tiles,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cotrace.kernels.encode import Active, encode, streaming

ACTIVATIONS = ("relu", "jumprelu", "topk", "batchtopk")
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
K = 3


class Problem(NamedTuple):
    """Arguments of encode."""

    x_PD: Tensor
    w_enc_DF: Tensor
    b_enc_F: Tensor
    threshold_F: Tensor

    def to(self, *target) -> "Problem":
        """All tensors in a type or on a device."""
        return Problem(*(tensor.to(*target) for tensor in self))


def integer_problem(n_positions: int, width: int, n_features: int, seed: int = 0) -> Problem:
    shapes = ((n_positions, width), (width, n_features), (n_features,), (n_features,))
    return Problem(*(integers(*shape, seed=seed + i) for i, shape in enumerate(shapes)))


def gaussian_problem(n_positions: int, width: int, n_features: int, dtype: torch.dtype) -> Problem:
    """Return numbers that `dtype` stores exactly; with JumpReLU a quarter of the features is active."""
    shapes = ((n_positions, width), (width, n_features), (n_features,), (n_features,))
    x, w, b, threshold = (gaussian(*shape, seed=i, dtype=dtype) for i, shape in enumerate(shapes))
    return Problem(x, w, b, (threshold.abs() * width**0.5).to(dtype).double())


def encoded(problem: Problem, activation: str, backend: str, k: int = K) -> Active:
    options = {
        "relu": {},
        "jumprelu": {"threshold_F": problem.threshold_F},
        "topk": {"k": k},
        "batchtopk": {"batch_k": k},
    }
    return encode(*problem[:3], **options[activation], backend=backend)


def assert_same(found: Active, expected: Active) -> None:
    """Assert equality in every entry, across types and devices."""
    for name, tensor, other in zip(Active._fields, found, expected, strict=True):
        assert torch.equal(tensor.cpu().to(other.dtype), other), name


def assert_exact(runner: Runner, problem: Problem, activation: str, dtype: torch.dtype = torch.float32, k: int = K):
    """Assert that encode in `dtype` equals the float64 reference; for problems of small integers."""
    here = problem.to(dtype).to(runner.device)
    found = poisoned(runner, lambda: encoded(here, activation, runner.backend, k))
    assert [tensor.dtype for tensor in found] == [torch.int64, torch.int64, dtype, dtype]
    assert {tensor.device.type for tensor in found} == {runner.device}
    assert_same(found, encoded(problem, activation, "reference", k))


# Values


SHAPES = [(0, 8, 5), (1, 60, 1), (1, 1, 40), (63, 60, 40), (5, 7, 0), (4, 1, 130), (3, 6, 1500), (2, 3, 8195)]


@every_backend
@every_activation
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_integers_are_encoded_exactly(runner, activation, shape):
    assert_exact(runner, integer_problem(*shape), activation)


@every_backend
@every_activation
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_integers_are_encoded_exactly_over_many_tiles(runner, activation, dtype):
    """Tiles end within positions and features; there are more ties for a place among the largest than places."""
    for positions, features in [(4, 40), (5, 3)]:
        with tiles(positions, features):
            assert_exact(runner, integer_problem(9, 6, 100 if features > 3 else 11), activation, dtype)


@every_backend
@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
@pytest.mark.parametrize("k", [1, 39, 40, 41, 500])
def test_k_may_exceed_the_number_of_entries(runner, activation, k):
    problem = integer_problem(3, 5, 40)
    assert_exact(runner, problem, activation, k=k)
    with tiles(2, 16):
        assert_exact(runner, problem, activation, k=k)


@every_backend
@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
def test_equal_values_are_kept_in_order_of_position_and_feature(runner, activation):
    same = Problem(torch.ones(4, 2), torch.ones(2, 50), torch.zeros(50), torch.zeros(50)).to(runner.device)
    with tiles(2, 20):
        found = poisoned(runner, lambda: encoded(same, activation, runner.backend))
    feature_ids = [0, 1, 2] * 4 if activation == "topk" else list(range(12))
    assert found.feature_n.tolist() == feature_ids
    assert found.position_n.tolist() == ([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3] if activation == "topk" else [0] * 12)


@every_backend
@pytest.mark.parametrize("activation", ["topk", "batchtopk"])
def test_the_largest_are_found_when_values_rise_or_fall_over_tiles(runner, activation):
    """Each tile has larger entries than the one before, so that kept entries are dropped again; or the reverse."""
    rising = torch.arange(60.0, dtype=torch.float64) % 53
    for b in (rising, rising.flip(0), -rising):
        problem = Problem(integers(3, 3, seed=0), integers(3, 60, seed=1), b, b)
        with tiles(2, 10):
            assert_exact(runner, problem, activation, k=2)


@every_backend
@pytest.mark.parametrize("louder", [1, 100, -100], ids=["alike", "sample louder", "sample silent"])
def test_a_bound_guessed_from_a_sample_changes_nothing(runner, louder):
    """BatchTopK's first bound may be far too high or too low: every so often a feature is seen before the others."""
    problem = integer_problem(9, 6, 120)
    problem.b_enc_F[torch.linspace(0, 118, 4).long()[:, None] + torch.arange(2)] += louder
    guessed = set()

    class Noted(streaming.BatchTopKSelector):
        def __init__(self, *arguments):
            guessed.add(arguments[-1])
            super().__init__(*arguments)

    with (
        tiles(4, 40),
        mock.patch.multiple(
            streaming, SAMPLE_FEATURES=8, SAMPLE_POSITIONS=4, SAMPLE_RUN_FEATURES=2, BatchTopKSelector=Noted
        ),
    ):
        assert_exact(runner, problem, "batchtopk")
    if runner.backend != "reference":
        assert (max(guessed) > 0) == (louder > 0)
        assert (len(guessed) > 1) == (louder > 1)


@every_backend
@every_activation
def test_one_position_can_have_all_entries(runner, activation):
    problem = integer_problem(6, 5, 70)
    problem.x_PD[[0, 1, 2, 4, 5]] = 0
    problem.b_enc_F.clamp_(max=0)
    with tiles(4, 30):
        assert_exact(runner, problem, activation)
    assert set(encoded(problem.to(runner.device), activation, runner.backend).position_n.tolist()) == {3}


@every_backend
@pytest.mark.parametrize("bias", [1.0, 0.0, -1.0])
def test_all_active_and_none_active(runner, bias):
    """Zero and a value that equals its threshold are not active."""
    problem = integer_problem(4, 6, 70)
    problem = problem._replace(w_enc_DF=problem.w_enc_DF * 0, b_enc_F=torch.full_like(problem.b_enc_F, bias))
    for threshold, n_active in [(1.0, 0), (0.5, 280), (-2.0, 280)]:
        problem = problem._replace(threshold_F=torch.full_like(problem.b_enc_F, threshold))
        assert_exact(runner, problem, "jumprelu")
        found = encoded(problem.to(runner.device), "jumprelu", runner.backend)
        assert len(found.feature_n) == (n_active if bias > 0 else 0)


@every_backend
def test_any_sample_of_small_integers_is_encoded_exactly(runner):
    @settings(max_examples=examples(runner), deadline=None, derandomize=True)
    @given(
        problems(), st.sampled_from(ACTIVATIONS), st.integers(1, 12), st.sampled_from([None, (1, 1), (2, 5), (3, 70)])
    )
    def check(problem, activation, k, tile):
        with tiles(*(tile or (None, None))):
            assert_exact(runner, problem, activation, k=k)

    check()


@st.composite
def problems(draw) -> Problem:
    n_positions, width, n_features = draw(st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(0, 20)))
    shapes = ((n_positions, width), (width, n_features), (n_features,), (n_features,))
    drawn = (draw(arrays.arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))) for shape in shapes)
    return Problem(*(torch.from_numpy(array) for array in drawn))


# Rounding


def budget_PF(problem: Problem, precision: str, device: str) -> Tensor:
    """Return the largest allowed error of a pre-activation.

    D products and a bias are D + 1 terms of a sum. In bfloat16, the product and then the sum with
    the bias are rounded once more; on a GPU the product may be a sum of parts that are rounded each,
    and all parts together are at most the sum of absolute products.
    """
    (x, w, b), dtype = problem[:3], PRECISIONS[precision]
    absolute_PF, product_PF = x.abs() @ w.abs(), x @ w
    stored_PF = (absolute_PF if device == "cuda" else product_PF.abs()) + (product_PF + b).abs()
    terms = gamma(len(w) + 1, dtype) * (absolute_PF + b.abs())
    return terms + rounding(dtype, dtype) * stored_PF + of_products(precision, device) * absolute_PF


def bound_on_activity(z_PF: Tensor, problem: Problem, activation: str, more: int = 0) -> Tensor:
    """Return the bound of activity: zero, the threshold, or the entry of rank k + `more`."""
    if activation == "topk":
        return z_PF.topk(K + more, dim=1).values[:, -1:].clamp(min=0)
    if activation == "batchtopk":
        return z_PF.flatten().topk(K * len(z_PF) + more).values[-1].clamp(min=0)
    return problem.threshold_F.clamp(min=0) if activation == "jumprelu" else z_PF.new_zeros(())


def assert_within_budget(found: Active, problem: Problem, activation: str, budget_PF: Tensor) -> None:
    """Assert that active entries are those that are active within rounding.

    An entry is surely among the k largest if at its lowest it exceeds the highest that the (k + 1)-th
    largest can be, itself counted; it may be if at its highest it reaches the lowest that the k-th can be.
    """
    z_PF = problem.x_PD @ problem.w_enc_DF + problem.b_enc_F
    low_PF, high_PF = z_PF - budget_PF, z_PF + budget_PF
    must_PF = low_PF > bound_on_activity(high_PF, problem, activation, more=1)
    may_PF = (high_PF >= bound_on_activity(low_PF, problem, activation)) & (high_PF > 0)
    assert must_PF.sum() > 0.4 * may_PF.sum(), "the budget leaves too much open to test anything"
    entries = found.position_n.cpu(), found.feature_n.cpu()
    active_PF = torch.zeros_like(must_PF).index_put(entries, torch.tensor(True))
    assert (must_PF <= active_PF).all(), "a feature is missing"
    assert (active_PF <= may_PF).all(), "a feature is active that is not"
    assert len(entries[0]) == active_PF.sum(), "a feature is there twice"
    if activation in ("topk", "batchtopk"):
        rows = active_PF if activation == "topk" else active_PF.view(1, -1)
        assert (rows.sum(1) == K * len(z_PF) // len(rows)).all()
    for values_n in found[2:]:
        assert ((values_n.cpu().double() - z_PF[entries]).abs() <= budget_PF[entries]).all()


@every_backend
@every_activation
@every_precision
def test_errors_are_those_of_rounding(runner, activation, precision):
    dtype = PRECISIONS[precision]
    problem = gaussian_problem(12, 60, 300, dtype)
    here = problem.to(dtype).to(runner.device)
    budget = budget_PF(problem, precision, runner.device)
    for tile in [(None, None), (8, 150)]:
        with tiles(*tile), matrix_products_in(precision):
            found = poisoned(runner, lambda: encoded(here, activation, runner.backend))
        assert_within_budget(found, problem, activation, budget)


# Storage of arguments


@every_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_stored_in_another_type_are_converted(runner, dtype):
    """Conversion to the type of x is exact for integers, and rounds everything else as x is rounded."""
    problem = integer_problem(5, 6, 50)
    other = torch.bfloat16 if dtype == torch.float32 else torch.float32
    here = problem.to(other).to(runner.device)._replace(x_PD=problem.x_PD.to(runner.device, dtype))
    with tiles(3, 20):
        found = poisoned(runner, lambda: encoded(here, "jumprelu", runner.backend))
    assert found.activation_n.dtype == dtype
    assert_same(found, encoded(problem, "jumprelu", "reference"))


@every_backend
def test_weights_of_higher_precision_are_rounded_to_the_type_of_x(runner):
    problem = gaussian_problem(5, 60, 50, torch.float64)._replace(x_PD=gaussian(5, 60, seed=0, dtype=torch.float32))
    here = problem.to(runner.device)._replace(x_PD=problem.x_PD.to(runner.device, torch.float32))
    rounded = problem.to(torch.float32).to(torch.float64)
    found = poisoned(runner, lambda: encoded(here, "jumprelu", runner.backend))
    assert_within_budget(found, rounded, "jumprelu", budget_PF(rounded, "float32", runner.device))


@every_backend
@every_activation
def test_weights_and_inputs_need_not_be_contiguous(runner, activation):
    problem = integer_problem(5, 6, 50)
    expected = encoded(problem, activation, "reference")
    wide = torch.full((6, 100), torch.nan, dtype=torch.float64)
    wide[:, ::2] = problem.w_enc_DF
    stored_FD = problem.w_enc_DF.T.contiguous()
    for w_enc_DF in (stored_FD.T, wide[:, ::2]):
        x_PD = problem.x_PD.T.contiguous().T
        here = Problem(*(t.to(runner.device, torch.float32) for t in (x_PD, w_enc_DF, *problem[2:])))
        if w_enc_DF is not stored_FD.T:
            here = here._replace(w_enc_DF=wide.to(runner.device, torch.float32)[:, ::2])
        assert not here.w_enc_DF.is_contiguous()
        with tiles(3, 20):
            assert_same(poisoned(runner, lambda here=here: encoded(here, activation, runner.backend)), expected)


@every_backend
@pytest.mark.parametrize("stored", [np.float32, np.float16])
def test_weights_may_be_a_memory_mapped_file(runner, stored, tmp_path):
    problem = integer_problem(5, 6, 50)
    np.save(tmp_path / "w_enc.npy", problem.w_enc_DF.numpy().astype(stored))
    w_enc_DF = torch.from_numpy(np.load(tmp_path / "w_enc.npy", mmap_mode="c"))
    here = problem.to(torch.float32).to(runner.device)._replace(w_enc_DF=w_enc_DF.to(runner.device))
    with tiles(3, 20):
        found = poisoned(runner, lambda: encoded(here, "topk", runner.backend))
    assert_same(found, encoded(problem, "topk", "reference"))


@every_backend
@every_activation
@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
def test_offsets_in_the_weights_do_not_overflow(runner, activation, axis):
    problem = integer_problem(4, 4, 4)
    here = problem.to(torch.float32).to(runner.device)
    here = here._replace(w_enc_DF=spread(here.w_enc_DF, axis))
    with memory_grows_by_less_than(200_000_000), tiles(2, 2):
        found = encoded(here, activation, runner.backend, k=2)
    assert_same(found, encoded(problem, activation, "reference", k=2))


# Memory


class LargestTensor(TorchDispatchMode):
    """Records the largest storage among the results of all torch operations."""

    def __init__(self):
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        inputs = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in inputs:
                self.n_bytes = max(self.n_bytes, leaf.untyped_storage().nbytes())
        return result


@every_backend
@pytest.mark.parametrize("activation", ["jumprelu", "topk", "batchtopk"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float64], ids=str)
def test_no_array_of_all_pre_activations_or_of_all_weights_is_made(runner, activation, stored):
    """Both would take 512 KiB; a tile and a copy of its weights take 64 KiB, the histogram of BatchTopK 256 KiB."""
    problem = gaussian_problem(16, 16, 8192, torch.float32)
    problem = problem._replace(threshold_F=problem.threshold_F + 8)
    here = problem.to(stored).to(runner.device)._replace(x_PD=problem.x_PD.to(runner.device, torch.float32))
    with tiles(16, 1024), LargestTensor() as largest:
        found = encoded(here, activation, runner.backend)
    assert 0 < len(found.feature_n) < 2000
    assert 1 << 16 <= largest.n_bytes <= 1 << 18


def many_pre_activations(device: str) -> Problem:
    """Return a problem with a quarter of a gigabyte of pre-activations, few of them active."""
    x_PD, w_enc_DF = torch.zeros(1024, 4, device=device), torch.zeros(4, 1 << 16, device=device)
    x_PD[:, 0], w_enc_DF[0, ::1000] = 1, 1
    none_F = torch.zeros(1 << 16, device=device)
    return Problem(x_PD, w_enc_DF, none_F, none_F)


def print_memory_growth() -> None:
    """Print as JSON by how many bytes a new process grows at most in each call."""
    problem, grown = many_pre_activations("cpu"), {}
    for backend in ("torch", "numba"):
        for activation in ACTIVATIONS:
            encoded(Problem(problem.x_PD[:9], *problem[1:]), activation, backend)  # compiles
            before = forget_peak_memory()
            encoded(problem, activation, backend)
            grown[f"{backend} {activation}"] = peak_memory() - before
    print(json.dumps(grown))


@pytest.fixture(scope="module")
def memory_growth() -> dict[str, int]:
    """Return what `print_memory_growth` prints in a process that returns freed large arrays to the system.

    By default glibc's heap keeps them and, by chance, may be left with holes in which none fits again.
    """
    command = [sys.executable, "-c", "import test_kernel_encode as t; t.print_memory_growth()"]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    printed = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(printed.stdout.splitlines()[-1])


@every_compiled_backend
@every_activation
def test_memory_does_not_grow_with_positions_times_features(runner, activation, request):
    limit = 150_000_000
    if runner.device == "cpu":
        if not counts_memory():
            pytest.skip("NOT TESTED: this system does not tell the most memory that a process held")
        assert request.getfixturevalue("memory_growth")[f"{runner.backend} {activation}"] < limit
        return
    problem = many_pre_activations(runner.device)
    encoded(Problem(problem.x_PD[:9], *problem[1:]), activation, runner.backend)  # cuBLAS allocates a workspace
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    found = encoded(problem, activation, runner.backend)
    assert len(found.feature_n) == (K if activation in ("topk", "batchtopk") else 66) * 1024
    assert torch.cuda.max_memory_allocated() - before < limit  # a tile is 1024 * 8192 * 4 bytes


# Reproducibility


@every_backend
@every_activation
def test_the_same_input_gives_the_same_bits(runner, activation):
    problem = gaussian_problem(33, 60, 300, torch.float32).to(torch.float32).to(runner.device)
    first, second = (encoded(problem, activation, runner.backend) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(bits(one), bits(other))


@every_compiled_backend
def test_threads_may_encode_at_the_same_time(runner):
    sets = [integer_problem(40, 6, 500, seed=seed).to(torch.float32).to(runner.device) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda problem: encoded(problem, "topk", runner.backend), sets))
    for one, problem in zip(found, sets, strict=True):
        assert_same(one, encoded(problem.to("cpu").to(torch.float64), "topk", "reference"))


@every_backend
def test_encode_has_no_gradient(runner):
    problem = integer_problem(3, 4, 5).to(torch.float32).to(runner.device)
    found = encoded(problem._replace(x_PD=problem.x_PD.requires_grad_()), "relu", runner.backend)
    assert not found.activation_n.requires_grad
    assert not found.pre_activation_n.requires_grad


@every_backend
def test_more_than_all_features_may_be_asked_for(runner):
    """No memory is allocated for entries that cannot exist."""
    problem = integer_problem(3, 4, 40)
    assert_same(
        encoded(problem.to(runner.device), "topk", runner.backend, 10**12), encoded(problem, "relu", "reference")
    )


# Refusals


def test_types_that_no_backend_computes_in_are_refused():
    problem = integer_problem(3, 4, 40)
    for dtype in (torch.float16, torch.int64):
        with pytest.raises(ValueError, match=f"not {dtype}; convert x"):
            encode(problem.x_PD.to(dtype), problem.w_enc_DF, problem.b_enc_F)


@every_backend
@every_activation
@pytest.mark.parametrize("where", [0, 1, 2], ids=["x", "w_enc", "b_enc"])
@pytest.mark.parametrize("index", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf, -torch.inf], ids=["nan", "-nan", "inf", "-inf"])
def test_values_that_are_not_finite_are_refused(runner, activation, where, index, value):
    problem = integer_problem(3, 4, 40).to(torch.float32)
    problem[where].view(-1)[index] = value
    with tiles(2, 30), pytest.raises(ValueError, match="NaN or infinite pre-activations"):
        encoded(problem.to(runner.device), activation, runner.backend)


@every_backend
@every_activation
def test_pre_activations_that_overflow_are_refused(runner, activation):
    problem = integer_problem(3, 4, 40).to(torch.float32)
    problem.x_PD[1], problem.w_enc_DF[:, 33] = 3e38, 2
    with pytest.raises(ValueError, match="NaN or infinite pre-activations"):
        encoded(problem.to(runner.device), activation, runner.backend)


WRONG_SHAPES = {
    "width": {"x_PD": torch.zeros(3, 5)},
    "x is a vector": {"x_PD": torch.zeros(4)},
    "w_enc is a vector": {"w_enc_DF": torch.zeros(4)},
    "bias": {"b_enc_F": torch.zeros(7)},
    "bias of rank 2": {"b_enc_F": torch.zeros(1, 6)},
    "threshold": {"threshold_F": torch.zeros(1)},
}


@every_backend
@pytest.mark.parametrize("wrong", WRONG_SHAPES)
def test_wrong_shapes_are_refused(runner, wrong):
    problem = integer_problem(3, 4, 6).to(torch.float32)._replace(**WRONG_SHAPES[wrong])
    with pytest.raises(ValueError, match="shapes do not fit"):
        encoded(problem.to(runner.device), "jumprelu", runner.backend)


@every_backend
@pytest.mark.parametrize("name", ["k", "batch_k"])
def test_k_below_1_is_refused(runner, name):
    problem = integer_problem(3, 4, 6).to(torch.float32).to(runner.device)
    for k in (0, -1):
        with pytest.raises(ValueError, match=f"^{name} is {k}, and no feature would be active"):
            encode(*problem[:3], **{name: k}, backend=runner.backend)


@every_backend
@pytest.mark.parametrize("names", [("threshold_F", "k"), ("threshold_F", "batch_k"), ("k", "batch_k")])
def test_two_activations_at_once_are_refused(runner, names):
    problem = integer_problem(3, 4, 6).to(torch.float32).to(runner.device)
    options = {name: problem.threshold_F if name == "threshold_F" else 2 for name in names}
    with pytest.raises(ValueError, match="pass one of them"):
        encode(*problem[:3], **options, backend=runner.backend)
