"""`Groups`: suggested groups as a table, which write themselves into their graph and take themselves out again."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import pyarrow as pa

from cotrace.common.visible_text import printable
from cotrace.graphs.data import GraphData
from cotrace.graphs.nodes import Feature

from .config import GroupConfig
from .kept import KeptByGroups
from .stored import with_suggestions


@dataclass(frozen=True)
class SuggestedGroup:
    """Features that do the same."""

    name: str
    """A name that no other group of the graph has."""
    label: str
    """The label of the member whose words the others share most; empty if no member has one."""
    nodes: tuple[int, ...]
    """Numbers of the members, the most influential first."""
    members: tuple[Feature, ...]
    """The members as features with a position: `Supernode(group.members, group.name)` edits them together."""
    influence: float
    """Sum of the members' influence on the target."""
    effect: float
    """Change of the target that is expected when the members are ablated: the sum over members, in its units."""
    similarity: float
    """Mean similarity of two members, at most 1."""
    reason: str
    """The profiles that members share, with mean cosines: `same effects (0.95), same outputs (0.71)`."""


class Groups(Sequence[SuggestedGroup]):
    """Groups that `Graph.suggest_groups` suggests, the most influential first.

    Attributes:
        graph: the graph of the groups.
        config: the options.
        target: label of the target that `SuggestedGroup.effect` is about.
        compared: number of features that were compared.
        kept: how much of the graph the groups keep.
    """

    def __init__(
        self,
        graph: GraphData,
        config: GroupConfig,
        groups: Sequence[SuggestedGroup],
        *,
        target: str,
        compared: int,
        kept: KeptByGroups,
    ):
        self.graph, self.config, self._groups = graph, config, tuple(groups)
        self.target, self.compared, self.kept = target, compared, kept

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, index: int) -> SuggestedGroup: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SuggestedGroup]: ...
    def __getitem__(self, index: int | slice) -> SuggestedGroup | Sequence[SuggestedGroup]:
        return self._groups[index]

    def __iter__(self) -> Iterator[SuggestedGroup]:
        return iter(self._groups)

    def __repr__(self) -> str:
        grouped = sum(len(group.nodes) for group in self)
        return (
            f"<Groups: {len(self)} of {grouped} among {self.compared} features, {self.kept.influence:.1%} of the influence "
            "of all features>"
        )

    def _repr_html_(self) -> str:
        """Return the table, for notebooks."""
        rows = (
            f"<tr><td>{html.escape(printable(group.name))}</td><td>{len(group.nodes)}</td><td>{group.influence:.4f}</td>"
            f"<td>{group.effect:+.3f}</td><td>{html.escape(group.reason)}</td></tr>"
            for group in self
        )
        header = "<tr><th>group</th><th>features</th><th>influence</th><th>if ablated</th><th>reason</th></tr>"
        return f"<p><code>{html.escape(repr(self))}</code></p><table>{header}{''.join(rows)}</table>"

    @cached_property
    def table(self) -> pa.Table:
        """A row for each group: name, label, size, influence, effect, similarity, reason, and its nodes as texts."""
        return pa.table(
            {
                "name": pa.array([group.name for group in self], pa.string()),
                "label": pa.array([group.label for group in self], pa.string()),
                "size": pa.array([len(group.nodes) for group in self], pa.int32()),
                "influence": pa.array([group.influence for group in self], pa.float64()),
                "effect": pa.array([group.effect for group in self], pa.float64()),
                "similarity": pa.array([group.similarity for group in self], pa.float64()),
                "reason": pa.array([group.reason for group in self], pa.string()),
                "nodes": pa.array([[str(member) for member in group.members] for group in self], pa.list_(pa.string())),
            }
        )

    def entries(self) -> list[dict[str, Any]]:
        """Return the groups as entries of `graph.info["groups"]`, without their source."""
        return [
            {"name": group.name, "nodes": [*map(str, group.members)], "reason": group.reason, "label": group.label}
            for group in self
        ]

    def apply(self) -> None:
        """Write the groups into the graph, in place of earlier suggestions; the user's groups stay as they are.

        They are kept in smaller graphs and in files, and their names are names for `Graph.find`.
        """
        self.graph.info["groups"] = with_suggestions(self.graph.info.get("groups", []), self.entries())

    def undo(self) -> None:
        """Remove all suggested groups from the graph; the user's groups stay as they are."""
        self.graph.info["groups"] = with_suggestions(self.graph.info.get("groups", []), [])
