"""Files of reports: the circuit's own graph file, with everything else as an entry of its metadata.

Whatever reads graphs reads the circuit of such a file, and keeps the report when it prunes or labels it.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from cotrace.common.errors import ArgumentError, FileError, one_line
from cotrace.graphs import Graph, open_graph
from cotrace.graphs.json_metadata import NUMBER, require_exact, wrong_entries
from cotrace.graphs.metadata import metadata_of

from .schemas import STATUSES, STEP_VERDICTS, TABLES, UNDETERMINED, VERDICTS

ROUNDING = 1e-6  # by which a share may be above 1
KEY = "report"  # in the graph's metadata
AGAIN = "run `cotrace compare` again"
ELSEWHERE = ("question", "hint", "unknown")  # sources of links that need not be names of segments
TYPES: dict[pa.DataType, Any] = {
    pa.string(): str,
    pa.int32(): int,
    pa.float64(): NUMBER,
    pa.bool_(): bool,
    pa.list_(pa.string()): [str],
}
WORDS = {  # columns with a choice of words
    "steps": {"verdict": (*STEP_VERDICTS, UNDETERMINED), "confirmed": STATUSES},
}


def save_report(entries: dict[str, Any], graph: Graph, path: Path) -> Path:
    """Write a circuit with the entries of its report, atomically, and return the path.

    Raises ArgumentError for entries that could not be opened again, and as `Graph.save`.
    """
    return with_report(graph, entries).save(path)


def with_report(graph: Graph, entries: dict[str, Any]) -> Graph:
    """Return a circuit with the entries of its report in its metadata.

    Raises ArgumentError for entries that could not be opened again.
    """
    try:
        require_exact(entries)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"this report cannot be saved ({one_line(error)}); undo the edit of its contents"
        ) from error
    problem = problem_of(entries, len(graph.info["tokens"]))
    if problem:
        raise ArgumentError(f"this report cannot be saved: {problem}; undo the edit")
    info = {**graph.info, KEY: entries}
    return Graph(graph.nodes.replace_schema_metadata(metadata_of(info)), info)


def read_report(path: Path, verify: bool = True) -> tuple[dict[str, Any], Graph]:
    """Return the entries of a file's report, and its circuit.

    Raises FileError for a file that is missing or damaged, and for a graph without a report.
    """
    graph = open_graph(path, verify=verify)
    if not has_report(graph):
        raise FileError(f"cannot open {path}: it is a graph without a report; open it with cotrace.open")
    return take_report(graph, path)


def has_report(graph: Graph) -> bool:
    """Return whether the metadata of a graph has a report."""
    return KEY in graph.info


def take_report(graph: Graph, path: Path) -> tuple[dict[str, Any], Graph]:
    """Return the entries of the report in a graph's metadata, and the graph without it. `path` is named in errors.

    Raises FileError for entries that are damaged.
    """
    info = dict(graph.info)
    entries = info.pop(KEY)
    problem = problem_of(entries, len(info["tokens"]))
    if problem:
        raise FileError(f"cannot open {path}: its report is damaged, {problem}; {AGAIN}")
    return entries, Graph(graph.nodes.replace_schema_metadata(metadata_of(info)), info)


def problem_of(entries: dict[str, Any], n_positions: int) -> str | None:
    """Return what is wrong with the entries of a report on a prompt of some length, or None.

    Everything that reads a report relies on what is checked here: types, known words, spans inside the prompt, and names of
    segments that exist.
    """
    wrong = wrong_entries(entries, SHAPE)
    if wrong:
        return f"it lacks or has a wrong {', '.join(wrong)}"
    return _wrong_number(entries) or _unknown_word(entries) or _wrong_span(entries, n_positions) or _wrong_name(entries)


def _shape_of(schema: pa.Schema) -> dict[str, Any]:
    """Return the shape of a table's rows, as in `json_metadata`; optional columns may be missing."""
    return {
        f"{field.name}?" if field.nullable else field.name: _or_none(TYPES[field.type])
        if field.nullable
        else TYPES[field.type]
        for field in schema
    }


def _or_none(shape: Any) -> tuple:
    return (*shape, None) if isinstance(shape, tuple) else (shape, None)


SHAPE: dict[str, Any] = {
    "score": (*NUMBER, None),
    "live_score": (*NUMBER, None),
    "verdict": str,
    "reason": str,
    **{name: [_shape_of(schema)] for name, schema in TABLES.items()},
    "cost": {},
    "settings": {},
}


def _wrong_number(entries: dict[str, Any]) -> str | None:
    wrong = [name for name in ("score", "live_score") if entries[name] is not None and not 0 <= entries[name] <= 1]
    if wrong:
        return f"its {wrong[0]} is not between 0 and 1"
    for table in ("sources", "links"):
        if not all(0 <= row["share"] <= 1 + ROUNDING for row in entries[table]):
            return f"a share of its {table} is not between 0 and 1"
    if not all(type(passes) in NUMBER for passes in entries["cost"].values()):
        return "its cost is not in numbers"
    if any((row.get("low") is None) != (row.get("high") is None) for row in entries["steps"]):
        return "an interval of its steps lacks an end"
    try:
        for name, schema in TABLES.items():
            pa.Table.from_pylist(entries[name], schema)
    except (pa.ArrowException, OverflowError):
        return f"its table {name} has a number that is too large"
    return None


def _unknown_word(entries: dict[str, Any]) -> str | None:
    if entries["verdict"] not in VERDICTS:
        return f"its verdict {entries['verdict']!r} is unknown"
    for table, columns in WORDS.items():
        for column, known in columns.items():
            unknown = [row[column] for row in entries[table] if row[column] not in known]
            if unknown:
                return f"the {column} {unknown[0]!r} of its {table} is unknown"
    return None


def _wrong_span(entries: dict[str, Any], n_positions: int) -> str | None:
    for row in [*entries["segments"], *entries["steps"]]:
        if not (0 <= row["first"] <= n_positions and row["first"] - 1 <= row["last"] < n_positions):
            return f"the segment {row.get('name', row.get('step'))!r} lies outside the prompt"
        first, last = row.get("value_first"), row.get("value_last")
        if (first is None) != (last is None) or (first is not None and not 0 <= first <= last < n_positions):
            return f"the value of {row['name']!r} lies outside the prompt"
    return None


def _wrong_name(entries: dict[str, Any]) -> str | None:
    names = [row["name"] for row in entries["segments"]]
    for table, column in (("segments", "name"), ("steps", "step"), ("evidence", "number")):
        twice = [value for value, count in Counter(row[column] for row in entries[table]).items() if count > 1]
        if twice:
            return f"its {table} name {twice[0]!r} twice"
    known = {None, *names}
    for table, column in (("steps", "step"), ("sources", "segment"), ("links", "statement"), ("evidence", "segment")):
        unknown = [row.get(column) for row in entries[table] if row.get(column) not in known]
        if unknown:
            return f"its {table} name {unknown[0]!r}, which is not a segment"
    unknown = [row["source"] for row in entries["links"] if row["source"] not in {*names, *ELSEWHERE}]
    return f"its links name {unknown[0]!r}, which is not a segment" if unknown else None
