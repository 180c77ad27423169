"""Decode: every backend against the float64 reference and numerical derivatives, forwards and backwards."""

from collections.abc import Callable
from typing import NamedTuple

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from helpers.kernel_problems import (
    PRECISIONS,
    Runner,
    bits,
    every_backend,
    every_compiled_backend,
    every_precision,
    examples,
    gamma,
    gaussian,
    integers,
    matrix_products_in,
    memory_grows_by_less_than,
    of_products,
    poisoned,
    rounding,
    threads,
    virtual_memory,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cotrace.kernels.decode import decode
from cotrace.kernels.encode import Active

every_form = pytest.mark.parametrize("form", ["cross-layer", "per-layer", "two layers"])
either_grad = pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])


class Problem(NamedTuple):
    """Arguments of decode, layer by layer, and the gradient of its result."""

    entries: list[tuple[Tensor, Tensor]]  # positions and feature ids
    activations: list[Tensor]
    decoders: list[Tensor]
    grad_LPD: Tensor

    def to(self, device: str, dtype: torch.dtype, decoder_dtype: torch.dtype | None = None) -> "Problem":
        """Return a copy on a device, with numbers of a type."""
        return Problem(
            [(position_n.to(device), feature_n.to(device)) for position_n, feature_n in self.entries],
            [activation_n.to(device, dtype) for activation_n in self.activations],
            [w_dec.to(device, decoder_dtype or dtype) for w_dec in self.decoders],
            self.grad_LPD.to(device, dtype),
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> "Problem":
        """Return the same entries with other numbers."""
        numbers = [[function(tensor) for tensor in tensors] for tensors in (self.activations, self.decoders)]
        return Problem(self.entries, *numbers, function(self.grad_LPD))

    def active(self) -> list[Active]:
        """Return active features as `encode` returns them."""
        return [Active(*ids, numbers, numbers) for ids, numbers in zip(self.entries, self.activations, strict=True)]


class Decoded(NamedTuple):
    """The result of decode, and its gradients."""

    y_LPD: Tensor
    to_activations: list[Tensor]
    to_decoders: list[Tensor]


def written_layers(form: str, layer: int, n_layers: int) -> int:
    """Return the number of layers to which a layer's features write."""
    return {"cross-layer": n_layers - layer, "per-layer": 1, "two layers": min(2, n_layers - layer)}[form]


def problem_of(
    entries: list, form: str, n_positions: int, width: int, n_features: int, numbers: Callable = integers, **options
) -> Problem:
    """Return a problem with numbers of a kind for the given (positions, features) of each layer."""
    layers = range(len(entries))
    ids = [tuple(torch.as_tensor(each, dtype=torch.int64) for each in layer) for layer in entries]
    shapes = [(n_features, written_layers(form, layer, len(entries)), width) for layer in layers]
    if form == "per-layer":
        shapes = [(n_features, width)] * len(entries)
    return Problem(
        ids,
        [numbers(len(ids[layer][0]), seed=layer, **options) for layer in layers],
        [numbers(*shapes[layer], seed=10 + layer, **options) for layer in layers],
        numbers(len(entries), n_positions, width, seed=20, **options),
    )


def run(problem: Problem, backend: str, sparse_grad: bool = False) -> Decoded:
    """Run the forward and the backward pass."""
    problem = problem._replace(
        activations=[tensor.detach().requires_grad_() for tensor in problem.activations],
        decoders=[tensor.detach().requires_grad_() for tensor in problem.decoders],
    )
    n_positions = problem.grad_LPD.shape[1]
    y_LPD = decode(problem.active(), problem.decoders, n_positions, sparse_grad=sparse_grad, backend=backend)
    y_LPD.backward(problem.grad_LPD)
    return Decoded(y_LPD.detach(), [t.grad for t in problem.activations], [t.grad for t in problem.decoders])


def assert_same(found: Decoded, expected: Decoded) -> None:
    """Assert equality in every entry, across types and devices."""
    pairs = [(found.y_LPD, expected.y_LPD)]
    pairs += [*zip(found.to_activations, expected.to_activations, strict=True)]
    pairs += [*zip(found.to_decoders, expected.to_decoders, strict=True)]
    for tensor, other in pairs:
        assert torch.equal(tensor.to_dense().cpu().double(), other.to_dense())


def assert_exact(runner: Runner, problem: Problem, dtype=torch.float32, decoder_dtype=None) -> None:
    """Assert that decode in `dtype` equals the float64 reference; for problems of small integers."""
    here = problem.to(runner.device, dtype, decoder_dtype)
    expected = run(problem, "reference")
    for sparse_grad in (False, True):
        found = poisoned(runner, lambda sparse_grad=sparse_grad: run(here, runner.backend, sparse_grad))
        assert_same(found, expected)
        assert_types(found, here, sparse_grad)


def assert_types(found: Decoded, problem: Problem, sparse_grad: bool) -> None:
    """Assert that results and gradients have the types of their inputs, and sparse gradients only rows in use."""
    assert (found.y_LPD.dtype, found.y_LPD.device) == (problem.activations[0].dtype, problem.grad_LPD.device)
    for grad, tensor in zip(
        found.to_activations + found.to_decoders, problem.activations + problem.decoders, strict=True
    ):
        assert (grad.dtype, grad.shape, grad.device) == (tensor.dtype, tensor.shape, tensor.device)
    for grad, (_, feature_n) in zip(found.to_decoders, problem.entries, strict=True):
        assert grad.layout == (torch.sparse_coo if sparse_grad else torch.strided)
        if sparse_grad:
            assert grad.sparse_dim() == 1
            assert (
                grad._indices()[0].tolist() == feature_n.unique().tolist()
            )  # autograd forgets that they are coalesced


# Values


def random_entries(n: int, n_positions: int, n_features: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return entries in order of position; a feature may occur several times at a position."""
    generator = torch.Generator().manual_seed(seed)
    position_n = torch.randint(max(n_positions, 1), (n,), generator=generator).sort().values
    return position_n, torch.randint(max(n_features, 1), (n,), generator=generator)


def everywhere(n_positions: int, n_features: int) -> tuple[Tensor, Tensor]:
    """Return an entry for every feature at every position."""
    return torch.arange(n_positions).repeat_interleave(n_features), torch.arange(n_features).repeat(n_positions)


# Entries of each layer, positions, width, features. Sums over entries have a remainder in every backend.
CASES = {
    "no positions": ([([], [])] * 2, 0, 5, 4),
    "no features": ([([], [])] * 2, 4, 5, 0),
    "nothing active": ([([], [])] * 2, 4, 5, 4),
    "nothing active in one layer": ([random_entries(9, 4, 5, 0), ([], []), random_entries(3, 4, 5, 1)], 4, 5, 5),
    "one position": ([random_entries(n, 1, 9, n) for n in (7, 9)], 1, 60, 9),
    "63 positions": ([random_entries(40, 63, 30, 0)], 63, 60, 30),
    "width 1": ([random_entries(n, 5, 9, n) for n in (11, 3)], 5, 1, 9),
    "wide": ([random_entries(n, 3, 9, n) for n in (6, 3)], 3, 1100, 9),
    "one feature": ([random_entries(n, 6, 1, n) for n in (6, 3)], 6, 8, 1),
    "all active": ([everywhere(3, 9)] * 2, 3, 8, 9),
    "one position takes everything": ([([2] * 21, random_entries(21, 1, 40, s)[1]) for s in range(2)], 5, 8, 40),
    "one feature everywhere": ([(range(13), [3] * 13)] * 2, 13, 8, 5),
    "a feature twice at one position": ([([1, 1, 1, 3, 3], [4, 4, 2, 4, 4])] * 2, 5, 8, 5),
    "features do not ascend": ([([0, 0, 0, 2, 2], [4, 1, 3, 2, 0])] * 2, 3, 8, 5),
}


@every_backend
@pytest.mark.parametrize("form", ["cross-layer", "per-layer"])
@pytest.mark.parametrize("case", CASES)
def test_integers_are_decoded_exactly(runner, form, case):
    entries, n_positions, width, n_features = CASES[case]
    assert_exact(runner, problem_of(entries, form, n_positions, width, n_features))


@pytest.mark.parametrize(
    ("dtype", "decoder_dtype"),
    [
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float64),
        (torch.float64, torch.float32),
        (torch.float64, torch.float64),
    ],
    ids=str,
)
@every_backend
def test_activations_and_decoders_may_be_stored_in_different_types(runner, dtype, decoder_dtype):
    problem = problem_of([random_entries(12, 5, 9, s) for s in range(2)], "cross-layer", 5, 8, 9)
    assert_exact(runner, problem, dtype, decoder_dtype)


@every_backend
def test_decoders_of_a_form_each(runner):
    """One decoder writes to all later layers, one to its own layer, and one is given as a matrix."""
    problem = problem_of([random_entries(12, 5, 9, s) for s in range(3)], "cross-layer", 5, 8, 9)
    first, second, third = problem.decoders
    assert_exact(runner, problem._replace(decoders=[first, second[:, :1], third[:, 0]]))


@every_backend
@every_form
def test_decoders_and_gradients_need_not_be_contiguous(runner, form):
    problem = problem_of([random_entries(12, 5, 9, s) for s in range(2)], form, 5, 8, 9)
    expected = run(problem, "reference")
    here = problem.to(runner.device, torch.float32)
    turned = here.map(lambda tensor: tensor.transpose(0, -1).contiguous().transpose(0, -1))
    assert not any(tensor.is_contiguous() for tensor in (*turned.decoders, turned.grad_LPD))
    assert_same(poisoned(runner, lambda: run(turned, runner.backend)), expected)


@every_backend
def test_decoders_may_be_a_memory_mapped_file(runner, tmp_path):
    problem = problem_of([random_entries(12, 5, 9, s) for s in range(2)], "cross-layer", 5, 8, 9)
    here = problem.to(runner.device, torch.float32)
    for layer, w_dec_FJD in enumerate(problem.decoders):
        np.save(tmp_path / f"{layer}.npy", w_dec_FJD.numpy().astype(np.float32))
        mapped = torch.from_numpy(np.load(tmp_path / f"{layer}.npy", mmap_mode="c"))
        here.decoders[layer] = mapped.to(runner.device)
    assert_same(poisoned(runner, lambda: run(here, runner.backend)), run(problem, "reference"))


@every_backend
@pytest.mark.filterwarnings("ignore:invalid value encountered")  # by numpy, in Triton's interpreter
def test_values_that_are_not_finite_do_not_spread(runner):
    """An activation counts at its position and in its feature's gradient, a gradient in those of its position."""
    problem = problem_of([([0, 0, 1, 1, 2], [4, 1, 3, 2, 4])], "per-layer", 3, 8, 5)
    here, expected = problem.to(runner.device, torch.float32), run(problem, "reference")
    here.activations[0][2], here.grad_LPD[0, 2] = torch.inf, torch.nan
    found = poisoned(runner, lambda: run(here, runner.backend))
    for tensor, other, right in [
        (found.y_LPD[0], expected.y_LPD[0], [0, 2]),
        (found.to_activations[0], expected.to_activations[0], [0, 1, 2, 3]),
        (found.to_decoders[0], expected.to_decoders[0], [0, 1, 2]),
    ]:
        assert torch.equal(tensor[right].cpu().double(), other[right])
        assert not tensor[[i for i in range(len(tensor)) if i not in right]].isfinite().all()


@every_backend
def test_any_sample_of_small_integers_is_decoded_exactly(runner):
    @settings(max_examples=examples(runner), deadline=None, derandomize=True)
    @given(problems())
    def check(problem):
        assert_exact(runner, problem)

    check()


@st.composite
def problems(draw) -> Problem:
    n_positions, width, n_features = draw(st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(0, 4)))
    possible = st.tuples(st.integers(0, n_positions - 1), st.integers(0, n_features - 1))
    layer = st.lists(possible, max_size=8) if n_positions * n_features else st.just([])
    entries = [sorted(each, key=lambda entry: entry[0]) for each in draw(st.lists(layer, min_size=1, max_size=3))]
    ids = [([p for p, _ in each], [f for _, f in each]) for each in entries]
    form = draw(st.sampled_from(["cross-layer", "per-layer", "two layers"]))

    def numbers(*shape: int, seed: int) -> Tensor:
        return torch.from_numpy(draw(arrays.arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))))

    return problem_of(ids, form, n_positions, width, n_features, numbers)


