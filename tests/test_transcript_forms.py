"""Transcripts as JSON, files, chats and marked-up text."""

import json
import shutil
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoints import write_tokenizer

from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.common.errors import ArgumentError, FileError, PromptError
from cotrace.faithfulness.transcripts import ROLES, Segment, Transcript, last_number, split_sentences, split_steps

TAGS = [f"<{slash}{kind}>" for kind in (*ROLES, "value") for slash in ("", "/")] + [
    '<step name="a">',
    "<step name='a'>",
]
TEXTS = st.lists(
    st.sampled_from([*TAGS, "\\", "a", "<", ">", '"', " ", "\n", "é", "🚀", "12"]), min_size=1, max_size=8
).map("".join)
NAMES = st.sampled_from(["", "", "", 'a "name"', "<step>", "step1", "step2", "b\n", "é\\"])


@st.composite
def segments(draw, texts=TEXTS):
    """Return a segment without a value, or with a part of its text that is not blank."""
    text = draw(texts)
    segment = Segment(draw(st.sampled_from(ROLES)), text)
    start = draw(st.integers(0, len(text) - 1))
    value = text[start : draw(st.integers(start + 1, len(text)))] if isinstance(text, str) else text[start:]
    if draw(st.booleans()) or (isinstance(value, str) and not value.strip()):
        return segment
    return Segment(segment.role, text, value=value, value_start=start if draw(st.booleans()) else None)


@st.composite
def transcripts(draw, texts=TEXTS):
    """Return a transcript whose names do not clash."""
    drawn = draw(st.lists(segments(texts), min_size=1, max_size=5))
    names: list[str] = []
    for name in draw(st.lists(NAMES, min_size=len(drawn), max_size=len(drawn))):
        names.append("" if name in names else name)
    named = [replace(each, name=name) for each, name in zip(drawn, names, strict=True)]
    try:
        return Transcript(
            named, draw(st.lists(texts.filter(lambda text: not isinstance(text, str) or text.strip()), max_size=3))
        )
    except ArgumentError:  # a default name is taken
        return Transcript(drawn)


# --- JSON and files -----------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(transcripts(TEXTS | st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple)))
def test_json_round_trip(transcript):
    assert Transcript.from_json(transcript.to_json()) == transcript


def test_files(tmp_path):
    transcript = Transcript.from_chat(
        [{"role": "user", "content": "é?"}, {"role": "assistant", "content": "<think>\na 4\nb 5</think> 5"}],
        values=["4", "5"],
    ).find_values(last_number)
    transcript.save(tmp_path / "new" / "chain.json")
    assert Transcript.open(str(tmp_path / "new" / "chain.json")) == transcript
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["chain.json"]
    entries = json.loads((tmp_path / "new" / "chain.json").read_text(encoding="utf-8"))
    assert (entries["format"], entries["version"]) == ("cotrace transcript", 1)
    assert Transcript.from_json('[{"role": "step", "text": "a 4", "value": "4"}]') == Transcript(
        [("step", "a 4", "", "4")]
    )
    assert Transcript.from_json('[{"role": "step", "token_ids": [1, 2]}]') == Transcript([("step", [1, 2])])


