"""Tokens that were perhaps meant to be spelt otherwise: a warning where another spelling is far likelier."""

import json
import re
import warnings

import pytest
import torch
from tiny import VOCABULARY, prompt
from tiny_checkpoints import SPECIALS, WORDS, write_tokenizer
from transformers import AutoTokenizer

import cotrace
from cotrace import CotraceWarning, Feature, Token, replace_with
from cotrace.attribution.models.spelling import warn_of_likelier_spellings
from cotrace.attribution.models.tokenizer import PromptTokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPT = " hot of"  # the model of these tests continues it with " cold", and hardly ever with "cold"
SPELLINGS = ("cold", " cold", "Cold", " Cold", "COLD", "warm", " the")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = write_tokenizer(tmp_path_factory.mktemp("spellings"), words=SPELLINGS)
    return PromptTokenizer(AutoTokenizer.from_pretrained(folder), VOCABULARY, 2)


@pytest.fixture(scope="module")
def meant(worded):
    """Return the end of the warning for "cold" after `PROMPT`."""
    probability_V = worded.logits(PROMPT)[-1].softmax(-1)
    own, best = (float(probability_V[worded.tokenizer.token_id(text)]) for text in ("cold", " cold"))
    assert best > max(0.01, 10 * own)
    return f"the token 'cold' has a probability of {own:.1%}; did you mean ' cold' ({best:.1%})?"


def warnings_of(call):
    """Return the texts of all warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(each.category is CotraceWarning for each in caught)
    return [str(each.message) for each in caught]


@pytest.mark.parametrize(
    ("named", "likely", "expected"),
    [
        ("cold", {" cold": 0.594}, ["the token 'cold' has a probability of 0.0%; did you mean ' cold' (59.4%)?"]),
        (" cold", {"cold": 0.3}, ["the token ' cold' has a probability of 0.0%; did you mean 'cold' (30.0%)?"]),
        ("cold", {" cold": 0.2, " Cold": 0.4}, ["the token 'cold' has a probability of 0.0%; did you mean ' Cold' (40.0%)?"]),
        ("cold", {"COLD": 0.02}, ["the token 'cold' has a probability of 0.0%; did you mean 'COLD' (2.0%)?"]),
        ("Cold", {" cold": 0.5, "Cold": 0.05}, ["the token 'Cold' has a probability of 5.0%; did you mean ' cold' (50.0%)?"]),
        ("Cold", {" cold": 0.5, "Cold": 0.06}, []),
        ("cold", {" cold": 0.009}, []),
        ("cold", {"warm": 0.9}, []),
        ("warm", {" cold": 0.9}, []),
    ],
)  # fmt: skip
def test_a_far_likelier_spelling_is_named(tokenizer, named, likely, expected):
    probability_V = torch.full((VOCABULARY,), 1e-5, dtype=torch.float64)
    for text, value in likely.items():
        probability_V[tokenizer.token_id(text)] = value
    ids = [tokenizer.token_id(named)] * 2
    assert warnings_of(lambda: warn_of_likelier_spellings(ids, tokenizer, probability_V)) == expected


def test_tokens_without_letters_or_texts_have_no_other_spelling(tokenizer, model_of):
    for text in ("\n", " ", "", "<bos>", "warm", " the"):
        assert tokenizer.other_spellings(text) == []
    assert model_of("clt").tokenizer.other_spellings("cold") == []
    found = map(tokenizer.decode_token, tokenizer.other_spellings(" cOLD"))
    assert sorted(found) == sorted(text for text in SPELLINGS if text.strip().lower() == "cold")


def test_a_text_that_is_not_a_token_names_its_other_spellings(tokenizer, worded):
    with pytest.raises(ValueError, match=r"'warm cold' is not one token but .*; choose one of them"):
        tokenizer.token_id("warm cold")
    with pytest.raises(ValueError, match=r"'cold ' is not one token but .*; did you mean ' cold' or 'cold'\?"):
        tokenizer.token_id("cold ")


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        (["cold"], 1),
        ([(" hot", "cold")], 1),
        (["cold", ("cold", " is")], 1),
        ([(*SPECIALS, *WORDS).index("cold")], 1),
        ([" cold"], 0),
        ([(" cold", " is")], 0),
        (None, 0),
    ],
)
def test_traces_and_plans_warn_of_targets(worded, meant, targets, count):
    for call in (worded.trace, worded.plan):
        assert warnings_of(lambda call=call: call(PROMPT, targets, progress=False)) == [meant] * count


def test_several_positions_warn_once_of_mean_probabilities(worded):
    probability_PV = worded.logits(PROMPT).softmax(-1)
    own, best = (float(probability_PV[1:, worded.tokenizer.token_id(text)].mean()) for text in ("cold", " cold"))
    (found,) = warnings_of(lambda: worded.trace(PROMPT, ["cold"], position=[1, 2], progress=False))
    assert found == f"the token 'cold' has a probability of {own:.1%}; did you mean ' cold' ({best:.1%})?"


def test_other_targets_do_not_warn(model_of):
    model = model_of("clt")
    row = model.active_features(prompt()).to_pylist()[-1]
    feature = Feature(row["layer"], row["feature"], row["position"])
    for targets, options in (([feature], {}), ("next", {"position": [3, 4]}), ([torch.ones(20)], {}), ([5], {})):
        assert warnings_of(lambda t=targets, o=options: model.trace(prompt(), t, progress=False, **o)) == []


def test_the_warning_is_at_the_line_of_the_call(worded):
    with pytest.warns(CotraceWarning) as caught:
        worded.trace(PROMPT, ["cold"], progress=False)
    assert caught[0].filename == __file__


def test_a_patch_warns_of_the_token_that_is_compared(worded):
    patched = worded.patch(PROMPT, " hot is", [Token(2)])
    with pytest.warns(CotraceWarning, match=r"the token 'cold' has .*; did you mean ' cold'"):
        patched.recovered("cold")
    assert warnings_of(lambda: patched.recovered(" cold")) == []
    assert warnings_of(lambda: worded.intervene(PROMPT, {Token(1): replace_with("cold")})) == []


def test_a_batch_records_warnings_and_shows_the_first(worded, meant, tmp_path):
    rows = [{"prompt": PROMPT, "id": "a"}, {"prompt": " hot is", "id": "b", "targets": [" cold"]}]
    rows += [{"prompt": PROMPT, "id": "c"}]
    found = warnings_of(lambda: cotrace.trace_many(rows, tmp_path, model=worded, targets=["cold"], progress=False))
    assert found == [f"prompt 'a': {meant}; warnings of 1 more: {tmp_path / '_prompts.jsonl'}"]
    records = map(json.loads, (tmp_path / "_prompts.jsonl").read_text().splitlines())
    assert {record["id"]: record.get("warnings") for record in records} == {"a": [meant], "b": None, "c": [meant]}


def test_the_command_line_prints_one_line(command, worded, meant, tmp_path):
    model = ["--model", worded.source.name, "--transcoders", "neurons:5", "--device", "cpu", "--dtype", "float64"]
    for targets in (["--targets", "cold"], ["--targets", "diff:cold| is"]):
        status, _, errors = command("trace", PROMPT, *model, *targets, "--out", tmp_path)
        assert status == 0
        lines = [line for line in errors.splitlines() if "mean" in line]
        assert lines == [f"warning: {meant}"]
        assert not re.search(r"Warning:|\.py", errors)
