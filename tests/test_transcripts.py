"""Transcripts: segments, values, and the tokens of each."""

import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import cotrace
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.common.errors import ArgumentError, CotraceWarning, PromptError
from cotrace.faithfulness.transcripts import Segment, Transcript, last_number

CHAIN = [
    ("question", " start v17 , +3"),
    ("hint", " ; hint v9"),
    ("step", " ; so v20", "", "v20"),
    ("step", " ; so v11", "", " v11"),
    ("answer", " ; answer v11", "", "v11"),
]


def words_of(*texts: str, pattern: str = r" ?\S+|\s+", bos: int | None = 0) -> PromptTokenizer:
    """Return a tokenizer whose tokens are the matches of a pattern in some texts."""
    pre = pre_tokenizers.Split(Regex(pattern), "isolated")
    words = dict.fromkeys(["<bos>", "<unk>", *(word for text in texts for word, _ in pre.pre_tokenize_str(text))])
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre, decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", unk_token="<unk>")
    return PromptTokenizer(fast, len(words), bos)


@pytest.fixture(scope="module")
def bytes_of():
    """Return a tokenizer of bytes, in which characters have several tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({"<bos>": 0, **{sign: n for n, sign in enumerate(alphabet, 1)}}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PromptTokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>"), 257, 0)


# --- segments -----------------------------------------------------------------------------------


def test_names_are_roles_with_numbers_where_several_have_one():
    transcript = Transcript(CHAIN)
    assert transcript.names == ("question", "hint", "step1", "step2", "answer")
    assert [step.text for step in transcript.steps] == [" ; so v20", " ; so v11"]
    assert transcript.answer == transcript["answer"] == Segment("answer", " ; answer v11", "answer", "v11")
    assert transcript.without("step1", "hint").names == ("question", "step2", "answer")
    assert transcript.until("step1").names == ("question", "hint", "step1")
    assert transcript.before("step1").names == ("question", "hint")
    assert Transcript([{"role": "step", "text": "a", "name": "first"}, ("step", "b")]).names == ("first", "step2")
    assert Transcript([("text", "a")]).answer is None
    assert transcript == Transcript(transcript.segments)
    assert hash(transcript) == hash(Transcript(CHAIN))
    assert transcript != Transcript(CHAIN, values=["v1"])


@pytest.mark.parametrize(
    ("text", "value", "start"),
    [
        ("4 and 4", "4", 6),
        ("4, not 14", "4", 0),  # the last one is part of a number
        ("v1 v17", "v1", 0),
        ("so 4.", " 4", 3),  # white space does not count
        ("答案是四十二", "十", 4),  # always in a word
        ("aaa", "aa", 1),
        ("-5 and -5", "-5", 7),
        ((1, 2, 3, 2, 3), (2, 3), 3),
    ],
)
def test_a_value_is_the_last_one_that_stands_alone(text, value, start):
    segment = Segment("step", text, value=value)
    length = len(value.strip()) if isinstance(value, str) else len(value)
    assert segment.value_range == (start, start + length)


def test_values_and_texts_are_replaced_in_copies():
    transcript = Transcript(CHAIN)
    changed = transcript.with_value("step2", " v7")
    assert (changed["step2"].text, changed["step2"].value) == (" ; so v7", " v7")
    assert transcript["step2"].text == " ; so v11"
    assert transcript.with_value("step1", " v7")["step1"].text == " ; so v7"  # the value was given without its space
    assert transcript.with_value("step2", "v7")["step2"].text == " ; so v7"  # and with it
    assert Transcript([("step", "=4", "", "4")]).with_value("step", " 5")["step"] == Segment("step", "=5", "step", "5")
    assert Transcript([("step", "4 is 4!", "", "4")]).with_value("step", "5")["step"].text == "4 is 5!"
    assert transcript.with_text("step1", "thus v20")["step1"].value == "v20"
    assert transcript.with_text("step1", "thus v21")["step1"].value is None
    assert transcript.with_text("step1", "thus v21", "v21")["step1"].value == "v21"
    ids = Transcript([("step", [4, 5, 6], "", [5])]).with_value("step", [7, 8])
    assert ids["step"] == Segment("step", (4, 7, 8, 6), "step", (7, 8))


def test_a_new_value_stays_in_its_place_where_it_occurs_again():
    transcript = Transcript([("step", "So 5 = 2 + 3", "", "5")])
    changed = transcript.with_value("step", "3")
    assert changed["step"] == Segment("step", "So 3 = 2 + 3", "step", "3", value_start=3)
    assert changed.with_value("step", " 9")["step"] == Segment("step", "So 9 = 2 + 3", "step", " 9")
    tokens = changed.tokenize(words_of("So 3 = 2 + 3"))
    assert tokens.read_position("step") == 1
    assert Segment("step", "3 and 3", value="3", value_start=6) == Segment(
        "step", "3 and 3", value="3"
    )  # the usual place
    assert changed.with_text("step", "3 and 3")["step"].value_range == (6, 7)
    ids = Transcript([("step", [5, 6, 3], "", [5])]).with_value("step", [3])["step"]
    assert (ids.value_range, ids.value_start) == ((0, 1), 0)


def test_a_parser_finds_values():
    transcript = Transcript([("question", "3 + 1?"), ("step", "3 + 1 = 4,", "", "3"), ("answer", "So 1,024.")])
    found = transcript.find_values(last_number)
    assert [segment.value for segment in found] == [None, "3", "1,024"]
    assert transcript.find_values(last_number, roles=["question"])["question"].value == "1"
    assert [last_number(text) for text in ("none", "is -3.5.", "1, 2, and 3,")] == [None, "-3.5", "3"]
    with pytest.raises(ArgumentError, match="does not contain its value '9'"):
        transcript.find_values(lambda text: "9")


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([], "no segment"),
        ("text", "expected a list"),
        ([("thought", "a")], "invalid role 'thought'"),
        ([("step", "")], "the text of a step is empty"),
        ([("step", "\ud800")], "lone surrogates"),
        ([("step", None)], "expected a text, or a list of token ids"),
        ([("step", [1.5])], "must be an integer"),
        ([("step", [True])], "must be an integer"),
        ([("step", [])], "is empty"),
        ([("step",)], "is no segment"),
        ([{"role": "step", "txt": "a"}], "expected role, text"),
        ([("step", "a", "x"), ("answer", "b", "x")], "two segments are called 'x'"),
        ([("step", "a", "step2"), ("step", "b")], "called 'step2'"),
        ([("step", "a", "other")], "choose another name"),
        ([("step", "a", "3")], "choose another name"),
        ([("step", "a", "", "b")], "does not contain its value 'b'"),
        ([("step", "a b", "", " ")], "only white space"),
        ([("step", "4 a", "", "4", 1)], "does not start at 1"),
        ([("step", "4 a", "", None, 0)], "value_start and no value"),
        ([("step", "a", "", [1])], "must be a text, as its text is"),
        ([("step", [1], "", "a")], "must be token ids, as its text is"),
    ],
)
def test_segments_are_refused_in_one_line(segments, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        Transcript(segments)
    assert "\n" not in str(caught.value)


def test_what_a_transcript_lacks_is_refused():
    transcript = Transcript(CHAIN)
    with pytest.raises(ArgumentError, match="no segment is called 'step9': the segments are 'question'"):
        transcript.with_value("step9", "v1")
    with pytest.raises(ArgumentError, match="'question' states no value"):
        transcript.with_value("question", "v1")
    with pytest.raises(ArgumentError, match="must be a text"):
        transcript.with_value("step1", [1])
    with pytest.raises(ArgumentError, match="expected a list of the alternatives"):
        Transcript(CHAIN, values="v1")
    with pytest.raises(ArgumentError, match="nothing stands before 'question'"):
        transcript.before("question")
    with pytest.raises(ArgumentError, match="'step' is given as token ids"):
        _ = Transcript([("step", [1])]).text
    with pytest.raises(ArgumentError, match="invalid role 'steps'"):
        transcript.find_values(last_number, roles=["steps"])


# --- tokens -------------------------------------------------------------------------------------


def test_segments_of_a_chain():
    transcript = Transcript(CHAIN, values=["v20", " v11", "v6"])
    tokenizer = words_of(transcript.text, " v6")
    tokens = transcript.tokenize(tokenizer)
    assert tokens.token_ids == tokenizer.encode(transcript.text) == tokenizer.encode(transcript)
    assert tokens.spans == {"question": (1, 5), "hint": (5, 8), "step1": (8, 11), "step2": (11, 14), "answer": (14, 17)}
    assert tokens.value_spans == {"step1": (10, 11), "step2": (13, 14), "answer": (16, 17)}
    assert tokens.read_position("step2") == 12
    assert tokens.straddling == []
    assert [tokenizer.decode(ids) for ids in tokens.alternatives] == [" v20", " v11", " v6"]
    assert [tokenizer.decode(ids) for ids in tokens.foils("answer")] == [" v20", " v6"]
    with pytest.raises(ArgumentError, match="'hint' is no segment with a value: those with a value are 'step1'"):
        tokens.value_ids("hint")


def test_a_token_belongs_to_the_segment_of_its_first_visible_character():
    tokenizer = words_of("one two three\n\nfour", pattern=r" ?\w+|\s+")
    tokens = Transcript([("question", "one "), ("step", "two thr"), ("answer", "ee\n"), ("text", "\nfour")])
    with pytest.warns(CotraceWarning, match="'step' and 'answer'") as caught:
        tokens = tokens.tokenize(tokenizer)
    assert len(caught) == 1  # shared white space is only listed
    assert tokens.spans == {"question": (1, 2), "step": (2, 4), "answer": (4, 5), "text": (5, 6)}
    assert [tuple(each) for each in tokens.straddling] == [
        (2, " two", "step", ("question",), False),
        (3, " three", "step", ("answer",), True),
        (4, "\n\n", "answer", ("text",), False),
    ]


def test_a_segment_without_a_token():
    tokenizer = words_of("one two")
    assert list(Transcript([("question", "one"), ("text", " "), ("step", "two")]).tokenize(tokenizer).spans) == [
        "question",
        "step",
    ]
    with pytest.raises(PromptError, match="no token begins in the segment 'step'"):
        Transcript([("question", "on"), ("step", "e"), ("answer", " two")]).tokenize(tokenizer)


def test_bos_is_in_no_segment():
    text = words_of("one two")
    assert Transcript([("question", "<bos>one"), ("step", " two")]).tokenize(text).spans == {
        "question": (1, 2),
        "step": (2, 3),
    }
    assert Transcript([("text", "<bos>"), ("step", "one two")]).tokenize(text).spans == {"step": (1, 3)}
    without = words_of("one two", bos=None)
    assert Transcript([("step", "one two")]).tokenize(without).spans == {"step": (0, 2)}
    with pytest.raises(ArgumentError, match="nothing predicts"):
        Transcript([("step", "one", "", "one")]).tokenize(without).read_position("step")


def test_token_ids_are_taken_as_they_are():
    tokenizer = words_of("one two")
    ids = Transcript([("question", [0, 3]), ("step", torch.tensor([2, 3, 2]), "", [2])], values=[[3], "two", "one"])
    tokens = ids.tokenize(tokenizer)
    assert tokens.token_ids == [0, 3, 2, 3, 2]
    assert tokens.spans == {"question": (1, 2), "step": (2, 5)}
    assert tokens.value_spans == {"step": (4, 5)}
    assert tokens.alternatives == [[3], [1], [2]]  # "two" without a space is unknown
    assert Transcript([("step", [2, 3])]).tokenize(tokenizer).spans == {"step": (0, 2)}  # no BOS, as in other prompts
    mixed = Transcript([("question", "one"), ("step", [3, 3]), ("answer", "one two", "", "two")]).tokenize(tokenizer)
    assert mixed.token_ids == [0, 2, 3, 3, 2, 3]
    assert mixed.spans == {"question": (1, 2), "step": (2, 4), "answer": (4, 6)}
    assert mixed.value_spans == {"answer": (5, 6)}
    assert Transcript([("step", [1, 2])]).tokenize(PromptTokenizer(None, 9, None)).spans == {"step": (0, 2)}
    with pytest.raises(PromptError, match="token id 9 is outside the vocabulary"):
        Transcript([("step", [9])]).tokenize(tokenizer)


def test_alternatives_are_tokenized_in_the_place_of_the_last_value():
    tokenizer = words_of("x=41 41 is 41. 5", pattern=r" ?\d| ?\w+|\S")
    spelled = Transcript([("step", "x=41", "", "41"), ("answer", " is 41.", "", "41")], values=["41", " 5", "44"])
    tokens = spelled.tokenize(tokenizer)
    assert [tokenizer.decode(ids) for ids in tokens.alternatives] == [" 41", " 5", " 44"]
    assert tokens.alternatives[0] == tokens.value_ids("answer") != tokens.value_ids("step")
    assert tokens.foils("answer") == tokens.alternatives[1:]


def test_a_value_that_shares_a_token_is_refused():
    tokenizer = words_of("so 14. is 4")
    with pytest.raises(PromptError, match=r"the value '14' of 'step' shares the token '14\.' with other text"):
        Transcript([("step", "so 14.", "", "14")]).tokenize(tokenizer)
    with pytest.raises(PromptError, match=r"the alternative '5' shares the token '5\.'"):
        Transcript([("step", "so 14.", "", "14")], values=["5"]).tokenize(words_of("so 14.", pattern=r"5\.|\w+| |\."))
    assert Transcript([("step", "so 14.", "", "14.")]).tokenize(tokenizer).value_spans == {"step": (2, 3)}


def test_characters_of_several_tokens_and_marks_that_combine(bytes_of):
    transcript = Transcript(
        [("question", "e"), ("step", "\u0301 🧑‍🚀"), ("answer", " 한", "", "한")], values=["é", "한"]
    )
    tokens = transcript.tokenize(bytes_of)
    decoded = {name: bytes_of.decode(tokens.token_ids[slice(*span)]) for name, span in tokens.spans.items()}
    assert decoded == {"question": "e", "step": "\u0301 🧑‍🚀", "answer": " 한"}
    assert bytes_of.decode(tokens.value_ids("answer")) == "한"
    assert [len(ids) for ids in tokens.alternatives] == [2, 3]


def test_a_tokenizer_without_offsets_is_refused():
    tokenizer = words_of("one")
    tokenizer.hf_tokenizer.__class__ = type("Slow", (PreTrainedTokenizerFast,), {"is_fast": False})
    with pytest.raises(PromptError, match="does not tell which characters a token covers"):
        Transcript([("step", "one")]).tokenize(tokenizer)
    with pytest.raises(PromptError, match="no tokenizer"):
        Transcript([("step", "one")]).tokenize(PromptTokenizer(None, 9, 0))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab4. \n\u0301é🚀한"), min_size=1, max_size=6), min_size=1, max_size=5))
def test_tokens_do_not_depend_on_segments(texts):
    transcript = Transcript([("text", text) for text in texts])
    tokenizer = words_of(transcript.text, pattern=r" ?\w+|\s+|\S")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CotraceWarning)
        tokens = transcript.tokenize(tokenizer)
    assert tokens.token_ids == tokenizer.encode(transcript.text)
    covered = [position for span in tokens.spans.values() for position in range(*span)]
    assert covered == list(range(1, len(tokens.token_ids)))
    straddling = {each.position for each in tokens.straddling}
    for name, (start, stop) in tokens.spans.items():
        if not straddling & set(range(start - 1, stop + 1)):
            assert tokenizer.decode(tokens.token_ids[start:stop]) == transcript[name].text


# --- models -------------------------------------------------------------------------------------


def test_effects_take_the_segments_of_a_transcript(worded):
    words = [worded.tokenizer.decode_token(number) for number in range(8, 14)]
    transcript = Transcript([("question", "".join(words[:3])), ("step", "".join(words[3:])), ("answer", words[0])])
    tokens = transcript.tokenize(worded)
    found = worded.effects(transcript, [words[1]], avoiding="step")
    expected = worded.effects(tokens.token_ids, [words[1]], avoiding="step", segments=tokens.spans)
    assert found.info["settings"] == expected.info["settings"]
    assert list(found.info["settings"]["segments"]) == ["question", "step", "answer"]
    assert found.ledger.equals(expected.ledger)
    other = worded.effects(transcript, [words[1]], segments={"start": (0, 2)})
    assert list(other.info["settings"]["segments"]) == ["start"]
    baseline = transcript.with_text("question", words[3] + words[4] + words[5])
    moved = worded.effects(transcript, [words[1]], integrate="inputs", integration_steps=2, baseline=baseline)
    assert moved.info["settings"]["baseline"] == worded.tokenize(baseline)


def test_a_model_takes_transcripts_as_prompts(worded):
    words = [worded.tokenizer.decode_token(number) for number in range(8, 14)]
    transcript = cotrace.Transcript([cotrace.Segment("question", "".join(words[:4])), ("answer", words[4])])
    ids = worded.tokenize(transcript)
    assert ids == worded.tokenize(transcript.text)
    assert torch.equal(worded.logits(transcript), worded.logits(ids))
    graph = worded.trace(transcript, [words[1]])
    assert graph.info["token_ids"] == ids
    assert graph.info["segments"] == {"question": [1, 2, 3, 4], "answer": [5]}
    assert graph.shares()["name"].to_pylist() == ["question", "answer", "other", "errors"]
    assert graph.shares().equals(graph.shares(graph.info["segments"]))
    assert sum(graph.prune().shares()["share"].to_pylist()) == pytest.approx(1)
    assert "segments" not in worded.trace(ids, [words[1]]).info
    edit = {cotrace.Token(position=2): cotrace.replace_with(words[5])}
    assert torch.equal(worded.intervene(transcript, edit).logits, worded.intervene(ids, edit).logits)
    many = worded.generate_many([transcript, transcript.before("answer")], max_new_tokens=1)
    single = [worded.generate(each, max_new_tokens=1).token_ids for each in (ids, ids[:-1])]
    assert [each.token_ids for each in many] == single
    assert transcript.tokenize(worded) == transcript.tokenize(worded.language_model)


def test_many_transcripts_are_traced(worded, tmp_path):
    words = [worded.tokenizer.decode_token(number) for number in range(8, 14)]
    prompts = [Transcript([("question", words[0]), ("answer", words[number])]) for number in (1, 2)]
    summary = cotrace.trace_many(prompts, tmp_path, model=worded, progress=False)
    assert (summary.traced, summary.failed) == (2, 0)
    assert cotrace.trace_many(prompts, tmp_path, model=worded, progress=False).skipped == 2
    assert pickle.loads(pickle.dumps(prompts[0])) == prompts[0]
