"""Queries and parts of graphs on the command line."""

import json

import pytest
from helpers.random_graphs import random_graph
from helpers.reports import mixed

from cotrace.graphs import node_label, open_graph


@pytest.fixture
def graph():
    found = random_graph(6, n_features=40, n_positions=6, n_errors=10, n_layers=5)
    found.label([0, 7], "not cold")
    found.group("early", [0, 1, 2])
    return found


@pytest.fixture
def file(graph, tmp_path):
    return graph.save(tmp_path / "graph.arrow")


@pytest.fixture
def ask(command, file):
    """Return a function from options of `cotrace show` to its JSON."""

    def asked(*arguments):
        status, out, err = command("show", file, "--json", *arguments)
        assert (status, err) == (0, "")
        return json.loads(out)

    return asked


def test_paths_from_and_to_any_nodes(ask, graph):
    target = graph.info["targets"][0]
    found = ask("--from", "early", "--to", target["label"], "--paths", "3")
    expected = graph.paths("early", target["label"], 3)
    assert [(path["nodes"], path["strength"]) for path in found["paths"]] == [
        (list(p.nodes), p.strength) for p in expected
    ]
    assert found["paths"][0]["names"][0] == node_label(graph, expected[0].nodes[0])
    assert set(found) == {"paths"}
    to_all = ask("--from", "@1:4", "--target", "all", "--min-length", "2")["paths"]
    assert [tuple(path["nodes"]) for path in to_all] == [path.nodes for path in graph.paths("@1:4", min_length=2)]


def test_ancestors_and_descendants(ask, graph):
    node = str(graph.order.logits.start)
    found = ask("--ancestors", node, "--descendants", "not cold", "--min-share", "0.01", "--top", "2")
    up, down = graph.ancestors(int(node), 0.01), graph.descendants("not cold", 0.01)
    assert found["ancestors"]["count"] == len(up) > 2
    assert [row["share"] for row in found["ancestors"]["nodes"]] == up["share"].to_pylist()[:2]
    assert [row["effect"] for row in found["descendants"]["nodes"]] == down["effect"].to_pylist()[:2]
    assert found["descendants"]["of"] == ["not cold"]


def test_flow(ask, graph):
    found = ask("--flow", "question=1:3", "--flow", "step=3,4", "--target", "all")["flow"]
    expected = graph.flow({"question": (1, 3), "step": [3, 4]})
    assert found["spans"] == {name: list(positions) for name, positions in expected.spans.items()}
    assert found["edges"] == expected.table().to_pylist()
    assert found["starts"] == expected.starts().to_pylist()


def test_answers_are_printed_as_tables(command, file, graph):
    logit = graph.order.logits.start
    options = [
        "--from",
        "early",
        "--ancestors",
        logit,
        "--descendants",
        "token@1",
        "--flow",
        "question=1:3",
        "--top",
        "1",
    ]
    status, out, _ = command("show", file, *options)
    assert status == 0
    for words in ("strongest paths", f"ancestors of {logit}: ", "descendants of token@1: ", "--top lists more"):
        assert words in out
    for words in ("flow, share of the influence", "flow, signed effect", "→ question", "→ other", "1:3", "0,3:6"):
        assert words in out
    assert "replacement" not in out  # only the answers
    assert "no path leads there" in command("show", file, "--to", "token@2")[1]


def test_a_part_of_a_graph_is_shown_with_its_scores(command, ask, file, graph):
    part = graph.subgraph("early", label="cold")
    status, out, _ = command("show", file, "--nodes", "early", "--label", "cold")
    scores = part.scores()
    assert status == 0
    assert "3 named nodes and labels with 'cold'; tokens and targets" in out
    assert f"replacement {scores.replacement:.3f}, completeness {scores.completeness:.3f} (this part" in out
    assert "(3 named nodes and labels with 'cold'; tokens and targets)" in " ".join(part._repr_html_().split())
    assert ask("--min-influence", "0.02")["counts"]["features"] == graph.subgraph(min_influence=0.02).order.n_features


def test_prune_writes_parts(command, file, graph):
    assert command("prune", file, "--label", "cold")[0] == 0
    part = open_graph(file.with_name("graph.part.arrow"))
    assert part.order.n_features == 2
    assert part.scores() == graph.subgraph(label="cold").scores()
    assert command("prune", file, "--min-influence", "0.005", "--node-threshold", "0.5")[0] == 0
    both = open_graph(file.with_name("graph.pruned-n0.5.arrow"))
    assert both.info["pruning"]["node_threshold"] == 0.5
    assert both.info["subgraph"][0]["min_influence"] == 0.005


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "L1#99999"], "not in this graph"),
        (["--to", "@9"], "outside the prompt"),
        (["--ancestors", "0", "--min-share", "2"], "--min-share is 2"),
        (["--flow", "question"], "--flow 'question': expected NAME=START:STOP"),
        (["--flow", "a=1:3", "--flow", "b=2:4"], "position 2 is in the segments"),
        (["--label", "hot"], "no label of this graph"),
        (["--label", "("], "--label ( is no regular expression"),
        (["--min-influence", "7"], "--min-influence is 7"),
    ],
)
def test_mistakes_are_one_line(command, file, arguments, message):
    status, out, err = command("show", file, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_queries_of_a_report_are_about_its_circuit(command, tmp_path):
    file = mixed().save(tmp_path / "report.arrow")
    status, _, err = command("show", file, "--ancestors", "0")
    assert status == 2
    assert "add --circuit" in err
    status, out, _ = command("show", file, "--circuit", "--descendants", "token@1")
    assert status == 0
    assert "descendants of token@1" in out
