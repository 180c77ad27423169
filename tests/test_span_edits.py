"""Swaps and donors: identities, other prompts, the library's cache, and other edits beside them."""

import pytest
import torch
from helpers.interventions import SETTINGS, gap, middle_feature
from tiny import LAYERS, WIDTH, prompt
from transformers import DynamicCache

from cotrace import Direction, Donor, Feature, Swap, Token, ablate, add, replace_with, set_to

pytestmark = pytest.mark.usefixtures("one_thread")
IDS = prompt()
P = len(IDS)  # the window is 4; the second of the three layers has full attention
OTHER = [2, 9, 8, 30, 21, 22, 7, 25, 5, 3, IDS[-1]]  # of the same length, with the same last token
CHOICES = ["kv", "keys", "values", "queries", "residual"]
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
LIBRARY_TOLERANCE = 1e-5  # its norms are in float32
with_choices = pytest.mark.parametrize("what", CHOICES)
with_dtypes = pytest.mark.parametrize("dtype", ["float64", "float32"])


def swapped(ids, positions, new):
    ids = [*ids]
    for position, token in zip(positions, new, strict=True):
        ids[position] = token
    return ids


# Nothing changes.


@with_dtypes
@with_choices
def test_a_prompt_as_its_own_donor_changes_no_bit(model_of, what, dtype):
    model = model_of("clt-affine", dtype)
    for where in ((2, 6), (0, P - 1), 4, [1, 4, 5, 9], slice(0, -1)):
        result = model.intervene(IDS, Donor(where, IDS, what))
        assert torch.equal(result.logits, result.logits_before)
    one_layer = model.intervene(IDS, Donor((2, 6), IDS, what, layers=[1]))
    assert torch.equal(one_layer.logits, one_layer.logits_before)


@pytest.mark.parametrize("setting", SETTINGS)
@with_choices
def test_a_prompt_as_its_own_donor_changes_no_bit_in_batches_and_settings(model_of, what, setting):
    if "attention" in SETTINGS[setting].get("freeze", "") or setting == "all":
        what = {"kv": "values", "keys": "values", "queries": "values"}.get(what, what)
    model = model_of("clt-affine", "float32")
    donors = [[Donor((2, 6), IDS, what), Donor((7, 9), IDS, what)], Donor([1, 5], IDS, what), {}]
    for result in model.intervene_many(IDS, donors, **SETTINGS[setting]):
        assert torch.equal(result.logits, result.logits_before)


def test_a_swap_by_the_same_tokens_changes_no_bit(model_of):
    result = model_of("clt").intervene(IDS, Swap((2, 6), IDS[2:6]))
    assert torch.equal(result.logits, result.logits_before)
    assert result.edited_token_ids == result.token_ids == IDS


# Other prompts.


@with_dtypes
def test_keys_and_values_before_the_last_token_give_the_other_prompts_logits(model_of, dtype):
    """Sliding-window layers included: the window is shorter than the prompt."""
    model = model_of("clt-affine", dtype)
    result = model.intervene(IDS, Donor((0, P - 1), OTHER))
    assert gap(result.logits[-1], model.logits(OTHER)[-1]) < TOLERANCE[dtype]
    assert torch.equal(result.logits[:-1], result.logits_before[:-1])  # no earlier query reads them
    apart = model.intervene(IDS, [Donor((0, P - 1), OTHER, "keys"), Donor((0, P - 1), OTHER, "values")])
    assert torch.equal(apart.logits, result.logits)
    for what in ("keys", "values"):
        alone = model.intervene(IDS, Donor((0, P - 1), OTHER, what))
        assert gap(alone.logits[-1], result.logits[-1]) > 1e-3
    shorter = model.intervene(IDS, Donor([*range(3), *range(3, P - 1)], OTHER))
    assert torch.equal(shorter.logits, result.logits)


@pytest.mark.parametrize("kind", ["clt", "per-layer-affine", "neurons"])
def test_a_swap_is_the_other_text(model_of, kind):
    model = model_of(kind)
    for positions, where in (((3, 4, 5), (3, 6)), ((0, 7, 10), [0, 7, 10]), ((P - 1,), -1), ((2, 4), slice(2, 6, 2))):
        new = [33, 5, 21][: len(positions)]
        result = model.intervene(IDS, Swap(where, new))
        other = swapped(IDS, positions, new)
        assert torch.equal(result.logits, model.logits(other))
        assert result.edited_token_ids == other
        assert result.token_ids == IDS
    assert result.features.num_rows


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_swap_is_the_edit_of_its_tokens_in_every_setting(model_of, setting):
    model = model_of("clt-affine")
    swap = model.intervene(IDS, Swap((3, 5), [33, 5]), **SETTINGS[setting])
    tokens = model.intervene(IDS, {Token(3): replace_with(33), Token(4): replace_with(5)}, **SETTINGS[setting])
    assert torch.equal(swap.logits, tokens.logits)
    assert gap(swap.logits, swap.logits_before) > 1e-3


