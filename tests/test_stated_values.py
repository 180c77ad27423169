"""Values that segments state, by the documented rules, and other values that may take their place."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import handmade
from helpers.chains import chain
from hypothesis import given, settings
from hypothesis import strategies as st
from test_transcripts import words_of
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import cotrace
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.common.errors import ArgumentError, CotraceError, CotraceWarning, PromptError
from cotrace.faithfulness.ledger.stated_links import find_stated_links
from cotrace.faithfulness.organisms.adapter_task import LetterProblem, letter_transcript
from cotrace.faithfulness.runs import TranscriptRuns
from cotrace.faithfulness.transcripts import Segment, Transcript, state_values
from cotrace.faithfulness.transcripts.value_rules import (
    candidates_for,
    find_value,
    find_value_like,
    other_digits,
    other_letters,
    shaped_like,
)
from cotrace.faithfulness.transcripts.words import kind_of, numbers, words

DIGITS = r" ?[^\W\d_]+|\d| |[^\w\s]|\s"  # like Gemma: words with their space, one token for each digit
EVERY = "0123456789 ,.-+=$ I think so the answer is Yes No yes no Paris Rome London total apples red north ; !"


def digits_of(*texts: str) -> PromptTokenizer:
    """Return a tokenizer of words and single digits that knows some texts, and common words."""
    return words_of(*texts, EVERY, "".join(f" {letter}" for letter in EVERY if letter.isalpha()), pattern=DIGITS)


def bytes_of() -> PromptTokenizer:
    """Return a tokenizer whose tokens are bytes, as a last resort of others."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({"<bos>": 0, **{sign: n for n, sign in enumerate(alphabet, 1)}}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PromptTokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>"), 257, 0)


def stated(*segments, tokenizer=None, alternatives=None):
    """Return the stated values of some segments, in a tokenizer that knows them."""
    transcript = Transcript([Segment(*each[:2], value=each[2] if len(each) > 2 else None) for each in segments])
    return state_values(transcript, tokenizer or digits_of(transcript.text), alternatives)


def without_values(transcript: Transcript) -> Transcript:
    return Transcript([replace(segment, value=None) for segment in transcript])


# --- the rule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 3 + 4 = 7.", "7"),
        (" so v is 12 .", "12"),
        ("There are 4 apples left.", "4"),
        ("It costs $3.50, or 25%.", "25"),
        ("He has 1,024 left", "1,024"),
        ("1,2,3", "3"),
        ("It is -5.", "-5"),
        ("It is −5.", "−5"),
        ("7-5", "5"),  # a minus between two numbers is no sign
        ("(3)-5", "5"),
        ("3.14.", "3.14"),
        ("a total of ٣٤", "٣٤"),
        ("x = .5", "5"),
        ("by 10:30", "30"),
        # digits inside a word make the word the value
        (" so a5 .", "a5"),
        ("then b12c", "b12c"),
        ("the 2nd", "2nd"),
        ("x_1 is red", "red"),
        # labels are no values
        ("1. It is red.", "red"),
        ("Step 2: red", "red"),
        ("(3) so blue", "blue"),
        ("By step 2, it is blue.", "blue"),
        ("By step 2, it is 14.", "14"),
        ("2.5 is it", "2.5"),
        ("Step 3:", "3"),
        # operations are none where a word follows
        (" ; +3 T", "T"),
        (" ; *2 green", "green"),
        ("The change is +4.", "+4"),
        ("3 + 4 apples", "4"),
        ("it is -3 degrees", "-3"),
        # words
        ("So the capital is Paris.", "Paris"),
        ("So it is Paris then.", "Paris"),
        ("Yes, it is.", "Yes"),
        ("It is in May.", "May"),
        ("It may be red.", "red"),
        (" so a .", "a"),
        ("= \\boxed{42}", "42"),
        ("x=-5", "-5"),
        ("on 2024-05-01", "01"),
        ("the answer is (B).", "B"),
        ("I think so.", "think"),
        ("Tom's", "Tom's"),
        ("I don't.", None),
        ("It is cafe\u0301.", "cafe\u0301"),
        ("यह हिन्दी", "हिन्दी"),
        ("Это Париж.", "Париж"),
        ("首都是巴黎。", "黎"),  # the last character, which a token makes a word
        ("アジアの国だ。", "国"),
        ("It is so.", None),
        (" _ .", None),
        ("!?", None),
        ("🎉", None),
    ],
)
def test_a_text_states_its_last_number_or_else_its_last_content_word(text, value):
    found = find_value(text)
    assert (None if found is None else text[slice(*found.span)]) == value
    if found is not None:
        assert found.rule == ("last number" if numbers(value) == [(0, len(value))] else "last word")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" it is", "is"),
        (" 5. That is it", "5"),
        (" as in step 2: 14.", "14"),
        (" 🎉!", "🎉"),
        ("a ✓", "a"),
        (" ->", ">"),
        ("…!", None),
    ],
)
def test_an_answer_may_be_any_word_or_symbol(text, value):
    found = find_value(text, anything=True)
    assert (None if found is None else text[slice(*found.span)]) == value


