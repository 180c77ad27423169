"""Training: gradients against dense float64 algebra, recovery of planted features, and resuming."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from helpers.training import BATCH_TOKENS, CONFIG, FEATURES, write_tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import cotrace
from cotrace.attribution.models.forward import ForwardPass
from cotrace.common.progress import Progress
from cotrace.training import (
    TrainingConfig,
    checkpoints,
    data,
    export,
    initialize,
    loop,
    text_sources,
    train_transcoders,
    trainer,
)
from cotrace.training.activations import MLPActivations, collect_activations, unmasked_positions
from cotrace.training.dictionary import Dictionary
from cotrace.training.loop import train
from cotrace.training.losses import compute_losses
from cotrace.training.shards import SINGLE_PROCESS
from cotrace.training.trainer import Trainer

L, D, F, P = 3, 10, FEATURES, BATCH_TOKENS
QUIET = Progress(False)
CPU = torch.device("cpu")
ACTIVATIONS = {
    "batchtopk": {},
    "topk": {"activation": "topk"},
    "jumprelu": {"activation": "jumprelu", "bandwidth": 0.4, "sparsity": 0.7},
}
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def gaussian(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_dictionary(config: TrainingConfig) -> Dictionary:
    dictionary = Dictionary(config, L, D).double()
    with torch.no_grad():
        for seed, parameter in enumerate(dictionary.parameters()):
            parameter.copy_(gaussian(*parameter.shape, seed=seed) * 0.4)
        for threshold_F in dictionary.threshold:
            threshold_F.abs_()
    return dictionary


# Gradients


class DenseStep(torch.autograd.Function):
    """Equations 11 and 12 of Rajamanoharan et al. 2024, over all pre-activations: `amount * H(z - threshold)`."""

    @staticmethod
    def forward(ctx, amount, z, threshold, bandwidth):
        ctx.save_for_backward(amount, z, threshold)
        ctx.bandwidth = bandwidth
        return amount * (z > threshold)

    @staticmethod
    def backward(ctx, grad):
        amount, z, threshold = ctx.saved_tensors
        kernel = ((z - threshold).abs() < ctx.bandwidth / 2) & (z > 0)
        height = torch.where(amount == 1, 1.0, threshold)  # height of the smoothed step: 1, or the threshold
        return grad * (z > threshold), None, -(grad * kernel * height / ctx.bandwidth).sum(0), None


def dense_loss(dictionary: Dictionary, x_LPD: Tensor, y_LPD: Tensor) -> Tensor:
    """Return the loss with dense arrays, without the kernels."""
    config, total = dictionary.config, torch.zeros((), dtype=torch.float64)
    z = [x @ w.T + b for x, w, b in zip(x_LPD, dictionary.w_enc, dictionary.b_enc, strict=True)]
    active = []
    for layer, z_PF in enumerate(z):
        if config.activation == "jumprelu":
            threshold_F, width = dictionary.threshold[layer], config.bandwidth
            active.append(DenseStep.apply(z_PF, z_PF, threshold_F, width))
            on_F = DenseStep.apply(torch.ones_like(z_PF), z_PF, threshold_F, width).mean(0)
            total = total + config.sparsity * (on_F.sum() / config.target_l0 - 1) ** 2
            total = total + config.sparsity * on_F.square().sum() / config.frequency_scale / config.target_l0
        elif config.activation == "topk":
            kept = torch.zeros_like(z_PF).scatter(1, z_PF.topk(int(config.target_l0)).indices, 1.0)
            active.append(z_PF.relu() * kept)
        else:
            kth = z_PF.flatten().topk(int(config.target_l0) * len(z_PF)).values[-1]
            active.append(z_PF.relu() * (z_PF >= kth))
    for size in dictionary.prefixes:
        for layer in range(L):
            y_PD = dictionary.b_dec[layer].expand(P, D)
            if dictionary.skip is not None:
                y_PD = y_PD + x_LPD[layer] @ dictionary.skip[layer]
            for source in range(layer + 1):
                if layer - source < dictionary.w_dec[source].shape[1]:
                    y_PD = y_PD + active[source][:, :size] @ dictionary.w_dec[source][:size, layer - source]
            total = total + (y_PD - y_LPD[layer]).square().mean() / len(dictionary.prefixes)
    return total


@every_activation
@pytest.mark.parametrize("kind", ["clt", "transcoder", "skip-transcoder", "sae"])
@pytest.mark.parametrize("matryoshka", [(), (5, 16)], ids=["whole", "prefixes"])
def test_loss_and_gradients_are_those_of_dense_algebra(activation, kind, matryoshka):
    config = replace(CONFIG, kind=kind, matryoshka=matryoshka, **ACTIVATIONS[activation])
    dictionary = random_dictionary(config)
    x_LPD, y_LPD = gaussian(L, P, D, seed=100), gaussian(L, P, D, seed=101)
    loss = compute_losses(dictionary(x_LPD), y_LPD, config, SINGLE_PROCESS).total
    dense = dense_loss(dictionary, x_LPD, y_LPD)
    torch.testing.assert_close(loss, dense, rtol=1e-12, atol=1e-12)
    names = [name for name, _ in dictionary.named_parameters()]
    found = torch.autograd.grad(loss, dictionary.parameters())
    expected = torch.autograd.grad(dense, dictionary.parameters())
    for name, gradient, other in zip(names, found, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-10, atol=1e-12, msg=lambda text, n=name: f"{n}: {text}")
        assert gradient.any() or kind == "sae", f"{name} has no gradient"


@every_activation
def test_bfloat16_affects_products_only(activation):
    """Loss and gradients equal those in float32 up to rounding of 2^-9, which changes a few active features."""
    found = []
    for precision in ("float32", "bfloat16"):
        config = replace(CONFIG, precision=precision, **ACTIVATIONS[activation])
        dictionary = random_dictionary(config).float()
        x_LPD, y_LPD = (gaussian(L, P, D, seed=seed).float() for seed in (100, 101))
        loss = compute_losses(dictionary(x_LPD), y_LPD, config, SINGLE_PROCESS).total
        found.append((loss, torch.autograd.grad(loss, dictionary.parameters())))
    (exact, gradients), (rounded, others) = found
    assert rounded.dtype == torch.float32
    assert 0 < abs(rounded - exact) < 0.03 * exact
    assert all(other.dtype == torch.float32 for other in others)
    one, two = (torch.cat([gradient.flatten() for gradient in side]) for side in (gradients, others))
    assert torch.nn.functional.cosine_similarity(one, two, dim=0) > 0.95


def test_auto_is_bfloat16_on_a_gpu_only():
    assert [CONFIG.uses_bfloat16(device) for device in ("cpu", "cuda")] == [False, True]
    assert not replace(CONFIG, precision="float32").uses_bfloat16("cuda")


# Learning


def planted(n_tokens: int, seed: int) -> tuple[MLPActivations, Tensor]:
    """Return MLPActivations that a few rare directions explain, and the output directions."""
    reads, writes = (torch.nn.functional.normalize(gaussian(L, 8, D, seed=s), dim=-1) for s in (1, 2))
    generator = torch.Generator().manual_seed(seed)
    amount = torch.rand(L, n_tokens, 8, generator=generator, dtype=torch.float64) + 1
    amount *= torch.rand(L, n_tokens, 8, generator=generator) < 0.15
    return MLPActivations((amount @ reads).float(), (amount @ writes).float()), writes


@pytest.mark.parametrize("activation", ["batchtopk", "jumprelu"])
def test_a_planted_dictionary_is_recovered(activation):
    config = TrainingConfig(
        kind="transcoder",
        width=16,
        target_l0=1.2 if activation == "jumprelu" else 2,
        tokens=60_000,
        batch_tokens=256,
        learning_rate=1e-2,
        dead_after_tokens=5_000,
        activation=activation,
        sparsity=0.02,
        bandwidth=0.2,
    )
    run = Trainer(config, L, D, CPU)
    found, writes = planted(4096, seed=3)
    run.initialize(found)
    for seed in range(250):
        seen = run.train_step(*planted(256, seed=10 + seed)[0])
    assert seen["fvu"] < 0.1
    learned = [layer.w_dec_FJD[:, 0].float() for layer in export.layer_tensors(run)]
    for layer in range(L):
        alike = torch.nn.functional.cosine_similarity(writes[layer].float()[:, None], learned[layer][None], dim=-1)
        assert (alike.max(1).values > 0.9).float().mean() >= 0.75, alike.max(1).values


def trained(config: TrainingConfig, steps: int = 6) -> tuple[Trainer, MLPActivations]:
    run, found = Trainer(config, L, D, CPU), planted(300, seed=1)[0]
    run.initialize(found)
    for seed in range(steps):
        run.train_step(*planted(P, seed=50 + seed)[0])
    return run, found


@every_activation
@pytest.mark.parametrize("kind", ["clt", "skip-transcoder"])
def test_exported_files_have_the_same_function(activation, kind, tmp_path, model_folder):
    """The exported files, in the model's units and with scaled features, have the outputs of the dictionary."""
    config = replace(CONFIG, kind=kind, **ACTIVATIONS[activation])
    run, found = trained(config)
    x_LPD = run.normalization.normalize_inputs(found.x_LND[:, :40])
    for layer, tensors in enumerate(export.layer_tensors(run)):
        z_PF = found.x_LND[layer, :40].double() @ tensors.w_enc_DF + tensors.b_enc_F
        here_PF = x_LPD[layer] @ run.dictionary.w_enc[layer].T + run.dictionary.b_enc[layer]
        on_PF = here_PF > run.threshold_LF[layer]
        clear_PF = (here_PF - run.threshold_LF[layer]).abs() > 1e-5  # where rounding cannot decide
        assert torch.equal((z_PF > tensors.threshold_F)[clear_PF], on_PF[clear_PF])
        y_PJD = torch.einsum("pf,fjd->pjd", z_PF * on_PF, tensors.w_dec_FJD)
        last = layer + y_PJD.shape[1]
        scale_J = run.normalization.y_scale_L[layer:last]
        here_PJD = torch.einsum("pf,fjd->pjd", here_PF * on_PF, run.dictionary.w_dec[layer]) * scale_J[:, None]
        torch.testing.assert_close(y_PJD.float(), here_PJD, rtol=1e-4, atol=1e-5)
        rest_PD = found.x_LND[layer, :40].double() @ tensors.skip_DD + tensors.b_dec_D
        here_PD = x_LPD[layer] @ run.dictionary.skip[layer] + run.dictionary.b_dec[layer]
        here_PD = here_PD * run.normalization.y_scale_L[layer] + run.normalization.y_mean_LD[layer]
        torch.testing.assert_close(rest_PD.float(), here_PD, rtol=1e-4, atol=1e-5)
        lengths = tensors.w_dec_FJD.flatten(1).norm(dim=1)
        assert torch.allclose(lengths[lengths > 0], torch.ones_like(lengths[lengths > 0]))


