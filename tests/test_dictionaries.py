"""SAEs and crosscoders in Gemma Scope 2's layout: activations, reconstruction, steering, against Hugging Face's own values."""

import functools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tiny
import torch
from helpers.dictionaries import (
    FEATURES,
    HEADS_WIDTH,
    encoded,
    random_tensors,
    read_layer,
    site_values,
    write_crosscoder,
    write_files,
    write_sae,
)
from loopback_hub import LoopbackHub, commit_of
from tiny_checkpoints import WORDS, write_tokenizer
from transformers import AutoModelForCausalLM
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm

import cotrace
from cotrace.attribution.dictionaries import names_dictionary
from cotrace.attribution.models.sites import HookPoint, folder_of_dictionaries

SITES = ("resid_post", "mlp_out", "attn_out")
IDS = tiny.prompt()


@pytest.fixture(scope="module")
def scope(tmp_path_factory) -> Path:
    """Return a folder with SAEs of all sites at all layers, some of one layer, and a crosscoder."""
    root = tmp_path_factory.mktemp("scope")
    for site in SITES:
        for layer in range(tiny.LAYERS):
            write_sae(root, site, layer, folder=f"{site}_all")
        write_sae(root, site, 1, "width_65k_l0_medium")
    write_crosscoder(root)
    return root


@pytest.fixture(scope="module")
def hf_model(model_folder):
    """Return Hugging Face's model in float64, its norms too, which the library computes in float32."""
    hf_model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64).eval()
    for module in hf_model.modules():
        if isinstance(module, Gemma3RMSNorm):
            module.forward = functools.partial(exact_norm, module)
    return hf_model


def exact_norm(norm, x):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.eps) * (1 + norm.weight)


@pytest.fixture(scope="module")
def model(load):
    return load("neurons")


def dense(table, layer: int, column: str = "activation") -> torch.Tensor:
    """Return a column of a table of activations for one layer, (P, F)."""
    values = torch.zeros(len(IDS), FEATURES, dtype=torch.float64)
    for row in table.to_pylist():
        if row["layer"] == layer:
            values[row["position"], row["feature"]] = row[column]
    return values


@pytest.mark.parametrize("site", SITES)
def test_activations_are_those_of_the_published_formula_at_the_hook_point(site, scope, model, hf_model):
    dictionary = cotrace.load_dictionary(scope / f"{site}_all/width_16k_l0_small", model)
    assert (dictionary.kind, dictionary.site, dictionary.layers) == ("sae", site, (0, 1, 2))
    assert dictionary.widths == (FEATURES,) * 3
    table = dictionary.activations(IDS)
    assert table.column_names == ["layer", "position", "feature", "activation", "pre_activation"]
    for layer, x_PX in enumerate(site_values(hf_model, site, IDS)):
        expected_PF, z_PF = encoded(
            read_layer(scope / f"{site}_all/layer_{layer}_width_16k_l0_small/params.safetensors"), x_PX
        )
        expected_PF[0] = 0  # BOS is masked
        assert 0 < (expected_PF > 0).sum() < expected_PF.numel() / 2
        assert torch.allclose(dense(table, layer), expected_PF, rtol=0, atol=1e-6)
        active = expected_PF > 0
        assert torch.allclose(dense(table, layer, "pre_activation")[active], z_PF[active], rtol=0, atol=1e-6)


