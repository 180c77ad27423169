"""Edge rows: gradients of targets against the vectors written at one layer."""

from .api import SourceVectors, edge_rows, has_small_groups, position_rows

__all__ = ["SourceVectors", "edge_rows", "has_small_groups", "position_rows"]
