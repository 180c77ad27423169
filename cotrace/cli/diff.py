"""`cotrace diff`: two graphs side by side, or one prompt with several sets of transcoders."""

import itertools
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cotrace.attribution.tracing.config import TraceConfig
from cotrace.common.errors import ArgumentError
from cotrace.defaults import DEFAULT_MODEL
from cotrace.graphs.diff.align import ALIGN_WORDS, Align
from cotrace.graphs.diff.diff import MIN_CHANGE, GraphDiff, check_options
from cotrace.graphs.drawing.config import DrawingConfig
from cotrace.graphs.nodes import parse_integers
from cotrace.target_syntax import parse_positions, parse_targets

from . import options

if TYPE_CHECKING:
    from cotrace.transcoder_comparison import TranscoderComparison

FILES_PANEL, PROMPT_PANEL = "Two files", "One prompt, several sets of transcoders"


class MatchChoice(StrEnum):
    """Rules by which features correspond."""

    FEATURE = "feature"
    LABEL = "label"
    GROUP = "group"
    SITE = "site"


class DiffTable(StrEnum):
    """Tables of a difference."""

    NODES = "nodes"
    EDGES = "edges"
    LABEL = "label"
    GROUP = "group"
    LAYER = "layer"
    POSITION = "position"
    KIND = "kind"


def diff(
    a: Annotated[Path | None, typer.Argument(metavar="A", help="A graph file, *.arrow.")] = None,
    b: Annotated[Path | None, typer.Argument(metavar="B", help="Another one.")] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=PROMPT_PANEL, help="Instead of A and B: a text to trace with each set of --transcoders."
        ),
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=PROMPT_PANEL,
            help="Instead of --prompt: a UTF-8 file with the text, - for standard input.",
        ),
    ] = None,
    transcoders: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=PROMPT_PANEL,
            help="gemma-3-270m-clt, neurons, neurons:K, a folder or a Hub id. Give at least two.",
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(rich_help_panel=PROMPT_PANEL, help="gemma-3-270m, a Hub id, a folder or a .gguf file."),
    ] = DEFAULT_MODEL,
    targets: Annotated[
        list[str] | None,
        typer.Option(metavar="TARGET", rich_help_panel=PROMPT_PANEL, help=options.TARGETS_SYNTAX),
    ] = None,
    position: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POSITION",
            rich_help_panel=PROMPT_PANEL,
            help="Where targets are read: an integer, negative from the end, or FIRST:STOP. Repeatable. Default: -1.",
        ),
    ] = None,
    chat: Annotated[
        bool,
        typer.Option(
            "--chat",
            rich_help_panel=PROMPT_PANEL,
            help="Wrap the prompt as a user's turn of the model's chat template.",
        ),
    ] = False,
    coverage: Annotated[
        float,
        typer.Option(
            rich_help_panel=PROMPT_PANEL, help="Stop when skipped features hold at most 1 − COVERAGE of the influence."
        ),
    ] = TraceConfig.coverage,
    max_features: Annotated[
        int | None,
        typer.Option(rich_help_panel=PROMPT_PANEL, help="Compute the rows of at most this many features.", min=0),
    ] = TraceConfig.max_features,
    graphs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", rich_help_panel=PROMPT_PANEL, help="Keep the unpruned graphs in this folder, *.arrow.zst."
        ),
    ] = None,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    align: Annotated[
        list[str] | None,
        typer.Option(
            metavar="|".join((*ALIGN_WORDS, "A=B")),
            help="Which positions correspond: tokens (fewest insertions, deletions and replacements), start or end (equal "
            "positions counted from there), or positions of A and B such as 4=5 or 1:5=2:6. Repeatable. Default: tokens.",
        ),
    ] = None,
    match: Annotated[
        MatchChoice | None,
        typer.Option(
            help="Which features correspond, at positions that do: with the same layer and number, the same label, in groups "
            "of the same name, or all of a layer together (site). Default: feature for the same transcoders, else label."
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="The target whose influence is compared: its text, or all. Given twice: the one of A and the one of B, "
            "which then correspond. Default: the one that weighs more than all others together, if both graphs have one, or "
            "else all."
        ),
    ] = None,
    min_change: Annotated[
        float,
        typer.Option(help="Call a node or edge in both graphs changed from this relative change of influence, 0 to 1."),
    ] = MIN_CHANGE,
    table: Annotated[
        DiffTable, typer.Option(help="The table to print: nodes, edges, or nodes summed by one of the others.")
    ] = DiffTable.NODES,
    top: Annotated[int, typer.Option(help="Number of rows to list, those that changed most.", min=0)] = 10,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Draw both graphs on one set of axes: a name in .html (an interactive page), .svg, .png, .pdf or .dot."
        ),
    ] = None,
    force: options.ForceOption = False,
    max_nodes: options.MaxNodesOption = DrawingConfig.max_nodes,
    max_edges: options.MaxEdgesOption = DrawingConfig.max_edges,
    json: options.JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print all rows of --table as CSV.")] = False,
) -> None:
    """Compare two graphs: nodes and edges in both, in one alone, and changed.

    A and B are graphs of one prompt with two models or sets of transcoders, or of two prompts, which are aligned by their
    tokens. Influence is the share of all paths' absolute weight that passes through a node. The weighted Jaccard
    index is the sum of the smaller influences over the sum of the larger: 1 for equal graphs, 0 if they share nothing.

    With --prompt and two or more --transcoders, trace the prompt with each set and compare every pair of graphs.
    """
    from cotrace.graphs.drawing.render import FORMATS, PAGE, checked_suffix

    from .output_paths import check_file, check_folder
    from .report import print_written

    if json and csv:
        raise ArgumentError("give --json or --csv, not both")
    if out is not None:
        checked_suffix(out, (*FORMATS, PAGE.removeprefix(".")))
        check_file(out)
    if csv and len(transcoders or ()) > 2:
        raise ArgumentError(f"--csv prints the table of one pair: give two --transcoders, not {len(transcoders or ())}")
    check_options(match, min_change)
    drawing = DrawingConfig(max_nodes, max_edges)
    choice: dict[str, Any] = {
        "align": parse_alignment(align),
        "match": match and match.value,
        "target": parse_target_pair(target),
        "min_change": min_change,
    }
    tracing = (prompt, prompt_file, transcoders, targets, position, graphs, chat or None)
    if a is not None or b is not None:
        pairs = [open_two(a, b, tracing, choice)]
        comparison = None
    else:
        if graphs is not None:
            check_folder(graphs, "--graphs")
        settings: dict[str, Any] = {"model": model, "device": device, "dtype": dtype, "coverage": coverage}
        settings |= {"max_features": max_features}
        if position:
            settings["position"] = parse_positions("--position", position)
        comparison = trace_sets(prompt, prompt_file, transcoders, targets, chat, settings)
        pairs = pairs_of(comparison, choice)
    written = write_files(comparison, pairs, graphs, out, drawing, force)  # first: a reader may close its pipe
    report_pairs(comparison, pairs, table, top, json=json, csv=csv)
    if not (json or csv):
        for path in written:
            print_written(path)


