"""From a prompt's activations to the effects of all nodes on its targets."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.models.forward import FrozenLayer, LayerCache
from cotrace.attribution.tracing.activations import PromptActivations
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.targets import Target
from cotrace.graphs.nodes import ErrorNode, Feature

from .backward import EffectSweep
from .blocks import EffectColumns
from .config import EffectsConfig
from .layers import RespondingLayers
from .run import ReplacedMLPs, Run, frozen_layers, without_patterns
from .values import TargetValues


class NodeEffects(NamedTuple):
    """Effects of a prompt's nodes on K targets, each with a cut.

    Attributes:
        effect_KM: effects of features, error nodes and tokens, in node order.
        bias_K: effects of all constants together, the target's own encoder bias included.
        value_K: values of the targets: centred logits, differences, dot products or pre-activations.
    """

    effect_KM: np.ndarray
    bias_K: np.ndarray
    value_K: np.ndarray

    def __repr__(self) -> str:
        return f"<NodeEffects of {self.effect_KM.shape[1]:,} nodes on {len(self.effect_KM):,} targets>"


class EffectSource:
    """A prompt at which effects are computed: its local replacement model, and the run of the model that made it.

    Args:
        activations: the model's activations on the prompt.
        replacement: its local replacement model, with decoder vectors.
        keep_patterns: whether attention patterns are kept, which only `freeze="attention"` needs.
    """

    def __init__(self, activations: PromptActivations, replacement: LocalReplacementModel, keep_patterns: bool = False):
        self.replacement, self.transcoders = replacement, activations.transcoders
        self.weights, self.encoded = activations.weights, activations.encoded
        caches = activations.layer_caches
        self.layer_caches: list[LayerCache] = caches if keep_patterns else without_patterns(caches)
        self.run = Run(activations.resid_LPD, activations.final_resid_PD)

    def __repr__(self) -> str:
        return f"<EffectSource: {self.replacement!r}>"

    def frozen(self, config: EffectsConfig) -> list[FrozenLayer]:
        """Return what each layer freezes where attention or MLPs respond."""
        return frozen_layers(self.weights, self.run, self.layer_caches, config)

    def replaced_mlps(self) -> ReplacedMLPs:
        """Return the MLPs of the local replacement model, for one pass from other embeddings."""
        return ReplacedMLPs(self.replacement, self.encoded)

    def activation(self, feature: Feature) -> float:
        """Return the activation of an active feature with one position."""
        return float(self.replacement.features.activation_N[self._index(feature)])

    def vector(self, node: Feature | ErrorNode, layer: int) -> Tensor | None:
        """Return what a node writes at a layer's MLP output, (D,); None for nothing, and for a neuron of the MLP."""
        if isinstance(node, ErrorNode):
            assert isinstance(node.position, int)
            return self.replacement.rest_LKPD[layer, 0, node.position] if node.layer == layer else None
        own, j = self.encoded[node.layer], layer - node.layer
        if self.transcoders.part_of_mlp or not 0 <= j < own.decoder_UJD.shape[1]:
            return None
        n = self._index(node) - int((self.replacement.features.layer_N < node.layer).sum())
        return own.write_scale_n[n] * own.decoder_UJD[own.row_n[n], j]

    def _index(self, feature: Feature) -> int:
        assert isinstance(feature.position, int)
        index = self.replacement.features.find(feature.layer, feature.position, feature.feature)
        assert index is not None, "checked by the caller"
        return index

    def values(self, targets: Sequence[Target], config: EffectsConfig) -> np.ndarray:
        """Return the values of resolved targets in the prompt's run, (K,) float64."""
        layers = RespondingLayers(self.weights, self.run, self.frozen(config), self.replacement.n_positions)
        value_K, _ = self._reader(targets, config).read(layers)
        return value_K.double().cpu().numpy() + _own_biases(self.replacement, targets)

    def _reader(self, targets: Sequence[Target], config: EffectsConfig) -> TargetValues:
        return TargetValues(self.replacement, self.transcoders, self.layer_caches, targets, config)

    def node_effects(
        self,
        targets: Sequence[Target],
        config: EffectsConfig,
        open_KP: Tensor | None = None,
        columns_at_once: int | None = None,
    ) -> NodeEffects:
        """Return the effects of all nodes on resolved targets.

        Args:
            targets: K targets; one with several cuts is given several times.
            config: what is frozen.
            open_KP: False at the positions that paths must avoid; None without cuts.
            columns_at_once: targets in one backward pass; None for all.
        """
        replacement, frozen = self.replacement, self.frozen(config)
        sweep = EffectSweep(replacement, self.run, frozen, config, self.transcoders.part_of_mlp)
        values = self._reader(targets, config)
        value_K, read_KD = values.read(RespondingLayers(self.weights, self.run, frozen, replacement.n_positions))
        own_bias_K = _own_biases(replacement, targets)
        columns = EffectColumns(values.layers, values.position_K, read_KD, open_KP)
        effect_KM, bias_K = _in_passes(sweep, columns, columns_at_once)
        return NodeEffects(effect_KM, bias_K + own_bias_K, value_K.double().cpu().numpy() + own_bias_K)


def _in_passes(sweep: EffectSweep, columns: EffectColumns, at_once: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the effects of all nodes (K, M) and of constants (K,)."""
    effect_KM, bias_K = None, np.empty(len(columns.layers))
    for chosen in split_columns(columns, at_once):
        rows = sweep.effects(columns.part(chosen))
        found_kM = rows.effect_KM.cpu().numpy()
        if effect_KM is None:
            effect_KM = np.empty((len(bias_K), found_kM.shape[1]), found_kM.dtype)
        effect_KM[chosen], bias_K[chosen] = found_kM, rows.bias_K.double().cpu().numpy()
    assert effect_KM is not None
    return effect_KM, bias_K


def _own_biases(replacement: LocalReplacementModel, targets: Sequence[Target]) -> np.ndarray:
    """Return the encoder bias of each target that is a feature, and zero for others, (K,)."""
    bias_N = replacement.features.bias_N
    return np.array([0.0 if t.feature_index is None else float(bias_N[t.feature_index]) for t in targets])


def split_columns(columns: EffectColumns, at_once: int | None) -> Iterator[list[int]]:
    """Yield the columns of each pass, ordered by position: a pass ends at its last target."""
    order = torch.argsort(columns.position_K, stable=True).tolist()
    for start in range(0, len(order), at_once or max(1, len(order))):
        yield order[start : start + (at_once or len(order))]
