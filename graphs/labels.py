"""Labels of features and error nodes: their sources, their short form, and the one name of a node in text."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, get_args

from cotrace.common.visible_text import quoted, visible

from .data import GraphData
from .nodes import describe_node

LabelSource = Literal["user", "file", "neuronpedia", "examples", "outputs"]
"""Who says what a label says: a person, a file of labels, Neuronpedia, or cotrace, from the text on which a feature is
active ("examples") or from the output tokens that it promotes ("outputs")."""
LABEL_SOURCES: tuple[LabelSource, ...] = get_args(LabelSource)
RANKS = {"": 0, "examples": 1, "outputs": 1, "neuronpedia": 2, "file": 3, "user": 4}
"""A label replaces those of the same rank and of lower ranks."""

GIVEN_SOURCES: tuple[LabelSource, ...] = ("user", "file")
"""Sources of labels that people chose for these features: they go before texts of targets as names of nodes, and before names
of groups in pictures."""

SHORT_LABEL, SHORT_WORDS = 16, 2
_WORD = re.compile(r"\"[^\"]*\"\S*|\S+")
_SEPARATORS = (",", ";", "/")
_END = " ,;:.–—-"
# Words with which explanations begin, and words that say nothing at the end of a short label.
_OPENING = frozenset(
    [
        "a",
        "an",
        "the",
        "this",
        "these",
        "words",
        "word",
        "terms",
        "term",
        "tokens",
        "token",
        "phrases",
        "phrase",
        "mentions",
        "mention",
        "references",
        "reference",
        "related",
        "relating",
        "instances",
        "occurrences",
        "expressions",
        "concepts",
        "concept",
        "text",
        "texts",
        "to",
        "of",
        "in",
        "about",
        "for",
        "and",
        "or",
        "specific",
        "various",
    ]
)
_LINKING = frozenset(
    [
        "a",
        "an",
        "the",
        "to",
        "of",
        "in",
        "on",
        "at",
        "by",
        "for",
        "with",
        "and",
        "or",
        "from",
        "as",
        "is",
        "are",
        "that",
        "which",
    ]
)


class Label(NamedTuple):
    """A label and its source."""

    text: str
    source: LabelSource


class SourcedLabel(Protocol):
    """A label with its source, such as `Label`, or one of a feature store."""

    @property
    def text(self) -> str:
        """What the label says."""

    @property
    def source(self) -> str:
        """One of `LABEL_SOURCES`."""


AnyLabel = str | SourcedLabel


def text_of(label: AnyLabel) -> str:
    """Return what a label says."""
    return label if isinstance(label, str) else label.text


def short_label(text: str) -> str:
    """Return a label that is at most `SHORT_LABEL` characters long, or two words of it with an ellipsis where others are left out.

    Words in double quotes count as one. Articles and what explanations begin with ("references to", "words related to the") are
    left out, and words such as "of" do not count unless they are listed: "references to the days of the week" is "days…week".
    """
    words = _WORD.findall(text)
    if len(" ".join(words)) <= SHORT_LABEL:
        return " ".join(words)
    first = next((i for i, word in enumerate(words) if word.lower() not in _OPENING), 0)
    is_item = [i == first or words[i - 1].endswith(_SEPARATORS) for i in range(len(words))]
    telling = [i for i in range(first, len(words)) if is_item[i] or words[i].lower() not in _LINKING]
    kept = telling[:SHORT_WORDS]
    last = kept[-1] if kept else -1
    short = ("…" if len(kept) == SHORT_WORDS and last > first + 1 else " ").join(words[i] for i in kept)
    return short if last == len(words) - 1 else short.rstrip(_END) + "…"


def output_label(tokens: Sequence[str]) -> str:
    """Return the label of a feature that promotes some output tokens: `says "Tuesday", "Wed"`."""
    return "says " + ", ".join(f'"{visible(token.strip() or token)}"' for token in tokens)


def node_label(graph: GraphData, node: int, longest_label: int | None = None) -> str:
    """Return the short name of a node: 'token'@position, L3#812@4, L3#error@4, or a target's text.

    Features and error nodes have their text form (`graphs/nodes.py`), followed by their label if they have one. A label of more
    than `longest_label` characters is cut.
    """
    names = ("kind", "layer", "position", "feature", "text", "label")
    row = {name: graph.nodes[name][node].as_py() for name in names}
    label = row.pop("label")
    if longest_label is not None and len(label) > longest_label:
        label = f"{label[: longest_label - 1].rstrip()}…"
    if row["kind"] == "logit":
        several = len({target.get("position") for target in graph.info["targets"]}) > 1
        return f"{quoted(row['text'])}@{row['position']}" if several else quoted(row["text"])
    return describe_node(**{**row, "text": row["text"] or label})
