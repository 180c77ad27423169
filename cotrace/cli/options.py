"""Options that several commands share: types, help texts and checks."""

from pathlib import Path
from typing import Annotated

import typer

from cotrace.attribution.models.dtypes import check_dtype
from cotrace.target_syntax import parse_positions

MODEL_PANEL, CIRCUIT_PANEL = "Model", "Circuit and picture"
TARGET_PANEL, BUDGET_PANEL, MANY_PANEL = "Target", "Budget", "Many prompts"

TARGETS_SYNTAX = (
    "What the graph explains: the exact text of a token (' cold', with its space), id:1234, 'diff: cold| hot' for a logit "
    "difference, a feature such as L17#264@5, or next for the token that PROMPT itself has after each --position. "
    "Repeatable. Default: the likeliest next tokens."
)

NODE_SYNTAX = (
    "NODE is a feature (L5#123), an error node (L5#error), a token (token@4), or a direction after a layer, read from a "
    ".npy or .safetensors file (L12:FILE). Positions follow an @: @4, @-1 (from the prompt's end), @2:6, @3,5, @prompt, @generated. Without "
    "them, NODE is edited at all positions of the prompt and at every new token. Names that `cotrace show` prints can be "
    "pasted. Join several nodes with +: 'L5#123@4 + L6#7'."
)

DATA_SYNTAX = (
    "A text file (.txt, .md, .rst, .jsonl or .parquet with a column `text`), a folder of them, a Hugging Face data set "
    "NAME[:SPLIT[:COLUMN]], or samples[:N] for N sequences that the model generates. Repeatable."
)

PromptArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT", help="The text; - reads it from standard input. Put -- before a text that starts with a dash."
    ),
]

PromptFileOption = Annotated[
    Path | None,
    typer.Option(
        "--prompt-file",
        metavar="FILE",
        help="Instead of PROMPT: a UTF-8 file with its text, - for standard input. A line break at its end is left out.",
    ),
]

ModelOption = Annotated[
    str, typer.Option("--model", rich_help_panel=MODEL_PANEL, help="gemma-3-270m, a Hub id, a folder or a .gguf file.")
]

TranscodersOption = Annotated[
    str | None,
    typer.Option(
        "--transcoders",
        rich_help_panel=MODEL_PANEL,
        help="gemma-3-270m-clt (comes with cotrace), neurons, neurons:K, a folder or a Hub id. Default: the set that comes "
        "with cotrace for the model, or else its neurons.",
    ),
]

FeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="STORE",
        rich_help_panel=MODEL_PANEL,
        help="A feature store of the transcoders, a folder that `cotrace features build` wrote: graphs get its labels. Default: "
        "the store that comes with cotrace for the transcoders, if it is installed.",
    ),
]

LabelsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Labels of features, which replace those of a feature store: .json, .jsonl, .csv or .tsv with a feature such as "
        "L17#264 and a label, or explanations that Neuronpedia exports. Repeatable.",
    ),
]

FeaturesOfOption = Annotated[
    str | None,
    typer.Option(
        "--transcoders",
        rich_help_panel=MODEL_PANEL,
        help="Transcoders, or an SAE or crosscoder of Gemma Scope 2: a name, a folder or a Hub id. Default: the set that comes with "
        "cotrace for the model, or else its neurons.",
    ),
]

DeviceOption = Annotated[str, typer.Option("--device", rich_help_panel=MODEL_PANEL, help="auto, cpu, cuda or cuda:N.")]


def _checked_dtype(name: str | None) -> str | None:
    """Check the name of a dtype before torch is imported, which takes seconds."""
    return None if name is None else check_dtype(name)


DtypeOption = Annotated[
    str,
    typer.Option(
        "--dtype",
        callback=_checked_dtype,
        rich_help_panel=MODEL_PANEL,
        help="auto, float32, float64, or bfloat16 (storage only).",
    ),
]

GraphDtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        callback=_checked_dtype,
        rich_help_panel=MODEL_PANEL,
        help="auto, float32, float64, or bfloat16 (storage only). Default: that of the graph.",
    ),
]

