"""Edge rows as one matrix product a position, added straight into the rows' columns."""

from torch import Tensor


def edge_rows(
    grad_QTD: Tensor, first: int, vectors_ED: Tensor, offsets: list[int], columns: list[int], rows_TC: Tensor
) -> None:
    """A grouped matrix product with groups of any size; see `api.edge_rows`."""
    for q, grad_TD in enumerate(grad_QTD):
        start, stop = offsets[first + q], offsets[first + q + 1]
        if start < stop:
            column = columns[first + q]
            rows_TC[:, column : column + stop - start].addmm_(grad_TD, vectors_ED[start:stop].T)