@pytest.mark.parametrize(
    ("text", "like", "value"),
    [
        (" hint none", "15", None),
        (" hint none", "a5", None),
        (" hint none", "p", None),
        (" hint 21", "3", "21"),
        ("I think it is (B), not 7.", "A", "B"),
        ("I think no.", "yes", "no"),
        ("A is right, I think.", "B", "A"),
        ("A teacher thinks so", "B", None),
        ("Paris, said the professor", "Rome", "Paris"),
        ("It is New York, I think", "New York", "New York"),
        ("首都是巴黎。", "东京", "黎"),
    ],
)
def test_a_hint_states_the_last_value_of_the_answers_kind(text, like, value):
    found = find_value_like(text, like)
    assert (None if found is None else text[slice(*found.span)]) == value


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("aB1 9.,-+_(é\u0301巴ひ🎉\u200d'\n"), max_size=14))
def test_what_is_found_stands_in_the_text_and_is_visible(text):
    for anything in (False, True):
        found = find_value(text, anything=anything)
        if found is not None:
            start, stop = found.span
            assert 0 <= start < stop <= len(text)
            assert text[start:stop].strip() == text[start:stop] != ""
    for span in (*numbers(text), *words(text)):
        assert text[slice(*span)].strip()


# --- other values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "some", "none"),
    [
        ("7", ["0", "8", "9", "28"], ["7", "-7", "07"]),
        ("17", ["10", "18", "97", "3"], ["017"]),
        ("-5", ["-6", "-1"], ["5", "-0"]),
        ("1,024", ["1,025", "9,886"], ["1024", "999"]),
        ("3.50", ["3.51", "9.87"], ["3.5", "4"]),
        ("05", ["06", "00"], ["5"]),
        ("٣٤", ["٣٥"], ["35"]),
        ("4" * 30, ["4" * 29 + "5"], []),
    ],
)
def test_numbers_are_replaced_by_numbers_of_the_same_form(value, some, none):
    texts, rule, is_open = candidates_for(value, [], [])
    assert (rule, is_open) == ("numbers", False)
    assert set(some) <= set(texts)
    assert not {*none, value} & set(texts)
    assert texts == candidates_for(value, [], []).texts  # the same in every run
    seen = candidates_for("17", ["44"], ["he has 3 and +12 and 99"]).texts
    assert seen[:3] == ["44", "3", "99"]  # those of the transcript first, without operations


@pytest.mark.parametrize(
    ("value", "is_open"),
    [("7", False), ("yes", False), ("B", False), ("Paris", True), ("New York", True), ("a5", True)],
)
def test_words_of_a_transcript_are_only_some_of_their_kind(value, is_open):
    assert candidates_for(value, [], []).is_open == is_open


def test_words_of_letters_and_digits_are_all_known_if_they_are_few():
    few = stated(("step", " so a3 ."), ("answer", " a1"), tokenizer=words_of(" so . a1 a2 a3 b1 b2", pattern=r" ?\S+"))
    assert not few.values["answer"].is_open
    names = " so . " + " ".join(f"a{number}" for number in range(99))
    many = stated(("step", " so a3 ."), ("answer", " a1"), tokenizer=words_of(names, pattern=r" ?\S+"))
    assert many.values["answer"].is_open
    assert len(many.values["answer"].alternatives) == 64


@pytest.mark.parametrize(
    ("value", "texts", "expected"),
    [
        ("Yes", [], ["No"]),
        ("TRUE", [], ["FALSE"]),
        ("May", [], ["January", "February", "March", "April", "June", "July"]),
        ("two", [], ["zero", "one", "three"]),
        ("B", ["(A) red (B) blue (C) green", "a) x"], ["A", "C"]),
        ("b", ["b and c"], ["a", "c", "d"]),
        ("Paris", ["London and Rome, or paris", "The red NASA x1"], ["London", "Rome"]),
        ("a5", ["b3 and v17 c"], ["b3", "v17"]),
        ("New York", ["In Los Angeles, San Francisco"], ["Los Angeles", "San Francisco"]),
    ],
)
def test_words_are_replaced_by_words_of_their_class(value, texts, expected):
    assert candidates_for(value, [], texts).texts[: len(expected)] == expected
    if not value[0].isupper() or len(value) != 1:
        assert value not in candidates_for(value, [value], [value, *texts]).texts


