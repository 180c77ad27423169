"""Effects: contributions of all nodes to a target, summed over all paths, from one backward pass.

- `config`: the options, with their defaults.
- `cuts`: segments of a prompt, and positions that paths must avoid.
- `run`: one run of the model or its local replacement, at which it is differentiated.
- `layers`: gradients back through one layer: frozen, or as the model responds.
- `backward`: the pass down the layers, for several targets and cuts together.
- `effects`: from a prompt to its effects.
- `integrate`: effects averaged along the way from another input.
- `edge_ends`, `heads`: the parts of direct edges by attention head.
- `head_requests`, `graph_heads`: the edges that a user names, and all edges of a graph.
- `attention`: attention scores of a head, divided among pairs of nodes.
- `node_table`: the nodes of a prompt, as results name them.
"""
