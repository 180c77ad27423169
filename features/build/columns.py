"""Columns of a store's files, from tallies, output tokens and neighbours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cotrace.features.store.schema import EXAMPLES, FEATURES, HISTOGRAM_BINS, QUANTILE, TOP, WRITTEN

from .neighbours import Neighbours
from .outputs import OutputTokens
from .tally import MAX_PLACES, KeptExamples, Tally, TallyRules, select_smallest

DROPPED = 2**13  # the last 13 of 24 binary digits are rounded away
Columns = dict[str, pa.Array]
WrittenSide = tuple[OutputTokens, OutputTokens, np.ndarray]  # top, bottom, norm (F,)


def feature_columns(layer: int, first: int, tally: Tally, rules: TallyRules, n_fires_on: int) -> Columns:
    """Return the columns of some features of a layer, from `first` on, that a tally determines."""
    n_features = len(tally.total_F)
    feature_n = np.repeat(np.arange(n_features), np.diff(tally.start_F))
    bins, markup = tally.key_n - rules.vocab_size, rules.vocab_size + HISTOGRAM_BINS
    in_bin = (bins >= 0) & (tally.key_n < markup)
    histogram_FB = np.zeros((n_features, HISTOGRAM_BINS), np.int64)
    histogram_FB[feature_n[in_bin], bins[in_bin]] = tally.count_n[in_bin]
    markup_F = np.zeros(n_features, np.int64)
    markup_F[feature_n[tally.key_n == markup]] = tally.count_n[tally.key_n == markup]
    none = pa.nulls(n_features, pa.float32())
    return {
        "layer": pa.array(np.full(n_features, layer, np.int16)),
        "feature": pa.array(np.arange(first, first + n_features, dtype=np.int32)),
        "count": pa.array(histogram_FB.sum(1)),
        "markup_count": pa.array(markup_F),
        "total": pa.array(tally.total_F),
        "max": pa.array(tally.extreme_F),
        "histogram": pa.FixedSizeListArray.from_arrays(histogram_FB.ravel(), type=FEATURES.field("histogram").type),
        "fires_on": _most_frequent(tally, feature_n, rules.vocab_size, n_fires_on),
        "label": pa.array([""] * n_features),
        "label_source": pa.array([""] * n_features),
        "label_score": none,
        "label_null": none,
    }


def _most_frequent(tally: Tally, feature_n: np.ndarray, vocab_size: int, n: int) -> pa.Array:
    """Return the n most frequent tokens of each feature with their counts; of equal counts, the smaller ids first."""
    is_token = tally.key_n < vocab_size
    start_F = np.concatenate([[0], np.cumsum(np.bincount(feature_n[is_token], minlength=len(tally.total_F)))])
    token_n, count_n = tally.key_n[is_token].astype(np.uint64), tally.count_n[is_token]
    key_n = ((MAX_PLACES - count_n).astype(np.uint64) << np.uint64(32)) | token_n
    unused_n = np.zeros(len(key_n), np.float32)
    kept = select_smallest(KeptExamples(start_F, key_n, unused_n, token_n.astype(np.uint32)), n)
    counts = MAX_PLACES - (kept.key_n >> np.uint64(32)).astype(np.int64)
    return _structs("fires_on", kept.start_F, {"token": kept.place_n.astype(np.int32), "count": counts})


def written_column(sides: Mapping[int, WrittenSide]) -> pa.Array:
    """Return the column `written` of F features from the output tokens of each written layer, -1 for their sum."""
    n_features = len(next(iter(sides.values()))[2])
    order = np.arange(len(sides) * n_features).reshape(len(sides), n_features).T.ravel()  # by layer, to by feature
    kind = FEATURES.field("written").type
    values = pa.StructArray.from_arrays(
        [
            pa.array(np.repeat(np.array(list(sides), np.int16), n_features)[order]),
            pa.array(rounded(np.concatenate([norm_F for _, _, norm_F in sides.values()]))[order]),
            _token_lists([top for top, _, _ in sides.values()], order),
            _token_lists([bottom for _, bottom, _ in sides.values()], order),
        ],
        fields=list(WRITTEN),
    )
    offsets = np.arange(n_features + 1, dtype=np.int32) * len(sides)
    return pa.ListArray.from_arrays(offsets, values, type=kind)


def _token_lists(sides: Sequence[OutputTokens], order: np.ndarray) -> pa.Array:
    """Return lists of output tokens, a list for each row of all sides, in an order of these rows."""
    lengths = np.concatenate([np.full(len(side.token_nk), side.token_nk.shape[1]) for side in sides])
    start_R = np.concatenate([[0], np.cumsum(lengths)])
    take = np.concatenate([np.arange(start_R[row], start_R[row + 1]) for row in order]) if len(order) else start_R[:0]
    tokens = np.concatenate([side.token_nk.ravel() for side in sides])[take]
    logits = np.concatenate([side.logit_nk.ravel() for side in sides])[take]
    offsets = np.concatenate([[0], np.cumsum(lengths[order])])
    return _structs_of(WRITTEN.field("top").type, offsets, {"token": tokens, "logit": rounded(logits)})


def neighbour_column(name: str, found: Neighbours) -> pa.Array:
    """Return a column of neighbours; a feature has fewer where there are no more."""
    layers, features, cosines = (column.numpy() for column in found)
    exists = np.isfinite(cosines)
    columns = {"layer": layers[exists].astype(np.int16), "feature": features[exists].astype(np.int32)}
    offsets = np.concatenate([[0], np.cumsum(exists.sum(1))])
    return _structs(name, offsets, {**columns, "cosine": rounded(cosines[exists])})


def empty_lists(name: str, n: int) -> pa.Array:
    """Return a column of n empty lists."""
    return pa.array([[]] * n, FEATURES.field(name).type)


def example_columns(first: int, tally: Tally, length: int) -> dict[str, Any]:
    """Return the columns of the examples of features from `first` on, as arrays."""
    sides = [_side(tally.top), _side(_ascending(tally.drawn))]
    feature_n, rank_n, activation_n, place_n = (np.concatenate(column) for column in zip(*sides, strict=True))
    kind_n = np.repeat(np.arange(2, dtype=np.int8), [len(side[0]) for side in sides])
    order = np.lexsort((rank_n, kind_n, feature_n))
    kinds = pa.DictionaryArray.from_arrays(kind_n[order], [TOP, QUANTILE])
    columns = {
        "feature": (feature_n[order] + first).astype(np.int32),
        "kind": kinds.cast(EXAMPLES.field("kind").type),
        "rank": rank_n[order].astype(np.int16),
        "activation": activation_n[order],
        "sequence": (place_n[order] // length).astype(np.int32),
        "position": (place_n[order] % length).astype(np.int32),
    }
    return columns


def _side(examples: KeptExamples) -> tuple[np.ndarray, ...]:
    """Return the feature, rank, activation and place of examples."""
    count_F = np.diff(examples.start_F)
    feature_n = np.repeat(np.arange(len(count_F)), count_F)
    rank_n = np.arange(len(feature_n)) - examples.start_F[:-1][feature_n]
    return feature_n, rank_n, examples.activation_n, examples.place_n.astype(np.int64)


def _ascending(examples: KeptExamples) -> KeptExamples:
    """Return the examples of each feature in order of their magnitude."""
    feature_n = np.repeat(np.arange(len(examples.start_F) - 1), np.diff(examples.start_F))
    order = np.lexsort((examples.place_n, np.abs(examples.activation_n), feature_n))
    return KeptExamples(examples.start_F, *(column[order] for column in examples[1:]))


def rounded(values: np.ndarray) -> np.ndarray:
    """Return float32 values rounded to 11 binary digits, which compress to half the size."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + np.uint32(DROPPED // 2)) & np.uint32(2**32 - DROPPED)).view(np.float32)


def _structs(name: str, offsets: np.ndarray, columns: Mapping[str, np.ndarray]) -> pa.Array:
    return _structs_of(FEATURES.field(name).type, offsets, columns)


def _structs_of(kind: pa.DataType, offsets: np.ndarray, columns: Mapping[str, np.ndarray]) -> pa.Array:
    """Return lists of structs from their offsets and their flat columns."""
    fields = list(kind.value_type)
    arrays = [pa.array(columns[field.name], field.type) for field in fields]
    values = pa.StructArray.from_arrays(arrays, fields=fields)
    return pa.ListArray.from_arrays(offsets.astype(np.int32), values, type=kind)
