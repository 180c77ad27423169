"""Plots of a training run."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from cotrace.common.files import atomic_write

PANELS = {"fvu": "FVU of the batch", "l0": "active features per layer and token", "dead": "share of dead features"}


def plot_history(history: list[dict[str, float]], path: Path) -> None:
    """Draw a run's metrics over its steps as an SVG file; the same history gives the same bytes."""
    with matplotlib.rc_context({"svg.hashsalt": "cotrace", "svg.fonttype": "none"}):
        figure = Figure(figsize=(4 * len(PANELS), 3), layout="constrained")
        steps = [record["step"] for record in history]
        for axis, (name, title) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
            axis.plot(steps, [record[name] for record in history], linewidth=0.8)
            axis.set(title=title, xlabel="step")
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
