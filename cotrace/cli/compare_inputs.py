"""Check and read the inputs of `cotrace compare`, and where it writes, before a model is loaded."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cotrace.common.errors import ArgumentError, CotraceError, FileError, one_line
from cotrace.faithfulness.transcripts import Transcript

from .output_paths import check_file, check_folder, check_free, with_ending, words
from .prompt_source import read_prompt

REPORT_SUFFIXES = (".arrow", ".arrow.zst")
PICTURE_SUFFIXES = (".svg", ".html", ".png", ".pdf", ".dot")
DEFAULT_FOLDER = Path("out")


class Files(NamedTuple):
    """The files of one transcript's results: the options --out, --picture and --force."""

    out: Path | None
    picture: Path | None
    force: bool

    def of_further_model(self, name: str) -> "Files":
        """Return where the results under a further model are written: beside these, with the model's name."""
        ending = f"-{words(Path(name).resolve().name if Path(name).exists() else name)}"
        out, picture = (None if path is None else with_ending(path, ending) for path in (self.out, self.picture))
        return Files(out, picture, self.force)

    def check(self) -> None:
        """Raise CotraceError for names of other formats, and if a file cannot be written."""
        for path, option, suffixes in (
            (self.out, "--out", REPORT_SUFFIXES),
            (self.picture, "--picture", PICTURE_SUFFIXES),
        ):
            if path is None:
                continue
            if not path.name.endswith(suffixes):
                raise ArgumentError(f"{option} {path}: expected a name that ends in {', '.join(suffixes)}")
            check_file(path, option)
            check_free(path, option, self.force)
        if self.out is None:
            check_folder(DEFAULT_FOLDER)

    @property
    def folder(self) -> Path:
        """The folder for many reports. Raises ArgumentError without one."""
        if self.out is None:
            raise ArgumentError("--file needs a folder for the reports: add --out DIR")
        return self.out

    def check_folder(self) -> None:
        """Raise CotraceError unless there is a folder for many reports that can be written to."""
        check_folder(self.folder)
        if self.force:
            raise ArgumentError("--force is for one transcript; with --file choose another folder with --out")


def check_source(texts: Mapping[str, str | None], files: Mapping[str, Path | None]) -> None:
    """Raise ArgumentError unless what to compare is given by texts, or by one of the options that name a file."""
    named = [option for option, path in files.items() if path is not None]
    given = [f"--{name}" for name, text in texts.items() if text is not None]
    if len(named) > 1 or (named and given):
        raise ArgumentError(f"{named[0]} and {[*named[1:], *given][0]} both name what to compare; give one of them")
    if not named and not given:
        raise ArgumentError(
            f"there is nothing to compare: give --question, --reasoning and --answer, or one of {', '.join(files)}"
        )


def check_options(given: Mapping[str, Any], needs: str, there: bool) -> None:
    """Raise ArgumentError if one of the options is given although what it `needs` is not `there`."""
    named = [option for option, value in given.items() if value not in (None, [])]
    if named and not there:
        raise ArgumentError(f"{', '.join(named)} can only be used with {needs}; omit it")


def given_of(texts: Mapping[str, str | None], transcript: Path | None, chat: Path | None) -> dict[str, Any]:
    """Return the given transcript in the form of a row of a batch. Raises FileError for a file that cannot be read."""
    if transcript is not None:
        return {"transcript": open_transcript(transcript)}
    if chat is not None:
        return {"chat": open_chat(chat)}
    return {name: text for name, text in texts.items() if text is not None}


def open_transcript(path: Path) -> Transcript:
    """Return the transcript of a .json file that `Transcript.save` wrote, or of a marked-up text."""
    if path.suffix == ".json":
        return Transcript.open(path)
    try:
        return Transcript.from_marked(read_prompt(None, path, "--transcript"))
    except ArgumentError as error:
        raise FileError(f"cannot read {path}: {error}") from error


def open_chat(path: Path) -> list[Any]:
    """Return the messages in a JSON file, a list or an object with the list as `messages`."""
    try:
        found = json.loads(read_prompt(None, path, "--chat"))
    except CotraceError:
        raise
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not JSON ({one_line(error)}); write a list of messages") from error
    messages = found.get("messages") if isinstance(found, dict) else found
    if not isinstance(messages, list) or not messages:
        raise FileError(f'{path} has no list of messages; write [{{"role": "user", "content": "…"}}, …]')
    return messages
