"""Compare two stores: which features respond to and promote the same, and which have no counterpart.

The profile of a feature is made of the tokens that it is active on most often and of those that it promotes, by their texts,
each part with norm 1. The similarity of two features is the mean of the cosines of the two parts, 0 to 1. A part that a store does not
have at all is left out.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import Feature

from .outputs import FeatureTokens, fired_tokens, output_tokens
from .parts import StoreParts

BLOCK = 2048  # features of one store that are compared with all of the other one
NUMBER, PROFILE = "number", "profile"
MATCHES = (NUMBER, PROFILE)


class FeatureChange(NamedTuple):
    """A feature of the first store and its counterpart in the second."""

    feature: Feature
    other: Feature
    similarity: float
    """Of what they are active on and promote, 0 to 1."""
    density: float
    """Share of the tokens of text at which the feature is active."""
    other_density: float
    label: str
    other_label: str


@dataclass(frozen=True)
class StoreDiff:
    """The difference between two stores.

    Attributes:
        match: "number" if features of the same layer and number were compared, "profile" if each was compared with the most
            similar feature of the second store.
        changes: features that are active in both stores, the least similar first.
        only_first: features of the first store whose counterpart is never active.
        only_second: features of the second store that are active and no counterpart of an active feature.
    """

    match: str
    changes: tuple[FeatureChange, ...]
    only_first: tuple[Feature, ...]
    only_second: tuple[Feature, ...]

    @property
    def mean_similarity(self) -> float:
        """Mean similarity of the features that are active in both stores; NaN if there are none."""
        return float(np.mean([each.similarity for each in self.changes])) if self.changes else float("nan")

    def labels(self) -> dict[str, int]:
        """Return how many features have the same label in both stores, another one, or one in one store only."""
        counts = Counter(_label_change(each) for each in self.changes)
        return {name: counts[name] for name in ("same", "changed", "only first", "only second", "neither")}

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as values that JSON can hold."""
        changes = [{**each._asdict(), "feature": str(each.feature), "other": str(each.other)} for each in self.changes]
        return {
            "match": self.match,
            "mean_similarity": self.mean_similarity if self.changes else None,
            "labels": self.labels(),
            "changes": changes,
            "only_first": [str(feature) for feature in self.only_first],
            "only_second": [str(feature) for feature in self.only_second],
        }


def _label_change(change: FeatureChange) -> str:
    if not change.label or not change.other_label:
        return "only first" if change.label else "only second" if change.other_label else "neither"
    return "same" if change.label == change.other_label else "changed"


class _Features(NamedTuple):
    """All features of a store, one after the other."""

    features: list[Feature]
    density: np.ndarray
    labels: list[str]
    fired: FeatureTokens
    promoted: FeatureTokens


def diff_stores(first: StoreParts, second: StoreParts, match: str | None = None) -> StoreDiff:
    """Return the difference between two stores.

    Args:
        match: "number" compares features of the same layer and number, "profile" each feature with the most similar one of
            the second store. None takes "number" for stores with the same layers and widths.

    Raises:
        ArgumentError: an unknown `match`, or "number" for stores with other layers or widths.
    """
    same = first.widths == second.widths
    match = match or (NUMBER if same else PROFILE)
    if match not in MATCHES:
        raise ArgumentError(f"invalid match {match!r}: expected one of {', '.join(MATCHES)}")
    if match == NUMBER and not same:
        raise ArgumentError(
            f"{first.name} and {second.name} have other layers or widths, so that the same number is another feature; use "
            'match="profile"'
        )
    a, b = _read(first), _read(second)
    vocabulary: dict[str, int] = {}
    profiles = [_profile(first, a, vocabulary), _profile(second, b, vocabulary)]
    both_have = [part for part in range(2) if all(profile[part].nnz for profile in profiles)]
    mine, theirs = ([_resized(profile[part], len(vocabulary)) for part in both_have] for profile in profiles)
    if not both_have:
        raise ArgumentError(f"{first.name} and {second.name} have no tokens to compare: build them with output tokens")
    if match == NUMBER:
        partner, similarity = np.arange(len(a.features)), _rowwise(mine, theirs)
    else:
        partner, similarity = _nearest(mine, theirs, b.density > 0)
    return _result(match, a, b, partner, similarity)


