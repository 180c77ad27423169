"""On a CUDA device: the same rows as on the CPU, and the same bytes at every run."""

import pytest
import torch
from helpers.identities import conservation_gap, relative
from tiny import KINDS, prompt

import cotrace

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED: torch sees no CUDA device"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_on_the_device_are_those_of_the_cpu(load, model_folder, transcoder_spec, kind, tmp_path):
    model = cotrace.load(model_folder, transcoder_spec(kind), device="cuda", dtype="float32")
    graph, expected = model.trace(prompt()), load(kind, "float64").trace(prompt())
    assert relative(graph.adjacency().toarray(), expected.adjacency().toarray()) < 1e-4
    assert conservation_gap(graph).max() < 1e-4
    files = [model.trace(prompt()).save(tmp_path / name).read_bytes() for name in ("a.arrow", "b.arrow")]
    assert files[0] == files[1]
