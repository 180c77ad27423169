"""Activation patching: against the dense reference, and against interventions that set clean activations."""

import functools

import pytest
import tiny
import torch
from helpers.interventions import (
    OTHER,
    RELATIVE_TOLERANCE,
    SETTINGS,
    active_at,
    gap,
    middle_feature,
    with_settings,
)
from intervention_reference import Edit
from tiny import LAYERS, prompt

from cotrace import ErrorNode, Feature, Supernode, set_to

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = pytest.mark.parametrize(("kind", "setting"), with_settings(["clt-affine", "per-layer", "neurons"]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@FEW
def test_a_prompt_patched_into_itself_stays_as_it_is(model_of, kind, setting, dtype):
    model = model_of(kind, dtype)
    nodes = [
        middle_feature(model, 1),
        Feature(0, middle_feature(model, 0).feature),
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
    """Every feature, or as many neurons, and every error node is set to its value in the clean prompt."""
    model, references = model_of(kind), [reference_of(kind, (), tuple(ids)) for ids in (prompt(), OTHER)]
    clean, edits = references[0].plain, []
    for layer in range(LAYERS):
        for p in range(1, 11):
            values = clean.computed[layer][p, : tiny.FEATURES]
            edits += [Edit("feature", layer, p, f, "set_to", float(value)) for f, value in enumerate(values)]
            edits.append(Edit("error", layer, p, None, "set_to", clean.errors[layer][p]))
    nodes = [node for at in range(LAYERS) for node in (*(Feature(at, f) for f in range(tiny.FEATURES)), ErrorNode(at))]
    result = model.patch(prompt(), OTHER, nodes, **SETTINGS[setting])
    assert gap(result.logits_clean, clean.logits) < RELATIVE_TOLERANCE
    assert gap(result.logits_before, references[1].plain.logits) < RELATIVE_TOLERANCE
    assert gap(result.logits, references[1].run(edits, **SETTINGS[setting]).logits) < RELATIVE_TOLERANCE


@pytest.mark.parametrize("setting", SETTINGS)
def test_patching_is_setting_to_clean_activations(model_of, setting):
    model = model_of("clt-affine")
    (_, f0, _), *_ = active_at(model, 0, position=6)
    (_, f2, _), *_ = active_at(model, 2, position=10)
    clean = {(layer, p): a for layer, f in ((0, f0), (2, f2)) for p, g, a in active_at(model, layer) if g == f}
    result = model.patch(prompt(), OTHER, [Feature(0, f0), Feature(2, f2, position=(7, -1))], **SETTINGS[setting])
    same = {p for p, f, _ in active_at(model, 0, ids=OTHER) if f == f0}  # setting to zero needs an active feature
    edits = {
        Feature(0, f0, position=p): set_to(clean.get((0, p), 0)) for p in range(1, 11) if (0, p) in clean or p in same
    }
    edits |= {Feature(2, f2, position=p): set_to(clean.get((2, p), 0)) for p in (7, 10)}
    assert torch.equal(result.logits, model.intervene(OTHER, edits, **SETTINGS[setting]).logits)
    assert torch.equal(result.logits_clean, model.logits(prompt()))
    assert torch.equal(result.logits_before, model.logits(OTHER))
    assert gap(result.logits, result.logits_before) > 1e-3


def test_a_chat_and_a_text_are_patched_where_both_have_features(worded):
    """The opening of a chat has none: by position it is refused, by "all" it is left out."""
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
        result.recovered(5, 9, position=3)  # before the prompts differ
    late = model.patch(
        prompt(), OTHER, [Feature(2, f, position=7) for f in range(12)]
    )  # no attention comes after layer 2
    assert late.recovered(5, 9) == 0
    whole = model.patch(
        prompt(), OTHER, [ErrorNode(2), *(Feature(2, f) for f in range(tiny.FEATURES))], freeze="attention"
    )
    assert whole.recovered(5, 9) not in (0, 1)
