"""Two graphs side by side: identities, alignment, matching, tables, pictures and the command."""

import itertools
import re

import numpy as np
import pytest
from helpers.random_graphs import dense, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph
from cotrace.graphs.diff.align import align, edit_pairs
from cotrace.graphs.diff.measures import rank_correlation, weighted_jaccard
from cotrace.graphs.effects import total_effects  # noqa: F401

SMALL = graphs(n_features=15, n_errors=4)
SIZES = st.lists(st.floats(0, 1e3), min_size=0, max_size=20)
WORDS = st.lists(st.integers(0, 3), max_size=7)


def insert_token(graph, position, text=" very"):
    """Return the graph of a prompt with one more token, which nothing reads: later nodes move by one position."""
    info = {**graph.info, "tokens": list(graph.info["tokens"]), "token_ids": list(graph.info["token_ids"])}
    info["tokens"].insert(position, text)
    info["token_ids"].insert(position, 5)
    order, token = graph.order, graph.order.tokens.start + position
    rows = graph.nodes.to_pylist()
    rows.insert(token, {**rows[order.tokens.start], "position": position, "text": text, "token": 5})
    for number, row in enumerate(rows):
        row["node"] = number
        row["sources"] = [source + (source >= token) for source in row["sources"]]
        if number != token and row["position"] is not None and row["position"] >= position:
            row["position"] += 1
    info["targets"] = [{**each, "node": each["node"] + (each["node"] >= token)} for each in info["targets"]]
    info["position"] += 1
    return Graph(type(graph.nodes).from_pylist(rows, schema=graph.nodes.schema), info)


def by_name(table, *columns):
    """Return the rows of a table of nodes by kind and name."""
    return {(row["kind"], row["name"]): tuple(row[column] for column in columns) for row in table.to_pylist()}


# --- identities -----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(SMALL, st.sampled_from([None, "all"]), st.sampled_from(["feature", "label", "group", "site"]))
def test_a_graph_does_not_differ_from_itself(graph, target, match):
    diff = graph.diff(graph, target=target, match=match)
    for table in (diff.nodes, diff.edges):
        assert set(table["status"].to_pylist()) <= {"both"}
        assert not np.any(table["change"].to_numpy())
    assert set(diff.similarity["jaccard"].to_pylist()) == {1.0}
    assert set(diff.similarity["correlation"].to_pylist()) <= {1.0, None}
    assert diff.similarity["only_a"].to_pylist() == diff.similarity["only_b"].to_pylist() == [0] * len(diff.similarity)
    assert diff.top_nodes().num_rows == diff.top_edges().num_rows == 0
    assert not diff.cautions


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL, st.sampled_from(["feature", "label", "site"]), st.floats(0, 1))
def test_a_difference_is_symmetric(a, b, match, min_change):
    options = {"match": match, "min_change": min_change, "target": "all"}
    there, back = a.diff(b, **options), b.diff(a, **options)
    assert there.alignment.pairs == tuple(sorted((i, j) for j, i in back.alignment.pairs))
    swapped = {"both": "both", "changed": "changed", "only_a": "only_b", "only_b": "only_a"}
    for ours, theirs in zip(there.similarity.to_pylist(), back.similarity.to_pylist(), strict=True):
        assert 0 <= ours["jaccard"] <= 1
        assert ours["jaccard"] == theirs["jaccard"]
        assert ours["change"] == pytest.approx(-theirs["change"], abs=1e-12)
        assert (ours["correlation"] is None) == (theirs["correlation"] is None)
        assert (ours["correlation"] or 0) == pytest.approx(theirs["correlation"] or 0, abs=1e-12)
        assert all(ours[status] == theirs[swapped[status]] for status in swapped)


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL)
def test_influence_is_that_of_each_graph_and_every_node_and_edge_is_there_once(a, b):
    diff = a.diff(b, target="all")
    for side, graph in (("a", a), ("b", b)):
        numbers = diff.nodes[f"node_{side}"].drop_null().to_numpy()
        assert sorted(numbers) == list(range(graph.order.n_nodes))
        shown = diff.nodes[f"influence_{side}"].to_numpy()[diff.nodes[f"node_{side}"].is_valid().to_numpy()]
        assert shown == pytest.approx(graph.influence()[numbers], abs=1e-12)
        units = diff.nodes[f"node_{side}"].to_pylist()
        found = {
            (units[edge["target"]], units[edge["source"]]): edge[f"weight_{side}"]
            for edge in diff.edges.to_pylist()
            if edge[f"weight_{side}"]
        }
        matrix = dense(graph)
        assert found == pytest.approx(
            {(t, s): matrix[t, s] for t, s in zip(*map(list, np.nonzero(matrix)), strict=True)}
        )
        assert diff.edges[f"influence_{side}"].to_numpy().sum() == pytest.approx(graph.influence().sum(), abs=1e-9)


