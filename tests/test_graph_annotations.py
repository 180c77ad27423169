"""Labels, groups and notes: how they are kept and shown, and the names that find nodes. Edits of metadata."""

import json
from types import MappingProxyType

import pyarrow as pa
import pyarrow.dataset
import pytest
from helpers.random_graphs import random_graph

import cotrace
from cotrace.cli.edit_syntax import parse_edits
from cotrace.cli.validate import parse_groups
from cotrace.common.errors import ArgumentError, FileError
from cotrace.graphs import Graph, Label, node_label, short_label, strongest_paths
from cotrace.graphs.drawing.render import svg_text
from cotrace.graphs.effects import ablation_effects
from cotrace.graphs.store import save_table


@pytest.fixture
def graph():
    """Return a graph of features 0 to 9, errors 10 to 14, tokens 15 to 18 and logits 19 to 21, with labels."""
    graph = random_graph(7, n_features=10, n_errors=5, feature_targets=1, density=1)
    graph.label(3, "not cold")
    graph.label(graph.find(11), "a, 'quoted' <error>")
    graph.group("cold", ["not cold", 11, 0])
    graph.notes = "Compare with\nthe other prompt."
    return graph


def names(graph, numbers):
    return [node_label(graph, number).partition(" ")[0] for number in numbers]


def annotations(graph):
    return graph.labels, graph.groups, graph.notes


@pytest.mark.parametrize("name", ["a.arrow", "a.arrow.zst"])
def test_files_keep_annotations(graph, tmp_path, name):
    opened = cotrace.open(graph.save(tmp_path / name))
    assert annotations(opened) == annotations(graph)
    assert opened.find("cold") == [3, 11, 0]
    again = cotrace.open(opened.save(tmp_path / name))  # into the file that is mapped
    assert annotations(again) == annotations(graph)


def test_pruning_keeps_annotations_by_feature_and_position(graph):
    graph.label(range(15), "all of them")
    pruned = graph.prune(0.5, 0.5).prune(0.3, 0.3)
    assert 0 < pruned.order.n_features < graph.order.n_features
    assert set(pruned.labels.values()) == {"all of them"}
    assert len(pruned.labels) == pruned.order.n_features + pruned.order.n_errors
    assert pruned.groups == graph.groups  # also of nodes that were pruned
    assert pruned.notes == graph.notes
    pruned.label(pruned.find("all of them"), "")
    assert pruned.labels == {}


def test_an_edit_of_a_smaller_graph_leaves_the_larger_one(graph):
    before = annotations(graph), json.dumps(graph.info)
    pruned = graph.prune(1, 1)
    pruned.label("not cold", "other")
    pruned.group("cold", [])
    pruned.notes = ""
    pruned.info["traced"]["scores"]["replacement"] = 0.0
    assert (annotations(graph), json.dumps(graph.info)) == before
    assert pruned.groups == {}


def test_a_data_set_of_many_graphs_has_the_labels(graph, tmp_path):
    other = random_graph(8)
    other.label(other.find(0), "of the other")
    for name, each in (("id=1", graph), ("id=2", other)):
        each.save(tmp_path / name / "circuit.arrow")
    table = pyarrow.dataset.dataset(tmp_path, format="arrow", partitioning="hive").to_table()
    rows = {(row["id"], row["node"]): row["label"] for row in table.select(["id", "node", "label"]).to_pylist()}
    assert (rows[1, 3], rows[2, 0]) == ("not cold", "of the other")


def test_every_name_that_is_printed_finds_its_node(graph):
    for number in range(graph.order.n_nodes):
        assert graph.find(node_label(graph, number)) == [number]
        assert graph.find(str(number)) == [number]


def test_names_find_nodes(graph):
    feature = cotrace.Feature(2, 0, 0)
    assert graph.find(feature) == graph.find(str(feature)) == graph.find("not cold") == graph.find("'not cold'") == [3]
    assert graph.find(cotrace.Feature(2, 0, -4)) == [3]
    assert graph.find("token@1") == graph.find(cotrace.Token(1)) == [16]
    assert graph.find("cold") == [3, 11, 0]
    assert graph.find(["cold", 11, "L2#0@0"]) == [3, 11, 0]
    everywhere = [n for n in range(10) if names(graph, [n])[0].startswith("L2#1@")]
    assert graph.find("L2#1") == graph.find("L2#1@0:4") == everywhere
    assert graph.find(graph.info["targets"][0]["label"]) == [19]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("L9#1", "not in this graph"),
        ("L2#1@generated", "not in this graph"),
        ("L2#1@9", "outside the prompt"),
        ("warm", "called 'warm'"),
        ("not colt", "did you mean 'not cold'"),
        ("colds", "did you mean 'cold'"),
        ("L2#0@3", r"not in this graph.*it is in the graph as 3 \(L2#0@0 'not cold'\)"),
        ("'\\x'", "called"),
        ("", "called ''"),
        ("\ud800", "called '"),
        (22, "nodes are 0 … 21"),
        (-1, "nodes are 0 … 21"),
        (True, "invalid node True"),
        (1.5, "invalid node 1.5"),
    ],
)
def test_other_names_are_refused(graph, name, message):
    with pytest.raises(ArgumentError, match=message):
        graph.find(name)


