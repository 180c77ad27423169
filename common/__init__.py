"""Helpers without any knowledge of models or graphs: errors, files, progress bars, checks, compiled loops."""
