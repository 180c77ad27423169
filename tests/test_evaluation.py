"""Evaluation: measured against MLP replacements whose quality is known, and against the replacement model of tracing."""

import json
import math

import numpy as np
import pytest
import tiny
import torch
from helpers.cli import run as command
from helpers.training import CONFIG, write_tokens
from tiny_checkpoints import write_tokenizer
from torch import Tensor

import cotrace
import cotrace.training
from cotrace.attribution.models.forward import ForwardPass
from cotrace.common.progress import Progress
from cotrace.training.activations import collect_activations
from cotrace.training.baselines import fit_baselines
from cotrace.training.mlp_replacements import TranscoderReplacement
from cotrace.training.replacement_metrics import DENSE_RATE, evaluate_replacements

QUIET = Progress(False)


def sequences(n: int, length: int = 9, seed: int = 0) -> np.ndarray:
    ids_SP = np.random.default_rng(seed).integers(3, tiny.VOCABULARY, (n, length), dtype=np.int32)
    ids_SP[:, 0] = 2
    return ids_SP


class RealMLP:
    """The model's own MLPs, computed without the library."""

    name = "real"

    def __init__(self, model):
        self.weights = model.weights

    def reset(self, n_positions: int) -> None:
        pass

    def output(self, layer: int, x_PD: Tensor) -> Tensor:
        w = self.weights.layer(layer)
        hidden = self.weights.activation(x_PD @ w.w_gate.T) * (x_PD @ w.w_up.T)
        out = hidden @ w.w_down.T
        rms = torch.rsqrt(out.square().mean(-1, keepdim=True) + self.weights.architecture.norm_eps)
        return out * rms * w.norm_mlp_out_D


def test_the_real_mlps_are_a_perfect_replacement(load):
    model = load("neurons", "float32")
    (result,) = evaluate_replacements(model, [RealMLP(model)], sequences(6), QUIET)
    assert result.fvu < 1e-8
    assert abs(result.kl) < 1e-6
    assert result.top1_agreement == 1
    assert math.isclose(result.loss, result.loss_of_model, rel_tol=1e-5)
    assert result.l0 is None


def test_the_loss_equals_that_of_the_logits(load):
    model, ids_SP = load("neurons", "float32"), sequences(5)
    (result,) = evaluate_replacements(model, [RealMLP(model)], ids_SP, QUIET)
    losses = []
    for ids in torch.from_numpy(ids_SP).long():
        log_p = model.logits(ids).log_softmax(-1)
        losses += [-log_p[p, ids[p + 1]].item() for p in range(len(ids) - 1)]
    assert math.isclose(result.loss_of_model, float(np.mean(losses)), rel_tol=1e-4)


def test_baselines_are_least_squares(load):
    """On the text they are fitted to, mean ablation leaves all variance, the affine map the least-squares residual."""
    model, ids_SP = load("neurons", "float32"), sequences(30)
    mean, affine = fit_baselines(model, ids_SP)
    results = evaluate_replacements(model, [mean, affine], ids_SP, QUIET)
    assert results[0].fvu_by_layer == pytest.approx([1.0] * tiny.LAYERS, rel=1e-5)
    found = collect_activations(model, ids_SP, "clt")
    for layer, fvu in enumerate(results[1].fvu_by_layer):
        x_ND, y_ND = found.x_LND[layer].double(), found.y_LND[layer].double()
        x_ND = torch.cat([x_ND, torch.ones(len(x_ND), 1)], 1)
        left_ND = y_ND - x_ND @ torch.linalg.lstsq(x_ND, y_ND).solution
        assert fvu == pytest.approx(float(left_ND.square().sum() / (y_ND - y_ND.mean(0)).square().sum()), rel=1e-2)


def test_an_input_that_the_norm_switches_off_does_not_stop_the_affine_map(tmp_path):
    folder = tiny.write_model(tmp_path / "model")
    model = cotrace.load(folder, "neurons", device="cpu")
    for layer in model.weights._text.layers:
        layer.pre_feedforward_layernorm.weight.data[3] = -1
    mean, affine = fit_baselines(model, sequences(40))
    results = evaluate_replacements(model, [mean, affine], sequences(40), QUIET)
    assert 0 < results[1].fvu < results[0].fvu


