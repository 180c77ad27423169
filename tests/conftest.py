"""Fixtures shared by the tests: a tiny model, and it loaded with every kind of transcoders."""

import os
import pathlib

import pytest
import torch

# Without a GPU, Triton's kernels run in its interpreter. It must be chosen before anything imports triton.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import tiny

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the Hub; those of the loopback hub say so


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> pathlib.Path:
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def transcoder_spec(tmp_path_factory):
    """Function from a kind to the spec of its files, written once."""
    root, written = tmp_path_factory.mktemp("transcoders"), {}

    def spec(kind: str) -> str:
        if kind not in written:
            written[kind] = tiny.write_transcoders(root / kind, kind)
        return written[kind]

    return spec


@pytest.fixture(scope="session")
def load(model_folder, transcoder_spec):
    """Function from a kind and a dtype to a loaded model."""
    import cotrace

    return lambda kind, dtype="float64": cotrace.load(model_folder, transcoder_spec(kind), dtype=dtype, device="cpu")
