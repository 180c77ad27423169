"""Export of graphs: the constraints of Neuronpedia's schema, round trips, and tables in other libraries."""

import json
import math

import duckdb
import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from helpers import neuronpedia_files as files
from helpers.neuronpedia_files import sketch
from helpers.random_graphs import graphs, random_graph
from hypothesis import HealthCheck, given, settings

import cotrace
from cotrace.common.errors import ArgumentError
from cotrace.graphs.exchange.neuronpedia_nodes import cantor_pair, cantor_unpair
from cotrace.graphs.exchange.neuronpedia_writer import VIRTUAL_TOKEN, cumulative_shares

IN_BOTH = [
    "kind",
    "layer",
    "position",
    "feature",
    "token",
    "text",
    "label",
    "label_source",
    "activation",
    "probability",
]
LOOSE = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def exported(graph, folder, to="neuronpedia", **options):
    """Return the JSON of a graph."""
    (path,) = graph.export(folder / "graph.json", to, **options).paths
    return json.loads(path.read_text())


# --- the schema -----------------------------------------------------------------------------


def check_schema(content):
    """Assert what Neuronpedia requires of an upload: entries, their types, and ids that exist."""
    assert {"metadata", "qParams", "nodes", "links"} <= content.keys()
    metadata = content["metadata"]
    assert all(isinstance(metadata[key], str) for key in ("slug", "scan", "prompt"))
    assert all(isinstance(token, str) for token in metadata["prompt_tokens"])
    assert isinstance(metadata.get("node_threshold", 0.5), float)
    for key in ("feature_details", "info", "generation_settings", "pruning_settings"):
        assert isinstance(metadata.get(key, {}), dict)
    for key in ("pinnedIds", "supernodes"):
        assert isinstance(content["qParams"].get(key, []), list)
    for key in ("linkType", "clickedId", "sg_pos"):
        assert isinstance(content["qParams"].get(key, ""), str)
    for node in content["nodes"]:
        assert all(isinstance(node[key], str) for key in ("node_id", "feature_type", "jsNodeId", "clerp"))
        assert type(node["feature"]) in (int, type(None))
        assert type(node["layer"]) in (str, int)
        assert type(node["ctx_idx"]) is int
        assert type(node["influence"]) in (float, type(None))
        assert type(node["activation"]) in (float, type(None))
    for link in content["links"]:
        assert type(link["source"]) is type(link["target"]) is str
        assert type(link["weight"]) is float


def check_newest(content):
    """Assert what the newest circuit-tracer writes beyond the schema, and what the frontend relies on."""
    nodes = {node["node_id"]: node for node in content["nodes"]}
    assert len(nodes) == len(content["nodes"])
    assert {link[end] for link in content["links"] for end in ("source", "target")} <= nodes.keys()
    assert content["metadata"]["schema_version"] == 1
    shown = [node["jsNodeId"] for node in nodes.values() if node["feature_type"] != "cross layer transcoder"]
    assert len(shown) == len(set(shown))
    for name, node in nodes.items():
        first, middle, last = name.split("_")
        assert int(last) == node["ctx_idx"]
        if node["feature_type"] == "cross layer transcoder":
            assert first == node["layer"]
            assert node["feature"] == files.cantor(int(first), int(middle))
            assert node["jsNodeId"] == f"{first}_{middle}-0"
        elif node["feature_type"] == "mlp reconstruction error":
            assert (node["feature"], middle, node["jsNodeId"]) == (-1, "-1", f"{first}_-1-{last}")
        elif node["feature_type"] == "embedding":
            assert (first, node["layer"], node["feature"]) == ("E", "E", node["ctx_idx"])
        else:
            assert node["feature_type"] == "logit"
            assert node["influence"] is None
            assert 0 <= float(node["clerp"].split("(p=")[1].split(")")[0]) <= 1  # as the frontend reads it
        assert node["influence"] is None or 0 <= node["influence"] <= 1


@LOOSE
@given(graph=graphs())
def test_json_has_what_neuronpedia_requires(graph, tmp_path):
    content = exported(graph, tmp_path)
    check_schema(content)
    check_newest(content)


def test_our_generators_write_what_neuronpedia_requires():
    check_schema(files.circuit_tracer(sketch(1)))
    check_newest(files.circuit_tracer(sketch(1)))


