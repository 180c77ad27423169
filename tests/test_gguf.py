"""GGUF files: the converted model equals the library's model of the same metadata, or the file is refused by name."""

import numpy as np
import pytest
import torch
from helpers import gguf_files

import cotrace
from cotrace.attribution.models.model_source import find_model

IDS = [2, 7, 31, 7, *range(10, 22)]  # several windows long
SLIDING, FULL = "sliding_attention", "full_attention"


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("COTRACE_CACHE", str(tmp_path / "cache"))


def logits(path):
    return cotrace.load(path, "neurons:4", device="cpu").logits(IDS)


def assert_equal(path, reference):
    with torch.no_grad():
        expected = reference(torch.tensor([IDS])).logits[0]
    assert expected.std() > 0.1
    assert (logits(path) - expected).abs().max() <= 1e-5 * expected.abs().max()


def rotary(sliding_base=1e4, full_base=1e6, **full):
    return {
        "rope_parameters": {
            SLIDING: {"rope_type": "default", "rope_theta": sliding_base},
            FULL: {"rope_type": "default", "rope_theta": full_base, **full},
        }
    }


LINEAR = rotary(rope_type="linear", factor=8.0)
SCALED = {"rope__scaling__type": "linear", "rope__scaling__factor": 8.0}
CASES = {  # name: (changes of the metadata, changes of the library's config)
    "as it is": ({}, {}),
    "scaled": (SCALED, LINEAR),
    "scaled, without a type": ({"rope__scaling__factor": 8.0}, LINEAR),
    "scaled, old key": ({"rope__scale_linear": 8.0}, LINEAR),
    "scaling switched off": ({**SCALED, "rope__scaling__type": "none"}, {}),
    "factor 0": ({"rope__scaling__factor": 0.0}, {}),
    "notes of a scaling": (
        {**SCALED, "rope__scaling__original_context_length": 32, "rope__scaling__finetuned": True},
        LINEAR,
    ),
    "other bases": ({"rope__freq_base": 5e5, "rope__freq_base_swa": 2e4}, rotary(2e4, 5e5)),
    "sliding period": ({"attention__sliding_window_pattern": 3}, {"layer_types": [SLIDING, SLIDING, FULL] * 2}),
    "list of sliding layers": (
        {"attention__sliding_window_pattern": [True, False, True, True, False, True]},
        {"layer_types": [SLIDING, FULL, SLIDING, SLIDING, FULL, SLIDING]},
    ),
    "no sliding layers": ({"attention__sliding_window": 0}, {"layer_types": [FULL] * 6}),
    "another window": ({"attention__sliding_window": 2}, {"sliding_window": 2}),
    "another epsilon": ({"attention__layer_norm_rms_epsilon": 1e-2}, {"rms_norm_eps": 1e-2}),
    "values for each layer": ({"attention__head_count_kv": [2] * 6}, {}),
    "a stated scale": ({"attention__scale": 0.25}, {"query_pre_attn_scalar": 16}),
    "27B": ({"block_count": 62}, {"num_hidden_layers": 62, "query_pre_attn_scalar": 24 // 4}),
    "untied": ({}, {"tie_word_embeddings": False}),
    "harmless keys": ({"vocab_size": 40, "mm.tokens_per_image": 256, "attention__causal": True}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_converted_model_equals_the_metadata(case, tmp_path):
    stored, config = CASES[case]
    reference = gguf_files.model(**config)
    assert_equal(gguf_files.write(tmp_path / "tiny.gguf", reference, **stored), reference)


def test_defaults_of_missing_keys(tmp_path):
    """llama.cpp takes as many KV heads as heads, a rotary base of 10,000, and full attention without a window."""
    reference = gguf_files.model(num_key_value_heads=4, layer_types=[FULL] * 6, **rotary(full_base=1e4))
    absent = ("attention.head_count_kv", "attention.sliding_window", "rope.freq_base", "attention.value_length")
    assert_equal(gguf_files.write(tmp_path / "tiny.gguf", reference, without=absent), reference)


REFUSED = {
    "yarn": ({"rope__scaling__type": "yarn"}, "rope.scaling.type"),
    "negative factor": ({"rope__scaling__factor": -2.0}, "rope.scaling.factor"),
    "attention factor": ({"rope__scaling__attn_factor": 1.5}, "rope.scaling.attn_factor"),
    "softcapping": ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    "partial rotary": ({"rope__dimension_count": 128}, "rope.dimension_count"),
    "narrow values": ({"attention__value_length": 128}, "attention.value_length"),
    "bidirectional": ({"attention__causal": False}, "attention.causal"),
    "layers of several widths": ({"feed_forward_length": [20, 20, 20, 20, 20, 21]}, "feed_forward_length"),
    "other base of another converter": ({"rope__local__freq_base": 2e4}, "rope.local.freq_base"),
    "short list of layers": ({"attention__sliding_window_pattern": [True]}, "sliding_window_pattern"),
    "unknown key": ({"attention__temperature_length": 7}, "attention.temperature_length"),
    "scale without a rule": ({"attention__key_length": 128}, "attention scale"),
    "shapes": ({"feed_forward_length": 21}, "ffn_gate.weight"),
    "too few layers": ({"block_count": 5}, "blk.5."),
    "far too many layers": ({"block_count": 2**31}, "layers"),
    "a layer count that is text": ({"block_count": "six"}, "not that of a Gemma 3"),
    "no heads": ({"attention__head_count": 0}, "attention.head_count"),
    "too many layers": ({"block_count": 7}, "blk.6."),
    "wrong vocabulary": ({"vocab_size": 41}, "vocab_size"),
    "adapter": ({"general__type": "adapter"}, "'adapter'"),
    "one of several files": ({"split__count": 3}, "one part of 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_that_give_other_logits_are_refused_by_name(case, tmp_path):
    stored, name = REFUSED[case]
    path = gguf_files.write(tmp_path / "tiny.gguf", gguf_files.model(), **stored)
    with pytest.raises(cotrace.CotraceError) as caught:
        find_model(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key", ["block_count", "embedding_length", "attention.layer_norm_rms_epsilon", "context_length"]
)
def test_missing_keys_are_named(key, tmp_path):
    path = gguf_files.write(tmp_path / "tiny.gguf", gguf_files.model(), without=(key,))
    with pytest.raises(cotrace.CotraceError, match=key):
        find_model(path)


@pytest.mark.parametrize("name", ["token_embd.weight", "output_norm.weight", "blk.3.attn_q_norm.weight"])
def test_missing_tensors_are_named(name, tmp_path):
    path = gguf_files.write(tmp_path / "tiny.gguf", gguf_files.model(), without=(name,))
    with pytest.raises(cotrace.CotraceError, match=name):
        find_model(path)


def test_damaged_files_are_refused_cleanly(tmp_path):
    """Bytes of the header are changed at random; what opens anyway has the shapes that it states."""
    whole = gguf_files.write(tmp_path / "tiny.gguf", gguf_files.model()).read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for number in range(40):
        damaged = bytearray(whole)
        for position in random.integers(0, 3000, 1 + number % 8):
            damaged[position] = random.integers(256)
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(damaged)
        try:
            find_model(path)
        except cotrace.CotraceError:
            refused += 1
    assert refused > 20
