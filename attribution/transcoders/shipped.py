"""Transcoders that ship with cotrace: the list of sets, and the folders of their data packages.

The files of one set are split by layers into several packages, because package indexes limit the size of a file.
In a checkout the packages are the folders of `data/`; in an installation they are found by package name.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from cotrace.common.data_packages import package_folder
from cotrace.common.errors import DependencyError

from .formats import TranscoderSet, find_sets


@dataclass(frozen=True)
class ShippedSet:
    """A set of transcoders in data packages: its name, its model, the packages, and the extra that installs them."""

    name: str
    model: str
    packages: tuple[str, ...]
    extra: str


SHIPPED_SETS = {
    shipped.name: shipped
    for shipped in (
        ShippedSet(
            name="gemma-3-270m-clt",
            model="gemma-3-270m",
            packages=("cotrace_gemma_3_270m_clt_1", "cotrace_gemma_3_270m_clt_2"),
            extra="gemma",
        ),
    )
}


def shipped_for(model: str) -> str | None:
    """Return the name of the set that ships for a model, or None."""
    return next((shipped.name for shipped in SHIPPED_SETS.values() if shipped.model == model), None)


def open_shipped(name: str) -> tuple[Path, TranscoderSet]:
    """Return the folder of a shipped set's first package, and its files by layer as absolute paths.

    Raises DependencyError, naming the extra to install, where a package is missing.
    """
    shipped = SHIPPED_SETS[name]
    folders = {package: package_folder(package) for package in shipped.packages}
    missing = [package.replace("_", "-") for package, folder in folders.items() if folder is None]
    if missing:
        raise DependencyError(
            f"the transcoders {name} are not installed ({', '.join(missing)} missing): "
            f"`pip install 'cotrace[{shipped.extra}]'`, or pass --transcoders with neurons, a folder or a Hub id"
        )
    found = [folder for folder in folders.values() if folder is not None]
    path_of = {path.name: str(path) for folder in found for path in folder.glob("*.safetensors")}
    (layers,) = find_sets(path_of).values()
    files = {layer: [path_of[file] for file in names] for layer, names in layers.files.items()}
    return found[0], replace(layers, files=files)
