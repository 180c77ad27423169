"""Say what a file is that is not a graph file: a graph of another tool, a picture, weights. Opens nothing unsafe."""

import json
import re
import shlex
import zipfile
from pathlib import Path
from typing import NamedTuple

HEAD_BYTES = 2**20  # of a JSON file, enough for its metadata
LONGEST_PROMPT = 200  # characters that an advice shows
TRACE_AGAIN = "cotrace opens graph files that `cotrace trace` wrote, *.arrow; trace the prompt again"


class Kind(NamedTuple):
    """A kind of file: how it begins, what it is, and what to do with it."""

    begins: bytes
    name: str
    advice: str = TRACE_AGAIN


PICTURE = "open the *.arrow file from which it was drawn"
KINDS = (
    Kind(rb"\Z", "it is empty"),
    Kind(rb"version https://git-lfs", "it is a Git LFS pointer without the file", "run `git lfs pull`"),
    Kind(rb"\x28\xb5\x2f\xfd", "it is compressed by zstd", "rename it, so that its name ends in .arrow.zst"),
    Kind(rb"PAR1", "it is a Parquet file"),
    Kind(rb"\x89HDF", "it is an HDF5 file"),
    Kind(rb"GGUF", "it is a model in GGUF", "pass it as the model: --model FILE"),
    Kind(
        rb".{8}\{\"",
        "it holds tensors (safetensors)",
        "pass the folder of a model or of transcoders: --model, --transcoders",
    ),
    Kind(rb"\x80[\x02-\x05]", "it is a Python pickle, which is not opened, as it could run code"),
    Kind(rb"\x89PNG|%PDF|\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<svg", "it is a picture", PICTURE),
    Kind(
        rb"\s*(<\?xml[^>]*>\s*)?<graphml",
        "it is a graph in GraphML",
        "if `cotrace export` wrote it, import it: cotrace import FILE",
    ),
    Kind(rb"\s*(<\?xml[^>]*>\s*)?<gexf", "it is a graph in GEXF, without what cotrace needs"),
    Kind(rb"\s*(Creator[^\n]*\n)?graph\s*\[", "it is a graph in GML, without what cotrace needs"),
    Kind(rb"\s*(strict\s+)?(di)?graph\b[^\[]*\{", "it is a drawing in DOT", PICTURE),
    Kind(rb"(?i)\s*<(!doctype )?html", "it is a web page", "download the file itself"),
)
CIRCUIT_TRACER_TENSORS = (b"adjacency_matrix", b"active_features")


def describe_foreign(path: Path) -> str | None:
    """Return what a file is and what to do, in one line; None for a damaged graph file and for unknown bytes."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head.startswith(b"PK\x03\x04"):
        return _zip(path)
    if head.lstrip()[:1] in (b"{", b"["):
        return _json(head.decode("utf-8", "replace"))
    for kind in KINDS:
        if re.match(kind.begins, head, re.DOTALL):
            return f"{kind.name}; {kind.advice}"
    return None


def _zip(path: Path) -> str:
    """Describe a zip archive, as PyTorch and NumPy write them."""
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            content = archive.open(pickles[0]).read(HEAD_BYTES) if pickles else b""
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):
        return f"it is a damaged zip archive; {TRACE_AGAIN}"
    if all(name in content for name in CIRCUIT_TRACER_TENSORS):
        return (
            "it is a graph of circuit-tracer (PyTorch); import the JSON that its create_graph_files writes: cotrace import "
            "FILE"
        )
    return f"it is {'a PyTorch file' if pickles else 'a zip archive'}; {TRACE_AGAIN}"


def _json(text: str) -> str:
    """Describe a JSON file by the names in its first part."""
    if re.search(r'"(qParams|prompt_tokens|jsNodeId)"\s*:', text):
        return f"it is a graph of Neuronpedia or circuit-tracer (JSON); import it: cotrace import FILE; {_again(text)}"
    if re.match(r'\s*\{"prompt"', text):
        return "it is a file of prompts; trace them: cotrace trace --prompts FILE"
    if re.search(r'"(links|edges)"\s*:', text) and '"nodes"' in text:
        return f"it is a graph in JSON, without what cotrace needs; {TRACE_AGAIN}"
    return f"it is JSON; {TRACE_AGAIN}"


def _again(text: str) -> str:
    """Return an advice with the prompt, if a graph of Neuronpedia names one that is short enough."""
    found = re.search(r'"prompt"\s*:\s*("(?:[^"\\]|\\.)*")', text)
    try:
        prompt = json.loads(found[1]).removeprefix("<bos>") if found else ""
    except ValueError:
        prompt = ""
    return f"{TRACE_AGAIN}: cotrace trace {shlex.quote(prompt)}" if 0 < len(prompt) <= LONGEST_PROMPT else TRACE_AGAIN
