"""`cotrace compare`: did the stated reasoning produce the answer? A verdict with its evidence, a report and a picture."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cotrace.common.errors import ArgumentError
from cotrace.defaults import DEFAULT_MODEL
from cotrace.faithfulness.comparison.config import CompareConfig
from cotrace.faithfulness.report.schemas import EVIDENCE_LEVELS
from cotrace.target_syntax import parse_bytes

from . import options
from .compare_inputs import Files, check_options, check_source, given_of

INPUT_PANEL, EVIDENCE_PANEL, OUTPUT_PANEL = "Transcript", "Evidence", "Output"
TEXTS = ("question", "hint", "reasoning", "answer")


def _text_option(help: str, name: str = "") -> Any:
    return typer.Option(*([name] if name else []), metavar="TEXT", rich_help_panel=INPUT_PANEL, help=help)


def compare(
    question: Annotated[str | None, _text_option("The question.")] = None,
    reasoning: Annotated[
        str | None, _text_option("The chain of thought; lines, or sentences of a single line, are its steps.")
    ] = None,
    answer: Annotated[str | None, _text_option("The answer.")] = None,
    hint: Annotated[str | None, _text_option("A hint; it can be a part of the question.")] = None,
    transcript: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=INPUT_PANEL,
            help="Instead of these: a transcript, saved as .json, or marked up as .txt: <question>…</question><step>…</step>"
            "<answer>…</answer>.",
        ),
    ] = None,
    chat: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=INPUT_PANEL,
            help="Instead of these: a JSON list of messages with role and content; the reasoning is inside <think> tags.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=options.MANY_PANEL,
            help="Compare many transcripts: JSON lines (.jsonl) or Parquet with the columns question, reasoning, answer and, "
            "optionally, hint, id and question_id; or one of segments, chat, transcript. Needs --out DIR; the same command "
            "continues after an interruption.",
        ),
    ] = None,
    generate: Annotated[
        bool,
        typer.Option(
            "--generate", rich_help_panel=INPUT_PANEL, help="Let the model write reasoning and answer to the question."
        ),
    ] = False,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(rich_help_panel=INPUT_PANEL, help="With --generate: write at most this many tokens.", min=1),
    ] = None,
    foil: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=EVIDENCE_PANEL,
            help="The value with which the answer's logit is compared. Default: the likeliest alternative.",
        ),
    ] = CompareConfig.foil,
    alternatives: Annotated[
        list[str] | None,
        typer.Option(
            "--alternative",
            metavar="VALUE",
            rich_help_panel=EVIDENCE_PANEL,
            help="A value that could take the place of the stated ones. Repeatable. Default: other values of the same kind.",
        ),
    ] = None,
    evidence: Annotated[
        str,
        typer.Option(
            metavar="|".join(EVIDENCE_LEVELS),
            rich_help_panel=EVIDENCE_PANEL,
            help="How many interventions decide the verdict: none, quick (at most 40 passes) or full (240).",
        ),
    ] = CompareConfig.evidence,
    seed: Annotated[
        int, typer.Option(rich_help_panel=EVIDENCE_PANEL, help="Seed of the interventions.", min=0)
    ] = CompareConfig.seed,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=EVIDENCE_PANEL,
            help="Run an intervention of a saved report again; needs --row.",
        ),
    ] = None,
    row: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=EVIDENCE_PANEL,
            help="With --replay: its number, which `cotrace show FILE --full` prints.",
            min=0,
        ),
    ] = None,
    model: options.ModelOption = DEFAULT_MODEL,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            rich_help_panel=options.MODEL_PANEL,
            help="Also compare the transcript under this model, and print both side by side.",
        ),
    ] = None,
    transcoders: options.TranscodersOption = None,
    max_features: Annotated[
        int,
        typer.Option(
            rich_help_panel=options.BUDGET_PANEL, help="Compute at most this many rows of the circuit.", min=1
        ),
    ] = CompareConfig.max_features,
    memory: options.MemoryOption = None,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=OUTPUT_PANEL,
            help="Where to write the report, *.arrow; with --file, the folder. Default: out/QUESTION.arrow.",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=OUTPUT_PANEL,
            help="Where to save the picture: .svg, .html, .png, .pdf or .dot. Default: .svg next to the report.",
        ),
    ] = None,
    force: options.ForceOption = False,
    json: options.JsonOption = False,
) -> None:
    """Compare the stated reasoning of a transcript with what the model does inside.

    Did the stated steps produce the answer, or something else? Prints a verdict with its evidence, the score of each step,
    and where the answer comes from; writes the report with its circuit, a picture and an interactive page.

    cotrace compare --question 'What is 3 + 4, doubled?' --reasoning '3 + 4 is 7. Doubled it is 14.' --answer 14
    """
    texts = dict(zip(TEXTS, (question, hint, reasoning, answer), strict=True))
    check_source(texts, {"--transcript": transcript, "--chat": chat, "--file": file, "--replay": replay})
    check_options({"--row": row}, "--replay FILE", replay is not None)
    check_options({"--out": out}, "transcripts", replay is None)
    if replay is not None and row is None:
        raise ArgumentError("--replay needs the number of a row of the evidence: add --row N")
    check_options({"--max-new-tokens": max_new_tokens}, "--generate", generate)
    bytes_allowed = None if memory is None else parse_bytes("--memory", memory)
    config = CompareConfig(evidence, foil, alternatives, seed, max_features, bytes_allowed)
    loading: dict[str, Any] = {"transcoders": transcoders, "device": device, "dtype": dtype}
    files = Files(out, picture, force)
    given: dict[str, Any] = {}
    for_one = {"--against": against, "--picture": picture, "--foil": foil, "--alternative": alternatives}
    check_options(for_one, "one transcript", file is None and replay is None)
    if file is not None:
        files.check_folder()
    elif replay is None:
        given = given_of(texts, transcript, chat)
        files.check()

    from cotrace.batch.compare import CompareOptions
    from cotrace.batch.transcripts import BatchTranscript
    from cotrace.faithfulness.inputs import MAX_NEW_TOKENS

    from .compare_run import compare_file, compare_one, replay_row

    written = (max_new_tokens or MAX_NEW_TOKENS) if generate else None
    asked = CompareOptions(config, written)
    if replay is not None and row is not None:
        replay_row(replay, row, None if model == DEFAULT_MODEL else model, loading, json)
    elif file is not None:
        compare_file(file, files.folder, asked, {"model": model, **loading}, json)
    else:
        models = [model] if against is None else [model, against]
        compare_one(BatchTranscript("", given, None, foil, alternatives), models, asked, loading, files, json)
