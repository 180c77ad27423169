"""Find what the examples of a feature have in common: the best label of each relation, for many features at once."""

from typing import NamedTuple

import numpy as np

from .relations import (
    CLASS_RELATIONS,
    MAX_KEYS,
    N_CLASSES,
    N_KINDS,
    NEAR_RELATIONS,
    NONE,
    PAIR_RELATIONS,
    WORD_RELATIONS,
    LabelText,
    Relation,
)

MIN_SUPPORT = 2
"""A word must be in this many of the examples that labels are made from."""
MIN_GAIN = 0.08
"""By how much a further word of a label must raise its gain."""
NEAR_SUPPORT = 3
"""A word near examples must be near this many, if the feature does not promote or suppress it."""
NEAR_SAMPLE = 8192  # positions
BONUS = {
    Relation.AT: 0.05,
    Relation.SAYS: 0.1,
    Relation.AFTER: 0.02,
    Relation.PHRASE: 0.06,
    Relation.AFTER_PHRASE: 0.03,
    **dict.fromkeys(CLASS_RELATIONS, -0.03),
    Relation.PROMOTES: 0.08,
    Relation.SUPPRESSES: 0.08,
}
"""Added to the gains of relations when they are compared: the simpler and the more telling label wins a near tie."""


class LabelCandidates(NamedTuple):
    """The best label of each of F features: its relation, keys (F, MAX_KEYS) and gain; NONE where there is no key."""

    relation: np.ndarray
    keys: np.ndarray
    gain: np.ndarray
    """Share of the examples that the label fits, minus the share of all text that it fits."""


class Rates:
    """How often labels fit positions of the text, exactly; those of words near a position from a sample of positions."""

    def __init__(self, text: LabelText, seed: int):
        self._words: dict[Relation, tuple[np.ndarray, np.ndarray]] = {}
        total = max(len(text.open), 1)
        for relation in WORD_RELATIONS:
            keys, counts = np.unique(text.keys(relation, text.open), return_counts=True)
            self._words[relation] = keys, counts / total
        self._words[Relation.SAYS] = self._words[Relation.BEFORE]
        self._classes = {relation: text.members(relation, text.open).mean(axis=0) for relation in CLASS_RELATIONS}
        chosen = np.random.default_rng([seed, 1]).choice(text.open, min(NEAR_SAMPLE, len(text.open)), replace=False)
        place, word, _ = _count_pairs(*_words_by_row(text.near(np.sort(chosen))))
        order = np.argsort(word, kind="stable")
        known, counts = np.unique(word, return_counts=True)
        self._words[Relation.NEAR] = known, counts / max(len(chosen), 1)
        self._near = (
            dict(zip(known.tolist(), np.split(place[order], np.cumsum(counts)[:-1]), strict=True)) if len(known) else {}
        )
        self._sampled = max(len(chosen), 1)

    def of(self, relation: Relation, keys: np.ndarray) -> np.ndarray:
        """Return the share of the text that has each key of a relation; 0 for NONE."""
        if relation in CLASS_RELATIONS:
            return np.where(keys == NONE, 0.0, self._classes[relation][keys])
        known, share = self._words[Relation.NEAR if relation in NEAR_RELATIONS else relation]
        place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.where((known[place] == keys) & (keys != NONE), share[place], 0.0)

    def of_label(self, relation: Relation, keys: np.ndarray) -> float:
        """Return the share of the text that a label fits."""
        if relation in NEAR_RELATIONS:
            nothing = np.zeros(0, np.int64)
            return (
                len(np.unique(np.concatenate([self._near.get(key, nothing) for key in keys.tolist()]))) / self._sampled
            )
        return float(self.of(relation, keys).sum())


