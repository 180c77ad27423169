"""Effects along the edges of a saved graph, without the model."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import ArgumentError

from .annotations import NodeName, find_nodes, node_names
from .data import GraphData
from .effect_table import Effects
from .effects import total_effects
from .labels import node_label
from .segments import parse_segments

PROMPT_ENTRIES = ("model", "transcoders", "prompt", "tokens", "token_ids", "masked_positions")


def effects_of_graph(
    graph: GraphData,
    targets: NodeName | Iterable[NodeName] | None = None,
    segments: Mapping[str, Any] | None = None,
) -> Effects:
    """Return the effects of all nodes on targets; arguments and errors as `Graph.effects`."""
    parsed = parse_segments(segments, graph.order.n_tokens)
    nodes = _target_nodes(graph, targets)
    effect_KM = total_effects(graph, nodes)
    settings = {"freeze": "all", "segments": {name: list(positions) for name, positions in parsed.items()}}
    columns = ("kind", "layer", "position", "feature", "token")
    text_M = np.where(graph.column("text") != "", graph.column("text"), graph.column("label"))
    table = graph.nodes.select(columns).append_column("text", pa.array(text_M, pa.string()))
    return Effects(
        targets=[_record(graph, number, node) for number, node in enumerate(nodes)],
        nodes=table.slice(0, graph.order.n_editable).replace_schema_metadata(None),
        effect_KM=effect_KM[:, : graph.order.n_editable],
        bias_K=_bias_effects(graph, nodes, effect_KM),
        info={**{name: graph.info[name] for name in PROMPT_ENTRIES}, "settings": settings},
    )


def _target_nodes(graph: GraphData, targets: NodeName | Iterable[NodeName] | None) -> list[int]:
    """Return the numbers of the targets, which have computed rows."""
    if targets is None:
        return [target["node"] for target in graph.info["targets"]]
    nodes = find_nodes(graph, targets)
    if not nodes:
        raise ArgumentError("targets is empty: name at least one, or omit it for those of the graph")
    order = graph.order
    for node in nodes:
        if order.n_features <= node < order.n_editable:
            raise ArgumentError(f"{node_label(graph, node)} is no target: name a feature, or a target of the graph")
        if not graph.computed[node]:
            raise ArgumentError(
                f"the row of {node_label(graph, node)} was not computed: trace the prompt with coverage 1"
            )
    return nodes


def _record(graph: GraphData, number: int, node: int) -> dict[str, Any]:
    """Return the description of one target."""
    known: dict[str, Any] = next((target for target in graph.info["targets"] if target["node"] == node), {})
    is_feature = node < graph.order.n_features
    return {
        "target": number,
        "label": known["label"] if known else str(node_names(graph, [node])[0]),
        "kind": "feature" if is_feature else known["kind"],
        "position": int(graph.column("position")[node]),
        "probability": known.get("probability"),
        "token_ids": list(known.get("token_ids", [])),
        "avoiding": "",
        "value": _value(graph, node),
    }


def _value(graph: GraphData, node: int) -> float:
    """Return the value of a target; in a graph of another tool, which does not know it, the sum of its incoming edges."""
    value = float(graph.column("pre_activation")[node])
    return float(graph.csr.row(node)[1].sum(dtype=np.float64)) if np.isnan(value) else value


def _bias_effects(graph: GraphData, nodes: list[int], effect_KM: np.ndarray) -> np.ndarray:
    """Return the effects (K,) of all constants and encoder biases: each target's own, and those of features on the way."""
    features = graph.order.features
    bias_M = np.nan_to_num(graph.column("bias")).astype(np.float64)
    activation_N = np.nan_to_num(graph.column("activation")[features]).astype(np.float64)
    gain_KN = np.divide(
        effect_KM[:, features], activation_N, out=np.zeros((len(nodes), len(activation_N))), where=activation_N != 0
    )
    return bias_M[nodes] + gain_KN @ bias_M[features]
