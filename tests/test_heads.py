"""Head loadings add up to edges, and equal those of a reference from which single heads are removed."""

import copy
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers.cli import MODEL, REFERENCE
from helpers.graph_reference import GraphReference
from tiny import KINDS, prompt

import cotrace
from cotrace import ArgumentError, ErrorNode, Feature, FileError, Token
from cotrace.attribution.effects.edge_ends import Edges, EdgeSources, EdgeTargets
from cotrace.attribution.effects.heads import edge_heads
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.attribution.tracing.targets import TargetRequest
from cotrace.graphs import node_label
from cotrace.graphs.annotations import node_names
from cotrace.graphs.metadata import metadata_of
from cotrace.graphs.store import save_table


def all_edges(model, graph, masked):
    """Return all edges of a graph in the order of its CSR arrays, and their targets' numbers in the graph."""
    order = graph.order
    replacement = model.replacement(prompt(), masked_positions=masked)
    config = TraceConfig()
    nodes = [*range(order.n_features), *range(order.logits.start, order.logits.stop)]
    ids = [t["token_ids"][0] for t in graph.info["targets"]]
    named = [*node_names(graph, range(order.n_features)), *ids]
    request = TargetRequest.parse(named, config, prompt(), model.tokenizer, model.architecture.d_model)
    targets = EdgeTargets(replacement, request.resolve(replacement))
    sources = EdgeSources(replacement, node_names(graph, range(order.n_editable)))
    target_E = np.searchsorted(nodes, graph.csr.edge_targets())
    pairs = torch.tensor(graph.csr.indices, dtype=torch.long), torch.tensor(target_E)
    return replacement, Edges(sources, targets, *pairs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [None, [3, 6]], ids=["default", "masked"])
@torch.no_grad()
def test_loadings_add_up_to_every_edge(model_of, kind, masked):
    model = model_of(kind)
    graph = model.trace(prompt(), masked_positions=masked, progress=False)
    replacement, edges = all_edges(model, graph, masked)
    heads = edge_heads(replacement, edges)
    weights = torch.from_numpy(graph.csr.weights.copy())
    tolerance = 1e-9 * float(weights.abs().max())
    for loading_ELH in (heads.last_ELH, heads.first_ELH):
        assert (heads.direct_E + loading_ELH.sum((1, 2)) - weights).abs().max() < tolerance
    assert heads.one_hop_ELH.abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["clt-affine", "per-layer", "neurons"])
@torch.no_grad()
def test_loadings_are_what_the_removal_of_single_heads_changes(model_of, model_folder, kind):
    model = model_of(kind)
    graph = model.trace(prompt(), masked_positions=[3, 6], progress=False)
    heads = edge_heads(*all_edges(model, graph, [3, 6]))
    reference = GraphReference(model, model_folder, graph, [3, 6])
    rows, columns = graph.csr.edge_targets(), graph.csr.indices.astype(np.int64)

    def edges(kept):
        return reference.edges(kept)[rows, columns]

    sites = list(np.ndindex(heads.last_ELH.shape[1:]))
    without_heads = edges([])
    tolerance = 1e-9 * float(np.abs(graph.csr.weights).max())
    assert (heads.direct_E - without_heads).abs().max() < tolerance
    for layer, head in sites:
        below, above = [s for s in sites if s[0] < layer], [s for s in sites if s[0] > layer]
        last = edges([*below, (layer, head)]) - edges(below)
        first = edges([*above, (layer, head)]) - edges(above)
        only = edges([(layer, head)]) - without_heads
        for found_ELH, expected_E in zip(heads[1:], (last, first, only), strict=True):
            assert (found_ELH[:, layer, head] - expected_E).abs().max() < tolerance


@pytest.fixture(scope="module")
def graph(model_of):
    return model_of("clt-affine").trace(prompt(), progress=False)


