"""What `benchmarks.kernels` measures: problems of real shapes, and everything that solves them.

python -m benchmarks.kernel_cases --task JSON --report FILE     memory of one call, in a process of its own
"""

import argparse
import json
import math
import resource
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from cotrace.kernels import backends, decode, edge_rows, encode
from cotrace.kernels.encode import Active

from .measure import NOT_MEASURED, peak_bytes

UNSUPPORTED = "unsupported"
DENSE, BAG, SPARSIFY, PRODUCT, LOOP = "dense decode", "embedding_bag", "sparsify", "matrix product", "mm loop"
READ, COPY, PEAK = "large read", "large copy", "large product"  # ceilings of the machine
ACTIVATIONS = ("JumpReLU", "ReLU", "TopK", "BatchTopK")
REFERENCE_ENTRIES = 1 << 28  # of pre-activations: larger ones are not sorted for the reference
REFERENCE_DOTS = 1 << 14  # of the reference's edge rows, which makes one after the other
MODEL_LAYERS, PER_LAYER = 18, 14  # of the sweep that edge rows are measured in; active features at each position
SEED = 0

Call = Callable[[], Any]


class Absent(NamedTuple):
    """Why something is not timed."""

    status: str
    detail: str


Contestants = dict[str, Call | Absent]


@dataclass(frozen=True)
class Sizes:
    """Sizes of all cases on one kind of device."""

    width: int  # D
    decode: tuple[int, int, int, int]  # positions, features, active features of a position, layers of the CLT
    encode: tuple[tuple[int, int], ...]  # positions, features
    active_share: float
    targets: tuple[tuple[int, int], ...]  # positions, targets
    groups: tuple[int, ...]  # mean vectors of a position
    layers: tuple[int, ...]
    layered: tuple[int, int, int, int]  # positions, width, features, active features of all layers together
    features: tuple[int, ...]
    active: tuple[int, ...]  # of each position
    memory_positions: tuple[int, ...]
    memory_layers: tuple[int, ...]
    product: int  # rows and columns of the square product that gives the machine's rate
    read_bytes: int
    flush_bytes: int  # larger than any cache


ON_CPU = Sizes(
    width=640,
    decode=(256, 16384, 33, 6),
    encode=((4096, 16384), (256, 262144)),
    active_share=0.002,
    targets=((16, 128), (64, 32), (512, 32)),
    groups=(14, 130, 250),
    layers=(6, 12, 18, 26, 34, 48, 62),
    layered=(64, 256, 1024, 16384),
    features=(4096, 8192, 16384, 32768, 65536, 131072, 262144),
    active=(4, 16, 64, 256, 1024),
    memory_positions=(256, 1024, 4096, 16384),
    memory_layers=(6, 18, 34, 62),
    product=2048,
    read_bytes=1 << 30,
    flush_bytes=1 << 29,
)
FULL = {
    "cpu": ON_CPU,
    "cuda": replace(
        ON_CPU,
        decode=(4096, 131072, 33, 6),
        encode=((16384, 16384), (4096, 262144)),
        targets=((16, 2048), (64, 512), (512, 64)),
        layered=(1024, 256, 1024, 262144),
        product=8192,
        read_bytes=1 << 32,
    ),
}
QUICK = Sizes(
    width=64,
    decode=(32, 2048, 8, 3),
    encode=((128, 1024), (16, 8192)),
    active_share=0.01,
    targets=((8, 16), (32, 8)),
    groups=(14, 130),
    layers=(2, 4, 6, 8),
    layered=(16, 64, 256, 1024),
    features=(1024, 2048, 4096),
    active=(2, 8, 32),
    memory_positions=(64, 256),
    memory_layers=(2, 6),
    product=512,
    read_bytes=1 << 27,
    flush_bytes=1 << 25,
)


def sizes_of(device: str, quick: bool) -> Sizes:
    """The sizes of a run."""
    return QUICK if quick else FULL[device]


def implementations(device: str, solve: Callable[[str], Call], too_large: bool = False) -> Contestants:
    """Every backend's call, or why there is none."""
    found: Contestants = {}
    for backend in backends.BACKENDS:
        if reason := obstacle(backend, device):
            found[backend] = Absent(UNSUPPORTED, reason)
        elif backend == "reference" and too_large:
            found[backend] = Absent(NOT_MEASURED, "too large for the reference")
        else:
            found[backend] = solve(backend)
    return found