def test_a_crosscoder_reads_each_layer_and_writes_to_later_ones(scope, model, hf_model):
    folder = scope / "crosscoder/layer_0_2_width_65k_l0_medium"
    dictionary = cotrace.load_dictionary(folder, model)
    assert (dictionary.kind, dictionary.site, dictionary.layers) == ("crosscoder", "resid_post", (0, 2))
    values = site_values(hf_model, "resid_post", IDS)
    files = [read_layer(folder / f"params_layer_{index}.safetensors") for index in range(2)]
    active = [encoded(t, values[layer])[0] for t, layer in zip(files, (0, 2), strict=True)]
    table = dictionary.activations(IDS)
    for layer, expected_PF in zip((0, 2), active, strict=True):
        assert torch.allclose(dense(table, layer)[1:], expected_PF[1:], rtol=0, atol=1e-6)
    assert dictionary.files.written_layers(0) == (0, 2)
    assert dictionary.files.written_layers(2) == (2,)
    rebuilt = torch.stack(
        [
            sum(torch.einsum("pf,fd->pd", a, t["w_dec"][:, j]) for a, t in zip(active, files, strict=True))
            + files[j]["b_dec"]
            for j in range(2)
        ]
    )
    found = dictionary.evaluate([IDS])
    reconstructed = dictionary.reconstruct(IDS)
    for j, layer in enumerate((0, 2)):
        assert torch.allclose(dictionary.values(IDS)[layer], values[layer], rtol=0, atol=1e-8)
        assert torch.allclose(reconstructed[layer], rebuilt[j], rtol=0, atol=1e-8)
        error = (values[layer] - rebuilt[j])[1:].square().mean()
        assert found.layers[j].mse == pytest.approx(error.item(), rel=1e-5)


@pytest.mark.parametrize("site", SITES)
def test_evaluation_is_about_the_mean(site, scope, model, hf_model):
    dictionary = cotrace.load_dictionary(scope / site, model)
    found = dictionary.evaluate([IDS, IDS[:5]])
    x_NX = torch.cat([site_values(hf_model, site, ids)[1][1:] for ids in (IDS, IDS[:5])])
    t = read_layer(scope / site / "layer_1_width_65k_l0_medium/params.safetensors")
    active_NF = encoded(t, x_NX)[0]
    error = (x_NX - active_NF @ t["w_dec"] - t["b_dec"]).square().mean().item()
    variance = (x_NX - x_NX.mean(0)).square().mean().item()
    (layer,) = found.layers
    assert found.tokens == len(x_NX)
    assert layer.layer == 1
    assert found.mse == pytest.approx(error, rel=1e-5)
    assert found.explained_variance == pytest.approx(1 - error / variance, rel=1e-5)
    assert found.l0 == pytest.approx((active_NF > 0).sum(1).double().mean().item())
    assert layer.dead == pytest.approx((active_NF == 0).all(0).double().mean().item())
    assert json.loads(json.dumps(found.to_json()))["layers"][0]["variance"] == pytest.approx(variance, rel=1e-5)


def test_the_mean_explains_nothing_and_a_perfect_sae_everything(tmp_path, load, hf_model):
    model = load("neurons")
    mean_X = site_values(hf_model, "resid_post", IDS)[1][1:].mean(0)
    never = torch.full((FEATURES,), 1e9)
    write_sae(tmp_path / "mean", "resid_post", 1, threshold=never, b_dec=mean_X)
    found = cotrace.load_dictionary(tmp_path / "mean", model).evaluate([IDS])
    assert found.explained_variance == pytest.approx(0, abs=1e-12)
    assert (found.l0, found.layers[0].dead) == (0, 1)
    eye = torch.eye(tiny.WIDTH)
    both = torch.cat([eye, -eye])
    zeros = torch.zeros(2 * tiny.WIDTH)
    write_sae(
        tmp_path / "eye",
        "resid_post",
        1,
        w_enc=both.T,
        w_dec=both,
        b_enc=zeros,
        threshold=zeros.clone(),
        b_dec=torch.zeros(tiny.WIDTH),
    )
    perfect = cotrace.load_dictionary(tmp_path / "eye", model).evaluate(IDS)
    assert perfect.explained_variance == pytest.approx(1, abs=1e-10)
    assert perfect.l0 == pytest.approx(tiny.WIDTH)


