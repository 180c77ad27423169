"""Public face of the edge-row operation."""

from typing import NamedTuple

from torch import Tensor

from .grouped import edge_rows as grouped_edge_rows
from .reference import edge_rows as reference_edge_rows

DEFAULT = "torch"
BACKENDS = {"reference": reference_edge_rows, "torch": grouped_edge_rows}


class Written(NamedTuple):
    """Vectors written at one layer, grouped by position.

    Group p holds `vectors[offsets[p]:offsets[p + 1]]`; its products go to the consecutive columns
    that start at `columns[p]`.
    """

    vectors_ED: Tensor
    offsets: list[int]  # P + 1
    columns: list[int]  # P


def edge_rows(grad_QTD: Tensor, first: int, written: Written, rows_TC: Tensor, *, backend: str = DEFAULT) -> None:
    """Add each gradient's dot products with the vectors of its position to the rows, in place.

    `grad_QTD` holds T targets' gradients at the Q positions first, first + 1, …; `rows_TC` the T
    rows that are being built. `rows[t, columns[p] + i] += grad[p - first, t] . vectors[offsets[p] + i]`.
    """
    if backend not in BACKENDS:
        raise ValueError(f"edge_rows has no backend {backend!r}; choose one of {', '.join(BACKENDS)}")
    BACKENDS[backend](grad_QTD, first, written.vectors_ED, written.offsets, written.columns, rows_TC)
