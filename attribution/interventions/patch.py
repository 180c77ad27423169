"""Activation patching: what one prompt's activations do in another."""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cotrace.attribution.models.masking import MaskedPositions
from cotrace.common.errors import CotraceError
from cotrace.kernels.active import FeatureIndex

from .edits import Direction, Edit, EditPlan, ErrorNode, Feature, Place, Supernode, ablate, set_to
from .forward import ForwardOutput
from .intervene import (
    InterventionBatch,
    InterventionConfig,
    InterventionResult,
    PreparedPrompt,
    intervene,
    prepare,
    require_memory,
)


class PatchResult(InterventionResult):
    """The corrupted prompt without (`logits_before`) and with (`logits`) what the clean one has at some nodes."""

    def __init__(self, patched: InterventionResult, clean: ForwardOutput):
        super().__init__(patched._prompt, patched._outcome, patched._row, patched._how, patched._changes)
        self._clean = clean

    @cached_property
    def logits_clean(self) -> Tensor:
        """The clean prompt's logits, (P, V)."""
        return self._logits(self._clean)

    def recovered(self, token: Any, other: Any = None, position: int = -1) -> float:
        """Share of the way from the corrupted to the clean prompt that a logit, or a difference of two, goes.

        0 is the corrupted prompt, 1 the clean one. Without `other` the logit is centred. Raises ValueError where
        the two prompts do not differ.
        """
        single = self._prompt.tokenizer.token_id
        rows = [single(token)] + ([] if other is None else [single(other)])

        def read(chunk: ForwardOutput) -> float:
            logits_V = self._logits_at(chunk, position)
            return float(logits_V[rows[0]] - (logits_V.mean() if other is None else logits_V[rows[1]]))

        corrupted, patched, clean = map(read, (*self._both, self._clean))
        if clean == corrupted:
            raise CotraceError("the two prompts do not differ there, so nothing can be recovered; read another token")
        return (patched - corrupted) / (clean - corrupted)


def patch(
    clean: PreparedPrompt, corrupted: PreparedPrompt, nodes: Iterable[Any], setting: InterventionConfig
) -> PatchResult:
    """Set nodes of the corrupted prompt to what they are in the clean one; see `Model.patch`."""
    if len(clean.ids_P) != len(corrupted.ids_P):
        raise CotraceError(
            f"the clean prompt has {len(clean.ids_P)} tokens and the corrupted one {len(corrupted.ids_P)}; patching goes "
            "position by position, so choose prompts of one length"
        )
    if not isinstance(nodes, Iterable):
        raise CotraceError(f"nodes is {nodes!r} and should be a list; write [node], also for one")
    named = [member for node in nodes for member in (node.members if isinstance(node, Supernode) else (node,))]
    if any(isinstance(node, Direction) for node in named):
        raise CotraceError("a direction cannot be patched; name features and error nodes")
    placed = EditPlan({node: ablate() for node in named}, _both_places(clean, corrupted))
    how = setting.how(clean.weights.architecture, clean.transcoders)
    require_memory([InterventionBatch(prompt, [placed], how) for prompt in (clean, corrupted)])
    if not any(one.positions for one in placed):
        raise CotraceError(
            "nothing would be patched: name at least one node, at a position of the prompts, which generated ones are not"
        )
    read = clean.stream(error_layers=placed.errors, report=placed.features).read(clean.ids_P[None])
    taken = _taken(placed, read, clean)
    read.free()
    (patched,) = intervene(prepare(corrupted, [taken], setting))
    return PatchResult(patched, read)


def _both_places(clean: PreparedPrompt, corrupted: PreparedPrompt) -> Place:
    """Where both prompts have nodes: a chat has fewer open positions than a text."""
    masked = [prompt.masked for prompt in (clean, corrupted)]
    positions = sorted({position for each in masked for position in each.positions})
    return clean.place._replace(masked=MaskedPositions(tuple(positions), max(each.constant_prefix for each in masked)))


def _taken(placed: EditPlan, chunk: ForwardOutput, prompt: PreparedPrompt) -> dict[Any, Edit]:
    """The clean prompt's activations, as changes of single nodes."""
    taken: dict[Any, Edit] = {}
    for layer, features in placed.features.items():
        for one in features:
            position_n = torch.tensor(one.positions, device=prompt.ids_P.device)
            sites = FeatureIndex(position_n, torch.full_like(position_n, one.node.feature))
            values_n = chunk.active[layer].of(sites, prompt.transcoders, prompt.weights)
            for position, value in zip(one.positions, values_n.tolist(), strict=True):
                taken[Feature(layer, one.node.feature, position=position)] = set_to(value)
    for layer, errors in placed.errors.items():
        for error in errors:
            for position in error.positions:
                taken[ErrorNode(layer, position=position)] = set_to(chunk.errors[layer][position])
    return taken
