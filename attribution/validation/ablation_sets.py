"""Choose which nodes of a graph a validation ablates, alone and together."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph, node_label, strongest_paths
from cotrace.graphs.annotations import NodeName, numbers_of

from .config import ValidationConfig

GROUP_SIZES = (3, 10, 30)  # of the groups of the most influential features
MAX_ERROR_NODES = MAX_TOKENS = 10
PATHS_SEARCHED = (4, 32, 256)  # factors of `paths`: search more until enough have features


class AblationSets(NamedTuple):
    """The nodes of a graph that are ablated, each set on its own.

    Attributes:
        top: the most influential features, the most influential first.
        errors: the most influential error nodes.
        tokens: the most influential tokens.
        groups: nodes that are ablated together, by name.
        paths: features of the strongest paths, each with the path's name.
        sample: features drawn at random, some of which may be in `top`.
    """

    top: list[int]
    errors: list[int]
    tokens: list[int]
    groups: dict[str, tuple[int, ...]]
    paths: list[tuple[tuple[int, ...], str]]
    sample: set[int]

    @property
    def single(self) -> list[int]:
        """Nodes that are ablated alone because of their influence."""
        return self.top + self.errors + self.tokens

    @property
    def with_controls(self) -> list[tuple[int, ...]]:
        """Sets that have controls: single nodes, groups and paths, in this order."""
        return [*((node,) for node in self.single), *self.groups.values(), *(path for path, _ in self.paths)]

    @property
    def rest_of_sample(self) -> list[int]:
        """Features of the sample that are not in `top`, ascending."""
        return sorted(self.sample - set(self.top))

    @property
    def all_sets(self) -> list[tuple[int, ...]]:
        """All sets: those with controls, then the rest of the sample."""
        return [*self.with_controls, *((node,) for node in self.rest_of_sample)]


def choose_ablation_sets(
    graph: Graph, config: ValidationConfig, groups: Mapping[str, Iterable[NodeName]], random: np.random.Generator
) -> AblationSets:
    """Choose what is ablated of a graph; targets are measured and never ablated alone.

    Raises ArgumentError for invalid groups, and for a graph whose features and error nodes have no influence.
    """
    influence_M = graph.column("influence").astype(np.float64)
    targets = set(target_nodes(graph))
    features = [n for n in _by_influence(influence_M, range(graph.order.n_features)) if n not in targets]
    errors = _by_influence(influence_M, range(graph.order.errors.start, graph.order.errors.stop))[:MAX_ERROR_NODES]
    tokens = _by_influence(influence_M, range(graph.order.tokens.start, graph.order.tokens.stop))[:MAX_TOKENS]
    if not features and not errors:
        raise ArgumentError("the graph has no feature and no error node with influence; prune it less, or not at all")
    sample = random.choice(features, min(config.sample, len(features)), replace=False).tolist() if features else []
    sizes = [size for size in GROUP_SIZES if size < len(features)]
    top_groups = {f"{size} most influential features": tuple(features[:size]) for size in sizes}
    named = top_groups | _checked_groups(graph, groups, top_groups)
    paths = _feature_paths(graph, config.paths, targets)
    return AblationSets(features[: config.nodes], errors, tokens, named, paths, set(sample))


def target_nodes(graph: Graph) -> list[int]:
    """Return the node numbers of a graph's targets."""
    return [target["node"] for target in graph.info["targets"]]


def _by_influence(influence_M: np.ndarray, nodes: range) -> list[int]:
    """Return the nodes that have influence, the most influential first."""
    return sorted((n for n in nodes if influence_M[n] > 0), key=lambda n: -influence_M[n])


def _checked_groups(
    graph: Graph, groups: Mapping[str, Iterable[NodeName]], reserved: Iterable[str]
) -> dict[str, tuple[int, ...]]:
    """Return the user's groups as node numbers.

    Raises ArgumentError for one that is empty, names a node twice or a node that does not exist, or has a reserved name.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name, members in groups.items():
        found[name] = tuple(numbers_of(graph, members)) if isinstance(members, Iterable) else ()
        if not found[name]:
            raise ArgumentError(f"the group {name!r} has no nodes; give a list with at least one, or leave it out")
        if len(set(found[name])) < len(found[name]):
            raise ArgumentError(f"the group {name!r} names a node twice; name each once")
        if name in reserved:
            raise ArgumentError(f"the group {name!r} is always ablated; give yours another name")
    return found


def _feature_paths(graph: Graph, count: int, targets: set[int]) -> list[tuple[tuple[int, ...], str]]:
    """Return the features on the strongest paths, without targets, each set of features once, with a name."""
    found: dict[tuple[int, ...], str] = {}
    for n_searched in [times * count for times in PATHS_SEARCHED] if count else [0]:
        paths = strongest_paths(graph, count=n_searched)
        for path in paths:
            features = tuple(n for n in path.nodes if n < graph.order.n_features and n not in targets)
            if features:
                found.setdefault(features, " → ".join(node_label(graph, n) for n in path.nodes))
        if len(found) >= count or len(paths) < n_searched:
            break
    return list(found.items())[:count]
