"""Hooks of the forward pass: blocked keys, and replaced queries, keys and values."""

import pytest
import tiny
import torch
from torch import Tensor

from cotrace.attribution.models import attention_pattern
from cotrace.attribution.models.forward import ForwardPass, FrozenLayer, LaterKeysValues, QueriesKeysValues
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.kv_cache import KVCache

IDS = torch.tensor(tiny.prompt(9))  # the window is 4; the second of the three layers has full attention
P = len(IDS)


@pytest.fixture(params=[2, 256], ids=["small blocks", "one block"])
def blocks(request, monkeypatch):
    monkeypatch.setattr(attention_pattern, "BLOCK_QUERIES", request.param)


patterns = pytest.mark.parametrize("keep_patterns", [True, False], ids=["patterns", "fused"])


def run(weights: Gemma3, ids: Tensor = IDS, sizes=None, **options) -> Tensor:
    """Return final residual streams, over several passes with a cache if `sizes` are given."""
    cached, parts = {"kv_cache": KVCache()} if sizes else {}, []
    for part in ids.split(sizes or [ids.shape[-1]], -1):
        first = cached["kv_cache"].length if sizes else 0
        stop = first + part.shape[-1]
        blocked = options.get("blocked")
        if isinstance(blocked, Tensor):
            blocked = blocked[..., first:stop, :stop]
        parts.append(ForwardPass(weights, weights.embed(part), **cached, **options | {"blocked": blocked}).run())
    return torch.cat(parts, -2)


def blocking(*pairs: tuple[int, int]) -> Tensor:
    mask = torch.zeros(P, P, dtype=torch.bool)
    for query, key in pairs:
        mask[query, key] = True
    return mask


@patterns
def test_a_query_does_not_see_a_blocked_key(weights, blocks, keep_patterns):
    """With position 6 blocked for later queries in all layers, its token does not matter to them; elsewhere it does."""
    blocked = blocking((7, 6), (8, 6))
    other = IDS.clone()
    other[6] = 1 + IDS[6] % 7
    here, there = (run(weights, ids, blocked=blocked, keep_patterns=keep_patterns) for ids in (IDS, other))
    torch.testing.assert_close(here[7:], there[7:], rtol=0, atol=1e-12)
    assert not torch.allclose(here[6], there[6])
    assert not torch.allclose(here[7], run(weights, keep_patterns=keep_patterns)[7])
    torch.testing.assert_close(here[:7], run(weights, keep_patterns=keep_patterns)[:7], rtol=0, atol=1e-12)


@patterns
def test_blocked_probabilities_are_renormalised(weights, blocks, keep_patterns):
    (free, *_), (masked, *_) = (
        list(ForwardPass(weights, weights.embed(IDS), blocked=b)) for b in (None, blocking((8, 6)))
    )
    before, after = (pass_.pattern.query_rows(torch.tensor([8]), P)[:, 0] for pass_ in (free, masked))
    assert (after[:, 6] == 0).all()
    before[:, 6] = 0
    torch.testing.assert_close(after, before / before.sum(-1, keepdim=True))


@patterns
def test_masks_of_rows_heads_and_layers(weights, blocks, keep_patterns):
    options = {"keep_patterns": keep_patterns}
    masks = torch.stack([blocking((8, 6)), blocking((5, 3), (6, 3)), blocking()])
    expected = torch.stack([run(weights, blocked=mask, **options) for mask in masks])
    torch.testing.assert_close(run(weights, IDS.expand(3, -1), blocked=masks, **options), expected, rtol=0, atol=1e-12)
    heads = torch.stack([blocking((8, 6)), blocking()] * 2)[None].expand(3, -1, -1, -1)
    one_row = run(weights, IDS[None], blocked=heads[:1], **options)
    torch.testing.assert_close(
        run(weights, IDS.expand(3, -1), blocked=heads, **options)[1:2], one_row, rtol=0, atol=1e-12
    )
    assert not torch.allclose(one_row[0, 8], expected[0, 8])
    every = run(weights, blocked=dict.fromkeys(range(3), masks[0]), **options)
    torch.testing.assert_close(every, expected[0], rtol=0, atol=0)
    assert not torch.allclose(run(weights, blocked={1: masks[0]}, **options)[8], expected[0, 8])


@patterns
@pytest.mark.parametrize("sizes", [[1] * 9, [6, 1, 2], [2, 7]], ids=str)
def test_blocked_keys_in_a_cache(weights, blocks, sizes, keep_patterns):
    blocked = blocking((8, 6), (7, 6), (5, 3), (8, 0))
    whole = run(weights, blocked=blocked, keep_patterns=keep_patterns)
    parts = run(weights, sizes=sizes, blocked=blocked, keep_patterns=keep_patterns)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


def record(weights: Gemma3, ids: Tensor, **options) -> dict[int, QueriesKeysValues]:
    seen: dict[int, QueriesKeysValues] = {}

    def keep(layer: int, inputs: QueriesKeysValues) -> QueriesKeysValues:
        return seen.setdefault(layer, inputs)

    ForwardPass(weights, weights.embed(ids), attention_edit=keep, **options).run()
    return seen


@patterns
def test_an_edit_by_nothing_is_the_same_to_the_bit(weights, blocks, keep_patterns):
    seen = record(weights, IDS, keep_patterns=keep_patterns)
    assert list(seen) == [0, 1, 2]
    found = run(weights, keep_patterns=keep_patterns, attention_edit=lambda layer, inputs: seen[layer])
    assert torch.equal(found, run(weights, keep_patterns=keep_patterns))
    reader_P = torch.arange(P) >= 5

    def later(layer, inputs):
        return inputs._replace(later=(LaterKeysValues(reader_P, *seen[layer][1:3]),))

    found = run(weights, keep_patterns=keep_patterns, attention_edit=later)
    assert torch.equal(found, run(weights, keep_patterns=keep_patterns))


