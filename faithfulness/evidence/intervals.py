"""Intervals of shares and of their differences, for small samples. Imports no torch."""

from math import sqrt
from typing import NamedTuple

Z_95 = 1.959963984540054  # a standard normal is further from 0 in 5% of the cases


class Share(NamedTuple):
    """A share of rows, as two counts: `some` of `rows`."""

    some: int
    rows: int

    @property
    def value(self) -> float | None:
        """The share; None without a row."""
        return self.some / self.rows if self.rows else None

    @property
    def others(self) -> "Share":
        """The share of the other rows."""
        return Share(self.rows - self.some, self.rows)


def wilson(share: Share, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a share; 0 to 1 without a row."""
    some, n = share
    if n == 0:
        return 0.0, 1.0
    centre, spread = some + z * z / 2, z * sqrt(some * (n - some) / n + z * z / 4)
    return max(0.0, (centre - spread) / (n + z * z)), min(1.0, (centre + spread) / (n + z * z))


def difference_interval(one: Share, other: Share) -> tuple[float, float]:
    """Return Newcombe's hybrid score interval of the difference of two shares, one − other, at 95%.

    It combines the two Wilson intervals (Newcombe 1998, method 10), and is −1 to 1 if one of the two has no row.
    """
    p, q = one.value, other.value
    if p is None or q is None:
        return -1.0, 1.0
    (low_p, high_p), (low_q, high_q) = wilson(one), wilson(other)
    return p - q - sqrt((p - low_p) ** 2 + (high_q - q) ** 2), p - q + sqrt((high_p - p) ** 2 + (q - low_q) ** 2)