def test_invalid_annotations_are_refused(graph):
    for edit, message in (
        (lambda: graph.label(15, "token"), "label features and error nodes"),
        (lambda: graph.label(3, 5), "expected a text"),
        (lambda: graph.label(3, "\ud800"), "not valid Unicode"),
        (lambda: graph.label(3, " 5"), "read as a node"),
        (lambda: graph.label(3, "L1#2@3"), "read as a node"),
        (lambda: graph.group("12", [3]), "read as a node"),
        (lambda: graph.group("L1#2", [3]), "read as a node"),
        (lambda: graph.group(" ", [3]), "empty"),
        (lambda: graph.group("logit", [19]), "node 19 is not a feature, error node or token"),
        (lambda: setattr(graph, "notes", ["a"]), "expected a text"),
    ):
        before = annotations(graph)
        with pytest.raises(ArgumentError, match=message):
            edit()
        assert annotations(graph) == before


def test_an_unknown_name_is_one_error(graph):
    with pytest.raises(ArgumentError, match="no node of this graph is called 'nowhere'") as caught:
        graph.find("nowhere")
    assert caught.value.__context__ is None


def test_names_are_accepted_wherever_a_node_is(graph):
    assert (ablation_effects(graph, [["cold"]]) == ablation_effects(graph, [[3, 11, 0]])).all()
    assert cotrace.nodes_of(graph, "cold") == graph.groups["cold"]
    assert strongest_paths(graph, "target 20") == strongest_paths(graph, 20)
    assert parse_groups(["cold", "mine=not cold,L0#2@0"], graph) == {"cold": [3, 11, 0], "mine": [3, 0]}
    edits = parse_edits({"ablate": ["not cold"], "multiply": ["0=2"]}, graph)
    assert list(edits) == [cotrace.Feature(2, 0, 0), cotrace.Feature(0, 2, 0)]
    (group,) = parse_edits({"ablate": ["cold"]}, graph)
    assert (str(group), list(group.members)) == ("cold", graph.groups["cold"])
    (pasted,) = parse_edits({"ablate": [node_label(graph, 3)]})
    assert pasted == cotrace.Feature(2, 0, 0)
    (token,) = parse_edits({"ablate": [node_label(graph, graph.order.tokens.start)]}, graph)
    assert token == cotrace.Token(0)
    for name, message in (
        ("not cole", "did you mean 'not cold'"),
        ("L2#0@x", "position 'x'|'x'"),
        ("5#1", "invalid node"),
    ):
        with pytest.raises(ArgumentError, match=message):
            parse_edits({"ablate": [name]}, graph)
    with pytest.raises(ArgumentError, match="each position as a separate node"):
        parse_groups(["mine=L2#0@0,1"], graph)


def test_pictures_and_show_have_them(graph, command, tmp_path):
    target = next(each["node"] for each in graph.info["targets"] if each["node"] < 10)
    graph.label(target, "a target")
    picture = svg_text(graph)
    for text in ("not cold", "group cold", "the other prompt", "quoted"):
        assert text in picture
    status, output, _ = command("show", graph.save(tmp_path / "a.arrow"), "--target", "a target")
    assert status == 0
    for text in ("the other prompt.", "'cold': L2#0@0 'not cold'", "L2#0@0 'not cold', "):
        assert text in output
    pruned = graph.prune(0.1, 0.1)
    assert "not in this graph" in command("show", pruned.save(tmp_path / "b.arrow"))[1]


# --- labels of several sources --------------------------------------------------------------


def labels_and_sources(graph):
    texts, sources = graph.column("label"), graph.column("label_source")
    return {node: (texts[node], sources[node]) for node in range(graph.order.n_nodes) if texts[node] or sources[node]}


