"""Plots of the results of `benchmarks.kernels`, drawn into docs/."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cells import Record, case_title
from .kernel_cases import DENSE, PRODUCT

ROOT = Path(__file__).parent.parent
BASELINES = (DENSE, PRODUCT, "dense")  # dashed lines


@dataclass(frozen=True)
class PlotPanel:
    """One panel of a plot: the case of its curves and its axis labels."""

    case: str
    x_label: str
    y_label: str
    factor: float = 1.0  # from the result file's unit to the axis's


PLOTS = {
    "layers": (
        PlotPanel("time of a token against layers", "layers", "time of a token (ms)", 1e3),
        PlotPanel("memory of decode's gradients against layers", "layers", "memory without inputs (MB)", 1e-6),
    ),
    "width": (
        PlotPanel("time against dictionary width", "features of a layer", "time of a call (ms)", 1e3),
        PlotPanel(
            "memory of encode against width", "features of a layer", "memory without inputs and result (MB)", 1e-6
        ),
        PlotPanel(
            "memory of decode's gradients against width", "features of a layer", "memory without inputs (MB)", 1e-6
        ),
    ),
    "active": (
        PlotPanel("time against active features", "active features of a position", "time of a call (ms)", 1e3),
        PlotPanel(
            "memory of decode's gradients against active features",
            "active features",
            "memory without inputs (MB)",
            1e-6,
        ),
        PlotPanel("memory of encode against positions", "positions", "memory without inputs and result (MB)", 1e-6),
    ),
}
# Okabe and Ito's colour-blind safe palette, and a marker for each colour.
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#000000", "v"))


def plot(result: Record, folder: Path) -> None:
    """Draw the curves; the same result file gives the same bytes."""
    pyplot = matplotlib_pyplot()
    curves = {record["case"]: record for record in result["cases"] if "points" in record}
    for name, panels in PLOTS.items():
        drawn = [panel for panel in panels if panel.case in curves]
        if not drawn:
            continue
        size = (5.5 * len(drawn), 5.0)
        figure, axes = pyplot.subplots(1, len(drawn), figsize=size, squeeze=False, layout="constrained")
        for panel, axis in zip(drawn, axes[0], strict=True):
            draw(axis, panel, curves[panel.case])
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        figure.savefig(folder / f"{result['benchmark']}-{name}.svg", facecolor="white", metadata={"Date": None})
        pyplot.close(figure)


def matplotlib_pyplot() -> Any:
    """Return pyplot for SVG files, without a display and with the same element ids in every run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    matplotlib.rcdefaults()
    matplotlib.rcParams["svg.hashsalt"] = "cotrace"
    return matplotlib.pyplot


def draw(axis: Any, panel: PlotPanel, record: Record) -> None:
    """Draw one curve per candidate, with its exponent in the legend."""
    for number, name in enumerate(record["points"][0]["runs"]):
        found = [(point[record["axis"]], point["runs"][name].get(record["measure"])) for point in record["points"]]
        x, y = [x for x, value in found if value], [value * panel.factor for _, value in found if value]
        colour, marker = STYLES[number % len(STYLES)]
        label = f"{name} (exponent {record['exponents'][name]:.2f})" if name in record["exponents"] else name
        axis.plot(x, y, color=colour, marker=marker, linestyle="--" if name in BASELINES else "-", label=label)
    title = case_title(record)
    axis.set(xscale="log", yscale="log", xlabel=panel.x_label, ylabel=panel.y_label, title=title[0].upper() + title[1:])
    ticks = [point[record["axis"]] for point in record["points"]]
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks], rotation=45 if max(ticks) > 999 else 0)
    axis.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axis.minorticks_off()
    axis.grid(color="#dddddd")
    axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.2))
