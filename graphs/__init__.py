"""Attribution graphs as files: node order, Arrow schema, influence, pruning, scores, pictures.

This room knows nothing of models: it imports neither torch nor any other room, so a graph can be
opened, pruned and drawn on a machine that could never have traced it.
"""

from .graph import Graph
from .order import NodeOrder
from .paths import Path, describe_path, node_label, strongest_paths
from .reader import open_graph
from .rows import RowWriter
from .scores import Scores

__all__ = [
    "Graph",
    "NodeOrder",
    "Path",
    "RowWriter",
    "Scores",
    "describe_path",
    "node_label",
    "open_graph",
    "strongest_paths",
]
