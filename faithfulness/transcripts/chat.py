"""Chats as segments, and segments in the chat template of a model. Imports no torch.

The turns of a chat transcript name the segments of each message. Its template is that of the model that tokenizes it, so
that one transcript serves several models. Template text is in no segment.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cotrace.common.checks import as_index
from cotrace.common.errors import ArgumentError

from .segment import Segment
from .splitting import Splitter, check_pieces
from .tokenized import Piece

if TYPE_CHECKING:
    from cotrace.attribution.models.tokenizer import PromptTokenizer

ASSISTANT_ROLES = ("assistant", "model")
OPENING = re.compile(r"\s*<think>(?:\s*\n)?")  # with line breaks; a space belongs to the word behind it
CLOSING = re.compile(r"\s*</think>(?:\s*\n)?")


class ChatTurn(NamedTuple):
    """A message of a chat: who speaks, and the names of the segments whose texts are its content."""

    role: str
    segments: tuple[str, ...]


def parse_messages(messages: Any) -> list[tuple[str, str]]:
    """Return the role and text of each message of a chat. Raises ArgumentError for anything else."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Iterable):
        raise ArgumentError('a chat is a list of {"role": …, "content": …}')
    parsed = []
    for message in messages:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise ArgumentError(f'a message of the chat is {message!r}: expected {{"role": …, "content": …}}')
        if unknown := sorted(map(str, set(message) - {"role", "content"})):
            raise ArgumentError(
                f"a message of the chat has {', '.join(unknown)}: leave it out, and write reasoning into the content, "
                "between <think> and </think>"
            )
        role, content = message["role"], message["content"]
        if not all(isinstance(part, str) and part for part in (role, content)):
            raise ArgumentError(
                f"a message of the chat is {message!r}: role and content must be texts, and not empty; join the texts of a "
                "content that is a list of parts"
            )
        parsed.append((role, content))
    if not parsed:
        raise ArgumentError("the chat has no message: give at least one")
    return parsed


def segments_of_messages(
    messages: Sequence[tuple[str, str]], splitter: Splitter, reasoning: int | None
) -> list[list[Segment]]:
    """Return the segments of each message, still without names.

    Raises ArgumentError for a `reasoning` that names no message, and for a splitter whose pieces do not add up.
    """
    number = None if reasoning is None else _message_number(reasoning, len(messages))
    asked = [place for place, (role, _) in enumerate(messages) if role == "user"]
    question = asked[-1] if asked else -1
    answered = [place for place, (role, _) in enumerate(messages) if role in ASSISTANT_ROLES and place > question]
    segments = []
    for place, (_, content) in enumerate(messages):
        if place == number:
            pieces = check_pieces(splitter(content), content)
            has_answer = not any(later > place for later in answered)
            roles = ["step"] * (len(pieces) - has_answer) + ["answer"] * has_answer
            segments.append([Segment(role, piece) for role, piece in zip(roles, pieces, strict=True)])
        elif place in answered:
            segments.append(_think(content, splitter))
        else:
            segments.append([Segment("question" if place == question else "text", content)])
    return segments


def check_turns(turns: Iterable[Any], segments: Sequence[Segment]) -> tuple[ChatTurn, ...]:
    """Return the turns of a chat. Raises ArgumentError unless they name each segment once, in order, and all are texts."""
    try:
        checked = tuple(ChatTurn(str(role), tuple(names)) for role, names in turns)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"turns={turns!r}: expected a list of (role, names of segments)") from error
    named = [name for turn in checked for name in turn.segments]
    if named != [segment.name for segment in segments]:
        raise ArgumentError(
            f"the turns name the segments {named}: name each of the transcript's segments once, in order"
        )
    if not all(turn.role and turn.segments for turn in checked):
        raise ArgumentError("a turn of the chat lacks its role or segments: give both")
    for segment in segments:
        if not isinstance(segment.text, str):
            raise ArgumentError(
                f"{segment.title} is token ids, which no chat template takes: give texts, or leave out turns="
            )
    return checked


def chat_pieces(
    turns: Sequence[ChatTurn], segments: Mapping[str, Segment], tokenizer: "PromptTokenizer"
) -> list[Piece]:
    """Return the parts of a prompt: text of the tokenizer's chat template, and the segments in their messages.

    Raises PromptError if the model has no template, and if the template would change the text of a message.
    """
    chat = [
        {"role": turn.role, "content": "".join(str(segments[name].text) for name in turn.segments)} for turn in turns
    ]
    parts = tokenizer.chat_parts(chat)
    pieces = []
    for number, text in enumerate(parts):  # template, message, template, …
        if number % 2:
            pieces += [Piece.of(segments[name]) for name in turns[number // 2].segments]
        elif text:
            pieces.append(Piece("", text))
    return pieces


def _think(content: str, splitter: Splitter) -> list[Segment]:
    """Return the segments of an assistant's message: reasoning between <think> and </think> as steps, the rest as answer."""
    opening, closing = OPENING.search(content), CLOSING.search(content)
    if opening is None and closing is None:
        return [Segment("answer", content)]
    if opening and closing and closing.start() < opening.start():
        opening = None  # the template wrote <think>
    start = opening.end() if opening else 0
    if closing is None or closing.start() < start:  # `<think>\n</think>`: the line break belongs to the first tag
        closing = CLOSING.search(content, start)
    stop, rest = closing.span() if closing else (len(content), len(content))
    reasoning = content[start:stop]
    parts = [("text", content[:start])]
    parts += [("step", piece) for piece in check_pieces(splitter(reasoning), reasoning)] if reasoning else []
    parts += [("text", content[stop:rest])]
    segments = [Segment(role, text) for role, text in parts if text]
    return segments + (_think(content[rest:], splitter) if rest < len(content) else [])


def _message_number(reasoning: int, n_messages: int) -> int:
    number = as_index(reasoning, "reasoning=")
    if not -n_messages <= number < n_messages:
        raise ArgumentError(f"reasoning={number} is no message of the chat: it has {n_messages}, numbered from 0")
    return number % n_messages