def test_targets_that_are_no_tokens_get_ids_of_their_own(tmp_path):
    graph = random_graph(4, n_logits=3)
    column = graph.nodes.schema.get_field_index("token")
    tokens = graph.nodes["token"].to_pylist()
    tokens[graph.order.logits.start :] = [None, 7, 7]
    nodes = graph.nodes.set_column(column, graph.nodes.schema.field(column), pa.array(tokens, pa.int32()))
    content = exported(cotrace.Graph(nodes, graph.info), tmp_path)
    found = [node["feature"] for node in content["nodes"] if node["feature_type"] == "logit"]
    assert found[1] == 7
    assert found[0] != found[2] > VIRTUAL_TOKEN
    check_newest(content)


def test_cumulative_shares_are_those_of_circuit_tracer():
    assert cumulative_shares(np.array([1.0, 0, 3, 4])).tolist() == [1, 1, 0.875, 0.5]
    assert cumulative_shares(np.zeros(2)).tolist() == [1, 1]
    drawn = sketch(2)
    found = files.circuit_tracer(drawn)["nodes"]
    ours = cumulative_shares(files.influence(drawn))
    theirs = [node["influence"] for node in found]
    assert [share for share, other in zip(ours.tolist(), theirs, strict=True) if other is not None] == pytest.approx(
        [other for other in theirs if other is not None], abs=1e-6
    )


@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (3, 0), (17, 262_079), (60, 2**20), (5, 10**30)])
def test_cantor_pairs_are_exact(pair):
    assert cantor_unpair(cantor_pair(*pair)) == pair
    if pair[1] < 10**6:
        assert cantor_pair(*pair) == files.cantor(*pair)


# --- round trips through JSON ---------------------------------------------------------------


@LOOSE
@given(graph=graphs())
def test_a_graph_comes_back_from_json_with_everything_that_json_holds(graph, tmp_path):
    path = tmp_path / "graph.json"
    graph.export(path)
    again = cotrace.import_graph(path)
    for name in IN_BOTH:
        assert again.nodes[name].equals(graph.nodes[name]), name
    for ours, theirs in zip(graph.csr, again.csr, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(again.influence(), graph.influence())
    for key in ("prompt", "tokens", "targets", "model", "transcoders", "settings", "traced", "pruning"):
        assert again.info[key] == graph.info[key], key


@pytest.mark.parametrize("variant", ["circuit-tracer", "llamascopium"])
def test_a_file_of_another_tool_comes_back_as_it_was(variant, tmp_path):
    content = files.VARIANTS[variant](sketch(9, attention=variant == "llamascopium"))
    features = [node for node in content["nodes"] if node["feature_type"] == "cross layer transcoder"]
    features[0]["clerp"], features[1]["clerp"] = "sky", "1945"
    content["qParams"] = {
        "pinnedIds": [features[0]["node_id"], features[2]["node_id"]],
        "supernodes": [["3_1_1", features[0]["node_id"]]],
        "linkType": "input",
        "clickedId": "",
        "sg_pos": "1 2",
    }
    content["metadata"]["info"] = {"creator_name": "someone", "create_time_ms": 1789593498121}
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(content))
    again = exported(cotrace.import_graph(path), tmp_path)
    assert {**again["metadata"], **content["metadata"]} == again["metadata"]
    ids = {name(node): node["node_id"] for node in again["nodes"]}
    new_id = {node["node_id"]: ids[name(node)] for node in content["nodes"]}
    if variant == "circuit-tracer":
        assert again["qParams"] == content["qParams"]
        assert new_id == {each: each for each in new_id}
        assert sorted(again["nodes"], key=name) == sorted(content["nodes"], key=name)
    shares = {new_id[node["node_id"]]: node["influence"] for node in content["nodes"]}
    assert {node["node_id"]: node["influence"] for node in again["nodes"] if node["node_id"] in shares} == shares
    edges = {(new_id[link["source"]], new_id[link["target"]]): link["weight"] for link in content["links"]}
    assert {(link["source"], link["target"]): link["weight"] for link in again["links"]} == edges


def name(node):
    index = node["feature"] if node["feature_type"] in ("lorsa", "cross layer transcoder", "logit") else 0
    layer = None if node["feature_type"] == "logit" else str(node["layer"])  # the number of layers, or one more
    return node["feature_type"], layer, node["ctx_idx"], index


