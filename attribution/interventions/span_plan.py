"""Resolve swaps and donors to positions, token ids and layers of one prompt, and check them for conflicts."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.common.errors import ArgumentError, PromptError, warn
from cotrace.common.visible_text import quoted
from cotrace.graphs.nodes import text_of_positions

from .context import PromptContext, PromptTokens
from .layer_modes import LayerMode
from .span_edits import Donor, Swap

NEIGHBOURS = 8  # tokens on each side with which a text is tokenized in its place: more than a word has
MAX_TOKENS_SHOWN = 12

T = TypeVar("T")


class ResolvedSwap(NamedTuple):
    """Token ids that replace those at positions of a prompt, ascending."""

    swap: Swap
    positions: tuple[int, ...]
    token_ids: tuple[int, ...]


class ResolvedDonor(NamedTuple):
    """Values of a donor prompt that replace those at positions of a prompt.

    Attributes:
        positions: positions of the prompt, ascending.
        donor_ids: token ids of the donor prompt.
        donor_positions: the donor's position for each of `positions`.
        layers: layers where values are replaced.
    """

    donor: Donor
    positions: tuple[int, ...]
    donor_ids: tuple[int, ...]
    donor_positions: tuple[int, ...]
    layers: frozenset[int]


def resolve_swap(swap: Swap, context: PromptContext) -> ResolvedSwap:
    """Return the token ids of a swap, with their positions.

    Raises ArgumentError for an invalid span and for another number of tokens than the span has; PromptError for token ids
    outside the vocabulary, and for a text that is tokenized otherwise between its neighbours.
    """
    tokenizer = context.tokenizer
    positions = context.tokens.positions(swap.where, f"{swap}: the span")
    if isinstance(swap.text, str):
        ids = _named(str(swap), tokenizer.encode_without_bos, swap.text)
    else:
        ids = list(swap.text)
        _named(str(swap), tokenizer.check_ids, ids)
    if len(ids) != len(positions):
        old = [context.tokens.ids[position] for position in positions]
        raise ArgumentError(
            f"{swap}: {_count(ids)}, {_tokens(tokenizer, ids)}, cannot replace {_count(old)}, {_tokens(tokenizer, old)}: the "
            "prompt keeps its length, so give as many tokens as the span has"
        )
    if isinstance(swap.text, str):
        _require_known(swap, ids, tokenizer)
        for run, start in _runs_with_starts(positions):
            _require_in_place(swap, run, ids[start : start + len(run)], context)
        _warn_of_lost_space(swap, tokenizer.decode_token(context.tokens.ids[positions[0]]))
    return ResolvedSwap(swap, positions, tuple(ids))


def resolve_donor(donor: Donor, context: PromptContext) -> ResolvedDonor:
    """Return a donor with its tokens, layers and positions.

    Raises ArgumentError for an invalid span, for spans of different length, for a donor of another length without `at`, and
    for layers that the model does not have; PromptError for an invalid donor prompt.
    """
    positions = context.tokens.positions(donor.where, f"{donor}: the span")
    tokens = _named(f"{donor}: from_prompt", PromptTokens.read, donor.from_prompt, context.tokenizer)
    if donor.at is not None:
        donor_positions = tokens.positions(donor.at, f"{donor}: at", "or a Transcript as from_prompt")
    else:
        donor_positions = positions
        _require_aligned(donor, positions, tokens, context.n_positions)
    if len(donor_positions) != len(positions):
        raise ArgumentError(
            f"{donor}: the span has {len(positions)} tokens and at= has {len(donor_positions)}: give spans of equal length"
        )
    layers = range(context.n_layers) if donor.layers is None else donor.layers
    for layer in layers:
        if not 0 <= layer < context.n_layers:
            raise ArgumentError(f"{donor}: the model has no layer {layer}; its layers are 0 … {context.n_layers - 1}")
    return ResolvedDonor(donor, positions, tuple(tokens.ids), donor_positions, frozenset(layers))


def _require_aligned(donor: Donor, positions: tuple[int, ...], tokens: PromptTokens, n_positions: int) -> None:
    """Raise ArgumentError for a donor of another length, or with the named segment elsewhere."""
    if len(tokens.ids) != n_positions:
        raise ArgumentError(
            f"{donor}: the donor has {len(tokens.ids)} tokens and the prompt {n_positions}, so positions do not correspond: "
            "name the donor's span with at=(start, stop), or give a donor of the same length"
        )
    there = tokens.segments.get(donor.where, positions) if isinstance(donor.where, str) else positions
    if there != positions:
        raise ArgumentError(
            f"{donor}: segment {donor.where!r} is at {text_of_positions(positions)} in the prompt and at "
            f"{text_of_positions(there)} in the donor: name the donor's span, at={donor.where!r} or at=(start, stop)"
        )


def require_responding(donors: Iterable[ResolvedDonor], modes: Sequence[LayerMode]) -> None:
    """Raise ArgumentError for a donor of keys or queries in a layer whose attention patterns are frozen."""
    for donor, *_, layers in donors:
        frozen = [layer for layer in sorted(layers) if modes[layer].freeze_attention]
        unused = [part for part in donor.parts if part in ("keys", "queries")]
        if frozen and unused:
            cure = 'what="values"' if "values" in donor.parts else 'freeze="none"'
            raise ArgumentError(
                f"{donor}: {unused[0]} have no effect where attention patterns are frozen, as in layer {frozen[0]}: use {cure}, "
                "or layers= that respond"
            )


def contiguous_runs(positions: Sequence[int]) -> list[tuple[int, ...]]:
    """Return ascending positions as runs without gaps."""
    return [run for run, _ in _runs_with_starts(positions)]


def _runs_with_starts(positions: Sequence[int]) -> list[tuple[tuple[int, ...], int]]:
    """Return runs without gaps, each with the number of positions before it."""
    breaks = [n + 1 for n, (a, b) in enumerate(pairwise(positions)) if b != a + 1]
    return [(tuple(positions[start:stop]), start) for start, stop in pairwise([0, *breaks, len(positions)])]


def _named(what: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function; a PromptError that it raises names the edit."""
    try:
        return function(*arguments)
    except PromptError as error:
        raise PromptError(f"{what}: {error}") from error


