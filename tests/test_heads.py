"""Head loadings add up to edges, and equal those of a reference from which single heads are removed."""

import numpy as np
import pytest
import torch
from helpers.graph_reference import GraphReference
from tiny import KINDS, prompt

from cotrace.attribution.effects.edge_ends import Edges, EdgeSources, EdgeTargets
from cotrace.attribution.effects.heads import edge_heads
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.attribution.tracing.targets import TargetRequest
from cotrace.graphs.annotations import node_names


def all_edges(model, graph, masked):
    """Return all edges of a graph in the order of its CSR arrays, and their targets' numbers in the graph."""
    order = graph.order
    replacement = model.replacement(prompt(), masked_positions=masked)
    config = TraceConfig()
    nodes = [*range(order.n_features), *range(order.logits.start, order.logits.stop)]
    ids = [t["token_ids"][0] for t in graph.info["targets"]]
    named = [*node_names(graph, range(order.n_features)), *ids]
    request = TargetRequest.parse(named, config, prompt(), model.tokenizer, model.architecture.d_model)
    targets = EdgeTargets(replacement, request.resolve(replacement))
    sources = EdgeSources(replacement, node_names(graph, range(order.n_editable)))
    target_E = np.searchsorted(nodes, graph.csr.edge_targets())
    pairs = torch.tensor(graph.csr.indices, dtype=torch.long), torch.tensor(target_E)
    return replacement, Edges(sources, targets, *pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [None, [3, 6]], ids=["default", "masked"])
@torch.no_grad()
def test_loadings_add_up_to_every_edge(model_of, kind, masked):
    model = model_of(kind)
    graph = model.trace(prompt(), masked_positions=masked, progress=False)
    replacement, edges = all_edges(model, graph, masked)
    heads = edge_heads(replacement, edges)
    weights = torch.from_numpy(graph.csr.weights.copy())
    tolerance = 1e-9 * float(weights.abs().max())
    for loading_ELH in (heads.last_ELH, heads.first_ELH):
        assert (heads.direct_E + loading_ELH.sum((1, 2)) - weights).abs().max() < tolerance
    assert heads.one_hop_ELH.abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["clt-affine", "per-layer", "neurons"])
@torch.no_grad()
def test_loadings_are_what_the_removal_of_single_heads_changes(model_of, model_folder, kind):
    model = model_of(kind)
    graph = model.trace(prompt(), masked_positions=[3, 6], progress=False)
    heads = edge_heads(*all_edges(model, graph, [3, 6]))
    reference = GraphReference(model, model_folder, graph, [3, 6])
    rows, columns = graph.csr.edge_targets(), graph.csr.indices.astype(np.int64)

    def edges(kept):
        return reference.edges(kept)[rows, columns]

    sites = list(np.ndindex(heads.last_ELH.shape[1:]))
    without_heads = edges([])
    tolerance = 1e-9 * float(np.abs(graph.csr.weights).max())
    assert (heads.direct_E - without_heads).abs().max() < tolerance
    for layer, head in sites:
        below, above = [s for s in sites if s[0] < layer], [s for s in sites if s[0] > layer]
        last = edges([*below, (layer, head)]) - edges(below)
        first = edges([*above, (layer, head)]) - edges(above)
        only = edges([(layer, head)]) - without_heads
        for found_ELH, expected_E in zip(heads[1:], (last, first, only), strict=True):
            assert (found_ELH[:, layer, head] - expected_E).abs().max() < tolerance
