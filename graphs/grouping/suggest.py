"""From a graph to suggested groups; `Graph.suggest_groups` calls this."""

from typing import Any

import numpy as np

from cotrace.common.errors import ArgumentError
from cotrace.graphs.annotations import groups_inside, node_names
from cotrace.graphs.data import GraphData
from cotrace.graphs.label_columns import node_labels
from cotrace.graphs.nodes import Feature
from cotrace.graphs.target_choice import choose_targets, chosen_weights

from .clusters import clusters
from .config import GroupConfig
from .describe import label_of, mean_between, name_of, reason_of
from .groups import Groups, SuggestedGroup
from .kept import kept_by
from .profiles import Directions, cosines, effects_on_targets, similarity_of
from .stored import is_suggested


def suggest_groups(graph: GraphData, config: GroupConfig, directions: np.ndarray | Directions | None = None) -> Groups:
    """Return groups of features that do the same; see `Graph.suggest_groups`. `directions` may be a function of nodes."""
    # 1. Take the features that matter most; leave out targets, and what the user has grouped.
    targets = choose_targets(graph, config.target)
    weight_M = chosen_weights(graph, targets)
    mass_M = graph.influence_on(weight_M) + weight_M
    nodes = _candidates(graph, mass_M, config.max_features)
    # 2. Compare them.
    parts = cosines(graph, nodes, mass_M, _checked(graph, directions)) if len(nodes) else {}
    similarity_nn = similarity_of(parts, len(nodes))
    effect_n = effects_on_targets(graph, targets[:1])[0, nodes]
    # 3. Join those that are alike, within each sign of the effect.
    found = clusters(similarity_nn, np.sign(effect_n).astype(np.int64), config.similarity, config.max_size)
    found.sort(key=lambda group: (-mass_M[nodes[group]].sum(), group[0]))
    # 4. Describe them.
    describe = _Describer(graph, nodes, mass_M, effect_n, targets[0]["label"])
    groups = [describe(group, mean_between(similarity_nn, group), parts) for group in found]
    in_group_M = np.zeros(graph.order.n_nodes, np.bool_)
    in_group_M[[node for group in groups for node in group.nodes]] = True
    kept = kept_by(graph, in_group_M)
    return Groups(graph, config, groups, target=targets[0]["label"], compared=len(nodes), kept=kept)


def _candidates(graph: GraphData, mass_M: np.ndarray, most: int) -> np.ndarray:
    """Return the numbers of the features to compare, ascending: the most influential ones."""
    free_M = (mass_M > 0) & (graph.target_weights == 0)
    free_M[graph.order.n_features :] = False
    users = {group["name"] for group in graph.info.get("groups", []) if not is_suggested(group)}
    for name, numbers in groups_inside(graph).items():
        if name in users:
            free_M[numbers] = False
    nodes = np.flatnonzero(free_M)
    return np.sort(nodes[np.argsort(-mass_M[nodes], kind="stable")[:most]])


def _checked(graph: GraphData, directions: Any) -> Directions | None:
    """Return the source of directions. Raises ArgumentError for an array that has no finite row for each feature."""
    if directions is None or callable(directions):
        return directions
    array_ND, n_features = np.asarray(directions), graph.order.n_features
    if array_ND.dtype.kind not in "fiu" or array_ND.ndim != 2 or len(array_ND) != n_features:
        raise ArgumentError(
            f"invalid directions of {array_ND.dtype} {array_ND.shape}: expected a row for each feature, ({n_features}, D)"
        )
    if not np.isfinite(array_ND).all():
        raise ArgumentError("directions have NaN or infinite values; use zeros for a direction that is not known")
    return lambda nodes: array_ND[nodes]


class _Describer:
    """Describes groups, and gives each its own name."""

    def __init__(self, graph: GraphData, nodes: np.ndarray, mass_M: np.ndarray, effect_n: np.ndarray, target: str):
        self.graph, self.nodes, self.mass_M, self.effect_n, self.target = graph, nodes, mass_M, effect_n, target
        self.labels = node_labels(graph)
        users = (group["name"] for group in graph.info.get("groups", []) if not is_suggested(group))
        self.taken = {*users, *self.labels.values()}

    def __call__(self, group: np.ndarray, similarity: float, parts: dict[str, np.ndarray]) -> SuggestedGroup:
        ranked = group[np.argsort(-self.mass_M[self.nodes[group]], kind="stable")]
        numbers = self.nodes[ranked].tolist()
        members = tuple(node for node in node_names(self.graph, numbers) if isinstance(node, Feature))
        effect = float(self.effect_n[group].sum())
        label = label_of([self.labels.get(member, "") for member in members], self.mass_M[numbers].tolist())
        name = name_of(label, effect, self.target, self.taken)
        self.taken.add(name)
        return SuggestedGroup(
            name=name,
            label=label,
            nodes=tuple(numbers),
            members=members,
            influence=float(self.mass_M[numbers].sum()),
            effect=effect,
            similarity=similarity,
            reason=reason_of({part: mean_between(cosine, group) for part, cosine in parts.items()}),
        )