def test_labels_name_features_error_nodes_and_positions():
    graph = random_graph(7, n_features=10, n_errors=5, density=1)
    feature, error = names(graph, [3])[0], names(graph, [11])[0]
    everywhere = feature.partition("@")[0]
    nodes = graph.find(everywhere)
    parsed = cotrace.Feature.parse(everywhere)
    keys = (everywhere, parsed, (parsed.layer, parsed.feature), f"{parsed.layer}_{parsed.feature}")
    for number, key in enumerate(keys):
        assert graph.add_labels({key: f"by key {number}"}) == len(nodes)
        assert labels_and_sources(graph) == dict.fromkeys(nodes, (f"by key {number}", "file"))
    assert (
        graph.add_labels(
            {
                feature: "here",
                cotrace.nodes_of(graph, 11)[0]: "lost",
                "L0#999": "absent",
                "L999999#999999999": "a",
                (2, -1): "b",
                (0, 2**40): "c",
                "L1#1": " ",
            }
        )
        == 2
    )
    assert (graph.labels[cotrace.Feature.parse(feature)], graph.column("label")[11]) == ("here", "lost")
    assert error in map(str, graph.labels)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_label_replaces_those_of_its_source_and_weaker_ones(graph, lazy):
    ranked = [("examples", "outputs"), ("neuronpedia",), ("file",), ("user",)]
    site = (2, 0)
    nodes = graph.find("L2#0")
    graph.label(range(15), "")
    for rank, sources in enumerate(ranked):
        for source in (*sources, sources[0]):
            labels = {site: Label(f"from {source}", source)}
            if not lazy:
                labels = {site: f"from {source}"}
            assert graph.add_labels(MappingProxyType(labels) if lazy else labels, source) == len(nodes)
            assert labels_and_sources(graph) == dict.fromkeys(nodes, (f"from {source}", source))
        for weaker in (name for names in ranked[:rank] for name in names):
            assert graph.add_labels({site: "weaker"}, weaker) == 0
    assert labels_and_sources(graph) == dict.fromkeys(nodes, ("from user", "user"))
    graph.label("L2#0", "")
    assert graph.add_labels({site: "again"}, "outputs") == len(nodes)


def test_invalid_labels_change_nothing(graph):
    before = labels_and_sources(graph)
    for labels, source, message in (
        ({"L2#0": "a"}, "someone", "invalid source 'someone'"),
        ({"L2#0": "a", "warm": "b"}, "file", "invalid node 'warm'"),
        ({"L2#0": "a", "token@1": "b"}, "file", "cannot label 'token@1'"),
        ({"L2#0": "a", 3: "b"}, "file", "cannot label 3"),
        ({"L2#0": "a", (1, 2, 3, 4): "b"}, "file", "cannot label"),
        ({"L2#0": "a", ("2", 0): "b"}, "file", "layer"),
        ({"L2#0": "a", "L1#0": 5}, "file", "expected a text"),
        ({"L2#0": "a", "L1#0": ["b"]}, "file", "expected a text"),
        ({"L2#0": "a", "L1#0": "\ud800"}, "file", "not valid Unicode"),
        ({"L2#0": "a", "L1#0": Label("a", "me")}, "file", "invalid source 'me'"),
        ({"L2#0": "a", "L1#0": "12"}, "user", "read as a node"),
    ):
        with pytest.raises(ArgumentError, match=message):
            graph.add_labels(labels, source)
        assert labels_and_sources(graph) == before


def test_a_name_of_several_nodes_lists_them_with_labels(graph):
    graph.label(4, "not cold")
    with pytest.raises(ArgumentError, match=r"names 2 nodes; name one.*: 3 \(L2#0@0 'not cold'\), 4 \(L.*'not cold'\)"):
        graph.heads("not cold", 20)
    with pytest.raises(ArgumentError, match=r"'not cold' is not a target.* 19 \('"):
        strongest_paths(graph, "not cold")


@pytest.mark.parametrize(
    ("source", "goes_first"), [("user", True), ("file", True), ("neuronpedia", False), ("outputs", False)]
)
def test_only_labels_that_people_gave_go_before_targets(graph, source, goes_first):
    target = next(each for each in graph.info["targets"] if each["node"] > 10)
    assert graph.find(target["label"]) == [target["node"]]
    graph.label(range(15), "")
    graph.add_labels({"L2#0": target["label"], "L0#2": "only a label"}, source)
    labelled = graph.find("L2#0")
    for name in (target["label"], repr(target["label"])):
        assert graph.find(name) == (labelled if goes_first else [target["node"]])
    assert graph.find("only a label") == graph.find("L0#2")


def test_a_label_that_reads_as_a_number_is_found_in_quotes(graph):
    nodes = graph.find("L2#0")
    graph.label(nodes, "")
    graph.add_labels({"L2#0": "12"}, "examples")
    assert graph.find("'12'") == nodes
    assert graph.find("12") == [12]


