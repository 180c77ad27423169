"""What automatic labels look at: words and classes of words at, before and after a token, and words near it.

Every relation gives each position of the text a key: the number of a word, of a pair of words, or of a class. A label is a
relation with at most `MAX_KEYS` keys, and fits a position that has one of them.
"""

from enum import IntEnum

import numpy as np

from .sequences import TokenSequences
from .words import CLASSES, Words

MAX_KEYS = 3
NONE = -1
"""The key of a position without one, such as of the word after the end of a text."""
WINDOW = 20
"""How many tokens are near a token: itself, and those before it."""


class Relation(IntEnum):
    """Where a label looks for its words."""

    AT = 0
    """The word of the token itself."""
    SAYS = 1
    """The word of the next token, which the feature also promotes."""
    AFTER = 2
    """The word before the token."""
    BEFORE = 3
    """The word of the next token."""
    PHRASE = 4
    """The words of the token before and of the token itself."""
    AFTER_PHRASE = 5
    """The two words before the token."""
    CLASS = 6
    """A class of the token itself."""
    AFTER_CLASS = 7
    """A class of the token before."""
    BEFORE_CLASS = 8
    """A class of the next token."""
    NEAR = 9
    """A word among the `WINDOW` tokens that end with the token."""
    PROMOTES = 10
    """A word among these that the feature promotes."""
    SUPPRESSES = 11
    """A word among these that the feature suppresses."""


OFFSETS = {
    Relation.AT: 0,
    Relation.SAYS: 1,
    Relation.AFTER: -1,
    Relation.BEFORE: 1,
    Relation.PHRASE: 0,
    Relation.AFTER_PHRASE: -1,
    Relation.CLASS: 0,
    Relation.AFTER_CLASS: -1,
    Relation.BEFORE_CLASS: 1,
}
"""Of the word, the last word of the pair, or the class, from the token."""
WORD_RELATIONS = (Relation.AT, Relation.AFTER, Relation.BEFORE, Relation.PHRASE, Relation.AFTER_PHRASE)
PAIR_RELATIONS = (Relation.PHRASE, Relation.AFTER_PHRASE)
CLASS_RELATIONS = (Relation.CLASS, Relation.AFTER_CLASS, Relation.BEFORE_CLASS)
NEAR_RELATIONS = (Relation.NEAR, Relation.PROMOTES, Relation.SUPPRESSES)
OUTPUT_RELATIONS = (Relation.SAYS, Relation.PROMOTES, Relation.SUPPRESSES)
"""Relations whose words come from the output tokens of a feature."""
PIECES = len(CLASSES)
"""The class of tokens that continue a word: it depends on the token before."""
N_KINDS = 3
"""Kinds of words that are not mixed in a label: signs, other words, and words that tell what a text is about."""
N_CLASSES = len(CLASSES) + 1


class LabelText:
    """The text of a store as words, for labels.

    Attributes:
        words: the words of the tokens. Number `n` of a piece that continues a word is `n + len(words)`, and after an
            apostrophe `n + 2 * len(words)`; `start` is the number of the start of a text.
        kind: 2 for words that tell what a text is about, 1 for other words and pieces, 0 for signs, by number.
        content: whether each number is a word that tells what a text is about, (start + 1,).
        word: number of the word at each position, (P,).
        first: first position of the text that each position is in, its BOS; stop: the one after its last, (P,).
        open: positions that are not the start of a text, ascending.
    """

    def __init__(self, sequences: TokenSequences, token_rows: np.ndarray, words: Words):
        self.words = words
        ids, starts = sequences.ids, sequences.starts
        self.first, self.stop = _documents(ids, starts, sequences.bos)
        is_start = np.arange(len(ids)) == self.first
        joined = np.zeros(len(ids), np.bool_)
        joined[1:] = words.continues[token_rows[1:]] & words.ends_in_letter[token_rows[:-1]]
        joined &= ~is_start
        elided = np.zeros(len(ids), np.bool_)  # the s of "it's"
        elided[2:] = words.is_apostrophe[token_rows[1:-1]] & words.continues[token_rows[2:]]
        elided[2:] &= words.ends_in_letter[token_rows[:-2]] & ~is_start[2:] & ~is_start[1:-1]
        self.start = 3 * len(words)
        self.word = words.of_token[token_rows] + len(words) * (joined + 2 * elided)
        self.content = np.concatenate([words.content, np.zeros(2 * len(words) + 1, np.bool_)])
        letters = np.tile([any(map(str.isalpha, word)) for word in words.texts], 3)
        self.kind = np.where(self.content, 2, np.append(letters, False))
        self.classes = np.concatenate([words.classes[token_rows], joined[:, None]], axis=1)
        if sequences.bos is not None:
            self.word[ids == sequences.bos] = self.start
            self.classes[ids == sequences.bos] = False
            is_start = ids == sequences.bos
        self.open = np.flatnonzero(~is_start)

    def keys(self, relation: Relation, at: np.ndarray) -> np.ndarray:
        """Return the keys of positions under a relation of words, int64; NONE where there is no word, or no position."""
        last = self._word(at, OFFSETS[relation])
        if relation not in PAIR_RELATIONS:
            return last
        before = self._word(at, OFFSETS[relation] - 1)
        return np.where((last == NONE) | (before == NONE), NONE, before * (self.start + 1) + last)

    def pair(self, key: int) -> tuple[int, int]:
        """Return the two words of a pair's key."""
        return divmod(key, self.start + 1)

    def members(self, relation: Relation, at: np.ndarray) -> np.ndarray:
        """Return whether the token that a relation of classes looks at is in each class, (..., N_CLASSES)."""
        place = at + OFFSETS[relation]
        inside = (at >= 0) & (place >= self.first[at]) & (place < self.stop[at])
        return self.classes[np.where(inside, place, 0)] & inside[..., None]

    def near(self, at: np.ndarray) -> np.ndarray:
        """Return the words of the `WINDOW` tokens that end with positions, (..., WINDOW); NONE where there are fewer."""
        return np.stack([self._word(at, -offset) for offset in range(WINDOW)], axis=-1)

    def _word(self, at: np.ndarray, offset: int) -> np.ndarray:
        place = at + offset
        inside = (at >= 0) & (place >= self.first[at]) & (place < self.stop[at])
        return np.where(inside, self.word[np.where(inside, place, 0)], NONE).astype(np.int64)


def _documents(ids: np.ndarray, starts: np.ndarray, bos: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the first position of the text that each position is in, and the position after its last."""
    begins = np.zeros(len(ids), np.bool_)
    begins[starts[:-1][np.diff(starts) > 0]] = True
    if bos is not None:
        begins |= ids == bos
    borders = np.flatnonzero(begins)
    text = np.cumsum(begins) - 1
    return borders[text], np.append(borders[1:], len(ids))[text]
