"""A picture of a run: what was watched while it trained."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

SHOWN = {"fvu": "FVU of the batch", "l0": "active features of a layer and token", "dead": "share of dead features"}


def plot_run(history: list[dict[str, float]], path: Path) -> None:
    """Curves of a run's history over its steps, as SVG."""
    with matplotlib.rc_context({"svg.hashsalt": "cotrace", "svg.fonttype": "none"}):
        figure = Figure(figsize=(4 * len(SHOWN), 3), layout="constrained")
        steps = [record["step"] for record in history]
        for axis, (name, title) in zip(figure.subplots(1, len(SHOWN)), SHOWN.items(), strict=True):
            axis.plot(steps, [record[name] for record in history], linewidth=0.8)
            axis.set(title=title, xlabel="step")
        figure.savefig(path, metadata={"Date": None})
