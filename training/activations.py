"""Collect MLP inputs and outputs of every layer, the data that transcoders are trained on."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.language_model import LanguageModel

# Of one forward pass. On the CPU it is small, so that the allocator reuses memory instead of mapping new pages.
BATCH_TOKENS, DEFAULT_BATCH_TOKENS = {"cpu": 1024}, 16_384


class MLPActivations(NamedTuple):
    """Inputs and outputs of the MLPs for N tokens: x (L, N, D) and y (L, N, D)."""

    x_LND: Tensor
    y_LND: Tensor

    @classmethod
    def empty(cls, model: LanguageModel, n_tokens: int) -> "MLPActivations":
        """Allocate float32 memory for `n_tokens` tokens on the model's device."""
        arch = model.architecture
        return cls(*torch.empty(2, arch.n_layers, n_tokens, arch.d_model, device=model.weights.device))


@torch.no_grad()
def collect_activations(
    model: LanguageModel,
    sequences_SP: np.ndarray,
    kind: str,
    advance: Callable[..., None] = lambda steps=1: None,
    *,
    bfloat16: bool = False,
) -> MLPActivations:
    """Return MLP inputs and outputs at the unmasked positions of sequences of token ids (S, P).

    Args:
        model: the model to run.
        sequences_SP: token ids.
        kind: `sae` returns the outputs as inputs too: an SAE reconstructs what it reads.
        advance: called with the number of sequences after each batch.
        bfloat16: compute matrix products in bfloat16; the weights keep their dtype.
    """
    ids_SP = to_device(model, sequences_SP)
    unmasked_SP = unmasked_positions(model, ids_SP)
    activations = MLPActivations.empty(model, int(unmasked_SP.sum()))
    start, batch_size = 0, batch_sequences(model, ids_SP.shape[1])
    for ids_BP, unmasked_BP in zip(ids_SP.split(batch_size), unmasked_SP.split(batch_size), strict=True):
        stop = start + int(unmasked_BP.sum())
        batch = MLPActivations(*(side_LND[:, start:stop] for side_LND in activations))
        with torch.autocast(ids_BP.device.type, torch.bfloat16, enabled=bfloat16):
            record_activations(model, ids_BP, unmasked_BP, batch, kind)
        advance(len(ids_BP))
        start = stop
    return activations


def record_activations(
    model: LanguageModel, ids_BP: Tensor, unmasked_BP: Tensor, into: MLPActivations, kind: str = "transcoder"
) -> Tensor:
    """Run the model, copy MLP inputs and outputs at unmasked positions; return the unembedding's input (B, P, D)."""
    weights = model.weights.in_dtype(model.weights.stored_dtype)
    forward_pass = ForwardPass(weights, weights.embed(ids_BP), keep_patterns=False)
    for layer, *_, x_BPD, y_BPD in forward_pass:
        into.y_LND[layer] = y_BPD[unmasked_BP].float()
        into.x_LND[layer] = into.y_LND[layer] if kind == "sae" else x_BPD[unmasked_BP].float()
    return weights.final_normed(forward_pass.resid_PD)


def batch_sequences(model: LanguageModel, length: int) -> int:
    """Return how many sequences of `length` tokens pass the model together."""
    return max(1, BATCH_TOKENS.get(model.weights.device.type, DEFAULT_BATCH_TOKENS) // length)


def to_device(model: LanguageModel, sequences_SP: np.ndarray) -> Tensor:
    """Return token ids as an int64 tensor on the model's device."""
    return torch.from_numpy(sequences_SP.astype(np.int64)).to(model.weights.device)


def unmasked_positions(model: LanguageModel, ids_SP: Tensor) -> Tensor:
    """Return the positions where features may be active, (S, P) bool: all but BOS and the tokens that open a chat."""
    bos_id = model.tokenizer.bos_id
    unmasked_SP = torch.ones_like(ids_SP, dtype=torch.bool) if bos_id is None else ids_SP != bos_id
    prefix = [model.tokenizer.constant_prefix_length(ids) for ids in ids_SP.tolist()]
    position_P = torch.arange(ids_SP.shape[1], device=ids_SP.device)
    return unmasked_SP & (position_P >= torch.tensor(prefix, device=ids_SP.device)[:, None])
