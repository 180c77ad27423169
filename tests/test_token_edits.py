"""Edits of tokens: against the transformers library, the dense reference, and prompts with other tokens."""

import functools

import pytest
import torch
from helpers.interventions import (
    OTHER,
    RELATIVE_TOLERANCE,
    SETTINGS,
    SHORT,
    active_at,
    direction,
    edit_cases,
    gap,
    intervention_of,
    with_settings,
)
from intervention_reference import Edit
from tiny import KINDS, WIDTH, prompt

from cotrace import Feature, Supernode, Token, ablate, add, multiply, replace_with, set_to

pytestmark = pytest.mark.usefixtures("one_thread")
LIBRARY_TOLERANCE = 1e-5  # its norms are in float32
IDS = prompt()


def embeddings(hf_model, ids):
    return hf_model.get_input_embeddings()(torch.tensor(ids)).detach()


def cases(hf_model):
    """Return edits of tokens, each with the embedding (D,) that it gives position 6."""
    embed, vector = functools.partial(embeddings, hf_model), direction(3)
    old = embed(IDS)[6]
    return {
        "token": (replace_with(33), embed([33])[0]),
        "mean": (replace_with(33, 5, 5), embed([33, 5, 5]).mean(0)),
        "position": (replace_with(Token(-1)), embed(IDS)[-1]),
        "positions": (replace_with(Token([2, 4]), 5), embed([IDS[2], IDS[4], 5]).mean(0)),
        "set": (set_to(vector), vector),
        "add": (add(vector), old + vector),
        "multiply": (multiply(-2), -2 * old),
        "ablate": (ablate(), torch.zeros(WIDTH)),
    }


def test_with_nothing_frozen_the_model_runs_on_the_edited_embeddings(model_of, hf_model):
    model, found = model_of("clt-affine"), cases(hf_model)
    results = model.intervene_many(IDS, [{Token(6): edit} for edit, _ in found.values()])
    for result, (name, (_, new)) in zip(results, found.items(), strict=True):
        edited = embeddings(hf_model, IDS)
        edited[6] = new
        expected = hf_model(inputs_embeds=edited[None]).logits[0]
        assert gap(result.logits, expected) < LIBRARY_TOLERANCE, name
        assert gap(result.logits, result.logits_before) > 1e-3, name
        assert torch.equal(result.logits[:6], result.logits_before[:6]), name


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_another_token_is_the_prompt_with_this_token(model_of, dtype):
    """Bit for bit: at one position, at several, and at the first."""
    model = model_of("clt", dtype)
    for positions, token in ((6, 33), ([0, 3, -1], 5)):
        ids = [*IDS]
        for position in [positions] if isinstance(positions, int) else positions:
            ids[position] = token
        assert torch.equal(model.intervene(IDS, {Token(positions): replace_with(token)}).logits, model.logits(ids))
    source = model.intervene(IDS, {Token(6): replace_with(Token(2)), Token(2): replace_with(33)})
    assert torch.equal(source.logits, model.logits([*IDS[:2], 33, *IDS[3:6], IDS[2], *IDS[7:]]))  # 2 as it was


@pytest.mark.parametrize(("kind", "setting"), with_settings(KINDS))
def test_logits_are_those_of_the_dense_reference(model_of, reference_of, kind, setting):
    """Tokens alone, and with features, error nodes and directions."""
    model, reference = model_of(kind), reference_of(kind)
    tokens = [
        Edit("token", None, 0, None, "set_to", direction(7)),
        Edit("token", None, 4, None, "ablate"),
        Edit("token", None, 6, None, "set_to", reference.embeddings([33, 5]).mean(0)),
        Edit("token", None, 9, None, "multiply", -1.5),
        Edit("token", None, 10, None, "add", direction(8)),
    ]
    ways = [tokens, [*tokens, *edit_cases(model, None)[3]]]
    results = model.intervene_many(IDS, list(map(intervention_of, ways)), **SETTINGS[setting])
    for result, edits in zip(results, ways, strict=True):
        assert gap(result.logits, reference.run(edits, **SETTINGS[setting]).logits) < RELATIVE_TOLERANCE


@pytest.mark.parametrize("kind", ["clt-affine", "per-layer", "neurons"])
def test_with_everything_frozen_a_mean_moves_nodes_by_the_mean_of_their_moves(model_of, kind):
    model = model_of(kind)
    ways = [replace_with(33), replace_with(5), replace_with(33, 5)]
    moves = []
    for result in model.intervene_many(IDS, [{Token(6): edit} for edit in ways], freeze="all"):
        after, before = (result.features[f"pre_activation_{side}"].to_numpy() for side in ("after", "before"))
        moves.append((torch.from_numpy(after - before), result.logits - result.logits_before))
    for one, other, mean in zip(*moves, strict=True):
        assert one.abs().max() > 1e-3
        assert gap(mean, (one + other) / 2) < RELATIVE_TOLERANCE


