"""Checksums of graph files: damage is found and named, wherever it is."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from helpers.random_graphs import random_graph

import cotrace
from cotrace.common.errors import FileError
from cotrace.graphs import reader
from cotrace.graphs.checksums import CHECKSUMS_KEY, damaged_columns, metadata_is_intact, with_checksums
from cotrace.graphs.metadata import INFO_KEY, VERSION_KEY
from cotrace.graphs.schema import schema
from cotrace.graphs.store import read_table

NODE_COLUMNS = [name for name in schema().names if name not in reader.EDGE_COLUMNS]


@pytest.fixture(scope="module")
def graph():
    return random_graph(7, n_features=10, n_errors=5, feature_targets=1, density=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "graph.arrow"


def write(table, path):
    """Write a table as it is, with the checksums that its metadata happens to have."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def changed(table, name):
    """Return the table with one value of one column changed, in the buffer of its values."""
    index, column = table.schema.get_field_index(name), table[name].chunk(0)
    values = column.to_pylist()
    if pa.types.is_list(column.type):
        next(value for value in reversed(values) if value)[0] += 1
    elif pa.types.is_boolean(column.type):
        values[0] = not values[0]
    elif pa.types.is_dictionary(column.type):
        codes = column.indices.to_numpy().copy()
        codes[0] += 1
        values = pa.DictionaryArray.from_arrays(codes, column.dictionary)
    else:
        row = next(row for row, value in enumerate(values) if value is not None)
        values[row] += "s" if isinstance(values[row], str) else 1
    values = values if isinstance(values, pa.Array) else pa.array(values, column.type)
    return table.set_column(index, table.schema.field(index), values)


def with_null_moved(table, name):
    """Return the table with the first null of a column removed, in the buffer of its nulls."""
    values = table[name].to_pylist()
    values[values.index(None)] = 0
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))


def with_metadata(table, **changes):
    names = {"version": VERSION_KEY, "info": INFO_KEY, "checksums": CHECKSUMS_KEY}
    metadata = {**table.schema.metadata, **{names[key]: value for key, value in changes.items()}}
    return table.replace_schema_metadata({key: value for key, value in metadata.items() if value is not None})


@pytest.mark.parametrize("name", schema().names)
def test_a_changed_column_is_named(graph, path, name):
    table = with_checksums(graph.nodes)
    write(changed(table, name), path)
    assert damaged_columns(read_table(path), table.column_names) == [name]
    with pytest.raises(FileError, match=f"{path}: its column '{name}' is damaged; copy"):
        cotrace.open(path)


@pytest.mark.parametrize("name", ["layer", "feature", "activation", "probability"])
def test_changed_nulls_are_damage(graph, path, name):
    write(with_null_moved(with_checksums(graph.nodes), name), path)
    with pytest.raises(FileError, match=f"its column '{name}' is damaged"):
        cotrace.open(path)


def test_several_changed_columns_are_named(graph, path):
    write(changed(changed(with_checksums(graph.nodes), "bias"), "text"), path)
    with pytest.raises(FileError, match="its columns text, bias are damaged"):
        cotrace.open(path)


def test_without_verification_a_changed_value_is_read(graph, path):
    write(changed(with_checksums(graph.nodes), "bias"), path)
    opened = cotrace.open(path, verify=False)
    assert opened.column("bias")[0] == pytest.approx(graph.column("bias")[0] + 1)


def test_changed_metadata_is_refused(graph, path):
    table = with_checksums(graph.nodes)
    info = {**graph.info, "prompt": graph.info["prompt"] + "!"}
    sums = json.loads(table.schema.metadata[CHECKSUMS_KEY])
    other_sums = {**sums, "columns": {**sums["columns"], "layer": sums["columns"]["position"]}}
    for changes in (
        {"info": json.dumps(info).encode()},
        {"version": b"1"},
        {"version": b"2"},
        {"checksums": None},
        {"checksums": json.dumps(other_sums).encode()},
        *({"checksums": text} for text in (b"", b"{", b"\xff", b"[]", b"1", b"{}", b'{"metadata": 1}', b"[" * 10**5)),
    ):
        write(with_metadata(table, **changes), path)
        with pytest.raises(FileError, match="its metadata is damaged"):
            cotrace.open(path)
    assert metadata_is_intact(table.schema.metadata)