def test_a_graph_whose_targets_are_features_comes_back(tmp_path):
    graph = random_graph(8, n_logits=0, feature_targets=2)
    graph.export(tmp_path / "graph.json")
    again = cotrace.import_graph(tmp_path / "graph.json")
    assert again.info["targets"] == graph.info["targets"]
    np.testing.assert_allclose(again.influence(), graph.influence())


def test_labels_groups_and_notes_go_out_and_come_back(tmp_path):
    graph = random_graph(5)
    graph.label(0, 'a "b" é 🜁')
    graph.label(1, "of layer 3")
    graph.group("both", [0, 1, graph.order.tokens.start])
    graph.notes = "Compare."
    content = exported(graph, tmp_path, slug="my-graph", scan="gemma-3-270m", source_set="clt-hp")
    ids = [node["node_id"] for node in content["nodes"]]
    assert content["qParams"]["supernodes"] == [["both", ids[0], ids[1], ids[graph.order.tokens.start]]]
    assert content["qParams"]["pinnedIds"] == content["qParams"]["supernodes"][0][1:]
    assert [node["clerp"] for node in content["nodes"][:2]] == ['a "b" é 🜁', "of layer 3"]
    metadata = content["metadata"]
    assert (metadata["slug"], metadata["scan"]) == ("my-graph", "gemma-3-270m")
    assert metadata["feature_details"] == {"neuronpedia_source_set": "clt-hp"}
    again = cotrace.import_graph(tmp_path / "graph.json")
    assert again.labels == graph.labels
    assert again.groups == graph.groups
    assert again.notes == "Compare."


def test_influence_of_a_pruned_graph_ends_at_what_pruning_kept(tmp_path):
    graph = random_graph(6, n_features=40, n_positions=5)
    influence = pa.array(graph.influence(), pa.float32())
    column = graph.nodes.schema.get_field_index("influence")
    graph = cotrace.Graph(graph.nodes.set_column(column, graph.nodes.schema.field(column), influence), graph.info)
    pruned = graph.prune(0.6, 0.9)
    content = exported(pruned, tmp_path)
    shares = [node["influence"] for node in content["nodes"] if node["influence"] is not None]
    assert max(shares) == pytest.approx(0.6)
    assert content["metadata"]["node_threshold"] == 0.6
    assert content["metadata"]["pruning_settings"] == {"node_threshold": 0.6, "edge_threshold": 0.9}
    order = np.argsort([-value for value in pruned.column("influence")[: len(shares)]], kind="stable")
    assert np.all(np.diff(np.array(shares)[order]) >= 0)


def test_an_imported_graph_is_pruned_drawn_and_summarised(tmp_path):
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(files.circuit_tracer(sketch(11))))
    graph = cotrace.import_graph(path)
    pruned = graph.prune(0.5)
    pruned.render(tmp_path / "graph.svg")
    pruned.save(tmp_path / "graph.arrow")
    assert cotrace.open(tmp_path / "graph.arrow").info["imported"] == graph.info["imported"]
    assert cotrace.graphs.summarize(pruned).nodes
    assert all(math.isfinite(target["value"]) for target in graph.effects().targets)
    shares = [node["influence"] for node in exported(pruned, tmp_path)["nodes"] if node["influence"] is not None]
    assert max(shares) == pytest.approx(0.5)  # computed by us: after pruning theirs are no shares of this graph


# --- NetworkX -------------------------------------------------------------------------------


@LOOSE
@given(graph=graphs())
def test_networkx_and_back_is_the_same_graph(graph):
    again = cotrace.from_networkx(graph.to_networkx())
    assert again.nodes.equals(graph.nodes)
    assert again.info == graph.info


def test_attributes_have_types():
    attributes = random_graph(3).to_networkx().nodes[0]
    wanted = {"node": int, "layer": int, "feature": int, "kind": str, "activation": float, "computed": bool}
    assert {key: type(attributes[key]) for key in wanted} == wanted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_graphml_and_back_is_the_same_graph(dtype, tmp_path):
    graph = random_graph(4, feature_targets=1, dtype=dtype)
    graph.label(0, "sky")
    path = tmp_path / "graph.graphml"
    graph.export(path)
    again = cotrace.import_graph(path)
    assert again.nodes.equals(graph.nodes)
    assert again.info == graph.info
    found = nx.read_graphml(path)
    assert found.nodes["0"]["label"] == "L0#" + found.nodes["0"]["label"].partition("#")[2]
    assert type(found.nodes["0"]["layer"]) is int


