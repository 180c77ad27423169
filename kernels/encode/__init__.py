"""Encode: residual activations to sparse active features."""

from .api import Active, encode

__all__ = ["Active", "encode"]
