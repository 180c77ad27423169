"""Rows of prompts that were traced before: a prompt that begins the same takes them over.

What happens at a position depends on it and those before only, so the row of a feature there is the same
whatever follows.
"""

from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from cotrace.common.errors import CotraceError
from cotrace.graphs import CSR, NodeOrder
from cotrace.graphs.rows import SparseRows

from .activations import ActiveFeatures
from .replacement import LocalReplacementModel

EDGES_AT_ONCE = 2**22  # that are read from a file at once
BITS = 24, 20  # of a feature's number and of a position in a key


class TracedPrompt(NamedTuple):
    """A prompt's rows, and what tells whether another prompt begins the same."""

    token_ids: tuple[int, ...]
    masked_positions: tuple[int, ...]
    constant_prefix: int
    key_N: np.ndarray
    order: NodeOrder
    computed_N: np.ndarray
    bias_N: np.ndarray  # what constants contribute; the encoder's bias not included
    csr: CSR

    def has_all_of(self, other: "TracedPrompt") -> bool:
        """Whether every row of another trace of the same prompt is here."""
        same = np.array_equal(self.key_N, other.key_N)
        return same and not (other.computed_N & ~self.computed_N).any()

    @property
    def nbytes(self) -> int:
        """Size of its edges, which are in temporary files."""
        return self.csr.indices.nbytes + self.csr.weights.nbytes


def traced_prompt(
    replacement: LocalReplacementModel,
    order: NodeOrder,
    computed_N: np.ndarray,
    bias_N: np.ndarray,
    csr: CSR,
) -> TracedPrompt:
    """A prompt whose rows are there."""
    return TracedPrompt(
        tuple(replacement.token_ids_P.tolist()),
        replacement.masked_positions,
        replacement.constant_prefix,
        feature_keys(replacement.features),
        order,
        computed_N,
        bias_N,
        csr,
    )


class RowCache:
    """Traced prompts, up to so many bytes of edges; those that were of no use for longest go first."""

    def __init__(self, max_bytes: int):
        if max_bytes < 0:
            raise CotraceError(f"row_cache_bytes is {max_bytes}; it is a number of bytes, 0 for none")
        self.max_bytes = max_bytes
        self._traced: OrderedDict[tuple[tuple[int, ...], tuple[int, ...]], TracedPrompt] = OrderedDict()

    def __len__(self) -> int:
        return len(self._traced)

    @property
    def nbytes(self) -> int:
        """Bytes of temporary files that are kept."""
        return sum(traced.nbytes for traced in self._traced.values())

    def clear(self) -> None:
        """Forget everything."""
        self._traced.clear()

    def remember(self, traced: TracedPrompt) -> None:
        """Keep a prompt's rows, unless they alone are too many or all of them are there already."""
        key = traced.token_ids, traced.masked_positions
        before = self._traced.get(key)
        if before is not None and before.has_all_of(traced):
            self._traced.move_to_end(key)
        elif traced.nbytes <= self.max_bytes:
            self._traced[key] = traced
            self._traced.move_to_end(key)
        while self.nbytes > self.max_bytes:
            self._traced.popitem(last=False)

    def known_rows(self, replacement: LocalReplacementModel, order: NodeOrder) -> "KnownRows | None":
        """The rows of the traced prompt that has most of those of a prompt; None if none has any."""
        found = [(KnownRows(traced, replacement, order), key) for key, traced in self._traced.items()]
        if not found:
            return None
        best, key = max(found, key=lambda pair: pair[0].n_known)
        if not best.n_known:
            return None
        self._traced.move_to_end(key)
        return best


class KnownRows:
    """What a traced prompt knows of another one: rows of features at the positions at which both are the same."""

    def __init__(self, traced: TracedPrompt, replacement: LocalReplacementModel, order: NodeOrder):
        self._traced = traced
        key_N = feature_keys(replacement.features)
        self.reach = _common(traced, replacement, key_N)
        here = _positions(traced.key_N) < self.reach
        new_n = np.searchsorted(key_N, traced.key_N[here])
        self._order, self._n_layers, self._features = order, replacement.n_layers, (here, new_n)
        self._old_N = np.full(len(key_N), -1)
        self._old_N[new_n] = np.where(traced.computed_N[here], np.flatnonzero(here), -1)

    @property
    def known_N(self) -> np.ndarray:
        """Features whose rows are known, (N,) bool."""
        return self._old_N >= 0

    @property
    def n_known(self) -> int:
        """Number of known rows."""
        return int(self.known_N.sum())

    def parts(self, node_T: np.ndarray) -> Iterator[SparseRows]:
        """Known rows of ascending nodes, some at a time, the last first."""
        indptr, old_T = self._traced.csr.indptr, self._old_N[node_T]
        edges_T = (indptr[old_T + 1] - indptr[old_T])[::-1].cumsum()[::-1]  # from each to the last
        part_T = edges_T // EDGES_AT_ONCE
        for part in np.unique(part_T):
            mine = part_T == part
            yield self._rows(node_T[mine], old_T[mine])

    def bias(self, node_T: np.ndarray) -> np.ndarray:
        """What constants contribute to known rows, (T,)."""
        return self._traced.bias_N[self._old_N[node_T]]

    def _rows(self, node_T: np.ndarray, old_T: np.ndarray) -> SparseRows:
        rows = self._traced.csr.select_rows(old_T)
        sources = self._new_M[rows.indices].astype(np.int32)
        assert (sources >= 0).all(), "a row reaches beyond what both prompts share"
        return SparseRows(node_T, rows.row_lengths(), sources, rows.weights)

    @cached_property
    def _new_M(self) -> np.ndarray:
        """Number that each of the traced prompt's nodes has now, (M,); -1 for those at other positions."""
        old, order, (here, new_n) = self._traced.order, self._order, self._features
        new_M = np.full(old.n_nodes, -1)
        new_M[np.flatnonzero(here)] = new_n
        layers, positions = np.arange(self._n_layers)[:, None], np.arange(self.reach)
        new_M[old.errors.start + layers * old.n_tokens + positions] = (
            order.errors.start + layers * order.n_tokens + positions
        )
        new_M[old.tokens.start + positions] = order.tokens.start + positions
        return new_M


def feature_keys(features: ActiveFeatures) -> np.ndarray:
    """Layer, position and feature in one ascending number, (N,) int64."""
    of_feature, of_position = BITS
    layer, position, feature = (
        getattr(features, f"{name}_N").cpu().numpy() for name in ("layer", "position", "feature")
    )
    return (((layer << of_position) | position) << of_feature) | feature


def _positions(key_N: np.ndarray) -> np.ndarray:
    of_feature, of_position = BITS
    return (key_N >> of_feature) & (2**of_position - 1)


def _common(traced: TracedPrompt, replacement: LocalReplacementModel, key_N: np.ndarray) -> int:
    """Number of positions at which both prompts have the same tokens, constants and active features.

    Forward passes of other lengths are rounded otherwise, so that a feature may be active in one of them only.
    """
    ids = replacement.token_ids_P.tolist()
    same = np.array([a == b for a, b in zip(traced.token_ids, ids, strict=False)])
    reach = len(same) if same.all() else int(same.argmin())
    for one, other in (
        (set(traced.masked_positions), set(replacement.masked_positions)),
        (set(range(traced.constant_prefix)), set(range(replacement.constant_prefix))),
    ):
        reach = min([reach, *(one ^ other)])
    only_one = _positions(np.setxor1d(traced.key_N, key_N, assume_unique=True))
    return int(min(reach, only_one.min(initial=reach)))
