"""Swaps, donors and regeneration that are refused, each in one line with its cure; and edits by text and by name."""

import re

import numpy as np
import pytest
import torch
from tiny import LAYERS, WIDTH, prompt

import cotrace
from cotrace import (
    ArgumentError,
    CotraceError,
    CotraceWarning,
    Direction,
    Donor,
    Feature,
    Swap,
    Token,
    Transcript,
    ablate,
    add,
    replace_with,
)

pytestmark = pytest.mark.usefixtures("one_thread")
IDS, LONGER = prompt(), prompt(14)
P = len(IDS)
OTHER = [2, 9, 8, 30, 21, 22, 7, 25, 5, 3, IDS[-1]]
TEXT = "The opposite of hot is cold"  # BOS and six words: " hot" is at position 4

UNMADE = {
    "unknown what": (lambda: Donor((1, 3), IDS, "key"), "what='key' is not one of kv, keys, values, queries, residual"),
    "what as a list": (lambda: Donor((1, 3), IDS, ["keys"]), "is not one of kv"),
    "one layer": (lambda: Donor((1, 3), IDS, layers=1), r"write layers=\[…\]"),
    "layers by name": (lambda: Donor((1, 3), IDS, layers="all"), r"write layers=\[…\]"),
    "no layer": (lambda: Donor((1, 3), IDS, layers=[]), "names no layer"),
    "half a layer": (lambda: Donor((1, 3), IDS, layers=[0.5]), "must be an integer"),
    "no text": (lambda: Swap((1, 3), ""), "the text of a Swap is empty"),
    "no ids": (lambda: Swap((1, 3), []), "the token ids of a Swap are empty"),
    "ids and texts": (lambda: Swap((1, 3), [5, " hot"]), "a text or token ids"),
    "nothing": (lambda: Swap((1, 3), None), "a text or token ids"),
    "half a token": (lambda: Swap((1, 3), [1.5, 2.0]), "a text or token ids"),
}


