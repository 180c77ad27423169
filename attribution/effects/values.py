"""Values of targets, and their gradients with respect to the residual stream where each is read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cotrace.attribution.models.forward import LayerCache
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.targets import Target
from cotrace.attribution.transcoders import Transcoders
from cotrace.kernels.active import FeatureIndex

from .config import EffectsConfig
from .layers import RespondingLayers


class TargetValues:
    """Reads the values of K targets from a run, as functions of the residual stream at one layer and position each.

    Args:
        replacement: the prompt's local replacement model, with the scales that norms freeze.
        transcoders: the transcoders of targets that are features.
        layer_caches: the layers of the prompt's run.
        targets: the resolved targets.
        config: whether the norms before targets respond.
    """

    def __init__(
        self,
        replacement: LocalReplacementModel,
        transcoders: Transcoders,
        layer_caches: Sequence[LayerCache],
        targets: Sequence[Target],
        config: EffectsConfig,
    ):
        self.replacement, self.transcoders, self.config = replacement, transcoders, config
        self.layer_caches, self.targets = layer_caches, targets
        self.weights = replacement.weights

    @property
    def layers(self) -> list[int]:
        """The layer before whose MLP each target is read; L is the unembedding."""
        return [self.replacement.n_layers if t.feature is None else t.feature.layer for t in self.targets]

    @property
    def position_K(self) -> Tensor:
        """The position where each target is read, (K,)."""
        return torch.tensor([t.position for t in self.targets], dtype=torch.long, device=self.replacement.device)

    def read(self, layers: RespondingLayers) -> tuple[Tensor, Tensor]:
        """Return the values (K,) at a run, without biases of encoders, and their gradients (K, D)."""
        pairs = [self._gradient(target, self._stream(target, layers)) for target in self.targets]
        values, gradients = zip(*pairs, strict=True)
        return torch.stack(values), torch.stack(gradients)

    def at(self, final_resid_PD: Tensor, mlp_in_LPD: Sequence[Tensor | None]) -> Tensor:
        """Return the values (…, K) in a pass, without biases of encoders, differentiable in both arguments.

        Args:
            final_resid_PD: the final residual stream, (…, P, D).
            mlp_in_LPD: the input of each layer's MLP, (…, P, D); None in layers without a target.
        """
        return torch.stack([self._value(target, final_resid_PD, mlp_in_LPD) for target in self.targets], dim=-1)

    def _value(self, target: Target, final_resid_PD: Tensor, mlp_in_LPD: Sequence[Tensor | None]) -> Tensor:
        if target.feature is None:
            return self._logit(target, final_resid_PD[..., target.position, :])
        mlp_in_PD = mlp_in_LPD[target.feature.layer]
        assert mlp_in_PD is not None
        return self._pre_activation(target, mlp_in_PD[..., target.position, :])

    def _stream(self, target: Target, layers: RespondingLayers) -> Tensor:
        """Return the residual stream (D,) that a target reads."""
        if target.feature is None:
            return layers.run.final_resid_PD[target.position]
        return layers.before_mlp(target.feature.layer)[target.position]

    def _gradient(self, target: Target, resid_D: Tensor) -> tuple[Tensor, Tensor]:
        """Return a target's value and its gradient with respect to the residual stream (D,) that it reads."""
        with torch.enable_grad():
            point_D = resid_D.detach().requires_grad_()
            if target.feature is None:
                value = self._logit(target, point_D)
            else:
                value = self._pre_activation(target, self._mlp_input(target, point_D))
            (gradient_D,) = torch.autograd.grad(value, point_D)
        return value.detach(), gradient_D

    def _logit(self, target: Target, resid_D: Tensor) -> Tensor:
        assert target.direction_D is not None
        rms = None if self.config.mlps_respond else self.replacement.final_rms_P[target.position]
        return self.weights.rms_norm(resid_D, self.weights.final_norm_D, rms)[0] @ target.direction_D

    def _mlp_input(self, target: Target, resid_D: Tensor) -> Tensor:
        assert target.feature is not None
        layer = target.feature.layer
        rms = None if self.config.mlps_respond else self.layer_caches[layer].rms_mlp_in_P[target.position]
        return self.weights.rms_norm(resid_D, self.weights.norm_mlp_in(layer), rms)[0]

    def _pre_activation(self, target: Target, mlp_in_D: Tensor) -> Tensor:
        """Return a feature's pre-activation without its bias; the gate of a neuron responds if its MLP does."""
        feature, weights = target.feature, self.weights
        assert feature is not None
        if self.transcoders.part_of_mlp and self.config.mlps_respond:
            w = weights.layer(feature.layer)
            return weights.activation(mlp_in_D @ w.w_gate[feature.feature]) * (mlp_in_D @ w.w_up[feature.feature])
        index = FeatureIndex(*(torch.tensor([n], device=mlp_in_D.device) for n in (target.position, feature.feature)))
        encoder_D = self.transcoders.encoders(self.layer_caches[feature.layer], weights, index)[0]
        return mlp_in_D @ encoder_D
