"""The result class of effects: tables, sums, files and pictures; and effects along a saved graph's edges."""

import json

import numpy as np
import pyarrow as pa
import pytest
import tiny
from helpers.random_effects import effects, random_effects
from helpers.random_graphs import dense, graphs, random_graph
from hypothesis import given, settings
from hypothesis import strategies as st

import cotrace
from cotrace.common.errors import ArgumentError, CotraceError, FileError
from cotrace.graphs.metadata import EFFECTS_KEY
from cotrace.graphs.store import read_table, save_table

SIZES = {"n_layers": 3, "n_positions": 4, "n_features": 12, "n_errors": 6}


@pytest.fixture
def some():
    return random_effects(5, cuts=("", "first"), segments={"first": [0, 2]}, through_qk=True, **SIZES)


def refusal(path, match=None, verify=True):
    """Assert that a file is refused with one line that matches a text."""
    with pytest.raises(CotraceError, match=match) as caught:
        cotrace.Effects.open(path, verify=verify)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert str(path) in text
    assert "trace the prompt" not in text


# --- tables ---------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(effects())
def test_the_long_table_has_every_effect_that_is_not_zero_and_each_bias(found):
    rows = found.table.to_pylist()
    kinds = found.nodes["kind"].to_pylist()
    for k, target in enumerate(found.targets):
        mine = [
            row for row in rows if (row["target"], row.get("avoiding", "")) == (target["target"], target["avoiding"])
        ]
        *nodes, bias = mine
        assert (bias["kind"], bias["layer"], bias["position"], bias["text"]) == ("bias", None, None, None)
        assert bias["effect"] == pytest.approx(found.bias_K[k], rel=1e-6)
        expected = [m for m in range(len(kinds)) if found.effect_KM[k, m] or found.through_qk_KM is not None]
        assert [(row["kind"], row["effect"]) for row in nodes] == [(kinds[m], found.effect_KM[k, m]) for m in expected]
        for name in ("layer", "position", "feature", "text"):
            assert [row[name] for row in nodes] == found.nodes[name].take(pa.array(expected, pa.int64())).to_pylist()
        if found.through_qk_KM is not None:
            assert [row["through_qk"] for row in mine] == [*found.through_qk_KM[k].tolist(), None]


@settings(max_examples=20, deadline=None)
@given(effects())
def test_the_ledger_adds_up_to_the_value(found):
    kinds = np.array(found.nodes["kind"].to_pylist())
    for k, row in enumerate(found.ledger.to_pylist()):
        assert [row[name] for name in ("target", "label", "avoiding", "position")] == [
            found.targets[k][name] for name in ("target", "label", "avoiding", "position")
        ]
        effect_M = found.effect_KM[k].astype(float)
        assert row["tokens"] == pytest.approx(effect_M[kinds == "token"].sum(), abs=1e-12)
        assert row["errors"] == pytest.approx(effect_M[kinds == "error"].sum(), abs=1e-12)
        total = row["tokens"] + row["errors"] + row["bias"] + row["remainder"]
        assert total == pytest.approx(found.targets[k]["value"], abs=1e-12)
        leaves = effect_M[kinds != "feature"]
        if leaves.any():
            assert row["cancellation"] == pytest.approx(np.abs(leaves).sum() / abs(leaves.sum()))


def test_cancellation_is_1_for_one_sign_and_null_if_leaves_add_up_to_0(some):
    some.effect_KM = np.abs(some.effect_KM) + 1
    some.effect_KM[1] = 0
    assert some.ledger["cancellation"].to_pylist()[:2] == [pytest.approx(1), None]


@pytest.mark.parametrize("group", ["segment", "token", "layer", "position"])
def test_groups_add_up_to_the_ledger(some, group):
    rows, ledger = some.by(group).to_pylist(), some.ledger.to_pylist()
    for k, target in enumerate(ledger):
        mine = [row for row in rows if (row["target"], row["avoiding"]) == (target["target"], target["avoiding"])]
        for part in ("tokens", "errors"):
            assert sum(row[part] for row in mine) == pytest.approx(target[part], abs=1e-9)
        is_feature = some.kind_M == 0
        assert sum(row["features"] for row in mine) == pytest.approx(
            float(some.effect_KM[k, is_feature].sum()), abs=1e-5
        )
        credit = float(some.through_qk_KM[k, ~is_feature].sum())
        assert sum(row["through_qk"] for row in mine) == pytest.approx(credit, abs=1e-5)


