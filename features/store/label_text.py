"""The words of an automatic label: `cold, warm`, `after "opposite"`, `says "Tuesday"`."""

from cotrace.common.visible_text import visible

from .relations import CLASS_RELATIONS, NONE, PAIR_RELATIONS, PIECES, LabelText, Relation
from .words import CLASSES

START = "the start of a text"
PIECE_LABELS = {
    Relation.CLASS: "second pieces of words",
    Relation.AFTER_CLASS: "after words in pieces",
    Relation.BEFORE_CLASS: "first pieces of words",
}
"""Labels of tokens that are, follow or come before a piece that continues a word."""
TEMPLATES = {
    Relation.SAYS: "says {}",
    Relation.AFTER: "after {}",
    Relation.BEFORE: "before {}",
    Relation.AFTER_PHRASE: "after {}",
    Relation.NEAR: "near {}",
    Relation.PROMOTES: "promotes {}",
    Relation.SUPPRESSES: "suppresses {}",
}


def label_text(text: LabelText, relation: Relation, keys: list[int]) -> str:
    """Return the label that a relation and its keys make.

    Words that a feature is active on stand alone, if they are letters only; all others are in quotes. A hyphen marks a
    piece that continues a word.
    """
    keys = [key for key in keys if key != NONE]
    if relation in CLASS_RELATIONS and keys[0] == PIECES:
        return PIECE_LABELS[relation]
    if relation == Relation.CLASS:
        return CLASSES[keys[0]].names
    if relation in CLASS_RELATIONS:
        return f"{'after' if relation == Relation.AFTER_CLASS else 'before'} {CLASSES[keys[0]].name}"
    if relation == Relation.AT:
        return ", ".join(dict.fromkeys(_alone(text, key) for key in keys))
    shown = [_phrase(text, key) if relation in PAIR_RELATIONS else _quoted(text, key) for key in keys]
    return TEMPLATES.get(relation, "{}").format(", ".join(dict.fromkeys(shown)))


JOINTS = ("", "-", "'")
"""Signs before a word, before a piece that continues one, and before a piece after an apostrophe."""


def _word(text: LabelText, word: int) -> str:
    """Return a word as it is shown, with the sign of a piece before it."""
    kind, number = divmod(word, len(text.words))
    return JOINTS[kind] + visible(text.words.texts[number])


def _alone(text: LabelText, word: int) -> str:
    if word == text.start:
        return START
    shown = _word(text, word)
    bare = shown.strip("-'’")
    return shown if bare.replace("-", "").replace("'", "").isalpha() else _in_quotes(shown)


def _quoted(text: LabelText, word: int) -> str:
    return START if word == text.start else _in_quotes(_word(text, word))


def _in_quotes(shown: str) -> str:
    return f"'{shown}'" if '"' in shown else f'"{shown}"'


def _phrase(text: LabelText, key: int) -> str:
    """Return two words, which are joined where the second continues the first."""
    first, second = text.pair(key)
    if first == text.start:
        return f"{_quoted(text, second)} at {START}"
    joint = " " if second < len(text.words) else _word(text, second)[0].strip("-")
    return _in_quotes(f"{_bare(text, first)}{joint}{_bare(text, second)}")


def _bare(text: LabelText, word: int) -> str:
    return visible(text.words.texts[word % len(text.words)])
