"""Interventions: edges, an independent dense reference, positions, edits that change nothing, batches."""

import functools

import numpy as np
import pytest
import tiny
import torch
from helpers.interventions import (
    MASKED,
    OTHER,
    RELATIVE_TOLERANCE,
    SETTINGS,
    SHORT,
    active_at,
    direction,
    edit_cases,
    gap,
    intervention_of,
    middle_feature,
    with_settings,
)
from intervention_reference import Edit
from tiny import KINDS, LAYERS, WIDTH, prompt

import cotrace
from cotrace import Direction, ErrorNode, Feature, Supernode, Token, ablate, add, multiply, replace_with, set_to
from cotrace.attribution.interventions import runs

pytestmark = pytest.mark.usefixtures("one_thread")
IN_SOME_LAYERS = {  # freeze and errors, where only some layers are frozen
    "attention": SETTINGS["attention"],
    "attention-constant": SETTINGS["attention-constant"],
    "all": SETTINGS["all"],
    "all-constant": {"freeze": "all", "errors": "constant"},
}
EVERY = pytest.mark.parametrize(("kind", "setting"), with_settings(KINDS))
FEW = pytest.mark.parametrize(("kind", "setting"), with_settings(["clt-affine", "per-layer", "neurons"]))


# Edges


@pytest.mark.parametrize("masked", MASKED.values(), ids=MASKED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_edit_changes_every_node_by_exactly_its_edge(model_of, kind, masked):
    """Several edits change it by the sum of edges: features at several layers, several at one position, errors, tokens."""
    model, ids = model_of(kind), prompt(9)
    graph = model.trace(ids, max_targets=4, masked_positions=masked)
    order, edges = graph.order, graph.adjacency().toarray()
    activation = graph.column("activation")
    sources = [
        *range(0, order.n_features, 11),
        *np.arange(order.n_nodes)[order.errors][edges[:, order.errors].any(0)][::4],
        *range(order.tokens.start, order.tokens.stop),
    ]
    edits, moves = [], []
    for number, node in enumerate(map(int, sources)):
        if node >= order.n_features:  # edges of an error node or a token are those of its whole vector
            edit, share = ((ablate(), -1), (multiply(2.5), 1.5))[number % 2]
        else:
            a = activation[node]
            choices = (ablate(), -1), (add(0.7), 0.7 / a), (multiply(-2), -3), (set_to(1.3), (1.3 - a) / a)
            edit, share = choices[number % 4]
        edits.append({cotrace.nodes_of(graph, [node])[0]: edit})
        moves.append(share * edges[:, node])
    assert {getattr(next(iter(c)), "layer", "token") for c in edits} == {*range(LAYERS), "token"}
    together = sorted({*sources, sources[0] + 1, sources[3] + 1, sources[-1]})  # neighbours share a position
    edits.append({node: ablate() for node in cotrace.nodes_of(graph, together)})
    moves.append(-edges[:, together].sum(1))

    for result, move in zip(
        model.intervene_many(ids, edits, freeze="all", masked_positions=masked), moves, strict=True
    ):
        after, before = (
            result.features[f"pre_activation_{side}"].to_numpy(zero_copy_only=False) for side in ("after", "before")
        )
        assert np.abs(after - before - move[: order.n_features]).max() <= RELATIVE_TOLERANCE * np.abs(move).max()
        logits = (result.logits - result.logits_before)[-1]
        for target in graph.info["targets"]:
            found = float(logits[target["token_ids"][0]] - logits.mean())
            assert abs(found - move[target["node"]]) <= RELATIVE_TOLERANCE * np.abs(move).max()


# The dense reference


@pytest.mark.parametrize("masked", MASKED.values(), ids=MASKED)
@EVERY
def test_logits_are_those_of_the_dense_reference(model_of, reference_of, kind, setting, masked):
    model, reference = model_of(kind), reference_of(kind, tuple(masked or ()))
    edits = edit_cases(model, masked)
    results = model.intervene_many(
        prompt(), list(map(intervention_of, edits)), masked_positions=masked, **SETTINGS[setting]
    )
    for result, edit in zip(results, edits, strict=True):
        assert gap(result.logits_before, reference.plain.logits) < RELATIVE_TOLERANCE
        assert gap(result.logits, reference.run(edit, **SETTINGS[setting]).logits) < RELATIVE_TOLERANCE
        assert gap(result.logits, result.logits_before) > 1e-3


@pytest.mark.parametrize("setting", ["none", "constant", "attention"])
@pytest.mark.parametrize("kind", ["clt-affine", "per-layer", "ct-clt-relu"])
def test_reported_activations_are_those_of_the_dense_reference(model_of, reference_of, kind, setting):
    model, reference = model_of(kind), reference_of(kind)
    edits = edit_cases(model, None)[0]
    rows = model.intervene(prompt(), intervention_of(edits), **SETTINGS[setting]).features.to_pylist()
    expected = reference.run(edits, **SETTINGS[setting])
    for side, seen in (("before", reference.plain), ("after", expected)):
        found, wanted = (
            torch.zeros(LAYERS, len(prompt()), tiny.FEATURES, dtype=torch.float64),
            torch.stack(seen.computed),
        )
        for row in rows:
            site = row["layer"], row["position"], row["feature"]
            found[site] = row[f"activation_{side}"]
            # An edited feature keeps its unedited pre-activation; it has none where it is inactive or set to zero.
            pre_activation = row[f"pre_activation_{side}"]
            if pre_activation is not None or (wanted[site] != 0 and found[site] != 0):
                assert pre_activation == pytest.approx(float(wanted[site]), rel=RELATIVE_TOLERANCE)
        for edit in edits if side == "after" else ():
            site = edit.layer, edit.position, edit.what
            wanted[site] = edit.of(wanted[site])
        assert gap(found, wanted) < RELATIVE_TOLERANCE


def test_reported_neurons_are_those_of_the_dense_reference(model_of, reference_of):
    """Neurons that are among the strongest only before, or only after, are reported too."""
    edits = edit_cases(model_of("neurons"), None)[0]
    seen = {"before": reference_of("neurons").plain, "after": reference_of("neurons").run(edits)}
    changed = {edit[1:4] for edit in edits}
    for row in model_of("neurons").intervene(prompt(), intervention_of(edits)).features.to_pylist():
        layer, position, neuron = row["layer"], row["position"], row["feature"]
        for side in seen if (layer, position, neuron) not in changed else ():
            expected = float(seen[side].computed[layer][position, neuron])
            assert row[f"activation_{side}"] == pytest.approx(expected, rel=1e-8), (side, row)


@pytest.mark.parametrize("layers", [[0], [1], [2, 0]], ids=str)
@pytest.mark.parametrize(("kind", "setting"), with_settings(["clt-affine", "neurons"], IN_SOME_LAYERS))
def test_freezing_some_layers_agrees_with_the_dense_reference(model_of, reference_of, kind, setting, layers):
    model = model_of(kind)
    features, _, directions, _ = edit_cases(model, None)
    edits = [*features, *directions]
    result = model.intervene(prompt(), intervention_of(edits), layers=layers, **IN_SOME_LAYERS[setting])
    expected = reference_of(kind).run(edits, layers=layers, **IN_SOME_LAYERS[setting])
    assert gap(result.logits, expected.logits) < RELATIVE_TOLERANCE


def test_frozen_layers_keep_their_activations_and_others_respond(model_of):
    model = model_of("clt-affine")
    edits = {middle_feature(model, 0): multiply(4)}

    def moved(**options):
        table = model.intervene(prompt(), edits, **options).features
        layer, before, after = (table[n].to_numpy() for n in ("layer", "activation_before", "activation_after"))
        return [int((before != after)[layer == number].sum()) for number in range(LAYERS)]

    assert moved(freeze="all") == moved(freeze="all", layers=range(LAYERS)) == [1, 0, 0]
    responds = moved(freeze="all", layers=[0, 1])
    assert responds[:2] == [1, 0]
    assert responds[2] > 1
    responds = moved(freeze="all", layers=[2])
    assert responds[1] > 1
    assert responds[2] == 0
    assert min(moved()[1:]) > 1


@pytest.mark.parametrize("freeze", ["attention", "all"])
@pytest.mark.parametrize("kind", ["clt-affine", "neurons"])
def test_naming_all_layers_is_the_default(model_of, kind, freeze):
    model = model_of(kind)
    edits = intervention_of(edit_cases(model, None)[3])
    whole = model.intervene(prompt(), edits, freeze=freeze)
    named = model.intervene(prompt(), edits, freeze=freeze, layers=range(LAYERS))
    assert torch.equal(named.logits, whole.logits)
    none = model.intervene(prompt(), edits, freeze=freeze, layers=[])
    assert torch.equal(none.logits, model.intervene(prompt(), edits).logits)


def test_layers_given_as_an_iterator_apply_to_every_prompt(model_of):
    model, edits = model_of("clt-affine"), {Direction(0, direction(), position=4): add(3)}
    expected = model.intervene(prompt(), edits, freeze="all").logits
    for result in model.intervene_many([prompt()] * 2, edits, freeze="all", layers=iter(range(LAYERS))):
        assert torch.equal(result.logits, expected)


# Positions


def test_position_words_and_ranges_name_positions(model_of):
    model, feature = model_of("clt-affine"), middle_feature(model_of("clt-affine"), 0).feature
    here = functools.partial(Feature, 0, feature)
    named = [
        here(position=-1),
        here(position=10),
        here(position=(10,)),
        here(position=np.array([-1])),
        here(position=torch.tensor([10])),
        here(position=torch.tensor(10)),
        Supernode([here(position=10)], "one"),
    ]
    named.append(Feature(np.int64(0), np.int32(feature), position=np.int64(10)))
    assert_alike(model, [{node: set_to(2)} for node in named])
    places = tuple(p for p in range(11) if p not in (0, 3, 6))
    vectors = functools.partial(ErrorNode, 0), functools.partial(Direction, 0, direction())
    for make, edit in ((here, set_to(2)), *((vector, multiply(2)) for vector in vectors)):
        ways = [
            make(position="all"),
            make(),
            make(position="prompt"),
            make(position=places),
            make(position=[p - 11 for p in reversed(places)]),
        ]
        singly = {make(position=p): edit for p in places}
        assert_alike(model, [singly, *({node: edit} for node in ways)], masked_positions=[3, 6])


def assert_alike(model, ways, **options):
    """Assert that several interventions have the same results; rows of a batch differ in rounding."""
    results = model.intervene_many(prompt(), ways, **options)
    assert gap(results[0].logits, results[0].logits_before) > 1e-3
    assert all(gap(other.logits, results[0].logits) < 1e-12 for other in results)


def test_a_supernode_edits_all_of_its_members(model_of):
    model = model_of("clt")
    members = [middle_feature(model, 0), middle_feature(model, 1), ErrorNode(2, position=5)]
    together = model.intervene(prompt(), {Supernode(members, "a concept"): multiply(3)})
    single = model.intervene(prompt(), {member: multiply(3) for member in members})
    assert torch.equal(together.logits, single.logits)


def test_an_edit_changes_later_positions_only(model_of):
    """Nothing changes at earlier positions; an edit in the last layer changes the logits at its own position only."""
    model = model_of("clt-affine")
    early, late = model.intervene_many(
        prompt(), [{Direction(0, direction(), position=6): add(3)}, {Direction(2, direction(), position=6): add(3)}]
    )
    moved = [(r.logits != r.logits_before).any(-1).tolist() for r in (early, late)]
    assert moved[0] == [False] * 6 + [True] * 5
    assert moved[1] == [position == 6 for position in range(11)]


# Edits without effect


def no_ops(model):
    """Return edits that change nothing, of every kind, by name."""
    position, feature, value = active_at(model, 1)[7]
    node, everywhere = Feature(1, feature, position=position), Feature(0, active_at(model, 0)[3][1])
    return {
        "nothing": {},
        "multiply": {
            node: multiply(1),
            everywhere: multiply(1),
            ErrorNode(1, position=5): multiply(1),
            ErrorNode(2): multiply(1),
        },
        "add": {node: add(0), everywhere: add(0.0), ErrorNode(0): add(torch.zeros(WIDTH))},
        "set_to": {node: set_to(value)},
        "direction": {Direction(1, direction(), position=4): add(0), Direction(0, direction()): multiply(1)},
        "token": {Token(4): replace_with(Token(4)), Token([0, 5]): multiply(1), Token(6): add(torch.zeros(WIDTH))},
    }


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@FEW
def test_edits_without_effect_change_no_bit(model_of, kind, setting, dtype):
    model = model_of(kind, dtype)
    edits, logits = no_ops(model), model.logits(prompt())
    for name, edit in edits.items():
        result = model.intervene(prompt(), edit, **SETTINGS[setting])
        assert torch.equal(result.logits, logits), name
        assert torch.equal(result.logits_before, logits), name
        before, after = (result.features[f"activation_{side}"] for side in ("before", "after"))
        assert before.equals(after), name
        assert result.kl() == 0
    del edits["set_to"]  # of a batch, activations can differ in the last bit
    for result in model.intervene_many(prompt(), list(edits.values()), **SETTINGS[setting]):
        assert torch.equal(result.logits, result.logits_before)


# Batches


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_batch_equals_one_by_one(model_of, monkeypatch, setting):
    """Also a batch that is run in several parts."""
    model = model_of("clt-affine")
    edits = list(map(intervention_of, edit_cases(model, None)))
    monkeypatch.setattr(runs, "BATCH_POSITIONS", 3 * len(prompt()))
    results = model.intervene_many(prompt(), edits, **SETTINGS[setting])
    assert len(results) == len(edits) == 4
    for result, edit in zip(results, edits, strict=True):
        single = model.intervene(prompt(), edit, **SETTINGS[setting])
        assert gap(result.logits, single.logits) < 1e-10
        assert gap(result.logits_before, single.logits_before) < 1e-10
        for name in single.features.column_names:
            pair = (r.features[name].to_numpy(zero_copy_only=False) for r in (result, single))
            np.testing.assert_allclose(*pair, rtol=1e-10, atol=1e-10)


def test_several_prompts(model_of):
    model, prompts = model_of("per-layer-affine"), [prompt(), SHORT, prompt(2), torch.tensor(OTHER)]
    each = [{Direction(1, direction(n), position=-1): add(n)} for n in range(4)]
    for edits in (each[3], each):
        found = model.intervene_many(prompts, edits, freeze="attention")
        for number, result in enumerate(found):
            edit = edits if edits is each[3] else each[number]
            alone = model.intervene(prompts[number], edit, freeze="attention")
            assert result.token_ids == alone.token_ids == model.tokenize(prompts[number])
            assert torch.equal(result.logits, alone.logits)
    assert model.intervene_many(prompt(), []) == []


CHAT = [{"role": "user", "content": "The opposite"}]


@pytest.mark.parametrize("setting", SETTINGS)
def test_chats_mask_their_opening(worded, reference_of, setting):
    ids = worded.tokenize(CHAT)
    (position, feature, _), *_ = found = active_at(worded, 0, ids=ids)
    assert min(p for p, _, _ in found) == 4
    edits = [
        Edit("feature", 0, position, feature, "multiply", -2.0),
        Edit("error", 1, 5, None, "ablate"),
        Edit("direction", 0, 2, direction(), "add", 2.0),
    ]
    chats = [CHAT, [*CHAT, {"role": "assistant", "content": "hot"}]]
    expected = reference_of("clt-affine", (1, 2, 3), tuple(ids)).run(edits, **SETTINGS[setting])
    both = worded.intervene_many(chats, intervention_of(edits), **SETTINGS[setting])
    assert gap(both[0].logits, expected.logits) < RELATIVE_TOLERANCE
    assert both[1].token_ids == worded.tokenize(chats[1])
    everywhere = [{Feature(0, feature): set_to(1)}, {Feature(0, feature, position=range(4, len(ids))): set_to(1)}]
    one, other = worded.intervene_many(CHAT, everywhere, **SETTINGS[setting])
    assert gap(one.logits, other.logits) < 1e-12
    for node in (Feature(0, feature, position=3), ErrorNode(0, position=3)):
        with pytest.raises(ValueError, match="position 3 is"):
            worded.intervene(CHAT, {node: ablate()}, **SETTINGS[setting])
