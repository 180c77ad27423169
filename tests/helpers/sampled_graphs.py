"""Sampled graphs made from random ones, and a dense float64 reference of sampling that shares no code with it."""

import numpy as np

from cotrace.graphs import CSR, Graph
from cotrace.graphs.csr import indptr_of
from cotrace.graphs.influence import node_influence
from cotrace.graphs.sampling import Draws, estimate, replicate_influence
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
    influence = estimate(replicate_influence(part, weights, draws))
    certified = node_influence(part, weights)
    columns = {
        name: whole.nodes[name].chunk(0)
        for name in whole.nodes.column_names
        if name not in ("node", "kind", "sources", "weights")
    }
    columns |= {
        "influence": influence.value,
        "standard_error": influence.standard_error,
        "certified": certified,
        "influence_bound": np.where(order.has_kind(3), 0.0, certified[order.features][~has_row[order.features]].sum()),
        "inclusion": np.ma.masked_array(
            np.append(inclusion_N, np.zeros(order.n_nodes - order.n_features)),
            np.arange(order.n_nodes) >= order.n_features,
        ),
        "draws": draws,
        "computed": has_row,
        "bias": np.ma.masked_array(whole.column("bias", 0.0), np.isnan(whole.column("bias")) | ~has_row),
    }
    sampling = {
        "replicates": draws.n_replicates,
        "seeds": seeds,
        "rows": len(draws.row_D),
        "rows_added": int(has_row[order.features].sum()) - len(draws.row_D),
        "partial": False,
    }
    traced = {**whole.info["traced"], "bound": float(columns["influence_bound"].max(initial=0.0)), "sampling": sampling}
    traced |= {"rows": int(has_row.sum()), "edges": part.n_edges}
    settings = {"sampled": True, "seed": seeds[0], "standard_error": None}
    info = {**whole.info, "traced": traced, "settings": settings}
    return Graph(build_table(order, columns, part, info), info)
