"""Checkpoints that are not those of a plain Gemma 3 are refused in one line, with what they are and what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import save
from tiny_checkpoints import edit, edit_config, write_multimodal

import cotrace

PROJECTION = "model.layers.0.self_attn.q_proj"
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def copy(model_folder, tmp_path):
    """Return a private copy of the tiny model's folder."""
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def refuse(folder, *words):
    with pytest.raises(cotrace.CotraceError) as caught:
        cotrace.load(folder, "neurons:4", device="cpu", progress=False)
    message = str(caught.value)
    assert "\n" not in message
    assert not [word for word in words if word not in message], message


def replace(folder, *, without=(), **tensors):
    path = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if name not in without}
    path.unlink()
    save({**kept, **tensors}, path)


QUANTISED = {
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "bitsandbytes, old": {"load_in_8bit": True},
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "awq": {"quant_method": "awq", "bits": 4},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}},
    "torchao": {"quant_method": "torchao", "quant_type": "int4_weight_only"},
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic"},
    "of the future": {"quant_method": "unheard-of"},
}


@pytest.mark.parametrize("method", QUANTISED)
@pytest.mark.parametrize("multimodal", [False, True])
def test_configs_of_quantised_weights(method, multimodal, tmp_path, copy):
    folder = write_multimodal(tmp_path / "multimodal") if multimodal else copy
    config = json.loads((folder / "config.json").read_text())
    stated = {"quantization_config": QUANTISED[method]}
    edit_config(folder, **({"text_config": {**config["text_config"], **stated}} if multimodal else stated))
    refuse(folder, "quantised", method.partition(",")[0] if method != "of the future" else "unheard-of", "original")


def test_mlx_weights(copy):
    edit_config(copy, quantization={"group_size": 64, "bits": 4})
    refuse(copy, "quantised", "4 bits")


@pytest.mark.parametrize(
    ("suffix", "tensor"),
    [
        (".qweight", torch.ones(6, 3, dtype=torch.int32)),
        (".weight_packed", torch.ones(6, 3, dtype=torch.int32)),
        (".weight_scale", torch.ones(24)),
        (".weight_scale_inv", torch.ones(1, 1)),
        (".weight.absmax", torch.ones(4)),
        (".weight.quant_state.bitsandbytes__nf4", torch.ones(4, dtype=torch.uint8)),
        (".scales", torch.ones(4, 4)),
        (".SCB", torch.ones(4)),
        ("._weight_qdata", torch.ones(4, dtype=torch.int8)),
        (".weight", torch.ones(24, 20).to(torch.float8_e4m3fn)),
        (".weight", torch.ones(24, 20, dtype=torch.int8)),
    ],
)
def test_quantised_tensors_without_a_config(suffix, tensor, copy):
    replace(copy, **{PROJECTION + suffix: tensor})
    refuse(copy, "quantised", PROJECTION, "original")


@pytest.mark.parametrize(
    "name",
    [
        f"{PROJECTION}.lora_A.default.weight",
        f"{PROJECTION}.lora_B.weight",
        f"base_model.model.{PROJECTION}.lora_magnitude_vector.default.weight",
        f"{PROJECTION}.base_layer.weight",
        "model.embed_tokens.lora_embedding_A.default",
        f"{PROJECTION}.ia3_l.default",
        "lm_head.modules_to_save.default.weight",
    ],
)
def test_tensors_of_adapters_that_are_not_merged(name, copy):
    replace(copy, **{name: torch.ones(2, 20)})
    refuse(copy, "adapter", name, "merge_and_unload")


def test_unknown_tensors_are_named(copy):
    replace(copy, **{f"{PROJECTION}.bias": torch.ones(24), "model.layers.1.gate.weight": torch.ones(3)})
    refuse(copy, "2 tensors", f"{PROJECTION}.bias", "plain Gemma 3")