def test_a_smaller_networkx_graph_converts_too():
    graph = random_graph(7, n_logits=3)
    full = graph.to_networkx()
    target = graph.order.logits.start
    full.remove_nodes_from([0, 3, graph.order.tokens.start, target])
    small = cotrace.from_networkx(full)
    assert small.order.counts == (18, 8, 4, 2)  # the token is back, without edges
    assert sum(each["weight"] for each in small.info["targets"]) == pytest.approx(1)
    assert small.n_edges == full.number_of_edges()
    np.testing.assert_allclose(small.column("influence"), small.influence(), rtol=1e-6)


def test_a_networkx_graph_without_metadata_converts():
    graph = nx.DiGraph()
    graph.add_node("word", kind="token", position=0, text="sky", token=3)
    graph.add_node("f", kind="feature", layer=2, position=0, feature=5, activation=1.5)
    graph.add_node("out", kind="logit", position=0, text=" blue", probability=0.5)
    graph.add_weighted_edges_from([("word", "f", 2.0), ("f", "out", -1.0), ("word", "out", 3.0)])
    found = cotrace.from_networkx(graph)
    assert found.influence().tolist() == pytest.approx([0.25, 1.0, 0.0])
    assert found.info["tokens"] == ["sky"]
    assert [target["label"] for target in found.info["targets"]] == [" blue"]


def spoiled(**attributes):
    graph = random_graph(1).to_networkx()
    graph.nodes[0].update(attributes)
    return graph


