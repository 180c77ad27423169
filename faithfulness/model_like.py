"""The parts of a model that this room needs: `cotrace.Model` has it all, `LanguageModel` what `ModelLike` names."""

from typing import Protocol

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.attribution.transcoders import Transcoders


class ModelLike(Protocol):
    """A model with weights and a tokenizer: a `cotrace.Model`, or a `LanguageModel`, which has no transcoders."""

    @property
    def weights(self) -> Gemma3:
        """The weights, with the operations of the forward pass."""

    @property
    def tokenizer(self) -> PromptTokenizer:
        """The tokenizer of the model's prompts."""


class TranscodedModel(ModelLike, Protocol):
    """A model with transcoders: a `cotrace.Model`."""

    @property
    def transcoders(self) -> Transcoders:
        """The transcoders of every layer."""
