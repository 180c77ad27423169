"""Ablate sets of a graph's nodes in the graph's model, and measure the effects."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.interventions.context import PromptContext
from cotrace.attribution.interventions.edit_plan import EditPlan
from cotrace.attribution.interventions.edits import Intervention, ablate
from cotrace.attribution.interventions.forward import ForwardOutput, InterventionRunner, pre_activation_changes
from cotrace.attribution.interventions.layer_modes import FROZEN, LayerMode, any_frozen
from cotrace.attribution.interventions.result import divergence
from cotrace.attribution.interventions.runs import rows_per_batch, run_with_edits, run_without_edits
from cotrace.common.errors import ArgumentError
from cotrace.graphs import Graph
from cotrace.graphs.nodes import ErrorNode, Feature, Token
from cotrace.kernels.active import FeatureIndex

FeatureKey = tuple[int, int, int]
"""Layer, position and number of a feature."""

SMALLEST_SIZE = 1e-30  # of a feature whose decoder vectors are zero, so that its logarithm exists
LOGIT_ROWS = 32  # rows of the whole vocabulary that are computed together


class AblationEffects(NamedTuple):
    """Effects of K ablations on T targets and on the N features of the graph.

    Attributes:
        target_KT: change of each target's value.
        kl_K: KL(before ‖ after) of the next token at the targets' last position, in nats.
        feature_KN: change of each activation. Where activations are frozen, the change of the activation that the
            encoder would give. Zero if it was not measured.
    """

    target_KT: np.ndarray
    kl_K: np.ndarray
    feature_KN: np.ndarray


class AblationRunner:
    """Ablates sets of nodes of a graph in its model.

    Attributes:
        features: the graph's features, in node order.
        active_features: all active features of the prompt, sorted by layer and position.
        sizes: the length of the source vectors of each active feature, (number of active features,).
        index_of: the row of each active feature in `active_features`.
        targets: what the graph's targets read.

    Raises:
        ArgumentError: a graph whose targets are not in the file, or whose features are not active in this model.
    """

    def __init__(self, context: PromptContext, graph: Graph):
        self.context, self.graph = context, graph
        self.features = graph_features(graph)
        self._layer_indices = [self._layer_index(layer) for layer in range(context.n_layers)]
        self.targets = [_target_reader(context, target) for target in graph.info["targets"]]
        self.weight_T = np.array([target["weight"] for target in graph.info["targets"]])
        self._last_position = max(target.position for target in self.targets)
        self._before = run_without_edits(context)
        self._before.free()
        self.active_features, self.sizes = active_feature_sizes(context, self._before)
        self.index_of = {key: n for n, key in enumerate(self.active_features)}
        missing = next((key for key in self.features if key not in self.index_of), None)
        if missing is not None:
            layer, position, feature = missing
            raise ArgumentError(
                f"{Feature(layer, feature, position)} is in the graph but not active here; trace the prompt again on "
                "this device, in this dtype"
            )

    def _layer_index(self, layer: int) -> FeatureIndex:
        """Return the positions and numbers of the graph's features in one layer."""
        own = [(position, feature) for feature_layer, position, feature in self.features if feature_layer == layer]
        pairs_n2 = torch.tensor(own, dtype=torch.long, device=self.context.ids_P.device).view(-1, 2)
        return FeatureIndex(*pairs_n2.T)

    def measure(
        self,
        sets: Sequence[Iterable[Feature | ErrorNode | Token]],
        modes: Sequence[LayerMode],
        step: Callable[[int], None] | None = None,
        features: bool = True,
    ) -> AblationEffects:
        """Ablate each set of nodes on its own and return the effects.

        Args:
            sets: K sets of nodes.
            modes: what each layer freezes.
            step: called with the number of sets in each finished batch.
            features: measure the activations of all features, not only of those that are targets.
        """
        edits: list[Intervention] = [{node: ablate() for node in nodes} for nodes in sets]
        return self.measure_edits(edits, modes, step, features)

    def measure_edits(
        self,
        interventions: Sequence[Intervention],
        modes: Sequence[LayerMode],
        step: Callable[[int], None] | None = None,
        features: bool = True,
    ) -> AblationEffects:
        """Make each of K interventions on its own and return the effects; the other arguments are those of `measure`."""
        features = features or any(target.feature is not None for target in self.targets)
        n_targets, n_features = len(self.targets), len(self.features)
        parts = [AblationEffects(np.empty((0, n_targets)), np.empty(0), np.empty((0, n_features)))]
        n_rows = rows_per_batch(self.context, modes)
        for start in range(0, len(interventions), n_rows):
            batch = interventions[start : start + n_rows]
            plans = [EditPlan(edits, self.context) for edits in batch]
            before, after = self._run(plans, modes, features)
            parts.append(self._effects(before, after, modes, features))
            if step is not None:
                step(len(batch))
        return AblationEffects(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def total_size(self, keys: Iterable[FeatureKey]) -> float:
        """Return the length of the sum of features' source vectors, as if they were orthogonal."""
        return float(np.sqrt(sum(self.sizes[self.index_of[key]] ** 2 for key in keys)))

    def _run(
        self, plans: Sequence[EditPlan], modes: Sequence[LayerMode], features: bool
    ) -> tuple[ForwardOutput, ForwardOutput]:
        """Return the outputs without and with edits; if no layer is frozen, one row without edits is enough."""
        if any_frozen(modes):
            return run_with_edits(self.context, plans, modes, features)[:2]
        error_layers = {layer for plan in plans for layer in plan.errors}
        layers = range(len(modes)) if features else ()
        edited = InterventionRunner(self.context, modes, plans, error_layers=error_layers, feature_layers=layers)
        return self._before, edited.forward(self.context.ids_P.expand(len(plans), -1))

    def _effects(
        self, before: ForwardOutput, after: ForwardOutput, modes: Sequence[LayerMode], features: bool
    ) -> AblationEffects:
        n_rows = len(after.resid_BPD)
        feature_KN = np.zeros((n_rows, len(self.features)))
        if features:
            after_KN = self._activations(after, n_rows, modes)
            feature_KN += after_KN - self._activations(before, len(before.resid_BPD))
        changes = [self._target_changes(target, before, after, modes, feature_KN) for target in self.targets]
        return AblationEffects(np.stack(changes, 1), self._kl(before, after), feature_KN)

    def _target_changes(
        self,
        target: "TargetReader",
        before: ForwardOutput,
        after: ForwardOutput,
        modes: Sequence[LayerMode],
        feature_KN: np.ndarray,
    ) -> np.ndarray:
        """Return the change of a target's value in every row, (K,)."""
        if target.feature is None:
            return self._target_values(after, target) - self._target_values(before, target)
        if modes[self.features[target.feature][0]].mlp == FROZEN:
            return self._pre_activation_changes(before, after, target.feature)
        return feature_KN[:, target.feature]

    def _activations(self, output: ForwardOutput, n_rows: int, modes: Sequence[LayerMode] = ()) -> np.ndarray:
        """Return activations of the graph's features, (K, N); where they are frozen, those that encoders would give."""
        transcoders, weights, columns = self.context.transcoders, self.context.weights, []
        n_positions = self.context.n_positions
        open_p = InterventionRunner(self.context).open_positions(n_rows, 0, n_positions)
        for layer, own in enumerate(self._layer_indices):
            row_K1 = torch.arange(n_rows, device=own.position_n.device)[:, None] * n_positions
            index = FeatureIndex((row_K1 + own.position_n).flatten(), own.feature_n.repeat(n_rows))
            if modes and modes[layer].mlp == FROZEN:
                cache = output.layer_caches[layer]
                active = transcoders.active_at(cache, weights, open_p)
                value_n = transcoders.activations(active, cache, weights, index)
            else:
                value_n = output.active[layer].look_up(index, transcoders, weights)
            columns.append(value_n.view(n_rows, -1))
        return torch.cat(columns, 1).double().cpu().numpy()

    def _pre_activation_changes(self, before: ForwardOutput, after: ForwardOutput, node: int) -> np.ndarray:
        """Return the change of a feature's pre-activation, (K,); it changes even if the activation is frozen."""
        layer, position, feature = self.features[node]
        row_K = torch.arange(len(after.resid_BPD), device=self.context.ids_P.device)
        position_K = row_K * self.context.n_positions + position
        index = FeatureIndex(position_K, torch.full_like(position_K, feature))
        model = self.context.transcoders, self.context.weights
        change_K = pre_activation_changes(*model, before.layer_caches[layer], after.layer_caches[layer], index)
        return change_K.double().cpu().numpy()

    def _target_values(self, output: ForwardOutput, target: "TargetReader") -> np.ndarray:
        """Return the value in every row, (K,), of a target that is not a feature."""
        assert target.direction_D is not None
        position = target.position
        normed_KD = self.context.weights.final_normed(output.resid_BPD[:, position], output.rms_BP[:, position])
        return (normed_KD @ target.direction_D).double().cpu().numpy()

    def _kl(self, before: ForwardOutput, after: ForwardOutput) -> np.ndarray:
        """Return KL(before ‖ after) of the next token at the targets' last position, (K,) in nats."""
        (before_V,) = self._log_probabilities(before, torch.arange(1))
        parts = [
            divergence(before_V, self._log_probabilities(after, rows))
            for rows in torch.arange(len(after.resid_BPD)).split(LOGIT_ROWS)
        ]
        return torch.cat(parts).cpu().numpy()

    def _log_probabilities(self, output: ForwardOutput, rows: Tensor) -> Tensor:
        position = self._last_position
        logits_KV = self.context.weights.logits(output.resid_BPD[rows, position], output.rms_BP[rows, position])
        return logits_KV.double().log_softmax(-1)


class TargetReader(NamedTuple):
    """The source of a target's value: a direction of the final norm's output, or a feature's activation."""

    position: int
    direction_D: Tensor | None
    feature: int | None  # node number


def _target_reader(context: PromptContext, target: dict[str, Any]) -> TargetReader:
    """Return the reader of a target in a graph's metadata.

    Raises ArgumentError for a direction, which graph files do not store.
    """
    weights, ids = context.weights, target.get("token_ids", [])
    position = target.get("position", context.n_positions - 1)
    if target["kind"] == "feature":
        return TargetReader(position, None, target["node"])
    if target["kind"] not in ("token", "difference") or not ids:
        raise ArgumentError(
            f"the graph's target {target['label']!r} is a {target['kind']}, which graph files do not store; validate a "
            "graph of tokens, differences or features"
        )
    rows = weights.unembedding(torch.tensor(ids, device=weights.device))
    return TargetReader(position, rows[0] - (rows[1] if len(ids) > 1 else weights.mean_unembedding_D), None)


def graph_features(graph: Graph) -> list[FeatureKey]:
    """Return layer, position and number of a graph's features, in node order."""
    columns = (graph.column(name, -1)[graph.order.features].tolist() for name in ("layer", "position", "feature"))
    return list(zip(*columns, strict=True))


def active_feature_sizes(context: PromptContext, output: ForwardOutput) -> tuple[list[FeatureKey], np.ndarray]:
    """Return all active features of a run, and the length of each one's source vectors, (N,)."""
    keys: list[FeatureKey] = []
    sizes = []
    for layer, (active, cache, *_) in output.active.items():
        feature_U, row_n = active.feature_n.unique(return_inverse=True)
        length_n = context.transcoders.decoders(layer, feature_U, context.weights).flatten(1).norm(dim=1)[row_n]
        scale_n = context.transcoders.write_scale(cache, active.position_n)
        size_n = active.activation_n.abs() * length_n * (1 if scale_n is None else scale_n)
        keys += [(layer, *pair) for pair in zip(active.position_n.tolist(), active.feature_n.tolist(), strict=True)]
        sizes.append(size_n.double().clamp(min=SMALLEST_SIZE).cpu().numpy())
    return keys, np.concatenate(sizes)
