"""Two generations side by side: their texts, and the tokens whose probabilities differ most."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from cotrace.attribution.interventions.generate import Generation
    from cotrace.attribution.interventions.result import ProbabilityChange

MARK = "▸"  # where the texts diverge
TOP_CHANGES = 10
SMALLEST_SHOWN = 0.00005  # smaller differences would be shown as 0.00%
TITLE_LENGTH = 60


class NextTokenChange(NamedTuple):
    """The change of the probabilities of one new token; the tokens before it are the same in both texts."""

    step: int
    kl: float  # KL(without ‖ with), in nats
    top_changes: list["ProbabilityChange"]


class Comparison(NamedTuple):
    """Two generations from one prompt, compared at the first new token and where they diverge, if they do."""

    plain: "Generation"
    edited: "Generation"
    first: NextTokenChange
    divergence: NextTokenChange | None


def compare(plain: "Generation", edited: "Generation") -> Comparison:
    """Compare the generation without edits and the one with them."""
    from cotrace.attribution.interventions.generate import first_divergence

    step = first_divergence(plain, edited)
    divergence = None if step is None else next_token_change(plain, edited, step)
    return Comparison(plain, edited, next_token_change(plain, edited, 0), divergence)


def next_token_change(plain: "Generation", edited: "Generation", step: int) -> NextTokenChange:
    """Compare the probabilities from which new token `step` was chosen."""
    from cotrace.attribution.interventions.result import divergence, top_probability_changes

    before_V, after_V = (generation.next_probabilities(step) for generation in (plain, edited))
    top_changes = top_probability_changes(plain.prompt.tokenizer, before_V, after_V, TOP_CHANGES)
    return NextTokenChange(step, float(divergence(before_V.log(), after_V.log())), top_changes)


def print_comparison(comparison: Comparison) -> None:
    """Print both texts in columns, and the tokens whose probabilities changed most."""
    from cotrace.common.visible_text import quoted

    from .report import console, print_line

    print_texts(comparison)
    for node in comparison.edited.idle:
        print_line(f"{node} was active nowhere, or multiplied by 1: its edit did nothing")
    print_changes(comparison.first, "the first new token")
    print_line(f"KL(without ‖ with) at the first new token: {comparison.first.kl:.3g} nats")
    if comparison.divergence is not None and comparison.divergence.step > 0:
        common = comparison.plain.prompt.tokenizer.decode(comparison.plain.token_ids[: comparison.divergence.step])
        shown = common if len(common) <= TITLE_LENGTH else f"…{common[1 - TITLE_LENGTH :]}"
        console.print()
        print_changes(comparison.divergence, f"where the texts diverge, after {quoted(shown)}")


def print_texts(comparison: Comparison) -> None:
    """Print both texts with a mark where they diverge: side by side on a terminal, else one after the other."""
    from .report import console, print_line

    step = None if comparison.divergence is None else comparison.divergence.step
    texts = {
        "without": readable(comparison.plain, step),
        "with": readable(comparison.edited, step),
    }
    if console.is_terminal:
        console.print(_side_by_side(texts))
    else:
        for name, text in texts.items():
            print_line(f"{name}:")
            print_line(text.plain)
    print_line(same_text(comparison) if step is None else f"{MARK} where the texts diverge")
    console.print()


def _side_by_side(texts: dict[str, "Text"]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.MINIMAL, expand=True, show_edge=False)
    for name in texts:
        table.add_column(name, ratio=1, overflow="fold")
    table.add_row(*texts.values())
    return table


def same_text(comparison: Comparison) -> str:
    """Return a sentence on two equal texts, with the largest change of a token's probability."""
    pairs = zip(comparison.plain.probabilities, comparison.edited.probabilities, strict=True)
    largest = max(abs(before - after) for before, after in pairs)
    return f"same text without and with the edits; the probabilities of its tokens changed by at most {largest:.2%}"


def readable(generation: "Generation", divergence: int | None) -> "Text":
    """Return the new tokens as text without terminal codes, with a mark before token `divergence`."""
    from rich.text import Text

    text = generation.text
    if divergence is None:
        return Text(_printable_lines(text))
    decode, ids = generation.prompt.tokenizer.decode, generation.token_ids
    common = decode(ids[:divergence])
    inside_character = not text.startswith(common)
    rest = decode(ids[divergence:]) if inside_character else text.removeprefix(common)
    return Text.assemble((_printable_lines(common), "dim"), (MARK, "yellow"), (_printable_lines(rest), "bold"))


def _printable_lines(text: str) -> str:
    from cotrace.common.visible_text import printable

    return "\n".join(map(printable, text.expandtabs(4).split("\n")))


def print_changes(change: NextTokenChange, where: str) -> None:
    """Print the tokens whose probabilities changed most at one step."""
    from rich.table import Table
    from rich.text import Text

    from cotrace.common.visible_text import quoted

    from .report import console, print_line

    table = Table("token", box=None)
    for name in ("before", "after", "difference"):
        table.add_column(name, justify="right")
    for token in change.top_changes:
        difference = token.after - token.before
        if abs(difference) >= SMALLEST_SHOWN:
            table.add_row(Text(quoted(token.text)), f"{token.before:.2%}", f"{token.after:.2%}", f"{difference:+.2%}")
    if not table.row_count:
        print_line(f"{where}: no probability changed by {SMALLEST_SHOWN:.3%} or more")
        return
    print_line(where)
    console.print(table)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON: both texts, and the changes at the first new token and at the divergence."""
    return {
        "prompt_token_ids": comparison.plain.prompt.ids_P.tolist(),
        "without": _generation_json(comparison.plain),
        "with": _generation_json(comparison.edited),
        "idle": [str(node) for node in comparison.edited.idle],
        "first": _change_json(comparison.first),
        "divergence": None if comparison.divergence is None else _change_json(comparison.divergence),
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


def _change_json(change: NextTokenChange) -> dict[str, Any]:
    kl = change.kl if math.isfinite(change.kl) else None  # JSON has no infinity
    return {"step": change.step, "kl": kl, "top_changes": [token._asdict() for token in change.top_changes]}
