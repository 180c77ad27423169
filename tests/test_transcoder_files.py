"""Transcoder files: every format is read alike, and every damage or mismatch is refused with a cure."""

import gc
import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tiny import SET, random_layers, save, without, write_layers
from tiny_checkpoints import edit, truncate

from cotrace.attribution.models.forward import ForwardPass
from cotrace.attribution.models.gemma3 import Gemma3
from cotrace.attribution.models.loading import load_weights
from cotrace.attribution.models.model_source import find_model
from cotrace.attribution.transcoders import load_transcoders
from cotrace.attribution.transcoders.export import write_layout
from cotrace.common.progress import Progress

QUIET = Progress(False)
LAYOUTS = ("scope-clt", "scope-per-layer", "ct-clt", "ct-per-layer")
SCOPE_CONFIG = {
    "hf_hook_point_in": "model.layers.{i}.pre_feedforward_layernorm.output",
    "hf_hook_point_out": "model.layers.{i}.post_feedforward_layernorm.output",
    "width": 24,
    "model_name": "google/gemma-3-tiny",
    "architecture": "jump_relu",
    "l0": 10,
    "affine_connection": True,
    "type": "transcoder",
}
TRACER_CONFIG = """
model_name: google/gemma-3-tiny
model_kind: transcoder_set
feature_input_hook: mlp.hook_in
feature_output_hook: hook_mlp_out
"""


@pytest.fixture(scope="module")
def weights(model_folder) -> Gemma3:
    return Gemma3(load_weights(find_model(model_folder), torch.float32, torch.device("cpu")), torch.float32)


@pytest.fixture(scope="module")
def passes(weights):
    with torch.no_grad():
        return list(ForwardPass(weights, weights.embed(torch.tensor(tiny.prompt()))))


def encode_all(transcoders, weights, passes):
    positions = torch.arange(1, len(tiny.prompt()))
    return [transcoders.encode(done, weights, positions) for done in passes]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dropped", [(), ("skip",), ("skip", "threshold")], ids=lambda names: "-".join(names) or "full")
def test_every_layout_is_read_with_the_right_orientation(layout, dropped, tmp_path, arch, weights, passes):
    if layout == "ct-clt":
        dropped = ("skip", *dropped)
    layers = without(random_layers(), *dropped)
    folder = write_layers(tmp_path, layout, layers)
    if "threshold" in dropped and layout.startswith("scope"):
        for path in {path.parent for path in folder.rglob("*.safetensors")}:
            (path / "config.json").write_text(json.dumps({**SCOPE_CONFIG, "architecture": "relu"}))
    transcoders = load_transcoders(folder, arch)
    assert transcoders.kind == ("clt" if "clt" in layout else "per-layer")
    like = torch.zeros(())
    for done, found, t in zip(passes, encode_all(transcoders, weights, passes), layers, strict=True):
        z = done.mlp_in_PD[1:] @ t["w_enc"] + t["b_enc"]
        position, feature = ((z > 0) & (z > t.get("threshold", torch.tensor(0.0)))).nonzero(as_tuple=True)
        assert 0 < len(feature) < z.numel()
        assert torch.equal(found.position_n, position + 1)
        assert torch.equal(found.feature_n, feature)
        activation = z[position, feature]
        assert torch.allclose(found.activation_n, activation, rtol=1e-5)
        assert torch.allclose(found.pre_activation_n, activation, rtol=1e-5)
        assert torch.equal(found.bias_n, t["b_enc"][feature])
        assert torch.equal(found.encoder_UD[found.row_n], t["w_enc"].T[feature])
        outputs = found.decoder_UJD.shape[1]
        assert outputs == (len(passes) - done.layer if "clt" in layout else 1)
        for j in range(outputs):
            assert torch.allclose(found.output_vectors(j), activation[:, None] * t["w_dec"][feature, j], rtol=1e-5)
        assert torch.equal(transcoders.output_bias(done.layer, like), t["b_dec"])
        skip = transcoders.skip(done.layer, like)
        assert (skip is None) if "skip" not in t else torch.equal(skip, t["skip"])


