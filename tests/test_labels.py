"""Labels from feature stores, files and the command line, in traces, effects, pictures and tables."""

import json
import re
import shutil

import pytest
import tiny
from helpers.interventions import write_tokenizer
from helpers.random_graphs import random_graph
from helpers.stores import Rule, write_store

import cotrace
from cotrace.common.errors import FileError
from cotrace.features.store.schema import file_of
from cotrace.graphs import node_label
from cotrace.graphs.drawing.render import svg_text

NEVER = (Rule(lambda row, at: False),) * tiny.FEATURES
STORE_LABELS = {
    **{(layer, feature): (f"fires on {feature}", "examples") for layer in range(3) for feature in range(0, 24, 2)},
    (0, 1): ("says one", "outputs"),
    (1, 1): ("12", "user"),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    dictionary = {"name": "tiny", "kind": "clt", "site": "mlp", "sha256": None}
    layers = tuple(range(tiny.LAYERS))
    return write_store(tmp_path_factory.mktemp("store"), NEVER, layers, STORE_LABELS, dictionary=dictionary)


@pytest.fixture(scope="module")
def labelled_model(model_folder, transcoder_spec, store):
    return cotrace.load(model_folder, transcoder_spec("clt"), device="cpu", features=store)


def labels_of(graph):
    """Return the label and source of each labelled feature, by layer and number; they are the same at all positions."""
    rows = graph.nodes.select(["layer", "feature", "label", "label_source"]).to_pylist()
    return {(row["layer"], row["feature"]): (row["label"], row["label_source"]) for row in rows if row["label"]}


def test_traces_have_the_labels_of_the_feature_store(labelled_model, load):
    graph = labelled_model.trace(tiny.prompt(), [3])
    part = graph.order.features
    present = {*zip(*(graph.column(name, -1)[part].tolist() for name in ("layer", "feature")), strict=True)}
    assert labels_of(graph) == {key: label for key, label in STORE_LABELS.items() if key in present}
    assert len({source for _, source in labels_of(graph).values()}) >= 2
    assert labels_of(load("clt", "float32").trace(tiny.prompt(), [3])) == {}


def test_effects_and_scores_of_attention_have_them_too(labelled_model):
    effects = labelled_model.effects(tiny.prompt(), [3], -1)
    graph = labelled_model.trace(tiny.prompt(), [3])
    expected = dict(zip(map(str, graph.labels), graph.labels.values(), strict=True))
    rows = {effects.name(node): row["text"] for node, row in enumerate(effects.nodes.to_pylist())}
    assert {name: text for name, text in rows.items() if text and "#" in name} == expected
    assert graph.effects().nodes["text"].to_pylist() == effects.nodes["text"].to_pylist()
    score = labelled_model.attention(tiny.prompt(), 2, 0, -1)
    assert {name for name in score.key_side.names(range(len(score.key_side.nodes))) if name.endswith("'")} & {
        f"{name} '{label}'" for name, label in expected.items()
    }


def test_a_damaged_store_is_reported_before_rows_are_computed(
    model_folder, transcoder_spec, store, tmp_path, monkeypatch
):
    for path in store.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / file_of("features", 1)).write_bytes(b"damaged")
    model = cotrace.load(model_folder, transcoder_spec("clt"), device="cpu", features=tmp_path)
    monkeypatch.setattr("cotrace.model.trace", lambda *_, **__: pytest.fail("rows were computed"))
    with pytest.raises(FileError, match="features-1"):
        model.trace(tiny.prompt(), [3])


