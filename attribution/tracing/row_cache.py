"""Rows of earlier traces, for prompts that begin with the same tokens.

A row depends on its position and earlier ones only, so it does not change with the text that follows. Rows from the cache equal
computed ones up to rounding.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cotrace.common.errors import ArgumentError
from cotrace.graphs import NodeOrder
from cotrace.graphs.rows import SparseRows

from .activations import ActiveFeatures
from .graph_assembly import GraphRows
from .replacement import LocalReplacementModel

CHUNK_EDGES = 2**22  # edges that are read from a file at once
FEATURE_BITS, POSITION_BITS = 24, 20  # in a feature's key


class CachedRows:
    """The rows of a prompt's features that are in the cache; `mask_N` is True for those features, (N,) bool."""

    def __init__(self, row_N: np.ndarray, rows: GraphRows | None = None, new_number_M: np.ndarray | None = None):
        self.mask_N = row_N >= 0
        self._row_N, self._rows, self._new_number_M = row_N, rows, new_number_M

    def __repr__(self) -> str:
        return f"<CachedRows: {int(self.mask_N.sum()):,} of {len(self.mask_N):,} features>"

    def bias(self, node_T: np.ndarray) -> np.ndarray:
        """Return the contributions of constants to cached rows, (T,), without the encoder's bias."""
        assert self._rows is not None
        return self._rows.bias_M[self._row_N[node_T]]

    def chunks(self, node_T: np.ndarray) -> Iterator[SparseRows]:
        """Yield cached rows, given by ascending node, in chunks from the last to the first."""
        if self._rows is None or not len(node_T):
            return
        indptr, row_T = self._rows.csr.indptr, self._row_N[node_T]
        edges_T = (indptr[row_T + 1] - indptr[row_T])[::-1].cumsum()[::-1]  # from each row to the last
        chunk_T = edges_T // CHUNK_EDGES
        for chunk in np.unique(chunk_T):
            in_chunk = chunk_T == chunk
            yield self._read(node_T[in_chunk], row_T[in_chunk])

    def _read(self, node_T: np.ndarray, row_T: np.ndarray) -> SparseRows:
        assert self._rows is not None
        assert self._new_number_M is not None
        rows = self._rows.csr.select_rows(row_T)
        sources = self._new_number_M[rows.indices].astype(np.int32)
        assert (sources >= 0).all(), "a row has a source that the prompts do not share"
        return SparseRows(node_T, rows.row_lengths(), sources, rows.weights)


class RowCache:
    """Rows of traced prompts in temporary files of at most `max_bytes`; the least recently used prompts are removed first.

    With `max_bytes=0` nothing is stored. Raises ArgumentError for a negative number.
    """

    def __init__(self, max_bytes: int = 0):
        if max_bytes < 0:
            raise ArgumentError(f"row_cache_bytes is {max_bytes}: it must be a number of bytes, 0 for no cache")
        self.max_bytes = max_bytes
        self._traced: OrderedDict[tuple[tuple[int, ...], tuple[int, ...]], _TracedPrompt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._traced)

    def __repr__(self) -> str:
        return f"<RowCache: {len(self)} prompts, {self.nbytes:,} of {self.max_bytes:,} bytes>"

    @property
    def nbytes(self) -> int:
        """Size of the temporary files."""
        return sum(traced.nbytes for traced in self._traced.values())

    def clear(self) -> None:
        """Remove all rows."""
        self._traced.clear()

    def rows_for(self, replacement: LocalReplacementModel, order: NodeOrder) -> CachedRows:
        """Return the rows of the traced prompt that shares most rows with this one; none if nothing is shared."""
        best, best_key = CachedRows(np.full(len(replacement.features), -1)), None
        keys_N = _feature_keys(replacement.features)
        for key, traced in self._traced.items():
            n_shared, row_N = _shared_rows(traced, replacement, keys_N)
            if (row_N >= 0).sum() > best.mask_N.sum():
                numbers_M = _new_numbers(traced, n_shared, replacement.n_layers, order, keys_N)
                best, best_key = CachedRows(row_N, traced.rows, numbers_M), key
        if best_key is not None:
            self._traced.move_to_end(best_key)
        return best

    def store(self, replacement: LocalReplacementModel, rows: GraphRows) -> None:
        """Keep the rows of a prompt, unless they alone exceed `max_bytes` or the cache has all of them."""
        if not self.max_bytes:
            return
        traced = _TracedPrompt(
            tuple(replacement.token_ids_P.tolist()),
            replacement.masked_positions,
            replacement.constant_prefix,
            _feature_keys(replacement.features),
            rows,
        )
        key = traced.token_ids, traced.masked_positions
        before = self._traced.get(key)
        if before is not None and before.contains(traced):
            self._traced.move_to_end(key)
        elif traced.nbytes <= self.max_bytes:
            self._traced[key] = traced
            self._traced.move_to_end(key)
        while self.nbytes > self.max_bytes:
            self._traced.popitem(last=False)


