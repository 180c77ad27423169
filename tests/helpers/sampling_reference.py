"""Sampled rows written a second time, slowly and in float64: shares no code with the engine."""

import numpy as np
from scipy.optimize import brentq


def drawn_at(p_n, start):
    """Return which items of systematic sampling a mark start, start + 1, … hits, (n,) bool; those with 1 always."""
    drawn, end = [], 0.0
    for p in p_n:
        if p >= 1:
            drawn.append(True)
            continue
        begin, end = end, end + p
        drawn.append(any(begin <= start + mark < end for mark in range(int(end) + 1)))
    return np.array(drawn, bool)


def starts_between_changes(p_n):
    """Return starts between which systematic draws change, and the length that each stands for, both (k,)."""
    ends = np.cumsum([p for p in p_n if p < 1])
    edges = np.unique(np.concatenate([[0.0, 1.0], ends % 1]))
    lengths = np.diff(edges)
    middles = (edges[1:] + edges[:-1]) / 2
    return middles[lengths > 1e-12], lengths[lengths > 1e-12]


def influence_by_loops(graph):
    """Return the influence in each replicate, (R, M), from the edges and draws of a sampled graph: plain loops over rows and sources."""
    order, csr, draws, weights = graph.order, graph.csr, graph.draws, graph.target_weights
    n_replicates = draws.factor_DR.shape[1]
    factor = {int(row): draws.factor_DR[d] for d, row in enumerate(draws.row_D)}
    for logit in range(order.n_nodes - order.n_logits, order.n_nodes):
        factor[logit] = np.ones(n_replicates)
    found = np.zeros((n_replicates, order.n_nodes))
    for row in range(order.n_nodes - 1, -1, -1):
        edges = slice(int(csr.indptr[row]), int(csr.indptr[row + 1]))
        size = np.abs(csr.weights[edges].astype(np.float64))
        if row not in factor or not size.sum():
            continue
        for replicate in range(n_replicates):
            mass = (found[replicate, row] + weights[row]) * factor[row][replicate]
            for source, share in zip(csr.indices[edges], size / size.sum(), strict=True):
                found[replicate, source] += mass * share
    return found


def rounded_up(p):
    """Return probabilities, those above 0.8 as 1."""
    return np.where(p > 0.8, 1.0, p)


def one_round(whole, seed, max_features, n_layers, n_replicates=8, share=0.8):
    """Return probabilities and factors (N, R) of a round of replicates, from a graph with all rows.

    The expected number of rows is `share` of the limit; limits never bind in a test that uses this.
    """
    order, weights = whole.order, whole.target_weights
    n = order.n_features
    matrix = np.abs(whole.adjacency().toarray().astype(np.float64))
    totals = matrix.sum(axis=1, keepdims=True)
    matrix = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    layer, position = (whole.column(name, -1)[:n].astype(int) for name in ("layer", "position"))
    generators = [np.random.default_rng([seed, 1, replicate]) for replicate in range(n_replicates)]
    x = np.repeat((weights[n:] @ matrix[n:])[None], n_replicates, axis=0)
    p_NR, g_NR, n_drawn = np.zeros((n, n_replicates)), np.zeros((n, n_replicates)), 0
    for at in reversed(range(n_layers)):
        here = np.flatnonzero(layer == at)
        always = weights[here] > 0
        size = x[:, here] / np.sqrt((at + 1.0) * (position[here] + 1.0))
        size[:, always] = 0
        rows = (share * max_features - n_drawn) / (at + 1) / sum(1 / (below + 1) for below in range(at + 1))
        rows -= always.sum()

        def too_many(log_scale, size=size, rows=rows):
            return (1 - np.prod(1 - rounded_up(size * np.exp(log_scale)), axis=0)).sum() - rows

        every = (size > 0).any(axis=0).sum() <= rows
        log_scale = 700 if every else brentq(too_many, -50, 50, xtol=1e-12)
        drawn = always.copy()
        for replicate, generator in enumerate(generators):
            p = np.where(drawn, 1.0, rounded_up(size[replicate] * np.exp(log_scale)))
            chosen = drawn_at(p, generator.random())
            p_NR[here, replicate] = p
            g_NR[here[chosen], replicate] = 1 / p[chosen]
            drawn |= chosen
        n_drawn += drawn.sum()
        x += ((x[:, here] + weights[here]) * g_NR[here].T) @ matrix[here]
    return p_NR, g_NR
