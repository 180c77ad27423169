"""Graphs in the JSON of Neuronpedia in every known variant, written from the description of each layout.

A `Sketch` is what all variants hold: nodes and edges. `VARIANTS` turns one into the JSON objects that a tool would write.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

N_LAYERS, PROMPT = 4, ["<bos>", "The", " sky", " is"]
TOKEN_IDS = [2, 818, 7217, 563]


class SketchNode(NamedTuple):
    """A node; `kind` is feature, error, token or logit, `index` a feature's, a token's or a target's number."""

    kind: str
    layer: int
    position: int
    index: int
    attention: bool = False
    activation: float | None = None
    probability: float = 0.0
    text: str = ""


class Sketch(NamedTuple):
    """A graph; edges are pairs of places with a weight."""

    nodes: list[SketchNode]
    edges: dict[tuple[int, int], float]


INDICES = (0, 3, 7, 812, 16000, 92000)


def sketch(seed: int = 0, *, attention: bool = False, indices: Sequence[int] = INDICES) -> Sketch:
    """Return a random graph of 4 layers and 4 positions, whose numbers float32 holds exactly, in a shuffled order."""
    rng = np.random.default_rng(seed)
    sites = sorted(set(itertools.product(range(N_LAYERS), range(1, 4), indices)))
    chosen = [sites[place] for place in sorted(rng.choice(len(sites), 25, replace=False))]
    nodes = [
        SketchNode("feature", layer, position, index, attention and index % 2 == 0, _exact(rng, 1.0))
        for layer, position, index in chosen
    ]
    nodes += [SketchNode("error", layer, position, -1) for layer in range(N_LAYERS) for position in (1, 3)]
    nodes += [SketchNode("error", layer, 2, -1, True) for layer in range(N_LAYERS) if attention]
    nodes += [SketchNode("token", -1, position, token) for position, token in enumerate(TOKEN_IDS)]
    targets = ((' "blue"', 0.5, 3730), (" clear", 0.25, 3582), ("\n", 0.125, 108))
    nodes += [SketchNode("logit", N_LAYERS, 3, token, text=text, probability=p) for text, p, token in targets]
    edges = {
        (source, target): _exact(rng, 10.0)
        for source, target in itertools.product(range(len(nodes)), repeat=2)
        if _can_run(nodes[source], nodes[target]) and rng.random() < 0.5
    }
    order = rng.permutation(len(nodes)).tolist()
    logits = iter(sorted(place for place in order if nodes[place].kind == "logit"))
    order = [next(logits) if nodes[place].kind == "logit" else place for place in order]  # targets keep their order
    new = {old: place for place, old in enumerate(order)}
    return Sketch([nodes[place] for place in order], {(new[s], new[t]): weight for (s, t), weight in edges.items()})


def _exact(rng: np.random.Generator, scale: float) -> float:
    return float(np.float32(rng.normal() * scale))


def stage(node: SketchNode) -> float:
    """Return the layer of a node in the order of computation: attention is half a layer before the MLP."""
    return node.layer - 0.5 * node.attention


def _can_run(source: SketchNode, target: SketchNode) -> bool:
    ends = target.kind in ("feature", "logit") and source.kind != "logit"
    return ends and stage(source) < stage(target) and source.position <= target.position


def cantor(layer: int, index: int) -> int:
    return sum(range(layer + index + 1)) + index


# --- circuit-tracer -------------------------------------------------------------------------


def circuit_tracer(graph: Sketch, *, error_ids: str = "new", feature: str = "cantor", version: int | None = 1) -> dict:
    """Return the JSON of circuit-tracer; older releases differ in the ids of errors and in `feature`."""
    nodes = [_circuit_tracer_node(node, error_ids, feature) for node in graph.nodes]
    _add_influence(graph, nodes)
    metadata = {"slug": "sky", "scan": "gemma-2-2b", "transcoder_list": [], "prompt_tokens": list(PROMPT)}
    metadata |= {"prompt": "".join(PROMPT), "node_threshold": 0.8}
    if version is not None:
        metadata["schema_version"] = version
    blank = {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""}
    return {"metadata": metadata, "qParams": blank, "nodes": nodes, "links": _links(graph, nodes)}


