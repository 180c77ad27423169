"""The cost model on paper: against measured runs, counted launches, and plans of traces."""

import sys
from pathlib import Path

import pytest
import torch
from tiny import prompt

sys.path.append(str(Path(__file__).parent.parent))  # benchmarks are not installed

from benchmarks import cost_model
from benchmarks.cost_model import BFLOAT16, H100, MODELS, PaperActivations, Setup, case, checks, launches_per_layer
from benchmarks.launches import batch_launches, triton_by_default
from benchmarks.roofline import layer_steps
from cotrace.attribution.tracing.config import RowBudget
from cotrace.attribution.tracing.plan import make_plan
from cotrace.kernels.backends import interpreting

LIMIT = {"edges": 1.2, "operations": 1.25, "memory": 1.6}  # ratios, in either direction; seconds depend on speed


def test_predictions_agree_with_measured_runs():
    found = list(checks(cost_model.RESULTS / "trace.json"))
    assert sum("operations" in record["ratios"] for record in found) >= 4
    for record in found:
        for name in LIMIT.keys() & record["ratios"].keys():
            assert 1 / LIMIT[name] < record["ratios"][name] < LIMIT[name], (record["case"], name)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("Gemma 3 270M", 0.268e9), ("Gemma 3 1B", 1.0e9), ("Gemma 3 4B", 3.88e9), ("Gemma 3 27B", 27.0e9)],
)
def test_weights_have_the_published_number_of_parameters(model, parameters):
    assert cost_model.weight_bytes(MODELS[model], BFLOAT16) / 2 == pytest.approx(parameters, rel=0.01)


@pytest.mark.skipif(not interpreting(), reason="launches are counted in Triton's interpreter")
def test_launches_of_a_layer_are_those_counted(load):
    pytest.importorskip("triton")
    model = load("clt-affine", "float32")
    with triton_by_default():
        last, before = (batch_launches(model, prompt(), layer=layer)["launches"] for layer in (2, 1))
    assert last - before == launches_per_layer(model.architecture, len(prompt()))


def test_a_gpu_needs_no_memory_for_pruning():
    """The graph of 512 tokens has 10^11 edges, whose marks are in the host's memory."""
    activations = PaperActivations(Setup("Gemma 3 1B", "clt", 262144, 50.0), 512, "cuda")
    plan = make_plan(activations, None, RowBudget(), None, int(H100.memory_bytes))
    assert plan.assembly_bytes > H100.memory_bytes
    assert plan.memory_bytes < H100.memory_bytes


def test_dividing_over_cards_saves_memory_or_time():
    roomy = case(Setup("Gemma 3 1B", "clt", 4096, 10.0), 64, RowBudget())
    assert roomy["fits"]
    assert (roomy["several"]["rows_over"], roomy["several"]["features_over"]) == (8, 1)
    tight = case(Setup("Gemma 3 27B", "per-layer", 262144, 50.0, stored=BFLOAT16), 512, RowBudget(max_features=1000))
    assert not tight["fits"]
    assert tight["several"]["fits"]
    assert tight["several"]["memory_bytes"] < tight["memory_bytes"]


def test_half_features_are_spread_over_positions():
    activations = PaperActivations(Setup("Gemma 3 270M", "clt", 832, 2.5), 9, "cpu")
    assert activations.counts_LP[:, 0].sum() == 0  # position 0 is masked
    assert activations.counts_LP[0].sum() == 20
    assert set(activations.counts_LP[0, 1:].tolist()) <= {2, 3}


def test_the_roofline_counts_the_operations_of_the_flop_model():
    """One target at the last position: the products of one layer as `row_flops` counts them."""
    from cotrace.attribution.tracing.flops import SweepShape, row_flops

    arch, positions = MODELS["Gemma 3 270M"], 6
    wide = [None, None, None]
    shape = SweepShape(arch.d_model, arch.n_heads * arch.d_head, arch.n_kv_heads * arch.d_head, wide, [True] * 3)
    vectors_LP = torch.full((3, positions), 5, dtype=torch.int64).numpy()
    position = torch.tensor([positions - 1]).numpy()
    one, two = (row_flops(shape, vectors_LP, torch.tensor([layer]).numpy(), position) for layer in (1, 2))
    steps = layer_steps(arch, positions, 1, 5, 1)
    assert sum(step.flops for step in steps if step.name != "position rows") == two - one
