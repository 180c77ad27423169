"""Metrics of MLP replacements on text: reconstruction, sparsity, and predictions of the model that uses them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cotrace.attribution.models.forward import ForwardPass, LayerCache, model_mlp
from cotrace.attribution.models.gemma3 import LayerWeights
from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress

from .activations import MLPActivations, record_activations, to_device, unmasked_positions
from .mlp_replacements import MLPReplacement, TranscoderReplacement

BATCH_SEQUENCES = 4
LOGIT_BATCH_POSITIONS = 256
DENSE_RATE = 0.1  # share of tokens above which a feature counts as dense


@dataclass
class TranscoderEvaluation:
    """Measurements of transcoders or of a baseline.

    Args:
        name: of the transcoders or the baseline.
        fvu: fraction of variance unexplained of the MLP outputs, mean over layers.
        fvu_by_layer: the same for each layer.
        loss: cross-entropy of the next token with every MLP replaced, in nats.
        loss_of_model: the model's own cross-entropy, in nats.
        kl: KL divergence of the next-token distribution with every MLP replaced from the model's own, in nats.
        top1_agreement: share of tokens after which both predict the same next token.
        l0: active features per layer and token; None for baselines.
        l0_by_layer: the same for each layer.
        dead: share of features that were never active; None for baselines.
        dense: share of features that were active on more than 10% of the tokens; None for baselines.
        replacement_score: mean over traced prompts; None without traces.
        completeness_score: mean over traced prompts; None without traces.
        settings: model, text and versions.
    """

    name: str
    fvu: float
    fvu_by_layer: list[float]
    loss: float
    loss_of_model: float
    kl: float
    top1_agreement: float
    l0: float | None = None
    l0_by_layer: list[float] | None = None
    dead: float | None = None
    dense: float | None = None
    replacement_score: float | None = None
    completeness_score: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the measurements as values that JSON can hold."""
        return asdict(self)

    def __repr__(self) -> str:
        l0 = "" if self.l0 is None else f", L0 {self.l0:.1f}"
        return f"TranscoderEvaluation({self.name!r}: FVU {self.fvu:.4f}{l0}, loss {self.loss:.3f}, KL {self.kl:.3f})"


@torch.no_grad()
def evaluate_replacements(
    model: LanguageModel, replacements: Sequence[MLPReplacement], sequences_SP: np.ndarray, bars: Progress
) -> list[TranscoderEvaluation]:
    """Measure MLP replacements on the same sequences of token ids (S, P).

    FVU, the fraction of variance unexplained (normalized MSE), compares outputs for the real model's inputs. Loss, KL
    and agreement are of the model in which every MLP is replaced. Masked positions keep the model's own outputs and are
    not counted in FVU.
    """
    if not len(sequences_SP):
        raise ArgumentError("no text to evaluate on: name more data, or a run with held-out text")
    measurements = [ReplacementMeasurement(replacement, model) for replacement in replacements]
    batches = range(0, len(sequences_SP), BATCH_SEQUENCES)
    with bars.phase("evaluating", len(batches)) as advance:
        for start in batches:
            ids_BP = to_device(model, sequences_SP[start : start + BATCH_SEQUENCES])
            unmasked_BP = unmasked_positions(model, ids_BP)
            activations = MLPActivations.empty(model, int(unmasked_BP.sum()))
            normed_BPD = record_activations(model, ids_BP, unmasked_BP, activations)
            replaced = []
            for measurement in measurements:
                measurement.add_reconstruction(*activations)
                replaced.append(measurement.run_replaced(ids_BP, unmasked_BP))
            _compare_predictions(model, measurements, ids_BP, normed_BPD, replaced)
            advance()
    return [measurement.result() for measurement in measurements]


