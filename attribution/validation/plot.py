"""Plots of what was measured on a graph."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from cotrace.common.errors import CotraceError
from cotrace.common.files import atomic_write
from cotrace.graphs.graph import Graph

FORMATS = (".svg", ".png", ".pdf")
FEATURES, OTHERS, CONTROLS, ERRORS, GROUPS = "#1f5fa8", "#7fb0dd", "#b8b8b8", "#c0652b", "#222222"


def plot_validation(graph: Graph, path: Path) -> Path:
    """Draw influence against effect, and predicted against measured effects; SVG, PNG or PDF by the path's ending.

    Raises ValueError for a graph that was not validated, and for other endings.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    if "validation" not in graph.info:
        raise CotraceError("the graph was not validated; `cotrace validate FILE` does it")
    if path.suffix not in FORMATS:
        raise CotraceError(f"{path.name} should end in {', '.join(FORMATS)}")
    record = graph.info["validation"]
    top, others, errors = _kinds(graph, record["nodes"])
    figure = Figure(figsize=(10, 5), layout="constrained")
    by_size, by_sign = figure.subplots(1, 2)
    controls = [{**row, "size": row["control_size"]} for row in top]
    shown = (
        (controls, "random features of the same sizes", CONTROLS),
        (others, "features drawn from the whole graph", OTHERS),
        (errors, "error nodes", ERRORS),
        (top, "most influential features", FEATURES),
        (record["groups"], "groups", GROUPS),
    )
    for rows, name, colour in shown:
        by_size.plot(*_columns(rows, "influence", "size"), "o", color=colour, label=name, markersize=4)
        if rows is not controls:
            by_sign.plot(*_columns(rows, "predicted", "measured"), "o", color=colour, markersize=4)
    by_size.set(xscale="log", yscale="log", xlabel="influence", ylabel="effect on the targets when ablated")
    by_size.set_title(_title(record["summary"]))
    values = np.abs([row[name] for row in record["nodes"] for name in ("predicted", "measured")])
    linear = 10.0 ** round(math.log10(max(float(np.median(values)), 1e-12)))
    by_sign.set_xscale("symlog", linthresh=linear)
    by_sign.set_yscale("symlog", linthresh=linear)
    by_sign.axline((0, 0), (linear, linear), color=CONTROLS, linewidth=1, zorder=0)
    by_sign.set(xlabel="predicted by the graph's edges", ylabel="measured", title="Change of the targets' logits")
    for axis in (by_size.xaxis, by_size.yaxis, by_sign.xaxis, by_sign.yaxis):
        axis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    figure.suptitle(" ".join(graph.info["prompt"].split())[:90].replace("$", r"\$"))
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def _kinds(graph: Graph, rows: list[dict[str, Any]]) -> tuple[list[Any], list[Any], list[Any]]:
    """Most influential features, other features, error nodes."""
    features = [row for row in rows if row["node"] < graph.order.n_features]
    top = [row for row in features if row["control_size"] is not None]
    others = [row for row in features if row["control_size"] is None]
    return top, others, [row for row in rows if row["node"] >= graph.order.n_features]


def _columns(rows: list[dict[str, Any]], *names: str) -> tuple[np.ndarray, ...]:
    return tuple(np.array([row[name] for row in rows], float) for name in names)


def _title(summary: dict[str, Any]) -> str:
    found = summary["spearman"]
    if found is None:
        return "Influence and effect"
    return f"Spearman of the drawn {found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