@patterns
def test_another_prompts_queries_keys_and_values(weights, blocks, keep_patterns):
    """With all of them, attention in the first layer writes what it writes in the other prompt."""
    other = record(weights, IDS.flip(0), keep_patterns=keep_patterns)
    embedding_PD, other_PD = weights.embed(IDS), weights.embed(IDS.flip(0))
    found, expected = (
        ForwardPass(weights, resid_PD, keep_patterns=keep_patterns, attention_edit=edit).attend(
            0, weights.layer(0), resid_PD
        )
        for resid_PD, edit in ((embedding_PD, lambda layer, inputs: other[layer]), (other_PD, None))
    )
    assert torch.equal(found.out_PD, expected.out_PD)
    for edited in range(3):  # each of the three alone has an effect

        def replace_one(layer, inputs, edited=edited):
            name = QueriesKeysValues._fields[edited]
            return inputs._replace(**{name: getattr(other[layer], name)})

        one = run(weights, keep_patterns=keep_patterns, attention_edit=replace_one)
        assert not torch.allclose(one[5], run(weights, keep_patterns=keep_patterns)[5])


@patterns
@pytest.mark.parametrize("sizes", [None, [6, 1, 2], [6, 3], [8, 1]], ids=str)
def test_later_queries_read_other_keys_and_values(weights, blocks, keep_patterns, sizes):
    """Positions before the reader are as without the edit; those from it on as if all queries read the other values."""
    other, start = record(weights, IDS.flip(0)), 6

    def replaced(layer: int, inputs: QueriesKeysValues) -> QueriesKeysValues:
        k, v = (
            torch.cat([b[..., :5, :], a[..., 5:, :]], -2) for a, b in zip(inputs[1:3], other[layer][1:3], strict=True)
        )
        return inputs._replace(k_KPd=k, v_KPd=v)

    def later(layer, inputs):
        first = 0 if cache is None else cache.length
        if first:
            return inputs
        n = inputs.v_KPd.shape[-2]
        own = inputs._replace(k_KPd=inputs.k_KPd, v_KPd=inputs.v_KPd)
        return own._replace(later=(LaterKeysValues(torch.arange(n) >= start, *replaced(layer, own)[1:3]),))

    cache = KVCache() if sizes else None
    parts = [
        ForwardPass(
            weights, weights.embed(part), kv_cache=cache, keep_patterns=keep_patterns, attention_edit=later
        ).run()
        for part in IDS.split(sizes or [P])
    ]
    found = torch.cat(parts)
    torch.testing.assert_close(found[:start], run(weights, keep_patterns=keep_patterns)[:start], rtol=0, atol=1e-12)
    # The other prompt's keys and values reach the reader; its own position is computed from the prompt's own stream.
    cache = KVCache()
    ForwardPass(weights, weights.embed(IDS[:start]), kv_cache=cache).run()
    seen = record(weights, IDS[:start])
    for layer in range(3):
        k, v = (
            torch.cat([b[..., :5, :], a[..., 5:, :]], -2)
            for a, b in zip(seen[layer][1:3], _first(other[layer], start), strict=True)
        )
        n = cache._values[layer].shape[-2]
        cache.replace(layer, k[..., -n:, :], v[..., -n:, :])
    expected = ForwardPass(weights, weights.embed(IDS[start:]), kv_cache=cache).run()
    torch.testing.assert_close(found[start:], expected, rtol=0, atol=1e-12)


def _first(inputs: QueriesKeysValues, n: int):
    return (tensor[..., :n, :] for tensor in inputs[1:3])


def test_frozen_patterns_read_other_values(weights, blocks):
    layers = list(ForwardPass(weights, weights.embed(IDS)))
    frozen = [FrozenLayer(layer.pattern) for layer in layers]
    reader_P = torch.arange(P) >= 5

    def later(layer, inputs):
        assert inputs.q_HPd is inputs.k_KPd is None
        return inputs._replace(later=(LaterKeysValues(reader_P, None, 2 * inputs.v_KPd),))

    def doubled(layer, inputs):
        return inputs._replace(v_KPd=2 * inputs.v_KPd)

    (found, *_), (whole, *_), (free, *_) = (
        list(ForwardPass(weights, weights.embed(IDS), frozen=frozen, attention_edit=edit))
        for edit in (later, doubled, lambda layer, inputs: inputs)
    )
    assert torch.equal(found.mlp_in_PD[5:], whole.mlp_in_PD[5:])
    assert torch.equal(found.mlp_in_PD[:5], free.mlp_in_PD[:5])


def test_gradients_flow_through_replaced_values(weights):
    scale = torch.ones(3, dtype=torch.float64, requires_grad=True)

    def value(scale: Tensor) -> Tensor:
        def edit(layer, inputs):
            other = LaterKeysValues(torch.arange(P) >= 4, inputs.k_KPd * scale[layer], inputs.v_KPd * scale[layer] ** 2)
            return inputs._replace(later=(other,))

        resid_PD = ForwardPass(weights, weights.embed(IDS), attention_edit=edit, blocked=blocking((8, 6))).run()
        return weights.logits(resid_PD)[-1, 7]

    assert torch.autograd.gradcheck(value, (scale,), eps=1e-6, atol=1e-6, rtol=1e-4)
