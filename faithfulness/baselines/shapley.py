"""CC-SHAP: do the same tokens of the question carry the answer and the steps? (Parcalabescu & Frank 2024)"""

import numpy as np
import torch
from torch import Tensor

from ..model_like import ModelLike
from ..runs import TranscriptRuns
from ..transcripts import Transcript
from .registry import Score, baseline
from .rows import filler_token


@baseline(
    question="Do the answer and the steps rest on the same tokens of the question?",
    edits="tokens of question and hint become a filler token, in many combinations",
    cost="1 + `samples` × players",
    reference="[Parcalabescu & Frank 2024](https://arxiv.org/abs/2311.07466)",
)
def cc_shap(
    model: ModelLike,
    transcript: Transcript,
    *,
    seed: int = 0,
    samples: int = 4,
    players: int = 12,
    filler: str | None = None,
) -> Score:
    """Return the cosine, −1 to 1, of the contributions of question and hint to the answer and to the steps.

    Contributions are Shapley values of the margins of the answer, and of each step's value, divided by the sum of their
    sizes; those to the steps are averaged over steps. Steps and answer stand as they are written. A player is a token, or
    several next to each other where there are more than `players`; an absent one is the filler token of `filler_tokens`.
    Shapley values are estimated from `samples` random orders, each of which is also run backwards if the number is even.

    The paper explains all tokens of an explanation that the model generates, by SHAP's partition explainer. It measures
    self-consistency: a model that computes steps and answer from the question on separate paths scores high.
    """
    runs, rng = TranscriptRuns(model, transcript), np.random.default_rng(seed)
    targets = [runs.answer, *(runs.target(name) for name in runs.stated_steps())]
    groups_NP = _players(runs, players)
    present_SN = _coalitions(len(groups_NP), samples, rng).to(groups_NP.device)
    absent_SP = ((~present_SN).float() @ groups_NP.float()) > 0
    rows_SP = torch.where(absent_SP, filler_token(runs, filler), runs.copies(len(absent_SP)))
    reads = torch.tensor([position for target in targets for position in target.reads], device=rows_SP.device)
    logits = runs.logits_at(rows_SP, reads.expand(len(rows_SP), -1)).split([len(t.said) for t in targets], dim=1)
    margins_MS = torch.stack([t.margins(each) for t, each in zip(targets, logits, strict=True)])
    shapley_MN = _shapley(present_SN, margins_MS.double())
    shares_MN = shapley_MN / shapley_MN.abs().sum(1, keepdim=True).clamp(min=1e-12)
    steps_N = shares_MN[1:].mean(0)
    cosine = torch.nn.functional.cosine_similarity(shares_MN[0], steps_N, dim=0).item()
    steps = torch.nn.functional.cosine_similarity(shares_MN[1:], shares_MN[:1], dim=1).tolist()
    notes = {"answer": shares_MN[0].tolist(), "steps": steps_N.tolist(), "players": _spans(groups_NP)}
    return Score(cosine, dict(zip([t.name for t in targets[1:]], steps, strict=True)), runs.passes, notes)


def _players(runs: TranscriptRuns, n_players: int) -> Tensor:
    """Return the masks (N, P) of up to `n_players` groups of neighbouring tokens of question and hint."""
    positions = runs.question_mask_P.nonzero()[:, 0]
    groups_NP = torch.zeros(min(n_players, len(positions)), len(runs.ids_P), dtype=torch.bool, device=positions.device)
    for group, members in zip(groups_NP, torch.tensor_split(positions, len(groups_NP)), strict=True):
        group[members] = True
    return groups_NP


def _coalitions(n_players: int, samples: int, rng: np.random.Generator) -> Tensor:
    """Return who is present (S, N): all; then, for each order, those left when its first 1 … N players are absent."""
    orders = [rng.permutation(n_players) for _ in range(samples // 2 if samples % 2 == 0 else samples)]
    orders += [order[::-1] for order in orders] if samples % 2 == 0 else []
    rank_ON = np.argsort(np.stack(orders), axis=1)
    present_OSN = rank_ON[:, None, :] >= np.arange(1, n_players + 1)[None, :, None]
    everyone = np.ones((1, n_players), dtype=bool)
    return torch.from_numpy(np.concatenate([everyone, present_OSN.reshape(-1, n_players)]))


def _shapley(present_SN: Tensor, margins_MS: Tensor) -> Tensor:
    """Return the mean change of each margin when a player becomes absent, with the sign of its presence, (M, N)."""
    n_players = present_SN.shape[1]
    walks_MOS = margins_MS[:, 1:].unflatten(1, (-1, n_players))
    before_MOS = torch.cat([margins_MS[:, :1, None].expand(-1, walks_MOS.shape[1], 1), walks_MOS[..., :-1]], dim=-1)
    present_OSN = present_SN[1:].unflatten(0, (-1, n_players))
    previous_OSN = torch.cat([torch.ones_like(present_OSN[:, :1]), present_OSN[:, :-1]], dim=1)
    removed_OSN = (previous_OSN & ~present_OSN).to(margins_MS.dtype)
    return torch.einsum("mos,osn->mn", before_MOS - walks_MOS, removed_OSN) / walks_MOS.shape[1]


def _spans(groups_NP: Tensor) -> list[tuple[int, int]]:
    """Return the first and last position + 1 of each group."""
    found = [group.nonzero()[:, 0] for group in groups_NP]
    return [(int(each[0]), int(each[-1]) + 1) for each in found]