# Rounding


def most(ids: list[Tensor]) -> int:
    """Return the count of the most frequent id."""
    return int(torch.cat(ids).bincount().max())


@every_backend
@pytest.mark.parametrize(
    "decoder_dtype", [torch.float32, torch.bfloat16], ids=["float32 decoders", "bfloat16 decoders"]
)
@every_precision
def test_errors_are_those_of_rounding(runner, precision, decoder_dtype):
    """A result sums the products of a position's entries, of all layers; an activation's gradient those of
    J * D numbers; a decoder's those of its feature's entries. What is stored in a narrower type is rounded once.
    """
    dtype, width = PRECISIONS[precision], 60
    entries = [random_entries(n, 6, 12, n) for n in (60, 33)]
    problem = problem_of(entries, "cross-layer", 6, width, 12, gaussian, dtype=dtype)
    problem = problem._replace(decoders=[w_dec.to(decoder_dtype).double() for w_dec in problem.decoders])
    exact, absolute = run(problem, "reference"), run(problem.map(torch.abs), "reference")
    here = problem.to(runner.device, dtype, decoder_dtype)
    with matrix_products_in(precision):
        found = poisoned(runner, lambda: run(here, runner.backend))

    def assert_near(value: Tensor, exact: Tensor, absolute: Tensor, n_terms: int) -> None:
        sums = gamma(n_terms, dtype) + of_products(precision, runner.device)
        budget = sums * absolute + rounding(value.dtype, dtype) * exact.abs()
        assert ((value.cpu().double() - exact).abs() <= budget).all()

    assert_near(found.y_LPD, exact.y_LPD, absolute.y_LPD, most([position_n for position_n, _ in entries]))
    for layer, (_, feature_n) in enumerate(entries):
        tensors = [each.to_activations[layer] for each in (found, exact, absolute)]
        assert_near(*tensors, (len(entries) - layer) * width)
        assert_near(*[each.to_decoders[layer] for each in (found, exact, absolute)], most([feature_n]))


