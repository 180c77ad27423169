"""Graph files: exact round trips, memory maps, atomic writes, and every way a file can be wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.random_graphs import dense, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

import cotrace
from cotrace.common.errors import CotraceError, FileError, ResourceError
from cotrace.graphs import Graph, NodeOrder, open_graph
from cotrace.graphs.metadata import FORMAT_VERSION, INFO, INFO_KEY, VERSION_KEY
from cotrace.graphs.order import KINDS
from cotrace.graphs.schema import schema
from cotrace.graphs.store import save_table

CURRENT_VERSION = str(FORMAT_VERSION).encode()
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: reads /proc, Linux only")


@pytest.fixture(scope="module")
def graph():
    return random_graph(7, n_features=10, n_errors=5, feature_targets=1, density=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "graph.arrow"


def refusal(path, match=None, verify=True):
    """Assert that a file is refused with one line that matches a text."""
    with pytest.raises(CotraceError, match=match) as caught:
        open_graph(path, verify=verify)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert str(path) in text
    assert text[-1] != ":"


# --- round trips ----------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.one_of(graphs(dtype=np.float32), graphs(dtype=np.float64)))
def test_a_round_trip_is_exact(tmp_path_factory, graph):
    opened = cotrace.open(graph.save(tmp_path_factory.mktemp("trip") / "graph.arrow"))
    opened.nodes.validate(full=True)
    assert opened.nodes.equals(graph.nodes, check_metadata=True)
    assert opened.info == graph.info
    assert opened.order == graph.order
    for found, expected in zip(opened.csr, graph.csr, strict=True):
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)


def test_the_same_graph_gives_the_same_bytes(tmp_path):
    for index in range(2):
        graph = random_graph(11, n_features=40, n_errors=20)
        graph.save(tmp_path / f"whole{index}")
        graph.prune(0.8, 0.9).save(tmp_path / f"pruned{index}")
    opened = open_graph(tmp_path / "whole0")
    opened.save(tmp_path / "whole2")
    opened.prune(0.8, 0.9).save(tmp_path / "pruned2")
    Graph(graph.nodes, dict(reversed(graph.info.items()))).prune(0.8, 0.9).save(tmp_path / "pruned3")
    for name in ("whole", "pruned"):
        assert len({path.read_bytes() for path in tmp_path.glob(f"{name}*")}) == 1


def test_large_lists_open_too(graph, path):
    large = graph.nodes.cast(schema(large=True).with_metadata(graph.nodes.schema.metadata))
    save_table(large, path)
    opened = open_graph(path)
    assert opened.csr.indptr.dtype == np.int64
    assert np.array_equal(dense(opened), dense(graph))
    assert np.array_equal(opened.adjacency().toarray(), graph.adjacency().toarray())
    assert np.array_equal(opened.influence(), graph.influence())
    assert opened.prune(0.8, 0.9).nodes.equals(graph.prune(0.8, 0.9).nodes)


def mapped_ranges(path):
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [[int(end, 16) for end in line.split()[0].split("-")] for line in lines if line.endswith(str(path))]


@LINUX
def test_arrays_point_into_the_read_only_map(graph, path):
    opened = open_graph(graph.save(path))
    matrix = opened.adjacency()
    for array in (*opened.csr, matrix.indptr, matrix.indices, matrix.data):
        assert any(first <= array.ctypes.data < last for first, last in mapped_ranges(path))
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_the_adjacency_matrix_is_usable(graph, path):
    matrix = open_graph(graph.save(path)).adjacency()
    assert isinstance(matrix, csr_array)
    assert matrix.has_sorted_indices
    assert np.array_equal(matrix.toarray(), dense(graph))
    assert np.allclose(matrix @ np.ones(len(dense(graph))), dense(graph).sum(1), atol=1e-4)


def test_edges_are_listed_from_source_to_target(graph):
    matrix = np.zeros_like(dense(graph))
    edges = graph.edges()
    matrix[edges["target"].to_numpy(), edges["source"].to_numpy()] = edges["weight"].to_numpy()
    assert np.array_equal(matrix, dense(graph))


def test_columns_as_arrays(graph):
    layer, order = graph.column("layer"), graph.order
    assert np.isnan(layer[order.tokens.start :]).all()
    assert graph.column("layer", missing=-1).tolist() == [*layer[: order.tokens.start], *[-1] * (4 + 3)]
    assert graph.column("node").tolist() == list(range(order.n_nodes))
    assert graph.column("text").tolist() == graph.nodes["text"].to_pylist()
    assert np.isnan(graph.column("activation")).sum() == order.n_nodes - order.n_features
    assert graph.column("influence").dtype == np.float32


def test_slices_of_the_node_order():
    order = NodeOrder(3, 0, 2, 1)
    assert [np.arange(6)[part].tolist() for part in (order.features, order.errors, order.tokens, order.logits)] == [
        [0, 1, 2], [], [3, 4], [5],
    ]  # fmt: skip
    assert order.kind_codes().tolist() == [0, 0, 0, 2, 2, 3]
    assert order.keep(np.array([0, 1, 1, 1, 0, 1], bool)) == NodeOrder(2, 0, 1, 1)


def test_opening_needs_neither_torch_nor_triton(graph, path):
    code = """if True:
        import sys
        def check():
            heavy = {"torch", "triton", "transformers"} & set(sys.modules)
            assert not heavy, heavy
        import cotrace.graphs; check()
        import cotrace; check()
        cotrace.open(sys.argv[1]).prune(); check()"""
    subprocess.run([sys.executable, "-c", code, str(graph.save(path))], check=True, timeout=600)


# --- atomic writes --------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["write_table", "replace"])
def test_a_failed_write_leaves_no_file_and_keeps_the_older_one(graph, path, monkeypatch, step):
    def fail(*_):
        raise OSError(28, "No space left on device")

    graph.save(path)
    before = path.read_bytes()
    owner, name = (os, "replace") if step == "replace" else (pa.ipc.RecordBatchFileWriter, "write_table")
    monkeypatch.setattr(owner, name, fail)
    for target in (path, path.with_name("new.arrow")):
        with pytest.raises(ResourceError, match=r"disk .* is full"):
            random_graph(8).save(target)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_parent_folders_are_created_and_a_file_as_parent_is_refused(graph, path):
    assert open_graph(graph.save(path.parent / "deep" / "er" / "graph.arrow")).order == graph.order
    graph.save(path)
    with pytest.raises(FileError, match=path.name):
        graph.save(path / "graph.arrow")


@pytest.mark.skipif(os.geteuid() == 0, reason="NOT TESTED: root may write everywhere")
def test_an_unwritable_folder(graph, path):
    path.parent.chmod(0o500)
    with pytest.raises(FileError, match="Permission denied"):
        graph.save(path)


def test_a_file_that_may_not_be_read(graph, path, monkeypatch):
    def fail(_):
        raise PermissionError(13, "Permission denied")

    graph.save(path)
    monkeypatch.setattr(pa, "memory_map", fail)
    refusal(path, "may not read it; ask its owner")


def test_saving_over_the_file_that_is_mapped(graph, path):
    opened = open_graph(graph.save(path))
    expected = dense(opened)
    opened.prune(0.5, 0.5).save(path)
    assert np.array_equal(dense(opened), expected)
    assert open_graph(path).n_edges < opened.n_edges


# --- damaged files --------------------------------------------------------------------------


def check_invariants(graph):
    """Check the invariants that all functions of a graph rely on, and call these functions."""
    size = graph.order.n_nodes
    targets, sources = graph.csr.edge_targets(), graph.csr.indices
    layer = graph.column("layer", missing=-1).copy()
    layer[graph.order.logits] = graph.info["model"]["n_layers"]
    assert (layer[sources] < layer[targets]).all()
    assert (np.diff(sources)[np.diff(targets) == 0] > 0).all()
    assert np.isfinite(graph.csr.weights).all()
    assert sum(graph.target_weights) == pytest.approx(1, abs=1e-3)
    assert graph.adjacency().shape == (size, size)
    assert np.isfinite(graph.influence()).all()
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in graph.scores()[:2])
    assert graph.to_networkx().number_of_edges() == graph.n_edges
    with np.errstate(over="ignore"):  # weights near the largest float32 may have an infinite sum
        graph.prune(0.8, 0.9)
    repr(graph)


def survives(path, verify=True) -> bool:
    """Return whether a damaged file still opens; if it does, it must be a valid graph."""
    try:
        graph = open_graph(path, verify=verify)
    except CotraceError:
        refusal(path, verify=verify)
        return False
    check_invariants(graph)
    return True


def flip_bytes(folder, seed, count):
    """Damage a small file again and again; run in a separate process, which it may crash."""
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, n_layers=3, n_positions=2, n_features=5, n_errors=3)
    path = graph.save(Path(folder) / "graph.arrow")
    data = np.fromfile(path, np.uint8)
    opened = unverified = 0
    for _ in range(count):
        places = rng.choice(len(data), rng.choice([1, 1, 3]))
        damaged = data.copy()
        damaged[places] ^= rng.integers(1, 256, len(places), dtype=np.uint8)
        damaged.tofile(path)
        unverified += survives(path, verify=False)
        if survives(path):  # the damaged bytes are padding
            assert open_graph(path).nodes.equals(graph.nodes, check_metadata=True)
            opened += 1
    return opened, unverified


def test_flipped_bytes_are_refused_or_harmless(tmp_path):
    code = "import sys, test_graph_files as t; print(*t.flip_bytes(sys.argv[1], 5, 500))"
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code, str(tmp_path)]
    result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    opened, unverified = map(int, result.stdout.split())
    assert 10 < opened < unverified < 450  # all outcomes occur, and checksums find what the other checks do not


@settings(max_examples=60, deadline=None)
@given(graph=graphs(), place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_flipped_byte_of_any_graph(tmp_path_factory, graph, place, flip):
    path = graph.save(tmp_path_factory.mktemp("flip") / "graph.arrow")
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= flip
    path.write_bytes(data)
    survives(path, verify=False)
    if survives(path):
        assert open_graph(path).nodes.equals(graph.nodes, check_metadata=True)


def test_a_file_cut_at_any_length_is_refused(graph, path):
    data = graph.save(path).read_bytes()
    for length in {*range(97, len(data), 97), *range(1, 20), *range(len(data) - 20, len(data))}:
        path.write_bytes(data[:length])
        refusal(path, "truncated or not an Arrow file")


def test_files_that_are_not_graphs_are_refused(graph, path, tmp_path):
    refusal(path, "does not exist")
    refusal(tmp_path, "not a file")
    for content, message in (
        (b"", "it is empty"),
        (b"ARROW1", "not an Arrow file"),
        (b"PK\x03\x04" + bytes(500), "zip archive"),
        (b"\x80\x04}." * 99, "Python pickle"),
        (b"{}\n" * 99, "it is JSON"),
    ):
        path.write_bytes(content)
        refusal(path, message)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, graph.nodes.schema) as writer:
        writer.write_table(graph.nodes)
    refusal(path, "not an Arrow file")
    save_table(pa.table({"weights": [1.0]}), path)
    refusal(path, "not a cotrace graph")


@pytest.mark.parametrize("rows", [0, 3])
def test_other_than_one_record_batch(graph, path, rows):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, graph.nodes.schema) as writer:
        if rows:
            writer.write_table(graph.nodes, max_chunksize=graph.order.n_nodes - rows)
    refusal(path, f"{2 if rows else 0} record batches and a graph file has exactly one")


# --- edited columns -------------------------------------------------------------------------


def with_column(table, name, values):
    """Return the table with one column replaced, with the same type and metadata."""
    index = table.schema.get_field_index(name)
    field = table.schema.field(index)
    values = values if isinstance(values, pa.Array) else pa.array(values, field.type)
    return table.set_column(index, field, values)


def put(name, value, row=0):
    """Return a function that replaces one entry of a column."""

    def edit(table):
        values = table[name].to_pylist()
        values[row] = value
        return with_column(table, name, values)

    return edit


def put_edge(name, value, row, edge):
    """Return a function that replaces the source or weight of one edge of a row."""

    def edit(table):
        rows = table[name].to_pylist()
        rows[row][edge] = value
        return with_column(table, name, rows)

    return edit


def lists(table, name, values, offsets=None, mask=None):
    """Return a list column with these values, and with offsets or nulls that the writer never makes."""
    old = table[name].chunk(0)
    offsets = old.offsets if offsets is None else pa.array(offsets, pa.int32())
    return with_column(table, name, pa.ListArray.from_arrays(offsets, values, type=old.type, mask=mask))


def null_edge(name):
    def edit(table):
        values = table[name].chunk(0).values.to_numpy()
        return lists(table, name, pa.array(values, mask=np.arange(len(values)) == 2))

    return edit


def null_row(table):
    old = table["sources"].chunk(0)
    return lists(table, "sources", old.values, mask=pa.array(np.arange(len(old)) == 0))


def shifted_offsets(table):
    offsets = table["weights"].chunk(0).offsets.to_numpy().copy()
    offsets[1:-1] += 1
    return lists(table, "weights", table["weights"].chunk(0).values, np.minimum(offsets, offsets[-1]))


def swapped_rows(table):
    order = np.arange(len(table))
    order[[0, 1]] = [1, 0]
    return with_column(table.take(order).combine_chunks(), "node", list(range(len(table))))


def of_type(name, kind):
    """Return a function that changes the type of a column."""

    def edit(table):
        index = table.schema.get_field_index(name)
        return table.set_column(index, pa.field(name, kind, table.schema.field(index).nullable), table[name].cast(kind))

    return edit


def other_kinds(names=KINDS, first=0):
    """Return a function that changes the names of the kinds, or the kind of the first node."""

    def edit(table):
        codes = table["kind"].chunk(0).indices.to_numpy().copy()
        codes[0] = first
        return with_column(table, "kind", pa.DictionaryArray.from_arrays(codes, pa.array(names)))

    return edit


def appended(name, new):
    """Return a function that appends a copy of a column under a name."""
    return lambda table: table.append_column(table.schema.field(name).with_name(new), table[name])


def chain(*edits):
    """Return a function that makes several edits one after the other."""

    def edit(table):
        for each in edits:
            table = each(table)
        return table

    return edit


def edge_into(row):
    """Return a function that adds an edge from the first feature into a row without edges."""
    return chain(put("sources", [0], row), put("weights", [1.0], row))


def retyped(name, item, lists=pa.list_):
    return of_type(name, lists(pa.field("item", item, nullable=False)))


# Of the graph: features 0 to 9 (0 and 1 in layer 0, 3 to 6 in layer 2, 7 to 9 in layer 3), errors 10
# to 14 (13 in layer 3), tokens 15 to 18, logits 19 to 21. Feature 5 has the sources 0, 2, 10, 11, 15, 16.
COLUMNS = "not those of a graph"
ASCENDING, UPWARDS = "ascending node numbers", "from a lower to a higher layer"
EDITS = {
    "node numbers": (put("node", 1), "node numbers"),
    "swapped rows": (swapped_rows, "not sorted"),
    "a feature twice": (chain(put("layer", 2, 4), put("position", 0, 4), put("feature", 0, 4)), "not sorted"),
    "kinds out of order": (other_kinds(first=3), "order features, errors"),
    "kinds of another name": (other_kinds(["neuron", *KINDS[1:]]), "node kinds"),
    "null kind": (put("kind", None), "has nulls"),
    "null text": (put("text", None), "has nulls"),
    "null influence": (put("influence", None), "has nulls"),
    "NaN influence": (put("influence", np.nan), "not finite"),
    "infinite activation": (put("activation", np.inf), "not finite"),
    "null layer of a feature": (put("layer", None), "lacks some"),
    "layer of a token": (put("layer", 1, 15), "where it should have none"),
    "negative layer of a token": (put("layer", -5, 15), "where it should have none"),
    "negative position": (put("position", -1), "lacks some"),
    "layer outside the model": (put("layer", 4, 14), "outside the model"),
    "position outside the prompt": (put("position", 4, 21), "outside the model's layers or the prompt"),
    "a token's position twice": (put("position", 0, 16), "not sorted"),
    "source past the end": (put_edge("sources", 22, 19, -1), ASCENDING),
    "source far out": (put_edge("sources", 2**31 - 1, 19, -1), ASCENDING),
    "negative source": (put_edge("sources", -1, 5, 0), ASCENDING),
    "source twice": (put_edge("sources", 0, 5, 1), ASCENDING),
    "sources not sorted": (chain(put_edge("sources", 2, 5, 0), put_edge("sources", 0, 5, 1)), ASCENDING),
    "edge from the own layer": (put_edge("sources", 3, 5, 1), UPWARDS),
    "edge from a higher layer": (put_edge("sources", 7, 5, 1), UPWARDS),
    "edge from a higher error": (put_edge("sources", 13, 5, 3), UPWARDS),
    "edge from a logit": (put_edge("sources", 20, 5, -1), UPWARDS),
    "edge from itself": (put_edge("sources", 19, 19, -1), UPWARDS),
    "NaN weight": (put_edge("weights", np.nan, 5, 0), "not finite"),
    "infinite weight": (put_edge("weights", -np.inf, 5, 0), "not finite"),
    "edge into an error": (edge_into(11), "error or token has incoming"),
    "edge into a token": (edge_into(15), "error or token has incoming"),
    "more weights than sources": (put("weights", [1.0], 11), "differ"),
    "other rows of weights": (shifted_offsets, "differ"),
    "null list": (null_row, "has nulls"),
    "an effect too few": (put("effect", [0.5] * 3), "'effect' does not have a number for each target"),
    "an effect too many": (put("expected_effect", [0.5] * 5, 18), "'expected_effect' does not have a number"),
    "no effects of a token": (put("effect", None, 18), "'effect' does not have a number"),
    "effects of a logit": (put("expected_effect", [0.5] * 4, 19), "'expected_effect' does not have a number"),
    "an empty list of effects of a logit": (put("effect", [], 21), "'effect' does not have a number"),
    "NaN effect": (put_edge("effect", np.nan, 5, 0), "'effect' has values that are not finite"),
    "infinite effect": (put_edge("expected_effect", np.inf, 5, 0), "'expected_effect' has values that are not"),
    "null effect": (put_edge("effect", None, 5, 0), "not finite|contained nulls|has nulls"),
    "only one column of effects": (lambda table: table.drop_columns(["effect"]), rf"{COLUMNS} \(effect\)"),
    "effects of another width": (retyped("effect", pa.float64()), rf"{COLUMNS} \(effect\)"),
    "effects that are no lists": (
        lambda t: t.set_column(t.column_names.index("effect"), "effect", t["influence"]),
        rf"{COLUMNS} \(effect\)",
    ),
    "null source": (null_edge("sources"), "has nulls"),
    "null weight": (null_edge("weights"), "has nulls"),
    "no weights": (lambda table: table.drop_columns(["weights"]), "'weights' is missing"),
    "no layer": (lambda table: table.drop_columns(["layer"]), rf"{COLUMNS} \(layer\)"),
    "a second column of layers": (appended("layer", "layer"), COLUMNS),
    "a second column of weights": (appended("weights", "weights"), COLUMNS),
    "a further column": (appended("layer", "depth"), COLUMNS),
    "columns in another order": (lambda table: table.select(table.column_names[::-1]), COLUMNS),
    "weights that are no lists": (
        lambda t: appended("influence", "weights")(t.drop_columns(["weights"])),
        "not a list",
    ),
    "weights of half precision": (retyped("weights", pa.float16()), COLUMNS),
    "64-bit sources": (retyped("sources", pa.int64()), rf"{COLUMNS} \(sources\)"),
    "large sources only": (retyped("sources", pa.int32(), pa.large_list), rf"{COLUMNS} \(sources\)"),
    "64-bit layers": (of_type("layer", pa.int64()), rf"{COLUMNS} \(layer\)"),
    "kinds as text": (of_type("kind", pa.string()), rf"{COLUMNS} \(kind\)"),
    "no nodes": (lambda table: table.slice(0, 0), "record batches|does not fit"),
    "no logits": (lambda table: table.slice(0, 19), "neither a logit"),
    "no tokens": (lambda table: table.slice(0, 15), "does not fit"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_file_is_refused(graph, path, name):
    edit, message = EDITS[name]
    assert graph.order.counts == (10, 5, 4, 3)  # the edits rely on it
    save_table(edit(graph.nodes), path)
    refusal(path, message)


PATCHES = {
    "offsets past the end": (lambda offsets: np.where(offsets == offsets[3], 10**9, offsets), "(?i)offset"),
    "offsets that fall": (lambda offsets: np.where(offsets == offsets[3], 0, offsets), "(?i)offset"),
    "negative offsets": (lambda offsets: np.where(offsets == 0, -4, offsets), "(?i)offset"),
    "offsets that start late": (lambda offsets: np.maximum(offsets, 1), "differ"),
    "offsets that end early": (lambda offsets: np.minimum(offsets, offsets[-1] - 1), "differ"),
}


@pytest.mark.parametrize("name", PATCHES)
def test_offsets_that_arrow_does_not_write_are_refused(graph, path, name):
    patch, message = PATCHES[name]
    data = graph.save(path).read_bytes()
    offsets = graph.csr.indptr
    assert data.count(offsets.tobytes()) == 2
    path.write_bytes(data.replace(offsets.tobytes(), patch(offsets).astype(np.int32).tobytes()))
    refusal(path, message, verify=False)


def test_invalid_unicode_is_refused(graph, path):
    data = graph.save(path).read_bytes()
    path.write_bytes(data.replace(b"logit 0", b"logit \xff"))
    refusal(path, "UTF", verify=False)
    refusal(path, "'text' is damaged")


# --- metadata -------------------------------------------------------------------------------


def with_metadata(table, info, version=CURRENT_VERSION):
    return table.replace_schema_metadata({VERSION_KEY: version, INFO_KEY: info})


def write_info(graph, path, info):
    text = info if isinstance(info, bytes) else json.dumps(info).encode()
    save_table(with_metadata(graph.nodes, text), path)


@pytest.mark.parametrize("version", [str(FORMAT_VERSION + 1).encode(), b"17", b"99999999"])
def test_a_newer_format_asks_for_an_upgrade(graph, path, version):
    save_table(with_metadata(graph.nodes.select(["node"]), b"of another kind", version), path)
    refusal(path, f"format version {int(version)} .* upgrade cotrace")


@pytest.mark.parametrize("version", [b"", b"0", b"-1", b"one", b"1.5", b"\xff", b"9" * 5000, b"NaN", "²".encode()])
def test_an_invalid_version_is_refused(graph, path, version):
    save_table(with_metadata(graph.nodes, json.dumps(graph.info).encode(), version), path)
    refusal(path, "metadata is damaged")


@pytest.mark.parametrize("key", [INFO_KEY, VERSION_KEY])
def test_missing_metadata(graph, path, key):
    save_table(graph.nodes.replace_schema_metadata({key: b"1"}), path)
    refusal(path, "not a cotrace graph")


DAMAGED = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 10**5,
    b'{"a":' * 10**5,
    b"9" * 10**4,
    b"NaN",
    b"null",
    b"[]",
    b'"text"',
    b"1e999",
]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_metadata_that_is_not_an_object_is_refused(graph, path, text):
    write_info(graph, path, text)
    refusal(path, "metadata is damaged")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"], ids=["NaN", "Infinity", "half a character"])
def test_metadata_that_cannot_be_written_is_refused(graph, path, value):
    write_info(graph, path, {**graph.info, "settings": {"any": value}})
    refusal(path, "metadata is damaged")


WRONG = [
    None,
    True,
    -1,
    1.5,
    2**63,
    10**400,
    "text",
    [],
    [[]],
    [None],
    ["a", 1],
    {},
    {"name": 1},
    [{}],
    [{"node": "0"}],
]


@pytest.mark.parametrize("key", INFO)
def test_missing_and_wrong_entries(graph, path, key):
    key, optional = key.removesuffix("?"), key.endswith("?")
    write_info(graph, path, {name: value for name, value in graph.info.items() if name != key})
    if not optional:
        refusal(path, f"lacks or has a wrong {key};")
    assert survives(path) == optional
    for value in WRONG:
        write_info(graph, path, {**graph.info, key: value})
        if not survives(path):
            refusal(path, f"wrong {key};|does not fit its nodes|outside the model|no targets")


@pytest.mark.parametrize("key", ["node", "kind", "label", "weight", "probability"])
def test_missing_and_wrong_entries_of_targets(graph, path, key):
    first, *others = graph.info["targets"]
    without = {name: value for name, value in first.items() if name != key}
    for target in (without, *({**first, key: value} for value in WRONG)):
        write_info(graph, path, {**graph.info, "targets": [target, *others]})
        if not survives(path):
            refusal(path, "wrong targets;|target")
    write_info(graph, path, {**graph.info, "targets": [without, *others]})
    refusal(path, "wrong targets;")


def targets_of(weights):
    return lambda info: [{**info["targets"][0], "node": n, "weight": w} for n, w in weights]


INFO_EDITS = {
    "token_ids as text": (lambda i: {"token_ids": "text"}, "wrong token_ids"),
    "n_layers as list": (lambda i: {"model": {**i["model"], "n_layers": [4]}}, "wrong model"),
    "n_layers too small": (lambda i: {"model": {**i["model"], "n_layers": 1}}, "outside the model"),
    "n_layers too large": (lambda i: {"model": {**i["model"], "n_layers": 10**30}}, "wrong model"),
    "fewer tokens": (lambda i: {"tokens": i["tokens"][1:]}, "does not fit"),
    "more token ids": (lambda i: {"token_ids": [*i["token_ids"], 1]}, "does not fit"),
    "both longer": (lambda i: {"tokens": [*i["tokens"], "a"], "token_ids": [*i["token_ids"], 1]}, "does not fit"),
    "position": (lambda i: {"position": 4}, "does not fit"),
    "negative position": (lambda i: {"position": -1}, "does not fit"),
    "no targets": (lambda i: {"targets": []}, "no targets"),
    "pruning": (lambda i: {"pruning": {"node_threshold": "0.8"}}, "wrong pruning"),
    "weight as text": (lambda i: {"targets": targets_of([(19, "1.0")])(i)}, "wrong targets"),
    "a target is a token": (lambda i: {"targets": targets_of([(15, 1.0)])(i)}, "neither a logit nor a feature"),
    "a target is an error": (lambda i: {"targets": targets_of([(10, 1.0)])(i)}, "neither a logit nor a feature"),
    "a target past the end": (lambda i: {"targets": targets_of([(22, 1.0)])(i)}, "neither a logit nor a feature"),
    "a negative target": (lambda i: {"targets": targets_of([(-1, 1.0)])(i)}, "neither a logit nor a feature"),
    "a feature of no weight": (
        lambda i: {"targets": targets_of([(0, 0.0), (19, 1)])(i)},
        "neither a logit nor a feature",
    ),
    "a target twice": (lambda i: {"targets": targets_of([(19, 0.5), (19, 0.5)])(i)}, "twice"),
    "negative weight": (lambda i: {"targets": targets_of([(19, 1.5), (20, -0.5)])(i)}, "negative weight"),
    "weights of 2": (lambda i: {"targets": targets_of([(19, 1), (20, 1)])(i)}, "sum to 1"),
    "segments as a list": (lambda i: {"segments": [[0, 1]]}, "wrong segments"),
    "a segment outside": (lambda i: {"segments": {"question": [4]}}, "segments are damaged .segment 'question'"),
    "segments overlap": (lambda i: {"segments": {"a": [0], "b": [0]}}, "segments are damaged .position 0"),
    "huge weights": (lambda i: {"targets": targets_of([(19, 1e308), (20, 1e308)])(i)}, "sum to 1"),
}


@pytest.mark.parametrize("name", INFO_EDITS)
def test_edited_metadata_is_refused(graph, path, name):
    edit, message = INFO_EDITS[name]
    write_info(graph, path, {**graph.info, **edit(graph.info)})
    refusal(path, message)


def test_a_logit_may_have_weight_zero(graph, path):
    first, second, *others = graph.info["targets"]
    assert min(first["node"], second["node"]) >= graph.order.logits.start
    targets = [*others, {**first, "weight": 0.0}, {**second, "weight": first["weight"] + second["weight"]}]
    write_info(graph, path, {**graph.info, "targets": targets})
    check_invariants(open_graph(path))


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_file_compressed_inside_is_refused(graph, path, codec):
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, graph.nodes.schema, options=options) as writer:
        writer.write_table(graph.nodes)
    refusal(path, "compressed")


def test_packed_files_are_smaller_and_the_same(tmp_path):
    graph = random_graph(7, n_layers=6, n_positions=30, n_features=500, n_errors=100, density=1.0)
    plain, packed = (graph.save(tmp_path / name) for name in ("a.arrow", "a.arrow.zst"))
    assert packed.stat().st_size < 0.8 * plain.stat().st_size
    assert cotrace.open(packed).nodes.equals(graph.nodes, check_metadata=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.arrow", "a.arrow.zst"]
