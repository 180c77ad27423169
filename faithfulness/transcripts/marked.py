"""Marked-up text: `<question>2 + 3?</question><step>So it is <value>5</value>.</step>`. Imports no torch.

Tags are the roles of segments, perhaps with `name="…"`, and `<value>` around a stated value. Every other `<` is text, as
is a tag behind a backslash: `\\<step>`. Backslashes in front of a tag are halved; everywhere else they are text.
"""

import html
import re
from collections.abc import Sequence

from cotrace.common.errors import ArgumentError

from .segment import ROLES, Segment

TAG = re.compile(rf'(\\*)<(/?)({"|".join((*ROLES, "value"))})(?:\s+name="([^"<>]*)")?\s*>')
TRAILING_BACKSLASHES = re.compile(r"\\+\Z")
VALUE = "value"


def parse_marked(text: str) -> list[Segment]:
    """Return the segments of a marked-up text. Text outside all tags, white space included, is of the role "text".

    Raises ArgumentError for tags that do not fit one another.
    """
    if not isinstance(text, str):
        raise ArgumentError(f"marked-up text must be a text, not {type(text).__name__}")
    segments: list[Segment] = []
    role, name = "", ""  # of the open segment
    content = ""  # of the open segment, or of the text outside of any
    value_start, value_range = None, None
    place = 0
    for tag in TAG.finditer(text):
        backslashes, slash, kind, given_name = tag.groups()
        content += text[place : tag.start()] + backslashes[: len(backslashes) // 2]
        place = tag.end()
        if len(backslashes) % 2:
            content += tag.group()[len(backslashes) :]
        elif kind == VALUE:
            if not role or given_name or (value_start is None) == bool(slash) or value_range:
                raise _misplaced(tag, "mark one value in a segment, as <value>…</value>")
            if slash:
                value_range = (value_start or 0, len(content))
            else:
                value_start = len(content)
        elif slash:
            if kind != role or given_name or (value_start is None) != (value_range is None):
                raise _misplaced(tag, f"close <{VALUE if role == kind else role}> first" if role else "nothing is open")
            segments.append(_segment(role, content, name, value_range))
            role, content, value_start, value_range = "", "", None, None
        else:
            if role:
                raise _misplaced(tag, f"close <{role}> first: segments are not nested")
            segments += [Segment("text", content)] if content else []
            role, name, content = kind, html.unescape(given_name or ""), ""
    content += text[place:]
    if role:
        raise ArgumentError(f"<{role}> is not closed: write </{role}> at its end")
    return segments + ([Segment("text", content)] if content else [])


def to_marked(segments: Sequence[Segment], default_names: Sequence[str]) -> str:
    """Return segments as marked-up text, with the names that are not the default ones.

    Raises ArgumentError for segments of token ids.
    """
    marked = ""
    for segment, default in zip(segments, default_names, strict=True):
        if not isinstance(segment.text, str):
            raise ArgumentError(f"{segment.title} is token ids, which cannot be marked up: save the transcript as JSON")
        text = segment.text
        if segment.value is None:
            content = _escaped(text)
        else:
            # `value` may have white space around it that the range has not.
            bare_start, _ = segment.value_range or (0, 0)
            start = bare_start - (len(str(segment.value)) - len(str(segment.value).lstrip()))
            stop = start + len(segment.value)
            value = f"<{VALUE}>{_escaped(text[start:stop])}</{VALUE}>"
            content = f"{_escaped(text[:start])}{value}{_escaped(text[stop:])}"
        name = "" if segment.name == default else f' name="{html.escape(segment.name)}"'
        marked += f"<{segment.role}{name}>{content}</{segment.role}>"
    return marked


def _segment(role: str, text: str, name: str, value_range: tuple[int, int] | None) -> Segment:
    """Return a segment whose value stands in a range of its text."""
    if value_range is None:
        return Segment(role, text, name)
    return Segment(role, text, name, text[slice(*value_range)], value_range[0])


def _escaped(text: str) -> str:
    """Return a text that is read as itself, also where a tag follows."""
    text = TAG.sub(lambda tag: f"{tag[1]}{tag[1]}\\{tag[0][len(tag[1]) :]}", text)
    return TRAILING_BACKSLASHES.sub(lambda found: found[0] * 2, text)


def _misplaced(tag: re.Match[str], cure: str) -> ArgumentError:
    return ArgumentError(f"{tag.group().lstrip(chr(92))} at character {tag.start()} is misplaced: {cure}")
