"""Influence: the share of all paths' normalised weight that ends in the targets."""

from typing import Any

import numpy as np

from cotrace.kernels.compiled import compiled, compiled_for_sums

ROWS_TOGETHER = 16
RUN = 64  # edges: where their sources are consecutive, as mostly in a graph that is not pruned, no index is looked up


def weights_of_targets(targets: list[dict[str, Any]], n_nodes: int) -> np.ndarray:
    """Weight of every node as a target, (M,) float64, of the targets as the metadata records them."""
    weights = np.zeros(n_nodes)
    for target in targets:
        weights[target["node"]] += target["weight"]
    return weights


def node_influence(
    indptr: np.ndarray, indices: np.ndarray, weights: np.ndarray, target_weights: np.ndarray
) -> np.ndarray:
    """Influence of every node: `w (Ahat + Ahat^2 + ...)`, with `|A|` row-normalised to `Ahat`.

    The nodes stand in topological order read backwards (`NodeOrder`), so one pass over the rows
    gives the whole Neumann series exactly, in O(edges). CSR arrays have row = target; target
    weights are (M,). Returns (M,) float64. Method: Ameisen et al., "Circuit Tracing" (2025),
    appendix on pruning, without its matrix inverse.
    """
    return _propagate(indptr, indices, weights, np.ascontiguousarray(target_weights, np.float64))


def estimated_influence(
    indptr: np.ndarray,
    indices: np.ndarray,
    weights: np.ndarray,
    target_weights: np.ndarray,
    computed: np.ndarray,
    sites: np.ndarray,
) -> np.ndarray:
    """Influence of every node if features without a row pass on what the others of their site do, (M,) float64.

    Rows were computed of the nodes in `computed`, (M,) bool; `sites` are the first features of each
    layer and position, ascending, and the number of features behind them. Where a site has no row,
    what its features would pass on is lost. With all rows it is `node_influence`; without some, that is
    a lower bound and this is closer.
    """
    weights_of_rows = np.ascontiguousarray(target_weights, np.float64)
    return _propagate_for_others(indptr, indices, weights, weights_of_rows, computed, sites)


@compiled
def _propagate_for_others(indptr, indices, weights, target_weights, computed, sites):
    influence = np.zeros(len(target_weights), np.float64)
    for row in range(len(target_weights) - 1, sites[-1] - 1, -1):
        _pass_on(row, influence[row] + target_weights[row], indptr, indices, weights, influence)
    for site in range(len(sites) - 2, -1, -1):
        total, of_rows = 0.0, 0.0
        for row in range(sites[site], sites[site + 1]):
            mass = influence[row] + target_weights[row]
            total += mass
            of_rows += mass if computed[row] else 0.0
        if of_rows > 0:
            for row in range(sites[site], sites[site + 1]):
                mass = influence[row] + target_weights[row]
                _pass_on(row, mass * (total / of_rows), indptr, indices, weights, influence)
    return influence


@compiled
def _propagate(indptr, indices, weights, target_weights):
    influence = np.zeros(len(target_weights), np.float64)
    row = len(target_weights) - 1
    while row >= 0:
        first = _first_alike(row, indptr, indices)
        if first < row:
            mass = influence[first : row + 1] + target_weights[first : row + 1]
            _pass_on_together(first, mass, indptr, indices, weights, influence)
        else:
            _pass_on(row, influence[row] + target_weights[row], indptr, indices, weights, influence)
        row = first - 1
    return influence


@compiled
def _first_alike(row, indptr, indices):
    """The first of the rows before one that have its sources, as all of a site do: none is a source of another."""
    first, n = row, indptr[row + 1] - indptr[row]
    while first > 0 and n >= RUN and row - first + 1 < ROWS_TOGETHER:
        if indptr[first] - indptr[first - 1] != n or not _are_same(indices, indptr[first - 1], indptr[row], n):
            break
        first -= 1
    return first


@compiled
def _are_same(indices, one, other, n):
    for offset in range(0, n, RUN):
        length = min(RUN, n - offset)
        a, b = indices[one + offset : one + offset + length], indices[other + offset : other + offset + length]
        if a[0] != b[0] or a[-1] != b[-1]:
            return False
        if a[-1] - a[0] != length - 1:
            for k in range(length):
                if a[k] != b[k]:
                    return False
    return True


@compiled
def _pass_on_together(first, mass, indptr, indices, weights, influence):
    """Divide the masses of rows with the same sources: what a source gets of all of them is added up first."""
    scale, n = np.zeros(len(mass), np.float64), indptr[first + 1] - indptr[first]
    for t in range(len(mass)):
        start = indptr[first + t]
        total = _sum_of_sizes(weights[start : start + n])
        if mass[t] > 0.0 and total > 0.0:
            scale[t] = mass[t] / total
    if scale.max() == np.inf:
        for t in range(len(mass)):
            _pass_on(first + t, mass[t], indptr, indices, weights, influence)
        return
    sums = np.empty(RUN, np.float64)
    for offset in range(0, n, RUN):
        length = min(RUN, n - offset)
        sums[:length] = 0.0
        for t in range(len(mass)):
            if scale[t] > 0.0:
                start = indptr[first + t] + offset
                _add_sizes(weights[start : start + length], scale[t], sums[:length])
        for k in range(length):
            influence[indices[indptr[first] + offset + k]] += sums[k]


@compiled
def _pass_on(row, mass, indptr, indices, weights, influence):
    """Divide a row's mass among its sources."""
    start, stop = indptr[row], indptr[row + 1]
    if mass == 0.0 or start == stop:
        return
    total = _sum_of_sizes(weights[start:stop])
    if total == 0.0:
        return
    if stop - start == 1 or mass / total == np.inf:  # the share of a lone edge is 1 exactly
        for edge in range(start, stop):
            influence[indices[edge]] += mass * (abs(weights[edge]) / total)
        return
    for first in range(start, stop, RUN):
        last = min(first + RUN, stop)
        source = indices[first]
        if indices[last - 1] - source == last - 1 - first:  # ascending, so nothing is left out in between
            _add_sizes(weights[first:last], mass / total, influence[source : source + last - first])
        else:
            for edge in range(first, last):
                influence[indices[edge]] += mass / total * abs(weights[edge])


@compiled_for_sums
def _sum_of_sizes(weights):
    total = 0.0
    for edge in range(len(weights)):
        total += abs(weights[edge])
    return total


@compiled_for_sums
def _add_sizes(weights, scale, sums):
    for edge in range(len(weights)):
        sums[edge] += scale * abs(weights[edge])


@compiled
def row_totals(indptr, weights):
    """Sum of absolute weights of every row, (M,) float64."""
    totals = np.zeros(len(indptr) - 1, np.float64)
    for row in range(len(totals)):
        totals[row] = _sum_of_sizes(weights[indptr[row] : indptr[row + 1]])
    return totals
