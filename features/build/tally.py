"""Tallies: what is known of a layer's features from some of the sequences, and the sum of several tallies.

All of a tally is exact and does not depend on batches: counts add up, and of the examples those with the smallest keys are
kept. The key of a top example orders by magnitude, then by place; that of a drawn one is a hash of seed, layer, feature and
place, so that the smallest keys are a uniform sample. A place is `sequence * length + position`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from cotrace.common.compiled import compiled
from cotrace.features.store.schema import HISTOGRAM_BINS, HISTOGRAM_LOWEST

# The largest b with HISTOGRAM_LOWEST * 2**(b / 2) at most x is the binary exponent of x**2 less this, exactly.
EXPONENT_BELOW = int(2 * math.log2(HISTOGRAM_LOWEST))
MAX_PLACES = 2**32
WORST_KEY = np.uint64(2**64 - 1)


class KeptExamples(NamedTuple):
    """Examples of F features, n in all: those of feature f are `start_F[f]` to `start_F[f + 1]`, smallest key first."""

    start_F: np.ndarray  # (F + 1,) int64
    key_n: np.ndarray  # uint64
    activation_n: np.ndarray  # float32
    place_n: np.ndarray  # uint32


class Tally(NamedTuple):
    """What F features did in some sequences.

    `key_n` holds what is counted of each feature: token ids below the size V of the vocabulary; V + b for bin b of the
    histogram; V + HISTOGRAM_BINS for tokens of chat markup, which are counted nowhere else.
    """

    total_F: np.ndarray  # sum of activations, float64
    extreme_F: np.ndarray  # activation of the largest magnitude, float32
    start_F: np.ndarray  # (F + 1,) int64: entries of each feature in `key_n` and `count_n`
    key_n: np.ndarray  # int32
    count_n: np.ndarray  # int64
    top: KeptExamples
    drawn: KeptExamples


class Entries(NamedTuple):
    """Active features of one layer, in order of their tokens: n features at some of T tokens."""

    feature_n: np.ndarray  # int32
    token_n: np.ndarray  # int32, index of a token
    activation_n: np.ndarray  # float32


class Tokens(NamedTuple):
    """The T tokens that entries refer to, in order of their places."""

    id_T: np.ndarray  # int32
    place_T: np.ndarray  # int64
    markup_T: np.ndarray  # bool


class TallyRules(NamedTuple):
    """What is counted and kept."""

    vocab_size: int
    length: int  # tokens of a sequence
    top: int
    drawn: int
    seed: int


def tally_entries(entries: Entries, tokens: Tokens, layer: int, n_features: int, rules: TallyRules) -> Tally:
    """Return the tally of the entries of whole sequences."""
    count_F = np.bincount(entries.feature_n, minlength=n_features)
    start_F = np.concatenate([[0], np.cumsum(count_F)])
    tally = _empty(count_F + np.minimum(count_F, HISTOGRAM_BINS), count_F, count_F, rules)
    columns = _sorted_by_feature(*entries, start_F[:-1].copy())
    _tally(start_F, columns, tuple(tokens), layer, tuple(rules), _plain(tally))
    return _trimmed(tally)


def merge(tallies: Sequence[Tally], rules: TallyRules) -> Tally:
    """Return the sum of tallies of different sequences, in order of these."""
    starts_RF, key_n, count_n = _joined([(tally.start_F, tally.key_n, tally.count_n) for tally in tallies])
    sides = [[tally.top for tally in tallies], [tally.drawn for tally in tallies]]
    examples = [_joined(side) for side in sides]
    n_counts_F, n_top_F, n_drawn_F = (np.diff(starts).sum(0) for starts in (starts_RF, examples[0][0], examples[1][0]))
    result = _empty(n_counts_F, n_top_F, n_drawn_F, rules)
    _add_up(starts_RF, key_n, count_n, rules.vocab_size, *result[2:5])
    for into, joined, room in zip((result.top, result.drawn), examples, (rules.top, rules.drawn), strict=True):
        _select(joined[0], tuple(joined[1:]), room, tuple(into))
    extremes_RF = np.stack([tally.extreme_F for tally in tallies])
    result.extreme_F[:] = np.take_along_axis(extremes_RF, np.abs(extremes_RF).argmax(0)[None], 0)[0]
    result.total_F[:] = np.sum([tally.total_F for tally in tallies], axis=0)
    return _trimmed(result)


def select_smallest(examples: KeptExamples, room: int) -> KeptExamples:
    """Return the examples of each feature with the smallest keys, at most `room`."""
    into = _empty_examples(len(examples.start_F) - 1, int(np.minimum(np.diff(examples.start_F), room).sum()))
    _select(examples.start_F[None], tuple(examples[1:]), room, tuple(into))
    return into


def save(tally: Tally, path: Path) -> None:
    """Write a tally to a file."""
    arrays = dict(zip(Tally._fields[:5], tally[:5], strict=True))
    for side in ("top", "drawn"):
        examples = getattr(tally, side)
        arrays |= {f"{side}_{name}": array for name, array in zip(KeptExamples._fields, examples, strict=True)}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def load(path: Path, features: slice) -> Tally:
    """Return the tally of a range of features from a file."""
    with safe_open(path, framework="numpy") as file:

        def columns(prefix: str, names: Sequence[str]) -> list[np.ndarray]:
            start_F = file.get_slice(f"{prefix}start_F")[features.start : features.stop + 1]
            cut = slice(int(start_F[0]), int(start_F[-1]))
            return [start_F - start_F[0], *(file.get_slice(f"{prefix}{name}")[cut] for name in names)]

        examples = [KeptExamples(*columns(f"{side}_", KeptExamples._fields[1:])) for side in ("top", "drawn")]
        sums = (file.get_slice(name)[features] for name in ("total_F", "extreme_F"))
        return Tally(*sums, *columns("", ("key_n", "count_n")), *examples)


def _empty(n_counts_F: np.ndarray, n_top_F: np.ndarray, n_drawn_F: np.ndarray, rules: TallyRules) -> Tally:
    """Return a tally with room for numbers of counts and examples of each feature, of these at most as many as are kept."""
    n_features, n_counts = len(n_counts_F), int(n_counts_F.sum())
    counts = np.zeros(n_features + 1, np.int64), np.empty(n_counts, np.int32), np.empty(n_counts, np.int64)
    rooms = ((n_top_F, rules.top), (n_drawn_F, rules.drawn))
    sides = (_empty_examples(n_features, int(np.minimum(n_F, most).sum())) for n_F, most in rooms)
    return Tally(np.zeros(n_features), np.zeros(n_features, np.float32), *counts, *sides)


def _empty_examples(n_features: int, room: int) -> KeptExamples:
    columns = (np.empty(room, kind) for kind in (np.uint64, np.float32, np.uint32))
    return KeptExamples(np.zeros(n_features + 1, np.int64), *columns)


def _trimmed(tally: Tally) -> Tally:
    """Return a tally without unused room."""
    n = tally.start_F[-1]
    sides = (KeptExamples(side.start_F, *(column[: side.start_F[-1]] for column in side[1:])) for side in tally[5:])
    return Tally(*tally[:3], tally.key_n[:n], tally.count_n[:n], *sides)


def _joined(parts: Sequence[tuple[np.ndarray, ...]]) -> list[np.ndarray]:
    """Join the columns of parts, of which the first is the start of each feature: these become (R, F + 1)."""
    first_R = np.cumsum([0, *(len(part[1]) for part in parts[:-1])])
    starts_RF = np.stack([part[0] for part in parts]) + first_R[:, None]
    return [starts_RF, *map(np.concatenate, list(zip(*parts, strict=True))[1:])]


def _plain(tally: Tally) -> tuple:
    """Return a tally as plain tuples: numba's cache of a function cannot be read after a class in its arguments is renamed."""
    return (*tally[:5], *(tuple(side) for side in tally[5:]))


