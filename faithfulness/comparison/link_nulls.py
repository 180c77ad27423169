"""The null of a link: the share that similar tokens have which the text does not cite."""

from collections.abc import Mapping, Sequence

import numpy as np

MATCHES = 4  # nearest tokens with which each token of a source is compared


def link_null(
    size_P: np.ndarray, kinds: Sequence[object], source: Sequence[int], uncited: Sequence[int], total: float
) -> float | None:
    """Return the share that uncited tokens of the same kinds near a source would have, at least 0; None if there are none.

    Each token of the source counts as the mean size of the `MATCHES` nearest uncited tokens of its kind, and as 0 if there are
    none. The result is also None if `total` is 0.

    Args:
        size_P: absolute effect of each token on the target (P,), in logits.
        kinds: kind of each token, P of them.
        source: positions of the source.
        uncited: positions that the target's statement does not cite, without the source.
        total: the size of which shares are taken, in logits (`informative_size`).
    """
    by_kind: Mapping[object, list[int]] = {kind: [p for p in uncited if kinds[p] == kind] for kind in set(kinds)}
    expected, matched = 0.0, False
    for position in source:
        near = sorted(by_kind[kinds[position]], key=lambda p: abs(p - position))[:MATCHES]
        matched |= bool(near)
        expected += float(size_P[near].mean()) if near else 0.0
    return expected / total if matched and total > 0 else None
