"""Interventions: edges, an independent dense reference, what changes nothing, what is refused."""

import functools
import re
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
import torch
from intervention_reference import Edit, Reference, dense_layers
from tiny import KINDS, LAYERS, WIDTH, prompt
from tiny_checkpoints import SPECIALS, WORDS, write_tokenizer

import cotrace
from cotrace import Direction, ErrorNode, Feature, Supernode, ablate, add, multiply, set_to
from cotrace.attribution.interventions import runs

pytestmark = pytest.mark.usefixtures("one_thread")
MASKED = {"default": None, "masked": [3, 6]}
SETTINGS = {
    "none": {},
    "constant": {"errors": "constant"},
    "attention": {"freeze": "attention"},
    "attention-constant": {"freeze": "attention", "errors": "constant"},
    "all": {"freeze": "all"},
}
IN_SOME_LAYERS = {  # freeze and errors, where only some layers are frozen
    "attention": SETTINGS["attention"],
    "attention-constant": SETTINGS["attention-constant"],
    "all": SETTINGS["all"],
    "all-constant": {"freeze": "all", "errors": "constant"},
}
AGREE = 1e-9
OTHER = [2, 7, 31, 7, 10, 11, 33, 13, 14, 15, 16]  # differs from prompt() at position 6
SHORT = prompt(7)
UNIT = torch.ones(WIDTH)


@pytest.fixture(scope="module")
def reference_of(model_of, hf_model):
    """Function from a kind and masked positions to the dense reference of `prompt()`, or of other token ids."""

    @functools.cache
    def reference(kind, masked=(), ids=None):
        transcoders = model_of(kind).transcoders
        dense = dense_layers(transcoders, WIDTH, LAYERS)
        return Reference(hf_model, dense, list(ids or prompt()), {0, *masked}, getattr(transcoders, "k", 0))

    return reference


def with_settings(kinds, settings=SETTINGS):
    """Pairs of a kind of transcoders and a setting that it can have."""
    return [(k, s) for k in kinds for s in settings if k != "neurons" or "errors" not in settings[s]]


EVERY = pytest.mark.parametrize(("kind", "setting"), with_settings(KINDS))
FEW = pytest.mark.parametrize(("kind", "setting"), with_settings(["clt-affine", "per-layer", "neurons"]))


def gap(found, expected) -> float:
    """Largest difference in units of the largest entry."""
    return float((found - expected).abs().max() / expected.abs().max())


def direction(seed: int = 0) -> torch.Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@functools.cache
def table(model, ids, masked):
    return model.active_features(ids, masked_positions=masked).to_pylist()


def active(model, layer: int, ids=None, at: int | None = None, masked=None) -> list[tuple[int, int, float]]:
    """(position, feature, activation) of a layer's active features."""
    rows = table(model, tuple(prompt() if ids is None else ids), masked and tuple(masked))
    found = [(r["position"], r["feature"], r["activation"]) for r in rows if r["layer"] == layer]
    return [entry for entry in found if at is None or entry[0] == at]


