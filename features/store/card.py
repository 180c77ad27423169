"""The card of a feature: when it is active, on what, what it promotes, its neighbours and its examples."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cotrace.common.errors import FileError
from cotrace.graphs.nodes import Feature

from .files import CURE, read_part
from .label import LABEL_COLUMNS, FeatureLabel
from .schema import EXAMPLE_KINDS, EXAMPLES, FEATURES, file_of

if TYPE_CHECKING:
    from .store import FeatureStore

ALL_LAYERS = -1
"""Layer of the output tokens of all written layers together."""


class FiredToken(NamedTuple):
    """A token at which a feature is active."""

    token: str
    times: int
    share: float
    """Of all tokens at which the feature is active."""
    of_token: float
    """Share of the token's occurrences at which the feature is active."""


class OutputToken(NamedTuple):
    """A token that a feature promotes or suppresses."""

    token: str
    logit: float
    """Change of the logit at activation 1, minus the mean over the vocabulary."""


class LayerOutput(NamedTuple):
    """What a feature writes to one layer."""

    layer: int
    """-1 for all written layers together."""
    norm: float
    """Norm of the decoder vector."""
    top: tuple[OutputToken, ...]
    bottom: tuple[OutputToken, ...]


class NearFeature(NamedTuple):
    """A feature with a similar vector."""

    feature: Feature
    cosine: float
    label: str


class Example(NamedTuple):
    """A place in the text at which a feature is active."""

    kind: str
    """"top": among the largest activations; "quantile": drawn uniformly from all its activations."""
    rank: int
    activation: float
    tokens: tuple[str, ...]
    """Texts of the tokens around the marked one."""
    mark: int
    """Index of the token at which the feature is active, in `tokens`."""
    sequence: int
    position: int
    """Of the marked token in its sequence."""


@dataclass(frozen=True)
class FeatureCard:
    """What is known of a feature. `print(card)` shows it; a notebook shows it as HTML.

    `count` and `markup_count` are the numbers of text tokens and of chat markup tokens at which it is active; `density` and
    `markup_density` their shares. `mean` and `max` are of its activations in text. `histogram` counts activations by magnitude, in the bins of
    `schema.HISTOGRAM_BINS`. Examples come strongest first.
    """

    feature: Feature
    dictionary: str
    label: FeatureLabel | None
    count: int
    density: float
    markup_count: int
    markup_density: float
    mean: float
    max: float
    histogram: tuple[int, ...]
    fires_on: tuple[FiredToken, ...]
    outputs: tuple[LayerOutput, ...]
    near_encoder: tuple[NearFeature, ...]
    near_decoder: tuple[NearFeature, ...]
    examples: tuple[Example, ...]

    @property
    def out_of_format(self) -> str:
        """ "chat markup only", "mostly chat markup", or "" for a feature of text."""
        if not self.markup_count:
            return ""
        if not self.count:
            return "chat markup only"
        return "mostly chat markup" if self.markup_count > self.count else ""

    @property
    def promotes(self) -> tuple[OutputToken, ...]:
        """Tokens that it promotes most, over all written layers together, strongest first."""
        return self._output().top

    @property
    def suppresses(self) -> tuple[OutputToken, ...]:
        """Tokens that it suppresses most, over all written layers together, strongest first."""
        return self._output().bottom

    def _output(self) -> LayerOutput:
        return next((each for each in self.outputs if each.layer == ALL_LAYERS), LayerOutput(ALL_LAYERS, 0.0, (), ()))

    def to_dict(self) -> dict[str, Any]:
        """Return the card as values that JSON can hold."""
        values = {field.name: _plain(getattr(self, field.name)) for field in fields(self)}
        return values | {"out_of_format": self.out_of_format}

    def __str__(self) -> str:
        from .card_text import card_text

        return card_text(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from .card_html import card_html

        return card_html(self)


def read_card(store: "FeatureStore", layer: int, feature: int) -> FeatureCard:
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


def _fires_on(store: "FeatureStore", row: dict[str, Any]) -> tuple[FiredToken, ...]:
    ids, counts = [each["token"] for each in row["fires_on"]], [each["count"] for each in row["fires_on"]]
    occurrences = np.maximum(store.tokens.count(ids), 1).tolist()
    shown = zip(store.tokens.texts(ids), counts, occurrences, strict=True)
    return tuple(FiredToken(text, count, count / max(row["count"], 1), count / all) for text, count, all in shown)


def _output(store: "FeatureStore", written: dict[str, Any]) -> LayerOutput:
    ends = [_tokens(store, written[end]) for end in ("top", "bottom")]
    return LayerOutput(written["layer"], written["norm"], ends[0], ends[1])


def _tokens(store: "FeatureStore", weights: list[dict[str, Any]]) -> tuple[OutputToken, ...]:
    texts = store.tokens.texts([each["token"] for each in weights])
    return tuple(OutputToken(text, each["logit"]) for text, each in zip(texts, weights, strict=True))


def _near(store: "FeatureStore", listed: list[dict[str, Any]]) -> tuple[NearFeature, ...]:
    keys = [(each["layer"], each["feature"]) for each in listed]
    labels = [found.text if (found := store.labels.get(key)) else "" for key in keys]
    return tuple(
        NearFeature(Feature(*key), each["cosine"], label) for key, each, label in zip(keys, listed, labels, strict=True)
    )


def _examples(store: "FeatureStore", layer: int, feature: int) -> tuple[Example, ...]:
    path = store.path / file_of("examples", layer)
    found = [_example(store, row) for row in read_part(path, EXAMPLES, feature=feature).to_pylist()]
    if any(example.kind not in EXAMPLE_KINDS for example in found):
        raise FileError(f"{path} has examples of an unknown kind; {CURE}")
    return tuple(sorted(found, key=lambda each: (EXAMPLE_KINDS.index(each.kind), -abs(each.activation), each.rank)))


def _example(store: "FeatureStore", row: dict[str, Any]) -> Example:
    context = store.sequences.context(row["sequence"], row["position"])
    texts = tuple(store.tokens.texts(context.token_ids))
    return Example(row["kind"], row["rank"], row["activation"], texts, context.mark, row["sequence"], row["position"])


def _plain(value: Any) -> Any:
    """Return a value with features as text, and named tuples as dictionaries."""
    if isinstance(value, Feature):
        return str(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
