"""Sets of a graph's nodes are ablated in the model that it was made of, and what happens is measured."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cotrace.attribution.interventions.context import PromptContext
from cotrace.attribution.interventions.edit_plan import EditPlan
from cotrace.attribution.interventions.edits import ablate
from cotrace.attribution.interventions.forward import ForwardOutput
from cotrace.attribution.interventions.layer_modes import FROZEN, LayerMode, any_frozen
from cotrace.attribution.interventions.runs import rows_per_batch, run_with_edits, run_without_edits, runner
from cotrace.common.errors import CotraceError
from cotrace.graphs import Graph
from cotrace.kernels.active import FeatureIndex

Key = tuple[int, int, int]  # layer, position and id of a feature
NEAREST = 10  # in size: among so many a control is drawn
TINY = 1e-30  # of what writes nothing, so that its logarithm is there
LOGITS_AT_ONCE = 32  # rows, each of the whole vocabulary


class AblationEffects(NamedTuple):
    """What ablations did: K of them, T targets, N features of the graph."""

    target_KT: np.ndarray  # change of what each target reads
    kl_K: np.ndarray  # of the next token's probabilities, at the targets' last position
    feature_KN: np.ndarray  # change of activations, where these are held of what they would be; else zero


class Ablations:
    """A graph, the prompt that it was made of, and the model: ablates sets of nodes and measures."""

    def __init__(self, prompt: PromptContext, graph: Graph):
        self.prompt, self.graph = prompt, graph
        self.keys, self.n_positions = feature_keys(graph), len(prompt.ids_P)
        self.sites = [self._sites(layer) for layer in range(prompt.weights.architecture.n_layers)]
        self.targets = [_read_out(prompt, target) for target in graph.info["targets"]]
        self.weight_T = np.array([target["weight"] for target in graph.info["targets"]])
        self.position = max(target.position for target in self.targets)
        self.before = run_without_edits(prompt)
        self.before.free()
        self.active, self.sizes = active_features(prompt, self.before)
        self.number = {key: n for n, key in enumerate(self.active)}
        self.position_N = np.array([position for _, position, _ in self.active])
        missing = next((key for key in self.keys if key not in self.number), None)
        if missing is not None:
            raise CotraceError(
                f"feature {missing[2]} of layer {missing[0]} at position {missing[1]} is in the graph and not active here; "
                "trace the prompt again on this device, in this dtype"
            )

    def _sites(self, layer: int) -> FeatureIndex:
        mine = [(position, feature) for at, position, feature in self.keys if at == layer]
        pairs_n2 = torch.tensor(mine, dtype=torch.long, device=self.prompt.ids_P.device).view(-1, 2)
        return FeatureIndex(*pairs_n2.T)

    def measure(
        self,
        removed: Sequence[Iterable[Any]],
        how: Sequence[LayerMode],
        step: Any = None,
        features: bool = True,
    ) -> AblationEffects:
        """Ablate each set of nodes by itself. Without `features` activations are looked at for targets only."""
        features = features or any(target.feature is not None for target in self.targets)
        n_targets, n_features = len(self.targets), len(self.keys)
        parts = [AblationEffects(np.empty((0, n_targets)), np.empty(0), np.empty((0, n_features)))]
        for start in range(0, len(removed), at_once := rows_per_batch(self.prompt, how)):
            sets = removed[start : start + at_once]
            rows = [EditPlan({node: ablate() for node in nodes}, self.prompt) for nodes in sets]
            before, after = self._read_rows(rows, how, features)
            parts.append(self._compare(before, after, len(sets), features, how))
            if step is not None:
                step(len(sets))
        return AblationEffects(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _read_rows(
        self, rows: Sequence[EditPlan], how: Sequence[LayerMode], features: bool
    ) -> tuple[ForwardOutput, ForwardOutput]:
        """The rows without and with changes; where nothing is held, one row without serves all."""
        if any_frozen(how):
            return run_with_edits(self.prompt, rows, how, features)[:2]
        error_layers = {layer for changes in rows for layer in changes.errors}
        layers = range(len(how)) if features else ()
        edited = runner(self.prompt, how, rows, error_layers=error_layers, report=layers)
        return self.before, edited.forward(self.prompt.ids_P.expand(len(rows), -1))

    def _compare(
        self, before: ForwardOutput, after: ForwardOutput, n_rows: int, features: bool, how: Sequence[LayerMode]
    ) -> AblationEffects:
        feature_KN = np.zeros((n_rows, len(self.keys)))
        if features:
            feature_KN += self._activations(after, n_rows, how) - self._activations(before, len(before.resid_BPD))
        target_KT = np.stack([self._read(after, target) - self._read(before, target) for target in self.targets], 1)
        for column, target in enumerate(self.targets):
            if target.feature is not None:
                held = how[self.keys[target.feature][0]].mlp == FROZEN
                target_KT[:, column] = (
                    self._read_feature(before, after, target.feature) if held else feature_KN[:, target.feature]
                )
        return AblationEffects(target_KT, self._kl(before, after), feature_KN)

    def _activations(self, chunk: ForwardOutput, n_rows: int, how: Sequence[LayerMode] = ()) -> np.ndarray:
        """Activations of the graph's features, (K, N); where they are held, what they would be by what they read."""
        transcoders, weights, columns = self.prompt.transcoders, self.prompt.weights, []
        open_p = runner(self.prompt).open_positions(n_rows, 0, self.n_positions)
        for layer, mine in enumerate(self.sites):
            row_K1 = torch.arange(n_rows, device=mine.position_n.device)[:, None] * self.n_positions
            sites = FeatureIndex((row_K1 + mine.position_n).flatten(), mine.feature_n.repeat(n_rows))
            if how and how[layer].mlp == FROZEN:
                done = chunk.passes[layer]
                value_n = transcoders.activations(transcoders.active_at(done, weights, open_p), done, weights, sites)
            else:
                value_n = chunk.active[layer].of(sites, transcoders, weights)
            columns.append(value_n.view(n_rows, -1))
        return torch.cat(columns, 1).double().cpu().numpy()

    def _read_feature(self, before: ForwardOutput, after: ForwardOutput, node: int) -> np.ndarray:
        """How much more a feature reads, of which nothing comes where activations are held, (K,)."""
        layer, position, feature = self.keys[node]
        row_K = torch.arange(len(after.resid_BPD), device=self.prompt.ids_P.device)
        position_K = row_K * self.n_positions + position
        sites = FeatureIndex(position_K, torch.full_like(position_K, feature))
        readers_KD = self.prompt.transcoders.readers(before.passes[layer], self.prompt.weights, sites)
        more_KD = (after.passes[layer].mlp_in_PD - before.passes[layer].mlp_in_PD)[position_K]
        return (more_KD * readers_KD).sum(-1).double().cpu().numpy()

    def _read(self, chunk: ForwardOutput, target: "_ReadOut") -> np.ndarray:
        """What a target reads in every row, (K,)."""
        if target.direction_D is None:
            return np.zeros(len(chunk.resid_BPD))
        at = target.position
        normed_KD = self.prompt.weights.final_normed(chunk.resid_BPD[:, at], chunk.rms_BP[:, at])
        return (normed_KD @ target.direction_D).double().cpu().numpy()

    def _kl(self, before: ForwardOutput, after: ForwardOutput) -> np.ndarray:
        """KL(before ‖ after) of the next token at the targets' last position, (K,) in nats."""
        (before_V,) = self._log_probabilities(before, torch.arange(1))
        found = [
            (before_V.exp() * (before_V - self._log_probabilities(after, rows))).sum(-1)
            for rows in torch.arange(len(after.resid_BPD)).split(LOGITS_AT_ONCE)
        ]
        return torch.cat(found).cpu().numpy()

    def _log_probabilities(self, chunk: ForwardOutput, rows: Tensor) -> Tensor:
        at = self.position
        return self.prompt.weights.logits(chunk.resid_BPD[rows, at], chunk.rms_BP[rows, at]).double().log_softmax(-1)

    def alike(self, nodes: Iterable[Key], random: np.random.Generator, taken: set[Key]) -> list[Key]:
        """As many other active features, each drawn from the ten nearest in size to a node, if it can be at its position."""
        drawn: list[Key] = []
        free_N = np.ones(len(self.active), np.bool_)
        free_N[[self.number[key] for key in taken]] = False
        for key in nodes:
            here_N = free_N & (self.position_N == key[1])
            candidates = np.flatnonzero(here_N if here_N.sum() >= NEAREST else free_N)
            if len(candidates) == 0:
                raise CotraceError("the prompt has too few active features for controls; ablate fewer nodes")
            apart = np.abs(np.log(self.sizes[candidates] / self.sizes[self.number[key]]))
            chosen = int(random.choice(candidates[np.argsort(apart)[:NEAREST]]))
            free_N[chosen] = False
            drawn.append(self.active[chosen])
        return drawn

    def length(self, nodes: Iterable[Key]) -> float:
        """Length of all that features write, as if at right angles."""
        return float(np.sqrt(sum(self.sizes[self.number[key]] ** 2 for key in nodes)))


