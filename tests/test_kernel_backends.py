"""Choice of backends: the requested one runs, or an error names the cure; without a request, the device's default."""

import importlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.kernel_problems import every_backend, poisoned_memory
from hypothesis import given
from hypothesis import strategies as st

from cotrace.common.compiled import shares
from cotrace.kernels import backends
from cotrace.kernels.decode import decode
from cotrace.kernels.edge_rows import SourceVectors, add_source_vectors, edge_rows, position_rows
from cotrace.kernels.encode import Active, encode
from cotrace.kernels.operations import OPERATIONS

ROOT = Path(__file__).parent.parent / "kernels"
FOLDERS = ("decode", "edge_rows", "encode")


def call_encode(device: str, dtype: torch.dtype = torch.float32, **options):
    x_PD, w_enc_DF, b_enc_F = (torch.zeros(shape, device=device, dtype=dtype) for shape in ((2, 3), (3, 4), (4,)))
    return encode(x_PD, w_enc_DF, b_enc_F, **options)


def call_decode(device: str, dtype: torch.dtype = torch.float32, **options):
    ids_n = torch.zeros(1, dtype=torch.int64, device="cpu" if device == "meta" else device)  # the values are compared
    active, w_dec_FD = (
        Active(ids_n, ids_n, ids_n.to(dtype), ids_n.to(dtype)),
        torch.zeros(4, 3, device=device, dtype=dtype),
    )
    return decode([active], [w_dec_FD], 2, **options)


def call_edge_rows(device: str, dtype: torch.dtype = torch.float32, **options):
    grad_QTD, vectors_ED, rows_TC = (
        torch.zeros(shape, device=device, dtype=dtype) for shape in ((1, 2, 3), (4, 3), (2, 4))
    )
    return edge_rows(grad_QTD, 0, SourceVectors(vectors_ED, [0, 4], [0]), rows_TC, **options)


def call_position_rows(device: str, dtype: torch.dtype = torch.float32, **options):
    grad_QTD, vectors_KQD = (torch.zeros(shape, device=device, dtype=dtype) for shape in ((1, 2, 3), (2, 1, 3)))
    return position_rows(grad_QTD, vectors_KQD, **options)


def call_add_source_vectors(device: str, dtype: torch.dtype = torch.float32, **options):
    weights_TC, vectors_ED, grad_QTD = (
        torch.zeros(shape, device=device, dtype=dtype) for shape in ((2, 4), (4, 3), (1, 2, 3))
    )
    return add_source_vectors(weights_TC, 0, SourceVectors(vectors_ED, [0, 4], [0]), grad_QTD, **options)


CALLS = {
    "encode": call_encode,
    "decode": call_decode,
    "edge_rows": call_edge_rows,
    "add_source_vectors": call_add_source_vectors,
    "position_rows": call_position_rows,
}
every_call = pytest.mark.parametrize("name", CALLS)


def module_of(name: str, backend: str):
    """Return the module with a backend's function for an operation."""
    folder = "edge_rows" if name in ("position_rows", "add_source_vectors") else name
    return importlib.import_module(f"cotrace.kernels.{folder}.{backend}")


# Requested backends


@every_call
@every_backend
def test_the_requested_backend_runs(name, runner, monkeypatch):
    """No other backend runs."""
    module = module_of(name, runner.backend)
    called = []

    def spy(*arguments):
        called.append(name)
        return original(*arguments)

    original = getattr(module, name)
    monkeypatch.setattr(module, name, spy)
    CALLS[name](runner.device, backend=runner.backend)
    assert called == [name]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_operation_has_every_backend(folder):
    for backend in backends.BACKENDS:
        assert (ROOT / folder / f"{backend}.py").exists()
    assert {path.parent.name for path in ROOT.glob("*/api.py")} == set(FOLDERS)


@every_call
def test_the_registry_names_the_function_of_every_backend(name):
    assert set(OPERATIONS) == set(CALLS)
    operation = OPERATIONS[name]
    assert operation.name == name
    assert tuple(operation.backends) == backends.BACKENDS
    for backend, load in operation.backends.items():
        assert load() is getattr(module_of(name, backend), name)


@every_call
def test_an_unknown_backend_is_refused(name):
    message = f"^{name} has no backend 'magic'; choose one of reference, torch, numba, triton$"
    with pytest.raises(ValueError, match=message):
        CALLS[name]("cpu", backend="magic")


@every_call
def test_numba_refuses_tensors_that_are_not_on_the_cpu(name):
    message = f"^{name} cannot use numba: numba computes on the CPU and the tensors are on meta; leave backend out$"
    with pytest.raises(ValueError, match=message):
        CALLS[name]("meta", backend="numba")


@every_call
def test_triton_on_the_cpu_names_its_interpreter(name, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(backends, "_has_triton", lambda: True)
    message = f"^{name} cannot use triton: it needs a CUDA device.*TRITON_INTERPRET=1"
    with pytest.raises(ValueError, match=message):
        CALLS[name]("cpu", backend="triton")


@every_call
def test_triton_that_is_not_installed_names_its_package(name, monkeypatch):
    monkeypatch.setattr(backends, "_has_triton", lambda: False)
    with pytest.raises(ValueError, match=r"cannot use triton: triton is not installed \(pip install triton\)$"):
        CALLS[name]("cpu", backend="triton")


def test_triton_is_found_by_its_package_name(monkeypatch):
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: asked.append(name))
    assert not backends._has_triton.__wrapped__()
    assert asked == ["triton"]


