"""Groups of features that do the same: suggestions from a graph's effects, edges and decoder directions.

- `config`: options, with their defaults.
- `profiles`: what is compared between features, as vectors, and their cosines.
- `clusters`: hierarchical clustering with a limit on the size of a group.
- `describe`: the name, label and reason of a group.
- `kept`: how much of a graph runs through the groups.
- `suggest`: from a graph to suggestions.
- `groups`: `Groups`, the suggestions as a table, which write themselves into the graph and take themselves out again.
- `stored`: groups in the metadata that are suggestions, not the user's.
"""
