"""Interventions: what a model does when features, errors or directions in it are changed."""

from .edits import Change, Direction, Error, Feature, Supernode, ablate, add, multiply, nodes_of, set_to
from .generate import Generation
from .intervene import Intervened
from .patch import Patched

__all__ = [
    "Change",
    "Direction",
    "Error",
    "Feature",
    "Generation",
    "Intervened",
    "Patched",
    "Supernode",
    "ablate",
    "add",
    "multiply",
    "nodes_of",
    "set_to",
]
