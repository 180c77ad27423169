"""Run a prompt with several interventions, independent of each other; `Model.intervene` calls this."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cotrace.attribution.models.memory import check_memory, free_memory
from cotrace.common.errors import ArgumentError

from .config import InterventionConfig
from .context import PromptContext
from .donors import donor_memory
from .edit_plan import EditPlan
from .edits import Intervention
from .layer_modes import LayerMode, layer_modes
from .regenerate import regenerated_positions
from .result import InterventionResult
from .runs import row_memory, rows_per_batch, run_with_edits
from .span_plan import ResolvedDonor, contiguous_runs, require_responding


class InterventionBatch(NamedTuple):
    """Checked interventions on one prompt; `regenerate` are the positions whose tokens each rewrites."""

    context: PromptContext
    plans: list[EditPlan]
    modes: list[LayerMode]
    regenerate: list[tuple[int, ...]]


def prepare(
    context: PromptContext, interventions: Sequence[Intervention], config: InterventionConfig, regenerate: Any = None
) -> InterventionBatch:
    """Check interventions on a prompt before anything runs; `regenerate` is that of `regenerated_positions`.

    Raises ArgumentError for edits that are impossible, that conflict, or that change nothing in the prompt.
    """
    modes = layer_modes(config, context.weights.architecture, context.transcoders)
    plans = [EditPlan(intervention, context) for intervention in interventions]
    for plan in plans:
        require_responding(plan.donors, modes)
        for resolved in plan:
            if not resolved.positions:
                raise ArgumentError(
                    f"{resolved.node} is at no position of this prompt, so this would change nothing; model.generate also "
                    "edits generated positions"
                )
        for donor in plan.donors:
            _require_later_positions(donor, context.n_positions)
    return InterventionBatch(context, plans, modes, [regenerated_positions(regenerate, plan) for plan in plans])


def _require_later_positions(resolved: ResolvedDonor, n_positions: int) -> None:
    """Raise ArgumentError for keys and values that no position of the prompt reads."""
    last = contiguous_runs(resolved.positions)[0][-1]
    if {"keys", "values"} & {*resolved.donor.parts} and last == n_positions - 1:
        raise ArgumentError(
            f"{resolved.donor}: the span ends with the prompt, and its keys and values are read by later positions only, so "
            f"this would change nothing: end at {last}, or use model.generate"
        )


def require_memory(batches: Sequence[InterventionBatch]) -> None:
    """Raise ResourceError if all results together, and the working memory of one row, exceed the free memory."""
    if not batches:
        return
    rows = [(len(batch.plans), row_memory(batch.context, batch.modes)) for batch in batches]
    needed = sum(count * memory.result for count, memory in rows) + max(memory.working for _, memory in rows)
    needed += max(donor_memory(batch.context, batch.plans) for batch in batches)
    total, longest = sum(count for count, _ in rows), max(batch.context.n_positions for batch in batches)
    what = f"{total} interventions on up to {longest} tokens" if total > 1 else f"a prompt of {longest} tokens"
    cure = "make fewer at a time, or shorten the prompt" if total > 1 else "shorten the prompt"
    check_memory(needed, free_memory(batches[0].context.weights.device), what, cure)


def intervene(batch: InterventionBatch) -> Iterator[InterventionResult]:
    """Yield the result of each intervention, computed several rows at a time."""
    context, plans, modes, regenerate = batch
    n_rows = rows_per_batch(context, modes)
    for start in range(0, len(plans), n_rows):
        part, rewritten = plans[start : start + n_rows], regenerate[start : start + n_rows]
        outcome = run_with_edits(context, part, modes, regenerate=rewritten)
        for row, plan in enumerate(part):
            yield InterventionResult(context, outcome, row, modes, plan)
