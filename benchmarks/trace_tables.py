"""The result of `benchmarks.trace` as tables."""

from collections.abc import Iterator

from .cells import Record, Row, count, duration, markdown, size, targets_table
from .contestants import OURS, PEERS, REPAIRED, SETS, THEIRS, titles
from .measure import DONE, NOT_MEASURED, OVER_TIME
from .trace_targets import Measured, times_as_fast

PHASES = ("forward and encode", "collecting", "rows", "finishing", "rest")
WHAT = (
    Row("active features", "features", count),
    Row("rows computed", "rows", count),
    Row("coverage reached", "coverage", "{:.1%}".format),
    Row("largest bound", "bound", "{:.3g}".format),
    Row("edges", "edges", count),
)
COSTS = (
    Row("whole process", "wall_seconds", duration),
    Row("peak memory", "peak_bytes", size),
    Row("peak memory of the device", "device_peak_bytes", size),
    Row("share of the matrix-product rate, rows", "rate_share", "{:.0%}".format),
    Row("file", "file_bytes", size),
    Row("pruned file", "pruned_bytes", size),
    Row("opening", "open_seconds", duration, "open_status"),
    Row("pruning", "prune_seconds", duration, "open_status"),
    Row("peak memory, opening and pruning", "open_peak_bytes", size, "open_status"),
)


def case_grid(case: Record, settings: Record) -> list[list[str]]:
    """A case as rows of cells, the first of them the heading: one column a contestant."""
    named, runs = titles(settings["coverage"], settings["max_seconds"]), case["runs"]
    names = [name for name in named if name in runs]
    grid = [["", *(named[name] for name in names)]]
    grid += [[row.title, *(cell(runs[name], row) for name in names)] for row in WHAT]
    grid.append(["tracing", *(tracing(runs[name]) for name in names)])
    grid += [[f"… {phase}", *(phase_cell(runs[name], phase) for name in names)] for phase in PHASES]
    for other, title in ((THEIRS, "circuit-tracer"), (REPAIRED, "circuit-tracer repaired")):
        speeds = (times_as_fast(runs[name], runs.get(other)) if name != other else (None, False) for name in names)
        grid.append([f"times as fast as {title}", *map(times_cell, speeds)])
    grid += [[row.title, *(cell(runs[name], row) for name in names)] for row in COSTS]
    grid.append(["largest edge difference from ours", *(difference(runs[name].get("comparison")) for name in names)])
    return [grid[0], *(row for row in grid[1:] if any(row[1:]))]


def cell(record: Record, row: Row) -> str:
    """A number, nothing where there is none, or the word for why there is none."""
    status = record.get(row.status, record["status"])
    if status == DONE and record.get(row.name) is not None:
        return row.write(record[row.name])
    if row.name == "peak_bytes" and status == OVER_TIME:
        return f"{row.write(record[row.name])} when stopped"
    return "" if status == DONE or record["status"] != DONE else str(status)


def tracing(record: Record) -> str:
    """Seconds of the trace, or how it ended and what is known of it."""
    if record["status"] == DONE:
        return duration(record["seconds"])
    known = f": more than {duration(record['at_least_seconds'])}" if "at_least_seconds" in record else ""
    about = f", about {duration(record['projected_seconds'])}" if "projected_seconds" in record else ""
    return f"{record['status']}{known}{about}"


def phase_cell(record: Record, phase: str) -> str:
    """Seconds of a phase."""
    taken = record.get("phases", {}).get(phase)
    return "" if taken is None else duration(taken)


def times_cell(measured: Measured) -> str:
    """How many times as fast, or more than so many."""
    value, more = measured
    return "" if value is None else f"{'more than ' if more else ''}{value:.3g}"


def difference(edges: Record | None) -> str:
    """The largest edge difference, and whether both graphs have the same nodes."""
    if edges is None or edges["status"] != DONE:
        return "" if edges is None else edges["status"]
    alone = edges["nodes_only_ours"] + edges["nodes_only_theirs"]
    note = f", {alone} nodes in one graph only" if alone else ""
    return f"{edges['largest_edge_difference']:.1e} of the row's largest{note}"


def trace_table(result: Record) -> str:
    """The tables of `benchmarks.trace`, with what they were measured on and with."""
    parts = [targets_table(result["cases"])]
    for case in result["cases"]:
        parts += [f"**{capital(case['case'])}**", markdown(case_grid(case, result["settings"]))]
    parts += [*pruning_section(result), *rows_section(result), images(result["benchmark"]), *facts(result)]
    return "\n\n".join(part for part in parts if part)


def capital(text: str) -> str:
    """A title's first letter."""
    return text[:1].upper() + text[1:]


def pruning_section(result: Record) -> Iterator[str]:
    """Influence and pruning of one adjacency on both sides."""
    grid = [["adjacency of", "step", "cotrace", "circuit-tracer", "times as fast"]]
    for case in result["cases"]:
        for name, title in (("influence_seconds", "influence"), ("prune_seconds", "choice of nodes and edges")):
            sides = [case.get("pruning", {}).get(side, {}) for side in (OURS, THEIRS)]
            if all(name in side for side in sides):
                ours, theirs = (side[name] for side in sides)
                size_of = f"{case['case']}: {case['runs'][OURS]['nodes']:,} nodes"
                grid.append([size_of, title, duration(ours), duration(theirs), f"{theirs / ours:.3g}"])
    if len(grid) > 1:
        yield markdown(grid)


def rows_section(result: Record) -> Iterator[str]:
    """The fewest rows that a coverage can do with, where all were computed."""
    known = [case for case in result["cases"] if "rows_needed" in case["runs"].get(OURS, {})]
    if known:
        yield "The fewest rows that a coverage needs, were their influence known beforehand:"
        curves = [case["runs"][OURS]["rows_needed"] for case in known]
        grid = [["coverage", *(case["case"] for case in known)]]
        rows = zip(*curves, strict=True)
        grid += [[f"{points[0][0]:.0%}", *(f"{share:.0%}" for _, share in points)] for points in rows]
        yield markdown(grid)


def images(benchmark: str) -> str:
    """The plots that `benchmarks.trace_plots` draws beside the page."""
    return (
        f"![Seconds and peak memory against tokens]({benchmark}.svg)\n\n![Rows against coverage]({benchmark}-rows.svg)"
    )


def facts(result: Record) -> list[str]:
    """Machine, settings and versions in words."""
    machine, chosen = result["machine"], result["settings"]
    runs = [(name, run) for case in result["cases"] for name, run in case["runs"].items()]
    limits = sorted({run["time_limit"] for _, run in runs})
    sets = ", ".join(f"`{name}` as {SETS[kind]}" for kind, name in chosen["transcoders"].items())
    busy = max((run["others_cores"] for _, run in runs), default=0)
    ours, theirs = (versions(run for name, run in runs if (name in PEERS) == peer) for peer in (False, True))
    return [
        f"Measured {result['date']} on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB; model `{chosen['model']}`, {sets}; {chosen['dtype']}, peer's batch "
        f"{chosen['peer_batch']}, time limit of a process {' or '.join(f'{limit:,.0f}' for limit in limits)} s; "
        f"median of {chosen['repeats']}.",
        f"Other processes kept up to {busy:.1f} cores busy meanwhile. Ours: {ours}. Theirs: {theirs}.",
    ]


def versions(runs: Iterator[Record]) -> str:
    """What a side ran with, from its first run that finished."""
    found = next((run["versions"] for run in runs if "versions" in run), None)
    return ", ".join(f"{name} {number}" for name, number in found.items()) if found else NOT_MEASURED
