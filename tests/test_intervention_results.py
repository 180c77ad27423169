"""Results of interventions: what they report and keep, directions, and that the model stays as it is."""

import functools
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
import torch
from helpers.interventions import (
    OTHER,
    SETTINGS,
    SHORT,
    UNIT,
    active_at,
    direction,
    edit_cases,
    gap,
    intervention_of,
)
from tiny import prompt
from tiny_checkpoints import SPECIALS, WORDS

import cotrace
from cotrace import Direction, ErrorNode, Feature, ablate, add, multiply, set_to
from cotrace.attribution.interventions import runs
from cotrace.attribution.interventions.edit_plan import EditPlan

pytestmark = pytest.mark.usefixtures("one_thread")


# Results


def test_a_result_lists_the_top_changes(model_of):
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


def test_a_result_lists_idle_edits(model_of):
    """By position and by row: an inactive feature cannot be ablated, unless an earlier edit makes it active."""
    model = model_of("clt")
    here = {f for _, f, _ in active_at(model, 1, position=5)}
    silent = Feature(1, next(f for f in range(tiny.FEATURES) if f not in here), position=5)
    loud = Feature(1, min(here), position=5)
    rows = [{silent: ablate(), loud: ablate()}, {silent: set_to(1)}, {silent: multiply(2)}, {loud: multiply(1)}]
    results = model.intervene_many(prompt(), rows)
    assert [result.idle for result in results] == [[silent], [], [silent], [loud]]
    assert gap(results[2].logits, results[2].logits_before) == 0
    (generated,) = model.generate_many(prompt(), [rows[0]], max_new_tokens=2)
    assert generated.idle == [silent]
    everywhere = Feature(1, loud.feature)
    for use_cache in (True, False):
        assert model.generate(prompt(), {everywhere: ablate()}, max_new_tokens=2, use_cache=use_cache).idle == []


def kept_bytes(*roots) -> int:
    """Return the bytes of all reachable tensors, each counted once."""
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
def test_results_keep_only_the_memory_that_was_counted(model_of, kind, setting):
    """Results keep no attention patterns, which grow with the square of a prompt, and no more than was counted in advance."""
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


def test_frozen_attention_encodes_no_features(model_of, monkeypatch):
    model, calls = model_of("clt"), []
    monkeypatch.setattr(model.transcoders, "active_at", lambda *arguments: calls.append(arguments))
    model.generate(prompt(), {Direction(0, UNIT): add(1)}, freeze="attention", max_new_tokens=3)
    assert not calls


def test_results_are_shown_in_one_line(model_of):
    result = model_of("clt").intervene(prompt(), {Feature(1, 3, position=-1): add(1)})
    assert re.fullmatch(r"<InterventionResult of 11 tokens: KL [^,]+, '<\d+>' [\d.]+% → [\d.]+%>", repr(result))
    unchanged = model_of("clt").intervene(prompt(), {})
    assert repr(unchanged) == "<InterventionResult of 11 tokens: no probability changed>"
    assert repr(model_of("clt").patch(prompt(), OTHER, [Feature(0, 3)])).startswith("<PatchResult of 11 tokens")


def test_results_are_tables_in_notebooks(model_of):
    """The tables show the tokens and features that change most, with escaped texts."""
    model = model_of("clt")
    result = model.intervene(prompt(), {Feature(1, 3, position=5): set_to(9)})
    html = result._repr_html_()
    top = result.top_changes(count=1)[0]
    assert html.count("<table>") == 2
    assert f"&lt;{top.token}&gt;" in html
    assert f"<td>{top.before:.4g}</td><td>{top.after:.4g}</td>" in html
    assert "<td>L1#3@5</td>" in html
    generation = model.generate(prompt(), max_new_tokens=3)
    assert generation._repr_html_().count("<tr>") == 4


def test_edits_and_plans_are_shown_in_one_line(model_of):
    edits = [ablate(), set_to(1.5), add(torch.ones(3)), multiply(-2)]
    assert list(map(repr, edits)) == ["ablate()", "set_to(1.5)", "add(<tensor (3,)>)", "multiply(-2)"]
    assert repr(Direction(1, UNIT, position=4, name="mine")) == "<Direction L1 mine@4 (20,)>"
    context = model_of("clt")._prompt_context(prompt(), None)
    plan = EditPlan({Feature(1, 3): ablate(), ErrorNode(0, position=5): ablate()}, context)
    assert (
        repr(plan)
        == "<EditPlan of 1 features, 1 error nodes, 0 directions, 0 tokens, 0 swaps, 0 donors in a prompt of 11 tokens>"
    )
    assert repr(context) == "<PromptContext of 11 tokens, 1 masked>"


# Directions


@pytest.mark.parametrize("length", [1e-170, 1e160])
def test_the_length_of_a_direction_does_not_matter(model_of, length):
    for dtype, rounding in (("float32", 1e-4), ("float64", 1e-12)):
        model = model_of("clt", dtype)
        by_any, by_one = (
            model.intervene(prompt(), {Direction(1, scale * direction(), position=5): multiply(3)}).logits
            for scale in (length, 1)
        )
        assert gap(by_any, by_one) < rounding


