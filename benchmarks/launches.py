"""Count the kernels that a computation launches on a GPU: by torch's profiler there, and by its operations elsewhere.

    python -m benchmarks.launches [--tokens 8 16 32]     launches of a batch of rows and of effects, counted in Triton's interpreter

Without a GPU, a launch is an operation of torch that computes (no view, no allocation), or a Triton kernel in the
interpreter. A product, a copy and a fill are one launch each.
"""

import argparse
import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cotrace.kernels.backends import interpreting

from .cells import Record, markdown

FREE = ("empty", "_local_scalar_dense", "detach", "lift_fresh", "set_", "resize_", "_nested", "sym_")
TOKENS = (8, 16, 32)


class _OperationCounter(TorchDispatchMode):
    """Counts operations that would launch a kernel, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.paused = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not self.paused and _computes(func):
            self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def _computes(func: Any) -> bool:
    """Return whether an operation computes: it is neither a view nor an allocation."""
    name = func.overloadpacket.__name__
    is_view = any(value.alias_info is not None and not value.alias_info.is_write for value in func._schema.returns)
    return not is_view and not any(word in name for word in FREE)


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the launches inside, by the name of the kernel or operation; the count is complete at the end."""
    if not interpreting():
        counts: Counter[str] = Counter()
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            yield counts
            torch.cuda.synchronize()
        counts.update({e.key: e.count for e in profile.key_averages() if "LaunchKernel" in e.key})
        return
    from triton.runtime.interpreter import InterpretedFunction

    counter, interpret = _OperationCounter(), InterpretedFunction.run

    def run(self: Any, *args: Any, **options: Any) -> Any:
        counter.counts[f"triton {self.fn.__name__}"] += 1
        counter.paused = True  # the interpreter copies tensors
        try:
            return interpret(self, *args, **options)
        finally:
            counter.paused = False

    with mock.patch.object(InterpretedFunction, "run", run), counter:
        yield counter.counts


@contextlib.contextmanager
def triton_by_default() -> Iterator[None]:
    """Compute with the Triton kernels wherever no backend is named, also on the CPU."""
    from cotrace.kernels.operations import OPERATIONS

    with contextlib.ExitStack() as stack:
        for operation in OPERATIONS.values():
            stack.enter_context(mock.patch.object(operation, "on_cpu", "triton"))
            stack.enter_context(mock.patch.object(operation, "on_cpu_if_small", "triton"))
        yield


def batch_launches(model: Any, ids: list[int], most_targets: int = 8, layer: int | None = None) -> Record:
    """Return the launches of one batch of rows of a layer's features, by default the last layer's."""
    from cotrace.attribution.tracing.batches import BatchSize, feature_batches
    from cotrace.attribution.tracing.sweep import SourceColumns, compute_rows
    from cotrace.graphs import NodeOrder

    replacement = model.replacement(ids)
    features, n_layers = replacement.features, replacement.n_layers
    layer = int(features.layer_N.max()) if layer is None else layer
    (at_layer,) = (features.layer_N == layer).nonzero(as_tuple=True)
    batch = next(feature_batches(replacement, layer, at_layer[-most_targets:], BatchSize(most_targets, True, 1)))
    order = NodeOrder(len(features), n_layers * len(ids), len(ids), 0)
    columns = SourceColumns(replacement, order)
    with torch.no_grad():
        compute_rows(replacement, batch, columns)  # compiles
        with counted() as counts:
            compute_rows(replacement, batch, columns)
    return _record("a batch of rows", len(ids), len(batch.node_T), layer + 1, counts)


def effects_launches(model: Any, ids: list[int], most_targets: int = 8) -> Record:
    """Return the launches of one backward pass of effects on the likeliest next tokens."""
    from cotrace.attribution.effects.config import EffectsConfig
    from cotrace.attribution.effects.effects import EffectSource
    from cotrace.attribution.tracing.config import TraceConfig
    from cotrace.attribution.tracing.replacement import LocalReplacementModel
    from cotrace.attribution.tracing.targets import TargetRequest

    config = TraceConfig(max_targets=most_targets, target_mass=1.0)
    with torch.no_grad():
        activations = model._activations(torch.tensor(ids, device=model.weights.device), config)
        source = EffectSource(activations, LocalReplacementModel(activations))
        request = TargetRequest.parse(None, config, ids, model.tokenizer, model.architecture.d_model)
        targets = request.resolve(source.replacement)
        source.node_effects(targets, EffectsConfig())  # compiles
        with counted() as counts:
            source.node_effects(targets, EffectsConfig())
    return _record("effects", len(ids), len(targets), source.replacement.n_layers, counts)


def _record(of: str, tokens: int, rows: int, layers: int, counts: Counter[str]) -> Record:
    total = sum(counts.values())
    return {
        "of": of,
        "tokens": tokens,
        "rows": rows,
        "layers": layers,
        "launches": total,
        "launches_per_layer": total / layers,
        "by_name": dict(counts.most_common()),
    }


def launches_by_tokens(
    model: Any, prompt: Callable[[int], list[int]], tokens: tuple[int, ...] = TOKENS, effects: bool = True
) -> list[Record]:
    """Return `batch_launches` for prompts of several lengths, and with `effects` also `effects_launches`."""
    found = [batch_launches(model, prompt(n)) for n in tokens]
    return found + [effects_launches(model, prompt(n)) for n in tokens if effects]


def launches_grid(records: list[Record]) -> list[list[str]]:
    """Return the counts as rows of cells under a heading."""
    grid = [["pass", "tokens", "layers passed", "launches", "launches per layer", "most frequent"]]
    for record in records:
        names = ", ".join(f"{name} {n}" for name, n in list(record["by_name"].items())[:4])
        per_layer = f"{record['launches_per_layer']:.1f}"
        sizes = [str(record[name]) for name in ("tokens", "layers", "launches")]
        grid.append([record.get("of", "a batch of rows"), *sizes, per_layer, names])
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
    from .gpu_inputs import random_ids, tiny_model

    with tempfile.TemporaryDirectory() as folder, triton_by_default():
        model = tiny_model(Path(folder), "cuda" if torch.cuda.is_available() else "cpu")
        prompt = lambda n: random_ids(model, n)  # noqa: E731
        print(markdown(launches_grid(launches_by_tokens(model, prompt, tuple(args.tokens)))))


if __name__ == "__main__":
    main()