@compiled
def _sorted_by_feature(feature_n, token_n, activation_n, next_F):
    """Return tokens and activations of entries sorted by feature, those of each feature in the order they have."""
    sorted_token_n, sorted_activation_n = np.empty_like(token_n), np.empty_like(activation_n)
    for n in range(len(token_n)):
        feature = feature_n[n]
        at = next_F[feature]
        next_F[feature] = at + 1
        sorted_token_n[at], sorted_activation_n[at] = token_n[n], activation_n[n]
    return sorted_token_n, sorted_activation_n


@compiled
def _tally(start_F, columns, tokens, layer, rules, tally):
    """Fill a tally from entries that are sorted by feature."""
    token_n, activation_n = columns
    id_T, place_T, markup_T = tokens
    vocab_size, length, n_top, n_drawn, seed = rules
    total_F, extreme_F, counts_start_F, key_n, count_n, top_side, drawn_side = tally
    top_start_F, tops, drawn_start_F, draws = top_side[0], top_side[1:], drawn_side[0], drawn_side[1:]
    n_keys = vocab_size + HISTOGRAM_BINS + 1
    seen, used = np.zeros(n_keys, np.int64), np.empty(n_keys, np.int32)
    for feature in range(len(start_F) - 1):
        n_used, top, drawn = 0, top_start_F[feature], drawn_start_F[feature]
        first_top, first_drawn = top, drawn
        salt = _hash(np.uint64(seed), np.uint64(layer * 2**32 + feature))
        sequence, best_key, best = np.int64(-1), WORST_KEY, 0
        for entry in range(start_F[feature], start_F[feature + 1]):
            token, activation = token_n[entry], activation_n[entry]
            if markup_T[token]:
                n_used = _count(seen, used, n_used, n_keys - 1, 1)
                continue
            place, size = place_T[token], abs(activation)
            total_F[feature] += activation
            if size > abs(extreme_F[feature]):
                extreme_F[feature] = activation
            n_used = _count(seen, used, n_used, id_T[token], 1)
            n_used = _count(seen, used, n_used, vocab_size + _bin(size), 1)
            key = _hash(salt, np.uint64(place))
            drawn = _insert(draws, first_drawn, drawn, n_drawn, key, activation, place)
            if place // length != sequence:  # of each sequence only the largest is an example
                if best_key != WORST_KEY:
                    of_best = (activation_n[best], place_T[token_n[best]])
                    top = _insert(tops, first_top, top, n_top, best_key, *of_best)
                sequence, best_key = place // length, WORST_KEY
            key = _top_key(size, place)
            if key < best_key:
                best_key, best = key, entry
        if best_key != WORST_KEY:
            of_best = (activation_n[best], place_T[token_n[best]])
            top = _insert(tops, first_top, top, n_top, best_key, *of_best)
        top_start_F[feature + 1], drawn_start_F[feature + 1] = top, drawn
        counts_start_F[feature + 1] = _write(seen, used, n_used, counts_start_F[feature], key_n, count_n)