def test_ablating_orthogonal_directions_removes_a_subspace(model_of):
    """Ablating an orthonormal basis is one projection, in any order, and at several positions."""
    model = model_of("clt-affine")
    basis_Dk = torch.linalg.qr(torch.stack([direction(seed) for seed in range(3)], 1)).Q
    ablated = {Direction(1, vector, position=[4, 5]): ablate() for vector in basis_Dk.T}
    before, after, turned = (
        model.intervene(prompt(), edits, freeze="none") for edits in ({}, ablated, dict(reversed(ablated.items())))
    )
    assert gap(after.logits, turned.logits) < 1e-12
    assert gap(after.logits[:4], before.logits[:4]) == 0
    assert gap(after.logits[4:], before.logits[4:]) > 1e-3
    last = model.intervene(prompt(), {Direction(2, vector, position=[4, 5]): ablate() for vector in basis_Dk.T})
    assert (last._outcome.after.resid_BPD[0, [4, 5]] @ basis_Dk).abs().max() < 1e-12


# The model does not change


def state(model):
    """Return the bytes of all weights, and the number of hooks."""
    text = model.weights._text
    weights = {name: tensor.clone() for name, tensor in text.state_dict().items()}
    weights["unembedding"] = model.weights._unembedding_VD.clone()
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in text.modules())
    return weights, hooks


def assert_model_unchanged(model, before):
    weights, hooks = state(model)
    assert hooks == before[1] == 0
    assert weights.keys() == before[0].keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in before[0].items())


@pytest.mark.parametrize("setting", ["none", "all", "constant"])
@pytest.mark.parametrize("broken", ["decoders", "active_at", "skip"])
def test_an_error_during_a_run_leaves_the_model_unchanged(model_of, monkeypatch, broken, setting):
    model, options = model_of("clt-affine"), SETTINGS[setting]
    edits = intervention_of(edit_cases(model, None)[3])
    before, expected = state(model), model.intervene(prompt(), edits, **options).logits
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
            use(prompt(), edits, **options)
        monkeypatch.undo()
        assert_model_unchanged(model, before)
    assert torch.equal(model.intervene(prompt(), edits, **options).logits, expected)


def test_transcoders_with_nan_are_refused_and_leave_the_model_unchanged(model_folder, tmp_path):
    layers = tiny.random_layers()
    layers[1]["w_enc"][3, 4] = float("nan")
    layers[2]["w_dec"][5] = float("nan")
    folder = tiny.write_layers(tmp_path, "scope-clt", layers)
    model = cotrace.load(model_folder, folder, dtype="float64", device="cpu")
    before, logits = state(model), model.logits(prompt())
    for edits in ({Direction(0, UNIT): add(1)}, {Feature(2, 5, position=4): set_to(1)}):
        with pytest.raises(ValueError, match="NaN"):
            model.intervene(prompt(), edits)
        with pytest.raises(ValueError, match="NaN"):
            model.generate(prompt(), edits, errors="constant", max_new_tokens=1)
    assert_model_unchanged(model, before)
    assert torch.equal(model.logits(prompt()), logits)


def test_arguments_are_not_modified(model_of):
    """The model, vectors and the mapping stay as they are, and a result does not follow later changes to them."""
    model, vector, shift = model_of("clt"), direction(), direction(1)
    edits = {
        Direction(0, vector): add(2),
        ErrorNode(1, position=4): set_to(shift),
        Feature(1, 3, position=5): set_to(1),
    }
    kept, before = dict(edits), state(model)
    result = model.intervene(prompt(), edits)
    logits = result.logits.clone()
    assert edits == kept
    assert torch.equal(vector, direction())
    assert torch.equal(shift, direction(1))
    assert_model_unchanged(model, before)
    model.intervene(prompt(), {Direction(0, vector): add(9)}, freeze="all")
    assert torch.equal(result.logits, logits)
    assert not result.logits.requires_grad


def test_two_models_at_once(load):
    """Threads that use a model each do not disturb each other."""

    def work(model):
        edits = list(map(intervention_of, edit_cases(model, None)))
        found = []
        for setting in ("none", "all", "attention") * 2:
            found += [r.logits for r in model.intervene_many(prompt(), edits, **SETTINGS[setting])]
            written = model.generate(SHORT, {Direction(1, UNIT): add(3)}, max_new_tokens=5, **SETTINGS[setting])
            found += [torch.tensor(written.token_ids), torch.tensor(written.probabilities)]
        return found

    models = [load("clt-affine"), load("neurons")]
    alone = list(map(work, models))
    with ThreadPoolExecutor(2) as pool:
        for found, expected in zip(pool.map(work, models), alone, strict=True):
            assert all(map(torch.equal, found, expected))


def test_texts_are_prompts_too(worded):
    text = "The opposite of hot is"
    node = Direction(1, UNIT, position=-1)
    ids = [
        SPECIALS.index("<bos>"),
        *(len(SPECIALS) + WORDS.index(w) for w in ("The", " opposite", " of", " hot", " is")),
    ]
    by_text, by_ids = worded.intervene(text, {node: add(2)}), worded.intervene(ids, {node: add(2)})
    assert torch.equal(by_text.logits, by_ids.logits)
    both = worded.intervene_many([text, "hot"], {node: add(2)})
    assert torch.equal(both[0].logits, by_ids.logits)
    patched = worded.patch("The opposite of hot", "The opposite of cold", [ErrorNode(1), ErrorNode(2)])
    assert patched.recovered(" hot", " cold") == pytest.approx(
        patched.recovered(WORDS.index(" hot") + 6, WORDS.index(" cold") + 6)
    )
