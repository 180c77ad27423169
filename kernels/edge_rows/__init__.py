"""Edge rows: dot products of targets' gradients with the source vectors of one layer, and their transpose."""

from .api import SourceVectors, add_source_vectors, edge_rows, has_small_groups, position_rows

__all__ = ["SourceVectors", "add_source_vectors", "edge_rows", "has_small_groups", "position_rows"]
