"""Plot effects: by position and layer for one target, and the ledger of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError
from cotrace.common.visible_text import quoted, visible
from cotrace.graphs.effect_data import EffectData
from cotrace.graphs.order import NodeKind

from .figures import check_suffix, plain, save_figure, title_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {"tokens": "#5b8c3e", "errors": "#c0652b", "bias": "#7fb0dd", "remainder": "#b8b8b8"}
COLOUR_MAP, LINE_COLOUR = "Blues", "#222222"
MAX_BARS, MAX_TOKENS_SHOWN, MAX_LABEL_CHARACTERS = 20, 48, 24
BAR_INCHES, LEAST_INCHES, LEAST_BARS = 0.32, 4.5, 5


def plot_effects(effects: EffectData, path: Path | None = None, target: int = 0) -> Path | Figure:
    """Draw effects and return the path, or the figure if there is none; arguments and errors as `Effects.plot`."""
    from matplotlib.figure import Figure

    if path is not None:
        check_suffix(path)
    target = as_index(target, "target")
    if not 0 <= target < len(effects.targets):
        raise ArgumentError(f"target={target}: the ledger has the rows 0 … {len(effects.targets) - 1}")
    shown = _bars(effects, target)
    height = max(LEAST_INCHES, 2 + BAR_INCHES * len(shown))
    figure = Figure(figsize=(13, height), layout="constrained")
    places, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_places(figure, places, effects, target)
    _draw_ledger(bars, effects, shown)
    figure.legend(loc="outside lower right", ncols=len(PARTS) + 1, fontsize="small", frameon=False)
    figure.suptitle(title_of(effects.info["prompt"]))
    return figure if path is None else save_figure(figure, path)


def _bars(effects: EffectData, target: int) -> list[int]:
    """Return the rows of the ledger that are drawn: the first ones, and the chosen one."""
    rows = list(range(len(effects.targets)))
    return rows if len(rows) <= MAX_BARS else sorted({*rows[: MAX_BARS - 1], max(target, MAX_BARS - 1)})


def _draw_places(figure: Figure, axes: Any, effects: EffectData, target: int) -> None:
    from matplotlib.colors import PowerNorm

    size_LP = _sizes(effects, target)
    norm = PowerNorm(0.5, vmin=0, vmax=float(size_LP.max()) or 1.0)  # few places hold most of the effect
    image = axes.imshow(size_LP, origin="lower", aspect="auto", cmap=COLOUR_MAP, norm=norm, interpolation="nearest")
    figure.colorbar(image, ax=axes, label="sum of absolute effects")
    axes.set(title=f"effects on {_label(effects.targets[target])}", xlabel="position")
    n_layers = len(size_LP) - 1
    ticks = range(0, n_layers, max(1, n_layers // 12))
    axes.set_yticks([0, *(1 + layer for layer in ticks)], ["tokens", *(f"layer {layer}" for layer in ticks)])
    tokens = effects.info["tokens"]
    if len(tokens) <= MAX_TOKENS_SHOWN:
        labels = [f"{plain(visible(token))} {position}" for position, token in enumerate(tokens)]
        axes.set_xticks(range(len(tokens)), labels, rotation=90, fontsize="small")
    for name, positions in effects.segments.items():
        _mark_segment(axes, name, positions, n_layers + 0.5)


def _mark_segment(axes: Any, name: str, positions: Sequence[int], top: float) -> None:
    """Draw a line at both ends of a segment, and its name inside."""
    first, stop = min(positions) - 0.5, max(positions) + 0.5
    axes.vlines([first, stop], -0.5, top, color=LINE_COLOUR, linewidth=0.8)
    middle = (first + stop) / 2
    axes.text(middle, top - 0.1, plain(visible(name)), ha="center", va="top", fontsize="small", color=LINE_COLOUR)


def _sizes(effects: EffectData, target: int) -> np.ndarray:
    """Return the sums of absolute effects on a target, (1 + layers, positions); the first row is that of tokens."""
    layer_M = effects.nodes["layer"].fill_null(-1).to_numpy()
    layer_M = np.where(effects.kind_M == NodeKind.TOKEN, -1, layer_M)
    shape = int(layer_M.max(initial=-1)) + 2, len(effects.info["tokens"])
    size_LP = np.zeros(shape)
    np.add.at(size_LP, (layer_M + 1, effects.nodes["position"].to_numpy()), np.abs(effects.effect_KM[target]))
    return size_LP


def _draw_ledger(axes: Any, effects: EffectData, rows: list[int]) -> None:
    ledger = effects.ledger.take(rows)
    heights, axes.use_sticky_edges = np.arange(len(rows)), False
    right, left = np.zeros(len(rows)), np.zeros(len(rows))
    for part, colour in PARTS.items():
        size = ledger[part].to_numpy()
        start = np.where(size >= 0, right, left)
        axes.barh(heights, size, left=start, color=colour, label=part, height=0.7)
        right, left = right + np.maximum(size, 0), left + np.minimum(size, 0)
    axes.plot(
        ledger["value"].to_numpy(), heights, "|", color=LINE_COLOUR, markersize=16, markeredgewidth=2, label="value"
    )
    axes.axvline(0, color=LINE_COLOUR, linewidth=0.8)
    axes.set_yticks(heights, [_label(effects.targets[row]) for row in rows])
    axes.set_ylim(max(len(rows), LEAST_BARS) - 0.5, -0.5)  # the first target at the top, and no bar fills the picture
    left_out = len(effects.targets) - len(rows)
    axes.set(
        title=f"ledger{f' ({left_out:,} more rows left out)' if left_out else ''}", xlabel="contribution to the value"
    )


def _label(target: dict[str, Any]) -> str:
    label = quoted(target["label"])
    cut = f", avoiding {target['avoiding']}" if target["avoiding"] else ""
    shortened = label if len(label) <= MAX_LABEL_CHARACTERS else f"{label[:MAX_LABEL_CHARACTERS]}…"
    return plain(f"{shortened} at {target['position']}{visible(cut)}")
