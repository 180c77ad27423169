"""Generation with edits, compared with a dense reference, with generation without a cache, and with the library."""

import functools

import pytest
import torch
from helpers import interventions
from helpers.interventions import EDITS, NODES, direction
from intervention_reference import Edit, Reference, dense_layers
from tiny import KINDS, LAYERS, WIDTH, prompt
from tiny_checkpoints import SPECIALS, WORDS

from cotrace import Direction, ErrorNode, Feature, ablate, add, multiply, set_to
from cotrace.attribution.interventions.config import InterventionConfig
from cotrace.attribution.interventions.generate import PreparedGeneration, first_divergence
from cotrace.attribution.models import attention_pattern as pattern
from cotrace.attribution.models.sampling import sample_tokens
from cotrace.attribution.models.tokenizer import PromptTokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = {**interventions.SETTINGS, "some-layers": {"freeze": "all", "layers": [0, 2]}}
NEW = 9  # tokens: with the prompt's 11 more than twice the sliding window of 4
PLACES = ["generated", "all", "prompt", 4]


def with_settings(kinds):
    return pytest.mark.parametrize(
        ("kind", "setting"), [(k, s) for k in kinds for s in SETTINGS if k != "neurons" or "errors" not in SETTINGS[s]]
    )


# Edits of every kind of node, as the reference names them: kind, layer, feature or direction, edit, value.
STEERING = [
    ("feature", 0, 5, "set_to", 2.5),
    ("feature", 1, 3, "add", -1.2),
    ("feature", 2, 7, "multiply", -2.0),
    ("feature", 2, 8, "ablate", None),
    ("error", 1, None, "multiply", 0.3),
    ("error", 2, None, "add", direction(1)),
    ("direction", 0, direction(2), "add", 1.5),
    ("direction", 1, direction(3), "ablate", None),
]


def steer(at):
    """Return all edits of STEERING at a position."""
    return {NODES[kind](layer, what, position=at): EDITS[edit](value) for kind, layer, what, edit, value in STEERING}


def equal(one, other) -> bool:
    """Return whether two generations are equal bit by bit."""
    return (one.token_ids, one.probabilities, one.ended) == (other.token_ids, other.probabilities, other.ended)


# Values


@pytest.mark.parametrize("turn", [0, 1])
@with_settings(KINDS)
def test_every_step_is_the_dense_reference(model_of, hf_model, kind, setting, turn):
    model, ids, transcoders = model_of(kind), prompt(7), model_of(kind).transcoders
    steering = [(entry, PLACES[(number + turn) % len(PLACES)]) for number, entry in enumerate(STEERING)]
    changes = {NODES[k](layer, what, position=at): EDITS[c](v) for (k, layer, what, c, v), at in steering}
    written = model.generate(ids, changes, max_new_tokens=6, temperature=3.0, **SETTINGS[setting])

    read = ids + written.token_ids[:-1]
    dense = dense_layers(transcoders, WIDTH, LAYERS)
    reference = Reference(hf_model, dense, read, {0}, getattr(transcoders, "k", 0))
    new = range(len(ids), len(read))
    positions = {"generated": new, "all": range(1, len(read)), "prompt": range(1, len(ids)), 4: [4]}
    edits = [Edit(k, layer, p, *rest) for (k, layer, *rest), at in steering for p in positions[at]]
    expected = reference.run(edits, **SETTINGS[setting]).logits[len(ids) - 1 :].softmax(-1)
    found = torch.stack([written.next_probabilities(step) for step in range(6)])
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-12)
    assert written.probabilities == [float(p[token]) for p, token in zip(found, written.token_ids, strict=True)]


@pytest.mark.parametrize("queries", [256, 3])
@with_settings(["clt-affine", "neurons"])
def test_a_cache_only_changes_rounding(model_of, monkeypatch, kind, setting, queries):
    """Also for a prompt and new tokens longer than the sliding window and than blocks of patterns."""
    monkeypatch.setattr(pattern, "BLOCK_QUERIES", queries)
    model, options = model_of(kind), {"max_new_tokens": NEW, "temperature": 3.0, **SETTINGS[setting]}
    for edits in (None, *map(steer, PLACES if queries == 256 else ["all"])):
        cached, again = (model.generate(prompt(), edits, use_cache=use, **options) for use in (True, False))
        assert cached.token_ids == again.token_ids
        assert cached.probabilities == pytest.approx(again.probabilities, rel=1e-9)
        assert len(cached.token_ids) == NEW
        assert first_divergence(cached, again) is None