def test_words_of_letters_and_digits_are_replaced_by_others_of_their_shape():
    assert other_digits("a5")[:2] == ["a6", "a4"]
    assert "a12" in other_digits("a5")
    assert {"z9", "b0"} <= set(other_letters("a5"))
    assert other_letters("a5", ["b", "k7"])[:2] == ["k7", "k8"]
    assert {"v18", "v0", "v99"} <= set(other_digits("v17"))
    assert shaped_like("a5")[:2] == ["a6", "a4"]
    assert shaped_like("Paris") == other_digits("17") == other_letters("17") == []
    assert [kind_of(text) for text in ("a5", "v17", "B", "7", "New York", "yes")] == [
        *("word a0", "word a0", "letter A", "number", "phrase", "yes or no")
    ]


def test_alternatives_have_as_many_tokens_in_their_place():
    found = stated(("question", "He has 3 and 14."), ("step", " 3 + 14 = 17."), ("answer", " 17"))
    value = found.values["step"]
    assert (value.text, value.rule, value.kind, value.alternatives_rule) == ("17", "last number", "number", "numbers")
    assert len(value.alternatives) == len(set(value.alternatives)) == 64
    assert {len(ids) for ids in value.alternatives} == {2}
    start, stop = found.tokens.value_spans["step"]
    for ids, text in zip(value.alternatives, value.texts, strict=True):
        written = found.transcript.with_value("step", text).tokenize(digits_of(found.transcript.text))
        assert written.token_ids == [*found.tokens.token_ids[:start], *ids, *found.tokens.token_ids[stop:]]
    assert found.tokens.foils("step") == [list(ids) for ids in value.alternatives]


def test_other_letters_come_where_stated_values_have_them_or_few_others_exist():
    names = " so . " + " ".join(f"{letter}{number}" for letter in "vw" for number in range(12))
    tokenizer = words_of(names, pattern=r" ?\S+")
    same = stated(("step", " so v3 ."), ("answer", " v11"), tokenizer=tokenizer)
    assert set(same.values["answer"].texts) == {f"v{number}" for number in range(11)}
    other = stated(("step", " so w3 ."), ("answer", " v11"), tokenizer=tokenizer)
    assert {"w3", "w11", "v0"} <= set(other.values["answer"].texts)
    few = stated(("step", " so a3 ."), ("answer", " a1"), tokenizer=words_of(" so . a1 a2 a3 b1 b2", pattern=r" ?\S+"))
    assert set(few.values["answer"].texts) == {"a2", "a3", "b1", "b2"}


def test_unknown_words_are_no_alternatives():
    tokenizer = words_of(" so 3 . 7 12", pattern=r" ?\S+")
    found = stated(("step", " so 3 ."), ("answer", " 7"), tokenizer=tokenizer)
    assert found.values["step"].texts == ("7", "12")
    alone = stated(("step", " so x ."), ("answer", " 7"), tokenizer=words_of(" so x . 7", pattern=r" ?\S+"))
    assert alone.values["step"].alternatives == ()
    assert alone.values["step"].alternatives_rule is None
    assert "no other value of one token" in alone.values["step"].reason


def test_given_alternatives_are_for_all_segments_or_by_name():
    segments = ("question", "Q 3"), ("step", " so 4", "4"), ("answer", " 7", "7")
    found = stated(*segments, alternatives=["1", "7", " 8", "72"])
    assert [value.alternatives_rule for value in found.values.values()] == ["given", "given"]
    assert found.values["step"].texts == ("1", "7", "8", "72")
    assert found.values["answer"].texts == ("1", "8")  # no token tells 7 and 72 apart
    found = stated(*segments, alternatives={"answer": ["9"]})
    assert [value.alternatives_rule for value in found.values.values()] == ["numbers", "given"]
    by_ids = stated(*segments, alternatives={"answer": [[3, 4], found.values["answer"].alternatives[0]]})
    assert by_ids.values["answer"].alternatives == ((3, 4), found.values["answer"].alternatives[0])
    of_values = state_values(Transcript([Segment("answer", " 7", value="7")], ["2", "7"]), digits_of(" 7"))
    assert of_values.values["answer"].texts == ("2",)


