"""Differences of two graphs: prompts aligned by tokens, nodes matched, nodes and edges in both or in one.

- `align`: which positions of two prompts correspond.
- `matching`: which nodes of two graphs correspond.
- `tables`: nodes and edges of both graphs side by side.
- `measures`: weighted Jaccard index and rank correlation.
- `diff`: `GraphDiff`, what `Graph.diff` returns.
"""
