"""`cotrace.compare_many`: compare stated with internal reasoning in a file or list of transcripts."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from cotrace.attribution.models.dtypes import DtypeName
from cotrace.attribution.models.memory import out_of_memory
from cotrace.common.errors import CotraceError, one_line
from cotrace.common.progress import Progress
from cotrace.defaults import DEFAULT_MODEL
from cotrace.faithfulness.comparison.config import CompareConfig
from cotrace.faithfulness.inputs import MAX_NEW_TOKENS
from cotrace.faithfulness.report.files import with_report
from cotrace.faithfulness.report.report import Report
from cotrace.faithfulness.report.summary import ReportSummary, row_of, summarize_reports
from cotrace.faithfulness.report.summary_plot import plot_summary
from cotrace.model import Model

from .file_layout import CIRCUIT_FILE, QUESTIONS_FILE, RECORDS, SUMMARY_FILE, SUMMARY_PLOT, partition
from .result_store import PromptResult, ResultStore, open_folder
from .run import save_results
from .transcripts import BatchTranscript, check_transcripts, read_transcripts, transcript_of
from .worker import ModelSpec, failed_result, json_round_trip, loaded_settings, record_of, recorded_warnings

# Options that are not recorded: they change results by rounding only, or are those of one transcript.
NOT_SETTINGS = ("memory", "foil", "alternatives")


@dataclass(frozen=True)
class CompareOptions:
    """Options that are the same for all transcripts of a batch.

    Attributes:
        config: of `Model.compare`; each transcript has its own foil and alternatives.
        max_new_tokens: the most tokens that the model writes as reasoning and answer; None if they are given.
    """

    config: CompareConfig
    max_new_tokens: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return the options that decide the results, as JSON reads them back."""
        config = {name: value for name, value in vars(self.config).items() if name not in NOT_SETTINGS}
        return json_round_trip({**config, "max_new_tokens": self.max_new_tokens})

    def compare(self, model: Model, row: BatchTranscript, progress: bool | None) -> Report:
        """Return the report of one transcript, whose reasoning the model writes first if it should."""
        transcript = transcript_of(row.given, model, self.max_new_tokens)
        config = replace(self.config, foil=row.foil, alternatives=row.alternatives)
        return model.compare(transcript, **vars(config), progress=progress)


class CompareSummary(NamedTuple):
    """Numbers of transcripts that were compared, skipped because they were done before, and failed; and the summary."""

    compared: int
    skipped: int
    failed: int
    records: Path
    """The file with a record of each transcript."""
    reasons: tuple[str, ...]
    """Of the first transcripts that failed: their ids and the reasons."""
    summary: ReportSummary | None
    """Of all transcripts that are done, also by earlier calls; None if there are none."""
    files: tuple[Path, ...]
    """Where the summary was written: two tables and a plot."""


class Comparer:
    """Compares one transcript after another with one model."""

    def __init__(self, model: Model, options: CompareOptions):
        self.model, self.options = model, options

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the results: options, and hashes of the model and the transcoders."""
        return self.options.settings() | loaded_settings(self.model)

    def compare_all(self, rows: Iterable[BatchTranscript]) -> Iterator[PromptResult]:
        """Yield the result of every transcript, in their order."""
        return map(self.compare, rows)

    def compare(self, row: BatchTranscript) -> PromptResult:
        """Compare one transcript. A `CotraceError` becomes its result; any other exception is a bug and is raised."""
        started = time.monotonic()
        try:
            with out_of_memory("shorten the transcript, or set memory="), recorded_warnings() as texts:
                report = self.options.compare(self.model, row, progress=False)
                circuit = with_report(report.graph, report.to_dict())
        except CotraceError as error:
            return failed_result(row, one_line(error), time.monotonic() - started)
        question = None if row.question_id is None else str(row.question_id)
        record = record_of(row, "done", time.monotonic() - started) | row_of(report, question)
        record["file"] = f"{partition(row.id)}/{CIRCUIT_FILE}"
        return PromptResult(record | ({"warnings": texts} if texts else {}), circuit.nodes)


def compare_many(
    transcripts: str | os.PathLike[str] | Iterable[Any],
    out: str | os.PathLike[str],
    *,
    model: Model | str | os.PathLike[str] = DEFAULT_MODEL,
    transcoders: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: DtypeName = "auto",
    evidence: str = CompareConfig.evidence,
    seed: int = CompareConfig.seed,
    max_features: int = CompareConfig.max_features,
    memory: int | None = CompareConfig.memory,
    generate: bool = False,
    max_new_tokens: int = MAX_NEW_TOKENS,
    progress: bool | None = None,
) -> CompareSummary:
    """Compare stated with internal reasoning in many transcripts. The same call continues after an interruption.

    The folder gets a report for each transcript, which `cotrace.open` opens, and a summary: `_summary.csv` with a row for
    each, `_questions.csv` with the mean of the chains of each question, and `_summary.svg`. A transcript that cannot be
    compared is recorded as failed, with the reason, and the others continue; the next call tries it again.

    Args:
        transcripts: a file of JSON lines or Parquet; or a list of transcripts, as `Model.compare` takes them, or of
            dictionaries. Rows have `question`, `hint`, `reasoning` and `answer`, or one of `segments`, `chat` and
            `transcript`, and, optionally, `id`, `question_id`, `foil` and `alternatives`.
        out: the folder; created if it does not exist.
        model: what `cotrace.load` takes, or a loaded model.
        transcoders: as in `cotrace.load`; ignored with a loaded model, like the next two.
        device: as in `cotrace.load`.
        dtype: as in `cotrace.load`.
        evidence: as in `Model.compare`.
        seed: as in `Model.compare`.
        max_features: as in `Model.compare`.
        memory: as in `Model.compare`.
        generate: let the model write reasoning and answer; then rows have a question, and optionally a hint, only.
        max_new_tokens: with `generate`, write at most this many tokens.
        progress: show bars on a terminal or in a notebook, else a line a minute; None does so unless `--quiet` is given.

    Raises:
        CotraceError: the file, the folder, the options or the model are not usable.
    """
    config = CompareConfig(evidence=evidence, seed=seed, max_features=max_features, memory=memory)
    options = CompareOptions(config, max_new_tokens if generate else None)
    source = transcripts if isinstance(transcripts, str | os.PathLike) else list(transcripts)  # it is read twice
    digests = check_transcripts(source)
    with open_folder(Path(out)) as store:
        store.check_settings(options.settings())
        todo = store.unfinished(digests)
        waiting = (row for row in read_transcripts(source) if partition(row.id) in todo)
        spec = ModelSpec(model, transcoders, device, dtype)
        comparer = Comparer(model if isinstance(model, Model) else spec.load(progress), options)
        store.record_settings(comparer.settings())
        with Progress(progress).phase("comparing", len(todo)) as advance:
            failed, reasons = save_results(comparer.compare_all(waiting), store, advance)
        summary, files = write_summary(store)
    n_skipped = len(digests) - len(todo)
    return CompareSummary(len(todo) - failed, n_skipped, failed, store.path / RECORDS, reasons, summary, files)


def write_summary(store: ResultStore) -> tuple[ReportSummary | None, tuple[Path, ...]]:
    """Write the summary of all transcripts in a folder that are done; return it and its files."""
    rows: list[Mapping[str, Any]] = list(store.done_records())
    if not rows:
        return None, ()
    summary = summarize_reports(rows)
    table, questions, plot = (store.path / name for name in (SUMMARY_FILE, QUESTIONS_FILE, SUMMARY_PLOT))
    summary.save(table, questions)
    plot_summary(summary, plot)
    return summary, (table, questions, plot)
