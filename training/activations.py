"""What the MLPs of every layer read and write on sequences of tokens: the examples that are learned from."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.language_model import LanguageModel

# Tokens of a forward pass: on the CPU few enough that no temporary is large enough to be mapped anew each time.
AT_ONCE, AT_ONCE_ELSEWHERE = {"cpu": 1024}, 16_384


class Examples(NamedTuple):
    """Inputs and outputs at every layer, of the tokens that are learned from."""

    x_LND: Tensor
    y_LND: Tensor

    @classmethod
    def empty(cls, model: LanguageModel, n_tokens: int) -> "Examples":
        """Room for so many tokens."""
        arch = model.architecture
        return cls(*torch.empty(2, arch.n_layers, n_tokens, arch.d_model, device=model.weights.device))


@torch.no_grad()
def examples(
    model: LanguageModel,
    sequences_SP: np.ndarray,
    kind: str,
    advance=lambda steps=1: None,
    *,
    in_bfloat16: bool = False,
) -> Examples:
    """What transcoders read and write on the sequences, without the positions that are masked when tracing.

    An SAE reads what it writes: the MLP's output. In bfloat16 are the model's matrix products, not its weights.
    """
    ids_SP = on_device(model, sequences_SP)
    open_SP = open_positions(model, ids_SP)
    found = Examples.empty(model, int(open_SP.sum()))
    start, at_once = 0, max(1, AT_ONCE.get(ids_SP.device.type, AT_ONCE_ELSEWHERE) // ids_SP.shape[1])
    for ids_BP, open_BP in zip(ids_SP.split(at_once), open_SP.split(at_once), strict=True):
        stop = start + int(open_BP.sum())
        with torch.autocast(ids_BP.device.type, torch.bfloat16, enabled=in_bfloat16):
            watch(model, ids_BP, open_BP, Examples(*(side_LND[:, start:stop] for side_LND in found)), kind)
        advance(len(ids_BP))
        start = stop
    return found


def watch(model: LanguageModel, ids_BP: Tensor, open_BP: Tensor, into: Examples, kind: str = "transcoder") -> Tensor:
    """Run the model and note what its MLPs read and write at open positions; returns what its unembedding reads."""

    def note(layer: int, x_BPD: Tensor, y_BPD: Tensor) -> None:
        into.y_LND[layer] = y_BPD[open_BP].float()
        into.x_LND[layer] = into.y_LND[layer] if kind == "sae" else x_BPD[open_BP].float()

    return model.weights.run_library(ids_BP, note)


def on_device(model: LanguageModel, sequences_SP: np.ndarray) -> Tensor:
    """Token ids as the model takes them."""
    return torch.from_numpy(sequences_SP.astype(np.int64)).to(model.weights.device)


def open_positions(model: LanguageModel, ids_SP: Tensor) -> Tensor:
    """Where features may be active, (S, P) bool: not at BOS, nor in the opening of a chat."""
    bos_id = model.tokenizer.bos_id
    open_SP = torch.ones_like(ids_SP, dtype=torch.bool) if bos_id is None else ids_SP != bos_id
    prefix = [model.tokenizer.constant_prefix_length(ids) for ids in ids_SP.tolist()]
    position_P = torch.arange(ids_SP.shape[1], device=ids_SP.device)
    return open_SP & (position_P >= torch.tensor(prefix, device=ids_SP.device)[:, None])
