"""Plot the result of `benchmarks.faithfulness`: `python -m benchmarks.faithfulness_plots [RESULT]` draws into docs/.

Left: the share of right verdicts when only the surest transcripts get one. Right: the AUROC of each mechanism against its
twin. Five methods: the best ones that nothing was fitted for, the best fitted one, and the best that reads text alone.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from .cells import Record
from .faithfulness_tables import scored
from .kernel_plots import ROOT, STYLES, matplotlib_pyplot
from .trace_plots import save


def draw(result: Record, path: Path) -> None:
    """Draw both panels into one file."""
    pyplot, methods = matplotlib_pyplot(), shown(result)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for one, style in zip(methods, STYLES, strict=False):
        draw_curve(axes[0], one, style)
        draw_pairs(axes[1], one, style)
    axes[0].set(xlabel="share of transcripts with a verdict", ylabel="share of right verdicts", ylim=(0.4, 1.02))
    axes[1].set(xlabel="AUROC against the twin, mean over tasks", xlim=(-0.02, 1.02))
    axes[1].axvline(0.5, color="#888888", linestyle="--", linewidth=1)
    axes[1].invert_yaxis()
    for axis in axes:
        axis.grid(color="#dddddd")
    if axes[0].get_legend_handles_labels()[0]:
        axes[0].legend(fontsize="small", loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    save(pyplot, figure, path)


def shown(result: Record) -> list[Record]:
    """Return the records of the methods that are drawn."""
    known = {method["name"]: method for method in result["methods"]}
    groups = defaultdict(list)
    for one in scored(result):
        about = known[one["method"]]
        groups["text" if about["reads"] == "text" else "fitted" if about["supervised"] else "free"].append(one)
    last = [*groups["fitted"][:1], *groups["text"][:1]]
    return [*groups["free"][: len(STYLES) - len(last)], *last]


def draw_curve(axis: Any, one: Record, style: tuple[str, str]) -> None:
    """Draw the abstention curve of a method, with its interval."""
    curve = one["abstention"]
    if curve is None:
        return
    points = [
        (x, found["value"], found["low"], found["high"])
        for x, found in zip(curve["coverage"], curve["right"], strict=True)
        if None not in found.values()
    ]
    if not points:
        return
    x, y, low, high = zip(*points, strict=True)
    axis.plot(x, y, color=style[0], marker=style[1], markersize=4, label=one["method"].replace("_", " "))
    axis.fill_between(x, low, high, color=style[0], alpha=0.12, linewidth=0)


def draw_pairs(axis: Any, one: Record, style: tuple[str, str]) -> None:
    """Draw a method's AUROC of each mechanism against its twin."""
    values = defaultdict(list)
    for pair in one["twins"]:
        if pair["value"] is not None:
            values[f"{pair['mechanism']} / {pair['twin']}"].append(pair["value"])
    axis.plot([mean(each) for each in values.values()], list(values), style[1], color=style[0], alpha=0.8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, nargs="?", default=ROOT / "benchmarks" / "results" / "faithfulness.json")
    parser.add_argument("--plots", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    draw(json.loads(args.result.read_text()), args.plots / f"{args.result.stem}.svg")


if __name__ == "__main__":
    main()
