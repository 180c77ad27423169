"""Read cards of features from the files of a store."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from cotrace.common.errors import FileError
from cotrace.graphs.nodes import Feature

from .card import FeatureCard
from .card_data import FeatureExample, FiredToken, LayerOutput, NearFeature, OutputToken
from .files import CURE, read_part
from .label import LABEL_COLUMNS, FeatureLabel
from .parts import StoreParts
from .schema import EXAMPLE_KINDS, EXAMPLES, FEATURES, file_of


def read_cards(store: StoreParts, keys: Iterable[tuple[int, int]]) -> dict[tuple[int, int], FeatureCard]:
    """Return the cards of features that the store has, by layer and number, in the order of `keys`.

    The files of a layer are read once for all its features. Raises FileError for damaged files.
    """
    wanted: dict[tuple[int, int], None] = dict.fromkeys(keys)
    found: dict[tuple[int, int], FeatureCard] = {}
    for layer in dict.fromkeys(layer for layer, _ in wanted):
        found |= _cards_of_layer(store, layer, [feature for at, feature in wanted if at == layer])
    return {key: found[key] for key in wanted}


def _cards_of_layer(store: StoreParts, layer: int, features: list[int]) -> dict[tuple[int, int], FeatureCard]:
    path = store.path / file_of("features", layer)
    rows = read_part(path, FEATURES, features=features).to_pylist()
    numbers = Counter(row["feature"] for row in rows)
    wrong = [feature for feature in features if numbers[feature] != 1]
    if wrong:
        raise FileError(f"{path} has {numbers[wrong[0]]} rows for feature {wrong[0]}; {CURE}")
    examples = _examples(store, layer, features)
    return {(layer, row["feature"]): _card(store, layer, row, examples[row["feature"]]) for row in rows}


def _card(store: StoreParts, layer: int, row: dict[str, Any], examples: Iterable[FeatureExample]) -> FeatureCard:
    info = store.info
    return FeatureCard(
        feature=Feature(layer, row["feature"]),
        dictionary=store.name,
        label=FeatureLabel(*(row[name] for name in LABEL_COLUMNS)) if row["label"] else None,
        count=row["count"],
        density=row["count"] / max(info["tokens"], 1),
        markup_count=row["markup_count"],
        markup_density=row["markup_count"] / max(info["markup_tokens"], 1),
        mean=row["total"] / max(row["count"], 1),
        max=row["max"],
        histogram=tuple(row["histogram"]),
        fires_on=_fires_on(store, row),
        outputs=tuple(_output(store, written) for written in row["written"]),
        near_encoder=_near(store, row["near_encoder"]),
        near_decoder=_near(store, row["near_decoder"]),
        examples=tuple(examples),
    )


def _fires_on(store: StoreParts, row: dict[str, Any]) -> tuple[FiredToken, ...]:
    ids, counts = [each["token"] for each in row["fires_on"]], [each["count"] for each in row["fires_on"]]
    occurrences = np.maximum(store.tokens.count(ids), 1).tolist()
    shown = zip(store.tokens.texts(ids), counts, occurrences, strict=True)
    return tuple(FiredToken(text, count, count / max(row["count"], 1), count / all) for text, count, all in shown)


def _output(store: StoreParts, written: dict[str, Any]) -> LayerOutput:
    ends = [_tokens(store, written[end]) for end in ("top", "bottom")]
    return LayerOutput(written["layer"], written["norm"], ends[0], ends[1])


def _tokens(store: StoreParts, weights: list[dict[str, Any]]) -> tuple[OutputToken, ...]:
    texts = store.tokens.texts([each["token"] for each in weights])
    return tuple(OutputToken(text, each["logit"]) for text, each in zip(texts, weights, strict=True))


def _near(store: StoreParts, listed: list[dict[str, Any]]) -> tuple[NearFeature, ...]:
    keys = [(each["layer"], each["feature"]) for each in listed]
    labels = [found.text if (found := store.labels.get(key)) else "" for key in keys]
    return tuple(
        NearFeature(Feature(*key), each["cosine"], label) for key, each, label in zip(keys, listed, labels, strict=True)
    )


def _examples(store: StoreParts, layer: int, features: list[int]) -> Mapping[int, list[FeatureExample]]:
    """Return the examples of some features of a layer, in the order of a card."""
    path = store.path / file_of("examples", layer)
    found: dict[int, list[FeatureExample]] = defaultdict(list)
    for row in read_part(path, EXAMPLES, features=features).to_pylist():
        if row["kind"] not in EXAMPLE_KINDS:
            raise FileError(f"{path} has examples of an unknown kind; {CURE}")
        found[row["feature"]].append(_example(store, row))
    for examples in found.values():
        examples.sort(key=lambda each: (EXAMPLE_KINDS.index(each.kind), -abs(each.activation), each.rank))
    return found


def _example(store: StoreParts, row: dict[str, Any]) -> FeatureExample:
    context = store.sequences.context(row["sequence"], row["position"])
    texts = tuple(store.tokens.texts(context.token_ids))
    return FeatureExample(
        row["kind"], row["rank"], row["activation"], texts, context.mark, row["sequence"], row["position"]
    )
