"""The problems that `benchmarks.kernels` measures, with realistic shapes, and their candidate implementations.

python -m benchmarks.kernel_cases --task JSON --report FILE     memory of one call, in a separate process
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
from cotrace.kernels.decode.autograd import new_memory
from cotrace.kernels.encode import Active

from .measure import NOT_MEASURED, peak_bytes

UNSUPPORTED = "unsupported"
DENSE, BAG, SPARSIFY, PRODUCT, LOOP = "dense decode", "embedding_bag", "sparsify", "matrix product", "mm loop"
GRADIENT_MEMORY = "memory of the gradients"
READ, COPY, PEAK = "large read", "large copy", "large product"  # ceilings of the machine
ACTIVATIONS = ("JumpReLU", "ReLU", "TopK", "BatchTopK")
REFERENCE_MAX_ENTRIES = 1 << 28  # pre-activations; the reference does not sort larger problems
REFERENCE_MAX_VECTORS = 1 << 14  # source vectors; the reference computes them one by one
MODEL_LAYERS, ACTIVE_PER_LAYER = 18, 14  # of the sweep that edge rows are measured in; active features at each position
SEED = 0

Call = Callable[[], Any]


class Unavailable(NamedTuple):
    """The reason why a candidate is not timed."""

    status: str
    detail: str


Candidates = dict[str, Call | Unavailable]


@dataclass(frozen=True)
class KernelSizes:
    """The sizes of all cases on one kind of device."""

    width: int  # D
    decode: tuple[int, int, int, int]  # positions, features, active features of a position, layers of the CLT
    encode: tuple[tuple[int, int], ...]  # positions, features
    active_share: float
    targets: tuple[tuple[int, int], ...]  # positions, targets
    groups: tuple[int, ...]  # mean number of vectors per position
    layers: tuple[int, ...]
    layered: tuple[int, int, int, int]  # positions, width, features, active features of all layers together
    features: tuple[int, ...]
    active: tuple[int, ...]  # of each position
    memory_positions: tuple[int, ...]
    memory_layers: tuple[int, ...]
    product: int  # rows and columns of the square product that gives the machine's rate
    read_bytes: int
    flush_bytes: int  # larger than any cache


ON_CPU = KernelSizes(
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
QUICK = KernelSizes(
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


def sizes_of(device: str, quick: bool) -> KernelSizes:
    """Return the sizes of a run."""
    return QUICK if quick else FULL[device]


def implementations(device: str, solve: Callable[[str], Call], too_large: bool = False) -> Candidates:
    """Return the call of every backend, or the reason why there is none."""
    found: Candidates = {}
    for backend in backends.BACKENDS:
        if reason := obstacle(backend, device):
            found[backend] = Unavailable(UNSUPPORTED, reason)
        elif backend == "reference" and too_large:
            found[backend] = Unavailable(NOT_MEASURED, "too large for the reference")
        else:
            found[backend] = solve(backend)
    return found


def obstacle(backend: str, device: str) -> str | None:
    """Return why a backend cannot be timed, or None; times of Triton's interpreter would be meaningless."""
    if backend == "triton" and backends.interpreting():
        return "TRITON_INTERPRET=1 is set, and its interpreter is not timed"
    return backends.obstacle(backend, device)


def normal(*shape: int, device: str, seed: int = SEED) -> Tensor:
    """Return normal random numbers, the same in every run."""
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device)