def library_logits(hf_model, cached: DynamicCache, ids: list[int]) -> torch.Tensor:
    """Return the library's logits of tokens after those in its cache."""
    with torch.no_grad():
        return hf_model(torch.tensor([ids]), past_key_values=cached, use_cache=True).logits[0]


def full_cache(hf_model, ids: list[int]) -> DynamicCache:
    """Return a cache of every key and value: without a config, it keeps those that sliding windows leave behind."""
    cached = DynamicCache()
    library_logits(hf_model, cached, ids)
    return cached


@pytest.mark.parametrize("what", ["kv", "keys", "values"])
@pytest.mark.parametrize("layers", [None, [0, 2], [1]], ids=str)
@pytest.mark.parametrize("span", [(1, 4), (2, 7), (7, 10)], ids=str)
def test_keys_and_values_are_those_of_the_librarys_cache(model_of, hf_model, span, layers, what):
    """The cache is edited when the span has been read; then the rest of the prompt is read."""
    cached, donor = full_cache(hf_model, IDS[: span[1]]), full_cache(hf_model, OTHER[: span[1]])
    for layer in layers or range(LAYERS):
        own, other = cached.layers[layer], donor.layers[layer]
        if what != "values":
            own.keys[:, :, slice(*span)] = other.keys[:, :, slice(*span)]
        if what != "keys":
            own.values[:, :, slice(*span)] = other.values[:, :, slice(*span)]
    expected = library_logits(hf_model, cached, IDS[span[1] :])
    result = model_of("clt-affine").intervene(IDS, Donor(span, OTHER, what, layers=layers))
    assert gap(result.logits[span[1] :], expected) < LIBRARY_TOLERANCE
    assert torch.equal(result.logits[: span[1]], result.logits_before[: span[1]])
    assert gap(result.logits[span[1] :], result.logits_before[span[1] :]) > 1e-4


def hooked_logits(hf_model, hooks) -> torch.Tensor:
    """Return the library's logits with forward hooks on modules."""
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    try:
        with torch.no_grad():
            return hf_model(torch.tensor([IDS])).logits[0]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("what", ["queries", "residual"])
@pytest.mark.parametrize("layers", [None, [0], [1, 2]], ids=str)
def test_queries_and_residual_streams_are_those_of_the_librarys_modules(model_of, hf_model, what, layers):
    span, chosen = slice(3, 7), layers or range(LAYERS)
    blocks = hf_model.model.layers
    modules = [(blocks[n].self_attn.q_norm if what == "queries" else blocks[n]) for n in chosen]
    seen = {}

    def keep(module, _, output):
        seen[module] = (output[0] if isinstance(output, tuple) else output).clone()

    with torch.no_grad():
        handles = [module.register_forward_hook(keep) for module in modules]
        hf_model(torch.tensor([OTHER]))
        for handle in handles:
            handle.remove()

    def put(module, _, output):
        new = (output[0] if isinstance(output, tuple) else output).clone()
        new[..., span, :] = seen[module][..., span, :]
        return (new, *output[1:]) if isinstance(output, tuple) else new

    expected = hooked_logits(hf_model, [(module, put) for module in modules])
    result = model_of("clt-affine").intervene(IDS, Donor(span, OTHER, what, layers=layers))
    assert gap(result.logits, expected) < LIBRARY_TOLERANCE
    assert torch.equal(result.logits[:3], result.logits_before[:3])
    assert gap(result.logits, result.logits_before) > 1e-3


def test_the_residual_stream_of_the_last_layer_gives_the_donors_logits(model_of):
    model = model_of("clt")
    result = model.intervene(IDS, Donor((3, 7), OTHER, "residual"))
    assert torch.equal(result.logits[3:7], model.logits(OTHER)[3:7])


# A donor of another length.


def test_values_from_another_place_are_rotated_to_the_span(model_of):
    """A donor that has the span's text further on, alone in the window of what follows, is like the text in its place.

    The layers see relative positions only, so a prompt without its first tokens gives the same queries and keys but for
    their rotation: with all keys and values of the window, a prompt that is longer in front gives its own logits.
    """
    model = model_of("clt-affine")
    longer = [2, 33, 5, 21, *OTHER[1:]]  # three more tokens in front
    donor = Donor((1, P - 1), longer, at=(4, P + 2))
    result = model.intervene(IDS, donor, freeze="none")
    lone = model.intervene(IDS, Donor((1, P - 1), longer, at=(4, P + 2), layers=[0]))
    own = model.intervene(IDS, Donor((1, P - 1), [IDS[0], *OTHER[1:]], layers=[0]))
    assert gap(lone.logits, own.logits) < 1e-6  # the first layer's keys and values depend on the token alone
    assert gap(result.logits, lone.logits) > 1e-3


