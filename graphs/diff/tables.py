"""Nodes and edges of two graphs side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from cotrace.graphs.csr import CSR
from cotrace.graphs.sampling import student_quantile
from cotrace.graphs.saved_effects import has_effects, saved_effects
from cotrace.graphs.target_choice import chosen_weights
from cotrace.graphs.uncertainty import n_replicates, standard_errors

from .matching import Graphs, Matching, Targets


class DiffStatus(IntEnum):
    """Where a node or edge is."""

    BOTH = 0
    """In both graphs, and not changed."""
    CHANGED = 1
    """In both, with another influence or sign."""
    ONLY_A = 2
    ONLY_B = 3


STATUS_NAMES = tuple(status.name.lower() for status in DiffStatus)


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Values of both graphs for some nodes or edges, (N,) each; 0 where a graph lacks one."""

    influence_a: np.ndarray
    influence_b: np.ndarray
    status: np.ndarray
    """`DiffStatus` of each, int8."""

    @property
    def in_both(self) -> np.ndarray:
        """Mask of the nodes or edges that both graphs have."""
        return self.status <= DiffStatus.CHANGED

    @property
    def larger(self) -> np.ndarray:
        """The larger influence of each."""
        return np.maximum(self.influence_a, self.influence_b)

    @property
    def change(self) -> np.ndarray:
        """Influence in B minus influence in A."""
        return self.influence_b - self.influence_a

    def take(self, rows: np.ndarray) -> SideBySide:
        """Return the influences and statuses of some nodes or edges."""
        return SideBySide(self.influence_a[rows], self.influence_b[rows], self.status[rows])


@dataclass(frozen=True, eq=False)
class NodesSideBySide(SideBySide):
    """The U units of a `Matching`."""

    node_a: np.ndarray
    """Number of the node in A, the most influential one if there are several; -1 if there is none."""
    node_b: np.ndarray
    count_a: np.ndarray
    """Number of nodes of A in the unit."""
    count_b: np.ndarray
    expected_a: np.ndarray | None
    """Change of the common target that is expected when the unit is ablated; None without effects or a common target."""
    expected_b: np.ndarray | None


@dataclass(frozen=True, eq=False)
class EdgesSideBySide(SideBySide):
    """The edges between units, sorted by target and source; edges of weight 0 and inside a unit are left out."""

    source: np.ndarray
    """Unit where an edge starts."""
    target: np.ndarray
    weight_a: np.ndarray
    weight_b: np.ndarray


def node_influences(graphs: Graphs, targets: Targets) -> tuple[np.ndarray, np.ndarray]:
    """Return the influence of every node of A, (M_A,), and of B, (M_B,), on the chosen targets of each."""
    found = [g.influence_on(chosen_weights(g, chosen)) for g, chosen in zip(graphs, targets, strict=True)]
    return found[0], found[1]