@pytest.mark.parametrize(("first", "second"), [("scope-clt", "ct-clt"), ("scope-per-layer", "ct-per-layer")])
def test_two_layouts_of_the_same_weights_give_the_same_graph(first, second, tmp_path, model_folder):
    import cotrace

    layers = without(random_layers(), "skip") if first == "scope-clt" else random_layers()
    folders = [write_layers(tmp_path / layout, layout, layers) for layout in (first, second)]
    graphs = [
        cotrace.load(model_folder, folder, dtype="float64", device="cpu").trace(tiny.prompt()) for folder in folders
    ]
    assert graphs[0].order.n_features > 10
    assert graphs[0].nodes["sources"].equals(graphs[1].nodes["sources"])
    assert np.allclose(
        graphs[0].csr.weights, graphs[1].csr.weights, rtol=0, atol=1e-12
    )  # encoders are stored transposed, which changes rounding
    for name in ("activation", "bias", "influence"):
        pair = (graph.column(name) for graph in graphs)
        assert np.allclose(*pair, rtol=0, atol=1e-12, equal_nan=True), name
    assert graphs[0].info["transcoders"]["sha256"] != graphs[1].info["transcoders"]["sha256"]


@pytest.mark.parametrize("layout", ["scope-per-layer", "ct-per-layer", "ct-clt"])
@pytest.mark.parametrize("key", ["architecture", "activation", "activation_function"])
def test_topk_by_config_keeps_the_k_largest_positive(layout, key, tmp_path, arch, weights, passes):
    layers = without(random_layers(), "threshold", "skip")
    folder = write_layers(tmp_path, layout, layers)
    for path in {path.parent for path in folder.rglob("*.safetensors")}:
        (path / "config.yaml").write_text(f"{key}: topk\nk: 3\n")
    for done, found, t in zip(passes, encode_all(load_transcoders(folder, arch), weights, passes), layers, strict=True):
        z = done.mlp_in_PD[1:] @ t["w_enc"] + t["b_enc"]
        kept = torch.zeros_like(z, dtype=torch.bool).scatter_(1, z.topk(3).indices, True) & (z > 0)
        assert torch.equal(torch.stack([found.position_n - 1, found.feature_n], 1), kept.nonzero())


def test_the_config_decides_between_topk_and_a_threshold_in_the_file(tmp_path, arch, weights, passes):
    folder = write_layers(tmp_path, "ct-per-layer", without(random_layers(), "skip"))
    (folder / "config.yaml").write_text("activation: topk\nk: 24\n")
    for done, found in zip(passes, encode_all(load_transcoders(folder, arch), weights, passes), strict=True):
        t = random_layers()[done.layer]
        assert len(found.feature_n) == int((done.mlp_in_PD[1:] @ t["w_enc"] + t["b_enc"] > 0).sum())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("activation: topk", ("TopK", "k=None")),
        ("activation: topk\nk: 0", ("TopK", "k=0")),
        ("activation: tanh", ("tanh", "JumpReLU")),
        ("feature_input_hook: hook_resid_mid", ("hook_resid_mid", "pre_feedforward_layernorm.output")),
        ("feature_input_hook: ln2.hook_normalized", ("ln2.hook_normalized", "pre_feedforward_layernorm.output")),
        ("feature_output_hook: hook_resid_post", ("hook_resid_post", "post_feedforward_layernorm.output")),
        ("a: [1", ("config.yaml", "not valid YAML")),
    ],
)
def test_unsupported_configs_are_refused(config, words, tmp_path, refused):
    folder = write_layers(tmp_path, "ct-per-layer", random_layers())
    (folder / "config.yaml").write_text(config)
    refused(folder, *words)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_configs_of_the_right_sites_are_accepted(layout, tmp_path, arch):
    folder = write_layers(tmp_path, layout, random_layers())
    for number, place in enumerate(sorted({path.parent for path in folder.rglob("*.safetensors")})):
        if layout.startswith("scope"):
            (place / "config.json").write_text(json.dumps(SCOPE_CONFIG).replace("{i}", str(number)))
        else:
            (place / "config.yaml").write_text(TRACER_CONFIG)
    assert load_transcoders(folder, arch).n_features == 24


@pytest.mark.parametrize("key", ["hf_hook_point_in", "hf_hook_point_out"])
def test_a_config_of_another_site_is_refused(key, tmp_path, refused):
    folder = write_layers(tmp_path, "scope-clt", random_layers())
    site = "model.layers.0.post_attention_layernorm.output"
    (folder / SET["scope-clt"] / "config.json").write_text(json.dumps({**SCOPE_CONFIG, key: site}))
    refused(folder, site, "pre_feedforward_layernorm.output")