def test_groups_have_the_sums_of_their_nodes(some):
    nodes = some.nodes.to_pylist()

    def total(kind, k=0, **where):
        return sum(
            some.effect_KM[k, m]
            for m, node in enumerate(nodes)
            if node["kind"] == kind and all(node[name] in values for name, values in where.items())
        )

    first, other = some.by("segment").to_pylist()[:2]
    assert (first["segment"], other["segment"]) == ("first", "other")
    assert first["tokens"] == pytest.approx(total("token", position=[0, 2]), abs=1e-6)
    assert other["features"] == pytest.approx(total("feature", position=[1, 3]), abs=1e-6)
    by_token = some.by("token").to_pylist()
    assert [(row["position"], row["token"]) for row in by_token[:4]] == list(enumerate(some.info["tokens"]))
    assert by_token[1]["errors"] == pytest.approx(total("error", position=[1]), abs=1e-6)
    by_layer = some.by("layer").to_pylist()
    assert [row["layer"] for row in by_layer[:4]] == [None, 0, 1, 2]
    assert by_layer[0]["tokens"] == pytest.approx(total("token"), abs=1e-6)
    assert by_layer[2]["features"] == pytest.approx(total("feature", layer=[1]), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(effects(), st.integers(1, 30), st.sampled_from([None, "feature", "error", "token"]))
def test_top_is_the_start_of_all_nodes_by_absolute_effect(found, n, kind):
    rows = found.top(n, kind).to_pylist()
    for k, target in enumerate(found.targets):
        mine = [
            row for row in rows if (row["target"], row.get("avoiding", "")) == (target["target"], target["avoiding"])
        ]
        among = [m for m, node in enumerate(found.nodes["kind"].to_pylist()) if kind in (None, node)]
        sizes = sorted((abs(found.effect_KM[k, m]) for m in among if found.effect_KM[k, m]), reverse=True)
        assert [abs(row["effect"]) for row in mine] == sizes[:n]
    for row in rows:
        place = f"@{row['position']}"
        name = {"feature": f"L{row['layer']}#{row['feature']}", "error": f"L{row['layer']}#error", "token": "token"}
        assert row["node"] == name[row["kind"]] + place


def test_mistakes_in_calls_are_named(some):
    plain = random_effects(1, **SIZES)
    for call, words in [
        (lambda: some.by("word"), "'word'.*segment, token, layer, position"),
        (lambda: plain.by("segment"), "no segments.*segments="),
        (lambda: some.top(0), "n is 0"),
        (lambda: some.top("ten"), "n is 'ten'"),
        (lambda: some.top(3, "logit"), "kind='logit'.*feature, error, token"),
        (lambda: some.plot("x.gif"), "x.gif.*svg"),
        (lambda: some.plot(target=4), "target=4.*0 … 3"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            call()


def test_the_names_of_effects_say_what_they_are(some):
    assert repr(some) == "<Effects of 12 features, 6 errors, 4 tokens on 2 targets with 1 cuts, freeze='all'>"
    some.targets[0]["label"] = "<b>"
    assert "&lt;b&gt;" in some._repr_html_()
    assert "<b>" not in some._repr_html_()


# --- files ----------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(effects(segments={"all": [0]}), st.sampled_from(["effects.arrow", "effects.arrow.zst"]))
def test_a_round_trip_is_exact(tmp_path_factory, found, name):
    path = found.save(tmp_path_factory.mktemp("trip") / name)
    opened = cotrace.Effects.open(path)
    assert opened.info == found.info
    assert opened.targets == found.targets
    assert opened.nodes.equals(found.nodes)
    for name in ("effect_KM", "bias_K", "through_qk_KM"):
        before, after = getattr(found, name), getattr(opened, name)
        assert (before is None and after is None) or (before.dtype == after.dtype and np.array_equal(before, after))
    assert opened.table.equals(found.table)
    assert opened.by("segment").equals(found.by("segment"))


def test_the_same_effects_give_the_same_bytes(some, tmp_path):
    first = some.save(tmp_path / "a.arrow")
    second = cotrace.Effects.open(first).save(tmp_path / "b.arrow")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", ["effects.arrow", "effects.arrow.zst"])
def test_any_bytes_are_refused_or_read(some, tmp_path, name, verify):
    content = some.save(tmp_path / name).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / f"damaged-{name}"
    for number in range(150):
        data = bytearray(content)
        if number % 3:
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        else:
            del data[rng.integers(len(data)) :]
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        try:
            opened = cotrace.Effects.open(path, verify=verify)
        except CotraceError:
            refusal(path, verify=verify)
        else:
            opened.table, opened.ledger, opened.top(3), opened.by("segment"), repr(opened)
            assert not verify or opened.table.equals(some.table)


def test_files_of_other_kinds_are_named(some, tmp_path):
    graph = random_graph(1).save(tmp_path / "graph.arrow")
    refusal(graph, "it is a graph; open it with cotrace.open")
    refusal(tmp_path / "missing.arrow", "does not exist.*cotrace effects")
    other = tmp_path / "other.arrow"
    save_table(pa.table({"a": [1]}), other)
    refusal(other, "no effects of cotrace")
    with pytest.raises(FileError, match=r"effects.*Effects\.open"):
        cotrace.open(some.save(tmp_path / "effects.arrow"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.update(version=2), "format version 2.*upgrade"),
        (lambda e: e.update(version="1"), "version"),
        (lambda e: e.pop("targets"), "targets"),
        (lambda e: e.update(targets=[]), "no targets"),
        (lambda e: e["targets"][0].update(value="1"), "targets"),
        (lambda e: e["targets"][0].update(position=4), "outside the prompt"),
        (lambda e: e["targets"][0].update(target=2**40), "outside the prompt"),
        (lambda e: e["info"].pop("tokens"), "info"),
        (lambda e: e["info"]["tokens"].append("x"), "tokens do not fit"),
        (lambda e: e["info"]["settings"].update(segments={"first": [9]}), "segments are damaged.*outside"),
        (lambda e: e["info"]["settings"].update(segments=[1]), "segments are damaged"),
        (lambda e: e["targets"].pop(), "columns are not those"),
    ],
)
def test_edited_metadata_are_refused(some, tmp_path, change, words):
    table = read_table(some.save(tmp_path / "effects.arrow"))
    entries = json.loads(table.schema.metadata[EFFECTS_KEY])
    change(entries)
    edited = tmp_path / "edited.arrow"
    save_table(table.replace_schema_metadata({EFFECTS_KEY: json.dumps(entries).encode()}), edited)
    refusal(edited, words)


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("effect_0", pa.array([np.nan] * 22, pa.float32()), "not finite"),
        ("effect_0", pa.array([1] * 22), "columns are not those"),
        ("position", pa.array([4] * 22, pa.int32()), "outside the prompt"),
        ("position", pa.array([None] * 22, pa.int32()), "nulls"),
        ("layer", pa.array([None] * 22, pa.int32()), "lacks a layer"),
        ("layer", pa.array([2**31 - 1] * 18 + [None] * 4, pa.int32()), "outside the prompt or the model"),
        ("feature", pa.array([1] * 22, pa.int32()), "lacks a layer or feature"),
        ("kind", pa.array(["logit"] * 22).dictionary_encode(), "columns are not those"),
    ],
)
def test_edited_columns_are_refused(some, tmp_path, column, values, words):
    table = read_table(some.save(tmp_path / "effects.arrow"))
    index = table.column_names.index(column)
    field = table.schema.field(index).with_type(values.type)
    edited = tmp_path / "edited.arrow"
    save_table(table.set_column(index, field, values), edited)
    refusal(edited, words)


