"""From a prompt to a graph: model, transcoders, local replacement, targets, sweep, trace."""

from .model import Model, load

__all__ = ["Model", "load"]