def test_obstacles(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(backends, "_has_triton", lambda: True)
    none = [
        ("reference", "cpu"),
        ("reference", "cuda"),
        ("torch", "mps"),
        ("numba", "cpu"),
        ("triton", "cuda"),
        ("triton", "cpu"),
    ]
    assert [backends.obstacle(*pair) for pair in none] == [None] * len(none)
    assert "leave backend out" in backends.obstacle("numba", "cuda")
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    assert "the tensors are on mps" in backends.obstacle("triton", "mps")
    assert backends.obstacle("triton", "cuda") is None


# Default backends


@every_call
def test_without_a_backend_the_chosen_one_runs(name, monkeypatch):
    called = []
    monkeypatch.setattr(OPERATIONS[name], "on_cpu_if_small", None)
    for backend in ("torch", "numba"):
        module = module_of(name, backend)
        original = getattr(module, name)
        spy = lambda *arguments, run=original, backend=backend: (called.append(backend), run(*arguments))[1]  # noqa: E731
        monkeypatch.setattr(module, name, spy)
    CALLS[name]("cpu")
    monkeypatch.setattr(OPERATIONS[name], "on_cpu", "torch" if called == ["numba"] else "numba")
    CALLS[name]("cpu")
    assert sorted(called) == ["numba", "torch"]


@every_call
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_without_a_backend_every_type_of_numbers_is_taken(name, dtype):
    CALLS[name]("cpu", dtype=dtype)


def test_the_default_backend_of_each_device(monkeypatch, recwarn):
    monkeypatch.setattr(backends, "_has_triton", lambda: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for operation in OPERATIONS.values():
        assert operation.default_backend("cpu") == operation.on_cpu != "reference"
        assert operation.default_backend("cuda") == "triton"
        assert operation.default_backend("mps") == "torch"
    assert not recwarn.list


@pytest.mark.parametrize(("group", "expected"), [(7, "numba"), (100, "torch")])
def test_edge_rows_of_small_groups_are_computed_by_numba(group, expected, monkeypatch):
    """There, calling the BLAS product costs more than the product; only the requested positions count."""
    called = []
    for backend in ("torch", "numba"):
        module = module_of("edge_rows", backend)
        spy = lambda *arguments, run=module.edge_rows, name=backend: (called.append(name), run(*arguments))[1]  # noqa: E731
        monkeypatch.setattr(module, "edge_rows", spy)
    offsets = [0, 500, *(500 + group * (i + 1) for i in range(3))]
    vectors_ED, grad_QTD = torch.randn(offsets[-1], 5), torch.randn(3, 32, 5)
    sources, rows_TC = SourceVectors(vectors_ED, offsets, offsets[:-1]), torch.zeros(32, offsets[-1])
    edge_rows(grad_QTD, 1, sources, rows_TC)
    assert called == [expected]
    assert torch.allclose(rows_TC[:, 500 : 500 + group], grad_QTD[0] @ vectors_ED[500 : 500 + group].T, atol=1e-5)


def test_cuda_without_triton_computes_with_torch_and_says_so(monkeypatch):
    monkeypatch.setattr(backends, "_has_triton", lambda: False)
    with pytest.warns(RuntimeWarning, match=r"^encode uses torch: triton is not installed \(pip install triton\)$"):
        assert OPERATIONS["encode"].default_backend("cuda") == "torch"


def test_the_warning_points_at_the_caller(monkeypatch):
    """The warning points at the caller of the public function."""
    monkeypatch.setattr(backends, "_has_triton", lambda: False)

    def public_function():
        return OPERATIONS["encode"].implementation(None, "cuda")

    def caller():
        return public_function()

    with pytest.warns(RuntimeWarning) as caught:
        run = caller()
    assert run is module_of("encode", "torch").encode
    line = caller.__code__.co_firstlineno + 1
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]


# Shares


@given(
    st.lists(st.integers(0, 1000), max_size=40),
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.sampled_from([list, np.array]),
)
def test_shares_cover_every_unit_once_and_are_about_equal(work_of_units, start, n_shares, kind):
    work = kind(np.cumsum([start, *work_of_units]).tolist())
    bounds = shares(work, n_shares)
    assert (bounds[0], bounds[-1]) == (0, len(work_of_units))
    assert len(bounds) <= n_shares + 1
    assert (np.diff(bounds) >= 0).all()
    # Both ends of a share lie within half a unit of where they would cut the work into equal parts.
    most = max((sum(work_of_units[a:b]) for a, b in itertools.pairwise(bounds)), default=0)
    assert most <= sum(work_of_units) / n_shares + max(work_of_units, default=0) + 1e-6


def test_shares_of_equal_units_are_equal():
    assert shares(range(13), 4).tolist() == [0, 3, 6, 9, 12]


# Helpers of the tests


def test_poisoned_memory_is_nan():
    with poisoned_memory():
        floats = [torch.empty(3), torch.empty_like(torch.zeros(3)), torch.zeros(3).new_empty(3)]
        arrays = [np.empty(3), np.empty_like(np.zeros(3, np.float32)), np.empty((3, 2), np.float16)]
        ids = [torch.empty(3, dtype=torch.int64), np.empty(3, np.int64)]
    assert all(fresh.isnan().all() for fresh in floats)
    assert all(np.isnan(fresh).all() for fresh in arrays)
    assert all((fresh == np.iinfo(np.int64).max).all() for fresh in ids)
    assert "new_empty" not in vars(torch.Tensor)
