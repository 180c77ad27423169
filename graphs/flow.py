"""Flow between spans of a prompt: the influence, and the signed effects, that edges carry from span to span.

Every path from a token or error node to a target is a chain of edges, each from a node in one span to a node in the same or
another. Flow sums what all edges between two spans carry, so that it obeys a conservation law: what starts in a span and what
enters it equals what leaves it (docs/queries.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from cotrace.common.compiled import compiled
from cotrace.common.errors import ArgumentError

from .csr import CSR
from .data import GraphData
from .effects import activations, weighted_effects
from .labels import node_label
from .node_sets import NodeSet, weighted_ends
from .segments import OTHER, parse_segments, segment_of_positions

STARTS = ("tokens", "errors", "rest")


@dataclass(frozen=True, eq=False)
class Flow:
    """What edges carry from S spans to the S spans and T targets.

    Shares are those of the influence on the targets, which is 1 in all. Effects are signed, in units of what the targets read;
    of several targets they are means by weight.
    """

    spans: dict[str, tuple[int, ...]]
    """Positions of each span, ascending; those outside every named one are in "other"."""
    targets: tuple[str, ...]
    """Names of the targets."""
    share_SC: np.ndarray
    """Influence along edges from a span (row) to nodes of a span, then to each target, (S, S + T)."""
    effect_SC: np.ndarray
    """The same for signed effects, (S, S + T)."""
    share_start_SK: np.ndarray
    """Influence that starts in each span, (S, 3): at tokens, at error nodes, and the rest, at features without incoming edges."""
    effect_start_SK: np.ndarray
    """Effects that start in each span, (S, 3): at tokens, at error nodes, and the rest: biases, and edges that the graph lacks."""
    value: float
    """What the targets read; of several their mean by weight. The last steps and the targets' own biases add up to it."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of `share_SC` and `effect_SC`: spans, then targets."""
        return (*self.spans, *self.targets)

    def __repr__(self) -> str:
        return f"Flow({' | '.join(self.spans)} → {' | '.join(self.columns)})"

    def table(self) -> pa.Table:
        """Return a row for each pair of a span and a span or target that edges join.

        Columns: source, target, is_target, share and effect.
        """
        source, column = np.nonzero(self.share_SC)
        names = np.array([*self.spans, *self.targets], object)
        return pa.table(
            {
                "source": pa.array(names[source], pa.string()),
                "target": pa.array(names[column], pa.string()),
                "is_target": column >= len(self.spans),
                "share": self.share_SC[source, column],
                "effect": self.effect_SC[source, column],
            }
        )

    def starts(self) -> pa.Table:
        """Return a row for each span: where paths start.

        Columns: span, then share and effect of its tokens, errors and the rest: tokens_share, tokens_effect, …
        """
        columns: dict[str, Any] = {"span": list(self.spans)}
        for k, name in enumerate(STARTS):
            columns |= {f"{name}_share": self.share_start_SK[:, k], f"{name}_effect": self.effect_start_SK[:, k]}
        return pa.table(columns)

    def as_json(self) -> dict[str, Any]:
        """Return everything as values that JSON can hold."""
        return {
            "spans": {name: list(positions) for name, positions in self.spans.items()},
            "targets": list(self.targets),
            "value": self.value,
            "starts": self.starts().to_pylist(),
            "edges": self.table().to_pylist(),
        }


