"""Configs beside files of transcoders and dictionaries: reading them, and the activation function that they name."""

import json
from pathlib import Path
from typing import Any

import yaml

from cotrace.common.errors import FileError

from .formats import Activation

CONFIG_NAMES = ("config.json", "config.yaml")
ACTIVATION_KEYS = ("architecture", "activation", "activation_function")  # Gemma Scope 2, circuit-tracer, older ones
UNSTATED = Activation()


def read_config(path: Path) -> dict[str, Any]:
    """Return the entries of a JSON or YAML config. Raises FileError for a damaged one."""
    try:
        config = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise FileError(
            f"{path} is not valid {path.suffix[1:].upper()}; download the file again or remove it"
        ) from error
    return config if isinstance(config, dict) else {}


def read_activation(path: Path, config: dict[str, Any]) -> Activation:
    """Return the activation function that a config names. Raises FileError for an unknown one, and for TopK without k."""
    value = next((config[key] for key in ACTIVATION_KEYS if config.get(key) is not None), None)
    name = str(value or "").lower().replace("_", "")
    k = config.get("k")
    if name == "topk":
        if not isinstance(k, int) or k < 1:
            raise FileError(f"{path} names TopK with k={k!r}: expected the number of features for each position")
        return Activation(name, k)
    if name not in ("", "jumprelu", "relu"):
        raise FileError(f"{path} names the activation {value!r}; JumpReLU, ReLU and TopK can be traced")
    return Activation(name)