class _TracedPrompt(NamedTuple):
    """A prompt's rows, with the inputs that another prompt must share to reuse them."""

    token_ids: tuple[int, ...]
    masked_positions: tuple[int, ...]
    constant_prefix: int
    feature_keys_N: np.ndarray
    rows: GraphRows

    def contains(self, other: "_TracedPrompt") -> bool:
        """Return whether every row of another trace of the same prompt is here."""
        same = np.array_equal(self.feature_keys_N, other.feature_keys_N)
        return same and not (other.rows.computed_N & ~self.rows.computed_N).any()

    @property
    def nbytes(self) -> int:
        """Size of the edges in temporary files."""
        return self.rows.csr.indices.nbytes + self.rows.csr.weights.nbytes


def _shared_rows(
    traced: _TracedPrompt, replacement: LocalReplacementModel, feature_keys_N: np.ndarray
) -> tuple[int, np.ndarray]:
    """Return the number of shared positions, and the row that each feature has in a traced prompt, (N,); -1 for none."""
    n_shared = _count_shared_positions(traced, replacement, feature_keys_N)
    shared = _positions(traced.feature_keys_N) < n_shared
    row_N = np.full(len(feature_keys_N), -1)
    new_n = np.searchsorted(feature_keys_N, traced.feature_keys_N[shared])
    row_N[new_n] = np.where(traced.rows.computed_N[shared], np.flatnonzero(shared), -1)
    return n_shared, row_N


def _new_numbers(
    traced: _TracedPrompt, n_shared: int, n_layers: int, order: NodeOrder, feature_keys_N: np.ndarray
) -> np.ndarray:
    """Return the number in a new graph of each of a traced prompt's nodes, (M,); -1 for those at other positions."""
    old = traced.rows.order
    number_M = np.full(old.n_nodes, -1)
    shared = np.flatnonzero(_positions(traced.feature_keys_N) < n_shared)
    number_M[shared] = np.searchsorted(feature_keys_N, traced.feature_keys_N[shared])
    layers, positions = np.arange(n_layers)[:, None], np.arange(n_shared)
    errors = order.errors.start + layers * order.n_tokens + positions
    number_M[old.errors.start + layers * old.n_tokens + positions] = errors
    number_M[old.tokens.start + positions] = order.tokens.start + positions
    return number_M


def _feature_keys(features: ActiveFeatures) -> np.ndarray:
    """Return layer, position and feature combined in one number, ascending, (N,) int64."""
    layer, position, feature = (
        getattr(features, f"{name}_N").cpu().numpy() for name in ("layer", "position", "feature")
    )
    return (((layer << POSITION_BITS) | position) << FEATURE_BITS) | feature


def _positions(feature_keys_N: np.ndarray) -> np.ndarray:
    return (feature_keys_N >> FEATURE_BITS) & (2**POSITION_BITS - 1)


def _count_shared_positions(
    traced: _TracedPrompt, replacement: LocalReplacementModel, feature_keys_N: np.ndarray
) -> int:
    """Return the number of leading positions with the same tokens, constants and active features in both prompts.

    Forward passes of other lengths round differently, so that a feature may be active in one of them only.
    """
    ids = replacement.token_ids_P.tolist()
    same = np.array([a == b for a, b in zip(traced.token_ids, ids, strict=False)])
    n_shared = len(same) if same.all() else int(same.argmin())
    for old, new in (
        (set(traced.masked_positions), set(replacement.masked_positions)),
        (set(range(traced.constant_prefix)), set(range(replacement.constant_prefix))),
    ):
        n_shared = min([n_shared, *(old ^ new)])
    differing = _positions(np.setxor1d(traced.feature_keys_N, feature_keys_N, assume_unique=True))
    return int(min(n_shared, differing.min(initial=n_shared)))
