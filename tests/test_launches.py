"""The number of operations that a layer of the sweep starts does not grow with the number of positions."""

import pytest
import torch
from tiny import prompt
from torch.utils._python_dispatch import TorchDispatchMode

import cotrace.attribution.tracing.row_builder as engine
from cotrace.attribution.effects.config import EffectsConfig
from cotrace.attribution.effects.effects import EffectSource
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.targets import TargetRequest
from cotrace.kernels.operations import OPERATIONS

pytest.importorskip("triton")


class OperationCount(TorchDispatchMode):
    """Counts the operations that torch starts."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def kernels(monkeypatch):
    """Compute with a GPU's backends, and return a count of their calls."""
    kernels = {"count": 0}

    def counted(backend):
        def call(*arguments):
            kernels["count"] += 1
            return backend(*arguments)

        return call

    for name in ("edge_rows", "add_source_vectors", "position_rows"):
        operation = OPERATIONS[name]
        counting_kernel = counted(operation.backends["triton"]())
        monkeypatch.setattr(operation, "backends", {"triton": lambda kernel=counting_kernel: kernel})
        monkeypatch.setattr(operation, "on_cpu", "triton")
        monkeypatch.setattr(operation, "on_cpu_if_small", None)
    return kernels


@pytest.fixture
def operations_of_batches(load, kernels, monkeypatch):
    """Return a function that traces a prompt with a GPU's backends; returns operations and kernels of each batch."""
    found, original = [], engine.compute_rows

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


@torch.no_grad()
def effects_operations(model, ids, kernels) -> tuple[int, int]:
    """Return the operations and kernels of one pass of effects on two tokens, with and without a cut."""
    activations = model._activations(torch.tensor(ids), TraceConfig())
    source = EffectSource(activations, LocalReplacementModel(activations))
    config = TraceConfig(max_targets=2, target_mass=1.0)
    request = TargetRequest.parse(None, config, ids, model.tokenizer, model.architecture.d_model)
    targets = request.resolve(source.replacement) * 2
    open_KP = torch.ones(4, len(ids), dtype=torch.bool)
    open_KP[2:, 1:3] = False
    kernels["count"] = 0
    with OperationCount() as operations:
        source.node_effects(targets, EffectsConfig(), open_KP)
    return operations.count, kernels["count"]


@pytest.mark.parametrize("kind", ["clt-affine", "per-layer"])
def test_launches_of_effects_do_not_grow_with_positions(load, kernels, kind):
    short, long = (effects_operations(load(kind), ids, kernels) for ids in (prompt()[:6], prompt()))
    assert long == short
    assert long[1] == 3 * 3 + 1  # all three kernels in each of 3 layers, and the token embeddings
