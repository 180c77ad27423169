"""How much of a graph runs through groups of features."""

from typing import NamedTuple

import numpy as np

from cotrace.graphs.csr import CSR
from cotrace.graphs.data import GraphData
from cotrace.graphs.influence import node_influence
from cotrace.graphs.scores import GraphScores


class KeptByGroups(NamedTuple):
    """How much of a graph its groups keep, and the same of the whole graph."""

    influence: float
    """Share of the influence of all features that the features in groups have."""
    scores: GraphScores
    """Scores of the graph in which features outside of groups count as error nodes."""
    graph_scores: GraphScores
    """Scores of the graph as it is."""

    def text(self) -> str:
        """Return the shares as one line."""
        mine, whole = self.scores, self.graph_scores
        return (
            f"groups hold {self.influence:.1%} of the features' influence; with other features as errors, replacement "
            f"{mine.replacement:.3f} of {whole.replacement:.3f}, completeness {mine.completeness:.3f} of "
            f"{whole.completeness:.3f}"
        )


def kept_by(graph: GraphData, in_group_M: np.ndarray) -> KeptByGroups:
    """Return how much of a graph the features in groups keep; `in_group_M` is their mask, (M,) bool."""
    whole = graph.scores()
    features = graph.order.features
    influence_N = node_influence(graph.csr, graph.target_weights)[features]
    share = influence_N[in_group_M[features]].sum() / (influence_N.sum() or 1.0)
    return KeptByGroups(float(share), scores_of_part(graph, in_group_M)._replace(graph=whole.graph), whole)


def scores_of_part(graph: GraphData, kept_M: np.ndarray) -> GraphScores:
    """Return the scores of a graph in which features count as error nodes unless a mask (M,) keeps them; targets are kept.

    Influence that reaches such a feature ends there. Tokens and error nodes are what they are.
    """
    order, csr = graph.order, graph.csr
    is_error_M = np.zeros(order.n_nodes, np.bool_)
    is_error_M[order.errors] = True
    is_error_M[order.features] = ~kept_M[order.features] & (graph.target_weights[order.features] == 0)
    is_removed_M = is_error_M & (np.arange(order.n_nodes) < order.n_features)
    row_K = csr.edge_targets()
    weights_K = np.where(is_removed_M[row_K], 0, np.abs(csr.weights))
    influence_M = node_influence(CSR(csr.indptr, csr.indices, weights_K), graph.target_weights)
    totals_M = np.bincount(row_K, weights_K, minlength=order.n_nodes)
    from_errors_M = np.bincount(row_K, weights_K * is_error_M[csr.indices], minlength=order.n_nodes)
    share_M = np.divide(from_errors_M, totals_M, out=np.zeros_like(totals_M), where=totals_M > 0)
    mass_M = influence_M + graph.target_weights
    mass_M[order.features] *= graph.computed[order.features]
    token, error = influence_M[order.tokens].sum(), influence_M[is_error_M].sum()
    replacement = token / (token + error) if token + error > 0 else 1.0
    completeness = 1 - share_M @ mass_M / mass_M.sum() if mass_M.sum() > 0 else 1.0
    return GraphScores(float(replacement), float(completeness))
