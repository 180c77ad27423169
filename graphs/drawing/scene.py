"""The picture of a graph as shapes, curves and lines of text."""

import itertools
from collections.abc import Mapping

from cotrace.graphs.data import GraphData
from cotrace.graphs.head_loadings import strongest_heads
from cotrace.graphs.saved_heads import has_heads, saved_loadings

from .caption import LegendEntry, PictureText, picture_text
from .config import DrawingConfig
from .layout import PageLayout, compute_layout
from .picture_nodes import PictureNode, picture_nodes
from .primitives import Data, Point, Scene, SceneBand, SceneEdge, SceneLine, SceneShape, SceneText
from .select import EdgeTable, edges_among, picture_subject, strongest_edges, strongest_nodes
from .style import (
    CAPTION_LINE_PT,
    DETAIL_PT,
    EDGE_BEND,
    EDGE_OPACITIES,
    EDGE_WIDTHS_PT,
    GREY_LINE,
    LABEL_PT,
    LAYER_NAME_PT,
    LEGEND_LINE_PT,
    MARGIN_PT,
    NEGATIVE,
    NOTE_PT,
    PALE_INK,
    POSITIVE,
    RULE,
    STYLES,
    SUBTITLE_PT,
    TARGET_FEATURE_STYLE,
    TITLE_PT,
    TOKEN_HEIGHT_PT,
    ShapeStyle,
)
from .text import format_percent, shorten, text_width

HEADS_SHOWN = 3
LEGEND_SYMBOLS: dict[str, ShapeStyle | str] = {
    **STYLES,
    "target feature": TARGET_FEATURE_STYLE,
    "positive": POSITIVE,
    "negative": NEGATIVE,
}
LINE_SYMBOLS = {  # start, height, end and width of the lines of a symbol
    "width": ((0, 5, 22, 0.8), (0, 0, 22, 2.5), (0, -5, 22, 5.0)),
    "dashed": ((0, 0, 5, 2.5), (9, 0, 14, 2.5)),
}


def build_scene(graph: GraphData, config: DrawingConfig) -> Scene:
    """Return the picture of a graph, cut to the limits of `config`."""
    subject = picture_subject(graph, config.target)
    rows = strongest_nodes(subject, config.max_nodes)
    candidates = edges_among(subject, rows)
    edges = strongest_edges(candidates, config.max_edges)
    nodes = picture_nodes(subject, rows)
    text = picture_text(subject, nodes, len(edges), len(candidates))
    layout = compute_layout(nodes, edges, text.footer)
    scene = Scene(layout.width, layout.height, text.title)
    add_axes(scene, layout)
    # Small nodes come first: where Graphviz draws the edges, those of influential nodes end up on top.
    scene.shapes += [node_shape(node, layout) for node in sorted(nodes, key=lambda node: node.diameter)]
    _add_edges(scene, layout, {node.row: node for node in nodes}, edges, graph)
    add_title(scene, text)
    add_caption(scene, text, LEGEND_SYMBOLS)
    return scene


def add_axes(scene: Scene, layout: PageLayout) -> None:
    """Add column bands, layer lines and layer names, and dots where positions are left out."""
    columns = list(layout.columns.items())
    left, right = columns[0][1][0], columns[-1][1][1]
    scene.bands += [SceneBand(start, layout.bottom, end, layout.top) for _, (start, end) in columns]
    for layer, (bottom, top) in layout.layers.items():
        scene.lines.append(SceneLine((left - 6, bottom), (right, bottom), RULE, 0.5))
        name, x, y = f"L{layer}", left - LAYER_NAME_PT, (bottom + top) / 2
        scene.texts.append(SceneText(f"layer {layer}", x, y, name, color=PALE_INK))
    for (position, (_, end)), (following, (start, _)) in itertools.pairwise(columns):
        if following > position + 1:
            x, y = (end + start) / 2, layout.bottom - TOKEN_HEIGHT_PT / 2
            scene.texts.append(SceneText(f"gap {position}", x, y, "⋯", anchor="middle"))


def node_shape(node: PictureNode, layout: PageLayout) -> SceneShape:
    """Return the shape of a node with its label."""
    x, y, half = node.shape(layout.label_beside)
    is_target_feature = node.is_target and not node.is_box
    style = node.style or (TARGET_FEATURE_STYLE if is_target_feature else STYLES[node.kind])
    width = node.width() if node.is_box else 2 * half
    texts = tuple(text for text in _node_texts(node, layout, x, y, half) if text.text)
    return SceneShape(node_name(node.row), x, y, width, 2 * half, style, texts, node.tooltip, _data(node.row))


def node_name(row: int) -> str:
    """Return the name by which edges refer to the shape of a node."""
    return f"node {row}"


def _data(row: int) -> Data:
    return (("node", str(row)),)


