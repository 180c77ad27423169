"""Model checkpoints: sizes come from the config, logits equal the library's, damaged files are refused with a cure."""

import json
import os
import shutil
from pathlib import Path

import pytest
import tiny
import torch
import transformers
from helpers import processes
from safetensors.torch import load_file
from tiny_checkpoints import edit, edit_config, truncate, write_multimodal, write_tokenizer
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM

import cotrace
from cotrace.attribution.models import gguf
from cotrace.attribution.models.model_source import find_model

PROMPT = tiny.prompt(11)  # the window is 4


@pytest.fixture
def copy(model_folder, tmp_path):
    """Return a private copy of the tiny model's folder."""
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def load(folder, **options):
    return cotrace.load(folder, "neurons:4", device="cpu", **options)


def library_logits(folder, prompt=PROMPT):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return model(torch.tensor([prompt])).logits[0]


def assert_same_logits(folder, prompt=PROMPT):
    ours, theirs = load(folder).logits(prompt), library_logits(folder, prompt)
    assert theirs.std() > 0.1
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def refuse(folder, *words):
    with pytest.raises(ValueError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert not [word for word in words if word not in message], message


CONFIGS = {
    "as it is": {},
    "query_pre_attn_scalar": {"query_pre_attn_scalar": 17},
    "head_dim": {"head_dim": 10},
    "sliding window": {"sliding_window": 2},
    "window as long as the prompt": {"sliding_window": 11},
    "all full": {"layer_types": ["full_attention"] * 3},
    "one KV head": {"num_key_value_heads": 1},
    "activation": {"hidden_activation": "relu"},
    "epsilon": {"rms_norm_eps": 0.05},
    "untied": {"tie_word_embeddings": False},
    "rope": {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
        }
    },
}


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_logits_are_the_librarys(changes, tmp_path, model_folder):
    folder = tiny.write_model(tmp_path / "model", **changes)
    assert_same_logits(folder)
    if changes and "layer_types" not in changes and changes.get("sliding_window") != 11:
        assert not torch.allclose(load(folder).logits(PROMPT), load(model_folder).logits(PROMPT), atol=1e-3)


def test_old_style_rope_fields(copy):
    """Checkpoints of before transformers 5 write rope_theta, rope_local_base_freq and rope_scaling."""
    config = json.loads((copy / "config.json").read_text())
    del config["rope_parameters"]
    old = {"rope_theta": 5000.0, "rope_local_base_freq": 50.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    (copy / "config.json").write_text(json.dumps({**config, **old}))
    assert_same_logits(copy)


def test_untied_unembedding_is_its_own_matrix(tmp_path):
    folder = tiny.write_model(tmp_path, tie_word_embeddings=False)
    assert not load(folder).architecture.tied_unembedding
    tensors = load_file(folder / "model.safetensors")
    ids = torch.tensor([3, 5])
    assert torch.equal(load(folder).weights.unembedding(ids), tensors["lm_head.weight"][ids])


def test_a_multimodal_checkpoint_gives_its_language_model(tmp_path):
    """The language part, saved as a separate text model, gives the same logits."""
    folder = write_multimodal(tmp_path / "multimodal")
    assert_same_logits(folder)
    whole = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    text = Gemma3ForCausalLM(whole.config.text_config)
    text.model.load_state_dict(whole.model.language_model.state_dict())
    text.save_pretrained(tmp_path / "text")
    assert torch.equal(load(folder).logits(PROMPT), load(tmp_path / "text").logits(PROMPT))
    assert not any("vision" in name for name, _ in load(folder).weights._text.named_parameters())
    assert load(folder).trace(PROMPT).n_edges == load(tmp_path / "text").trace(PROMPT).n_edges > 0


def test_sharded_weights(model_folder, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(load(tmp_path).logits(PROMPT), load(model_folder).logits(PROMPT))
    next(tmp_path.glob("*-00002-*")).unlink()
    refuse(tmp_path, "cannot load the weights")


def test_bfloat16_storage(copy, model_folder):
    edit_config(copy, dtype="bfloat16")
    path = copy / "model.safetensors"
    edit(path, **{name: tensor.bfloat16() for name, tensor in load_file(path).items()})
    rounded = load(copy).logits(PROMPT)
    assert rounded.dtype == torch.float32
    assert torch.equal(load(model_folder, dtype="bfloat16").logits(PROMPT), rounded)
    assert not torch.equal(load(model_folder).logits(PROMPT), rounded)
    assert_same_logits(copy)


@pytest.mark.parametrize(
    "config",
    [
        transformers.LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
        transformers.Gemma2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2),
    ],
    ids=["llama", "gemma2"],
)
def test_other_families_are_refused(config, tmp_path):
    config.save_pretrained(tmp_path)
    refuse(tmp_path, repr(config.model_type), "Gemma 3 only")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("final_logit_softcapping", 30.0),
        ("attn_logit_softcapping", 50.0),
        ("attention_bias", True),
        ("use_bidirectional_attention", True),
    ],
)
def test_unsupported_config_switches_are_refused(name, value, copy):
    edit_config(copy, **{name: value})
    refuse(copy, f"{name}={value}", "unmodified Gemma 3")