# --- whole tokens -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "7"])
def test_a_value_grows_to_whole_tokens(value):
    tokenizer = words_of(" so 7. so 8. 9.", pattern=r" ?\S+")
    found = stated(("step", " so 7.", value), ("answer", " 8."), tokenizer=tokenizer)
    assert [segment.value for segment in found.transcript] == ["7.", "8."]
    assert found.values["step"].rule == ("last number" if value is None else "given")
    assert found.values["step"].texts == ("8.", "9.")
    tokenizer = words_of(" so twice-north twice-east", pattern=r" ?\S+")
    found = stated(("question", " twice-east"), ("answer", " so twice-north"), tokenizer=tokenizer)
    assert (found.values["answer"].text, found.values["answer"].texts) == ("twice-north", ("twice-east",))


def test_given_alternatives_grow_as_the_value_does():
    tokenizer = words_of(" so 7. so 8. 9.", pattern=r" ?\S+")
    found = stated(("step", " so 7."), ("answer", " 8."), tokenizer=tokenizer, alternatives=["8", "9"])
    assert found.values["step"].texts == ("8.", "9.")
    assert found.values["answer"].texts == ("9.",)
    with pytest.raises(ArgumentError, match=r"does not know the alternative '5\.' of 'step'"):
        stated(("step", " so 7."), ("answer", " 8."), tokenizer=tokenizer, alternatives=["5"])


def test_alternatives_for_all_may_be_the_value_of_a_step():
    found = stated(("step", " so 7"), ("answer", " 8"), alternatives=["7"])
    assert found.values["answer"].texts == ("7",)
    assert found.values["step"].texts == ()
    assert "none of the given alternatives differs" in found.values["step"].reason
    with pytest.raises(ArgumentError, match="of 'step'"):
        stated(("step", " so 7"), ("answer", " 8"), alternatives={"step": ["7"]})


def test_white_space_of_a_given_value_is_kept():
    found = stated(("step", " so 7", " 7"), ("answer", " 8", " 8"))
    assert [segment.value for segment in found.transcript] == [" 7", " 8"]
    assert [value.text for value in found.values.values()] == ["7", "8"]


def test_a_value_that_shares_a_token_with_another_segment_is_none():
    tokenizer = words_of(" so 72 now 8", pattern=r" ?\S+")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CotraceWarning)
        found = stated(("step", " so 7"), ("text", "2 now"), ("answer", " 8"), tokenizer=tokenizer)
        assert list(found.values) == ["answer"]
        assert "has text of another segment too" in found.without["step"]
        with pytest.raises(PromptError, match="has text of another segment too; move the boundary"):
            stated(("step", " so"), ("answer", " 7"), ("text", "2 now"), tokenizer=tokenizer)


@pytest.mark.parametrize("text", ["首都是巴黎。", "It is 🎉5️⃣", "Это Париж", "cafe\u0301", "ﬁve 𝟗", "กรุงเทพ", "יום א׳"])
def test_characters_of_several_tokens_are_whole(text):
    tokenizer = bytes_of()
    found = stated(("step", f" {text}"), ("answer", f" {text}"), tokenizer=tokenizer)
    for name, value in found.values.items():
        ids = found.tokens.value_ids(name)
        assert tokenizer.hf_tokenizer.decode(ids) == value.text
        assert value.text in text


def one_line(call):
    """Return the result of a call; None if it is refused, which must be in one line."""
    try:
        return call()
    except CotraceError as error:
        message = str(error)
    assert "\n" not in message
    return None


LETTERS = st.text(st.sampled_from("ab 7.é巴\u0301🎉"), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["question", "hint", "step", "text"]), LETTERS), max_size=4), LETTERS)
def test_any_text_is_stated_or_refused_in_one_line(segments, answer):
    transcript = Transcript([*segments, ("answer", answer)])
    tokenizer = bytes_of()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CotraceWarning)
        found = one_line(lambda: state_values(transcript, tokenizer))
    if found is None:
        return
    assert found.transcript.text == transcript.text
    assert found.tokens.token_ids == found.transcript.tokenize(tokenizer).token_ids
    stating = {segment.name for segment in transcript if segment.role in ("hint", "step", "answer")}
    assert set(found.values) | set(found.without) == stating
    assert not set(found.values) & set(found.without)
    for name, value in found.values.items():
        said = found.tokens.value_ids(name)
        assert all(len(ids) == len(said) and list(ids) != said for ids in value.alternatives)
        assert len(set(value.alternatives)) == len(value.alternatives) <= 64
        assert bool(value.reason) != bool(value.alternatives)


