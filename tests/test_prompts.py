"""Prompts: texts, ids and chats become exactly the expected token ids."""

import copy
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


@pytest.mark.parametrize("text", ["a \ud800", "\udc00\ud800", "caf\udce9"])
def test_invalid_unicode_is_refused_wherever_it_stands(model, text):
    for use in (
        lambda: model.tokenize(text),
        lambda: model.tokenize([{"role": "user", "content": text}]),
        lambda: model.tokenize([QUESTION, {"role": "assistant", "content": text}]),
        lambda: model.tokenize([{"role": text, "content": "hot"}]),
        lambda: model.trace(TEXT, targets=[text]),
        lambda: model.trace(TEXT, targets=[("hot", text)]),
        lambda: model.generate(text),
        lambda: cotrace.load(text),
        lambda: cotrace.load(f"{text}.gguf"),
        lambda: cotrace.load("gemma-3-270m", text),
    ):
        with pytest.raises(cotrace.CotraceError, match="is not valid Unicode") as caught:
            use()
        assert str(caught.value).isascii()
        assert "\n" not in str(caught.value)


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


# As tokenizers of released models have them: each writes {{ bos_token }} and a turn for each message.
TURN = "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
REPLY = "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
END = "{{ '<end_of_turn>\n' }}"
CONTENTS = {
    "as it is": "{{ m.content }}",
    "trimmed": "{{ m.content | trim }}",
    "blocks": "{% if m.content is string %}{{ m.content | trim }}{% else %}{% for block in m.content %}{{ block.text | trim }}"
    "{% endfor %}{% endif %}",
    "trimmed on the left": "{{ m.content.lstrip() }}",
    "without reasoning": "{{ m.content.split('hot')[-1] if m.role == 'assistant' else m.content }}",
    "empty ones skipped": "{% if m.content %}{{ m.content }}{% endif %}",
    "user only": "{% if m.role == 'user' %}{{ m.content }}{% endif %}",
    "twice": "{{ m.content }}{{ m.content }}",
    "capitals": "{{ m.content | upper }}",
}


def with_template(model, content, end=END):
    tokenizer = copy.deepcopy(model.tokenizer.hf_tokenizer)
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}" + TURN + content + end + "{% endfor %}" + REPLY
    return PromptTokenizer(tokenizer, 40, BOS)


def encode(tokenizer, chat):
    """Return the text that is traced, or "refused"."""
    try:
        return tokenizer.decode(tokenizer.encode(chat))
    except cotrace.CotraceError:
        return "refused"


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("role", ["assistant", "model"])
@pytest.mark.parametrize("text", ["hot", "", " hot", "hot ", "hot\n", "\n", " \n hot is\n\n"])
def test_a_partial_answer_ends_where_it_was_written(model, content, role, text):
    asked = "<bos><start_of_turn>user\nThe opposite<end_of_turn>\n<start_of_turn>model\n"
    expected = model.tokenizer.decode(model.tokenizer.encode(asked + text))
    found = encode(with_template(model, CONTENTS[content]), [QUESTION, {"role": role, "content": text}])
    cut = content == "without reasoning" and role == "assistant" and "hot" in text
    assert found == ("refused" if cut or content in ("user only", "twice", "capitals") else expected)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("text", ["hot", " hot", "hot\n", "hot "])
def test_a_users_message_is_traced_as_written_or_refused(model, content, text):
    """`--chat` wraps the prompt as such a message."""
    found = encode(with_template(model, CONTENTS[content]), [{"role": "user", "content": text}])
    expected = f"<bos><start_of_turn>user\n{text}<end_of_turn>\n<start_of_turn>model\n"
    assert found in ("refused", model.tokenizer.decode(model.tokenizer.encode(expected)))
    assert found != "refused" or text != text.strip() or content in ("capitals", "twice")


def test_changed_earlier_messages_are_refused(model):
    trimmed = with_template(model, CONTENTS["trimmed"])
    assert encode(trimmed, [QUESTION, ANSWER, QUESTION]) != "refused"
    assert encode(trimmed, [QUESTION, {**ANSWER, "content": "hot\n"}, QUESTION]) == "refused"
    assert encode(trimmed, [{**QUESTION, "content": "hot "}, ANSWER]) == "refused"


def test_contents_in_blocks(model):
    def blocks(*texts):
        return [{"type": "text", "text": text} for text in texts]

    tokenizer = with_template(model, CONTENTS["blocks"])
    for partial in (["hot "], ["hot ", "\ncold\n"], [""]):
        chat = [{**QUESTION, "content": blocks("The opposite")}, {**ANSWER, "content": blocks(*partial)}]
        assert tokenizer.encode(chat) == tokenizer.encode([QUESTION, {**ANSWER, "content": "".join(partial)}])
    with pytest.raises(cotrace.CotraceError, match="images cannot be traced"):
        tokenizer.encode([{**QUESTION, "content": [{"type": "image", "url": "x.png"}]}])


def test_generate_continues_a_partial_answer(model):
    chat = [QUESTION, {**ANSWER, "content": "hot "}]
    ids = model.tokenize(chat)
    assert model.tokenizer.decode(ids).endswith("model\nhot<unk>")  # the space is a token, which this vocabulary lacks
    from_ids, from_chat = (model.generate(prompt, max_new_tokens=3, temperature=0) for prompt in (ids, chat))
    assert from_ids.token_ids == from_chat.token_ids


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