@pytest.mark.parametrize("activation", ["batchtopk", "topk"])
def test_the_exported_threshold_reproduces_topk(activation):
    """On one batch, JumpReLU with the smallest kept activation as threshold equals BatchTopK, and nearly TopK."""
    config = replace(CONFIG, **ACTIVATIONS[activation])
    batch = MLPActivations(*(gaussian(L, P, D, seed=seed).float() for seed in (7, 8)))
    run, before = (Trainer(config, L, D, CPU) for _ in range(2))
    for one in (run, before):
        one.initialize(MLPActivations(gaussian(L, 300, D, seed=5).float(), gaussian(L, 300, D, seed=6).float()))
    run.train_step(*batch)
    x_LPD = before.normalization.normalize_inputs(batch.x_LND)
    for layer, found in enumerate(before.dictionary(x_LPD).active):
        z_PF = x_LPD[layer] @ before.dictionary.w_enc[layer].T + before.dictionary.b_enc[layer]
        torch.testing.assert_close(run.min_activation_L[layer], found.activation_n.min().detach())
        n_on = int((z_PF >= run.min_activation_L[layer] - 1e-6).sum())
        assert n_on == len(found.position_n) if activation == "batchtopk" else n_on >= len(found.position_n)


# Data


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(codec="ascii"), max_size=30), max_size=12), st.integers(2, 9), st.integers(0, 9))
def test_packing_keeps_every_token_in_order(documents, context, needed):
    packed = data.pack_documents(documents, lambda text: [ord(c) + 2 for c in text], 1, context, needed)
    assert packed.shape[1] == context
    assert len(packed) <= needed
    assert (packed[:, 0] == 1).all()
    runs = [token for text in documents for token in (1, *(ord(c) + 2 for c in text))]
    at = 0
    for row in packed.tolist():  # a row is BOS and a part of the stream; a BOS at its start is not repeated
        at += at < len(runs) and runs[at] == 1
        assert row[1:] == runs[at : at + context - 1]
        at += context - 1
    stream = [token for text in documents for token in (1, *(ord(c) + 2 for c in text))]
    kept = [int(token) for row in packed for token in row[1:] if token != 1]
    assert kept == [token for token in stream if token != 1][: len(kept)]
    whole = len([t for t in stream if t != 1]) // (context - 1)
    assert len(packed) >= min(needed, whole - len(documents))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\n")), max_size=40))
