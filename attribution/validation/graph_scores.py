"""Mean graph scores of a set of prompts: the share of influence through features instead of error nodes."""

from collections.abc import Iterable

import numpy as np

from cotrace.graphs import Graph

EVERYDAY_PROMPTS = (
    "The opposite of hot is",
    "The capital of France is",
    "She poured the coffee into a",
    "In the winter it is very cold, and in the summer it is very",
    "Once upon a time there was a little",
    "He opened the door and walked into the",
    "Monday, Tuesday, Wednesday,",
    "The sun rises in the east and sets in the",
    "My favourite fruit is the",
    "Two plus two equals",
)


def mean_graph_scores(graphs: Iterable[Graph]) -> tuple[float, float]:
    """Return the mean replacement score and the mean completeness score of graphs."""
    scores = [graph.scores() for graph in graphs]
    replacement, completeness = np.mean([(score.replacement, score.completeness) for score in scores], axis=0).tolist()
    return replacement, completeness
