"""Every implementation of a hot operation against its float64 reference, on awkward shapes."""

import math

import pytest
import torch

from cotrace.kernels.edge_rows import Written, edge_rows
from cotrace.kernels.edge_rows.api import BACKENDS as EDGE_ROWS
from cotrace.kernels.encode import encode
from cotrace.kernels.encode.api import BACKENDS as ENCODE
from cotrace.kernels.encode.tiled import TILE

SHAPES = [(1, 60, 1), (63, 60, 130), (5, 7, 1000), (2, 16, TILE + 3), (0, 8, 5)]


def problem(shape, seed=0):
    positions, width, features = shape
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(positions, width, generator=generator, dtype=torch.float64)
    w = torch.randn(width, features, generator=generator, dtype=torch.float64)
    b, threshold = (torch.randn(features, generator=generator, dtype=torch.float64) for _ in range(2))
    return x, w, b, threshold.abs() * math.sqrt(width)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", [{}, {"threshold"}, {"k"}], ids=["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("backend", sorted(set(ENCODE) - {"reference"}))
def test_encode_equals_the_reference(backend, options, shape):
    x, w, b, threshold = problem(shape)
    arguments = {"threshold_F": threshold if "threshold" in options else None, "k": 3 if "k" in options else None}
    expected = encode(x, w, b, **arguments, backend="reference")
    found = encode(x, w, b, **arguments, backend=backend)
    for name in expected._fields:
        assert torch.allclose(getattr(found, name), getattr(expected, name), rtol=1e-12), name
    order = found.position_n * shape[2] + found.feature_n
    assert (order.diff() > 0).all()


@pytest.mark.parametrize("backend", ENCODE)
def test_encode_of_low_precision_weights_computes_in_the_input_type(backend):
    x, w, b, threshold = problem((9, 60, 50))
    low = [t.to(torch.bfloat16) for t in (w, b, threshold)]
    found = encode(x, low[0], low[1], threshold_F=low[2], backend=backend)
    expected = encode(x, *(t.double() for t in low[:2]), threshold_F=low[2].double(), backend="reference")
    assert torch.equal(found.feature_n, expected.feature_n)
    assert torch.allclose(found.activation_n, expected.activation_n, rtol=1e-12)


@pytest.mark.parametrize("backend", ENCODE)
def test_encode_all_and_none_active(backend):
    x, w, b, _ = problem((4, 6, 10))
    everything = encode(x, w * 0, b.abs() + 1, backend=backend)
    assert len(everything.position_n) == 40
    nothing = encode(x, w * 0, b.abs() + 1, threshold_F=torch.full_like(b, 1e9), backend=backend)
    assert len(nothing.position_n) == 0


@pytest.mark.parametrize("backend", ENCODE)
def test_encode_refuses_nan_and_wrong_shapes(backend):
    x, w, b, _ = problem((4, 6, 10))
    w[2, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        encode(x, w, b, backend=backend)
    with pytest.raises(ValueError, match="shapes"):
        encode(x[:, 1:], w, b, backend=backend)


def edge_problem(counts, n_targets, width, first, seed=0):
    """Groups of the given sizes, scattered over columns with gaps between them."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(sum(counts), width, generator=generator, dtype=torch.float64)
    offsets = [0, *torch.tensor(counts).cumsum(0).tolist()]
    columns = [offset + 2 * p for p, offset in enumerate(offsets[:-1])]
    grad = torch.randn(len(counts) - first, n_targets, width, generator=generator, dtype=torch.float64)
    rows = torch.randn(n_targets, sum(counts) + 2 * len(counts), generator=generator, dtype=torch.float64)
    return grad, first, Written(vectors, offsets, columns), rows


GROUPS = [([3], 1, 60, 0), ([0, 5, 0, 1], 63, 60, 0), ([2, 200, 1], 4, 7, 1), ([0, 0], 3, 5, 0)]


@pytest.mark.parametrize("group", GROUPS, ids=str)
@pytest.mark.parametrize("backend", sorted(set(EDGE_ROWS) - {"reference"}))
def test_edge_rows_add_to_what_is_there(backend, group):
    grad, first, written, rows = edge_problem(*group)
    expected = rows.clone()
    edge_rows(grad, first, written, expected, backend="reference")
    edge_rows(grad, first, written, rows, backend=backend)
    assert torch.allclose(rows, expected, rtol=1e-12)
    untouched = torch.ones(rows.shape[1], dtype=torch.bool)
    for p, start in enumerate(written.columns):
        untouched[start : start + written.offsets[p + 1] - written.offsets[p]] = p < first
    assert torch.equal(rows[:, untouched], edge_problem(*group)[3][:, untouched])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", sorted(set(EDGE_ROWS) - {"reference"}))
def test_edge_rows_error_is_that_of_rounding(backend, dtype):
    """|error| <= c * eps * sum |g||v|: a dot product of width D in precision eps, c = D."""
    grad, first, written, rows = edge_problem([4, 9], 12, 60, 0)
    low_grad, low_vectors = grad.to(dtype), written.vectors_ED.to(dtype)
    found, exact, bound = torch.zeros_like(rows).to(dtype), torch.zeros_like(rows), torch.zeros_like(rows)
    edge_rows(low_grad, first, written._replace(vectors_ED=low_vectors), found, backend=backend)
    edge_rows(low_grad.double(), first, written._replace(vectors_ED=low_vectors.double()), exact, backend="reference")
    edge_rows(
        low_grad.double().abs(),
        first,
        written._replace(vectors_ED=low_vectors.double().abs()),
        bound,
        backend="reference",
    )
    assert ((found.double() - exact).abs() <= 60 * torch.finfo(dtype).eps * bound).all()


@pytest.mark.parametrize(("operation", "call"), [("encode", encode), ("edge_rows", edge_rows)])
def test_an_unknown_backend_is_refused(operation, call):
    arguments = problem((2, 3, 4))[:3] if operation == "encode" else edge_problem([1], 1, 3, 0)
    with pytest.raises(ValueError, match=f"{operation} has no backend 'magic'; choose one of"):
        call(*arguments, backend="magic")
