"""What the page shows of a report: its tables, its words and its picture, as JSON can hold them."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from cotrace.common.visible_text import printable
from cotrace.faithfulness.report.data import ReportData
from cotrace.faithfulness.report.drawing.bands import segment_style
from cotrace.faithfulness.report.drawing.header import facts_of
from cotrace.faithfulness.report.drawing.ledger_bar import ordered_cells
from cotrace.faithfulness.report.drawing.render import pictogram_svg, report_svg
from cotrace.faithfulness.report.drawing.words import (
    MARK_MEANINGS,
    MARKS,
    edits_in_words,
    part_name,
    segment_name,
    sentence_of,
    source_edits_in_words,
)

MAX_NESTED = 300  # characters of a setting that is not one value
ONLY_IN_FILES = ["recipe", "command"]  # columns of an intervention: `replay` reads one, the page makes the other itself
INTRODUCTIONS = {
    "steps": "Does the answer use what each step states?",
    "sources": "Where the answer's value comes from: cells of its ledger, in logits; shares add up to 1.",
    "links": "For each step and the answer: the share of its value that comes from each source, and whether its text cites the source.",
    "evidence": "Every intervention, and the command that runs it again.",
    "segments": "The transcript, with its stated values and their alternatives.",
}


def report_entries(report: ReportData) -> dict[str, Any]:
    """Return a report without its graph.

    Tables are lists of rows. Rows of segments and steps have what is said about them in words: title, tested (how many edits moved
    the answer), and for steps mark and meaning. Segments have pieces, their text before, inside and after the stated value, and a
    tone, the style of their band in the picture. Cells of the ledger
    have a part, in plain words. Invisible characters are visible signs. Picture and sign of the verdict are trees as of `svg_tree`.
    """
    return _printable(
        {
            **{name: getattr(report, name) for name in ("verdict", "score", "live_score", "reason", "cost")},
            "sentence": sentence_of(report),
            "facts": list(facts_of(report)),
            "introductions": INTRODUCTIONS,
            "segments": _segments(report),
            "steps": _steps(report),
            "sources": [cell | {"part": part_name(cell)} for cell in ordered_cells(report)],
            "links": report.links.to_pylist(),
            "evidence": report.evidence.drop_columns(ONLY_IN_FILES).to_pylist(),
            "settings": {name: _flat(value) for name, value in report.settings.items()},
        }
    ) | {"picture": svg_tree(report_svg(report)), "sign": svg_tree(pictogram_svg(report.verdict))}


def svg_tree(svg: str) -> list[Any]:
    """Return an `<svg>` element as [tag, attributes, child, …], without style attributes; texts are children.

    The page's policy forbids to parse markup, and style attributes.
    """

    def tree(element: ElementTree.Element) -> list[Any]:
        attributes = {name: value for name, value in element.attrib.items() if name != "style"}
        text = [element.text] if element.text and element.text.strip() else []
        return [element.tag.rpartition("}")[2], attributes, *text, *map(tree, element)]

    return tree(ElementTree.fromstring(svg))


def _segments(report: ReportData) -> list[dict[str, Any]]:
    steps = {step["step"]: step for step in report.steps.to_pylist()}
    evidence, tokens = report.evidence.to_pylist(), report.graph.info["tokens"]
    return [
        {
            **row,
            "title": segment_name(row["name"]),
            "tone": "text" if row["role"] == "text" else segment_style(report, row, steps.get(row["name"])),
            "pieces": _pieces(row, tokens),
            "tested": source_edits_in_words(row["role"], evidence) if row["role"] in ("question", "hint") else "",
        }
        for row in report.segments.to_pylist()
    ]


def _pieces(row: Mapping[str, Any], tokens: Sequence[str]) -> list[str]:
    """Return the text of a segment before, inside and after the value that it states, which is empty if there is none."""
    stop = row["last"] + 1
    first, last = (stop, stop - 1) if row["value_first"] is None else (row["value_first"], row["value_last"])
    spans = ((row["first"], first), (first, last + 1), (last + 1, stop))
    before, value, after = ("".join(tokens[start:end]) for start, end in spans)
    space = len(value) - len(value.lstrip(" "))
    return [before + value[:space], value[space:], after]


def _steps(report: ReportData) -> list[dict[str, Any]]:
    evidence = report.evidence.to_pylist()
    return [
        {
            **row,
            "title": segment_name(row["step"]),
            "tested": edits_in_words(row, evidence),
            "mark": MARKS[row["confirmed"]],
            "meaning": MARK_MEANINGS[row["confirmed"]],
        }
        for row in report.steps.to_pylist()
    ]


def _flat(value: Any) -> Any:
    """Return the value of a setting: nested ones as JSON, shortened if it is long."""
    if not isinstance(value, dict | list):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_NESTED else f"{text[:MAX_NESTED]}…"


def _printable(value: Any) -> Any:
    """Return JSON whose texts have visible signs for invisible characters, without numbers that JSON lacks."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {printable(str(name)): _printable(each) for name, each in value.items()}
    return list(map(_printable, value)) if isinstance(value, list) else value
