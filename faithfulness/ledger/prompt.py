"""`StatedPrompt`: a transcript that went through a model once, with the values that it states as targets of effects."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.effects.config import EffectsConfig
from cotrace.attribution.effects.effects import EffectSource
from cotrace.attribution.effects.plan import plan_effects
from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.memory import out_of_memory
from cotrace.attribution.tracing.plan import allowed_memory, run_prompt
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.targets import Target, unembedding_reads
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress

from ..model_like import TranscodedModel
from ..transcripts import StatedTranscript, Transcript, tokenized
from .layout import STATING_ROLES, TargetLayout, lay_out
from .ledger import LeafEffects
from .margins import StatedContrast, choose_contrasts, choose_margins, foil_tokens

RESPONDING = EffectsConfig(freeze="norms")


class StatedPrompt:
    """A transcript that went through a model once, cut off where the last stated value is read.

    Targets are the values of all steps and answers that state one, each as a margin (`choose_margins`).

    Args:
        model: a `cotrace.Model`.
        transcript: at least one step or answer states a value; `values` has the alternatives, or those of each value
            were found by `state_values`.
        routed: the segments whose ledger tells routes apart, at one column more for each statement before; None for all.
        foils: the other value of a margin, as a text or token ids, by segment; otherwise the likeliest alternative.
        memory: limit in bytes for the memory of the process (on a GPU: of the device); None takes what is free.
        progress: as in `Model.trace`.

    Raises:
        CotraceError: no step or answer states a value, no alternative or foil can be told apart from one, or too little memory.

    Attributes:
        transcript: the transcript.
        tokens: its tokens and spans.
        ids_P: token ids of the prompt.
        margins: the targets, in the order of the prompt.
        source: the prompt at which effects are computed.
        columns_at_once: targets with cuts in one backward pass, so that they fit into memory.
    """

    @torch.no_grad()
    @out_of_memory()
    def __init__(
        self,
        model: TranscodedModel,
        transcript: Transcript | StatedTranscript,
        *,
        foils: Mapping[str, str | Sequence[int]] | None = None,
        routed: Collection[str] | None = None,
        memory: int | None = None,
        progress: bool | None = False,
    ):
        self.transcript, self.tokens = tokenized(transcript, model)
        self.weights, self.tokenizer, bars = model.weights, model.tokenizer, Progress(progress)
        names = [segment.name for segment in self.transcript.segments if self._is_stated(segment.role, segment.name)]
        if not names:
            raise ArgumentError("no step or answer states a value: give one `value=`, or call find_values()")
        # No later position has an effect on a target.
        end = max(self.tokens.read_position(name) + len(self.tokens.value_ids(name)) for name in names)
        self.ids_P = torch.tensor(self.tokens.token_ids[:end], device=self.weights.device)
        prefix = self.tokenizer.constant_prefix_length(self.ids_P.tolist())
        masked = MaskedPositions.choose(None, prefix, len(self.ids_P))
        activations = run_prompt(self.weights, model.transcoders, self.ids_P, masked, memory, bars)
        given = foil_tokens(foils or {}, self.tokens, self.tokenizer)
        self.margins = choose_margins(self.weights, self.tokens, names, activations.final_resid_PD, given)
        self._constant_prefix = masked.constant_prefix
        self._routed = {margin.name for margin in self.margins} if routed is None else set(routed)
        n_columns = sum(len(layout.cuts) for layout in self.layouts)
        allowed = allowed_memory(memory, self.weights.device)
        plan = plan_effects(activations, n_columns, RESPONDING, allowed, passes=2)
        self.columns_at_once = plan.columns_at_once
        with bars.phase("collecting decoder vectors"):
            replacement = LocalReplacementModel(activations, plan.keep_vectors)
        self.source = EffectSource(activations, replacement)

    def __repr__(self) -> str:
        return f"<StatedPrompt: {len(self.ids_P):,} tokens, targets {', '.join(self.names)}>"

    @property
    def names(self) -> list[str]:
        """The segments whose values are targets, in the order of the prompt."""
        return [margin.name for margin in self.margins]

    @cached_property
    def targets(self) -> list[Target]:
        """The margins as targets of effects."""
        return [margin.target(self.weights) for margin in self.margins]

    @cached_property
    def contrasts(self) -> list[StatedContrast]:
        """The stated values against the mean of their alternatives, in the same order."""
        return choose_contrasts(self.tokens, self.names)

    def values_of(self, targets: Sequence[Target]) -> np.ndarray:
        """Return the values of targets at the unembedding, (K,)."""
        position_K, read_KD = unembedding_reads(self.source.replacement, targets)
        return (self.source.run.final_resid_PD[position_K] * read_KD).sum(-1).double().cpu().numpy()

    @cached_property
    def layouts(self) -> list[TargetLayout]:
        """The sources that each target tells apart."""
        return [
            lay_out(
                self.transcript,
                self.tokens,
                margin.name,
                margin.position,
                self._constant_prefix,
                len(self.ids_P),
                margin.name in self._routed,
            )
            for margin in self.margins
        ]

    @torch.no_grad()
    @out_of_memory("shorten the prompt, or set memory=")
    def leaf_effects(self) -> tuple[list[LeafEffects], np.ndarray]:
        """Return the effects of leaves on each target with each of its cuts, and the targets' values (K,)."""
        counts = [len(layout.cuts) for layout in self.layouts]
        columns = [target for target, count in zip(self.targets, counts, strict=True) for _ in range(count)]
        open_KP = self._open([cut for layout in self.layouts for cut in layout.cuts])
        found = self.source.node_effects(columns, EffectsConfig(), open_KP, self.columns_at_once)
        last = np.cumsum(counts) - 1
        parts = np.split(np.arange(len(columns)), last[:-1] + 1)
        effects = [
            LeafEffects(
                self._tokens(found.effect_KM[part]), self._errors(found.effect_KM[end]), float(found.bias_K[end])
            )
            for part, end in zip(parts, last, strict=True)
        ]
        return effects, found.value_K[last]

    @torch.no_grad()
    @out_of_memory("shorten the prompt, or set memory=")
    def responding_effects(self, names: Sequence[str]) -> list[LeafEffects]:
        """Return the effects of leaves on each named target if attention scores respond too; biases are not computed."""
        targets = [self.targets[self.names.index(name)] for name in names]
        found = self.source.node_effects(targets, RESPONDING, None, self.columns_at_once)
        return [LeafEffects(self._tokens(row[None]), self._errors(row), 0.0) for row in found.effect_KM]

    def decode(self, token: int) -> str:
        """Return the text of a token."""
        return self.tokenizer.decode_token(token)

    def _is_stated(self, role: str, name: str) -> bool:
        return role in STATING_ROLES and name in self.tokens.value_spans

    def _open(self, cuts: Sequence[Sequence[int]]) -> Tensor:
        """Return a mask (K, P), False at the positions of each cut."""
        open_KP = torch.ones(len(cuts), len(self.ids_P), dtype=torch.bool, device=self.ids_P.device)
        for number, cut in enumerate(cuts):
            open_KP[number, list(cut)] = False
        return open_KP

    def _tokens(self, effect_KM: np.ndarray) -> np.ndarray:
        return effect_KM[:, -len(self.ids_P) :].astype(np.float64)

    def _errors(self, effect_M: np.ndarray) -> np.ndarray:
        """Return the effects of error nodes, (L, P)."""
        n_tokens, n_layers = len(self.ids_P), self.weights.architecture.n_layers
        return effect_M[-n_tokens * (n_layers + 1) : -n_tokens].reshape(n_layers, n_tokens).astype(np.float64)
