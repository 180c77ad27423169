"""Numbers, cells and tables as text: what every page of results is written with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .measure import NOT_MEASURED

Record = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One measure: its title, its name in the result file, how it is written, and which step's status it shares."""

    title: str
    name: str
    write: Callable[[float], str]
    status: str = "status"


def duration(value: float) -> str:
    """A time of any size with three significant digits."""
    unit, factor = next(((u, f) for u, f in (("s", 1), ("ms", 1e-3)) if value >= f), ("µs", 1e-6))
    digits = f"{value / factor:.3g}"
    return f"{float(digits):,.0f} {unit}" if "e" in digits else f"{digits} {unit}"


def size(value: float) -> str:
    """Bytes in decimal units."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def count(value: float) -> str:
    """A count with separators."""
    return f"{value:,}"


def markdown(grid: list[list[str]]) -> str:
    """Rows of cells as a table, the first of them the heading."""
    lines = ["| " + " | ".join(cells) + " |" for cells in grid]
    return "\n".join([lines[0], "|" + "---|" * len(grid[0]), *lines[1:]])


def case_title(record: Record) -> str:
    """What a record with targets is of."""
    operation, case = record["operation"].replace("_", " "), record["case"]
    if "sizes" not in record:
        return str(case)
    return f"{operation if case == operation else f'{operation}, {case}'}: {size_words(record['sizes'])}"


def size_words(sizes: Record) -> str:
    """Sizes in words."""
    return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in sizes.items())


def target(what: str, value: float | None, least: float | None = None, most: float | None = None) -> Record:
    """A target, and whether a measurement meets it; without a measurement it is not met."""
    met = value is not None and (least is None or value >= least) and (most is None or value <= most)
    limit = {"most": most} if least is None else {"least": least}
    return {"what": what, "value": value, "met": met} | limit


def target_words(target: Record) -> str:
    """A target, its limit and what was measured."""
    limit, value = limit_and_value(target)
    return f"{target['what']}: {value} ({limit})"


def limit_and_value(target: Record) -> tuple[str, str]:
    """What a target asks for, and what was measured."""
    limit = f"at least {target['least']:.3g}" if "least" in target else f"at most {target['most']:.3g}"
    if target["value"] is None:
        return limit, NOT_MEASURED
    return limit, f"{'more than ' if target.get('more_than') else ''}{target['value']:.3g}"


def targets_table(records: list[Record]) -> str:
    """Every target with its measurement."""
    heading = ["measured on", "target", "limit", "measured", "met"]
    met = {True: "yes", False: "**no**"}
    rows = [
        [case_title(record), one["what"], *limit_and_value(one), met[one["met"]]]
        for record in records
        for one in record["targets"]
    ]
    return markdown([heading, *rows]) if rows else ""
