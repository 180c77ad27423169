"""Plots of what was measured on a graph."""

from pathlib import Path
from typing import Any

import numpy as np

from .graph import Graph
from .store import replacing

FORMATS = (".svg", ".png", ".pdf")
FEATURES, OTHERS, CONTROLS, ERRORS = "#1f5fa8", "#7fb0dd", "#b8b8b8", "#c0652b"


def plot_validation(graph: Graph, path: Path) -> Path:
    """Draw influence against effect, and predicted against measured effects; SVG, PNG or PDF by the path's ending.

    Raises ValueError for a graph that was not validated, and for other endings.
    """
    from matplotlib.figure import Figure

    if "validation" not in graph.info:
        raise ValueError("the graph was not validated; `cotrace validate FILE` does it")
    if path.suffix not in FORMATS:
        raise ValueError(f"{path.name} should end in {', '.join(FORMATS)}")
    record = graph.info["validation"]
    top, others, errors = _kinds(graph, record["nodes"])
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    by_size, by_sign = figure.subplots(1, 2)
    controls = [{**row, "size": row["control_size"]} for row in top]
    for rows, name, colour in (
        (controls, "random features of their sizes", CONTROLS),
        (others, "features drawn from the whole graph", OTHERS),
        (errors, "error nodes", ERRORS),
        (top, "most influential features", FEATURES),
    ):
        if rows:
            by_size.loglog(*_columns(rows, "influence", "size"), "o", color=colour, label=name, markersize=4)
    by_size.set(xlabel="influence", ylabel="effect on the targets when ablated", title=_title(record["summary"]))
    by_size.legend(fontsize="small", frameon=False)
    for rows, name, colour in (
        (others, "features drawn from the whole graph", OTHERS),
        (errors, "error nodes", ERRORS),
        (top, "most influential features", FEATURES),
        (record["groups"], "groups", "#222222"),
    ):
        if rows:
            by_sign.plot(*_columns(rows, "predicted", "measured"), "o", color=colour, label=name, markersize=4)
    values = np.abs([row[name] for row in record["nodes"] + record["groups"] for name in ("predicted", "measured")])
    small = max(float(np.quantile(values, 0.25)), 1e-12) if len(values) else 1.0
    by_sign.set_xscale("symlog", linthresh=small)
    by_sign.set_yscale("symlog", linthresh=small)
    by_sign.axline((0, 0), (small, small), color=CONTROLS, linewidth=1, zorder=0)
    by_sign.set(xlabel="predicted by the graph's edges", ylabel="measured", title="Change of the targets' logits")
    by_sign.legend(fontsize="small", frameon=False)
    figure.suptitle(" ".join(graph.info["prompt"].split())[:90].replace("$", r"\$"))
    with replacing(path) as temporary:
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
    return f"Spearman {found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