class ErrorsOfInfluence(NamedTuple):
    """Standard errors of the influence of every node in both graphs; 0 without sampled rows."""

    error_a: np.ndarray
    error_b: np.ndarray
    quantile: float
    """Standard errors of a difference below which it is none."""

    def of_units(self, sums: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the least difference that counts, of units whose errors `sums` adds up: the number of a graph, its errors.

        The error of a sum is at most the sum of errors.
        """
        return self.quantile * np.hypot(sums(0, self.error_a), sums(1, self.error_b))


def errors_of_influence(graphs: Graphs, targets: Targets) -> ErrorsOfInfluence:
    """Return the standard errors of influence on the chosen targets of each graph."""
    found = [standard_errors(g, chosen_weights(g, chosen)) for g, chosen in zip(graphs, targets, strict=True)]
    fewest = min([n_replicates(graph) for graph in graphs if graph.estimated], default=None)
    return ErrorsOfInfluence(found[0], found[1], 0.0 if fewest is None else student_quantile(fewest))


def compare_nodes(
    graphs: Graphs,
    matching: Matching,
    influences: tuple[np.ndarray, np.ndarray],
    errors: ErrorsOfInfluence,
    common_target: tuple[dict[str, Any], dict[str, Any]] | None,
    min_change: float,
) -> NodesSideBySide:
    """Return all units side by side. Influence and expected effects of several nodes in one unit are added up."""
    n_units, units = matching.n_units, matching.unit_of
    sum_a, sum_b = (np.bincount(unit, influence, n_units) for unit, influence in zip(units, influences, strict=True))
    count_a, count_b = (np.bincount(unit, minlength=n_units) for unit in units)
    node_a, node_b = (_strongest(unit, influence, n_units) for unit, influence in zip(units, influences, strict=True))
    expected_a = expected_b = None
    if common_target is not None and all(map(has_effects, graphs)):
        expected_a, expected_b = (
            np.bincount(unit, np.nan_to_num(saved_effects(graph, [target])[0].astype(np.float64)), n_units)
            for graph, unit, target in zip(graphs, units, common_target, strict=True)
        )
    least = errors.of_units(lambda side, error_M: np.bincount(units[side], error_M, n_units))
    status = _status(count_a > 0, count_b > 0, _differs(sum_a, sum_b, min_change, least))
    return NodesSideBySide(sum_a, sum_b, status, node_a, node_b, count_a, count_b, expected_a, expected_b)


def compare_edges(
    graphs: Graphs,
    matching: Matching,
    influences: tuple[np.ndarray, np.ndarray],
    errors: ErrorsOfInfluence,
    targets: Targets,
    min_change: float,
) -> EdgesSideBySide:
    """Return all edges between units side by side.

    The influence of an edge is its share of its target's absolute input times the influence of the target and its weight
    as a target. Several edges between two units are added up.
    """
    sides = [
        _unit_edges(g.csr, unit, matching.n_units, influence + chosen_weights(g, chosen))
        for g, unit, influence, chosen in zip(graphs, matching.unit_of, influences, targets, strict=True)
    ]
    code_E = _merged(sides[0][0], sides[1][0])
    values = np.zeros((2, 2, len(code_E)))
    present = np.zeros((2, len(code_E)), bool)
    for side, (code, weight, influence) in enumerate(sides):
        place = np.searchsorted(code_E, code)
        values[side, 0, place], values[side, 1, place], present[side, place] = weight, influence, True
    (weight_a, influence_a), (weight_b, influence_b) = values

    def summed(side: int, error_M: np.ndarray) -> np.ndarray:
        of_edges = np.zeros(len(code_E))
        if error_M.any():
            code, _, error = _unit_edges(graphs[side].csr, matching.unit_of[side], matching.n_units, error_M)
            of_edges[np.searchsorted(code_E, code)] = error
        return of_edges

    least = errors.of_units(summed)
    differs = _differs(influence_a, influence_b, min_change, least) | (np.sign(weight_a) != np.sign(weight_b))
    target, source = np.divmod(code_E, max(1, matching.n_units))
    status = _status(present[0], present[1], differs)
    return EdgesSideBySide(influence_a, influence_b, status, source, target, weight_a, weight_b)


def _unit_edges(
    csr: CSR, unit_M: np.ndarray, n_units: int, mass_M: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the edges between units of one graph: sorted code `target * U + source`, weight and influence."""
    totals = csr.row_totals()
    factor = np.divide(mass_M, totals, out=np.zeros_like(totals), where=totals > 0)
    lengths, weight = csr.row_lengths(), csr.weights.astype(np.float64)
    code = np.repeat(unit_M * n_units, lengths) + unit_M[csr.indices]
    influence = np.abs(weight) * np.repeat(factor, lengths)
    kept = (weight != 0) & (np.repeat(unit_M, lengths) != unit_M[csr.indices])
    code, weight, influence = code[kept], weight[kept], influence[kept]
    order = np.argsort(code, kind="stable")  # nearly sorted, which takes little time
    code = code[order]
    first = np.flatnonzero(_is_new(code))
    return code[first], _sums(weight[order], first), _sums(influence[order], first)


def _is_new(sorted_N: np.ndarray) -> np.ndarray:
    """Return a mask of the first of equal values in a sorted array."""
    return np.append(np.ones(min(1, len(sorted_N)), bool), sorted_N[1:] != sorted_N[:-1])


def _sums(values_N: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the sums of runs of values, given where each starts."""
    return np.add.reduceat(values_N, first) if len(first) else np.zeros(0)


def _merged(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the distinct values of two sorted arrays, sorted; `numpy.union1d` takes ten times as long."""
    joined = np.sort(np.concatenate([a, b]), kind="stable")
    return joined[_is_new(joined)]


def _strongest(unit_M: np.ndarray, influence_M: np.ndarray, n_units: int) -> np.ndarray:
    """Return the most influential node of every unit, (U,), -1 for units without nodes."""
    strongest = np.full(n_units, -1, np.int64)
    order = np.argsort(influence_M, kind="stable")
    strongest[unit_M[order]] = order  # of repeated indices, the last one counts
    return strongest


def _differs(a: np.ndarray, b: np.ndarray, min_change: float, least: np.ndarray) -> np.ndarray:
    """Return which differences are relative ones of `min_change`, and more than chance explains."""
    return (np.abs(a - b) > least) & (np.abs(a - b) >= min_change * np.maximum(a, b))


def _status(in_a: np.ndarray, in_b: np.ndarray, differs: np.ndarray) -> np.ndarray:
    both = np.where(differs, DiffStatus.CHANGED, DiffStatus.BOTH)
    return np.where(in_a & in_b, both, np.where(in_a, DiffStatus.ONLY_A, DiffStatus.ONLY_B)).astype(np.int8)