def steered_logits(hf_model, site: str, layer: int, change) -> torch.Tensor:
    """Return Hugging Face's logits with a site's values (1, P, X) changed at a layer."""
    block = hf_model.model.layers[layer]
    if site == "attn_out":
        handle = block.self_attn.o_proj.register_forward_pre_hook(lambda _m, args: (change(args[0]),))
    else:
        module = block if site == "resid_post" else block.post_feedforward_layernorm
        handle = module.register_forward_hook(
            lambda _m, _a, out: change(out) if isinstance(out, torch.Tensor) else (change(out[0]), *out[1:])
        )
    with torch.no_grad():
        logits = hf_model(torch.tensor([IDS])).logits[0]
    handle.remove()
    return logits


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("how", ["add", "ablate", "set"])
def test_steering_moves_the_site_along_the_decoder_vector(site, how, scope, model, hf_model):
    dictionary = cotrace.load_dictionary(scope / site, model)
    decoder_X = dictionary.decoder("L1#7")[1].double()
    stored = read_layer(scope / site / "layer_1_width_65k_l0_medium/params.safetensors")["w_dec"][7]
    assert torch.equal(decoder_X, stored)
    edits = {"add": cotrace.add(3.0), "ablate": cotrace.ablate(), "set": cotrace.set_to(-2.0)}

    def change(x_BPX):
        along_BP1 = (x_BPX @ decoder_X / decoder_X.square().sum())[..., None]
        target = {
            "add": along_BP1 + 3.0,
            "ablate": torch.zeros_like(along_BP1),
            "set": torch.full_like(along_BP1, -2.0),
        }[how]
        moved = x_BPX + (target - along_BP1) * decoder_X
        return torch.cat([x_BPX[:, :4], moved[:, 4:6], x_BPX[:, 6:]], 1)

    result = model.intervene(IDS, dictionary.edit("L1#7@4:6", edits[how]))
    expected = steered_logits(hf_model, site, 1, change)
    assert not torch.allclose(expected, steered_logits(hf_model, site, 1, lambda x: x), atol=1e-3)
    assert torch.allclose(torch.as_tensor(result.logits).double(), expected, atol=1e-8)


def test_steering_with_a_crosscoder_edits_every_written_layer(scope, model):
    dictionary = cotrace.load_dictionary(scope / "crosscoder", model)
    edits = dictionary.edit(cotrace.Feature(0, 3, position=2), cotrace.add(2.0))
    assert [(node.layer, node.site) for node in edits] == [(0, "resid_post"), (2, "resid_post")]
    for node, edit in edits.items():
        written = dictionary.decoder("L0#3")[node.layer].double()
        assert torch.allclose(node.vector * edit.shift, 2 * written)
    assert len(dictionary.edit("L0#3", cotrace.ablate(), layers=[2])) == 1
    assert [node.layer for node in dictionary.edit("L2#3", cotrace.ablate())] == [2]
    generated = model.generate(IDS, dictionary.edit("L0#3@generated", cotrace.add(50.0)), max_new_tokens=3)
    assert len(generated.token_ids) == 3


@pytest.mark.parametrize("site", SITES)
def test_generation_with_and_without_a_cache_steers_alike(site, scope, model):
    edits = cotrace.load_dictionary(scope / site, model).edit("L1#7", cotrace.add(20.0))
    cached, plain = (model.generate(IDS, edits, max_new_tokens=5, use_cache=cache) for cache in (True, False))
    assert cached.token_ids == plain.token_ids
    if site != "attn_out":  # where the norm behind the projection keeps additions small
        assert cached.token_ids != model.generate(IDS, max_new_tokens=5).token_ids


def test_several_dictionaries_need_a_choice(scope, model):
    with pytest.raises(
        cotrace.ArgumentError, match=r"several dictionaries; add one of these.*resid_post_all/width_16k_l0_small"
    ):
        cotrace.load_dictionary(scope, model)
    one = cotrace.load_dictionary(scope / "resid_post_all/layer_2_width_16k_l0_small", model)
    assert one.layers == (2,)
    whole = cotrace.load_dictionary(scope / "mlp_out_all", model)
    assert whole.layers == (0, 1, 2)


