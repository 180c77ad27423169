"""A tokenized prompt together with the model that runs on it."""

from dataclasses import dataclass

from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.attribution.transcoders import Transcoders


@dataclass(frozen=True)
class PromptContext:
    """One prompt, its masked positions, and the model and transcoders that run on it.

    Attributes:
        ids_P: token ids (P,).
        masked: positions without features.
    """

    weights: Gemma3
    transcoders: Transcoders
    tokenizer: PromptTokenizer
    ids_P: Tensor
    masked: MaskedPositions

    def __repr__(self) -> str:
        return f"<PromptContext of {self.n_positions} tokens, {len(self.masked.positions)} masked>"

    @property
    def n_positions(self) -> int:
        """Number of the prompt's tokens."""
        return len(self.ids_P)

    @property
    def n_layers(self) -> int:
        """Number of the model's layers."""
        return self.weights.architecture.n_layers

    def is_open(self, position: int) -> bool:
        """Return whether a position may carry features."""
        return position not in self.masked.positions
