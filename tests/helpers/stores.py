"""Feature stores made by hand, without a model: features whose rule is known, on sentences of plain words.

`write_store(folder)` writes a store of `RULES` in every layer. Counts, examples and neighbours are exact for its text, so that a
test can say what a card or label must show.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pyarrow as pa

from cotrace.features.store.files import write_info, write_part
from cotrace.features.store.schema import (
    EXAMPLES,
    FEATURES,
    FORMAT_VERSION,
    HISTOGRAM_BINS,
    HISTOGRAM_LOWEST,
    SEQUENCES,
    SEQUENCES_FILE,
    TOKENS,
    TOKENS_FILE,
    file_of,
)

WORDS = [
    "the",
    "a",
    "of",
    "is",
    "and",
    "it",
    "to",
    "in",
    "was",
    "that",
    "he",
    "she",
    "not",
    "with",
    "for",
    "on",
    "at",
    "by",
    "from",
    "said",
    "one",
    "two",
    "three",
    "day",
    "night",
    "man",
    "woman",
    "house",
    "dog",
    "cat",
    "tree",
    "river",
    "stone",
    "bread",
    "water",
    "fire",
    "wind",
    "road",
    "ship",
    "king",
    "queen",
    "book",
    "letter",
    "song",
    "door",
    "window",
    "table",
    "garden",
    "hill",
    "opposite",
    "hot",
    "cold",
    "warm",
    "big",
    "small",
    "Monday",
    "Tuesday",
    "Wednesday",
    "red",
    "green",
    "blue",
    "if",
    "then",
    "else",
    "return",
]
VOCABULARY = ["<bos>", *(f" {word}" for word in WORDS)]
BOS = 0
LENGTH, BEFORE, AFTER, TOP, QUANTILES = 48, 12, 4, 24, 16


def token(word: str) -> int:
    """Return the id of a word."""
    return VOCABULARY.index(f" {word}")


class Rule(NamedTuple):
    """A feature: whether it is active at a position of a sentence, and the words that it promotes."""

    active: Callable[[np.ndarray, int], bool]
    promotes: tuple[str, ...] = ()


def on(*words: str) -> Rule:
    """Return a feature that is active on some words."""
    ids = {token(word) for word in words}
    return Rule(lambda row, at: row[at] in ids)


def after(word: str) -> Rule:
    """Return a feature that is active on whatever follows a word."""
    return Rule(lambda row, at: row[at - 1] == token(word))


def before(word: str) -> Rule:
    """Return a feature that is active where a word follows, and promotes it."""
    return Rule(lambda row, at: at + 1 < len(row) and row[at + 1] == token(word), (word,))


def phrase(first: str, second: str) -> Rule:
    """Return a feature that is active on a word after another one."""
    return Rule(lambda row, at: row[at] == token(second) and row[at - 1] == token(first))


def random(share: float, seed: int) -> Rule:
    """Return a feature that is active at random places."""
    draws = np.random.default_rng(seed).random((4096, LENGTH))
    return Rule(lambda row, at: bool(draws[crc32(row.tobytes()) % 4096, at] < share))


RULES = (on("hot", "cold", "warm"), after("opposite"), before("Tuesday"), random(0.02, 1), Rule(lambda row, at: False))
"""The features of each layer by default: three with a meaning, one without, one that is never active."""
HOT, AFTER_OPPOSITE, BEFORE_TUESDAY, RANDOM, NEVER = range(len(RULES))


def sentences(count: int = 400, seed: int = 0) -> np.ndarray:
    """Return token ids of sentences of random words, frequent ones first in `WORDS`, (count, LENGTH), each after BOS."""
    generator = np.random.default_rng(seed)
    weights = 1 / (np.arange(len(WORDS)) + 8)
    rows = generator.choice(np.arange(1, len(VOCABULARY)), (count, LENGTH), p=weights / weights.sum())
    rows[:, 0] = BOS
    return rows


def write_store(
    folder: Path,
    rules: tuple[Rule, ...] = RULES,
    layers: tuple[int, ...] = (0, 1),
    labels: dict[tuple[int, int], tuple[str, str]] | None = None,
    **info: Any,
) -> Path:
    """Write a store whose features obey `rules` in each of `layers`; return its folder.

    `labels` are texts and sources by (layer, feature). `info` replaces entries of the metadata.
    """
    rows = sentences(seed=3)
    for layer in layers:
        found = [_feature(rows, layer, number, rule, labels or {}) for number, rule in enumerate(rules)]
        features, examples = [feature for feature, _ in found], [each for _, listed in found for each in listed]
        write_part(folder / file_of("features", layer), pa.Table.from_pylist(features, FEATURES))
        write_part(folder / file_of("examples", layer), pa.Table.from_pylist(examples, EXAMPLES))
    listed = [{"sequence": number, "token_ids": row} for number, row in enumerate(rows.tolist())]
    write_part(folder / SEQUENCES_FILE, pa.Table.from_pylist(listed, SEQUENCES))
    counts = np.bincount(rows[:, 1:].ravel(), minlength=len(VOCABULARY))
    texts = [{"token": id, "text": text, "count": int(counts[id])} for id, text in enumerate(VOCABULARY)]
    write_part(folder / TOKENS_FILE, pa.Table.from_pylist(texts, TOKENS))
    write_info(folder, store_info(layers, len(rules), rows[:, 1:].size) | info)
    return folder


def store_info(layers: tuple[int, ...], width: int, tokens: int) -> dict[str, Any]:
    """Return the metadata of a hand-made store."""
    return {
        "format_version": FORMAT_VERSION,
        "model": {"name": "words", "n_layers": max(layers) + 1},
        "dictionary": {"name": "words-clt", "kind": "clt", "site": "mlp", "sha256": None},
        "layers": list(layers),
        "widths": [width] * len(layers),
        "data": [{"source": "random words", "tokens": tokens}],
        "tokens": tokens,
        "markup_tokens": 0,
        "context": {"before": BEFORE, "after": AFTER, "bos": BOS},
        "sequence_length": LENGTH,
        "seed": 0,
        "settings": {},
        "versions": {},
    }


def _feature(
    rows: np.ndarray, layer: int, number: int, rule: Rule, labels: dict[tuple[int, int], tuple[str, str]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the row of a feature and its examples."""
    places = [(row, at) for row in range(len(rows)) for at in range(1, LENGTH) if rule.active(rows[row], at)]
    values = 1 + np.random.default_rng(number).random(len(places)).astype(np.float32)
    bins = np.clip(np.floor(2 * np.log2(values / HISTOGRAM_LOWEST)), 0, HISTOGRAM_BINS - 1).astype(int)
    ids, counts = np.unique([rows[place] for place in places], return_counts=True) if places else ([], [])
    often = sorted(zip(map(int, ids), map(int, counts), strict=True), key=lambda pair: (-pair[1], pair[0]))[:10]
    text, source = labels.get((layer, number), ("", ""))
    feature = {
        "layer": layer,
        "feature": number,
        "count": len(places),
        "markup_count": 0,
        "total": float(values.sum(dtype=np.float64)),
        "max": float(values.max(initial=0)),
        "histogram": np.bincount(bins, minlength=HISTOGRAM_BINS).tolist(),
        "fires_on": [{"token": token, "count": count} for token, count in often],
        "written": _written(rule, layer),
        "near_encoder": [{"layer": layer, "feature": max(number - 1, 0), "cosine": 0.5}],
        "near_decoder": [{"layer": layer, "feature": max(number - 1, 0), "cosine": 0.25}],
        "label": text,
        "label_source": source,
        "label_score": None,
        "label_null": None,
    }
    return feature, _examples(number, places, values)


def _written(rule: Rule, layer: int) -> list[dict[str, Any]]:
    chosen = [token(word) for word in rule.promotes] + [token("the"), token("of")]
    top = [{"token": id, "logit": 3.0 - 0.5 * i} for i, id in enumerate(chosen)]
    bottom = [{"token": token("a"), "logit": -1.0}]
    return [{"layer": at, "norm": 1.0, "top": top, "bottom": bottom} for at in (-1, layer)]


def _examples(number: int, places: list[tuple[int, int]], values: np.ndarray) -> list[dict[str, Any]]:
    strongest = np.argsort(-values, kind="stable")[:TOP]
    spread = np.random.default_rng(7 + number).permutation(len(values))[:QUANTILES]
    spread = spread[np.argsort(values[spread], kind="stable")]
    listed = [("top", rank, index) for rank, index in enumerate(strongest)]
    listed += [("quantile", rank, index) for rank, index in enumerate(spread)]
    found = []
    for kind, rank, index in listed:
        row, at = places[index]
        found.append(
            {
                "feature": number,
                "kind": kind,
                "rank": rank,
                "activation": float(values[index]),
                "sequence": row,
                "position": at,
            }
        )
    return found
