"""Fixtures shared by the tests: a tiny model, loaded with every kind of transcoders."""

import functools
import os
import pathlib
import sys
from collections import Counter

import pytest
import torch

# Without a GPU, Triton's kernels run in its interpreter. It must be chosen before anything imports triton.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import tiny

os.environ.setdefault(
    "HF_HUB_OFFLINE", "1"
)  # tests must not connect to the Hub; those of the loopback Hub override this

# Files with few tests that take long. Started last, one of them would keep a process busy when all others have finished.
LONG_FILES = (
    "test_batch",
    "test_gpu_check",
    "test_kernel_compiles",
    "test_kills",
    "test_memory",
    "test_packaging",
    "test_gemma_270m",
    "test_fuzz",
    "test_training_shards",
    "test_hub",
    "test_threads",
    "test_feature_build",
    "test_viewer_prune",
    "test_shipped_transcoders",
    "test_progress",
    "test_launches",
)


def pytest_collection_modifyitems(items):
    """Put long files first, and then those with many tests: `make test` hands out files in this order."""
    n_tests = Counter(item.path.stem for item in items)
    items.sort(key=lambda item: (item.path.stem not in LONG_FILES, -n_tests[item.path.stem]))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> pathlib.Path:
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def weights(model_folder):
    """Return the tiny model's weights in float64: sliding and full layers, two query heads for each key head."""
    from transformers import AutoModelForCausalLM

    from cotrace.attribution.models.gemma3 import Gemma3

    return Gemma3(AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float64).eval(), torch.float64)


@pytest.fixture(scope="session")
def transcoder_spec(tmp_path_factory):
    """Return a function from a kind to the spec of its files, which are written once."""
    root, written = tmp_path_factory.mktemp("transcoders"), {}

    def spec(kind: str) -> str:
        if kind not in written:
            written[kind] = tiny.write_transcoders(root / kind, kind)
        return written[kind]

    return spec


@pytest.fixture(scope="session")
def load(model_folder, transcoder_spec):
    """Return a function from a kind and a dtype to a loaded model."""
    import cotrace

    return lambda kind, dtype="float64": cotrace.load(model_folder, transcoder_spec(kind), dtype=dtype, device="cpu")


@pytest.fixture(scope="session")
def arch(model_folder):
    """Return the sizes of the tiny model."""
    from cotrace.attribution.models.architecture import read_architecture
    from cotrace.attribution.models.model_source import find_model

    return read_architecture(find_model(model_folder).config())


@pytest.fixture
def refused(arch):
    """Return a function that asserts that transcoders are refused in one line with all the given words; it returns the line."""
    from cotrace.attribution.transcoders import load_transcoders
    from cotrace.common.errors import CotraceError

    def check(spec, *words: str) -> str:
        with pytest.raises(CotraceError) as caught:
            load_transcoders(spec, arch)
        message = str(caught.value)
        assert "\n" not in message
        assert not [word for word in words if word not in message], message
        return message

    return check


@pytest.fixture(scope="module")
def model_of(load):
    """Return a function from a kind and a dtype to a model that is loaded once."""

    @functools.cache
    def model(kind, dtype="float64"):
        loaded = load(kind, dtype)
        if kind != "neurons":
            loaded.transcoders.tensors = functools.cache(loaded.transcoders.tensors)
        return loaded

    return model


@pytest.fixture(scope="module")
def hf_model(model_folder):
    """Return the model of the transformers library, in float64."""
    from transformers import Gemma3ForCausalLM

    return Gemma3ForCausalLM.from_pretrained(model_folder, dtype=torch.float64).requires_grad_(False)


@pytest.fixture(scope="module")
def reference_of(model_of, hf_model):
    """Return a function from a kind and masked positions to the dense reference of `prompt()`, or of other token ids."""
    from helpers.interventions import reference_factory

    return reference_factory(model_of, hf_model)


@pytest.fixture(scope="module")
def worded(model_folder, transcoder_spec, tmp_path_factory):
    """Return a model with a tokenizer and a chat template, whose tokens 1 and 5 end a text and a turn."""
    from helpers.interventions import load_with_tokenizer

    return load_with_tokenizer(model_folder, transcoder_spec, tmp_path_factory.mktemp("worded"))


@pytest.fixture(scope="module")
def one_thread():
    """Use one thread each in torch and numba: in tiny products, several mostly wait for one another."""
    import numba

    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


@pytest.fixture
def command(monkeypatch, capsys):
    """Return a function that runs a command in this process and returns its status, output and errors."""
    from rich.console import Console

    from cotrace.cli.app import main

    def run(*arguments):
        monkeypatch.setattr("cotrace.cli.report.console", Console(width=120, color_system=None, force_terminal=True))
        monkeypatch.setattr(sys, "argv", ["cotrace", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium; skips the test without one."""
    from helpers.browser import chromium

    with chromium() as running:
        yield running


@pytest.fixture
def open_page(browser):
    """Return a function that opens a page in Chromium; the test fails if the page has an error or loads anything."""
    from helpers.browser import Opener

    opener = Opener(browser)
    yield opener
    opener.close()


@pytest.fixture
def file(tmp_path):
    """Return the path of a graph file, for a server of it."""
    from helpers.random_graphs import random_graph

    return random_graph(3).save(tmp_path / "a.arrow")


@pytest.fixture
def client(file):
    """Return a client of a server of the graph file, which asks as the page does."""
    from helpers.view_server import Client, make_site

    return Client(make_site(file))