def obstacle(backend: str, device: str) -> str | None:
    """Why a backend cannot be timed; Triton's interpreter computes, but its time says nothing."""
    if backend == "triton" and backends.interpreting():
        return "TRITON_INTERPRET=1 is set, and its interpreter is not timed"
    return backends.obstacle(backend, device)


def normal(*shape: int, device: str, seed: int = SEED) -> Tensor:
    """Random numbers, the same in every run."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device)


class Ceilings:
    """What the machine can do: reading and copying more than its caches hold, and one large product."""

    def __init__(self, sizes: Sizes, device: str):
        self.buffer = normal(sizes.read_bytes // 4, device=device)
        self.one, self.other = (normal(sizes.product, sizes.product, device=device, seed=seed) for seed in (0, 1))
        self.product = torch.empty_like(self.one)
        self.work = {READ: sizes.read_bytes, COPY: sizes.read_bytes, PEAK: 2 * sizes.product**3}

    def memory(self) -> Contestants:
        """Bytes read, or read and written."""
        source, target = self.buffer.chunk(2)
        return {READ: self.buffer.sum, COPY: lambda: target.copy_(source)}

    def arithmetic(self) -> Contestants:
        """Multiply-adds of two square matrices."""
        return {PEAK: lambda: torch.mm(self.one, self.other, out=self.product)}


class Decoding:
    """Features that are active in some layers, exactly `active` at each position, and their decoders."""

    def __init__(self, sizes: tuple[int, int, int, int], width: int, device: str):
        self.n_positions, self.n_features, self.n_active, self.n_layers = sizes
        self.width, self.device = width, device
        self.active = [self._active(layer) for layer in range(self.n_layers)]
        self.decoders = [
            normal(self.n_features, self.n_layers - layer, width, device=device, seed=layer)
            for layer in range(self.n_layers)
        ]

    def _active(self, layer: int) -> Active:
        generator = torch.Generator(self.device).manual_seed(layer)
        random_PF = torch.rand(self.n_positions, self.n_features, generator=generator, device=self.device)
        feature_n = random_PF.topk(self.n_active, sorted=False).indices.sort().values.flatten()
        position_n = torch.arange(self.n_positions, device=self.device).repeat_interleave(self.n_active)
        activation_n = torch.rand(len(feature_n), generator=generator, device=self.device) + 0.5
        return Active(position_n, feature_n, activation_n, activation_n)

    @property
    def sizes(self) -> dict[str, int]:
        """What the problem is made of; `active` features at each position of each layer."""
        counts = {"positions": self.n_positions, "features": self.n_features, "active": self.n_active}
        return counts | {"layers": self.n_layers, "width": self.width}

    @property
    def activations(self) -> list[Tensor]:
        """Activations of each layer."""
        return [features.activation_n for features in self.active]

    def read_bytes(self, distinct: bool = False) -> int:
        """Bytes of decoder rows that are read; those that several positions use counted once or each time."""
        used = [len(f.feature_n.unique() if distinct else f.feature_n) for f in self.active]
        return sum(n * w[0].numel() * w.element_size() for n, w in zip(used, self.decoders, strict=True))

    def moved_bytes(self, mode: str, distinct: bool = False) -> int:
        """Decoder rows that are read and results that are written; backward reads both again and writes gradients."""
        read, result = self.read_bytes(distinct), self.n_layers * self.n_positions * self.width * 4
        if mode == "forward":
            return read + result
        gradient = self.read_bytes(distinct=True) if mode == "sparse" else sum(4 * w.numel() for w in self.decoders)
        return 2 * (read + result) + gradient

    @cached_property
    def pairs(self) -> list[Tensor]:
        """The decoders of each source layer and layer written to, consecutive in memory: (F, D) each."""
        return [w_FD.contiguous() for w in self.decoders for w_FD in w.unbind(1)]

    @cached_property
    def densified(self) -> list[Tensor]:
        """Activations with all their zeros, (P, F) a layer."""
        empty = [torch.zeros(self.n_positions, self.n_features, device=self.device) for _ in self.active]
        return [a_PF.index_put_((f[0], f[1]), f[2]) for a_PF, f in zip(empty, self.active, strict=True)]

    def decode(self, activations: Sequence[Tensor], decoders: Sequence[Tensor], **options: Any) -> Tensor:
        """Ours."""
        active = [f._replace(activation_n=a) for f, a in zip(self.active, activations, strict=True)]
        return decode.decode(active, decoders, self.n_positions, **options)

    def dense(self, densified: Sequence[Tensor], pairs: Sequence[Tensor]) -> Tensor:
        """One matrix product for each source layer and layer that it writes to."""
        y_LPD = list(torch.zeros(self.n_layers, self.n_positions, self.width, device=self.device))
        remaining = iter(pairs)
        for source, a_PF in enumerate(densified):
            for layer in range(source, self.n_layers):
                y_LPD[layer] = torch.addmm(y_LPD[layer], a_PF, next(remaining))
        return torch.stack(y_LPD)

    def bags(self, activations: Sequence[Tensor], matrices: Sequence[Tensor], sparse: bool) -> Tensor:
        """torch's embedding bags called directly: one bag a position, all layers written to side by side."""
        start_P = torch.arange(self.n_positions, device=self.device) * self.n_active
        y_LPD: Any = 0
        for layer, (features, a_n, w_FK) in enumerate(zip(self.active, activations, matrices, strict=True)):
            bag_PK = embedding_bag(features.feature_n, w_FK, start_P, mode="sum", per_sample_weights=a_n, sparse=sparse)
            y_JPD = bag_PK.unflatten(1, (-1, self.width)).transpose(0, 1)
            y_LPD = y_LPD + torch.nn.functional.pad(y_JPD, (0, 0, 0, 0, layer, 0))
        return y_LPD

    def sparsify(self) -> Callable[..., Tensor]:
        """The Triton decoder of eai-sparsify, for one layer with equally many features at each position."""
        from sparsify.utils import triton_decode

        feature_Pk = self.active[0].feature_n.view(self.n_positions, -1)
        return lambda activations, decoders: triton_decode(
            feature_Pk, activations[0].view_as(feature_Pk), decoders[0][:, 0].mT
        )

    def contestants(self, mode: str) -> Contestants:
        """Everything that decodes forward, or also backward with gradients that are `dense` or `sparse`."""
        sparse = mode == "sparse"
        backward = (
            None if mode == "forward" else normal(self.n_layers, self.n_positions, self.width, device=self.device)
        )

        def ours(backend: str) -> Call:
            solve = lambda *tensors: self.decode(*tensors, sparse_grad=sparse, backend=backend)  # noqa: E731
            return differentiated(solve, self.activations, self.decoders, backward)

        found = implementations(self.device, ours)
        found[DENSE] = differentiated(self.dense, self.densified, self.pairs, backward)
        bags = lambda *tensors: self.bags(*tensors, sparse)  # noqa: E731
        matrices = [w_FJD.flatten(1) for w_FJD in self.decoders]  # whose sparse gradients have no other shape
        found[BAG] = differentiated(bags, self.activations, matrices, backward)
        if self.device == "cuda" and self.n_layers == 1 and not sparse:
            found[SPARSIFY] = self._sparsify(backward)
        return found

    def _sparsify(self, backward: Tensor | None) -> Call | Absent:
        try:
            return differentiated(self.sparsify(), self.activations, self.decoders, backward)
        except Exception as error:  # it brings many packages, any of which may be missing or fail
            return Absent(NOT_MEASURED, f"sparsify cannot be imported: {error}")