def test_invalid_json_is_refused(tmp_path, refused):
    folder = write_layers(tmp_path, "scope-clt", random_layers())
    (folder / SET["scope-clt"] / "config.json").write_text("{")
    refused(folder, "config.json", "not valid JSON")


def test_layers_that_name_different_activations_are_refused(tmp_path, refused):
    folder = write_layers(tmp_path, "scope-per-layer", random_layers())
    for number, place in enumerate(sorted((folder / "transcoder_all").iterdir())):
        (place / "config.json").write_text(json.dumps({"architecture": "topk", "k": 2 + number}))
    refused(folder, "mixes activations")


def test_topk_saved_without_its_config_is_refused(tmp_path, refused):
    folder = write_layers(tmp_path, "ct-per-layer", without(random_layers(), "threshold"))
    edit(folder / "layer_1.safetensors", k=torch.tensor(3))
    refused(folder, "layer_1.safetensors", "TopK", "config.yaml")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_parent_folder_with_one_set_is_found(layout, tmp_path, arch):
    write_layers(tmp_path / "a", layout, random_layers())
    assert load_transcoders(tmp_path, arch).n_features == 24


def test_several_sets_are_listed_and_narrowed_by_name(tmp_path, arch, refused):
    for variant in ("", "_affine"):
        for layout in ("scope-clt", "scope-per-layer"):
            write_layers(tmp_path, layout, random_layers(), variant)
    names = [f"clt/width_24_l0_medium{v}" for v in ("", "_affine")]
    names += [f"transcoder_all/width_24_l0_small{v}" for v in ("", "_affine")]
    refused(tmp_path, "several sets", *names)
    for name in names:
        kind = "clt" if name.startswith("clt") else "per-layer"
        assert load_transcoders(tmp_path / name, arch).kind == kind
    chosen = load_transcoders(tmp_path / names[3], arch)
    assert all("_affine" in str(path) for paths in chosen._files for path in paths)
    refused(tmp_path / "transcoder_all" / "width_25_l0_small", "width_24_l0_small", "width_24_l0_small_affine")


def test_dictionaries_of_other_sites_do_not_hide_the_one_set(tmp_path, arch):
    write_layers(tmp_path, "scope-clt", random_layers())
    for layer in range(tiny.LAYERS):
        save({"w_enc": torch.zeros(1)}, tmp_path / f"resid_post_all/layer_{layer}_width_16k/params.safetensors")
    assert load_transcoders(tmp_path, arch).kind == "clt"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_layers_are_named(layout, tmp_path, refused):
    folder = write_layers(tmp_path, layout, random_layers())
    gone = next(path for path in sorted(folder.rglob("*1*.safetensors")) or sorted(folder.rglob("layer_1*/*")))
    gone.unlink()
    refused(folder, "lacks files", gone.name if gone.stem != "params" else gone.parent.name)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_more_layers_than_the_model_are_refused(layout, tmp_path, refused):
    folder = write_layers(tmp_path, layout, random_layers(layers=tiny.LAYERS + 1))
    refused(folder, "has 4 layers and the model has 3")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_width_names_both_shapes(layout, tmp_path, refused):
    wide = write_layers(tmp_path, layout, random_layers(width=22))
    shapes = ("(22, 24)", "(20, 24)") if layout.startswith("scope") else ("(24, 22)", "(24, 20)")
    refused(wide, *shapes, "3 layers, width 20", "choose transcoders made for it")


def test_a_decoder_of_another_number_of_layers_names_both_shapes(tmp_path, refused):
    folder = write_layers(tmp_path, "scope-clt", random_layers())
    edit(folder / SET["scope-clt"] / "params_layer_1.safetensors", w_dec=torch.zeros(24, 5, 20))
    refused(folder, "w_dec of params_layer_1", "(24, 5, 20)", "(24, 3, 20)")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_missing_tensor_is_named(layout, tmp_path, refused):
    folder = write_layers(tmp_path, layout, random_layers())
    path = sorted(folder.rglob("*.safetensors"))[-1]
    name = "b_enc_2" if layout == "ct-clt" else "b_enc"
    edit(path, **{name: None})
    refused(folder, f"has no tensor {name}")


def test_a_scope_file_without_threshold_is_refused_unless_the_config_says_relu(tmp_path, refused):
    folder = write_layers(tmp_path, "scope-clt", without(random_layers(), "threshold"))
    refused(folder, "has no tensor threshold")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("damage", ["truncated", "empty"])
