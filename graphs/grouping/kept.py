"""How much of a graph runs through groups of features."""

from typing import NamedTuple

import numpy as np

from cotrace.graphs.data import GraphData
from cotrace.graphs.scores import GraphScores
from cotrace.graphs.subgraph import scores_of


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
    whole, features = graph.scores(), graph.order.features
    influence_N = graph.influence()[features]
    share = influence_N[in_group_M[features]].sum() / (influence_N.sum() or 1.0)
    return KeptByGroups(float(share), scores_of(graph, in_group_M), whole)
