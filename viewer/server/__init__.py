"""The local server of `cotrace view`."""
