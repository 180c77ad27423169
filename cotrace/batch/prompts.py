"""The prompts of a batch, from JSON lines, Parquet or a list, read one at a time."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotrace.common.errors import ArgumentError, PromptError
from cotrace.faithfulness.transcripts import Segment, Transcript
from cotrace.graphs.nodes import ErrorNode, Feature
from cotrace.target_syntax import parse_targets

from .rows import check_columns, digests_of, parse_id, parse_rows, read_file_rows

COLUMNS = ("prompt", "id", "targets")
PROMPT_NAMES = ("text", "content", "input", "messages", "question", "sentence")  # of other tools
EXPECTED = 'write one object a line, such as {"prompt": "The sky is", "id": "sky"}'

PromptSource = str | os.PathLike | Sequence[Any]  # a file, or the prompts themselves


@dataclass(frozen=True)
class BatchPrompt:
    """One prompt of a batch.

    Attributes:
        id: names the results.
        content: a text, token ids, a chat or a transcript.
        targets: its own targets, as `Model.trace` takes them; None for those of the batch.
    """

    id: str | int
    content: Any
    targets: Any = None

    @property
    def digest(self) -> str:
        """SHA-256 of the content and the targets."""
        return hashlib.sha256(to_json([self.content, self.targets]).encode()).hexdigest()


def to_json(value: Any) -> str:
    """Return a value as JSON; arrays, tensors and ranges become lists, nodes and transcripts texts. Raises ArgumentError for other types."""
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, range):
        return list(value)
    if isinstance(value, Feature | ErrorNode):
        return str(value)
    if isinstance(value, Transcript):
        return value.to_json()
    if isinstance(value, Segment):
        return vars(value)
    raise ArgumentError(f"{value!r} is neither text nor numbers; give texts, numbers or lists of them")


def check_prompts(source: PromptSource) -> dict[str, str]:
    """Read all prompts once, and return the digest of each by the name of its folder.

    Raises CotraceError, with the line or row, for an invalid prompt or an id that occurs twice, and for an empty file.
    """
    return digests_of(_prompts(source), source, "prompt")


def read_prompts(source: PromptSource) -> Iterator[BatchPrompt]:
    """Yield all prompts in their order. Raises CotraceError as `check_prompts` does."""
    return (prompt for _, prompt in _prompts(source))


def _prompts(source: PromptSource) -> Iterator[tuple[str, BatchPrompt]]:
    """Return each prompt after its line or row, for messages."""
    return parse_rows(_rows(source), _prompt)


def _rows(source: PromptSource) -> Iterator[tuple[str, Any]]:
    if not isinstance(source, str | os.PathLike):
        for number, item in enumerate(source):
            yield f"prompt {number}", item if isinstance(item, dict) else {"prompt": item}
        return
    yield from read_file_rows(Path(source), EXPECTED)


def _prompt(row: Any, number: int) -> BatchPrompt:
    if not isinstance(row, dict):
        raise PromptError(f"it is not an object; {EXPECTED}")
    check_columns(row, COLUMNS, dict.fromkeys(PROMPT_NAMES, "prompt"))
    if row.get("prompt") is None:
        raise PromptError("it has no prompt; fill the column `prompt`")
    return BatchPrompt(parse_id(row.get("id"), number), row["prompt"], _targets(row.get("targets")))


def _targets(given: Any) -> Any:
    if given is None:
        return None
    if not isinstance(given, list) or not given or not all(isinstance(text, str) for text in given):
        raise PromptError("targets: expected a list of texts as --targets takes them; correct or omit it")
    return parse_targets(given)