def test_the_cache_keeps_what_the_attention_window_needs(model_of):
    model, ids = model_of("clt"), prompt()
    reader, _ = PreparedGeneration(model._prompt_context(ids, None), {}, InterventionConfig(), 3).start()
    for length in range(len(ids), len(ids) + 3):
        reader.forward(torch.tensor([[*ids, 5, 6, 7][:length]]))
    for layer in range(LAYERS):
        window = model.architecture.window(layer)
        kept = length if window is None else window
        for tensors in (reader.edited.kv_cache._keys, reader.edited.kv_cache._values):
            assert tensors[layer].shape[-2] == kept
    assert {model.architecture.window(layer) for layer in range(LAYERS)} == {None, 4}


@pytest.mark.parametrize("ids", [prompt(), prompt(3), [2], [9, 9, 9, 9, 9, 9, 9, 9]], ids=len)
def test_greedy_generation_equals_the_librarys(model_of, hf_model, ids):
    options = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": None, "pad_token_id": 0}
    expected = hf_model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), **options)[0]
    for kind in ("clt-affine", "neurons"):
        written = model_of(kind).generate(ids, max_new_tokens=12)
        assert written.token_ids == expected[len(ids) :].tolist()
        assert not written.ended


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@with_settings(["clt-affine", "neurons"])
def test_edits_without_effect_generate_the_same_bits(model_of, kind, setting, dtype):
    model = model_of(kind, dtype)
    options = {"max_new_tokens": 6, "temperature": 1.0}
    node = Feature(1, 3)
    kept = [
        {},
        {Feature(1, 3): multiply(1), ErrorNode(2): multiply(1), Direction(0, direction()): add(0)},
        {
            Feature(0, 2, position="generated"): add(0),
            ErrorNode(1, position="generated"): add(torch.zeros(WIDTH)),
            node: multiply(1),
        },
        {Direction(2, direction(), position="prompt"): multiply(1), ErrorNode(0, position=5): multiply(1)},
    ]
    for use_cache in (True, False):
        plain = model.generate(prompt(), use_cache=use_cache, **options)
        for edits in kept:
            written = model.generate(prompt(), edits, use_cache=use_cache, **options, **SETTINGS[setting])
            assert equal(written, plain)
            assert all(torch.equal(written.next_probabilities(n), plain.next_probabilities(n)) for n in range(6))


@with_settings(["clt-affine", "neurons"])
def test_the_first_step_is_an_intervention(model_of, kind, setting):
    """Edits at positions of the prompt change it as `intervene` does; edits at "generated" do not change it."""
    model, options = model_of(kind), SETTINGS[setting]
    plain = model.generate(prompt(), max_new_tokens=1).next_probabilities(0)
    for at in PLACES:
        found = model.generate(prompt(), steer(at), max_new_tokens=2, **options)
        if at == "generated":
            assert torch.equal(found.next_probabilities(0), plain)
        else:
            intervened = model.intervene(prompt(), steer(at), **options)
            assert torch.equal(found.next_probabilities(0), intervened.probabilities()[1])
            assert not torch.allclose(found.next_probabilities(0), plain, atol=1e-3)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_prompt_affects_new_tokens_through_attention_only(model_of, setting):
    """After the last layer there is no attention: an edit there changes the first token and nothing later."""
    model, options = model_of("clt-affine"), SETTINGS[setting]
    for layer, reaches in ((2, False), (0, True)):
        written = model.generate(
            prompt(), {Direction(layer, direction(), position="prompt"): add(6)}, max_new_tokens=5, **options
        )
        first = model.generate(prompt(), max_new_tokens=1).next_probabilities(0)
        assert not torch.allclose(written.next_probabilities(0), first, rtol=0, atol=1e-3)
        for step in range(1, 5):
            read = prompt() + written.token_ids[:step]
            plain = model.generate(read, max_new_tokens=1).next_probabilities(0)
            assert torch.allclose(written.next_probabilities(step), plain, rtol=0, atol=1e-10) != reaches


# Sampling


