"""The tokens that a target's ledger tells apart, and the cuts that tell their routes apart. Imports no torch.

Sources are named by role: question, hint, content of an earlier statement (a step or an answer), own, template, constant.
A route from question or hint is direct, if it visits no earlier statement, or latent: it last visits one of them. Statements
are ordered, and paths lead from earlier to later positions; so the paths that last visit statement k are those that avoid
all statements behind k, minus those that avoid k too. Cuts are therefore suffixes of the list of statements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..transcripts import TokenizedTranscript, Transcript

STATING_ROLES = ("step", "answer")
QUESTION, HINT, OWN, TEMPLATE, CONSTANT = "question", "hint", "own", "template", "constant"
ROUTED = (QUESTION, HINT)  # the sources whose routes are told apart
CONTENT = "content "  # in front of a statement's name


@dataclass(frozen=True)
class TargetLayout:
    """The positions of a prompt as one target sees them.

    Attributes:
        name: the segment whose value is the target.
        position: where it is read.
        statements: the earlier statements in order, with their positions.
        sources: the names of the sources.
        source_P: the number of the source of each position's token.
        routed: whether the routes of question and hint are told apart.
    """

    name: str
    position: int
    statements: Mapping[str, tuple[int, ...]]
    sources: tuple[str, ...]
    source_P: np.ndarray
    routed: bool = True

    @property
    def cuts(self) -> list[tuple[int, ...]]:
        """The positions of each cut: all statements, all but the first, …, the last one, none; only none without routes."""
        spans = list(self.statements.values()) if self.routed else []
        return [tuple(p for span in spans[first:] for p in span) for first in range(len(spans) + 1)]


def lay_out(
    transcript: Transcript,
    tokens: TokenizedTranscript,
    name: str,
    position: int,
    constant_prefix: int,
    n_positions: int,
    routed: bool = True,
) -> TargetLayout:
    """Return the layout of a target.

    Tokens of the target's own segment are `own`, and so is the token at which it is read, to whatever segment it belongs:
    every path ends there, so that no cut may contain it. Tokens of text segments and outside all segments are
    `template`, those of the prompt's constant opening `constant`.

    Args:
        transcript: the segments with their roles.
        tokens: their positions.
        name: the segment that states the target.
        position: where the target is read.
        constant_prefix: length of the opening, such as BOS.
        n_positions: length of the prompt.
        routed: whether to tell the routes of question and hint apart.
    """
    first = tokens.spans[name][0]
    source = np.full(n_positions, TEMPLATE, dtype=object)
    statements: dict[str, tuple[int, ...]] = {}
    for segment in transcript.segments:
        span = range(*tokens.spans.get(segment.name, (0, 0)))
        here = [p for p in span if p != position and p < n_positions]
        if segment.name == name:
            source[here] = OWN
        elif segment.role in ROUTED:
            source[here] = segment.role
        elif segment.role in STATING_ROLES and span.start < first and here:
            statements[segment.name] = tuple(here)
            source[here] = CONTENT + segment.name
    source[position] = OWN
    source[:constant_prefix] = CONSTANT
    names = _in_order(set(source), list(statements))
    return TargetLayout(name, position, statements, names, np.array([names.index(each) for each in source]), routed)


def _in_order(found: set[str], statements: Sequence[str]) -> tuple[str, ...]:
    """Return the sources that occur, in the order of the ledger."""
    order = [QUESTION, HINT, *(CONTENT + name for name in statements), OWN, TEMPLATE, CONSTANT]
    return tuple(name for name in order if name in found)
