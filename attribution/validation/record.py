"""Validate a graph: ablate its nodes in the model, and compare the effects with those that its edges predict."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cotrace.attribution.interventions.config import InterventionConfig
from cotrace.attribution.interventions.context import PromptContext
from cotrace.attribution.interventions.edit_plan import EditPlan
from cotrace.attribution.interventions.edits import nodes_of
from cotrace.attribution.interventions.intervene import InterventionBatch, require_memory
from cotrace.attribution.interventions.layer_modes import FROZEN, LayerMode, any_frozen, layer_modes
from cotrace.common.errors import ArgumentError
from cotrace.common.progress import Progress
from cotrace.graphs import Graph, node_label
from cotrace.graphs.annotations import NodeName
from cotrace.graphs.effects import ablation_effects

from .ablation_sets import AblationSets, choose_ablation_sets, target_nodes
from .ablations import AblationEffects, AblationRunner
from .agreement import downstream_agreement, pair_correlation, summarize, summarize_estimates
from .config import ValidationConfig
from .controls import ControlEffects, measure_controls
from .estimates import AblationEstimator, estimate_columns


def validate(
    context: PromptContext,
    graph: Graph,
    intervention: InterventionConfig,
    config: ValidationConfig,
    groups: Mapping[str, Iterable[NodeName]],
    progress: Progress,
) -> dict[str, Any]:
    """Return the validation record of a graph, in the form of `VALIDATION` in graphs/metadata.py.

    Raises ArgumentError as `Model.validate` describes, and ResourceError for too little memory.
    """
    modes = layer_modes(intervention, context.weights.architecture, context.transcoders)
    if intervention.freeze == "all" and any(mode.mlp != FROZEN for mode in modes):
        raise ArgumentError('edges predict effects over all layers: with freeze="all" leave layers= out')
    random = np.random.default_rng(config.seed)
    chosen = choose_ablation_sets(graph, config, groups, random)
    sources = sorted(chosen.sample)
    require_memory([InterventionBatch(context, [EditPlan({}, context)], modes, [()])])
    runner = AblationRunner(context, graph)
    # MLPs are clamped; attention and norms respond, since with everything frozen agreement would be true by construction.
    clamped_modes = [LayerMode(mlp=FROZEN)] * len(modes)
    n_controlled = sum(min(nodes) < graph.order.n_features for nodes in chosen.with_controls)
    total = len(chosen.all_sets) + config.controls * n_controlled + len(sources) + len(chosen.paths)
    with progress.phase("ablating", total) as step:
        effects = runner.measure([nodes_of(graph, nodes) for nodes in chosen.all_sets], modes, step)
        controls = measure_controls(runner, chosen.with_controls, config.controls, modes, random, step)
        clamped = runner.measure([nodes_of(graph, [node]) for node in sources], clamped_modes, step)
        clamped_paths = _clamped_path_effects(runner, chosen, clamped_modes, step)
    estimates = None
    if not any_frozen(modes):  # what gradients estimate is the response of the live model
        with progress.phase("estimating effects"):
            of_nulls = np.random.default_rng([config.seed, 1])
            estimates = estimate_columns(AblationEstimator(runner, progress), runner, chosen, modes, of_nulls)
    table = EffectTable(graph, chosen.all_sets, effects, controls, intervention.freeze != "all", estimates)
    settings = {**asdict(config), "freeze": intervention.freeze, "errors": intervention.errors}
    if intervention.layers is not None:
        settings["layers"] = sorted(intervention.layers)
    record = {"settings": settings, **_record_rows(graph, chosen, table, clamped_paths)}
    return record | _agreement(graph, chosen, table, record["nodes"], clamped, config.seed)


def _agreement(
    graph: Graph,
    chosen: AblationSets,
    table: "EffectTable",
    node_rows: list[dict[str, Any]],
    clamped: AblationEffects,
    seed: int,
) -> dict[str, Any]:
    """Return the parts of the record that say how well predictions and effects agree."""
    measured_KN = table.effects.feature_KN
    row_of = {nodes[0]: k for k, nodes in enumerate(chosen.all_sets) if len(nodes) == 1}
    single = chosen.top + chosen.errors
    rows = [row_of[node] for node in single]
    sources = sorted(chosen.sample)
    source_effects_KN = measured_KN[[row_of[node] for node in sources]]
    top_rows, sample_rows = node_rows[: len(chosen.top)], [row for row in node_rows if row["sampled"]]
    summary = summarize(top_rows, sample_rows, seed)
    if table.estimates is not None:
        summary |= summarize_estimates(top_rows, sample_rows, seed)
    summary["spearman_pairs"] = pair_correlation(graph, sources, source_effects_KN)
    summary["spearman_pairs_clamped"] = pair_correlation(graph, sources, clamped.feature_KN)
    later = downstream_agreement(graph, single, measured_KN[rows], table.predicted_features(rows))
    return {"later": later, "summary": summary}


def _clamped_path_effects(
    runner: AblationRunner, chosen: AblationSets, modes: Sequence[LayerMode], step: Callable[[int], None]
) -> list[dict[str, float]]:
    """Return measured and predicted effects of ablating each path while all other features keep their activations."""
    graph, sets = runner.graph, [path for path, _ in chosen.paths]
    effects = runner.measure([nodes_of(graph, path) for path in sets], modes, step, features=False)
    predicted_KT = ablation_effects(graph, sets, others_respond=False)[:, target_nodes(graph)]
    rows = zip(predicted_KT @ runner.weight_T, effects.target_KT @ runner.weight_T, strict=True)
    return [{"kept_predicted": float(predicted), "kept_measured": float(measured)} for predicted, measured in rows]


class EffectTable:
    """Measured and predicted effects side by side, one row for each set of nodes; the first sets have controls."""

    def __init__(
        self,
        graph: Graph,
        sets: Sequence[tuple[int, ...]],
        effects: AblationEffects,
        controls: Sequence[ControlEffects | None],
        others_respond: bool,
        estimates: Sequence[dict[str, float | None]] | None = None,
    ):
        self.graph, self.sets, self.effects, self.controls = graph, sets, effects, controls
        self.estimates = estimates
        self.targets = target_nodes(graph)
        self.weight_T = np.array([target["weight"] for target in graph.info["targets"]])
        self.predicted_KM = ablation_effects(graph, sets, others_respond)
        self.influence_M = graph.column("influence").astype(np.float64)
        self.activation_M = np.abs(np.nan_to_num(graph.column("activation")).astype(np.float64))
        self.direct_M = self.weight_T @ np.abs(graph.adjacency()[self.targets].toarray().astype(np.float64))

    def predicted_features(self, rows: Sequence[int]) -> np.ndarray:
        """Return the predicted changes of the graph's features, (K, N)."""
        return self.predicted_KM[rows][:, self.graph.order.features]

    def row(self, k: int) -> dict[str, Any]:
        """Return one set's numbers: signed effects are weighted sums over targets, sizes those of absolute values."""
        nodes, measured_T = list(self.sets[k]), self.effects.target_KT[k]
        predicted_T = self.predicted_KM[k, self.targets]
        return {
            "influence": float(self.influence_M[nodes].sum()),
            "direct": float(self.direct_M[nodes].sum()),
            "activation": float(self.activation_M[nodes].sum()),
            "predicted": float(predicted_T @ self.weight_T),
            "predicted_size": float(np.abs(predicted_T) @ self.weight_T),
            "measured": float(measured_T @ self.weight_T),
            "size": float(np.abs(measured_T) @ self.weight_T),
            "kl": float(self.effects.kl_K[k]),
            **self._control_columns(k),
            **({} if self.estimates is None else self.estimates[k]),
        }

    def _control_columns(self, k: int) -> dict[str, float | None]:
        controls = self.controls[k] if k < len(self.controls) else None
        if controls is None:
            return {"control_size": None, "control_kl": None, "control_length": None}
        return {
            "control_size": float((np.abs(controls.effects.target_KT) @ self.weight_T).mean()),
            "control_kl": float(controls.effects.kl_K.mean()),
            "control_length": controls.relative_size,
        }


def _record_rows(
    graph: Graph, chosen: AblationSets, table: EffectTable, clamped_paths: Sequence[dict[str, float]]
) -> dict[str, Any]:
    """Return the record's nodes, groups and paths with their numbers."""
    rows = [table.row(k) for k in range(len(table.sets))]
    single = chosen.single
    first_path, first_rest = len(single) + len(chosen.groups), len(chosen.with_controls)
    node_rows = zip(single + chosen.rest_of_sample, rows[: len(single)] + rows[first_rest:], strict=True)
    group_rows = zip(chosen.groups.items(), rows[len(single) : first_path], strict=True)
    path_rows = zip(chosen.paths, rows[first_path:first_rest], clamped_paths, strict=True)
    return {
        "nodes": [
            {"node": n, "label": node_label(graph, n), "sampled": n in chosen.sample, **row} for n, row in node_rows
        ],
        "groups": [{"name": name, "nodes": list(nodes), **row} for (name, nodes), row in group_rows],
        "paths": [
            {"label": label, "nodes": list(nodes), **row, **clamped} for (nodes, label), row, clamped in path_rows
        ],
    }
