"""Estimate the effects of ablations from gradients: at the prompt, with more or less frozen, and along each ablation."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.effects.config import FREEZE_CHOICES, EffectFreeze, EffectsConfig
from cotrace.attribution.effects.effects import EffectSource
from cotrace.attribution.effects.integrate import integrate_ablations
from cotrace.attribution.effects.values import TargetValues
from cotrace.attribution.interventions.edits import Direction, Intervention, add, nodes_of
from cotrace.attribution.interventions.layer_modes import LayerMode
from cotrace.attribution.models.forward import ForwardPass, LayerCache, model_mlp
from cotrace.attribution.models.gemma3 import LayerWeights
from cotrace.attribution.tracing.activations import PromptActivations
from cotrace.attribution.tracing.plan import DECODER_MEMORY_SHARE, spare_memory
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.targets import Target
from cotrace.common.progress import Progress
from cotrace.graphs.nodes import ErrorNode, Feature, Token

from .ablation_sets import AblationSets
from .ablations import AblationRunner

INTEGRATION_STEPS = 4
LIVE = EffectsConfig(freeze="none", integration_steps=INTEGRATION_STEPS)

NodeSet = Sequence[int]
"""Node numbers of a graph."""


class RandomVectors(NamedTuple):
    """Random vectors of the lengths of what S sets of nodes write, as edits that take them away.

    Attributes:
        edits: one intervention for each set.
        change_ST: the changes of the targets that they make to first order, as the model responds.
    """

    edits: list[Intervention]
    change_ST: np.ndarray

    def __repr__(self) -> str:
        return f"<RandomVectors: {len(self.edits)} sets>"


class AblationEstimator:
    """Estimates how ablations of sets of a graph's nodes change its targets.

    Args:
        runner: the prompt and the graph.
        progress: progress bars.
    """

    def __init__(self, runner: AblationRunner, progress: Progress):
        context, self.graph = runner.context, runner.graph
        memory = int(DECODER_MEMORY_SHARE * spare_memory(None, context.weights.device))
        activations = PromptActivations(
            context.weights, context.transcoders, context.ids_P, context.masked, memory, progress
        )
        self.replacement = LocalReplacementModel(activations)
        self.source = EffectSource(activations, self.replacement, keep_patterns=True)
        keys = (getattr(self.replacement.features, f"{name}_N").tolist() for name in ("layer", "position", "feature"))
        self._index_of = {key: n for n, key in enumerate(zip(*keys, strict=True))}
        self._targets = [self._target(runner, t) for t in range(len(self.graph.info["targets"]))]

    def first_order(self, sets: Sequence[NodeSet], freeze: EffectFreeze) -> np.ndarray:
        """Return the changes (S, T) of the targets to first order: minus the sum of the effects of a set's nodes."""
        effect_TM = self.source.node_effects(self._targets, EffectsConfig(freeze=freeze)).effect_KM
        columns = [[self._column(node) for node in nodes_of(self.graph, nodes)] for nodes in sets]
        return -np.stack([effect_TM[:, own].sum(1) for own in columns]).astype(np.float64)

    def integrated(self, sets: Sequence[NodeSet]) -> np.ndarray:
        """Return the changes (S, T) of the targets, integrated along the ablation of each set of features and errors."""
        nodes = [self._writing(own) for own in sets]
        return -integrate_ablations(self.source, self._targets, nodes, LIVE).effect_KS.T

    def randomized(self, sets: Sequence[NodeSet], null: str, random: np.random.Generator) -> RandomVectors:
        """Return what each set of features and error nodes writes, with random directions at the same sites.

        Lengths and angles between a set's vectors stay.

        Args:
            sets: S sets of nodes.
            null: "directions" rotates the vectors at random, "signs" gives each coordinate a random sign.
            random: the random generator.
        """
        gradient_TLPD = self._output_gradients()
        edits, changes = [], []
        for nodes in sets:
            sites, vectors_sD = self._written(nodes)
            turned_sD = NULLS[null](vectors_sD, random)
            edits.append(_removal(sites, turned_sD))
            gradient_TsD = torch.stack([gradient_TLPD[:, layer, position] for layer, position in sites], dim=1)
            changes.append(-torch.einsum("tsd,sd->t", gradient_TsD.double(), turned_sD).cpu().numpy())
        return RandomVectors(edits, np.array(changes).reshape(len(sets), len(self._targets)))

    def _target(self, runner: AblationRunner, t: int) -> Target:
        """Return a target of the graph, resolved."""
        info, reader = self.graph.info["targets"][t], runner.targets[t]
        if reader.feature is None:
            return Target(info["kind"], info["label"], direction_D=reader.direction_D, position=reader.position)
        key = layer, position, feature = runner.features[reader.feature]
        chosen = Feature(layer, feature, position)
        return Target(
            "feature", info["label"], feature=chosen, feature_index=self._index_of[key], position=reader.position
        )

    def _output_gradients(self) -> Tensor:
        """Return the gradients (T, L, P, D) of the targets with respect to each layer's MLP output, in the live model."""
        weights, source, run_mlp = self.source.weights, self.source, model_mlp(self.source.weights)
        readers = TargetValues(self.replacement, source.transcoders, source.layer_caches, self._targets, LIVE)
        inputs: list[Tensor | None] = []
        with torch.enable_grad():
            probe_LPD = torch.zeros_like(self.replacement.rest_LKPD[:, 0], requires_grad=True)

            def mlp(before: LayerCache, w: LayerWeights) -> LayerCache:
                inputs.append(before.mlp_in_PD)
                after = run_mlp(before, w)
                return after._replace(mlp_out_PD=after.mlp_out_PD + probe_LPD[before.layer])

            resid_PD = ForwardPass(weights, self.replacement.embedding_PD, mlp=mlp, keep_patterns=False).run()
            value_T = readers.at(resid_PD, inputs)
            rows = [torch.autograd.grad(value, probe_LPD, retain_graph=True)[0] for value in value_T]
        return torch.stack(rows)

    def _column(self, node: Feature | ErrorNode | Token) -> int:
        """Return a node's column in effects of all active features, error nodes and tokens."""
        position = node.position
        assert isinstance(position, int), "nodes of a graph have one position"
        if isinstance(node, Feature):
            return self._index_of[node.layer, position, node.feature]
        first, n_positions = len(self._index_of), self.replacement.n_positions
        layer = node.layer if isinstance(node, ErrorNode) else self.replacement.n_layers
        return first + layer * n_positions + position

    def _writing(self, nodes: NodeSet) -> list[Feature | ErrorNode]:
        """Return the nodes of a set, none of which is a token."""
        found = nodes_of(self.graph, nodes)
        assert not any(isinstance(node, Token) for node in found)
        return [node for node in found if not isinstance(node, Token)]

    def _written(self, nodes: NodeSet) -> tuple[list[tuple[int, int]], Tensor]:
        """Return the layers and positions where nodes write, and the sum of what they write at each, (s, D) float64."""
        at: dict[tuple[int, int], Tensor] = {}
        for node in self._writing(nodes):
            for site, vector_D in self._vectors(node):
                at[site] = at[site] + vector_D if site in at else vector_D
        return list(at), torch.stack(list(at.values())).double()

    def _vectors(self, node: Feature | ErrorNode) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Yield the layers and positions at whose MLP output a node writes, and what it writes there."""
        position = node.position
        assert isinstance(position, int), "nodes of a graph have one position"
        if isinstance(node, ErrorNode):
            yield (node.layer, position), self.replacement.rest_LKPD[node.layer, 0, position]
            return
        own, first = self.source.encoded[node.layer], int((self.replacement.features.layer_N < node.layer).sum())
        n = self._column(node) - first
        for j, decoder_D in enumerate(own.decoder_UJD[own.row_n[n]]):
            yield (node.layer + j, position), own.write_scale_n[n] * decoder_D


def _rotate(vectors_sD: Tensor, random: np.random.Generator) -> Tensor:
    """Return vectors after a random rotation of all of them: their coordinates in a random basis of their span."""
    _, coordinates_ns = torch.linalg.qr(vectors_sD.T)
    shape = vectors_sD.shape[1], len(coordinates_ns)
    basis_Dn, _ = torch.linalg.qr(torch.from_numpy(random.standard_normal(shape)).to(vectors_sD))
    return (basis_Dn @ coordinates_ns).T


def _flip_signs(vectors_sD: Tensor, random: np.random.Generator) -> Tensor:
    """Return vectors with a random sign for every coordinate, the same for all of them."""
    return vectors_sD * torch.from_numpy(random.choice([-1.0, 1.0], vectors_sD.shape[1])).to(vectors_sD)


NULLS = {"directions": _rotate, "signs": _flip_signs}


def _removal(sites: Sequence[tuple[int, int]], vectors_sD: Tensor) -> Intervention:
    """Return the edits that take a vector away at each layer and position."""
    pairs = zip(sites, vectors_sD, vectors_sD.norm(dim=1).tolist(), strict=True)
    return {Direction(layer, v_D, position): add(-length) for (layer, position), v_D, length in pairs if length > 0}


def estimate_columns(
    estimator: AblationEstimator,
    runner: AblationRunner,
    chosen: AblationSets,
    modes: Sequence[LayerMode],
    random: np.random.Generator,
) -> list[dict[str, float | None]]:
    """Return the estimates of every set's effect, in the order of `chosen.all_sets`, as columns of a validation record.

    Every name has the signed change, a weighted sum over targets, and with `_size` that of absolute values. What is
    integrated: sets without tokens, except single features of the sample. What has nulls: single features and errors.
    """
    n_sets, first_token = len(chosen.all_sets), estimator.graph.order.tokens.start
    changes = {f"first_order_{freeze}": estimator.first_order(chosen.all_sets, freeze) for freeze in FREEZE_CHOICES}
    with_vectors = [k for k, nodes in enumerate(chosen.with_controls) if max(nodes) < first_token]
    changes["integrated"] = _scatter(
        estimator.integrated([chosen.all_sets[k] for k in with_vectors]), with_vectors, n_sets
    )
    single = [k for k in with_vectors if k < len(chosen.single)]
    for null in NULLS:
        drawn = estimator.randomized([chosen.all_sets[k] for k in single], null, random)
        measured_ST = runner.measure_edits(drawn.edits, modes, features=False).target_KT
        changes[f"null_{null}"] = _scatter(measured_ST, single, n_sets)
        changes[f"null_{null}_first_order"] = _scatter(drawn.change_ST, single, n_sets)
    columns: dict[str, np.ndarray] = {}
    for name, change_ST in changes.items():
        columns |= {name: change_ST @ runner.weight_T, f"{name}_size": np.abs(change_ST) @ runner.weight_T}
    return [
        {name: None if np.isnan(column_S[k]) else float(column_S[k]) for name, column_S in columns.items()}
        for k in range(n_sets)
    ]


def _scatter(rows_sT: np.ndarray, chosen: Sequence[int], n_rows: int) -> np.ndarray:
    """Return an array of `n_rows` rows with the given ones at their places, and NaN in the others."""
    all_ST = np.full((n_rows, rows_sT.shape[1]), np.nan)
    all_ST[list(chosen)] = rows_sT
    return all_ST