def _node_texts(node: PictureNode, layout: PageLayout, x: float, y: float, half: float) -> list[SceneText]:
    name = f"{node_name(node.row)} label"
    if node.kind == "logit":
        return [
            SceneText(name, x, y + 6, node.label, anchor="middle", bold=True),
            SceneText(f"{name} detail", x, y - 5, node.detail, DETAIL_PT, anchor="middle"),
        ]
    if node.is_box:
        return [SceneText(name, x, y, node.label, anchor="middle")]
    if layout.label_beside:
        return [SceneText(name, x + half + 3.5, y, node.label, bold=node.is_target)]
    return [SceneText(name, x, y - half - LABEL_PT * 0.6, node.label, anchor="middle", bold=node.is_target)]


def _add_edges(
    scene: Scene, layout: PageLayout, nodes: dict[int, PictureNode], edges: EdgeTable, graph: GraphData
) -> None:
    columns = (edges.source, edges.target, edges.weight, edges.input_share, edges.influence)
    largest = max(edges.influence, default=0.0) or 1.0
    for source, target, weight, share, influence in zip(*(column.tolist() for column in columns), strict=True):
        below, above = nodes[source], nodes[target]
        edge = SceneEdge(
            node_name(source),
            node_name(target),
            curve(below.shape(layout.label_beside), above.shape(layout.label_beside)),
            color=POSITIVE if weight > 0 else NEGATIVE,
            opacity=EDGE_OPACITIES[0] + (EDGE_OPACITIES[1] - EDGE_OPACITIES[0]) * (influence / largest) ** 0.5,
            width=EDGE_WIDTHS_PT[0] + (EDGE_WIDTHS_PT[1] - EDGE_WIDTHS_PT[0]) * share,
            tooltip=f"{below.name} → {above.name}: effect {weight:+.4g}, {format_percent(share)} of its input"
            f"{_heads(graph, source, target)}",
            data=(("edge", f"{source} {target}"),),
        )
        scene.edges.append(edge)


def _heads(graph: GraphData, source: int, target: int) -> str:
    """Return the attention heads that carry most of an edge, in words, if the graph has head loadings."""
    strongest = strongest_heads(saved_loadings(graph, source, target).last, HEADS_SHOWN) if has_heads(graph) else []
    return f", heads {', '.join(strongest)}" if strongest else ""


def curve(below: tuple[float, float, float], above: tuple[float, float, float]) -> tuple[Point, Point, Point, Point]:
    """Return an edge between two shapes, each given as centre x, centre y and half the height."""
    (x0, y0, up), (x1, y1, down) = below, above
    y0, y1 = y0 + up, y1 - down
    bend = EDGE_BEND * (y1 - y0)
    return (x0, y0), (x0, y0 + bend), (x1, y1 - bend), (x1, y1)


def add_title(scene: Scene, text: PictureText) -> None:
    """Add the title, the subtitle and the note that the picture is cut."""
    width, y = scene.width - 2 * MARGIN_PT, scene.height - 22
    note_width = text_width(text.cut_note, NOTE_PT) * 1.1
    title = shorten(text.title, width - note_width - 20, TITLE_PT, keep_end=0.6)
    subtitle = shorten(text.subtitle, width, SUBTITLE_PT)
    scene.texts.append(SceneText("title", MARGIN_PT, y, title, TITLE_PT))
    scene.texts.append(SceneText("subtitle", MARGIN_PT, scene.height - 39, subtitle, SUBTITLE_PT, PALE_INK))
    if text.cut_note:
        scene.texts.append(SceneText("cut", scene.width - MARGIN_PT, y, text.cut_note, NOTE_PT, anchor="end"))


def add_caption(scene: Scene, text: PictureText, symbols: Mapping[str, ShapeStyle | str]) -> None:
    """Add the legend and, below it, the caption. `symbols` are the styles of shapes and the colours of lines by name."""
    lines = text.caption_lines(scene.width)
    for index, line in enumerate(reversed(lines)):
        y = MARGIN_PT * 0.8 + CAPTION_LINE_PT * index
        scene.texts.append(SceneText(f"caption {index}", MARGIN_PT, y, line, color=PALE_INK))
    base = MARGIN_PT + CAPTION_LINE_PT * len(lines) + 6
    for index, entries in enumerate(reversed(text.legend_lines(scene.width))):
        for entry in entries:
            _add_legend_entry(scene, entry, symbols.get(entry.symbol), base + LEGEND_LINE_PT * index)


def _add_legend_entry(scene: Scene, entry: LegendEntry, symbol: ShapeStyle | str | None, y: float) -> None:
    name, x = f"legend {entry.symbol}", entry.x
    scene.texts.append(SceneText(f"{name} text", x + entry.symbol_width, y, entry.text))
    if isinstance(symbol, ShapeStyle):
        width, height = (17, 11) if symbol.form == "box" else (13, 13)
        scene.shapes.append(SceneShape(name, x + 9, y, width, height, symbol))
    elif symbol is not None:
        scene.lines.append(SceneLine((x, y), (x + 17, y), symbol, 2.5))
    elif entry.symbol == "size":
        for index, size in enumerate((6.0, 10.0, 15.0)):
            scene.shapes.append(SceneShape(f"{name} {index}", x + 4 + 13 * index, y, size, size, STYLES["feature"]))
    else:
        scene.lines += [
            SceneLine((x + a, y + b), (x + c, y + b), GREY_LINE, w) for a, b, c, w in LINE_SYMBOLS[entry.symbol]
        ]
