"""The GPU section of docs/benchmarks.md, from the result file of `benchmarks.gpu_check`."""

from .cells import Record, case_title, duration, limit_and_value, markdown, size
from .kernel_tables import operation_table
from .launches import launches_grid
from .measure import DONE, NOT_MEASURED

NOTHING = "Not measured: no result file. `make gpu-check` on a machine with a GPU writes it."
TITLES = {
    "tests": "tests that need a GPU",
    "identities": "identities",
    "kernels": "kernels",
    "trace_shipped": "traces with the shipped CLT",
    "trace_random": "traces with a random CLT",
    "launches": "launches",
    "effects": "effects",
    "intervention": "intervention",
    "training": "training",
    "peer": "circuit-tracer",
}


def gpu_table(result: Record) -> str:
    """Return the tables of `benchmarks.gpu_check`: how sections ended, checks and targets, kernels, traces, launches."""
    sections = result["sections"]
    parts = [dry_run_note(result), markdown(_outcomes(sections)), markdown(_targets(sections))]
    for name, table in (("kernels", _kernels), ("trace_shipped", _traces), ("trace_random", _traces), ("peer", _peer)):
        parts.append(table(sections[name]["records"]) if name in sections else "")
    if sections.get("launches", {}).get("records"):
        parts.append(markdown(launches_grid(sections["launches"]["records"])))
    parts += [_training(sections), _facts(result)]
    return "\n\n".join(part for part in parts if part)


def dry_run_note(result: Record) -> str:
    """Return a warning about a dry run."""
    return "A dry run on the CPU with tiny sizes, whose times mean nothing." if result["dry_run"] else ""


def _outcomes(sections: Record) -> list[list[str]]:
    grid = [["section", "ended", "seconds", "last line of the traceback"]]
    for name, section in sections.items():
        lines = [line for line in section.get("traceback", "").splitlines() if line.strip()]
        last = lines[-1].strip().replace("|", "\\|") if lines else ""
        grid.append([TITLES.get(name, name), section["status"], f"{section['wall_seconds']:.0f}", last])
    return grid


def _targets(sections: Record) -> list[list[str]]:
    met = {True: "yes", False: "**no**"}
    rows = [
        [TITLES.get(name, name), _title(record), one["what"], *limit_and_value(one), met[one["met"]]]
        for name, section in sections.items()
        for record in section["records"]
        for one in record["targets"]
    ]
    return [["section", "measured on", "check or target", "limit", "measured", "met"], *rows]


def _title(record: Record) -> str:
    return case_title(record) if "operation" in record else str(record["case"])


def _kernels(records: list[Record]) -> str:
    measured = [record for record in records if "ratios" in record]
    operations = dict.fromkeys(record["operation"] for record in measured)
    tables = [operation_table([r for r in measured if r["operation"] == operation]) for operation in operations]
    for record in records:
        if "shares" in record:
            shares = ", ".join(f"{name} {value:.0%}" for name, value in record["shares"].items())
            tables.append(f"{record['case']}: share of the float32 matmul rate: {shares}.")
    trials = [(name, error) for r in records for name, error in r.get("errors", {}).items() if "TF32" in name]
    if trials:
        tables.append(f"Errors of edge rows: {', '.join(f'{name} {error:.1e}' for name, error in trials)}.")
    return "\n\n".join(tables)


def _traces(records: list[Record]) -> str:
    grid = [
        ["trace", "features", "rows", "edges", "time", "rows per second", "share of the matmul rate", "peak memory"]
    ]
    for record in records:
        if "phases" in record:
            counts = [f"{record[name]:,}" for name in ("features", "rows", "edges")]
            rows_second = f"{record['rows'] / record['seconds']:,.0f}"
            share = f"{record['rate_share']:.1%}" if record["rate_share"] else ""
            peak = size(record["device_peak_bytes"]) if record["device_peak_bytes"] else ""
            grid.append([record["case"], *counts, duration(record["seconds"]), rows_second, share, peak])
    return markdown(grid) if len(grid) > 1 else ""


def _peer(records: list[Record]) -> str:
    if not records or "runs" not in records[0]:
        return f"circuit-tracer: {NOT_MEASURED}."
    runs = records[0]["runs"]
    times = {name: run["seconds"] for name, run in runs.items() if run["status"] == DONE}
    words = ", ".join(f"{name} {duration(seconds)}" for name, seconds in times.items())
    ratio = f" Ratio: {times['circuit_tracer'] / times['cotrace']:.3g}." if len(times) == 2 else ""
    return f"{records[0]['case']}: {words}.{ratio}"


def _training(sections: Record) -> str:
    for record in sections.get("training", {}).get("records", []):
        peak = f", peak memory {size(record['device_peak_bytes'])}" if record["device_peak_bytes"] else ""
        return f"Training, {record['case']}: {record['tokens_per_second']:,.0f} tokens per second{peak}."
    return ""


def _facts(result: Record) -> str:
    device, found = result["device"], ", ".join(f"{n} {v}" for n, v in result["versions"].items())
    memory = f", {size(device['memory_bytes'])}" if "memory_bytes" in device else ""
    return f"Measured {result['date']} on {device['name']}{memory}; model `{result['model']}`; {found}."
