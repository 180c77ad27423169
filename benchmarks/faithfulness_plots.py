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

OFFSET = 0.12  # between the markers of two methods, in rows


def draw(result: Record, path: Path) -> None:
    """Draw both panels into one file."""
    pyplot, methods = matplotlib_pyplot(), shown(result)
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 5), layout="constrained")
    pairs = list(dict.fromkeys(name for one in methods for name in twin_means(one)))
    for number, (one, style) in enumerate(zip(methods, STYLES, strict=False)):
        draw_curve(axes[0], one, style)
        draw_pairs(axes[1], one, style, pairs, OFFSET * (number - (len(methods) - 1) / 2))
    axes[0].set(xlabel="share of transcripts with a verdict", ylabel="share of right verdicts", ylim=(0.4, 1.02))
    axes[1].set(xlabel="AUROC against the twin, mean over tasks", xlim=(-0.02, 1.02))
    axes[1].axvline(0.5, color="#888888", linestyle="--", linewidth=1)
    axes[1].set_yticks(range(len(pairs)), pairs)
    axes[1].invert_yaxis()
    for axis in axes:
        axis.grid(color="#dddddd")
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside lower center", ncols=len(labels) or 1)
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
    axis.plot(x, y, color=style[0], marker=style[1], markersize=4)
    axis.fill_between(x, low, high, color=style[0], alpha=0.12, linewidth=0)


def draw_pairs(axis: Any, one: Record, style: tuple[str, str], pairs: list[str], offset: float) -> None:
    """Draw a method's AUROC of each mechanism against its twin, a little above or below the line of the pair."""
    means = twin_means(one)
    points = [(means[name], row + offset) for row, name in enumerate(pairs) if name in means]
    label = one["method"].replace("_", " ")
    axis.plot(*zip(*points, strict=True) if points else ((), ()), style[1], color=style[0], label=label)


def twin_means(one: Record) -> dict[str, float]:
    """Return a method's AUROC of each mechanism against its twin, averaged over tasks."""
    values = defaultdict(list)
    for pair in one["twins"]:
        if pair["value"] is not None:
            values[f"{pair['mechanism']} / {pair['twin']}"].append(pair["value"])
    return {name: mean(each) for name, each in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, nargs="?", default=ROOT / "benchmarks" / "results" / "faithfulness.json")
    parser.add_argument("--plots", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    draw(json.loads(args.result.read_text()), args.plots / f"{args.result.stem}.svg")


if __name__ == "__main__":
    main()
