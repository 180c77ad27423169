"""Plot why a head attends where it does: the keys that compete, and pairs of nodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cotrace.common.visible_text import visible

from .figures import check_suffix, plain, save_figure, title_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHOSEN_COLOUR, OTHER_COLOUR = "#1f5fa8", "#7fb0dd"
COLOURS = "RdBu"  # red lowers the score, blue raises it
MAX_LABEL_CHARACTERS = 24
DARK = 0.6  # share of the colour range above which white numbers are read better


class AttentionPanels(NamedTuple):
    """The values that the picture shows of K keys, and of Q nodes of the query and N nodes of the key."""

    title: str
    prompt: str
    score: float
    probability: float
    key_names: Sequence[str]
    key_scores: np.ndarray
    key_probabilities: np.ndarray
    is_chosen: np.ndarray
    query_nodes: Sequence[str]
    key_nodes: Sequence[str]
    pair_scores: np.ndarray  # (Q, N)

    def __repr__(self) -> str:
        return f"<AttentionPanels: {self.title}>"


def draw_attention(panels: AttentionPanels, path: Path | None = None) -> "Path | Figure":
    """Draw the panels; return the path, or the figure if there is none. Raises ArgumentError for an unknown suffix."""
    from matplotlib.figure import Figure

    if path is not None:
        check_suffix(path)
    n_rows, n_columns = panels.pair_scores.shape
    figure = Figure(figsize=(6.5 + 0.55 * n_columns, 3.0 + 0.32 * n_rows), layout="constrained")
    key_axes, pair_axes = figure.subplots(1, 2, width_ratios=(3.0, 1.5 + 0.55 * n_columns))
    _draw_keys(key_axes, panels)
    _draw_pairs(pair_axes, panels)
    figure.suptitle(f"{title_of(panels.title)}\n{title_of(panels.prompt)}", fontsize="medium")
    return figure if path is None else save_figure(figure, path)


def _draw_keys(axes: Any, panels: AttentionPanels) -> None:
    """Draw the attention that keys get, in the order of the prompt, with their scores."""
    from matplotlib.ticker import PercentFormatter

    rows = np.arange(len(panels.key_names))
    colours = [CHOSEN_COLOUR if chosen else OTHER_COLOUR for chosen in panels.is_chosen]
    axes.barh(rows, panels.key_probabilities, color=colours, height=0.7)
    axes.set_yticks(rows, [_text(name) for name in panels.key_names], fontsize="small")
    axes.invert_yaxis()
    for row, probability, score in zip(rows, panels.key_probabilities, panels.key_scores, strict=True):
        axes.annotate(f" {_number(score)}", (probability, row), va="center", fontsize="x-small")
    axes.set_xlim(0, max(1.18 * float(panels.key_probabilities.max()), 1e-6))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlabel="attention, with the score before the softmax")
    axes.set_title("keys", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_pairs(axes: Any, panels: AttentionPanels) -> None:
    """Draw the matrix of pairs of the largest nodes, with the sums of its rows and columns beside their names."""
    pairs = panels.pair_scores
    named = np.abs(pairs[:-1, :-1])
    limit = max(float(named.max(initial=0.0)), 1e-12)  # of the other nodes together may be far larger
    axes.imshow(pairs, cmap=COLOURS, vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), value in np.ndenumerate(pairs):
        colour = "white" if abs(value) > DARK * limit else "black"
        axes.annotate(_number(value), (column, row), ha="center", va="center", fontsize=6, color=colour)
    _label(axes.set_yticks, panels.query_nodes, pairs.sum(1))
    _label(axes.set_xticks, panels.key_nodes, pairs.sum(0), rotation=60, ha="right", rotation_mode="anchor")
    axes.set(ylabel="nodes of the query", xlabel="nodes of the key")
    axes.set_title(f"pairs add up to the score {panels.score:.2f} ({panels.probability:.1%})", fontsize="medium")
    axes.tick_params(length=0)
    for draw_line, count in ((axes.axhline, len(pairs)), (axes.axvline, len(pairs[0]))):
        draw_line(count - 1.5, color="white", linewidth=3)  # before all other nodes together


def _label(set_ticks: Any, names: Sequence[str], sums: np.ndarray, **options: Any) -> None:
    labels = [f"{_text(name)}  {_number(total)}" for name, total in zip(names, sums, strict=True)]
    set_ticks(np.arange(len(names)), labels, fontsize="x-small", **options)


def _number(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _text(text: str) -> str:
    shown = visible(text)
    return plain(shown if len(shown) <= MAX_LABEL_CHARACTERS else f"{shown[: MAX_LABEL_CHARACTERS - 1]}…")
