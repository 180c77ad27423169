"""`GraphDiff`: two graphs side by side, as `Graph.diff` returns it."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import ArgumentError
from cotrace.graphs.annotations import groups_of_nodes
from cotrace.graphs.data import GraphData
from cotrace.graphs.drawing.config import DrawingConfig
from cotrace.graphs.pages import PAGE_HEIGHT, page_maker
from cotrace.graphs.prune import check_threshold
from cotrace.graphs.target_choice import ALL_TARGETS, choose_targets

from .align import Align, align
from .cautions import cautions
from .grouped import GROUPINGS, GroupBy, counts_and_measures, grouped_table
from .matching import (
    ERROR,
    FEATURE,
    LABEL,
    LOGIT,
    MATCH_CHOICES,
    SITE,
    TOKEN,
    UNIT_KINDS,
    Graphs,
    Match,
    Targets,
    default_match,
    match_nodes,
)
from .measures import rank_correlation
from .naming import UnitNames
from .tables import (
    STATUS_NAMES,
    EdgesSideBySide,
    NodesSideBySide,
    SideBySide,
    compare_edges,
    compare_nodes,
    errors_of_influence,
    node_influences,
)

if TYPE_CHECKING:  # graphs are opened without the modules that draw them
    from cotrace.graphs.drawing.diff_scene import DiffSubject
    from cotrace.graphs.drawing.primitives import Scene

MIN_CHANGE = 0.5
DiffTarget = str | int | tuple[str | int, str | int] | None


class GraphDiff:
    """Two graphs A and B side by side; `Graph.diff` makes one.

    Influences are along the edges of each graph, on its chosen targets, whose weights are scaled to add up to 1.

    Attributes:
        a, b: the graphs.
        alignment: which positions of the prompts correspond.
        match: how features are matched: "feature", "label", "group" or "site".
        targets: the targets of A and of B that are compared, as in `graph.info["targets"]`.
        min_change: relative change of influence from which a node or edge that both graphs have is "changed". Of sampled
            graphs, the change is also larger than its 95% interval.
        cautions: what a reader should know about the two graphs, in sentences.
    """

    def __init__(
        self,
        a: GraphData,
        b: GraphData,
        *,
        align_by: Align = "tokens",
        match: Match | None = None,
        target: DiffTarget = None,
        min_change: float = MIN_CHANGE,
    ):
        """Take two graphs and the arguments of `Graph.diff`, with its errors."""
        check_options(match, min_change)
        if not isinstance(b, GraphData):
            raise ArgumentError(f"{b!r} is not a graph: give one, such as cotrace.open('other.arrow')")
        self.a, self.b, self.min_change = a, b, min_change
        self.match: Match = match or default_match(a, b)
        self.alignment = align(a, b, align_by)
        self.targets, self._paired = _chosen_targets((a, b), target)
        self._matching = match_nodes((a, b), self.alignment, self.match, self.targets, self._paired)
        self._influences = node_influences((a, b), self.targets)
        self._errors = errors_of_influence((a, b), self.targets)
        self.cautions = cautions((a, b), self.alignment, self.match, self._matching, self.node_values)

    # --- nodes and edges ------------------------------------------------------------------------

    @property
    def nodes(self) -> pa.Table:
        """The nodes of both graphs, one row for nodes that correspond, by kind, layer and position.

        Columns: node (the row's number), kind, name, label, layer, position_a, position_b, status, influence_a,
        influence_b, change (B minus A), expected_a, expected_b (change of `common_target` if the node is ablated, in units of what
        it reads; null in graphs without effects), node_a, node_b (numbers in the graphs, of the most influential one if
        there are several), count_a, count_b. `status` is "both", "changed", "only_a" or "only_b". Layers, positions and
        numbers that a row lacks are null; influences that it lacks are 0.
        """
        return self._nodes

    @property
    def edges(self) -> pa.Table:
        """The edges of both graphs, those without weight left out.

        Columns: source and target (rows of `nodes`), status, influence_a, influence_b, change, weight_a, weight_b. The
        influence of an edge is its share of its target's absolute input, times the influence of the target plus its weight as a
        target.
        """
        edges = self.edge_values
        return pa.table(
            {
                "source": edges.source,
                "target": edges.target,
                "status": _status_column(edges),
                "influence_a": edges.influence_a,
                "influence_b": edges.influence_b,
                "change": edges.change,
                "weight_a": edges.weight_a,
                "weight_b": edges.weight_b,
            }
        )

    @cached_property
    def common_target(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The heaviest target that both graphs have, as an entry of each `info["targets"]`; None if there is none."""
        unit_a, unit_b = self._matching.unit_of
        theirs = {int(unit_b[target["node"]]): target for target in self.targets[1]}
        pairs = [(t, theirs[int(unit_a[t["node"]])]) for t in self.targets[0] if int(unit_a[t["node"]]) in theirs]
        return max(pairs, key=lambda pair: pair[0]["weight"] + pair[1]["weight"], default=None)

    @cached_property
    def node_values(self) -> NodesSideBySide:
        """The columns of `nodes` with numbers, as arrays (U,)."""
        return compare_nodes(
            (self.a, self.b), self._matching, self._influences, self._errors, self.common_target, self.min_change
        )

    @cached_property
    def edge_values(self) -> EdgesSideBySide:
        """The columns of `edges`, as arrays (E,)."""
        return compare_edges(
            (self.a, self.b), self._matching, self._influences, self._errors, self.targets, self.min_change
        )

    @cached_property
    def names(self) -> UnitNames:
        """Names, labels and positions of the rows of `nodes`."""
        return UnitNames((self.a, self.b), self.alignment, self._matching, self.node_values)

    @property
    def kind(self) -> np.ndarray:
        """Index into `matching.UNIT_KINDS` of every row of `nodes`, (U,)."""
        return self._matching.kind

    @cached_property
    def _nodes(self) -> pa.Table:
        values, names, matching = self.node_values, self.names, self._matching
        numbers = np.arange(matching.n_units)
        return pa.table(
            {
                "node": numbers,
                "kind": pa.array(UNIT_KINDS).take(pa.array(matching.kind)),
                "name": names.names(),
                "label": pa.array(names.labels(), pa.string()),
                "layer": _nullable(matching.layer),
                "position_a": pa.array(names.positions(0), pa.int64()),
                "position_b": pa.array(names.positions(1), pa.int64()),
                "status": _status_column(values),
                "influence_a": values.influence_a,
                "influence_b": values.influence_b,
                "change": values.change,
                **{f"expected_{side}": _effects(values, side) for side in "ab"},
                "node_a": _nullable(values.node_a),
                "node_b": _nullable(values.node_b),
                "count_a": values.count_a,
                "count_b": values.count_b,
            }
        )

    # --- summaries ------------------------------------------------------------------------------

    @cached_property
    def similarity(self) -> pa.Table:
        """How alike the graphs are: all nodes but targets, features, errors, tokens, features by layer and position, and edges.

        Columns: part, both, changed, only_a, only_b (numbers of nodes or edges), influence_a, influence_b, change,
        jaccard (the sum of the smaller influences over the sum of the larger, 0 to 1), correlation (Spearman's, of the
        influences of those in both graphs that have any, null for fewer than three).
        """
        nodes, kind = self.node_values, self.kind
        features = np.isin(kind, (FEATURE, LABEL, SITE))
        parts = {"nodes": nodes.take(kind != LOGIT), "features": nodes.take(features)}
        parts |= {"errors": nodes.take(kind == ERROR), "tokens": nodes.take(kind == TOKEN)}
        if self.match != "site":
            parts["sites"] = self._sites
        parts["edges"] = self.edge_values
        rows = [
            {"part": name, **counts_and_measures(part), "correlation": _correlation(part)}
            for name, part in parts.items()
        ]
        return pa.Table.from_pylist(rows)

    @property
    def jaccard(self) -> float:
        """Weighted Jaccard index of the influence of all nodes: 1 for equal graphs, 0 if nothing is in both."""
        return self.similarity["jaccard"][0].as_py()

    @property
    def correlation(self) -> float | None:
        """Spearman's rank correlation of the influence of the nodes in both graphs; None for fewer than three."""
        return self.similarity["correlation"][0].as_py()

    @cached_property
    def _sites(self) -> SideBySide:
        """All features of a layer and position together."""
        matching = match_nodes((self.a, self.b), self.alignment, "site", self.targets, self._paired)
        values = compare_nodes((self.a, self.b), matching, self._influences, self._errors, None, self.min_change)
        return values.take(matching.kind == SITE)

    def top_nodes(self, count: int = 10) -> pa.Table:
        """Return the rows of `nodes` with the largest absolute change of influence, largest first; targets are left out."""
        size = np.where(self.kind == LOGIT, 0.0, np.abs(self.node_values.change))
        return self.nodes.take(_largest(size, count))

    def top_edges(self, count: int = 10) -> pa.Table:
        """Return the rows of `edges` with the largest absolute change of influence, largest first."""
        return self.edges.take(_largest(np.abs(self.edge_values.change), count))

    def by(self, key: GroupBy) -> pa.Table:
        """Return the nodes summed by label, group, layer, position or kind, the largest change of influence first.

        Columns: the key (for positions: position_a, position_b, token_a, token_b), then those of `similarity`. Influence that
        passes two nodes of a row counts twice. Nodes without a label or group are left out; a node in several groups
        counts for each. Raises ArgumentError for another key.
        """
        if key not in GROUPINGS:
            raise ArgumentError(f"key={key!r} is not one of {', '.join(GROUPINGS)}")
        names = ["position_a", "position_b", "token_a", "token_b"] if key == "position" else [str(key)]
        return grouped_table(self.node_values, getattr(self, f"_by_{key}")(), names)

    def _by_label(self) -> list[list[tuple[str]]]:
        return [[(label,)] if label else [] for label in self.names.labels()]

    def _by_group(self) -> list[list[tuple[str]]]:
        groups = [groups_of_nodes(graph) for graph in (self.a, self.b)]
        found = [[groups[side].get(node, []) for side, node in enumerate(pair)] for pair in self.names.nodes]
        return [[(name,) for name in dict.fromkeys([*ours, *theirs])] for ours, theirs in found]

    def _by_layer(self) -> list[list[tuple[int]]]:
        return [[(layer,)] if layer >= 0 else [] for layer in self._matching.layer.tolist()]

    def _by_kind(self) -> list[list[tuple[str]]]:
        return [[(UNIT_KINDS[kind],)] for kind in self.kind.tolist()]

    def _by_position(self) -> list[list[tuple[Any, ...]]]:
        tokens = [graph.info["tokens"] for graph in (self.a, self.b)]
        rows = [
            (*pair, *(None if at is None else texts[at] for at, texts in zip(pair, tokens, strict=True)))
            for pair in self.alignment.positions
        ]
        return [[rows[column]] if column >= 0 else [] for column in self._matching.column.tolist()]

    def __repr__(self) -> str:
        counts = np.bincount(self.node_values.status, minlength=len(STATUS_NAMES)).tolist()
        both, changed, only_a, only_b = counts
        return (
            f"<GraphDiff by {self.match}: {both + changed} nodes in both ({changed} changed), {only_a} only in A, "
            f"{only_b} only in B, weighted Jaccard {self.jaccard:.3f}>"
        )

    # --- pictures -------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        """Return the picture as inline SVG, for notebooks."""
        from cotrace.graphs.drawing.svg import scene_to_svg

        return scene_to_svg(self.scene(DrawingConfig()))

    def render(
        self,
        path: str | os.PathLike,
        *,
        max_nodes: int = DrawingConfig.max_nodes,
        max_edges: int = DrawingConfig.max_edges,
    ) -> Path:
        """Draw both graphs on one set of axes as HTML, SVG, PNG, PDF or DOT, by the suffix of `path`, and return the path.

        Colour and form tell what only A has, only B has, and both have. The nodes with the largest influence in either graph
        are shown. HTML is the interactive page of both. Arguments and errors are those of `Graph.render`.
        """
        from cotrace.graphs.drawing.render import PAGE, write_picture

        if Path(path).suffix.lower() == PAGE:
            return page_maker().write(self, Path(path), drawing=DrawingConfig(max_nodes, max_edges))
        return write_picture(path, lambda: self.scene(DrawingConfig(max_nodes, max_edges)))

    def view(self, *, features: str | os.PathLike[str] | None = None, height: int = PAGE_HEIGHT) -> Any:
        """Return the interactive page of both graphs, which a notebook shows; arguments and errors are those of `Graph.view`."""
        return page_maker().embed(self, features=features, height=height)

    def scene(self, config: DrawingConfig) -> Scene:
        """Return the picture of both graphs, to be written as SVG or DOT."""
        from cotrace.graphs.drawing.diff_scene import build_diff_scene

        return build_diff_scene(self.subject, config)

    @property
    def subject(self) -> DiffSubject:
        """What a picture or a page of the difference shows."""
        from cotrace.graphs.drawing.diff_scene import DiffSubject

        parts = self._matching, self.node_values, self.edge_values, self.names, self.targets, self._facts()
        return DiffSubject((self.a, self.b), self.alignment, *parts)

    def _facts(self) -> list[str]:
        """Return numbers and cautions for the caption of a picture."""
        nodes, edges = self.similarity.to_pylist()[0], self.similarity.to_pylist()[-1]
        correlation = "" if self.correlation is None else f", rank correlation {self.correlation:.2f}"
        return [
            f"{nodes['both'] + nodes['changed']:,} nodes in both, {nodes['only_a']:,} only in A, {nodes['only_b']:,} only in B",
            f"weighted Jaccard index of influence {nodes['jaccard']:.2f} of nodes, {edges['jaccard']:.2f} of edges{correlation}",
            *self.cautions,
        ]


def check_options(match: str | None, min_change: float) -> None:
    """Raise ArgumentError for an unknown way to match features, and for a change that is not a share."""
    check_threshold("min_change", min_change)
    if match is not None and match not in MATCH_CHOICES:
        raise ArgumentError(f"match={match!r} is not one of {', '.join(MATCH_CHOICES)}")


def _chosen_targets(graphs: Graphs, target: DiffTarget) -> tuple[Targets, bool]:
    """Return the targets of both graphs, and whether the one of A and the one of B correspond by the user's choice."""
    wanted = tuple(target) if isinstance(target, tuple | list) else (target, target)
    if len(wanted) != 2:
        raise ArgumentError(f"target={target!r}: expected one target, or a pair of one of A and one of B")
    a, b = (choose_targets(graph, name) for graph, name in zip(graphs, wanted, strict=True))
    if target is None and not len(a) == len(b) == 1:
        a, b = (choose_targets(graph, ALL_TARGETS) for graph in graphs)
    at_unembedding = all(
        len(chosen) == 1 and chosen[0]["node"] >= graph.order.logits.start
        for graph, chosen in zip(graphs, (a, b), strict=True)
    )
    return (a, b), at_unembedding and isinstance(target, tuple | list)


def _largest(size: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of the largest positive values, largest first."""
    rows = np.flatnonzero(size > 0)
    return rows[np.argsort(-size[rows], kind="stable")[:count]]


def _correlation(part: SideBySide) -> float | None:
    shared = part.in_both & (part.larger > 0)
    return rank_correlation(part.influence_a[shared], part.influence_b[shared])


def _status_column(rows: SideBySide) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(rows.status), pa.array(STATUS_NAMES))


def _nullable(values: np.ndarray) -> pa.Array:
    """Return integers with nulls for negative ones."""
    return pa.array(values, pa.int64(), mask=values < 0)


def _effects(values: NodesSideBySide, side: str) -> pa.Array:
    """Return the expected effects in one graph, null where it lacks the node."""
    expected, lacking = getattr(values, f"expected_{side}"), getattr(values, f"count_{side}") == 0
    return pa.nulls(len(lacking), pa.float64()) if expected is None else pa.array(expected, mask=lacking)