def differentiated(
    solve: Callable[..., Tensor], activations: Sequence[Tensor], decoders: Sequence[Tensor], backward: Tensor | None
) -> Call:
    """A call of `solve`, with the gradients of both inputs if there is one to carry backward.

    It returns the result or, so that all can be compared, the decoders' gradients: those of densified
    activations have entries that ours have no need of.
    """
    if backward is None:
        return torch.no_grad()(lambda: solve(activations, decoders))
    leaves = [[tensor.detach().requires_grad_() for tensor in tensors] for tensors in (activations, decoders)]

    def call() -> tuple[Tensor, ...]:
        y = solve(*leaves)
        return torch.autograd.grad(y, [*leaves[0], *leaves[1]], backward.view_as(y))[len(activations) :]

    return call


class Encoding:
    """Standard normal pre-activations, of which a share is active."""

    def __init__(self, positions: int, features: int, width: int, share: float, device: str):
        self.device, self.n_active = device, max(1, round(share * features))
        self.x_PD = normal(positions, width, device=device)
        self.w_enc_DF = normal(width, features, device=device, seed=1).div_(math.sqrt(width))
        level = NormalDist().inv_cdf(1 - self.n_active / features)
        self.bias_F = torch.zeros(features, device=device)
        self.options = {
            "JumpReLU": {"threshold_F": torch.full_like(self.bias_F, level)},
            "ReLU": {"b_enc_F": torch.full_like(self.bias_F, -level)},
            "TopK": {"k": self.n_active},
            "BatchTopK": {"batch_k": self.n_active},
        }

    def encode(self, activation: str, backend: str | None = None) -> Active:
        """Ours."""
        options = {"b_enc_F": self.bias_F, "backend": backend} | self.options[activation]
        return encode.encode(self.x_PD, self.w_enc_DF, **options)

    def product(self) -> Call:
        """The matrix product that every encoder contains, into memory that is already there."""
        out_PF = torch.empty(len(self.x_PD), len(self.bias_F), device=self.device)
        return lambda: torch.mm(self.x_PD, self.w_enc_DF, out=out_PF)

    def contestants(self, activation: str) -> Contestants:
        """All backends."""
        too_large = len(self.x_PD) * len(self.bias_F) > REFERENCE_ENTRIES
        return implementations(self.device, lambda backend: lambda: self.encode(activation, backend), too_large)


