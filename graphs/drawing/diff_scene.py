"""The picture of two graphs on one set of axes."""

from dataclasses import dataclass, replace

import numpy as np

from cotrace.common.visible_text import visible
from cotrace.graphs.data import GraphData
from cotrace.graphs.diff.align import Alignment
from cotrace.graphs.diff.matching import ERROR, LOGIT, TOKEN, Graphs, Matching, Targets
from cotrace.graphs.diff.naming import UnitNames
from cotrace.graphs.diff.tables import DiffStatus, EdgesSideBySide, NodesSideBySide

from .caption import PictureText
from .config import DrawingConfig
from .diff_select import edges_between, strongest_units
from .layout import PageLayout, compute_layout
from .picture_nodes import KIND_NAMES, PictureNode
from .primitives import Scene, SceneEdge
from .scene import LEGEND_SYMBOLS, add_axes, add_caption, add_title, curve, node_name, node_shape
from .select import EdgeTable, strongest_edges
from .style import (
    CHANGED_STROKE_PT,
    DIAMETERS_PT,
    EDGE_OPACITIES,
    EDGE_WIDTHS_PT,
    GREY_LINE,
    LABEL_WIDTHS_PT,
    SIDE_COLORS,
    SIDE_FORMS,
    STYLES,
    ShapeStyle,
)
from .text import format_count, format_percent, shorten

PICTURE_KINDS = {ERROR: "error", TOKEN: "token", LOGIT: "logit"}  # all others are drawn as features
SIDES = ("a", "b")
SMALLEST_FORM_PT = 8.0  # of a form that is not a circle, to tell which one it is
LEGEND = {
    "both": "in both",
    "more_a": "in both, larger in A",
    "more_b": "in both, larger in B",
    "only_a": "only in A",
    "only_b": "only in B",
    "error": "reconstruction error",
    "size": "area: larger influence",
    "edge_both": "edge in both",
    "edge_a": "edge only or larger in A",
    "edge_b": "edge only or larger in B",
    "dashed": "negative",
    "width": "width: larger influence",
}
STATUS_TEXTS = {
    DiffStatus.BOTH: "in both",
    DiffStatus.CHANGED: "in both, changed",
    DiffStatus.ONLY_A: "only in A",
    DiffStatus.ONLY_B: "only in B",
}
MAX_TITLE_CHARACTERS = 400  # of a prompt; measuring a whole book would be slow


@dataclass(frozen=True, eq=False)
class DiffSubject:
    """What a picture of two graphs shows: the parts of a `GraphDiff`."""

    graphs: Graphs
    alignment: Alignment
    matching: Matching
    nodes: NodesSideBySide
    edges: EdgesSideBySide
    names: UnitNames
    targets: Targets
    facts: list[str]
    """Parts of the caption."""


def build_diff_scene(subject: DiffSubject, config: DrawingConfig) -> Scene:
    """Return the picture of two graphs, cut to the limits of `config`."""
    layers, columns = unit_places(subject)
    shown = strongest_units(
        subject.matching.kind, columns, subject.nodes.larger, _target_weights(subject), subject.edges, config.max_nodes
    )
    candidates = edges_between(subject.edges, shown)
    edges = strongest_edges(candidates, config.max_edges)
    nodes = [_picture_node(subject, unit, int(layers[unit]), int(columns[unit])) for unit in shown.tolist()]
    text = _picture_text(subject, nodes, len(edges), len(candidates))
    layout = compute_layout(nodes, edges, text.footer)
    scene = Scene(layout.width, layout.height, text.title)
    add_axes(scene, layout)
    # Small nodes come first: where Graphviz draws the edges, those of influential nodes end up on top.
    scene.shapes += [node_shape(node, layout) for node in sorted(nodes, key=lambda node: node.diameter)]
    _add_edges(scene, layout, {node.row: node for node in nodes}, edges, subject.edges)
    add_title(scene, text)
    add_caption(scene, text, LEGEND_SYMBOLS | _legend_symbols())
    return scene


# --- nodes ----------------------------------------------------------------------------------