def test_damaged_files_are_refused_by_name(layout, damage, tmp_path, refused):
    folder = write_layers(tmp_path, layout, random_layers())
    path = sorted(folder.rglob("*.safetensors"))[1]
    truncate(path, 0.9 if damage == "truncated" else 0)
    refused(folder, path.name, "truncated or not a safetensors file", "download it again")


@pytest.mark.parametrize("name", ["b_enc", "b_dec", "threshold", "affine_skip_connection"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_small_tensors_are_checked_when_loaded(name, value, tmp_path, refused):
    folder = write_layers(tmp_path, "scope-clt", random_layers())
    path = folder / SET["scope-clt"] / "params_layer_1.safetensors"
    size = (20, 20) if name == "affine_skip_connection" else 20 if name == "b_dec" else 24
    edit(path, **{name: torch.full(size if isinstance(size, tuple) else (size,), value)})
    refused(folder, "params_layer_1.safetensors", "NaN or infinite")


@pytest.mark.parametrize(("name", "shape"), [("w_enc", (20, 24)), ("w_dec", (24, 3, 20))])
def test_nan_in_large_tensors_stops_the_trace_and_names_the_file(name, shape, tmp_path, model_folder):
    import cotrace

    folder = write_layers(tmp_path, "scope-clt", random_layers())
    edit(folder / SET["scope-clt"] / "params_layer_1.safetensors", **{name: torch.full(shape, float("nan"))})
    model = cotrace.load(model_folder, folder, device="cpu")
    with pytest.raises(ValueError, match=r"params_layer_1\.safetensors"):
        model.trace(tiny.prompt())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_decoders_of_inactive_features_are_never_read(layout, tmp_path, model_folder, arch, weights, passes):
    """Decoders of inactive features that are NaN change nothing."""
    import cotrace

    layers = random_layers()
    clean = cotrace.load(model_folder, write_layers(tmp_path / "clean", layout, layers), device="cpu")
    expected = clean.trace(tiny.prompt())
    poisoned = 0
    for t, found in zip(layers, encode_all(clean.transcoders, weights, passes), strict=True):
        asleep = torch.ones(24, dtype=torch.bool)
        asleep[found.feature_n] = False
        t["w_dec"][asleep] = float("nan")
        poisoned += int(asleep.sum())
    assert poisoned > 0
    graph = cotrace.load(model_folder, write_layers(tmp_path / "bad", layout, layers), device="cpu").trace(
        tiny.prompt()
    )
    assert graph.nodes["weights"].equals(expected.nodes["weights"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_memory_mapped(layout, tmp_path, arch):
    """Tensors lie in pages that the operating system maps from the file, and are no copies."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not show a process's memory maps")
    transcoders = load_transcoders(write_layers(tmp_path, layout, random_layers()), arch)
    tensors = transcoders.tensors(1)
    for name in ("w_enc_DF", "w_dec_FJD"):
        path = _mapped_file(maps, getattr(tensors, name).data_ptr())
        assert path.startswith(str(tmp_path)), f"{name} lies in {path or 'anonymous memory'}"
    del tensors
    gc.collect()
    assert str(tmp_path) not in maps.read_text()  # one layer at a time: nothing stays open


def _mapped_file(maps: Path, address: int) -> str:
    for line in maps.read_text().splitlines():
        fields = line.split(maxsplit=5)
        first, last = (int(part, 16) for part in fields[0].split("-"))
        if first <= address < last:
            return fields[5] if len(fields) > 5 else ""
    return ""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bfloat16_files(layout, tmp_path, arch, weights, passes):
    layers = [{name: tensor.bfloat16() for name, tensor in t.items()} for t in random_layers()]
    exact = [{name: tensor.float() for name, tensor in t.items()} for t in layers]
    found, expected = (
        encode_all(load_transcoders(write_layers(tmp_path / name, layout, t), arch), weights, passes)
        for name, t in (("bf16", layers), ("f32", exact))
    )
    for a, b in zip(found, expected, strict=True):
        for name in ("position_n", "feature_n", "activation_n", "bias_n", "encoder_UD", "row_n"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert a.output_vectors(0).dtype == torch.float32
        assert torch.equal(a.output_vectors(0), b.output_vectors(0))


@pytest.mark.parametrize("site", ["resid_post", "mlp_out_all", "attn_out"])
def test_sae_folders_are_refused(site, tmp_path, refused):
    layers = write_layers(tmp_path / "source", "scope-per-layer", random_layers()) / "transcoder_all"
    layers.rename(tmp_path / site)
    refused(tmp_path / site, site.removesuffix("_all"), "not of MLPs")


def test_crosscoder_folders_are_refused(tmp_path, refused):
    write_layers(tmp_path, "scope-clt", random_layers())
    (tmp_path / "crosscoder").mkdir()
    (tmp_path / SET["scope-clt"]).rename(tmp_path / "crosscoder/layer_0_1_2_width_24")
    refused(tmp_path, "crosscoder", "not of MLPs")
    refused(tmp_path / "crosscoder/layer_0_1_2_width_24", "crosscoder", "not of MLPs")


def test_two_formats_in_one_folder_are_refused(tmp_path, refused):
    for layout in ("ct-clt", "ct-per-layer"):
        write_layers(tmp_path, layout, random_layers())
    refused(tmp_path, "circuit-tracer CLT", "circuit-tracer per layer", "its own folder")


@pytest.mark.parametrize("spec", ["missing", "a/../missing/clt"])
def test_a_path_that_does_not_exist(spec, tmp_path, refused):
    refused(tmp_path / spec, "does not exist")


def test_paths_without_transcoders_are_refused(tmp_path, refused):
    refused(tmp_path, "holds no transcoders", "params_layer_0.safetensors")
    save({"x": torch.zeros(1)}, tmp_path / "one.safetensors")
    refused(tmp_path, "holds no transcoders")
    refused(tmp_path / "one.safetensors", "is a file", "pass the folder")


@pytest.mark.parametrize(("spec", "k"), [("neurons", 32), ("neurons:4", 4)])
def test_neurons(spec, k, arch, weights, passes):
    transcoders = load_transcoders(spec, arch)
    found = transcoders.encode(passes[0], weights, torch.tensor([3, 5]))
    assert torch.bincount(found.position_n).tolist() == [0, 0, 0, min(k, 30), 0, min(k, 30)]


@pytest.mark.parametrize("spec", ["neurons:x", "neurons:0", "neurons:-1", "neurons:1.5"])
def test_bad_neuron_counts(spec, refused):
    refused(spec, spec)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("to", ["gemma-scope-2", "packed"])
def test_converted_files_have_the_same_function(layout, to, tmp_path, arch, weights, passes):
    source = load_transcoders(write_layers(tmp_path / "source", layout, random_layers()), arch)
    if to == "packed" and source.kind != "clt":
        with pytest.raises(ValueError, match="cannot be packed"):
            write_layout(source, arch.n_layers, tmp_path / "out", to, QUIET)
        assert [path.name for path in tmp_path.iterdir()] == ["source"]
        return
    write_layout(source, arch.n_layers, tmp_path / "out", to, QUIET)
    converted = load_transcoders(tmp_path / "out", arch)
    # Rounding: none to float32; of decoders half a unit of the fourth bit, of encoders of the eighth.
    of_decoder, of_encoder = (0.0, 0.0) if to == "gemma-scope-2" else (2.0**-4, 2.0**-8)
    assert converted.kind == source.kind
    for index in range(arch.n_layers):
        was, now = source.tensors(index), converted.tensors(index)
        scale_F = torch.ones(len(was.b_enc_F)) if of_encoder == 0 else was.b_enc_F / now.b_enc_F
        decoder_FJD = now.w_dec_FJD.float() / scale_F[:, None, None]
        allowed = of_decoder * was.w_dec_FJD.abs() + was.w_dec_FJD.abs().amax((1, 2), keepdim=True) * 2.0**-18
        assert ((decoder_FJD - was.w_dec_FJD).abs() <= allowed + 1e-6).all()
        torch.testing.assert_close(now.w_enc_DF.float() * scale_F, was.w_enc_DF, rtol=of_encoder + 1e-6, atol=0)
        if was.skip_DD is None:
            assert now.skip_DD is None
        else:
            torch.testing.assert_close(now.skip_DD.float(), was.skip_DD, rtol=of_encoder, atol=0)
        torch.testing.assert_close(now.threshold_F * scale_F, was.threshold_F, rtol=1e-6, atol=0)
        assert torch.equal(now.b_dec_D, was.b_dec_D)


def test_packed_files_are_traced_like_the_ones_they_came_from(tmp_path, arch, model_folder):
    import cotrace

    source = write_layers(tmp_path / "source", "scope-clt", random_layers())
    write_layout(load_transcoders(source, arch), arch.n_layers, tmp_path / "packed", "packed", QUIET)
    size = [
        sum(path.stat().st_size for path in folder.rglob("*.safetensors")) for folder in (source, tmp_path / "packed")
    ]
    assert size[1] < 0.4 * size[0]
    models = [cotrace.load(model_folder, folder, device="cpu") for folder in (source, tmp_path / "packed")]
    graphs = [model.trace(tiny.prompt()) for model in models]
    assert graphs[1].scores() == pytest.approx(graphs[0].scores(), abs=0.05)
    nodes = [
        set(zip(*(graph.nodes[name].to_pylist() for name in ("layer", "position", "feature")), strict=True))
        for graph in graphs
    ]
    assert len(nodes[0] & nodes[1]) > 0.95 * len(nodes[0] | nodes[1])


def test_conversion_keeps_what_the_config_says(tmp_path, arch):
    folder = write_layers(tmp_path / "source", "ct-per-layer", without(random_layers(), "threshold"))
    (folder / "config.yaml").write_text("activation: topk\nk: 3\n")
    source = load_transcoders(folder, arch)
    write_layout(source, arch.n_layers, tmp_path / "out", "gemma-scope-2", QUIET)
    assert load_transcoders(tmp_path / "out", arch).activation == source.activation


@pytest.mark.parametrize("to", ["gemma-scope-2", "packed"])
def test_relu_without_a_config_becomes_a_threshold_of_zero(to, tmp_path, arch):
    source = load_transcoders(write_layers(tmp_path / "source", "ct-clt", without(random_layers(), "threshold")), arch)
    write_layout(source, arch.n_layers, tmp_path / "out", to, QUIET)
    assert not load_transcoders(tmp_path / "out", arch).tensors(1).threshold_F.any()


def test_packed_files_can_be_packed_again_and_topk_cannot(tmp_path, arch):
    source = load_transcoders(write_layers(tmp_path / "source", "scope-clt", random_layers()), arch)
    for name in ("once", "twice"):
        write_layout(source, arch.n_layers, tmp_path / name, "packed", QUIET)
        source = load_transcoders(tmp_path / name, arch)
    once = load_transcoders(tmp_path / "once", arch)
    assert torch.equal(once.tensors(1).w_dec_FJD.float(), source.tensors(1).w_dec_FJD.float())
    topk = write_layers(tmp_path / "topk", "ct-clt", without(random_layers(), "threshold", "skip"))
    (topk / "config.yaml").write_text("activation: topk\nk: 3\n")
    with pytest.raises(ValueError, match="cannot be packed: only cross-layer transcoders without TopK"):
        write_layout(load_transcoders(topk, arch), arch.n_layers, tmp_path / "new", "packed", QUIET)


def test_conversion_refuses_before_it_writes(tmp_path, arch):
    source = load_transcoders(write_layers(tmp_path / "source", "scope-clt", random_layers()), arch)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    for out, layout, words in [("full", "packed", "exists already"), ("new", "gemma-scope", "invalid layout")]:
        with pytest.raises(ValueError, match=words):
            write_layout(source, arch.n_layers, tmp_path / out, layout, QUIET)
    damaged = random_layers()
    damaged[1]["w_dec"][3, 0, 0] = float("nan")
    bad = load_transcoders(write_layers(tmp_path / "bad", "scope-clt", damaged), arch)
    with pytest.raises(ValueError, match=r"layer 1 of .* NaN"):
        write_layout(bad, arch.n_layers, tmp_path / "new", "packed", QUIET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "full", "source"]
    assert (tmp_path / "full" / "mine.txt").read_text() == "kept"


def test_conversion_from_the_command_line(tmp_path, model_folder, arch):
    from helpers.cli import run

    source, model = write_layers(tmp_path / "source", "scope-clt", random_layers()), ["--model", model_folder]
    done = run("convert", source, "--to", "packed", "--out", tmp_path / "packed", *model)
    assert done.returncode == 0, done.stderr
    assert f"wrote {tmp_path / 'packed'}" in done.stdout
    assert load_transcoders(tmp_path / "packed", arch).kind == "clt"
    refused = run("convert", "neurons", "--out", tmp_path / "new", *model)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: neurons")
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "new").exists()
