"""Does the circuit do what it says? Its nodes are ablated in the model, and what happens is held to its edges."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from cotrace.attribution.interventions.config import InterventionConfig
from cotrace.attribution.interventions.context import PromptContext
from cotrace.attribution.interventions.edit_plan import EditPlan
from cotrace.attribution.interventions.edits import nodes_of
from cotrace.attribution.interventions.intervene import InterventionBatch, require_memory
from cotrace.attribution.interventions.layer_modes import FROZEN, LayerMode, layer_modes
from cotrace.common.checks import as_index
from cotrace.common.errors import CotraceError
from cotrace.common.progress import Progress
from cotrace.graphs import Graph, node_label, strongest_paths
from cotrace.graphs.effects import ablation_effects
from cotrace.graphs.nodes import Feature

from .ablations import AblationEffects, Ablations
from .agreement import later, pairs, summary

GROUPS = (3, 10, 30)  # the most influential nodes together
ERRORS = 10  # error nodes, the most influential


@dataclass(frozen=True)
class ValidationConfig:
    """How much is measured. Raises ValueError for numbers that make no sense."""

    nodes: int = 60
    sample: int = 60
    controls: int = 3
    paths: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("nodes", 1), ("sample", 1), ("controls", 1), ("paths", 0), ("seed", 0)):
            if as_index(getattr(self, name), name) < least:
                raise CotraceError(f"{name} is {getattr(self, name)}; use at least {least}")


class AblationSets(NamedTuple):
    """What is ablated of a graph, each set by itself."""

    top: list[int]  # the most influential features
    errors: list[int]
    groups: dict[str, tuple[int, ...]]
    paths: list[tuple[tuple[int, ...], str]]
    drawn: set[int]  # features drawn at random, of which some may be among the top

    @property
    def controlled(self) -> list[tuple[int, ...]]:
        """Sets beside which controls are ablated: single nodes, groups and paths, in this order."""
        return [*((node,) for node in self.top + self.errors), *self.groups.values(), *(path for path, _ in self.paths)]

    @property
    def others(self) -> list[int]:
        """What was drawn besides the top."""
        return sorted(self.drawn - set(self.top))

    @property
    def sets(self) -> list[tuple[int, ...]]:
        """All that is ablated."""
        return [*self.controlled, *((node,) for node in self.others)]


def validate(
    prompt: PromptContext,
    graph: Graph,
    setting: InterventionConfig,
    plan: ValidationConfig,
    groups: Mapping[str, Sequence[int]],
    progress: Progress,
) -> dict[str, Any]:
    """Measure what the graph's most influential nodes do; see `Model.validate`."""
    how = layer_modes(setting, prompt.weights.architecture, prompt.transcoders)
    if setting.freeze == "all" and any(h.mlp != FROZEN for h in how):
        raise CotraceError('edges predict what all layers do: with freeze="all" leave layers= out')
    random = np.random.default_rng(plan.seed)
    chosen = _choose(graph, plan, groups, random)
    sources = sorted(chosen.drawn)
    require_memory([InterventionBatch(prompt, [EditPlan({}, prompt)], how)])
    ablations = Ablations(prompt, graph)
    kept = [LayerMode(mlp=FROZEN)] * len(
        how
    )  # attention and norms respond: with all held it would be true by construction
    with_controls = sum(min(nodes) < graph.order.n_features for nodes in chosen.controlled)
    total = len(chosen.sets) + plan.controls * with_controls + len(sources) + len(chosen.paths)
    with progress.phase("ablating", total) as step:
        measured = ablations.measure([nodes_of(graph, nodes) for nodes in chosen.sets], how, step)
        controls = _controls(ablations, chosen.controlled, plan.controls, how, random, step)
        clamped = ablations.measure([nodes_of(graph, [node]) for node in sources], kept, step)
        paths_kept = _rest_kept(ablations, chosen.paths, kept, step)
    table = _Table(graph, chosen.sets, measured, controls, setting.freeze != "all")
    record = {
        "settings": {**asdict(plan), "freeze": setting.freeze, "errors": setting.errors},
        **_rows(graph, chosen, table, paths_kept),
    }
    if setting.layers is not None:
        record["settings"]["layers"] = sorted(setting.layers)
    alone = {nodes[0]: k for k, nodes in enumerate(chosen.sets) if len(nodes) == 1}
    one_by_one = [alone[node] for node in chosen.top + chosen.errors]
    record["later"] = later(
        graph, chosen.top + chosen.errors, measured.feature_KN[one_by_one], table.of_features(one_by_one)
    )
    sample = [row for row in record["nodes"] if row["sampled"]]
    record["summary"] = summary(record["nodes"][: len(chosen.top)], sample, plan.seed)
    moved_KN = measured.feature_KN[[alone[node] for node in sources]]
    record["summary"]["spearman_pairs"] = pairs(graph, sources, moved_KN)
    record["summary"]["spearman_pairs_clamped"] = pairs(graph, sources, clamped.feature_KN)
    return record


