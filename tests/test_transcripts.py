"""Transcripts: segments, values, tokens."""

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.faithfulness.transcripts import Transcript

CHAIN = [
    ("question", " start v17 , +3"),
    ("hint", " ; hint v9"),
    ("step", " ; so v20", "", "v20"),
    ("step", " ; so v11", "", "v11"),
    ("answer", " ; answer v11", "", "v11"),
]


def word_tokenizer(text: str, pattern: str = r" ?\S+|\s+", bos: int | None = 0) -> PromptTokenizer:
    """Return a tokenizer that knows the words of a text; a word holds the space before it."""
    pre = pre_tokenizers.Split(Regex(pattern), "isolated")
    words = dict.fromkeys(["<bos>", "<unk>", *(word for word, _ in pre.pre_tokenize_str(text))])
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", unk_token="<unk>")
    return PromptTokenizer(fast, len(words), bos)


def test_segments_of_a_chain():
    transcript = Transcript(CHAIN, values=["v20", " v11", "v6"])
    tokenizer = word_tokenizer(transcript.text + " v6")
    tokens = transcript.tokenize(tokenizer)
    assert tokens.token_ids == tokenizer.encode(transcript.text) == tokenizer.encode(transcript)
    assert tokens.spans == {"question": (1, 5), "hint": (5, 8), "step1": (8, 11), "step2": (11, 14), "answer": (14, 17)}
    assert tokens.value_spans == {"step1": (10, 11), "step2": (13, 14), "answer": (16, 17)}
    assert tokens.read_position("step2") == 12
    assert tokens.straddling == []
    assert [tokenizer.decode(ids) for ids in tokens.alternatives] == [" v20", " v11", " v6"]
    assert [tokenizer.decode(ids) for ids in tokens.foils("answer")] == [" v20", " v6"]


def test_effects_take_the_segments_of_a_transcript(worded):
    words = [worded.tokenizer.decode_token(number) for number in range(8, 14)]
    transcript = Transcript([("question", "".join(words[:3])), ("step", "".join(words[3:])), ("answer", words[0])])
    tokens = transcript.tokenize(worded)
    found = worded.effects(transcript, [words[1]], avoiding="step")
    expected = worded.effects(tokens.token_ids, [words[1]], avoiding="step", segments=tokens.spans)
    assert found.info["settings"] == expected.info["settings"]
    assert list(found.info["settings"]["segments"]) == ["question", "step", "answer"]
    assert found.ledger.equals(expected.ledger)
    assert torch.equal(worded.logits(transcript), worded.logits(transcript.text))
    assert len(worded.generate_many([transcript, transcript], max_new_tokens=1)) == 2
