"""One run of the model, or of its local replacement, at which gradients are taken."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from cotrace.attribution.models.attention_pattern import NO_PATTERN
from cotrace.attribution.models.forward import ForwardPass, FrozenLayer, LayerCache, MLPFunction
from cotrace.attribution.models.gemma3 import Gemma3, LayerWeights
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.transcoders import DecodedOutputs, LayerFeatures
from cotrace.kernels.active import FeatureIndex, with_activations

from .config import EffectsConfig


class Run(NamedTuple):
    """Residual streams (P, D) before each layer, and after the last one."""

    resid_LPD: list[Tensor]
    final_resid_PD: Tensor

    def __repr__(self) -> str:
        return f"<Run: {len(self.resid_LPD)} layers, {len(self.final_resid_PD):,} positions>"


def run_layers(
    weights: Gemma3,
    embedding_PD: Tensor,
    frozen: Sequence[FrozenLayer] | None = None,
    mlp: MLPFunction | None = None,
) -> Run:
    """Return the residual streams of a forward pass from embeddings (P, D); arguments as of `ForwardPass`."""
    forward_pass = ForwardPass(weights, embedding_PD, frozen=frozen, mlp=mlp, keep_patterns=False)
    streams = [embedding_PD, *(forward_pass.resid_PD for _ in forward_pass)]
    return Run(streams[:-1], streams[-1])


def frozen_layers(
    weights: Gemma3, run: Run, layer_caches: Sequence[LayerCache], config: EffectsConfig
) -> list[FrozenLayer]:
    """Return what each layer freezes at the values of the prompt's run, where attention or MLPs respond.

    With `freeze="all"` nothing responds: gradients follow the local replacement model, and no pass needs frozen values.
    """
    if config.freeze == "attention":
        return [FrozenLayer(pattern=cache.pattern) for cache in layer_caches]
    if config.freeze != "norms":
        return [FrozenLayer()] * len(layer_caches)
    frozen = []
    for cache, resid_PD in zip(layer_caches, run.resid_LPD, strict=True):
        w = weights.layer(cache.layer)
        normed_PD = weights.rms_norm(resid_PD, w.norm_attn_in_D, cache.rms_attn_in_P)[0]
        scales = cache.rms_attn_in_P, cache.rms_attn_out_P, cache.rms_mlp_in_P
        frozen.append(FrozenLayer(None, *scales, *weights.head_rms(w, normed_PD)))
    return frozen


def without_patterns(layer_caches: Sequence[LayerCache]) -> list[LayerCache]:
    """Return layers without their attention patterns, which are their largest part."""
    return [cache._replace(pattern=NO_PATTERN) for cache in layer_caches]


class ReplacedMLPs:
    """Computes the MLP outputs of a local replacement model whose features respond linearly; for one pass.

    Args:
        replacement: the prompt's local replacement model, for skips, errors and constants.
        encoded: the active features of each layer, with encoders and decoders.
    """

    def __init__(self, replacement: LocalReplacementModel, encoded: Sequence[LayerFeatures]):
        self.replacement, self.encoded = replacement, encoded
        self.outputs = DecodedOutputs(replacement.n_layers)

    def __call__(self, before: LayerCache, w: LayerWeights) -> LayerCache:
        """Return the layer with the output that features, skip, errors and constants add up to."""
        layer, replacement = before.layer, self.replacement
        own = self.encoded[layer]
        encoders_nD = own.encoder_UD[own.row_n] * own.read_scale_n[:, None]
        activation_n = (encoders_nD * before.mlp_in_PD[own.position_n]).sum(-1) + own.bias_n
        scale_n = own.write_scale_n * activation_n / own.activation_n
        active = with_activations(FeatureIndex(own.position_n, own.row_n), scale_n)
        self.outputs.add(layer, active, own.row_n, own.decoder_UJD, replacement.n_positions)
        out_PD = replacement.rest_LKPD[layer].sum(0)
        decoded_PD, skip_DD = self.outputs[layer], replacement.skip[layer]
        if decoded_PD is not None:
            out_PD = out_PD + decoded_PD
        if skip_DD is not None:
            out_PD = out_PD + before.mlp_in_PD @ skip_DD
        return before._replace(mlp_out_PD=out_PD)
