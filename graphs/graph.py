"""`Graph`: what users open, prune, draw and save."""

from __future__ import annotations

import copy
import html
import os
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cotrace.common.errors import ArgumentError, FileError

from .annotations import NodeName, as_text, find_nodes, node_groups, with_group
from .checks import check_graph, check_table
from .data import GraphData
from .diff.align import Align
from .diff.diff import MIN_CHANGE, DiffTarget, GraphDiff
from .diff.matching import Match
from .drawing.config import DrawingConfig
from .edge_ends import find_ends
from .effect_table import Effects
from .flow import Flow, flow
from .graph_effects import effects_of_graph
from .grouping.config import GroupConfig
from .grouping.groups import Groups
from .grouping.stored import with_suggestions
from .head_loadings import HeadLoadings
from .influence import node_influence
from .label_columns import node_labels, with_labels, with_more_labels
from .labels import AnyLabel, LabelSource
from .merging import merged_table
from .metadata import check_entries, metadata_of
from .node_sets import NodeSet, find_set
from .nodes import ErrorNode, Feature, Token
from .pages import PAGE_HEIGHT, page_maker
from .paths import Path as NodePath
from .paths import find_paths
from .prune import (
    GraphSelection,
    PruneConfig,
    check_threshold,
    prune_config,
    pruning_record,
    select,
    within,
)
from .pruning_bounds import PruningBounds, certainty, sampling_record
from .query import ancestors, descendants
from .sampling import LEVEL, beyond_rounding
from .saved_effects import SavedEffect, has_effects, saved_effects
from .saved_heads import head_shares, heads_column, saved_loadings
from .schema import HEADS, build_table
from .scores import GraphScores
from .shares import shares
from .smaller import smaller_table
from .store import save_table, table_bytes
from .subgraph import chosen_nodes, is_subgraph, scores_of
from .target_choice import choose_targets
from .uncertainty import influence_interval, influence_kind
from .usual import usual_activation

if TYPE_CHECKING:
    import networkx

    from .exchange.formats import Exported
    from .exchange.tables import Tables


HTML_MAX_NODES = 2_000_000  # above, searching for the nodes to draw takes seconds


