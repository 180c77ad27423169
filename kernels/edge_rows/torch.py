"""Edge rows as one matrix product of the vendor's a position, added straight into the rows' columns."""

from torch import Tensor

from .written import Written


def edge_rows(grad_QTD: Tensor, first: int, written: Written, rows_TC: Tensor) -> None:
    """A grouped matrix product with groups of any size; see `api.edge_rows`."""
    for q, grad_TD in enumerate(grad_QTD):
        start, stop = written.offsets[first + q], written.offsets[first + q + 1]
        if start < stop:
            column = written.columns[first + q]
            rows_TC[:, column : column + stop - start].addmm_(grad_TD, written.vectors_ED[start:stop].T)


def position_rows(grad_QTD: Tensor, vectors_KQD: Tensor) -> Tensor:
    """A batched product with few columns; see `api.position_rows`."""
    return (grad_QTD @ vectors_KQD.permute(1, 2, 0)).permute(2, 0, 1)
