"""Sparse autoencoders and crosscoders: load them, read their features on a prompt, steer with them. They cannot be traced."""
