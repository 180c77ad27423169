"""Plans of effects: as many columns in one pass as memory allows, and a refusal that names the cure."""

from dataclasses import replace

import pytest
import torch
from tiny import prompt

import cotrace.attribution.effects.plan as planning
from cotrace.attribution.effects.config import SAVED_EFFECTS, EffectsConfig
from cotrace.attribution.effects.plan import plan_effects, plan_trace_with_effects, saved_bytes
from cotrace.attribution.tracing.config import RowBudget, TraceConfig
from cotrace.attribution.tracing.plan import make_plan
from cotrace.common.errors import ResourceError

MUCH = 10**15
DEFAULT = EffectsConfig()


@pytest.fixture
def activations(load, monkeypatch):
    """Return the activations of a prompt, in a process that uses nothing else."""
    monkeypatch.setattr(planning, "bytes_in_use", lambda device: 0)
    with torch.no_grad():
        model = load("clt-affine")
        return model._activations(torch.tensor(prompt()), TraceConfig())


def test_all_columns_go_down_together_where_memory_allows(activations):
    plan = plan_effects(activations, 300, EffectsConfig(), MUCH)
    assert (plan.columns_at_once, plan.keep_vectors) == (300, False)  # vectors are needed once


def test_several_passes_store_vectors(activations, monkeypatch):
    assert plan_effects(activations, 3, EffectsConfig(), MUCH, passes=8).keep_vectors
    monkeypatch.setattr(planning, "MAX_STORED_VECTORS_BYTES", {"cpu": 0})
    assert not plan_effects(activations, 3, EffectsConfig(), MUCH, passes=8).keep_vectors


@pytest.mark.parametrize("n_columns", [1, 7, 300])
def test_a_plan_fits_and_passes_are_about_equal(activations, n_columns):
    one, all_columns = (
        plan_effects(activations, n_columns, EffectsConfig(), bytes_).memory_bytes
        for bytes_ in (_least(activations, n_columns), MUCH)
    )
    for allowed in range(one, all_columns + 1, max(1, (all_columns - one) // 7)):
        plan = plan_effects(activations, n_columns, EffectsConfig(), allowed)
        assert plan.memory_bytes <= allowed
        n_passes = -(-n_columns // plan.columns_at_once)
        assert (n_passes - 1) * plan.columns_at_once < n_columns <= n_passes * plan.columns_at_once


def test_what_does_not_fit_is_refused_with_the_cure(activations):
    with pytest.raises(ResourceError, match=r"^effects on 7 targets and cuts need about .* allow more with memory=$"):
        plan_effects(activations, 7, EffectsConfig(), _least(activations, 7) - 1)


def test_layers_that_respond_need_more(activations):
    frozen, live = (plan_effects(activations, 7, EffectsConfig(freeze=f), MUCH).memory_bytes for f in ("all", "none"))
    assert live > frozen


def test_stored_vectors_of_a_trace_give_way_to_its_effects(activations):
    trace = replace(make_plan(activations, None, RowBudget(), None, MUCH), loaded_bytes=0)
    assert trace.keep_vectors
    least = _least(activations, 7, SAVED_EFFECTS) + saved_bytes(activations, 7)
    assert plan_trace_with_effects(activations, 7, trace, MUCH).keep_vectors
    assert not plan_trace_with_effects(activations, 7, trace, least).keep_vectors
    with pytest.raises(ResourceError, match=r"or trace without effects$"):
        plan_trace_with_effects(activations, 7, trace, least - 1)


def _least(activations, n_columns: int, config: EffectsConfig = DEFAULT) -> int:
    """Return the least memory in which some columns can be computed, one after another."""
    low, high = 0, MUCH
    while low < high:
        middle = (low + high) // 2
        try:
            plan_effects(activations, n_columns, config, middle)
            high = middle
        except ResourceError:
            low = middle + 1
    return low
