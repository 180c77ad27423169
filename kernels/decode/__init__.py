"""Decode: sums of the decoder vectors of active features, with gradients."""

from .api import decode

__all__ = ["decode"]