def test_trace_labels_its_files(model_folder, transcoder_spec, store, tmp_path, command):
    file = tmp_path / "labels.json"
    file.write_text(json.dumps({"L0#2": "from a file", "L9#999": "absent"}))
    ids = [tmp_path / "one.jsonl", tmp_path / "many"]
    ids[0].write_text(json.dumps({"prompt": tiny.prompt(), "targets": ["id:3"]}))
    options = ["--model", model_folder, "--transcoders", transcoder_spec("clt"), "--device", "cpu", "--features", store]
    status, _, errors = command("trace", "--prompts", ids[0], *options, "--out", ids[1])
    assert status == 0, errors
    (circuit,) = ids[1].glob("id=*/*.arrow")
    found = labels_of(cotrace.open(circuit))
    assert found
    assert found.items() <= STORE_LABELS.items()
    status, _, errors = command("trace", "--prompts", ids[0], *options, "--out", ids[1], "--labels", file)
    assert (status, "--labels is for one PROMPT" in errors) == (2, True)
    for option, message in (("--labels", "does not exist"), ("--features", "store.json")):
        status, _, errors = command("trace", "x", *options, "--out", tmp_path / "out", option, tmp_path / "no.json")
        assert (status, message in errors, errors.count("\n")) == (2, True, 1)


def test_trace_prefers_labels_of_a_file(labelled_model, model_folder, transcoder_spec, store, tmp_path, command):
    folder = write_tokenizer(shutil.copytree(model_folder, tmp_path / "model"))
    file = tmp_path / "labels.csv"
    file.write_text("".join(f"L{layer}#{feature},from a file\n" for layer in range(3) for feature in range(0, 24, 4)))
    options = ["--transcoders", transcoder_spec("clt"), "--device", "cpu", "--features", store, "--labels", file]
    status, output, errors = command("trace", "a b c", "--model", folder, *options, "--out", tmp_path / "out")
    assert status == 0, errors
    (path,) = (tmp_path / "out").glob("*.arrow")
    labels = labels_of(cotrace.open(path))
    assert ("from a file", "file") in labels.values()
    for key, label in labels.items():
        assert label == (("from a file", "file") if key[1] % 4 == 0 else STORE_LABELS[key])
    assert "from a file" in output


def test_the_circuit_of_compare_labels_other_features_by_their_outputs(labelled_model):
    ids = tiny.prompt(24)
    segments = [("question", ids[:8]), ("step", ids[8:14], ids[12:13]), ("answer", ids[14:18], ids[17:18])]
    options = {"evidence": "none", "alternatives": [[5], [7], [9]], "max_features": 40, "progress": False}
    labels = labels_of(labelled_model.compare(segments, **options).graph)
    for key, (label, source) in labels.items():
        assert (label, source) == STORE_LABELS.get(key, (label, "outputs"))
    assert {key for key in labels if key not in STORE_LABELS}
    assert {key for key in labels if key in STORE_LABELS}


# --- cotrace label --------------------------------------------------------------------------


@pytest.fixture
def graph_file(tmp_path):
    return random_graph(7, n_layers=3, n_features=10, n_errors=5, density=1).save(tmp_path / "graph.arrow")


def test_label_writes_into_the_file(graph_file, command, tmp_path):
    names = [node_label(cotrace.open(graph_file), node) for node in (3, 11)]
    status, output, _ = command("label", graph_file, names[0], "not cold")
    assert status == 0
    assert "changed 1 of 15 features and error nodes; labels now: 1 from user" in output
    assert command("label", graph_file, names[1], "lost", "--out", tmp_path / "b.arrow")[0] == 0
    opened = cotrace.open(graph_file)
    assert {str(node): label for node, label in opened.labels.items()} == {names[0]: "not cold"}
    assert cotrace.open(tmp_path / "b.arrow").column("label")[[3, 11]].tolist() == ["not cold", "lost"]
    status, output, _ = command("label", graph_file, "not cold", " ", "--json")
    assert json.loads(output) == {"file": str(graph_file), "changed": 1, "labels": []}
    status, _, errors = command("label", graph_file, names[1], "other", "--out", tmp_path / "b.arrow")
    assert (status, "add --force" in errors) == (2, True)