def test_seeds_repeat(model_of):
    model, options = model_of("clt"), {"max_new_tokens": NEW, "temperature": 4.0}
    before = torch.get_rng_state()
    written = [model.generate(prompt(), seed=seed, **options) for seed in (0, 1, 2, 3)]
    for seed, one in enumerate(written):
        assert equal(one, model.generate(prompt(), seed=seed, **options))
    assert len({tuple(one.token_ids) for one in written}) == 4
    assert equal(written[0], model.generate(prompt(), **options))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_low_temperature_is_greedy(model_of):
    model, edits = model_of("clt"), steer("all")
    greedy = model.generate(prompt(), edits, max_new_tokens=NEW)
    assert equal(greedy, model.generate(prompt(), edits, max_new_tokens=NEW, temperature=1e-3, seed=5))
    for step, token in enumerate(greedy.token_ids):
        assert token == int(greedy.next_probabilities(step).argmax())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_sampled_with_their_probabilities(temperature):
    probability = torch.tensor([0.0, 0.4, 0.1, 0.0, 0.3, 0.2, 0.0], dtype=torch.float64)
    generator, draws = torch.Generator().manual_seed(3), 4000
    drawn = sample_tokens(probability.expand(draws, -1), temperature, generator)
    expected = probability ** (1 / temperature)
    expected /= expected.sum()
    share = drawn.bincount(minlength=7) / draws
    assert not share[expected == 0].any()
    assert float((share - expected).abs().max()) < 4 * (0.25 / draws) ** 0.5


# Ends


@pytest.mark.parametrize("count", [1, 2, 5])
def test_at_most_max_new_tokens_are_generated(model_of, count):
    model = model_of("neurons")
    written, longer = (model.generate(prompt(), max_new_tokens=n) for n in (count, 6))
    assert written.token_ids == longer.token_ids[:count]
    assert written.text == "".join(f"<{token}>" for token in written.token_ids)
    assert not written.ended
    for step in (count, -count - 1):
        with pytest.raises(ValueError, match=f"step {step} is outside the {count} new tokens"):
            written.next_probabilities(step)
    assert written.next_probabilities(-1).equal(longer.next_probabilities(count - 1))


def test_a_token_that_ends_the_text_is_the_last(model_of, monkeypatch):
    model = model_of("clt")
    free = model.generate(prompt(), max_new_tokens=NEW, temperature=1.0)
    end = free.token_ids[4]
    stop = free.token_ids.index(end) + 1
    monkeypatch.setattr(PromptTokenizer, "end_token_ids", lambda self: {end, 999})
    written = model.generate(prompt(), max_new_tokens=NEW, temperature=1.0)
    assert written.ended
    assert written.token_ids == free.token_ids[:stop]
    assert written.probabilities == free.probabilities[:stop]
    assert model.generate(prompt(), max_new_tokens=stop, temperature=1.0).ended
    assert not model.generate(prompt(), max_new_tokens=stop - 1, temperature=1.0).ended if stop > 1 else True


@pytest.mark.parametrize("end", ["<eos>", "<end_of_turn>"])
def test_texts_and_turns_end(worded, end):
    """A model that is steered to an end token stops there; end tokens in the prompt do not count."""
    token = SPECIALS.index(end)
    assert worded.tokenizer.end_token_ids() == {SPECIALS.index("<eos>"), SPECIALS.index("<end_of_turn>")}
    towards = worded.weights.unembedding(torch.tensor([token]))[0]
    towards = towards / worded.weights.final_norm_D
    chat = [{"role": "user", "content": "The opposite"}]
    assert SPECIALS.index("<end_of_turn>") in worded.tokenize(chat)
    written = worded.generate(chat, {Direction(2, towards, position="generated"): set_to(1e4)}, max_new_tokens=NEW)
    assert written.ended
    assert written.token_ids[-1] == token
    assert len(written.token_ids) in (1, 2)
    assert worded.generate(chat, {Direction(2, towards): set_to(1e4)}, max_new_tokens=NEW).token_ids == [token]


# Prompts


def test_texts_and_chats(worded):
    text, ids = "The opposite of hot is", [SPECIALS.index("<bos>"), *(WORDS.index(w) + 6 for w in WORDS[3:8])]
    edits = {Feature(1, 3): set_to(3), Direction(1, direction(), position="generated"): add(2)}
    by_text, by_ids = (worded.generate(p, edits, max_new_tokens=5) for p in (text, ids))
    assert equal(by_text, by_ids)
    assert by_text.text == worded.tokenizer.decode(by_ids.token_ids)
    chat = [{"role": "user", "content": "The opposite"}]
    both = worded.generate_many([chat, text], edits, max_new_tokens=5)
    assert [one.token_ids for one in both] == [
        worded.generate(p, edits, max_new_tokens=5).token_ids for p in (chat, text)
    ]
    masked = {
        Feature(1, 3, position=range(4, len(worded.tokenize(chat)))): set_to(3)
    }  # the opening of a chat is masked
    prompted = {Feature(1, 3, position="prompt"): set_to(3)}
    assert equal(*(worded.generate(chat, c, max_new_tokens=5) for c in (masked, prompted)))


