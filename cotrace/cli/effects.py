"""`cotrace effects`: how much tokens, errors and features contribute to a prediction, without a graph."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cotrace.attribution.effects.config import EffectsConfig
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.common.errors import ArgumentError
from cotrace.defaults import DEFAULT_MODEL
from cotrace.graphs import Effects, open_graph
from cotrace.graphs.drawing.figures import check_suffix
from cotrace.graphs.effect_data import GROUPINGS, NODE_KINDS, NODES_SHOWN, Grouping
from cotrace.graphs.effect_files import is_effects_file
from cotrace.target_syntax import parse_bytes, parse_positions, parse_targets

from . import effects_syntax, options
from .console import print_json
from .output_paths import check_file, check_free, save_result
from .prompt_source import read_prompt
from .report import print_written
from .report_effects import as_json, print_effects

EFFECTS_PANEL, OUTPUT_PANEL = "Effects", "Output"
FILE_SUFFIXES = (".arrow", ".arrow.zst")
FILE_OPTIONS = {
    "prompt",
    "targets",
    "segments",
    "by",
    "top",
    "kind",
    "out",
    "plot",
    "force",
    "json",
    "quiet",
    "verbose",
}


def effects(
    context: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT|FILE",
            help="The text; - reads it from standard input; put -- before a text that starts with a dash. Or a file *.arrow: a "
            "graph, or effects that --out wrote.",
        ),
    ] = None,
    prompt_file: options.PromptFileOption = None,
    model: options.ModelOption = DEFAULT_MODEL,
    transcoders: options.TranscodersOption = None,
    targets: options.TargetsOption = None,
    position: options.PositionOption = None,
    max_targets: options.MaxTargetsOption = TraceConfig.max_targets,
    target_mass: options.TargetMassOption = TraceConfig.target_mass,
    freeze: Annotated[
        str,
        typer.Option(
            rich_help_panel=EFFECTS_PANEL,
            help="What is frozen: all (attention patterns, norm scales, active features), norms (norm scales, active "
            "features), attention (patterns) or none. The rest responds, at first order.",
        ),
    ] = EffectsConfig.freeze,
    segments: Annotated[
        list[str] | None,
        typer.Option(
            "--segment",
            metavar="NAME=START:STOP",
            rich_help_panel=EFFECTS_PANEL,
            help="Name the positions START up to STOP - 1, and add up effects by segment. Repeatable.",
        ),
    ] = None,
    avoiding: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CUT",
            rich_help_panel=EFFECTS_PANEL,
            help="Leave out every path that visits these positions: a segment's NAME, an integer, FIRST:STOP, or several of "
            "these with commas; none for no cut. Repeatable: each is computed.",
        ),
    ] = None,
    integrate: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=EFFECTS_PANEL,
            help="inputs: average the effects of tokens on the way from --baseline to the prompt. ablation: average the effects of "
            "--nodes along their ablation.",
        ),
    ] = EffectsConfig.integrate,
    integration_steps: Annotated[
        int,
        typer.Option(
            "--steps", rich_help_panel=EFFECTS_PANEL, help="Number of points on the way of --integrate.", min=1
        ),
    ] = EffectsConfig.integration_steps,
    baseline: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=EFFECTS_PANEL,
            help="With --integrate inputs: another prompt of as many tokens, or mean for mean embeddings. Default: mean.",
        ),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="NAME=TOKENS",
            rich_help_panel=EFFECTS_PANEL,
            help="With the baseline mean: tokens whose mean replaces each of them, 'colours= red| blue'; others stay. "
            "Repeatable. Default: the mean of the whole vocabulary.",
        ),
    ] = None,
    nodes: Annotated[
        list[str] | None,
        typer.Option(
            "--nodes",
            "--node",
            metavar="NODE",
            rich_help_panel=EFFECTS_PANEL,
            help="With --integrate ablation: a feature (L5#123@4) or error node (L5#error@4). Repeatable.",
        ),
    ] = None,
    through_qk: Annotated[
        bool,
        typer.Option(
            "--through-qk",
            rich_help_panel=EFFECTS_PANEL,
            help="Also compute the credit along paths through attention scores, beside the effects.",
        ),
    ] = EffectsConfig.through_qk,
    by: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=OUTPUT_PANEL,
            help="Add up effects by segment, token, position or layer. Default: segment if there are any, else token.",
        ),
    ] = None,
    top: Annotated[
        int, typer.Option(rich_help_panel=OUTPUT_PANEL, help="Number of nodes, and of tokens, to list.", min=0)
    ] = NODES_SHOWN,
    kind: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=OUTPUT_PANEL, help="List nodes of one kind: feature, error or token. Default: all."
        ),
    ] = None,
    masked_positions: options.MaskedPositionsOption = None,
    memory: options.MemoryOption = None,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    chat: options.ChatOption = False,
    out: Annotated[
        Path | None, typer.Option(rich_help_panel=OUTPUT_PANEL, help="Also write all effects to this file, *.arrow.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(rich_help_panel=OUTPUT_PANEL, help="Also draw effects by position and layer: .svg, .png or .pdf."),
    ] = None,
    force: options.ForceOption = False,
    json: options.JsonOption = False,
) -> None:
    """Print how much tokens, errors and features contribute to what PROMPT predicts.

    An effect is the signed sum over all paths from a node to a target, in logits. Tokens, errors and constants add up to the
    target: the ledger. Features lie on the way, so that their effects are not added to these. No graph is computed.

    With a FILE, effects follow the edges of a graph, without the model; or those of a file of effects are printed.
    """
    check_output(out, plot, by, kind, force)
    spans = effects_syntax.parse_segments(segments or [])
    if from_file(prompt, prompt_file):
        refuse_options_of_prompts(context)
        found = read_file(Path(str(prompt)), targets or [], spans)
    else:
        config = EffectsConfig(freeze, integrate, integration_steps, through_qk)  # type: ignore[arg-type]
        asked: dict[str, Any] = {
            "targets": parse_targets(targets) if targets else None,
            "position": parse_positions("--position", position) if position else TraceConfig.position,
            **vars(config),
            "avoiding": effects_syntax.parse_cuts(avoiding or [], spans),
            "segments": spans,
            "baseline": baseline,
            "groups": effects_syntax.parse_groups(groups or []),
            "nodes": nodes or None,
            "max_targets": max_targets,
            "target_mass": target_mass,
            "masked_positions": options.positions("--masked-positions", masked_positions),
            "memory": None if memory is None else parse_bytes("--memory", memory),
        }
        text = read_prompt(prompt, prompt_file)
        content: Any = [{"role": "user", "content": text}] if chat else text
        loading: dict[str, Any] = {"model": model, "transcoders": transcoders, "device": device, "dtype": dtype}
        found = compute(content, asked, loading)
    grouping = choose_grouping(found, by)
    files = write(found, out, plot, force)
    if json:
        print_json({**as_json(found, grouping, top, kind), "files": [str(path) for path in files]})
        return
    print_effects(found, grouping, top, kind)
    for path in files:
        print_written(path)


def check_output(out: Path | None, plot: Path | None, by: str | None, kind: str | None, force: bool) -> None:
    """Raise CotraceError for results that cannot be written, and for an unknown group or kind."""
    if by not in (None, *GROUPINGS):
        raise ArgumentError(f"--by {by}: expected one of {', '.join(GROUPINGS)}")
    if kind not in (None, *NODE_KINDS):
        raise ArgumentError(f"--kind {kind}: expected one of {', '.join(NODE_KINDS)}")
    if out is not None and not out.name.endswith(FILE_SUFFIXES):
        raise ArgumentError(f"--out {out}: expected a name that ends in {' or '.join(FILE_SUFFIXES)}")
    if plot is not None:
        check_suffix(plot)
    for path, option in ((out, "--out"), (plot, "--plot")):
        if path is not None:  # before the work, whose result would be lost
            check_file(path, option)
            check_free(path, option, force)


def from_file(prompt: str | None, prompt_file: Path | None) -> bool:
    """Return whether PROMPT is the name of a graph or of effects."""
    return prompt is not None and prompt_file is None and prompt.endswith(FILE_SUFFIXES)


def refuse_options_of_prompts(context: typer.Context) -> None:
    """Raise ArgumentError for options that a file cannot follow."""
    given = [
        max(param.opts, key=len)
        for param in context.command.params
        if param.name not in FILE_OPTIONS and str(context.get_parameter_source(str(param.name))).endswith("COMMANDLINE")
    ]
    if given:
        raise ArgumentError(f"{', '.join(given)} can only be used with a PROMPT: a file has no model; omit it")


def read_file(path: Path, targets: list[str], segments: dict[str, Any]) -> Effects:
    """Return the effects along the edges of a graph, or those in a file of effects.

    Raises ArgumentError for targets or segments of a file of effects, and FileError for other files.
    """
    if not is_effects_file(path):
        return open_graph(path).effects(targets or None, segments=segments)
    if targets or segments:
        raise ArgumentError(f"{path} has the effects on its own targets: omit --target and --segment")
    return Effects.open(path)


def compute(content: Any, asked: dict[str, Any], loading: dict[str, Any]) -> Effects:
    """Load a model and compute effects at one prompt."""
    import cotrace

    return cotrace.load(**loading).effects(content, **asked)


def choose_grouping(effects: Effects, by: str | None) -> Grouping:
    """Return the group by which effects are added up. Raises ArgumentError for segments that there are not."""
    if by == "segment" and not effects.segments:
        raise ArgumentError("--by segment needs segments: add --segment NAME=START:STOP")
    return by or ("segment" if effects.segments else "token")  # type: ignore[return-value]


def write(effects: Effects, out: Path | None, plot: Path | None, force: bool) -> list[Path]:
    """Write effects and their plot, where they are asked for, and return the paths."""
    files = []
    if out is not None:
        files.append(save_result(out, effects.save, force=force, option="--out"))
    if plot is not None:
        files.append(save_result(plot, effects.plot, force=force, option="--plot"))
    return files
