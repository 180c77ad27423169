"""Benchmarks of tracing, kernels, training, transcoders, coverage and validation; results and their tables."""
