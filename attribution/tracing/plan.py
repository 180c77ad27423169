"""Estimate the memory, disk space and time of a trace before its expensive part, and fit it into memory."""

from dataclasses import dataclass, replace
from functools import cached_property

import psutil
import torch

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.memory import check_disk_space, check_forward_memory, check_memory, free_memory
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.errors import ResourceError
from cotrace.common.progress import Progress
from cotrace.common.sizes import size_text
from cotrace.kernels.workers import n_workers

from .activations import PromptActivations
from .batches import BatchSize, fastest_batch
from .config import RowBudget
from .decoder_vectors import CHUNK_BYTES
from .flops import SweepShape, count_vectors, matmul_flops_per_second, row_flops
from .targets import TargetRequest

DECODER_MEMORY_SHARE = 0.25  # of the free memory; decoders that need more go to a file
# A trace whose vectors are computed again for every batch takes a fifth longer on a CPU, but longer prompts need more than a
# laptop has; a GPU's memory is mostly free.
MAX_STORED_VECTORS_BYTES = {"cpu": 2**31, "cuda": 2**34}
SAMPLED_NODE_BYTES = 512  # of a node whose influence up to 16 replicates estimate, with draws and copies
NODE_BYTES = 200  # the columns of one node; pruning marks each edge with one more byte
VECTOR_INDEX_BYTES = 64  # a vector's entry in its layer's index, and the sort that builds it
BLOCK_COPIES = 5  # of a batch's rows: as computed, in node order, as shares of influence, as edges for the file
SWEEP_EFFICIENCY = 0.55  # share of the rate of a large matrix product that the sweep reaches (docs/benchmarks.md)
OVERHEAD_BYTES = 2**28  # compiled code, threads, buffers of libraries


@dataclass(frozen=True)
class SamplingForecast:
    """The rows, time and error of a trace that draws rows, as a pilot of few rows predicts them.

    Attributes:
        pilot_rows: rows of the pilot.
        rows: rows that the trace draws, about.
        seconds: time for these rows.
        standard_error: largest standard error of a share of `Graph.shares`, about.
    """

    pilot_rows: int
    rows: int
    seconds: float
    standard_error: float


