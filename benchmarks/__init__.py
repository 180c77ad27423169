"""Measurements against circuit-tracer; every number in the docs comes from a result file written here."""
