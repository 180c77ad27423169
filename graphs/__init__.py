"""Attribution graphs: node order, file format, influence, scores, pruning, paths, pictures and exchange.

This room knows nothing about models. It imports only `common`, and never torch, so that a graph can be opened, pruned
and drawn on a machine that could not trace it.

- `Graph`: one prompt's graph; `Model.trace` returns it and `open_graph` reads it.
- `data`, `csr`, `order`, `nodes`, `labels`: arrays of a graph, and names of its nodes.
- `annotations`, `label_columns`: names, groups, notes and labels that a graph is given.
- `schema`, `metadata`, `migrations`, `checksums`, `packed`, `store`, `reader`, `checks`: graph files.
- `influence`, `scores`, `prune`, `pruning_bounds`, `effects`: computations on graphs.
- `sampling`, `sampled_facts`, `shares`, `uncertainty`, `merging`: influence from rows that were drawn at random.
- `paths`, `query`, `flow`, `subgraph`, `node_sets`: queries, between any nodes.
- `saved_effects`: the effects on targets that a trace saves with the nodes.
- `attention_scores`, `top_pairs`: why a head attends where it does.
- `target_choice`, `summary`, `usual`, `verdicts`: the answer that `cotrace show` prints.
- `rows`: writes the rows of a trace to disk.
- `grouping/`: groups of features that do the same.
- `drawing/`, `exchange/`: pictures, and formats of other tools.
"""

from .attention_scores import AttentionScore
from .csr import CSR
from .effect_table import Effects
from .flow import Flow
from .graph import Graph
from .labels import Label, node_label, short_label
from .order import NodeKind, NodeOrder
from .paths import Path, describe_path, strongest_paths
from .prune import PruneConfig
from .reader import open_graph
from .rows import RowWriter
from .scores import GraphScores
from .summary import GraphSummary, ShownKind, summarize
from .target_choice import choose_targets

__all__ = [
    "CSR",
    "AttentionScore",
    "Effects",
    "Flow",
    "Graph",
    "GraphScores",
    "GraphSummary",
    "Label",
    "NodeKind",
    "NodeOrder",
    "Path",
    "PruneConfig",
    "RowWriter",
    "ShownKind",
    "choose_targets",
    "describe_path",
    "node_label",
    "open_graph",
    "short_label",
    "strongest_paths",
    "summarize",
]
