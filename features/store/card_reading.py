"""Read the card of a feature from the files of a store."""

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


def read_card(store: StoreParts, layer: int, feature: int) -> FeatureCard:
    """Return the card of a feature that the store has. Raises FileError for damaged files."""
    path = store.path / file_of("features", layer)
    rows = read_part(path, FEATURES, feature=feature).to_pylist()
    if len(rows) != 1:
        raise FileError(f"{path} has {len(rows)} rows for feature {feature}; {CURE}")
    row, info = rows[0], store.info
    return FeatureCard(
        feature=Feature(layer, feature),
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
        examples=_examples(store, layer, feature),
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


def _examples(store: StoreParts, layer: int, feature: int) -> tuple[FeatureExample, ...]:
    path = store.path / file_of("examples", layer)
    found = [_example(store, row) for row in read_part(path, EXAMPLES, feature=feature).to_pylist()]
    if any(example.kind not in EXAMPLE_KINDS for example in found):
        raise FileError(f"{path} has examples of an unknown kind; {CURE}")
    return tuple(sorted(found, key=lambda each: (EXAMPLE_KINDS.index(each.kind), -abs(each.activation), each.rank)))


def _example(store: StoreParts, row: dict[str, Any]) -> FeatureExample:
    context = store.sequences.context(row["sequence"], row["position"])
    texts = tuple(store.tokens.texts(context.token_ids))
    return FeatureExample(
        row["kind"], row["rank"], row["activation"], texts, context.mark, row["sequence"], row["position"]
    )