# Gradients


class Dense(torch.autograd.Function):
    """Returns its input; makes the gradient dense, as gradcheck requires."""

    @staticmethod
    def forward(ctx, tensor):
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx, grad):
        return grad.to_dense()


@every_backend
@every_form
@either_grad
def test_gradients_are_the_derivatives(runner, form, sparse_grad):
    entries = [([0, 0, 2], [1, 1, 0]), ([1, 2], [2, 1])]
    problem = problem_of(entries, form, 3, 2, 3, gaussian).to(runner.device, torch.float64)

    def of_numbers(*numbers: Tensor) -> Tensor:
        here = problem._replace(activations=numbers[:2])
        decoders = [Dense.apply(w_dec) for w_dec in numbers[2:]]
        return decode(here.active(), decoders, 3, sparse_grad=sparse_grad, backend=runner.backend)

    numbers = [tensor.requires_grad_() for tensor in (*problem.activations, *problem.decoders)]
    assert torch.autograd.gradcheck(of_numbers, numbers, nondet_tol=0, fast_mode=runner.interpreted)


@every_backend
@either_grad
@pytest.mark.parametrize("side", ["activations", "decoders", "one layer's decoder"])
def test_only_inputs_that_need_a_gradient_get_one(runner, sparse_grad, side):
    problem = problem_of([random_entries(12, 5, 9, s) for s in range(2)], "cross-layer", 5, 8, 9)
    expected = run(problem, "reference")
    here = problem.to(runner.device, torch.float32)
    leaves = {"activations": here.activations, "decoders": here.decoders, "one layer's decoder": here.decoders[1:]}[
        side
    ]
    wanted = {
        "activations": expected.to_activations,
        "decoders": expected.to_decoders,
        "one layer's decoder": expected.to_decoders[1:],
    }[side]
    for leaf in leaves:
        leaf.requires_grad_()
    y_LPD = decode(here.active(), here.decoders, 5, sparse_grad=sparse_grad, backend=runner.backend)
    y_LPD.backward(here.grad_LPD)
    for leaf, grad in zip(leaves, wanted, strict=True):
        assert torch.equal(leaf.grad.to_dense().cpu().double(), grad)
    others = [tensor for tensor in (*here.activations, *here.decoders) if not tensor.requires_grad]
    assert len(others) == 4 - len(leaves)
    assert all(tensor.grad is None for tensor in others)


