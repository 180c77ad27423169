"""Graphs compared with ablations in the model."""
