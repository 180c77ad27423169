"""The forward pass: gradients equal finite differences, and caching, batching and fused attention change nothing."""

import pytest
import tiny
import torch
from torch import Tensor

from cotrace.attribution.models import attention_pattern
from cotrace.attribution.models.forward import ForwardPass, FrozenLayer, LayerCache, model_mlp
from cotrace.attribution.models.gemma3 import Gemma3, LayerWeights
from cotrace.attribution.models.kv_cache import KVCache
from cotrace.attribution.models.sampling import sample_from_bos, sample_tokens

IDS = torch.tensor(tiny.prompt(9))  # the window is 4; the second of the three layers has full attention
TOKEN = 7


@pytest.fixture(params=[2, 256], ids=["small blocks", "one block"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(attention_pattern, "BLOCK_QUERIES", request.param)


def frozen_layers(weights: Gemma3, attention: bool, norms: bool) -> list[FrozenLayer]:
    """Return the layers of a pass over other tokens: frozen values that differ from those of the pass itself."""
    frozen = []
    for done in ForwardPass(weights, weights.embed(IDS.flip(0))):
        rms = (done.rms_attn_in_P, done.rms_attn_out_P, done.rms_mlp_in_P) if norms else (None, None, None)
        frozen.append(FrozenLayer(done.pattern if attention else None, *rms))
    return frozen


def logit(weights: Gemma3, embeddings: Tensor, **options) -> Tensor:
    resid_PD = ForwardPass(weights, embeddings, **options).run()
    return weights.logits(resid_PD)[..., -1, TOKEN].sum()


@pytest.mark.parametrize("keep_patterns", [True, False], ids=["patterns", "fused"])
@pytest.mark.parametrize("attention", [False, True], ids=["own attention", "frozen attention"])
@pytest.mark.parametrize("norms", [False, True], ids=["own norms", "frozen norms"])
def test_gradients_are_finite_differences(weights, blocks, attention, norms, keep_patterns):
    frozen = frozen_layers(weights, attention, norms)
    embeddings = weights.embed(IDS).requires_grad_()

    def value(embeddings: Tensor) -> Tensor:
        return logit(weights, embeddings, frozen=frozen, keep_patterns=keep_patterns)

    assert torch.autograd.gradcheck(value, (embeddings,), eps=1e-6, atol=1e-6, rtol=1e-4)
    (gradient,) = torch.autograd.grad(value(embeddings), embeddings)
    assert gradient.abs().sum(1).gt(0).all()  # the last position reads all others


def test_gradients_reach_cached_keys_and_values(weights):
    def value(embeddings: Tensor) -> Tensor:
        kv_cache = KVCache()
        for part in embeddings.split([5, 3, 1]):
            found = logit(weights, part, kv_cache=kv_cache)
        return found

    embeddings = weights.embed(IDS).requires_grad_()
    (parts,) = torch.autograd.grad(value(embeddings), embeddings)
    (whole,) = torch.autograd.grad(logit(weights, embeddings), embeddings)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)


def test_gradients_reach_what_replaces_an_mlp(weights):
    scale = torch.ones(weights.architecture.n_layers, dtype=torch.float64, requires_grad=True)
    run_mlp = model_mlp(weights)

    def value(scale: Tensor) -> Tensor:
        def mlp(before: LayerCache, w: LayerWeights) -> LayerCache:
            after = run_mlp(before, w)
            return after._replace(mlp_out_PD=after.mlp_out_PD * scale[after.layer])

        return logit(weights, weights.embed(IDS), mlp=mlp)

    assert torch.autograd.gradcheck(value, (scale,), eps=1e-6, atol=1e-6, rtol=1e-4)
    assert value(scale) == logit(weights, weights.embed(IDS))


def test_a_pass_that_freezes_its_own_values_is_the_same_to_the_bit(weights, blocks):
    layers = list(ForwardPass(weights, weights.embed(IDS)))
    frozen = [FrozenLayer(a.pattern, a.rms_attn_in_P, a.rms_attn_out_P, a.rms_mlp_in_P) for a in layers]
    again = list(ForwardPass(weights, weights.embed(IDS), frozen=frozen))
    assert all(torch.equal(a.mlp_out_PD, b.mlp_out_PD) for a, b in zip(layers, again, strict=True))


@pytest.mark.parametrize("keep_patterns", [True, False], ids=["patterns", "fused"])
@pytest.mark.parametrize("sizes", [[9], [1] * 9, [6, 1, 2], [2, 7]], ids=str)
def test_caching_and_batching_change_nothing(weights, blocks, sizes, keep_patterns):
    ids_BP = torch.stack([IDS, IDS.flip(0)])
    expected = [ForwardPass(weights, weights.embed(ids)).run() for ids in ids_BP]
    kv_cache, found = KVCache(), []
    for part_BP in ids_BP.split(sizes, 1):
        forward_pass = ForwardPass(weights, weights.embed(part_BP), kv_cache=kv_cache, keep_patterns=keep_patterns)
        found += [forward_pass.run()]
    assert kv_cache.length == len(IDS)
    torch.testing.assert_close(torch.cat(found, 1), torch.stack(expected), rtol=1e-10, atol=1e-10)


def test_another_dtype_computes_as_the_library_does(weights):
    """In bfloat16 too, where embeddings, norms and products round in the library's order."""
    library = weights._text.to(torch.bfloat16)
    try:
        half = Gemma3(
            type("Model", (), {"config": library.config, "model": library, "lm_head": library.embed_tokens}),
            torch.bfloat16,
        )
        with torch.no_grad():
            expected = library(input_ids=IDS[None]).last_hidden_state[0].float()
            found = half.final_normed(ForwardPass(half, half.embed(IDS), keep_patterns=False).run()).float()
        assert (found - expected).norm() < 0.02 * expected.norm()
        assert half.in_dtype(torch.float32).embed(IDS).dtype == torch.float32
    finally:
        weights._text.to(torch.float64)


def test_sampled_sequences_follow_the_models_probabilities(weights):
    """Each token is the one that the same draws take from the model's probabilities without a cache."""
    sequences = sample_from_bos(weights, 5, 7, 2, torch.Generator().manual_seed(3))
    assert sequences.shape == (5, 7)
    generator = torch.Generator().manual_seed(3)
    for length in range(1, 7):
        logits = weights.logits(ForwardPass(weights, weights.embed(sequences[:, :length])).run())[:, -1]
        assert torch.equal(sequences[:, length], sample_tokens(logits.softmax(-1), 1.0, generator))
