"""The feature store of the transcoders gemma-3-270m-clt, which cotrace reads as files."""