ChatOption = Annotated[
    bool, typer.Option("--chat", help="Wrap the prompt as a user's turn of the model's chat template.")
]

TargetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--targets",
        "--target",
        metavar="TARGET",
        rich_help_panel=TARGET_PANEL,
        help=TARGETS_SYNTAX,
    ),
]

PositionOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="POSITION",
        rich_help_panel=TARGET_PANEL,
        help="Where targets are read: an integer, negative from the end, or FIRST:STOP. Repeatable. Default: -1, the "
        "last position.",
    ),
]

MaxTargetsOption = Annotated[
    int,
    typer.Option(rich_help_panel=TARGET_PANEL, help="Take at most this many of the likeliest tokens.", min=1),
]

TargetMassOption = Annotated[
    float,
    typer.Option(
        rich_help_panel=TARGET_PANEL,
        help="Take the likeliest tokens until their probabilities add up to this.",
    ),
]

MemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        rich_help_panel=BUDGET_PANEL,
        help="Use at most this much memory, such as 8GiB. Default: the free memory.",
    ),
]

MaskedPositionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--masked-positions",
        metavar="POSITIONS",
        rich_help_panel=MODEL_PANEL,
        help="Positions without features: an integer or FIRST:STOP. Repeatable. Position 0 is always masked. Default: "
        "position 0, in a chat the first four.",
    ),
]

NodeThresholdOption = Annotated[
    float,
    typer.Option(
        "--node-threshold",
        rich_help_panel=CIRCUIT_PANEL,
        help="Keep the most influential nodes that hold this share of the influence, 0 to 1.",
    ),
]

EdgeThresholdOption = Annotated[
    float,
    typer.Option(
        "--edge-threshold",
        rich_help_panel=CIRCUIT_PANEL,
        help="Keep the strongest edges that carry this share of the influence, 0 to 1.",
    ),
]

KeepErrorsOption = Annotated[
    bool, typer.Option("--keep-errors", rich_help_panel=CIRCUIT_PANEL, help="Keep every error node.")
]

MaxEdgesOption = Annotated[
    int,
    typer.Option(
        "--max-edges",
        rich_help_panel=CIRCUIT_PANEL,
        help="Draw this many edges, and the strongest edge out of each node.",
        min=1,
    ),
]

MaxNodesOption = Annotated[
    int, typer.Option("--max-nodes", rich_help_panel=CIRCUIT_PANEL, help="Draw at most this many nodes.", min=2)
]

FreezeOption = Annotated[
    str,
    typer.Option(
        "--freeze",
        help="Values that stay those of the run without edits: none; attention (patterns); or all (patterns, norm scales, "
        "error nodes, and features that are not edited).",
    ),
]

LayersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        metavar="LAYERS",
        help="Layers in which --freeze applies: an integer or FIRST:STOP. Repeatable. Default: every layer.",
    ),
]

ErrorsOption = Annotated[
    str,
    typer.Option(
        "--errors",
        help="How an MLP that is not frozen is computed: recomputed (by the MLP itself), or constant (by the transcoders, "
        "with the error nodes of the run without edits).",
    ),
]

TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="What to explain: the text or node number of one target, or all. Default: the target that weighs more than all "
        "others together, or else all.",
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

FullOption = Annotated[
    bool, typer.Option("--full", help="Print every token and target, and all of a validation or report.")
]

CircuitOption = Annotated[
    bool,
    typer.Option("--circuit", help="Of a report that `cotrace compare` wrote: take its circuit, as any other graph."),
]

ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite a file of the same name that has other content.")]

GraphArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="A graph file, *.arrow; that of a report has a graph too.")
]


def positions(option: str, texts: list[str] | None) -> list[int] | None:
    """Return the integers that a repeatable option names, None if it is not given.

    Raises ArgumentError, with the name of the option, for anything but integers and FIRST:STOP.
    """
    if not texts:
        return None
    parsed = parse_positions(option, texts)
    return [parsed] if isinstance(parsed, int) else parsed
