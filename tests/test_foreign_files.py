"""Files that are not graph files: the message says what they are and what to do."""

import json
import pickle

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

import cotrace
from cotrace.common.errors import FileError

NEURONPEDIA = {
    "metadata": {"slug": "mini", "scan": "gemma-3-270m", "prompt": "<bos>Snow is", "prompt_tokens": ["<bos>", "Snow"]},
    "qParams": {"pinnedIds": []},
    "nodes": [{"node_id": "E_2_0", "feature": 2, "layer": "E", "ctx_idx": 0, "jsNodeId": "E_2_0-0"}],
    "links": [],
}
CIRCUIT_TRACER = {
    "input_string": "Snow is",
    "adjacency_matrix": torch.zeros(2, 2),
    "active_features": torch.zeros(1, 3),
}
GRAPH = nx.DiGraph([(0, 1)])

FILES = {
    "neuronpedia": (
        lambda path: path.write_text(json.dumps(NEURONPEDIA)),
        "Neuronpedia .*trace the prompt again: cotrace trace 'Snow is'",
    ),
    "indented": (lambda path: path.write_text(json.dumps(NEURONPEDIA, indent=1)), "Neuronpedia"),
    "circuit-tracer": (lambda path: torch.save(CIRCUIT_TRACER, path), "graph of circuit-tracer"),
    "weights.pt": (lambda path: torch.save({"w": torch.zeros(2)}, path), "a PyTorch file"),
    "array.npz": (lambda path: path.open("wb").write(npz()), "a zip archive"),
    "graphml": (lambda path: nx.write_graphml(GRAPH, path), "GraphML"),
    "gexf": (lambda path: nx.write_gexf(GRAPH, path), "GEXF"),
    "gml": (lambda path: nx.write_gml(GRAPH, path), "GML"),
    "node-link": (lambda path: path.write_text(json.dumps(nx.node_link_data(GRAPH, edges="links"))), "a graph in JSON"),
    "dot": (lambda path: path.write_text("digraph circuit {\n}"), "DOT"),
    "svg": (lambda path: path.write_text('<?xml version="1.0"?>\n<svg xmlns="x"></svg>'), "a picture"),
    "png": (lambda path: path.write_bytes(b"\x89PNG\r\n"), "a picture"),
    "parquet": (lambda path: parquet.write_table(pa.table({"a": [1]}), path), "Parquet"),
    "prompts": (lambda path: path.write_text('{"prompt": "x"}\n'), "--prompts FILE"),
    "json": (lambda path: path.write_text('{"a": 1}'), "it is JSON"),
    "pickle": (lambda path: path.write_bytes(pickle.dumps({1: 2})), "pickle"),
    "gguf": (lambda path: path.write_bytes(b"GGUF\x03\0\0\0"), "--model FILE"),
    "safetensors": (lambda path: path.write_bytes(b"\x10\0\0\0\0\0\0\0" + b'{"a":1}'), "safetensors"),
    "pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "page": (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "web page"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "unknown": (lambda path: path.write_bytes(b"\xfe" * 100), "truncated or not an Arrow file"),
}


def npz():
    import io

    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(2))
    return buffer.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_named(name, tmp_path):
    write, message = FILES[name]
    path = tmp_path / f"{name}.arrow"
    write(path)
    with pytest.raises(FileError, match=message) as refused:
        cotrace.open(path)
    assert "\n" not in str(refused.value)
    assert ("truncated" in str(refused.value)) == (name == "unknown")


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 damaged", b'{"qParams": 1, "prompt": "\\ud8"}', b"[" * 10**5, b"{\xff\xfe"]
)
def test_damaged_files_of_other_tools_are_refused_too(content, tmp_path):
    path = tmp_path / "x.arrow"
    path.write_bytes(content)
    with pytest.raises(FileError, match="it is"):
        cotrace.open(path)