@pytest.fixture(scope="module")
def circuit(model_of, graph):
    return model_of("clt-affine").add_heads(graph.prune(0.75, 0.9), progress=False)


def test_the_heads_of_one_edge(model_of, graph):
    model = model_of("clt-affine")
    feature, token = node_names(graph, [graph.order.n_features - 1, graph.order.tokens.start + 2])
    target = graph.info["targets"][0]
    edges = {
        (feature, target["token_ids"][0]): (graph.order.n_features - 1, target["node"]),
        (str(token), str(feature)): (graph.order.tokens.start + 2, graph.order.n_features - 1),
    }
    found = model.heads_many(prompt(), list(edges))
    for loadings, (edge, nodes) in zip(found, edges.items(), strict=True):
        assert loadings.edge == pytest.approx(graph.adjacency()[nodes[1], nodes[0]], rel=1e-9)
        for total in (loadings.last.sum(), loadings.first.sum()):
            assert loadings.direct + total == pytest.approx(loadings.edge, rel=1e-9)
        assert loadings.several_hops == pytest.approx(loadings.edge - loadings.direct - loadings.one_hop.sum())
        assert np.allclose(model.heads(prompt(), *edge).last, loadings.last, rtol=1e-9, atol=1e-15)
        in_graph = model.heads(graph, *nodes)
        assert np.allclose(in_graph.first, loadings.first, rtol=1e-9, atol=0)


def test_loadings_are_a_table_and_a_plot(model_of, graph, tmp_path):
    loadings = model_of("clt-affine").heads(graph, "token@4", graph.info["targets"][0]["node"])
    table = loadings.table
    assert table.column_names == ["layer", "head", "last", "first", "one_hop"]
    assert table.num_rows == loadings.last.size == 12
    top = loadings.top(3, by="one_hop")["one_hop"].to_numpy()
    assert np.array_equal(np.abs(top), np.sort(np.abs(loadings.one_hop).ravel())[::-1][:3])
    row = table.to_pylist()[5]
    assert row["last"] == loadings.last[row["layer"], row["head"]]
    layer, head = np.unravel_index(np.abs(loadings.last).argmax(), loadings.last.shape)
    assert f"L{layer}H{head} {loadings.last[layer, head]:+.3g}" in repr(loadings)
    assert loadings.plot(tmp_path / "heads.svg").read_text().startswith("<?xml")
    for wrong in ({"n": -1}, {"by": "second"}):
        with pytest.raises(ArgumentError):
            loadings.top(**wrong)


