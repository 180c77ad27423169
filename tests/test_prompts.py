"""Prompts: texts, ids and chats become exactly the expected token ids."""

import shutil

import numpy as np
import pytest
import torch
from tiny_checkpoints import SPECIALS, WORDS, write_tokenizer

import cotrace
from cotrace.attribution.models.tokenizer import PromptTokenizer

ID = {word: number for number, word in enumerate((*SPECIALS, *WORDS))}
TEXT = "The opposite of hot is"
TEXT_IDS = [ID[word] for word in ("The", " opposite", " of", " hot", " is")]
BOS = ID["<bos>"]
OPENING = [BOS, ID["<start_of_turn>"], ID["user"], ID["\n"]]
QUESTION = {"role": "user", "content": "The opposite"}
ANSWER = {"role": "assistant", "content": "hot"}


@pytest.fixture(scope="module")
def model(model_folder, tmp_path_factory):
    folder = shutil.copytree(model_folder, tmp_path_factory.mktemp("worded") / "model")
    return cotrace.load(write_tokenizer(folder), "neurons:2", device="cpu")


@pytest.fixture
def no_template(tmp_path):
    from transformers import AutoTokenizer

    return PromptTokenizer(AutoTokenizer.from_pretrained(write_tokenizer(tmp_path, chat_template=None)), 40, BOS)


@pytest.mark.parametrize("text", [TEXT, f"<bos>{TEXT}"])
def test_a_text_gets_bos_once(model, text):
    assert model.tokenize(text) == [BOS, *TEXT_IDS]


def test_two_written_bos_are_kept(model):
    assert model.tokenize(f"<bos><bos>{TEXT}") == [BOS, BOS, *TEXT_IDS]


@pytest.mark.parametrize(
    "prompt",
    [
        TEXT_IDS,
        tuple(TEXT_IDS),
        torch.tensor(TEXT_IDS),
        torch.tensor(TEXT_IDS, dtype=torch.uint8),
        np.array(TEXT_IDS),
        np.array(TEXT_IDS, dtype=np.uint16),
        np.array(TEXT_IDS[::-1])[::-1],
        [np.int64(token) for token in TEXT_IDS],
    ],
    ids=["list", "tuple", "tensor", "uint8", "array", "uint16", "reversed", "numpy integers"],
)
def test_ids_are_used_as_given(model, prompt):
    ids = model.tokenize(prompt)
    assert ids == TEXT_IDS
    assert {type(token) for token in ids} == {int}


@pytest.mark.parametrize(
    "prompt",
    [
        torch.tensor([TEXT_IDS]),
        torch.tensor(7),
        torch.tensor([1.0, 2.0]),
        torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.tensor([1j]),
        np.array([1.0]),
        np.array([True]),
        np.array(["The"]),
        np.array([[1, 2]]),
    ],
    ids=lambda prompt: f"{prompt.dtype}-{prompt.ndim}",
)
def test_tensors_that_are_not_ids_are_refused(model, prompt):
    with pytest.raises(ValueError, match="must be 1-D token ids"):
        model.tokenize(prompt)


@pytest.mark.parametrize(
    "prompt", [[True, False], [1.0, 2.0], ["The"], [[1, 2]], b"The", None, 7, {"role": "user"}, [QUESTION, "hot"], {7}]
)
def test_other_things_are_refused(model, prompt):
    with pytest.raises(ValueError, match="a prompt is a text, a list"):
        model.tokenize(prompt)


@pytest.mark.parametrize("prompt", ["", [], (), torch.tensor([], dtype=torch.long), np.array([], dtype=int)])
def test_empty_prompts_are_refused(model, prompt):
    with pytest.raises(ValueError, match="empty"):
        model.tokenize(prompt)


@pytest.mark.parametrize("bad", [-1, 40, 2**70])
def test_ids_outside_the_vocabulary_are_refused(model, bad):
    with pytest.raises(ValueError, match=f"token id {bad} is outside the vocabulary of 40"):
        model.trace([2, bad])


def test_a_chat_follows_the_template(model):
    asked = [*OPENING, ID["The"], ID[" opposite"], ID["<end_of_turn>"], ID["\n"]]
    reply = [ID["<start_of_turn>"], ID["model"], ID["\n"]]
    assert model.tokenize([QUESTION]) == [*asked, *reply]
    continued = model.tokenize([QUESTION, ANSWER])
    assert continued == [*asked, *reply, ID["hot"]]  # an answer is continued, not closed
    assert continued.count(BOS) == 1


def test_the_constant_prefix_of_a_chat_is_masked(model):
    def masked(prompt, **options):
        graph = model.trace(prompt, **options)
        assert not set(graph.column("position")[graph.order.features]) & set(graph.info["masked_positions"])
        return graph.info["masked_positions"]

    assert masked([QUESTION]) == [0, 1, 2, 3]
    assert masked(model.tokenize([QUESTION])) == [0, 1, 2, 3]  # recognised by its ids alone
    assert masked([QUESTION], masked_positions=[]) == [0]
    assert masked(TEXT) == [0]
    assert masked(OPENING) == [0, 1, 2, 3]
    assert masked(OPENING[:3]) == [0]
    assert masked([BOS, ID["<start_of_turn>"], ID["model"], ID["\n"], 8]) == [0]
    assert masked([BOS, 3, 3, 3, 8]) == [0]  # unknown tokens are not the opening


def test_chats_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match="does not fit the model's template: roles are user and assistant"):
        model.tokenize([{"role": "king", "content": "hot"}])
    for message in ({"role": "user"}, {"content": "hot"}, {}):
        with pytest.raises(ValueError, match="needs a role and content"):
            model.tokenize([QUESTION, ANSWER, message])


def test_a_chat_needs_a_template(no_template):
    with pytest.raises(ValueError, match="no chat template"):
        no_template.encode([QUESTION])
    assert no_template.encode(TEXT) == [BOS, *TEXT_IDS]


def test_a_target_is_one_token(model):
    assert model.trace(TEXT, targets=[" cold"]).info["targets"][0]["token_ids"] == [ID[" cold"]]
    with pytest.raises(ValueError) as caught:
        model.trace(TEXT, targets=[" hot cold"])
    message = str(caught.value)
    for piece in (" hot", " cold"):
        assert f"{piece!r} ({ID[piece]})" in message
    with pytest.raises(ValueError, match="no token"):
        model.trace(TEXT, targets=[""])
    with pytest.raises(ValueError, match="outside the vocabulary"):
        model.trace(TEXT, targets=[40])


def test_tokens_have_texts(model):
    assert model.trace(TEXT).info["tokens"] == ["<bos>", "The", " opposite", " of", " hot", " is"]
    assert model.tokenizer.decode_token(39) == "<39>"  # the model has more tokens than its tokenizer
