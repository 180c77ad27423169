"""Pruning against a plain dense implementation of its definition, and invariants of pruned graphs."""

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from helpers.dense_influence import csr_of, neumann, normalised
from helpers.random_graphs import dense, graphs, random_graph
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph, NodeKind, NodeOrder, PruneConfig, open_graph
from cotrace.graphs.drawing.render import svg_text
from cotrace.graphs.prune import score_at_share, select

THRESHOLDS = st.sampled_from([0.0, 0.3, 0.5, 0.8, 0.98, 1.0])
OPTIONS = {"node_threshold": THRESHOLDS, "edge_threshold": THRESHOLDS, "keep_errors": st.booleans()}
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
LOGIT_ONLY = np.array([0, 0, 0, 0, 1.0])


def cut(scores, share):
    """Return the smallest score that is kept. Cases that rounding decides are not tested."""
    ranked = sorted((score for score in scores.ravel() if score > 0), reverse=True)
    reached = np.cumsum(ranked) / max(sum(ranked), 1e-300)
    rank = len(ranked) - 1 if share == 1 else sum(reached < share)
    threshold = ranked[rank] if ranked else math.inf
    assume(share in (0, 1) or all(abs(reached - share) > 1e-9))
    assume(sum(abs(score / threshold - 1) < 1e-9 for score in ranked) <= 1)
    return threshold


def plain_selection(graph, node_threshold, edge_threshold, keep_errors):
    """Return masks of nodes (M,) and edges (M, M), step by step as in docs/influence.md."""
    matrix, weights, kinds = dense(graph), graph.target_weights, graph.order.kind_codes()
    stays = (
        (weights > 0)
        | (kinds == NodeKind.TOKEN)
        | (kinds == NodeKind.LOGIT)
        | (keep_errors & (kinds == NodeKind.ERROR))
    )
    influence = neumann(matrix, weights)
    nodes = (influence >= cut(influence, node_threshold)) | stays
    matrix = np.where(nodes[:, None] & nodes[None], matrix, 0)
    scores = normalised(matrix) * (neumann(matrix, weights) + weights)[:, None]
    edges = scores >= cut(scores, edge_threshold)
    for _ in nodes:
        lonely = ((kinds == NodeKind.FEATURE) | (kinds == NodeKind.ERROR)) & ~edges.any(0)
        lonely |= (kinds == NodeKind.FEATURE) & ~edges.any(1)
        nodes &= ~lonely | stays
        edges &= nodes[:, None] & nodes[None]
    return nodes, edges


def edge_rows(graph):
    return graph.csr.edge_targets()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(graphs(), st.fixed_dictionaries(OPTIONS))
def test_selection_equals_a_plain_dense_implementation(graph, options):
    nodes, edges = plain_selection(graph, **options)
    kept = graph.select(**options)
    assert kept.nodes.tolist() == nodes.tolist()
    assert kept.edges.tolist() == edges[edge_rows(graph), graph.csr.indices].tolist()


@pytest.mark.parametrize("weight", [1.0, 0.1, 3.3e-5])
def test_equal_scores_stay_together(weight):
    # Token 3 → feature 0 → 1 → 2 → logit 4, each edge the only one of its row: all scores are 1.
    csr = csr_of([{3: -weight}, {0: 0.7 * weight}, {1: weight}, {}, {2: weight / 3}])
    for share in (0, 0.3, 0.8, 1):
        kept = select(NodeOrder(3, 0, 1, 1), csr, LOGIT_ONLY, PruneConfig(share, share))
        assert kept.nodes.all()
        assert kept.edges.all()


@settings(max_examples=60, deadline=None)
@given(graphs(), st.fixed_dictionaries(OPTIONS))
def test_the_pruned_graph_is_what_the_masks_say(graph, options):
    kept, pruned = graph.select(**options), graph.prune(**options)
    old = np.flatnonzero(kept.nodes)
    expected = np.zeros((graph.order.n_nodes,) * 2)
    expected[edge_rows(graph)[kept.edges], graph.csr.indices[kept.edges]] = graph.csr.weights[kept.edges]
    assert np.array_equal(dense(pruned), expected[np.ix_(old, old)])
    assert pruned.n_edges == kept.edges.sum()
    carried = [name for name in graph.nodes.column_names if name not in ("node", "sources", "weights", "dropped")]
    assert pruned.nodes.select(carried).to_pylist() == graph.nodes.select(carried).take(old).to_pylist()
    assert pruned.nodes["node"].to_pylist() == list(range(len(old)))
    assert pruned.order == graph.order.keep(kept.nodes)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.fixed_dictionaries(OPTIONS))
