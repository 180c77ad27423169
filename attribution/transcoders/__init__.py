"""Transcoders of every supported format, behind one interface."""

from .base import LayerFeatures, Transcoders
from .decoding import DecodedOutputs
from .files import FileTranscoders
from .loading import default_transcoders, find_transcoders, load_transcoders
from .neurons import NeuronTranscoders

__all__ = [
    "DecodedOutputs",
    "FileTranscoders",
    "LayerFeatures",
    "NeuronTranscoders",
    "Transcoders",
    "default_transcoders",
    "find_transcoders",
    "load_transcoders",
]
