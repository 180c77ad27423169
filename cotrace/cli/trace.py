"""`cotrace trace`: a prompt's circuit as a graph file and a picture, or many prompts' circuits as a data set."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from cotrace.common.errors import CotraceError
from cotrace.target_syntax import parse_memory, parse_positions, parse_target

HOW_TO_NAME_TARGETS = (
    "A target: a token's exact text (' cold', with its space), id:1234, 'diff: cold| hot' for a logit difference, "
    "or feature:LAYER:POSITION:ID. Repeatable; default: the likeliest tokens."
)

HOW_TO_GIVE_PROMPTS = (
    "Instead of PROMPT: a file of JSON lines (.jsonl) or Parquet with a column `prompt` (a text, token ids or a chat) "
    "and, if wanted, `id` and `targets`. The same command goes on where it was stopped."
)

HOW_TO_NAME_POSITIONS = (
    "Where the targets are read: a number, negative from the end, or FIRST:STOP for all from FIRST up to STOP - 1. "
    "Repeatable; default: the last."
)

HOW_MANY_WORKERS = "For --prompts: so many processes, each with a model and a GPU or a share of the CPUs; needs Ray."

HOW_TO_NAME_TRANSCODERS = (
    "gemma-3-270m-clt (ships with cotrace), neurons, neurons:K, a folder or a Hub id. Default: what ships for the "
    "model, or else its neurons."
)


def trace(
    prompt: Annotated[str | None, typer.Argument(help="The text to trace.")] = None,
    prompts: Annotated[Path | None, typer.Option(help=HOW_TO_GIVE_PROMPTS)] = None,
    model: Annotated[str, typer.Option(help="gemma-3-270m, a Hub id, a folder or a .gguf file.")] = "gemma-3-270m",
    transcoders: Annotated[str | None, typer.Option(help=HOW_TO_NAME_TRANSCODERS)] = None,
    target: Annotated[list[str] | None, typer.Option(help=HOW_TO_NAME_TARGETS)] = None,
    max_targets: Annotated[int, typer.Option(help="At most so many of the likeliest tokens.", min=1)] = 10,
    target_mass: Annotated[float, typer.Option(help="Probability that the targets should hold together.")] = 0.95,
    coverage: Annotated[
        float, typer.Option(help="Rows may be left out of features with the rest of the influence.")
    ] = 1.0,
    max_features: Annotated[int | None, typer.Option(help="At most so many features' rows.", min=0)] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Stop computing rows after about so long.")] = None,
    position: Annotated[list[str] | None, typer.Option(help=HOW_TO_NAME_POSITIONS)] = None,
    next_tokens: Annotated[
        bool, typer.Option("--next", help="Targets: the token that PROMPT itself has after each --position.")
    ] = False,
    memory: Annotated[
        str | None, typer.Option(help="Stay within so much memory, such as 8GiB. Default: what is free.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Only say what the trace would take: memory, disk, rows, time.")
    ] = False,
    node_threshold: Annotated[float, typer.Option(help="Share of the influence that the kept nodes hold.")] = 0.8,
    edge_threshold: Annotated[float, typer.Option(help="Share of the influence that the kept edges hold.")] = 0.98,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float64, or bfloat16 (storage only).")] = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the results; made if it does not exist.")] = Path("out"),
    chat: Annotated[bool, typer.Option(help="Wrap the prompt as a user's turn of the model's chat template.")] = False,
    full: Annotated[
        bool, typer.Option(help="Also keep the graph before pruning, as NAME.full.arrow.zst; of many, in _full.")
    ] = False,
    max_nodes: Annotated[int, typer.Option(help="At most so many nodes on the picture.", min=2)] = 60,
    workers: Annotated[int | None, typer.Option(help=HOW_MANY_WORKERS, min=1)] = None,
    ray: Annotated[
        str | None, typer.Option(help="For --prompts: work on a Ray cluster, auto or HOST:PORT. Default: this machine.")
    ] = None,
) -> None:
    """Trace PROMPT and write its circuit: NAME.arrow, NAME.svg and a summary.

    With --prompts, trace many: a data set of circuits with a folder id=… for each, and no pictures.
    """
    from cotrace.graphs.prune import check_threshold

    from .output_paths import check_writable

    check_what(prompt, prompts, workers, ray, dry_run)
    check_threshold("--node-threshold", node_threshold)
    check_threshold("--edge-threshold", edge_threshold)
    check_threshold("--target-mass", target_mass)
    check_limits(coverage, max_features, max_seconds)
    if target and next_tokens:
        raise CotraceError("--next says what the targets are, and so does --target; use one of them")
    targets = "next" if next_tokens else [parse_target(text) for text in target] if target else None
    check_writable(out)

    to_load: dict[str, Any] = {"model": model, "transcoders": transcoders, "device": device, "dtype": dtype}
    options: dict[str, Any] = {  # of Model.trace
        "position": parse_positions(position or ["-1"]),
        "max_targets": max_targets,
        "target_mass": target_mass,
        "coverage": coverage,
        "max_features": max_features,
        "max_seconds": max_seconds,
        "memory": parse_memory(memory),
    }
    pruning: dict[str, Any] = {"node_threshold": node_threshold, "edge_threshold": edge_threshold}
    if prompt is None:
        alike = {"targets": targets, "chat": chat, "full": full, "workers": workers, "ray": ray}
        trace_file(prompts, out, **to_load, **options, **pruning, **alike)
        return

    import cotrace

    from .report import print_plan

    loaded = cotrace.load(**to_load)
    said = [{"role": "user", "content": prompt}] if chat else prompt
    if dry_run:
        print_plan(loaded.plan(said, targets, progress=None, **options))
        return
    write(loaded.trace(said, targets, **options), pruning, out / slug(prompt), full, max_nodes)


def check_what(prompt: str | None, prompts: Path | None, workers: int | None, ray: str | None, dry_run: bool) -> None:
    """Raise ValueError unless there is one prompt or a file of them, and workers for a file only."""
    if (prompt is None) == (prompts is None):
        raise CotraceError("give a PROMPT, or a file of many with --prompts; one of the two")
    if prompt == "":
        raise CotraceError("the prompt is empty; write some text")
    if prompts is not None and dry_run:
        raise CotraceError("--dry-run is for one PROMPT; leave it out for --prompts")
    if prompt is not None and (workers or ray):
        raise CotraceError("--workers and --ray are for --prompts; leave them out for one prompt")


def trace_file(prompts: Any, out: Path, **options: Any) -> None:
    """Trace a file of prompts, and say what became of them; exits with 1 if any failed."""
    import cotrace

    from .report import console

    summary = cotrace.trace_many(prompts, out, **options)
    console.print(
        f"traced {summary.traced:,}, skipped {summary.skipped:,} that were done, failed {summary.failed:,}; "
        f"records in {summary.records}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if summary.failed:
        raise typer.Exit(1)


def check_limits(coverage: float, max_features: int | None, max_seconds: float | None) -> None:
    """Raise ValueError for limits that make no sense."""
    from cotrace.attribution.tracing.row_selection import RowBudget

    RowBudget(coverage, max_features, max_seconds)


def write(graph: Any, pruning: dict[str, Any], name: Path, full: bool, max_nodes: int) -> None:
    """Write the circuit and, if asked for, the graph before pruning; NAME says where, without an ending."""
    from .report import console

    with console.status("pruning"):
        circuit = graph.prune(**pruning)
    written = [circuit.save(f"{name}.arrow")]
    if full:
        written.append(graph.save(f"{name}.full.arrow.zst"))
    finish(circuit, written, Path(f"{name}.svg"), max_nodes)


def finish(circuit: Any, written: list[Path], picture: Path, max_nodes: int) -> None:
    """Print the summary of a circuit, draw it, and print which files were written; the picture comes last."""
    from .report import print_paths, print_summary, say_written

    print_summary(circuit)
    print_paths(circuit, 8)
    for path in [*written, circuit.render(picture, max_nodes=max_nodes)]:
        say_written(path)


def slug(prompt: str, length: int = 60) -> str:
    """A file name for a prompt: its words, with a hash where they are cut short or none is left.

    Prompts that differ in case or punctuation only share a name; --out keeps them apart.
    """
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")
    name = words[:length].rstrip("-")
    if name and name == words:
        return name
    return f"{name or 'prompt'}-{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"
