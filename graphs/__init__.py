"""Attribution graphs: node order, file format, influence, scores, pruning, paths, pictures and exchange.

This room contains nothing of models. It imports only `common`, and never torch, so a graph can be opened, pruned and
drawn on a machine that could not trace it.

- `Graph`: one prompt's graph, what `Model.trace` returns and `open_graph` reads.
- `data`, `csr`, `order`, `nodes`: its arrays, and the names of its nodes.
- `schema`, `metadata`, `migrations`, `store`, `reader`: its file.
- `influence`, `scores`, `prune`, `pruning_bounds`, `paths`, `effects`: computations on it.
- `rows`: how tracing writes it row by row.
- `drawing/`, `exchange/`: pictures, and other tools' formats.
"""

from .csr import CSR
from .graph import Graph
from .order import NodeKind, NodeOrder
from .paths import Path, describe_path, node_label, strongest_paths
from .prune import PruneConfig
from .reader import open_graph
from .rows import RowWriter
from .scores import GraphScores

__all__ = [
    "CSR",
    "Graph",
    "GraphScores",
    "NodeKind",
    "NodeOrder",
    "Path",
    "PruneConfig",
    "RowWriter",
    "describe_path",
    "node_label",
    "open_graph",
    "strongest_paths",
]
