"""Feature stores of SAEs and crosscoders: counts, examples and output tokens, against plain float64 mathematics."""

import numpy as np
import pytest
import tiny
import torch
from helpers.dictionaries import FEATURES, encoded, read_layer, write_crosscoder, write_sae
from tiny_checkpoints import WORDS, write_tokenizer

import cotrace
from cotrace.attribution.models.forward import ForwardPass
from cotrace.common.progress import Progress
from cotrace.feature_building import build_features
from cotrace.features.build.config import BuildConfig
from cotrace.features.build.sequences import read_text

CONTEXT, TOKENS = 8, 70
LAYERS = {"resid_post": (1,), "mlp_out": (0, 1, 2), "attn_out": (1,), "crosscoder": (0, 2)}


@pytest.fixture(scope="module")
def worded(tmp_path_factory):
    """Return a tiny model with a tokenizer, and text that it has words for."""
    root = tmp_path_factory.mktemp("worded")
    rng = np.random.default_rng(3)
    (root / "text.txt").write_text(" ".join(rng.choice(WORDS, 400)))
    return write_tokenizer(tiny.write_model(root / "model")), root / "text.txt"


@pytest.fixture(scope="module")
def model(worded):
    return cotrace.load(worded[0], "neurons", dtype="float64", device="cpu")


@pytest.fixture(scope="module")
def stores(worded, tmp_path_factory):
    """Return a function from a site, or "crosscoder", to its store and the files it was built from, by layer."""
    root, built = tmp_path_factory.mktemp("stores"), {}

    def store_of(site: str):
        if site not in built:
            if site == "crosscoder":
                folder = write_crosscoder(root / site)
                files = [folder / f"params_layer_{index}.safetensors" for index in range(2)]
                spec = folder
            else:
                files = [write_sae(root, site, layer) / "params.safetensors" for layer in LAYERS[site]]
                spec = root / site
            out = root / f"{site}-store"
            settings = {
                "tokens": TOKENS,
                "context": CONTEXT,
                "chat_share": 0.0,
                "dtype": "float64",
                "device": "cpu",
                "progress": False,
            }
            build_features(out, [str(worded[1])], model=worded[0], transcoders=spec, **settings)
            tensors = dict(zip(LAYERS[site], map(read_layer, files), strict=True))
            built[site] = cotrace.FeatureStore.open(out), tensors
        return built[site]

    return store_of


@pytest.fixture(scope="module")
def sequences(worded, model, tmp_path_factory):
    """Return the sequences that every build reads."""
    config = BuildConfig((str(worded[1]),), TOKENS, CONTEXT, chat_share=0.0)
    return read_text(config, model.language_model, Progress(False), tmp_path_factory.mktemp("samples")).ids_SP


def values_at(model, site: str, layer: int, ids: list[int]) -> torch.Tensor:
    """Return the values (P, X) of a site, from the model's operations one by one."""
    weights, heads = model.weights, {}

    def keep(number, mixed_PE):
        heads[number] = mixed_PE
        return mixed_PE

    forward_pass = ForwardPass(weights, weights.embed(torch.tensor(ids)), heads_edit=keep)
    for cache in forward_pass:
        if cache.layer == layer:
            return {"mlp_out": cache.mlp_out_PD, "attn_out": heads[layer]}.get(site, forward_pass.resid_PD)
    raise AssertionError(layer)


@pytest.mark.parametrize("site", LAYERS)
def test_counts_and_maxima_are_exact_and_examples_are_encodings(site, stores, model, sequences):
    store, files = stores(site)
    kind = "crosscoder" if site == "crosscoder" else "sae"
    assert store.info["dictionary"]["kind"] == kind
    assert store.info["dictionary"]["site"] == ("resid_post" if kind == "crosscoder" else site)
    assert store.widths == dict.fromkeys(LAYERS[site], FEATURES)
    for layer, tensors in files.items():
        active_SPF = torch.stack(
            [encoded(tensors, values_at(model, site, layer, ids))[0] for ids in sequences.tolist()]
        )
        active_NF = active_SPF[torch.from_numpy(sequences != model.tokenizer.bos_id)]
        table = store.features(layer)
        assert table["count"].to_pylist() == (active_NF > 0).sum(0).tolist()
        assert sum(table["count"].to_pylist()) > 100
        assert table["max"].to_numpy() == pytest.approx(active_NF.max(0).values.numpy(), rel=1e-5, abs=1e-5)
        examples = store.examples(layer).to_pylist()
        assert examples
        for row in examples:
            expected = active_SPF[row["sequence"], row["position"], row["feature"]].item()
            assert row["activation"] == pytest.approx(expected, rel=1e-5, abs=1e-5)  # float32
            assert sequences[row["sequence"], row["position"]] != model.tokenizer.bos_id


@pytest.mark.parametrize("site", LAYERS)
def test_output_tokens_are_those_of_the_decoder_in_the_residual_stream(site, stores, model):
    store, files = stores(site)
    layer = LAYERS[site][0]
    w = model.weights.layer(layer)
    decoder_FD = files[layer]["w_dec"]
    if site == "crosscoder":
        decoder_FD = decoder_FD.sum(1)
    if site == "attn_out":
        decoder_FD = decoder_FD @ w.w_o.T * w.norm_attn_out_D
    vocabulary = torch.arange(model.architecture.vocab_size)
    logits_FV = (decoder_FD * model.weights.final_norm_D) @ (
        model.weights.unembedding(vocabulary) - model.weights.mean_unembedding_D
    ).T
    for feature, written in enumerate(store.features(layer)["written"].to_pylist()):
        together = next(part for part in written if part["layer"] == -1)
        ranked = logits_FV[feature].argsort(descending=True)
        assert together["top"][0]["token"] == ranked[0]
        assert together["bottom"][0]["token"] == ranked[-1]
        others = [part["layer"] for part in written if part["layer"] != -1]
        assert others == ([0, 2] if site == "crosscoder" else [])  # one layer is its own sum


def test_a_card_of_an_sae(stores):
    store, _ = stores("attn_out")
    card = store["L1#5"]
    assert "L1#5" in str(card)
    assert "<" in card._repr_html_()
    assert str(card.feature) == "L1#5"