@pytest.mark.parametrize("position", range(4))
def test_a_token_that_nothing_reads_changes_nothing_else(position):
    graph = random_graph(3, n_features=30)
    diff = graph.diff(insert_token(graph, position + 1), target="all")
    assert diff.alignment.pairs == tuple((i, i + (i > position)) for i in range(4))
    (extra,) = [row for row in diff.nodes.to_pylist() if row["status"] != "both"]
    assert (extra["kind"], extra["status"], extra["position_a"]) == ("token", "only_b", None)
    assert extra["position_b"] == position + 1
    assert diff.jaccard == 1.0
    assert set(diff.edges["status"].to_pylist()) == {"both"}
    moved = {name for _, name in by_name(diff.nodes) if "/" in name}
    assert all(int(b) == int(a) + 1 for a, b in (re.search(r"@(\d+)/(\d+)$", name).groups() for name in moved))
    assert moved or position == 3


# --- alignment ------------------------------------------------------------------------------


def distance(a, b):
    """Return the edit distance and minus the number of equal pairs of the best alignment, by trying all."""
    best = (len(a) + len(b), 0)
    for size in range(min(len(a), len(b)) + 1):
        for left, right in itertools.product(
            itertools.combinations(range(len(a)), size), itertools.combinations(range(len(b)), size)
        ):
            best = min(best, cost(a, b, list(zip(left, right, strict=True))))
    return best


def cost(a, b, pairs):
    equal = sum(a[i] == b[j] for i, j in pairs)
    return len(a) + len(b) - len(pairs) - equal, -equal


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS)
def test_tokens_are_aligned_at_the_smallest_edit_distance(a, b):
    pairs = edit_pairs(a, b)
    assert pairs == sorted(pairs)
    assert sorted(pairs, key=lambda pair: pair[1]) == pairs
    assert cost(a, b, pairs) == distance(a, b)
    assert [(j, i) for i, j in pairs] == edit_pairs(b, a)


def test_other_alignments_and_their_columns():
    a = random_graph(1)
    b = insert_token(insert_token(a, 2, " so"), 2)
    assert align(a, b, "start").pairs == tuple((i, i) for i in range(4))
    assert align(a, b, "end").pairs == tuple((i, i + 2) for i in range(4))
    given_pairs = align(a, b, {0: 0, -1: -1})
    assert given_pairs.pairs == ((0, 0), (3, 5))
    assert given_pairs.positions == ((0, 0), (None, 1), (None, 2), (None, 3), (None, 4), (1, None), (2, None), (3, 5))
    assert given_pairs.columns(0).tolist() == [0, 5, 6, 7]
    assert given_pairs.columns(1).tolist() == [0, 1, 2, 3, 4, 7]
    crossed = a.diff(a, align=[(1, 2), (2, 1)])
    assert {row["position_b"] for row in crossed.nodes.to_pylist() if row["position_a"] == 1} == {2}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("sideways", "is not one of tokens, start, end"),
        ({9: 0}, "position of A 9 is outside the prompt of 4 tokens"),
        ({0: 1, 2: 1}, "position 1 of B is in two pairs"),
        ([1, 2], "expected pairs"),
        (3, "expected pairs"),
    ],
)
def test_wrong_alignments_are_refused(how, message):
    graph = random_graph(1)
    with pytest.raises(ArgumentError, match=message):
        graph.diff(graph, align=how)


# --- measures -------------------------------------------------------------------------------


@given(SIZES, st.randoms())
def test_the_jaccard_index_is_a_share(values, random):
    a, b = np.array(values), np.array(random.sample(values, len(values)))
    assert 0 <= weighted_jaccard(a, b) <= 1
    assert weighted_jaccard(a, b) == weighted_jaccard(b, a)
    assert weighted_jaccard(a, a) == 1
    assert weighted_jaccard(a, np.zeros(len(a))) == (0 if a.any() else 1)


def test_the_jaccard_index_by_hand():
    assert weighted_jaccard(np.array([0.5, 0.5, 0]), np.array([0.25, 0, 0.75])) == 0.25 / 1.75


def test_rank_correlation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, (2, 12)).astype(float)
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation(np.ones(5), np.arange(5.0)) is None
    assert rank_correlation(np.arange(2.0), np.arange(2.0)) is None
