"""Synthetic attribution graphs of any size, for benchmarks and tests of everything that needs no model.

Features have the same incoming and outgoing profile at every position, and features of one cluster have similar ones, so that
groups exist. Two graphs of one seed share most features and edges, so that they can be compared.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cotrace.graphs import CSR, Graph, NodeKind, NodeOrder
from cotrace.graphs.csr import indptr_of
from cotrace.graphs.effects import total_effects
from cotrace.graphs.influence import node_influence, weights_of_targets
from cotrace.graphs.schema import build_table

WIDTH, PROFILE_SIZE, CLUSTERS = 832, 16, 120  # features per layer; numbers in a profile; clusters of profiles
OWN_PROFILE = 0.4  # size of what sets a feature apart from its cluster
OTHER_STRENGTH = 3.0  # of tokens and error nodes; features have a median of 1
WORDS = (" hot", " cold", " the", " of", " is", " not", " warm", " big", " small", " a")


@dataclass(frozen=True)
class GraphSize:
    """Number of layers, positions, nodes, targets and edges of a graph."""

    layers: int = 18
    positions: int = 25
    nodes: int = 10_000
    targets: int = 10
    edges: int = 1_000_000


@dataclass(frozen=True)
class Sites:
    """The layer, position and feature of every node, (M,); targets are one layer above the model, tokens one below it."""

    order: NodeOrder
    layer: np.ndarray
    position: np.ndarray
    feature: np.ndarray


def synthetic_graph(size: GraphSize | None = None, *, seed: int = 0, changed: float = 0.0) -> Graph:
    """Return a graph in which each node's strongest edges are kept.

    Args:
        size: sizes; by default 10,000 nodes and 1,000,000 edges.
        seed: of sites and weights.
        changed: share of the features that are others than those of the graph with 0, and relative change of the weights.
    """
    size = size or GraphSize()
    sites = _sites(size, seed, changed)
    reads_MR, writes_MR = _profiles(sites, size, seed)
    csr = _strongest_edges(sites, reads_MR, writes_MR, size.edges, np.random.default_rng([seed, 4]), changed)
    info = _info(sites, size, seed, csr)
    labels = [f"cluster {number}" for number in _clusters(sites, size, seed)]
    return _with_effects(sites, csr, info, labels, np.random.default_rng([seed, 5]))


def _sites(size: GraphSize, seed: int, changed: float) -> Sites:
    """Choose the sites of features; error nodes are everywhere but at position 0, which is masked."""
    n_errors = size.layers * (size.positions - 1)
    n_features = size.nodes - n_errors - size.positions - size.targets
    shape = (size.layers, size.positions - 1, WIDTH)
    shuffled = np.random.default_rng([seed, 1]).permutation(int(np.prod(shape)))
    n_changed = round(changed * n_features)
    chosen = np.sort(np.r_[shuffled[n_changed:n_features], shuffled[n_features : n_features + n_changed]])
    layer, position, feature = np.unravel_index(chosen, shape)
    error_layer, error_position = np.unravel_index(np.arange(n_errors), shape[:2])
    none = [np.full(count, -1) for count in (n_errors, size.positions, size.targets)]
    return Sites(
        NodeOrder(n_features, n_errors, size.positions, size.targets),
        np.concatenate([layer, error_layer, none[1], np.full(size.targets, size.layers)]),
        np.concatenate(
            [position + 1, error_position + 1, np.arange(size.positions), np.full(size.targets, size.positions - 1)]
        ),
        np.concatenate([feature, *none]),
    )


def _profiles(sites: Sites, size: GraphSize, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what every node reads and writes, each (M, R) float32; errors and tokens have one of their own."""
    rng = np.random.default_rng([seed, 2])
    centre_CR = rng.normal(size=(CLUSTERS, 2 * PROFILE_SIZE))
    own_LFR = rng.normal(size=(size.layers, WIDTH, 2 * PROFILE_SIZE)) * OWN_PROFILE
    profile_MR = rng.normal(size=(sites.order.n_nodes, 2 * PROFILE_SIZE)) * OTHER_STRENGTH
    features = sites.order.features
    layer, feature = sites.layer[features], sites.feature[features]
    strength = rng.lognormal(sigma=0.7, size=(size.layers, WIDTH))[layer, feature, None]
    profile_MR[features] = (centre_CR[_clusters(sites, size, seed)] + own_LFR[layer, feature]) * strength
    return profile_MR[:, :PROFILE_SIZE].astype(np.float32), profile_MR[:, PROFILE_SIZE:].astype(np.float32)


def _clusters(sites: Sites, size: GraphSize, seed: int) -> np.ndarray:
    """Return the cluster of every feature node, (N,)."""
    features = sites.order.features
    cluster_LF = np.random.default_rng([seed, 6]).integers(CLUSTERS, size=(size.layers, WIDTH))
    return cluster_LF[sites.layer[features], sites.feature[features]]


