"""What a trace will take, worked out before its expensive part, and how it is made to fit."""

from dataclasses import dataclass, replace

import psutil
import torch

from cotrace.attribution.models.memory import GIB, check_disk_space, free_memory
from cotrace.common.errors import CotraceError

from .activations import PromptActivations
from .decoder_vectors import AT_ONCE
from .flops import Sizes, product_rate, useful_operations, written_entries
from .row_selection import RowBudget
from .sweep import BatchSize, best_targets
from .targets import TargetRequest

NODE_BYTES = 200  # of a node's columns; pruning marks each edge with one byte more
DECODER_SHARE = 0.25  # of the memory that is not in use yet: decoders that need more go to a file
ENTRY_BYTES = 64  # of a vector's place in its layer's table, and of the sort that finds it
BLOCK_COPIES = 5  # of a batch's rows: as they grow, in node order, as shares of influence, as edges on their way
HELD = 2**28  # of vectors that features write: more are made again for every batch, which takes a tenth longer
REACHED = 0.55  # of the rate of a large product that the sweep reaches (docs/benchmarks.md)
SPARE = 2**28  # compiled code, threads, buffers of libraries


@dataclass(frozen=True)
class TracePlan:
    """An estimate of one trace, from its active features; sizes are bytes.

    Memory is that of the device that computes: what is `loaded` already, `tables` for the whole trace, and a `batch`
    of rows or the `ending`. `rows`, `edges`, `disk` and `operations` are those of all rows that `max_features` allows.
    """

    tokens: int
    features: int
    nodes: int
    rows: int
    edges: int
    size: BatchSize
    loaded: int
    tables: int
    batch: int
    ending: int
    disk: int
    decoders_on_disk: bool
    operations: float
    device: torch.device

    @property
    def hold(self) -> bool:
        """Whether the vectors that features write are held."""
        return self.size.hold

    @property
    def targets(self) -> int:
        """Targets of a batch that ends at the last position."""
        return self.size.exactly or self.size.most_vectors // self.tokens

    @property
    def memory(self) -> int:
        """The most that the process will hold at once."""
        return self.loaded + self.tables + max(self.batch, self.ending) + SPARE

    def seconds(self) -> float:
        """Estimate of the time for all rows, by the rate of a matrix product that is measured now."""
        return self.operations / (REACHED * product_rate(self.device))