def not_opened(spec, model, *words: str) -> None:
    with pytest.raises(cotrace.CotraceError) as caught:
        cotrace.load_dictionary(spec, model)
    message = str(caught.value)
    assert "\n" not in message
    assert not [word for word in words if word not in message], message


def test_what_is_no_dictionary_of_the_model_is_refused_in_one_line(tmp_path, model):
    not_opened(tmp_path / "gone", model, "does not exist")
    not_opened(tmp_path, model, "no SAEs and no crosscoder", "layer_9_…/params.safetensors")
    not_opened("neurons", model, "neither an existing file", "Hub id")
    tiny.write_layers(tmp_path / "transcoders", "scope-per-layer", tiny.random_layers())
    tiny.write_layers(tmp_path / "transcoders", "scope-clt", tiny.random_layers())
    for spec in ("transcoders", "transcoders/clt", "transcoders/transcoder_all"):
        not_opened(tmp_path / spec, model, "transcoders, which can be traced")
    late = write_sae(tmp_path / "late", "resid_post", 5)
    not_opened(late, model, "layer 5", "the model has 3")
    wide = write_sae(tmp_path / "wide", "resid_post", 0, **random_tensors(0, 24, (24,)))
    not_opened(wide, model, "w_enc", "(24, 32)", "(20, 32)", "made for it")
    damaged = write_sae(tmp_path / "nan", "mlp_out", 0, b_enc=torch.full((FEATURES,), float("nan")))
    not_opened(damaged, model, "b_enc", "NaN", "download the file again")
    (damaged / "params.safetensors").write_bytes(b"truncated")
    not_opened(damaged, model, "params.safetensors")
    affine = write_sae(tmp_path / "affine", "mlp_out", 0, affine_skip_connection=torch.zeros(20, 20))
    not_opened(affine, model, "affine skip", "transcoder")
    short = write_sae(tmp_path / "short", "mlp_out", 0)
    tensors = read_layer(short / "params.safetensors")
    del tensors["threshold"]
    write_files(short, {"params.safetensors": tensors}, json.loads((short / "config.json").read_text()))
    not_opened(short, model, "has no tensor threshold")


def edit_config(place: Path, **entries) -> None:
    path = place / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_configs_and_folders_must_agree(tmp_path, model):
    moved = write_sae(tmp_path, "resid_post", 0, folder="attn_out")
    not_opened(moved, model, "differ in their site")
    layer = write_sae(tmp_path / "layer", "resid_post", 1)
    edit_config(layer, hf_hook_point_in="model.layers.2.output", hf_hook_point_out="model.layers.2.output")
    not_opened(layer, model, "folder of layer 1", "config.json")
    elsewhere = write_sae(tmp_path / "elsewhere", "resid_post", 1)
    edit_config(elsewhere, hf_hook_point_in="model.layers.1.mlp.output")
    not_opened(elsewhere, model, "model.layers.1.mlp.output", "resid_post, mlp_out or attn_out")
    transcoder = write_sae(tmp_path / "transcoder", "mlp_out", 1)
    edit_config(transcoder, type="transcoder")
    not_opened(transcoder, model, "which can be traced")
    unknown = write_sae(tmp_path / "unknown", "resid_post", 1)
    edit_config(unknown, architecture="batch_topk")
    not_opened(unknown, model, "batch_topk")
    crosscoder = write_crosscoder(tmp_path)
    edit_config(crosscoder, hf_hook_point_in="model.layers.{0,1}.output", hf_hook_point_out="model.layers.{0,1}.output")
    not_opened(crosscoder, model, "different layers")
    lacking = write_crosscoder(tmp_path / "lacking")
    (lacking / "params_layer_1.safetensors").unlink()
    not_opened(lacking, model, "lacks params_layer_1.safetensors")


