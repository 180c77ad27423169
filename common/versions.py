"""Versions of the installed software that determines results."""

import functools
from importlib.metadata import version

_version = functools.cache(version)  # parses a file at each call


def package_versions() -> dict[str, str]:
    """Return the versions of cotrace, torch and transformers, by name."""
    return {name: _version(name) for name in ("cotrace", "torch", "transformers")}