def make_plan(
    survey: PromptActivations, request: TargetRequest | None, limits: RowBudget, batch_size: int | None, memory: int
) -> TracePlan:
    """Plan a trace of a prompt whose active features are known, to stay within a total of bytes.

    What can be made again is not held, and batches get smaller, until it fits. Raises ValueError where nothing
    does, and where the temporary folder is too small.
    """
    target_rows, named = (0, 0) if request is None else (request.max_rows, request.n_features)
    plan = _largest(survey, target_rows, named, limits, batch_size)
    while plan.memory > memory:
        if plan.hold:
            plan = replace(plan, size=plan.size._replace(hold=False), tables=_table_bytes(survey, False))
        elif plan.targets > 1 and not batch_size:
            size = plan.size._replace(most_vectors=plan.size.most_vectors // 2)
            plan = replace(plan, size=size)
            plan = replace(plan, batch=_batch_bytes(survey, plan.targets, plan.nodes))
        else:
            raise CotraceError(
                f"this trace needs about {plan.memory / GIB:.2f} GiB of memory and {memory / GIB:.2f} GiB are allowed or "
                "free; shorten the prompt, allow more with memory=, leave out batch_size= or make it smaller, or use "
                "transcoders with fewer active features"
            )
    if limits.all_rows and request is not None:
        fewer = "compute fewer rows with max_seconds=, max_features= or coverage="
        check_disk_space(plan.disk - _bytes(survey) * target_rows * plan.nodes, f"{plan.edges:,} edges", fewer)
    return plan


def _largest(
    survey: PromptActivations, target_rows: int, named: int, limits: RowBudget, batch_size: int | None
) -> TracePlan:
    """The plan for speed: batches as large as they run best, and what is not too much is held."""
    features, arch, size = survey.features, survey.weights.architecture, survey.weights.dtype.itemsize
    n_positions = len(survey.token_ids_P)
    nodes = len(features) + (arch.n_layers + 1) * n_positions + target_rows
    rows = len(features) if limits.max_features is None else min(limits.max_features + named, len(features))
    edges = survey.most_edges if rows == len(features) else min(survey.most_edges, rows * nodes)
    edges += target_rows * nodes
    hold = survey.n_vectors * arch.d_model * size <= HELD
    targets = batch_size or best_targets(survey.weights.device.type, n_positions, hold)
    return TracePlan(
        tokens=n_positions,
        features=len(features),
        nodes=nodes,
        rows=rows + target_rows,
        edges=edges,
        size=BatchSize(batch_size, hold, targets * n_positions),
        loaded=_in_use(survey.weights.device),
        tables=_table_bytes(survey, hold),
        batch=_batch_bytes(survey, targets, nodes),
        ending=nodes * NODE_BYTES + (edges if limits.max_seconds is None and limits.coverage == 1 else 0),
        disk=edges * _bytes(survey),
        decoders_on_disk=survey.decoders.on_disk,
        operations=_operations(survey) * (rows + target_rows) / max(1, len(features)),
        device=survey.weights.device,
    )


def _bytes(survey: PromptActivations) -> int:
    """Of an edge: its source and its weight."""
    return 4 + survey.weights.dtype.itemsize


def _operations(survey: PromptActivations) -> int:
    """Useful operations of all features' rows."""
    features, arch = survey.features, survey.weights.architecture
    counts_LP = features.counts(arch.n_layers, len(survey.token_ids_P)).cpu().numpy()
    entries_LP = written_entries(counts_LP, survey.transcoders.kind == "clt")
    sites = features.layer_N.cpu().numpy(), features.position_N.cpu().numpy()
    return useful_operations(Sizes.of(arch, survey.transcoders), entries_LP, *sites)


def _table_bytes(survey: PromptActivations, hold: bool) -> int:
    """Everything that a replacement keeps beside what the survey has."""
    encoded, arch, size = survey.encoded, survey.weights.architecture, survey.weights.dtype.itemsize
    read = sum(e.encoder_UD.numel() for e in encoded)
    by_position = 6 * arch.n_layers * len(survey.token_ids_P) * arch.d_model
    patterns = sum(block.pattern_Hqk.numel() for done in survey.passes for block in done.pattern.blocks)
    attention = arch.n_layers * (arch.n_heads + arch.n_kv_heads) * arch.d_head * arch.d_model
    vectors = survey.n_vectors
    held = vectors * arch.d_model if hold else min(vectors * arch.d_model, AT_ONCE // size)
    return size * (read + by_position + patterns + attention + held) + ENTRY_BYTES * vectors


def _batch_bytes(survey: PromptActivations, targets: int, nodes: int) -> int:
    """One batch of targets at the last position: gradients, one head's part of them, and its rows."""
    arch, size = survey.weights.architecture, survey.weights.dtype.itemsize
    gradients = 3 * arch.d_model + (1 + arch.n_kv_heads) * arch.d_head
    return targets * (len(survey.token_ids_P) * gradients + BLOCK_COPIES * nodes) * size


def _in_use(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return psutil.Process().memory_info().rss


def allowed_memory(memory: int | None, device: torch.device) -> int:
    """Bytes that the process may hold: what it holds and what is free, or less where that is asked for."""
    room = _in_use(device) + free_memory(device)
    return room if memory is None else min(memory, room)


def spare_memory(memory: int | None, device: torch.device) -> int:
    """Bytes that the process may hold beside what it holds."""
    return max(0, allowed_memory(memory, device) - _in_use(device))