def test_a_graph_keeps_the_heads_of_its_edges(model_of, circuit, tmp_path):
    model = model_of("clt-affine")
    for graph in (circuit, circuit.prune(0.4, 0.7), cotrace.open(circuit.save(tmp_path / "circuit.arrow"))):
        for edge in range(0, graph.n_edges, max(1, graph.n_edges // 7)):
            source, target = int(graph.csr.indices[edge]), int(graph.csr.edge_targets()[edge])
            saved, expected = graph.heads(source, target), model.heads(graph, source, target)
            assert np.allclose(saved.last, expected.last, rtol=1e-9, atol=1e-12)
            assert (saved.edge, saved.direct) == pytest.approx((expected.edge, expected.direct), rel=1e-9, abs=1e-9)
    assert "heads" not in circuit.to_networkx().nodes[0]


def test_shares_of_heads_add_up_to_the_influence(circuit):
    shares = circuit.head_shares()
    assert sum(shares["share"].to_pylist()) == pytest.approx(1)
    assert shares["share"].to_pylist() == sorted(shares["share"].to_pylist(), reverse=True)
    # The share of one head, edge by edge.
    csr, passed = circuit.csr, circuit.influence() + circuit.target_weights
    site = next(row for row in shares.to_pylist() if row["layer"] is not None)
    carried = whole = 0.0
    for target in range(circuit.order.n_nodes):
        for source, share in zip(csr.row(target)[0].tolist(), csr.row_shares(target), strict=True):
            loadings = circuit.heads(source, target)
            size = np.abs(loadings.last).sum() + abs(loadings.direct)
            carried += share * passed[target] * abs(loadings.last[site["layer"], site["head"]]) / size
            whole += share * passed[target]
    assert carried / whole == pytest.approx(site["share"])


def test_pictures_name_the_strongest_heads(circuit, tmp_path):
    assert ", heads L" in circuit.render(tmp_path / "circuit.svg").read_text()


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("L1#3", 7, "needs one position, such as L1#3@5"),
        ("L9#error@2", 7, "no layer 9"),
        ("L1#error@40", 7, "outside the prompt"),
        ("something", 7, "invalid node 'something'"),
        (7, 7, "invalid source 7"),
        (Token(4), "L1#99@4", "layer 1 has 24 features"),
        (Token(4), "L1#3", "needs one position"),
        (Token(4), [3, 4, 5], "invalid target"),
        (ErrorNode(1, 4), Feature(1, 3, 4), "there is no edge L1#error@4 → L1#3@4"),
        (Token(5), Feature(1, 3, 4), "there is no edge token@5 → L1#3@4"),
    ],
)
def test_ends_that_a_prompt_cannot_have_are_refused(model_of, source, target, words):
    with pytest.raises(ArgumentError, match=r"\A[^\n]*\Z") as caught:
        model_of("clt-affine").heads(prompt(), source, target)
    assert words in str(caught.value)


def test_inactive_features_are_refused(model_of, graph):
    active = {(node.layer, node.feature, node.position) for node in node_names(graph, range(graph.order.n_features))}
    silent = next(Feature(1, n, 4) for n in range(24) if (1, n, 4) not in active)
    for edge in ((silent, 7), ("token@1", silent)):
        with pytest.raises(ArgumentError, match=f"{silent} is not active"):
            model_of("clt-affine").heads(prompt(), *edge)


def test_ends_that_a_graph_does_not_have_are_refused(model_of, graph, circuit):
    model, target = model_of("clt-affine"), graph.info["targets"][0]["node"]
    refusals = {
        ("token", target): "names 11 nodes",
        ("token@4", "token@5"): "has no incoming edges",
        (target, target): "no outgoing edges",
        ("L7#7@7", target): "is not in this graph",
    }
    for edge, words in refusals.items():
        with pytest.raises(ArgumentError, match=words):
            model.heads(graph, *edge)
    with pytest.raises(ArgumentError, match="leave them out"):
        model.heads(graph, "token@4", target, position=3)
    with pytest.raises(ArgumentError, match="has no head loadings"):
        graph.heads("token@4", target)
    target = circuit.info["targets"][0]["node"]
    pruned = next(node for node in range(circuit.order.n_editable) if node not in circuit.csr.row(target)[0])
    with pytest.raises(ArgumentError, match="is not in this graph: it was pruned"):
        circuit.heads(pruned, target)
    direction = model.trace(prompt(), [torch.ones(20, dtype=torch.float64)], max_features=1, progress=False)
    with pytest.raises(ArgumentError, match="is not in the graph; call"):
        model.heads(direction, "token@4", direction.info["targets"][0]["node"])


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """Return the file of a circuit of the reference model, with head loadings."""
    model = cotrace.load(REFERENCE / "model", device="cpu")
    circuit = model.trace([2, 20, 30, 40], progress=False).prune()
    return model.add_heads(circuit, progress=False).save(tmp_path_factory.mktemp("out") / "circuit.arrow")


