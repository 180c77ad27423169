"""Let the model rewrite tokens of a prompt after an edit: which ones, and what they become."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import text_of_positions

from .context import PromptContext
from .donors import DonorActivations
from .edit_plan import EditPlan
from .layer_modes import LayerMode
from .span_plan import contiguous_runs
from .text_runner import TextRunner

LATER = "later"


def regenerated_positions(regenerate: Any, plan: EditPlan) -> tuple[int, ...]:
    """Return the positions, ascending, whose tokens the model chooses anew.

    Args:
        regenerate: None for none; "later" for all after the first edit, except those whose tokens or values a swap, donor or
            token edit gives; a span as in `Swap`; a list of names of segments.
        plan: the edits.

    Raises:
        ArgumentError: no position, the first position, and positions that an edit gives.
    """
    if regenerate is None:
        return ()
    tokens, given = plan.context.tokens, _given_positions(plan)
    if isinstance(regenerate, str) and regenerate == LATER:
        later = tuple(p for p in range(_end_of_first_edit(plan), plan.n_prompt) if p not in given)
        if not later:
            raise ArgumentError("regenerate='later': no position after the edit is left; leave it out")
        return later
    several = isinstance(regenerate, list | tuple) and regenerate and all(isinstance(each, str) for each in regenerate)
    spans = regenerate if several else [regenerate]
    chosen = sorted({p for span in spans for p in tokens.positions(span, "regenerate=")})
    if chosen[0] == 0:
        raise ArgumentError("regenerate= names position 0, which nothing predicts: start at 1 or later")
    both = [p for p in chosen if p in given]
    if both:
        raise ArgumentError(
            f"regenerate= and {given[both[0]]} both change position {text_of_positions(both)}: regenerate other positions, or "
            f"'{LATER}'"
        )
    return tuple(chosen)


def _given_positions(plan: EditPlan) -> dict[int, Any]:
    """Return the positions whose tokens or values an edit gives, each with this edit."""
    nodes = [(resolved.node, resolved.positions) for resolved in plan.tokens]
    spans: Iterable[Any] = (*plan.swaps, *plan.donors)
    return {p: edit for edit, positions in (*nodes, *((each[0], each[1]) for each in spans)) for p in positions}


def _end_of_first_edit(plan: EditPlan) -> int:
    """Return the first position after the earliest edit: after its span, or after the first position of a node."""
    spans: Iterable[Any] = (*plan.swaps, *plan.donors)
    ends = [contiguous_runs(each.positions)[0][-1] + 1 for each in spans]
    ends += [resolved.positions[0] + 1 for resolved in plan if resolved.positions]
    if not ends:
        raise ArgumentError("regenerate='later' is after an edit, and there is none: name a span (start, stop)")
    return min(ends)


def regenerated(
    context: PromptContext,
    plans: Sequence[EditPlan],
    modes: Sequence[LayerMode],
    donors: Sequence[Sequence[DonorActivations]],
    ids_BP: Tensor,
    positions: Sequence[Sequence[int]],
    use_cache: bool = True,
) -> Tensor:
    """Return the token ids (B, P) after the model with edits has chosen those at each row's positions, ascending.

    Each is the likeliest token after the text before it. Rows with the same positions are one batch.
    """
    ids_BP = ids_BP.clone()
    for own in dict.fromkeys(map(tuple, positions)):
        rows = [row for row, each in enumerate(positions) if tuple(each) == own]
        runner = TextRunner(context, [plans[row] for row in rows], modes, [donors[row] for row in rows], use_cache)
        for position in own:
            output = runner.forward(ids_BP[rows, :position])
            logits_BV = context.weights.logits(output.resid_BPD[:, -1:], output.rms_BP[:, -1:])[:, 0]
            ids_BP[rows, position] = logits_BV.argmax(-1)
    return ids_BP