class ReplacementMeasurement:
    """Running sums over tokens for one MLP replacement."""

    def __init__(self, replacement: MLPReplacement, model: LanguageModel):
        self.replacement, self.model = replacement, model
        arch, device = model.architecture, model.weights.device
        self.error_L, self.square_L = torch.zeros(2, arch.n_layers, dtype=torch.float64, device=device)
        self.sum_LD = torch.zeros(arch.n_layers, arch.d_model, dtype=torch.float64, device=device)
        self.n_tokens = self.n_predicted = 0
        # Sums of: loss, the model's own loss, KL, agreement.
        self.prediction_sums = torch.zeros(4, dtype=torch.float64, device=device)
        self.active_tokens_LF: Tensor | None = None

    def add_reconstruction(self, x_LND: Tensor, y_LND: Tensor) -> None:
        """Compare the replacement's outputs for real inputs (L, N, D) with the real outputs."""
        self.replacement.reset(x_LND.shape[1])
        for layer, (x_ND, y_ND) in enumerate(zip(x_LND, y_LND, strict=True)):
            error_ND = y_ND - self.replacement.output(layer, x_ND)
            self.error_L[layer] += error_ND.double().square().sum()
            self.square_L[layer] += y_ND.double().square().sum()
            self.sum_LD[layer] += y_ND.double().sum(0)
        self.n_tokens += x_LND.shape[1]
        if isinstance(self.replacement, TranscoderReplacement):
            width = self.replacement.transcoders.n_features
            counts_LF = torch.stack([torch.bincount(a.feature_n, minlength=width) for a in self.replacement.active])
            self.active_tokens_LF = counts_LF if self.active_tokens_LF is None else self.active_tokens_LF + counts_LF

    def run_replaced(self, ids_BP: Tensor, unmasked_BP: Tensor) -> Tensor:
        """Run the model with every MLP replaced; return the unembedding's input (B, P, D)."""
        self.replacement.reset(int(unmasked_BP.sum()))
        weights = self.model.weights.in_dtype(self.model.weights.stored_dtype)
        run_mlp = model_mlp(weights)

        def replace_mlp(before: LayerCache, w: LayerWeights) -> LayerCache:
            real = run_mlp(before, w)  # masked positions keep this output
            output_ND = self.replacement.output(before.layer, before.mlp_in_PD[unmasked_BP].float())
            mlp_out_BPD = real.mlp_out_PD.index_put((unmasked_BP,), output_ND.to(real.mlp_out_PD))
            return real._replace(mlp_out_PD=mlp_out_BPD)

        forward_pass = ForwardPass(weights, weights.embed(ids_BP), mlp=replace_mlp, keep_patterns=False)
        return weights.final_normed(forward_pass.run())

    def add_predictions(self, next_n: Tensor, model_nV: Tensor, replaced_nV: Tensor) -> None:
        """Compare log-probabilities of the next token (n, V) with the model's own."""
        losses = [F.nll_loss(log_p, next_n, reduction="sum") for log_p in (replaced_nV, model_nV)]
        kl = F.kl_div(replaced_nV, model_nV, log_target=True, reduction="sum")
        agree = (model_nV.argmax(-1) == replaced_nV.argmax(-1)).sum()
        self.prediction_sums += torch.stack([*losses, kl, agree.to(kl)]).double()
        self.n_predicted += len(next_n)

    def result(self) -> TranscoderEvaluation:
        """Return the means over all tokens."""
        variance_L = self.square_L - self.sum_LD.square().sum(1) / self.n_tokens
        fvu_L = (self.error_L / variance_L).tolist()
        predictions = (self.prediction_sums / self.n_predicted).tolist()
        result = TranscoderEvaluation(self.replacement.name, float(np.mean(fvu_L)), fvu_L, *predictions)
        result.settings = {"tokens": self.n_tokens}
        if self.active_tokens_LF is not None:
            rate_LF = self.active_tokens_LF / self.n_tokens
            result.l0_by_layer = rate_LF.sum(1).tolist()
            result.l0 = float(np.mean(result.l0_by_layer))
            result.dead = (rate_LF == 0).float().mean().item()
            result.dense = (rate_LF > DENSE_RATE).float().mean().item()
        return result


def _compare_predictions(
    model: LanguageModel,
    measurements: Sequence[ReplacementMeasurement],
    ids_BP: Tensor,
    model_BPD: Tensor,
    replaced: list[Tensor],
) -> None:
    """Add next-token predictions to every measurement; the model's own are computed once. BOS is not predicted."""
    bos_id = model.tokenizer.bos_id
    predicted_BP = ids_BP[:, 1:] != (-1 if bos_id is None else bos_id)
    next_n = ids_BP[:, 1:][predicted_BP]
    sides = [normed_BPD[:, :-1][predicted_BP].split(LOGIT_BATCH_POSITIONS) for normed_BPD in (model_BPD, *replaced)]
    for next_p, model_pD, *replaced_sides in zip(next_n.split(LOGIT_BATCH_POSITIONS), *sides, strict=True):
        model_pV = _log_probabilities(model, model_pD)
        for measurement, replaced_pD in zip(measurements, replaced_sides, strict=True):
            measurement.add_predictions(next_p, model_pV, _log_probabilities(model, replaced_pD))


def _log_probabilities(model: LanguageModel, normed_pD: Tensor) -> Tensor:
    weights = model.weights.in_dtype(model.weights.stored_dtype)
    return F.log_softmax(weights.unembed(normed_pD).float(), -1)
