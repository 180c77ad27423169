"""Generate text with edits; `Model.generate` calls this."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from cotrace.attribution.models.memory import check_memory, free_memory, kv_cache_numel
from cotrace.attribution.models.sampling import sample_tokens
from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress
from cotrace.common.visible_text import quoted
from cotrace.graphs.nodes import Feature

from .config import InterventionConfig, SamplingConfig
from .context import PromptContext
from .donors import donor_memory, record_donors
from .edit_plan import EditedPositions, EditPlan
from .edits import Intervention
from .html import table_html
from .layer_modes import any_frozen, layer_modes
from .regenerate import regenerated, regenerated_positions
from .runs import row_memory
from .span_plan import require_responding
from .text_runner import TextRunner, edited_ids


@dataclass(repr=False)
class Generation:
    """Generated tokens. `Model.generate` returns it.

    Attributes:
        prompt: the prompt that was continued.
        token_ids: the new tokens.
        probabilities: the probability of each new token, at temperature 1.
        ended: whether the last token ends the text or the turn.
        idle: edited features whose activation did not change at any position.
        edited_prompt_ids: token ids of the prompt after swaps and with regenerated tokens.
    """

    prompt: PromptContext
    token_ids: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    ended: bool = False
    idle: list[Feature] = field(default_factory=list)
    edited_prompt_ids: list[int] = field(default_factory=list)
    _states: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The new tokens as text."""
        return self.prompt.tokenizer.decode(self.token_ids)

    @torch.no_grad()
    def next_probabilities(self, step: int) -> Tensor:
        """Return the probabilities (V,) in float64, at temperature 1, from which new token `step` was chosen.

        Raises ArgumentError for a step outside the new tokens.
        """
        step, n = as_index(step, "a step"), len(self._states)
        if not -n <= step < n:
            raise ArgumentError(f"step {step} is outside the {n} new tokens ({-n} … {n - 1})")
        resid_1D, rms_1 = self._states[step]
        return self.prompt.weights.logits(resid_1D, rms_1)[0].double().softmax(-1)

    def __repr__(self) -> str:
        if not self.token_ids:
            return "<Generation of 0 tokens: the text ended at once>"
        return f"<Generation of {len(self.token_ids)} tokens: {quoted(self.text)}>"

    def _repr_html_(self) -> str:
        texts = map(self.prompt.tokenizer.decode_token, self.token_ids)
        rows = ((quoted(text), p) for text, p in zip(texts, self.probabilities, strict=True))
        return table_html(f"{len(self.token_ids)} new tokens", ("token", "probability"), rows)


class PreparedGeneration:
    """A checked request to continue a prompt with edits.

    Raises:
        ArgumentError: edits that are impossible, before anything runs.
        ResourceError: too little memory.
    """

    def __init__(
        self,
        context: PromptContext,
        intervention: Intervention,
        config: InterventionConfig,
        max_new_tokens: int,
        use_cache: bool = True,
        regenerate: Any = None,
    ):
        self.context, self.plan, self.use_cache = context, EditPlan(intervention, context), use_cache
        self.modes = layer_modes(config, context.weights.architecture, context.transcoders)
        require_responding(self.plan.donors, self.modes)
        self.regenerate = regenerated_positions(regenerate, self.plan)
        self._require_memory(max_new_tokens)

    def start(self) -> tuple[TextRunner, Tensor]:
        """Return a runner of the text, and the prompt's token ids (P,) after swaps and with regenerated tokens."""
        context, plans = self.context, [self.plan]
        donors, ids_BP = record_donors(context, plans), edited_ids(context, plans)
        if self.regenerate:
            ids_BP = regenerated(context, plans, self.modes, donors, ids_BP, [self.regenerate], self.use_cache)
        return TextRunner(context, plans, self.modes, donors, self.use_cache), ids_BP[0]

    def _require_memory(self, max_new_tokens: int) -> None:
        weights, n_prompt = self.context.weights, self.context.n_positions
        n_runs = 2 if any_frozen(self.modes) else 1
        cache = kv_cache_numel(weights.architecture, n_prompt + max_new_tokens) * weights.dtype.itemsize
        row = row_memory(self.context, self.modes, n_prompt + (0 if self.use_cache else max_new_tokens))
        what = f"{max_new_tokens} new tokens after {n_prompt}"
        cure = "lower max_new_tokens or shorten the prompt"
        needed = n_runs * cache + sum(row) + donor_memory(self.context, [self.plan])
        check_memory(needed, free_memory(weights.device), what, cure)


def generate(prepared: PreparedGeneration, sampling: SamplingConfig, progress: Progress) -> Generation:
    """Continue a prompt token by token."""
    prompt = prepared.context
    generator = torch.Generator(device=prompt.weights.device).manual_seed(sampling.seed)
    text_runner, ids_P = prepared.start()
    result, end_tokens = Generation(prompt, edited_prompt_ids=ids_P.tolist()), prompt.tokenizer.end_token_ids()
    edited_positions: EditedPositions = {}
    with progress.phase("generating", sampling.max_new_tokens) as step:
        while len(result.token_ids) < sampling.max_new_tokens and not result.ended:
            output = text_runner.forward(ids_P[None])
            edited_positions |= text_runner.edited.edited_positions
            # A view would keep the whole tensor.
            result._states.append((output.resid_BPD[0, -1:].clone(), output.rms_BP[0, -1:].clone()))
            probability_V = result.next_probabilities(-1)
            token = int(sample_tokens(probability_V, sampling.temperature, generator))
            result.token_ids.append(token)
            result.probabilities.append(float(probability_V[token]))
            result.ended = token in end_tokens
            ids_P = torch.cat([ids_P, ids_P.new_tensor([token])])
            step()
    result.idle = prepared.plan.idle(edited_positions)
    return result


def first_divergence(one: Generation, other: Generation) -> int | None:
    """Return the first step at which two generations have different tokens; None if one begins with the other."""
    pairs: Iterator[tuple[int, int]] = zip(one.token_ids, other.token_ids, strict=False)
    return next((step for step, (a, b) in enumerate(pairs) if a != b), None)