@pytest.mark.parametrize("kind", [kind for kind in tiny.KINDS if kind != "neurons"])
def test_transcoders_replace_mlps_as_in_tracing(load, kind):
    """The output is the MLP's output minus the error node, at every layer and position."""
    model = load(kind, "float32")
    ids = tiny.prompt(9)
    frozen = model.replacement(ids)
    replacement = TranscoderReplacement(model.transcoders, tiny.LAYERS)
    replacement.reset(len(ids) - 1)
    for done in ForwardPass(model.weights, model.weights.embed(torch.tensor(ids))):
        y_PD = replacement.output(done.layer, done.mlp_in_PD[1:])
        expected = done.mlp_out_PD[1:] - frozen.rest_LKPD[done.layer, 0, 1:]
        torch.testing.assert_close(y_PD, expected, rtol=1e-4, atol=1e-4)


def test_activity_is_counted(load):
    model, ids_SP = load("clt", "float32"), sequences(7)
    (result,) = evaluate_replacements(model, [TranscoderReplacement(model.transcoders, tiny.LAYERS)], ids_SP, QUIET)
    tables = [model.active_features(ids) for ids in ids_SP]
    layers = np.concatenate([table["layer"].to_numpy() for table in tables])
    features = np.concatenate([table["feature"].to_numpy() for table in tables])
    n_tokens = 7 * 8
    assert result.l0_by_layer == pytest.approx([(layers == layer).sum() / n_tokens for layer in range(tiny.LAYERS)])
    rates = np.bincount(layers * tiny.FEATURES + features, minlength=tiny.LAYERS * tiny.FEATURES) / n_tokens
    assert result.dead == pytest.approx((rates == 0).mean())
    assert result.dense == pytest.approx((rates > DENSE_RATE).mean())


def test_invalid_evaluations_are_refused(load, model_folder, transcoder_spec):
    with pytest.raises(ValueError, match="no transcoders to evaluate"):
        cotrace.evaluate_transcoders([], model=model_folder, data=["x"])
    with pytest.raises(ValueError, match="either data, or the folder"):
        cotrace.evaluate_transcoders([transcoder_spec("clt")], model=model_folder)
    with pytest.raises(ValueError, match="holds no training run"):
        cotrace.evaluate_transcoders([transcoder_spec("clt")], model=model_folder, run=model_folder, device="cpu")


@pytest.fixture(scope="module")
def with_tokenizer(tmp_path_factory):
    return write_tokenizer(tiny.write_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "a.txt"
    path.write_text("The opposite of hot is cold\n" * 400)
    return path


def test_train_from_the_command_line(with_tokenizer, text, tmp_path):
    """Train on a text and on samples of the model; the result can be evaluated."""
    sizes = ["--width", "24", "--target-l0", "3", "--tokens", "300", "--batch-tokens", "64", "--context", "16"]
    data = ["--data", text, "--data", "samples:4", "--device", "cpu", "--model", with_tokenizer]
    trained = command("train", *data, "--out", tmp_path / "run", *sizes)
    assert trained.returncode == 0, trained.stderr
    assert "clt/width_24_l0_small_affine" in trained.stdout.replace("\n", "")
    assert len(np.load(tmp_path / "run" / "samples-16-0" / "00000.npy")) >= 4
    again = command("train", *data, "--out", tmp_path / "run", *sizes)
    assert (again.returncode, "--resume" in again.stderr) == (2, True)
    assert command("train", "--out", tmp_path / "run", "--resume").returncode == 0
    both = command("train", "--out", tmp_path / "run", "--resume", "--tokens", "5")
    assert (both.returncode, "omit --tokens" in both.stderr) == (2, True)
    little = command("train", *data, "--out", tmp_path / "more", *sizes, "--tokens", "30000")
    assert (little.returncode, "ask for fewer tokens" in little.stderr) == (2, True)


def test_measurements_of_a_run(with_tokenizer, tmp_path):
    config = CONFIG.from_json({**CONFIG.to_json(), "model": str(with_tokenizer), "tokens": 68})
    write_tokens(tmp_path / "run", config)
    folder = cotrace.training.train_transcoders(config, tmp_path / "run", device="cpu", progress=False)
    json_file = tmp_path / "results.json"
    arguments = ["--model", with_tokenizer, "--run", tmp_path / "run", "--fit-tokens", "40", "--tokens", "60"]
    done = command("evaluate", folder, *arguments, "--out", json_file, "--no-trace-prompts", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    for words in ("FVU", "affine map", "mean ablation", "loss of the model", "results.json"):
        assert words in done.stdout
    results = json.loads(json_file.read_text())
    short = command("evaluate", folder, *arguments, "--json", "--no-trace-prompts", "--device", "cpu")
    assert short.returncode == 0, short.stderr
    assert {*json.loads(short.stdout)[0]} == {*results[0]}
    assert [result["name"] for result in results][1:] == ["mean ablation", "affine map"]
    assert all(math.isfinite(result["kl"]) for result in results)
