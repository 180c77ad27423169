"""From a prompt to a graph, and what a graph says tested in the model."""
