"""Cards of features as HTML, for notebooks: no scripts, no references, all texts escaped."""

from collections.abc import Iterable, Iterator
from html import escape

from cotrace.common.visible_text import printable, visible

from .card_data import ALL_LAYERS, CardData, FeatureExample, NearFeature, OutputToken
from .card_text import label_text

MARK_COLOUR = "#ffd54f"
CELL = "padding:1px 8px 1px 0;text-align:left;vertical-align:top"


def card_html(card: CardData) -> str:
    """Return the card of a feature as HTML."""
    label = escape(label_text(card.label)) if card.label else "no label"
    rows = "".join(
        f'<tr><th style="{CELL}">{name}</th><td style="{CELL}">{value}</td></tr>' for name, value in _rows(card)
    )
    return (
        f"<div><b>{card.feature}</b> {label}<table>{rows}</table>"
        f"{_examples(card, 'top', 'Strongest examples')}{_examples(card, 'quantile', 'Examples from all its activations')}</div>"
    )


def _rows(card: CardData) -> Iterator[tuple[str, str]]:
    yield "of", escape(printable(card.dictionary))
    note = f" — {card.out_of_format}" if card.out_of_format else ""
    yield (
        "active",
        f"{card.density:.2%} of tokens ({card.count:,}), {card.markup_density:.2%} of chat markup{note}; "
        f"mean {card.mean:.3g}, max {card.max:.3g}",
    )
    if card.fires_on:
        yield "fires on", ", ".join(f"{_code(each.token)} {each.share:.0%}" for each in card.fires_on)
    for output in card.outputs:
        name = "" if output.layer == ALL_LAYERS else f", layer {output.layer}"
        yield f"promotes{name}", _weights(output.top)
        if output.layer == ALL_LAYERS:
            yield "suppresses", _weights(output.bottom)
    for name, near in (("encoder", card.near_encoder), ("decoder", card.near_decoder)):
        if near:
            yield f"near ({name})", ", ".join(map(_near, near))


def _code(token: str) -> str:
    return f"<code>{escape(visible(token))}</code>"


def _weights(tokens: Iterable[OutputToken]) -> str:
    return ", ".join(f"{_code(each.token)} {each.logit:+.2f}" for each in tokens)


def _near(near: NearFeature) -> str:
    return f"{near.feature} {near.cosine:.2f} {escape(printable(near.label))}".rstrip()


def _examples(card: CardData, kind: str, heading: str) -> str:
    rows = "".join(
        f'<tr><td style="{CELL}">{each.activation:.3g}</td><td style="{CELL}">{_context(each)}</td></tr>'
        for each in card.examples
        if each.kind == kind
    )
    return f"<details open><summary>{heading}</summary><table>{rows}</table></details>" if rows else ""


def _context(example: FeatureExample) -> str:
    before, after = (escape(printable("".join(part))) for part in _around(example))
    token = escape(visible(example.tokens[example.mark]))
    return f'{before}<mark style="background:{MARK_COLOUR}">{token}</mark>{after}'


def _around(example: FeatureExample) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return example.tokens[: example.mark], example.tokens[example.mark + 1 :]