def test_position_words_leave_out_masked_positions(model_of):
    model = model_of("per-layer")
    masked = {"masked_positions": [3, 6]}
    unmasked = [p for p in range(11) if p not in (0, 3, 6)]
    ways = [Token(), Token("all"), Token("prompt"), Token(unmasked), Supernode([Token(p) for p in unmasked])]
    results = model.intervene_many(IDS, [{node: replace_with(5)} for node in ways], **masked)
    expected = model.logits([5 if p in unmasked else token for p, token in enumerate(IDS)])
    assert all(gap(result.logits, expected) < 1e-12 for result in results)
    mean = model.intervene(IDS, {Token(6): replace_with(Token("prompt"))}, **masked)
    named = model.intervene(IDS, {Token(6): replace_with(Token(unmasked))}, **masked)
    assert torch.equal(mean.logits, named.logits)
    for position in (0, 3):
        changed = model.intervene(IDS, {Token(position): replace_with(5)}, **masked)
        assert torch.equal(changed.logits, model.logits([*IDS[:position], 5, *IDS[position + 1 :]]))


def test_a_text_names_a_token(worded):
    ids = worded.tokenize("The opposite of hot is")
    cold, warm = (worded.tokenizer.token_id(text) for text in (" cold", " small"))
    result, mean = worded.intervene_many(
        "The opposite of hot is", [{Token(4): replace_with(" cold")}, {Token(4): replace_with(" cold", " small")}]
    )
    assert gap(result.logits, worded.logits([*ids[:4], cold, *ids[5:]])) < 1e-12
    by_id = worded.intervene(ids, {Token(4): replace_with(cold, warm)})
    assert gap(mean.logits, by_id.logits) < 1e-12
    with pytest.raises(ValueError, match="'hot cold' is not one token"):
        worded.intervene(ids, {Token(4): replace_with("hot cold")})


# Patching


@pytest.mark.parametrize("kind", ["clt-affine", "neurons"])
def test_patching_the_tokens_that_differ_restores_the_clean_prompt(model_of, kind):
    model = model_of(kind)
    for node in (Token(6), Token(), Token([-5, 2]), Supernode([Token(6), Token(7)])):
        result = model.patch(IDS, OTHER, [node])
        assert torch.equal(result.logits, result.logits_clean)
        assert torch.equal(result.logits_before, model.logits(OTHER))
        assert result.recovered(5, 9) == 1
    nothing = model.patch(IDS, OTHER, [Token(3)])
    assert torch.equal(nothing.logits, nothing.logits_before)
    (_, feature, _), *_ = active_at(model, 1, position=8)
    both = model.patch(IDS, OTHER, [Token(6), Feature(1, feature, position=8)])
    assert gap(both.logits, both.logits_clean) < RELATIVE_TOLERANCE


@pytest.mark.parametrize("setting", SETTINGS)
def test_patching_a_token_is_replacing_it(model_of, setting):
    model = model_of("clt-affine")
    patched = model.patch(IDS, OTHER, [Token(6)], **SETTINGS[setting])
    replaced = model.intervene(OTHER, {Token(6): replace_with(IDS[6])}, **SETTINGS[setting])
    assert torch.equal(patched.logits, replaced.logits)


# Generation


@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_continues_the_edited_prompt(model_of, use_cache):
    model, options = model_of("clt-affine"), {"max_new_tokens": 5, "use_cache": use_cache}
    other = [*SHORT[:4], 33, *SHORT[5:]]
    assert model.generate(SHORT, {Token(4): replace_with(33)}, **options).token_ids == (
        model.generate(other, **options).token_ids
    )
    edited = model.generate(SHORT, {Token("generated"): replace_with(5)}, **options)
    ids, expected = [*SHORT], []
    for step in range(5):  # every new token is read as token 5
        logits_V = model.logits(ids)[-1]
        expected.append(int(logits_V.argmax()))
        assert edited.next_probabilities(step) == pytest.approx(logits_V.softmax(-1), rel=1e-9)
        ids.append(5)
    assert edited.token_ids == expected


@pytest.mark.parametrize("setting", SETTINGS)
def test_generation_agrees_with_an_intervention(model_of, setting):
    """The first new token, with frozen values of the prompt without edits."""
    model = model_of("clt")
    edits = {Token(4): replace_with(33), Token(5): multiply(0.5)}
    (first,) = model.generate(SHORT, edits, max_new_tokens=1, **SETTINGS[setting])._states
    result = model.intervene(SHORT, edits, **SETTINGS[setting])
    assert gap(model.weights.logits(*first)[0], result.logits[-1]) < 1e-12
