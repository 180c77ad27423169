"""Read the inputs of `compare`: a transcript in any form, or its question, reasoning and answer. Imports no torch.

A list of segments is used unchanged: their concatenation is the prompt. Question, hint, reasoning and answer are joined to a
prompt: each part begins on a new line, unless there is white space already.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from cotrace.common.errors import ArgumentError

from .model_like import ModelLike
from .transcripts import Segment, StatedTranscript, Transcript, split_steps
from .transcripts.chat import ASSISTANT_ROLES, ChatTurn
from .transcripts.segment import as_segment
from .transcripts.splitting import check_pieces

CURE = "give a list of (role, text) or (role, text, value), a Transcript, a chat, or question=, reasoning= and answer="

MAX_NEW_TOKENS = 256
SENTENCE_ENDS = ".!?…。！？"

Part = tuple[str, str]  # role, text


class Written(Protocol):
    """Tokens that a model wrote, such as a `cotrace.Generation`."""

    @property
    def token_ids(self) -> list[int]:
        """The ids of the tokens."""

    @property
    def ended(self) -> bool:
        """True if the last token ends the text."""


class GeneratingModel(ModelLike, Protocol):
    """A model that continues a prompt: a `cotrace.Model`."""

    def generate(self, prompt: Any, /, *, max_new_tokens: int) -> Written:
        """Return at most `max_new_tokens` tokens, each the likeliest next one."""


def as_transcript(
    given: Any = None,
    *,
    question: str | None = None,
    reasoning: str | Iterable[str] | None = None,
    answer: str | None = None,
    hint: str | None = None,
) -> Transcript:
    """Return the transcript that a user gave in one of these forms.

    Args:
        given: a `Transcript`; a list of segments, each a `Segment`, `(role, text or token ids)`, `(role, text, value)` or a
            dictionary with these; or a chat, a list of `{"role": …, "content": …}` (`Transcript.from_chat`).
        question: the question, instead of `given`.
        reasoning: a text, which `split_steps` splits into steps, or a list of steps; None for no reasoning.
        answer: the answer.
        hint: a hint. If the question contains its text, this part of the question is the hint: the last occurrence that is
            not part of a longer word. Otherwise the hint follows the question.

    Raises:
        ArgumentError: another form, two forms together, no answer, or an empty part.
    """
    parts = {"question=": question, "reasoning=": reasoning, "answer=": answer, "hint=": hint}
    named = [name for name, part in parts.items() if part is not None]
    if given is not None:
        if named:
            raise ArgumentError(
                f"{named[0]} is given together with a transcript: add it to the transcript as a segment"
            )
        return _with_answer(_from_any(given))
    if not named:
        raise ArgumentError(f"there is no transcript: {CURE}")
    if answer is None:
        raise ArgumentError("there is no answer: give answer=, or let the model write it with generate=True")
    answered = [("answer", _text(answer, "answer="))]
    return Transcript(_on_new_lines([*_asked(question, hint), *_steps(reasoning), answered]))


def generated(
    model: GeneratingModel,
    given: Any = None,
    *,
    question: str | None = None,
    hint: str | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Transcript:
    """Return a transcript whose reasoning and answer a model writes greedily after a question.

    The text is split by `split_steps`; its last piece is the answer. Because small models repeat themselves, the text is cut
    before the first piece that repeats an earlier piece or a line of the question. A model with a chat template is asked
    in a chat, unless segments are given.

    Args:
        model: a `cotrace.Model`.
        given: segments or a chat without an answer, as in `as_transcript`; instead of question and hint.
        question: the question.
        hint: a hint, as in `as_transcript`.
        max_new_tokens: stop after this many tokens. Then an unfinished last piece is dropped, unless it is the only one.

    Raises:
        ArgumentError: no question, two forms together, a given answer, or a model that writes nothing.
    """
    if given is not None and (question is not None or hint is not None):
        raise ArgumentError(
            "question= or hint= is given together with a transcript: add it to the transcript as a segment"
        )
    if given is None:
        prefix = Transcript(_on_new_lines(_asked(question, hint)))
        if getattr(model.tokenizer.hf_tokenizer, "chat_template", None):
            prefix = Transcript(prefix.segments, turns=[("user", prefix.names)])
    else:
        prefix = _from_any(given)
    if prefix.answer is not None:
        raise ArgumentError("the transcript has an answer already: leave it out, or leave out generate=True")
    result = model.generate(prefix, max_new_tokens=max_new_tokens)
    text = model.tokenizer.decode(result.token_ids[:-1] if result.ended else result.token_ids)
    if prefix.turns is not None and prefix.turns[-1].role not in ASSISTANT_ROLES:
        text = text.lstrip()  # as chat templates do with a message
    pieces = _without_repeats(split_steps(text), prefix)
    if not pieces:
        raise ArgumentError("the model wrote nothing but repetitions after the question: give reasoning= and answer=")
    if not result.ended and len(pieces) > 1 and pieces[-1].rstrip()[-1] not in SENTENCE_ENDS:
        del pieces[-1]
    return _continued(prefix, [*(("step", piece) for piece in pieces[:-1]), ("answer", pieces[-1].rstrip())])


def _without_repeats(pieces: Sequence[str], prefix: Transcript) -> list[str]:
    """Return the pieces before the first one that is white space, or repeats an earlier piece or a line of the prompt."""
    texts = [segment.text for segment in prefix.segments if isinstance(segment.text, str)]
    seen = {"", *(line.strip() for text in texts for line in text.splitlines())}
    kept = []
    for piece in pieces:
        if piece.strip() in seen:
            break
        seen.add(piece.strip())
        kept.append(piece)
    return kept


def _continued(prefix: Transcript, parts: Sequence[Part]) -> Transcript:
    """Return a transcript with more segments at the end; in a chat they are the assistant's message."""
    joined = Transcript([*prefix.segments, *(Segment(role, text) for role, text in parts)], prefix.values)
    if prefix.turns is None:
        return joined
    turns, names = list(prefix.turns), joined.names[len(prefix) :]
    if turns[-1].role in ASSISTANT_ROLES:  # the message continues
        last = turns.pop()
        turns.append(ChatTurn(last.role, (*last.segments, *names)))
    else:
        turns.append(ChatTurn(ASSISTANT_ROLES[0], names))
    return Transcript(joined.segments, prefix.values, turns)


