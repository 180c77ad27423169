"""Nodes of a picture: labels, sizes and tooltips from the node table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cotrace.common.visible_text import visible
from cotrace.graphs.annotations import groups_of_nodes
from cotrace.graphs.effects import total_effects
from cotrace.graphs.labels import GIVEN_SOURCES, short_label
from cotrace.graphs.nodes import ErrorNode, Feature
from cotrace.graphs.saved_effects import has_effects, saved_effects
from cotrace.graphs.uncertainty import standard_errors

from .select import PictureSubject, node_positions
from .style import DIAMETERS_PT, LABEL_PT, LABEL_WIDTHS_PT, TARGET_HEIGHT_PT, TOKEN_HEIGHT_PT, ShapeStyle
from .text import format_percent, shorten, text_width

COLUMNS = ["kind", "text", "label", "label_source", "layer", "position", "feature", "activation", "influence"]
KIND_NAMES = {"feature": "feature", "error": "error node", "token": "token", "logit": "target"}


@dataclass
class PictureNode:
    """One node of a picture. `compute_layout` sets `x` and `y`.

    Features and errors are circles and diamonds with a label beside or below them; tokens and targets are boxes with
    the label inside. Lengths are in points, from the lower left corner of the page.
    """

    row: int
    """Number of the node in the graph."""
    kind: str
    layer: int
    """-1 for tokens."""
    position: int
    label: str = ""
    detail: str = ""
    """Second line of a target: its probability or kind."""
    diameter: float = 0.0
    """Of a feature or an error node."""
    name: str = ""
    """Full name in tooltips, with layer and position: "feature L17#264@5", "token ␣hot@4"."""
    tooltip: str = ""
    is_target: bool = False
    style: ShapeStyle | None = None
    """Form and colours; None for those of its kind."""
    x: float = 0.0
    """Centre of the shape and its label together."""
    y: float = 0.0

    @property
    def is_box(self) -> bool:
        """True for tokens and targets."""
        return self.kind in ("token", "logit")

    def width(self, label_beside: bool = True) -> float:
        """Return the width of shape and label together."""
        text = text_width(self.label)
        if self.is_box:
            return max(text * 1.1, text_width(self.detail)) + 10
        gap = 3.0 if self.label else 0.0
        return self.diameter + gap + text if label_beside else max(self.diameter, text)

    def height(self, label_beside: bool = True) -> float:
        """Return the height of shape and label together."""
        if self.is_box:
            return TOKEN_HEIGHT_PT if self.kind == "token" else TARGET_HEIGHT_PT
        line = LABEL_PT * 1.15 if self.label else 0.0
        return max(self.diameter, line) if label_beside else self.diameter + line

    def shape(self, label_beside: bool = True) -> tuple[float, float, float]:
        """Return centre x, centre y and half the height of the shape without its label."""
        if self.is_box:
            return self.x, self.y, self.height() / 2
        radius = self.diameter / 2
        if not self.label:
            return self.x, self.y, radius
        if label_beside:
            return self.x - self.width() / 2 + radius, self.y, radius
        return self.x, self.y + self.height(False) / 2 - radius, radius


def picture_nodes(subject: PictureSubject, rows: np.ndarray) -> list[PictureNode]:
    """Return the nodes with the given numbers, without positions on the page."""
    graph, size, position = subject.graph, subject.size, node_positions(subject.graph)
    circles = rows[rows < graph.order.errors.stop]
    largest = size[circles].max(initial=0.0) or 1.0
    targets = {target["node"]: target for target in graph.info["targets"]}
    effects, groups, error_M = _effects(subject), groups_of_nodes(graph), standard_errors(graph, subject.weights)
    nodes = []
    for row, values in zip(rows.tolist(), graph.nodes.select(COLUMNS).take(rows).to_pylist(), strict=True):
        values |= {"position": int(position[row]), "traced_influence": values["influence"]}
        values |= {"influence": float(subject.influence[row]), "error": float(error_M[row]), "sampled": graph.sampled}
        node = _node(row, values, targets.get(row), groups.get(row, []))
        in_groups = [f"group {visible(name)}" for name in groups.get(row, [])]
        node.tooltip = ", ".join([*_facts(values, node, targets.get(row)), *effects(row), *in_groups])
        if not node.is_box:  # the area is proportional to the expected effect, or to the influence
            node.diameter = max(DIAMETERS_PT[0], DIAMETERS_PT[1] * max(0.0, size[row] / largest) ** 0.5)
        nodes.append(node)
    return nodes


def _effects(subject: PictureSubject) -> Callable[[int], list[str]]:
    """Return a function that describes the effect of a node on the heaviest target, and the change if it is ablated."""
    target = subject.targets[0]["node"]
    effect, expected = total_effects(subject.graph, [target])[0], None
    if has_effects(subject.graph):
        expected = np.nan_to_num(saved_effects(subject.graph, subject.targets[:1])[0])
    name = shorten(visible(subject.targets[0]["label"]), LABEL_WIDTHS_PT["logit"])

    def describe(row: int) -> list[str]:
        if row == target:
            return []
        facts = [] if effect[row] == 0 else [f"effect on {name} {effect[row]:+.4g}"]
        return facts if expected is None else [*facts, f"expected change of {name} if ablated {expected[row]:+.4g}"]

    return describe


def _node(row: int, values: dict[str, Any], target: dict[str, Any] | None, groups: list[str]) -> PictureNode:
    kind, layer = values["kind"], values["layer"]
    node = PictureNode(row, kind, -1 if layer is None else layer, values["position"], is_target=target is not None)
    node.label = shorten(visible(_label(values, target, groups)), LABEL_WIDTHS_PT[kind])
    node.name = f"{KIND_NAMES[kind]} {_full_name(values, node.label)}"
    node.detail = _detail(target) if target else ""
    return node


def _label(values: dict[str, Any], target: dict[str, Any] | None, groups: list[str]) -> str:
    label, is_given = short_label(values["label"]), values["label_source"] in GIVEN_SOURCES
    named = label if is_given or not groups else ", ".join(groups)
    if values["kind"] == "error":
        return named
    if values["kind"] == "feature":  # layer and position can be read off the axes
        return named or str(values["feature"])
    return (target["label"] if target else "") or values["text"]


def _full_name(values: dict[str, Any], shown: str) -> str:
    """Return the name of a node with its whole label, or what the picture shows of a token's or target's text."""
    if values["kind"] not in ("feature", "error"):
        return f"{shown}@{values['position']}"
    site, label = (values["layer"], values["position"]), values["label"]
    name = ErrorNode(*site) if values["kind"] == "error" else Feature(site[0], values["feature"], site[1])
    return f"{name} {visible(label)}" if label else str(name)


def _facts(values: dict[str, Any], node: PictureNode, target: dict[str, Any] | None) -> list[str]:
    """Return the facts of a tooltip: name, probability or kind of a target, activation, influence."""
    facts = [node.name]
    if values["label"]:
        facts.append(f"label from {values['label_source']}")
    if target:
        is_probability = target["probability"] is not None
        facts.append(f"probability {node.detail}" if is_probability else f"target: {node.detail}")
    if values["activation"] is not None:
        facts.append(f"activation {values['activation']:.4g}")
    if values["influence"] > 0 or not target:
        facts.append(f"influence {values['influence']:.4g}{_error(values) if values['sampled'] else ''}")
        if values["error"] and not values["sampled"]:
            facts.append(f"in the traced graph {values['traced_influence']:.4g}{_error(values)}")
    return facts


def _error(values: dict[str, Any]) -> str:
    """Return the standard error of an influence; nothing for one that all replicates agree on."""
    return f" ± {values['error']:.2g}" if values["error"] else ""


def _detail(target: dict[str, Any]) -> str:
    probability = target["probability"]
    return visible(str(target["kind"])) if probability is None else format_percent(probability)
