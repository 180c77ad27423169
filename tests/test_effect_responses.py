"""Derivatives of attention and MLPs that are written out equal automatic differentiation."""

from functools import partial

import pytest
import tiny
import torch

from cotrace.attribution.effects import responses
from cotrace.attribution.effects.responses import AttentionResponse, MLPResponse, first_positions
from cotrace.attribution.models import attention_pattern
from cotrace.attribution.models.forward import ForwardPass, FrozenLayer
from cotrace.attribution.models.gemma3 import Gemma3

IDS = torch.tensor(tiny.prompt(9))  # the window is 4; the second of the three layers has full attention
N_COLUMNS, REACH = 3, 7  # gradients reach the first positions only


@pytest.fixture(params=[2, 256], ids=["small blocks", "one block"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(attention_pattern, "BLOCK_QUERIES", request.param)


@pytest.fixture
def grad_PKD(weights):
    torch.manual_seed(0)
    return torch.randn(REACH, N_COLUMNS, weights.architecture.d_model, dtype=torch.float64)


def frozen_layers(weights: Gemma3, attention: bool, norms: bool) -> list[FrozenLayer]:
    """Return frozen values of a pass over other tokens, which differ from those of the pass itself."""
    resid_PD, frozen = weights.embed(IDS.flip(0)), []
    forward_pass = ForwardPass(weights, resid_PD)
    for done in forward_pass:
        w = weights.layer(done.layer)
        head_rms = weights.head_rms(w, weights.rms_norm(resid_PD, w.norm_attn_in_D)[0])
        scales = (done.rms_attn_in_P, done.rms_attn_out_P, done.rms_mlp_in_P, *head_rms) if norms else (None,) * 5
        frozen.append(FrozenLayer(done.pattern if attention else None, *scales))
        resid_PD = forward_pass.resid_PD
    return frozen


def added_by_autograd(function, resid_PD, grad_PKD):
    """Return gradients plus their products with the function's Jacobian, column by column."""
    point_PD = resid_PD.clone().requires_grad_()
    out_PD = function(point_PD)
    out_PD = (out_PD if isinstance(out_PD, torch.Tensor) else out_PD.out_PD)[:REACH]
    columns = [torch.autograd.grad(out_PD, point_PD, g, retain_graph=True)[0] for g in grad_PKD.unbind(1)]
    return grad_PKD + torch.stack(columns, 1)[:REACH]


@pytest.mark.parametrize("attention", [False, True], ids=["own attention", "frozen attention"])
@pytest.mark.parametrize("norms", [False, True], ids=["own norms", "frozen norms"])
@pytest.mark.parametrize("small", [False, True], ids=["at once", "in parts"])
def test_attention(weights, blocks, grad_PKD, attention, norms, small, monkeypatch):
    if small:
        monkeypatch.setattr(responses, "RESPONSE_BYTES", 1)
    frozen, resid_PD = frozen_layers(weights, attention, norms), weights.embed(IDS)
    for layer in range(weights.architecture.n_layers):
        attend = partial(ForwardPass(weights, resid_PD, frozen=frozen).attend, layer, weights.layer(layer))
        expected = added_by_autograd(attend, resid_PD, grad_PKD)
        response = AttentionResponse(weights, layer, resid_PD[:REACH], first_positions(frozen[layer], REACH))
        found = grad_PKD.clone()
        response.add_back(found)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(response.out_PD, attend(resid_PD).out_PD[:REACH])


@pytest.mark.parametrize("small", [False, True], ids=["at once", "in parts"])
def test_mlp(weights, grad_PKD, small, monkeypatch):
    if small:
        monkeypatch.setattr(responses, "RESPONSE_BYTES", 1)
    w, resid_PD = weights.layer(1), weights.embed(IDS)[:REACH]

    def mlp(x):
        return weights.mlp(w, weights.rms_norm(x, w.norm_mlp_in_D)[0])[0]

    response, found = MLPResponse(weights, w, resid_PD), grad_PKD.clone()
    response.add_back(found)
    torch.testing.assert_close(found, added_by_autograd(mlp, resid_PD, grad_PKD), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(response.out_PD, mlp(resid_PD))