@pytest.mark.parametrize("value", [0, -1])
def test_an_attention_scale_that_is_no_number_is_refused(value, copy):
    edit_config(copy, query_pre_attn_scalar=value)
    refuse(copy, f"query_pre_attn_scalar={value}", "positive")


def test_multimodal_softcapping_is_refused_too(tmp_path):
    folder = write_multimodal(tmp_path)
    text = json.loads((folder / "config.json").read_text())["text_config"]
    edit_config(folder, text_config={**text, "final_logit_softcapping": 30.0})
    refuse(folder, "final_logit_softcapping=30.0")


@pytest.mark.parametrize("content", [None, "{", "{}", '{"model_type": "unheard-of"}', '{"model_type": 3}'])
def test_folders_without_a_readable_config(content, copy):
    (copy / "config.json").unlink()
    if content is not None:
        (copy / "config.json").write_text(content)
    refuse(copy, "config.json", "Gemma 3")


def test_config_with_a_field_of_the_wrong_type(copy):
    edit_config(copy, hidden_size="wide")
    refuse(copy, "config.json")


@pytest.mark.parametrize("dtype", [7, "float33", "nn", [1]])
def test_a_dtype_that_is_none_is_refused(dtype, copy):
    edit_config(copy, dtype=dtype, torch_dtype=dtype)
    refuse(copy, "config.json")


def test_sizes_beyond_any_memory_are_refused(copy):
    edit_config(copy, vocab_size=2**40)
    refuse(copy, "config.json")


def test_a_config_never_runs_code(copy):
    edit_config(copy, model_type="mine", auto_map={"AutoConfig": "mine.Config"})
    (copy / "mine.py").write_text("raise SystemExit('ran')")
    refuse(copy, "config.json")


def test_damaged_weights_are_refused(copy):
    truncate(copy / "model.safetensors")
    refuse(copy, "cannot load the weights", "download it again")
    (copy / "model.safetensors").unlink()
    refuse(copy, "cannot load the weights", "download them again")


def test_missing_weights_are_not_filled_with_random_numbers(copy):
    edit(copy / "model.safetensors", **{"model.layers.1.mlp.up_proj.weight": None})
    refuse(copy, "lack", "model.layers.1.mlp.up_proj.weight")


def test_weights_of_another_shape_are_refused(copy):
    edit_config(copy, intermediate_size=31)
    refuse(copy, "model.layers.0.mlp.down_proj.weight", "has shape [20, 30]", "config.json says [20, 31]")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight"])
def test_weights_with_nan_are_refused(name, value, copy):
    weight = load_file(copy / "model.safetensors")[name].clone()
    weight[3, 3] = value
    edit(copy / "model.safetensors", **{name: weight})
    refuse(copy, name.removeprefix("model."), "NaN or infinite")


def test_without_a_tokenizer_ids_work_and_texts_say_so(model_folder):
    model = load(model_folder)
    assert model.trace(PROMPT).info["tokens"][0] == "<2>"
    with pytest.raises(ValueError, match="no tokenizer"):
        model.trace("The opposite")
    with pytest.raises(ValueError, match="no tokenizer"):
        model.trace(PROMPT, targets=[" cold"])


def test_a_damaged_tokenizer_is_refused(copy):
    write_tokenizer(copy)
    (copy / "tokenizer.json").write_text("{")
    refuse(copy, "the tokenizer of", "cannot be read")


