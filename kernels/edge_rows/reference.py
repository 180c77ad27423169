"""Edge rows in plain mathematics; every other backend must agree with it."""

import torch
from torch import Tensor


def edge_rows(grad_QTD: Tensor, first: int, sources, rows_TC: Tensor) -> None:
    """Compute one dot product per entry; see `api.edge_rows`."""
    for q, grad_TD in enumerate(grad_QTD):
        start, stop, column = sources.groups_P3[first + q].tolist()
        for i, vector_D in enumerate(sources.vectors_ED[start:stop]):
            rows_TC[:, column + i] += (grad_TD * vector_D).sum(-1)


def add_source_vectors(weights_TC: Tensor, first: int, sources, grad_QTD: Tensor) -> None:
    """Add one scaled vector per entry; see `api.add_source_vectors`."""
    for q, grad_TD in enumerate(grad_QTD):
        start, stop, column = sources.groups_P3[first + q].tolist()
        for i, vector_D in enumerate(sources.vectors_ED[start:stop]):
            grad_TD += weights_TC[:, column + i, None] * vector_D


def position_rows(grad_QTD: Tensor, vectors_KQD: Tensor) -> Tensor:
    """Compute one dot product per entry; see `api.position_rows`."""
    return torch.stack([(grad_QTD * vector_QD[:, None]).sum(-1) for vector_QD in vectors_KQD])
