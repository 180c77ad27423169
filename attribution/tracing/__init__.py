"""Tracing: from the activations of a prompt to its attribution graph.

In the order in which a trace uses them:

- `config`: the options of a trace.
- `targets`: the nodes where paths end.
- `activations`: one forward pass, and the active features.
- `plan`: estimates of memory, disk and time (`flops`), and the batch size.
- `replacement`: the local replacement model (`decoder_table`, `decoder_vectors`).
- `trace`: computes rows (`batches`, `sweep`), selected by influence (`row_selection`) or reused (`row_cache`).
- `graph_assembly`: node table, influence and scores.
"""
