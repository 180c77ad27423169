"""Interventions: what a model does when features, errors or directions in it are changed."""

from .changes import Change, Direction, Error, Feature, Supernode, ablate, add, multiply, set_to

__all__ = ["Change", "Direction", "Error", "Feature", "Supernode", "ablate", "add", "multiply", "set_to"]