class Pair(NamedTuple):
    """Two graphs that are compared, the ending of the name of their picture, and the names of their files."""

    diff: GraphDiff
    ending: str
    names: list[str]


def open_two(a: Path | None, b: Path | None, tracing: tuple[Any, ...], choice: dict[str, Any]) -> Pair:
    """Return the difference of two files. Raises ArgumentError for one file, or options of a trace beside them."""
    from cotrace.graphs import open_graph

    if a is None or b is None:
        raise ArgumentError("give two graph files A and B, or --prompt with two or more --transcoders")
    if any(value is not None for value in tracing):
        raise ArgumentError(
            "--prompt, --prompt-file, --transcoders, --targets, --position, --chat and --graphs trace a prompt: omit them, "
            "or omit A and B"
        )
    names = [path.name.removesuffix(".zst") for path in (a, b)]
    return Pair(open_graph(a).diff(open_graph(b), **choice), "", names)


def trace_sets(
    prompt: str | None,
    prompt_file: Path | None,
    transcoders: list[str] | None,
    targets: list[str] | None,
    chat: bool,
    settings: dict[str, Any],
) -> "TranscoderComparison":
    """Trace a prompt with several sets of transcoders."""
    from .prompt_source import read_prompt

    if prompt is None and prompt_file is None:
        raise ArgumentError("give two graph files A and B, or --prompt with two or more --transcoders")
    if len(transcoders or ()) < 2:
        raise ArgumentError("give at least two --transcoders, such as gemma-3-270m-clt and neurons")
    text = read_prompt(prompt, prompt_file)
    import cotrace

    return cotrace.compare_transcoders(text, transcoders or (), parse_targets(targets) if targets else None, **settings)