def test_names_with_a_prefix(copy):
    tensors = load_file(copy / "model.safetensors")
    replace(copy, without=tensors, **{f"_orig_mod.{name}": tensor for name, tensor in tensors.items()})
    refuse(copy, "_orig_mod.model", "plain Gemma 3")


def test_unused_tensors_of_other_parts_are_accepted(copy):
    vision = {"vision_tower.embeddings.weight": torch.ones(2), "multi_modal_projector.weight": torch.ones(2)}
    before = cotrace.load(copy, "neurons:4", device="cpu").logits([2, 7, 31])
    replace(copy, **vision)
    assert torch.equal(cotrace.load(copy, "neurons:4", device="cpu").logits([2, 7, 31]), before)


@pytest.mark.parametrize("shape", [(41, 20), (39, 20), (40, 21)])
def test_an_embedding_of_another_size(shape, copy):
    edit(copy / "model.safetensors", **{EMBEDDING: torch.ones(shape)})
    refuse(copy, "embedding", str(shape), "(40, 20)", "config.json")


def test_an_unembedding_that_the_config_denies(copy):
    embedding = load_file(copy / "model.safetensors")[EMBEDDING]
    replace(copy, **{"lm_head.weight": embedding.clone()})
    assert cotrace.load(copy, "neurons:4", device="cpu").architecture.tied_unembedding
    replace(copy, **{"lm_head.weight": embedding + 1})
    refuse(copy, "lm_head.weight", "tie_word_embeddings")


def test_an_unembedding_of_a_multimodal_checkpoint_that_the_config_denies(tmp_path):
    folder = write_multimodal(tmp_path)
    replace(folder, **{"language_model.lm_head.weight": torch.ones(40, 16)})
    refuse(folder, "lm_head.weight", "tie_word_embeddings")


OTHERS = {
    "pytorch_model.bin": ("pickled", "save_pretrained"),
    "pytorch_model-00001-of-00002.bin": ("pickled", "save_pretrained"),
    "consolidated.00.pth": ("torch.save", "safetensors"),
    "tf_model.h5": ("TensorFlow", "safetensors"),
    "flax_model.msgpack": ("Flax", "safetensors"),
    "weights.npz": ("MLX", "safetensors"),
    "gemma-3-4b-Q4_K_M.gguf": ("GGUF", "pass one of them"),
    "params_layer_0.safetensors": ("transcoders", "--transcoders"),
    "adapter_model.safetensors": ("an adapter, not a model", "merge_and_unload"),
}


@pytest.mark.parametrize("file", OTHERS)
@pytest.mark.parametrize("with_config", [True, False])
def test_folders_without_safetensors_say_what_they_hold(file, with_config, copy):
    (copy / "model.safetensors").unlink()
    (copy / file).write_bytes(b"not read")
    if not with_config:
        (copy / "config.json").unlink()
    refuse(copy, *OTHERS[file])


def test_adapters(copy, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "google/gemma-3-270m"}))
    save({f"base_model.model.{PROJECTION}.lora_A.weight": torch.ones(2, 20)}, adapter / "adapter_model.safetensors")
    refuse(adapter, "an adapter, not a model", "merge_and_unload")
    shutil.copytree(adapter, copy, dirs_exist_ok=True)
    refuse(copy, "an adapter (adapter_config.json) beside the model", "merge_and_unload")


def test_missing_shards_and_damaged_indices(copy):
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    refuse(copy, "no model.safetensors", "model-00001-of-00002.safetensors")
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {EMBEDDING: "model-00002-of-00002.safetensors"}}))
    refuse(copy, "model-00002-of-00002.safetensors missing")
    for damaged in ("{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'):
        index.write_text(damaged)
        refuse(copy, "model.safetensors.index.json", "cannot be read")


def test_the_librarys_report_is_not_printed(copy, capfd):
    replace(copy, **{f"{PROJECTION}.bias": torch.ones(24)})
    refuse(copy, "plain Gemma 3")
    assert "LOAD REPORT" not in "".join(capfd.readouterr())