def test_a_config_or_a_folder_alone_names_the_site(tmp_path, model):
    bare = write_sae(tmp_path, "attn_out", 2, folder="attn_out_all")
    (bare / "config.json").unlink()
    assert cotrace.load_dictionary(bare, model).site == "attn_out"
    renamed = write_sae(tmp_path / "mine", "mlp_out", 2, folder="anything")
    assert cotrace.load_dictionary(renamed, model).site == "mlp_out"
    crosscoder = write_crosscoder(tmp_path / "cross", (0, 1, 2))
    (crosscoder / "config.json").unlink()
    assert cotrace.load_dictionary(crosscoder, model).layers == (0, 1, 2)


def test_features_that_are_not_there_are_refused(scope, model):
    dictionary = cotrace.load_dictionary(scope / "resid_post", model)
    for feature, problem in {
        "L0#1": "its layers are 1",
        "L1#32": "32 features",
        "token@2": "not a feature of a dictionary",
    }.items():
        with pytest.raises(cotrace.ArgumentError, match=problem):
            dictionary.edit(feature, cotrace.ablate())
    with pytest.raises(cotrace.ArgumentError, match="with a number"):
        dictionary.edit("L1#1", cotrace.add(torch.ones(tiny.WIDTH)))
    with pytest.raises(cotrace.ArgumentError, match="writes to no layer 2; it writes to 1"):
        dictionary.edit("L1#1", cotrace.ablate(), layers=[2])
    with pytest.raises(cotrace.CotraceError, match="no text"):
        dictionary.evaluate([[2]])


def test_directions_of_other_sites_are_checked(model):
    with pytest.raises(cotrace.ArgumentError, match="invalid site 'mlp_in'"):
        cotrace.Direction(1, torch.ones(20), site="mlp_in")
    with pytest.raises(cotrace.ArgumentError, match=rf"\({HEADS_WIDTH},\)"):
        model.intervene(IDS, {cotrace.Direction(1, torch.ones(20), site="attn_out"): cotrace.ablate()})
    along = torch.ones(20)
    both = {cotrace.Direction(1, along, site=site): cotrace.ablate() for site in ("resid_post", "mlp_out")}
    model.intervene(IDS, both)  # different values, so they do not conflict
    twice = {cotrace.Direction(1, along + i * torch.eye(20)[0], site="mlp_out"): cotrace.ablate() for i in range(2)}
    with pytest.raises(cotrace.ArgumentError, match="orthogonal"):
        model.intervene(IDS, twice)


def test_dictionaries_are_refused_where_transcoders_are_traced(scope, tmp_path, refused):
    one = "layer_1_width_65k_l0_medium"
    refused(
        scope / "resid_post" / one,
        "an SAE of resid_post",
        "cannot be traced",
        "cotrace.load_dictionary",
        "transcoder_all",
    )
    refused(scope / "attn_out_all", "an SAE of attn_out", "cannot be traced")
    refused(scope / "crosscoder/layer_0_2_width_65k_l0_medium", "a crosscoder", "cannot be traced")
    renamed = write_sae(tmp_path, "mlp_out", 1, folder="mine")
    refused(renamed, "an SAE of mlp_out", "cotrace.load_dictionary")


def test_names_of_dictionaries(scope):
    assert names_dictionary("google/gemma-scope-2-270m-pt/resid_post_all/width_16k_l0_small@main")
    assert names_dictionary("google/gemma-scope-2-270m-pt/crosscoder/layer_5_9_12_15_width_65k_l0_medium")
    assert names_dictionary(scope / "attn_out")
    assert names_dictionary(scope / "crosscoder")
    assert not names_dictionary("google/gemma-scope-2-270m-pt/transcoder_all/width_16k_l0_small_affine")
    assert not names_dictionary("gemma-3-270m-clt")
    assert not names_dictionary("neurons:5")
    assert folder_of_dictionaries("a/attn_out/b/resid_post_all/c") == "resid_post"
    assert HookPoint.parse("model.layers.{all}.output") == ("output", None)
    assert HookPoint.parse("model.language_model.layers.{5, 9}.output") == ("output", (5, 9))
    assert HookPoint.parse("blocks.5.hook_resid_post") is None


