"""Plot the head loadings of one edge: a map of layers and heads for each kind of loading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cotrace.common.visible_text import visible

from .figures import check_suffix, plain, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {"last": "last head of the path", "first": "first head of the path", "one_hop": "only head of the path"}
COLOUR_MAP = "RdBu_r"
INCHES_PER_LAYER, INCHES_PER_HEAD = 0.22, 0.3


def plot_heads(loadings: Mapping[Any, np.ndarray], title: str, path: Path | None = None) -> Path | Figure:
    """Draw head loadings (L, H) by kind and return the path, or the figure if there is none; errors as `HeadLoadings.plot`."""
    from matplotlib.figure import Figure

    if path is not None:
        check_suffix(path)
    n_layers, n_heads = next(iter(loadings.values())).shape
    width = len(loadings) * max(2.4, INCHES_PER_HEAD * n_heads) + 1.5
    figure = Figure(figsize=(width, max(3.0, INCHES_PER_LAYER * n_layers + 1.2)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(loadings), sharey=True))
    largest = max(float(np.abs(each).max()) for each in loadings.values()) or 1.0
    for axes, (kind, loading) in zip(panels, loadings.items(), strict=True):
        image = axes.imshow(
            loading,
            origin="lower",
            aspect="auto",
            cmap=COLOUR_MAP,
            vmin=-largest,
            vmax=largest,
            interpolation="nearest",
        )
        axes.set(title=TITLES[kind], xlabel="head", xticks=range(0, n_heads, max(1, n_heads // 8)))
    panels[0].set(ylabel="layer", yticks=range(0, n_layers, max(1, n_layers // 12)))
    figure.colorbar(image, ax=list(panels), label="part of the edge")
    figure.suptitle(plain(visible(title)))
    return figure if path is None else save_figure(figure, path)
