"""Blocks of a backward pass: where columns start, and that effects do not depend on it."""

import numpy as np
import pytest
import torch
from tiny import KINDS, prompt

import cotrace.attribution.effects.blocks as blocks
from cotrace.attribution.effects.backward import BLOCK_POSITIONS
from cotrace.attribution.effects.blocks import ColumnLayout, EffectColumns
from cotrace.attribution.effects.config import EffectsConfig
from cotrace.attribution.effects.effects import EffectSource
from cotrace.attribution.tracing.config import TraceConfig
from cotrace.attribution.tracing.replacement import LocalReplacementModel
from cotrace.attribution.tracing.targets import Target, TargetRequest
from cotrace.graphs.nodes import Feature

CUTS = [(), (1,), (3, 4), (0, 1, 2), (5,), (2, 6)]  # positions that paths avoid


@pytest.fixture
def source(load):
    """Return a function from a kind of transcoders to a prompt at which effects are computed."""

    @torch.no_grad()
    def of(kind: str) -> EffectSource:
        activations = load(kind)._activations(torch.tensor(prompt()), TraceConfig())
        return EffectSource(activations, LocalReplacementModel(activations, keep_vectors=False))

    return of


def targets_and_cuts(source: EffectSource, model) -> tuple[list[Target], torch.Tensor]:
    """Return tokens at two positions and a feature, each with every cut that it allows, in no order."""
    ids, replacement = prompt(), source.replacement
    config = TraceConfig(position=(4, len(ids) - 1), max_targets=2, target_mass=1.0)
    resolved = TargetRequest.parse(None, config, ids, model.tokenizer, model.architecture.d_model).resolve(replacement)
    resolved.append(_feature_target(source))
    pairs = [(target, cut) for cut in CUTS for target in resolved if target.position not in cut]
    pairs += pairs[:1]  # a column that equals another one everywhere
    open_KP = torch.ones(len(pairs), len(ids), dtype=torch.bool)
    for k, (_, cut) in enumerate(pairs):
        open_KP[k, list(cut)] = False
    return [target for target, _ in pairs], open_KP


def _feature_target(source: EffectSource) -> Target:
    """Return the last active feature of layer 1, which is at a late position."""
    features = source.replacement.features
    n = int((features.layer_N == 1).nonzero()[-1])
    feature = Feature(1, int(features.feature_N[n]), int(features.position_N[n]))
    return Target("feature", str(feature), feature=feature, feature_index=n, position=feature.position)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_effects_do_not_depend_on_blocks(load, source, monkeypatch, kind, size):
    here = source(kind)
    targets, open_KP = targets_and_cuts(here, load(kind))
    with torch.no_grad():
        expected = here.node_effects(targets, EffectsConfig(), open_KP, columns_at_once=1)  # nothing is shared
        monkeypatch.setitem(BLOCK_POSITIONS, "cpu", size)
        for at_once in (None, 4):
            found = here.node_effects(targets, EffectsConfig(), open_KP, columns_at_once=at_once)
            largest = np.abs(expected.effect_KM).max()
            assert np.allclose(found.effect_KM, expected.effect_KM, rtol=0, atol=1e-12 * largest)
            assert np.allclose(found.bias_K, expected.bias_K, rtol=0, atol=1e-12 * largest)


def columns_of(cuts: list[tuple[int, ...]], position: int = 7, n_positions: int = 8) -> EffectColumns:
    """Return columns of one target."""
    open_KP = torch.ones(len(cuts), n_positions, dtype=torch.bool)
    for k, cut in enumerate(cuts):
        open_KP[k, list(cut)] = False
    n = len(cuts)
    return EffectColumns([2] * n, torch.full((n,), position), torch.ones(n, 3), open_KP)


def test_columns_start_at_their_last_cut():
    layout = ColumnLayout(columns_of([(5,), (), (1,), (0, 2)]), 8, block_positions=2)
    assert layout.order == [1, 0, 3, 2]
    assert [block.n_columns for block in layout.blocks] == [4, 3, 2, 1]
    assert layout.followed == [(1, 0, 3), (2, 0, 2), (3, 0, 1)]


def test_without_a_column_that_avoids_nothing_the_others_follow_the_first_cut():
    layout = ColumnLayout(columns_of([(5,), (1,), (1, 6)]), 8, block_positions=1)
    assert layout.order == [1, 2, 0]
    assert layout.followed == [(1, 0, 7), (2, 0, 6)]


def test_cuts_after_the_target_do_not_matter():
    layout = ColumnLayout(columns_of([(), (6, 7)], position=3), 8, block_positions=2)
    assert [block.n_columns for block in layout.blocks] == [1, 1]
    assert layout.followed == [(1, 0, 0)]


def test_different_targets_follow_none():
    columns = columns_of([(), (1,)])
    columns.read_KD[1] = 2
    assert ColumnLayout(columns, 8, 2).followed == []


def test_gradients_do_not_depend_on_blocks(load, source, monkeypatch):
    here = source("clt-affine")
    targets, open_KP = targets_and_cuts(here, load("clt-affine"))
    found = []
    for size in (100, 3):
        monkeypatch.setitem(blocks.BLOCK_POSITIONS, "cpu", size)
        found.append(_embedding_gradients(here, targets, open_KP))
    assert torch.allclose(*found, rtol=0, atol=1e-12 * float(found[0].abs().max()))


def _embedding_gradients(source: EffectSource, targets: list[Target], open_KP: torch.Tensor) -> torch.Tensor:
    from cotrace.attribution.effects.integrate import _InputPath

    with torch.no_grad():
        path = _InputPath(source, targets, EffectsConfig(), open_KP, None)
        return path.gradients(source.run)