@with_choices
def test_a_span_of_a_longer_donor_is_read_where_at_says(model_of, what):
    """In the first layer, all but the residual stream depends on the token alone, wherever it is."""
    if what == "residual":
        pytest.skip("the stream after a layer depends on the context")
    model = model_of("clt-affine")
    source = [2, 14, 15, 16, 9, 8, 30, 20]
    moved = model.intervene(IDS, Donor((2, 5), source, what, at=(4, 7), layers=[0]))
    here = model.intervene(IDS, Donor((2, 5), [*IDS[:2], 9, 8, 30, *IDS[5:]], what, layers=[0]))
    assert gap(moved.logits, here.logits) < 1e-6


# Rewritten tokens.


@pytest.mark.parametrize("use", ["intervene", "cached", "whole"])
def test_rewritten_tokens_are_the_librarys_greedy_text(model_of, hf_model, use):
    model, swap = model_of("clt-affine"), Swap((2, 4), [33, 5])
    start = swapped(IDS, (2, 3), (33, 5))[:4]
    options = {"do_sample": False, "max_new_tokens": P - 4 + 3, "eos_token_id": None, "pad_token_id": 0}
    expected = hf_model.generate(torch.tensor([start]), attention_mask=torch.ones(1, 4), **options)[0].tolist()
    if use == "intervene":
        result = model.intervene(IDS, swap, regenerate="later")
        assert result.edited_token_ids == expected[:P]
        assert torch.equal(result.logits, model.logits(expected[:P]))
        assert gap(result.logits_before, model.logits(IDS)) == 0
    else:
        written = model.generate(IDS, swap, regenerate="later", max_new_tokens=3, use_cache=use == "cached")
        assert written.edited_prompt_ids == expected[:P]
        assert written.token_ids == expected[P:]


def test_only_the_chosen_tokens_are_rewritten(model_of):
    model = model_of("clt-affine")
    result = model.intervene(IDS, Swap(2, 33), regenerate=[4, 7])
    ids = swapped(IDS, [2], [33])
    for position in (4, 7):
        ids[position] = int(model.logits(ids[:position])[-1].argmax())
    assert result.edited_token_ids == ids
    named = model.intervene(IDS, Swap("a", 33), segments={"a": [2], "b": [4], "c": (7, 8)}, regenerate=["b", "c"])
    assert named.edited_token_ids == ids
    assert torch.equal(named.logits, result.logits)
    assert model.intervene(IDS, {}, regenerate=(4, 5)).edited_token_ids[:4] == IDS[:4]


def test_later_tokens_are_those_that_no_edit_gives(model_of):
    model = model_of("clt-affine")
    edits = [Swap(2, 33), Donor((5, 7), OTHER), {Token(8): replace_with(5)}]
    result = model.intervene(IDS, edits, regenerate="later")
    kept = [p for p in range(P) if result.edited_token_ids[p] == swapped(IDS, [2], [33])[p]]
    assert {0, 1, 2, 5, 6, 8} <= {*kept}
    explicit = model.intervene(IDS, edits, regenerate=[3, 4, 7, 9, 10])
    assert result.edited_token_ids == explicit.edited_token_ids
    feature = middle_feature(model, 0)
    late = model.intervene(IDS, {feature: add(50.0)}, regenerate="later").edited_token_ids
    assert late[: feature.position + 1] == IDS[: feature.position + 1]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_model_with_edits_chooses_the_tokens(model_of, setting):
    """Each token is the likeliest in a run with all edits over the text before it."""
    model = model_of("clt-affine")
    nodes = {middle_feature(model, 1): set_to(4.0), Direction(1, torch.ones(WIDTH), 2): add(3.0)}
    edits = [Swap(2, 33), Donor((3, 5), OTHER, "kv" if setting in ("none", "constant") else "values"), nodes]
    result = model.intervene(IDS, edits, regenerate=(6, 9), **SETTINGS[setting])
    ids = result.edited_token_ids
    kept = model.intervene(IDS, [*edits, Swap((6, 9), ids[6:9])], **SETTINGS[setting])
    assert kept.logits[5:8].argmax(-1).tolist() == ids[6:9]
    assert torch.equal(kept.logits, result.logits)
    for use_cache in (True, False):
        options = {"max_new_tokens": 2, "use_cache": use_cache, **SETTINGS[setting]}
        assert model.generate(IDS, edits, regenerate=(6, 9), **options).edited_prompt_ids == ids


# Batches, caches, and other edits beside.


