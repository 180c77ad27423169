"""Data packages: in a checkout the folders of `data/`, in an installation found by package name."""

from importlib.util import find_spec
from pathlib import Path

CHECKOUT_DATA = Path(__file__).resolve().parents[1] / "data"


def package_folder(package: str) -> Path | None:
    """Return the folder of a data package, in this checkout or in the installation; None where it is missing."""
    in_checkout = CHECKOUT_DATA / package.replace("_", "-") / package
    if in_checkout.is_dir():
        return in_checkout
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None
