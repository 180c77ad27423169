"""Plot the validation of a graph."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from cotrace.common.errors import ArgumentError
from cotrace.graphs.drawing.figures import check_suffix, save_figure, title_of
from cotrace.graphs.graph import Graph

FEATURE_COLOUR, SAMPLE_COLOUR, CONTROL_COLOUR = "#1f5fa8", "#7fb0dd", "#b8b8b8"
ERROR_COLOUR, TOKEN_COLOUR, GROUP_COLOUR = "#c0652b", "#5b8c3e", "#222222"
SMALLEST_LINEAR = 1e-12  # range of the symmetric logarithmic axes that is linear


def plot_validation(graph: Graph, path: Path) -> Path:
    """Draw influence against effect, and predicted against measured effects, and return the path.

    The path's suffix chooses SVG, PNG or PDF. Raises ArgumentError for a graph without a validation, and for other
    suffixes.
    """
    from matplotlib.figure import Figure

    if "validation" not in graph.info:
        raise ArgumentError("the graph has no validation; run `cotrace validate FILE` first")
    check_suffix(path)
    record = graph.info["validation"]
    figure = Figure(figsize=(10, 5), layout="constrained")
    size_axes, sign_axes = figure.subplots(1, 2)
    for rows, name, colour in _series(graph, record):
        size_axes.plot(*_columns(rows, "influence", "size"), "o", color=colour, label=name, markersize=4)
        if colour != CONTROL_COLOUR:
            sign_axes.plot(*_columns(rows, "predicted", "measured"), "o", color=colour, markersize=4)
    _format_size_axes(size_axes, record)
    _format_sign_axes(sign_axes, record)
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    figure.suptitle(title_of(graph.info["prompt"]))
    return save_figure(figure, path)


def _series(graph: Graph, record: dict[str, Any]) -> list[tuple[list[dict[str, Any]], str, str]]:
    """Return rows, name and colour of every series, in drawing order."""
    order = graph.order
    features = [row for row in record["nodes"] if row["node"] < order.n_features]
    top = [row for row in features if row["control_size"] is not None]
    sample = [row for row in features if row["control_size"] is None]
    errors, tokens = (
        [row for row in record["nodes"] if of_kind.start <= row["node"] < of_kind.stop]
        for of_kind in (order.errors, order.tokens)
    )
    controls = [{**row, "size": row["control_size"]} for row in top]
    return [
        (controls, "random features of similar sizes", CONTROL_COLOUR),
        (sample, "features drawn from the whole graph", SAMPLE_COLOUR),
        (errors, "error nodes", ERROR_COLOUR),
        (tokens, "tokens", TOKEN_COLOUR),
        (top, "most influential features", FEATURE_COLOUR),
        (record["groups"], "groups", GROUP_COLOUR),
    ]


def _format_size_axes(axes: Any, record: dict[str, Any]) -> None:
    from matplotlib.ticker import NullFormatter

    axes.set(xscale="log", yscale="log", xlabel="influence", ylabel="effect on the targets when ablated")
    axes.set_title(_title(record["summary"]))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())


def _format_sign_axes(axes: Any, record: dict[str, Any]) -> None:
    from matplotlib.ticker import NullFormatter

    values = np.abs([row[name] for row in record["nodes"] for name in ("predicted", "measured")])
    linear = 10.0 ** round(math.log10(max(float(np.median(values)), SMALLEST_LINEAR)))
    axes.set_xscale("symlog", linthresh=linear)
    axes.set_yscale("symlog", linthresh=linear)
    axes.axline((0, 0), (linear, linear), color=CONTROL_COLOUR, linewidth=1, zorder=0)
    axes.set(xlabel="predicted by the graph's edges", ylabel="measured", title="Change of the targets' logits")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())


def _columns(rows: list[dict[str, Any]], *names: str) -> tuple[np.ndarray, ...]:
    return tuple(np.array([row[name] for row in rows], float) for name in names)


def _title(summary: dict[str, Any]) -> str:
    spearman = summary["spearman"]
    if spearman is None:
        return "Influence and effect"
    interval = f"{spearman['low']:.2f} to {spearman['high']:.2f}"
    return f"Spearman correlation of the sample: {spearman['value']:.2f} ({interval})"