@dataclass(frozen=True)
class TracePlan:
    """Estimate of the resources of one trace, from its active features. `print(plan)` shows it as a table.

    Memory is that of the device that computes. `rows`, `edges`, `disk_bytes` and `flops` are upper bounds: those of all
    rows that `max_features` allows.

    Attributes:
        tokens: tokens of the prompt.
        features: active features.
        nodes: nodes of the graph.
        rows: rows to compute, those of targets included.
        edges: edges of these rows.
        batch_size: how many rows are computed together, and whether decoder vectors are stored.
        loaded_bytes: memory in use before the trace, mostly the model.
        replacement_bytes: memory for the local replacement model, which is needed for the whole trace.
        batch_bytes: memory for the batches of rows that are computed side by side.
        assembly_bytes: memory for the node table and pruning, of the host; it is needed after the last batch.
        disk_bytes: temporary files, as large as the unpruned graph.
        decoders_on_disk: whether the decoders of active features are in a temporary file.
        flops: floating-point operations for the rows.
        device: where they are computed.
        effects_bytes: memory for the backward passes of effects, before the first row.
        effect_columns: targets of one backward pass of effects; 0 if effects are not computed.
        forecast: what a pilot predicts for rows drawn at random; None for other traces.
    """

    tokens: int
    features: int
    nodes: int
    rows: int
    edges: int
    batch_size: BatchSize
    loaded_bytes: int
    replacement_bytes: int
    batch_bytes: int
    assembly_bytes: int
    disk_bytes: int
    decoders_on_disk: bool
    flops: float
    device: torch.device
    effects_bytes: int = 0
    effect_columns: int = 0
    forecast: SamplingForecast | None = None

    def __repr__(self) -> str:
        sizes = f"{size_text(self.memory_bytes)} of memory, {size_text(self.disk_bytes)} of disk"
        return f"<TracePlan: {self.tokens:,} tokens, at most {self.rows:,} rows and {self.edges:,} edges, {sizes}>"

    def __str__(self) -> str:
        width = max(map(len, self.table()))
        return "\n".join(f"{name:<{width}}  {text}" for name, text in self.table().items())

    def table(self) -> dict[str, str]:
        """Return the estimate as text, by name: prompt, rows, memory, disk, time, batches.

        The time is based on the rate of a matrix product, measured once (about a second).
        """
        batches = f"{self.batch_targets:,} targets each at the last position"
        if not self.keep_vectors:
            batches += "; decoder vectors are recomputed for each batch"
        rows = {
            "prompt": f"{self.tokens:,} tokens, {self.features:,} active features, at most {self.nodes:,} nodes",
            "rows": f"at most {self.rows:,}, with at most {self.edges:,} edges",
            "memory": f"{size_text(self.memory_bytes)}, of which {size_text(self.loaded_bytes)} are in use already",
            "disk": f"at most {size_text(self.disk_bytes)} of temporary files, the size of the unpruned graph",
            "time": f"about {self.seconds:,.0f} s for these rows, by this machine's rate of matrix products",
            "batches": batches,
        }
        if self.decoders_on_disk:
            rows["decoders"] = "in a temporary file"
        if self.forecast is not None:
            found = self.forecast
            rows["rows"] = f"about {found.rows:,} drawn at random, {rows['rows']} in all"
            rows["time"] = f"about {found.seconds:,.0f} s for these rows, by a pilot of {found.pilot_rows:,}"
            rows["standard error"] = f"about {found.standard_error:.2g} for the share of a span of the prompt"
        return rows

    @property
    def keep_vectors(self) -> bool:
        """True if decoder vectors are stored, False if they are recomputed for every batch."""
        return self.batch_size.keep_vectors

    @property
    def batch_targets(self) -> int:
        """Number of targets of a batch at the last position."""
        return self.batch_size.requested or self.batch_size.max_gradients // self.tokens

    @property
    def memory_bytes(self) -> int:
        """Peak memory of the process (on a GPU: of the device; graphs are assembled in the memory of the host)."""
        assembly_bytes = 0 if self.on_gpu else self.assembly_bytes
        return (
            self.loaded_bytes
            + self.replacement_bytes
            + max(self.batch_bytes, assembly_bytes, self.effects_bytes)
            + OVERHEAD_BYTES
        )

    @property
    def on_gpu(self) -> bool:
        """True if rows are computed on a GPU."""
        return self.device.type != "cpu"

    @cached_property
    def seconds(self) -> float:
        """Time for all rows, by the rate of a matrix product, which is measured at the first use."""
        return self.flops / (SWEEP_EFFICIENCY * matmul_flops_per_second(self.device))