class EdgeRows:
    """One layer of a sweep: targets' gradients, what was written there at each position, and room for the rows."""

    def __init__(self, positions: int, targets: int, group: int, width: int, device: str):
        self.device, self.n_targets = device, targets
        sizes_P = np.random.default_rng(SEED).poisson(group, positions)
        offsets = [0, *sizes_P.cumsum().tolist()]
        # A position's columns hold the features of all layers; one layer's groups stand that far apart.
        room_P = np.maximum(sizes_P, MODEL_LAYERS * PER_LAYER).cumsum()
        vectors_ED = normal(offsets[-1], width, device=device)
        self.written = edge_rows.SourceVectors(vectors_ED, offsets, [0, *room_P[:-1].tolist()])
        self.grad_QTD = normal(positions, targets, width, device=device, seed=1)
        self.vectors_KQD = normal(2, positions, width, device=device, seed=2)  # errors and constants
        self.n_columns = int(room_P[-1])

    def take_vectors(self, rows_FD: Tensor) -> None:
        """Vectors that are random rows of a decoder."""
        generator = torch.Generator(self.device).manual_seed(SEED)
        vectors_ED = self.written.vectors_ED
        chosen_E = torch.randint(len(rows_FD), (len(vectors_ED),), generator=generator, device=self.device)
        torch.index_select(rows_FD, 0, chosen_E, out=vectors_ED)

    @property
    def flops(self) -> int:
        """Two for each number of a target's gradient and vector at its position."""
        return 2 * self.n_targets * self.written.vectors_ED.numel()

    @property
    def small(self) -> bool:
        """Whether there is little work at each position."""
        return edge_rows.has_small_groups(self.written, 0, len(self.grad_QTD), self.n_targets)

    @property
    def position_bytes(self) -> int:
        """What position rows have to read and write."""
        kinds, positions, _ = self.vectors_KQD.shape
        return 4 * (self.grad_QTD.numel() + self.vectors_KQD.numel() + kinds * positions * self.n_targets)

    def rows(self, backend: str | None = None) -> Call:
        """Ours, added to rows of its own; they are what it returns."""
        rows_TC = torch.zeros(self.n_targets, self.n_columns, device=self.device)

        def call() -> Tensor:
            edge_rows.edge_rows(self.grad_QTD, 0, self.written, rows_TC, backend=backend)
            return rows_TC

        return call

    def contestants(self) -> Contestants:
        """All backends, and plain products of the same operands."""
        vectors_GnD = self.written.vectors_ED.split(self.written.sizes)
        operands = [(grad_TD, vectors_nD.T) for grad_TD, vectors_nD in zip(self.grad_QTD, vectors_GnD, strict=True)]
        too_large = len(self.written.vectors_ED) > REFERENCE_DOTS
        return implementations(self.device, self.rows, too_large) | {LOOP: products(operands)}

    def position_contestants(self) -> Contestants:
        """The same for position rows."""
        vectors_QDK = self.vectors_KQD.permute(1, 2, 0)
        ours = lambda backend: lambda: edge_rows.position_rows(self.grad_QTD, self.vectors_KQD, backend=backend)  # noqa: E731
        return implementations(self.device, ours) | {LOOP: products(zip(self.grad_QTD, vectors_QDK, strict=True))}


def products(operands: Any) -> Call:
    """A loop of torch.mm over pairs of matrices, into consecutive memory that is already there."""
    ready = [(one, other, one.new_empty(len(one), other.shape[1])) for one, other in operands]

    def call() -> list[Tensor]:
        for one, other, out in ready:
            torch.mm(one, other, out=out)
        return [out for *_, out in ready]

    return call


