"""The words of an automatic label: `cold, warm`, `after "opposite"`, `says "Tuesday"`."""

from cotrace.common.visible_text import visible

from .relations import NONE, PIECES, LabelText, Relation
from .words import CLASSES

START = "the start of a text"
TEMPLATES = {
    Relation.SAYS: "says {}",
    Relation.AFTER: "after {}",
    Relation.BEFORE: "before {}",
    Relation.AFTER_PHRASE: "after {}",
    Relation.NEAR: "near {}",
}


def label_text(text: LabelText, relation: Relation, keys: list[int]) -> str:
    """Return the label that a relation and its keys make.

    Words that a feature is active on stand alone, if they are letters only; all others are in quotes. A hyphen marks a
    piece that continues a word.
    """
    keys = [key for key in keys if key != NONE]
    if relation == Relation.CLASS:
        return "ends of words" if keys[0] == PIECES else CLASSES[keys[0]].names
    if relation in (Relation.AFTER_CLASS, Relation.BEFORE_CLASS):
        name = "a piece of a word" if keys[0] == PIECES else CLASSES[keys[0]].name
        return f"{'after' if relation == Relation.AFTER_CLASS else 'before'} {name}"
    if relation == Relation.AT:
        return ", ".join(dict.fromkeys(_alone(text, key) for key in keys))
    shown = [
        _phrase(text, key) if relation in (Relation.PHRASE, Relation.AFTER_PHRASE) else _quoted(text, key)
        for key in keys
    ]
    return TEMPLATES.get(relation, "{}").format(", ".join(dict.fromkeys(shown)))


def _word(text: LabelText, word: int) -> str:
    """Return a word as it is shown, with a hyphen before a piece that continues one."""
    count = len(text.words)
    return visible(text.words.texts[word]) if word < count else f"-{visible(text.words.texts[word - count])}"


def _alone(text: LabelText, word: int) -> str:
    shown = _word(text, word)
    return shown if all(character.isalpha() or character in "-'’" for character in shown) else f'"{shown}"'


def _quoted(text: LabelText, word: int) -> str:
    return START if word == text.start else f'"{_word(text, word)}"'


def _phrase(text: LabelText, key: int) -> str:
    """Return two words, which are joined where the second continues the first."""
    first, second = text.pair(key)
    if first == text.start:
        return f"{_quoted(text, second)} at {START}"
    shown = visible(text.words.texts[first % len(text.words)])
    joined = "" if second >= len(text.words) else " "
    return f'"{shown}{joined}{visible(text.words.texts[second % len(text.words)])}"'
