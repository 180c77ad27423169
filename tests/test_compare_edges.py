"""`Model.compare` on transcripts of every form: what can be analysed is, and the rest is refused in one line."""

import pytest
import tiny
from test_stated_values import bytes_of

import cotrace
from cotrace.common.errors import CotraceError

QUESTION = ("question", "2+3?")
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if not loop.last %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}\n<assistant>{% endif %}"
)
CASES = {
    "plain": ([QUESTION, ("step", " It is 5."), ("answer", " 5")], {"step": "5", "answer": "5"}),
    "an answer that is its value": ([QUESTION, ("step", " It is 5."), ("answer", "5")], {"step": "5", "answer": "5"}),
    "no steps": ([QUESTION, ("answer", " 5")], {"answer": "5"}),
    "no question": ([("step", "It is 5."), ("answer", " 5")], {"step": "5", "answer": "5"}),
    "only an answer": ([("answer", "so 5")], {"answer": "5"}),
    "a step without value": ([QUESTION, ("step", " so it is."), ("answer", " 5")], {"answer": "5"}),
    "an answer of two tokens that occurs before": (
        [("question", "12+30? 42?"), ("step", " It is 42."), ("step", " So 42 it is."), ("answer", " 42 apples")],
        {"step1": "42", "step2": "42", "answer": "42"},
    ),
    "characters of several tokens": ([("question", "法国？"), ("step", " 首都是巴黎。"), ("answer", "巴黎")], {"step": "黎", "answer": "黎"}),
    "a symbol": ([("question", "what?"), ("step", " It is 5."), ("answer", "🎉")], {"step": "5", "answer": "🎉"}),
    "token ids": ([("question", [50, 60]), ("step", [51, 21, 57]), ("answer", [54, 22])], {"step": "S5Y", "answer": "V6"}),
    "a hint in the question": (
        [("question", "2+3? Say "), ("hint", "6"), ("question", "."), ("step", " It is 5."), ("answer", " 5")],
        {"hint": "6", "step": "5", "answer": "5"},
    ),
    "a hint after the steps": (
        [QUESTION, ("step", " It is 5."), ("hint", "I say 6."), ("answer", " 5")],
        {"step": "5", "hint": "6", "answer": "5"},
    ),
    "text after the answer": (
        [QUESTION, ("step", " It is 5."), ("answer", " 5"), ("text", " thanks"), ("step", " 7")],
        {"step1": "5", "answer": "5"},
    ),
    "no alternatives": ([QUESTION, ("step", " I think yes."), ("answer", "Yes")], {"step": "yes", "answer": "Yes"}),
    "a chat": (
        [{"role": "user", "content": "2+3?"}, {"role": "assistant", "content": "<think>It is 5.\nSo 5.</think>5"}],
        {"step1": "5", "step2": "5", "answer": "5"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> cotrace.Model:
    """Return a random model whose tokens are bytes, with a chat template."""
    tokenizer = bytes_of().hf_tokenizer
    tokenizer.chat_template = TEMPLATE
    folder = tiny.write_model(tmp_path_factory.mktemp("bytes"), vocab_size=260)
    tokenizer.save_pretrained(folder)
    return cotrace.load(folder, "neurons", device="cpu")


@pytest.mark.parametrize("case", CASES)
def test_transcripts_of_every_form_are_compared(model, case):
    given, values = CASES[case]
    report = model.compare(given, evidence="quick", max_features=10, progress=False)
    rows = report.segments.to_pylist()
    assert {row["name"]: row["value"] for row in rows if row["value"] is not None} == values
    assert report.cost["evidence"] <= 40
    assert sum(report.sources["share"].to_pylist()) == pytest.approx(1)
    n_steps = sum(row["role"] == "step" for row in rows)
    assert report.steps.num_rows == n_steps - (case == "text after the answer")
    if not any(name.startswith("step") for name in values):
        assert report.score is None
        assert "no step states a value" in report.reason


def test_texts_become_a_transcript(model):
    report = model.compare(
        question="2+3?", reasoning="So 5. Yes 5.", answer="5", hint="I say 6", evidence="none", progress=False
    )
    assert report.segments["text"].to_pylist() == ["2+3?\n", "I say 6\n", "So 5.", " Yes 5.\n", "5"]
    assert "evidence=" in report.reason


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ([QUESTION, ("step", " 5")], {}, "no answer"),
        ([QUESTION, ("answer", " !")], {}, "states no value"),
        ([QUESTION, ("answer", " 5"), ("text", "")], {}, "is empty"),
        ([QUESTION, ("answer", " 5", "6")], {}, "does not contain its value"),
        ([QUESTION, ("answer", " 5")], {"alternatives": {"step": ["6"]}}, "no segment is called 'step'"),
        ([QUESTION, ("answer", " 5")], {"alternatives": ["5"]}, "give others"),
        ([QUESTION, ("answer", " 5")], {"hint": "6"}, "together with a transcript"),
        ([QUESTION, ("answer", " 5")], {"generate": True}, "generate"),
        (None, {"question": "2+3?", "generate": True, "max_new_tokens": 3}, "states no value"),
        ("2+3?", {}, "a text is no transcript"),
        ([QUESTION, ("answer", " 5")], {"seed": -1, "evidence": "none"}, "seed is -1: give 0 or more"),
        ([QUESTION, ("answer", "")], {}, "the text of an answer is empty"),
    ],
)
def test_other_transcripts_are_refused_in_one_line(model, given, options, words):
    with pytest.raises(CotraceError) as caught:
        model.compare(given, progress=False, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
