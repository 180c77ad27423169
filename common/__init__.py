"""Helpers that know nothing of models or graphs: files, progress, checks, compiled loops."""