def several(model):
    feature = middle_feature(model, 1)
    return [
        Donor((1, 4), OTHER),
        [Donor((1, 3), OTHER, "values"), Donor((5, 8), OTHER, layers=[1, 2]), Donor(4, OTHER, "queries")],
        [Swap((3, 5), [9, 30]), {feature: ablate()}],
        {feature: set_to(3.0)},
        [
            Donor((2, 9), [2, 33, *OTHER], at=(3, 10)),
            Donor(9, OTHER, "residual", layers=[0]),
            {Token(1): replace_with(3)},
        ],
        Donor([2, 5, 6, 9], OTHER, "keys"),
    ]


@with_dtypes
@pytest.mark.parametrize("regenerate", [None, [8, 10]], ids=str)
def test_batches_equal_single_runs(model_of, dtype, regenerate):
    model = model_of("clt-affine", dtype)
    edits = several(model)
    if regenerate:
        edits = [edits[0], edits[2], edits[3]]
    batch = model.intervene_many(IDS, edits, regenerate=regenerate)
    for result, edit in zip(batch, edits, strict=True):
        alone = model.intervene(IDS, edit, regenerate=regenerate)
        assert gap(result.logits, alone.logits) < TOLERANCE[dtype]
        assert gap(result.logits, result.logits_before) > 1e-3
        assert result.edited_token_ids == alone.edited_token_ids
        assert torch.equal(alone.logits_before, model.logits(IDS))


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_cache_only_changes_rounding(model_of, setting):
    model = model_of("clt-affine")
    responding = setting in ("none", "constant")
    edits = several(model) if responding else [Donor((1, 4), OTHER, "values"), *several(model)[2:4]]
    options = {"max_new_tokens": 5, **SETTINGS[setting]}
    cached, whole = (model.generate_many(IDS, edits, use_cache=use_cache, **options) for use_cache in (True, False))
    for one, other, edit in zip(cached, whole, edits, strict=True):
        assert one.token_ids == other.token_ids
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-10)
        result = model.intervene(IDS, edit, **SETTINGS[setting])
        assert gap(result.probabilities()[1], one.next_probabilities(0)) < 1e-10


def test_keys_and_values_at_the_end_are_read_by_new_tokens(model_of, hf_model):
    cached, donor = full_cache(hf_model, IDS), full_cache(hf_model, [*OTHER[:-1], 9])
    for own, other in zip(cached.layers, donor.layers, strict=True):
        own.keys[:, :, 8:], own.values[:, :, 8:] = other.keys[:, :, 8:], other.values[:, :, 8:]
    model = model_of("clt-affine")
    written = model.generate(IDS, Donor((8, P), [*OTHER[:-1], 9]), max_new_tokens=4)
    token, expected = int(model.logits(IDS)[-1].argmax()), []
    for _ in range(4):
        expected.append(token)
        token = int(library_logits(hf_model, cached, [token])[-1].argmax())
    assert written.token_ids == expected
    assert written.token_ids != model.generate(IDS, max_new_tokens=4).token_ids


def test_a_feature_is_edited_in_the_run_with_the_donor(model_of):
    """The edit of a feature at a position after the span acts on the activation that the donor leaves there."""
    model = model_of("clt-affine")
    donor = Donor((1, 7), OTHER)
    table = model.intervene(IDS, donor).features
    row = next(r for r in table.to_pylist() if r["layer"] == 1 and r["position"] > 7 and r["activation_after"] > 0.1)
    feature = Feature(1, row["feature"], row["position"])
    nothing = model.intervene(IDS, [donor, {feature: set_to(row["activation_after"])}])
    assert gap(nothing.logits, model.intervene(IDS, donor).logits) < 1e-12
    assert gap(model.intervene(IDS, [donor, {feature: ablate()}]).logits, nothing.logits) > 1e-6
    assert model.intervene(IDS, [donor, {Feature(1, row["feature"], 2): set_to(-0.5)}]).idle == []


@pytest.mark.parametrize("freeze", ["attention", "all"])
def test_values_change_where_patterns_are_frozen(model_of, freeze):
    """With everything frozen, the response to values of one layer is linear: two spans add up."""
    model = model_of("clt-affine")
    one, two = (Donor(span, OTHER, "values", layers=[0]) for span in ((1, 4), (6, 8)))
    single = [model.intervene(IDS, donor, freeze=freeze) for donor in (one, two)]
    both = model.intervene(IDS, [one, two], freeze=freeze)
    changes = [result.logits - result.logits_before for result in (*single, both)]
    assert all(change.abs().max() > 1e-3 for change in changes)
    assert torch.equal(single[0].logits[:4], single[0].logits_before[:4])
    if freeze == "all":
        assert gap(changes[0] + changes[1], changes[2]) < 1e-10
