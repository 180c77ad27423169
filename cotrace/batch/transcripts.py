"""The transcripts of a batch, from JSON lines, Parquet or a list, read one at a time."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cotrace.common.errors import PromptError
from cotrace.faithfulness.inputs import as_transcript, check_unwritten, generated
from cotrace.faithfulness.transcripts import Transcript

from .prompts import to_json
from .rows import check_columns, digests_of, parse_id, parse_rows, read_file_rows

TEXTS = ("question", "hint", "reasoning", "answer")
WHOLE = ("segments", "chat", "transcript")  # each in place of the texts
OPTIONS = ("id", "question_id", "foil", "alternatives")
COLUMNS = (*TEXTS, *WHOLE, *OPTIONS)
EXPECTED = 'write one object a line, such as {"question": "What is 3 + 4?", "reasoning": "3 + 4 is 7.", "answer": "7", "id": "sum"}'

TranscriptSource = str | os.PathLike | Sequence[Any]  # a file, or the transcripts themselves


@dataclass(frozen=True)
class BatchTranscript:
    """One transcript of a batch.

    Attributes:
        id: names the results.
        given: the transcript as the row has it: the texts by name, or one of "segments", "chat", "transcript".
        question_id: id of the question, which can have several chains; None to use the text of the question.
        foil: as in `Model.compare`.
        alternatives: as in `Model.compare`.
    """

    id: str | int
    given: Mapping[str, Any] = field(repr=False)
    question_id: str | int | None = None
    foil: Any = None
    alternatives: Any = None

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the id."""
        return hashlib.sha256(
            to_json([dict(self.given), self.question_id, self.foil, self.alternatives]).encode()
        ).hexdigest()


def check_transcripts(source: TranscriptSource) -> dict[str, str]:
    """Read all rows once, and return the digest of each by the name of its folder.

    Raises CotraceError, with the line or row, for an invalid row or an id that occurs twice, and for an empty file. The transcripts
    themselves are checked only when they are compared, so that one that is wrong does not stop the others.
    """
    return digests_of(_transcripts(source), source, "transcript")


def read_transcripts(source: TranscriptSource) -> Iterator[BatchTranscript]:
    """Yield all transcripts in their order. Raises CotraceError as `check_transcripts` does."""
    return (row for _, row in _transcripts(source))


def transcript_of(given: Mapping[str, Any], model: Any = None, max_new_tokens: int | None = None) -> Transcript:
    """Return the transcript of a row; with `max_new_tokens`, one whose reasoning and answer the model writes.

    Raises ArgumentError for one that cannot be read, or lacks an answer.
    """
    if max_new_tokens is not None:
        check_unwritten(given.get("reasoning"), given.get("answer"))
    written: dict[str, Any] = dict(given)
    whole = next((written.pop(name) for name in ("segments", "chat") if name in written), None)
    if "transcript" in written:
        whole = _opened(written.pop("transcript"))
    if max_new_tokens is None:
        return as_transcript(whole, **written)
    return generated(model, whole, max_new_tokens=max_new_tokens, **written)


def _opened(given: Any) -> Transcript:
    """Return a transcript that is given as one, or as `Transcript.to_json` writes it."""
    if isinstance(given, Transcript):
        return given
    return Transcript.from_json(given if isinstance(given, str) else to_json(given))


def _transcripts(source: TranscriptSource) -> Iterator[tuple[str, BatchTranscript]]:
    """Return each transcript after its line or row, for messages."""
    return parse_rows(_rows(source), _parsed)


def _rows(source: TranscriptSource) -> Iterator[tuple[str, Any]]:
    if isinstance(source, str | os.PathLike):
        yield from read_file_rows(Path(source), EXPECTED)
        return
    for number, item in enumerate(source):
        whole = "transcript" if isinstance(item, Transcript) else "segments"
        yield f"transcript {number}", item if isinstance(item, Mapping) else {whole: item}


def _parsed(row: Any, number: int) -> BatchTranscript:
    if not isinstance(row, Mapping):
        raise PromptError(f"it is not an object; {EXPECTED}")
    check_columns(row, COLUMNS)
    given = {name: row[name] for name in (*TEXTS, *WHOLE) if row.get(name) is not None}
    whole = [name for name in WHOLE if name in given]
    if not given:
        raise PromptError(f"it has no transcript; {EXPECTED}")
    if whole and len(given) > 1:
        raise PromptError(f"it has {_listed(given)}; give {whole[0]!r} alone, or the texts")
    options = {name: row.get(name) for name in OPTIONS[1:]}
    if options["question_id"] is not None:
        options["question_id"] = parse_id(options["question_id"], number)
    return BatchTranscript(parse_id(row.get("id"), number), given, **options)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(map(repr, names))
