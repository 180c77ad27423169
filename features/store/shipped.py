"""Feature stores that ship with cotrace, in data packages."""

from pathlib import Path

from cotrace.common.data_packages import package_folder

DEFAULT_TRANSCODERS = "gemma-3-270m-clt"
PACKAGES = {DEFAULT_TRANSCODERS: "cotrace_gemma_3_270m_features"}
"""The data package of the store of some transcoders, by their name."""


def shipped_feature_store(transcoders: str) -> Path | None:
    """Return the folder of the feature store that ships for transcoders of this name; None where there is none."""
    package = PACKAGES.get(transcoders)
    return None if package is None else package_folder(package)
