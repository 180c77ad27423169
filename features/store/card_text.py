"""Cards of features as plain text."""

from collections.abc import Iterable, Iterator, Sequence

from cotrace.common.visible_text import printable, quoted

from .card_data import ALL_LAYERS, CardData, FeatureExample, LayerOutput, NearFeature, OutputToken
from .label import FeatureLabel
from .schema import HISTOGRAM_LOWEST

TOP_SHOWN, QUANTILES_SHOWN = 8, 5
BEFORE_SHOWN, AFTER_SHOWN = 64, 32  # characters of an example's context
TOKENS_SHOWN = 5  # of a written layer
MARKS = "«»"
BARS = "▁▂▃▄▅▆▇█"


def card_text(card: CardData) -> str:
    """Return the card of a feature as lines of text; the token at which it is active is «marked»."""
    return "\n".join([title(card), *(f"  {line}" for line in _lines(card))])


def title(card: CardData) -> str:
    """Return the name of a feature, its label and where the label comes from."""
    return f"{card.feature}  {label_text(card.label)}" if card.label else f"{card.feature}  (no label)"


def label_text(label: FeatureLabel) -> str:
    """Return a label with its source, and its score where it has one."""
    if label.score is None or label.null is None:
        return f"{printable(label.text)}  ({label.source})"
    return f"{printable(label.text)}  (from {label.source}: score {label.score:.2f}, chance {label.null:.2f})"


def _lines(card: CardData) -> Iterator[str]:
    yield f"of {printable(card.dictionary)}"
    yield from _activity(card)
    if card.fires_on:
        yield "fires on    " + " · ".join(f"{quoted(each.token)} {each.share:.0%}" for each in card.fires_on)
    if card.promotes:
        yield "promotes    " + _weights(card.promotes)
    if card.suppresses:
        yield "suppresses  " + _weights(card.suppresses)
    yield from _by_layer([each for each in card.outputs if each.layer != ALL_LAYERS])
    for name, near in (("encoder", card.near_encoder), ("decoder", card.near_decoder)):
        if near:
            yield f"near ({name})  " + " · ".join(map(_near, near))
    for kind, heading, shown in (
        ("top", "strongest examples", TOP_SHOWN),
        ("quantile", "examples from all its activations", QUANTILES_SHOWN),
    ):
        examples = _spread([each for each in card.examples if each.kind == kind], shown, kind)
        if examples:
            yield heading
            yield from (f"  {each.activation:8.3g}  {context_text(each)}" for each in examples)


def _activity(card: CardData) -> Iterator[str]:
    if not card.count and not card.markup_count:
        yield "never active in the text of the store"
        return
    markup = f", {card.markup_density:.2%} of chat markup" if card.markup_count else ""
    yield f"active at {card.density:.2%} of tokens ({card.count:,}){markup}; mean {card.mean:.3g}, max {card.max:.3g}"
    if card.out_of_format:
        yield f"active on {card.out_of_format}: not a feature of text"
    if any(card.histogram):
        yield "activations " + _histogram(card.histogram)


def _histogram(counts: Sequence[int]) -> str:
    """Return bars for the bins from the first to the last that is not empty, between their limits."""
    filled = [bin for bin, count in enumerate(counts) if count]
    first, last, most = filled[0], filled[-1], max(counts)
    bars = "".join(BARS[round((len(BARS) - 1) * count / most)] if count else " " for count in counts[first : last + 1])
    low, high = (HISTOGRAM_LOWEST * 2 ** (edge / 2) for edge in (first, last + 1))
    return f"{low:.3g} {bars} {high:.3g}"


def _weights(tokens: Iterable[OutputToken]) -> str:
    return " · ".join(f"{quoted(each.token)} {each.logit:+.2f}" for each in tokens)


def _by_layer(outputs: list[LayerOutput]) -> Iterator[str]:
    if len(outputs) > 1:
        yield "promotes, by the layer that it writes to"
        for each in outputs:
            words = " ".join(quoted(token.token) for token in each.top[:TOKENS_SHOWN])
            yield f"  layer {each.layer:>2}, norm {each.norm:.2f}: {words}"


def _near(near: NearFeature) -> str:
    label = f" {quoted(near.label)}" if near.label else ""
    return f"{near.feature} {near.cosine:.2f}{label}"


def _spread(examples: list[FeatureExample], shown: int, kind: str) -> list[FeatureExample]:
    """Return the first examples, or of `quantile` ones some from strongest to weakest."""
    if kind == "top" or len(examples) <= shown:
        return examples[:shown]
    return [examples[round(index * (len(examples) - 1) / (shown - 1))] for index in range(shown)]


def context_text(example: FeatureExample) -> str:
    """Return the end of the text before the marked token, the token in «», and the start of the text after it."""
    before = printable("".join(example.tokens[: example.mark]))
    after = printable("".join(example.tokens[example.mark + 1 :]))
    if len(before) > BEFORE_SHOWN:
        before = "…" + before[-BEFORE_SHOWN:]
    if len(after) > AFTER_SHOWN:
        after = after[:AFTER_SHOWN] + "…"
    token = printable(example.tokens[example.mark])
    inner = token.lstrip(" ")
    return f"{before}{token[: len(token) - len(inner)]}{MARKS[0]}{inner}{MARKS[1]}{after}"
