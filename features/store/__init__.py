"""Stores of features as files: schema, reading, cards, labels, search. No torch."""

from .card import FeatureCard
from .label import FeatureLabel
from .store import FeatureStore

__all__ = ["FeatureCard", "FeatureLabel", "FeatureStore"]