def _from_any(given: Any) -> Transcript:
    """Return the transcript that is given as one, as a list of segments, or as a chat."""
    if isinstance(given, Transcript | StatedTranscript):
        return given if isinstance(given, Transcript) else given.transcript
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        what = "a text" if isinstance(given, str) else type(given).__name__
        raise ArgumentError(f"{what} is no transcript: {CURE}")
    listed = list(given)
    if not listed:
        raise ArgumentError(f"the transcript is empty: {CURE}")
    of_chat = [isinstance(each, Mapping) and "content" in each for each in listed]
    if all(of_chat):
        return Transcript.from_chat(listed)
    if any(of_chat):
        raise ArgumentError(
            "the list has messages of a chat beside segments: give all with role and text, or all with role and content"
        )
    return Transcript([_segment(each) for each in listed])


def _segment(given: Any) -> Segment:
    """Return a segment; in a list of three, the third is the value."""
    if not isinstance(given, list | tuple) or isinstance(given, Segment):
        return as_segment(given)
    if len(given) == 2:
        return Segment(*given)
    if len(given) == 3:
        return Segment(given[0], given[1], value=given[2])
    raise ArgumentError(f"a segment is {given!r}: expected (role, text) or (role, text, value)")


def _with_answer(transcript: Transcript) -> Transcript:
    """Return a transcript. Raises ArgumentError for one without an answer."""
    if transcript.answer is None:
        raise ArgumentError("the transcript has no answer: give a segment the role 'answer', or generate=True")
    return transcript


def _asked(question: str | None, hint: str | None) -> list[list[Part]]:
    """Return question and hint: one block if the question contains the hint, else two."""
    if question is None:
        raise ArgumentError("there is no question: give question=")
    text = _text(question, "question=")
    if hint is None:
        return [[("question", text)]]
    bare = _text(hint, "hint=").strip()
    if bare not in text:
        return [[("question", text)], [("hint", hint)]]
    start, stop = Segment("hint", text, value=bare).value_range or (0, 0)
    if not (text[:start] + text[stop:]).strip():
        raise ArgumentError("the question is nothing but the hint: give question= without it, or leave out hint=")
    return [_blank_joined([("question", text[:start]), ("hint", text[start:stop]), ("question", text[stop:])])]


def _blank_joined(parts: Sequence[Part]) -> list[Part]:
    """Return parts with visible text: white space is joined to the part before, at the start to the part after."""
    joined: list[Part] = []
    lead = ""
    for role, text in parts:
        if text.strip():
            joined.append((role, lead + text))
            lead = ""
        elif joined:
            joined[-1] = (joined[-1][0], joined[-1][1] + text)
        else:
            lead += text
    return joined


def _steps(reasoning: str | Iterable[str] | None) -> list[list[Part]]:
    """Return the steps of reasoning: one block for a text, a block for each step of a list."""
    if reasoning is None or reasoning == "":
        return []
    if isinstance(reasoning, str):
        text = _text(reasoning, "reasoning=")
        return [[("step", piece) for piece in check_pieces(split_steps(text), text)]]
    if isinstance(reasoning, bytes | Mapping) or not isinstance(reasoning, Iterable):
        raise ArgumentError(f"reasoning= is {reasoning!r}: expected a text, or a list of the steps")
    return [[("step", _text(step, "a step of reasoning="))] for step in reasoning]


def _on_new_lines(blocks: Sequence[Sequence[Part]]) -> list[Segment]:
    """Return the segments of blocks, with a line break between two blocks unless there is white space already."""
    segments: list[Segment] = []
    for block in blocks:
        for place, (role, text) in enumerate(block):
            last = segments[-1] if segments else None
            if place == 0 and last and not (str(last.text)[-1].isspace() or text[0].isspace()):
                segments[-1] = Segment(last.role, f"{last.text}\n")
            segments.append(Segment(role, text))
    return segments


def check_unwritten(reasoning: object, answer: object) -> None:
    """Raise ArgumentError if reasoning or an answer is given that the model should write."""
    for name, given in (("reasoning=", reasoning), ("answer=", answer)):
        if given is not None:
            raise ArgumentError(f"{name} is given, but the model should write it: omit it or generate=True")


def _text(given: Any, what: str) -> str:
    """Return a given text. Raises ArgumentError for anything else, and for an empty one."""
    if not isinstance(given, str):
        raise ArgumentError(f"{what} is {given!r}: expected a text; give token ids in a list of segments")
    if not given.strip():
        raise ArgumentError(f"{what} is empty: leave it out, or give it some text")
    return given