def _words_by_row(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the word of every entry of a matrix that is not NONE."""
    found = words != NONE
    return np.nonzero(found)[0], words[found]


def _count_pairs(rows: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every distinct pair of a row and a key, sorted, and how often it occurs."""
    known, number = np.unique(keys, return_inverse=True)  # keys of pairs of words are too large to multiply by rows
    pairs, counts = np.unique(rows * max(len(known), 1) + number, return_counts=True)
    row, place = np.divmod(pairs, max(len(known), 1))
    return row, known[place], counts


def find_candidates(
    text: LabelText, rates: Rates, examples: np.ndarray, promoted: np.ndarray, suppressed: np.ndarray
) -> LabelCandidates:
    """Return the best candidate of each feature.

    Args:
        examples: positions of the examples that labels are made from, (F, n); NONE where a feature has fewer.
        promoted: words that each feature promotes, (F, m); NONE where there are fewer.
        suppressed: words that each feature suppresses, likewise.
    """
    outputs = {Relation.SAYS: promoted, Relation.PROMOTES: promoted, Relation.SUPPRESSES: suppressed}
    near = text.near(examples)
    counts = np.maximum((examples != NONE).sum(axis=1), 1)
    best = LabelCandidates(
        np.full(len(examples), NONE), np.full((len(examples), MAX_KEYS), NONE), np.full(len(examples), -np.inf)
    )
    for relation in Relation:
        if relation in CLASS_RELATIONS:
            keys, gain = _best_class(text, rates, relation, examples, counts)
        elif relation == Relation.NEAR:
            keys, gain = _best_near(rates, np.where(text.content[near], near, NONE), counts, NEAR_SUPPORT)
        elif relation in NEAR_RELATIONS:
            keys, gain = _best_near(rates, _only(near, outputs[relation]), counts, MIN_SUPPORT)
        else:
            found = text.keys(relation, examples)
            if relation == Relation.SAYS:
                found = _only(found, promoted)
            keys, gain = _best_words(text, rates, relation, found, counts)
        gain = np.where(keys[:, 0] == NONE, -np.inf, gain)
        better = gain + BONUS.get(relation, 0.0) > best.gain
        best.relation[better], best.keys[better] = relation, keys[better]
        best.gain[better] = gain[better] + BONUS.get(relation, 0.0)
    return best


def _best_words(
    text: LabelText, rates: Rates, relation: Relation, found: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys that are much more frequent in examples than in the text, best first, and the sum of their gains.

    The words of a label are of one kind: a list of a noun, a preposition and a comma says little.
    """
    features = len(found)
    row, key, support = _count_pairs(*_words_by_row(found))
    keys, gain = np.full((features, N_KINDS, MAX_KEYS), NONE), np.zeros((features, N_KINDS))
    gains = support / counts[row] - rates.of(relation, key)
    fit = (support >= MIN_SUPPORT) & (gains >= MIN_GAIN)
    row, key, gains = row[fit], key[fit], gains[fit]
    kind = text.kind[key] if relation not in PAIR_RELATIONS else np.zeros(len(key), np.int64)
    order = np.lexsort((key, -gains, kind, row))
    row, kind, key, gains = row[order], kind[order], key[order], gains[order]
    group = row * N_KINDS + kind
    rank = np.arange(len(group)) - np.searchsorted(group, group)
    kept = rank < MAX_KEYS
    keys[row[kept], kind[kept], rank[kept]] = key[kept]
    np.add.at(gain, (row[kept], kind[kept]), gains[kept])
    best = gain.argmax(axis=1)
    return keys[np.arange(features), best], gain[np.arange(features), best]


def _best_class(
    text: LabelText, rates: Rates, relation: Relation, examples: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class with the largest gain, as the first key."""
    support = text.members(relation, examples).sum(axis=1)
    gains = support / counts[:, None] - rates.of(relation, np.arange(N_CLASSES))
    gains[support < MIN_SUPPORT] = -np.inf
    best = gains.argmax(axis=1)
    gain = gains[np.arange(len(best)), best]
    keys = np.full((len(best), MAX_KEYS), NONE)
    keys[:, 0] = np.where(gain >= MIN_GAIN, best, NONE)
    return keys, gain


def _only(words: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """Return words of features, (F, ...), and NONE instead of those that are not among the feature's listed ones, (F, m)."""
    flat = words.reshape(len(words), -1)
    kept = np.zeros(flat.shape, np.bool_)
    for column in listed.T:
        kept |= flat == column[:, None]
    return np.where(kept, flat, NONE).reshape(words.shape)


def _best_near(rates: Rates, near: np.ndarray, counts: np.ndarray, least_support: int) -> tuple[np.ndarray, np.ndarray]:
    """Return words that are near several examples and rarely near other positions, and how much more often they are."""
    features, n, _ = near.shape
    keys, gain = np.full((features, MAX_KEYS), NONE), np.zeros(features)
    for place in range(MAX_KEYS):
        example, word, _ = _count_pairs(*_words_by_row(near.reshape(features * n, -1)))
        row, key, support = _count_pairs(example // n, word)
        if not len(row):
            break
        gains = support / counts[row] - rates.of(Relation.NEAR, key)
        gains[support < least_support] = -np.inf
        order = np.lexsort((key, -gains, row))
        first = order[np.flatnonzero(np.diff(row[order], prepend=-1))]
        first = first[gains[first] >= MIN_GAIN]
        keys[row[first], place] = key[first]
        gain[row[first]] += gains[first]
        taken = (near == keys[:, place][:, None, None]).any(axis=2) & (keys[:, place] != NONE)[:, None]
        near = np.where(taken[:, :, None] | (keys[:, place] == NONE)[:, None, None], NONE, near)
    return keys, gain
