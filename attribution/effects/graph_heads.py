"""Head loadings of all edges of a graph."""

import numpy as np
import torch

from cotrace.attribution.models.memory import check_memory, free_memory
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.common.progress import Progress
from cotrace.graphs import Graph
from cotrace.graphs.annotations import node_names

from .edge_ends import Edges, EdgeSources, EdgeTargets
from .head_requests import graph_targets, resolve_targets
from .heads import last_heads


def with_heads(graph: Graph, replacement: LocalReplacementModel, progress: Progress) -> Graph:
    """Return a graph with the head loadings of all its edges, by the last head that a path passes.

    Raises ArgumentError for targets that are directions, and for features that are not active; ResourceError for more edges
    than fit into memory.
    """
    source_M, source_E = np.unique(graph.csr.indices, return_inverse=True)
    target_M, target_E = np.unique(graph.csr.edge_targets(), return_inverse=True)
    targets = graph_targets(graph, target_M.tolist())
    _require_memory(graph, replacement)
    edges = Edges(
        EdgeSources(replacement, node_names(graph, source_M.tolist())),
        EdgeTargets(replacement, resolve_targets(replacement, targets)),
        torch.as_tensor(source_E, device=replacement.device),
        torch.as_tensor(target_E, device=replacement.device),
    )
    with progress.phase("splitting edges by heads", len(edges.sources)) as step:
        return graph.with_head_loadings(last_heads(replacement, edges, step).cpu().numpy())


def _require_memory(graph: Graph, replacement: LocalReplacementModel) -> None:
    """Raise ResourceError for more loadings than fit into memory."""
    n_heads = replacement.n_layers * len(replacement.attention[0][1])
    needed = (
        2 * graph.n_edges * n_heads * replacement.embedding_PD.itemsize
    )  # the table by edge and head, and the column
    what = f"the head loadings of {graph.n_edges:,} edges"
    check_memory(needed, free_memory(replacement.device), what, "prune the graph to fewer edges")
