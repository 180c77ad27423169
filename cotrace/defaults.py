"""Defaults that the Python functions and the command line share and that belong to no config class."""

DEFAULT_MODEL = "gemma-3-270m"
