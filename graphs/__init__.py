"""Attribution graphs as files: node order, Arrow schema, influence, pruning, scores, pictures.

This room knows nothing of models: it imports neither torch nor any other room, so a graph can be
opened, pruned and drawn on a machine that could never have traced it.
"""

from .graph import Graph
from .order import NodeOrder
from .rows import RowSpool
from .scores import Scores
from .reader import open_graph

__all__ = ["Graph", "NodeOrder", "RowSpool", "Scores", "open_graph"]
