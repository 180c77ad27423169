"""Pictures of a graph: SVG, PNG, PDF or DOT, drawn by Graphviz at places that `layout` computes."""

from __future__ import annotations

import html
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import graphviz
import numpy as np

from cotrace.common.errors import CotraceError
from cotrace.common.files import atomic_write

from .layout import (
    AXIS,
    BEND,
    DIAMETERS,
    LABEL_SIZE,
    MARGIN,
    TOKEN_HEIGHT,
    Edges,
    Layout,
    Mark,
    edges_among,
    lay_out,
    positions,
    shorten,
    shown_influence,
    strongest_edges,
    strongest_nodes,
    text_width,
    visible,
    wrap,
)

if TYPE_CHECKING:
    from cotrace.graphs.graph import Graph

FORMATS = ("svg", "png", "pdf", "dot")
FONT = "Helvetica,Arial,sans-serif"
# Okabe and Ito's blue and vermilion differ for every kind of colour vision, and in grey.
POSITIVE, NEGATIVE = "#0072b2", "#d55e00"
INK, PALE_INK, BAND, RULE = "#1f2933", "#6b7682", "#f5f7f9", "#dfe4e9"
STYLES = {
    "feature": {"shape": "circle", "style": "filled", "fillcolor": "#44515e", "color": "#ffffff"},
    "error": {"shape": "diamond", "style": "filled", "fillcolor": "#ffffff", "color": "#52606d"},
    "token": {"shape": "box", "style": "filled,rounded", "fillcolor": "#ffffff", "color": "#9aa5b1"},
    "logit": {"shape": "box", "style": "filled,rounded", "fillcolor": "#fff3c4", "color": "#b8860b"},
}
# A veil under the label of a circle keeps it readable where edges pass.
VEIL = {"shape": "box", "style": "filled", "color": "#ffffff00", "fillcolor": f"{BAND}c0"}
TARGET_FEATURE = {"color": "#b8860b", "penwidth": "3"}
WIDTHS = (0.5, 4.5)  # of an edge without weight and of one that is all of its target's input
OPACITY = (0.16, 0.85)  # of an edge that carries no influence and of the one that carries most
# What a picture uses of the node table; all but the first two is told when the pointer rests on a node.
FACTS = ["kind", "text", "layer", "position", "feature", "activation", "influence"]
LABEL_WIDTHS = {"feature": 76.0, "error": 0.0, "token": 64.0, "logit": 90.0}
LINE = 13.0  # height of a line of the caption


def render(graph: Graph, path: Path, *, max_nodes: int = 60, max_edges: int = 150) -> Path:
    """Draw a graph as SVG, PNG, PDF or DOT, by the ending of `path`; parent folders are made.

    Layers stand bottom to top, token positions left to right. A larger graph is cut to its
    `max_nodes` most influential nodes and the `max_edges` edges that carry the most influence (plus
    the strongest edge out of each node), and the picture says so. The page is a 16:9 slide, larger
    where the nodes need it. The same graph gives the same file.

    Raises ValueError for another ending, for limits too small for a picture, and where Graphviz is
    missing; DOT needs no Graphviz (draw it later with `neato -n2`).
    """
    path = Path(path)
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise CotraceError(f"cannot draw {path.name!r}: give the picture's name the ending .svg, .png, .pdf or .dot")
    if max_nodes < 2 or max_edges < 1:
        raise CotraceError("a picture needs max_nodes of at least 2 and max_edges of at least 1")
    dot = to_dot(graph, max_nodes, max_edges, bitmap=ending == "png")
    data = dot.source.encode() if ending == "dot" else _run_graphviz(dot, ending)
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return path


def to_dot(graph: Graph, max_nodes: int = 60, max_edges: int = 150, *, bitmap: bool = False) -> graphviz.Digraph:
    """The picture as DOT with a place for every node and edge, for `neato -n2`."""
    rows = strongest_nodes(graph, max_nodes)
    among = edges_among(graph, rows)
    edges = strongest_edges(among, max_edges)
    marks = _marks(graph, rows)
    words = _Words.of(graph, marks, len(edges), len(among))
    layout = lay_out(marks, edges, words.header, words.footer)
    return _Drawing(layout, bitmap).draw(marks, edges, words)


