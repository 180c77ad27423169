"""Edge rows: dot products of targets' gradients with the source vectors of one layer."""

from .api import SourceVectors, edge_rows, has_small_groups, position_rows

__all__ = ["SourceVectors", "edge_rows", "has_small_groups", "position_rows"]
