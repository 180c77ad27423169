"""Edge rows in plain mathematics: what every implementation must agree with."""

from torch import Tensor


def edge_rows(
    grad_QTD: Tensor, first: int, vectors_ED: Tensor, offsets: list[int], columns: list[int], rows_TC: Tensor
) -> None:
    """One dot product an entry; see `api.edge_rows`."""
    for q, grad_TD in enumerate(grad_QTD):
        p = first + q
        for i, vector_D in enumerate(vectors_ED[offsets[p] : offsets[p + 1]]):
            rows_TC[:, columns[p] + i] += (grad_TD * vector_D).sum(-1)