def make_plan(
    activations: PromptActivations,
    request: TargetRequest | None,
    row_budget: RowBudget,
    batch_size: int | None,
    max_bytes: int,
) -> TracePlan:
    """Return the plan of a trace whose peak memory is at most `max_bytes`.

    If the fastest plan does not fit, decoder vectors are recomputed instead of stored, then batches are made smaller.
    Raises ResourceError if no plan fits, or if the temporary folder is too small.
    """
    target_rows, target_features = (0, 0) if request is None else (request.max_rows, request.n_features)
    plan = _fastest_plan(activations, target_rows, target_features, row_budget, batch_size)
    while plan.memory_bytes > max_bytes:
        if plan.keep_vectors:
            plan = recomputing(plan, activations)
        elif plan.batch_targets > 1 and not batch_size:
            smaller = plan.batch_size._replace(max_gradients=plan.batch_size.max_gradients // 2)
            plan = replace(plan, batch_size=smaller)
            plan = replace(plan, batch_bytes=_batch_bytes(activations, plan.batch_targets, plan.nodes))
        else:
            raise ResourceError(
                f"this trace needs about {size_text(plan.memory_bytes)} of memory and {size_text(max_bytes)} are allowed "
                f"or free; {_cure(plan, target_rows, batch_size, max_bytes)}"
            )
    if plan.on_gpu and request is not None:
        cure = "compute fewer rows with max_features= or coverage="
        check_memory(plan.assembly_bytes, free_memory(torch.device("cpu")), f"pruning {plan.edges:,} edges", cure)
    if row_budget.all_rows and request is not None:
        cure = "compute fewer rows with max_seconds=, max_features= or coverage="
        needed = plan.disk_bytes - _edge_bytes(activations) * target_rows * plan.nodes
        check_disk_space(needed, f"{plan.edges:,} edges", cure)
    return plan


def recomputing(plan: TracePlan, activations: PromptActivations) -> TracePlan:
    """Return a plan that stores decoder vectors, changed to compute them again for every batch, with one worker."""
    needs = {keep: replacement_bytes(activations, keep_vectors=keep) for keep in (True, False)}
    return replace(
        plan,
        batch_size=plan.batch_size._replace(keep_vectors=False, n_workers=1),
        replacement_bytes=plan.replacement_bytes - needs[True] + needs[False],
        batch_bytes=_batch_bytes(activations, plan.batch_targets, plan.nodes),
    )


def _cure(plan: TracePlan, target_rows: int, batch_size: int | None, max_bytes: int) -> str:
    """Return what makes a plan fit that does not: fewer rows, if their edges are what needs the memory."""
    room = max_bytes - plan.memory_bytes + plan.assembly_bytes - plan.nodes * NODE_BYTES
    max_features = room // plan.nodes - target_rows
    if not plan.on_gpu and plan.batch_bytes < plan.assembly_bytes and max_features > 0:
        rounded = int(str(max_features)[0]) * 10 ** (len(str(max_features)) - 1)  # down to one digit and zeros
        return (
            f"compute only the most influential rows, with max_features={rounded} or less, coverage=0.98 or "
            "max_seconds=600, or allow more with memory="
        )
    smaller_batch = ", make batch_size= smaller" if batch_size and batch_size > 1 else ""
    return f"shorten the prompt{smaller_batch}, allow more with memory=, or use transcoders with fewer active features"


def _fastest_plan(
    activations: PromptActivations,
    target_rows: int,
    target_features: int,
    row_budget: RowBudget,
    batch_size: int | None,
) -> TracePlan:
    """Return the plan with the fastest batches, with decoder vectors stored unless they are too many."""
    features, weights = activations.features, activations.weights
    arch, n_positions = weights.architecture, len(activations.token_ids_P)
    nodes = len(features) + (arch.n_layers + 1) * n_positions + target_rows
    limit = row_budget.max_features
    rows = len(features) if limit is None else min(limit + target_features, len(features))
    edges = activations.max_edges if rows == len(features) else min(activations.max_edges, rows * nodes)
    edges += target_rows * nodes
    device = weights.device.type
    keep_vectors = activations.n_vectors * arch.d_model * weights.dtype.itemsize <= MAX_STORED_VECTORS_BYTES[device]
    targets = batch_size or fastest_batch(device, n_positions, keep_vectors)
    # Workers would recompute the same vectors; a GPU computes one batch at a time.
    workers = n_workers() if keep_vectors and device == "cpu" else 1
    in_memory = workers if workers == 1 else workers + 1  # one is written while all workers compute
    unlimited = row_budget.max_seconds, row_budget.standard_error
    pruning = edges if row_budget.coverage == 1 and all(limit is None for limit in unlimited) else 0
    estimates = nodes * SAMPLED_NODE_BYTES if row_budget.sampled else 0
    return TracePlan(
        tokens=n_positions,
        features=len(features),
        nodes=nodes,
        rows=rows + target_rows,
        edges=edges,
        batch_size=BatchSize(batch_size, keep_vectors, targets * n_positions, workers),
        loaded_bytes=bytes_in_use(weights.device),
        replacement_bytes=replacement_bytes(activations, keep_vectors) + estimates,
        batch_bytes=in_memory * _batch_bytes(activations, targets, nodes),
        assembly_bytes=nodes * NODE_BYTES + pruning,
        disk_bytes=edges * _edge_bytes(activations),
        decoders_on_disk=activations.decoders.on_disk,
        flops=_all_rows_flops(activations) * (rows + target_rows) / max(1, len(features)),
        device=weights.device,
    )


def _edge_bytes(activations: PromptActivations) -> int:
    """Return the size of an edge in the file: its source and its weight."""
    return 4 + activations.weights.dtype.itemsize


def _all_rows_flops(activations: PromptActivations) -> int:
    """Return the operations for the rows of all features."""
    features, arch = activations.features, activations.weights.architecture
    counts_LP = features.counts(arch.n_layers, len(activations.token_ids_P)).cpu().numpy()
    vectors_LP = count_vectors(counts_LP, activations.transcoders.kind == "clt")
    layer_N, position_N = features.layer_N.cpu().numpy(), features.position_N.cpu().numpy()
    return row_flops(SweepShape.of(arch, activations.transcoders), vectors_LP, layer_N, position_N)


def replacement_bytes(activations: PromptActivations, keep_vectors: bool) -> int:
    """Return the size of a local replacement model, without the tensors that it shares with the activations."""
    arch, itemsize = activations.weights.architecture, activations.weights.dtype.itemsize
    encoders = sum(e.encoder_UD.numel() for e in activations.encoded)
    by_position = 6 * arch.n_layers * len(activations.token_ids_P) * arch.d_model
    blocks = (block for cache in activations.layer_caches for block in cache.pattern.blocks)
    patterns = sum(block.pattern_Hqk.numel() for block in blocks)
    attention = arch.n_layers * (arch.n_heads + arch.n_kv_heads) * arch.d_head * arch.d_model
    vectors = activations.n_vectors * arch.d_model
    stored = vectors if keep_vectors else min(vectors, CHUNK_BYTES[activations.weights.device.type] // itemsize)
    return (
        itemsize * (encoders + by_position + patterns + attention + stored) + VECTOR_INDEX_BYTES * activations.n_vectors
    )


def _batch_bytes(activations: PromptActivations, targets: int, nodes: int) -> int:
    """Return the size of one batch at the last position: gradients, buffers for attention heads, and rows."""
    arch, itemsize = activations.weights.architecture, activations.weights.dtype.itemsize
    gradients = 3 * arch.d_model + (1 + arch.n_kv_heads) * arch.d_head
    return targets * (len(activations.token_ids_P) * gradients + BLOCK_COPIES * nodes) * itemsize


def bytes_in_use(device: torch.device) -> int:
    """Return the memory of the process; on a GPU, the memory of the device that torch uses."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return psutil.Process().memory_info().rss


def allowed_memory(memory: int | None, device: torch.device) -> int:
    """Return the bytes that the process may use in all: those in use and those free, or `memory` if that is less."""
    available = bytes_in_use(device) + free_memory(device)
    return available if memory is None else min(memory, available)


def run_prompt(
    weights: Gemma3,
    transcoders: Transcoders,
    ids_P: torch.Tensor,
    masked: MaskedPositions,
    memory: int | None,
    progress: Progress,
) -> PromptActivations:
    """Run a prompt once and return its activations. `memory` is the limit in bytes, None for what is free.

    Raises ResourceError for too little memory, before the run.
    """
    free = spare_memory(memory, weights.device)
    check_forward_memory(weights.architecture, len(ids_P), weights.dtype, free)
    return PromptActivations(weights, transcoders, ids_P, masked, int(DECODER_MEMORY_SHARE * free), progress)


def spare_memory(memory: int | None, device: torch.device) -> int:
    """Return the bytes that the process may use in addition to those in use.

    Raises ResourceError if `memory` is less than what is in use.
    """
    in_use = bytes_in_use(device)
    if memory is not None and memory <= in_use:
        raise ResourceError(
            f"memory= allows {size_text(memory)} in all and {size_text(in_use)} are in use already, mostly by the model; "
            "allow more"
        )
    return max(0, allowed_memory(memory, device) - in_use)