def flow(graph: GraphData, spans: Mapping[str, Any], targets: NodeSet | None = None) -> Flow:
    """Return the flow between spans of the prompt; arguments and errors as `Graph.flow`."""
    named = parse_segments(spans, graph.order.n_tokens)
    span_P, _ = segment_of_positions(named, graph.order.n_tokens)
    outside = tuple(np.flatnonzero(span_P == len(named)).tolist())
    positions = {**named, OTHER: outside} if outside else named
    nodes, weight_M = weighted_ends(graph, targets)
    if not len(nodes):
        raise ArgumentError("no influence ends at tokens and error nodes: name features, or targets of the graph")
    column_M = np.full(graph.order.n_nodes, -1)
    column_M[nodes] = len(positions) + np.arange(len(nodes))
    cells = _Cells(span_P[graph.column("position")], column_M, len(positions), len(nodes))
    share_SC, share_start_SK = _shares(graph, weight_M, cells)
    effect_SC, effect_start_SK = _effects(graph, weight_M, cells)
    return Flow(
        spans=positions,
        targets=tuple(node_label(graph, node) for node in nodes.tolist()),
        share_SC=share_SC,
        effect_SC=effect_SC,
        share_start_SK=share_start_SK,
        effect_start_SK=effect_start_SK,
        value=float(weight_M @ np.nan_to_num(graph.column("pre_activation")).astype(np.float64)),
    )


class _Cells(NamedTuple):
    """The rows and columns of a flow."""

    span_M: np.ndarray
    """The span of every node, (M,)."""
    column_M: np.ndarray
    """The column of every target, -1 for other nodes, (M,)."""
    n_spans: int
    n_targets: int


def _shares(graph: GraphData, weight_M: np.ndarray, cells: _Cells) -> tuple[np.ndarray, np.ndarray]:
    """Return the influence that edges carry between spans, and the influence that starts in each span."""
    influence_M, total_M = graph.influence_on(weight_M), graph.csr.row_totals()
    passed_M, ends_M = graph.passed_on(weight_M)
    divided_M = np.where(total_M > 0, total_M, 1.0)
    sizes = graph.csr._replace(weights=np.abs(graph.csr.weights))
    between_SC = _carried(sizes, passed_M / divided_M, ends_M / divided_M, cells)
    return between_SC, _starts(graph, influence_M, influence_M - np.where(total_M > 0, passed_M, 0.0), cells)


def _effects(graph: GraphData, weight_M: np.ndarray, cells: _Cells) -> tuple[np.ndarray, np.ndarray]:
    """Return the effects that edges carry between spans, and the effects that start in each span."""
    effect_M, activation_M, csr = weighted_effects(graph, weight_M), activations(graph), graph.csr
    gain_M = np.divide(effect_M, activation_M, out=np.zeros_like(effect_M), where=activation_M != 0)
    return _carried(csr, gain_M, weight_M, cells), _starts(graph, effect_M, effect_M - gain_M * csr.row_sums(), cells)


def _carried(csr: CSR, gain_M: np.ndarray, end_M: np.ndarray, cells: _Cells) -> np.ndarray:
    """Return what edges carry, summed by the spans of both ends, and by targets as ends of paths, (S, S + T).

    An edge carries its weight times the gain of its target, and into an end of paths its weight times that of the end.
    """
    between_SC = np.zeros((cells.n_spans, cells.n_spans + cells.n_targets))
    _add_edges(*csr, gain_M, end_M, cells.span_M, cells.column_M, between_SC)
    return between_SC


@compiled
def _add_edges(indptr, indices, weights, gain, end, span, column, between):
    of_span = np.zeros(len(between))
    for row in range(len(gain)):
        if gain[row] == 0.0 and column[row] < 0:
            continue
        of_span[:] = 0.0
        for edge in range(indptr[row], indptr[row + 1]):
            of_span[span[indices[edge]]] += weights[edge]
        for source in range(len(of_span)):
            between[source, span[row]] += of_span[source] * gain[row]
            if column[row] >= 0:
                between[source, column[row]] += of_span[source] * end[row]


def _starts(graph: GraphData, value_M: np.ndarray, rest_M: np.ndarray, cells: _Cells) -> np.ndarray:
    """Return the sums over each span of the values of tokens and of error nodes, and of the rest of features, (S, 3)."""
    order = graph.order
    parts = ((order.tokens, value_M), (order.errors, value_M), (order.features, rest_M))
    return np.stack([np.bincount(cells.span_M[part], each[part], cells.n_spans) for part, each in parts], axis=1)
