"""Tables of the results of `benchmarks.sampling`."""

from statistics import mean, median

import numpy as np

from .cells import Record, count, duration, limit_and_value, markdown, size
from .measure import NOT_MEASURED
from .sampling_targets import covered, done, largest_error, n_found, own_shares, peer_seconds, peer_shares
from .sweep_profile import profile_table

NAMES = {
    "drawn_512": "512 tokens: rows drawn",
    "top_512": "512 tokens: most influential rows",
    "drawn_2000": "2,000 tokens: rows drawn",
    "top_2000_minute": "2,000 tokens: most influential rows, 60 s",
    "top_2000": "2,000 tokens: most influential rows, 5 minutes",
}
SETS = {"spread_random": "Random CLT", "spread_shipped": "Shipped CLT"}


def sampling_table(result: Record) -> str:
    """Return the tables of `benchmarks.sampling` with machine and settings."""
    runs = result["runs"]
    parts = [
        _targets(result["targets"]),
        _shares(runs),
        _strongest(runs),
        _long(runs),
        *(_spread(runs, name) for name in SETS),
        _profile(runs),
        _facts(result),
    ]
    return "\n\n".join(part for part in parts if part)


def _targets(found: list[Record]) -> str:
    met = {True: "yes", False: "**no**"}
    rows = [[one["on"], one["what"], *limit_and_value(one), met[one["met"]]] for one in found]
    return markdown([["measured on", "target", "limit", "measured", "met"], *rows]) if rows else ""


def _shares(runs: Record) -> str:
    """Return the table of the shares of spans of 64 tokens, random CLT: every program beside the exact shares."""
    exact = done(runs, "every_random")
    shares = None if exact is None else own_shares(exact)
    grid = [
        ["random CLT, 64 tokens", "rows", "seconds", "peak memory", "half-width of a share", "largest error of a share"]
    ]
    for name, title in (("every_random", "cotrace, every row"), ("drawn_random", "cotrace, rows drawn")):
        record = done(runs, name)
        if record:
            half_width = f"{record['half_width']:.4f}" if record["sampling"] else ""
            error = _number(largest_error(own_shares(record), shares)) if record["sampling"] else ""
            grid.append([title, *_costs(record), half_width, error])
    titles = {"peer": "every row", "peer_patched": "patched, every row", "peer_rows": "as many rows"}
    for name, title in titles.items():
        record = done(runs, name)
        if record:
            error = _number(largest_error(peer_shares(record), shares))
            grid.append([f"circuit-tracer, {title}", *_costs(record), "", error])
    seconds, note = peer_seconds(runs)
    if note and seconds is not None:
        grid.append([f"circuit-tracer, every row, {note}", "", duration(seconds), "", "", ""])
    drawn = done(runs, "drawn_random")
    said = ""
    if drawn and shares is not None:
        inside, number = covered(drawn, shares)
        said = f"\n\n{inside} of the {number} intervals contain the exact share."
    return markdown(grid) + said if len(grid) > 2 else ""


def _costs(record: Record) -> list[str]:
    return [count(record["rows"]), duration(record["seconds"]), size(record["peak_bytes"])]


def _number(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:.2g}"


def _strongest(runs: Record) -> str:
    """Return the table of the strongest features, shipped CLT."""
    exact, drawn = done(runs, "every_shipped"), done(runs, "drawn_shipped")
    if not exact or not drawn:
        return ""
    grid = [["shipped CLT, 64 tokens", "rows", "seconds", "peak memory", "of the 100 strongest features, found"]]
    grid.append(["every row", *_costs(exact), "100"])
    grid.append(["rows drawn", *_costs(drawn), str(n_found(drawn, exact))])
    return markdown(grid)


def _long(runs: Record) -> str:
    """Return the table of the long prompts, shipped CLT."""
    heading = ["shipped CLT", "active features", "rows", "seconds", "peak memory"]
    grid = [[*heading, "half-width of a share", "standard error", "coverage", "largest bound"]]
    for name, title in NAMES.items():
        record = done(runs, name)
        if record:
            drawn = bool(record["sampling"])
            errors = [f"{record['half_width']:.4f}" if drawn else f"{record['half_width']:.3f}, certain"]
            errors.append(f"{record['standard_error']:.4f}" if drawn else "")
            certain = [f"{record['coverage']:.1%}", f"{record['bound']:.3g}"]
            grid.append([title, count(record["features"]), *_costs(record), *errors, *certain])
    return markdown(grid) if len(grid) > 1 else ""


def _spread(runs: Record, name: str) -> str:
    """Return the table of errors against seconds, for rows drawn and the most influential rows."""
    record = done(runs, name)
    exact = done(runs, name.replace("spread", "every"))
    if not record or not exact:
        return ""
    shares, by_rows = own_shares(exact), dict[int, list[Record]]()
    for one in record["runs"]:
        by_rows.setdefault(one["options"]["max_features"], []).append(one)
    heading = ["rows", "drawn: seconds", "standard error", "largest error", "variance times seconds"]
    grid = [[*heading, "most influential: seconds", "largest error", "the same, shares made to add up to 1"]]
    for rows, found in by_rows.items():
        drawn = [one for one in found if one["options"].get("sampled")]
        (top,) = (one for one in found if not one["options"].get("sampled"))
        grid.append([count(rows), *_drawn_cells(drawn, shares), *_top_cells(top, shares)])
    seeds = len(drawn)
    said = f"{SETS[name]}, 64 tokens, of the share that is worst; rows drawn with {seeds} seeds: median seconds, standard error from the mean variance, root mean square of the largest error. In one process."
    return f"{said}\n\n{markdown(grid)}"


def _drawn_cells(drawn: list[Record], shares: np.ndarray) -> list[str]:
    seconds = median(one["seconds"] for one in drawn)
    variance = mean(one["standard_error"] ** 2 for one in drawn)
    error = np.sqrt(mean(np.abs(own_shares(one) - shares).max() ** 2 for one in drawn))
    return [duration(seconds), f"{np.sqrt(variance):.4f}", f"{error:.4f}", f"{variance * seconds:.1e}"]


def _top_cells(top: Record, shares: np.ndarray) -> list[str]:
    found = own_shares(top)
    errors = (np.abs(each - shares).max() for each in (found, found / found.sum()))
    return [duration(top["seconds"]), *(f"{error:.4f}" for error in errors)]


def _profile(runs: Record) -> str:
    """Return the parts of the sweep of every row."""
    record = done(runs, "profile")
    if not record:
        return ""
    said = (
        f"Where the time goes while {record['rows']:,} rows are computed, random CLT, 64 tokens: shares of {record['cores']} "
        f"cores during {duration(record['sweep_seconds'])}."
    )
    return f"{said}\n\n{profile_table(record)}"


def _facts(result: Record) -> str:
    """Return machine, settings and versions in words."""
    used, chosen, runs = result["machine"], result["settings"], result["runs"].values()
    versions = dict[str, str]()
    for one in runs:
        versions |= one.get("versions", {})
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    sets = ", ".join(f"`{name}`" for name in chosen["transcoders"].values())
    busy = max((one["others_cores"] for one in runs), default=0.0)
    return (
        f"Measured {result['date']} on {used['cpu']}, {used['cores']} cores, {used['memory_bytes'] / 1e9:.0f} GB; `{chosen['model']}` "
        f"with {sets}; float32; circuit-tracer's batch size {chosen['peer_batch']}. Other processes used up to {busy:.1f} cores. {named}."
    )
