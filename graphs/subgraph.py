"""Subgraphs of chosen nodes, and their scores, in which nodes that are left out count as error.

The column `left_out` of a subgraph has, for each row, the absolute weight of its edges from nodes that are not in it.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from cotrace.common.compiled import compiled
from cotrace.common.errors import ArgumentError
from cotrace.common.visible_text import quoted

from .csr import CSR
from .data import GraphData
from .prune import check_threshold
from .schema import LEFT_OUT
from .scores import GraphScores


def chosen_nodes(
    graph: GraphData, nodes: np.ndarray | None, min_influence: float | None, label: str | None
) -> np.ndarray:
    """Return a mask of the nodes of a subgraph, (M,) bool; arguments and errors as `Graph.subgraph`, but for node numbers."""
    if nodes is None and min_influence is None and label is None:
        raise ArgumentError("a subgraph of which nodes? Give nodes, min_influence or label")
    kept_M = np.ones(graph.order.n_nodes, np.bool_)
    if nodes is not None:
        kept_M &= np.isin(np.arange(len(kept_M)), nodes)
    if min_influence is not None:
        check_threshold("min_influence", min_influence)
        kept_M &= graph.influence() >= min_influence
    if label is not None:
        kept_M &= _labelled(graph, label)
    return with_ends(graph, kept_M)


def with_ends(graph: GraphData, nodes_M: np.ndarray) -> np.ndarray:
    """Return a mask of nodes with all tokens and targets, which every smaller graph keeps, (M,) bool."""
    kept_M = nodes_M | (graph.target_weights > 0)
    kept_M[graph.order.tokens] = kept_M[graph.order.logits] = True
    return kept_M


def _labelled(graph: GraphData, pattern: str) -> np.ndarray:
    """Return a mask of the nodes with a label in which a pattern is found, (M,) bool."""
    try:
        search = re.compile(pattern, re.IGNORECASE).search
    except (re.error, TypeError) as error:
        raise ArgumentError(
            f"label={pattern!r} is no regular expression ({error}): write a word, or escape it"
        ) from error
    labels = graph.nodes["label"].chunk(0)
    matching = [text for text in labels.unique().to_pylist() if text and search(text)]
    if not matching:
        raise ArgumentError(f"no label of this graph has {quoted(pattern)} in it; `cotrace show` prints the labels")
    return np.isin(labels.to_numpy(zero_copy_only=False), matching)


def left_out_weights(graph: GraphData, kept_M: np.ndarray) -> np.ndarray:
    """Return the absolute weight of each row's edges from nodes that are not kept, now or in an earlier step, (M,) float64."""
    sums_M = _sums_from(*graph.csr, ~kept_M)
    return sums_M + graph.column(LEFT_OUT) if is_subgraph(graph) else sums_M


def is_subgraph(graph: GraphData) -> bool:
    """Return whether nodes were left out of a graph by `Graph.subgraph`."""
    return LEFT_OUT in graph.nodes.column_names


def scores_of(graph: GraphData, kept_M: np.ndarray) -> GraphScores:
    """Return the scores of the part of a graph whose nodes a mask (M,) keeps, with tokens and targets.

    All other nodes, and those that were left out before, count as error: influence that reaches them ends there. Error nodes
    count as error whether they are kept or not.
    """
    kept_M = with_ends(graph, kept_M)
    left_out_M = np.where(kept_M, left_out_weights(graph, kept_M), 0.0)
    inside = CSR(graph.csr.indptr, graph.csr.indices, _inside(*graph.csr, kept_M))
    return graph.scores_without(left_out_M, "subgraph" if left_out_M.any() else "traced", inside)


def chosen_by(step: Mapping[str, Any]) -> str:
    """Return how a subgraph was chosen, from its entry in the metadata."""
    named = f"{step['named']:,} named nodes" if "named" in step else ""
    influence = f"influence at least {step['min_influence']:g}" if "min_influence" in step else ""
    label = f"labels with {quoted(step['label'])}" if "label" in step else ""
    return " and ".join(filter(None, (named, influence, label))) + "; tokens and targets"


@compiled
def _sums_from(indptr, indices, weights, chosen):
    """Sum the absolute weights of every row's edges from chosen sources."""
    sums = np.zeros(len(chosen), np.float64)
    for row in range(len(chosen)):
        for edge in range(indptr[row], indptr[row + 1]):
            if chosen[indices[edge]]:
                sums[row] += abs(weights[edge])
    return sums


@compiled
def _inside(indptr, indices, weights, kept):
    """Return the weights of edges between kept nodes, 0 for others."""
    inside = np.zeros_like(weights)
    for row in range(len(kept)):
        if kept[row]:
            for edge in range(indptr[row], indptr[row + 1]):
                if kept[indices[edge]]:
                    inside[edge] = weights[edge]
    return inside