def test_the_command_prints_the_heads_of_edges(command, traced):
    graph = cotrace.open(traced)
    source, target = int(graph.csr.indices[-1]), graph.order.n_nodes - 1
    expected = graph.heads(source, target)
    name = node_label(graph, source)
    status, out, error = command("heads", traced, "--edge", f"{name} -> {target}", "--top", 2, "--device", "cpu")
    assert (status, error) == (0, "")
    assert out.startswith(f"{expected.source} → {expected.target}: {expected.edge:+.4g} = ")
    strongest = expected.top(2).to_pylist()
    for line, row in zip(out.splitlines()[2:], strongest, strict=True):
        assert line.split()[0] == f"L{row['layer']}H{row['head']}"
        assert float(line.split()[1]) == pytest.approx(row["last"], rel=1e-3)
    status, out, _ = command(
        "heads", traced, "--edge", f"{source} → {target}", "--edge", f"{name}→{target}", "--json", "--device", "cpu"
    )
    first, second = json.loads(out)
    assert first["edge"] == pytest.approx(second["edge"], rel=1e-4)
    assert first["edge"] == pytest.approx(first["direct"] + sum(row["first"] for row in first["heads"]), rel=1e-4)


def test_the_command_prints_the_heads_of_a_graph(command, traced):
    shares = cotrace.open(traced).head_shares().to_pylist()
    status, out, _ = command("heads", traced, "--top", 3)
    assert status == 0
    assert f"{shares[0]['share']:.1%}" in out
    assert json.loads(command("heads", traced, "--json")[1]) == shares


@pytest.mark.parametrize(
    ("edge", "words"),
    [
        ("0", "expected two nodes with an arrow between them"),
        ("nothing -> 0", "no node of this graph is called 'nothing'"),
        ("0 -> token@1", "has no incoming edges"),
        ("token -> 0", "names 4 nodes; name one"),
    ],
)
def test_edges_that_cannot_be_are_refused_before_a_model_is_loaded(command, traced, edge, words):
    status, out, error = command("heads", traced, "--edge", edge, "--model", "/nowhere")
    assert (status, out) == (2, "")
    assert words in error
    assert error.count("\n") == 1


def test_a_trace_keeps_the_heads_of_its_circuit(command, tmp_path):
    text = cotrace.load(REFERENCE / "model", device="cpu").tokenizer.hf_tokenizer.decode([20, 30, 40])
    status, _, error = command("trace", text, *MODEL, "--out", tmp_path, "--heads", "--quiet")
    assert (status, error) == (0, "")
    (file,) = tmp_path.glob("*.arrow")
    assert cotrace.open(file).head_shares().num_rows > 1
    assert "heads L" in file.with_suffix(".svg").read_text()


def test_heads_of_many_prompts_are_refused(command, tmp_path):
    status, _, error = command("trace", "--prompts", tmp_path / "prompts.jsonl", "--heads")
    assert status == 2
    assert "--heads is for one PROMPT" in error


@pytest.mark.parametrize("damage", ["lengths", "heads per layer", "infinite", "no metadata", "no column"])
def test_damaged_head_loadings_are_refused(traced, tmp_path, damage):
    graph = cotrace.open(traced)
    table, info, column = graph.nodes, copy.deepcopy(graph.info), graph.nodes["heads"].chunk(0)
    values, offsets = column.values.to_numpy().copy(), column.offsets.to_numpy().copy()
    if damage == "lengths":
        offsets[offsets > 0] -= 1
        offsets[-1] += 1
    elif damage == "heads per layer":
        info["heads"]["per_layer"] += 1
    elif damage == "infinite":
        values[3] = np.inf
    elif damage == "no metadata":
        del info["heads"]
    index = table.column_names.index("heads")
    changed = pa.LargeListArray.from_arrays(offsets, pa.array(values), type=table.schema.field("heads").type)
    table = table.set_column(index, table.schema.field("heads"), changed).replace_schema_metadata(metadata_of(info))
    save_table(table.drop_columns(["heads"]) if damage == "no column" else table, tmp_path / "x.arrow")
    with pytest.raises(FileError, match=r"\A[^\n]*head loadings[^\n]*\Z"):
        cotrace.open(tmp_path / "x.arrow")
