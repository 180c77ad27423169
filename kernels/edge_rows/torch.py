"""Edge rows as one BLAS or cuBLAS matrix product per position, added directly to the rows' columns."""

from torch import Tensor

from .source_vectors import SourceVectors


def edge_rows(grad_QTD: Tensor, first: int, sources: SourceVectors, rows_TC: Tensor) -> None:
    """Compute one product per group; see `api.edge_rows`."""
    groups = zip(sources.transposed[first:], sources.columns[first:], sources.sizes[first:], strict=True)
    for grad_TD, (vectors_Dn, column, size) in zip(grad_QTD, groups, strict=False):
        if size:
            rows_TC.narrow(1, column, size).addmm_(grad_TD, vectors_Dn)


def add_source_vectors(weights_TC: Tensor, first: int, sources: SourceVectors, grad_QTD: Tensor) -> None:
    """Compute one product per group; see `api.add_source_vectors`."""
    groups = zip(sources.transposed[first:], sources.columns[first:], sources.sizes[first:], strict=True)
    for grad_TD, (vectors_Dn, column, size) in zip(grad_QTD, groups, strict=False):
        if size:
            grad_TD.addmm_(weights_TC.narrow(1, column, size), vectors_Dn.T)


def position_rows(grad_QTD: Tensor, vectors_KQD: Tensor) -> Tensor:
    """Compute one batched product with few columns; see `api.position_rows`."""
    return (grad_QTD @ vectors_KQD.permute(1, 2, 0)).permute(2, 0, 1)