def test_files_before_version_3_open_without_checksums(graph, path):
    write(with_metadata(graph.nodes.drop_columns(["label", "label_source"]), version=b"2"), path)
    assert cotrace.open(path).nodes.equals(graph.nodes, check_metadata=True)
    assert reader.check_file(path) == 0


@pytest.mark.parametrize("first", [0, 3])
def test_a_slice_has_the_checksums_of_a_copy(graph, first):
    sliced = graph.nodes.slice(first, 9)
    copied = pa.table([pa.array(c.to_pylist(), c.type) for c in sliced.columns], schema=sliced.schema)
    values = [
        "node",
        "text",
        "influence",
        "computed",
        "sources",
        "weights",
    ]  # columns without nulls, which have values too
    assert not damaged_columns(copied.replace_schema_metadata(with_checksums(sliced).schema.metadata), values)


def test_checksums_are_of_the_contents_only(graph, path):
    graph.save(path)
    first = read_table(path).schema.metadata[CHECKSUMS_KEY]
    cotrace.open(path).save(path)
    assert read_table(path).schema.metadata[CHECKSUMS_KEY] == first
    assert CHECKSUMS_KEY not in cotrace.open(path).nodes.schema.metadata


# --- edges of huge files --------------------------------------------------------------------


@pytest.fixture
def lazy(monkeypatch):
    monkeypatch.setattr(reader, "LAZY_BYTES", 0)


USES = {
    "influence": lambda graph, out: graph.influence(),
    "edges": lambda graph, out: graph.edges(),
    "the table": lambda graph, out: graph.nodes,
    "a column": lambda graph, out: graph.column("weights"),
    "save": lambda graph, out: graph.save(out),
    "prune": lambda graph, out: graph.prune(),
    "another record": lambda graph, out: graph.with_validation({}),
}


@pytest.mark.parametrize("name", USES)
def test_edges_of_a_huge_file_are_checked_when_they_are_used(graph, path, lazy, name):
    write(changed(with_checksums(graph.nodes), "weights"), path)
    opened = cotrace.open(path)
    assert np.array_equal(opened.column("influence"), graph.column("influence"))
    assert opened.n_edges == graph.n_edges
    for _ in range(2):  # the second use is no better than the first
        with pytest.raises(FileError, match=f"{path}: its column 'weights' is damaged"):
            USES[name](opened, path.with_name("copy.arrow"))
    assert not path.with_name("copy.arrow").exists()


def test_other_columns_of_a_huge_file_are_checked_at_once(graph, path, lazy):
    write(changed(with_checksums(graph.nodes), "influence"), path)
    with pytest.raises(FileError, match="'influence' is damaged"):
        cotrace.open(path)


def test_an_intact_huge_file(graph, path, lazy):
    opened = cotrace.open(graph.save(path))
    assert np.array_equal(pickle.loads(pickle.dumps(opened)).influence(), graph.influence())
    assert np.array_equal(opened.influence(), graph.influence())
    assert reader.check_file(path) == len(schema().names)


# --- the command ----------------------------------------------------------------------------


def test_show_check(graph, path, command):
    graph.save(path)
    assert command("show", path, "--check")[:2] == (
        0, f"{path} is intact: its metadata and 21 columns match their checksums\n",
    )  # fmt: skip
    write(with_metadata(graph.nodes.drop_columns(["label", "label_source"]), version=b"2"), path)
    status, output, _ = command("show", path, "--check")
    assert status == 0
    assert "valid graph without checksums" in output


def test_show_check_finds_damage_in_a_huge_file(graph, path, lazy, command):
    write(changed(with_checksums(graph.nodes), "sources"), path)
    status, output, errors = command("show", path, "--check")
    assert (status, output) == (2, "")
    assert "its column 'sources' is damaged" in errors
