"""Stated against internal reasoning: transcripts, models whose mechanism is known, published measures, and their comparison."""

from importlib import import_module
from typing import Any

LAZY_MODULES = {  # import torch and scikit-learn
    "baselines": "cotrace.faithfulness.baselines",
    "protocol": "cotrace.faithfulness.protocol",
}


def __getattr__(name: str) -> Any:
    """Import a module when it is first used."""
    if name not in LAZY_MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(LAZY_MODULES[name])
