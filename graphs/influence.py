"""Influence: the share of all paths' normalised weight that ends in the targets."""

from typing import Any

import numpy as np

from cotrace.common.compiled import compiled

from .csr import CSR, absolute_sum

RUN_EDGES = 64  # a run with consecutive sources, the usual case in unpruned graphs, needs no look-up of indices


def weights_of_targets(targets: list[dict[str, Any]], n_nodes: int) -> np.ndarray:
    """Return the weight of every node as a target, (M,) float64, from the targets in the metadata."""
    weights = np.zeros(n_nodes)
    for target in targets:
        weights[target["node"]] += target["weight"]
    return weights


def node_influence(csr: CSR, target_weights: np.ndarray, left_out: np.ndarray | None = None) -> np.ndarray:
    """Return the influence of every node, (M,) float64: `w (Ahat + Ahat^2 + ...)`, with `|A|` row-normalised to `Ahat`.

    Read backwards, the nodes are in topological order (`NodeOrder`), so one pass over the rows computes
    the whole Neumann series exactly, in O(edges). `target_weights` w is (M,). `left_out`, (M,), is absolute weight of each row
    that is not in the CSR arrays: its share of the row's mass is lost. Method: Ameisen et al.,
    "Circuit Tracing" (2025), appendix on pruning, without its matrix inverse.
    """
    lost = np.zeros(csr.n_rows) if left_out is None else left_out
    return _propagate(*csr, np.ascontiguousarray(target_weights, np.float64), lost)


def estimated_influence(csr: CSR, target_weights: np.ndarray, computed: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Return an estimate of every node's influence, (M,) float64, for a graph without some of its rows.

    A site is a layer and position. A feature without a row is taken to pass influence on as the computed
    features of its site do together; at a site without any row, it is lost. With all rows the estimate
    equals `node_influence`; otherwise that is a lower bound, and the estimate is closer.

    Args:
        csr: the edges.
        target_weights: weight of every node as a target, (M,).
        computed: mask of the nodes whose rows were computed, (M,) bool.
        sites: number of the first feature of each site, ascending, then the number of features, (S+1,) int64.
    """
    return _propagate_for_others(*csr, np.ascontiguousarray(target_weights, np.float64), computed, sites)


def bound_of_missing_rows(
    layer_M: np.ndarray, position_M: np.ndarray, mass_M: np.ndarray, skipped_M: np.ndarray
) -> np.ndarray:
    """Return an upper bound for the influence that each node lacks because rows were not computed, (M,) float64.

    It is the sum of `mass_M` over skipped features at higher layers and at the node's position or later: only those can
    pass influence on to the node, and none more than it has.

    Args:
        layer_M: layer of every node, -1 for tokens, the number of layers for logits.
        position_M: position of every node.
        mass_M: influence of every node along computed rows, plus its weight as a target.
        skipped_M: mask of the features whose rows were not computed.
    """
    n_layers, n_positions = int(layer_M.max()) + 1, int(position_M.max()) + 1
    skipped_LP = np.zeros((n_layers + 1, n_positions))
    np.add.at(skipped_LP, (layer_M[skipped_M], position_M[skipped_M]), mass_M[skipped_M])
    later_LP = skipped_LP[::-1, ::-1].cumsum(0).cumsum(1)[::-1, ::-1]  # at this layer or above, this position or later
    return later_LP[layer_M + 1, position_M]


def rounded_up(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return values in another type, rounded up: a bound stays a bound."""
    rounded = values.astype(dtype)
    return np.where(rounded < values, np.nextafter(rounded, np.inf, dtype=dtype), rounded)


@compiled
def _propagate_for_others(indptr, indices, weights, target_weights, computed, sites):
    influence = np.zeros(len(target_weights), np.float64)
    for row in range(len(target_weights) - 1, sites[-1] - 1, -1):
        _pass_on(row, influence[row] + target_weights[row], 0.0, indptr, indices, weights, influence)
    for site in range(len(sites) - 2, -1, -1):
        total, of_rows = 0.0, 0.0
        for row in range(sites[site], sites[site + 1]):
            mass = influence[row] + target_weights[row]
            total += mass
            of_rows += mass if computed[row] else 0.0
        if of_rows > 0:
            for row in range(sites[site], sites[site + 1]):
                mass = influence[row] + target_weights[row]
                _pass_on(row, mass * (total / of_rows), 0.0, indptr, indices, weights, influence)
    return influence


@compiled
def _propagate(indptr, indices, weights, target_weights, left_out):
    influence = np.zeros(len(target_weights), np.float64)
    for row in range(len(target_weights) - 1, -1, -1):
        _pass_on(row, influence[row] + target_weights[row], left_out[row], indptr, indices, weights, influence)
    return influence


@compiled
def _pass_on(row, mass, left_out, indptr, indices, weights, influence):
    """Add a row's mass to the influence of its sources, by their shares of the row."""
    start, stop = indptr[row], indptr[row + 1]
    if mass == 0.0 or start == stop:
        return
    spread(row, mass, absolute_sum(weights[start:stop]) + left_out, indptr, indices, weights, influence)


@compiled
def spread(row, mass, total, indptr, indices, weights, influence):
    """Add a row's mass to the influence of its sources, by their shares of its total weight; for compiled functions."""
    start, stop = indptr[row], indptr[row + 1]
    if mass == 0.0 or total == 0.0:
        return
    if stop - start == 1 or mass / total == np.inf:  # the share of a lone edge is 1 exactly
        for edge in range(start, stop):
            influence[indices[edge]] += mass * (abs(weights[edge]) / total)
        return
    for first in range(start, stop, RUN_EDGES):
        last = min(first + RUN_EDGES, stop)
        source = indices[first]
        if indices[last - 1] - source == last - 1 - first:  # ascending, so the run has no gaps
            _add_scaled(weights[first:last], mass / total, influence[source : source + last - first])
        else:
            for edge in range(first, last):
                influence[indices[edge]] += mass / total * abs(weights[edge])


@compiled
def _add_scaled(weights, scale, sums):
    for edge in range(len(weights)):
        sums[edge] += scale * abs(weights[edge])
