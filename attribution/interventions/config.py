"""Options of interventions and of sampling, with their defaults. Imports no torch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

Freeze = Literal["none", "attention", "all"]
Errors = Literal["recomputed", "constant"]
FREEZE_CHOICES: tuple[Freeze, ...] = get_args(Freeze)
ERROR_CHOICES: tuple[Errors, ...] = get_args(Errors)
MIN_TEMPERATURE = 1e-3  # below it, only the most likely token would be drawn
SEED_STOP = 2**63


@dataclass(frozen=True)
class InterventionConfig:
    """Options of an intervention: the values that stay frozen while the rest of the model responds.

    Attributes:
        freeze: what keeps its value from the run without edits. "none": nothing. "attention": the attention patterns.
            "all": everything that attribution freezes, which is the attention patterns, the norm scales, and the
            activations and error nodes that are not edited; an edit then changes every node by exactly its edge.
        layers: the layers where `freeze` applies; None means all. The other layers respond.
        errors: what computes the output of an MLP whose features are not frozen. "recomputed": the MLP itself, plus
            the decoder vectors of the edited features times their change. "constant": the transcoder, whose features
            respond to the edited residual stream, with the error nodes of the run without edits.

    Raises:
        ArgumentError: an unknown choice, layers that are not integers, or `layers` without something to freeze.
    """

    freeze: Freeze = "none"
    layers: Iterable[int] | None = None
    errors: Errors = "recomputed"

    def __post_init__(self) -> None:
        if self.freeze not in FREEZE_CHOICES:
            raise ArgumentError(f"freeze={self.freeze!r} is not one of {', '.join(FREEZE_CHOICES)}")
        if self.errors not in ERROR_CHOICES:
            raise ArgumentError(f"errors={self.errors!r} is not one of {', '.join(ERROR_CHOICES)}")
        if self.layers is None:
            return
        if not isinstance(self.layers, Iterable):
            raise ArgumentError(f"layers={self.layers!r} is not a list; write layers=[…], also for one layer")
        object.__setattr__(self, "layers", tuple(as_index(layer, "a layer") for layer in self.layers))
        if self.freeze == "none":
            raise ArgumentError('layers= needs something to freeze: use freeze="attention" or freeze="all"')


@dataclass(frozen=True)
class SamplingConfig:
    """Options of text generation: the number of new tokens, and how each is chosen.

    Attributes:
        max_new_tokens: the largest number of new tokens; a token that ends the text or the turn stops earlier.
        temperature: 0 takes the most likely token; otherwise tokens are drawn from softmax(logits / temperature).
        seed: seed of the draws, from 0 to 2^63 - 1.

    Raises:
        ArgumentError: a number of the wrong type or out of range.
    """

    max_new_tokens: int = 40
    temperature: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_new_tokens", as_index(self.max_new_tokens, "max_new_tokens"))
        object.__setattr__(self, "seed", as_index(self.seed, "seed"))
        if self.max_new_tokens < 1:
            raise ArgumentError(f"max_new_tokens is {self.max_new_tokens}; ask for at least 1")
        is_number = isinstance(self.temperature, Real) and not isinstance(self.temperature, bool)
        if not is_number or not (self.temperature == 0 or MIN_TEMPERATURE <= self.temperature < math.inf):
            raise ArgumentError(
                f"temperature is {self.temperature!r}; use 0 for the most likely token, or at least {MIN_TEMPERATURE}"
            )
        if not 0 <= self.seed < SEED_STOP:
            raise ArgumentError(f"seed is {self.seed}; use an integer from 0 to 2^63 - 1")