@compiled
def _add_up(starts_RF, key_n, count_n, vocab_size, into_start_F, into_key_n, into_count_n):
    """Add up the counts of every feature over R tallies."""
    n_keys = vocab_size + HISTOGRAM_BINS + 1
    seen, used = np.zeros(n_keys, np.int64), np.empty(n_keys, np.int32)
    for feature in range(starts_RF.shape[1] - 1):
        n_used = 0
        for run in range(len(starts_RF)):
            for n in range(starts_RF[run, feature], starts_RF[run, feature + 1]):
                n_used = _count(seen, used, n_used, key_n[n], count_n[n])
        into_start_F[feature + 1] = _write(seen, used, n_used, into_start_F[feature], into_key_n, into_count_n)


@compiled
def _select(starts_RF, examples, room, into):
    """Keep the examples of every feature with the smallest keys over R tallies."""
    (key_n, activation_n, place_n), into_start_F, kept = examples, into[0], into[1:]
    for feature in range(starts_RF.shape[1] - 1):
        first = last = into_start_F[feature]
        for run in range(len(starts_RF)):
            for n in range(starts_RF[run, feature], starts_RF[run, feature + 1]):
                last = _insert(kept, first, last, room, key_n[n], activation_n[n], place_n[n])
        into_start_F[feature + 1] = last


@compiled
def _count(seen, used, n_used, key, count):
    """Add to the count of a key, and return how many keys have one."""
    if seen[key] == 0:
        used[n_used] = key
        n_used += 1
    seen[key] += count
    return n_used


@compiled
def _write(seen, used, n_used, first, key_n, count_n):
    """Move all counts to the rows from the first on, ascending by key; return the row behind them."""
    keys = np.sort(used[:n_used])
    for n in range(n_used):
        key_n[first + n], count_n[first + n] = keys[n], seen[keys[n]]
        seen[keys[n]] = 0
    return first + n_used


@compiled
def _insert(examples, first, last, room, key, activation, place):
    """Insert an example into the sorted rows from first to last, of which `room` are kept; return their new end."""
    key_n, activation_n, place_n = examples
    if last - first == room:
        if room == 0 or key >= key_n[last - 1]:
            return last
        last -= 1
    at = last
    while at > first and key_n[at - 1] > key:
        key_n[at], activation_n[at], place_n[at] = key_n[at - 1], activation_n[at - 1], place_n[at - 1]
        at -= 1
    key_n[at], activation_n[at], place_n[at] = key, activation, place
    return last + 1


@compiled
def _bin(size):
    """Return the bin of an activation's magnitude."""
    exponent = math.frexp(np.float64(size) * np.float64(size))[1] - 1 - EXPONENT_BELOW
    return min(max(exponent, 0), HISTOGRAM_BINS - 1)


@compiled
def _top_key(size, place):
    """Return a key that ascends with falling magnitude, then with the place."""
    bits = np.uint64(np.float32(size).view(np.uint32))  # of floats from 0 up, bits ascend with the value
    return ((np.uint64(MAX_PLACES - 1) - bits) << np.uint64(32)) | np.uint64(place)


@compiled
def _hash(a, b):
    """Return a hash of two numbers (the finalizer of SplitMix64; Steele, Lea and Flood 2014)."""
    z = a * np.uint64(0x9E3779B97F4A7C15) + b + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
