"""Reports of stated against internal reasoning: what `compare` found, as tables, a circuit and a picture. Imports no torch."""