def unit_places(subject: DiffSubject) -> tuple[np.ndarray, np.ndarray]:
    """Return the layer and the column in which each unit is drawn, (U,): its own, or those of its most influential node."""
    matching, last = subject.matching, len(subject.alignment.positions) - 1
    layers, columns = matching.layer.copy(), matching.column.copy()
    for side, nodes in ((1, subject.nodes.node_b), (0, subject.nodes.node_a)):  # A has the last word
        graph, here = subject.graphs[side], nodes >= 0
        layer, position = (graph.column(name, -1)[nodes] for name in ("layer", "position"))
        free = here & (matching.layer < 0)
        layers[free] = layer[free]
        free = here & (matching.column < 0) & (position >= 0)
        columns[free] = subject.alignment.columns(side)[position[free]]
    circles = ~np.isin(matching.kind, (TOKEN, LOGIT))
    return np.where(circles, np.maximum(layers, 0), -1), np.where(columns < 0, last, columns)


def _target_weights(subject: DiffSubject) -> np.ndarray:
    """Return the weight of each unit as a target, the larger of both graphs, (U,)."""
    weights = np.zeros(subject.matching.n_units)
    for unit_M, targets in zip(subject.matching.unit_of, subject.targets, strict=True):
        for target in targets:
            unit = unit_M[target["node"]]
            weights[unit] = max(weights[unit], target["weight"])
    return weights


def _picture_node(subject: DiffSubject, unit: int, layer: int, column: int) -> PictureNode:
    values = subject.nodes
    kind = PICTURE_KINDS.get(int(subject.matching.kind[unit]), "feature")
    status = DiffStatus(int(values.status[unit]))
    node = PictureNode(unit, kind, layer, column)
    node.label = _label(subject, unit, kind, status)
    node.detail = _probabilities(subject, unit) if kind == "logit" else ""
    node.name = f"{KIND_NAMES[kind]} {visible(subject.names.name(unit))}"
    node.tooltip = ", ".join(_facts(subject, unit, node, status))
    node.style = _style(kind, _symbol(values, unit))
    if not node.is_box:
        largest = values.larger.max(initial=0.0) or 1.0
        least = DIAMETERS_PT[0] if node.style.form == "circle" else SMALLEST_FORM_PT
        node.diameter = max(least, DIAMETERS_PT[1] * (values.larger[unit] / largest) ** 0.5)
    return node


def _label(subject: DiffSubject, unit: int, kind: str, status: DiffStatus) -> str:
    side = {DiffStatus.ONLY_A: "A", DiffStatus.ONLY_B: "B"}.get(status, "")
    if kind == "error":
        return side
    if kind in ("token", "logit"):  # their form is that of a box in either graph
        text = shorten(subject.names.shown(unit), LABEL_WIDTHS_PT[kind])
        return f"{side}: {text}" if side else text
    return shorten(subject.names.shown(unit), LABEL_WIDTHS_PT[kind])


def _probabilities(subject: DiffSubject, unit: int) -> str:
    """Return the probabilities of a target in A and in B."""
    shown = [
        f"{name} {format_percent(target['probability'])}"
        for unit_M, targets, name in zip(subject.matching.unit_of, subject.targets, "AB", strict=True)
        for target in targets
        if unit_M[target["node"]] == unit and target["probability"] is not None
    ]
    return "  ".join(shown)


def _facts(subject: DiffSubject, unit: int, node: PictureNode, status: DiffStatus) -> list[str]:
    """Return the facts of a tooltip: name, label, where it is, influence and expected effect in each graph."""
    values, facts = subject.nodes, [node.name]
    label = subject.names.label(unit)
    if label:
        facts.append(f"“{visible(label)}”")
    facts.append(STATUS_TEXTS[status])
    facts += [f"{node.detail.replace('  ', ', ')}"] * bool(node.detail)
    for side, name in zip(SIDES, "AB", strict=True):
        if getattr(values, f"count_{side}")[unit]:
            facts.append(f"influence in {name} {getattr(values, f'influence_{side}')[unit]:.4g}")
            expected = getattr(values, f"expected_{side}")
            if expected is not None and node.kind != "logit":
                facts.append(f"expected change if ablated in {name} {expected[unit]:+.4g}")
    return facts


def _symbol(values: NodesSideBySide, unit: int) -> str:
    """Return the entry of `LEGEND` for a node: where it is."""
    status = DiffStatus(int(values.status[unit]))
    if status == DiffStatus.CHANGED:
        return "more_a" if values.influence_a[unit] > values.influence_b[unit] else "more_b"
    return status.name.lower()


