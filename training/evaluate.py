"""How well transcoders stand in for a model's MLPs, on text they were not trained on, beside simpler stand-ins."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.attribution.transcoders.files import FileTranscoders
from cotrace.common.errors import CotraceError
from cotrace.common.progress import Progress
from cotrace.kernels.active import Active
from cotrace.kernels.decode import decode
from cotrace.model import Model

from .activations import Examples, on_device, open_positions, watch

AT_ONCE = 4  # sequences
LOGITS_AT_ONCE = 256  # positions
DENSE = 0.1  # share of tokens from which on a feature counts as dense
EVERYDAY_PROMPTS = (
    "The opposite of hot is",
    "The capital of France is",
    "She poured the coffee into a",
    "In the winter it is very cold, and in the summer it is very",
    "Once upon a time there was a little",
    "He opened the door and walked into the",
    "Monday, Tuesday, Wednesday,",
    "The sun rises in the east and sets in the",
    "My favourite fruit is the",
    "Two plus two equals",
)


class StandIn(Protocol):
    """What takes the place of every MLP."""

    name: str

    def begin(self, n_positions: int) -> None:
        """A new batch of tokens: its layers follow, from the first on."""

    def output(self, layer: int, x_PD: Tensor) -> Tensor:
        """What stands for the MLP's output, (P, D)."""


class TranscoderStandIn:
    """Transcoders from files; what a CLT's features write to later layers is carried there."""

    def __init__(self, transcoders: FileTranscoders, n_layers: int):
        self.name, self.transcoders, self.n_layers = transcoders.name, transcoders, n_layers
        self.active: list[Active] = []  # of the layers so far
        self.written: list[Tensor] = []  # to each layer by the layers so far

    def begin(self, n_positions: int) -> None:
        """Nothing has been written yet."""
        self.active, self.written = [], []

    def output(self, layer: int, x_PD: Tensor) -> Tensor:
        """What features of this layer and earlier ones write, skip and bias."""
        if layer == 0:
            self.written = [torch.zeros_like(x_PD)] * self.n_layers
        active, _, row_n, decoder_UJD = self.transcoders.active(layer, x_PD)
        self.active.append(active)
        n_later = decoder_UJD.shape[1] - 1
        nothing = Active(*(column[:0] for column in active))
        later = [nothing] * n_later, [decoder_UJD[:0, :1]] * n_later
        y_JPD = decode([active._replace(feature_n=row_n), *later[0]], [decoder_UJD, *later[1]], len(x_PD))
        for j, y_PD in enumerate(y_JPD):
            self.written[layer + j] = self.written[layer + j] + y_PD
        skip_DD, bias_D = self.transcoders.skip(layer, x_PD), self.transcoders.output_bias(layer, x_PD)
        y_PD = self.written[layer] if bias_D is None else self.written[layer] + bias_D
        return y_PD if skip_DD is None else y_PD + x_PD @ skip_DD


@dataclass
class Result:
    """Measurements of one stand-in. Lists are by layer; what transcoders alone have is None for others."""

    name: str
    fvu: float  # mean over layers
    fvu_by_layer: list[float]
    loss: float  # of the next token, nats, with every MLP replaced
    loss_of_model: float
    kl: float  # of the model's next-token distribution to the replaced model's, nats
    top1_agreement: float
    l0: float | None = None
    l0_by_layer: list[float] | None = None
    dead: float | None = None  # share of features that were never active
    dense: float | None = None  # share of features active on more than `DENSE` of the tokens
    replacement_score: float | None = None  # mean over the prompts
    completeness_score: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@torch.no_grad()
def evaluate(
    model: LanguageModel, stand_ins: Sequence[StandIn], sequences_SP: np.ndarray, bars: Progress
) -> list[Result]:
    """Measure stand-ins on the same sequences (S, P) of token ids.

    FVU, the fraction of variance unexplained (normalised MSE), compares what a stand-in writes for
    the real model's inputs; loss, KL and agreement are of the model in which it replaces every MLP.
    Masked positions keep the model's own outputs and are not counted in FVU.
    """
    if not len(sequences_SP):
        raise CotraceError("there is no text to evaluate on; name more data, or a run that held some out")
    tallies = [Tally(stand_in, model) for stand_in in stand_ins]
    batches = range(0, len(sequences_SP), AT_ONCE)
    with bars.phase("evaluating", len(batches)) as advance:
        for start in batches:
            ids_BP = on_device(model, sequences_SP[start : start + AT_ONCE])
            open_BP = open_positions(model, ids_BP)
            found = Examples.empty(model, int(open_BP.sum()))
            normed_BPD = watch(model, ids_BP, open_BP, found)
            replaced = []
            for tally in tallies:
                tally.reconstruct(*found)
                replaced.append(tally.replace(ids_BP, open_BP))
            _compare(model, tallies, ids_BP, normed_BPD, replaced)
            advance()
    return [tally.result() for tally in tallies]


