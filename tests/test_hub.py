"""The Hugging Face Hub, through its real client, with a server on 127.0.0.1 in place of the Hub.

The client reads its settings when it is imported, so every situation runs in a separate process that
tries several things one after another.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny
import transformers
from loopback_hub import LoopbackHub, commit_of
from tiny import random_layers, without, write_layers
from tiny_checkpoints import write_tokenizer

import cotrace

SCOPE, MODEL = "google/gemma-scope-2-tiny", "google/gemma-3-tiny"
CLT, PER_LAYER = "clt/width_24_l0_medium", "transcoder_all/width_24_l0_small"
SCRIPT = """
    import json, sys, time
    import cotrace
    import cotrace.attribution

    slept = []
    time.sleep = slept.append  # retries sleep between requests: count it instead of waiting

    folder, ids, jobs = json.loads(sys.stdin.read())
    for name, (model, transcoders) in jobs.items():
        slept.clear()
        problem = None
        try:
            cotrace.load(model, transcoders, device="cpu").trace(ids).save(f"{folder}/{name}.arrow")
        except ValueError as error:
            problem = str(error)
        print("result", json.dumps([name, problem, sum(slept)]))
"""


def attempt(folder: Path, url: str, home: Path, jobs: dict[str, tuple[str, str]], **environment: str):
    """Load and trace each (model, transcoders) in one process; return {name: (problem or None, seconds of sleep)}."""
    folder.mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_of_nobody"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        input=json.dumps([str(folder), tiny.prompt(), jobs]),
        env={**inherited, **settings, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line.partition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("result ")]
    return {name: (problem, slept_seconds) for name, problem, slept_seconds in found}


@pytest.fixture(scope="module")
def places(model_folder, tmp_path_factory):
    """Return the folders that the Hub serves."""
    root = tmp_path_factory.mktemp("hub")
    scope = write_layers(root / "scope", "scope-clt", without(random_layers(1), "skip"))
    write_layers(scope, "scope-per-layer", random_layers(2))
    write_layers(scope, "scope-per-layer", random_layers(3), "_affine")
    write_layers(root / "sae", "scope-per-layer", random_layers(4))
    (root / "sae/transcoder_all").rename(scope / "resid_post_all")
    (scope / "README.md").write_text("tiny")
    for layer in range(tiny.LAYERS):
        place = scope / f"transcoder_all/layer_{layer}_width_24_l0_small/config.json"
        hook = f"model.layers.{layer}.pre_feedforward_layernorm.output"
        place.write_text(json.dumps({"hf_hook_point_in": hook, "architecture": "jump_relu"}))
    old = write_layers(root / "old", "scope-clt", without(random_layers(5), "skip"), "_old")
    elsewhere = write_layers(root / "elsewhere", "ct-per-layer", random_layers(6))
    (elsewhere / "config.yaml").write_text("feature_input_hook: hook_resid_mid\n")
    for name, path in (
        ("set", f"{SCOPE}/transcoder_all/layer_{{}}_width_24_l0_small"),
        ("gone", f"{SCOPE}/gone/layer_{{}}_x"),
    ):
        listed = [f"hf://{path.format(layer)}/params.safetensors" for layer in range(tiny.LAYERS)]
        (root / "pointers" / name).mkdir(parents=True)
        (root / "pointers" / name / "config.yaml").write_text(json.dumps({"transcoders": listed}))
    short = write_layers(root / "short", "ct-clt", random_layers(7, layers=2))
    model = write_tokenizer(shutil.copytree(model_folder, root / "model"))
    nested = tiny.write_model(model / "nested/model", sliding_window=3, tie_word_embeddings=False)
    (model / "onnx").mkdir()
    for name in ("pytorch_model.bin", "onnx/model.safetensors"):
        (model / name).write_bytes(b"never needed")
    llama = shutil.copytree(model_folder, root / "llama")
    transformers.LlamaConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2).save_pretrained(llama)
    for name, files in (("pickled", ("pytorch_model.bin", "README.md")), ("adapter", ("adapter_config.json",))):
        (root / name).mkdir()
        for file in files:
            (root / name / file).write_bytes(b"never needed")
    folders = {
        "pickled": root / "pickled",
        "adapter": root / "adapter",
        "scope": scope,
        "old": old,
        "elsewhere": elsewhere,
        "short": short,
        "pointers": root / "pointers",
        "model": model,
        "nested model": nested,
        "llama": llama,
    }
    return {**folders, "local model": model_folder}


@pytest.fixture(scope="module")
def hub(places):
    repos = {
        SCOPE: {"main": places["scope"], "refs/pr/1": places["old"], "v0": places["old"]},
        MODEL: {"main": places["model"]},
        "google/elsewhere": {"main": places["elsewhere"]},
        "google/short": {"main": places["short"]},
        "someone/pickled": {"main": places["pickled"]},
        "someone/adapter": {"main": places["adapter"]},
        "someone/pointers": {"main": places["pointers"]},
        "google/llama": {"main": places["llama"]},
        "google/gated": {"main": places["model"]},
        "google/gated-scope": {"main": places["scope"]},
    }
    with LoopbackHub(repos, gated=("google/gated", "google/gated-scope"), failing=("google/failing",)) as served:
        yield served


@pytest.fixture(scope="module")
def jobs(places):
    model = str(places["local model"])
    return {
        "clt": (model, f"{SCOPE}/{CLT}@main"),
        "clt without revision": (model, f"{SCOPE}/{CLT}"),
        "parent folder": (model, f"{SCOPE}/clt@main"),
        "revision": (model, f"{SCOPE}/{CLT}_old@v0"),
        "per-layer": (model, f"{SCOPE}/{PER_LAYER}"),
        "model": (MODEL, "neurons:4"),
        "nested model": (f"{MODEL}/nested/model@main", "neurons:4"),
        "several": (model, SCOPE),
        "no such folder": (model, f"{SCOPE}/clt/width_25"),
        "sae": (model, f"{SCOPE}/resid_post_all"),
        "other site": (model, "google/elsewhere"),
        "too few layers": (model, "google/short"),
        "llama": ("google/llama", "neurons"),
        "unknown model": ("google/unknown", "neurons"),
        "unknown transcoders": (model, "google/unknown/clt"),
        "unknown revision": (model, f"{SCOPE}/{CLT}@nowhere"),
        "unknown model revision": (f"{MODEL}@nowhere", "neurons"),
        "gated model": ("google/gated", "neurons"),
        "gated transcoders": (model, f"google/gated-scope/{CLT}"),
        "failing": (model, "google/failing/clt"),
        "listed": (model, "someone/pointers/set"),
        "listed in a folder": (model, str(places["pointers"] / "set")),
        "listed and gone": (model, "someone/pointers/gone"),
        "pickled": ("someone/pickled", "neurons"),
        "adapter": ("someone/adapter", "neurons"),
        "model as transcoders": (model, MODEL),
        "bad name": (model, "google/has spaces/clt"),
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def online(hub, home, jobs, tmp_path_factory):
    """Return the results with the Hub running; downloads stay in `home`."""
    folder = tmp_path_factory.mktemp("online") / "graphs"
    return folder, attempt(folder, hub.url, home, jobs)


@pytest.fixture(scope="module")
def unreachable(online, hub, home, jobs, tmp_path_factory):
    """Return the results without the Hub: switched off by a setting, and with no server at its address."""
    root = tmp_path_factory.mktemp("unreachable")
    chosen = {name: jobs[name] for name in ("clt", "per-layer", "model", "unknown model", "unknown transcoders")}
    with LoopbackHub({}) as nobody:
        pass
    situations = {"offline": (hub.url, {"HF_HUB_OFFLINE": "1"}), "down": (nobody.url, {})}
    with ThreadPoolExecutor() as pool:
        running = {
            how: pool.submit(attempt, root / how, url, home, chosen, **environment)
            for how, (url, environment) in situations.items()
        }
        return {how: (root / how, attempted.result()) for how, attempted in running.items()}


def assert_same_graph(path: Path, model, transcoders, info: dict[tuple[str, str], str]) -> None:
    found = cotrace.open(path)
    expected = cotrace.load(model, transcoders, device="cpu").trace(tiny.prompt())
    assert expected.n_edges > 0
    for name in ("sources", "weights", "activation", "influence"):
        assert found.nodes[name].equals(expected.nodes[name]), name
    for what in ("model", "transcoders"):
        assert found.info[what]["sha256"] == expected.info[what]["sha256"]
    assert {(what, key): found.info[what][key] for what, key in info} == info


@pytest.mark.parametrize(
    ("name", "place", "below", "revision"),
    [
        ("clt", "scope", CLT, "main"),
        ("clt without revision", "scope", CLT, "main"),
        ("parent folder", "scope", CLT, "main"),
        ("revision", "old", f"{CLT}_old", "v0"),
        ("per-layer", "scope", PER_LAYER, "main"),
        ("listed", "scope", PER_LAYER, "main"),
        ("listed in a folder", "scope", PER_LAYER, "main"),
    ],
)
def test_transcoders_from_the_hub_trace_like_local_ones(name, place, below, revision, online, places):
    folder, results = online
    assert results[name][0] is None
    recorded = {("transcoders", "revision"): commit_of(SCOPE, revision)}
    assert_same_graph(folder / f"{name}.arrow", places["local model"], places[place] / below, info=recorded)


@pytest.mark.parametrize("name", ["model", "nested model"])
def test_a_model_from_the_hub_traces_like_a_local_one(name, online, places):
    folder, results = online
    assert results[name][0] is None
    recorded = {("model", "revision"): commit_of(MODEL, "main")}
    assert_same_graph(folder / f"{name}.arrow", places[name], "neurons:4", info=recorded)


def test_only_needed_files_are_downloaded(online, hub):
    sent = {repo: sorted({path for name, path in hub.downloaded if name == repo}) for repo in hub.repos}
    layers = range(tiny.LAYERS)
    clt = [f"{CLT}/params_layer_{layer}.safetensors" for layer in layers]
    folders = [f"transcoder_all/layer_{layer}_width_24_l0_small" for layer in layers]
    per_layer = [f"{folder}/{name}" for folder in folders for name in ("config.json", "params.safetensors")]
    old = [path.replace("medium", "medium_old") for path in clt]
    assert sent[SCOPE] == [*clt, *old, *per_layer]
    assert sent["google/elsewhere"] == ["config.yaml"]
    assert sent["google/short"] == []
    assert sent["google/llama"] == ["config.json"]
    assert sent["someone/pickled"] == sent["someone/adapter"] == []
    assert sent["someone/pointers"] == ["gone/config.yaml", "set/config.yaml"]
    whole = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert whole <= set(sent[MODEL])
    assert not {"pytorch_model.bin", "onnx/model.safetensors"} & set(sent[MODEL])
    assert len(hub.downloaded) == len(set(hub.downloaded))


CURES = {
    "several": ("several sets", CLT, PER_LAYER, f"{PER_LAYER}_affine"),
    "no such folder": ("holds no transcoders", CLT),
    "sae": ("resid_post", "not of MLPs"),
    "other site": ("hook_resid_mid", "pre_feedforward_layernorm.output"),
    "too few layers": ("lacks files", "W_enc_2.safetensors"),
    "llama": ("'llama'", "Gemma 3 only"),
    "unknown model": ("no repository 'google/unknown'", "check the name", "hf auth login"),
    "unknown transcoders": ("no repository 'google/unknown'", "check the name", "hf auth login"),
    "unknown revision": (SCOPE, "no such revision", "follows the @"),
    "unknown model revision": (MODEL, "no such revision", "follows the @"),
    "gated model": ("google/gated is gated", "accept its terms", "hf auth login"),
    "gated transcoders": ("google/gated-scope is gated", "accept its terms", "hf auth login"),
    "failing": ("refused google/failing", "503", "local folder"),
    "listed and gone": ("gone/config.yaml lists gone/layer_0_x", SCOPE, "correct the list"),
    "pickled": ("pickled weights", "safetensors"),
    "adapter": ("an adapter, not a model", "merge"),
    "model as transcoders": ("a language model", "--model"),
    "bad name": ("no repository 'google/has spaces'", "check the name"),
}


@pytest.mark.parametrize("name", CURES)
def test_hub_errors_are_one_line_with_a_cure(name, online):
    problem, slept_seconds = online[1][name]
    assert problem is not None
    assert "\n" not in problem
    assert not [words for words in CURES[name] if words not in problem], problem
    assert "resid_post_all" not in problem or name == "sae"  # dictionaries of other sites are not offered
    assert slept_seconds < 5  # no retries that a user waits for


@pytest.mark.parametrize("how", ["offline", "down"])
@pytest.mark.parametrize("name", ["clt", "per-layer", "model"])
def test_cached_files_need_no_hub(how, name, unreachable, online):
    folder, results = unreachable[how]
    problem, slept_seconds = results[name]
    assert problem is None
    assert cotrace.open(folder / f"{name}.arrow").nodes.equals(cotrace.open(online[0] / f"{name}.arrow").nodes)
    assert slept_seconds < 5  # no retries that a user waits for


@pytest.mark.parametrize(("how", "why"), [("offline", "HF_HUB_OFFLINE is set: unset it"), ("down", "no network?")])
@pytest.mark.parametrize("name", ["unknown model", "unknown transcoders"])
def test_missing_files_fail_fast_without_the_hub(how, why, name, unreachable):
    problem, slept_seconds = unreachable[how][1][name]
    assert "\n" not in problem
    assert f"cannot reach the Hub for google/unknown ({why})" in problem
    assert "pass the local folder" in problem
    assert slept_seconds < 5  # no retries that a user waits for