class Graph(GraphData):
    """One prompt's attribution graph: a node table with incoming edges as list columns.

    Row = target, column = source, everywhere. `nodes` is the Arrow table with the columns of
    `graphs/schema.py`; `info` is its metadata: model, transcoders, prompt, tokens, targets, settings, and
    under "traced" the size and scores of the graph as it was traced. Arrays are read-only views of the
    table, without a copy. `save` writes edits of `info`, and refuses those that a file cannot hold.
    """

    def __repr__(self) -> str:
        features, errors, tokens, logits = self.order.counts
        whole = "sampled graph" if self.sampled else "graph"
        pruned = "subgraph" if is_subgraph(self) else "pruned graph" if self.info["pruning"] else whole
        return (
            f"<{pruned.capitalize()} of {reprlib.repr(self.info['prompt'])}: {features} features, {errors} errors, "
            f"{tokens} tokens, {logits} logits, {self.n_edges} edges>"
        )

    def _repr_html_(self) -> str:
        """Return the picture as inline SVG, for notebooks; of a graph above `HTML_MAX_NODES`, a line of text.

        As in `render`, the picture of a large graph shows the nodes that matter most and says so.
        """
        if self.order.n_nodes > HTML_MAX_NODES:
            return (
                f"<p><code>{html.escape(repr(self))}</code> is too large for a picture; draw <code>prune()</code></p>"
            )
        from .drawing.render import svg_text

        return svg_text(self)

    # --- labels, groups and notes -----------------------------------------------------------

    def find(self, names: NodeName | Iterable[NodeName]) -> list[int]:
        """Return the numbers of the nodes that one name or several refer to, each once.

        A name is a node number, a `Feature`, `ErrorNode` or `Token`, or a text: one of these (`L17#264@5`), a group, a label, the
        text of a target, or a token as `cotrace show` prints it (`' hot'@4`). Without a position, a feature or error
        node refers to all its nodes. Raises ArgumentError for a name that no node has.
        """
        return find_nodes(self, names)

    @property
    def labels(self) -> dict[Feature | ErrorNode | Token, str]:
        """The labels of features and error nodes; a copy. `label` and `add_labels` change them."""
        return node_labels(self)

    def label(self, nodes: NodeName | Iterable[NodeName], text: str) -> None:
        """Label features or error nodes as the user; a blank text removes their labels.

        Labels are in the column `label`, who says so in `label_source`. They are kept in smaller graphs and in files, shown by
        `cotrace show` and pictures, and are names for `find`: `graph.label("L17#264@5", "not cold")`.

        Raises ArgumentError for a node that is not in the graph or is not a feature or error node, and for a text that
        is invalid or reads as a node or a span.
        """
        self._table = with_labels(self, self.find(nodes), text)

    def add_labels(self, labels: Mapping[Any, AnyLabel], source: LabelSource = "file") -> int:
        """Label many features and error nodes; return the number of nodes that got a label.

        A label replaces one of the same source, or of a weaker one: "user" is the strongest, then "file", "neuronpedia",
        and both automatic ones, "examples" and "outputs". Features that are not in the graph, and empty texts, are passed over.

        Args:
            labels: texts, or labels with their own sources (`Label`), by node: `{"L17#264": "not cold"}`. A key is a `Feature` or
                `ErrorNode`, its text form, or the layer and number of a feature. In a mapping that is no dict, such as the
                labels of a feature store, only the graph's features are looked up, by layer and number.
            source: who says so.

        Raises ArgumentError for an unknown source, a key that is not a feature or error node, a label that is not a text,
        and one of the user that reads as a node.
        """
        self._table, changed = with_more_labels(self, labels, source)
        return changed

    @property
    def groups(self) -> Mapping[str, list[Feature | ErrorNode | Token]]:
        """The nodes of each group, also those that were pruned from this graph; a copy. `group` changes them."""
        return node_groups(self)

    def group(self, name: str, nodes: NodeName | Iterable[NodeName]) -> None:
        """Name several features, error nodes and tokens together, in place of an earlier group; an empty list removes it.

        The group is kept in smaller graphs and in files, shown by `cotrace show` and pictures, and its name is one for
        `find` and `Model.validate`: `graph.group("cold", ["L17#264@5", "L3#812@4"])`.

        Raises ArgumentError for a node that is not in the graph or is a target and no feature, and for a name that reads
        as a node.
        """
        self.info["groups"] = with_group(self, name, self.find(nodes))

    def suggest_groups(
        self,
        target: int | str | None = GroupConfig.target,
        *,
        similarity: float = GroupConfig.similarity,
        max_size: int = GroupConfig.max_size,
        max_features: int = GroupConfig.max_features,
        directions: np.ndarray | None = None,
    ) -> Groups:
        """Suggest groups of features that do the same, across positions and layers; `apply()` of the result writes them.

        Features are compared by their effects on the targets, their signed edges out and in, and their directions if these
        are given, and joined by average linkage. The features of a group have effects of one sign on the target. Features
        in a group of yours are left alone. The same graph always gives the same groups. docs/groups.md has the mathematics.

        Args:
            target: text, label or node number of the target; by default the one target that dominates, or all: then the sign
                is that of the effect on the heaviest.
            similarity: the least mean similarity of two parts that are joined; less makes fewer and larger groups.
            max_size: the most features of a group.
            max_features: the most features that are compared, the most influential ones.
            directions: a vector for each feature of the graph, (N, D), such as its decoder vector, which
                `Model.suggest_groups` takes from the transcoders.

        Raises:
            ArgumentError: an unknown target, an option outside its range, or directions of another shape.
        """
        from .grouping.suggest import suggest_groups

        return suggest_groups(self, GroupConfig(target, similarity, max_size, max_features), directions)

    def remove_suggested_groups(self) -> None:
        """Remove the groups that `suggest_groups` suggested; yours stay as they are."""
        self.info["groups"] = with_suggestions(self.info.get("groups", []), [])

    @property
    def notes(self) -> str:
        """A text of your own about the graph, kept in smaller graphs and in files; set it with `graph.notes = "…"`."""
        return self.info.get("notes", "")

    @notes.setter
    def notes(self, text: str) -> None:
        """Set the notes. Raises ArgumentError for a value that is not a text or not valid Unicode."""
        self.info["notes"] = as_text("notes", text)

    # --- how certain influence is -----------------------------------------------------------

    def influence_interval(self, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper ends of an interval of every node's influence, each (M,) float64.

        Of a sampled graph, intervals are by Student's t distribution over the replicates, and `level` is the share of them that
        cover the influence in the graph with all rows. Of a graph that lacks rows without sampling they are certain: from
        `influence` to `influence + influence_bound`; of an exact one both ends are the influence. After pruning, intervals
        are those of the traced graph. Rows are exact up to rounding, so that no interval of a sampled graph is narrower than that.
        """
        low, high = influence_interval(self, level)
        return beyond_rounding(low, high, self.csr.weights.dtype) if self.estimated else (low, high)

    def influence_kind(self) -> np.ndarray:
        """Return what the influence of every node is, (M,): "exact", "certified" or "estimate".

        "exact": no row that could change it is missing. "certified": it lies certainly between the columns `certified` (without
        sampling: `influence`) and `certified + influence_bound`, which is narrower than the 95% interval of the estimate.
        "estimate": the mean of the replicates, with its `standard_error`, says more than the certain limits.
        """
        return influence_kind(self)

    def merge(self, *others: GraphData) -> Graph:
        """Return the sampled graph of all replicates and rows of this graph and others, with smaller errors.

        All must be samples of one graph: the same prompt, model, transcoders, targets and settings, with other seeds.
        Labels, groups and notes are those of this graph.

        Raises ArgumentError, which says what differs, for other graphs, a pruned one, and a seed that is in two of them.
        """
        return Graph(*merged_table([self, *others]))

    # --- smaller graphs ---------------------------------------------------------------------

    def select(
        self, node_threshold: float | None = None, edge_threshold: float | None = None, keep_errors: bool = False
    ) -> GraphSelection:
        """Return masks of the nodes (M,) and edges (E,) that `prune` keeps, with the same arguments and errors."""
        return self._select(prune_config(node_threshold, edge_threshold, keep_errors, self.info["pruning"]))

    def prune(
        self, node_threshold: float | None = None, edge_threshold: float | None = None, keep_errors: bool = False
    ) -> Graph:
        """Return the graph of the nodes and edges that carry the given shares of the influence.

        Every row's removed edges are summed into its `dropped`, so that it still adds up to the
        pre-activation. Thresholds are shares of the influence in the traced graph. A graph that was pruned to 0.8 is
        pruned to 0.4 by keeping half of the influence that its nodes hold; what was removed before is missing, so that
        the result can differ from that of the traced graph. `info["pruning"]["earlier"]` records the earlier steps.

        Args:
            node_threshold: keep the most influential nodes until they hold this share of all influence. None takes 0.8,
                or what the graph was pruned to before if that is less.
            edge_threshold: keep the strongest edges between these until they hold this share. None takes 0.98, in the
                same way.
            keep_errors: keep all error nodes, whatever their influence.

        Raises:
            ArgumentError: a threshold lies outside [0, 1], or asks for more than a pruned graph holds.
        """
        held = self.info["pruning"]
        config = prune_config(node_threshold, edge_threshold, keep_errors, held)
        pruning = pruning_record(config, held)
        if self._lacks_rows:
            pruning["certainty"] = self.certainty(config.node_threshold).counts()
        if self.sampled:
            low, high = influence_interval(self)
            pruning["sampling"] = sampling_record(self.influence(), low, high, config.node_threshold)
        return self._smaller(self._select(config), pruning=pruning)

    def certainty(self, node_threshold: float = PruneConfig.node_threshold) -> PruningBounds:
        """Return which nodes pass the node threshold of `prune`, or fail it, for any contents of the missing rows.

        `prune` keeps tokens and targets in any case. Raises ArgumentError for a pruned graph, and for a threshold
        outside [0, 1].
        """
        if self.info["pruning"] or is_subgraph(self):
            raise ArgumentError("a pruned graph or subgraph has lost influence; call certainty() of the traced graph")
        check_threshold("node_threshold", node_threshold)
        return certainty(node_influence(self.csr, self.target_weights), self.column("influence_bound"), node_threshold)

    def subgraph(
        self, nodes: NodeSet | None = None, *, min_influence: float | None = None, label: str | None = None
    ) -> Graph:
        """Return the graph of some nodes, all tokens and all targets, with every edge between them.

        With several arguments, nodes must meet all. Edges from nodes that are left out are summed into each row's `dropped`.
        `scores()` of the subgraph counts them as error; `influence()` is along its own edges.

        Args:
            nodes: names and spans, as in `paths`.
            min_influence: keep nodes with at least this influence along the edges of this graph.
            label: keep features and error nodes in whose label this is found: a word, or a regular expression; case does not
                matter.

        Raises ArgumentError for a name that no node has, an influence outside [0, 1], a label that no node has, a regular
        expression that is invalid, and without any argument.
        """
        named = None if nodes is None else find_set(self, nodes)
        kept = chosen_nodes(self, named, min_influence, label)
        edges = kept[self.csr.indices] & np.repeat(kept, self.csr.row_lengths())
        given = {"named": None if named is None else len(named), "min_influence": min_influence, "label": label}
        step: dict[str, Any] = {"nodes": self.order.n_nodes, "edges": self.n_edges}
        step |= {name: value for name, value in given.items() if value is not None}
        return self._smaller(GraphSelection(kept, edges), subgraph=[*self.info.get("subgraph", []), step])

    def scores(self, nodes: NodeSet | None = None) -> GraphScores:
        """Return the replacement and completeness score of this graph's edges, or of some of its nodes.

        Nodes that are left out, by `nodes` or by an earlier `subgraph`, count as error; tokens and targets never do. What
        pruning removed does not count. `info["traced"]["scores"]` keeps the scores of the graph as it was traced.

        Args:
            nodes: names and spans, as in `paths`; None for all nodes of the graph.

        Raises ArgumentError for a name that no node has, and a span outside the prompt.
        """
        numbers = np.arange(self.order.n_nodes)
        if nodes is None and not is_subgraph(self):
            return super().scores()
        return scores_of(self, np.isin(numbers, numbers if nodes is None else find_set(self, nodes)))

    def _smaller(self, selection: GraphSelection, **entries: Any) -> Graph:
        return Graph(*smaller_table(self, selection, entries))

    def _select(self, config: PruneConfig) -> GraphSelection:
        held = self.info["pruning"]
        influence = self.estimated_influence() if self._lacks_rows or self.sampled else None
        if held is not None:
            config, influence = within(config, held), self.column("influence").astype(np.float64)
        return select(self.order, self.csr, self.target_weights, config, computed=self.computed, influence=influence)

    @property
    def _lacks_rows(self) -> bool:
        """True for a traced graph, not a smaller one, without some of its rows."""
        return self.info["traced"]["bound"] > 0 and not self.info["pruning"] and not is_subgraph(self)

    def with_validation(self, validation: dict[str, Any]) -> Graph:
        """Return the same graph with the record of `Model.validate` in its metadata."""
        info = {**copy.deepcopy(self.info), "validation": validation}
        return Graph(self.nodes.replace_schema_metadata(metadata_of(info)), info)

    # --- two graphs -------------------------------------------------------------------------

    def diff(
        self,
        other: GraphData,
        *,
        align: Align = "tokens",
        match: Match | None = None,
        target: DiffTarget = None,
        min_change: float = MIN_CHANGE,
    ) -> GraphDiff:
        """Return this graph (A) and another one (B) side by side: nodes and edges in both, in one alone, and changed.

        Args:
            other: a graph of the same prompt or another one, with the same or another model or transcoders.
            align: which positions correspond: "tokens" for the fewest insertions, deletions and replacements of tokens, "start"
                or "end" for equal positions counted from there, or pairs of positions, such as {4: 5}.
            match: which features correspond, at positions that do: "feature", those with the same layer and number; "label",
                those with the same label; "group", the nodes of groups with the same name; "site", all features of a layer
                together. None takes "feature" for two graphs with the same transcoders, or else "label".
            target: the target whose influence is compared, named as in `choose_targets`, or a pair of one of A and one of B,
                which then correspond. None takes the target that weighs more than all others together if both graphs have
                one, or else all.
            min_change: relative change of influence from which a node or edge in both graphs is "changed": with 0.5, where one
                influence is at least twice the other. Edges whose effects have different signs are changed too. Differences of
                sampled graphs within their 95% intervals are no changes.

        Raises ArgumentError for an unknown word, target or position, a `min_change` outside [0, 1], and something that is no graph.
        """
        return GraphDiff(self, other, align_by=align, match=match, target=target, min_change=min_change)

    # --- queries ----------------------------------------------------------------------------

    def paths(
        self,
        sources: NodeSet | None = None,
        targets: NodeSet | None = None,
        n: int = 5,
        *,
        min_length: int = 1,
        through_errors: bool = False,
    ) -> list[NodePath]:
        """Return the `n` strongest paths from any of some nodes to any of others, strongest first.

        A path is a chain of edges, whose inner nodes may be sources or targets too. Its strength is the share of the
        targets' influence along exactly this chain: the product of its normalised weights, times the weight of its target.
        Targets of the graph have their weights, other nodes their influence, scaled so that they sum to 1; a single node weighs 1.

        Args:
            sources: names as in `find`, or spans of the prompt: `"@2:6"` and `slice(2, 6)` are all features, error nodes and
                tokens at positions 2 to 5. None for all tokens.
            targets: the same; None for the targets of the graph.
            n: number of paths.
            min_length: number of edges that a path has at least.
            through_errors: without `sources`, let paths start at error nodes too.

        Raises ArgumentError for a name that no node has, a span outside the prompt, and `min_length` below 1.
        """
        return find_paths(self, sources, targets, n, min_length=min_length, through_errors=through_errors)

    def ancestors(self, nodes: NodeSet, min_share: float = 0.0) -> pa.Table:
        """Return the nodes from which paths lead to a node, or to any of several, largest share first.

        Args:
            nodes: names and spans, as in `paths`.
            min_share: leave out ancestors with a smaller share; 0 keeps every node from which edges lead to these.

        Returns:
            A table of the nodes: the columns that identify them; `share`, the share of the input of `nodes` that passes
            through the ancestor or starts there, by the absolute weights of all paths; and `effect`, its signed effect on
            the node over all paths, in units of what the node reads, null if several nodes are named. Several nodes weigh as in
            `paths`.

        Raises ArgumentError for a name that no node has, a span outside the prompt, and a share outside [0, 1].
        """
        return ancestors(self, nodes, min_share)

    def descendants(self, nodes: NodeSet, min_share: float = 0.0) -> pa.Table:
        """Return the nodes to which paths lead from a node, or from any of several, largest share first.

        Arguments and errors are those of `ancestors`. `share` is the share of a descendant's input, by the absolute weights of
        all paths, that visits any of the nodes. `effect` is what all these nodes together contribute to the descendant's value;
        it is null for descendants that are named themselves.
        """
        return descendants(self, nodes, min_share)

    def flow(self, spans: Mapping[str, Any], targets: NodeSet | None = None) -> Flow:
        """Return the influence and the effects that edges carry from span to span of the prompt, and into the targets.

        What starts in a span and what enters it equals what leaves it; what enters the targets is all influence, 1.

        Args:
            spans: spans by name: `(start, stop)`, a slice, a range or a list of positions, which do not overlap. The other
                positions are the span "other".
            targets: targets of the graph, or features in it, as in `paths`; None for all targets of the graph.

        Raises ArgumentError for invalid spans, a name that no node has, and targets that are all tokens or error nodes.
        """
        return flow(self, spans, targets)

    def shares(
        self, spans: Mapping[str, Any] | None = None, targets: NodeSet | None = None, *, level: float = LEVEL
    ) -> pa.Table:
        """Return the share of all influence that starts at the tokens of each span of the prompt, and at error nodes.

        Of a sampled graph they are unbiased estimates with standard errors and intervals. Without sampling, standard
        errors are 0, and low and high are certain: they differ by the influence that ends at features without a row.

        Args:
            spans: spans by name, as in `flow`; the other positions are the span "other". None takes the segments
                of a transcript, or else five parts of equal length.
            targets: targets of the graph, or features in it, as in `flow`; None for all targets of the graph.
            level: share of intervals that cover the true value.

        Returns:
            A table with the columns name, share, standard_error, low and high; its last row is "errors".

        Raises ArgumentError for invalid spans, and a name that no node has.
        """
        return shares(self, spans, targets, level)

    # --- effects ----------------------------------------------------------------------------

    def effects(
        self, targets: NodeName | Iterable[NodeName] | None = None, *, segments: Mapping[str, Any] | None = None
    ) -> Effects:
        """Return the effects of all nodes on targets along this graph's edges, without the model.

        They are those of `Model.effects` with `freeze="all"`, less what edges that were pruned, and rows that were not computed,
        would add; the `remainder` in the ledger is what leaves and constants lack of the value for this reason.

        Args:
            targets: targets of the graph, or features in it, named as in `find`; None for all targets of the graph.
            segments: named spans of the prompt, as in `Model.effects`.

        Raises ArgumentError for a name that no node has, for an error node or token, for a feature whose row was not computed,
        and for invalid segments.
        """
        return effects_of_graph(self, targets, segments)

    # --- attention heads --------------------------------------------------------------------

    def with_head_loadings(self, last_ELH: np.ndarray) -> Graph:
        """Return the same graph with the parts of its edges by last attention head, (E, L, H); `Model.add_heads` computes them."""
        info = {**copy.deepcopy(self.info), HEADS: {"per_layer": last_ELH.shape[2]}}
        columns: dict[str, Any] = {
            name: self.nodes[name].chunk(0)
            for name in self.nodes.column_names
            if name not in ("node", "kind", "sources", "weights", HEADS)
        }
        columns[HEADS] = heads_column(self, last_ELH)
        return Graph(build_table(self.order, columns, self.csr, info), info)

    def heads(self, source: NodeName, target: NodeName) -> HeadLoadings:
        """Return the attention heads that carry an edge, by the last head that a path passes.

        `source` and `target` are names as in `find`. Raises ArgumentError for a name that fits no node or several, for an
        edge that is not in the graph, and for a graph without head loadings, which `cotrace trace --heads` and
        `Model.add_heads` add.
        """
        return saved_loadings(self, *find_ends(self, source, target))

    def head_shares(self) -> pa.Table:
        """Return the share of the influence along edges that passes each attention head last, largest first.

        Columns: layer, head and share; nulls are paths without attention. An edge's influence is divided among its heads in
        proportion to their absolute loadings, so that shares add up to 1. Raises ArgumentError for a graph without head
        loadings.
        """
        return head_shares(self)

    # --- files and exchange -----------------------------------------------------------------

    def save(self, path: str | os.PathLike) -> Path:
        """Write one Arrow IPC file, atomically, and create its parent folders.

        A path that ends in .zst is compressed; it takes less disk space and cannot be memory-mapped. The file has `info`
        and the labels as they are now.

        Returns the path.

        Raises:
            ArgumentError: `nodes` or `info` was edited so that the file could not be opened.
            FileError: the file cannot be written.
            ResourceError: the disk is full.
        """
        path = Path(path)
        save_table(self._checked_table(), path)
        return path

    def to_bytes(self) -> bytes:
        """Return the content of the file that `save` writes, not compressed. Raises ArgumentError as `save` does."""
        return table_bytes(self._checked_table())

    def _checked_table(self) -> pa.Table:
        """Return the node table with the current metadata. Raises ArgumentError if a file of it could not be opened."""
        check_entries(self.info)
        table = self.nodes.replace_schema_metadata(metadata_of(self.info))
        try:
            check_table(table)
            check_graph(self)
        except (pa.ArrowException, FileError) as error:
            reason = str(error).partition(";")[0]
            raise ArgumentError(f"this graph cannot be saved: {reason}; undo the edit of its nodes or info") from error
        return table

    def render(
        self,
        path: str | os.PathLike,
        *,
        max_nodes: int = DrawingConfig.max_nodes,
        max_edges: int = DrawingConfig.max_edges,
        target: int | str | None = DrawingConfig.target,
    ) -> Path:
        """Draw the graph as HTML, SVG, PNG, PDF or DOT, by the suffix of `path`, and return the path.

        HTML is the interactive page (docs/page.md), with all nodes and edges: the other arguments are about the picture of
        browsers that do not run it. The page has the cards of the feature store that ships, if there is one; `view` and
        `cotrace render` take others. For the other formats see `graphs.drawing.render.render`.
        """
        from .drawing.render import PAGE, render

        if Path(path).suffix.lower() == PAGE:
            return page_maker().write(self, Path(path), drawing=DrawingConfig(max_nodes, max_edges, target))
        return render(self, path, max_nodes=max_nodes, max_edges=max_edges, target=target)

    def view(self, *, features: str | os.PathLike[str] | None = None, height: int = PAGE_HEIGHT) -> Any:
        """Return the interactive page of the graph, which a notebook shows.

        The page is all in the notebook, in a frame of its own, and can be used offline; `cotrace view` also saves changes.

        Args:
            features: folder of the feature store whose cards are shown; by default the one that ships for the graph's
                transcoders, if there is one.
            height: height of the frame in pixels.

        Raises ArgumentError for a store of other transcoders, and for a graph that is too large, FileError for a damaged store.
        """
        return page_maker().embed(self, features=features, height=height)

    def usual_activation(self, feature: Feature | str) -> float:
        """Return the mean activation of a feature over the positions of this graph at which it is active.

        It is the unit for the size of an edit: `add(2 * graph.usual_activation("L12#28"))`. The position of `feature` does
        not matter. Raises ArgumentError for a feature that is active nowhere in the graph.
        """
        named = Feature.parse(feature) if isinstance(feature, str) else feature
        if not isinstance(named, Feature):
            raise ArgumentError(f"invalid feature {feature!r}: expected one such as L17#264@5")
        return usual_activation(self, named.layer, named.feature)

    @property
    def has_effects(self) -> bool:
        """True if the graph was traced with effects, which `effects_on` returns."""
        return has_effects(self)

    def effects_on(self, target: int | str | None = None, kind: SavedEffect = "expected") -> np.ndarray:
        """Return the effect of every node on one target, (M,), in units of what the target reads, such as logits.

        Effects are saved by the trace, so that pruned edges and rows that were not computed do not change them. They are
        NaN for targets at the unembedding.

        Args:
            target: text, label or node number of the target; None for the heaviest.
            kind: "expected" for the change of the target that is expected when the node is ablated: minus the first-order
                effect in the model as it is, in which attention, norms and MLPs respond. "total" for the contribution of
                the node over all paths with attention patterns, norm scales and active features frozen.

        Raises:
            ArgumentError: the graph has no effects or no such target, or an unknown kind.
        """
        return saved_effects(self, choose_targets(self, "all" if target is None else target)[:1], kind)[0]

    def to_networkx(self) -> networkx.DiGraph:
        """Return a NetworkX DiGraph with edges from source to target; `cotrace.from_networkx` is the way back.

        Nodes are node numbers, with the columns of `nodes` as attributes; see `graphs.exchange.networkx`.
        """
        from .exchange.networkx import to_networkx

        return to_networkx(self)

    def to_polars(self) -> Tables:
        """Return two polars data frames: nodes, with a column `name`, and edges, with source, target and weight.

        Raises DependencyError without polars.
        """
        from .exchange.tables import to_polars

        return to_polars(self)

    def to_pandas(self) -> Tables:
        """Return two pandas data frames: nodes, with a column `name`, and edges, with source, target and weight.

        Raises DependencyError without pandas.
        """
        from .exchange.tables import to_pandas

        return to_pandas(self)

    def export(self, path: str | os.PathLike, to: str | None = None, **options: str) -> Exported:
        """Write the graph for another tool; return the paths of the files, and what of the graph they do not hold.

        Args:
            path: where to write. CSV and Parquet are two files, whose names end in `.nodes.csv` and `.edges.csv`.
            to: neuronpedia, graphml, gexf, csv, parquet or dot; by default what the suffix of `path` says, where .json is
                neuronpedia.
            options: for neuronpedia: `slug`, the graph's name there; `scan`, the model's id there; `source_set`, the set
                that has dashboards of these features.

        Raises:
            ArgumentError: an unknown format, or options of another one.
            FileError: a file cannot be written.
            ResourceError: the disk is full.
        """
        from .exchange.formats import export

        return export(self, Path(path), to, **options)