def pairs_of(comparison: "TranscoderComparison", choice: dict[str, Any]) -> list[Pair]:
    """Return the difference of every pair of sets."""
    from .output_paths import words

    names = {name: words(name) for name in comparison.graphs}
    pairs = list(itertools.combinations(names, 2))
    return [
        Pair(
            comparison.diff(a, b, **choice),
            f"-{names[a]}-{names[b]}" if len(pairs) > 1 else "",
            [f"{names[each]}.arrow" for each in (a, b)],
        )
        for a, b in pairs
    ]


def report_pairs(
    comparison: "TranscoderComparison | None",
    pairs: list[Pair],
    table: DiffTable,
    top: int,
    *,
    json: bool,
    csv: bool,
) -> None:
    """Print differences as tables, JSON or CSV."""
    from .console import print_json
    from .report_diff import as_json, print_csv, print_diff, print_sets

    if csv:
        print_csv(pairs[0].diff, table.value)
    elif json and comparison is None:
        print_json(as_json(pairs[0].diff, table.value, top))
    elif json:
        assert comparison is not None
        found = [as_json(each.diff, table.value, top) for each in pairs]
        print_json({"transcoders": comparison.table.to_pylist(), "diffs": found})
    else:
        if comparison is not None:
            print_sets(comparison.table)
        for each in pairs:
            print_diff(each.diff, table.value, top)


def write_files(
    comparison: "TranscoderComparison | None",
    pairs: list[Pair],
    graphs: Path | None,
    out: Path | None,
    drawing: DrawingConfig,
    force: bool,
) -> list[Path]:
    """Write the graphs of a prompt and the pictures that are asked for, and return their paths."""
    from .output_paths import save_result, with_ending, words

    written = []
    if comparison is not None and graphs is not None:
        graphs.mkdir(parents=True, exist_ok=True)
        for name, graph in comparison.graphs.items():
            written.append(save_result(graphs / f"{words(name)}.arrow.zst", graph.save, force=force, option="--graphs"))
    if out is not None:
        for each in pairs:
            path = with_ending(out, each.ending)
            written.append(save_result(path, drawing_of(each, path, drawing), force=force, option="--out"))
    return written


def drawing_of(pair: Pair, path: Path, drawing: DrawingConfig) -> Callable[[Path], Path]:
    """Return the function that draws two graphs in a format, which is the suffix of `path`."""
    from cotrace.graphs.drawing.render import PAGE
    from cotrace.graphs.pages import page_maker

    if path.suffix.lower() == PAGE:
        return partial(page_maker().write, pair.diff, names=pair.names, drawing=drawing)
    return partial(pair.diff.render, max_nodes=drawing.max_nodes, max_edges=drawing.max_edges)


def parse_alignment(texts: list[str] | None) -> Align:
    """Return the alignment that --align names. Raises ArgumentError for other texts."""
    if not texts:
        return "tokens"
    if len(texts) == 1 and texts[0] in ALIGN_WORDS:
        return texts[0]
    return [pair for text in texts for pair in _position_pairs(text)]


def _position_pairs(text: str) -> list[tuple[int, int]]:
    ends = text.split("=")
    if len(ends) != 2:
        raise ArgumentError(
            f"--align {text}: expected {', '.join(ALIGN_WORDS)}, or positions of A and B such as 4=5 or 1:5=2:6"
        )
    a, b = (parse_integers(end) for end in ends)
    if len(a) != len(b):
        raise ArgumentError(f"--align {text} names {len(a)} positions of A and {len(b)} of B; name equally many")
    return list(zip(a, b, strict=True))


def parse_target_pair(texts: list[str] | None) -> str | tuple[str, str] | None:
    """Return the target that --target names, or those of A and B. Raises ArgumentError for more than two."""
    if not texts:
        return None
    if len(texts) > 2:
        raise ArgumentError(f"--target was given {len(texts)} times: give one, or one of A and one of B")
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])