def test_label_takes_files_and_stores(graph_file, command, tmp_path, store):
    table = tmp_path / "labels.tsv"
    table.write_text("feature\tlabel\nL2#0\tfrom a file\nL0#2\tnot here, or here\n")
    for options in (["--labels", table], ["--features", store], ["--labels", table]):
        status, output, _ = command("label", graph_file, *options, "--json")
        assert status == 0
    listed = json.loads(output)["labels"]
    assert {row["source"] for row in listed} == {"file", "examples", "outputs", "user"}
    assert {row["label"] for row in listed if row["name"].startswith("L2#0@")} == {"from a file"}
    status, output, _ = command("label", graph_file)
    assert len(re.findall("from a file +file", output)) == sum(row["label"] == "from a file" for row in listed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["L0#2"], "give NODE and TEXT"),
        (["L9#9", "a"], "L9#9 is not in this graph"),
        (["token@1", "a"], "label features and error nodes"),
        (["0", "12"], "read as a node"),
        (["0", "@2:3"], "read as a span"),
        (["--out", "b.arrow"], "--out is where labels are written"),
        (["--labels", "no.json"], "does not exist"),
        (["--features", "no"], "store.json"),
        (["--features", "default"], "no feature store of"),
    ],
)
def test_label_refuses(graph_file, command, options, message):
    before = graph_file.read_bytes()
    status, output, errors = command("label", graph_file, *options)
    assert (status, output) == (2, "")
    assert message in errors
    assert graph_file.read_bytes() == before


def test_a_store_without_labels_is_refused(graph_file, command, tmp_path):
    write_store(tmp_path / "store", NEVER, (0, 1, 2))
    status, _, errors = command("label", graph_file, "--features", tmp_path / "store")
    assert (status, "has no labels of these features" in errors) == (2, True)


def test_a_store_of_other_transcoders_is_refused(graph_file, command, tmp_path):
    write_store(tmp_path / "store", NEVER[:1], (0, 1, 2))
    status, _, errors = command("label", graph_file, "--features", tmp_path / "store")
    assert (status, "the graph was traced with" in errors) == (2, True)


# --- pictures and tables --------------------------------------------------------------------

LONG = "references to the days of the week, and to what happens on them"


def test_pictures_have_two_words_and_the_label_in_tooltips():
    graph = random_graph(7, n_features=10, n_errors=5, density=1)
    graph.add_labels({"L2#0": LONG}, "neuronpedia")
    drawn = svg_text(graph)
    tooltip = re.findall(rf"<title>(feature L2#0@0 {LONG}[^<→]*)</title>", drawn)[0]
    assert "label from neuronpedia" in tooltip
    assert len(re.findall(">days…week…<", drawn)) == len(graph.find("L2#0"))


@pytest.mark.parametrize(
    ("source", "shown"), [("user", "days…week…"), ("neuronpedia", "my group"), ("outputs", "my group")]
)
def test_groups_go_before_labels_that_nobody_chose(source, shown):
    graph = random_graph(7, n_features=10, n_errors=5, density=1)
    graph.add_labels({"L2#0": LONG}, source)
    graph.group("my group", "L2#0")
    drawn = svg_text(graph)
    assert len(re.findall(f">{shown}<", drawn)) == len(graph.find("L2#0"))
    assert f"L2#0@0 {LONG}" in drawn


def test_tables_and_paths_cut_long_labels(command, tmp_path):
    graph = random_graph(7, n_features=10, n_errors=5, density=1)
    graph.add_labels({(layer, feature): LONG for layer in range(6) for feature in range(3)}, "neuronpedia")
    path = graph.save(tmp_path / "a.arrow")
    _, output, _ = command("show", path, "--kind", "feature")
    assert LONG not in output
    assert output.count(f"'{LONG[:38]}") > 5
    assert "10 from neuronpedia" in output
    _, output, _ = command("show", path, "--json")
    rows = json.loads(output)["nodes"]
    assert {(row["label"], row["label_source"]) for row in rows} == {(LONG, "neuronpedia")}
    assert all(row["name"].endswith(f" '{LONG}'") for row in rows)
