"""Stated against internal reasoning: transcripts, models whose mechanism is known, published measures, and their comparison."""

from importlib import import_module
from typing import Any

LAZY_MODULES = ("baselines", "protocol")  # import torch and scikit-learn


def __getattr__(name: str) -> Any:
    """Import a module when it is first used."""
    if name not in LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