# --- files ----------------------------------------------------------------------------------


def _run_graphviz(dot: graphviz.Digraph, ending: str) -> bytes:
    try:
        data = dot.pipe(format=ending, engine="neato", neato_no_op=2, quiet=True)
    except graphviz.ExecutableNotFound as error:
        raise CotraceError(
            f"drawing .{ending} needs the program `dot` of Graphviz; install Graphviz (apt install graphviz, "
            "brew install graphviz or conda install graphviz), or render to .dot"
        ) from error
    except (graphviz.CalledProcessError, BrokenPipeError) as error:  # it may stop before it has read all
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        reason = (said or "it stopped without a word").splitlines()[-1]
        raise CotraceError(f"Graphviz cannot draw .{ending} ({reason}); render to .svg or .dot") from error
    # The day of drawing is the one part of a PDF that differs from run to run; same length, so offsets stay.
    return re.sub(rb"(/CreationDate \(D:)\d{14}", rb"\g<1>20000101000000", data) if ending == "pdf" else data


# --- what is said ---------------------------------------------------------------------------


def _marks(graph: Graph, rows: np.ndarray) -> list[Mark]:
    influence, position = shown_influence(graph), positions(graph)
    circles = rows[rows < graph.order.errors.stop]
    largest = influence[circles].max(initial=0.0) or 1.0
    targets = {target["node"]: target for target in graph.info["targets"]}
    marks = []
    for row, facts in zip(rows.tolist(), graph.nodes.select(FACTS).take(rows).to_pylist(), strict=True):
        target = targets.get(row)
        share = max(0.0, influence[row] / largest)
        mark = Mark(row, facts["kind"], -1 if facts["layer"] is None else facts["layer"], int(position[row]))
        mark.label = shorten(visible(_name(facts, target)), LABEL_WIDTHS[mark.kind])
        mark.size = max(DIAMETERS[0], DIAMETERS[1] * share**0.5) if mark.kind in ("feature", "error") else 0.0
        mark.detail, mark.is_target = _detail(target) if target else "", target is not None
        mark.note = ", ".join([mark.name, *_facts(facts)])
        marks.append(mark)
    return marks


def _name(facts: dict[str, Any], target: dict[str, Any] | None) -> str:
    if facts["kind"] == "error":
        return ""
    if facts["kind"] == "feature":
        return facts["text"] or str(facts["feature"])
    return (target["label"] if target else "") or facts["text"]


def _facts(facts: dict[str, Any]) -> list[str]:
    known = {name: value for name, value in facts.items() if name not in ("kind", "text") and value is not None}
    return [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in known.items()]


def _detail(target: dict[str, Any]) -> str:
    probability = target["probability"]
    return visible(str(target["kind"])) if probability is None else percent(probability)


def percent(share: float) -> str:
    """A share as a percentage with three digits at most: 45.2%, 0.08%, <0.01%."""
    if 0 < share < 1e-4:
        return "<0.01%"
    return f"{100 * share:.3g}%" if share < 0.9995 else f"{100 * share:.4g}%"


LEGEND = (
    ("feature", "feature"),
    ("error", "reconstruction error"),
    ("size", "area: influence"),
    ("token", "token"),
    ("logit", "target"),
    ("target", "target feature"),
    ("positive", "positive"),
    ("negative", "negative edge"),
    ("width", "width: share of input, opacity: influence"),
)


