"""`HeadLoadings`: the attention heads that carry one direct edge (docs/heads.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

from .drawing.heads_plot import plot_heads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LoadingKind = Literal["last", "first", "one_hop"]
HEADS_IN_REPR = 3


def head_name(layer: int, head: int) -> str:
    """Return the text form of an attention head: `L12H3`."""
    return f"L{layer}H{head}"


@dataclass(frozen=True, eq=False)
class HeadLoadings:
    """Parts of one direct edge by attention head, in units of what the target reads, such as logits.

    `edge = direct + last.sum()`, and also `direct + first.sum()`.

    Attributes:
        source: name of the source.
        target: name of the target.
        edge: the direct effect.
        direct: the part that passes no attention, only the residual stream and affine skips.
        last: the parts whose last attention head, nearest the target, is each one, (L, H).
        first: the parts whose first attention head, nearest the source, is each one, (L, H); None for those of a graph
            file.
        one_hop: the parts that pass each head and no other, (L, H); None for those of a graph file.
    """

    source: str
    target: str
    edge: float
    direct: float
    last: np.ndarray
    first: np.ndarray | None = None
    one_hop: np.ndarray | None = None

    @property
    def kinds(self) -> dict[str, np.ndarray]:
        """The loadings that there are, by name."""
        found = {"last": self.last}
        if self.first is not None:
            found["first"] = self.first
        if self.one_hop is not None:
            found["one_hop"] = self.one_hop
        return found

    @property
    def table(self) -> pa.Table:
        """One row for each head: layer, head, and the columns last, first and one_hop."""
        layer, head = (pa.array(index.ravel(), pa.int32()) for index in np.indices(self.last.shape))
        return pa.table({"layer": layer, "head": head, **{name: each.ravel() for name, each in self.kinds.items()}})

    @property
    def several_hops(self) -> float | None:
        """The part that passes two or more heads; None where `one_hop` is."""
        return None if self.one_hop is None else float(self.edge - self.direct - self.one_hop.sum())

    def top(self, n: int = 10, by: LoadingKind = "last") -> pa.Table:
        """Return the rows of `table` of the heads that carry most, either sign, at most `n`; heads that carry nothing are left out.

        Raises ArgumentError for a negative `n`, and for loadings that there are not.
        """
        if as_index(n, "n") < 0:
            raise ArgumentError(f"n is {n}: it must be at least 0")
        if by not in self.kinds:
            raise ArgumentError(f"by={by!r}: the loadings of this edge are {', '.join(self.kinds)}")
        size = np.abs(self.kinds[by]).ravel()
        strongest = np.argsort(-size, kind="stable")[:n]
        return self.table.take(strongest[size[strongest] > 0])

    def plot(self, path: str | os.PathLike | None = None) -> Path | Figure:
        """Draw the loadings by layer and head, and return the path, or without one the matplotlib figure.

        The path ends in .svg, .png or .pdf. Raises ArgumentError for another suffix.
        """
        title = f"{self.source} → {self.target}: {self.edge:+.4g}"
        return plot_heads(self.kinds, title, None if path is None else Path(path))

    def as_json(self) -> dict[str, Any]:
        """Return everything as values that JSON can hold; heads that carry nothing are left out."""
        carries = np.any([loading.ravel() != 0 for loading in self.kinds.values()], axis=0)
        facts = {"source": self.source, "target": self.target, "edge": self.edge, "direct": self.direct}
        return {**facts, "several_hops": self.several_hops, "heads": self.table.filter(pa.array(carries)).to_pylist()}

    def __repr__(self) -> str:
        strongest = ", ".join(strongest_heads(self.last, HEADS_IN_REPR)) or "none"
        return (
            f"<HeadLoadings of {self.source} → {self.target}: {self.edge:+.4g}, direct {self.direct:+.4g}; {strongest}>"
        )


def strongest_heads(last_LH: np.ndarray, n: int) -> list[str]:
    """Return the names and loadings of the n strongest heads: `L12H3 +0.051`."""
    size = np.abs(last_LH).ravel()
    sites = [np.unravel_index(each, last_LH.shape) for each in np.argsort(-size, kind="stable")[:n] if size[each] > 0]
    return [f"{head_name(int(layer), int(head))} {last_LH[layer, head]:+.3g}" for layer, head in sites]