class Tally:
    """Sums over tokens for one stand-in."""

    def __init__(self, stand_in: StandIn, model: LanguageModel):
        self.stand_in, self.model = stand_in, model
        arch, device = model.architecture, model.weights.device
        self.error_L, self.square_L = torch.zeros(2, arch.n_layers, dtype=torch.float64, device=device)
        self.sum_LD = torch.zeros(arch.n_layers, arch.d_model, dtype=torch.float64, device=device)
        self.n_tokens = self.n_predicted = 0
        self.predicted = torch.zeros(4, dtype=torch.float64, device=device)  # loss, the model's loss, KL, agreement
        self.on_LF: Tensor | None = None  # tokens on which each feature was active

    def reconstruct(self, x_LND: Tensor, y_LND: Tensor) -> None:
        """Compare what is written for the real inputs with the real outputs."""
        self.stand_in.begin(x_LND.shape[1])
        for layer, (x_ND, y_ND) in enumerate(zip(x_LND, y_LND, strict=True)):
            error_ND = y_ND - self.stand_in.output(layer, x_ND)
            self.error_L[layer] += error_ND.double().square().sum()
            self.square_L[layer] += y_ND.double().square().sum()
            self.sum_LD[layer] += y_ND.double().sum(0)
        self.n_tokens += x_LND.shape[1]
        if isinstance(self.stand_in, TranscoderStandIn):
            width = self.stand_in.transcoders.n_features
            counts_LF = torch.stack([torch.bincount(a.feature_n, minlength=width) for a in self.stand_in.active])
            self.on_LF = counts_LF if self.on_LF is None else self.on_LF + counts_LF

    def replace(self, ids_BP: Tensor, open_BP: Tensor) -> Tensor:
        """What the unembedding reads when every MLP is replaced, (B, P, D)."""
        self.stand_in.begin(int(open_BP.sum()))

        def put(layer: int, x_BPD: Tensor, y_BPD: Tensor) -> Tensor:
            replaced_BPD = y_BPD.clone()
            replaced_BPD[open_BP] = self.stand_in.output(layer, x_BPD[open_BP].float()).to(y_BPD)
            return replaced_BPD

        return self.model.weights.run_library(ids_BP, put)

    def predict(self, next_n: Tensor, real_nV: Tensor, replaced_nV: Tensor) -> None:
        """Compare log-probabilities of the next token with the model's own."""
        losses = [F.nll_loss(log_p, next_n, reduction="sum") for log_p in (replaced_nV, real_nV)]
        kl = F.kl_div(replaced_nV, real_nV, log_target=True, reduction="sum")
        agree = (real_nV.argmax(-1) == replaced_nV.argmax(-1)).sum()
        self.predicted += torch.stack([*losses, kl, agree.to(kl)]).double()
        self.n_predicted += len(next_n)

    def result(self) -> Result:
        """The means."""
        variance_L = self.square_L - self.sum_LD.square().sum(1) / self.n_tokens
        fvu_L = (self.error_L / variance_L).tolist()
        loss, loss_of_model, kl, agreement = (self.predicted / self.n_predicted).tolist()
        result = Result(self.stand_in.name, float(np.mean(fvu_L)), fvu_L, loss, loss_of_model, kl, agreement)
        result.settings = {"tokens": self.n_tokens}
        if self.on_LF is not None:
            rate_LF = self.on_LF / self.n_tokens
            result.l0_by_layer = rate_LF.sum(1).tolist()
            result.l0 = float(np.mean(result.l0_by_layer))
            result.dead, result.dense = ((rate_LF == 0).float().mean().item(), (rate_LF > DENSE).float().mean().item())
        return result


def _compare(
    model: LanguageModel, tallies: Sequence[Tally], ids_BP: Tensor, real_BPD: Tensor, replaced: list[Tensor]
) -> None:
    """Let every tally see the predictions of the next token; the model's own are computed once."""
    follows_BP = ids_BP[:, 1:] != (-1 if model.tokenizer.bos_id is None else model.tokenizer.bos_id)
    next_n = ids_BP[:, 1:][follows_BP]
    sides = [normed_BPD[:, :-1][follows_BP].split(LOGITS_AT_ONCE) for normed_BPD in (real_BPD, *replaced)]
    for next_p, *sides_pD in zip(next_n.split(LOGITS_AT_ONCE), *sides, strict=True):
        real_pV = _log_probabilities(model, sides_pD[0])
        for tally, replaced_pD in zip(tallies, sides_pD[1:], strict=True):
            tally.predict(next_p, real_pV, _log_probabilities(model, replaced_pD))


def _log_probabilities(model: LanguageModel, normed_pD: Tensor) -> Tensor:
    return F.log_softmax(model.weights.logits_of_normed(normed_pD).float(), -1)


def scores(model: Model, prompts: Sequence[str], bars: Progress) -> tuple[float, float]:
    """Mean replacement and completeness scores of the prompts' whole graphs."""
    found = []
    with bars.phase("tracing prompts", len(prompts)) as advance:
        for prompt in prompts:
            traced = model.trace(prompt, progress=False).info["scores"]
            found.append((traced["replacement"], traced["completeness"]))
            advance()
    replacement, completeness = np.mean(found, axis=0).tolist()
    return replacement, completeness
