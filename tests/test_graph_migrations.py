"""Files of older format versions open, with every number that the code of that version read from them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.random_graphs import random_graph

import cotrace
from cotrace.common.errors import FileError
from cotrace.graphs.metadata import FORMAT_VERSION, INFO_KEY, VERSION_KEY
from cotrace.graphs.migrations import MIGRATIONS, OLDEST_VERSION, migrate
from cotrace.graphs.store import read_table, save_table

DATA = Path(__file__).parent / "data"
NAMES = ("traced", "pruned", "validated")
CURRENT = str(FORMAT_VERSION).encode()
every_file = pytest.mark.parametrize("name", [f"version_{version}_{name}" for version in MIGRATIONS for name in NAMES])


def old_file(name: str) -> Path:
    return DATA / f"{name}.arrow.zst"


def recorded_results(name: str) -> dict:
    """Return the results that the code of the file's version computed from it."""
    return json.loads((DATA / f"{name}.json").read_text())


def test_every_older_version_has_a_migration_and_test_files():
    assert sorted(MIGRATIONS) == list(range(OLDEST_VERSION, FORMAT_VERSION))
    for version in MIGRATIONS:
        assert {path.name for path in DATA.glob(f"version_{version}_*.arrow.zst")} == {
            f"version_{version}_{name}.arrow.zst" for name in NAMES
        }


@every_file
def test_the_files_are_of_the_old_version(name):
    metadata = read_table(old_file(name)).schema.metadata
    assert metadata[VERSION_KEY] == name.split("_")[1].encode()
    assert json.loads(metadata[INFO_KEY]) == recorded_results(name)["info"]


@every_file
def test_metadata_of_an_old_file(name):
    info = recorded_results(name)["info"]
    moved = {name: info.pop(name) for name in ("scores", "coverage", "bound") if name in info}
    assert bool(moved) == name.startswith("version_1_")
    opened = cotrace.open(old_file(name))
    assert bool(info.pop("feature_names", None)) == name.startswith("version_4_")
    assert opened.info == {**info, "traced": {**info["traced"], **moved}}
    assert ("validation" in opened.info) == name.endswith("validated")


@every_file
def test_nodes_and_edges_of_an_old_file(name):
    opened, table, then = cotrace.open(old_file(name)), read_table(old_file(name)), recorded_results(name)
    labels, others = ["text", "label", "label_source"], [name for name in table.column_names if name != "text"]
    assert opened.nodes.column_names == [*table.column_names[:6], *labels, *table.column_names[7:]]
    assert opened.nodes.select(others).equals(table.select(others))  # bit by bit; metadata apart
    assert list(opened.order.counts) == then["counts"]
    assert opened.n_edges == then["edges"]
    if name.endswith("pruned"):
        assert opened.nodes.select(others).to_pydict() == {key: then["nodes"][key] for key in others}


@every_file
def test_labels_of_an_old_file(name):
    opened, table = cotrace.open(old_file(name)), read_table(old_file(name))
    columns = {column: opened.column(column).tolist() for column in ("text", "label", "label_source")}
    assert columns["text"][opened.order.tokens.start :] == table["text"].to_pylist()[opened.order.tokens.start :]
    assert set(columns["text"][: opened.order.tokens.start]) == {""}
    labels = {str(node): label for node, label in opened.labels.items()}
    sources = {str(node): columns["label_source"][opened.find(node)[0]] for node in opened.labels}
    if not name.startswith("version_4_"):
        assert labels == {}
        return
    said = 'says "hot", "t⏎1"'
    named = {node for node in labels if node.partition("@")[0] in recorded_results(name)["info"]["feature_names"]}
    assert len(named) >= 3
    assert labels == dict.fromkeys(named, said) | {"L0#113@3": "not cold", "L0#error@1": "lost"}
    assert sources == dict.fromkeys(named, "outputs") | {"L0#113@3": "user", "L0#error@1": "user"}


@pytest.mark.parametrize("names", [["7"], {"L1#5": "7"}, {"L1#5": [7]}, "7"])
def test_damaged_names_of_features_in_an_old_file_are_refused(names, tmp_path):
    table = read_table(old_file("version_4_pruned"))
    info = {**json.loads(table.schema.metadata[INFO_KEY]), "feature_names": names}
    path = tmp_path / "graph.arrow"
    save_table(table.replace_schema_metadata({VERSION_KEY: b"4", INFO_KEY: json.dumps(info)}), path)
    with pytest.raises(FileError, match="feature_names"):
        cotrace.open(path)


@every_file
def test_results_computed_from_an_old_file(name):
    opened, then = cotrace.open(old_file(name)), recorded_results(name)
    assert opened.influence().tolist() == pytest.approx(then["influence"], rel=1e-12, abs=0)
    assert opened.estimated_influence().tolist() == pytest.approx(then["estimated_influence"], rel=1e-12, abs=0)
    scores = opened.scores()
    found = {"replacement": scores.replacement, "completeness": scores.completeness}
    assert found == pytest.approx(then["scores"], rel=1e-12)
    assert scores.graph == ("traced" if name.endswith("traced") else "pruned")
    if name.endswith("traced"):
        assert opened.info["traced"]["scores"] == pytest.approx(then["scores"], rel=1e-12)
        assert opened.prune(0.9, 0.95).nodes.equals(cotrace.open(old_file(name.replace("traced", "pruned"))).nodes)


@every_file
def test_an_old_file_is_saved_in_the_current_version(name, tmp_path):
    opened = cotrace.open(old_file(name))
    again = cotrace.open(opened.save(tmp_path / "again.arrow"))
    assert again.nodes.schema.metadata[VERSION_KEY] == CURRENT
    assert again.nodes.equals(opened.nodes, check_metadata=True)
    assert again.info == opened.info


def test_scores_name_the_graph_they_belong_to(tmp_path):
    graph = random_graph(3, n_features=30, n_errors=12)
    pruned = cotrace.open(graph.prune(0.6, 0.8).save(tmp_path / "pruned.arrow"))
    assert (graph.scores().graph, pruned.scores().graph) == ("traced", "pruned")
    assert pruned.info["traced"] == graph.info["traced"]
    assert pruned.scores()[:2] != graph.scores()[:2]


@pytest.mark.parametrize("traced", [None, 1, [], "text", {"nodes": 1}])
@pytest.mark.parametrize("scores", [None, {}, {"replacement": "a lot", "completeness": 1}])
def test_damaged_metadata_of_an_old_file_is_refused(traced, scores, tmp_path):
    table = read_table(old_file("version_1_pruned"))
    info = {**json.loads(table.schema.metadata[INFO_KEY]), "traced": traced, "scores": scores}
    path = tmp_path / "graph.arrow"
    save_table(table.replace_schema_metadata({VERSION_KEY: b"1", INFO_KEY: json.dumps(info)}), path)
    with pytest.raises(FileError, match="lacks or has a wrong traced;"):
        cotrace.open(path)


def test_a_migration_does_not_change_its_argument():
    info = recorded_results("version_1_pruned")["info"]
    before = json.dumps(info)
    migrate(info, 1)
    assert json.dumps(info) == before


def test_arrays_of_an_old_file_are_still_mapped(tmp_path):
    path = tmp_path / "plain.arrow"
    save_table(read_table(old_file("version_1_pruned")), path)
    before = pa.total_allocated_bytes()
    opened = cotrace.open(path)
    assert pa.total_allocated_bytes() - before < 2**12
    assert np.array_equal(opened.csr.weights, cotrace.open(old_file("version_1_pruned")).csr.weights)