def first(model, layer: int, **options) -> Feature:
    """An active feature in the middle of a layer's."""
    found = active(model, layer, **options)
    position, feature, _ = found[len(found) // 2]
    return Feature(layer, feature, position=position)


def nodes_and_changes(edits):
    """Edits of the reference as the engine takes them."""
    made = {"feature": Feature, "error": lambda layer, _, at: ErrorNode(layer, position=at), "direction": Direction}
    changes = {"ablate": lambda _: ablate(), "set_to": set_to, "add": add, "multiply": multiply}
    return {made[e.kind](e.layer, e.what, position=e.position): changes[e.change](e.value) for e in edits}


# Edges


@pytest.mark.parametrize("masked", MASKED.values(), ids=MASKED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_change_moves_every_node_by_exactly_its_edge(model_of, kind, masked):
    """And a joint change by the sum of edges, of features at several layers, several at a place, and errors."""
    model, ids = model_of(kind), prompt(9)
    graph = model.trace(ids, max_targets=4, masked_positions=masked)
    order, edges = graph.order, graph.adjacency().toarray()
    activation = graph.column("activation")
    sources = [
        *range(0, order.n_features, 11),
        *np.arange(order.n_nodes)[order.errors][edges[:, order.errors].any(0)][::4],
    ]
    changes, moves = [], []
    for number, node in enumerate(map(int, sources)):
        if node >= order.n_features:  # an error node's edges are those of the vector as it is
            change, share = ((ablate(), -1), (multiply(2.5), 1.5))[number % 2]
        else:
            a = activation[node]
            choices = (ablate(), -1), (add(0.7), 0.7 / a), (multiply(-2), -3), (set_to(1.3), (1.3 - a) / a)
            change, share = choices[number % 4]
        changes.append({cotrace.nodes_of(graph, [node])[0]: change})
        moves.append(share * edges[:, node])
    assert {next(iter(c)).layer for c in changes} == set(range(LAYERS))
    together = sorted({*sources, sources[0] + 1, sources[3] + 1, sources[-1]})  # neighbours share a place
    changes.append({node: ablate() for node in cotrace.nodes_of(graph, together)})
    moves.append(-edges[:, together].sum(1))

    for result, move in zip(model.intervene(ids, changes, freeze="all", masked_positions=masked), moves, strict=True):
        after, before = (
            result.features[f"pre_activation_{side}"].to_numpy(zero_copy_only=False) for side in ("after", "before")
        )
        assert np.abs(after - before - move[: order.n_features]).max() <= AGREE * np.abs(move).max()
        logits = (result.logits - result.logits_before)[-1]
        for target in graph.info["targets"]:
            found = float(logits[target["token_ids"][0]] - logits.mean())
            assert abs(found - move[target["node"]]) <= AGREE * np.abs(move).max()


# The dense reference


def cases(model, masked):
    """Edits of features, of error nodes, of directions, and of all of them together."""

    def some(layer, number):
        found = active(model, layer, masked=masked)
        return found[number * len(found) // 5]

    def silent(layer, position):
        of_place = {feature for _, feature, _ in active(model, layer, position=position, masked=masked)}
        return next(f for f in range(tiny.FEATURES) if f not in of_place)

    (p0, f0, _), (p1, f1, _), (p2, f2, _) = some(0, 1), some(1, 2), some(2, 3)
    features = [
        Edit("feature", 0, p0, f0, "ablate"),
        Edit("feature", 0, 4, silent(0, 4), "set_to", 1.7),
        Edit("feature", 0, 5, silent(0, 5), "add", -0.9),
        Edit("feature", 1, p1, f1, "multiply", -2.0),
        Edit("feature", 1, p1, silent(1, p1), "set_to", -0.6),
        Edit("feature", 2, p2, f2, "add", 0.8),
        Edit("feature", 2, 10, silent(2, 10), "set_to", 2.1),
    ]
    errors = [
        Edit("error", 0, 5, None, "ablate"),
        Edit("error", 1, 3, None, "multiply", 2.5),  # an error node also where masked
        Edit("error", 1, 8, None, "add", direction(1)),
        Edit("error", 2, 10, None, "set_to", direction(2)),
        Edit("error", 2, 4, None, "ablate"),
    ]
    directions = [
        Edit("direction", 0, 4, direction(3), "add", 2.5),
        Edit("direction", 0, 4, direction(4), "add", -1.5),  # two at one place
        Edit("direction", 0, 0, direction(4), "multiply", 3.0),
        Edit("direction", 1, 7, direction(5), "ablate"),
        Edit("direction", 2, 10, direction(6), "set_to", 4.0),
    ]
    return features, errors, directions, [*features, *errors, *directions]


@pytest.mark.parametrize("masked", MASKED.values(), ids=MASKED)
@EVERY
def test_logits_are_those_of_the_dense_reference(model_of, reference_of, kind, setting, masked):
    model, reference = model_of(kind), reference_of(kind, tuple(masked or ()))
    edits = cases(model, masked)
    results = model.intervene(
        prompt(), list(map(nodes_and_changes, edits)), masked_positions=masked, **SETTINGS[setting]
    )
    for result, edit in zip(results, edits, strict=True):
        assert gap(result.logits_before, reference.plain.logits) < AGREE
        assert gap(result.logits, reference.run(edit, **SETTINGS[setting]).logits) < AGREE
        assert gap(result.logits, result.logits_before) > 1e-3


@pytest.mark.parametrize("setting", ["none", "constant", "attention"])
@pytest.mark.parametrize("kind", ["clt-affine", "per-layer", "ct-clt-relu"])
def test_reported_activations_are_those_of_the_dense_reference(model_of, reference_of, kind, setting):
    model, reference = model_of(kind), reference_of(kind)
    edits = cases(model, None)[0]
    rows = model.intervene(prompt(), nodes_and_changes(edits), **SETTINGS[setting]).features.to_pylist()
    expected = reference.run(edits, **SETTINGS[setting])
    for side, seen in (("before", reference.plain), ("after", expected)):
        found, wanted = (
            torch.zeros(LAYERS, len(prompt()), tiny.FEATURES, dtype=torch.float64),
            torch.stack(seen.natural),
        )
        for row in rows:
            site = row["layer"], row["position"], row["feature"]
            found[site] = row[f"activation_{side}"]
            # A changed feature has the pre-activation that it has by itself, and none where it is not active, or set to zero.
            pre_activation = row[f"pre_activation_{side}"]
            if pre_activation is not None or (wanted[site] != 0 and found[site] != 0):
                assert pre_activation == pytest.approx(float(wanted[site]), rel=AGREE)
        for edit in edits if side == "after" else ():
            site = edit.layer, edit.position, edit.what
            wanted[site] = edit.of(wanted[site])
        assert gap(found, wanted) < AGREE


def test_reported_neurons_are_those_of_the_dense_reference(model_of, reference_of):
    """Also those that are among the strongest only before, or only after."""
    edits = cases(model_of("neurons"), None)[0]
    seen = {"before": reference_of("neurons").plain, "after": reference_of("neurons").run(edits)}
    changed = {edit[1:4] for edit in edits}
    for row in model_of("neurons").intervene(prompt(), nodes_and_changes(edits)).features.to_pylist():
        layer, position, neuron = row["layer"], row["position"], row["feature"]
        for side in seen if (layer, position, neuron) not in changed else ():
            expected = float(seen[side].natural[layer][position, neuron])
            assert row[f"activation_{side}"] == pytest.approx(expected, rel=1e-8), (side, row)


@pytest.mark.parametrize("layers", [[0], [1], [2, 0]], ids=str)
@pytest.mark.parametrize(("kind", "setting"), with_settings(["clt-affine", "neurons"], IN_SOME_LAYERS))
def test_freezing_some_layers_agrees_with_the_dense_reference(model_of, reference_of, kind, setting, layers):
    model = model_of(kind)
    features, _, directions, _ = cases(model, None)
    edits = [*features, *directions]
    result = model.intervene(prompt(), nodes_and_changes(edits), layers=layers, **IN_SOME_LAYERS[setting])
    expected = reference_of(kind).run(edits, layers=layers, **IN_SOME_LAYERS[setting])
    assert gap(result.logits, expected.logits) < AGREE


def test_frozen_layers_keep_their_activations_and_others_respond(model_of):
    model = model_of("clt-affine")
    changes = {first(model, 0): multiply(4)}

    def moved(**options):
        table = model.intervene(prompt(), changes, **options).features
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
    changes = nodes_and_changes(cases(model, None)[3])
    whole = model.intervene(prompt(), changes, freeze=freeze)
    named = model.intervene(prompt(), changes, freeze=freeze, layers=range(LAYERS))
    assert torch.equal(named.logits, whole.logits)
    none = model.intervene(prompt(), changes, freeze=freeze, layers=[])
    assert torch.equal(none.logits, model.intervene(prompt(), changes).logits)


def test_layers_that_can_be_read_once_hold_for_every_prompt(model_of):
    model, changes = model_of("clt-affine"), {Direction(0, direction(), position=4): add(3)}
    expected = model.intervene(prompt(), changes, freeze="all").logits
    for result in model.intervene([prompt()] * 2, changes, freeze="all", layers=iter(range(LAYERS))):
        assert torch.equal(result.logits, expected)


# Places


def test_places_name_positions(model_of):
    model, feature = model_of("clt-affine"), first(model_of("clt-affine"), 0).feature
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
    for make, change in ((here, set_to(2)), *((vector, multiply(2)) for vector in vectors)):
        ways = [
            make(position="all"),
            make(),
            make(position="prompt"),
            make(position=places),
            make(position=[p - 11 for p in reversed(places)]),
        ]
        singly = {make(position=p): change for p in places}
        assert_alike(model, [singly, *({node: change} for node in ways)], masked_positions=[3, 6])


def assert_alike(model, ways, **options):
    """Several ways to say the same; rows of a batch differ in rounding."""
    results = model.intervene(prompt(), ways, **options)
    assert gap(results[0].logits, results[0].logits_before) > 1e-3
    assert all(gap(other.logits, results[0].logits) < 1e-12 for other in results)


def test_a_supernode_changes_all_of_its_members(model_of):
    model = model_of("clt")
    members = [first(model, 0), first(model, 1), ErrorNode(2, position=5)]
    together = model.intervene(prompt(), {Supernode(members, "a concept"): multiply(3)})
    single = model.intervene(prompt(), {member: multiply(3) for member in members})
    assert torch.equal(together.logits, single.logits)


def test_what_a_change_can_reach(model_of):
    """Nothing at earlier positions; at its own place the last layer's change reaches the logits only there."""
    model = model_of("clt-affine")
    early, late = model.intervene(
        prompt(), [{Direction(0, direction(), position=6): add(3)}, {Direction(2, direction(), position=6): add(3)}]
    )
    moved = [(r.logits != r.logits_before).any(-1).tolist() for r in (early, late)]
    assert moved[0] == [False] * 6 + [True] * 5
    assert moved[1] == [position == 6 for position in range(11)]


# No-ops


def no_ops(model):
    """Changes that change nothing, in every way, by name."""
    position, feature, value = active(model, 1)[7]
    node, everywhere = Feature(1, feature, position=position), Feature(0, active(model, 0)[3][1])
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
    }


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@FEW
def test_no_ops_change_no_bit(model_of, kind, setting, dtype):
    model = model_of(kind, dtype)
    changes, logits = no_ops(model), model.logits(prompt())
    for name, change in changes.items():
        result = model.intervene(prompt(), change, **SETTINGS[setting])
        assert torch.equal(result.logits, logits), name
        assert torch.equal(result.logits_before, logits), name
        before, after = (result.features[f"activation_{side}"] for side in ("before", "after"))
        assert before.equals(after), name
        assert result.kl() == 0
    del changes["set_to"]  # of a batch, activations can differ in the last bit
    for result in model.intervene(prompt(), list(changes.values()), **SETTINGS[setting]):
        assert torch.equal(result.logits, result.logits_before)


# Batches


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_batch_equals_one_by_one(model_of, monkeypatch, setting):
    """Also one that is read in several parts."""
    model = model_of("clt-affine")
    changes = list(map(nodes_and_changes, cases(model, None)))
    monkeypatch.setattr(runs, "BATCH_POSITIONS", 3 * len(prompt()))
    results = model.intervene(prompt(), changes, **SETTINGS[setting])
    assert len(results) == len(changes) == 4
    for result, change in zip(results, changes, strict=True):
        single = model.intervene(prompt(), change, **SETTINGS[setting])
        assert gap(result.logits, single.logits) < 1e-10
        assert gap(result.logits_before, single.logits_before) < 1e-10
        for name in single.features.column_names:
            pair = (r.features[name].to_numpy(zero_copy_only=False) for r in (result, single))
            np.testing.assert_allclose(*pair, rtol=1e-10, atol=1e-10)


def test_several_prompts(model_of):
    model, prompts = model_of("per-layer-affine"), [prompt(), SHORT, prompt(2), torch.tensor(OTHER)]
    each = [{Direction(1, direction(n), position=-1): add(n)} for n in range(4)]
    for changes in (each[3], each):
        found = model.intervene(prompts, changes, freeze="attention")
        for number, result in enumerate(found):
            change = changes if changes is each[3] else each[number]
            alone = model.intervene(prompts[number], change, freeze="attention")
            assert result.token_ids == alone.token_ids == model.tokenize(prompts[number])
            assert torch.equal(result.logits, alone.logits)
    assert model.intervene(prompt(), []) == []


@pytest.fixture(scope="module")
def worded(model_folder, transcoder_spec, tmp_path_factory):
    """A model with a tokenizer and a chat template."""
    folder = shutil.copytree(model_folder, tmp_path_factory.mktemp("worded") / "model")
    return cotrace.load(write_tokenizer(folder), transcoder_spec("clt-affine"), dtype="float64", device="cpu")


CHAT = [{"role": "user", "content": "The opposite"}]


@pytest.mark.parametrize("setting", SETTINGS)
def test_chats_mask_their_opening(worded, reference_of, setting):
    ids = worded.tokenize(CHAT)
    (position, feature, _), *_ = found = active(worded, 0, ids=ids)
    assert min(p for p, _, _ in found) == 4
    edits = [
        Edit("feature", 0, position, feature, "multiply", -2.0),
        Edit("error", 1, 5, None, "ablate"),
        Edit("direction", 0, 2, direction(), "add", 2.0),
    ]
    chats = [CHAT, [*CHAT, {"role": "assistant", "content": "hot"}]]
    expected = reference_of("clt-affine", (1, 2, 3), tuple(ids)).run(edits, **SETTINGS[setting])
    both = worded.intervene(chats, nodes_and_changes(edits), **SETTINGS[setting])
    assert gap(both[0].logits, expected.logits) < AGREE
    assert both[1].token_ids == worded.tokenize(chats[1])
    everywhere = [{Feature(0, feature): set_to(1)}, {Feature(0, feature, position=range(4, len(ids))): set_to(1)}]
    one, other = worded.intervene(CHAT, everywhere, **SETTINGS[setting])
    assert gap(one.logits, other.logits) < 1e-12
    for node in (Feature(0, feature, position=3), ErrorNode(0, position=3)):
        with pytest.raises(ValueError, match="position 3 is"):
            worded.intervene(CHAT, {node: ablate()}, **SETTINGS[setting])


# Results


def test_a_result_says_what_moved(model_of):
    model = model_of("clt-affine")
    result = model.intervene(prompt(), {Direction(1, direction()): add(5)})
    for position in (-1, 4):
        before, after = result.probabilities(position)
        assert torch.allclose(before, result.logits_before[position].softmax(-1), rtol=1e-12)
        assert torch.allclose(after, result.logits[position].softmax(-1), rtol=1e-12)
        assert result.kl(position) == pytest.approx(float((before * (before.log() - after.log())).sum()))
        moved = result.top_changes(position, 3)
        assert [m.token for m in moved] == (before - after).abs().topk(3).indices.tolist()
        assert [m.after for m in moved] == [float(after[m.token]) for m in moved]
    for position in (11, -12):
        with pytest.raises(ValueError, match="outside the prompt of 11 tokens"):
            result.kl(position)


def test_a_result_says_which_changes_did_nothing(model_of):
    """By position, and by row: what is not active is not taken away, unless something before makes it active."""
    model = model_of("clt")
    here = {f for _, f, _ in active(model, 1, position=5)}
    silent = Feature(1, next(f for f in range(tiny.FEATURES) if f not in here), position=5)
    loud = Feature(1, min(here), position=5)
    rows = [{silent: ablate(), loud: ablate()}, {silent: set_to(1)}, {silent: multiply(2)}, {loud: multiply(1)}]
    results = model.intervene(prompt(), rows)
    assert [result.idle for result in results] == [[silent], [], [silent], [loud]]
    assert gap(results[2].logits, results[2].logits_before) == 0
    (generated,) = model.generate(prompt(), [rows[0]], max_new_tokens=2)
    assert generated.idle == [silent]
    everywhere = Feature(1, loud.feature)
    for use_cache in (True, False):
        assert model.generate(prompt(), {everywhere: ablate()}, max_new_tokens=2, use_cache=use_cache).idle == []


def kept_bytes(*roots) -> int:
    """Of all tensors that are reachable, each once."""
    storages, seen, left = {}, set(), list(roots)
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            storages[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list | tuple | set):
            left += one
        elif hasattr(one, "__dict__"):
            left += vars(one).values()
    return sum(storages.values())


@pytest.mark.parametrize("kind", ["clt", "neurons"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_results_keep_what_they_say_they_keep(model_of, kind, setting):
    """No attention patterns, which grow with the square of a prompt, and no more than was counted before it was read."""
    if kind == "neurons" and "errors" in SETTINGS[setting]:
        return
    model = model_of(kind)
    for length in (40, 160):
        ids = [2, *(3 + (7 * n) % 30 for n in range(length - 1))]
        result = model.intervene(
            ids, {Feature(1, 3, position=5): set_to(1), ErrorNode(0, position=7): ablate()}, **SETTINGS[setting]
        )
        counted = runs.row_memory(result._context, result._modes).result
        assert counted / 6 < kept_bytes(result._outcome.before, result._outcome.after) < counted


def test_frozen_attention_looks_at_no_features(model_of, monkeypatch):
    model, calls = model_of("clt"), []
    monkeypatch.setattr(model.transcoders, "active_at", lambda *arguments: calls.append(arguments))
    model.generate(prompt(), {Direction(0, UNIT): add(1)}, freeze="attention", max_new_tokens=3)
    assert not calls


def test_results_are_shown_in_one_line(model_of):
    result = model_of("clt").intervene(prompt(), {Feature(1, 3, position=5): set_to(1)})
    assert re.fullmatch(r"<InterventionResult of 11 tokens: KL [^,]+, '<\d+>' [\d.]+% → [\d.]+%>", repr(result))
    assert repr(model_of("clt").patch(prompt(), OTHER, [Feature(0, 3)])).startswith("<PatchResult of 11 tokens")


# Directions


@pytest.mark.parametrize("length", [1e-170, 1e160])
def test_a_direction_has_no_length(model_of, length):
    for dtype, rounding in (("float32", 1e-4), ("float64", 1e-12)):
        model = model_of("clt", dtype)
        by_any, by_one = (
            model.intervene(prompt(), {Direction(1, scale * direction(), position=5): multiply(3)}).logits
            for scale in (length, 1)
        )
        assert gap(by_any, by_one) < rounding


def test_orthogonal_directions_take_a_subspace_away(model_of):
    """Ablating an orthonormal basis is one projection, in whatever order, and at several places."""
    model = model_of("clt-affine")
    basis_Dk = torch.linalg.qr(torch.stack([direction(seed) for seed in range(3)], 1)).Q
    ablated = {Direction(1, vector, position=[4, 5]): ablate() for vector in basis_Dk.T}
    before, after, turned = (
        model.intervene(prompt(), changes, freeze="none") for changes in ({}, ablated, dict(reversed(ablated.items())))
    )
    assert gap(after.logits, turned.logits) < 1e-12
    assert gap(after.logits[:4], before.logits[:4]) == 0
    assert gap(after.logits[4:], before.logits[4:]) > 1e-3
    last = model.intervene(prompt(), {Direction(2, vector, position=[4, 5]): ablate() for vector in basis_Dk.T})
    assert (last._outcome.after.resid_BPD[0, [4, 5]] @ basis_Dk).abs().max() < 1e-12


# Patching


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@FEW
def test_a_prompt_patched_into_itself_stays_as_it_is(model_of, kind, setting, dtype):
    model = model_of(kind, dtype)
    nodes = [
        first(model, 1),
        Feature(0, first(model, 0).feature),
        ErrorNode(0),
        Supernode([ErrorNode(1, position=4), ErrorNode(2, position=5)]),
    ]
    result = model.patch(prompt(), prompt(), nodes, **SETTINGS[setting])
    for logits in (result.logits, result.logits_before, result.logits_clean):
        assert torch.equal(logits, model.logits(prompt()))
    with pytest.raises(ValueError, match="do not differ there"):
        result.recovered(5, 6)


@FEW
def test_patching_everything_agrees_with_the_dense_reference(model_of, reference_of, kind, setting):
    """Every feature, or as many neurons, and every error node set to what it is in the clean prompt."""
    model, references = model_of(kind), [reference_of(kind, (), tuple(ids)) for ids in (prompt(), OTHER)]
    clean, edits = references[0].plain, []
    for layer in range(LAYERS):
        for p in range(1, 11):
            values = clean.natural[layer][p, : tiny.FEATURES]
            edits += [Edit("feature", layer, p, f, "set_to", float(value)) for f, value in enumerate(values)]
            edits.append(Edit("error", layer, p, None, "set_to", clean.errors[layer][p]))
    nodes = [node for at in range(LAYERS) for node in (*(Feature(at, f) for f in range(tiny.FEATURES)), ErrorNode(at))]
    result = model.patch(prompt(), OTHER, nodes, **SETTINGS[setting])
    assert gap(result.logits_clean, clean.logits) < AGREE
    assert gap(result.logits_before, references[1].plain.logits) < AGREE
    assert gap(result.logits, references[1].run(edits, **SETTINGS[setting]).logits) < AGREE


@pytest.mark.parametrize("setting", SETTINGS)
def test_patching_is_setting_to_clean_activations(model_of, setting):
    model = model_of("clt-affine")
    (_, f0, _), *_ = active(model, 0, position=6)
    (_, f2, _), *_ = active(model, 2, position=10)
    clean = {(layer, p): a for layer, f in ((0, f0), (2, f2)) for p, g, a in active(model, layer) if g == f}
    result = model.patch(prompt(), OTHER, [Feature(0, f0), Feature(2, f2, position=(7, -1))], **SETTINGS[setting])
    same = {p for p, f, _ in active(model, 0, ids=OTHER) if f == f0}  # set to zero it may be only where it is active
    changes = {
        Feature(0, f0, position=p): set_to(clean.get((0, p), 0)) for p in range(1, 11) if (0, p) in clean or p in same
    }
    changes |= {Feature(2, f2, position=p): set_to(clean.get((2, p), 0)) for p in (7, 10)}
    assert torch.equal(result.logits, model.intervene(OTHER, changes, **SETTINGS[setting]).logits)
    assert torch.equal(result.logits_clean, model.logits(prompt()))
    assert torch.equal(result.logits_before, model.logits(OTHER))
    assert gap(result.logits, result.logits_before) > 1e-3


def test_a_chat_and_a_text_are_patched_where_both_have_features(worded):
    """A chat's opening has none; named by position it is refused, by "all" left out."""
    chat = [{"role": "user", "content": "The opposite of hot is"}]
    ids = worded.tokenize(chat)
    text = [ids[0], *(token + 1 if token + 1 < tiny.VOCABULARY else token - 1 for token in ids[1:])]
    for clean, corrupted in ((chat, text), (text, chat)):
        everywhere = worded.patch(clean, corrupted, [Feature(0, 3), ErrorNode(1)])
        singly = [
            make(position=p)
            for p in range(4, len(ids))
            for make in (functools.partial(Feature, 0, 3), functools.partial(ErrorNode, 1))
        ]
        assert gap(everywhere.logits, worded.patch(clean, corrupted, singly).logits) == 0
        with pytest.raises(ValueError, match="position 2 is masked"):
            worded.patch(clean, corrupted, [Feature(0, 3, position=2)])


def test_recovered_is_a_share_of_the_way(model_of):
    model = model_of("clt-affine")
    result = model.patch(prompt(), OTHER, [Feature(layer, f) for layer in range(LAYERS) for f in range(12)])
    clean, corrupted, patched = (x[-1] for x in (result.logits_clean, result.logits_before, result.logits))
    difference = [float(x[5] - x[9]) for x in (clean, corrupted, patched)]
    centred = [float(x[5] - x.mean()) for x in (clean, corrupted, patched)]
    for found, (top, bottom, mine) in ((result.recovered(5, 9), difference), (result.recovered(5), centred)):
        assert found == pytest.approx((mine - bottom) / (top - bottom), rel=1e-9)
        assert abs(found) > 1e-3
    with pytest.raises(ValueError, match="do not differ there"):
        result.recovered(5, 9, position=3)  # before the prompts part
    late = model.patch(
        prompt(), OTHER, [Feature(2, f, position=7) for f in range(12)]
    )  # no attention comes after layer 2
    assert late.recovered(5, 9) == 0
    whole = model.patch(
        prompt(), OTHER, [ErrorNode(2), *(Feature(2, f) for f in range(tiny.FEATURES))], freeze="attention"
    )
    assert whole.recovered(5, 9) not in (0, 1)


# The model stays as it is


def state(model):
    """Bytes of all weights, and how many hooks there are."""
    text = model.weights._text
    weights = {name: tensor.clone() for name, tensor in text.state_dict().items()}
    weights["unembedding"] = model.weights._unembedding_VD.clone()
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in text.modules())
    return weights, hooks


def assert_untouched(model, before):
    weights, hooks = state(model)
    assert hooks == before[1] == 0
    assert weights.keys() == before[0].keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in before[0].items())


@pytest.mark.parametrize("setting", ["none", "all", "constant"])
@pytest.mark.parametrize("broken", ["decoders", "active_at", "skip"])
def test_an_error_in_the_middle_leaves_no_trace(model_of, monkeypatch, broken, setting):
    model, options = model_of("clt-affine"), SETTINGS[setting]
    changes = nodes_and_changes(cases(model, None)[3])
    before, expected = state(model), model.intervene(prompt(), changes, **options).logits
    whole, calls = getattr(model.transcoders, broken), 0

    def fail(*arguments):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise RuntimeError("in the middle")
        return whole(*arguments)

    for use in (model.intervene, functools.partial(model.generate, max_new_tokens=2)):
        calls = 0
        monkeypatch.setattr(model.transcoders, broken, fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            use(prompt(), changes, **options)
        monkeypatch.undo()
        assert_untouched(model, before)
    assert torch.equal(model.intervene(prompt(), changes, **options).logits, expected)


def test_transcoders_with_nan_are_refused_and_leave_no_trace(model_folder, tmp_path):
    layers = tiny.random_layers()
    layers[1]["w_enc"][3, 4] = float("nan")
    layers[2]["w_dec"][5] = float("nan")
    folder = tiny.write_layers(tmp_path, "scope-clt", layers)
    model = cotrace.load(model_folder, folder, dtype="float64", device="cpu")
    before, logits = state(model), model.logits(prompt())
    for changes in ({Direction(0, UNIT): add(1)}, {Feature(2, 5, position=4): set_to(1)}):
        with pytest.raises(ValueError, match="NaN"):
            model.intervene(prompt(), changes)
        with pytest.raises(ValueError, match="NaN"):
            model.generate(prompt(), changes, errors="constant", max_new_tokens=1)
    assert_untouched(model, before)
    assert torch.equal(model.logits(prompt()), logits)


def test_what_is_given_is_not_changed(model_of):
    """Neither the model, nor vectors, nor the mapping; and a result does not follow later changes."""
    model, vector, shift = model_of("clt"), direction(), direction(1)
    changes = {
        Direction(0, vector): add(2),
        ErrorNode(1, position=4): set_to(shift),
        Feature(1, 3, position=5): set_to(1),
    }
    kept, before = dict(changes), state(model)
    result = model.intervene(prompt(), changes)
    logits = result.logits.clone()
    assert changes == kept
    assert torch.equal(vector, direction())
    assert torch.equal(shift, direction(1))
    assert_untouched(model, before)
    model.intervene(prompt(), {Direction(0, vector): add(9)}, freeze="all")
    assert torch.equal(result.logits, logits)
    assert not result.logits.requires_grad


def test_two_models_at_once(load):
    """Threads that use a model each do not disturb each other."""

    def work(model):
        changes = list(map(nodes_and_changes, cases(model, None)))
        found = []
        for setting in ("none", "all", "attention") * 2:
            found += [r.logits for r in model.intervene(prompt(), changes, **SETTINGS[setting])]
            written = model.generate(SHORT, {Direction(1, UNIT): add(3)}, max_new_tokens=5, **SETTINGS[setting])
            found += [torch.tensor(written.token_ids), torch.tensor(written.probabilities)]
        return found

    models = [load("clt-affine"), load("neurons")]
    alone = list(map(work, models))
    with ThreadPoolExecutor(2) as pool:
        for found, expected in zip(pool.map(work, models), alone, strict=True):
            assert all(map(torch.equal, found, expected))


def test_words_are_prompts_too(worded):
    text = "The opposite of hot is"
    node = Direction(1, UNIT, position=-1)
    ids = [
        SPECIALS.index("<bos>"),
        *(len(SPECIALS) + WORDS.index(w) for w in ("The", " opposite", " of", " hot", " is")),
    ]
    by_text, by_ids = worded.intervene(text, {node: add(2)}), worded.intervene(ids, {node: add(2)})
    assert torch.equal(by_text.logits, by_ids.logits)
    both = worded.intervene([text, "hot"], {node: add(2)})
    assert torch.equal(both[0].logits, by_ids.logits)
    patched = worded.patch("The opposite of hot", "The opposite of cold", [ErrorNode(1), ErrorNode(2)])
    assert patched.recovered(" hot", " cold") == pytest.approx(
        patched.recovered(WORDS.index(" hot") + 6, WORDS.index(" cold") + 6)
    )
