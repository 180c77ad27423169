"""From a prompt to a graph: local replacement, targets, row selection, sweep."""
