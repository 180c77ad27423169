"""Tables of the results of `benchmarks.kernels`."""

from .cells import Record, case_title, count, duration, markdown, size, size_words, targets_table
from .measure import DONE


def others_of(records: list[Record]) -> list[str]:
    """Return the names that the backends of some cases are compared with, in the result file's order."""
    return list(dict.fromkeys(other for record in records for ratio in record["ratios"].values() for other in ratio))


def kernel_grid(record: Record) -> list[list[str]]:
    """Return a record as rows of cells under a heading."""
    return curve_grid(record) if "points" in record else case_grid(record)


def case_grid(record: Record) -> list[list[str]]:
    """Return a case with one row per implementation."""
    others = others_of([record])
    share = f"share of {record['work']['ceiling_name']}"
    grid = [["", "time", "quartiles", "repeats", *[f"over {other}" for other in others], share]]
    for name, run in record["runs"].items():
        if run["status"] != DONE:
            grid.append([name, run["status"], *[""] * (len(others) + 3)])
            continue
        spread = " … ".join(duration(value) for value in run["quartiles"])
        ratios = [ratio_cell(record["ratios"].get(name, {}).get(other)) for other in others]
        reached = f"{run['share']:.0%}" if "share" in run else ""
        grid.append([name, duration(run["seconds"]), spread, count(run["repeats"]), *ratios, reached])
    return grid


def ratio_cell(ratio: float | None) -> str:
    """Return a ratio with three significant digits, if there is one."""
    return "" if ratio is None else f"{ratio:.3g}"


def curve_grid(record: Record) -> list[list[str]]:
    """Return a curve with one row per point, and the exponents."""
    names = list(record["points"][0]["runs"])
    grid = [[record["axis"], *names]]
    grid += [[count(p[record["axis"]]), *[point_cell(p["runs"][n], record) for n in names]] for p in record["points"]]
    return [*grid, ["exponent", *[exponent_cell(record, name) for name in names]]]


def point_cell(run: Record, record: Record) -> str:
    """Return the measurement at one point, or how it ended."""
    if record["measure"] not in run:
        return str(run["status"])
    return (size if record["measure"].endswith("bytes") else duration)(run[record["measure"]])


def exponent_cell(record: Record, name: str) -> str:
    """Return the fitted exponent, if there is one."""
    return f"{record['exponents'][name]:.2f}" if name in record["exponents"] else ""


def kernels_table(result: Record) -> str:
    """Return the tables of `benchmarks.kernels`: targets, operations and curves."""
    cases = [record for record in result["cases"] if "runs" in record]
    curves = [record for record in result["cases"] if "points" in record]
    operations = dict.fromkeys(record["operation"] for record in cases)
    grouped = [[record for record in cases if record["operation"] == operation] for operation in operations]
    parts = [targets_table(result["cases"]), *map(operation_table, grouped), *map(curve_section, curves)]
    parts += [images(result["benchmark"]) if curves else "", *kernel_facts(result, cases)]
    return "\n\n".join(part for part in parts if part)


def operation_table(records: list[Record]) -> str:
    """Return one row per case: times of all implementations; ratios and share of the peak rate of the default backend."""
    others, default = others_of(records), records[0]["default"]
    names = list(dict.fromkeys(name for r in records for name, run in r["runs"].items() if "share" in run))
    names += [other for other in others if other not in names]
    grid = [["case", *names, *[f"{default} over {other}" for other in others], "share of the peak rate"]]
    for record in records:
        runs, ratios = record["runs"], record["ratios"].get(default, {})
        times = [time_cell(runs.get(name)) for name in names]
        share = runs[default].get("share")
        reached = "" if share is None else f"{share:.0%} of {record['work']['ceiling_name']}"
        grid.append([case_title(record), *times, *[ratio_cell(ratios.get(other)) for other in others], reached])
    return markdown(grid)


def time_cell(run: Record | None) -> str:
    """Return a median, or the reason why there is none."""
    if run is None:
        return ""
    return duration(run["seconds"]) if run["status"] == DONE else str(run["status"])


def curve_section(record: Record) -> str:
    """Return a curve's table under its title and the sizes that are constant."""
    points = record["points"]
    fixed = {name: v for name, v in points[0].items() if name != "runs" and all(p.get(name) == v for p in points)}
    title = case_title(record)
    return f"**{title[0].upper()}{title[1:]}** ({size_words(fixed)})\n\n{markdown(curve_grid(record))}"


def images(benchmark: str) -> str:
    """Return links to the plots of `benchmarks.kernels --plot-only`."""
    kinds = {"layers": "layers", "width": "dictionary width", "active": "active features"}
    return "\n\n".join(f"![Curves against {words}]({benchmark}-{name}.svg)" for name, words in kinds.items())


def kernel_facts(result: Record, cases: list[Record]) -> list[str]:
    """Return machine, settings, versions, and the reasons for missing measurements."""
    machine, chosen = result["machine"], result["settings"]
    found = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    absent = {f"{name}: {run['detail']}" for r in cases for name, run in r["runs"].items() if run["status"] != DONE}
    repeats = [run["repeats"] for r in cases for run in r["runs"].values() if run["status"] == DONE]
    quick = "A quick run on tiny sizes, whose times mean nothing. " if chosen["quick"] else ""
    facts = [
        f"{quick}Measured {result['date']} on {chosen['device_name']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB, {chosen['threads']} threads, {chosen['dtype']}; {found}."
    ]
    if repeats:
        busy = max(run.get("others_cores", 0) for r in cases for run in r["runs"].values())
        facts[0] += f" Medians of {min(repeats)} to {max(repeats)} repeats; quartiles are in the result file."
        facts[0] += f" Other processes used up to {busy:.1f} cores."
    return [*facts, *([f"Not timed: {'; '.join(sorted(absent))}."] if absent else [])]
