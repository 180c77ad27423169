"""A picture of a run: what was watched while it trained."""

from pathlib import Path

SHOWN = {"fvu": "FVU of the batch", "l0": "active features of a layer and token", "dead": "share of dead features"}


def plot_run(history: list[dict[str, float]], path: Path) -> None:
    """Curves of a run's history over its steps, as SVG. Needs matplotlib (`pip install 'cotrace[train]'`)."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "cotrace", "svg.fonttype": "none"}):
        figure, axes = pyplot.subplots(1, len(SHOWN), figsize=(4 * len(SHOWN), 3), layout="constrained")
        steps = [record["step"] for record in history]
        for axis, (name, title) in zip(axes, SHOWN.items(), strict=True):
            axis.plot(steps, [record[name] for record in history], linewidth=0.8)
            axis.set(title=title, xlabel="step")
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