WRONG = {
    "undirected": (lambda: random_graph(1).to_networkx().to_undirected(), "directed"),
    "not a graph": (lambda: 3, "directed"),
    "an unknown kind": (lambda: spoiled(kind="head"), "node 0 is of the unknown kind 'head'"),
    "a layer in words": (lambda: spoiled(layer="top"), "layer of node 0 is 'top'"),
    "half a layer": (lambda: spoiled(layer=0.5), "layer of node 0 is 0.5"),
    "an infinite bias": (lambda: spoiled(bias=math.inf), "bias of node 0"),
    "a feature twice": (lambda: spoiled(**{key: random_graph(1).to_networkx().nodes[1][key] for key in ("layer", "position", "feature")}), "'0', '1' are the same feature"),
    "an edge without weight": (lambda: nx.compose(random_graph(1).to_networkx(), nx.DiGraph([(0, 31)])), "from 0 to 31"),
    "a backward edge": (lambda: nx.compose(random_graph(1).to_networkx(), nx.DiGraph([(19, 0, {"weight": 1.0})])), "lower to a higher layer"),
    "an empty graph": (nx.DiGraph, "targets"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_networkx_graphs_that_are_no_graphs_of_ours_are_refused(case):
    make, message = WRONG[case]
    with pytest.raises(ArgumentError, match=message) as refused:
        cotrace.from_networkx(make())
    assert "\n" not in str(refused.value)


# --- tables ---------------------------------------------------------------------------------


def test_polars_has_nodes_and_edges():
    graph = random_graph(2, feature_targets=1)
    nodes, edges = graph.to_polars()
    assert nodes["name"].to_list()[:1] == [str(cotrace.graphs.annotations.node_names(graph, [0])[0])]
    assert nodes["layer"].to_list() == graph.nodes["layer"].to_pylist()
    assert nodes["effect_2"].to_list()[:5] == [row[2] for row in graph.nodes["effect"].to_pylist()[:5]]
    assert edges.height == graph.n_edges
    assert edges.columns == ["source", "target", "weight"]


def test_pandas_has_nodes_and_edges():
    pytest.importorskip("pandas")
    graph = random_graph(2)
    nodes, edges = graph.to_pandas()
    assert [
        None if value is None else int(value)
        for value in nodes["layer"].astype(object).where(nodes["layer"].notna(), None)
    ] == graph.nodes["layer"].to_pylist()
    assert len(edges) == graph.n_edges


def test_csv_and_parquet_are_read_by_other_libraries(tmp_path):
    graph = random_graph(3)
    graph.label(0, 'a "b",\nc')
    for to, read in (("csv", pyarrow.csv.read_csv), ("parquet", pyarrow.parquet.read_table)):
        options = {"parse_options": pyarrow.csv.ParseOptions(newlines_in_values=True)} if to == "csv" else {}
        nodes, edges = (read(path, **options) for path in graph.export(tmp_path / "graph", to).paths)
        assert nodes["layer"].to_pylist() == graph.nodes["layer"].to_pylist()
        assert nodes["label"].to_pylist()[0] == 'a "b",\nc'
        assert edges["source"].to_pylist() == graph.csr.indices.tolist()
        np.testing.assert_array_equal(np.array(edges["weight"], np.float32), graph.csr.weights)
    query = f"SELECT sum(weight) FROM '{tmp_path}/graph.edges.parquet' WHERE target = {graph.order.logits.start}"
    (total,) = duckdb.sql(query).fetchall()[0]
    assert total == pytest.approx(float(graph.csr.row(graph.order.logits.start)[1].sum()), rel=1e-4)


def test_dot_has_all_nodes_and_edges(tmp_path):
    graph = random_graph(3)
    graph.label(0, 'a "b" \\ \n')
    text = graph.export(tmp_path / "graph.dot").paths[0].read_text()
    assert text.count(" -> ") == graph.n_edges
    assert text.count(" kind=") == graph.order.n_nodes
    assert 'label="a \\"b\\" \\\\ ⏎"' in text


def test_what_is_left_out_is_named(tmp_path):
    graph = random_graph(3, feature_targets=1)
    left_out = {
        to: graph.export(tmp_path / "graph", to).left_out
        for to in ("neuronpedia", "graphml", "gexf", "csv", "parquet", "dot")
    }
    assert left_out["parquet"] == left_out["graphml"] == []
    assert "effects on the targets" in left_out["neuronpedia"]
    assert "which features are targets" in left_out["neuronpedia"]
    assert "metadata" in left_out["csv"][0]
    assert "metadata" in left_out["gexf"][0]
    assert len(left_out["dot"]) == 2


@pytest.mark.parametrize("arguments", [("graph.xyz",), ("graph.json", "svg"), ("graph.csv", None, "slug")])
def test_unknown_formats_and_options_are_refused(arguments, tmp_path):
    name, to, option = (*arguments, None, None)[:3]
    with pytest.raises(ArgumentError):
        random_graph(1).export(tmp_path / name, to, **({option: "x"} if option else {}))
    assert not list(tmp_path.iterdir())


# --- commands -------------------------------------------------------------------------------


def test_commands_export_and_import(command, tmp_path):
    graph = random_graph(3)
    graph.save(tmp_path / "graph.arrow")
    status, out, _ = command("export", tmp_path / "graph.arrow", "--to", "neuronpedia", "--slug", "mine")
    assert status == 0
    assert "no place for: pre-activations" in " ".join(out.split())
    assert json.loads((tmp_path / "graph.json").read_text())["metadata"]["slug"] == "mine"
    status, out, _ = command("import", tmp_path / "graph.json", "--out", tmp_path / "again.arrow")
    assert status == 0
    assert "wrote" in out
    assert cotrace.open(tmp_path / "again.arrow").n_edges == graph.n_edges
    status, out, _ = command("export", tmp_path / "graph.arrow", "--out", tmp_path / "x.csv")
    assert status == 0
    assert {"x.nodes.csv", "x.edges.csv"} <= {path.name for path in tmp_path.iterdir()}


MISTAKES = {
    "no format": (["export", "graph.arrow"], "name a format: --to neuronpedia"),
    "an unknown ending": (["export", "graph.arrow", "--out", "x.svg"], "has no ending of a format"),
    "an option of another format": (["export", "graph.arrow", "--to", "csv", "--source-set", "x"], "--source-set is for --to neuronpedia"),
    "no file": (["import", "nothing.json"], "cannot be read"),
    "a graph file": (["import", "graph.arrow"], "open it as it is"),
    "a folder": (["export", "graph.arrow", "--to", "dot", "--out", "."], "folder|ending"),
    "other content": (["import", "ours.json", "--out", "graph.arrow"], "--force"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_of_commands_are_one_line(mistake, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = random_graph(3)
    graph.save("graph.arrow")
    graph.export(tmp_path / "ours.json")
    arguments, message = MISTAKES[mistake]
    status, _, errors = command(*arguments)
    assert status == 2
    assert len(errors.strip().splitlines()) == 1
    assert pytest.importorskip("re").search(message, errors)
