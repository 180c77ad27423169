"""Run a prompt with several interventions, independent of each other; `Model.intervene` calls this."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cotrace.attribution.models.memory import check_memory, free_memory
from cotrace.common.errors import ArgumentError

from .config import InterventionConfig
from .context import PromptContext
from .edit_plan import EditPlan
from .edits import Intervention
from .layer_modes import LayerMode, layer_modes
from .result import InterventionResult
from .runs import row_memory, rows_per_batch, run_with_edits


class InterventionBatch(NamedTuple):
    """Checked interventions on one prompt."""

    context: PromptContext
    plans: list[EditPlan]
    modes: list[LayerMode]


def prepare(
    context: PromptContext, interventions: Sequence[Intervention], config: InterventionConfig
) -> InterventionBatch:
    """Check interventions on a prompt before anything runs.

    Raises ArgumentError for edits that are impossible, that conflict, or that apply at no position of the prompt.
    """
    modes = layer_modes(config, context.weights.architecture, context.transcoders)
    plans = [EditPlan(intervention, context) for intervention in interventions]
    for resolved in (resolved for plan in plans for resolved in plan):
        if not resolved.positions:
            raise ArgumentError(
                f"{resolved.node} is at no position of this prompt, so this would change nothing; model.generate also "
                "edits generated positions"
            )
    return InterventionBatch(context, plans, modes)


def require_memory(batches: Sequence[InterventionBatch]) -> None:
    """Raise ResourceError if all results together, and the working memory of one row, exceed the free memory."""
    if not batches:
        return
    rows = [(len(batch.plans), row_memory(batch.context, batch.modes)) for batch in batches]
    needed = sum(count * memory.result for count, memory in rows) + max(memory.working for _, memory in rows)
    total, longest = sum(count for count, _ in rows), max(batch.context.n_positions for batch in batches)
    what = f"{total} interventions on up to {longest} tokens" if total > 1 else f"a prompt of {longest} tokens"
    cure = "make fewer at a time, or shorten the prompt" if total > 1 else "shorten the prompt"
    check_memory(needed, free_memory(batches[0].context.weights.device), what, cure)


def intervene(batch: InterventionBatch) -> Iterator[InterventionResult]:
    """Yield the result of each intervention, computed several rows at a time."""
    context, plans, modes = batch
    n_rows = rows_per_batch(context, modes)
    for start in range(0, len(plans), n_rows):
        part = plans[start : start + n_rows]
        outcome = run_with_edits(context, part, modes)
        for row, plan in enumerate(part):
            yield InterventionResult(context, outcome, row, modes, plan)
