"""Ablate controls: random active features of about the same sizes as a set's features."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from cotrace.attribution.interventions.layer_modes import LayerMode
from cotrace.common.errors import ArgumentError
from cotrace.graphs.nodes import Feature

from .ablation_sets import target_nodes
from .ablations import AblationEffects, AblationRunner, FeatureKey

NEAREST_CANDIDATES = 10  # a control is drawn from this many features whose sizes are nearest


class ControlEffects(NamedTuple):
    """Effects of the controls of one set.

    Attributes:
        effects: one row for each control.
        relative_size: mean size of the controls over the size of the set's features.
    """

    effects: AblationEffects
    relative_size: float


def measure_controls(
    runner: AblationRunner,
    sets: Sequence[tuple[int, ...]],
    count: int,
    modes: Sequence[LayerMode],
    random: np.random.Generator,
    step: Callable[[int], None] | None,
) -> list[ControlEffects | None]:
    """Ablate `count` controls of every set; return None for sets without features.

    No control is a target, or a feature that a set ablates alone.
    """
    n_features = runner.graph.order.n_features
    single = {members[0] for members in sets if len(members) == 1 and members[0] < n_features}
    excluded = {runner.features[n] for n in single | {n for n in target_nodes(runner.graph) if n < n_features}}
    keys = [[runner.features[n] for n in members if n < n_features] for members in sets]
    controls = [draw_controls(runner, own, random, excluded | set(own)) for own in keys if own for _ in range(count)]
    nodes = [[Feature(layer, feature, position) for layer, position, feature in control] for control in controls]
    effects = runner.measure(nodes, modes, step, features=False)
    found: list[ControlEffects | None] = []
    first = 0
    for own in keys:
        if not own:
            found.append(None)
            continue
        rows = slice(first, first := first + count)
        sizes = [runner.total_size(control) for control in controls[rows]]
        part = AblationEffects(*(column[rows] for column in effects))
        found.append(ControlEffects(part, float(np.mean(sizes) / runner.total_size(own))))
    return found


def draw_controls(
    runner: AblationRunner, keys: Iterable[FeatureKey], random: np.random.Generator, excluded: set[FeatureKey]
) -> list[FeatureKey]:
    """Draw one other active feature for each of `keys`, among those nearest in size, at its position if possible.

    Raises ArgumentError if too few active features remain.
    """
    controls: list[FeatureKey] = []
    position_N = np.array([position for _, position, _ in runner.active_features])
    free_N = np.ones(len(runner.active_features), np.bool_)
    free_N[[runner.index_of[key] for key in excluded]] = False
    for key in keys:
        here_N = free_N & (position_N == key[1])
        candidates = np.flatnonzero(here_N if here_N.sum() >= NEAREST_CANDIDATES else free_N)
        if len(candidates) == 0:
            raise ArgumentError("the prompt has too few active features for controls; ablate fewer nodes")
        distance = np.abs(np.log(runner.sizes[candidates] / runner.sizes[runner.index_of[key]]))
        control = int(random.choice(candidates[np.argsort(distance)[:NEAREST_CANDIDATES]]))
        free_N[control] = False
        controls.append(runner.active_features[control])
    return controls
