"""Cards of a graph's features on a page: the most influential features first, each card cut to what its reader looks at."""

import json
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from cotrace.features.store.card import FeatureCard
from cotrace.features.store.card_data import ALL_LAYERS, FeatureExample
from cotrace.features.store.store import FeatureStore
from cotrace.graphs import Graph

MAX_CARDS = 500  # reading one takes milliseconds
BYTES_PER_NODE, MAX_BYTES = 750, 400_000  # compressed: with them, the page of a circuit of 200 nodes stays below 1 MB
EXAMPLES = {"top": 4, "quantile": 3}  # of each kind, the strongest first
BEFORE, AFTER = 10, 6  # tokens around the marked one
TOKENS, NEIGHBOURS = 8, 4
DIGITS = 4  # significant ones


class ChosenCards(NamedTuple):
    """Cards by feature, as `FeatureCard.to_dict` has them but shorter, and the number of features of the graph."""

    cards: dict[str, Any]
    n_features: int


def choose_cards(graph: Graph, store: FeatureStore) -> ChosenCards:
    """Return the cards of a graph's features, as many as fit, the most influential features first.

    Raises FileError for a damaged store.
    """
    ranked = ranked_features(graph)
    keys = ranked[:MAX_CARDS]
    most = min(BYTES_PER_NODE * graph.order.n_nodes, MAX_BYTES)
    return ChosenCards(fitting(((key_of(card), short_card(card)) for card in store.cards(keys)), most), len(ranked))


def ranked_features(graph: Graph) -> list[tuple[int, int]]:
    """Return the layer and number of every feature of a graph, the largest influence over all positions first."""
    nodes = graph.order.features
    layer, feature, influence = (graph.column(name, 0)[nodes] for name in ("layer", "feature", "influence"))
    keys, which = np.unique(np.stack([layer, feature]), axis=1, return_inverse=True)
    total = np.bincount(which.ravel(), influence, keys.shape[1])
    return [(int(layer), int(feature)) for layer, feature in keys[:, np.argsort(-total, kind="stable")].T]


def fitting(cards: Iterable[tuple[str, dict[str, Any]]], most: int) -> dict[str, Any]:
    """Return the first cards that are together at most `most` bytes long when compressed."""
    stream, size, kept = zlib.compressobj(), 0, {}
    for key, card in cards:
        text = json.dumps(card, ensure_ascii=False).encode()
        size += len(stream.compress(text)) + len(stream.flush(zlib.Z_SYNC_FLUSH))
        if size > most:
            break
        kept[key] = card
    return kept


def key_of(card: FeatureCard) -> str:
    """Return the name of a card's feature without a position, such as L17#264."""
    return str(card.feature)


def short_card(card: FeatureCard) -> dict[str, Any]:
    """Return a card with fewer examples, tokens and digits, and what the feature promotes over all layers only."""
    values = card.to_dict()
    values["outputs"] = [
        {**output, **{end: output[end][:TOKENS] for end in ("top", "bottom")}}
        for output in values["outputs"]
        if output["layer"] == ALL_LAYERS
    ]
    values["fires_on"] = values["fires_on"][:TOKENS]
    for name in ("near_encoder", "near_decoder"):
        values[name] = values[name][:NEIGHBOURS]
    values["examples"] = [
        short_example(example)
        for kind, most in EXAMPLES.items()
        for example in [each for each in card.examples if each.kind == kind][:most]
    ]
    return rounded(values)


def short_example(example: FeatureExample) -> dict[str, Any]:
    """Return an example with fewer tokens around the marked one, without its place in the text of the store."""
    start, stop = max(0, example.mark - BEFORE), example.mark + AFTER + 1
    tokens = list(example.tokens[start:stop])
    return {"kind": example.kind, "activation": example.activation, "tokens": tokens, "mark": example.mark - start}


def rounded(value: Any) -> Any:
    """Return nested values with numbers of `DIGITS` significant digits."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