def _circuit_tracer_node(node: SketchNode, error_ids: str, feature: str) -> dict[str, Any]:
    layer, position, index = node.layer, node.position, node.index
    entry: dict[str, Any] = {"ctx_idx": position, "layer": str(layer), "token_prob": 0.0, "is_target_logit": False}
    entry |= {"run_idx": 0, "reverse_ctx_idx": 0, "clerp": "", "activation": None}
    if node.kind == "feature":
        numbers = {"cantor": cantor(layer, index), "digits": int(f"{layer}{index:05d}"), "index": index}
        return entry | {
            "node_id": f"{layer}_{index}_{position}",
            "jsNodeId": f"{layer}_{index}-0",
            "feature": numbers[feature],
            "feature_type": "cross layer transcoder",
            "activation": node.activation,
        }
    if node.kind == "error":
        old = error_ids == "old"
        return entry | {
            "node_id": f"0_{layer}_{position}" if old else f"{layer}_-1_{position}",
            "jsNodeId": f"{layer}_{position}-0" if old else f"{layer}_-1-{position}",
            "feature": -1,
            "feature_type": "mlp reconstruction error",
        }
    if node.kind == "token":
        name = {"node_id": f"E_{index}_{position}", "jsNodeId": f"E_{index}-{position}", "feature": position}
        return entry | name | {"layer": "E", "feature_type": "embedding"}
    return entry | {
        "node_id": f"{N_LAYERS + 1}_{index}_{position}",
        "jsNodeId": f"L_{index}-{position}",
        "feature": index,
        "layer": str(N_LAYERS + 1),
        "feature_type": "logit",
        "token_prob": node.probability,
        "is_target_logit": node.probability == 0.5,
        "clerp": f'Output "{node.text}" (p={node.probability:.3f})',
    }


# --- llamascopium, its server, and attribute ------------------------------------------------


def llamascopium(graph: Sketch) -> dict:
    """Return the JSON that Neuronpedia's server writes with llamascopium: numbers as layers, null features, a side table.

    Nodes without edges are left out.
    """
    used = {place for edge in graph.edges for place in edge}
    nodes = [_llamascopium_node(node) for node in graph.nodes]
    _add_influence(graph, nodes)
    links = _links(graph, nodes)
    table = {"3_bias_attn_bO_1": {"node_id": "3_bias_attn_bO_1", "feature_type": "bias", "feature": None}}
    for node in nodes:
        if node["feature_type"] == "lorsa":
            node["qk_tracing_results"] = {"pair_wise_contributors": [["3_bias_attn_bO_1", "E_2_0", 0.5]]}
    metadata = {"slug": "sky", "scan": "qwen3-1.7b", "prompt": "".join(PROMPT), "prompt_tokens": list(PROMPT)}
    metadata |= {"schema_version": 1, "feature_details": {"neuronpedia_source_set": "tc-8x"}}
    kept = [node for place, node in enumerate(nodes) if place in used]
    return {"metadata": metadata, "qParams": {}, "nodes": kept, "links": links, "qk_only_nodes": table}


def _llamascopium_node(node: SketchNode) -> dict[str, Any]:
    layer, position, index = node.layer, node.position, node.index
    kinds = {"feature": "lorsa" if node.attention else "cross layer transcoder", "token": "embedding"}
    kinds |= {"error": "lorsa error" if node.attention else "mlp reconstruction error", "logit": "logit"}
    names = {
        "feature": f"{layer}_{kinds['feature'][:3]}_{index}_{position}",
        "error": f"{layer}_error_{'attn' if node.attention else 'mlp'}_{position}",
        "token": f"E_{index}_{position}",
        "logit": f"{N_LAYERS}_{index}_{position}",
    }
    numbers = {"feature": cantor(layer, index), "logit": index}
    texts = {"feature": f"F{numbers['feature']}", "token": f'Emb: "{PROMPT[position]}"'}
    texts |= {"error": f'Err: mlp "{PROMPT[position]}"', "logit": f'Logit "{node.text}" (p={node.probability:.3f})'}
    name = names[node.kind]
    entry = {"node_id": name, "jsNodeId": name, "feature": numbers.get(node.kind), "feature_type": kinds[node.kind]}
    entry |= {"layer": "E" if node.kind == "token" else layer, "ctx_idx": position, "clerp": texts[node.kind]}
    entry["activation"] = node.activation
    return entry | ({"token_prob": node.probability, "token": node.text} if node.kind == "logit" else {})