class _ReadOut(NamedTuple):
    """Where a target is read, and along what; a feature's number instead."""

    position: int
    direction_D: Tensor | None
    feature: int | None


def _read_out(prompt: PromptContext, target: dict[str, Any]) -> _ReadOut:
    """How a target that a graph names is read. Raises ValueError for a direction, which no file holds."""
    weights, ids = prompt.weights, target.get("token_ids", [])
    position = target.get("position", len(prompt.ids_P) - 1)
    if target["kind"] == "feature":
        return _ReadOut(position, None, target["node"])
    if target["kind"] not in ("token", "difference") or not ids:
        raise CotraceError(
            f"the graph's target {target['label']!r} is a {target['kind']}, which the file does not hold; "
            "validate a graph of tokens, differences or features"
        )
    rows = weights.unembedding(torch.tensor(ids, device=weights.device))
    return _ReadOut(position, rows[0] - (rows[1] if len(ids) > 1 else weights.mean_unembedding_D), None)


def feature_keys(graph: Graph) -> list[Key]:
    """Layer, position and id of a graph's features, in node order."""
    columns = (graph.column(name, -1)[graph.order.features].tolist() for name in ("layer", "position", "feature"))
    return list(zip(*columns, strict=True))


def active_features(prompt: PromptContext, read: ForwardOutput) -> tuple[list[Key], np.ndarray]:
    """All active features of a prompt that was read, and the length of all that each writes (N,)."""
    keys: list[Key] = []
    sizes = []
    for layer, (active, done, *_) in read.active.items():
        feature_U, row_n = active.feature_n.unique(return_inverse=True)
        length_n = prompt.transcoders.decoders(layer, feature_U, prompt.weights).flatten(1).norm(dim=1)[row_n]
        scale_n = prompt.transcoders.write_scale(done, active.position_n)
        size_n = active.activation_n.abs() * length_n * (1 if scale_n is None else scale_n)
        keys += [(layer, *pair) for pair in zip(active.position_n.tolist(), active.feature_n.tolist(), strict=True)]
        sizes.append(size_n.double().clamp(min=TINY).cpu().numpy())
    return keys, np.concatenate(sizes)