def test_what_a_file_cannot_hold_is_refused(some, tmp_path):
    for key, value in [("settings", {"x": float("nan")}), ("prompt", "\ud800"), ("tokens", None)]:
        broken = random_effects(5, **SIZES)
        broken.info[key] = value
        with pytest.raises(ArgumentError, match="undo the edit"):
            broken.save(tmp_path / "effects.arrow")
    assert not list(tmp_path.iterdir())


# --- pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_plots_are_files_of_their_kind(some, tmp_path, suffix):
    begins = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[suffix]
    assert some.plot(tmp_path / f"effects.{suffix}", target=1).read_bytes().startswith(begins)


def test_a_plot_shows_each_target_and_its_parts(some):
    some.info["tokens"][0] = some.targets[0]["label"] = "$x_1$\n"
    places, ledger, *_ = some.plot().axes
    labels = [text.get_text() for text in ledger.get_yticklabels()]
    assert labels[:2] == [r"'\$x_1\$\n' at 3", "' target 0' at 3, avoiding first"]
    assert places.images[0].get_array().shape == (4, 4)
    assert places.images[0].get_array().sum() == pytest.approx(np.abs(some.effect_KM[0]).sum(), rel=1e-6)
    widths = {bar.get_label(): [each.get_width() for each in bar] for bar in ledger.containers}
    assert widths["tokens"] == some.ledger["tokens"].to_pylist()
    assert set(widths) == {"tokens", "errors", "bias", "remainder"}


