"""Scores of attention heads as sums over pairs of nodes: identities, references, refusals, the command and its picture."""

import json

import numpy as np
import pytest
import torch
from helpers.cli import REFERENCE
from helpers.graph_reference import GraphReference
from helpers.linear_reference import attention_scores, propagate, queries_keys
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import KINDS, LAYERS, prompt
from transformers import Gemma3ForCausalLM
from transformers.models.gemma3.modeling_gemma3 import apply_rotary_pos_emb

import cotrace
from cotrace.common.errors import ArgumentError, ResourceError
from cotrace.graphs.top_pairs import top_pairs

TOLERANCE = 1e-9
HEADS = [(layer, head) for layer in range(LAYERS) for head in (0, 1, 3)]  # of both key heads, which query heads share


def pair_matrix(score):
    """Return the scores of all pairs, which the package never builds."""
    return score.query_side.vector_Md @ score.key_side.vector_Md.T


# --- identities -----------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [None, [3, 6]], ids=["default", "masked"])
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_and_nodes_add_up_to_the_score(model_of, kind, masked):
    """Each head has one of four keys here; over all kinds of transcoders it has each of them twice."""
    model = model_of(kind)
    for number, ((layer, head), query) in enumerate(zip(HEADS, (10, 9, 8, 7, 6, 10, 9, 1, 10), strict=True)):
        keys = (None, query, max(0, query - 3), 0 if layer == 1 else query - 1)
        key = keys[(number + [*KINDS].index(kind)) % len(keys)]
        score = model.attention(prompt(), layer, head, query, key, masked_positions=masked)
        pairs = pair_matrix(score)
        size = np.abs(pairs).sum()
        assert abs(pairs.sum() - score.score) < TOLERANCE * size
        assert np.abs(score.query_nodes["score"].to_numpy() - pairs.sum(1)).max() < TOLERANCE * size
        assert np.abs(score.key_nodes["score"].to_numpy() - pairs.sum(0)).max() < TOLERANCE * size


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("kind", ["clt-affine", "neurons"])
def test_in_float32_pairs_add_up_up_to_rounding(model_of, kind, dtype):
    score = model_of(kind, dtype).attention(prompt(), 2, 1, -1)
    pairs = pair_matrix(score)
    assert pairs.dtype == np.float32
    assert abs(pairs.sum() - score.score) < 1e-4 * np.abs(pairs).sum()


