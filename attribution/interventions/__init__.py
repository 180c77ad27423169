"""Interventions: what a model does when features, errors or directions in it are changed."""

from .changes import Change, Direction, Error, Feature, Supernode, ablate, add, multiply, nodes_of, set_to
from .generate import Generation
from .patch import Patched
from .run import Intervened

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
