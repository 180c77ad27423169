"""Versions of the installed software that determines results."""

from importlib.metadata import version


def package_versions() -> dict[str, str]:
    """Return the versions of cotrace, torch and transformers, by name."""
    return {name: version(name) for name in ("cotrace", "torch", "transformers")}
