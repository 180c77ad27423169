"""Edge rows as one matrix product of the vendor's a position, added straight into the rows' columns."""

from torch import Tensor

from .source_vectors import SourceVectors


def edge_rows(grad_QTD: Tensor, first: int, written: SourceVectors, rows_TC: Tensor) -> None:
    """A grouped matrix product with groups of any size; see `api.edge_rows`."""
    groups = zip(written.transposed[first:], written.columns[first:], written.sizes[first:], strict=True)
    for grad_TD, (vectors_Dn, column, size) in zip(grad_QTD, groups, strict=False):
        if size:
            rows_TC.narrow(1, column, size).addmm_(grad_TD, vectors_Dn)


def position_rows(grad_QTD: Tensor, vectors_KQD: Tensor) -> Tensor:
    """A batched product with few columns; see `api.position_rows`."""
    return (grad_QTD @ vectors_KQD.permute(1, 2, 0)).permute(2, 0, 1)