STEP = {"role": "step", "text": "a 4"}
WHOLE = {"format": "cotrace transcript", "version": 1, "segments": [STEP], "values": []}
DAMAGED = {
    "empty": ("", "is not JSON"),
    "cut": (json.dumps(WHOLE)[:-4], "is not JSON"),
    "deep": ("[" * 100_000, "is not JSON"),
    "not UTF-8": (b'["\xff"]', "is not JSON"),
    "a number": ("4", 'lacks "format"'),
    "another format": ({**WHOLE, "format": "x"}, 'lacks "format"'),
    "newer": ({**WHOLE, "version": 2}, "reads up to 1"),
    "version as text": ({**WHOLE, "version": "1"}, "expected 1"),
    "no segments": ({**WHOLE, "segments": []}, "no segment"),
    "segments of another kind": ({**WHOLE, "segments": {"a": 1}}, "its segments are missing or wrong"),
    "segments missing": ({"format": "cotrace transcript", "version": 1}, "its segments are missing or wrong"),
    "a text as number": ({**WHOLE, "segments": [{**STEP, "text": 4}]}, "its segments are missing or wrong"),
    "text and ids": ({**WHOLE, "segments": [{**STEP, "token_ids": [1]}]}, "text or token_ids"),
    "another key": ({**WHOLE, "segments": [{**STEP, "txt": "a"}]}, "txt"),
    "a negative id": ({**WHOLE, "segments": [{"role": "step", "token_ids": [1 << 70]}]}, "its segments are missing or wrong"),
    "a role": ({**WHOLE, "segments": [{**STEP, "role": "thought"}]}, "invalid role"),
    "a value": ({**WHOLE, "segments": [{**STEP, "value": "5"}]}, "does not contain its value"),
    "values": ({**WHOLE, "values": [4]}, "its values are missing or wrong"),
    "turns": ({**WHOLE, "turns": [{"role": "user", "segments": ["x"]}]}, "once, in order"),
    "turns of another kind": ({**WHOLE, "turns": [["user", ["step"]]]}, "its turns are missing or wrong"),
    "a chat": ([{"role": "user", "content": "a"}], "a segment has"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused_in_one_line(name, tmp_path):
    content, message = DAMAGED[name]
    written = content if isinstance(content, str | bytes) else json.dumps(content)
    path = tmp_path / "chain.json"
    path.write_bytes(written if isinstance(written, bytes) else written.encode())
    with pytest.raises(FileError, match=message) as caught:
        Transcript.open(path)
    assert str(caught.value).startswith(f"cannot open {path}: ")
    assert "\n" not in str(caught.value)


def test_paths_that_cannot_be_read_or_written(tmp_path):
    transcript = Transcript([("step", "a")])
    for path in (tmp_path, tmp_path / "none.json", "a\0b"):
        with pytest.raises(FileError, match="cannot open"):
            Transcript.open(path)
    with pytest.raises(FileError, match="cannot write"):
        transcript.save(tmp_path)


# --- marked-up text -----------------------------------------------------------------------------


def test_marked_text():
    text = (
        '<question>2 < 3?</question>\n<step>So <value>4</value>.</step><step name="last"> <value> 4</value></step> end'
    )
    transcript = Transcript.from_marked(text, values=["5"])
    assert transcript.segments == (
        Segment("question", "2 < 3?", "question"),
        Segment("text", "\n", "text1"),
        Segment("step", "So 4.", "step1", "4"),
        Segment("step", "  4", "last", " 4"),
        Segment("text", " end", "text2"),
    )
    assert transcript.values == ("5",)
    first = Transcript.from_marked("<step><value>4</value> and 4</step>")
    assert first["step"].value_range == (0, 1)
    assert first.to_marked() == "<step><value>4</value> and 4</step>"
    assert Transcript.from_marked(transcript.to_marked()).segments == transcript.segments
    assert Transcript.from_marked(r"<step>\<step>\\</step>a\b").segments == (
        Segment("step", "<step>\\", "step"),
        Segment("text", r"a\b", "text"),
    )


@settings(max_examples=150, deadline=None)
@given(transcripts())
def test_marked_round_trip(transcript):
    assert Transcript.from_marked(transcript.to_marked()).segments == transcript.segments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no segment"),
        (4, "must be a text"),
        ("<step>a", "<step> is not closed"),
        ("a</step>", "</step> at character 1 is misplaced: nothing is open"),
        ("<step>a</answer>", "close <step> first"),
        ("<step><answer>", "segments are not nested"),
        ("<step></step>", "the text of a step is empty"),
        ("<value>4</value>", "mark one value in a segment"),
        ("<step><value>4</step>", "close <value> first"),
        ("<step>4</value></step>", "mark one value in a segment"),
        ("<step><value>4</value><value>4</value></step>", "mark one value"),
        ("<step><value></value></step>", "is empty"),
        ('<step name="other">a</step>', "choose another name"),
    ],
)
def test_wrong_marks_are_refused_in_one_line(text, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        Transcript.from_marked(text)
    assert "\n" not in str(caught.value)


def test_what_marks_cannot_hold():
    with pytest.raises(ArgumentError, match="token ids, which cannot be marked up"):
        Transcript([("step", [1])]).to_marked()
    with pytest.raises(ArgumentError, match="turns of a chat"):
        Transcript.from_chat([{"role": "user", "content": "a"}]).to_marked()


# --- chats --------------------------------------------------------------------------------------

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2 + 3?"},
    {"role": "assistant", "content": "<think>\nTwo and three.\nThat is 5.\n</think>\n\nIt is 5."},
]


