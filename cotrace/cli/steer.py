"""`cotrace steer`: what a model writes without and with changes, side by side."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cotrace.common.errors import CotraceError

from .trace import HOW_TO_NAME_TRANSCODERS

if TYPE_CHECKING:
    from rich.text import Text

    from cotrace.attribution.interventions.generate import Generation
    from cotrace.attribution.interventions.result import ProbabilityChange

HOW_TO_NAME_NODES = (
    "NODE: a feature L5#123, an error node L5error, or L12:FILE, a direction after layer 12 that a .npy or "
    ".safetensors file holds. Behind it where: @4, @-1 from the prompt's end, @2:6, @3,5, @prompt, @generated; "
    "default @all, those of the prompt and every new one. Names from `cotrace show` can be pasted ('L5 #123@4'), "
    "several joined: 'L5 #123@4 + L6 #7'."
)

HOW_TO_FREEZE = (
    "What is held as it is without changes: none; attention, its patterns; all, also norms, and every feature that is "
    "not changed."
)

HOW_TO_TREAT_ERRORS = (
    "What stands for an MLP that is not held: recomputed, the MLP itself; constant, the transcoders, with the errors "
    "of the run without changes."
)

WHERE_IT_HOLDS = "Where --freeze holds: a layer, or FIRST:STOP. Repeatable; default: every layer."

MARK = "▸"  # where texts part
MOST_MOVED = 10
LEAST_MOVE = 0.00005  # less is shown as 0.00%
LONGEST_TITLE = 60


def steer(
    prompt: Annotated[str, typer.Argument(help="The text that the model goes on with.")],
    ablate: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help=f"Set to zero, or take away. Repeatable. {HOW_TO_NAME_NODES}"),
    ] = None,
    set_to: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NODE=VALUE", help="Set an activation: L5#123@generated=2.5. Repeatable."),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE=VALUE", help="Add to an activation: L12:direction.npy=-3. Repeatable."),
    ] = None,
    multiply: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE=FACTOR", help="Multiply an activation: 'L5 error@4=0.5'. Repeatable."),
    ] = None,
    model: Annotated[str, typer.Option(help="gemma-3-270m, a Hub id, a folder or a .gguf file.")] = "gemma-3-270m",
    transcoders: Annotated[str | None, typer.Option(help=HOW_TO_NAME_TRANSCODERS)] = None,
    freeze: Annotated[str, typer.Option(help=HOW_TO_FREEZE)] = "none",
    layer: Annotated[
        list[str] | None,
        typer.Option(help=WHERE_IT_HOLDS),
    ] = None,
    errors: Annotated[str, typer.Option(help=HOW_TO_TREAT_ERRORS)] = "recomputed",
    max_new_tokens: Annotated[int, typer.Option(help="Write at most so many tokens.", min=1)] = 40,
    temperature: Annotated[
        float,
        typer.Option(
            help="0 takes the likeliest token, else tokens are drawn at this temperature. Probabilities are shown at 1.",
            min=0,
        ),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(help="Of the draws, the same without and with changes.", min=0, max=2**63 - 1)
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float64, or bfloat16 (storage only).")] = "auto",
    chat: Annotated[bool, typer.Option(help="Wrap the prompt as a user's turn of the model's chat template.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write texts, tokens, probabilities and settings as JSON to this file.")
    ] = None,
) -> None:
    """Let the model go on with PROMPT without and with changes, and show both texts and what moved.

    cotrace steer "The opposite of hot is" --ablate "L17 #264@5"
    """
    from .output_paths import check_target

    if not prompt:
        raise CotraceError("the prompt is empty; write some text")
    if layer and freeze == "none":
        raise CotraceError("--layer says where --freeze holds; add --freeze attention or --freeze all")
    given = {"ablate": ablate or [], "set": set_to or [], "add": add or [], "multiply": multiply or []}

    from cotrace.attribution.interventions.config import InterventionConfig, SamplingConfig

    from .edit_syntax import parse_changes, parse_layers

    changes = parse_changes(given)
    setting: dict[str, Any] = {"freeze": freeze, "layers": parse_layers(layer or []), "errors": errors}
    sampling: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    InterventionConfig(**setting)
    SamplingConfig(**sampling)
    if out is not None:
        check_target(out)

    import cotrace

    from .report import say_written

    loaded = cotrace.load(model, transcoders, device=device, dtype=dtype)
    said = [{"role": "user", "content": prompt}] if chat else prompt
    changed = loaded.generate(said, changes, **setting, **sampling, progress=None)
    comparison = compare(loaded.generate(said, **sampling, progress=None), changed)
    if out is not None:  # before the first line: whoever reads those may stop reading
        settings = {**setting, **sampling, "dtype": str(loaded.weights.dtype).removeprefix("torch.")}
        asked = {"prompt": prompt, "chat": chat, "changes": given, "settings": settings}
        write({**loaded.describe(), **asked, **as_json(comparison)}, out)
    print_comparison(comparison)
    if out is not None:
        say_written(out)


class Moves(NamedTuple):
    """How the probabilities of one new token differ; the tokens before it are the same in both texts."""

    step: int
    kl: float  # KL(without ‖ with), in nats
    moved: list["ProbabilityChange"]


class Comparison(NamedTuple):
    """Two generations from one prompt: the first new token, and where they part, if they do."""

    plain: "Generation"
    changed: "Generation"
    first: Moves
    first_divergence: Moves | None


def compare(plain: "Generation", changed: "Generation") -> Comparison:
    """What the changes did."""
    from cotrace.attribution.interventions.generate import first_divergence

    step = first_divergence(plain, changed)
    return Comparison(plain, changed, moves(plain, changed, 0), None if step is None else moves(plain, changed, step))


def moves(plain: "Generation", changed: "Generation", step: int) -> Moves:
    """How the probabilities from which new token `step` was chosen differ."""
    from cotrace.attribution.interventions.result import divergence, top_probability_changes

    before_V, after_V = (generation.next_probabilities(step) for generation in (plain, changed))
    return Moves(
        step,
        divergence(before_V, after_V),
        top_probability_changes(plain.prompt.tokenizer, before_V, after_V, MOST_MOVED),
    )


def print_comparison(comparison: Comparison) -> None:
    """Both texts in columns, and the tokens whose probabilities moved."""
    from .report import console

    print_texts(comparison)
    for node in comparison.changed.idle:
        said = f"{node} was nowhere active, or multiplied by 1: its change did nothing"
        console.print(said, markup=False, highlight=False)
    print_moves(comparison.first, "the first new token")
    console.print(f"KL(without ‖ with) at the first new token: {comparison.first.kl:.3g} nats", highlight=False)
    if comparison.first_divergence is not None and comparison.first_divergence.step > 0:
        common = comparison.plain.prompt.tokenizer.decode(
            comparison.plain.token_ids[: comparison.first_divergence.step]
        )
        shown = common if len(common) <= LONGEST_TITLE else f"…{common[1 - LONGEST_TITLE :]}"
        console.print()
        print_moves(comparison.first_divergence, f"where they part, after {shown!r}")


def print_texts(comparison: Comparison) -> None:
    """What was written, in two columns, with a mark where the texts part."""
    from rich import box
    from rich.table import Table

    from .report import console

    step = None if comparison.first_divergence is None else comparison.first_divergence.step
    table = Table(box=box.MINIMAL, expand=True, show_edge=False)
    for name in ("without", "with"):
        table.add_column(name, ratio=1, overflow="fold")
    table.add_row(*(readable(generation, step) for generation in (comparison.plain, comparison.changed)))
    console.print(table)
    console.print(same_text(comparison) if step is None else f"{MARK} where the texts part", highlight=False)
    console.print()


def same_text(comparison: Comparison) -> str:
    """Words for texts that do not part, though the model may have been less or more sure of them."""
    both = zip(comparison.plain.probabilities, comparison.changed.probabilities, strict=True)
    most = max(abs(before - after) for before, after in both)
    return f"same text without and with the changes; the probabilities of its tokens moved by {most:.2%} at most"


def readable(generation: "Generation", first_divergence: int | None) -> "Text":
    """New tokens as text that cannot steer the terminal, with a mark where it parts from another."""
    from rich.text import Text

    text = generation.text
    if first_divergence is None:
        return Text(_lines(text))
    join, ids = generation.prompt.tokenizer.decode, generation.token_ids
    common = join(ids[:first_divergence])
    own = (
        text.removeprefix(common) if text.startswith(common) else join(ids[first_divergence:])
    )  # else inside a character
    return Text.assemble((_lines(common), "dim"), (MARK, "yellow"), (_lines(own), "bold"))


def _lines(text: str) -> str:
    from .report import printable

    return "\n".join(map(printable, text.expandtabs(4).split("\n")))


def print_moves(moves: Moves, where: str) -> None:
    """The tokens whose probabilities moved most at one place."""
    from rich.table import Table
    from rich.text import Text

    from .report import console

    table = Table("token", title=Text(where), title_justify="left", box=None)
    for name in ("before", "after", "difference"):
        table.add_column(name, justify="right")
    for token in moves.moved:
        difference = token.after - token.before
        if abs(difference) >= LEAST_MOVE:
            table.add_row(Text(repr(token.text)), f"{token.before:.2%}", f"{token.after:.2%}", f"{difference:+.2%}")
    console.print(table if table.row_count else Text(f"{where}: no probability moved by {LEAST_MOVE:.3%} or more"))


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison in JSON's types: both texts, and the moves at the first new token and where they part."""
    first, first_divergence = comparison.first, comparison.first_divergence
    return {
        "prompt_token_ids": comparison.plain.prompt.ids_P.tolist(),
        "without": _generation_json(comparison.plain),
        "with": _generation_json(comparison.changed),
        "idle": [str(node) for node in comparison.changed.idle],
        "first": _moves_json(first),
        "parting": None if first_divergence is None else _moves_json(first_divergence),
    }


def _generation_json(generation: "Generation") -> dict[str, Any]:
    ids = generation.token_ids
    return {
        "text": generation.text,
        "token_ids": ids,
        "tokens": [generation.prompt.tokenizer.decode_token(token) for token in ids],
        "probabilities": generation.probabilities,
        "ended": generation.ended,
    }


def _moves_json(moves: Moves) -> dict[str, Any]:
    kl = moves.kl if math.isfinite(moves.kl) else None  # JSON has no infinity
    return {"step": moves.step, "kl": kl, "moved": [token._asdict() for token in moves.moved]}


def write(result: dict[str, Any], path: Path) -> None:
    """Write a result as JSON, all or nothing."""
    from cotrace.common.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
