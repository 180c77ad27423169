"""What makes two graphs harder to compare, in words."""

from cotrace.graphs.prune import THRESHOLDS

from .align import Alignment
from .matching import LABEL, Graphs, Match, Matching, same_dictionary
from .tables import DiffStatus, NodesSideBySide


def cautions(
    graphs: Graphs, alignment: Alignment, match: Match, matching: Matching, nodes: NodesSideBySide
) -> list[str]:
    """Return sentences about what a reader of a difference should know, none for two complete graphs of one model."""
    return [*_of_models(graphs, match, matching, nodes), *_of_pruning(graphs), *_of_prompts(graphs, alignment)]


def _of_models(graphs: Graphs, match: Match, matching: Matching, nodes: NodesSideBySide) -> list[str]:
    depths = [graph.info["model"]["n_layers"] for graph in graphs]
    found = []
    if depths[0] != depths[1]:
        found.append(
            f"the models have {depths[0]} and {depths[1]} layers: nodes of equal layers are not at equal depth"
        )
    if same_dictionary(*graphs) or match == "site":
        return found
    if match == "feature":
        return [*found, "the transcoders differ: features with equal numbers need not be the same"]
    if not ((matching.kind == LABEL) & (nodes.status <= DiffStatus.CHANGED)).any():
        found.append(
            "the transcoders differ and no label is in both graphs at one position, so no features correspond: compare "
            "all features of a layer and position together with match='site'"
        )
    return found


def _of_pruning(graphs: Graphs) -> list[str]:
    found = []
    pruned = [graph.info["pruning"] for graph in graphs]
    if all(pruned):
        alike = all(pruned[0][name] == pruned[1][name] for name in (*THRESHOLDS, "keep_errors"))
        how = "both graphs are pruned" if alike else "the graphs are pruned to different thresholds"
        found.append(f"{how}: a node in one alone may have been pruned from the other")
    elif any(pruned):
        name = "A" if pruned[0] else "B"
        found.append(f"only {name} is pruned: what it lacks may have been pruned from it")
    return [*found, *_of_rows(graphs)]


def _of_rows(graphs: Graphs) -> list[str]:
    named, found = list(zip("AB", graphs, strict=True)), []
    sampled = [name for name, graph in named if graph.estimated]
    if sampled:
        found.append(
            f"{' and '.join(sampled)} {'is' if len(sampled) == 1 else 'are'} from sampled rows: influence is an estimate, "
            "differences within 95% intervals are not counted as changes, and rows that were not drawn lack their edges"
        )
    missing = [name for name, graph in named if graph.info["traced"]["bound"] > 0 and not graph.estimated]
    if missing:
        found.append(f"{' and '.join(missing)} lack rows that were not computed: influence is a lower bound")
    return found


def _of_prompts(graphs: Graphs, alignment: Alignment) -> list[str]:
    if alignment.pairs:
        return []
    return ["no position of A corresponds to one of B, so no nodes do"]