def roles_and_texts(transcript):
    return [(segment.role, segment.text) for segment in transcript]


def test_reasoning_of_a_chat_is_split():
    assert roles_and_texts(Transcript.from_chat(CHAT)) == [
        ("text", "Be brief."),
        ("question", "2 + 3?"),
        ("text", "<think>\n"),
        ("step", "Two and three.\n"),
        ("step", "That is 5."),
        ("text", "\n</think>\n\n"),
        ("answer", "It is 5."),
    ]
    words = Transcript.from_chat(
        CHAT, splitter=lambda text: [word + " " for word in text.split(" ")[:-1]] + [text.split(" ")[-1]]
    )
    assert [step.text for step in words.steps] == ["Two ", "and ", "three.\nThat ", "is ", "5."]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("5", [("answer", "5")]),
        ("<think>a", [("text", "<think>"), ("step", "a")]),
        ("<think>\n\n</think>\n5", [("text", "<think>\n\n"), ("text", "</think>\n"), ("answer", "5")]),
        ("a</think>5", [("step", "a"), ("text", "</think>"), ("answer", "5")]),
        ("Hm. <think>a</think>", [("text", "Hm. <think>"), ("step", "a"), ("text", "</think>")]),
        (
            "<think>a</think>b<think>c</think>d",
            [
                *[("text", "<think>"), ("step", "a"), ("text", "</think>"), ("text", "b<think>"), ("step", "c")],
                *[("text", "</think>"), ("answer", "d")],
            ],
        ),
    ],
)
def test_reasoning_that_is_cut_or_in_parts(content, expected):
    transcript = Transcript.from_chat([{"role": "user", "content": "q"}, {"role": "assistant", "content": content}])
    assert roles_and_texts(transcript)[1:] == expected
    assert transcript.text == f"q{content}"


def test_a_message_of_reasoning_without_tags():
    chat = [{"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": "Two. Three. So 5."}]
    roles = [segment.role for segment in Transcript.from_chat(chat, reasoning=1)]
    assert roles == ["question", "step", "step", "answer"]
    assert Transcript.from_chat(chat, reasoning=-1) == Transcript.from_chat(chat, reasoning=1)
    longer = Transcript.from_chat([*chat, {"role": "assistant", "content": "5"}], reasoning=1)
    assert [segment.role for segment in longer] == ["question", "step", "step", "step", "answer"]
    assert [segment.role for segment in Transcript.from_chat([*chat, *chat])] == ["text", "text", "question", "answer"]


def test_a_chat_is_put_into_the_template(worded):
    chat = [
        {"role": "user", "content": "The opposite of hot is"},
        {"role": "assistant", "content": "<think>\n hot\n</think>\n cold"},
    ]
    transcript = Transcript.from_chat(chat)
    tokens = transcript.tokenize(worded)
    assert tokens.token_ids == worded.tokenize(chat) == worded.tokenize(transcript)
    decoded = {name: worded.tokenizer.decode(tokens.token_ids[slice(*span)]) for name, span in tokens.spans.items()}
    assert decoded["question"] == "The opposite of hot is"
    assert decoded["answer"] == " cold"
    assert tokens.spans["question"] == (4, 9)
    shorter = transcript.until("question")
    assert shorter.tokenize(worded).token_ids == worded.tokenize(chat[:1])
    changed = transcript.with_text("answer", " hot").tokenize(worded)
    assert changed.token_ids[:-1] == tokens.token_ids[:-1]
    assert changed.token_ids[-1] == tokens.token_ids[tokens.spans["step"][0]]
    assert Transcript.from_chat(chat, template=False).text == "The opposite of hot is\n<think>\n hot\n</think>\n cold"
    assert next(iter(worded.effects(transcript, [" cold"]).info["settings"]["segments"])) == "question"


