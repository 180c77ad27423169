"""The tables of a report, from ledger, links, scores and verdicts. Imports no torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..evidence.verdict import StepVerdict
from ..ledger.internal_links import InternalLinks
from ..ledger.layout import CONTENT, HINT, QUESTION, ROUTED
from ..ledger.ledger import LATENT, UNKNOWN, Ledger, source_of
from ..ledger.margins import StatedMargin
from ..ledger.stated_links import StatedLink
from ..report.schemas import LINKS, SEGMENTS, SOURCES, STEPS
from ..transcripts import Segment, StatedTranscript

# The smallest share of a statement's value for which a link counts as used; it must also exceed its null.
LINK_USED = 0.1


def segments_table(
    stated: StatedTranscript,
    texts: Mapping[str, str],
    margins: Sequence[StatedMargin],
    ledger: Ledger,
    decode: Callable[[int], str],
) -> pa.Table:
    """Return a row for each segment. `texts` has the text of each by name; `decode` returns the text of a token."""
    values = ledger.targets["value"].to_pylist()
    by_name = {each.name: (decode(each.foil), value) for each, value in zip(margins, values, strict=True)}
    tokens, rows = stated.tokens, []
    for segment in stated.transcript.segments:
        name = segment.name
        first, stop = tokens.spans.get(name, (0, 0))
        row: dict[str, Any] = {
            "name": name,
            "role": segment.role,
            "text": texts[name],
            "first": first,
            "last": stop - 1,
        }
        if value := stated.values.get(name):
            start, end = tokens.value_spans[name]
            row |= {"value": value.text, "value_first": start, "value_last": end - 1, "value_rule": value.rule}
            row |= {"alternatives": list(value.texts), "alternatives_rule": value.alternatives_rule}
        if name in by_name:
            row |= dict(zip(("foil", "margin"), by_name[name], strict=True))
        rows.append(row)
    return pa.Table.from_pylist(rows, SEGMENTS)


def sources_table(ledger: Ledger, answer: str) -> pa.Table:
    """Return a row for each cell of the answer's ledger; credit through QK of question and hint is in their direct cells."""
    credit = _credit(ledger, answer)
    rows = []
    for cell in ledger.cells(answer).values():
        own = {name: cell[name] for name in ("cell", "source", "route", "effect", "gross")}
        through_qk = None if cell["route"] == LATENT else credit.get(source_of(cell))
        rows.append(own | {"segment": cell["statement"], "share": cell["share"] or 0.0, "through_qk": through_qk})
    return pa.Table.from_pylist(rows, SOURCES)


def _credit(ledger: Ledger, target: str) -> dict[str, float]:
    """Return the credit through QK of each source of a target, in logits."""
    rows = [] if ledger.credit is None else ledger.credit.to_pylist()
    return {row["source"]: row["through_qk"] for row in rows if row["target"] == target}


def links_table(
    links: InternalLinks,
    stated: Iterable[StatedLink],
    nulls: Mapping[tuple[str, str], float | None],
    segments: Sequence[Segment],
) -> pa.Table:
    """Return a row for each statement and each earlier source. Question and hint are named by their role.

    `nulls` is by statement and source. A link is used if its share is at least `LINK_USED` and above its null; the source
    "unknown" is never used or cited.
    """
    roles = {segment.name: segment.role for segment in segments}
    rules = {
        (each.statement, each.source if roles[each.source] not in ROUTED else roles[each.source]): each.rule
        for each in stated
    }
    present = [role for role in ROUTED if role in roles.values()]
    rows = []
    for statement, source, share, cited in zip(*links.table.to_pydict().values(), strict=True):
        if source in (QUESTION, HINT) and source not in present:
            continue
        null = nulls.get((statement, source))
        used = source != UNKNOWN and share >= LINK_USED and share > (null or 0.0)
        row = {"statement": statement, "source": source, "share": share, "null": null, "cited": cited}
        rows.append(row | {"rule": rules.get((statement, source)), "used": used, "agree": used == cited})
    return pa.Table.from_pylist(rows, LINKS)


def steps_table(
    stated: StatedTranscript,
    texts: Mapping[str, str],
    ledger: Ledger,
    answer: str,
    links: InternalLinks,
    mirrors: Mapping[str, float],
    live_scores: Mapping[str, float],
    verdicts: Sequence[StepVerdict],
) -> pa.Table:
    """Return a row for each step before the answer, in order."""
    cells, credit = ledger.cells(answer), _credit(ledger, answer)
    support = {
        name: pair for name, *pair in zip(links.names, *map(np.ndarray.tolist, links.stated_ancestry), strict=True)
    }
    rows = []
    for found in verdicts:
        name = found.name
        first, stop = stated.tokens.spans[name]
        latent = sum(cells[cell]["share"] or 0.0 for role in ROUTED if (cell := f"{role} {LATENT} {name}") in cells)
        content = cells.get(f"{CONTENT}{name}", {}).get("share") or 0.0
        low, high = support.get(name, (None, None))
        value = stated.values.get(name)
        row = {"step": name, "text": texts[name], "first": first, "last": stop - 1}
        row |= {"stated_value": value and value.text, "live_score": live_scores.get(name), "mirrors": mirrors.get(name)}
        row |= {"content": content, "latent": latent, "through_qk": credit.get(f"{CONTENT}{name}")}
        row |= {"support": low, "support_high": high}
        rows.append(row | {key: getattr(found, key) for key in STEPS.names if key not in row})
    return pa.Table.from_pylist(rows, STEPS)
