"""Summary of what a graph says about its targets, features first: direct edges, the nodes that matter most, strongest paths."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from .data import GraphData
from .effects import total_effects
from .order import KINDS
from .paths import Path, strongest_paths
from .saved_effects import expected_sizes, has_effects, saved_effects
from .target_choice import choose_targets, chosen_weights
from .uncertainty import standard_errors
from .usual import usual_activations


class ShownKind(StrEnum):
    """The kind of nodes that a summary lists."""

    FEATURE = "feature"
    ERROR = "error"
    TOKEN = "token"
    ALL = "all"


@dataclass(frozen=True)
class NodeSummary:
    """A node with its influence and effects."""

    node: int
    influence: float
    """Share of all influence on the targets that passes through the node or starts there, 0 to 1."""
    activation: float | None
    """Of a feature."""
    usual: float | None
    """Mean activation of the feature over the positions of the graph at which it is active."""
    effects: tuple[float, ...]
    """Signed effect on each target, in the order of `GraphSummary.targets`; see `effects.total_effects`."""
    expected_effects: tuple[float, ...] | None = None
    """Change of each target that is expected when the node is ablated; None for a graph without effects."""
    expected_size: float | None = None
    """Absolute expected effect, averaged over the targets by their weights."""
    standard_error: float = 0.0
    """Of the influence, in a graph from sampled rows; in a pruned one, that of the traced graph's influence."""
    traced_influence: float | None = None
    """In what was cut from a graph of sampled rows: the influence on all targets that was estimated there; else None."""


@dataclass(frozen=True)
class LastSteps:
    """Sources of the influence on the targets in its last step, as shares that add up to 1."""

    features: float
    tokens: float
    errors: float
    strongest_tokens: tuple[Path, ...]
    """The strongest edges from a token straight to a target."""


@dataclass(frozen=True)
class GraphSummary:
    """The answer of `summarize`."""

    targets: list[dict[str, Any]]
    """The targets that everything else is about, heaviest first."""
    last_steps: LastSteps
    nodes: list[NodeSummary]
    """The nodes with the largest expected effects; of a graph without effects, the most influential ones."""
    paths: list[Path]
    """The strongest paths from a token; a strength is a share of the influence on the chosen targets."""
    ranked_by: str = "influence"
    """The measure that ranks the nodes: "expected effect" or "influence"."""


def summarize(
    graph: GraphData,
    target: int | str | None = None,
    *,
    kind: ShownKind | str = ShownKind.FEATURE,
    n_nodes: int = 10,
    n_paths: int = 5,
    min_length: int = 2,
) -> GraphSummary:
    """Return the direct edges, the nodes that matter most and the strongest paths to one target or to all.

    Nodes are ranked by the size of their expected effect, or by influence where the graph has no effects. All other numbers
    are along the edges of this graph; those of a pruned graph lack the pruned edges.

    Args:
        graph: the graph.
        target: as in `choose_targets`: by default one target that dominates, or else all.
        kind: the kind of nodes to list.
        n_nodes: number of nodes.
        n_paths: number of paths.
        min_length: number of edges that a path has at least; with 2 it runs through at least one feature.

    Raises:
        ArgumentError: the graph has no such target, or `min_length` is below 1.
    """
    targets = choose_targets(graph, target)
    return GraphSummary(
        targets=targets,
        last_steps=_last_steps(graph, targets),
        nodes=_strongest_nodes(graph, targets, ShownKind(kind), n_nodes),
        paths=_paths_to(graph, targets, n_paths, min_length),
        ranked_by="expected effect" if has_effects(graph) else "influence",
    )


def _strongest_nodes(graph: GraphData, targets: list[dict[str, Any]], kind: ShownKind, count: int) -> list[NodeSummary]:
    usual = np.append(usual_activations(graph), np.full(graph.order.n_nodes - graph.order.n_features, np.nan))
    weights, activation = chosen_weights(graph, targets), graph.column("activation")
    influence, errors, sizes = (
        graph.influence_on(weights),
        standard_errors(graph, weights),
        expected_sizes(graph, targets),
    )
    traced = graph.column("influence")
    score = influence if sizes is None else sizes
    listed = score > 0
    if kind != ShownKind.ALL:
        listed &= graph.order.kind_codes() == KINDS.index(kind)
    candidates = np.flatnonzero(listed)
    nodes = candidates[np.argsort(-score[candidates], kind="stable")][:count]
    effects = total_effects(graph, [each["node"] for each in targets])[:, nodes]
    expected = None if sizes is None else saved_effects(graph, targets)[:, nodes]
    return [
        NodeSummary(
            int(node),
            float(influence[node]),
            _known(activation[node]),
            _known(usual[node]),
            tuple(effects[:, rank].tolist()),
            None if expected is None else tuple(expected[:, rank].tolist()),
            None if sizes is None else float(sizes[node]),
            float(errors[node]),
            float(traced[node]) if graph.estimated and not graph.sampled else None,
        )
        for rank, node in enumerate(nodes)
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _last_steps(graph: GraphData, targets: list[dict[str, Any]], n_edges: int = 3) -> LastSteps:
    """Return the shares of the targets' rows by kind of source."""
    codes, total = graph.order.kind_codes(), sum(each["weight"] for each in targets)
    shares = np.zeros(len(KINDS))
    direct: list[Path] = []
    for each in targets:
        sources, weights = graph.csr.row(each["node"])
        share = graph.csr.row_shares(each["node"]) * (each["weight"] / (total or 1.0))
        shares += np.bincount(codes[sources], share, minlength=len(KINDS))
        is_token = np.flatnonzero(codes[sources] == KINDS.index("token"))
        for edge in is_token[np.argsort(-share[is_token], kind="stable")][:n_edges]:
            path = (int(sources[edge]), each["node"])
            direct.append(Path(path, float(share[edge]), 1 if weights[edge] > 0 else -1))
    direct.sort(key=lambda path: -path.strength)
    by_kind = dict(zip(KINDS, shares.tolist(), strict=True))
    return LastSteps(by_kind["feature"], by_kind["token"], by_kind["error"], tuple(direct[:n_edges]))


def _paths_to(graph: GraphData, targets: list[dict[str, Any]], count: int, min_length: int) -> list[Path]:
    one = targets[0]["node"] if len(targets) == 1 else None
    total = sum(each["weight"] for each in targets) or 1.0
    paths = strongest_paths(graph, one, count, min_length=min_length)
    return [path._replace(strength=path.strength / total) for path in paths]
