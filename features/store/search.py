"""Search a store for a word: in labels, in the tokens that features are active on, and in those that they promote."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import Feature

from .outputs import FeatureTokens, fired_tokens, output_tokens
from .parts import StoreParts

PLACES = ("label", "fires on", "promotes")
"""Where a word can be found; results are listed in this order."""


class SearchHit(NamedTuple):
    """A feature with the word."""

    feature: Feature
    where: str
    """One of `PLACES`."""
    value: float
    """Of a label, its score, or 1; of "fires on", the share of the feature's activity; of "promotes", the logit."""
    label: str


def search(store: StoreParts, word: str, *, layer: int | None = None, n: int = 20) -> list[SearchHit]:
    """Return at most n features whose label has a word or phrase, or that are active on or promote a token of this text.

    Upper and lower case, and spaces around the word, do not matter. Labels come first, then features that are active on the
    word, then those that promote it; each feature is listed once.

    Raises ArgumentError for an empty word, and for a layer that the store does not have.
    """
    wanted = word.strip().casefold()
    if not wanted:
        raise ArgumentError("the word to search for is empty; write some text")
    layers = store.layers if layer is None else (layer,)
    texts = np.array([text.strip().casefold() for text in store.tokens.all_texts], object)
    tokens = store.tokens.ids[texts == wanted]
    found = [hit for each in layers for hit in _hits(store, each, wanted, tokens)]
    found.sort(key=lambda hit: (PLACES.index(hit.where), -hit.value, hit.feature.layer, hit.feature.feature))
    best = {hit.feature: hit for hit in reversed(found)}
    return [hit for hit in found if best[hit.feature] is hit][:n]


def _hits(store: StoreParts, layer: int, word: str, tokens: np.ndarray) -> Iterator[SearchHit]:
    table = store.features(layer, ("label", "label_score", "count", "fires_on", "written"))
    labels, counts = table["label"].to_pylist(), table["count"].to_numpy()
    for feature, label in enumerate(labels):
        if word in label.casefold():
            score = table["label_score"][feature].as_py()
            yield SearchHit(Feature(layer, feature), "label", 1.0 if score is None else score, label)
    for feature, weight in _of_tokens(fired_tokens(table["fires_on"]), tokens):
        yield SearchHit(Feature(layer, feature), "fires on", weight / max(counts[feature], 1), labels[feature])
    for feature, weight in _of_tokens(output_tokens(table["written"]), tokens):
        yield SearchHit(Feature(layer, feature), "promotes", weight, labels[feature])


def _of_tokens(listed: FeatureTokens, tokens: np.ndarray) -> Iterator[tuple[int, float]]:
    """Return the features that have one of some tokens, and the sum of the weights of these."""
    here = np.isin(listed.token, tokens)
    features, place = np.unique(listed.feature[here], return_inverse=True)
    weights = np.zeros(len(features))
    np.add.at(weights, place, listed.weight[here])
    yield from zip(features.tolist(), weights.tolist(), strict=True)