def _result(match: str, a: _Features, b: _Features, partner: np.ndarray, similarity: np.ndarray) -> StoreDiff:
    active = np.flatnonzero(a.density > 0)
    both = active[b.density[partner[active]] > 0]
    order = both[np.argsort(similarity[both], kind="stable")]
    changes = [
        FeatureChange(
            a.features[i],
            b.features[partner[i]],
            float(similarity[i]),
            float(a.density[i]),
            float(b.density[partner[i]]),
            a.labels[i],
            b.labels[partner[i]],
        )
        for i in order
    ]
    alone = np.setdiff1d(active, both)
    unmatched = np.setdiff1d(np.flatnonzero(b.density > 0), partner[both])
    return StoreDiff(
        match, tuple(changes), tuple(a.features[i] for i in alone), tuple(b.features[i] for i in unmatched)
    )


def _read(store: StoreParts) -> _Features:
    features: list[Feature] = []
    labels: list[str] = []
    counts, fired, promoted = [], [], []
    for layer, width in store.widths.items():
        table = store.features(layer, ("count", "label", "fires_on", "written"))
        fired.append(_moved(fired_tokens(table["fires_on"]), len(features)))
        promoted.append(_moved(output_tokens(table["written"]), len(features)))
        counts.append(table["count"].to_numpy())
        labels += table["label"].to_pylist()
        features += [Feature(layer, feature) for feature in range(width)]
    density = np.concatenate(counts) / max(store.info["tokens"], 1)
    return _Features(features, density, labels, _joined(fired), _joined(promoted))


def _moved(tokens: FeatureTokens, by: int) -> FeatureTokens:
    return tokens._replace(feature=tokens.feature + by)


def _joined(parts: list[FeatureTokens]) -> FeatureTokens:
    return FeatureTokens(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _profile(store: StoreParts, read: _Features, vocabulary: dict[str, int]) -> list[sp.csr_array]:
    """Return the two parts of the profiles, (features, texts), each row with norm 1; new texts get the next column."""
    return [_unit_rows(store, tokens, len(read.features), vocabulary) for tokens in (read.fired, read.promoted)]


def _unit_rows(store: StoreParts, tokens: FeatureTokens, rows: int, vocabulary: dict[str, int]) -> sp.csr_array:
    ids, place = np.unique(tokens.token, return_inverse=True)
    columns = np.array([vocabulary.setdefault(text, len(vocabulary)) for text in store.tokens.texts(ids)], np.int64)
    weight = np.maximum(tokens.weight.astype(np.float64), 0)
    norm = np.sqrt(np.bincount(tokens.feature, weight**2, rows))
    scaled = weight / np.maximum(norm[tokens.feature], np.finfo(np.float64).tiny)
    return sp.csr_array((scaled, (tokens.feature, columns[place])), (rows, len(vocabulary)))


def _resized(part: sp.csr_array, columns: int) -> sp.csr_array:
    return sp.csr_array((part.data, part.indices, part.indptr), (part.shape[0], columns))


def _rowwise(first: list[sp.csr_array], second: list[sp.csr_array]) -> np.ndarray:
    return np.mean([a.multiply(b).sum(axis=1) for a, b in zip(first, second, strict=True)], axis=0)


def _nearest(
    first: list[sp.csr_array], second: list[sp.csr_array], active: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each feature of the first store the most similar active one of the second, and the similarity."""
    n = first[0].shape[0]
    partner, best = np.zeros(n, np.int64), np.zeros(n)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        similarity = sum(a[rows] @ b.T for a, b in zip(first, second, strict=True)) / len(first)
        similarity = similarity.multiply(active[None, :]).tocsr()
        best[rows] = similarity.max(axis=1).toarray().ravel()
        partner[rows] = similarity.argmax(axis=1)
    return partner, best
