"""Sample tokens from a model."""

import torch
from torch import Tensor

from .forward import ForwardPass
from .gemma3 import Gemma3
from .kv_cache import KVCache


def sample_tokens(probabilities: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return one token id (…) int64 for each distribution (…, V).

    Args:
        probabilities: at temperature 1, in float64 for vocabularies of this size.
        temperature: 0 takes the likeliest token.
        generator: one number is drawn for each distribution, unless `temperature` is 0.
    """
    if temperature == 0:
        return probabilities.argmax(-1)
    if temperature != 1:
        probabilities = (probabilities.log() / temperature).softmax(-1)
    cumulative = probabilities.cumsum(-1)
    uniform = torch.rand(
        *(*cumulative.shape[:-1], 1), generator=generator, device=cumulative.device, dtype=cumulative.dtype
    )
    drawn = torch.searchsorted(cumulative, uniform * cumulative[..., -1:], right=True)
    return drawn.clamp_(max=cumulative.shape[-1] - 1).squeeze(-1)


@torch.no_grad()
def sample_from_bos(weights: Gemma3, n_sequences: int, length: int, bos_id: int, generator: torch.Generator) -> Tensor:
    """Return sequences (n_sequences, length) int64 that start with BOS, sampled at temperature 1.

    Computes in the dtype in which the weights are stored.
    """
    weights = weights.in_dtype(weights.stored_dtype)
    ids_BP, kv_cache = torch.full((n_sequences, 1), bos_id, device=weights.device), KVCache()
    while ids_BP.shape[1] < length:
        resid_B1D = ForwardPass(weights, weights.embed(ids_BP[:, -1:]), kv_cache=kv_cache, keep_patterns=False).run()
        probability_BV = weights.logits(resid_B1D)[:, -1].double().softmax(-1)
        ids_BP = torch.cat([ids_BP, sample_tokens(probability_BV, 1.0, generator)[:, None]], 1)
    return ids_BP
