"""What `compare` takes: segments, chats, or question, reasoning and answer."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotrace.common.errors import ArgumentError, CotraceError
from cotrace.faithfulness.inputs import as_transcript, generated
from cotrace.faithfulness.transcripts import Segment, Transcript


def parts(transcript: Transcript) -> list[tuple[str, str]]:
    return [(segment.name, segment.text) for segment in transcript]


# --- segments and chats -------------------------------------------------------------------------


def test_a_list_of_segments_is_taken_as_it_is():
    segments = [
        ("question", "3 + 4?"),
        Segment("hint", " 8"),
        ("step", "3 + 4 = 7.", "7"),  # the third is the value
        ["step", "So  7"],
        {"role": "text", "text": "Answer:", "name": "lead"},
        ("answer", [5, 6], [6]),
    ]
    transcript = as_transcript(segments)
    assert transcript.names == ("question", "hint", "step1", "step2", "lead", "answer")
    assert [segment.value for segment in transcript] == [None, None, "7", None, None, (6,)]
    assert as_transcript(iter(segments)) == transcript
    assert as_transcript(transcript) is transcript
    assert as_transcript([("question", "a"), ("step", "b", None), ("answer", "c")]).text == "abc"


def test_a_list_of_messages_is_a_chat():
    messages = [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "<think>\n2 + 2 = 4.\nIt is even.</think>4"},
    ]
    assert as_transcript(messages) == Transcript.from_chat(messages)


# --- question, reasoning, answer ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"question": "2 + 2?"}, [("question", "2 + 2?\n"), ("answer", "4")]),
        ({"question": "2 + 2?\n\n"}, [("question", "2 + 2?\n\n"), ("answer", "4")]),
        ({"question": "2 + 2?", "answer": " 4"}, [("question", "2 + 2?"), ("answer", " 4")]),
        (
            {"question": "2 + 2?", "reasoning": "2 and 2. So 4."},
            [("question", "2 + 2?\n"), ("step1", "2 and 2."), ("step2", " So 4.\n"), ("answer", "4")],
        ),
        (  # no white space is added between sentences that were written without
            {"question": "问？", "reasoning": "一。二。", "answer": "三"},
            [("question", "问？\n"), ("step1", "一。"), ("step2", "二。\n"), ("answer", "三")],
        ),
        (
            {"question": "Q", "reasoning": ["one", "two ", "three"]},
            [("question", "Q\n"), ("step1", "one\n"), ("step2", "two "), ("step3", "three\n"), ("answer", "4")],
        ),
        ({"question": "Q", "reasoning": []}, [("question", "Q\n"), ("answer", "4")]),
        ({"question": "Q", "hint": "It is 5"}, [("question", "Q\n"), ("hint", "It is 5\n"), ("answer", "4")]),
        (
            {"question": "What is 2 + 2? I think 5. Say it.", "hint": " I think 5."},
            [("question1", "What is 2 + 2? "), ("hint", "I think 5."), ("question2", " Say it.\n"), ("answer", "4")],
        ),
        (  # not inside of a longer number
            {"question": "5 or 15, not 55?", "hint": "5"},
            [("hint", "5"), ("question", " or 15, not 55?\n"), ("answer", "4")],
        ),
        (
            {"question": "A hint \n Q?", "hint": "A hint"},
            [("hint", "A hint"), ("question", " \n Q?\n"), ("answer", "4")],
        ),
        ({"question": " A hint\n", "hint": "\n"}, None),
        (
            {"question": "Q?\nA hint \n", "hint": "A hint"},
            [("question", "Q?\n"), ("hint", "A hint \n"), ("answer", "4")],
        ),
    ],
)
def test_parts_begin_on_new_lines_where_no_white_space_stands(given, expected):
    if expected is None:
        with pytest.raises(ArgumentError, match="hint= is empty"):
            as_transcript(**{"answer": "4", **given})
    else:
        assert parts(as_transcript(**{"answer": "4", **given})) == expected


TEXTS = st.text(st.sampled_from("ab1 .\n?。"), min_size=1, max_size=12).filter(str.strip)


@settings(max_examples=200, deadline=None)
@given(question=TEXTS, hint=st.none() | TEXTS, reasoning=st.none() | TEXTS | st.lists(TEXTS, max_size=3), answer=TEXTS)
def test_nothing_is_lost_and_only_line_breaks_are_added(question, hint, reasoning, answer):
    inside = hint is not None and hint.strip() in question
    if inside and not question.strip().replace(hint.strip(), "", 1).strip():
        return  # the question is nothing but the hint
    transcript = as_transcript(question=question, hint=hint, reasoning=reasoning, answer=answer)
    given = [question, *([] if hint is None or inside else [hint])]
    given += [reasoning] if isinstance(reasoning, str) else reasoning or []
    written, place = transcript.text, 0
    for part in [*given, answer]:
        place += written[place : place + 1] == "\n" and not written.startswith(part, place)
        assert written.startswith(part, place), (written, part)
        place += len(part)
    assert place == len(written)
    assert "".join(s.text for s in transcript if s.role == "answer") == answer


@pytest.mark.parametrize(
    ("given", "named", "words"),
    [
        (None, {}, "there is no transcript"),
        ("2 + 2?", {}, "a text is no transcript"),
        (3, {}, "int is no transcript"),
        ({"question": "2"}, {}, "dict is no transcript"),
        ([], {}, "is empty"),
        ([("question", "a"), ("answer", "b")], {"hint": "h"}, "hint= is given together with a transcript"),
        ([("question", "a"), ("answer", "b")], {"answer": "h"}, "answer= is given together"),
        ([("question", "a"), ("step", "b")], {}, "no answer"),
        ([("question", "a"), {"role": "user", "content": "b"}], {}, "beside segments"),
        ([("step", "a", "", "b")], {}, "(role, text, value)"),
        ([("step",)], {}, "(role, text, value)"),
        ([("question", "a"), ("steps", "b")], {}, "invalid role 'steps'"),
        ([("question", "a"), ("answer", "b", "c")], {}, "does not contain its value 'c'"),
        ([("question", ""), ("answer", "b")], {}, "is empty"),
        (None, {"question": "a"}, "generate=True"),
        (None, {"answer": "a"}, "there is no question"),
        (None, {"question": "a", "answer": " "}, "answer= is empty"),
        (None, {"question": ["a"], "answer": "a"}, "question= is ['a']"),
        (None, {"question": "a", "answer": "a", "reasoning": 3}, "list of the steps"),
        (None, {"question": "a", "answer": "a", "reasoning": ["b", ""]}, "a step of reasoning= is empty"),
        (None, {"question": "I think 5", "answer": "a", "hint": "I think 5"}, "nothing but the hint"),
    ],
)
def test_other_things_are_refused_in_one_line(given, named, words):
    with pytest.raises(CotraceError) as caught:
        as_transcript(given, **named)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# --- generated reasoning ------------------------------------------------------------------------


class Writer:
    """A model that writes a text, which is its own token."""

    def __init__(self, text: str, ended: bool = True, chat_template: str | None = None):
        self.text, self.ended, self.asked = text, ended, None
        hf_tokenizer = SimpleNamespace(chat_template=chat_template)
        self.tokenizer = SimpleNamespace(hf_tokenizer=hf_tokenizer, decode="".join)

    def generate(self, prompt, *, max_new_tokens):
        self.asked = prompt
        return SimpleNamespace(token_ids=[self.text, *(["<end>"] * self.ended)], ended=self.ended)


def test_the_last_piece_that_a_model_writes_is_the_answer():
    writer = Writer("2 + 2 = 4.\nSo it is 4.\n4\n\n")
    transcript = generated(writer, question="2 + 2?", hint="5")
    assert parts(writer.asked) == [("question", "2 + 2?\n"), ("hint", "5")]
    expected = [("step1", "2 + 2 = 4.\n"), ("step2", "So it is 4.\n"), ("answer", "4")]
    assert parts(transcript) == [("question", "2 + 2?\n"), ("hint", "5"), *expected]
    assert parts(generated(Writer(" 4"), [("question", "2 + 2?")])) == [("question", "2 + 2?"), ("answer", " 4")]


def test_a_sentence_that_is_cut_off_is_left_out():
    assert parts(generated(Writer("One. It is 4. And th", ended=False), question="Q"))[1:] == [
        ("step", "One."),
        ("answer", " It is 4."),
    ]
    assert parts(generated(Writer("One. It is 4.", ended=False), question="Q"))[-1] == ("answer", " It is 4.")
    assert parts(generated(Writer("It is", ended=False), question="Q"))[-1] == ("answer", "It is")


def test_a_text_ends_where_it_repeats_itself():
    writer = Writer(" It is 4.\nReally.\nIt is 4.\nReally.\nIt", ended=False)
    assert parts(generated(writer, question="2 + 2?"))[1:] == [("step", " It is 4.\n"), ("answer", "Really.")]
    writer = Writer("\n\nIt is 4.\nQ: 2 + 2?\nIt is 4.")
    assert parts(generated(writer, question="Q: 2 + 2?"))[1:] == [("answer", "\n\nIt is 4.")]


def test_a_model_with_a_chat_template_answers_in_a_chat():
    transcript = generated(Writer("\nOne. Two.", chat_template="…"), question="Q", hint="H")
    assert transcript.turns == (("user", ("question", "hint")), ("assistant", ("step", "answer")))
    chat = [{"role": "user", "content": "Q"}]
    continued = generated(Writer("One. Two."), chat)
    assert continued.turns == (("user", ("question",)), ("assistant", ("step", "answer")))
    opened = Transcript([("question", "Q"), ("text", "So")], turns=[("user", ["question"]), ("assistant", ["text"])])
    assert generated(Writer(" B."), opened).turns == (("user", ("question",)), ("assistant", ("text", "answer")))


@pytest.mark.parametrize(
    ("writer", "given", "named", "words"),
    [
        (Writer(" \n"), None, {"question": "Q"}, "wrote nothing"),
        (Writer("\nQ\nQ"), None, {"question": "Q"}, "nothing but repetitions"),
        (Writer("4"), [("question", "Q")], {"hint": "H"}, "together with a transcript"),
        (Writer("4"), [("question", "Q"), ("answer", "4")], {}, "has an answer already"),
        (Writer("4"), None, {}, "there is no question"),
    ],
)
def test_what_cannot_be_generated_is_refused(writer, given, named, words):
    with pytest.raises(ArgumentError, match=words):
        generated(writer, given, **named)
