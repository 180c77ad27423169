"""Layers 0 to 5 of the transcoders gemma-3-270m-clt, which cotrace reads as files."""