def test_several_prompts(model_of):
    model, prompts = model_of("per-layer"), [prompt(), [2], torch.tensor(prompt(6))]
    for options in ({}, {"freeze": "all"}):
        found = model.generate_many(prompts, steer("generated"), max_new_tokens=4, **options)
        for one, ids in zip(found, prompts, strict=True):
            assert equal(one, model.generate(ids, steer("generated"), max_new_tokens=4, **options))
            assert one.prompt.ids_P.tolist() == list(ids)


def test_layers_given_as_an_iterator_apply_to_every_prompt(model_of):
    model, edits = model_of("clt-affine"), steer("all")
    expected = model.generate(prompt(), edits, max_new_tokens=2, freeze="all")
    for one in model.generate_many([prompt()] * 2, edits, max_new_tokens=2, freeze="all", layers=iter(range(LAYERS))):
        assert equal(one, expected)


def test_masked_positions_are_left_out(model_of):
    model, node = model_of("clt-affine"), functools.partial(Feature, 0, 5)
    masked = model.generate(prompt(), {node(position="all"): set_to(3)}, max_new_tokens=4, masked_positions=[3, 6])
    places = {node(position=(1, 2, 4, 5, 7, 8, 9, 10)): set_to(3), node(position="generated"): set_to(3)}
    assert equal(masked, model.generate(prompt(), places, max_new_tokens=4))


def test_first_divergence_is_where_tokens_differ(model_of):
    model = model_of("clt")
    plain, steered = (model.generate(prompt(), c, max_new_tokens=NEW) for c in (None, steer("generated")))
    step = first_divergence(plain, steered)
    assert step is not None
    assert step > 0
    assert plain.token_ids[:step] == steered.token_ids[:step]
    assert plain.token_ids[step] != steered.token_ids[step]


# Refusals

REFUSED = {
    "no token": ({"max_new_tokens": 0}, "ask for at least 1"),
    "fewer": ({"max_new_tokens": -3}, "ask for at least 1"),
    "half": ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5; it must be an integer"),
    "true": ({"max_new_tokens": True}, "must be an integer"),
    "cold": ({"temperature": -1.0}, "use 0 for the most likely token, or at least 0.001"),
    "nearly zero": ({"temperature": 1e-30}, "use 0 for the most likely token"),
    "nan": ({"temperature": float("nan")}, "use 0 for the most likely token"),
    "hot": ({"temperature": float("inf")}, "use 0 for the most likely token"),
    "seed": ({"seed": "a"}, "seed is 'a'; it must be an integer"),
    "negative seed": ({"seed": -1}, "an integer from 0 to"),
    "large seed": ({"seed": 2**63}, "an integer from 0 to"),
    "pairs": ({"edits": [[Feature(0, 1), set_to(1)]]}, "an intervention is a dict from nodes to edits"),
    "false": ({"edits": False}, "an intervention is a dict from nodes to edits"),
    "no temperature": ({"temperature": None}, "temperature is None; use 0 for the most likely token"),
    "temperatures": ({"temperature": [1]}, "use 0 for the most likely token"),
    "true temperature": ({"temperature": True}, "use 0 for the most likely token"),
    "later": ({"edits": {Feature(0, 1, position=11): set_to(1)}}, "outside the prompt of 11 tokens"),
    "masked": ({"edits": {Feature(0, 1, position=0): set_to(1)}}, "masked and carries no features"),
    "number": ({"edits": {ErrorNode(0, position="generated"): set_to(1)}}, "not a number"),
    "conflict": (
        {"edits": {ErrorNode(0, position="generated"): ablate(), ErrorNode(0): multiply(2)}},
        "at generated positions",
    ),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_arguments_are_refused(model_of, options, message):
    model = model_of("clt")
    use = model.generate_many if isinstance(options.get("edits"), list) else model.generate
    with pytest.raises(ValueError, match=message):
        use(prompt(), **{"edits": {}, **options})


def test_empty_prompts_and_neurons_with_constant_errors_are_refused(model_of):
    with pytest.raises(ValueError, match="the prompt is empty"):
        model_of("clt").generate([])
    with pytest.raises(ValueError, match="whose other neurons respond"):
        model_of("neurons").generate(prompt(), errors="constant")
