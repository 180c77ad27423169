"""Compute the ledger of a transcript's stated values."""

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from .layout import TargetLayout
from .ledger import CREDIT, TARGETS, LeafEffects, Ledger, cells_of, table_of
from .prompt import StatedPrompt


def compute_ledger(prompt: StatedPrompt, *, through_qk: bool | Collection[str] = False) -> Ledger:
    """Return where the value of each stated value comes from; all targets and cuts go down the layers together.

    Args:
        prompt: the transcript in a model.
        through_qk: also compute the credit through attention scores of each source, with one more backward pass: for all
            targets, or for those that are named.

    Raises:
        ResourceError: too little memory.
    """
    effects, value_K = prompt.leaf_effects()
    cells = [cells_of(layout, each) for layout, each in zip(prompt.layouts, effects, strict=True)]
    rows = []
    for margin, listed, value in zip(prompt.margins, cells, value_K.tolist(), strict=True):
        gross = sum(cell.gross for cell in listed)
        said, foil = (prompt.decode(token) for token in (margin.said, margin.foil))
        cancellation = gross / abs(value) if value else None
        rows.append((margin.name, margin.position, said, foil, value, cancellation))
    targets = pa.Table.from_pylist([dict(zip(TARGETS.names, row, strict=True)) for row in rows], TARGETS)
    credited = (
        prompt.names if through_qk is True else [name for name in prompt.names if through_qk and name in through_qk]
    )
    credit = _credit(prompt, effects, credited) if credited else None
    token_KP = np.stack([each.token_CP[-1] for each in effects])
    return Ledger(table_of(prompt.names, cells), targets, credit, token_KP)


def _credit(prompt: StatedPrompt, frozen: list[LeafEffects], names: list[str]) -> pa.Table:
    """Return the credit through attention scores of the tokens and error nodes of each source, for the named targets."""
    rows = []
    frozen_of = dict(zip(prompt.names, zip(prompt.layouts, frozen, strict=True), strict=True))
    for name, after in zip(names, prompt.responding_effects(names), strict=True):
        layout, before = frozen_of[name]
        for source, effect, responding in zip(
            layout.sources, _by_source(layout, before), _by_source(layout, after), strict=True
        ):
            rows.append((layout.name, source, float(effect), float(responding - effect)))
    return pa.Table.from_pylist([dict(zip(CREDIT.names, row, strict=True)) for row in rows], CREDIT)


def _by_source(layout: TargetLayout, effects: LeafEffects) -> np.ndarray:
    """Return the effects of tokens and error nodes without cuts, summed over the positions of each source, (S,)."""
    effect_P = effects.token_CP[-1] + effects.error_LP.sum(0)
    return np.bincount(layout.source_P, weights=effect_P, minlength=len(layout.sources))
