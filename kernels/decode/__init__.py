"""Decode: sparse active features to what they write, with gradients."""

from .api import decode

__all__ = ["decode"]