def test_a_template_that_is_missing_or_changes_a_message(model_folder, tmp_path):
    from transformers import AutoTokenizer

    def tokenizer(name, template):
        folder = write_tokenizer(shutil.copytree(model_folder, tmp_path / name), template)
        return PromptTokenizer(AutoTokenizer.from_pretrained(folder), 40, 2)

    chat = Transcript.from_chat([{"role": "user", "content": " hot"}])
    with pytest.raises(PromptError, match="no chat template"):
        chat.tokenize(tokenizer("none", None))
    trimming = tokenizer("trimming", "{% for m in messages %}{{ m.content | trim }}{% endfor %}")
    with pytest.raises(PromptError, match="changes the message"):
        chat.tokenize(trimming)


@pytest.mark.parametrize(
    ("messages", "options", "message"),
    [
        ("text", {}, "a chat is a list"),
        ([], {}, "no message"),
        ([("user", "a")], {}, "expected {"),
        ([{"role": "user"}], {}, "expected {"),
        ([{"role": "user", "content": ""}], {}, "must be texts, and not empty"),
        ([{"role": "user", "content": [{"type": "image"}]}], {}, "must be texts"),
        ([{"role": "assistant", "content": "a", "reasoning_content": "b"}], {}, "between <think> and </think>"),
        (CHAT, {"reasoning": 3}, "reasoning=3 is no message"),
        (CHAT, {"splitter": str.split}, "do not add up"),
        (CHAT, {"splitter": lambda text: text}, "expected a list of texts"),
        (CHAT, {"splitter": lambda text: [text, ""]}, "none of them empty"),
    ],
)
def test_wrong_chats_are_refused_in_one_line(messages, options, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        Transcript.from_chat(messages, **options)
    assert "\n" not in str(caught.value)


def test_turns_name_each_segment_once():
    segments = [("question", "a"), ("hint", "b"), ("answer", "c")]
    transcript = Transcript(segments, turns=[("user", ("question", "hint")), ("assistant", ("answer",))])
    assert transcript.without("hint").turns == (("user", ("question",)), ("assistant", ("answer",)))
    assert transcript.without("answer").turns == (("user", ("question", "hint")),)
    for turns, message in (
        ([("user", ("hint", "question", "answer"))], "once, in order"),
        ([("user", ("question", "hint"))], "once, in order"),
        ([("user", ("question", "hint", "answer")), ("assistant", ())], "lacks its role or segments"),
        (["user"], "expected a list of"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Transcript(segments, turns=turns)
    with pytest.raises(ArgumentError, match="no chat template takes"):
        Transcript([("question", [1])], turns=[("user", ["question"])])


# --- splitting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a\n\nb\nc", ["a\n\n", "b\n", "c"]),
        ("\n a\n  \nb", ["\n a\n  \n", "b"]),
        ("One. Two? Three!", ["One.", " Two?", " Three!"]),
        ("It is 3.5. Yes", ["It is 3.5.", " Yes"]),
        ("1. Add. 2. Take.", ["1. Add.", " 2. Take."]),
        ("One. Two\n", ["One.", " Two\n"]),
        ("一。二！", ["一。", "二！"]),
        ("one", ["one"]),
        ("  ", ["  "]),
    ],
)
def test_default_steps(text, pieces):
    assert split_steps(text) == pieces


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("a1.\n ?。)("), min_size=1))
def test_pieces_add_up(text):
    for splitter in (split_steps, split_sentences):
        pieces = splitter(text)
        assert "".join(pieces) == text
        assert all(piece.strip() for piece in pieces) or not text.strip()