@dataclass
class _Words:
    """Title, caption and legend, and the room they take."""

    title: str
    subtitle: str
    cut: str
    caption: list[str]
    legend: list[tuple[str, str]]
    header: float = 46.0

    @classmethod
    def of(cls, graph: Graph, marks: list[Mark], n_edges: int, n_among: int) -> _Words:
        info, total = graph.info, graph.order.n_nodes
        model, transcoders = (visible(str(info[key]["name"])) for key in ("model", "transcoders"))
        scores, traced = info["scores"], info["traced"]
        cut = f"showing the strongest {len(marks):,} of {total:,} nodes" if len(marks) < total else ""
        caption = [
            f"Showing {len(marks):,} of {_counted(total, 'node')}" if cut else _counted(total, "node"),
            f"the strongest {n_edges:,} of {n_among:,} edges" if n_edges < n_among else _counted(n_edges, "edge"),
            _thresholds(info["pruning"]),
            f"traced {_counted(traced['nodes'], 'node')}, {_counted(traced['edges'], 'edge')}",
            f"replacement score {scores['replacement']:.2f}",
            f"completeness score {scores['completeness']:.2f}",
        ]
        target_features = any(mark.is_target and mark.kind == "feature" for mark in marks)
        legend = [entry for entry in LEGEND if entry[0] != "target" or target_features]
        subtitle = f"Attribution graph  ·  model {model}  ·  transcoders {transcoders}"
        return cls(visible(_ends(info["prompt"])), subtitle, cut, caption, legend)

    def footer(self, width: float) -> float:
        """Height of legend and caption on a page of this width."""
        return MARGIN + LINE * len(self.caption_lines(width)) + 18 * len(self.legend_lines(width)) + 12

    def caption_lines(self, width: float) -> list[str]:
        """The caption on a page of this width."""
        return wrap(self.caption, width - 2 * MARGIN)

    def legend_lines(self, width: float) -> list[list[tuple[str, str, float]]]:
        """Legend entries by line, each with the x of its left end."""
        lines: list[list[tuple[str, str, float]]] = [[]]
        x = MARGIN
        for glyph, text in self.legend:
            entry = glyph_width(glyph) + text_width(text) + 16
            if x + entry > width - MARGIN and lines[-1]:
                lines.append([])
                x = MARGIN
            lines[-1].append((glyph, text, x))
            x += entry
        return lines


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _ends(prompt: str, most: int = 400) -> str:
    # A title shows the start and the end of a prompt; there is no need to measure a whole book.
    return prompt if len(prompt) <= 2 * most else f"{prompt[:most]}…{prompt[-most:]}"


def glyph_width(glyph: str) -> float:
    """Room of a legend entry's picture."""
    return {"size": 44.0, "width": 28.0}.get(glyph, 22.0)


def _thresholds(pruning: dict[str, Any] | None) -> str:
    if pruning is None:
        return "not pruned"
    errors = ", all error nodes kept" if pruning["keep_errors"] else ""
    nodes, edges = percent(pruning["node_threshold"]), percent(pruning["edge_threshold"])
    return f"pruned to {nodes} of node and {edges} of edge influence{errors}"


# --- drawing --------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """A label for DOT that Graphviz shows as it is: no escapes, entities or HTML."""
    return graphviz.escape(text.replace("&", "&amp;"))


def bold(text: str) -> str:
    """The same in bold, as an HTML-like label: Graphviz has no bold font name that SVG and PNG share."""
    return "<<B>" + html.escape(text or " ").replace("\\", "\\\\") + "</B>>"