def test_chunks_of_a_file_cover_it_once(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    text = "\n".join(lines)
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_sources, "CHUNK_BYTES", 16)
        assert sorted("".join(text_sources.read_files(path, seed=1))) == sorted(text)


def test_texts_in_rows_are_read(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as parquet

    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    parquet.write_table(pa.table({"text": ["three", "four"]}), tmp_path / "b.parquet")
    assert sorted(text_sources.read_files(tmp_path, 0)) == ["four", "one", "three", "two"]
    (tmp_path / "a.jsonl").write_text('{"other": "one"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl cannot be read as text"):
        list(text_sources.read_files(tmp_path / "a.jsonl", 0))
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"c\.txt cannot be read as text"):
        list(text_sources.read_files(tmp_path / "c.txt", 0))
    with pytest.raises(ValueError, match="holds no text"):
        list(text_sources.read_files(tmp_path_empty(tmp_path), 0))


def tmp_path_empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_activations_are_those_of_the_forward_pass(load):
    """Inputs and outputs of every MLP equal those of the forward pass, without BOS."""
    model = load("neurons", "float32")
    ids_SP = np.array([tiny.prompt(9), tiny.prompt(9)[::-1]], np.int32)
    found = collect_activations(model, ids_SP, "clt")
    for row, ids in enumerate(ids_SP):
        for done in ForwardPass(model.weights, model.weights.embed(torch.tensor(ids, dtype=torch.long))):
            here = slice(row * 8, row * 8 + 8)
            torch.testing.assert_close(found.x_LND[done.layer, here], done.mlp_in_PD[1:], rtol=2e-4, atol=2e-5)
            torch.testing.assert_close(found.y_LND[done.layer, here], done.mlp_out_PD[1:], rtol=2e-4, atol=2e-5)
    assert unmasked_positions(model, torch.from_numpy(ids_SP).long())[:, 0].logical_not().all()
    sae = collect_activations(model, ids_SP, "sae")
    assert torch.equal(sae.x_LND, found.y_LND)
    rounded = collect_activations(model, ids_SP, "clt", bfloat16=True)
    assert rounded.y_LND.dtype == torch.float32
    assert 0 < (rounded.y_LND - found.y_LND).norm() < 0.1 * found.y_LND.norm()


# Runs


def start_run(config: TrainingConfig, model, folder: Path) -> Trainer:
    if not (folder / data.TOKENS_FILE).exists():
        write_tokens(folder, config)
    run = Trainer(config, model.architecture.n_layers, model.architecture.d_model, CPU)
    if checkpoints.has_checkpoint(folder):
        checkpoints.restore(run, folder)
    return run


@every_activation
def test_a_killed_run_resumes_with_the_same_result(activation, load, tmp_path, monkeypatch):
    model = load("neurons", "float32")
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(trainer, "RESAMPLE_EVERY_STEPS", 2)
    config = replace(CONFIG, tokens=16 * P, dead_after_tokens=3 * P, **ACTIVATIONS[activation])
    whole = start_run(config, model, tmp_path / "whole")
    train([whole], model, [tmp_path / "whole"], QUIET)

    killed = start_run(config, model, tmp_path / "killed")
    train_step, steps = killed.train_step, config.n_steps

    def until(*batch):
        if killed.step == steps // 2 + 1:  # in the middle of a buffer
            raise KeyboardInterrupt
        return train_step(*batch)

    killed.train_step = until
    with pytest.raises(KeyboardInterrupt):
        train([killed], model, [tmp_path / "killed"], QUIET)
    again = start_run(config, model, tmp_path / "killed")
    assert 0 < again.step < steps
    train([again], model, [tmp_path / "killed"], QUIET)
    assert again.history == whole.history
    for name, tensor in whole.state()[0].items():
        assert torch.equal(tensor, again.state()[0][name]), name


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(load, tmp_path, monkeypatch):
    model = load("neurons", "float32")
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    run = start_run(replace(CONFIG, tokens=16 * P), model, tmp_path)
    train_step = run.train_step

    def spoiled(x_LPD, y_LPD):
        return train_step(x_LPD, y_LPD * torch.nan if run.step == 5 else y_LPD)

    run.train_step = spoiled
    with pytest.raises(ValueError, match=r"loss is nan at step 5.*lower learning rate"):
        train([run], model, [tmp_path], QUIET)
    kept = start_run(run.config, model, tmp_path)
    assert kept.step == 4
    assert all(tensor.isfinite().all() for tensor in kept.state()[0].values())


@pytest.mark.parametrize("name", ["learning_rate", "sparsity", "bandwidth", "target_l0", "warm_up"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_settings_that_are_not_finite_are_refused(name, value):
    with pytest.raises(ValueError, match=f"invalid {name} {value}: expected a finite number"):
        TrainingConfig(**{name: value})


def test_files_that_are_not_checkpoints_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no training run"):
        checkpoints.read_config(tmp_path)
    run, _ = trained(CONFIG, steps=1)
    (tmp_path / checkpoints.checkpoint_file(0)).write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        checkpoints.restore(run, tmp_path)
    checkpoints.save_checkpoints([run], [tmp_path])
    checkpoints.restore(run, tmp_path)
    other = Trainer(replace(CONFIG, learning_rate=1.0), L, D, CPU)
    with pytest.raises(ValueError, match="other settings"):
        checkpoints.restore(other, tmp_path)


def test_text_of_other_settings_is_refused(load, tmp_path):
    model = load("neurons", "float32")
    write_tokens(tmp_path, CONFIG)
    data.prepare_sequences(CONFIG, model, tmp_path, QUIET)
    with pytest.raises(ValueError, match="other data or settings"):
        data.prepare_sequences(replace(CONFIG, data=("elsewhere",)), model, tmp_path, QUIET)


def test_a_buffer_with_few_tokens_is_repeated():
    """BOS within sequences leaves fewer tokens than steps; every batch is still full."""
    batches = loop.shuffled_batches(CONFIG, 0, 3 * P + 1)
    assert [len(batch) for batch in batches] == [P] * CONFIG.steps_per_buffer
    assert torch.cat(batches).unique().numel() == 3 * P + 1
    with pytest.raises(ValueError, match="no tokens"):
        loop.shuffled_batches(CONFIG, 0, 0)


@pytest.mark.parametrize("kind", ["clt", "transcoder", "skip-transcoder", "sae"])
def test_a_run_ends_in_files_that_can_be_traced(kind, model_folder, tmp_path):
    config = replace(CONFIG, kind=kind, model=str(model_folder), tokens=4 * P)
    write_tokens(tmp_path / "run", config)
    folder = train_transcoders(config, tmp_path / "run", device="cpu", progress=False)
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"{F} features per layer" in card
    assert "Gemma Terms of Use" in card
    assert "<svg" in (tmp_path / "run" / "training.svg").read_text()
    if kind == "sae":
        with pytest.raises(ValueError, match="not of MLPs"):
            cotrace.load(model_folder, folder, device="cpu")
        assert cotrace.load_dictionary(folder, model_folder, device="cpu").layers == tuple(range(tiny.LAYERS))
        return
    model = cotrace.load(model_folder, folder, device="cpu")
    assert len(model.active_features(tiny.prompt())) > 0
    model.trace(tiny.prompt(), progress=False).prune()
    with pytest.raises(ValueError, match="holds a run already"):
        train_transcoders(config, tmp_path / "run", device="cpu", progress=False)


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "lorsa"}, "invalid kind 'lorsa': expected one of clt"),
        ({"activation": "gelu"}, "activation 'gelu'"),
        ({"precision": "float16"}, "precision 'float16'"),
        ({"width": 0}, "invalid width 0"),
        ({"target_l0": 25}, "at most the width"),
        ({"target_l0": 2.5}, "whole number"),
        ({"data": "texts"}, "list of sources"),
        ({"matryoshka": (8, 4)}, "must ascend"),
        ({"matryoshka": (24,)}, "smaller than the width"),
        ({"learning_rate": 0}, "above 0"),
        ({"held_out": 1.0}, "shares"),
        ({"context": 1}, "invalid context 1"),
        ({"data": ()}, "no data"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


def test_settings_survive_a_file():
    config = replace(CONFIG, matryoshka=(4, 8), data=("a", "b"))
    assert TrainingConfig.from_json(json.loads(str(config))) == config
    with pytest.raises(ValueError, match="unknown training settings nonsense"):
        TrainingConfig.from_json({"nonsense": 1})


def test_the_affine_map_is_the_least_squares_solution():
    x_ND, y_ND = gaussian(200, D, seed=5), gaussian(200, D, seed=6)
    expected = torch.linalg.lstsq(x_ND, y_ND).solution
    torch.testing.assert_close(initialize.fit_affine(x_ND, y_ND), expected, rtol=1e-2, atol=1e-4)