@pytest.mark.parametrize("masked", [None, [3, 6]], ids=["default", "masked"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_pair_equals_forward_propagation(model_of, model_folder, kind, masked):
    """Every node alone, propagated forwards to a head's query and key with everything frozen, gives all pairs."""
    model = model_of(kind)
    reference = GraphReference(model, model_folder, model.trace(prompt(), masked_positions=masked), masked)
    for layer, head in HEADS:
        score = model.attention(prompt(), layer, head, 10, 8, masked_positions=masked)
        queries, keys = expected_sides(reference, layer, head)
        expected = queries[:, 10] @ keys[:, 8].T
        rows, columns = (reference_rows(reference.graph, nodes) for nodes in (score.query_nodes, score.key_nodes))
        found = np.zeros(expected.shape)
        found[np.ix_(rows, columns)] = pair_matrix(score)
        assert np.abs(found - expected.numpy()).max() < TOLERANCE * expected.abs().max()


def expected_sides(reference, layer, head):
    """Return what every node in node order, and then all constants, adds to a head's queries and keys, (M + 1, P, d)."""
    embeds = torch.cat([reference.embeds, torch.zeros_like(reference.embeds[:1])])
    injected = torch.cat([reference.injected, reference.constant[None]])
    _, streams = propagate(reference.layers[:layer], reference.skips[:layer], embeds, injected[:, :layer])
    inputs = streams * reference.layers[layer].scale_in
    text, config = reference.hf_model.model, reference.hf_model.config
    attention = text.layers[layer].self_attn
    q, k = queries_keys(attention, head, inputs, inputs.sum(0), layer, text, config)
    return q * config.query_pre_attn_scalar**-0.5, k


def reference_rows(graph, nodes):
    """Return the node number of every row in the table of a side; the number of nodes for the row of constants."""
    names = ("kind", "layer", "position", "feature")
    number = {
        key: node for node, key in enumerate(zip(*(graph.nodes[name].to_pylist() for name in names), strict=True))
    }
    rows = [tuple(row[name] for name in names) for row in nodes.to_pylist()]
    return [graph.order.n_nodes if row[0] == "bias" else number[row] for row in rows]


@pytest.mark.parametrize(("layer", "head"), HEADS)
def test_scores_are_those_of_transformers(model_of, model_folder, layer, head):
    """Scores and probabilities of all keys equal those of the library's modules, whose norms compute in float32."""
    hf_model = Gemma3ForCausalLM.from_pretrained(model_folder, dtype=torch.float64, attn_implementation="eager")
    found = hf_model(torch.tensor([prompt()]), output_hidden_states=True, output_attentions=True)
    text, attention = hf_model.model, hf_model.model.layers[layer].self_attn
    with torch.no_grad():
        normed = text.layers[layer].input_layernorm(found.hidden_states[layer])
        shape = (1, len(prompt()), -1, attention.head_dim)
        q = attention.q_norm(attention.q_proj(normed).view(shape).transpose(1, 2))
        k = attention.k_norm(attention.k_proj(normed).view(shape).transpose(1, 2))
        rotation = text.rotary_emb(normed, torch.arange(len(prompt()))[None], attention.layer_type)
        q, k = apply_rotary_pos_emb(q, k, *rotation)
        expected = (q[0, head] @ k[0, head // attention.num_key_value_groups].T * attention.scaling).numpy()
    for query in (10, 2, 0):
        score = model_of("clt").attention(prompt(), layer, head, query)
        seen = score.keys["position"].to_numpy()
        assert seen.tolist() == list(range(max(0, query - 3) if layer != 1 else 0, query + 1))
        assert np.abs(score.keys["score"].to_numpy() - expected[query, seen]).max() < 1e-5
        probability = found.attentions[layer][0, head, query].detach().numpy()
        assert np.abs(score.keys["probability"].to_numpy() - probability[seen]).max() < 1e-5
        assert score.key == probability.argmax()
        assert score.probability == pytest.approx(probability.max(), abs=1e-5)


def test_scores_equal_the_reference_in_float64(model_of, model_folder):
    model = model_of("per-layer-affine")
    reference = GraphReference(model, model_folder, model.trace(prompt()), None)
    hf, (_, streams) = reference.hf_model, (None, None)
    total = reference.embeds.sum(0)
    constant = reference.injected.sum(0) + reference.constant
    for layer in range(LAYERS):
        _, streams = propagate(reference.layers[:layer], reference.skips[:layer], total[None], constant[None, :layer])
        inputs = streams[0] * reference.layers[layer].scale_in
        expected = attention_scores(hf.model.layers[layer].self_attn, 2, inputs, layer, hf.model, hf.config)
        score = model.attention(prompt(), layer, 2, 9)
        seen = score.keys["position"].to_numpy()
        assert np.abs(score.keys["score"].to_numpy() - expected[9].numpy()[seen]).max() < TOLERANCE


def test_preferences_add_up_to_differences_of_scores(model_of):
    score = model_of("clt-affine").attention(prompt(), 1, 2, 9, 4)
    scores, probability = (score.keys[name].to_numpy() for name in ("score", "probability"))
    assert np.abs(score.keys["margin"].to_numpy() - (scores[4] - scores)).max() < 1e-12
    for other in (0, 7, 9):
        found = score.preference(other)["preference"].to_numpy()
        assert found.sum() == pytest.approx(scores[4] - scores[other], abs=1e-9)
    others = np.arange(10) != 4
    mean = (probability * scores)[others].sum() / probability[others].sum()
    assert score.query_nodes["preference"].to_numpy().sum() == pytest.approx(scores[4] - mean, abs=1e-9)
    assert np.abs(score.preference(4)["preference"].to_numpy()).max() == 0


@pytest.mark.parametrize("group", ["kind", "layer", "position"])
def test_groups_add_up_to_the_score(model_of, group):
    score = model_of("clt").attention(prompt(), 2, 1, 9, 7)
    table = score.by(group)
    assert table["score"].to_numpy().sum() == pytest.approx(score.score, abs=1e-9)
    pairs, queries, keys = (
        pair_matrix(score),
        *(
            np.array([str(value) for value in nodes[group].to_pylist()])
            for nodes in (score.query_nodes, score.key_nodes)
        ),
    )
    for row in table.to_pylist():
        block = pairs[np.ix_(queries == str(row["query"]), keys == str(row["key"]))]
        assert row["score"] == pytest.approx(block.sum(), abs=1e-9)


def test_the_first_layer_reads_tokens_only(model_of):
    score = model_of("clt-affine").attention(prompt(), 0, 1, 5, 3)
    for nodes, position in ((score.query_nodes, 5), (score.key_nodes, 3)):
        used = [row for row in nodes.to_pylist() if row["score"] != 0]
        assert [(row["kind"], row["position"]) for row in used] == [("token", position)]


def test_a_query_that_sees_only_itself(model_of):
    score = model_of("clt").attention(prompt(), 1, 0, 0)
    assert (score.key, score.probability) == (0, 1.0)
    assert score.query_nodes["preference"].null_count == len(score.query_nodes)
    assert len(score.keys) == 1


def test_a_query_does_not_depend_on_later_tokens_or_the_size_of_batches(model_of):
    model = model_of("clt-affine")
    whole, start = model.attention(prompt(), 2, 3, 6, 5), model.attention(prompt(7), 2, 3, -1, 5)
    assert whole.pairs(20)["score"].to_numpy() == pytest.approx(start.pairs(20)["score"].to_numpy(), abs=1e-9)
    tight = model.attention(prompt(), 2, 3, 6, 5, memory=8 * 2**40)
    assert tight.score == whole.score


# --- the search for pairs -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clt", "neurons"])
def test_top_pairs_equal_brute_force(model_of, kind):
    score = model_of(kind).attention(prompt(), 2, 1, 10, 8)
    pairs = pair_matrix(score)
    for n in (1, 10, 300):
        table = score.pairs(n)
        expected = np.sort(np.abs(pairs).ravel())[::-1][:n]
        assert np.abs(table["score"].to_numpy()) == pytest.approx(expected, rel=1e-9)
        assert pairs[table["query_row"].to_numpy(), table["key_row"].to_numpy()] == pytest.approx(
            table["score"].to_numpy(), rel=1e-9
        )
    row = table.to_pylist()[0]
    assert row["query_node"] == score.query_side.names([row["query_row"]])[0]
    assert row["key_node"] == score.key_side.names([row["key_row"]])[0]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5)),
    count=st.integers(1, 30),
    spread=st.sampled_from([0.0, 1.0, 6.0]),
    block=st.sampled_from([1, 16, 2**22]),
    seed=st.integers(0, 99),
)
def test_the_search_is_exact_for_any_vectors(sizes, count, spread, block, seed):
    from unittest import mock

    rng = np.random.default_rng(seed)
    left, right = (rng.normal(size=(n, sizes[2])) * np.exp(spread * rng.normal(size=(n, 1))) for n in sizes[:2])
    left[rng.random(len(left)) < 0.2] = 0
    with mock.patch("cotrace.graphs.top_pairs.BLOCK_PRODUCTS", block):
        found = top_pairs(left, right, count)
    products = left @ right.T
    expected = np.sort(np.abs(products).ravel())[::-1][:count]
    assert np.abs(found.product) == pytest.approx(expected[expected > 0], rel=1e-12)
    assert products[found.left, found.right] == pytest.approx(found.product, rel=1e-12)
    assert len({*zip(found.left.tolist(), found.right.tolist(), strict=True)}) == len(found.product)


def test_the_search_skips_pairs_that_cannot_be_large(monkeypatch):
    """Norms that fall quickly: only a small part of all dot products is computed."""
    rng, computed = np.random.default_rng(0), []
    scale = 0.5 ** np.arange(200)[:, None]
    left, right = (rng.normal(size=(200, 4)) * scale for _ in range(2))
    monkeypatch.setattr("cotrace.graphs.top_pairs.BLOCK_PRODUCTS", 64)
    original = cotrace.graphs.top_pairs._largest

    def counting(block, *arguments):
        computed.append(block.size)
        return original(block, *arguments)

    monkeypatch.setattr("cotrace.graphs.top_pairs._largest", counting)
    top_pairs(left, right, 5)
    assert 0 < sum(computed) < 0.05 * 200 * 200


# --- refusals -------------------------------------------------------------------------------

REFUSED = {  # name: arguments, part of the message
    "layer": ((3, 0, 5), {}, "layer is 3: the model has the layers 0 … 2"),
    "negative layer": ((-1, 0, 5), {}, "layer is -1"),
    "layer as text": (("1", 0, 5), {}, "layer is '1'; it must be an integer"),
    "head": ((0, 4, 5), {}, "head is 4: the model has the heads 0 … 3"),
    "query": ((0, 0, 11), {}, "query 11 is outside the prompt of 11 tokens (-11 … 10)"),
    "key": ((0, 0, 5, -12), {}, "key -12 is outside the prompt of 11 tokens"),
    "key after query": ((1, 0, 5, 6), {}, "key 6 comes after query 5"),
    "key outside the window": ((0, 0, 9, 5), {}, "key 5 is outside the window of layer 0: query 9 sees the last 4"),
    "masked position": ((0, 0, 5), {"masked_positions": [11]}, "masked position 11 is outside the prompt"),
    "memory": ((0, 0, 5), {"memory": 0}, "memory is 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_arguments_get_one_line_before_anything_is_computed(model_of, monkeypatch, case):
    arguments, options, message = REFUSED[case]
    monkeypatch.setattr("cotrace.attribution.tracing.plan.PromptActivations", None)
    with pytest.raises(ArgumentError) as caught:
        model_of("clt").attention(prompt(), *arguments, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_results_refuse_what_they_do_not_hold(model_of, tmp_path):
    score = model_of("clt").attention(prompt(), 0, 0, 9)
    for wrong, message in (
        (lambda: score.preference(5), "key 5 is not seen by query 9: choose one of 6 … 9"),
        (lambda: score.top(3, "both"), "side='both' is not one of query, key"),
        (lambda: score.top(0), "n is 0: it must be at least 1"),
        (lambda: score.pairs(2.5), "n is 2.5; it must be an integer"),
        (lambda: score.by("token"), "group='token' is not one of kind, layer, position"),
        (lambda: score.plot(tmp_path / "a.jpg"), "a.jpg should end in .svg, .png, .pdf"),
    ):
        with pytest.raises(ArgumentError, match=message.replace(".", r"\.")):
            wrong()


def test_too_little_memory_for_the_nodes_is_refused(model_of, monkeypatch):
    monkeypatch.setattr("cotrace.attribution.effects.attention.spare_memory", lambda *_: 1000)
    with pytest.raises(ResourceError, match=r"the score of .* nodes on each side needs about .*; shorten the prompt"):
        model_of("clt").attention(prompt(), 2, 0, 5)


# --- the command and the picture ------------------------------------------------------------

TRANSCODERS = REFERENCE / "clt_gemma_scope_2" / "clt" / "width_128_l0_medium_affine"
MODEL = ["--model", REFERENCE / "model", "--transcoders", TRANSCODERS, "--device", "cpu"]
PLACE = ["--layer", 2, "--head", 1, "--query", -1]


def test_the_command_prints_keys_nodes_and_pairs(command):
    status, out, errors = command("attention", "t20 t30 t40 t20", *PLACE, *MODEL, "--top", 4)
    assert status == 0, errors
    loaded = cotrace.load(REFERENCE / "model", TRANSCODERS, device="cpu")
    score = loaded.attention("t20 t30 t40 t20", 2, 1, -1)
    assert f"{score.score:+.3f} before the softmax; {score.probability:.1%} of the attention" in out
    for name in [*score.top(4, "query")["name"].to_pylist(), *score.top(4, "key")["name"].to_pylist()]:
        assert name in out
    assert f"{score.pairs(4)['score'][3].as_py():+.3f}" in out
    for heading in ("keys, by attention", "score by kind of query node", "nodes of the query", "nodes of the key"):
        assert heading in out


def test_the_command_prints_json_and_draws(command, tmp_path):
    plot = tmp_path / "plot.svg"
    arguments = ["attention", "t20 t30 t40 t20", *PLACE, "--key", 1, *MODEL, "--json", "--plot", plot]
    status, out, errors = command(*arguments)
    assert status == 0, errors
    found = json.loads(out)
    assert (found["layer"], found["head"], found["key"]) == (2, 1, 1)
    assert found["files"] == [str(plot)]
    assert len(found["pairs"]) == len(found["query_nodes"]) == len(found["key_nodes"]) == 10
    assert sum(row["score"] for row in found["by_kind"]) == pytest.approx(found["score"], rel=1e-3, abs=1e-3)
    assert sum(row["probability"] for row in found["keys"]) == pytest.approx(1)
    text = plot.read_text()
    assert "layer 2, head 1" in text
    assert command(*arguments)[2].startswith(f"error: {plot} exists; add --force")
    assert command(*arguments, "--force")[0] == 0
    assert plot.read_text() == text


@pytest.mark.parametrize(
    ("options", "message"),
    {
        "suffix": (["--plot", "a.gif"], "a.gif should end in .svg, .png, .pdf"),
        "head": (["--head", "99"], "--head is 99: the model has the heads 0 …"),
        "layer": (["--layer", "99"], "--layer is 99: the model has the layers 0 …"),
        "key": (["--key", "4", "--query", "2"], "key 4 comes after query 2"),
    }.values(),
)
def test_the_command_refuses_in_one_line(command, options, message):
    status, _, errors = command("attention", "t20 t30 t40 t20", *PLACE, *MODEL, *options)
    assert (status, errors.count("\n")) == (2, 1)
    assert message in errors


def test_the_picture_shows_every_part_of_the_score(model_of):
    score = model_of("clt").attention(prompt(), 2, 1, 10, 9)
    panels = score._panels()
    assert panels.pair_scores.sum() == pytest.approx(score.score, abs=1e-9)
    assert panels.query_nodes[:-1] == score.top(10, "query")["name"].to_pylist()
    assert panels.pair_scores.sum(1)[:-1] == pytest.approx(score.top(10)["score"].to_numpy(), abs=1e-9)
    assert panels.is_chosen.sum() == 1
    assert score.plot().axes[1].get_title().startswith("pairs add up to the score")


def test_a_picture_of_many_keys_shows_the_chosen_one(model_of):
    score = model_of("clt").attention([2, *range(5, 35)], 1, 0, -1, 0)
    least = int(np.argmin(score.keys["score"].to_numpy()))
    panels = model_of("clt").attention([2, *range(5, 35)], 1, 0, -1, least)._panels()
    assert panels.is_chosen.sum() == 1
    assert len(panels.key_names) == 12
