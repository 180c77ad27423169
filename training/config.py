"""What to train, on what and how: one frozen record, stored with every checkpoint and every result."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from cotrace.common.errors import CotraceError

KINDS = ("clt", "transcoder", "skip-transcoder", "sae")
PRECISIONS = ("auto", "float32", "bfloat16")
ACTIVATIONS = ("batchtopk", "topk", "jumprelu")


@dataclass(frozen=True)
class Config:
    """Settings of one training run. Lengths are in tokens; rates are per step of `batch_tokens`.

    Raises ValueError for settings that cannot be trained.
    """

    model: str = "gemma-3-270m"
    data: tuple[str, ...] = ("samples",)
    kind: str = "clt"
    width: int = 1024  # features of a layer
    target_l0: float = 20.0  # active features of a layer and token
    affine: bool | None = None  # an affine skip beside the features; None: for clt and skip-transcoder
    activation: str = "batchtopk"
    matryoshka: tuple[int, ...] = ()  # widths of nested prefixes that reconstruct on their own; the last is all
    tokens: int = 1_000_000
    batch_tokens: int = 1024
    context: int = 256  # of a sequence, BOS included
    buffer_tokens: int = 32_768  # tokens whose activations are shuffled together
    passes: int = 1  # over each buffer
    fit_tokens: int = 32_768  # from which scales and the first affine map are fitted
    learning_rate: float = 3e-3
    warm_up: float = 0.02  # share of the steps
    decay: float = 0.3  # share of the steps
    sparsity: float = 0.3  # weight of the L0 penalty (jumprelu)
    frequent: float = 0.1  # share of tokens on which an active feature costs twice as much (jumprelu)
    bandwidth: float = 0.1  # of the straight-through estimator, in units of a pre-activation's spread (jumprelu)
    revive_after: int = 100_000  # tokens without activation after which a feature starts anew
    precision: str = "auto"  # of large products; parameters, sums and Adam stay in float32. auto: bfloat16 on a GPU
    held_out: float = 0.02  # share of the sequences kept for evaluation
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        _one_of("activation", self.activation, ACTIVATIONS)
        _one_of("precision", self.precision, PRECISIONS)
        for name in ("width", "tokens", "batch_tokens", "buffer_tokens", "passes", "fit_tokens", "revive_after"):
            if getattr(self, name) < 1:
                raise CotraceError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.context < 2:
            raise CotraceError(f"context is {self.context}; a sequence needs BOS and a token")
        if not 0 < self.target_l0 <= self.width:
            raise CotraceError(f"target_l0 is {self.target_l0}; it must be above 0 and at most the width, {self.width}")
        if self.learning_rate <= 0 or self.bandwidth <= 0 or self.frequent <= 0 or self.sparsity < 0:
            raise CotraceError("learning_rate, bandwidth and frequent must be above 0, sparsity at least 0")
        if not 0 <= self.held_out < 1 or self.warm_up < 0 or self.decay < 0 or self.warm_up + self.decay > 1:
            raise CotraceError("held_out, warm_up and decay are shares, and the last two are at most 1 together")
        if self.activation != "jumprelu" and self.target_l0 != int(self.target_l0):
            raise CotraceError(f"{self.activation} keeps a whole number of features a token, not {self.target_l0}")
        if isinstance(self.data, str):
            raise CotraceError(f"data is a list of sources; write [{self.data!r}]")
        if any(not 0 < size < self.width for size in self.matryoshka) or list(self.matryoshka) != sorted(
            set(self.matryoshka)
        ):
            raise CotraceError(f"matryoshka prefixes must ascend and be smaller than the width, {self.width}")
        if not self.data:
            raise CotraceError("there is no data; name a text file, a folder, a data set, or samples")

    @property
    def has_skip(self) -> bool:
        """Whether an affine skip is trained beside the features."""
        return self.kind in ("clt", "skip-transcoder") if self.affine is None else self.affine

    def in_bfloat16(self, device_type: str) -> bool:
        """Whether large matrix products are made in bfloat16 on a type of device."""
        return self.precision == "bfloat16" or (self.precision == "auto" and device_type == "cuda")

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return self.n_buffers * self.steps_per_buffer

    @property
    def tokens_per_buffer(self) -> int:
        """Tokens whose activations are shuffled together: of a short run all."""
        return min(self.buffer_tokens, self.tokens)

    @property
    def steps_per_buffer(self) -> int:
        """Steps that one buffer of activations gives."""
        return max(1, self.tokens_per_buffer * self.passes // self.batch_tokens)

    @property
    def n_buffers(self) -> int:
        """Buffers of activations of the whole run."""
        return -(-self.tokens // self.tokens_per_buffer)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Config":
        """From plain values; ValueError for settings that this version does not know."""
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise CotraceError(
                f"unknown training settings {', '.join(sorted(unknown))}; use the version that wrote them"
            )
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**settings)

    def __str__(self) -> str:
        return json.dumps(self.to_json())


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise CotraceError(f"{name} {value!r} is not one of {', '.join(known)}")
