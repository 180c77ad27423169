"""The null of a link: what its share would be if its tokens were any tokens of the same kind that the text does not cite."""

from collections.abc import Mapping, Sequence

import numpy as np

MATCHES = 4  # tokens that each token of a source is matched with


def link_null(
    size_P: np.ndarray, kinds: Sequence[object], source: Sequence[int], uncited: Sequence[int], total: float
) -> float | None:
    """Return the share that a source would have by its tokens' kinds and distances alone.

    Each token of the source counts as the mean of the uncited tokens of its kind, of these the `MATCHES` at the most similar
    distance. None if no token has a match, or the target has no effects.

    Args:
        size_P: absolute effect of each token on the target.
        kinds: kind of each token.
        source: positions of the source.
        uncited: positions that the target's statement does not cite, without the source.
        total: what shares are shares of.
    """
    by_kind: Mapping[object, list[int]] = {kind: [p for p in uncited if kinds[p] == kind] for kind in set(kinds)}
    expected, matched = 0.0, False
    for position in source:
        near = sorted(by_kind[kinds[position]], key=lambda p: abs(p - position))[:MATCHES]
        matched |= bool(near)
        expected += float(size_P[near].mean()) if near else 0.0
    return expected / total if matched and total > 0 else None
