"""Result files as tables in the docs: `python -m benchmarks.tables [--page docs/benchmarks.md]`.

A table stands between `<!-- benchmark:NAME -->` and `<!-- /benchmark:NAME -->`, where NAME is the
result file's; what is between them is rewritten, the rest of the page is left alone.
"""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .measure import DONE, NOT_MEASURED

ROOT = Path(__file__).parent.parent
Record = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One measure: its title, its name in the result file, how it is written, and which step's status it shares."""

    title: str
    name: str
    write: Callable[[float], str]
    status: str = "status"


def seconds(value: float) -> str:
    """Seconds with three significant digits."""
    return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"


def size(value: float) -> str:
    """Bytes in decimal units."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def count(value: float) -> str:
    """A count with separators."""
    return f"{value:,}"


ROWS = (
    Row("features expanded", "features", count),
    Row("edges", "edges", count),
    Row("tracing", "seconds", seconds),
    Row("whole process", "wall_seconds", seconds),
    Row("peak memory", "peak_bytes", size),
    Row("file", "file_bytes", size),
    Row("opening", "open_seconds", seconds, "open_status"),
    Row("pruning", "prune_seconds", seconds, "open_status"),
    Row("peak memory, opening and pruning", "open_peak_bytes", size, "open_status"),
)


def cells(case: Record, row: Row) -> tuple[str, str, str]:
    """Ours, theirs and the ratio of one row; a side that did not finish shows how it ended."""
    ratio = case["ratios"].get(row.name)
    return side_cell(case["ours"], row), side_cell(case["theirs"], row), "" if ratio is None else f"{ratio:.3g}"


def side_cell(side: Record, row: Row) -> str:
    """A number, or the word for why there is none."""
    status = side.get(row.status, side["status"])
    if status == DONE and row.name in side:
        return row.write(side[row.name])
    return NOT_MEASURED if status == DONE else str(status)


def trace_table(result: Record) -> str:
    """The table of `benchmarks.trace`, with what it was measured on and with."""
    lines = ["| tokens | measure | cotrace | circuit-tracer | ours / theirs |", "|---|---|---|---|---|"]
    for case in result["cases"]:
        lines += [f"| {case['tokens']} | {row.title} | {' | '.join(cells(case, row))} |" for row in ROWS]
        lines.append(f"| {case['tokens']} | largest edge difference | {difference(case['comparison'])} | | |")
    return "\n".join([*lines, "", *facts(result)])


def difference(edges: Record) -> str:
    """The largest edge difference, and whether both graphs have the same nodes."""
    if edges["status"] != DONE:
        return edges["status"]
    alone = edges["nodes_only_ours"] + edges["nodes_only_theirs"]
    note = f", {alone} nodes in one graph only" if alone else ""
    return f"{edges['largest_edge_difference']:.1e} of the row's largest{note}"


def facts(result: Record) -> list[str]:
    """Machine, settings and versions in words."""
    machine, settings = result["machine"], result["settings"]
    memory, limit = machine["memory_bytes"] / 1e9, settings["time_limit_seconds"]
    return [
        f"Measured {result['date']} on {machine['cpu']}, {machine['cores']} cores, {memory:.0f} GB; "
        f"model `{settings['model']}`, transcoders `{settings['transcoders']}`, {settings['dtype']}, "
        f"peer's batch {settings['peer_batch']}, time limit {limit:,.0f} s; median of {settings['repeats']}.",
        "",
        f"Other processes kept up to {others(result):.1f} cores busy meanwhile. "
        f"Ours: {versions(result, 'ours')}. Theirs: {versions(result, 'theirs')}.",
    ]


def others(result: Record) -> float:
    """Cores that other processes kept busy during the run that suffered most."""
    runs = [run for case in result["cases"] for side in ("ours", "theirs") for run in case[side].get("runs", [])]
    return max(run["others_cores"] or 0 for run in runs)


def versions(result: Record, side: str) -> str:
    """What a side ran with, from its first case that finished."""
    found = [case[side]["versions"] for case in result["cases"] if "versions" in case[side]]
    return ", ".join(f"{name} {number}" for name, number in found[0].items()) if found else NOT_MEASURED


TABLES: dict[str, Callable[[Record], str]] = {"trace": trace_table}


def rewrite(page: str, name: str, table: str) -> str:
    """The page with the table between its markers; a page without them gets both at its end."""
    begin, end = f"<!-- benchmark:{name} -->", f"<!-- /benchmark:{name} -->"
    block = f"{begin}\n{table}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: block, page)
    return f"{page.rstrip()}\n\n{block}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    args = parser.parse_args()
    page = args.page.read_text() if args.page.exists() else "# Benchmarks\n"
    for path in sorted(args.results.glob("*.json")):
        result = json.loads(path.read_text())
        if result.get("benchmark") in TABLES:
            page = rewrite(page, result["benchmark"], TABLES[result["benchmark"]](result))
    args.page.write_text(page)


if __name__ == "__main__":
    main()