class _Drawing:
    """Collects the parts of one picture as DOT."""

    def __init__(self, layout: Layout, bitmap: bool):
        self.layout = layout
        self.background: list[str] = []
        self.dot = graphviz.Digraph("attribution graph", comment="draw with: neato -n2 -Tsvg")
        dpi = {"dpi": f"{max(96.0, 2560 * 72 / max(layout.width, 960.0)):g}"} if bitmap else {}
        self.dot.attr(bgcolor="white", pad="0", margin="0", notranslate="true", outputorder="edgesfirst", **dpi)
        self.dot.attr("node", fontname=FONT, fontsize=f"{LABEL_SIZE:g}", fontcolor=INK, fixedsize="true", margin="0")
        self.dot.attr("edge", dir="none")
        for name, x, y in (("corner", 0.0, 0.0), ("far_corner", layout.width, layout.height)):
            self.node(name, x, y, 0, 0, shape="point", style="invis")

    def draw(self, marks: list[Mark], edges: Edges, words: _Words) -> graphviz.Digraph:
        self._stage()
        self._marks(marks)
        self._edges({mark.row: mark for mark in marks}, edges)
        self._words(words)
        self.dot.attr(_background="".join(self.background))
        return self.dot

    def node(self, name: str, x: float, y: float, width: float, height: float, **attributes: str) -> None:
        """A node of a fixed size in points."""
        size = {"width": f"{width / 72:.4f}", "height": f"{height / 72:.4f}"}
        self.dot.node(name, pos=f"{x:.2f},{y:.2f}", **size, **{"label": "", **attributes})

    def text(self, name: str, x: float, y: float, text: str, size: float = LABEL_SIZE, **attributes: str) -> None:
        """A line of text that starts at x."""
        width = self.layout.width - x
        label = graphviz.nohtml(escaped(text) + "\\l")
        options = {"shape": "plaintext", "fontsize": f"{size:g}", "label": label, **attributes}
        self.node(name, x + width / 2, y, width, size * 1.2, **options)

    def _fill(self, colour: str, left: float, bottom: float, right: float, top: float) -> None:
        corners = f"{left:.2f} {bottom:.2f} {right:.2f} {bottom:.2f} {right:.2f} {top:.2f} {left:.2f} {top:.2f}"
        self.background.append(f"c 7 -{colour} C 7 -{colour} P 4 {corners} ")

    def _stroke(self, colour: str, width: float, x0: float, y0: float, x1: float, y1: float) -> None:
        style = f"setlinewidth({width:g})"
        line = f"{x0:.2f} {y0:.2f} {x1:.2f} {y1:.2f}"
        self.background.append(f"S {len(style)} -{style} c {len(colour)} -{colour} L 2 {line} ")

    def _stage(self) -> None:
        """Column bands, layer lines and layer names; dots where positions are left out."""
        layout = self.layout
        spans = list(layout.columns.items())
        left, right = spans[0][1][0], spans[-1][1][1]
        for _, span in spans:
            self._fill(BAND, span[0], layout.bottom, span[1], layout.top)
        for layer, (bottom, top) in layout.layers.items():
            self._stroke(RULE, 0.5, left - 6, bottom, right, bottom)
            self.text(f"layer {layer}", left - AXIS, (bottom + top) / 2, f"L{layer}", fontcolor=PALE_INK)
        for (position, (_, end)), (following, (start, _)) in itertools.pairwise(spans):
            if following > position + 1:
                y = layout.bottom - TOKEN_HEIGHT / 2
                self.node(f"gap {position}", (end + start) / 2, y, 16, 9, shape="plaintext", label="⋯")

    def _marks(self, marks: list[Mark]) -> None:
        # Edges are drawn in the order of their sources: those of influential nodes come on top.
        for mark in sorted(marks, key=lambda mark: mark.size):
            is_feature_target = mark.is_target and mark.kind == "feature"
            style = {**STYLES[mark.kind], **(TARGET_FEATURE if is_feature_target else {})}
            self._mark(mark, tooltip=escaped(mark.note), **style)

    def _mark(self, mark: Mark, **style: str) -> None:
        name = f"node {mark.row}"
        if mark.kind in ("token", "logit"):
            label = escaped(mark.label) if mark.kind == "token" else target_label(mark)
            self.node(name, mark.x, mark.y, mark.width(), mark.height(), label=label, **style)
            return
        x, y, half = mark.circle(self.layout.beside)
        self.node(name, x, y, 2 * half, 2 * half, **style)
        if mark.label:
            wide = text_width(mark.label) + 3
            x, y = (x + half + 2 + wide / 2, y) if self.layout.beside else (x, y - half - LABEL_SIZE * 0.6)
            label = bold(mark.label) if mark.is_target else escaped(mark.label)
            style = {**VEIL, "tooltip": style["tooltip"]}
            self.node(f"{name} label", x, y, wide, LABEL_SIZE * 1.1, label=label, **style)

    def _edges(self, marks: dict[int, Mark], edges: Edges) -> None:
        columns = (edges.source, edges.target, edges.weight, edges.share, edges.carried)
        most = max(edges.carried, default=0.0) or 1.0
        for source, target, weight, share, carried in zip(*(column.tolist() for column in columns), strict=True):
            below, above = marks[source], marks[target]
            opacity = OPACITY[0] + (OPACITY[1] - OPACITY[0]) * (carried / most) ** 0.5
            self.dot.edge(
                f"node {source}",
                f"node {target}",
                pos=self._curve(below, above),
                color=f"{POSITIVE if weight > 0 else NEGATIVE}{round(255 * opacity):02x}",
                penwidth=f"{WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * share:.2f}",
                tooltip=escaped(f"{below.name} → {above.name}: {weight:+.4g}, {percent(share)} of its input"),
            )

    def _curve(self, below: Mark, above: Mark) -> str:
        x0, y0, up = below.circle(self.layout.beside)
        x1, y1, down = above.circle(self.layout.beside)
        y0, y1 = y0 + up, y1 - down
        bend = BEND * (y1 - y0)
        points = ((x0, y0), (x0, y0 + bend), (x1, y1 - bend), (x1, y1))
        return " ".join(f"{x:.2f},{y:.2f}" for x, y in points)

    def _words(self, words: _Words) -> None:
        width, height = self.layout.width, self.layout.height
        note = text_width(words.cut, 11) * 1.1
        title = shorten(words.title, width - 2 * MARGIN - note - 20, 15, keep_end=0.6)
        self.text("title", MARGIN, height - 22, title, 15, fontcolor=INK)
        self.text(
            "subtitle", MARGIN, height - 39, shorten(words.subtitle, width - 2 * MARGIN, 10), 10, fontcolor=PALE_INK
        )
        if words.cut:
            label = graphviz.nohtml(escaped(words.cut) + "\\r")
            style = {"shape": "plaintext", "fontsize": "11", "label": label}
            self.node("cut", width - MARGIN - note / 2, height - 22, note, 14, **style)
        lines = words.caption_lines(width)
        for index, line in enumerate(reversed(lines)):
            self.text(f"caption {index}", MARGIN, MARGIN * 0.8 + LINE * index, line, fontcolor=PALE_INK)
        base = MARGIN + LINE * len(lines)
        for index, entries in enumerate(reversed(words.legend_lines(width))):
            for glyph, text, x in entries:
                self._glyph(glyph, x, base + 6 + 18 * index)
                self.text(f"legend {glyph} text", x + glyph_width(glyph), base + 6 + 18 * index, text)

    def _glyph(self, glyph: str, x: float, y: float) -> None:
        if glyph in ("positive", "negative"):
            self._stroke(POSITIVE if glyph == "positive" else NEGATIVE, 2.5, x, y, x + 17, y)
        elif glyph == "width":
            for index, width in enumerate((0.8, 2.5, 5.0)):
                self._stroke("#9aa5b1", width, x, y + 5 - 5 * index, x + 22, y + 5 - 5 * index)
        elif glyph == "size":
            for index, diameter in enumerate((6.0, 10.0, 15.0)):
                self.node(f"legend size {index}", x + 4 + 13 * index, y, diameter, diameter, **STYLES["feature"])
        elif glyph in ("token", "logit"):
            self.node(f"legend {glyph}", x + 9, y, 17, 11, **STYLES[glyph])
        else:
            style = {**STYLES["feature"], **TARGET_FEATURE} if glyph == "target" else STYLES[glyph]
            self.node(f"legend {glyph}", x + 9, y, 13, 13, **style)


def target_label(mark: Mark) -> str:
    """Two lines: the target in bold, its probability or kind below."""
    second = html.escape(mark.detail or " ").replace("\\", "\\\\")
    return f'{bold(mark.label)[:-1]}<BR/><FONT POINT-SIZE="2"> </FONT><BR/><FONT POINT-SIZE="8.5">{second}</FONT>>'