@pytest.mark.parametrize(("make", "message"), UNMADE.values(), ids=UNMADE)
def test_invalid_edits_are_refused_when_they_are_made(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


SPANS = {
    "empty": ((4, 4), "is empty: .* covers start up to stop − 1"),
    "reversed": ((5, 3), "is empty"),
    "no position": ([], "is empty: name at least one position"),
    "outside": ((8, 12), "is outside the prompt of 11 tokens"),
    "one outside": (11, "position 11 is outside the prompt of 11 tokens"),
    "list outside": ([3, 40], "position 40 is outside"),
    "descending": ([5, 3], "list positions in ascending order"),
    "twice": ([3, 3], "names a position twice"),
    "twice from both ends": ([3, -8], "names a position twice"),
    "three ends": ((1, 3, 5), "write positions as a list"),
    "half": ((1.5, 3), "must be integers"),
    "true": (True, "must be an integer"),
    "none": (None, "must be an integer"),
    "a mapping": ({"a": 1}, "expected"),
    "a matrix": (np.ones((2, 2), dtype=int), "must be an integer"),
    "a name": ("step1", "no segment 'step1' in a prompt without segments; give a span .*Transcript"),
}


@pytest.mark.parametrize(("where", "message"), SPANS.values(), ids=SPANS)
def test_invalid_spans_are_refused(model_of, where, message):
    at = [] if where is None else [Donor((2, 4), OTHER, at=where)]  # without one, the donor gives the same positions
    for edit in (Swap(where, [5, 6]), Donor(where, OTHER), *at):
        for use in (model_of("clt").intervene, model_of("clt").generate):
            with pytest.raises(ArgumentError, match=message) as refused:
                use(IDS, edit)
            assert str(edit).split("(")[0] in str(refused.value)
    with pytest.raises(ArgumentError, match=message):
        model_of("clt").intervene(IDS, {}, regenerate=where if where is not None else 1.5)


IMPOSSIBLE = {
    "longer donor": (Donor((1, 3), LONGER), "donor has 14 tokens and the prompt 11, .* at=.*donor of the same length"),
    "shorter donor": (Donor((1, 3), IDS[:6]), "donor has 6 tokens and the prompt 11"),
    "at of another length": (Donor((1, 3), LONGER, at=(1, 4)), "the span has 2 tokens and at= has 3"),
    "at outside": (Donor((1, 3), IDS[:4], at=(3, 5)), "outside the prompt of 4 tokens"),
    "at by name": (Donor((1, 3), LONGER, at="step1"), "at: no segment 'step1' .* or a Transcript as from_prompt"),
    "no donor": (Donor((1, 3), None), "from_prompt: a prompt is a text"),
    "empty donor": (Donor((1, 3), []), "from_prompt: the prompt is empty"),
    "donor outside the vocabulary": (
        Donor((1, 3), [*IDS[:-1], 40]),
        "from_prompt: token id 40 is outside the vocabulary",
    ),
    "donor as text": (Donor((1, 3), TEXT), "from_prompt: .*no tokenizer"),
    "no such layer": (Donor((1, 3), OTHER, layers=[0, LAYERS]), "has no layer 3; its layers are 0 … 2"),
    "negative layer": (Donor((1, 3), OTHER, layers=[-1]), "has no layer -1"),
    "at the end": (Donor((7, P), OTHER), "would change nothing: end at 10, or use model.generate"),
    "last position": (Donor(-1, OTHER, "values"), "ends with the prompt"),
    "all": (Donor((0, P), OTHER, "keys"), "ends with the prompt"),
    "more tokens": (Swap((1, 3), [5, 6, 7]), "3 tokens, .*, cannot replace 2 tokens, .*: the prompt keeps its length"),
    "fewer tokens": (Swap((1, 3), 5), "1 token, '<5>', cannot replace 2 tokens"),
    "outside the vocabulary": (Swap((1, 3), [5, 40]), r"Swap\(\(1, 3\), \(5, 40\)\): token id 40 is outside"),
    "text without a tokenizer": (Swap((1, 3), " hot cold"), "no tokenizer"),
    "two swaps": (
        [Swap((1, 3), [5, 6]), Swap(2, 7)],
        r"Swap\(\(1, 3\), .*Swap\(2, .* both edit the token at position 2",
    ),
    "a swap and a token": ([Swap((1, 3), [5, 6]), {Token(2): ablate()}], "both edit the token at position 2"),
    "a token and a swap": ([{Token([2, 4]): replace_with(5)}, Swap(4, 6)], "both edit the token at position 4"),
    "two donors": ([Donor((1, 4), OTHER), Donor((3, 5), IDS)], "both edit the keys of layer 0 at position 3"),
    "kv and values": ([Donor((1, 4), OTHER), Donor(3, IDS, "values")], "both edit the values of layer 0 at position 3"),
    "residual": (
        [Donor(3, OTHER, "residual"), Donor((2, 5), IDS, "residual", layers=[1])],
        "residual stream after layer 1",
    ),
    "residual and direction": (
        [Donor(3, OTHER, "residual"), {Direction(1, torch.ones(WIDTH), 3): add(1)}],
        "both edit the residual stream after layer 1 at position 3",
    ),
    "features": (
        [{Feature(1, 3, 4): ablate()}, {Feature(1, 3, [4, 5]): add(1)}],
        "both edit feature 3 of layer 1 at position 4",
    ),
    "nested": ([Swap(2, 5), [Swap(3, 6)]], "nested too deep"),
    "a text": ([Swap(2, 5), "swap"], "a Swap, a Donor, or a list of these, not 'swap'"),
}


@pytest.mark.parametrize(("edits", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_edits_are_refused(model_of, edits, message):
    with pytest.raises(CotraceError, match=message) as refused:
        model_of("clt").intervene(IDS, edits)
    assert "\n" not in str(refused.value)
    if "use model.generate" not in message and "ends with" not in message:
        with pytest.raises(CotraceError, match=message):
            model_of("clt").generate_many(IDS, [edits], max_new_tokens=1)


def test_donors_without_effect_on_frozen_patterns_are_refused(model_of):
    model = model_of("clt")
    for freeze in ("attention", "all"):
        for what, cure in (("kv", 'what="values"'), ("keys", 'freeze="none"'), ("queries", 'freeze="none"')):
            with pytest.raises(
                ArgumentError, match=f"no effect where attention patterns are frozen, as in layer 1.*{cure}"
            ):
                model.intervene(IDS, Donor((1, 3), OTHER, what, layers=[2, 1]), freeze=freeze)
            result = model.intervene(IDS, Donor((1, 3), OTHER, what, layers=[1]), freeze=freeze, layers=[0, 2])
            assert not torch.equal(result.logits, result.logits_before)
        result = model.intervene(IDS, Donor((1, 3), OTHER, "residual"), freeze=freeze)
        assert not torch.equal(result.logits, result.logits_before)


REGENERATE = {
    "the first": ((0, 3), "position 0, which nothing predicts"),
    "a swapped one": ([3, 4, 5], r"regenerate= and Swap\(.* both change position 4"),
    "a donor's": ((6, 8), r"regenerate= and Donor\(.* both change position 6:8"),
    "a replaced one": (9, "regenerate= and token@9 both change position 9"),
    "an unknown name": (["a", "b"], "has no segment 'b'; name one of 'a', or give a span"),
    "a name": ("step", "has no segment 'step'; name one of 'a'"),
    "nothing": ([], "is empty"),
}


@pytest.mark.parametrize(("regenerate", "message"), REGENERATE.values(), ids=REGENERATE)
def test_impossible_regenerations_are_refused(model_of, regenerate, message):
    edits = [Swap(4, 9), Donor((6, 8), OTHER, "residual"), {Token(9): replace_with(5)}]
    for use in (model_of("clt").intervene, model_of("clt").generate):
        with pytest.raises(ArgumentError, match=message):
            use(IDS, edits, regenerate=regenerate, segments={"a": (1, 3)})


def test_later_needs_an_edit_and_a_position_after_it(model_of):
    model = model_of("clt")
    with pytest.raises(ArgumentError, match="there is none: name a span"):
        model.intervene(IDS, {}, regenerate="later")
    for edits in (Swap((3, P), IDS[3:]), [Swap(8, 5), Swap((9, P), [5, 6])]):
        with pytest.raises(ArgumentError, match="no position after the edit is left"):
            model.intervene(IDS, edits, regenerate="later")


# By text and by name.


def test_a_text_is_tokenized_in_its_place(worded):
    swap = worded.intervene(TEXT, Swap(4, " cold"))
    assert torch.equal(swap.logits, worded.logits("The opposite of cold is cold"))
    assert swap.edited_text == "<bos>The opposite of cold is cold"
    assert swap.token_ids == worded.tokenize(TEXT)
    assert torch.equal(
        worded.intervene(TEXT, Swap((3, 5), " hot of")).logits, worded.logits("The opposite hot of is cold")
    )
    donor = worded.intervene(TEXT, Donor((1, 6), "The opposite of cold is cold"))
    assert torch.allclose(donor.logits[-1], worded.logits("The opposite of cold is cold")[-1])


TEXTS = {
    "more words": (Swap(4, " hot cold"), "2 tokens, ' hot' ' cold', cannot replace 1 token, ' hot'"),
    "a token that straddles": (Swap((3, 5), " ofhot"), "cannot replace 2 tokens, ' of' ' hot'"),
    "without its space": (
        Swap((4, 6), "cold is"),
        "split into other tokens, which straddle the ends .*the span is ' hot is'",
    ),
    "a gap": (Swap([2, 4], "hotcold"), "1 token, .* cannot replace 2 tokens"),
    "an unknown word": (Swap(4, " warm"), "does not know all of this text"),
    "surrogates": (Swap(4, " \udcff"), "not valid Unicode"),
}


@pytest.mark.parametrize(("swap", "message"), TEXTS.values(), ids=TEXTS)
def test_texts_that_do_not_fit_are_refused(worded, swap, message):
    with pytest.raises(CotraceError, match=message) as refused:
        worded.intervene(TEXT, swap)
    assert str(refused.value).startswith("Swap(")
    assert "\n" not in str(refused.value)


def test_a_text_without_the_space_of_the_span_is_warned_of(worded):
    with pytest.warns(CotraceWarning, match=r"joins it to the word before it: did you mean ' hot'\?"):
        worded.intervene("The\n opposite", Swap(3, "hot"))


def test_ids_are_taken_as_they_are(worded):
    ids = worded.tokenize("hot cold")[1:2]  # "hot" without its space, which the tokenizer would not put here
    result = worded.intervene(TEXT, Swap(4, ids))
    assert result.edited_text == "<bos>The opposite ofhot is cold"
    assert worded.intervene(TEXT, Swap(np.int64(4), torch.tensor(ids))).edited_token_ids == result.edited_token_ids


def transcript(*texts: str) -> Transcript:
    roles = ("question", "step", "step", "answer")
    return Transcript(list(zip(roles, texts or ("The opposite", " of hot", " is", " cold"), strict=True)))


def test_segments_of_transcripts_are_names(worded):
    prompt, other = transcript(), transcript("The opposite", " of cold", " is", " cold")
    swap = worded.intervene(prompt, Swap("step1", " of cold"))
    assert torch.equal(swap.logits, worded.logits(other))
    for donor in (Donor("step1", other), Donor("step1", TEXT.replace("hot", "cold")), Donor((3, 5), other, at="step1")):
        assert torch.equal(
            worded.intervene(prompt, donor).logits,
            worded.intervene(TEXT, Donor((3, 5), other.tokenize(worded).token_ids)).logits,
        )
    longer = transcript("The opposite opposite", " of cold", " is", " cold")
    with pytest.raises(ArgumentError, match="the donor has 8 tokens and the prompt 7"):
        worded.intervene(prompt, Donor("step1", longer))
    assert worded.intervene(prompt, Donor("step1", longer, at="step1")).kl() > 0
    elsewhere = transcript("The", " opposite of", " hot is", " cold")
    with pytest.raises(
        ArgumentError, match=r"segment 'step1' is at 3:5 in the prompt and at 2:4 in the donor: .*at='step1'"
    ):
        worded.intervene(prompt, Donor("step1", elsewhere))
    with pytest.raises(ArgumentError, match="no segment 'step3'; name one of 'question', 'step1', 'step2', 'answer'"):
        worded.intervene(prompt, Swap("step3", " of"))
    rewritten = worded.intervene(prompt, Swap("step1", " of cold"), regenerate=["step2", "answer"])
    assert rewritten.edited_token_ids[:5] == other.tokenize(worded).token_ids[:5]
    assert (
        rewritten.edited_token_ids
        == worded.intervene(prompt, Swap("step1", " of cold"), regenerate="later").edited_token_ids
    )
    assert (
        worded.generate(prompt, Swap("step1", " of cold"), max_new_tokens=2).edited_prompt_ids == swap.edited_token_ids
    )
    named = worded.intervene(prompt, Swap("word", " cold"), segments={"word": [4]})
    assert torch.equal(named.logits, swap.logits)
    with pytest.raises(ArgumentError, match="has a segment 'step1' already"):
        worded.intervene(prompt, {}, segments={"step1": (1, 3)})


@pytest.mark.filterwarnings("ignore::cotrace.CotraceWarning")
def test_segments_that_share_a_token_are_refused(worded):
    shared = transcript("The oppo", "site of hot", " is", " cold")
    for edit in (Swap("step1", "site of cold"), Donor("step1", shared), Donor((3, 5), shared, at="step1")):
        with pytest.raises(
            ArgumentError, match=r"'step1' shares the token ' opposite' with its neighbour: move the boundary"
        ):
            worded.intervene(shared, edit)
    assert worded.intervene(shared, Swap("step2", " of")).kl() > 0


def test_edits_have_short_texts():
    swap, donor = Swap(range(9, 999_999), list(range(100_000))), Donor((3, 5), [*range(100_000)], "keys")
    assert len(str(swap)) < 200
    assert len(str(donor)) < 200
    assert re.fullmatch(r"Donor\(\(3, 5\), \[0, .*\], 'keys'\)", str(donor))
    assert cotrace.Swap is Swap
