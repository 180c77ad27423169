"""`Effects`: contributions of a prompt's nodes to targets, summed over paths (docs/effects.md)."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .drawing.effects_plot import plot_effects
from .effect_data import NODE_KINDS, EffectData
from .effect_files import read_effects, save_effects

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Effects(EffectData):
    """Effects of M nodes on K targets, each with or without a cut.

    An effect is a contribution: ablating the node changes the target by minus that, to first order. Tokens and error nodes
    are leaves; with the bias they add up to the value (`ledger`). Features lie on the way from leaves to a target, so that
    their effects are never added to those of leaves.

    Attributes:
        targets: K rows with the keys target (number of the target), label, kind, position, probability, token_ids, avoiding
            (the cut, "" for none) and value (centred logit, difference, dot product or pre-activation).
        nodes: M rows: kind ("feature", "error", "token"), layer, position, feature, token (id) and text.
        effect_KM: signed effects, in units of the targets.
        bias_K: effects of all constants and biases together.
        info: model, transcoders, prompt, tokens, token_ids, masked_positions and settings.
        through_qk_KM: credit through attention scores, beside the effects; None if it was not asked for.
    """

    def __repr__(self) -> str:
        features, errors, tokens = np.bincount(self.kind_M, minlength=len(NODE_KINDS)).tolist()
        targets = len({row["target"] for row in self.targets})
        cuts = len({row["avoiding"] for row in self.targets} - {""})
        freeze = self.info["settings"].get("freeze")
        return (
            f"<Effects of {features:,} features, {errors:,} errors, {tokens:,} tokens on {targets:,} targets"
            f"{f' with {cuts:,} cuts' if cuts else ''}{f', freeze={freeze!r}' if freeze else ''}>"
        )

    def _repr_html_(self) -> str:
        """Return the ledger, for notebooks."""
        return f"<p><code>{html.escape(repr(self))}</code></p>{_html_table(self.ledger)}"

    # --- files and pictures -----------------------------------------------------------------

    def save(self, path: str | os.PathLike) -> Path:
        """Write one Arrow IPC file, atomically, and return its path; one that ends in .zst is compressed.

        Raises:
            ArgumentError: `info` or `targets` was edited so that a file cannot hold it.
            FileError: the file cannot be written.
            ResourceError: the disk is full.
        """
        return save_effects(self, Path(path))

    @classmethod
    def open(cls, path: str | os.PathLike, *, verify: bool = True) -> Effects:
        """Return the effects in a file. `verify` compares everything with the checksums in the file.

        Raises FileError for a file that is missing, damaged, or of something else.
        """
        data = read_effects(Path(path), verify)
        return cls(data.targets, data.nodes, data.effect_KM, data.bias_K, data.info, data.through_qk_KM)

    def plot(self, path: str | os.PathLike | None = None, target: int = 0) -> Path | Figure:
        """Draw the effects on one target by position and layer, and the ledger of all targets.

        Args:
            path: where to write it, as .svg, .png or .pdf; None for no file.
            target: the row of `ledger` whose effects are drawn.

        Returns the path, or without one the matplotlib figure. Raises ArgumentError for another suffix, and for a row that
        there is not.
        """
        return plot_effects(self, None if path is None else Path(path), target)


def _html_table(table: pa.Table) -> str:
    def row(cells: Sequence[Any], tag: str) -> str:
        texts = ("" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
        return f"<tr>{''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in texts)}</tr>"

    rows = [row(list(each.values()), "td") for each in table.to_pylist()]
    return f"<table>{row(table.column_names, 'th')}{''.join(rows)}</table>"
