"""Run `cotrace compare`: load models, compare, write and print."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

import cotrace
from cotrace.batch.compare import CompareOptions
from cotrace.batch.transcripts import BatchTranscript, transcript_of
from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.report.report import Report
from cotrace.faithfulness.transcripts import Transcript
from cotrace.graphs.drawing.render import PAGE

from . import graph_model, verbosity
from .command import name_options
from .compare_inputs import DEFAULT_FOLDER, Files
from .console import print_json
from .output_paths import save_result, words
from .pages import beside, save_page
from .report import print_line, print_written, printable
from .report_compare import (
    next_command,
    print_replayed,
    print_report,
    print_side_by_side,
    print_summary,
)

if TYPE_CHECKING:
    from cotrace.batch.compare import CompareSummary


def compare_one(
    row: BatchTranscript,
    models: Sequence[str],
    asked: CompareOptions,
    loading: Mapping[str, Any],
    files: Files,
    json: bool,
) -> None:
    """Compare one transcript under one model or several; write a report and a picture for each, and print them.

    With --generate the first model writes the reasoning.
    """
    transcript = None if asked.max_new_tokens else transcript_of(row.given)  # refuse it before a model is loaded
    places = [files, *(files.of_further_model(name) for name in models[1:])]
    for place in places:
        place.check()
    reports: list[Report] = []
    for name in models:
        model = cotrace.load(name, **loading)
        transcript = transcript or transcript_of(row.given, model, asked.max_new_tokens)
        given = replace(row, given={"transcript": transcript})
        reports.append(replace(asked, max_new_tokens=None).compare(model, given, progress=None))
    assert transcript is not None
    written = [write(*each, name_of(transcript)) for each in zip(reports, places, strict=True)]
    if json:
        shown = [report.to_dict() for report in reports]
        paths = [str(path) for each in written for path in each]
        print_json({**({"reports": shown} if len(shown) > 1 else shown[0]), "files": paths})
        return
    for report, paths_of in zip(reports, written, strict=True):
        print_report(report)
        for path, planned in paths_of.items():
            print_written(path, planned)
    if len(models) > 1:
        print_side_by_side(dict(zip(models, reports, strict=True)))
    elif not verbosity.current.quiet:
        print_line(next_command(reports[0], next(iter(written[0]))))


def name_of(transcript: Transcript) -> str:
    """Return the name of a report's file: the words of the question."""
    texts = [str(each.text) for each in transcript.segments if each.role == "question"]
    return words("".join(texts)) or "transcript"


def write(report: Report, files: Files, name: str) -> dict[Path, Path]:
    """Write a report, its picture and its page; return where each is, with where it was planned. `name` is the default name."""
    planned = files.out or DEFAULT_FOLDER / f"{name}.arrow"
    out = save_result(planned, report.save, force=files.force, option="--out" if files.out else "")
    drawn = files.picture or beside(out, ".svg")
    picture = save_result(drawn, report.render, force=files.force, option="--picture" if files.picture else "")
    written = {out: planned, picture: drawn}
    if drawn.suffix != PAGE:
        asked, page = save_page(report, out, force=files.force)
        written[page] = asked
    return written


def compare_file(file: Path, out: Path, asked: CompareOptions, loading: Mapping[str, Any], json: bool) -> None:
    """Compare a file of transcripts, and print the summary; exit with status 1 if any failed."""
    same: dict[str, Any] = {
        name: getattr(asked.config, name) for name in ("evidence", "seed", "max_features", "memory")
    }
    if asked.max_new_tokens is not None:
        same |= {"generate": True, "max_new_tokens": asked.max_new_tokens}
    found = cotrace.compare_many(file, out, **loading, **same)
    if json:
        print_json(as_json(found))
    else:
        report_batch(found)
    if found.failed:
        raise typer.Exit(1)


def report_batch(found: "CompareSummary") -> None:
    """Print how many transcripts were compared, skipped and failed, and the summary of all."""
    print_line(
        f"compared {found.compared:,}, skipped {found.skipped:,} finished earlier, failed {found.failed:,}; "
        f"records in {found.records}"
    )
    for reason in found.reasons:
        print_line(
            printable(name_options(f"failed: {reason}", {"max_features": "--max-features", "memory": "--memory"}))
        )
    if found.failed > len(found.reasons):
        print_line(f"… and {found.failed - len(found.reasons):,} more, with their reasons in {found.records}")
    if found.summary is not None:
        print_summary(found.summary)
    for path in found.files:
        print_written(path)


def as_json(found: "CompareSummary") -> dict[str, Any]:
    """Return the result of a batch as values that JSON can hold."""
    summary = found.summary
    tables = {} if summary is None else {
        "score": summary.score,
        "verdicts": summary.verdicts,
        "questions": summary.questions.to_pylist(),
        "transcripts": summary.transcripts.to_pylist(),
    }  # fmt: skip
    counts = {"compared": found.compared, "skipped": found.skipped, "failed": found.failed}
    return {**counts, "reasons": list(found.reasons), **tables, "files": [str(path) for path in found.files]}


def replay_row(file: Path, number: int, model: str | None, loading: Mapping[str, Any], json: bool) -> None:
    """Run an intervention of a saved report again, and print what it gave then and gives now."""
    from cotrace.faithfulness.evidence.collect import replay

    report = Report.open(file)
    rows = {row["number"]: row for row in report.evidence.to_pylist()}
    if not rows:
        raise ArgumentError(f"{file} has no evidence to replay: it was made with --evidence none")
    if number not in rows:
        raise ArgumentError(
            f"--row {number}: expected a number of {min(rows)} to {max(rows)}; `cotrace show {file} --full` lists them"
        )
    loaded = graph_model.load_model(report.graph, model, loading["transcoders"], loading["device"], loading["dtype"])
    answer, effect = replay(loaded, report.settings, rows[number]["recipe"])
    if json:
        print_json({"recorded": rows[number], "replayed": {"answer": answer, "effect": effect}})
        return
    print_replayed(rows[number], answer, effect)