@pytest.fixture(scope="module")
def worded(tmp_path_factory):
    """Return a tiny model with a tokenizer, and text that it has words for."""
    root = tmp_path_factory.mktemp("worded")
    (root / "text.txt").write_text(" ".join(WORDS) * 60)
    return write_tokenizer(tiny.write_model(root / "model")), root / "text.txt"


def test_the_commands_take_dictionaries(scope, worded, command, tmp_path):
    folder, text = worded
    sae = scope / "attn_out_all/width_16k_l0_small"
    options = ("--model", folder, "--device", "cpu")
    measured = ("--data", text, "--tokens", 40, "--context", 8, "--json", "--out", tmp_path / "out.json")
    status, out, error = command("evaluate", sae, scope / "crosscoder", *options, *measured)
    assert status == 0, error
    one, crosscoder = json.loads(out)
    assert [one["site"], [layer["layer"] for layer in one["layers"]], crosscoder["kind"]] == [
        "attn_out",
        [0, 1, 2],
        "crosscoder",
    ]
    assert one["settings"]["data"] == [str(text)]
    assert json.loads((tmp_path / "out.json").read_text())[0]["mse"] == one["mse"]
    status, out, _ = command("evaluate", sae, *options, *measured[:-3])
    assert status == 0
    assert "explained variance" in out
    steering = (
        "steer",
        " ".join(WORDS[:3]),
        "--transcoders",
        "neurons",
        *options,
        "--max-new-tokens",
        2,
        "--out",
        tmp_path / "s.json",
    )
    status, out, error = command(*steering, "--dictionary", sae, "--add", "dictionary:L1#5@generated=90")
    assert status == 0, error
    steered = json.loads((tmp_path / "s.json").read_text())
    assert steered["dictionary"]["site"] == "attn_out"


def test_the_active_features_of_a_prompt_on_the_command_line(scope, worded, command):
    sae = scope / "mlp_out_all/width_16k_l0_small"
    text = " ".join(WORDS[:4])
    active = ("features", "active", text, "--model", worded[0], "--device", "cpu", "--transcoders")
    status, out, error = command(*active, sae, "--layer", 1, "--top", 2, "--json")
    assert status == 0, error
    found = json.loads(out)
    table = cotrace.load_dictionary(sae, worded[0], device="cpu").activations(text).to_pylist()
    assert {row["position"] for row in found["features"]} == set(range(1, len(found["tokens"])))
    for position in range(1, len(found["tokens"])):
        expected = sorted(
            (row for row in table if (row["layer"], row["position"]) == (1, position)),
            key=lambda row: -row["activation"],
        )
        assert [row["feature"] for row in found["features"] if row["position"] == position] == [
            row["feature"] for row in expected[:2]
        ]
    status, out, error = command(*active, "neurons:2", "--top", 1)
    assert status == 0, error
    assert WORDS[0] in out
    assert "L2#" in out


def test_mistakes_with_dictionaries_on_the_command_line(scope, worded, command):
    options = ("--model", worded[0], "--device", "cpu")
    mixed = command("evaluate", scope / "mlp_out", "neurons", "--data", worded[1], *options)
    assert (mixed[0], "separate commands" in mixed[2]) == (2, True)
    steer = ("steer", WORDS[0], "--transcoders", "neurons", *options)
    for arguments, problem in {
        ("--add", "dictionary:L1#5=4"): "name that with --dictionary",
        ("--add", "L1#5=4", "--dictionary", scope / "mlp_out"): "--dictionary is used by no edit",
        ("--add", "dictionary:L1#error=4", "--dictionary", scope / "mlp_out"): "is not a feature",
        ("--add", "dictionary:L1#5 + L1#6=4", "--dictionary", scope / "mlp_out"): "cannot be joined",
        ("--add", "dictionary:L1#99=4", "--dictionary", scope / "mlp_out"): "32 features",
        ("--ablate", "dictionary:L1#9", "--dictionary", scope / "nothing"): "does not exist",
    }.items():
        status, _, error = command(*steer, *arguments)
        assert (status, problem in error) == (2, True), error
    status, _, error = command("trace", WORDS[0], "--model", worded[0], "--transcoders", scope / "crosscoder")
    assert status == 2
    assert "a crosscoder, not of MLPs, and cannot be traced" in error


