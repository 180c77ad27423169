"""Stated links: which earlier segments a statement cites, by its text. Imports no torch.

The rule, for each step and answer, takes the first of these that finds something:

1. *Value reuse*: a value that stands in the text, besides the one that it states itself. It cites the last earlier statement
   that states this value; otherwise the hint, then the question, whose text contains it. Values are the transcript's
   alternatives, what earlier segments state, and all numbers.
2. *Explicit reference*: "step 2" or "(2)" cites the second step, "the question" or "the problem" the question, "the hint" the hint.
3. *Order*: the statement before; the first one cites the question.

1 and 2 apply together. Segments that are given as token ids have no text, and only order applies to them.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cotrace.common.errors import ArgumentError

from ..transcripts import Segment, Transcript
from ..transcripts.splitting import NUMBER
from .layout import HINT, QUESTION, ROUTED, STATING_ROLES

NUMBERED = re.compile(r"(?i)\b(?:steps?|lines?|equations?)\s+\(?(\d{1,3})\b|\((\d{1,3})\)")
WORDS = {QUESTION: re.compile(r"(?i)\b(?:question|problem|given)\b"), HINT: re.compile(r"(?i)\bhint\b")}


class StatedLink(NamedTuple):
    """A citation.

    Attributes:
        statement: the segment that cites.
        source: the segment that is cited.
        rule: "value", "reference", "order", or "given" for links of the user.
        evidence: the text that was found; "" for order.
    """

    statement: str
    source: str
    rule: str
    evidence: str = ""


Parser = Callable[[Transcript], Sequence[StatedLink]]


def find_stated_links(transcript: Transcript) -> list[StatedLink]:
    """Return the links that the text of a transcript states, by the rule of this module."""
    links: list[StatedLink] = []
    earlier: list[Segment] = []
    for segment in transcript.segments:
        if segment.role in STATING_ROLES:
            found = [*_reused(segment, earlier, transcript.values), *_referred(segment, earlier)]
            links += {link.source: link for link in reversed(found)}.values() or _ordered(segment, earlier)
        earlier.append(segment)
    return links


def check_links(links: Sequence[StatedLink], transcript: Transcript) -> list[StatedLink]:
    """Return links that a user gave. Raises ArgumentError for an unknown segment, and for one that is not earlier."""
    order = {segment.name: number for number, segment in enumerate(transcript.segments)}
    for link in links:
        unknown = [name for name in (link.statement, link.source) if name not in order]
        if unknown:
            raise ArgumentError(f"a link names {unknown[0]!r}: the segments are {', '.join(order)}")
        if order[link.source] >= order[link.statement]:
            raise ArgumentError(f"{link.statement!r} cannot cite {link.source!r}, which is not earlier")
    return list(links)


def _reused(segment: Segment, earlier: Sequence[Segment], values: Sequence[object]) -> Iterator[StatedLink]:
    """Yield links by values that stand in a text, without the stated one and numbers of steps."""
    if not isinstance(segment.text, str):
        return
    text = segment.text
    if segment.value_range is not None:
        start, stop = segment.value_range
        text = f"{text[:start]} {text[stop:]}"
    text = NUMBERED.sub(lambda match: " " if _step_of(match, earlier) else match[0], text)
    numbers = [number.rstrip(",") for number in NUMBER.findall(text)]
    stated = [other.value for other in earlier if isinstance(other.value, str)]
    known = [value.strip() for value in (*values, *stated) if isinstance(value, str)]
    for term in dict.fromkeys([*numbers, *(value for value in known if _contains(text, value))]):
        source = _source_of(term, earlier) or _source_of(term.lstrip("+-−"), earlier)  # "5-1" subtracts 1
        if source is not None:
            yield StatedLink(segment.name, source.name, "value", term)


def _source_of(term: str, earlier: Sequence[Segment]) -> Segment | None:
    """Return the last earlier statement that states a value, or the hint or question that contains it."""
    for other in reversed(earlier):
        if other.role in STATING_ROLES and isinstance(other.value, str) and other.value.strip() == term:
            return other
    for role in (HINT, QUESTION):
        for other in earlier:
            if other.role == role and isinstance(other.text, str) and _contains(other.text, term):
                return other
    return None


def _referred(segment: Segment, earlier: Sequence[Segment]) -> Iterator[StatedLink]:
    """Yield links by the number of a step, and by the words question, problem, given and hint."""
    if not isinstance(segment.text, str):
        return
    for match in NUMBERED.finditer(segment.text):
        step = _step_of(match, earlier)
        if step is not None:
            yield StatedLink(segment.name, step.name, "reference", match[0])
    for role, pattern in WORDS.items():
        match_of_role = pattern.search(segment.text)
        for other in earlier:
            if other.role == role and match_of_role:
                yield StatedLink(segment.name, other.name, "reference", match_of_role[0])


def _step_of(match: re.Match, earlier: Sequence[Segment]) -> Segment | None:
    """Return the earlier step that an explicit reference names by its number; None if there is none."""
    steps, number = [other for other in earlier if other.role == "step"], int(match[1] or match[2])
    return steps[number - 1] if 1 <= number <= len(steps) else None


def _ordered(segment: Segment, earlier: Sequence[Segment]) -> list[StatedLink]:
    """Return the link to the statement before, or to the question; none if there is neither."""
    statements = [other for other in earlier if other.role in STATING_ROLES]
    questions = [other for other in earlier if other.role in ROUTED[:1]]
    before = statements[-1:] or questions[:1]
    return [StatedLink(segment.name, other.name, "order") for other in before]


def _contains(text: str, term: str) -> bool:
    """Return whether a term stands in a text, not as part of a longer word or number."""
    return re.search(rf"(?<![\w.,]){re.escape(term)}(?![\w]|[.,]\d)", text) is not None
