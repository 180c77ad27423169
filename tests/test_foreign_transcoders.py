"""Files of other tools that are passed as transcoders: lists of files are followed, others are named with what to do."""

import json

import pytest
import torch
import yaml
from tiny import LAYERS, random_layers, save, write_layers

from cotrace.attribution.transcoders import load_transcoders

HOOKS = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}


@pytest.fixture
def refused(refused):
    """Return a function that asserts what the shared one does, and that no file is called truncated."""

    def check(spec, *words: str) -> None:
        assert "truncated" not in refused(spec, *words)

    return check


def write_list(folder, items, **config):
    folder.mkdir(exist_ok=True)
    content = {"model_kind": "transcoder_set", **HOOKS, "transcoders": items, **config}
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


def listed_files(folder):
    return [f"../{folder.name}/transcoder_all/layer_{i}_width_24_l0_small/params.safetensors" for i in range(LAYERS)]


def test_listed_local_files_are_those_of_the_folder(tmp_path, arch):
    source = write_layers(tmp_path / "source", "scope-per-layer", random_layers())
    found = load_transcoders(write_list(tmp_path / "list", listed_files(source)), arch)
    expected = load_transcoders(source, arch)
    assert found.content_hash() == expected.content_hash()
    assert (found.kind, found.activation, found.n_features) == (expected.kind, expected.activation, expected.n_features)


def test_layers_of_several_variants_may_be_listed(tmp_path, arch):
    source = write_layers(tmp_path / "source", "scope-per-layer", random_layers())
    files = listed_files(source)
    folder = source / "transcoder_all/layer_1_width_24_l0_small"
    folder.rename(folder.with_name("layer_1_width_24_l0_big"))
    files[1] = files[1].replace("small", "big")
    assert load_transcoders(write_list(tmp_path / "list", files), arch).n_features == 24


def test_the_activation_of_the_list_is_used(tmp_path, arch):
    source = write_layers(tmp_path / "source", "scope-per-layer", random_layers())
    for folder in (source / "transcoder_all").iterdir():
        (folder / "config.json").write_text(json.dumps({"architecture": "jump_relu"}))
    files = listed_files(source)
    assert load_transcoders(write_list(tmp_path / "list", files), arch).activation.name == "jumprelu"
    stated = load_transcoders(write_list(tmp_path / "list", files, activation="topk", k=3), arch).activation
    assert stated == ("topk", 3)


def test_lists_that_cannot_be_followed(tmp_path, refused):
    files = listed_files(write_layers(tmp_path / "source", "scope-per-layer", random_layers()))
    remote = [f"hf://owner/name/{file.removeprefix('../source/')}" for file in files]
    refused(write_list(tmp_path / "a", remote), "config.yaml", "lists files of owner/name", "cannot reach the Hub")
    refused(write_list(tmp_path / "b", files[:2]), "lacks files", "layer_2")
    refused(write_list(tmp_path / "c", [*files, files[0]]), "for layer 3", "in order")
    refused(write_list(tmp_path / "d", files[::-1]), "for layer 0", "in order")
    refused(write_list(tmp_path / "e", [*files[:2], "../gone/layer_2_x/params.safetensors"]), "does not exist")
    refused(
        write_list(tmp_path / "f", ["hf://owner/name/layer_0/average_l0_76/params.npz"]),
        "params.npz",
        "not a transcoder file",
    )
    refused(write_list(tmp_path / "g", ["https://example.org/layer_0.safetensors"]), "expected hf://owner/name/path")
    refused(write_list(tmp_path / "h", {"0": files[0]}), "should list the file of each layer")
    refused(
        write_list(tmp_path / "i", files, feature_output_hook="hook_resid_post"), "hook_resid_post", "post_feedforward"
    )


FOLDERS = {  # a path in the folder: words of the message
    "layers.0.mlp/sae.safetensors": ("EleutherAI", "post_feedforward_layernorm.output", "cotrace train"),
    "blocks.0/sae_weights.safetensors": ("SAELens", "layer_{i}.safetensors"),
    "trainer_0/ae.pt": ("dictionary_learning", "layer_{i}.safetensors"),
    "layer_0/width_16k/average_l0_76/params.npz": ("first Gemma Scope", "Gemma 2"),
    "graph.pt": ("torch.save", "graph.pt"),
    "model.safetensors": ("a language model", "--model"),
    "model-00001-of-00002.safetensors": ("a language model", "--model"),
    "adapter_model.safetensors": ("an adapter", "merge"),
    "gemma.gguf": ("GGUF", "--model"),
    "the-sky.arrow": ("graphs of cotrace", "cotrace.open"),
}


@pytest.mark.parametrize("path", FOLDERS)
def test_files_of_other_tools_are_named(path, tmp_path, refused):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".safetensors":
        save({"encoder.weight": torch.zeros(2, 2)}, file)
    else:
        file.write_bytes(b"not read")
    refused(tmp_path, "holds no transcoders that can be traced", *FOLDERS[path])
    refused(file, *FOLDERS[path])


def test_graphs_in_json_are_named(tmp_path, refused):
    (tmp_path / "graph.json").write_text(json.dumps({"metadata": {}, "nodes": [], "links": []}))
    refused(tmp_path / "graph.json", "Neuronpedia", "not transcoders")
    refused(tmp_path, "graph.json", "Neuronpedia", "not transcoders")


CONTENTS = {
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "a zip archive": (b"PK\x03\x04" + bytes(99), "safetensors"),
    "a pickle": (b"\x80\x02" + bytes(99), "safetensors"),
    "a web page": (b"<!DOCTYPE html><html>", "download the file again"),
    "an Arrow file": (b"ARROW1" + bytes(99), "cotrace.open"),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_files_that_are_not_what_their_names_say(kind, tmp_path, refused):
    folder = write_layers(tmp_path, "ct-per-layer", random_layers())
    content, cure = CONTENTS[kind]
    (folder / "layer_1.safetensors").unlink()
    (folder / "layer_1.safetensors").write_bytes(content)
    refused(folder, "layer_1.safetensors", kind, cure)