@pytest.mark.parametrize("path", ["missing", "missing.gguf", "a/b/c"])
def test_paths_that_do_not_exist(path, tmp_path):
    with pytest.raises(ValueError, match="existing"):
        find_model(tmp_path / path)


@pytest.mark.parametrize("text", ["./missing/model", "../missing", "~/missing", "missing"])
def test_relative_paths_are_not_taken_for_hub_names(text):
    with pytest.raises(ValueError, match="neither an existing file or folder nor a Hub id"):
        find_model(text)


def test_one_file_is_not_a_model(model_folder):
    with pytest.raises(ValueError, match="is one file; pass the folder"):
        find_model(model_folder / "model.safetensors")


def write_gguf(path: Path, architecture: str) -> Path:
    library = pytest.importorskip("gguf")
    writer = library.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_tensor("token_embd.weight", torch.ones(4, 8).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_gguf_files_that_cannot_be_traced(tmp_path):
    whole = write_gguf(tmp_path / "llama.gguf", "llama")
    refuse(whole, "'llama'", "Gemma 3 only")
    (tmp_path / "text.gguf").write_text("not one")
    refuse(tmp_path / "text.gguf", "truncated or not a GGUF file")
    for share in (0.05, 0.5, 0.95):
        (tmp_path / "half.gguf").write_bytes(whole.read_bytes())
        truncate(tmp_path / "half.gguf", share)
        refuse(tmp_path / "half.gguf", "truncated or not a GGUF file", "download it again")


@pytest.fixture
def conversion(monkeypatch, tmp_path, model_folder):
    """Replace the slow step of the conversion by a copy of the tiny model; return the list of its calls."""
    monkeypatch.setenv("COTRACE_CACHE", str(tmp_path / "cache"))
    calls = []

    def convert(path, folder):
        calls.append(path)
        shutil.copytree(model_folder, folder)

    monkeypatch.setattr(gguf, "_convert_gguf", convert)
    return calls


def write_file(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "tiny.gguf").write_bytes(b"GGUF")
    return folder / "tiny.gguf"


def left_over(folder: Path) -> list[str]:
    """Return the names in the cache, without the locks of conversions, which stay."""
    return [path.name for path in (folder / "cache" / "models").iterdir() if path.suffix != ".lock"]


def test_conversion_happens_once_and_leaves_the_users_file(conversion, tmp_path):
    path = write_file(tmp_path / "cotrace-models")
    first, second = find_model(path), find_model(path)
    assert first.folder == second.folder
    assert conversion == [path]
    assert "Gemma Terms of Use" in (first.folder / "NOTICE").read_text()
    assert len(left_over(tmp_path)) == 1
    assert path.is_file()
    os.utime(path, (1, 1))  # another file under the same name
    assert find_model(path).folder != first.folder


def test_a_failed_conversion_leaves_no_files(conversion, tmp_path, monkeypatch):
    path = write_file(tmp_path / "models")
    whole = gguf._convert_gguf

    def fail(path, folder):
        whole(path, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf, "_convert_gguf", fail)
    with pytest.raises(KeyboardInterrupt):
        find_model(path)
    assert left_over(tmp_path) == []
    monkeypatch.setattr(gguf, "_convert_gguf", whole)
    assert (find_model(path).folder / "config.json").is_file()


def test_a_full_disk_names_the_cure(conversion, tmp_path, monkeypatch):
    def fail(path, folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf, "_convert_gguf", fail)
    with pytest.raises(ValueError, match=r"No space left.*COTRACE_CACHE"):
        find_model(write_file(tmp_path / "models"))


def test_a_folder_left_without_its_notice_is_converted_again(conversion, tmp_path):
    path = write_file(tmp_path / "models")
    folder = find_model(path).folder
    (folder / "NOTICE").unlink()
    (folder / "config.json").unlink()
    assert (find_model(path).folder / "config.json").is_file()
    assert len(conversion) == 2


def die_in_a_conversion(path):
    def die(path, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        os._exit(9)

    gguf._convert_gguf = die
    find_model(path)


def test_a_killed_conversion_leaves_no_usable_folder(conversion, tmp_path):
    """The process dies after the weights are written: the next call converts again."""
    path = write_file(tmp_path / "models")
    assert processes.run(die_in_a_conversion, path).returncode == 9
    assert all(name.startswith(".unfinished-") for name in left_over(tmp_path))
    assert load(path).logits(PROMPT).isfinite().all()
    assert len(conversion) == 1
