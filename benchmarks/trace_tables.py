"""Tables of the results of `benchmarks.trace`."""

from collections.abc import Iterator

from .baselines import CIRCUIT_TRACER, COTRACE, PEERS, SETS, titles
from .cells import Record, Row, count, duration, markdown, size, targets_table
from .measure import DONE, NOT_MEASURED, OVER_TIME
from .trace_targets import Measurement, speedup

PHASES = ("forward and encode", "collecting", "rows", "finishing", "rest")
GRAPH_ROWS = (
    Row("active features", "features", count),
    Row("rows computed", "rows", count),
    Row("coverage reached", "coverage", "{:.1%}".format),
    Row("largest bound", "bound", "{:.3g}".format),
    Row("edges", "edges", count),
)
COST_ROWS = (
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
    """Return a case as rows of cells under a heading, with one column per program."""
    named, runs = titles(settings["coverage"], settings["max_seconds"]), case["runs"]
    names = [name for name in named if name in runs]
    grid = [["", *(named[name] for name in names)]]
    grid += [[row.title, *(cell(runs[name], row) for name in names)] for row in GRAPH_ROWS]
    grid.append(["tracing", *(tracing_cell(runs[name]) for name in names)])
    grid += [[f"… {phase}", *(phase_cell(runs[name], phase) for name in names)] for phase in PHASES]
    for other in PEERS:
        speedups = (speedup(runs[name], runs.get(other)) if name != other else (None, False) for name in names)
        grid.append([f"speedup over {named[other]}", *map(speedup_cell, speedups)])
    grid += [[row.title, *(cell(runs[name], row) for name in names)] for row in COST_ROWS]
    differences = (difference_cell(runs[name].get("comparison")) for name in names)
    grid.append(["largest edge difference from cotrace", *differences])
    return [grid[0], *(row for row in grid[1:] if any(row[1:]))]


def cell(record: Record, row: Row) -> str:
    """Return a number, the reason why there is none, or nothing."""
    status = record.get(row.status, record["status"])
    if status == DONE and record.get(row.name) is not None:
        return row.write(record[row.name])
    if row.name == "peak_bytes" and status == OVER_TIME:
        return f"{row.write(record[row.name])} when stopped"
    return "" if status == DONE or record["status"] != DONE else str(status)


def tracing_cell(record: Record) -> str:
    """Return the seconds of the trace, or how it ended with the bound and the estimate that are known."""
    if record["status"] == DONE:
        return duration(record["seconds"])
    known = f": more than {duration(record['at_least_seconds'])}" if "at_least_seconds" in record else ""
    about = f", about {duration(record['projected_seconds'])}" if "projected_seconds" in record else ""
    return f"{record['status']}{known}{about}"


def phase_cell(record: Record, phase: str) -> str:
    """Return the seconds of a phase."""
    seconds = record.get("phases", {}).get(phase)
    return "" if seconds is None else duration(seconds)


def speedup_cell(measurement: Measurement) -> str:
    """Return a speedup, marked where it is a lower bound."""
    value, lower_bound = measurement
    return "" if value is None else f"{'more than ' if lower_bound else ''}{value:.3g}"


def difference_cell(edges: Record | None) -> str:
    """Return the largest edge difference, and the number of nodes that only one graph has."""
    if edges is None or edges["status"] != DONE:
        return "" if edges is None else edges["status"]
    unmatched = edges["nodes_only_cotrace"] + edges["nodes_only_circuit_tracer"]
    note = f", {unmatched} nodes in one graph only" if unmatched else ""
    return f"{edges['largest_edge_difference']:.1e} of the row's largest{note}"


def trace_table(result: Record) -> str:
    """Return the tables of `benchmarks.trace` with machine, settings and versions."""
    parts = [targets_table(result["cases"])]
    for case in result["cases"]:
        parts += [f"**{capitalize(case['case'])}**", markdown(case_grid(case, result["settings"]))]
    parts += [*pruning_section(result), *rows_section(result), images(result["benchmark"]), *facts(result)]
    return "\n\n".join(part for part in parts if part)


def capitalize(text: str) -> str:
    """Return the text with an upper-case first letter."""
    return text[:1].upper() + text[1:]


def pruning_section(result: Record) -> Iterator[str]:
    """Yield a table of influence and pruning of the same adjacency with both programs."""
    grid = [["adjacency of", "step", "cotrace", "circuit-tracer", "speedup"]]
    for case in result["cases"]:
        for name, title in (("influence_seconds", "influence"), ("prune_seconds", "selection of nodes and edges")):
            runs = [case.get("pruning", {}).get(program, {}) for program in (COTRACE, CIRCUIT_TRACER)]
            if all(name in run for run in runs):
                own, peer = (run[name] for run in runs)
                nodes = f"{case['case']}: {case['runs'][COTRACE]['nodes']:,} nodes"
                grid.append([nodes, title, duration(own), duration(peer), f"{peer / own:.3g}"])
    if len(grid) > 1:
        yield markdown(grid)


def rows_section(result: Record) -> Iterator[str]:
    """Yield a table of the smallest share of rows that each coverage needs."""
    known = [case for case in result["cases"] if "rows_needed" in case["runs"].get(COTRACE, {})]
    if known:
        yield "Smallest share of rows that reaches a coverage, if the influence of every row were known in advance:"
        curves = [case["runs"][COTRACE]["rows_needed"] for case in known]
        grid = [["coverage", *(case["case"] for case in known)]]
        rows = zip(*curves, strict=True)
        grid += [[f"{points[0][0]:.0%}", *(f"{share:.0%}" for _, share in points)] for points in rows]
        yield markdown(grid)


def images(benchmark: str) -> str:
    """Return links to the plots of `benchmarks.trace_plots`."""
    return (
        f"![Seconds and peak memory against tokens]({benchmark}.svg)\n\n![Rows against coverage]({benchmark}-rows.svg)"
    )


def facts(result: Record) -> list[str]:
    """Return machine, settings and versions in words."""
    machine, settings = result["machine"], result["settings"]
    runs = [(name, run) for case in result["cases"] for name, run in case["runs"].items()]
    limits = " or ".join(f"{limit:,.0f}" for limit in sorted({run["time_limit"] for _, run in runs}))
    sets = ", ".join(f"{SETS[kind]} `{name}`" for kind, name in settings["transcoders"].items())
    busy = max((run["others_cores"] for _, run in runs), default=0)
    own, peer = (versions(run for name, run in runs if (name in PEERS) == is_peer) for is_peer in (False, True))
    return [
        f"Measured {result['date']} on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB. Model `{settings['model']}`; {sets}; {settings['dtype']}; "
        f"circuit-tracer's batch size {settings['peer_batch']}; time limit per process {limits} s; "
        f"median of {settings['repeats']}.",
        f"Other processes used up to {busy:.1f} cores. cotrace ran with {own}; circuit-tracer with {peer}.",
    ]


def versions(runs: Iterator[Record]) -> str:
    """Return the package versions of the first run that finished."""
    found = next((run["versions"] for run in runs if "versions" in run), None)
    return ", ".join(f"{name} {number}" for name, number in found.items()) if found else NOT_MEASURED
