"""What a card of a feature holds: when it is active, on what, what it promotes, its neighbours and its examples."""

from dataclasses import dataclass
from typing import NamedTuple

from cotrace.graphs.nodes import Feature

from .label import FeatureLabel

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


class FeatureExample(NamedTuple):
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
class CardData:
    """What is known of a feature, as in `FeatureCard`."""

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
    examples: tuple[FeatureExample, ...]

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
