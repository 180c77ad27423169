"""The settings of a build: one frozen dataclass, stored with the build and in the store."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from cotrace.common.errors import ArgumentError

AUTO = "auto"
OUTPUTS = (AUTO, "layers", "sum", "none")
NEIGHBOURS = (AUTO, "all", "layer", "none")


@dataclass(frozen=True)
class BuildConfig:
    """Settings of a build.

    Args:
        data: text sources, as in `TrainingConfig.data`.
        tokens: number of tokens to read, BOS not counted.
        context: tokens per sequence, BOS included.
        chat_share: share of the sequences that are rewritten as chats, for models with chat tokens.
        top: examples of the largest activation per feature, at most one per sequence.
        quantiles: examples per feature drawn uniformly from all tokens at which it is active.
        before: tokens of an example's context before the marked one.
        after: tokens of the context after it.
        fires_on: tokens to keep of those that a feature is active at most often.
        outputs: output tokens of each written layer and of their sum ("layers"), of the sum only ("sum"), or "none".
        neighbours: nearest features of all layers ("all"), of the same layer ("layer"), or "none".
        seed: seed of the choice of text and examples.

    "auto" chooses by the number of features (`choices.py`).

    Raises ArgumentError for a setting that is out of range.
    """

    data: tuple[str, ...]
    tokens: int = 1_000_000
    context: int = 256
    chat_share: float = 1 / 32
    top: int = 24
    quantiles: int = 16
    before: int = 24
    after: int = 8
    fires_on: int = 10
    outputs: str = AUTO
    neighbours: str = AUTO
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.data, str):
            raise ArgumentError(f"data must be a list of sources: write [{self.data!r}]")
        if not self.data:
            raise ArgumentError("data is empty: name a text file, a folder, a data set, or samples")
        least = {"tokens": 1, "context": 2, "top": 1, "quantiles": 0, "before": 0, "after": 0, "fires_on": 0, "seed": 0}
        for name, minimum in least.items():
            value = getattr(self, name)
            if type(value) is not int or value < minimum:
                raise ArgumentError(f"invalid {name} {value!r}: expected an integer of at least {minimum}")
        if not math.isfinite(self.chat_share) or not 0 <= self.chat_share <= 1:
            raise ArgumentError(f"invalid chat_share {self.chat_share!r}: expected 0 to 1")
        for name, choices in (("outputs", OUTPUTS), ("neighbours", NEIGHBOURS)):
            if getattr(self, name) not in choices:
                raise ArgumentError(f"invalid {name} {getattr(self, name)!r}: expected one of {', '.join(choices)}")

    @property
    def n_sequences(self) -> int:
        """Return the number of sequences that hold the tokens."""
        return -(-self.tokens // (self.context - 1))

    def to_json(self) -> dict[str, Any]:
        """Return the settings as values that JSON can hold."""
        return json.loads(json.dumps(asdict(self)))

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Return the names of settings that differ from those that `to_json` returned."""
        mine = self.to_json()
        return [field.name for field in fields(self) if mine[field.name] != other.get(field.name)]