@every_backend
def test_decode_without_gradients(runner):
    problem = problem_of([random_entries(12, 5, 9, s) for s in range(2)], "cross-layer", 5, 8, 9)
    here = problem.to(runner.device, torch.float32)
    for tensor in (*here.activations, *here.decoders):
        tensor.requires_grad_()
    with torch.no_grad():
        y_LPD = decode(here.active(), here.decoders, 5, backend=runner.backend)
    assert not y_LPD.requires_grad
    assert torch.equal(y_LPD.cpu().double(), run(problem, "reference").y_LPD)


@every_backend
def test_a_second_derivative_is_refused(runner):
    here = problem_of([random_entries(12, 5, 9, 0)], "per-layer", 5, 8, 9).to(runner.device, torch.float32)
    (activation_n,) = here.activations
    y_LPD = decode(here.active(), here.decoders, 5, backend=runner.backend)
    assert not y_LPD.requires_grad
    activation_n.requires_grad_()
    y_LPD = decode(here.active(), here.decoders, 5, backend=runner.backend)
    (grad_n,) = torch.autograd.grad((y_LPD**2).sum(), activation_n, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad_n.sum().backward()


@every_backend
def test_optimizers_accept_the_sparse_gradient(runner):
    """Rows of inactive features do not change, and gradients of two calls add up."""
    problem = problem_of([([0, 1], [7, 2])], "cross-layer", 2, 8, 9)
    here = problem.to(runner.device, torch.float32)
    (w_dec_FJD,) = here.decoders
    before = w_dec_FJD.clone()
    optimiser = torch.optim.SparseAdam([w_dec_FJD.requires_grad_()], lr=1.0)
    for _ in range(2):
        decode(here.active(), here.decoders, 2, sparse_grad=True, backend=runner.backend).backward(here.grad_LPD)
    assert torch.equal(w_dec_FJD.grad.to_dense().cpu().double(), 2 * run(problem, "reference").to_decoders[0])
    optimiser.step()
    changed_F = (w_dec_FJD != before).flatten(1).any(1)
    assert changed_F.nonzero().flatten().tolist() == [2, 7]


# Reproducibility


@every_backend
@either_grad
def test_the_same_input_gives_the_same_bits_on_any_number_of_threads(runner, sparse_grad):
    size = 10 if runner.interpreted else 500
    entries = [random_entries(size, 7, 20, seed) for seed in range(2)]
    here = problem_of(entries, "cross-layer", 7, 60, 20, gaussian).to(runner.device, torch.float32)
    results = []
    for n_threads in (1, 2, 2):
        with threads(n_threads):
            results.append(run(here, runner.backend, sparse_grad))
    for other in results[1:]:
        for one, two in zip(_tensors(results[0]), _tensors(other), strict=True):
            assert torch.equal(bits(one), bits(two))


def _tensors(decoded: Decoded) -> list[Tensor]:
    sides = (*decoded.to_activations, *decoded.to_decoders)
    return [decoded.y_LPD, *(tensor.to_dense() for tensor in sides)]


# Size


@every_backend
def test_offsets_in_large_decoders_do_not_overflow(runner):
    """F * J * D exceeds 32 bits; only the rows in use and their gradients are touched."""
    n_features, width = (1 << 21) + 3, 512
    assert n_features * 2 * width > 1 << 31
    used = [0, 1 << 20, n_features - 1]
    small = problem_of([([0, 0, 2, 2], [2, 1, 0, 2]), ([], [])], "cross-layer", 3, width, 3)
    here = small.to(runner.device, torch.float32)
    w_dec_FJD = virtual_memory(n_features * 2 * width, runner.device).view(n_features, 2, width)
    w_dec_FJD[used] = here.decoders[0]
    position_n, feature_n = here.entries[0]
    here.entries[0] = (position_n, torch.tensor(used, device=runner.device)[feature_n])
    here.decoders[0] = w_dec_FJD
    with memory_grows_by_less_than(200_000_000):
        found = run(here, runner.backend, sparse_grad=True)
    expected = run(small, "reference")
    assert torch.equal(found.y_LPD.cpu().double(), expected.y_LPD)
    assert torch.equal(found.to_activations[0].cpu().double(), expected.to_activations[0])
    assert found.to_decoders[0].shape == w_dec_FJD.shape
    assert found.to_decoders[0]._indices()[0].tolist() == used
    assert torch.equal(found.to_decoders[0]._values().cpu().double(), expected.to_decoders[0])


@every_compiled_backend
def test_only_rows_in_use_are_converted(runner):
    """The decoders have another type than the computation, and more entries than 32 bits can count."""
    n_features, width = (1 << 21) + 3, 512
    small = problem_of([([0, 0, 2, 2], [0, 1, 0, 1]), ([], [])], "cross-layer", 3, width, 2)
    here = small.to(runner.device, torch.float64)
    w_dec_FJD = virtual_memory(n_features * 2 * width, runner.device).view(n_features, 2, width)
    w_dec_FJD[[5, n_features - 1]] = here.decoders[0].float()
    position_n, feature_n = here.entries[0]
    here.entries[0] = (position_n, torch.tensor([5, n_features - 1], device=runner.device)[feature_n])
    here.decoders[0] = w_dec_FJD
    with memory_grows_by_less_than(200_000_000):
        found = run(here, runner.backend, sparse_grad=True)
    assert torch.equal(found.y_LPD.cpu(), run(small, "reference").y_LPD)


# Refusals


WRONG_ENTRIES = {
    "positions do not ascend": ([2, 1], [0, 0]),
    "position too large": ([0, 3], [0, 0]),
    "position negative": ([-1, 0], [0, 0]),
    "feature too large": ([0, 1], [0, 5]),
    "feature negative": ([0, 1], [-1, 0]),
}


@every_backend
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("wrong", WRONG_ENTRIES)
def test_entries_out_of_order_or_range_are_refused(runner, layer, wrong):
    entries = [([0, 1], [0, 0]), ([0, 1], [0, 0])]
    entries[layer] = WRONG_ENTRIES[wrong]
    here = problem_of(entries, "per-layer", 3, 4, 5).to(runner.device, torch.float32)
    message = f"^layer {layer}: features must be sorted by position, with positions below 3 and feature ids below 5$"
    with pytest.raises(ValueError, match=message):
        decode(here.active(), here.decoders, 3, backend=runner.backend)


@every_backend
def test_entries_of_empty_decoders_or_no_positions_are_refused(runner):
    """Decoders without features, and inputs without positions."""
    for n_positions, n_features in [(3, 0), (0, 3)]:
        here = problem_of([([0], [0])], "per-layer", n_positions, 4, n_features).to(runner.device, torch.float32)
        with pytest.raises(ValueError, match=r"^layer 0: features must be sorted"):
            decode(here.active(), here.decoders, n_positions, backend=runner.backend)


@every_backend
@pytest.mark.parametrize("shape", [(5,), (5, 3, 4), (5, 0, 4), (5, 1, 1, 4)], ids=str)
def test_decoders_of_too_many_layers_or_dimensions_are_refused(runner, shape):
    here = problem_of([([0], [0])] * 2, "cross-layer", 3, 4, 5).to(runner.device, torch.float32)
    here.decoders[0] = torch.zeros(shape, device=runner.device)
    with pytest.raises(ValueError, match="decoder 0 of 2 has shape"):
        decode(here.active(), here.decoders, 3, backend=runner.backend)


@every_backend
def test_decoders_of_different_widths_are_refused(runner):
    here = problem_of([([0], [0])] * 2, "cross-layer", 3, 4, 5).to(runner.device, torch.float32)
    here.decoders[1] = here.decoders[1][..., :3]
    with pytest.raises(ValueError, match="different widths"):
        decode(here.active(), here.decoders, 3, backend=runner.backend)


@every_backend
def test_different_numbers_of_layers_and_decoders_are_refused(runner):
    here = problem_of([([0], [0])] * 2, "per-layer", 3, 4, 5).to(runner.device, torch.float32)
    for active, decoders in [(here.active(), here.decoders[:1]), (here.active()[:1], here.decoders), ([], [])]:
        with pytest.raises(ValueError, match="layers of active features and"):
            decode(active, decoders, 3, backend=runner.backend)


@every_backend
@pytest.mark.parametrize("field", ["position_n", "feature_n", "activation_n"])
def test_entries_of_different_lengths_are_refused(runner, field):
    here = problem_of([([0, 1], [0, 0])], "per-layer", 3, 4, 5).to(runner.device, torch.float32)
    (active,) = here.active()
    with pytest.raises(ValueError, match="vectors of one length"):
        decode([active._replace(**{field: getattr(active, field)[:1]})], here.decoders, 3, backend=runner.backend)