def test_tokens_and_targets_stay_and_no_dead_end_is_left(graph, options):
    pruned = graph.prune(**options)
    kinds, matrix = pruned.order.kind_codes(), dense(pruned) != 0
    assert pruned.order.counts[NodeKind.TOKEN :] == graph.order.counts[NodeKind.TOKEN :]
    if options["keep_errors"]:
        assert pruned.order.n_errors == graph.order.n_errors
    free = pruned.target_weights == 0
    assert matrix.any(1)[free & (kinds == NodeKind.FEATURE)].all()
    assert matrix.any(0)[free & (kinds == NodeKind.FEATURE)].all()
    assert matrix.any(0)[free & (kinds == NodeKind.ERROR)].all() or options["keep_errors"]


@settings(max_examples=60, deadline=None)
@given(graphs(), st.fixed_dictionaries(OPTIONS))
def test_targets_are_renumbered(graph, options):
    pruned = graph.prune(**options)
    columns = ["kind", "layer", "position", "feature", "text"]
    for old, new in zip(graph.info["targets"], pruned.info["targets"], strict=True):
        sites = [g.nodes.select(columns).take([t["node"]]).to_pylist() for g, t in ((graph, old), (pruned, new))]
        assert sites[0] == sites[1]
        assert {**new, "node": old["node"]} == old
    assert pruned.info["pruning"] == options
    assert {**pruned.info, "targets": None, "pruning": None} == {**graph.info, "targets": None, "pruning": None}


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_rows_still_add_up_however_often_a_graph_is_pruned(dtype, tolerance):
    for seed in range(20):
        graph = random_graph(seed, feature_targets=1, dtype=dtype)
        total = dense(graph).sum(1) + graph.column("dropped")
        size = np.abs(dense(graph)).sum(1) + 1
        for thresholds in [(0.95, 0.95), (0.7, 0.9), (0.3, 0.5)]:
            kept = graph.select(*thresholds)
            graph, total, size = graph.prune(*thresholds), total[kept.nodes], size[kept.nodes]
            found = dense(graph).sum(1) + graph.column("dropped")
            assert (np.abs(found - total) / size).max() < tolerance
            assert graph.csr.weights.dtype == graph.column("dropped").dtype == dtype


@settings(max_examples=40, deadline=None)
@given(graphs(), st.fixed_dictionaries(OPTIONS))
def test_a_pruned_graph_can_be_saved_opened_and_pruned_again(tmp_path_factory, graph, options):
    path = tmp_path_factory.mktemp("pruned") / "graph.arrow"
    pruned = graph.prune(**options)
    opened = open_graph(pruned.save(path))
    assert opened.nodes.equals(pruned.nodes)
    assert opened.prune(**options).nodes.equals(pruned.prune(**options).nodes)


# --- pruning a pruned graph -----------------------------------------------------------------


def real_influence(graph):
    """Return the graph with its own influence in the column `influence`, as a trace writes it."""
    influence = graph.influence().astype(np.float32)
    index = graph.nodes.schema.get_field_index("influence")
    return Graph(graph.nodes.set_column(index, graph.nodes.schema.field(index), pa.array(influence)), graph.info)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"node_threshold": 0.95}, r"node threshold 0.95 is above the 0.8 .* --full"),
        ({"edge_threshold": 0.99}, r"edge threshold 0.99 is above the 0.9"),
        ({"keep_errors": True}, r"error nodes were pruned"),
        ({"node_threshold": 1.5}, r"between 0 and 1"),
    ],
)
def test_more_than_a_pruned_graph_holds_is_refused(options, message):
    pruned = random_graph(3, n_features=40, n_errors=10).prune(0.8, 0.9)
    for call in (pruned.prune, pruned.select):
        with pytest.raises(ArgumentError, match=message):
            call(**options)


@settings(max_examples=40, deadline=None)
@given(graphs(), st.fixed_dictionaries(OPTIONS))
def test_pruning_to_what_a_graph_holds_changes_nothing_but_the_record(graph, options):
    pruned = real_influence(graph).prune(**options)
    again = pruned.prune(**options)
    assert again.nodes.equals(pruned.nodes)
    assert again.info["pruning"] == {**options, "earlier": [options]}
    assert pruned.prune().nodes.num_rows <= pruned.nodes.num_rows