def _choose(
    graph: Graph, plan: ValidationConfig, groups: Mapping[str, Sequence[int]], random: np.random.Generator
) -> AblationSets:
    """What is ablated. Raises ValueError for groups that cannot be, and where nothing has influence."""
    influence_M = graph.column("influence").astype(np.float64)
    targets = {target["node"] for target in graph.info["targets"]}  # what they read is measured
    features = [n for n in _ranked(influence_M, range(graph.order.n_features)) if n not in targets]
    errors = _ranked(influence_M, range(graph.order.errors.start, graph.order.errors.stop))[:ERRORS]
    if not features and not errors:
        raise CotraceError("the graph has no feature and no error node with influence; prune it less, or not at all")
    drawn = random.choice(features, min(plan.sample, len(features)), replace=False).tolist() if features else []
    own = {f"{count} most influential features": tuple(features[:count]) for count in GROUPS if count < len(features)}
    named = own | _checked_groups(groups, own)
    return AblationSets(features[: plan.nodes], errors, named, _feature_paths(graph, plan.paths, targets), set(drawn))


def _checked_groups(groups: Mapping[str, Sequence[int]], own: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Groups that users name. Raises ValueError for one without nodes, with a node twice, or with a name that is taken."""
    for name, members in groups.items():
        if not isinstance(members, Iterable) or not list(members):
            raise CotraceError(
                f"the group {name!r} has no nodes; give a list with at least one, or leave the group out"
            )
        if len(set(members)) < len(list(members)):
            raise CotraceError(f"the group {name!r} names a node twice; name each once")
        if name in own:
            raise CotraceError(f"{name!r} is what is ablated in any case; give the group another name")
    return {name: tuple(members) for name, members in groups.items()}


def _ranked(influence_M: np.ndarray, nodes: range) -> list[int]:
    """Nodes with influence, the most influential first."""
    return sorted((n for n in nodes if influence_M[n] > 0), key=lambda n: -influence_M[n])


def _feature_paths(graph: Graph, count: int, targets: set[int]) -> list[tuple[tuple[int, ...], str]]:
    """The features on the strongest paths that have any besides targets, each set of features once, with a name."""
    found: dict[tuple[int, ...], str] = {}
    for looked_at in (0,) if count == 0 else (4 * count, 32 * count, 256 * count):
        paths = strongest_paths(graph, count=looked_at)
        for path in paths:
            features = tuple(n for n in path.nodes if n < graph.order.n_features and n not in targets)
            if features:
                found.setdefault(features, " → ".join(node_label(graph, n) for n in path.nodes))
        if len(found) >= count or len(paths) < looked_at:
            break
    return list(found.items())[:count]


class Controls(NamedTuple):
    """What random features of the sizes of one set's features do, and how long what they write is beside its."""

    measured: AblationEffects
    length: float


def _controls(
    ablations: Ablations,
    sets: Sequence[tuple[int, ...]],
    count: int,
    how: Sequence[LayerMode],
    random: np.random.Generator,
    step: Any,
) -> list[Controls | None]:
    """Of every set of features, none of which any set holds alone; None of sets of errors only."""
    n_features = ablations.graph.order.n_features
    singly = {members[0] for members in sets if len(members) == 1 and members[0] < n_features}
    taken = {ablations.keys[n] for n in singly | {n for n in _targets(ablations.graph) if n < n_features}}
    keys = [[ablations.keys[n] for n in members if n < n_features] for members in sets]
    drawn = [ablations.alike(own, random, taken | set(own)) for own in keys if own for _ in range(count)]
    changes = [[Feature(layer, feature, position=position) for layer, position, feature in one] for one in drawn]
    measured = ablations.measure(changes, how, step, features=False)
    found: list[Controls | None] = []
    first = 0
    for own in keys:
        if not own:
            found.append(None)
            continue
        mine = slice(first, first := first + count)
        lengths = [ablations.length(one) for one in drawn[mine]]
        part = AblationEffects(*(column[mine] for column in measured))
        found.append(Controls(part, float(np.mean(lengths) / ablations.length(own))))
    return found


def _rest_kept(
    ablations: Ablations, paths: Sequence[tuple[tuple[int, ...], str]], kept: Sequence[LayerMode], step: Any
) -> list[dict[str, float]]:
    """What ablating a whole path does while all other features keep their activations, and what edges say it does."""
    graph, sets = ablations.graph, [path for path, _ in paths]
    measured = ablations.measure([nodes_of(graph, path) for path in sets], kept, step, features=False)
    predicted_KT = ablation_effects(graph, sets, others_respond=False)[:, _targets(graph)]
    both = zip(predicted_KT @ ablations.weight_T, measured.target_KT @ ablations.weight_T, strict=True)
    return [{"kept_predicted": float(predicted), "kept_measured": float(found)} for predicted, found in both]


def _targets(graph: Graph) -> list[int]:
    return [target["node"] for target in graph.info["targets"]]


class _Table:
    """AblationEffects and predicted side by side, a row for each set of nodes; the first have controls."""

    def __init__(
        self,
        graph: Graph,
        sets: Sequence[tuple[int, ...]],
        measured: AblationEffects,
        controls: Sequence[Controls | None],
        others_respond: bool,
    ):
        self.graph, self.sets, self.measured, self.controls = graph, sets, measured, controls
        self.weight_T = np.array([target["weight"] for target in graph.info["targets"]])
        self.predicted_KM = ablation_effects(graph, sets, others_respond)
        self.influence_M = graph.column("influence").astype(np.float64)
        self.activation_M = np.abs(np.nan_to_num(graph.column("activation")).astype(np.float64))
        self.direct_M = self.weight_T @ np.abs(graph.adjacency()[_targets(graph)].toarray().astype(np.float64))

    def of_features(self, rows: Sequence[int]) -> np.ndarray:
        """Predicted changes of the graph's features, (K, N)."""
        return self.predicted_KM[rows][:, self.graph.order.features]

    def row(self, k: int) -> dict[str, Any]:
        """Signed effects are sums over targets by weight, sizes those of their absolute values."""
        nodes, measured_T = list(self.sets[k]), self.measured.target_KT[k]
        predicted_T = self.predicted_KM[k, _targets(self.graph)]
        row = {
            "influence": float(self.influence_M[nodes].sum()),
            "direct": float(self.direct_M[nodes].sum()),
            "activation": float(self.activation_M[nodes].sum()),
            "predicted": float(predicted_T @ self.weight_T),
            "predicted_size": float(np.abs(predicted_T) @ self.weight_T),
            "measured": float(measured_T @ self.weight_T),
            "size": float(np.abs(measured_T) @ self.weight_T),
            "kl": float(self.measured.kl_K[k]),
        }
        controls = self.controls[k] if k < len(self.controls) else None
        if controls is None:
            return {**row, "control_size": None, "control_kl": None, "control_length": None}
        return {
            **row,
            "control_size": float((np.abs(controls.measured.target_KT) @ self.weight_T).mean()),
            "control_kl": float(controls.measured.kl_K.mean()),
            "control_length": controls.length,
        }


def _rows(graph: Graph, chosen: AblationSets, table: _Table, paths_kept: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Nodes, groups and paths with their numbers, as the record has them."""
    rows = [table.row(k) for k in range(len(table.sets))]
    n_single, n_groups = len(chosen.top) + len(chosen.errors), len(chosen.groups)
    of_groups, of_paths = rows[n_single:][:n_groups], rows[n_single + n_groups : len(chosen.controlled)]
    single = zip(
        chosen.top + chosen.errors + chosen.others, rows[:n_single] + rows[len(chosen.controlled) :], strict=True
    )
    named = zip(chosen.groups.items(), of_groups, strict=True)
    routes = zip(chosen.paths, of_paths, paths_kept, strict=True)
    return {
        "nodes": [{"node": n, "label": node_label(graph, n), "sampled": n in chosen.drawn, **row} for n, row in single],
        "groups": [{"name": name, "nodes": list(nodes), **row} for (name, nodes), row in named],
        "paths": [{"label": label, "nodes": list(nodes), **row, **kept} for (nodes, label), row, kept in routes],
    }
