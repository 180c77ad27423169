"""Edges that a user names, checked before anything is computed, and their head loadings."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.targets import Target, TargetRequest, with_direction
from cotrace.attribution.transcoders import Transcoders
from cotrace.attribution.transcoders.base import check_layer
from cotrace.common.errors import ArgumentError
from cotrace.common.visible_text import quoted
from cotrace.graphs import Graph, node_label
from cotrace.graphs.annotations import node_names
from cotrace.graphs.edge_ends import check_reach, find_ends
from cotrace.graphs.head_loadings import HeadLoadings
from cotrace.graphs.nodes import ErrorNode, Feature, Token, parse_node, resolve_position

from .edge_ends import Edges, EdgeSources, EdgeTargets, SourceNode
from .heads import edge_heads


class EdgeRequest(NamedTuple):
    """One edge: a source with one position, a target at one position, and the names of both."""

    source: SourceNode
    target: Target
    source_name: str
    target_name: str

    def __repr__(self) -> str:
        return f"<EdgeRequest: {self.source_name} → {self.target_name}>"


class EdgeParser:
    """Reads the names of edges in a prompt.

    Args:
        token_ids: the prompt.
        position: where targets at the unembedding are read; None for the last position.
        tokenizer: its tokenizer.
        transcoders: the transcoders of features.
        weights: the model.

    Raises:
        ArgumentError: a position outside the prompt.
    """

    def __init__(
        self,
        token_ids: Sequence[int],
        position: int | None,
        tokenizer: PromptTokenizer,
        transcoders: Transcoders,
        weights: Gemma3,
    ):
        self.token_ids, self.tokenizer, self.transcoders, self.weights = token_ids, tokenizer, transcoders, weights
        self.config = TraceConfig(position=resolve_position(-1 if position is None else position, len(token_ids)))

    def edge(self, source: Any, target: Any) -> EdgeRequest:
        """Return the request for an edge. Raises ArgumentError for ends that the prompt cannot have."""
        found_source, found_target = self.source(source), self.target(target)
        is_named = found_target.kind in ("feature", "direction")
        target_name = found_target.label if is_named else quoted(found_target.label)
        assert found_target.position is not None
        names = str(found_source), target_name
        check_reach(found_source, found_target.feature, found_target.position, names)
        return EdgeRequest(found_source, found_target, *names)

    def source(self, source: Any) -> SourceNode:
        """Return the node that a source names, with its position counted from the start of the prompt."""
        node: Any = parse_node(source) if isinstance(source, str) else source
        if not isinstance(node, Feature | ErrorNode | Token):
            raise ArgumentError(
                f"invalid source {source!r}: expected a Feature, ErrorNode or Token, or a text such as L17#264@5"
            )
        if not isinstance(node.position, int):
            raise ArgumentError(f"the source {node} needs one position, such as {replace(node, position=5)}")
        if isinstance(node, Feature):
            self.transcoders.check_feature(node, self.weights)
        elif isinstance(node, ErrorNode):
            check_layer(node, self.weights.architecture.n_layers)
        return replace(node, position=resolve_position(node.position, len(self.token_ids)))

    def target(self, target: Any) -> Target:
        """Return the target that `Model.trace` takes, or that the text of a feature names, with its position."""
        if isinstance(target, str) and is_feature(target):
            target = Feature.parse(target)
        d_model = self.weights.architecture.d_model
        request = TargetRequest.parse([target], self.config, self.token_ids, self.tokenizer, d_model)
        request.check_features(self.transcoders, self.weights)
        (found,) = request.named
        position = request.positions[0] if found.feature is None else found.feature.position
        assert isinstance(position, int)
        return replace(found, position=position)


def is_feature(text: str) -> bool:
    """Return whether a text names a feature."""
    try:
        return isinstance(parse_node(text), Feature)
    except ArgumentError:
        return False


def edges_of_graph(graph: Graph, edges: Sequence[tuple[Any, Any]]) -> list[EdgeRequest]:
    """Return the requests for edges between nodes of a graph.

    Raises ArgumentError for a name that no node has or several have, and for nodes between which no edge can be.
    """
    requests = []
    for source, target in edges:
        numbers = find_ends(graph, source, target)
        (node,), (found,) = node_names(graph, numbers[:1]), graph_targets(graph, numbers[1:])
        requests.append(EdgeRequest(node, found, node_label(graph, numbers[0]), node_label(graph, numbers[1])))
    return requests


def graph_targets(graph: Graph, nodes: Sequence[int]) -> list[Target]:
    """Return nodes of a graph as targets, without directions.

    Raises ArgumentError for targets that are directions, whose vectors a graph does not have.
    """
    records = {record["node"]: record for record in graph.info["targets"]}
    targets = []
    for node in nodes:
        assert not graph.order.n_features <= node < graph.order.n_editable, (
            "error nodes and tokens have no incoming edges"
        )
        if node < graph.order.n_features:
            (feature,) = node_names(graph, [node])
            assert isinstance(feature, Feature)
            assert isinstance(feature.position, int)
            targets.append(Target("feature", str(feature), feature=feature, position=feature.position))
            continue
        record = records[node]
        if record["kind"] not in ("token", "difference") or not record.get("token_ids"):
            raise ArgumentError(
                f"the vector of the target {record['label']!r} is not in the graph; call model.heads(prompt, source, vector)"
            )
        position = record.get("position", graph.info["position"])
        targets.append(Target(record["kind"], record["label"], tuple(record["token_ids"]), position=position))
    return targets


def resolve_targets(replacement: LocalReplacementModel, targets: Sequence[Target]) -> list[Target]:
    """Return targets with the vectors or the features that they read. Raises ArgumentError for an inactive feature."""
    return [
        with_direction(target, replacement.weights)
        if target.feature is None
        else replace(target, feature_index=replacement.features.require(target.feature))
        for target in targets
    ]


def head_loadings(replacement: LocalReplacementModel, requests: Sequence[EdgeRequest]) -> list[HeadLoadings]:
    """Return the head loadings of edges. Raises ArgumentError for features that are not active."""
    sources = EdgeSources(replacement, [request.source for request in requests])
    targets = EdgeTargets(replacement, resolve_targets(replacement, [request.target for request in requests]))
    number_E = torch.arange(len(requests), device=replacement.device)
    heads = edge_heads(replacement, Edges(sources, targets, number_E, number_E))
    edge_E = heads.direct_E + heads.last_ELH.sum((1, 2))
    return [
        HeadLoadings(
            request.source_name,
            request.target_name,
            float(edge_E[e]),
            float(heads.direct_E[e]),
            *(_numpy(loading_ELH[e]) for loading_ELH in (heads.last_ELH, heads.first_ELH, heads.one_hop_ELH)),
        )
        for e, request in enumerate(requests)
    ]


def _numpy(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