class Layered:
    """A cross-layer transcoder of any depth, with as many active features in all layers together, whatever its depth."""

    def __init__(self, layers: int, sizes: tuple[int, int, int, int], device: str):
        self.n_positions, width, features, total = sizes
        self.x_LPD = normal(layers, self.n_positions, width, device=device)
        self.w_enc = [normal(width, features, device=device, seed=layer) for layer in range(layers)]
        self.b_enc_F = torch.zeros(features, device=device)
        bounds = [total * layer // layers for layer in range(layers + 1)]
        wanted = [stop - start for start, stop in pairwise(bounds)]
        self.threshold_LF = [
            torch.full_like(self.b_enc_F, _above(x_PD @ w_DF, n))
            for x_PD, w_DF, n in zip(self.x_LPD, self.w_enc, wanted, strict=True)
        ]
        self.decoding = Decoding((self.n_positions, features, 1, layers), width, device)
        self.decoding.active = self.encode()

    def encode(self) -> list[Active]:
        """Active features of every layer."""
        layers = zip(self.x_LPD, self.w_enc, self.threshold_LF, strict=True)
        return [encode.encode(x_PD, w_DF, self.b_enc_F, threshold_F=t_F) for x_PD, w_DF, t_F in layers]

    def contestants(self) -> Contestants:
        """Our default backends on parts of the whole, and the dense form."""
        d = self.decoding
        ours = lambda *tensors: d.decode(*tensors, sparse_grad=True)  # noqa: E731
        backward = normal(len(d.active), self.n_positions, d.width, device=d.device)
        return {
            "decode": differentiated(ours, d.activations, d.decoders, None),
            "decode, forward and backward": differentiated(ours, d.activations, d.decoders, backward),
            "encode": self.encode,
            "encode and decode": lambda: decode.decode(self.encode(), d.decoders, self.n_positions),
            DENSE: differentiated(d.dense, d.densified, d.pairs, None),
        }


def _above(z_PF: Tensor, n: int) -> float:
    """A threshold that `n` entries exceed, half-way to the next one."""
    largest = z_PF.flatten().topk(n + 1).values
    return float(largest[-2:].mean())


def extent(result: Any) -> float:
    """The norm of all numbers of a result, whatever its form: what solves the same problem has the same."""
    if isinstance(result, Active):
        return extent(result.activation_n)
    if isinstance(result, Tensor):
        return float((result.coalesce().values() if result.is_sparse else result).norm())
    return math.hypot(*map(extent, result))


def occupied(result: Any) -> int:
    """Bytes of a result."""
    if isinstance(result, Tensor):
        parts = [result._indices(), result._values()] if result.is_sparse else [result]
        return sum(part.numel() * part.element_size() for part in parts)
    return sum(map(occupied, result))


def memory_task(task: dict[str, Any], tiny: bool = False) -> Call:
    """The call that a task describes: `encode` or `decode`, in our default or the dense form."""
    dense, device = task["form"] == "dense", task["device"]
    if task["operation"] == "encode":
        sizes = (8, 64, 16, 0.1) if tiny else (task["positions"], task["features"], task["width"], task["share"])
        problem = Encoding(*sizes, device)
        return lambda: problem.encode("JumpReLU", "reference" if dense else None)
    positions, width, features, total = (4, 16, 64, 16) if tiny else task["sizes"]
    layers = 2 if tiny else task["layers"]
    decoding = Decoding((positions, features, max(1, total // (positions * layers)), layers), width, device)
    inputs = (decoding.densified, decoding.pairs) if dense else (decoding.activations, decoding.decoders)
    if dense:
        decoding.decoders = []  # the products have copies of their own
    solve = decoding.dense if dense else lambda *tensors: decoding.decode(*tensors, sparse_grad=True)
    return differentiated(solve, *inputs, normal(layers, positions, width, device=device))


def memory_of(call: Call, device: str) -> dict[str, int]:
    """How much larger memory was during a call than before it, and what of that is its result."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before, peak_of = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak is that of the call, not of what led to it
        before, peak_of = psutil.Process().memory_info().rss, _peak
    result = call()
    return {"growth_bytes": max(0, peak_of() - before), "result_bytes": occupied(result)}


def _peak() -> int:
    """This process's largest resident memory; on Linux without its parent's at the fork, which getrusage includes."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return peak_bytes(resource.getrusage(resource.RUSAGE_SELF))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", type=json.loads, required=True)
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args()
    call = memory_task(args.task)
    memory_task(args.task, tiny=True)()  # libraries, threads and compiled code are there before the call
    args.report.write_text(json.dumps(memory_of(call, args.task["device"])))


if __name__ == "__main__":
    main()
