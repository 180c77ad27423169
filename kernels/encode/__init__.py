"""Encode: from residual activations to sparse active features."""

from ..active import Active
from .api import encode

__all__ = ["Active", "encode"]
