"""Run one prompt without edits and with the edits of several rows, and estimate the memory of such runs."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from cotrace.attribution.models.memory import free_memory, layer_numel, patterns_numel

from .context import PromptContext
from .donors import record_donors
from .edit_plan import EditedPositions, EditPlan
from .forward import ForwardOutput, InterventionRunner
from .layer_modes import TRANSCODERS, LayerMode, any_frozen
from .regenerate import regenerated
from .text_runner import edited_ids, reference_runner

BATCH_POSITIONS = 1024  # of all rows in one forward pass: more would not be faster on a CPU
MEMORY_SHARE = 0.25  # of free memory, for the rows of one forward pass
ESTIMATED_FEATURES = 64  # active ones of one layer and position, for estimates before the run
INDEX_BYTES = 8  # of one position or feature number
STREAMS_PER_LAYER = 5  # tensors (P, D) of every layer during a run: MLP outputs of both runs, decoded changes


class InterventionOutcome(NamedTuple):
    """The rows of one prompt without and with edits; `ids_BP` are the token ids after edits."""

    before: ForwardOutput
    after: ForwardOutput
    edited_positions: EditedPositions
    ids_BP: Tensor


class RowMemory(NamedTuple):
    """Bytes for one row."""

    result: int  # kept by the result of both runs
    working: int  # needed in addition during the run


def run_without_edits(context: PromptContext) -> ForwardOutput:
    """Run the prompt once in the unchanged model; return its output with all active features."""
    return InterventionRunner(context, feature_layers=range(context.n_layers)).forward(context.ids_P[None])


def run_with_edits(
    context: PromptContext,
    plans: Sequence[EditPlan],
    modes: Sequence[LayerMode],
    features: bool = True,
    regenerate: Sequence[Sequence[int]] = (),
) -> InterventionOutcome:
    """Run the prompt without edits and with those of each plan, both as batches of the same shape.

    With `features`, the active features of all layers are kept. `regenerate` are positions, of each row, whose tokens the
    model with edits chooses before.
    """
    donors, edited_BP = record_donors(context, plans), edited_ids(context, plans)
    if any(regenerate):
        edited_BP = regenerated(context, plans, modes, donors, edited_BP, regenerate)
    error_layers = {layer for plan in plans for layer in plan.errors}
    layers = range(len(modes)) if features else ()
    before = reference_runner(context, modes, error_layers, layers).forward(context.ids_P.expand(len(plans), -1))
    edited = InterventionRunner(context, modes, plans, donors=donors, error_layers=error_layers, feature_layers=layers)
    after = edited.forward(edited_BP, before if any_frozen(modes) else None)
    before.free()
    after.free()
    return InterventionOutcome(before, after, edited.edited_positions, edited_BP)


def row_memory(context: PromptContext, modes: Sequence[LayerMode], n_positions: int | None = None) -> RowMemory:
    """Estimate the memory of one row, by default over the whole prompt."""
    arch, size = context.weights.architecture, context.weights.dtype.itemsize
    n_positions = n_positions or context.n_positions
    width = max(context.transcoders.width(layer, context.weights) for layer in range(arch.n_layers))
    stream = n_positions * arch.d_model * size
    active = min(width, ESTIMATED_FEATURES) * arch.n_layers * n_positions * (2 * INDEX_BYTES + 2 * size)
    working = STREAMS_PER_LAYER * arch.n_layers * stream + size * layer_numel(arch, n_positions)
    if any(mode.freeze_attention for mode in modes):
        working += size * patterns_numel(arch, n_positions)
    if any(mode.mlp == TRANSCODERS for mode in modes):  # decoders of all active features of a layer
        outputs = arch.n_layers if context.transcoders.kind == "clt" else 1
        working += min(width, ESTIMATED_FEATURES * n_positions) * outputs * arch.d_model * size
    return RowMemory(2 * ((arch.n_layers + 1) * stream + active), working)


def rows_per_batch(context: PromptContext, modes: Sequence[LayerMode]) -> int:
    """Return how many rows one forward pass may have, so that both runs fit into a share of the free memory."""
    fitting = int(MEMORY_SHARE * free_memory(context.weights.device)) // sum(row_memory(context, modes))
    return max(1, min(BATCH_POSITIONS // context.n_positions, fitting))