def _require_known(swap: Swap, ids: Sequence[int], tokenizer: PromptTokenizer) -> None:
    """Raise PromptError for a text with a word that the tokenizer reads as unknown."""
    unknown = getattr(tokenizer.hf_tokenizer, "unk_token_id", None)
    if unknown is not None and unknown in ids and tokenizer.decode_token(unknown) not in swap.text:
        raise PromptError(f"{swap}: the tokenizer does not know all of this text: use words of its vocabulary")


def _require_in_place(swap: Swap, run: Sequence[int], ids: list[int], context: PromptContext) -> None:
    """Raise PromptError for ids that the tokenizer would not give for the text between its neighbours."""
    tokenizer, prompt = context.tokenizer, context.tokens.ids
    before = prompt[max(0, run[0] - NEIGHBOURS) : run[0]]
    old, after = prompt[run[0] : run[-1] + 1], prompt[run[-1] + 1 : run[-1] + 1 + NEIGHBOURS]

    def is_in_place(middle: list[int]) -> bool:
        return tokenizer.encode_without_bos(tokenizer.decode([*before, *middle, *after])) == [*before, *middle, *after]

    if is_in_place(old) and not is_in_place(ids):
        raise PromptError(
            f"{swap}: in its place, this text is split into other tokens, which straddle the ends of the span; the span is "
            f"{quoted(tokenizer.decode(old))}: begin and end alike, or give token ids"
        )


def _warn_of_lost_space(swap: Swap, old: str) -> None:
    """Warn if a text begins without the space of the token that it replaces."""
    if old[:1].isspace() and not swap.text[:1].isspace() and old.strip():
        warn(
            f"{swap} begins without the space of {quoted(old)}, which joins it to the word before it: did you mean "
            f"{' ' + swap.text!r}?"
        )


def _count(ids: Sequence[int]) -> str:
    return "1 token" if len(ids) == 1 else f"{len(ids)} tokens"


def _tokens(tokenizer: PromptTokenizer, ids: Sequence[int]) -> str:
    shown = " ".join(quoted(tokenizer.decode_token(token)) for token in ids[:MAX_TOKENS_SHOWN])
    return shown + (" …" if len(ids) > MAX_TOKENS_SHOWN else "")
