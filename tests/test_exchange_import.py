"""Import of graphs of other tools: every known variant of their JSON, and files that must be refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import neuronpedia_files as files
from helpers.neuronpedia_files import VARIANTS, sketch, stage

import cotrace
from cotrace.common.errors import FileError
from cotrace.graphs.exchange import json_stream


def write(folder, content, **options):
    path = folder / "graph.json"
    path.write_text(json.dumps(content, **options))
    return path


@pytest.fixture
def imported(tmp_path):
    """Return a function that imports a JSON object."""
    return lambda content, **options: cotrace.import_graph(write(tmp_path, content, **options))


def site(kind, layer, position, index):
    """Return what identifies a node: a target by its token."""
    return (kind, layer, position, index) if kind == "feature" else (kind, layer if kind == "error" else None, position)


def expected_edges(graph, halves=False):
    """Return the weights of a sketch by what identifies the ends."""
    names = []
    for node in graph.nodes:
        layer = round(2 * stage(node) + 1) if halves else node.layer
        names.append(site(node.kind, layer, node.position, node.index) + ((node.text,) if node.kind == "logit" else ()))
    return names, {(names[source], names[target]): weight for (source, target), weight in graph.edges.items()}


def found_edges(graph):
    names = []
    for row in graph.nodes.drop_columns(["sources", "weights"]).to_pylist():
        name = site(row["kind"], row["layer"], row["position"], row["feature"])
        names.append(name + ((row["text"],) if row["kind"] == "logit" else ()))
    return names, {(names[edge["source"]], names[edge["target"]]): edge["weight"] for edge in graph.edges().to_pylist()}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_imports_with_its_nodes_edges_and_influence(variant, seed, imported):
    drawn = sketch(seed, indices=files.INDICES[2:])  # old ids of errors collide with those of features 0 … 3 of layer 0
    halves = variant == "half layers"
    graph = imported(VARIANTS[variant](drawn))
    wanted, edges = expected_edges(drawn, halves)
    names, found = found_edges(graph)
    used = {name for edge in edges for name in edge} | {name for name in wanted if name[0] == "token"}
    assert sorted(map(str, names)) == sorted(map(str, used if variant == "llamascopium" else wanted))
    assert found == edges
    assert graph.csr.weights.dtype == np.float32
    influence = dict(zip(wanted, files.influence(drawn), strict=True))
    np.testing.assert_allclose(graph.influence(), [influence[name] for name in names], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(graph.column("influence"), graph.influence(), rtol=1e-6)
    assert [target["label"] for target in graph.info["targets"]] == [' "blue"', " clear", "\n"]
    assert [target["probability"] for target in graph.info["targets"]] == [0.5, 0.25, 0.125]
    assert graph.info["tokens"] == files.PROMPT
    assert graph.info["model"]["n_layers"] >= files.N_LAYERS * (1 + halves)
    if variant != "attribute":
        activations = {name: node.activation for name, node in zip(wanted, drawn.nodes, strict=True)}
        assert graph.nodes["activation"].to_pylist() == [activations[name] for name in names]
        assert graph.info["token_ids"] == files.TOKEN_IDS
        assert graph.nodes["token"].to_pylist()[graph.order.logits.start :] == [3730, 3582, 108]


@pytest.mark.parametrize("variant", ["llamascopium", "half layers"])
def test_attention_features_stand_half_a_layer_before_the_mlp(variant, imported):
    drawn = sketch(2, attention=True)
    graph = imported(VARIANTS[variant](drawn))
    _, edges = expected_edges(drawn, halves=True)
    assert found_edges(graph)[1] == edges
    assert any(source[1] == target[1] - 1 for source, target in edges if target[0] == source[0] == "feature")
    assert graph.info["imported"]["half_layers"] == (variant == "llamascopium")
    if variant == "llamascopium":
        assert graph.info["imported"]["tables"]["qk_only_nodes"]
        assert any("qk_tracing_results" in extra for extra in graph.info["imported"]["nodes"].values())


def test_numbers_of_the_file_are_kept_beside_ours(imported):
    content = files.circuit_tracer(sketch(3))
    graph = imported(content)
    kept = graph.info["imported"]
    assert kept["metadata"] == content["metadata"]
    shares = {node["node_id"]: node["influence"] for node in content["nodes"] if node["feature_type"] == "embedding"}
    assert [kept["influence"][f"token@{i}"] for i in range(4)] == [
        shares[f"E_{t}_{i}"] for i, t in enumerate(files.TOKEN_IDS)
    ]
    order = np.argsort(-graph.influence()[: graph.order.n_editable], kind="stable")
    names = [str(node) for node in cotrace.graphs.annotations.node_names(graph, order.tolist())]
    shares_in_order = [kept["influence"][name] for name in names]
    assert shares_in_order == sorted(shares_in_order)  # small is important in theirs, large in ours


@pytest.mark.parametrize("indent", [None, 2])
def test_order_indentation_and_marks_of_a_file_do_not_matter(indent, tmp_path, monkeypatch):
    content = files.circuit_tracer(sketch(4))
    wanted = found_edges(cotrace.import_graph(write(tmp_path, content)))
    turned = dict(reversed(content.items()))
    path = tmp_path / "turned.json"
    path.write_text("\ufeff \r\n" + json.dumps(turned, indent=indent, ensure_ascii=False), encoding="utf-8")
    for characters in (1, 7, 4096):
        monkeypatch.setattr(json_stream, "CHUNK_CHARACTERS", characters)
        assert found_edges(cotrace.import_graph(path)) == wanted


def test_labels_groups_and_placeholders(imported):
    content = files.circuit_tracer(sketch(5))
    features = [node for node in content["nodes"] if node["feature_type"] == "cross layer transcoder"]
    labels = ["sky colours", "1945", "F12", "3_17_2", "", None, 'say "Austin"']
    for node, label in zip(features, labels, strict=False):
        node["clerp"] = label
    ids = [node["node_id"] for node in features]
    content["qParams"]["supernodes"] = [
        ["sky", *ids[:2]],
        ["sky", ids[2], "99_1_1"],
        ["", ids[3]],
        ["7", ids[4]],
        ["none"],
    ]
    graph = imported(content)
    assert sorted(graph.labels.values()) == sorted(["sky colours", '"1945"', '"3_17_2"', 'say "Austin"'])
    assert set(graph.nodes["label_source"].to_pylist()) == {"", "neuronpedia"}
    assert list(graph.groups) == ["sky", "sky (2)", "group", '"7"']
    assert graph.find("sky colours") == graph.find(cotrace.Feature.parse(ids[0]))


def test_weights_that_float32_does_not_hold_are_kept_in_float64(imported):
    content = files.circuit_tracer(sketch(6))
    content["links"][0]["weight"] = 0.1
    graph = imported(content)
    assert graph.csr.weights.dtype == np.float64
    assert 0.1 in graph.csr.weights


def changed(change):
    content = files.circuit_tracer(sketch(7))
    change(content)
    return content


def first(content, kind):
    return next(node for node in content["nodes"] if node["feature_type"] == kind)


FEATURE, ERROR = "cross layer transcoder", "mlp reconstruction error"


def reverse_edge(content):
    link = next(link for link in content["links"] if link["source"][0] in "012" and link["target"][0] in "123")
    link["source"], link["target"] = link["target"], link["source"]


def without_targets(content):
    targets = {node["node_id"] for node in content["nodes"] if node["feature_type"] == "logit"}
    content["nodes"] = [node for node in content["nodes"] if node["node_id"] not in targets]
    content["links"] = [link for link in content["links"] if link["target"] not in targets]


REFUSED = {
    "the same id twice": (lambda c: c["nodes"].append(dict(c["nodes"][3])), "same id: '.*_.*'"),
    "a feature twice": (
        lambda c: c["nodes"].append({**first(c, FEATURE), "node_id": "again"}),
        "the same feature|no Cantor pair|'again'",
    ),
    "an unknown kind": (lambda c: c["nodes"][0].update(feature_type="supernode"), "unknown kind 'supernode'"),
    "no kind": (lambda c: c["nodes"][0].pop("feature_type"), "unknown kind None"),
    "a bias": (lambda c: first(c, ERROR).update(feature_type="bias"), "unknown kind 'bias'"),
    "a link from nowhere": (lambda c: c["links"][0].update(source="9_9_9"), "nodes that it lacks: '9_9_9'"),
    "a link to nowhere": (lambda c: c["links"][0].update(target="8_8_8"), "'8_8_8'"),
    "a link twice": (lambda c: c["links"].append(dict(c["links"][5])), "the edge from '.*' to '.*' occurs twice"),
    "a downward link": (reverse_edge, "does not run from a lower to a higher layer"),
    "a loop": (lambda c: c["links"].append({"source": c["links"][0]["target"], "target": c["links"][0]["target"], "weight": 1}), "lower to a higher|no outgoing"),
    "a link to a token": (lambda c: c["links"].append({"source": "E_2_0", "target": "E_818_1", "weight": 1}), "ends at a token"),
    "a link from a target": (lambda c: c["links"].append({"source": "5_108_3", "target": "5_3730_3", "weight": 1}), "begins at a target"),
    "a weight in words": (lambda c: c["links"][0].update(weight="1"), "has no ids or no weight"),
    "a true weight": (lambda c: c["links"][0].update(weight=True), "has no ids or no weight"),
    "an infinite weight": (lambda c: c["links"][0].update(weight=float("inf")), "Infinity"),
    "a weight of thousands of digits": (lambda c: c["links"][0].update(weight=10**400), "not finite"),
    "no weight": (lambda c: c["links"][0].pop("weight"), "lacks source, target or weight"),
    "a link that is a text": (lambda c: c["links"].append("x"), "lacks source"),
    "a node that is a list": (lambda c: c["nodes"].append([]), "no text as `node_id`"),
    "no id": (lambda c: c["nodes"][0].pop("node_id"), "no text as `node_id`"),
    "a position in words": (lambda c: c["nodes"][0].update(ctx_idx="1"), "ctx_idx of node"),
    "a negative position": (lambda c: c["nodes"][0].update(ctx_idx=-1), "ctx_idx of node"),
    "a position outside": (lambda c: c["nodes"][0].update(ctx_idx=9), "outside the prompt of 4 tokens"),
    "a layer in words": (lambda c: first(c, FEATURE).update(layer="top"), "layer of node"),
    "a layer that is true": (lambda c: first(c, FEATURE).update(layer=True), "layer of node"),
    "a huge layer": (lambda c: first(c, ERROR).update(layer=2**40), "layer of '.*'|layer of node|no number from 0"),
    "a wrong feature": (lambda c: first(c, FEATURE).update(feature=-5, node_id="x"), "feature of node 'x'"),
    "an activation in words": (lambda c: first(c, FEATURE).update(activation="1"), "activation of node"),
    "a huge activation": (lambda c: first(c, FEATURE).update(activation=10**400), "activation of node"),
    "a label that is a number": (lambda c: first(c, FEATURE).update(clerp=3), "clerp of node"),
    "half a character": (lambda c: first(c, FEATURE).update(clerp="\ud800"), "not valid Unicode"),
    "half a character in a token": (lambda c: c["metadata"]["prompt_tokens"].__setitem__(1, "\udc00"), "not valid Unicode"),
    "a negative probability": (lambda c: first(c, "logit").update(token_prob=-1), "probability of node"),
    "no targets": (without_targets, "no node of the kind 'logit'"),
    "no tokens": (lambda c: c["metadata"].pop("prompt_tokens"), "prompt_tokens"),
    "tokens that are numbers": (lambda c: c["metadata"].update(prompt_tokens=[1, 2, 3, 4]), "prompt_tokens"),
    "no metadata": (lambda c: c.pop("metadata"), "lacks metadata"),
    "no nodes": (lambda c: c.pop("nodes"), "lacks nodes"),
    "metadata that is a list": (lambda c: c.update(metadata=[]), "metadata is not a JSON object"),
    "nodes that are an object": (lambda c: c.update(nodes={}), "expected '\\['"),
    "a supernode that is a text": (lambda c: c["qParams"].update(supernodes=["a"]), "supernode"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_no_graph_has_are_refused_with_the_ids_of_nodes(name, imported):
    change, message = REFUSED[name]
    with pytest.raises(FileError, match=message) as refused:
        imported(changed(change))
    assert str(refused.value).startswith("cannot import ")
    assert "\n" not in str(refused.value)


def test_ids_of_old_errors_that_collide_with_features_are_refused(imported):
    content = files.circuit_tracer(sketch(8, indices=files.INDICES[2:]), error_ids="old")
    content["nodes"].append({**first(content, FEATURE), "node_id": "0_2_1", "layer": "0", "ctx_idx": 1, "feature": 4})
    assert any(node["node_id"] == "0_2_1" and node["feature"] == -1 for node in content["nodes"])
    with pytest.raises(FileError, match="same id: '0_2_1'; links to them are ambiguous"):
        imported(content)


TEXTS = {
    "nothing": (b"", "it is empty"),
    "half": (b'{"metadata": {"prompt', "not valid JSON after .* characters"),
    "more after the end": (b'{"metadata": {}, "nodes": [], "links": []} {}', "text follows"),
    "a list": (b"[1, 2]", "expected '{'"),
    "a key twice": (b'{"nodes": [], "nodes": []}', "'nodes' occurs twice"),
    "an inner key twice": (b'{"metadata": {"a": 1, "a": 2}}', "'a' twice"),
    "not a number": (b'{"metadata": {"a": NaN}}', "the number NaN"),
    "deep": (b'{"metadata": ' + b"[" * 10**5, "nested too deep|not valid JSON"),
    "digits": (b'{"metadata": ' + b"1" * 10**4 + b"}", "thousands of digits"),
    "not UTF-8": (b'{"metadata": "\xff"}', "not UTF-8"),
    "UTF-16": ('{"metadata": {}}'.encode("utf-16"), "import JSON|not UTF-8|known tool"),
    "a list of graphs": (b'{"graphs": []}', "list of graphs"),
    "other JSON": (b'{"a": 1}', "lacks metadata, nodes, links"),
    "a pickle": (b"\x80\x02}q\x00.", "pickle"),
    "an archive": (b"PK\x03\x04", "create_graph_files"),
    "a graph file": (b"ARROW1\0\0", "open it as it is"),
    "missing": (None, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_files_that_are_no_graph_are_refused_in_one_line(name, tmp_path):
    content, message = TEXTS[name]
    path = tmp_path / "file.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match=message) as refused:
        cotrace.import_graph(path)
    assert "\n" not in str(refused.value)


def test_a_value_without_an_end_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK_CHARACTERS", 2**10)
    monkeypatch.setattr(json_stream, "MAX_VALUE_CHARACTERS", 2**14)
    path = tmp_path / "file.json"
    path.write_text('{"metadata": {"prompt": "' + "x" * 10**6)
    with pytest.raises(FileError, match="a value has more than 16,384 characters"):
        cotrace.import_graph(path)


# --- large files ----------------------------------------------------------------------------

SIZE, MOST = 100 * 2**20, 600 * 2**20  # bytes of a file, and of the memory of the process that imports it
MEASURE = """
import sys
import cotrace
graph = cotrace.import_graph(sys.argv[1])
# The peak of this program; ru_maxrss starts with the size of the process that started it.
(peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(graph.order.n_nodes, graph.n_edges, int(peak.split()[1]) * 1024)
"""


def write_large(path, size):
    """Write a file of circuit-tracer of at least `size` bytes, indented as its own; return the numbers of nodes and links."""
    rows = [(layer, index, position) for layer in range(26) for position in range(1, 12) for index in range(30)]
    names = [f"{layer}_{index}_{position}" for layer, index, position in rows]
    entry = {"feature_type": "cross layer transcoder", "jsNodeId": "", "clerp": "", "activation": 0.5, "feature": 1}
    nodes = [
        {**entry, "node_id": name, "layer": str(r[0]), "ctx_idx": r[2]} for name, r in zip(names, rows, strict=True)
    ]
    nodes += [
        {**entry, "feature_type": "embedding", "node_id": f"E_{t}_{t}", "layer": "E", "ctx_idx": t} for t in range(12)
    ]
    nodes.append(
        {**entry, "feature_type": "logit", "node_id": "27_5_11", "layer": "27", "ctx_idx": 11, "token_prob": 0.5}
    )
    metadata = {"prompt_tokens": ["token"] * 12, "prompt": "", "slug": "", "scan": "", "schema_version": 1}
    pairs = ((s, t) for t in reversed(range(len(rows))) for s in range(t) if rows[s][0] < rows[t][0])
    n_links = written = 0
    with path.open("w") as file:
        file.write(json.dumps({"metadata": metadata, "qParams": {}, "nodes": nodes}, indent=2)[:-2] + ',\n  "links": [')
        while written < size:
            source, target = (names[place] for place in next(pairs))
            weight = (-1) ** n_links / (1 + n_links)
            ends = f'"source": "{source}",\n      "target": "{target}"'
            link = f'{"," * (n_links > 0)}\n    {{\n      {ends},\n      "weight": {weight}\n    }}'
            written += file.write(link)
            n_links += 1
        file.write("\n  ]\n}\n")
    return len(nodes), n_links


@pytest.mark.slow
def test_a_file_of_100_mb_is_imported_in_600_mb_of_memory(tmp_path):
    path = tmp_path / "large.json"
    numbers = write_large(path, SIZE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path], env=environment, capture_output=True, text=True, check=True
    )
    *found, memory = map(int, done.stdout.split())
    assert tuple(found) == numbers
    assert memory < MOST
