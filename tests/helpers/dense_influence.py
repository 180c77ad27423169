"""Influence by dense linear algebra in float64, and small graphs written by hand."""

import numpy as np

from cotrace.graphs import CSR
from cotrace.graphs.csr import indptr_of


def normalised(matrix):
    totals = np.abs(matrix).sum(1, keepdims=True)
    return np.abs(matrix) / np.where(totals > 0, totals, 1)


def neumann(matrix, weights):
    """Return w (Ahat + Ahat^2 + …), summed term by term."""
    term, total = weights, np.zeros_like(weights)
    for _ in range(len(weights)):
        term = term @ normalised(matrix)
        total = total + term
    return total


def csr_of(rows):
    """Return the CSR of a list of {source: weight}."""
    indices = np.array([source for row in rows for source in row], np.int32)
    weights = np.array([weight for row in rows for weight in row.values()], np.float32)
    return CSR(indptr_of([*map(len, rows)]), indices, weights)
