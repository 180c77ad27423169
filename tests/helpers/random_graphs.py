"""Random valid graphs: seeded, and as a hypothesis strategy."""

import numpy as np
from hypothesis import strategies as st

from cotrace.graphs import CSR, Graph, NodeKind, NodeOrder
from cotrace.graphs.csr import indptr_of
from cotrace.graphs.schema import EFFECTS, build_table

WORDS = ["<bos>", " hot", " cold", "\n", "é", "‏ا", "🜁", '"', "\\", ""]


def random_graph(
    seed=0,
    *,
    n_layers=4,
    n_positions=4,
    n_features=20,
    n_errors=8,
    n_logits=3,
    feature_targets=0,
    density=0.6,
    dtype=np.float32,
    effects=True,
):
    """Return a graph that `open_graph` accepts, with at most as many features and errors as there are sites.

    Sites, edges and weights are random; a few edges weigh zero and a few rows have none or only
    such. `feature_targets` features are targets besides the logits. With `effects` it has both columns of effects.
    """
    rng = np.random.default_rng(seed)
    sites = [
        _choose(rng, (n_layers, n_positions, 3), n_features),
        _choose(rng, (n_layers, n_positions, 1), n_errors),
        np.stack([np.full(n_positions, -1), np.arange(n_positions), np.zeros(n_positions, int)]),
        np.tile([[n_layers], [n_positions - 1], [0]], n_logits),
    ]
    order = NodeOrder(*(part.shape[1] for part in sites))
    layer, position, feature = np.concatenate(sites, axis=1)
    rows = [_incoming(rng, order, row, layer, position, density) for row in range(order.n_nodes)]
    info = _info(rng, order, n_layers, n_positions, feature_targets)
    return Graph(_table(rng, order, (layer, position, feature), rows, info, dtype, effects), info)


def graphs(dtype=np.float32, **fixed):
    """Return a strategy of small graphs; arguments of `random_graph` given here are fixed."""
    choices = {
        "n_layers": [1, 3, 6], "n_positions": [1, 2, 5], "n_features": [0, 1, 5, 15, 40], "n_errors": [0, 1, 4, 10],
        "n_logits": [1, 2, 4], "feature_targets": [0, 1, 2], "density": [0.2, 0.6, 1], "effects": [True, False],
    }  # fmt: skip
    drawn = {name: st.sampled_from(values) for name, values in choices.items()}
    drawn |= {name: st.just(value) for name, value in fixed.items()}
    return st.builds(random_graph, st.integers(0, 2**32 - 1), dtype=st.just(dtype), **drawn)


def dense(graph):
    """Return the adjacency matrix in float64, from the list columns read as Python lists."""
    matrix = np.zeros((graph.order.n_nodes,) * 2)
    for row in graph.nodes.select(["node", "sources", "weights"]).to_pylist():
        matrix[row["node"], row["sources"]] = row["weights"]
    return matrix


def _choose(rng, shape, count):
    """Return sorted, distinct sites (3, count): layer, position, feature."""
    size = int(np.prod(shape))
    chosen = np.sort(rng.choice(size, min(count, size), replace=False))
    return np.stack(np.unravel_index(chosen, shape))


def _incoming(rng, order, row, layer, position, density):
    below = np.flatnonzero((layer < layer[row]) & (position <= position[row]))
    if order.errors.start <= row < order.logits.start or rng.random() < 0.1:
        below = below[:0]
    sources = below[rng.random(len(below)) < density]
    weights = rng.normal(size=len(sources)) * 10.0 ** rng.integers(-1, 2, len(sources))
    weights[rng.random(len(sources)) < rng.choice([0.1, 1.0], p=[0.9, 0.1])] = 0
    return sources, weights


def _table(rng, order, sites, rows, info, dtype, effects):
    layer, position, feature = sites
    codes, size, has_row = order.kind_codes(), order.n_nodes, order.has_kind(NodeKind.FEATURE, NodeKind.LOGIT)
    not_feature, not_site = codes != NodeKind.FEATURE, codes > NodeKind.ERROR
    texts = [""] * order.n_features + [""] * order.n_errors + info["tokens"]
    columns = {
        "layer": np.ma.masked_array(layer, not_site),
        "position": np.ma.masked_array(position),
        "feature": np.ma.masked_array(feature, not_feature),
        "token": np.ma.masked_array(rng.integers(0, 9, size), ~not_site),
        "text": texts + [f"logit {i}" for i in range(order.n_logits)],
        "activation": np.ma.masked_array(rng.normal(size=size), not_feature),
        "pre_activation": np.ma.masked_array(rng.normal(size=size), ~has_row),
        "bias": np.ma.masked_array(rng.normal(size=size), ~has_row),
        "probability": np.ma.masked_array(rng.random(size), codes != NodeKind.LOGIT),
        "influence": rng.random(size),
        "influence_bound": np.zeros(size),
        "dropped": np.where(has_row, rng.normal(size=size), 0),
        "computed": has_row,
    }
    shape = len(info["targets"]), order.n_editable
    columns |= {name: np.random.default_rng(size).normal(size=shape) for name in EFFECTS if effects}
    indptr = indptr_of([len(sources) for sources, _ in rows])
    indices, weights = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    return build_table(order, columns, CSR(indptr, indices.astype(np.int32), weights.astype(dtype)), info)


def _info(rng, order, n_layers, n_positions, feature_targets):
    tokens = rng.choice(WORDS, n_positions).tolist()
    features = rng.choice(order.n_features, min(feature_targets, order.n_features), replace=False).tolist()
    nodes = [*range(order.logits.start, order.logits.stop), *features]
    weights = rng.random(len(nodes)) + 0.1
    targets = [
        {"node": node, "kind": "token", "label": f"target {node}", "weight": weight, "probability": None}
        for node, weight in zip(nodes, (weights / weights.sum()).tolist(), strict=True)
    ]
    return {
        "model": {"name": "random", "n_layers": n_layers},
        "transcoders": {"name": "random"},
        "prompt": "".join(tokens),
        "token_ids": rng.integers(0, 99, n_positions).tolist(),
        "tokens": tokens,
        "position": n_positions - 1,
        "masked_positions": [0],
        "targets": targets,
        "settings": {},
        "traced": {
            "nodes": order.n_nodes,
            "edges": 0,
            "rows": order.n_nodes,
            "coverage": 1.0,
            "bound": 0.0,
            "scores": {"replacement": 0.5, "completeness": 0.75},
        },
        "pruning": None,
        "versions": {},
    }
