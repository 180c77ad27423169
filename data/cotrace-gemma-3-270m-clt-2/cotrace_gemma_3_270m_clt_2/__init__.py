"""Layers 6 to 17 of the transcoders gemma-3-270m-clt, which cotrace reads as files."""
