"""Sparse autoencoders and crosscoders: load them, read their features on a prompt, steer with them. They cannot be traced."""

from .dictionary import SparseDictionary
from .loading import find_dictionary, load_dictionary_files, names_dictionary, open_dictionary

__all__ = ["SparseDictionary", "find_dictionary", "load_dictionary_files", "names_dictionary", "open_dictionary"]
