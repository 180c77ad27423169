"""Hierarchical clustering of features by similarity, with a limit on the size of a group."""

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform


def clusters(similarity_nn: np.ndarray, class_n: np.ndarray, least: float, max_size: int) -> list[np.ndarray]:
    """Return groups of at least two features, each as ascending indices; features that fit nowhere are in none.

    Average linkage joins the two parts of the largest mean similarity, step by step. A part becomes a group if it was joined
    at a similarity of at least `least` and has at most `max_size` members; otherwise its two halves are looked at. The result
    depends on the similarities only.

    Args:
        similarity_nn: similarity of every two features, symmetric.
        class_n: class of every feature, as an integer; no group has features of two classes.
        least: the least mean similarity of two parts that are joined.
        max_size: the most members of a group.
    """
    found: list[np.ndarray] = []
    for one in np.unique(class_n):
        members = np.flatnonzero(class_n == one)
        if len(members) > 1:
            found += [
                members[group] for group in _cut(_merges(similarity_nn[np.ix_(members, members)]), least, max_size)
            ]
    return found


def _merges(similarity_nn: np.ndarray) -> np.ndarray:
    """Return the merges of average linkage, (n - 1, 4), as SciPy has them; a distance is 1 − similarity."""
    distance_nn = np.maximum(1 - similarity_nn, 0)
    np.fill_diagonal(distance_nn, 0)
    return linkage(squareform(distance_nn, checks=False), "average")


def _cut(merges: np.ndarray, least: float, max_size: int) -> list[np.ndarray]:
    """Return the largest parts that were joined at a similarity of at least `least` and have at most `max_size` members."""
    n = len(merges) + 1
    members: list[list[int]] = [[i] for i in range(n)]
    members += [[] for _ in merges]
    is_group = np.zeros(2 * n - 1, np.bool_)
    for step, (left, right, distance, size) in enumerate(merges):
        # Average linkage never joins at a smaller distance than before, so that the parts of a group would be groups.
        if distance <= 1 - least + 1e-9 and size <= max_size:
            part, halves = n + step, (int(left), int(right))
            members[part] = sorted(members[halves[0]] + members[halves[1]])
            is_group[part] = True
            is_group[list(halves)] = False
    return [np.array(members[part]) for part in np.flatnonzero(is_group)]