# --- effects along a graph's edges ----------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(graphs(dtype=np.float64))
def test_effects_of_a_graph_solve_their_equation(graph):
    """`E = A + A diag(1/a) E`, with biases as one more source."""
    n_features = graph.order.n_features
    matrix = np.hstack([dense(graph), np.nan_to_num(graph.column("bias"))[:, None]])
    activation = graph.column("activation")[:n_features]
    gain = np.zeros(len(matrix))
    gain[:n_features] = np.divide(1, activation, out=np.zeros(n_features), where=activation != 0)
    total = np.linalg.solve(np.eye(len(matrix)) - matrix[:, :-1] * gain, matrix)
    found = graph.effects()
    for k, target in enumerate(graph.info["targets"]):
        expected = total[target["node"]]
        scale = np.abs(expected).max() + 1e-9
        np.testing.assert_allclose(found.effect_KM[k] / scale, expected[: graph.order.n_editable] / scale, atol=1e-9)
        assert found.bias_K[k] / scale == pytest.approx(expected[-1] / scale, abs=1e-9)
        assert found.targets[k]["value"] == graph.column("pre_activation")[target["node"]]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_ledger_of_a_traced_graph_has_no_remainder(model_of, kind):
    model = model_of(kind)
    graph = model.trace(tiny.prompt(), [3, (5, 9)], position=[-3, -1])
    found = graph.effects(segments={"first": (0, 4)})
    for row in found.ledger.to_pylist():
        parts = abs(row["value"]) + sum(abs(row[name]) for name in ("tokens", "errors", "bias"))
        assert abs(row["remainder"]) < 1e-9 * (parts + abs(row["tokens"]) * row["cancellation"])
    pruned = graph.prune(0.5).effects().ledger.to_pylist()
    assert max(abs(row["remainder"]) for row in pruned) > 1e-3


def test_targets_of_a_graph_are_named_as_in_find(model_of):
    graph = model_of("clt").trace(tiny.prompt(), [3, 5], position=[-3, -1])
    node = int(np.flatnonzero(graph.csr.row_lengths()[: graph.order.n_features])[-1])
    feature = str(cotrace.Feature(*(int(graph.column(name)[node]) for name in ("layer", "feature", "position"))))
    label = graph.info["targets"][0]["label"]
    found = graph.effects([label, feature])
    assert [row["label"] for row in found.targets] == [label, label, feature]
    assert [row["position"] for row in found.targets] == [8, 10, int(graph.column("position")[node])]
    assert found.targets[2]["kind"] == "feature"
    assert found.ledger["remainder"].to_numpy()[2] == pytest.approx(0, abs=1e-9)
    for targets, words in [
        ("token@2", "'.+'@2 is no target"),
        ("L0#error@2", "L0#error@2 is no target"),
        ("L2#23@0", "not in this graph"),
        ("nothing", "no node of this graph is called"),
        ([], "targets is empty"),
    ]:
        with pytest.raises(ArgumentError, match=words):
            graph.effects(targets)


def test_features_without_a_row_are_no_targets(model_of):
    graph = model_of("clt").trace(tiny.prompt(), [3], max_features=1)
    node = int(np.flatnonzero(~graph.computed[: graph.order.n_features])[0])
    with pytest.raises(ArgumentError, match=r"row of L.#.+@. was not computed"):
        graph.effects(node)