class MachineLimits:
    """Calls that measure the limits of the machine: its memory bandwidth and matrix-product rate."""

    def __init__(self, sizes: KernelSizes, device: str):
        self.buffer = normal(sizes.read_bytes // 4, device=device)
        self.one, self.other = (normal(sizes.product, sizes.product, device=device, seed=seed) for seed in (0, 1))
        self.product = torch.empty_like(self.one)
        self.work = {READ: sizes.read_bytes, COPY: sizes.read_bytes, PEAK: 2 * sizes.product**3}

    def memory(self) -> Candidates:
        """Return calls that read, and that read and write, memory."""
        source, target = self.buffer.chunk(2)
        return {READ: self.buffer.sum, COPY: lambda: target.copy_(source)}

    def arithmetic(self) -> Candidates:
        """Return a call that multiplies two square matrices."""
        return {PEAK: lambda: torch.mm(self.one, self.other, out=self.product)}


class DecodeProblem:
    """Decode of one or more layers, with exactly `active` features at each position."""

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
        """Return the sizes of the problem; `active` counts features at each position of each layer."""
        counts = {"positions": self.n_positions, "features": self.n_features, "active": self.n_active}
        return counts | {"layers": self.n_layers, "width": self.width}

    @property
    def activations(self) -> list[Tensor]:
        """Return the activations of each layer."""
        return [features.activation_n for features in self.active]

    def read_bytes(self, distinct: bool = False) -> int:
        """Return the bytes of decoder rows that are read; with `distinct`, rows that positions share count once."""
        used = [len(f.feature_n.unique() if distinct else f.feature_n) for f in self.active]
        return sum(n * w[0].numel() * w.element_size() for n, w in zip(used, self.decoders, strict=True))

    def moved_bytes(self, mode: str, distinct: bool = False) -> int:
        """Return the bytes of a call: decoder rows and results; backward reads both again and writes gradients."""
        read, result = self.read_bytes(distinct), self.n_layers * self.n_positions * self.width * 4
        if mode == "forward":
            return read + result
        gradient = self.read_bytes(distinct=True) if mode == "sparse" else sum(4 * w.numel() for w in self.decoders)
        return 2 * (read + result) + gradient

    @cached_property
    def pairs(self) -> list[Tensor]:
        """Return the decoder (F, D) of each pair of source and target layer, contiguous."""
        return [w_FD.contiguous() for w in self.decoders for w_FD in w.unbind(1)]

    @cached_property
    def densified(self) -> list[Tensor]:
        """Return dense activations, (P, F) for each layer."""
        empty = [torch.zeros(self.n_positions, self.n_features, device=self.device) for _ in self.active]
        return [a_PF.index_put_((f[0], f[1]), f[2]) for a_PF, f in zip(empty, self.active, strict=True)]

    def decode(self, activations: Sequence[Tensor], decoders: Sequence[Tensor], **options: Any) -> Tensor:
        """Call cotrace's kernel."""
        active = [f._replace(activation_n=a) for f, a in zip(self.active, activations, strict=True)]
        return decode.decode(active, decoders, self.n_positions, **options)

    def dense(self, densified: Sequence[Tensor], pairs: Sequence[Tensor]) -> Tensor:
        """Decode with one matrix product for each pair of source and target layer."""
        y_LPD = list(torch.zeros(self.n_layers, self.n_positions, self.width, device=self.device))
        remaining = iter(pairs)
        for source, a_PF in enumerate(densified):
            for layer in range(source, self.n_layers):
                y_LPD[layer] = torch.addmm(y_LPD[layer], a_PF, next(remaining))
        return torch.stack(y_LPD)

    def bags(self, activations: Sequence[Tensor], matrices: Sequence[Tensor], sparse: bool) -> Tensor:
        """Decode with `torch.nn.functional.embedding_bag`: one bag per position, with all target layers concatenated."""
        start_P = torch.arange(self.n_positions, device=self.device) * self.n_active
        y_LPD: Any = 0
        for layer, (features, a_n, w_FK) in enumerate(zip(self.active, activations, matrices, strict=True)):
            bag_PK = embedding_bag(features.feature_n, w_FK, start_P, mode="sum", per_sample_weights=a_n, sparse=sparse)
            y_JPD = bag_PK.unflatten(1, (-1, self.width)).transpose(0, 1)
            y_LPD = y_LPD + torch.nn.functional.pad(y_JPD, (0, 0, 0, 0, layer, 0))
        return y_LPD

    def sparsify(self) -> Callable[..., Tensor]:
        """Return the Triton decoder of eai-sparsify, for one layer with the same number of features at each position."""
        from sparsify.utils import triton_decode

        feature_Pk = self.active[0].feature_n.view(self.n_positions, -1)
        return lambda activations, decoders: triton_decode(
            feature_Pk, activations[0].view_as(feature_Pk), decoders[0][:, 0].mT
        )

    def candidates(self, mode: str) -> Candidates:
        """Return all candidates for the mode `forward`, or `dense` or `sparse` gradients."""
        sparse = mode == "sparse"
        backward = (
            None if mode == "forward" else normal(self.n_layers, self.n_positions, self.width, device=self.device)
        )

        def kernel(backend: str) -> Call:
            solve = lambda *tensors: self.decode(*tensors, sparse_grad=sparse, backend=backend)  # noqa: E731
            return differentiated(solve, self.activations, self.decoders, backward)

        found = implementations(self.device, kernel)
        found[DENSE] = differentiated(self.dense, self.densified, self.pairs, backward)
        bags = lambda *tensors: self.bags(*tensors, sparse)  # noqa: E731
        matrices = [w_FJD.flatten(1) for w_FJD in self.decoders]  # sparse gradients of embedding_bag need matrices
        found[BAG] = differentiated(bags, self.activations, matrices, backward)
        if self.device == "cuda" and self.n_layers == 1 and not sparse:
            found[SPARSIFY] = self._sparsify(backward)
        return found

    def _sparsify(self, backward: Tensor | None) -> Call | Unavailable:
        try:
            return differentiated(self.sparsify(), self.activations, self.decoders, backward)
        except Exception as error:  # any of its many dependencies may be missing or fail
            return Unavailable(NOT_MEASURED, f"sparsify cannot be imported: {error}")


def differentiated(
    solve: Callable[..., Tensor], activations: Sequence[Tensor], decoders: Sequence[Tensor], backward: Tensor | None
) -> Call:
    """Return a call of `solve`, followed by its gradients if `backward` is given.

    The call returns the result, or the gradients of the decoders: those of the activations cannot be compared, since dense
    activations have gradients for inactive features too.
    """
    if backward is None:
        return torch.no_grad()(lambda: solve(activations, decoders))
    leaves = [[tensor.detach().requires_grad_() for tensor in tensors] for tensors in (activations, decoders)]

    def call() -> tuple[Tensor, ...]:
        y = solve(*leaves)
        return torch.autograd.grad(y, [*leaves[0], *leaves[1]], backward.view_as(y))[len(activations) :]

    return call


class EncodeProblem:
    """Encode of standard normal pre-activations, of which a share is active."""

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
        """Call cotrace's kernel."""
        options = {"b_enc_F": self.bias_F, "backend": backend} | self.options[activation]
        return encode.encode(self.x_PD, self.w_enc_DF, **options)

    def product(self) -> Call:
        """Return the matrix product of an encoder alone, into preallocated memory."""
        out_PF = torch.empty(len(self.x_PD), len(self.bias_F), device=self.device)
        return lambda: torch.mm(self.x_PD, self.w_enc_DF, out=out_PF)

    def candidates(self, activation: str) -> Candidates:
        """Return all backends."""
        too_large = len(self.x_PD) * len(self.bias_F) > REFERENCE_MAX_ENTRIES
        return implementations(self.device, lambda backend: lambda: self.encode(activation, backend), too_large)


class EdgeRowsProblem:
    """One layer of a sweep: gradients of the targets, source vectors at each position, and memory for the rows."""

    def __init__(self, positions: int, targets: int, group: int, width: int, device: str):
        self.device, self.n_targets = device, targets
        sizes_P = np.random.default_rng(SEED).poisson(group, positions)
        offsets = [0, *sizes_P.cumsum().tolist()]
        # The columns of a position are the features of all layers, so one layer's groups are this far apart.
        room_P = np.maximum(sizes_P, MODEL_LAYERS * ACTIVE_PER_LAYER).cumsum()
        vectors_ED = normal(offsets[-1], width, device=device)
        self.sources = edge_rows.SourceVectors(vectors_ED, offsets, [0, *room_P[:-1].tolist()])
        self.grad_QTD = normal(positions, targets, width, device=device, seed=1)
        self.vectors_KQD = normal(2, positions, width, device=device, seed=2)  # errors and constants
        self.n_columns = int(room_P[-1])

    @cached_property
    def weights_TC(self) -> Tensor:
        """Weights of all columns for each target, of the transpose."""
        return normal(self.n_targets, self.n_columns, device=self.device, seed=3)

    def take_vectors(self, rows_FD: Tensor) -> None:
        """Use random rows of a decoder (F, D) as source vectors."""
        generator = torch.Generator(self.device).manual_seed(SEED)
        vectors_ED = self.sources.vectors_ED
        chosen_E = torch.randint(len(rows_FD), (len(vectors_ED),), generator=generator, device=self.device)
        torch.index_select(rows_FD, 0, chosen_E, out=vectors_ED)

    @property
    def flops(self) -> int:
        """Return the operations: 2 D for each pair of target and source vector."""
        return 2 * self.n_targets * self.sources.vectors_ED.numel()

    @property
    def small(self) -> bool:
        """Return whether there is little work at each position."""
        return edge_rows.has_small_groups(self.sources, 0, len(self.grad_QTD), self.n_targets)

    @property
    def position_bytes(self) -> int:
        """Return the bytes that position rows read and write."""
        kinds, positions, _ = self.vectors_KQD.shape
        return 4 * (self.grad_QTD.numel() + self.vectors_KQD.numel() + kinds * positions * self.n_targets)

    def rows(self, backend: str | None = None) -> Call:
        """Return a call of cotrace's kernel that adds to rows and returns them."""
        rows_TC = torch.zeros(self.n_targets, self.n_columns, device=self.device)

        def call() -> Tensor:
            edge_rows.edge_rows(self.grad_QTD, 0, self.sources, rows_TC, backend=backend)
            return rows_TC

        return call

    def candidates(self) -> Candidates:
        """Return all backends, and plain matrix products of the same operands."""
        vectors_GnD = self.sources.vectors_ED.split(self.sources.sizes)
        operands = [(grad_TD, vectors_nD.T) for grad_TD, vectors_nD in zip(self.grad_QTD, vectors_GnD, strict=True)]
        too_large = len(self.sources.vectors_ED) > REFERENCE_MAX_VECTORS
        return implementations(self.device, self.rows, too_large) | {LOOP: products(operands)}

    def sums(self, backend: str | None = None) -> Call:
        """Return a call of the transpose, that adds to gradients and returns them."""
        grad_QTD = torch.zeros_like(self.grad_QTD)

        def call() -> Tensor:
            edge_rows.add_source_vectors(self.weights_TC, 0, self.sources, grad_QTD, backend=backend)
            return grad_QTD

        return call

    def sum_candidates(self) -> Candidates:
        """Return the candidates for weighted sums of source vectors."""
        groups = zip(self.sources.columns, self.sources.sizes, strict=True)
        weights = [self.weights_TC[:, column : column + size] for column, size in groups]
        operands = zip(weights, self.sources.vectors_ED.split(self.sources.sizes), strict=True)
        too_large = len(self.sources.vectors_ED) > REFERENCE_MAX_VECTORS
        return implementations(self.device, self.sums, too_large) | {LOOP: products(operands)}

    def position_candidates(self) -> Candidates:
        """Return the candidates for position rows."""
        vectors_QDK = self.vectors_KQD.permute(1, 2, 0)
        kernel = lambda backend: lambda: edge_rows.position_rows(self.grad_QTD, self.vectors_KQD, backend=backend)  # noqa: E731
        return implementations(self.device, kernel) | {LOOP: products(zip(self.grad_QTD, vectors_QDK, strict=True))}


def products(operands: Any) -> Call:
    """Return a loop of torch.mm over pairs of matrices, into preallocated memory."""
    ready = [(one, other, one.new_empty(len(one), other.shape[1])) for one, other in operands]

    def call() -> list[Tensor]:
        for one, other, out in ready:
            torch.mm(one, other, out=out)
        return [out for *_, out in ready]

    return call


class CrossLayerProblem:
    """A cross-layer transcoder of any depth, with the same total number of active features at every depth."""

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
        self.decoding = DecodeProblem((self.n_positions, features, 1, layers), width, device)
        self.decoding.active = self.encode()

    def encode(self) -> list[Active]:
        """Return the active features of every layer."""
        layers = zip(self.x_LPD, self.w_enc, self.threshold_LF, strict=True)
        return [encode.encode(x_PD, w_DF, self.b_enc_F, threshold_F=t_F) for x_PD, w_DF, t_F in layers]

    def candidates(self) -> Candidates:
        """Return encode and decode with the default backends, and the dense form."""
        d = self.decoding
        kernel = lambda *tensors: d.decode(*tensors, sparse_grad=True)  # noqa: E731
        backward = normal(len(d.active), self.n_positions, d.width, device=d.device)
        return {
            "decode": differentiated(kernel, d.activations, d.decoders, None),
            "decode, forward and backward": differentiated(kernel, d.activations, d.decoders, backward),
            GRADIENT_MEMORY: self.gradient_memory,
            "encode": self.encode,
            "encode and decode": lambda: decode.decode(self.encode(), d.decoders, self.n_positions),
            DENSE: differentiated(d.dense, d.densified, d.pairs, None),
        }

    def gradient_memory(self) -> list[Tensor]:
        """Fill new memory of the size of the decoders' gradients, which no backward pass can do without."""
        d = self.decoding
        shapes = [(len(f.feature_n.unique()), *w.shape[1:]) for f, w in zip(d.active, d.decoders, strict=True)]
        return [new_memory(shape, w).fill_(1) for shape, w in zip(shapes, d.decoders, strict=True)]


def _above(z_PF: Tensor, n: int) -> float:
    """Return a threshold that n entries exceed, half-way to the next entry."""
    largest = z_PF.flatten().topk(n + 1).values
    return float(largest[-2:].mean())


def extent(result: Any) -> float:
    """Return the norm of all numbers of a result, which is equal for all candidates of a problem."""
    if isinstance(result, Active):
        return extent(result.activation_n)
    if isinstance(result, Tensor):
        return float((result.coalesce().values() if result.is_sparse else result).norm())
    return math.hypot(*map(extent, result))


def result_bytes(result: Any) -> int:
    """Return the bytes of a result."""
    if isinstance(result, Tensor):
        parts = [result._indices(), result._values()] if result.is_sparse else [result]
        return sum(part.numel() * part.element_size() for part in parts)
    return sum(map(result_bytes, result))


def memory_task(task: dict[str, Any], tiny: bool = False) -> Call:
    """Return the call of a task: `encode` or `decode`, with cotrace's default backend or in the dense form."""
    dense, device = task["form"] == "dense", task["device"]
    if task["operation"] == "encode":
        sizes = (8, 64, 16, 0.1) if tiny else (task["positions"], task["features"], task["width"], task["share"])
        problem = EncodeProblem(*sizes, device)
        return lambda: problem.encode("JumpReLU", "reference" if dense else None)
    positions, width, features, total = (4, 16, 64, 16) if tiny else task["sizes"]
    layers = 2 if tiny else task["layers"]
    decoding = DecodeProblem((positions, features, max(1, total // (positions * layers)), layers), width, device)
    inputs = (decoding.densified, decoding.pairs) if dense else (decoding.activations, decoding.decoders)
    if dense:
        decoding.decoders = []  # `pairs` are copies
    solve = decoding.dense if dense else lambda *tensors: decoding.decode(*tensors, sparse_grad=True)
    return differentiated(solve, *inputs, normal(layers, positions, width, device=device))


def memory_of(call: Call, device: str) -> dict[str, int]:
    """Return the growth of memory during a call, and the size of its result."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before, peak_of = torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before, peak_of = psutil.Process().memory_info().rss, _peak
    result = call()
    return {"growth_bytes": max(0, peak_of() - before), "result_bytes": result_bytes(result)}


def _peak() -> int:
    """Return the largest resident memory; on Linux without that of the parent at the fork, which getrusage includes."""
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
    memory_task(args.task, tiny=True)()  # loads libraries, starts threads and compiles before the call
    args.report.write_text(json.dumps(memory_of(call, args.task["device"])))


if __name__ == "__main__":
    main()