def test_every_pruning_is_recorded_and_kept_in_the_file(tmp_path):
    graph = real_influence(random_graph(3, n_layers=6, n_features=100, n_errors=20, density=0.3))
    thrice = graph.prune(0.9, 0.95, True).prune(0.6, 0.9).prune(0.5)
    steps = [
        {"node_threshold": node, "edge_threshold": edge, "keep_errors": errors}
        for node, edge, errors in [(0.9, 0.95, True), (0.6, 0.9, False), (0.5, 0.9, False)]
    ]
    assert open_graph(thrice.save(tmp_path / "a.arrow")).info["pruning"] == {**steps[2], "earlier": steps[:2]}
    caption = " ".join(svg_text(thrice).split())
    assert "pruned to 50% (nodes) and 90% (edges) of the traced graph" in caption
    assert "before that to 60% (nodes) and 90% (edges), 90% (nodes) and 95% (edges)" in caption


def test_thresholds_are_shares_of_the_traced_graph_in_a_pruned_one_too():
    for seed in range(5):
        graph = real_influence(random_graph(seed, n_layers=6, n_positions=8, n_features=140, n_errors=40, density=0.3))
        once, twice = graph.prune(0.6, 1), graph.prune(0.8, 1).prune(0.6, 1)
        held = [each.column("influence").sum() for each in (once, twice)]
        assert (
            held[0] <= held[1] < 1.2 * held[0]
        )  # nodes of dead ends, which the first step removed, make room for others


# --- thresholds -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.0001, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["node_threshold", "edge_threshold"])
def test_a_threshold_outside_0_to_1_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} is {value}: .* between 0 and 1"):
        random_graph().prune(**{name: value})


@pytest.mark.parametrize("weak", [1e-7, 1e-20, 1e-40])
def test_thresholds_of_one_keep_what_rounding_hides(weak):
    # Features 0 to 2, token 3, logit 4: all paths of feature 1 to the logit are weak, feature 2 has none.
    csr = csr_of([{3: 1.0}, {0: weak, 3: weak}, {0: 1.0}, {}, {0: 1.0, 1: weak, 3: 1.0}])
    kept = select(NodeOrder(3, 0, 1, 1), csr, LOGIT_ONLY, PruneConfig(1, 1))
    assert kept.nodes.tolist() == [True, True, False, True, True]
    assert kept.edges.tolist() == [True, True, True, False, True, True, True]


def test_thresholds_of_zero_keep_the_strongest_alone():
    graph = random_graph(1, n_features=20, n_errors=10)
    kept = graph.select(0, 0)
    assert kept.edges.sum() <= 1
    assert kept.nodes[graph.order.features].sum() + kept.nodes[graph.order.errors].sum() <= 1


@pytest.mark.parametrize("share", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("last", [{}, {0: 0.0}], ids=["no edge", "zero weight"])
def test_a_graph_without_influence_keeps_tokens_and_targets_alone(share, last):
    csr = csr_of([{3: 1.0}, {0: 1.0}, {}, {}, last])
    kept = select(NodeOrder(2, 1, 1, 1), csr, LOGIT_ONLY, PruneConfig(share, share))
    assert kept.nodes.tolist() == [False, False, False, True, True]
    assert not kept.edges.any()


def test_a_feature_target_stays_even_alone():
    graph = random_graph(5, n_features=15, n_errors=0, n_logits=0, feature_targets=1, density=0.3)
    (target,) = graph.info["targets"]
    assert graph.select(0, 0).nodes[target["node"]]


def test_a_logit_without_weight_stays():
    csr = csr_of([{1: 1.0}, {}, {0: 1.0}, {1: 1.0}])
    kept = select(NodeOrder(1, 0, 1, 2), csr, np.array([0, 0, 1.0, 0]), PruneConfig(0.9, 0.9))
    assert kept.nodes.all()
    assert kept.edges.tolist() == [True, True, False]


def test_pruning_does_not_modify_the_graph():
    graph = random_graph(4)
    before = graph.nodes.to_pylist(), [dict(target) for target in graph.info["targets"]]
    graph.prune(0.5, 0.5)
    assert (graph.nodes.to_pylist(), graph.info["targets"]) == before


def test_rounding_errors_of_cumulative_shares_do_not_add_up():
    """Added one after another to the large score, each small one would lose a tenth of itself."""
    scores = np.array([1.0, *(1e-15 * (1 + np.arange(1000) / 10_000))])
    ranked = sorted(map(Fraction, scores.tolist()), reverse=True)
    for rank in (100, 500, 900):
        halfway = sum(ranked[:rank]) + ranked[rank] / 2
        assert score_at_share(scores, float(halfway / sum(ranked))) == float(ranked[rank])
