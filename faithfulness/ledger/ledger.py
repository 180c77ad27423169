"""`Ledger`: where the value of each target comes from, as cells that add up to it. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cotrace.common.errors import ArgumentError

from .layout import CONSTANT, CONTENT, ROUTED, TargetLayout

DIRECT, LATENT, UNKNOWN = "direct", "latent", "unknown"
CELLS = pa.schema(
    [
        pa.field("target", pa.string(), nullable=False),
        pa.field("cell", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("route", pa.string()),
        pa.field("statement", pa.string()),
        pa.field("effect", pa.float64(), nullable=False),
        pa.field("share", pa.float64()),
        pa.field("gross", pa.float64(), nullable=False),
    ]
)
TARGETS = pa.schema(
    [
        pa.field("target", pa.string(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("said", pa.string(), nullable=False),
        pa.field("foil", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
        pa.field("cancellation", pa.float64()),
    ]
)
CREDIT = pa.schema(
    [
        pa.field("target", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("effect", pa.float64(), nullable=False),
        pa.field("through_qk", pa.float64(), nullable=False),
    ]
)


class LeafEffects(NamedTuple):
    """Effects of everything that nothing in the graph causes, on one target.

    Attributes:
        token_CP: effects of tokens with each cut of the target's layout; the last cut is none.
        error_LP: effects of error nodes without cuts.
        bias: effect of all constants and biases without cuts.
    """

    token_CP: np.ndarray
    error_LP: np.ndarray
    bias: float


class Cell(NamedTuple):
    """A part of a target: one source by one route.

    Attributes:
        source: "question", "hint", "content", "own", "template", "constant" or "unknown".
        route: "direct" or "latent" of question and hint, if routes are told apart; None of others.
        statement: the statement that a latent route last visits, or whose content it is.
        effect: the signed sum of its nodes' effects, in logits.
        gross: the sum of their absolute effects: how much cancels inside the cell.
    """

    source: str
    route: str | None
    statement: str | None
    effect: float
    gross: float

    @property
    def name(self) -> str:
        """The cell in words, such as "question latent step2"."""
        return " ".join(part for part in (self.source, self.route, self.statement) if part)


@dataclass(frozen=True)
class Ledger:
    """The sources of the values of all targets.

    Attributes:
        table: a row for each cell of each target: target, cell, source, route, statement, effect, share (the absolute effect
            over the sum of absolute effects of the target's cells; null if all are zero) and gross.
        targets: a row for each target: target (a segment's name), position, said, foil, value (the margin in logits) and
            cancellation (the sum of gross over the absolute value; null for a value of zero).
        credit: a row for each target and source, beside the cells: the effect of its tokens and error nodes, and
            through_qk, what changes if attention scores respond too; None if it was not asked for.
        token_KP: the effect of each token on each target, without cuts.
    """

    table: pa.Table
    targets: pa.Table
    credit: pa.Table | None
    token_KP: np.ndarray

    def __repr__(self) -> str:
        return f"<Ledger: {self.table.num_rows} cells of {self.targets.num_rows} targets>"

    @property
    def names(self) -> list[str]:
        """The targets, in the order of the prompt."""
        return self.targets["target"].to_pylist()

    def cells(self, target: str) -> dict[str, dict[str, Any]]:
        """Return the rows of one target by the name of the cell. Raises ArgumentError for an unknown target."""
        if target not in self._cells:
            raise ArgumentError(f"the ledger has no target {target!r}: its targets are {', '.join(self.names)}")
        return self._cells[target]

    @cached_property
    def _cells(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The rows of all targets, by target and cell."""
        found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in self.names}
        for row in self.table.to_pylist():
            found[row["target"]][row["cell"]] = row
        return found


def source_of(cell: dict[str, Any]) -> str:
    """Return the source of a cell as layouts and the table of credit name it: "question", "content step2"."""
    return f"{CONTENT}{cell['statement']}" if cell["source"] == CONTENT.strip() else cell["source"]


def cells_of(layout: TargetLayout, effects: LeafEffects) -> list[Cell]:
    """Return the cells of one target; their effects add up to those of all tokens, errors and constants."""
    cells = []
    for number, source in enumerate(layout.sources):
        token_Cp = effects.token_CP[:, layout.source_P == number]
        if source in ROUTED and layout.routed:
            cells += _routed(source, layout, token_Cp)
        elif source != CONSTANT:
            name, _, statement = source.partition(" ")
            cells.append(_cell(name if source.startswith(CONTENT) else source, None, statement or None, token_Cp[-1]))
    constant_P = effects.token_CP[-1, layout.source_P == _number(layout, CONSTANT)]
    cells.append(_cell(CONSTANT, None, None, np.append(constant_P, effects.bias)))
    return [*cells, _cell(UNKNOWN, None, None, effects.error_LP.ravel())]


def table_of(targets: Sequence[str], cells: Sequence[Sequence[Cell]]) -> pa.Table:
    """Return the table of all cells of each target."""
    rows = []
    for target, listed in zip(targets, cells, strict=True):
        total = sum(abs(cell.effect) for cell in listed)
        for cell in listed:
            share = abs(cell.effect) / total if total > 0 else None
            rows.append({"target": target, "cell": cell.name, "share": share, **cell._asdict()})
    return pa.Table.from_pylist(rows, CELLS)


def _routed(source: str, layout: TargetLayout, token_Cp: np.ndarray) -> list[Cell]:
    """Return the cells of a source whose routes are told apart: direct, and through each statement last."""
    latent = [
        _cell(source, LATENT, statement, token_Cp[number + 1] - token_Cp[number])
        for number, statement in enumerate(layout.statements)
    ]
    return [_cell(source, DIRECT, None, token_Cp[0]), *latent]


def _cell(source: str, route: str | None, statement: str | None, effect_p: np.ndarray) -> Cell:
    exact_p = effect_p.astype(np.float64)
    return Cell(source, route, statement, float(exact_p.sum()), float(np.abs(exact_p).sum()))


def _number(layout: TargetLayout, source: str) -> int:
    return layout.sources.index(source) if source in layout.sources else -1
