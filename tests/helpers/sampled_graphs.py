"""Sampled graphs made from random ones, and a dense float64 reference of sampling that shares no code with it."""

import numpy as np

from cotrace.graphs import CSR, Graph
from cotrace.graphs.csr import indptr_of
from cotrace.graphs.influence import bound_of_missing_rows, node_influence
from cotrace.graphs.sampled_facts import sampled_facts
from cotrace.graphs.sampling import Draws
from cotrace.graphs.schema import build_table
from helpers.random_graphs import dense, random_graph


def dense_replicate(matrix, weights, factors):
    """Return the influence in one replicate, from a dense matrix: row i passes on (x_i + w_i) times its factor."""
    size = np.abs(matrix)
    totals = size.sum(axis=1, keepdims=True)
    shares = np.divide(size, totals, out=np.zeros_like(size), where=totals > 0) * factors[:, None]
    # x = (x + w) S, so that x = w S (1 - S)^-1
    return np.linalg.solve((np.eye(len(size)) - shares).T, shares.T @ weights)


def draw_once(graph, share, rng):
    """Return factors (M,) and probabilities (N,) of one replicate that draws rows by influence over the rows above."""
    order, matrix, weights = graph.order, dense(graph), graph.target_weights
    size = np.abs(matrix)
    totals = size.sum(axis=1, keepdims=True)
    shares = np.divide(size, totals, out=np.zeros_like(size), where=totals > 0)
    factors, inclusion, mass = np.ones(order.n_nodes), np.zeros(order.n_features), weights.copy()
    for row in range(order.n_nodes - 1, -1, -1):
        if row < order.n_features:
            p = 1.0 if weights[row] > 0 else min(1.0, share * mass[row] + 0.05)
            inclusion[row], factors[row] = p, (rng.random() < p) / p
        mass += mass[row] * factors[row] * shares[row]
    return factors, inclusion


def sampled_graph(seed=0, *, n_replicates=6, share=8.0, draw_seed=0, added=2, **options):
    """Return a sampled graph, and the graph with all rows of which it is a sample.

    `added` rows that no replicate drew are in the graph all the same, as those of nodes that pruning keeps.
    """
    whole = random_graph(seed, **{"dtype": np.float64, **options})
    rng = np.random.default_rng(draw_seed)
    order = whole.order
    found = [draw_once(whole, share, rng) for _ in range(n_replicates)]
    factor_NR = np.stack([factors[order.features] for factors, _ in found], axis=1)
    row_D = np.flatnonzero((factor_NR > 0).any(axis=1))
    others = np.setdiff1d(np.arange(order.n_features), row_D)[:added]
    draws = Draws(row_D, factor_NR[row_D])
    has_row = whole.computed.copy()
    has_row[order.features] = np.isin(np.arange(order.n_features), [*row_D, *others])
    inclusion = np.mean([inclusion for _, inclusion in found], axis=0)
    return as_sampled(whole, draws, inclusion, has_row, [draw_seed]), whole


def as_sampled(whole, draws, inclusion_N, has_row, seeds):
    """Return the graph with some rows of another, and the columns of a sampled graph."""
    order, csr, weights = whole.order, whole.csr, whole.target_weights
    edge_E = np.repeat(has_row, csr.row_lengths())
    part = CSR(indptr_of(csr.row_lengths() * has_row), csr.indices[edge_E], csr.weights[edge_E])
    certified = node_influence(part, weights)
    facts = sampled_facts(
        order, part, weights, draws, inclusion_N, certified_M=certified, computed_M=has_row, seeds=seeds
    )
    kept = [name for name in whole.nodes.column_names if name not in ("node", "kind", "sources", "weights")]
    columns = {name: whole.nodes[name].chunk(0) for name in kept} | facts.columns
    columns["computed"] = has_row
    layer = whole.column("layer", missing=-1).astype(int)
    layer[order.logits] = whole.info["model"]["n_layers"]
    position, skipped = whole.column("position", missing=0).astype(int), order.has_kind(0) & ~has_row
    columns["influence_bound"] = bound_of_missing_rows(layer, position, certified + weights, skipped)
    columns["bias"] = np.ma.masked_array(whole.column("bias", 0.0), np.isnan(whole.column("bias")) | ~has_row)
    settings = {"sampled": True, "seed": seeds[0], "standard_error": None}
    sizes = {
        "edges": part.n_edges,
        "rows": int(has_row.sum()),
        "bound": float(columns["influence_bound"].max(initial=0)),
    }
    sizes["coverage"] = 1 - float(certified[skipped].sum())
    info = {**whole.info, "traced": {**whole.info["traced"], **sizes, **facts.traced}, "settings": settings}
    return Graph(build_table(order, columns, part, info), info)
