"""The settings of a training run: one frozen dataclass, stored with every checkpoint and every result."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from cotrace.common.errors import ArgumentError, FileError

KINDS = ("clt", "transcoder", "skip-transcoder", "sae")
PRECISIONS = ("auto", "float32", "bfloat16")
ACTIVATIONS = ("batchtopk", "topk", "jumprelu")
RENAMED_KEYS = {"revive_after": "dead_after_tokens", "frequent": "frequency_scale"}  # in files of older versions


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training run.

    Args:
        model: a Hub id, a folder or a .gguf file of a Gemma 3 model.
        data: text sources: text files, folders, Hugging Face data sets as NAME[:SPLIT[:COLUMN]], or samples[:N], N
            sequences that the model generates.
        kind: clt, transcoder, skip-transcoder or sae.
        width: number of features in each layer.
        target_l0: mean number of active features per layer and token.
        affine: train an affine skip connection; None trains one for the kinds clt and skip-transcoder.
        activation: batchtopk, topk or jumprelu.
        matryoshka: widths of nested prefixes of the features, ascending; each prefix reconstructs by itself.
        tokens: number of tokens to train on.
        batch_tokens: tokens per step.
        context: tokens per sequence, BOS included.
        buffer_tokens: tokens whose activations are kept in memory and shuffled together.
        passes: how many times each buffer is trained on.
        fit_tokens: tokens that the normalization and the initial affine map are fitted to.
        learning_rate: peak learning rate of Adam.
        warm_up: share of the steps with a linearly rising learning rate.
        decay: share of the steps with a learning rate that falls linearly to 0.
        sparsity: weight of the L0 penalty (jumprelu).
        frequency_scale: share of tokens on which an active feature costs twice as much (jumprelu).
        bandwidth: of the straight-through estimator, in standard deviations of a pre-activation (jumprelu).
        dead_after_tokens: resample a feature after this many tokens without activation.
        precision: of large matrix products: float32, bfloat16 or auto (bfloat16 on a GPU). Parameters, sums and Adam
            stay in float32.
        held_out: share of the sequences kept for evaluation.
        seed: seed of all random numbers.

    Raises:
        ArgumentError: a setting is out of range, or two settings contradict each other.
    """

    model: str = "gemma-3-270m"
    data: tuple[str, ...] = ("samples",)
    kind: str = "clt"
    width: int = 1024
    target_l0: float = 20.0
    affine: bool | None = None
    activation: str = "batchtopk"
    matryoshka: tuple[int, ...] = ()
    tokens: int = 1_000_000
    batch_tokens: int = 1024
    context: int = 256
    buffer_tokens: int = 32_768
    passes: int = 1
    fit_tokens: int = 32_768
    learning_rate: float = 3e-3
    warm_up: float = 0.02
    decay: float = 0.3
    sparsity: float = 0.3
    frequency_scale: float = 0.1
    bandwidth: float = 0.1
    dead_after_tokens: int = 100_000
    precision: str = "auto"
    held_out: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, KINDS)
        _check_choice("activation", self.activation, ACTIVATIONS)
        _check_choice("precision", self.precision, PRECISIONS)
        self._check_finite()
        self._check_counts()
        self._check_rates()
        self._check_sparsity()
        self._check_data()

    def _check_counts(self) -> None:
        for name in ("width", "tokens", "batch_tokens", "buffer_tokens", "passes", "fit_tokens", "dead_after_tokens"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"invalid {name} {getattr(self, name)}: expected at least 1")
        if self.context < 2:
            raise ArgumentError(f"invalid context {self.context}: expected at least 2, BOS and one token")

    def _check_finite(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ArgumentError(f"invalid {field.name} {value}: expected a finite number")

    def _check_rates(self) -> None:
        if self.learning_rate <= 0 or self.bandwidth <= 0 or self.frequency_scale <= 0 or self.sparsity < 0:
            raise ArgumentError("learning_rate, bandwidth and frequency_scale must be above 0, sparsity at least 0")
        if not 0 <= self.held_out < 1 or self.warm_up < 0 or self.decay < 0 or self.warm_up + self.decay > 1:
            raise ArgumentError(
                "held_out, warm_up and decay are shares between 0 and 1; warm_up + decay must be at most 1"
            )

    def _check_sparsity(self) -> None:
        if not 0 < self.target_l0 <= self.width:
            raise ArgumentError(
                f"invalid target_l0 {self.target_l0}: expected above 0 and at most the width, {self.width}"
            )
        if self.activation != "jumprelu" and self.target_l0 != int(self.target_l0):
            raise ArgumentError(f"invalid target_l0 {self.target_l0}: {self.activation} needs a whole number")
        ascending = list(self.matryoshka) == sorted(set(self.matryoshka))
        if not ascending or any(not 0 < size < self.width for size in self.matryoshka):
            raise ArgumentError(f"matryoshka widths must ascend and be smaller than the width, {self.width}")

    def _check_data(self) -> None:
        if isinstance(self.data, str):
            raise ArgumentError(f"data must be a list of sources: write [{self.data!r}]")
        if not self.data:
            raise ArgumentError("no data: name a text file, a folder, a data set, or samples")

    @property
    def has_skip(self) -> bool:
        """Return whether an affine skip connection is trained."""
        return self.kind in ("clt", "skip-transcoder") if self.affine is None else self.affine

    def uses_bfloat16(self, device_type: str) -> bool:
        """Return whether large matrix products on a type of device are computed in bfloat16."""
        return self.precision == "bfloat16" or (self.precision == "auto" and device_type == "cuda")

    @property
    def n_steps(self) -> int:
        """Return the number of steps of the whole run."""
        return self.n_buffers * self.steps_per_buffer

    @property
    def tokens_per_buffer(self) -> int:
        """Return the number of tokens in a buffer; a short run has a single buffer with all its tokens."""
        return min(self.buffer_tokens, self.tokens)

    @property
    def steps_per_buffer(self) -> int:
        """Return the number of steps that one buffer provides batches for."""
        return max(1, self.tokens_per_buffer * self.passes // self.batch_tokens)

    @property
    def n_buffers(self) -> int:
        """Return the number of buffers of the whole run."""
        return -(-self.tokens // self.tokens_per_buffer)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainingConfig":
        """Return the settings that `to_json` of this or an older version wrote.

        Raises FileError for settings that this version does not know, and for values of wrong types.
        """
        if not isinstance(values, dict):
            raise FileError("the training settings are damaged: use those of another run")
        values = {RENAMED_KEYS.get(name, name): value for name, value in values.items()}
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            names = ", ".join(sorted(unknown))
            raise FileError(f"unknown training settings {names}: use the version of cotrace that wrote them")
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**settings)
        except (TypeError, AttributeError) as error:  # values of other types than the checks expect
            raise FileError(f"the training settings are damaged ({error}): use those of another run") from error

    def __str__(self) -> str:
        return json.dumps(self.to_json())


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ArgumentError(f"invalid {name} {value!r}: expected one of {', '.join(choices)}")
