"""Fit the backward passes of effects into memory, before they run."""

from dataclasses import dataclass, replace

from cotrace.attribution.models.attention_pattern import BLOCK_QUERIES
from cotrace.attribution.tracing.activations import PromptActivations
from cotrace.attribution.tracing.plan import (
    MAX_STORED_VECTORS_BYTES,
    OVERHEAD_BYTES,
    TracePlan,
    bytes_in_use,
    recomputing,
    replacement_bytes,
)
from cotrace.common.errors import ResourceError
from cotrace.common.sizes import size_text

from .config import SAVED_EFFECTS, EffectsConfig
from .responses import RESPONSE_BYTES

RESULT_COPIES = 3  # of the effects on a column, while its backward pass ends: by position, in node order, and one more
RESPONSE_COPIES = 4  # of the gradients inside a layer that responds


@dataclass(frozen=True)
class EffectsPlan:
    """The size of the backward passes of some effects.

    Attributes:
        keep_vectors: whether decoder vectors are stored, because several passes need them.
        columns_at_once: targets, each with a cut, that go down the layers together.
        memory_bytes: peak memory of the process (on a GPU: of the device).
    """

    keep_vectors: bool
    columns_at_once: int
    memory_bytes: int

    def __repr__(self) -> str:
        return f"<EffectsPlan: {self.columns_at_once:,} columns at once, {size_text(self.memory_bytes)} of memory>"


def plan_effects(
    activations: PromptActivations,
    n_columns: int,
    config: EffectsConfig,
    max_bytes: int,
    passes: int = 1,
    in_use: int | None = None,
) -> EffectsPlan:
    """Return the plan with the most columns in each pass whose peak memory is at most `max_bytes`.

    Args:
        activations: the prompt's activations, which are in memory.
        n_columns: number of targets, each with a cut.
        config: what is frozen.
        max_bytes: bytes that the process may use in all (`allowed_memory`).
        passes: backward passes of every column: points of an integration.
        in_use: bytes that the process uses already; None to measure them.

    Raises:
        ResourceError: not even one column fits.
    """
    column, n_columns = _column_bytes(activations), max(1, n_columns)
    in_use = bytes_in_use(activations.weights.device) if in_use is None else in_use
    fixed = in_use + _fixed_bytes(activations, n_columns, config)
    stored = _vectors_bytes(activations)
    fitting = _fitting(max_bytes - fixed, column, n_columns)
    if fitting < 1:
        raise ResourceError(
            f"effects on {n_columns:,} targets and cuts need about {size_text(fixed + column)} of memory and "
            f"{size_text(max_bytes)} are allowed or free; shorten the prompt, give fewer targets or cuts, or allow more "
            "with memory="
        )
    # Stored vectors save time from the second pass on, unless they leave so little room that there are more passes.
    several = passes > 1 or fitting < n_columns
    keep = several and stored <= MAX_STORED_VECTORS_BYTES[activations.weights.device.type]
    keep = keep and _fitting(max_bytes - fixed - stored, column, n_columns) == fitting
    return EffectsPlan(keep, fitting, fixed + fitting * column + (stored if keep else 0))


def plan_trace_with_effects(
    activations: PromptActivations, n_targets: int, plan: TracePlan, max_bytes: int
) -> TracePlan:
    """Return the plan of a trace with the backward passes of its targets' effects, which precede the rows.

    Raises ResourceError if they do not fit.
    """
    kept = saved_bytes(activations, n_targets)
    stored = _vectors_bytes(activations) if plan.keep_vectors else 0
    try:
        passes = plan_effects(
            activations, n_targets, SAVED_EFFECTS, max_bytes - stored - kept, in_use=plan.loaded_bytes
        )
    except ResourceError as error:
        if plan.keep_vectors:
            return plan_trace_with_effects(activations, n_targets, recomputing(plan, activations), max_bytes)
        raise ResourceError(f"{error}, or trace without effects") from error
    other = plan.loaded_bytes + replacement_bytes(activations, keep_vectors=False) + OVERHEAD_BYTES
    return replace(
        plan,
        replacement_bytes=plan.replacement_bytes + kept,
        effects_bytes=max(0, passes.memory_bytes - other),
        effect_columns=passes.columns_at_once,
    )


def saved_bytes(activations: PromptActivations, n_targets: int) -> int:
    """Return the memory of the effects that a trace saves: both kinds, as they are computed and as columns."""
    return 4 * n_targets * _n_nodes(activations) * activations.weights.dtype.itemsize


def _fitting(free: int, column: int, n_columns: int) -> int:
    """Return how many columns fit into free bytes, 0 to `n_columns`, in passes of about equal size."""
    most = min(max(0, free) // column, n_columns)
    return 0 if most < 1 else -(-n_columns // -(-n_columns // most))


def _column_bytes(activations: PromptActivations) -> int:
    """Return the memory of a column at the last position: its gradients, buffers of attention heads, and effects."""
    arch, itemsize = activations.weights.architecture, activations.weights.dtype.itemsize
    gradients = 4 * arch.d_model + (arch.n_heads + arch.n_kv_heads) * arch.d_head
    return itemsize * (len(activations.token_ids_P) * gradients + RESULT_COPIES * _n_nodes(activations))


def _fixed_bytes(activations: PromptActivations, n_columns: int, config: EffectsConfig) -> int:
    """Return what is needed beside what is in use, whatever the columns of a pass: replacement model, run, all effects."""
    arch, itemsize = activations.weights.architecture, activations.weights.dtype.itemsize
    run = (arch.n_layers + 1) * len(activations.token_ids_P) * arch.d_model
    frozen = config.freeze == "all" and not config.through_qk
    responding = 0 if frozen else _response_bytes(activations, n_columns)
    needed = replacement_bytes(activations, keep_vectors=False) + responding + OVERHEAD_BYTES
    return needed + itemsize * (run + n_columns * _n_nodes(activations))


def _response_bytes(activations: PromptActivations, n_columns: int) -> int:
    """Return what a layer that responds needs: neurons of its MLP, or scores of one attention head."""
    arch, n_positions = activations.weights.architecture, len(activations.token_ids_P)
    numbers = n_columns * n_positions * max(arch.d_mlp, min(n_positions, BLOCK_QUERIES))
    return RESPONSE_COPIES * min(RESPONSE_BYTES, numbers * activations.weights.dtype.itemsize)


def _vectors_bytes(activations: PromptActivations) -> int:
    return activations.n_vectors * activations.weights.architecture.d_model * activations.weights.dtype.itemsize


def _n_nodes(activations: PromptActivations) -> int:
    """Return the number of features, error nodes and tokens."""
    n_layers = activations.weights.architecture.n_layers
    return len(activations.features) + (n_layers + 1) * len(activations.token_ids_P)
