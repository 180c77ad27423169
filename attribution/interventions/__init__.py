"""Interventions: what a model does when features, errors or directions in it are changed."""

from .edits import Direction, Edit, ErrorNode, Feature, Supernode, ablate, add, multiply, nodes_of, set_to
from .generate import Generation
from .intervene import InterventionResult
from .patch import PatchResult

__all__ = [
    "Direction",
    "Edit",
    "ErrorNode",
    "Feature",
    "Generation",
    "InterventionResult",
    "PatchResult",
    "Supernode",
    "ablate",
    "add",
    "multiply",
    "nodes_of",
    "set_to",
]