def _strongest_edges(
    sites: Sites, reads_MR: np.ndarray, writes_MR: np.ndarray, n_edges: int, rng: np.random.Generator, changed: float
) -> CSR:
    """Return exactly `n_edges` edges: of each row the strongest, in proportion to the number of its possible sources."""
    has_row = sites.order.has_kind(NodeKind.FEATURE, NodeKind.LOGIT)
    possible_M = np.array([_below(sites, row).sum() if has_row[row] else 0 for row in range(len(has_row))])
    if possible_M.sum() < n_edges:
        raise ValueError(f"{n_edges} edges do not fit: {possible_M.sum()} are possible")
    kept_M = np.diff(np.append(0, np.cumsum(possible_M) * n_edges // possible_M.sum()))
    indices, weights = [], []
    for row in np.flatnonzero(kept_M):
        sources = np.flatnonzero(_below(sites, row))
        weight = writes_MR[sources] @ reads_MR[row] / PROFILE_SIZE
        weight *= 1 + changed * rng.normal(size=len(weight)).astype(np.float32)
        kept = np.sort(np.argpartition(-np.abs(weight), kept_M[row] - 1)[: kept_M[row]])
        indices.append(sources[kept].astype(np.int32))
        weights.append(weight[kept].astype(np.float32))
    return CSR(indptr_of(kept_M), np.concatenate(indices), np.concatenate(weights))


def _below(sites: Sites, row: int) -> np.ndarray:
    """Return a mask of the nodes from which an edge to a node can run, (M,) bool."""
    return (sites.layer < sites.layer[row]) & (sites.position <= sites.position[row])


def _with_effects(sites: Sites, csr: CSR, info: dict[str, Any], labels: list[str], rng: np.random.Generator) -> Graph:
    """Return the graph with activations and the effects that follow from its edges; `labels` are those of features."""
    order = sites.order
    unlabelled = [""] * (order.n_nodes - order.n_features)
    codes, texts = order.kind_codes(), [""] * order.n_nodes
    has_row = order.has_kind(NodeKind.FEATURE, NodeKind.LOGIT)
    texts[order.tokens], texts[order.logits] = info["tokens"], [target["label"] for target in info["targets"]]
    input_M = np.bincount(csr.edge_targets(), csr.weights, order.n_nodes)
    value_M = np.where(codes == NodeKind.FEATURE, np.abs(input_M) + rng.lognormal(size=order.n_nodes), input_M)
    columns: dict[str, Any] = {
        "layer": np.ma.masked_array(sites.layer, codes > NodeKind.ERROR),
        "position": np.ma.masked_array(sites.position),
        "feature": np.ma.masked_array(sites.feature, codes != NodeKind.FEATURE),
        "token": np.ma.masked_array(np.zeros(order.n_nodes), codes < NodeKind.TOKEN),
        "text": texts,
        "label": labels + unlabelled,
        "label_source": ["file"] * order.n_features + unlabelled,
        "activation": np.ma.masked_array(value_M, codes != NodeKind.FEATURE),
        "pre_activation": np.ma.masked_array(value_M, ~has_row),
        "bias": np.ma.masked_array(value_M - input_M, ~has_row),
        "probability": np.ma.masked_array(np.full(order.n_nodes, 0.1), codes != NodeKind.LOGIT),
        "influence": node_influence(csr, weights_of_targets(info["targets"], order.n_nodes)),
        "influence_bound": np.zeros(order.n_nodes),
        "dropped": np.zeros(order.n_nodes),
        "computed": has_row,
    }
    graph = Graph(build_table(order, columns, csr, info), info)
    effect_KM = total_effects(graph, [target["node"] for target in info["targets"]])[:, : order.n_editable]
    expected_KM = -effect_KM * rng.uniform(0.5, 1.2, effect_KM.shape)
    return Graph(build_table(order, {**columns, "effect": effect_KM, "expected_effect": expected_KM}, csr, info), info)


def _info(sites: Sites, size: GraphSize, seed: int, csr: CSR) -> dict[str, Any]:
    rng = np.random.default_rng([seed, 3])
    ids = rng.integers(len(WORDS), size=size.positions)
    tokens = ["<bos>", *(WORDS[i] for i in ids[1:])]
    weights = rng.dirichlet(np.ones(size.targets))
    logits = range(sites.order.logits.start, sites.order.logits.stop)
    targets = [
        {"node": node, "kind": "token", "label": f" target {i}", "weight": float(weights[i]), "probability": 0.1}
        for i, node in enumerate(logits)
    ]
    traced = {"nodes": sites.order.n_nodes, "edges": csr.n_edges, "rows": int((csr.row_lengths() > 0).sum())}
    return {
        "model": {"name": "synthetic", "n_layers": size.layers},
        "transcoders": {"name": "synthetic"},
        "prompt": "".join(tokens[1:]),
        "token_ids": ids.tolist(),
        "tokens": tokens,
        "position": size.positions - 1,
        "masked_positions": [0],
        "targets": targets,
        "settings": {},
        "traced": {**traced, "coverage": 1.0, "bound": 0.0, "scores": {"replacement": 0.5, "completeness": 0.75}},
        "pruning": None,
        "versions": {},
    }