def half_layers(graph: Sketch) -> dict:
    """Return the JSON of llamascopium's own server: half layers, the index as `feature`, few other entries."""
    nodes = []
    for node in graph.nodes:
        entry = _llamascopium_node(node)
        entry = {key: entry[key] for key in ("feature_type", "ctx_idx", "activation")}
        layer = {"token": -1, "logit": 2 * N_LAYERS}.get(node.kind, 2 * node.layer + (not node.attention))
        first = "E" if node.kind == "token" else layer
        middle = "error" if node.kind == "error" else node.index
        entry |= {"layer": layer, "node_id": f"{first}_{middle}_{node.position}"}
        if node.kind == "feature":
            entry["feature"] = node.index
        if node.kind == "logit":
            entry |= {"token_prob": node.probability, "token": node.text}
        nodes.append(entry)
    metadata = {"prompt_tokens": list(PROMPT), "prompt": "".join(PROMPT), "schema_version": 1}
    return {"metadata": metadata, "nodes": nodes, "links": _links(graph, nodes)}


def attribute(graph: Sketch) -> dict:
    """Return the JSON of EleutherAI's attribute: ids in words, -1 as the targets' layer, null features, no influence."""
    nodes = []
    for node in graph.nodes:
        names = {
            "feature": f"intermediate_{node.position}_{node.layer}_{node.index}",
            "error": f"error_{node.position}_{node.layer}",
            "token": f"input_{node.position}",
            "logit": f"output_{node.position}_{node.index}",
        }
        kinds = {"feature": "cross layer transcoder", "error": "mlp reconstruction error", "token": "embedding"}
        name = names[node.kind]
        entry = {"feature_type": kinds.get(node.kind, "logit"), "node_id": name, "jsNodeId": f"{name}-0"}
        entry |= {"layer": {"token": "E", "logit": "-1"}.get(node.kind, str(node.layer)), "ctx_idx": node.position}
        entry |= {"feature": cantor(node.layer, node.index) if node.kind == "feature" else None, "run_idx": 0}
        entry |= {"reverse_ctx_idx": 0, "token_prob": node.probability, "is_target_logit": False}
        entry["clerp"] = f'output: "{node.text}" (p={node.probability:.3f})' if node.kind == "logit" else ""
        nodes.append(entry)
    metadata = {"slug": "sky", "scan": "smollm2", "prompt_tokens": list(PROMPT), "prompt": "".join(PROMPT)}
    metadata |= {"title_prefix": "", "n_layers": N_LAYERS}
    return {"metadata": metadata, "nodes": nodes, "links": _links(graph, nodes), "qParams": {"linkType": "both"}}


def _links(graph: Sketch, nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"source": nodes[source]["node_id"], "target": nodes[target]["node_id"], "weight": weight}
        for (source, target), weight in graph.edges.items()
    ]


# --- influence ------------------------------------------------------------------------------


def influence(graph: Sketch) -> np.ndarray:
    """Return the influence of every node, (M,), by the Neumann series of the normalised matrix; targets weigh 0.5, 0.25, 0.125."""
    size = len(graph.nodes)
    matrix = np.zeros((size, size))
    for (source, target), weight in graph.edges.items():
        matrix[target, source] = abs(weight)
    totals = matrix.sum(axis=1, keepdims=True)
    matrix = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    weights = np.array([node.probability for node in graph.nodes])
    weights /= weights.sum()
    return weights @ (np.linalg.inv(np.eye(size) - matrix) - np.eye(size))


def _add_influence(graph: Sketch, nodes: list[dict[str, Any]]) -> None:
    """Write the cumulative shares of influence as circuit-tracer does: small for influential nodes, null for targets."""
    found = influence(graph)
    descending = np.argsort(-found)
    shares = np.empty(len(found))
    shares[descending] = np.cumsum(found[descending]) / found.sum()
    for node, share in zip(nodes, shares.tolist(), strict=True):
        node["influence"] = None if node["feature_type"] == "logit" else float(np.float32(share))


VARIANTS = {
    "circuit-tracer": circuit_tracer,
    "circuit-tracer 0.5": lambda graph: circuit_tracer(graph, error_ids="old"),
    "digits": lambda graph: circuit_tracer(graph, error_ids="old", feature="digits", version=None),
    "index": lambda graph: circuit_tracer(graph, feature="index", version=None),
    "llamascopium": llamascopium,
    "half layers": half_layers,
    "attribute": attribute,
}
"""The variants of graphs without attention features; `llamascopium` and `half layers` hold these too."""