HUB_SCRIPT = """
    import json, sys, time
    import cotrace, cotrace.model

    slept = []
    time.sleep = slept.append  # retries sleep between requests: count it instead of waiting
    model, ids, specs = json.loads(sys.stdin.read())
    loaded = cotrace.load(model, "neurons", device="cpu", dtype="float64")
    for name, spec in specs.items():
        try:
            dictionary = cotrace.load_dictionary(spec, loaded)
            found = [dictionary.files.revision, dictionary.describe()["sha256"], dictionary.activations(ids).to_pydict()]
        except ValueError as error:
            found = str(error)
        print("result", json.dumps([name, found]))
    try:
        cotrace.load(model, specs["sae"], device="cpu")
    except ValueError as error:
        print("result", json.dumps(["trace", str(error)]))
    print("result", json.dumps(["slept", sum(slept)]))
"""
HUB_REPO = "google/gemma-scope-2-tiny-pt"
HUB_SPECS = {
    "sae": f"{HUB_REPO}/attn_out/layer_1_width_65k_l0_medium",
    "set": f"{HUB_REPO}/resid_post_all/width_16k_l0_small@main",
    "crosscoder": f"{HUB_REPO}/crosscoder",
    "several": HUB_REPO,
    "gone": f"{HUB_REPO}/resid_post/layer_7_width_16k_l0_small",
    "late": f"{HUB_REPO}/late/resid_post",
}


@pytest.fixture(scope="module")
def from_hub(scope, model_folder, tmp_path_factory):
    """Return what a fresh process gets from a loopback Hub that serves the folder, and the files it downloaded."""
    home = tmp_path_factory.mktemp("home")
    write_sae(scope / "late", "resid_post", 9)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    with LoopbackHub({HUB_REPO: {"main": scope}}) as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_of_nobody"}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(HUB_SCRIPT)],
            input=json.dumps([str(model_folder), IDS, HUB_SPECS]),
            env={**kept, **settings},
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.partition(" ")[2] for line in done.stdout.splitlines() if line.startswith("result ")]
    return dict(json.loads(line) for line in lines), {path for _, path in hub.downloaded}


@pytest.mark.parametrize(
    ("name", "below"),
    {
        "sae": "attn_out/layer_1_width_65k_l0_medium",
        "set": "resid_post_all/width_16k_l0_small",
        "crosscoder": "crosscoder/layer_0_2_width_65k_l0_medium",
    }.items(),
)
def test_dictionaries_from_the_hub_are_those_of_local_files(name, below, from_hub, scope, model):
    revision, sha256, activations = from_hub[0][name]
    local = cotrace.load_dictionary(scope / below, model)
    assert (revision, sha256) == (commit_of(HUB_REPO, "main"), local.describe()["sha256"])
    assert activations == local.activations(IDS).to_pydict()


def test_the_hub_sends_what_is_needed_only(from_hub):
    results, downloaded = from_hub
    assert not [path for path in downloaded if "mlp_out" in path or "attn_out_all" in path]
    assert "late/resid_post/layer_9_width_16k_l0_small/config.json" in downloaded
    assert not [path for path in downloaded if path.startswith("late") and path.endswith("safetensors")]
    assert "reads layer 9 and the model has 3" in results["late"]
    assert "several dictionaries" in results["several"]
    assert "no SAEs and no crosscoder" in results["gone"]
    assert "an SAE of attn_out, not of MLPs, and cannot be traced" in results["trace"]
    assert results["slept"] < 5  # no retries that a user waits for