# --- transcripts --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["arithmetic-reads", "lookup-reads", "walk-reads"])
def test_the_values_of_organisms_are_found_without_being_given(name):
    organism = cotrace.organisms.load(name)
    for instance in organism.instances(2):
        given_values = instance.transcript.tokenize(organism.model)
        found = state_values(without_values(instance.transcript), organism.model)
        assert found.tokens.value_spans == given_values.value_spans
        assert found.tokens.token_ids == given_values.token_ids
        for segment in found.values:
            assert {tuple(ids) for ids in given_values.foils(segment)} == set(found.values[segment].alternatives)


def test_letters_of_the_large_organisms_are_found():
    transcript = letter_transcript(LetterProblem.from_number(7))
    tokenizer = words_of(
        transcript.text, "".join(f" {letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), pattern=DIGITS
    )
    found = state_values(without_values(transcript), tokenizer)
    assert found.tokens.value_spans == transcript.tokenize(tokenizer).value_spans
    assert {len(value.alternatives) for value in found.values.values()} == {25}


def test_an_answer_of_several_tokens_that_occurs_before():
    found = stated(("question", "Is it 17 or 71?"), ("step", " not 17"), ("answer", " 17 is it"))
    assert found.tokens.value_spans["answer"] == (len(found.tokens.token_ids) - 4, len(found.tokens.token_ids) - 2)
    assert found.tokens.read_position("answer") == len(found.tokens.token_ids) - 5


def test_segments_after_the_answer_state_nothing():
    found = stated(("step", " 3"), ("answer", " 4"), ("step", " 5"), ("hint", " 6", "6"))
    assert list(found.values) == ["step1", "answer", "hint"]  # what is given stays
    assert found.without == {"step2": "it follows the answer"}


def test_token_ids_are_decoded():
    tokenizer = digits_of("Q He has 17 apples.")
    ids = {text: tokenizer.encode_without_bos(text) for text in ("Q", " He has 17 apples.", " 17", " 1 apples")}
    found = stated(
        ("question", ids["Q"]), ("step", ids[" He has 17 apples."]), ("answer", ids[" 17"]), tokenizer=tokenizer
    )
    assert [value.text for value in found.values.values()] == ["17", "17"]
    assert {len(each) for each in found.values["step"].alternatives} == {2}
    assert "18" in found.values["answer"].texts
    given_ids = stated(("step", ids[" 1 apples"], ids[" 1 apples"][-1:]), ("answer", ids[" 17"]), tokenizer=tokenizer)
    assert given_ids.values["step"].rule == "given"
    assert given_ids.values["step"].text.strip() == "apples"


def test_without_a_tokenizer_the_answer_is_its_last_token():
    tokenizer = PromptTokenizer(None, 50, 0)
    found = stated(("step", [5, 6], [6]), ("step", [7, 8]), ("answer", [9, 10]), tokenizer=tokenizer)
    assert {name: (value.text, value.rule) for name, value in found.values.items()} == {
        "step1": ("<6>", "given"),
        "answer": ("<10>", "last token"),
    }
    assert found.values["answer"].alternatives == ((6,),)
    assert list(found.without) == ["step2"]


def test_values_in_a_chat():
    tokenizer = digits_of("Q3 AYes 2+2=4. It is 4.")
    tokenizer.hf_tokenizer.chat_template = (
        "{% for m in messages %}{{ 'Q' if m.role == 'user' else 'A' }}{{ m.content }}{% if not loop.last %}\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}A{% endif %}"
    )
    transcript = Transcript(
        [("question", "2+2?"), ("step", "2+2=4."), ("answer", " It is 4.")],
        turns=[("user", ["question"]), ("assistant", ["step", "answer"])],
    )
    found = state_values(transcript, tokenizer)
    assert [value.text for value in found.values.values()] == ["4", "4"]
    assert found.tokens.token_ids == transcript.tokenize(tokenizer).token_ids


@pytest.mark.parametrize(
    ("segments", "alternatives", "words"),
    [
        ([("step", " 4")], None, "has no answer"),
        ([("step", " 4"), ("answer", " !")], None, "states no value"),
        ([("step", " 4"), ("answer", " 7")], {"stop": ["8"]}, "no segment is called 'stop'"),
        ([("step", " so"), ("answer", " 7")], {"step": ["8"]}, "it states no value"),
        (
            [("step", " 4"), ("answer", " 7")],
            ["7"],
            "none of the given alternatives differs from the value '7' of 'answer'",
        ),
        ([("step", " 4"), ("answer", " 7")], "78", "expected a list"),
        ([("step", " 4"), ("answer", " 7")], {"answer": 7}, "expected a list"),
        ([("step", " 4"), ("answer", " 7")], [3.5], "expected a text"),
    ],
)
def test_what_cannot_be_analysed_is_refused_in_one_line(segments, alternatives, words):
    with pytest.raises(CotraceError) as caught:
        stated(*segments, alternatives=alternatives)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_prompt_longer_than_the_context_is_refused():
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=4))
    tokenizer = digits_of("so 4 5")
    model = SimpleNamespace(tokenizer=tokenizer, source=SimpleNamespace(config=lambda: config))
    with pytest.raises(PromptError, match="has 6 tokens and the model's context 4"):
        state_values(Transcript([("step", "so 4"), ("answer", "5 so")]), model)
    assert state_values(Transcript([("step", "4"), ("answer", "5")]), model).values


