"""The effects that a trace saves with the nodes of its graph."""

from collections.abc import Sequence

from cotrace.attribution.tracing.graph_assembly import TracedEffects
from cotrace.attribution.tracing.targets import Target

from .config import SAVED_EFFECTS, EffectsConfig
from .effects import EffectSource


def effects_to_save(source: EffectSource, targets: Sequence[Target], columns_at_once: int) -> TracedEffects:
    """Return total effects, and the changes of targets that are expected when nodes are ablated.

    Args:
        source: the prompt.
        targets: the resolved targets of the trace.
        columns_at_once: targets in one backward pass.
    """
    total = source.node_effects(targets, EffectsConfig(freeze="all"), columns_at_once=columns_at_once)
    live = source.node_effects(targets, SAVED_EFFECTS, columns_at_once=columns_at_once)
    return TracedEffects(total.effect_KM, -live.effect_KM)
