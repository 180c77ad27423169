"""Activation patching: run one prompt with nodes set to their values in another; `Model.patch` calls this."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cotrace.attribution.models.masking import MaskedPositions
from cotrace.attribution.models.spelling import warn_of_likelier_spellings
from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import ErrorNode, Feature, Token
from cotrace.kernels.active import FeatureIndex

from .config import InterventionConfig
from .context import PromptContext
from .edit_plan import EditPlan
from .edits import Direction, Edit, Intervention, Supernode, TokenReplacement, ablate, replace_with, set_to
from .forward import ForwardOutput, InterventionRunner
from .intervene import InterventionBatch, intervene, prepare, require_memory
from .layer_modes import layer_modes
from .result import InterventionResult


class PatchResult(InterventionResult):
    """The corrupted prompt without (`logits_before`) and with (`logits`) nodes set to their values in the clean one."""

    def __init__(self, patched: InterventionResult, clean: ForwardOutput):
        super().__init__(patched._context, patched._outcome, patched._row, patched._modes, patched._plan)
        self._clean = clean

    @cached_property
    def logits_clean(self) -> Tensor:
        """Logits (P, V) of the clean prompt. Raises ResourceError if they do not fit into memory."""
        return self._logits(self._clean)

    def recovered(self, token: str | int, other: str | int | None = None, position: int = -1) -> float:
        """Return the share of the difference between the two prompts that the patch restores.

        This is the normalized logit difference of Zhang and Nanda 2023, "Towards Best Practices of Activation Patching".

        Args:
            token: the token, as text or id, whose logit is compared; without `other`, minus the mean logit.
            other: a token whose logit is subtracted instead.
            position: where the logits are read.

        Returns 0 for the corrupted prompt's value and 1 for the clean one's. Raises ArgumentError where the two prompts
        do not differ.
        """
        single = self._context.tokenizer.token_id
        token_id, other_id = single(token), None if other is None else single(other)

        def value(output: ForwardOutput) -> float:
            logits_V = self._logits_at(output, position)
            return float(logits_V[token_id] - (logits_V.mean() if other_id is None else logits_V[other_id]))

        ids = [token_id] if other_id is None else [token_id, other_id]
        corrupted_V, clean_V = (
            self._logits_at(output, position).double().softmax(-1) for output in (self._both[0], self._clean)
        )
        mean_V = (corrupted_V + clean_V) / 2
        warn_of_likelier_spellings(ids, self._context.tokenizer, mean_V)
        corrupted, patched, clean = map(value, (*self._both, self._clean))
        if clean == corrupted:
            raise ArgumentError("the two prompts do not differ there, so nothing can be recovered; use another token")
        return (patched - corrupted) / (clean - corrupted)


def patch(
    clean: PromptContext,
    corrupted: PromptContext,
    nodes: Iterable[Feature | ErrorNode | Token | Supernode],
    config: InterventionConfig,
) -> PatchResult:
    """Run the corrupted prompt with nodes set to their values in the clean one.

    Raises ArgumentError for prompts of different lengths, for directions, and where nothing would be patched.
    """
    if clean.n_positions != corrupted.n_positions:
        raise ArgumentError(
            f"the clean prompt has {clean.n_positions} tokens and the corrupted one {corrupted.n_positions}; patching "
            "copies values position by position, so choose prompts of the same length"
        )
    plan = EditPlan({node: ablate() for node in _members(nodes)}, _shared_context(clean, corrupted))
    modes = layer_modes(config, clean.weights.architecture, clean.transcoders)
    require_memory([InterventionBatch(context, [plan], modes, [()]) for context in (clean, corrupted)])
    if not any(resolved.positions for resolved in plan):
        raise ArgumentError(
            "nothing would be patched: name at least one node at a position of the prompts; generated ones do not count"
        )
    output = InterventionRunner(clean, error_layers=plan.errors, feature_layers=plan.features).forward(
        clean.ids_P[None]
    )
    edits = _clean_values(plan, output, clean)
    output.free()
    (patched,) = intervene(prepare(corrupted, [edits], config))
    return PatchResult(patched, output)


def _members(nodes: Iterable[Feature | ErrorNode | Token | Supernode]) -> list[Feature | ErrorNode | Token]:
    """Return single nodes, with supernodes taken apart."""
    if not isinstance(nodes, Iterable):
        raise ArgumentError(f"nodes is {nodes!r} and should be a list; write [node], also for one")
    members = [member for node in nodes for member in (node.members if isinstance(node, Supernode) else (node,))]
    if any(isinstance(node, Direction) for node in members):
        raise ArgumentError("a direction cannot be patched; name features, error nodes and tokens")
    return members


def _shared_context(clean: PromptContext, corrupted: PromptContext) -> PromptContext:
    """Return the clean prompt with the masked positions of both: a chat masks more than a text."""
    masked = [context.masked for context in (clean, corrupted)]
    positions = sorted({position for each in masked for position in each.positions})
    prefix = max(each.constant_prefix for each in masked)
    return replace(clean, masked=MaskedPositions(tuple(positions), prefix))


def _clean_values(plan: EditPlan, output: ForwardOutput, clean: PromptContext) -> Intervention:
    """Return edits that set each node, position by position, to its value in the clean prompt."""
    edits: dict[Any, Edit | TokenReplacement] = {}
    for layer, features in plan.features.items():
        for resolved in features:
            feature = resolved.node.feature
            position_n = torch.tensor(resolved.positions, device=clean.ids_P.device)
            index = FeatureIndex(position_n, torch.full_like(position_n, feature))
            values_n = output.active[layer].look_up(index, clean.transcoders, clean.weights)
            for position, value in zip(resolved.positions, values_n.tolist(), strict=True):
                edits[Feature(layer, feature, position)] = set_to(value)
    for layer, errors in plan.errors.items():
        for error in errors:
            for position in error.positions:
                edits[ErrorNode(layer, position)] = set_to(output.errors[layer][position])
    for token in plan.tokens:
        edits |= {Token(position): replace_with(int(clean.ids_P[position])) for position in token.positions}
    return edits