def _style(kind: str, symbol: str) -> ShapeStyle:
    """Return form and colours: of features both tell the graph, of boxes and diamonds the stroke does."""
    style = STYLES[kind]
    if symbol == "both":
        return style
    side = symbol[-1]
    if kind == "feature" and symbol.startswith("only"):
        return ShapeStyle(SIDE_FORMS[side], SIDE_COLORS[side], style.stroke)
    width = CHANGED_STROKE_PT if kind == "feature" else CHANGED_STROKE_PT * 0.75
    return replace(style, stroke=SIDE_COLORS[side], stroke_width=width)


def _legend_symbols() -> dict[str, ShapeStyle | str]:
    nodes = {symbol: _style("feature", symbol) for symbol in ("both", "more_a", "more_b", "only_a", "only_b")}
    return {**nodes, "edge_both": GREY_LINE, "edge_a": SIDE_COLORS["a"], "edge_b": SIDE_COLORS["b"]}


# --- edges ----------------------------------------------------------------------------------


def _add_edges(
    scene: Scene, layout: PageLayout, nodes: dict[int, PictureNode], shown: EdgeTable, edges: EdgesSideBySide
) -> None:
    """Add the edges of a table whose weights are numbers of edges."""
    largest = max(shown.influence, default=0.0) or 1.0
    for edge in shown.weight.astype(np.int64).tolist():
        below, above = nodes[int(edges.source[edge])], nodes[int(edges.target[edge])]
        weights, influences = (
            (getattr(edges, f"{name}_a")[edge], getattr(edges, f"{name}_b")[edge]) for name in ("weight", "influence")
        )
        status, share = DiffStatus(int(edges.status[edge])), max(influences) / largest
        stronger = int(influences[1] > influences[0])
        is_one_sided = status >= DiffStatus.ONLY_A or (status == DiffStatus.CHANGED and influences[0] != influences[1])
        numbers = [
            f"effect in {name} {weight:+.4g}, influence {influence:.4g}"
            for name, weight, influence in zip("AB", weights, influences, strict=True)
            if weight
        ]
        scene.edges.append(
            SceneEdge(
                node_name(below.row),
                node_name(above.row),
                curve(below.shape(layout.label_beside), above.shape(layout.label_beside)),
                color=SIDE_COLORS[SIDES[stronger]] if is_one_sided else GREY_LINE,
                opacity=EDGE_OPACITIES[0] + (EDGE_OPACITIES[1] - EDGE_OPACITIES[0]) * share**0.5,
                width=EDGE_WIDTHS_PT[0] + (EDGE_WIDTHS_PT[1] - EDGE_WIDTHS_PT[0]) * share**0.5,
                tooltip=f"{below.name} → {above.name}: {STATUS_TEXTS[status]}, {'; '.join(numbers)}",
                dashed=weights[stronger] < 0,
                data=(("edge", f"{below.row} {above.row}"),),
            )
        )


# --- text -----------------------------------------------------------------------------------


def _picture_text(subject: DiffSubject, nodes: list[PictureNode], n_edges: int, n_candidates: int) -> PictureText:
    total = subject.matching.n_units
    is_cut = len(nodes) < total
    caption = [
        f"Showing {len(nodes):,} of {format_count(total, 'node')}, by the larger influence"
        if is_cut
        else format_count(total, "node"),
        f"the strongest {n_edges:,} of {n_candidates:,} edges"
        if n_edges < n_candidates
        else format_count(n_edges, "edge"),
        *subject.facts,
    ]
    unused = {"error", "both", "more_a", "more_b", "only_a", "only_b"} - {node.kind for node in nodes}
    unused -= {_symbol(subject.nodes, node.row) for node in nodes if node.kind in ("feature", "error")}
    return PictureText(
        title=_both(*(visible(graph.info["prompt"][:MAX_TITLE_CHARACTERS]) for graph in subject.graphs)),
        subtitle=f"Two attribution graphs  ·  {_both(*map(_origin, subject.graphs))}",
        cut_note=f"showing the strongest {len(nodes):,} of {total:,} nodes" if is_cut else "",
        caption=caption,
        legend=[(symbol, text) for symbol, text in LEGEND.items() if symbol not in unused],
    )


def _both(a: str, b: str) -> str:
    return a if a == b else f"A: {a}  ·  B: {b}"


def _origin(graph: GraphData) -> str:
    return f"{visible(str(graph.info['model']['name']))} with {visible(str(graph.info['transcoders']['name']))}"
