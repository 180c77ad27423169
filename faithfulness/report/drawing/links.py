"""Choose the links that the picture shows, and the side and line of each."""

from collections.abc import Iterable
from typing import NamedTuple

from ..data import ReportData

LEAST_SHARE = 0.03  # the smallest share of the target's value for which a route is drawn
STATED, UNSTATED, UNUSED = "stated", "unstated", "unused"


class Link(NamedTuple):
    """A link between two segments, or a route of it.

    Attributes:
        source, target: names of segments.
        share: of the target's value.
        kind: "stated" (the text says so and the model does it), "unstated" (only the model) or "unused" (only the text).
        via: the step whose position a latent route visits last; None for others.
        tooltip: the link in words.
    """

    source: str
    target: str
    share: float
    kind: str
    via: str | None
    tooltip: str


def links_of(report: ReportData) -> list[Link]:
    """Return the links that the model uses or the text states, in the order of the report.

    Question and hint reach the answer directly, or through a step's position without its words. Such a link is divided into its
    routes, in proportion to the sizes of their cells in the ledger.
    """
    segments = {row["name"]: row["role"] for row in report.segments.to_pylist()}
    by_role = {role: name for name, role in reversed(segments.items())}
    answer = by_role.get("answer")
    links: list[Link] = []
    for row in report.links.to_pylist():
        source = row["source"] if row["source"] in segments else by_role.get(row["source"])
        if source is None or row["statement"] not in segments or not (row["used"] or row["cited"]):
            continue
        kind = UNUSED if not row["used"] else STATED if row["cited"] else UNSTATED
        routes: dict[str | None, float] = {None: 1.0}
        if kind != UNUSED and row["statement"] == answer and segments[source] in ("question", "hint"):
            routes = _routes(report, segments[source], row["share"])
        for via, part in routes.items():
            share = row["share"] * part
            text = _tooltip(source, row["statement"], share, kind, via, row["rule"])
            links.append(Link(source, row["statement"], share, kind, via, text))
    return links


def _routes(report: ReportData, role: str, share: float) -> dict[str | None, float]:
    """Return the shares of the direct route (None) and of latent ones, by step; small ones are left out unless all are small."""
    cells = [row for row in report.sources.to_pylist() if row["source"] == role]
    total = sum(abs(row["effect"]) for row in cells)
    if total == 0:
        return {None: 1.0}
    parts: dict[str | None, float] = {}
    for row in cells:
        via = row["segment"] if row["route"] == "latent" else None
        parts[via] = parts.get(via, 0.0) + abs(row["effect"]) / total
    return {via: part for via, part in parts.items() if part * share >= LEAST_SHARE} or {None: 1.0}


def _tooltip(source: str, target: str, share: float, kind: str, via: str | None, rule: str | None) -> str:
    route = f" through the position of {via}" if via else ""
    how = {
        STATED: f"the text says so ({rule})" if rule else "the text says so",
        UNSTATED: "the text does not say so",
        UNUSED: "the text says so, the model does not use it",
    }[kind]
    return f"{source} → {target}{route}: {share:.0%} of its value, {how}"


def longest_span(links: Iterable[Link], rows: dict[str, int]) -> int:
    """Return the largest distance between the ends of a link, in rows; at least 1."""
    return max((abs(rows[link.target] - rows[link.source]) for link in links), default=1) or 1
