"""Token sequences of a build: text in sequences that start with BOS, some of them as chats."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.attribution.models.tokenizer import ChatTokens
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress
from cotrace.training.data import tokenize_by_source

from .config import BuildConfig
from .tally import MAX_PLACES

TURN_TOKENS = 48  # text of a turn in sequences that are rewritten as chats


class SourceText(NamedTuple):
    """The S sequences of a build (S, P), and the index of each one's source."""

    ids_SP: np.ndarray  # int32
    source_S: np.ndarray  # int64


def read_text(config: BuildConfig, model: LanguageModel, bars: Progress, samples: Path) -> SourceText:
    """Return the sequences of a build.

    Raises CotraceError if the data has too few tokens, FileError if a source cannot be read, ArgumentError if there are
    too many tokens.
    """
    if config.n_sequences * config.context > MAX_PLACES:
        raise ArgumentError(f"invalid tokens {config.tokens:,}: a store is built of fewer than {MAX_PLACES:,}")
    ids_SP, source_S = tokenize_by_source(
        config.data, model, config.context, config.n_sequences, config.seed, bars, samples
    )
    ids_SP, chat = ids_SP.copy(), model.tokenizer.chat_tokens()
    if chat is not None and model.tokenizer.bos_id is not None:
        chosen_S = np.random.default_rng([config.seed, 1]).random(len(ids_SP)) < config.chat_share
        for row in np.flatnonzero(chosen_S):
            ids_SP[row] = as_chat(ids_SP[row], chat, model.tokenizer.bos_id)
    return SourceText(ids_SP, source_S)


def as_chat(ids_P: np.ndarray, chat: ChatTokens, bos_id: int) -> np.ndarray:
    """Return a sequence's text as turns of a user and a model, cut to the same length (P,)."""
    text = ids_P[ids_P != bos_id].tolist()
    if not text:
        return ids_P
    tokens, roles = [bos_id], _alternating(chat.user, chat.model)
    while len(tokens) < len(ids_P):
        turn, text = text[:TURN_TOKENS], text[TURN_TOKENS:] or text  # markup makes it longer, so that text remains
        tokens += [chat.start, next(roles), chat.line_end, *turn, chat.end, chat.line_end]
    return np.array(tokens[: len(ids_P)], ids_P.dtype)


def _alternating(*items: int) -> Iterator[int]:
    while True:
        yield from items


def markup_positions(ids_SP: np.ndarray, chat: ChatTokens | None) -> np.ndarray:
    """Return where tokens are a chat's markup, (S, P) bool: turn marks, the role, and the line ends of both."""
    if chat is None:
        return np.zeros(ids_SP.shape, bool)
    starts, ends, line_ends = (ids_SP == token for token in (chat.start, chat.end, chat.line_end))
    roles = _after(starts) & np.isin(ids_SP, (chat.user, chat.model))
    return starts | ends | roles | (line_ends & (_after(roles) | _after(ends)))


def _after(marks_SP: np.ndarray) -> np.ndarray:
    """Return the positions after marked ones."""
    return np.pad(marks_SP[:, :-1], ((0, 0), (1, 0)))
