"""Graphs in the newest JSON of Neuronpedia and circuit-tracer."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cotrace.common.files import atomic_write

from ..annotations import groups_inside, node_names
from ..data import GraphData
from ..order import NodeKind
from ..prune import THRESHOLDS
from .foreign_nodes import NONE
from .neuronpedia_nodes import (
    ATTENTION_TYPES,
    ERROR_TYPE,
    FEATURE_TYPE,
    LOGIT_TYPE,
    OWN_ENTRIES,
    OWN_KEY,
    SCHEMA_VERSION,
    TOKEN_TYPE,
    cantor_pair,
    clerp_of,
)

VIRTUAL_TOKEN = 2**24
"""Token ids from here on are targets that are not tokens, such as differences: above every vocabulary."""
UPLOAD_BYTES = 100 * 2**20
"""The largest file that Neuronpedia accepts."""
LINKS_AT_ONCE = 2**16
_TYPES = {
    NodeKind.FEATURE: FEATURE_TYPE,
    NodeKind.ERROR: ERROR_TYPE,
    NodeKind.TOKEN: TOKEN_TYPE,
    NodeKind.LOGIT: LOGIT_TYPE,
}
_OF_ATTENTION = {kind: name for name, kind in ATTENTION_TYPES.items()}
_SLUG = re.compile(r"[^a-z0-9]+")
SLUG_CHARACTERS = 60


def write_neuronpedia(
    graph: GraphData, path: Path, *, slug: str | None = None, scan: str | None = None, source_set: str | None = None
) -> None:
    """Write a graph as one JSON file, atomically, in schema version 1.

    `influence` is the cumulative share of the traced graph's influence, down from the most influential node, or for a
    graph that was imported and not pruned since, what its file had. Labels are `clerp`, groups are supernodes.

    Args:
        graph: the graph.
        path: where to write.
        slug: the name of the graph at Neuronpedia; by default words of the prompt.
        scan: the id of the model at Neuronpedia; by default the name of the model.
        source_set: the set at Neuronpedia that has dashboards of these features, if there is one.

    Raises FileError and ResourceError as `atomic_write`.
    """
    nodes = _nodes(graph)
    ids = [node["node_id"] for node in nodes]
    head = {"metadata": _metadata(graph, ids, slug, scan, source_set), "qParams": _q_params(graph, ids)}
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(_json(head)[:-1] + ',"nodes":[\n')
        file.write(",\n".join(map(_json, nodes)))
        file.write('],"links":[\n')
        for number, part in enumerate(_links(graph, ids)):
            file.write(",\n" * (number > 0) + part)
        file.write("]}\n")


def cumulative_shares(influence: np.ndarray) -> np.ndarray:
    """Return for every node the share of all influence that it and all more influential nodes hold, (M,) float64."""
    descending = np.argsort(-influence, kind="stable")
    shares = np.ones(len(influence))
    total = influence.sum()
    if total > 0:
        shares[descending] = np.minimum(np.cumsum(influence[descending]) / total, 1.0)
    return shares


def not_in_neuronpedia(graph: GraphData) -> list[str]:
    """Return what of a graph its JSON cannot hold, each as a phrase."""
    order, columns = graph.order, graph.nodes.column_names
    has_feature_targets = any(target["node"] < order.n_features for target in graph.info["targets"])
    has_weights = any(target["probability"] is None for target in graph.info["targets"])
    return [
        "pre-activations, biases and sums of dropped edges",
        "influence, of which it has cumulative shares",
        *([] if graph.computed[order.features].all() else ["whether the row of a feature was computed"]),
        *(["effects on the targets"] if "effect" in columns else []),
        *(["which rows were drawn, standard errors and certain limits of influence"] if graph.estimated else []),
        *(["attention heads of the edges"] if "heads" in columns else []),
        *(["which features are targets"] if has_feature_targets else []),
        *(["weights of targets that are not tokens"] if has_weights else []),
        *([name for name in ("validation", "report") if name in graph.info]),
    ]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _nodes(graph: GraphData) -> list[dict[str, Any]]:
    """Return the JSON objects of all nodes, in the order of the graph."""
    names = ("layer", "position", "feature", "token")
    columns = [graph.column(name, NONE).tolist() for name in names]
    kinds = graph.order.kind_codes().tolist()
    activations, labels = graph.nodes["activation"].to_pylist(), graph.nodes["label"].to_pylist()
    halves = _halves(graph)
    result = []
    for kind, layer, position, feature, token, activation, label in zip(
        map(NodeKind, kinds), *columns, activations, labels, strict=True
    ):
        of_attention = halves and layer % 2 == 0 and kind in (NodeKind.FEATURE, NodeKind.ERROR)
        result.append(
            {
                **_identity(kind, layer // 2 if halves else layer, position, feature, token, of_attention),
                "ctx_idx": position,
                "feature_type": _OF_ATTENTION[kind] if of_attention else _TYPES[kind],
                "token_prob": 0.0,
                "is_target_logit": False,
                "run_idx": 0,
                "reverse_ctx_idx": 0,
                "clerp": clerp_of(label),
                "influence": None,
                "activation": activation,
            }
        )
    for node, share in zip(result, _influence(graph), strict=True):
        node["influence"] = share
    _describe_targets(graph, result)
    return result


def _identity(
    kind: NodeKind, layer: int, position: int, feature: int, token: int, of_attention: bool
) -> dict[str, Any]:
    """Return the entries that say which node it is; those of targets follow in `_describe_targets`."""
    if kind is NodeKind.FEATURE:
        name = f"{layer}_lor_{feature}" if of_attention else f"{layer}_{feature}"
        number, js_name = cantor_pair(layer, feature), f"{name}-0"
    elif kind is NodeKind.ERROR:
        name = f"{layer}_error_attn" if of_attention else f"{layer}_-1"
        number, js_name = -1, f"{name}-{position}"
    else:
        name, number, js_name = f"E_{token}", position, f"E_{token}-{position}"
    where = str(layer) if kind in (NodeKind.FEATURE, NodeKind.ERROR) else "E"
    return {"node_id": f"{name}_{position}", "feature": number, "layer": where, "jsNodeId": js_name}


def _describe_targets(graph: GraphData, nodes: list[dict[str, Any]]) -> None:
    """Write ids, tokens and probabilities of targets into the JSON objects of their nodes."""
    layer = str(graph.info["model"]["n_layers"] // (2 if _halves(graph) else 1) + 1)
    targets = [target for target in graph.info["targets"] if target["node"] >= graph.order.logits.start]
    heaviest = max((target["weight"], -target["node"]) for target in targets)[1] if targets else None
    tokens: np.ndarray = graph.column("token", NONE)
    taken: set[tuple[int, int]] = set()
    for target in targets:
        place = target["node"]
        number, position = int(tokens[place]), nodes[place]["ctx_idx"]
        if number == NONE or (number, position) in taken:
            number = VIRTUAL_TOKEN + place
        taken.add((number, position))
        known = (target["probability"], graph.nodes["probability"][place].as_py(), target["weight"])
        probability = next(value for value in known if value is not None)
        text = graph.nodes["text"][place].as_py()
        nodes[place] |= {
            "node_id": f"{layer}_{number}_{position}",
            "feature": number,
            "layer": layer,
            "jsNodeId": f"L_{number}-{position}",
            "token_prob": probability,
            "is_target_logit": -place == heaviest,
            "clerp": f'Output "{text}" (p={probability:.3f})',  # the frontend needs this form
        }


def _halves(graph: GraphData) -> bool:
    """Return whether layers are counted in halves, as in graphs with nodes of attention that were imported."""
    return graph.info.get("imported", {}).get("half_layers", False)


def _influence(graph: GraphData) -> Sequence[float | None]:
    """Return the influence of every node as the layout has it; None for targets.

    After pruning, the nodes that are left hold the node threshold's share.
    """
    order, pruning = graph.order, graph.info["pruning"]
    known = graph.info.get("imported", {}).get("influence", {})
    if known and not pruning:
        names = [str(node) for node in node_names(graph, range(order.n_editable))]
        return [*(known.get(name) for name in names), *[None] * order.n_logits]
    shares = cumulative_shares(graph.column("influence")[: order.n_editable].astype(np.float64))
    held = pruning["node_threshold"] if pruning else 1.0
    return [*(shares * held).tolist(), *[None] * order.n_logits]


def _metadata(
    graph: GraphData, ids: list[str], slug: str | None, scan: str | None, source_set: str | None
) -> dict[str, Any]:
    info, theirs = graph.info, graph.info.get("imported", {}).get("metadata", {})
    version = info["versions"].get("cotrace")
    generator = {"name": "cotrace", **({"version": version} if isinstance(version, str) else {})}
    metadata = {
        "slug": slug or _SLUG.sub("-", info["prompt"].lower()).strip("-")[:SLUG_CHARACTERS] or "graph",
        "scan": scan or info["model"]["name"],
        "transcoder_list": [],
        "info": {"transcoder_set": info["transcoders"]["name"], "generator": generator},
        **theirs,
        **{key: given for key, given in (("slug", slug), ("scan", scan)) if given},
        "prompt_tokens": info["tokens"],
        "prompt": info["prompt"],
        "schema_version": SCHEMA_VERSION,
    }
    if source_set:
        details = metadata.get("feature_details")
        details = details if isinstance(details, dict) else {}
        metadata["feature_details"] = {**details, "neuronpedia_source_set": source_set}
    if info["pruning"]:
        thresholds = {name: info["pruning"][name] for name in THRESHOLDS}
        metadata |= {"node_threshold": thresholds["node_threshold"], "pruning_settings": thresholds}
    return {**metadata, OWN_KEY: _own(graph, ids)}


def _own(graph: GraphData, ids: list[str]) -> dict[str, Any]:
    """Return what `neuronpedia_reader` puts back: entries of the metadata, targets, and who labelled what."""
    sources, tokens = graph.nodes["label_source"].to_pylist(), graph.nodes["token"].to_pylist()
    return {
        **{key: graph.info[key] for key in OWN_ENTRIES if key in graph.info},
        "targets": [
            {**target, "node": ids[target["node"]], "token": tokens[target["node"]]} for target in graph.info["targets"]
        ],
        "label_sources": {name: source for name, source in zip(ids, sources, strict=True) if source},
    }


def _q_params(graph: GraphData, ids: list[str]) -> dict[str, Any]:
    """Return what the frontend shows first: the nodes of groups, and what the file of an imported graph had."""
    groups = {name: [ids[node] for node in nodes] for name, nodes in groups_inside(graph).items()}
    members = [member for nodes in groups.values() for member in nodes]
    blank = {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""}
    theirs = {**blank, **graph.info.get("imported", {}).get("qParams", {})}
    known, wanted = set(ids), theirs["pinnedIds"] if isinstance(theirs["pinnedIds"], list) else []
    pinned = [name for name in wanted if isinstance(name, str) and name in known]
    supernodes = [[clerp_of(name), *nodes] for name, nodes in groups.items()]
    return {**theirs, "pinnedIds": list(dict.fromkeys([*pinned, *members])), "supernodes": supernodes}


def _links(graph: GraphData, ids: list[str]) -> Iterator[str]:
    """Yield the JSON of all links, many at once, each edge in the order of the graph."""
    quoted, csr = [_json(name) for name in ids], graph.csr
    target_E = csr.edge_targets()
    for first in range(0, csr.n_edges, LINKS_AT_ONCE):
        part = slice(first, first + LINKS_AT_ONCE)
        columns = (csr.indices[part].tolist(), target_E[part].tolist(), csr.weights[part].tolist())
        yield ",\n".join(
            f'{{"source":{quoted[source]},"target":{quoted[target]},"weight":{weight!r}}}'
            for source, target, weight in zip(*columns, strict=True)
        )