@pytest.mark.parametrize(
    ("column", "row", "value"),
    [
        ("label", 20, "of a target"),
        ("label", 16, "of a token"),
        ("label", 0, "without a source"),
        ("label_source", 0, "user"),
        ("label_source", 3, "someone"),
        ("label_source", 3, ""),
        ("text", 3, "of a feature"),
        ("text", 11, "of an error node"),
    ],
)
def test_labels_in_the_wrong_place_are_refused(graph, tmp_path, column, row, value):
    values = graph.column(column)
    values[row] = value
    index = graph.nodes.schema.get_field_index(column)
    table = graph.nodes.set_column(index, graph.nodes.schema.field(index), pa.array(values, pa.string()))
    save_table(table, tmp_path / "a.arrow")
    with pytest.raises(FileError, match=r"has a label|has no source"):
        cotrace.open(tmp_path / "a.arrow")


@pytest.mark.parametrize(
    ("label", "short"),
    [
        ("not cold", "not cold"),
        ("", ""),
        ("forms of be", "forms of be"),
        ("cold, warm, mild, chilly", "cold, warm…"),
        ("the, a, this, that one", "the, a…"),
        ("is, of, in, with, from", "is, of…"),
        ('says "Tuesday", "Wednesday"', 'says "Tuesday"…'),
        ('says "in the end", "Wed"', 'says "in the end"…'),
        ("references to the days of the week", "days…week"),
        ("the days of the week and of the month", "days…week…"),
        ("words related to cold weather and winter", "cold weather…"),
        ("of the", "of the"),
        ("of the and of the and of the", "of…"),
        ("  tabs\tand  spaces, too ", "tabs…spaces…"),
        ("see also the last end", "see also…"),
        ("寒い天気", "寒い天気"),
    ],
)
def test_short_labels(label, short):
    assert short_label(label) == short


# --- edits of metadata and tables -----------------------------------------------------------


def test_edits_of_the_metadata_are_saved(graph, tmp_path):
    graph.info["mine"] = {"values": [1, 2.5, None, True], "text": "ü"}
    graph.info["notes"] = "set in the metadata"
    opened = cotrace.open(graph.save(tmp_path / "a.arrow"))
    assert opened.info == graph.info
    assert opened.notes == "set in the metadata"
    assert cotrace.open(opened.prune().save(tmp_path / "b.arrow")).info["mine"] == graph.info["mine"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"mine": {1, 2}}, r"graph.info\['mine'\] cannot be saved"),
        ({"mine": float("nan")}, "cannot be saved"),
        ({"mine": {"a": {1: 2}}}, "a key is not a text"),
        ({"mine": "\ud800"}, "cannot be saved"),
        ({5: "a"}, "a key is not a text"),
        ({"prompt": 5}, "wrong prompt"),
        ({"notes": 5}, "wrong notes"),
        ({"tokens": []}, "does not fit"),
        ({"targets": []}, "no targets"),
        ({"groups": [{"name": "a", "nodes": ["zz"]}]}, "group is damaged"),
        ({"groups": [{"name": "a", "nodes": []}] * 2}, "one name"),
    ],
)
def test_edits_that_a_file_cannot_hold_are_refused(graph, tmp_path, edit, message):
    graph.info |= edit
    with pytest.raises(ArgumentError, match=message):
        graph.save(tmp_path / "a.arrow")
    assert not any(tmp_path.iterdir())


def test_a_table_in_parts_or_without_metadata_is_saved(graph, tmp_path):
    parts = pa.concat_tables([graph.nodes.slice(0, 7), graph.nodes.slice(7)])
    for table in (graph.nodes.replace_schema_metadata(None), parts):
        opened = cotrace.open(Graph(table, graph.info).save(tmp_path / "a.arrow"))
        assert opened.nodes.equals(graph.nodes)
        assert annotations(opened) == annotations(graph)


@pytest.mark.parametrize(
    "edit",
    [
        lambda table: table.slice(0, 12),
        lambda table: table.slice(3),
        lambda table: table.slice(0, 0),
        lambda table: table.drop_columns(["layer"]),
        lambda table: table.take(list(range(21, -1, -1))),
        lambda table: table.set_column(0, "node", pa.array([0] * 22, pa.int32())),
    ],
)
def test_a_table_that_is_no_graph_is_not_saved(graph, tmp_path, edit):
    with pytest.raises(ArgumentError, match="cannot be saved"):
        Graph(edit(graph.nodes), graph.info).save(tmp_path / "a.arrow")
    assert not any(tmp_path.iterdir())
