"""Stated against internal reasoning: transcripts, models whose mechanism is known, published measures, and their comparison."""
