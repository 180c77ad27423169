"""The number of operations that a layer of the sweep starts does not grow with the number of positions."""

import pytest
from tiny import prompt
from torch.utils._python_dispatch import TorchDispatchMode

import cotrace.attribution.tracing.trace as engine
from cotrace.kernels.operations import OPERATIONS

pytest.importorskip("triton")


class OperationCount(TorchDispatchMode):
    """Counts the operations that torch starts."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def operations_of_batches(load, monkeypatch):
    """Return a function that traces a prompt with a GPU's backends; returns operations and kernels of each batch."""
    found, original = [], engine.compute_rows
    kernels = {"count": 0}

    def counted(backend):
        def call(*arguments):
            kernels["count"] += 1
            return backend(*arguments)

        return call

    for name in ("edge_rows", "position_rows"):
        operation = OPERATIONS[name]
        counting_kernel = counted(operation.backends["triton"]())
        monkeypatch.setattr(operation, "backends", {"triton": lambda kernel=counting_kernel: kernel})
        monkeypatch.setattr(operation, "on_cpu", "triton")
        monkeypatch.setattr(operation, "on_cpu_if_small", None)

    def counting(*arguments):
        kernels["count"] = 0
        with OperationCount() as operations:
            rows = original(*arguments)
        found.append((arguments[1].layer, operations.count, kernels["count"]))
        return rows

    monkeypatch.setattr(engine, "compute_rows", counting)

    def run(kind, token_ids, **options):
        found.clear()
        load(kind).trace(token_ids, **options)
        return {layer: (n_operations, n_kernels) for layer, n_operations, n_kernels in found}

    return run


@pytest.mark.parametrize("kind", ["clt-affine", "per-layer"])
def test_launches_do_not_grow_with_positions(operations_of_batches, kind):
    short = operations_of_batches(kind, prompt()[:6], batch_size=100)
    long = operations_of_batches(kind, prompt(), batch_size=100, position=[3, 6, -1])
    common = set(short) & set(long)
    assert max(common) == 3  # the unembedding
    assert len(common) > 1
    for layer in common:
        assert long[layer] == short[layer]
        assert long[layer][1] == 2 * layer + 1  # both kernels in each layer, and the token embeddings
