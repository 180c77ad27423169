"""Formatting of numbers, cells and tables for the pages of results."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .measure import NOT_MEASURED

Record = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A table row: its title, its key in the result file, its formatter, and the key of its status."""

    title: str
    name: str
    write: Callable[[float], str]
    status: str = "status"


def duration(value: float) -> str:
    """Return seconds in a fitting unit with three significant digits."""
    unit, factor = next(((u, f) for u, f in (("s", 1), ("ms", 1e-3)) if value >= f), ("µs", 1e-6))
    digits = f"{value / factor:.3g}"
    return f"{float(digits):,.0f} {unit}" if "e" in digits else f"{digits} {unit}"


def size(value: float) -> str:
    """Return bytes in decimal units."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def count(value: float) -> str:
    """Return a count with thousands separators."""
    return f"{value:,}"


def markdown(grid: list[list[str]]) -> str:
    """Return rows of cells as a Markdown table; the first row is the heading."""
    lines = ["| " + " | ".join(cells) + " |" for cells in grid]
    return "\n".join([lines[0], "|" + "---|" * len(grid[0]), *lines[1:]])


def case_title(record: Record) -> str:
    """Return the title of a record: operation, case and sizes."""
    operation, case = record["operation"].replace("_", " "), record["case"]
    if "sizes" not in record:
        return str(case)
    return f"{operation if case == operation else f'{operation}, {case}'}: {size_words(record['sizes'])}"


def size_words(sizes: Record) -> str:
    """Return sizes in words."""
    return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in sizes.items())


def target(title: str, value: float | None, least: float | None = None, most: float | None = None) -> Record:
    """Return the record of a target; without a measurement it is not met."""
    met = value is not None and (least is None or value >= least) and (most is None or value <= most)
    limit = {"most": most} if least is None else {"least": least}
    return {"what": title, "value": value, "met": met} | limit


def target_words(target: Record) -> str:
    """Return a target with its measurement and limit in words."""
    limit, value = limit_and_value(target)
    return f"{target['what']}: {value} ({limit})"


def limit_and_value(target: Record) -> tuple[str, str]:
    """Return a target's limit and its measurement in words."""
    limit = f"at least {target['least']:.3g}" if "least" in target else f"at most {target['most']:.3g}"
    if target["value"] is None:
        return limit, NOT_MEASURED
    return limit, f"{'more than ' if target.get('more_than') else ''}{target['value']:.3g}"


def targets_table(records: list[Record]) -> str:
    """Return a table of all targets with their measurements."""
    heading = ["measured on", "target", "limit", "measured", "met"]
    met = {True: "yes", False: "**no**"}
    rows = [
        [case_title(record), one["what"], *limit_and_value(one), met[one["met"]]]
        for record in records
        for one in record["targets"]
    ]
    return markdown([heading, *rows]) if rows else ""
