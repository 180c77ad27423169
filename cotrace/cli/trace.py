"""`cotrace trace`: a prompt's circuit as a graph file and a picture, or many prompts' circuits as a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cotrace.attribution.tracing.config import SELECT_CHOICES, SelectBy, TraceConfig
from cotrace.common.errors import ArgumentError
from cotrace.defaults import DEFAULT_MODEL
from cotrace.graphs import Graph, Label
from cotrace.graphs.drawing.config import DrawingConfig
from cotrace.graphs.prune import PruneConfig, check_threshold
from cotrace.target_syntax import parse_bytes, parse_positions, parse_targets

from . import options, verbosity
from .command import name_options
from .prompt_source import read_prompt

if TYPE_CHECKING:
    from cotrace.batch import BatchSummary

NODES_SHOWN = PATHS_SHOWN = 5


def trace(
    prompt: options.PromptArgument = None,
    prompt_file: options.PromptFileOption = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=options.MANY_PANEL,
            help="Instead of PROMPT: a file of JSON lines (.jsonl) or Parquet with a column `prompt` (a text, token ids or "
            "a chat) and, optionally, `id` and `targets`. The same command continues after an interruption.",
        ),
    ] = None,
    model: options.ModelOption = DEFAULT_MODEL,
    transcoders: options.TranscodersOption = None,
    features: options.FeaturesOption = None,
    labels: options.LabelsOption = None,
    targets: options.TargetsOption = None,
    position: options.PositionOption = None,
    max_targets: options.MaxTargetsOption = TraceConfig.max_targets,
    target_mass: options.TargetMassOption = TraceConfig.target_mass,
    coverage: Annotated[
        float,
        typer.Option(
            rich_help_panel=options.BUDGET_PANEL,
            help="Stop when skipped features hold at most 1 − COVERAGE of the influence.",
        ),
    ] = TraceConfig.coverage,
    max_features: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=options.BUDGET_PANEL, help="Compute the rows of at most this many features.", min=0
        ),
    ] = TraceConfig.max_features,
    max_seconds: Annotated[
        float | None,
        typer.Option(rich_help_panel=options.BUDGET_PANEL, help="Stop computing rows after about this many seconds."),
    ] = TraceConfig.max_seconds,
    masked_positions: options.MaskedPositionsOption = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=options.BUDGET_PANEL,
            help="Rows per batch; changes results by rounding only. Default: chosen for speed.",
            min=1,
        ),
    ] = TraceConfig.batch_size,
    memory: options.MemoryOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            rich_help_panel=options.BUDGET_PANEL,
            help="Only estimate the memory, disk space, rows and time that the trace needs.",
        ),
    ] = False,
    select: Annotated[
        str,
        typer.Option(
            rich_help_panel=options.BUDGET_PANEL,
            metavar="|".join(SELECT_CHOICES),
            help="What the three limits select features by: their influence, or their total effect on the targets.",
        ),
    ] = TraceConfig.select,
    effects: Annotated[
        bool,
        typer.Option(
            "--effects/--no-effects",
            rich_help_panel=options.BUDGET_PANEL,
            help="Save with each node its total effect on the targets, and the change that is expected when it is ablated.",
        ),
    ] = TraceConfig.effects,
    sampled: Annotated[
        bool,
        typer.Option(
            "--sampled",
            rich_help_panel=options.BUDGET_PANEL,
            help="Draw rows at random within --max-features, --max-seconds or --standard-error: influences are unbiased "
            "estimates with standard errors, also for long prompts.",
        ),
    ] = TraceConfig.sampled,
    seed: Annotated[
        int,
        typer.Option(
            rich_help_panel=options.BUDGET_PANEL,
            help="With --sampled: decides which rows are drawn. `cotrace merge` joins graphs of several seeds.",
            min=0,
        ),
    ] = TraceConfig.seed,
    standard_error: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=options.BUDGET_PANEL,
            help="With --sampled: draw rows until the largest standard error of a span's share is expected to be this, "
            "such as 0.01.",
        ),
    ] = TraceConfig.standard_error,
    keep_partial: Annotated[
        bool,
        typer.Option(
            "--keep-partial",
            rich_help_panel=options.BUDGET_PANEL,
            help="With --sampled: after Ctrl-C, write the graph of the finished rounds.",
        ),
    ] = False,
    node_threshold: options.NodeThresholdOption = PruneConfig.node_threshold,
    edge_threshold: options.EdgeThresholdOption = PruneConfig.edge_threshold,
    keep_errors: options.KeepErrorsOption = PruneConfig.keep_errors,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the results; created if it does not exist.")] = Path("out"),
    chat: options.ChatOption = False,
    full: Annotated[
        bool, typer.Option("--full", help="Also keep the unpruned graph: NAME.full.arrow.zst, with --prompts in _full.")
    ] = False,
    heads: Annotated[
        bool,
        typer.Option(
            "--heads",
            rich_help_panel=options.CIRCUIT_PANEL,
            help="Also find the attention heads that carry each edge of the circuit; `cotrace heads` prints them.",
        ),
    ] = False,
    force: options.ForceOption = False,
    max_nodes: options.MaxNodesOption = DrawingConfig.max_nodes,
    max_edges: options.MaxEdgesOption = DrawingConfig.max_edges,
    row_cache_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            rich_help_panel=options.MANY_PANEL,
            help="With --prompts: cache rows in temporary files of this size, such as 2GiB, for prompts that start alike.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=options.MANY_PANEL,
            help="With --prompts: start this many processes, each with a model and a GPU or a share of the CPUs. Needs Ray.",
            min=1,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=options.MANY_PANEL,
            help="With --prompts: use a Ray cluster, auto or HOST:PORT. Default: this machine.",
        ),
    ] = None,
) -> None:
    """Trace PROMPT and write its circuit: a graph file, a picture and a summary.

    With --prompts, trace a file of prompts into a data set with one folder id=… for each, without pictures.
    """
    from .output_paths import check_folder, file_stem

    for_many = {"--workers": workers, "--ray": ray, "--row-cache-bytes": row_cache_bytes}
    check_prompt_options((prompt, prompt_file), prompts, dry_run, for_many)
    if prompts is not None and force:
        raise ArgumentError("--force is for one PROMPT; with --prompts choose another folder with --out")
    if prompts is not None and heads:
        raise ArgumentError("--heads is for one PROMPT; omit it with --prompts")
    if prompts is not None and labels:
        raise ArgumentError(
            "--labels is for one PROMPT; with --prompts label graphs afterwards: cotrace label FILE --labels FILE"
        )
    check_threshold("--node-threshold", node_threshold)
    check_threshold("--edge-threshold", edge_threshold)
    config = TraceConfig(
        position=parse_positions("--position", position) if position else TraceConfig.position,
        max_targets=max_targets,
        target_mass=target_mass,
        coverage=coverage,
        max_features=max_features,
        max_seconds=max_seconds,
        masked_positions=options.positions("--masked-positions", masked_positions),
        batch_size=batch_size,
        memory=None if memory is None else parse_bytes("--memory", memory),
        select=cast(SelectBy, select),
        effects=effects,
        sampled=sampled,
        seed=seed,
        standard_error=standard_error,
    )
    if keep_partial and not sampled:
        raise ArgumentError("--keep-partial keeps finished rounds of --sampled: add it, or omit --keep-partial")
    if keep_partial and prompts is not None:
        raise ArgumentError("--keep-partial is for one PROMPT; with --prompts the same command continues after Ctrl-C")
    pruning = PruneConfig(node_threshold, edge_threshold, keep_errors)
    parsed_targets = parse_targets(targets) if targets else None
    text = "" if prompts is not None else read_prompt(prompt, prompt_file)
    loading: dict[str, Any] = {"model": model, "transcoders": transcoders, "device": device, "dtype": dtype}
    loading["features"] = features
    given_labels = [read_labels(path) for path in labels or ()]
    check_folder(out)
    if prompts is not None:
        import cotrace

        report_batch(
            cotrace.trace_many(
                prompts,
                out,
                **loading,
                targets=parsed_targets,
                **vars(config),
                chat=chat,
                **vars(pruning),
                full=full,
                workers=workers,
                ray=ray,
                row_cache_bytes=parse_bytes("--row-cache-bytes", row_cache_bytes) if row_cache_bytes else 0,
            )
        )
        return
    content: Any = [{"role": "user", "content": text}] if chat else text
    if dry_run:
        estimate(content, parsed_targets, config, loading)
        return
    graph, circuit = trace_one(content, parsed_targets, config, pruning, heads, loading, given_labels, keep_partial)
    stem = file_stem(text, targets or (), position or (), chat)
    drawing = {"max_nodes": max_nodes, "max_edges": max_edges}
    write(circuit, graph, out / stem, drawing, force, features, full=full)


def check_prompt_options(
    prompt: tuple[str | None, Path | None], prompts: Path | None, dry_run: bool, for_many: dict[str, Any]
) -> None:
    """Raise ArgumentError unless there is one prompt or a file of several, with options that belong to it."""
    one = prompt != (None, None)
    if one and prompts is not None:
        raise ArgumentError("give one PROMPT, or a file of several with --prompts, not both")
    if prompts is not None and dry_run:
        raise ArgumentError("--dry-run is for one PROMPT; omit it with --prompts")
    given = [name for name, value in for_many.items() if value is not None]
    if one and given:
        raise ArgumentError(f"{', '.join(given)} can only be used with --prompts; omit it to trace one PROMPT")


def read_labels(path: Path) -> Mapping[tuple[int, int], Label]:
    """Return the labels in a file by layer and number. Raises FileError for a file without any, or a damaged one."""
    from cotrace.features.store.label_files import read_label_file

    return read_label_file(path)


def trace_one(
    content: Any,
    targets: Any,
    config: TraceConfig,
    pruning: PruneConfig,
    heads: bool,
    loading: dict[str, Any],
    labels: Sequence[Mapping[tuple[int, int], Label]],
    keep_partial: bool = False,
) -> tuple[Graph, Graph]:
    """Load a model, trace one prompt and label its features; return the graph and its circuit.

    With `heads` the circuit has the heads of its edges.
    """
    import cotrace
    from cotrace.common.progress import Progress

    model = cotrace.load(**loading)
    graph = model.trace(content, targets, **vars(config), keep_partial=keep_partial)
    for each in labels:
        graph.add_labels(each)
    with Progress().phase("pruning"):
        circuit = graph.prune(**vars(pruning))
    return graph, model.add_heads(circuit) if heads else circuit


def estimate(content: Any, targets: Any, config: TraceConfig, loading: dict[str, Any]) -> None:
    """Load a model and print the memory, disk space, rows and time that tracing one prompt needs."""
    import cotrace

    from .report import print_plan

    print_plan(cotrace.load(**loading).plan(content, targets, progress=None, **vars(config)))


def report_batch(summary: "BatchSummary") -> None:
    """Print how many prompts of a file were traced, skipped and failed, and why; exit with status 1 if any failed."""
    from .report import print_line, printable

    print_line(
        f"traced {summary.traced:,}, skipped {summary.skipped:,} finished earlier, failed {summary.failed:,}; "
        f"records in {summary.records}"
    )
    flags = {name: f"--{name.replace('_', '-')}" for name in vars(TraceConfig())}
    for reason in summary.reasons:
        print_line(printable(name_options(f"failed: {reason}", flags)))
    if summary.failed > len(summary.reasons):
        print_line(f"… and {summary.failed - len(summary.reasons):,} more, with their reasons in {summary.records}")
    if summary.failed:
        raise typer.Exit(1)


def write(
    circuit: Graph,
    graph: Graph,
    name: Path,
    drawing: dict[str, int],
    force: bool,
    features: Path | None = None,
    *,
    full: bool = False,
) -> None:
    """Write the circuit, its picture and page and, with `full`, the unpruned graph; `name` is a path without a suffix.

    The page has the cards of the feature store `features`. Then prints a summary, with shares of spans if rows were drawn, and last which files were written and what
    to open: a reader that closes its pipe loses no file.
    """
    from cotrace.graphs import summarize

    from .output_paths import save_result
    from .pages import save_page
    from .report import print_answer, print_line, print_summary, print_written
    from .report_queries import print_shares
    from .show_queries import find_shares

    planned = Path(f"{name}.arrow")
    file = save_result(planned, circuit.save, force=force)
    results, name = {planned: file}, file.with_suffix("")
    if full:
        planned = Path(f"{name}.full.arrow.zst")
        results[planned] = save_result(planned, graph.save, force=force)
    planned = Path(f"{name}.svg")
    results[planned] = save_result(planned, lambda path: circuit.render(path, **drawing), force=force)
    planned, page = save_page(circuit, file, features=features, force=force)
    results[planned] = page
    if not verbosity.current.quiet:
        print_summary(circuit)
        if graph.sampled:
            print_shares(graph, find_shares(graph))
        print_answer(circuit, summarize(circuit, n_nodes=NODES_SHOWN, n_paths=PATHS_SHOWN))
    for planned, path in results.items():
        print_written(path, planned)
    if not verbosity.current.quiet:
        print_line(f"open {page} in a browser; `cotrace show {file}` prints more")
