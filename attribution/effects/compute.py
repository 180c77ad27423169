"""All effects that a user asks for, in one table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.tracing.targets import Target
from cotrace.attribution.transcoders import Transcoders
from cotrace.common.errors import ArgumentError
from cotrace.graphs.effect_table import Effects
from cotrace.graphs.nodes import ErrorNode, Feature, Token, parse_node, resolve_position

from .config import EffectsConfig
from .cuts import Cut
from .effects import EffectSource, NodeEffects
from .integrate import integrate_ablations, integrate_inputs
from .node_table import node_table

ListedNode = Feature | ErrorNode


@dataclass(frozen=True)
class EffectRequest:
    """The effects to compute of a prompt's resolved targets.

    Attributes:
        config: the options.
        cuts: the cuts, each computed for every target.
        baseline_PD: embeddings of the baseline with `integrate="inputs"`.
        nodes: nodes whose ablation is integrated.
        columns_at_once: targets with cuts in one backward pass.
    """

    config: EffectsConfig
    cuts: Sequence[Cut]
    baseline_PD: Tensor | None = None
    nodes: Sequence[ListedNode] = ()
    columns_at_once: int | None = None

    def __repr__(self) -> str:
        return f"<EffectRequest: freeze={self.config.freeze!r}, {len(self.cuts)} cuts>"


def compute_effects(
    source: EffectSource, targets: Sequence[Target], request: EffectRequest, info: dict[str, Any]
) -> Effects:
    """Return the effects of a prompt's nodes on each target with each cut.

    Args:
        source: the prompt.
        targets: its resolved targets.
        request: what is computed.
        info: metadata of the caller: model, transcoders, prompt, tokens, settings.

    Raises:
        ArgumentError: a listed node that is not active.
    """
    pairs = [(target, cut) for target in targets for cut in request.cuts]
    columns = [target for target, _ in pairs]
    open_KP = _open_positions([cut for _, cut in pairs], source)
    effects = _node_effects(source, columns, request, open_KP)
    through_qk_KM = None
    if request.config.through_qk:
        responding = EffectsConfig(freeze="norms")
        through_qk = source.node_effects(columns, responding, open_KP, request.columns_at_once)
        through_qk_KM = through_qk.effect_KM - effects.effect_KM
    rows = [
        _target_row(number // len(request.cuts), target, cut, float(value))
        for number, ((target, cut), value) in enumerate(zip(pairs, effects.value_K, strict=True))
    ]
    nodes = node_table(source.replacement, info["tokens"])
    masked = {"masked_positions": list(source.replacement.masked_positions)}
    return Effects(rows, nodes, effects.effect_KM, effects.bias_K, {**info, **masked}, through_qk_KM)


def check_nodes(
    nodes: Iterable[Any] | None, config: EffectsConfig, n_positions: int, transcoders: Transcoders, weights: Gemma3
) -> list[ListedNode]:
    """Return the nodes whose ablation is integrated, each with one position.

    Raises ArgumentError for nodes without `integrate="ablation"` or the reverse, and for anything else than features and
    error nodes of this prompt.
    """
    if nodes is None:
        if config.integrate == "ablation":
            raise ArgumentError('integrate="ablation" needs nodes=: the features and error nodes to ablate')
        return []
    if config.integrate != "ablation":
        raise ArgumentError('nodes= lists what is ablated: use it with integrate="ablation"')
    if isinstance(nodes, str | Feature | ErrorNode | Token) or not isinstance(nodes, Iterable):
        raise ArgumentError(f"nodes is {nodes!r}: expected a list")
    checked: list[ListedNode] = []
    for each in nodes:
        node = parse_node(each) if isinstance(each, str) else each
        if not isinstance(node, Feature | ErrorNode):
            raise ArgumentError(
                f"{each} cannot be integrated along its ablation: expected features and error nodes; for tokens use "
                'integrate="inputs"'
            )
        if not isinstance(node.position, int):
            raise ArgumentError(f"{node} needs one position: use position= with an int, or @POSITION in a text")
        node = _at(node, resolve_position(node.position, n_positions))
        if isinstance(node, Feature):
            transcoders.check_feature(node, weights)
        elif not 0 <= node.layer < weights.architecture.n_layers:
            raise ArgumentError(
                f"{node}: the model has no layer {node.layer}; its layers are 0 … {weights.architecture.n_layers - 1}"
            )
        if node in checked:
            raise ArgumentError(f"{node} is listed twice: name it once")
        checked.append(node)
    if not checked:
        raise ArgumentError("nodes is empty: name at least one")
    return checked


def _at(node: ListedNode, position: int) -> ListedNode:
    if isinstance(node, Feature):
        return Feature(node.layer, node.feature, position)
    return ErrorNode(node.layer, position)


def _node_effects(
    source: EffectSource, columns: Sequence[Target], request: EffectRequest, open_KP: Tensor | None
) -> NodeEffects:
    config = request.config
    if config.integrate is None:
        return source.node_effects(columns, config, open_KP, request.columns_at_once)
    n_features, n_sites = len(source.replacement.features), source.replacement.n_layers * source.replacement.n_positions
    n_nodes = n_features + n_sites + source.replacement.n_positions
    effect_KM = np.zeros((len(columns), n_nodes), torch.empty(0, dtype=source.replacement.dtype).numpy().dtype)
    if config.integrate == "inputs":
        assert request.baseline_PD is not None
        found = integrate_inputs(source, columns, config, request.baseline_PD, open_KP, request.columns_at_once)
        effect_KM[:, n_features + n_sites :] = found.effect_KS
        return NodeEffects(effect_KM, np.zeros(len(columns)), found.value_K)
    numbers = [_number(source, node) for node in request.nodes]
    found = integrate_ablations(source, columns, [[node] for node in request.nodes], config)
    effect_KM[:, numbers] = found.effect_KS
    return NodeEffects(effect_KM, np.zeros(len(columns)), source.values(columns, config))


def _number(source: EffectSource, node: ListedNode) -> int:
    """Return the number of a node. Raises ArgumentError for a feature that is not active, or an error node of none."""
    replacement = source.replacement
    assert isinstance(node.position, int)
    if isinstance(node, ErrorNode):
        return len(replacement.features) + node.layer * replacement.n_positions + node.position
    index = replacement.features.find(node.layer, node.position, node.feature)
    if index is None:
        raise ArgumentError(
            f"{node} is not active in this prompt: model.active_features(prompt) lists the features that are"
        )
    return index


def _open_positions(cuts: Sequence[Cut], source: EffectSource) -> Tensor | None:
    """Return a mask (K, P), False at the positions of each cut; None if there is no cut."""
    if not any(cut.positions for cut in cuts):
        return None
    open_KP = torch.ones(len(cuts), source.replacement.n_positions, dtype=torch.bool, device=source.replacement.device)
    for k, cut in enumerate(cuts):
        open_KP[k, list(cut.positions)] = False
    return open_KP


def _target_row(number: int, target: Target, cut: Cut, value: float) -> dict[str, Any]:
    return {
        "target": number,
        "label": target.label,
        "kind": target.kind,
        "position": target.position,
        "probability": target.probability,
        "token_ids": list(target.token_ids),
        "avoiding": cut.label,
        "value": value,
    }
