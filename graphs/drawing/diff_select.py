"""Selection of the nodes and edges of two graphs that a picture shows."""

import numpy as np

from cotrace.graphs.diff.matching import ERROR, LOGIT, TOKEN
from cotrace.graphs.diff.tables import EdgesSideBySide

from .select import ERRORS_SHARE, MANY_TOKENS, EdgeTable


def strongest_units(
    kind_U: np.ndarray,
    column_U: np.ndarray,
    score_U: np.ndarray,
    target_weight_U: np.ndarray,
    edges: EdgesSideBySide,
    max_nodes: int,
) -> np.ndarray:
    """Return the sorted numbers of at most `max_nodes` units: targets, and those with the highest score.

    Every column that is used has its tokens, one or two. Features and errors without an edge to a shown unit give way to the
    next ones, so that a cut picture shows connected paths. All units are shown where the limit allows.
    """
    wanted = (kind_U != LOGIT) | (target_weight_U > 0)
    if wanted.sum() <= max_nodes:
        return np.flatnonzero(wanted)
    inner = ~np.isin(kind_U, (TOKEN, LOGIT)) & (target_weight_U == 0)
    excluded = np.zeros(len(kind_U), bool)
    while True:
        shown = _choose(kind_U, column_U, np.where(excluded, 0.0, score_U), target_weight_U, max_nodes)
        dangling = np.setdiff1d(shown[inner[shown]], edges_between(edges, shown).source)
        if not len(dangling):
            return shown
        excluded[dangling] = True


def edges_between(edges: EdgesSideBySide, units: np.ndarray) -> EdgeTable:
    """Return the edges between some units; as the weight of each its number, as its influence the larger one of both graphs."""
    inside = np.zeros(
        int(max(edges.source.max(initial=0), edges.target.max(initial=0), units.max(initial=0))) + 1, bool
    )
    inside[units] = True
    kept = np.flatnonzero(inside[edges.source] & inside[edges.target])
    influence = edges.larger[kept]
    return EdgeTable(edges.source[kept], edges.target[kept], kept.astype(np.float64), influence, influence)


def _choose(
    kind_U: np.ndarray, column_U: np.ndarray, score_U: np.ndarray, target_weight_U: np.ndarray, max_nodes: int
) -> np.ndarray:
    """Return the sorted numbers of the chosen units, added in order of importance until there are `max_nodes`."""
    tokens: dict[int, list[int]] = {}
    for unit in np.flatnonzero(kind_U == TOKEN).tolist():
        tokens.setdefault(int(column_U[unit]), []).append(unit)
    shown: set[int] = set()

    def add(scores: np.ndarray, limit: int) -> None:
        for unit in _ranked(scores):
            with_tokens = shown | {unit, *tokens.get(int(column_U[unit]), [])}
            if len(with_tokens) <= limit:
                shown.update(with_tokens)
            elif len(shown) >= limit:
                break

    is_token, is_error = kind_U == TOKEN, kind_U == ERROR
    add(target_weight_U, max(2, max_nodes // 2))
    if is_token.sum() <= min(max_nodes // 4, MANY_TOKENS):
        shown.update(np.flatnonzero(is_token).tolist())
    free = max_nodes - len(shown)
    add(np.where(is_token | is_error, 0.0, score_U), max_nodes - round(free * ERRORS_SHARE))
    add(np.where(is_error, score_U, 0.0), max_nodes)
    add(np.where(is_token, 0.0, score_U), max_nodes)
    add(score_U, max_nodes)
    return np.array(sorted(shown))


def _ranked(scores_U: np.ndarray) -> list[int]:
    """Return the units with positive scores, highest first."""
    units = np.flatnonzero(scores_U > 0)
    return units[np.argsort(-scores_U[units], kind="stable")].tolist()
