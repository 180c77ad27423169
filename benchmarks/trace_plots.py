"""Plot the result of `benchmarks.trace`: `python -m benchmarks.trace_plots [RESULT]` draws into docs/.

Seconds and peak memory against tokens, one row of panels per set of transcoders, and the rows that a coverage needs. A
run that was stopped has an open marker: its true value is larger.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from .baselines import COTRACE, SETS, titles
from .cells import Record
from .kernel_plots import ROOT, STYLES, matplotlib_pyplot
from .measure import DONE

PANELS = (("seconds", "seconds of a trace", 1.0), ("peak_bytes", "peak memory (GB)", 1e-9))


def draw_costs(result: Record, path: Path) -> None:
    """Plot seconds and peak memory of all programs against tokens."""
    pyplot, cases = matplotlib_pyplot(), result["cases"]
    sets = [name for name in SETS if any(case["transcoders"] == name for case in cases)]
    figure, axes = pyplot.subplots(len(sets), 2, figsize=(11, 4.5 * len(sets)), squeeze=False, layout="constrained")
    for row, name in zip(axes, sets, strict=True):
        mine = sorted((case for case in cases if case["transcoders"] == name), key=lambda case: case["tokens"])
        for axis, (measure, label, factor) in zip(row, PANELS, strict=True):
            draw_panel(axis, mine, result["settings"], measure, factor)
            axis.set(xlabel="tokens", ylabel=label, title=f"{SETS[name][:1].upper()}{SETS[name][1:]}")
    save(pyplot, figure, path)


def draw_panel(axis: Any, cases: list[Record], settings: Record, measure: str, factor: float) -> None:
    """Plot one measurement of a set's cases: one line per program, open markers where it was stopped."""
    named = titles(settings["coverage"], settings["max_seconds"])
    for (name, title), (colour, marker) in zip(named.items(), STYLES, strict=True):
        points = [(case["tokens"], *point(case["runs"].get(name), measure)) for case in cases]
        known = [(x, y * factor, done) for x, y, done in points if y is not None]
        style = {"color": colour, "marker": marker}
        if known:  # no line to a run that was stopped: its cost is unknown
            whole = [(x, y) for x, y, done in known if done]
            axis.plot([x for x, _ in whole], [y for _, y in whole], label=title, **style)
            stopped = [(x, y) for x, y, done in known if not done]
            axis.plot([x for x, _ in stopped], [y for _, y in stopped], linestyle="", markerfacecolor="white", **style)
    ticks = sorted({case["tokens"] for case in cases})
    axis.set(xscale="log", yscale="log")
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axis.minorticks_off()
    axis.grid(color="#dddddd")
    axis.legend(fontsize="small")


def point(run: Record | None, measure: str) -> tuple[float | None, bool]:
    """Return a measurement, and whether the run finished."""
    if run is None or run["status"] == DONE:
        return (run or {}).get(measure), True
    return run.get("at_least_seconds" if measure == "seconds" else measure), False


def draw_rows(result: Record, path: Path) -> None:
    """Plot the smallest share of rows that each coverage needs, for cases with all rows computed."""
    pyplot = matplotlib_pyplot()
    figure, axis = pyplot.subplots(figsize=(6.5, 4.5), layout="constrained")
    for number, case in enumerate(case for case in result["cases"] if "rows_needed" in case["runs"].get(COTRACE, {})):
        colour, marker = STYLES[number % len(STYLES)]
        x, y = zip(*case["runs"][COTRACE]["rows_needed"], strict=True)
        axis.plot(x, y, color=colour, marker=marker, label=case["case"])
    axis.set(xlabel="coverage", ylabel="smallest share of rows", ylim=(0, 1))
    axis.grid(color="#dddddd")
    axis.legend(fontsize="small")
    save(pyplot, figure, path)


def save(pyplot: Any, figure: Any, path: Path) -> None:
    """Save a figure; the same result gives the same bytes."""
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, nargs="*", help="default: those in benchmarks/results")
    parser.add_argument("--plots", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    for path in args.result or sorted((ROOT / "benchmarks" / "results").glob("trace*.json")):
        result = json.loads(path.read_text())
        draw_costs(result, args.plots / f"{result['benchmark']}.svg")
        draw_rows(result, args.plots / f"{result['benchmark']}-rows.svg")


if __name__ == "__main__":
    main()
