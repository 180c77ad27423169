"""Effects averaged along a path: from other input embeddings to the prompt, or along the ablation of nodes.

Both use Gauss-Legendre points. Method: Sundararajan et al., "Axiomatic Attribution for Deep Networks" (2017), sections 3
and 5; along ablations, the same for the activation of one node.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from cotrace.attribution.models.forward import ForwardPass, LayerCache, MLPFunction
from cotrace.attribution.models.gemma3 import LayerWeights
from cotrace.attribution.tracing.targets import Target
from cotrace.graphs.nodes import ErrorNode, Feature

from .backward import EffectSweep
from .blocks import EffectColumns
from .config import EffectsConfig
from .effects import EffectSource, split_columns
from .layers import RespondingLayers
from .run import Run, run_layers
from .values import TargetValues

BATCH_BYTES = 2**29  # of the numbers inside a layer of rows that pass the model together
CPU_BATCH_POSITIONS = 512  # of all rows in one forward pass


class IntegratedEffects(NamedTuple):
    """Effects of P tokens, or of S listed nodes, on K targets; they add up to the targets' changes `value_K`."""

    effect_KS: np.ndarray
    value_K: np.ndarray


def path_points(steps: int) -> list[tuple[float, float]]:
    """Return points between 0 and 1 and their weights, which add up to 1."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    return [((1 + float(x)) / 2, float(w) / 2) for x, w in zip(points, weights, strict=True)]


def end_points(steps: int) -> list[tuple[float, float]]:
    """Return Gauss-Lobatto points and their weights, which add up to 1. 0 and 1 are among them: `steps` is at least 2."""
    inner = np.polynomial.legendre.Legendre.basis(steps - 1)
    points = np.array([-1.0, *np.sort(inner.deriv().roots().real), 1.0])
    weights = 2 / (steps * (steps - 1) * inner(points) ** 2)
    return [((1 + float(x)) / 2, float(w) / 2) for x, w in zip(points, weights, strict=True)]


def integrate_inputs(
    source: EffectSource,
    targets: Sequence[Target],
    config: EffectsConfig,
    baseline_PD: Tensor,
    open_KP: Tensor | None = None,
    columns_at_once: int | None = None,
    points: Sequence[tuple[float, float]] | None = None,
) -> IntegratedEffects:
    """Return the effects of tokens along the straight path from a baseline to the prompt, all tokens at once.

    `value_K` is the change of the targets between the two. What effects lack of it shrinks with the number of points.

    Args:
        source: the prompt.
        targets: K resolved targets.
        config: what is frozen, and the number of points.
        baseline_PD: embeddings of the baseline.
        open_KP: False at the positions that paths must avoid.
        columns_at_once: targets in one backward pass; None for all.
        points: shares of the way, and their weights; None for `path_points`. With `end_points`, the runs at both ends serve
            twice, and the one at the prompt is there already: n points take n − 1 forward passes.
    """
    path = _InputPath(source, targets, config, open_KP, columns_at_once)
    embedding_PD = source.replacement.embedding_PD
    change_PD = embedding_PD - baseline_PD
    effect_KP = torch.zeros(len(targets), len(change_PD), dtype=torch.float64, device=change_PD.device)
    # The frozen model is linear: its gradients are the same at every point.
    chosen = path_points(config.integration_steps) if points is None else points
    ends: dict[float, Run] = {1.0: source.run}
    for share, weight in [(1.0, 1.0)] if config.freeze == "all" else chosen:
        run = ends.get(share) or path.run(baseline_PD + share * change_PD)
        if share == 0:
            ends[0.0] = run
        grad_PKD = path.gradients(run)
        effect_KP += weight * torch.einsum("pkd,pd->kp", grad_PKD, change_PD).double()
    if config.freeze == "all":
        return IntegratedEffects(effect_KP.cpu().numpy(), effect_KP.sum(1).cpu().numpy())
    change_K = path.values(ends[1.0]) - path.values(ends.get(0.0) or path.run(baseline_PD))
    return IntegratedEffects(effect_KP.cpu().numpy(), change_K.double().cpu().numpy())


class _InputPath:
    """Runs and gradients at points between a baseline and a prompt."""

    def __init__(
        self,
        source: EffectSource,
        targets: Sequence[Target],
        config: EffectsConfig,
        open_KP: Tensor | None,
        at_once: int | None,
    ):
        self.source, self.config, self.open_KP, self.at_once = source, config, open_KP, at_once
        self.frozen = source.frozen(config)
        self.readers = TargetValues(source.replacement, source.transcoders, source.layer_caches, targets, config)

    def run(self, embedding_PD: Tensor) -> Run:
        """Return the run from some embeddings, with what the configuration freezes."""
        if self.config.freeze == "all":
            return self.source.run
        mlp = None if self.config.mlps_respond else self.source.replaced_mlps()
        return run_layers(self.source.weights, embedding_PD, self.frozen, mlp)

    def values(self, run: Run) -> Tensor:
        """Return the values (K,) of the targets at a run, without biases of encoders."""
        return self.readers.read(self._layers(run))[0]

    def gradients(self, run: Run) -> Tensor:
        """Return the gradients of the targets with respect to the embeddings, (P, K, D)."""
        sweep = EffectSweep(self.source.replacement, run, self.frozen, self.config, self.source.transcoders.part_of_mlp)
        read_KD = self.readers.read(self._layers(run))[1]
        columns = EffectColumns(self.readers.layers, self.readers.position_K, read_KD, self.open_KP)
        grad_PKD = read_KD.new_empty(self.source.replacement.n_positions, *read_KD.shape)
        for chosen in split_columns(columns, self.at_once):
            grad_PKD[:, chosen] = sweep.embedding_gradients(columns.part(chosen))
        return grad_PKD

    def _layers(self, run: Run) -> RespondingLayers:
        return RespondingLayers(self.source.weights, run, self.frozen, self.source.replacement.n_positions)


def integrate_ablations(
    source: EffectSource,
    targets: Sequence[Target],
    sets: Sequence[Sequence[Feature | ErrorNode]],
    config: EffectsConfig,
) -> IntegratedEffects:
    """Return the effect of each of S sets of nodes on K targets, averaged along the ablation of the whole set.

    One forward pass in forward-mode differentiation gives the derivatives of all targets at a point; the points of
    several sets are the rows of a batch. It starts where the sets begin to write: sets are ordered by that layer.

    Args:
        source: the prompt.
        targets: the resolved targets.
        sets: active features and error nodes, each with one position.
        config: what is frozen ("attention" or "none"), and the number of points.
    """
    order = sorted(range(len(sets)), key=lambda s: min(node.layer for node in sets[s]))
    rows = [(s, share, weight) for s in order for share, weight in path_points(config.integration_steps)]
    effect_KS = np.zeros((len(targets), len(sets)))
    for batch in _batches(rows, source):
        slope_BK = _AblationPass(source, targets, config, [sets[s] for s, _, _ in batch]).slopes(
            [share for _, share, _ in batch]
        )
        for (s, _, weight), slope_K in zip(batch, slope_BK.double().cpu().numpy(), strict=True):
            effect_KS[:, s] += weight * slope_K
    return IntegratedEffects(effect_KS, effect_KS.sum(1))


def _batches(rows: list, source: EffectSource) -> Iterator[list]:
    """Yield rows in batches that fit into memory, and on a CPU are no larger than makes them faster."""
    arch, n_positions = source.weights.architecture, source.replacement.n_positions
    numbers = n_positions * max(arch.n_heads * n_positions, 2 * arch.d_mlp)
    at_once = max(1, BATCH_BYTES // (2 * numbers * source.weights.dtype.itemsize))
    if source.replacement.device.type == "cpu":
        at_once = max(1, min(at_once, CPU_BATCH_POSITIONS // n_positions))
    for start in range(0, len(rows), at_once):
        yield rows[start : start + at_once]


class _AblationPass:
    """One forward pass over B rows, in each of which a set of nodes is scaled down."""

    def __init__(
        self,
        source: EffectSource,
        targets: Sequence[Target],
        config: EffectsConfig,
        sets: Sequence[Sequence[Feature | ErrorNode]],
    ):
        self.source, self.sets = source, sets
        self.readers = TargetValues(source.replacement, source.transcoders, source.layer_caches, targets, config)
        self.frozen = source.frozen(config)
        self.first_layer = min([*self.readers.layers, *(node.layer for nodes in sets for node in nodes)])

    def slopes(self, shares: Sequence[float]) -> Tensor:
        """Return the derivatives (B, K) of targets with respect to the factor of each row's nodes, at some factors."""
        resid_PD = [*self.source.run.resid_LPD, self.source.run.final_resid_PD][self.first_layer]
        share_B = torch.tensor(shares, dtype=resid_PD.dtype, device=resid_PD.device)
        with forward_ad.dual_level():
            removed_B = forward_ad.make_dual(share_B - 1, torch.ones_like(share_B))
            mlp_in_LPD: list[Tensor | None] = [None] * self.first_layer
            forward_pass = ForwardPass(
                self.source.weights,
                resid_PD.expand(len(shares), -1, -1),
                frozen=self.frozen,
                mlp=self._mlp(removed_B, mlp_in_LPD),
                first_layer=self.first_layer,
            )
            value_BK = self.readers.at(forward_pass.run(), mlp_in_LPD)
            tangent_BK = forward_ad.unpack_dual(value_BK).tangent
        return torch.zeros_like(value_BK) if tangent_BK is None else tangent_BK

    def _mlp(self, removed_B: Tensor, mlp_in_LPD: list[Tensor | None]) -> MLPFunction:
        source = self.source

        def run(before: LayerCache, w: LayerWeights) -> LayerCache:
            mlp_in_LPD.append(before.mlp_in_PD)
            added_PM = None
            if source.transcoders.part_of_mlp:
                added_PM = self._neurons(before, removed_B)
            out_PD, rms_out_P = source.weights.mlp(w, before.mlp_in_PD, added_PM)
            rows, position, vectors_nD = self._vectors(before.layer)
            if len(rows):
                out_PD = out_PD.index_put((rows, position), removed_B[rows, None] * vectors_nD, accumulate=True)
            return before._replace(mlp_out_PD=out_PD, rms_mlp_out_P=rms_out_P)

        return run

    def _vectors(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, positions and vectors of what the sets write at a layer's MLP output; neurons are added inside."""
        found: list[tuple[int, int, Tensor]] = []
        for row, nodes in enumerate(self.sets):
            for node in nodes:
                vector_D = self.source.vector(node, layer)
                if vector_D is not None:
                    assert isinstance(node.position, int)
                    found.append((row, node.position, vector_D))
        device, like = self.source.replacement.device, self.source.replacement.embedding_PD
        rows, positions = (torch.tensor([each[i] for each in found], dtype=torch.long, device=device) for i in (0, 1))
        return rows, positions, torch.stack([v for *_, v in found]) if found else like[:0]

    def _neurons(self, before: LayerCache, removed_B: Tensor) -> Tensor | None:
        """Return what is added to the layer's neurons, (B, P, d_mlp); None without neurons of this layer."""
        found = [
            (row, node.position, node.feature, self.source.activation(node))
            for row, nodes in enumerate(self.sets)
            for node in nodes
            if isinstance(node, Feature) and node.layer == before.layer
        ]
        if not found:
            return None
        rows, positions, neurons = (
            torch.tensor([each[i] for each in found], device=removed_B.device) for i in range(3)
        )
        value_n = torch.tensor([each[3] for each in found]).to(removed_B)
        shape = *before.mlp_in_PD.shape[:-1], self.source.weights.architecture.d_mlp
        empty = before.mlp_in_PD.new_zeros(shape)
        return empty.index_put((rows, positions, neurons), removed_B[rows] * value_n, accumulate=True)