def test_values_that_nothing_predicts_and_unknown_ones_are_none():
    tokenizer = words_of("5 6 so 7", bos=None)
    with pytest.raises(PromptError, match="the first token, which nothing predicts"):
        state_values(Transcript([("answer", "5")]), tokenizer)
    found = state_values(Transcript([("step", "5 so"), ("answer", " 6")]), tokenizer)
    assert list(found.values) == ["answer"]
    assert "nothing predicts" in found.without["step"]
    assert found.tokens.value_spans == {"answer": (2, 3)}
    unknown = state_values(Transcript([("step", " so 8"), ("answer", " 6")]), tokenizer)
    assert "does not know" in unknown.without["step"]
    with pytest.raises(PromptError, match="the answer ' 8' states no value: the model's tokenizer does not know"):
        state_values(Transcript([("answer", " 8")]), tokenizer)


# --- what is built on them ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(weights):
    """Return a random model whose tokens are the words of `handmade`."""
    return SimpleNamespace(weights=weights, tokenizer=handmade.tokenizer())


def test_runs_and_margins_take_alternatives_of_each_value(model):
    transcript = without_values(chain(steps=(5, 3, 2), answer=7))
    found = state_values(transcript, model)
    assert {value.text for value in found.values.values()} == {"v5", "v3", "v2", "v7"}
    runs, usual = TranscriptRuns(model, found), TranscriptRuns(model, chain(steps=(5, 3, 2), answer=7))
    assert set(runs.answer.others) >= set(usual.answer.others)  # with q0 and h0: there are only eight of v0
    assert set(runs.values) >= set(usual.values)
    drawn = runs.other_values("step1", 3, np.random.default_rng(0))
    assert drawn.shape == (3, 1)
    narrow = state_values(transcript, model, {"answer": ["v1"], "step1": ["v0", "v2"]})
    runs = TranscriptRuns(model, narrow)
    assert runs.answer.others == ((model.tokenizer.token_id(" v1"),),)
    assert sorted(map(tuple, runs.other_values("step1", 9, np.random.default_rng(0)).tolist())) == [
        (model.tokenizer.token_id(" v0"),),
        (model.tokenizer.token_id(" v2"),),
    ]


def test_without_alternatives_every_other_token_is_another_value(model):
    transcript = Transcript([("question", " q5"), ("step", " ; so v5"), ("answer", " ; answer")])
    found = state_values(transcript, model)
    assert found.values["answer"].alternatives == ()
    runs = TranscriptRuns(model, found)
    logits_BTV = runs.answer_logits(runs.copies(1))
    others_V = logits_BTV[0, 0].clone()
    said = others_V[runs.answer.said[0]].item()
    others_V[runs.answer.said[0]] = -torch.inf
    assert runs.answer.margins(logits_BTV).item() == pytest.approx(said - others_V.max().item(), abs=1e-9)
    with pytest.raises(ArgumentError, match="no other value has 1 tokens"):
        runs.other_values("answer", 1, np.random.default_rng(0))


def test_links_know_what_earlier_segments_state():
    found = stated(("question", " red"), ("step", " so a5 ."), ("step", " of a5 now b3 ."), ("answer", " b3"))
    links = {(link.statement, link.source, link.rule) for link in find_stated_links(found.transcript)}
    assert ("step2", "step1", "value") in links
