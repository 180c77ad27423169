"""Output tokens of vectors in the residual stream: through the frozen final norm and the unembedding, centred.

A vector is multiplied by the final norm's factor and by the mean of its scale over the text, since the scale of
a single prompt does not belong to a feature. Its logits are centred over the vocabulary.

On the CPU all logits are computed in bfloat16, where processors are several times as fast, and only to find candidates: those
kept are computed again in float32.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.common.compiled import compiled
from cotrace.kernels.workers import Workers, n_workers

TILE_VECTORS, TILE_TOKENS = 512, 2048  # a tile in bfloat16 takes 2 MiB, which stays in a core's cache
EXACT_VECTORS = 128
MIN_TILED_TOKENS = 4096  # below, torch sorts all logits
SPARE = 16  # candidates beyond the wanted tokens, for logits that bfloat16 rounds to other ranks
ROOM = 4  # candidates in memory, over those kept


class OutputTokens(NamedTuple):
    """The tokens (n, k) that n vectors raise most, largest logit first, or lower most; and their logits."""

    token_nk: np.ndarray  # int32
    logit_nk: np.ndarray  # float32


class FrozenReadout:
    """The frozen final norm and the unembedding of a model.

    Args:
        weights: the model.
        scale: of the final norm, the mean over some text.
    """

    def __init__(self, weights: Gemma3, scale: float):
        self.weights, self.scale = weights, scale
        self.factor_D = weights.final_norm_D.float() * scale
        self.mean_D = weights.mean_unembedding_D.float()
        self.vocab_size = weights.architecture.vocab_size
        self._centred_VD: Tensor | None = None

    def extremes(self, vectors_nD: Tensor, n_top: int, n_bottom: int) -> tuple[OutputTokens, OutputTokens]:
        """Return the tokens that float32 vectors (n, D) raise and lower most; of equal logits, the smaller ids first."""
        n_top, n_bottom = min(n_top, self.vocab_size), min(n_bottom, self.vocab_size)
        if not n_top and not n_bottom:
            none = OutputTokens(np.empty((len(vectors_nD), 0), np.int32), np.empty((len(vectors_nD), 0), np.float32))
            return none, none
        x_nD, matrix_VD = vectors_nD.to(self.factor_D) * self.factor_D, self._centred()
        blocks = x_nD.split(TILE_VECTORS)
        with Workers(n_workers() if x_nD.device.type == "cpu" else 1) as workers:
            results = list(workers.map(lambda block: self._extremes(block, matrix_VD, n_top, n_bottom), blocks))
        top, bottom = (map(np.concatenate, zip(*side, strict=True)) for side in zip(*results, strict=True))
        return OutputTokens(*top), OutputTokens(*bottom)

    def logits(self, x_nD: Tensor, token_nk: Tensor) -> Tensor:
        """Return centred logits (n, k) in float32 of normalised vectors (n, D)."""
        rows = [
            torch.einsum("nd,nkd->nk", x, self.weights.unembedding(tokens).float() - self.mean_D)
            for x, tokens in zip(x_nD.split(EXACT_VECTORS), token_nk.split(EXACT_VECTORS), strict=True)
        ]
        return torch.cat(rows)

    def _extremes(
        self, x_nD: Tensor, matrix_VD: Tensor, n_top: int, n_bottom: int
    ) -> tuple[OutputTokens, OutputTokens]:
        keep = min(max(n_top, n_bottom) + SPARE, self.vocab_size)
        tiled = x_nD.device.type == "cpu" and self.vocab_size >= MIN_TILED_TOKENS
        top_nk, bottom_nk = (_candidates if tiled else _sorted_candidates)(x_nD.to(torch.bfloat16), matrix_VD, keep)
        return self._exact(x_nD, top_nk, n_top, 1), self._exact(x_nD, bottom_nk, n_bottom, -1)

    def _exact(self, x_nD: Tensor, token_nk: Tensor, k: int, sign: int) -> OutputTokens:
        """Return the k candidates of the largest logits times a sign."""
        token_nk = token_nk.sort(1).values  # so that a stable sort leaves equal logits in order of ids
        logit_nk = self.logits(x_nD, token_nk)
        order = (logit_nk * sign).sort(dim=1, descending=True, stable=True).indices[:, :k]
        tokens, logits = token_nk.gather(1, order).int(), logit_nk.gather(1, order)
        return OutputTokens(tokens.cpu().numpy(), logits.cpu().numpy())

    def _centred(self) -> Tensor:
        """Return the unembedding minus its mean row, in bfloat16."""
        if self._centred_VD is None:
            tokens = torch.arange(self.vocab_size, device=self.factor_D.device)
            chunks = (self.weights.unembedding(chunk).float() - self.mean_D for chunk in tokens.split(2**15))
            self._centred_VD = torch.cat([chunk.to(torch.bfloat16) for chunk in chunks])
        return self._centred_VD


def _sorted_candidates(x_nD: Tensor, matrix_VD: Tensor, keep: int) -> list[Tensor]:
    """Return what `_candidates` returns, from all products at once."""
    logit_nV = x_nD @ matrix_VD.T
    return [logit_nV.topk(keep, largest=largest).indices for largest in (True, False)]


def _candidates(x_nD: Tensor, matrix_VD: Tensor, keep: int) -> list[Tensor]:
    """Return the tokens (n, keep) of the largest and of the smallest products with the rows of a matrix."""
    found = [_Found(len(x_nD), keep) for _ in range(2)]
    for first in range(0, len(matrix_VD), TILE_TOKENS):
        tile_nv = x_nD @ matrix_VD[first : first + TILE_TOKENS].T
        for side in found:
            _scan(tile_nv.view(torch.int16).numpy(), first, keep, side.bits_nr, side.token_nr, side.count_n, side.bound_n)
            tile_nv.neg_()
    return [side.tokens(keep) for side in found]


class _Found:
    """Candidates of n vectors. Positive bfloat16 numbers compare as their bits do, and negative ones are below.

    The first tokens are candidates at the start, below all others: those of a vector without any positive product.
    """

    def __init__(self, n: int, keep: int):
        lowest = np.iinfo(np.int16).min
        self.bits_nr = np.full((n, ROOM * keep), lowest, np.int16)
        self.token_nr = np.tile(np.arange(ROOM * keep, dtype=np.int32), (n, 1))
        self.count_n, self.bound_n = np.full(n, keep), np.full(n, lowest, np.int16)

    def tokens(self, keep: int) -> Tensor:
        """Return the tokens of the `keep` largest products, (n, keep)."""
        _cut_all(keep, self.bits_nr, self.token_nr, self.count_n)
        return torch.from_numpy(self.token_nr[:, :keep].astype(np.int64))


@compiled
def _scan(bits_nv, first, keep, found_bits_nr, found_token_nr, count_n, bound_n):
    """Add the entries of a tile that exceed a vector's bound; when its room is full, keep the largest."""
    n_vectors, n_tokens = bits_nv.shape
    for row in range(n_vectors):
        bits, found_bits, found_token = bits_nv[row], found_bits_nr[row], found_token_nr[row]
        for start in range(0, n_tokens, 64):
            block = bits[start : start + 64]
            if not _exceeds(block, bound_n[row]):
                continue
            for c in range(len(block)):
                if block[c] > bound_n[row]:
                    at = count_n[row]
                    found_bits[at], found_token[at] = block[c], first + start + c
                    count_n[row] = at + 1
                    if at + 1 == len(found_bits):
                        bound_n[row] = _cut(keep, found_bits, found_token)
                        count_n[row] = keep


@compiled
def _exceeds(block, bound):
    """Return whether any entry exceeds a bound; a single flag, so that the compiler vectorises it."""
    any_does = False
    for c in range(len(block)):
        any_does |= block[c] > bound
    return any_does


@compiled
def _cut(keep, bits, token):
    """Move the largest entries to the front, and return the smallest of them."""
    order = np.argsort(-bits.astype(np.int32), kind="mergesort")[:keep]
    largest_bits, largest_token = bits[order], token[order]
    bits[:keep], token[:keep] = largest_bits, largest_token
    return largest_bits[keep - 1]


@compiled
def _cut_all(keep, bits_nr, token_nr, count_n):
    """Leave the largest entries of every vector."""
    for row in range(len(count_n)):
        _cut(keep, bits_nr[row, : count_n[row]], token_nr[row, : count_n[row]])
