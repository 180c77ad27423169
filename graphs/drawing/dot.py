"""DOT writer through the `graphviz` package, and PNG and PDF through the program `dot` of Graphviz."""

import html
import re

import graphviz

from cotrace.common.errors import DependencyError

from .primitives import Scene, SceneBand, SceneEdge, SceneLine, SceneShape, SceneText
from .style import BAND, FONT, INK, LABEL_PT, VEIL_OPACITY, ShapeStyle
from .text import text_width

POINTS_PER_INCH = 72
MIN_DPI, BITMAP_WIDTH_PIXELS = 96.0, 2560
FORMS = {
    "circle": {"shape": "circle", "style": "filled"},
    "diamond": {"shape": "diamond", "style": "filled"},
    "box": {"shape": "box", "style": "filled,rounded"},
    "card": {"shape": "box", "style": "filled"},
    "left": {"shape": "triangle", "style": "filled", "orientation": "90"},
    "right": {"shape": "triangle", "style": "filled", "orientation": "-90"},
}


def scene_to_dot(scene: Scene, *, bitmap: bool = False) -> graphviz.Digraph:
    """Return the picture as DOT with coordinates for every node and edge, for `neato -n2`.

    With `bitmap` it also states a resolution, for PNG.
    """
    dot = graphviz.Digraph("attribution graph", comment="draw with: neato -n2 -Tsvg")
    dpi = max(MIN_DPI, BITMAP_WIDTH_PIXELS * POINTS_PER_INCH / max(scene.width, 960.0))
    options = {"dpi": f"{dpi:g}"} if bitmap else {}
    dot.attr(bgcolor="white", pad="0", margin="0", notranslate="true", outputorder="edgesfirst", **options)
    dot.attr("node", fontname=FONT, fontsize=f"{LABEL_PT:g}", fontcolor=INK, fixedsize="true", margin="0")
    dot.attr("edge", dir="none")
    for name, x, y in (("corner", 0.0, 0.0), ("far_corner", scene.width, scene.height)):
        _add_node(dot, name, (x, y), (0, 0), shape="point", style="invis")
    for shape in scene.shapes:
        _add_shape(dot, shape)
    for edge in scene.edges:
        _add_edge(dot, edge)
    for text in scene.texts:
        _add_text(dot, text)
    # A backslash in front of a line break continues a string, of which Graphviz reads at most 16 KiB without a break.
    dot.attr(_background="\\\n".join([*map(_fill, scene.bands), *map(_stroke, scene.lines)]))
    return dot


def run_graphviz(scene: Scene, suffix: str) -> bytes:
    """Return the picture as PNG or PDF.

    Raises:
        DependencyError: Graphviz is not installed, or fails.
    """
    dot = scene_to_dot(scene, bitmap=suffix == "png")
    try:
        data = dot.pipe(format=suffix, engine="neato", neato_no_op=2, quiet=True)
    except graphviz.ExecutableNotFound as error:
        raise DependencyError(
            f".{suffix} pictures need the program `dot` of Graphviz: apt install graphviz, brew install graphviz or "
            "conda install graphviz; .svg and .dot need no Graphviz"
        ) from error
    except (graphviz.CalledProcessError, BrokenPipeError) as error:  # it may stop before it has read everything
        message = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        reason = (message or "it printed no error message").splitlines()[-1]
        raise DependencyError(f"Graphviz cannot draw .{suffix} ({reason}); render to .svg or .dot") from error
    # The date is the one part of a PDF that differs between runs. Equally long text keeps its byte offsets valid.
    return re.sub(rb"(/CreationDate \(D:)\d{14}", rb"\g<1>20000101000000", data) if suffix == "pdf" else data


def _add_node(
    dot: graphviz.Digraph, name: str, center: tuple[float, float], size: tuple[float, float], **attributes: str
) -> None:
    (x, y), (width, height) = center, (f"{length / POINTS_PER_INCH:.4f}" for length in size)
    dot.node(name, pos=f"{x:.2f},{y:.2f}", width=width, height=height, **{"label": "", **attributes})


def _add_shape(dot: graphviz.Digraph, shape: SceneShape) -> None:
    options = {**_style(shape.style), **({"tooltip": escaped(shape.tooltip)} if shape.tooltip else {})}
    if shape.style.holds_text and shape.texts:
        options["label"] = _box_label(shape.texts)
    _add_node(dot, shape.name, (shape.x, shape.y), (shape.width, shape.height), **options)
    if not shape.style.holds_text:
        for text in shape.texts:
            _add_label(dot, text, shape.tooltip)


def _style(style: ShapeStyle) -> dict[str, str]:
    width = {} if style.stroke_width == 1 else {"penwidth": f"{style.stroke_width:g}"}
    return {**FORMS[style.form], "fillcolor": style.fill, "color": style.stroke, **width}


def _box_label(texts: tuple[SceneText, ...]) -> str:
    if len(texts) == 1 and (texts[0].bold, texts[0].size, texts[0].color) == (False, LABEL_PT, INK):
        return escaped(texts[0].text)
    line_break = '<BR/><FONT POINT-SIZE="2"> </FONT><BR/>'
    return f"<{line_break.join(map(_html, texts))}>"


def _add_label(dot: graphviz.Digraph, text: SceneText, tooltip: str) -> None:
    """Add the label of a circle on a veil that keeps it readable where edges pass."""
    width = text_width(text.text, text.size) + 3
    x = text.x if text.anchor == "middle" else text.x - 1.5 + width / 2
    veil = {"shape": "box", "style": "filled", "color": "#ffffff00", "fillcolor": BAND + _hex(VEIL_OPACITY)}
    label = f"<{_html(text)}>" if text.bold else escaped(text.text)
    _add_node(dot, text.name, (x, text.y), (width, text.size * 1.1), label=label, tooltip=escaped(tooltip), **veil)


def _add_edge(dot: graphviz.Digraph, edge: SceneEdge) -> None:
    dot.edge(
        edge.source,
        edge.target,
        pos=" ".join(f"{x:.2f},{y:.2f}" for x, y in edge.points),
        color=edge.color + _hex(edge.opacity),
        penwidth=f"{edge.width:.2f}",
        tooltip=escaped(edge.tooltip),
        **({"style": "dashed"} if edge.dashed else {}),
    )


def _add_text(dot: graphviz.Digraph, text: SceneText) -> None:
    width = text_width(text.text, text.size) * 1.1 + 4
    shift, line_end = {"start": (width / 2, "\\l"), "middle": (0.0, "\\n"), "end": (-width / 2, "\\r")}[text.anchor]
    label = graphviz.nohtml(escaped(text.text) + line_end)
    if text.bold:
        label = f"<{_html(text)}>" if text.anchor == "middle" else _bold_line(text, width)
    options = {"shape": "plaintext", "fontsize": f"{text.size:g}", "fontcolor": text.color, "label": label}
    _add_node(dot, text.name, (text.x + shift, text.y), (width, text.size * 1.2), **options)


def _bold_line(text: SceneText, width: float) -> str:
    """Return the label of a bold line that starts or ends at a side of its node; only tables are not centred."""
    side = "LEFT" if text.anchor == "start" else "RIGHT"
    table = f'<TABLE BORDER="0" CELLBORDER="0" CELLPADDING="0" CELLSPACING="0" WIDTH="{width:.0f}">'
    return f'<{table}<TR><TD ALIGN="{side}">{_html(text)}</TD></TR></TABLE>>'


def _fill(band: SceneBand) -> str:
    corners = ((band.left, band.bottom), (band.right, band.bottom), (band.right, band.top), (band.left, band.top))
    points = " ".join(f"{x:.2f} {y:.2f}" for x, y in corners)
    return f"c {len(band.fill)} -{band.fill} C {len(band.fill)} -{band.fill} P 4 {points} "


def _stroke(line: SceneLine) -> str:
    style = f"setlinewidth({line.width:g})"
    points = " ".join(f"{x:.2f} {y:.2f}" for x, y in (line.start, line.end))
    return f"S {len(style)} -{style} c {len(line.color)} -{line.color} L 2 {points} "


def _hex(opacity: float) -> str:
    return f"{round(255 * opacity):02x}"


def escaped(text: str) -> str:
    """Return a label that Graphviz shows as it is: no escapes, entities or HTML."""
    return graphviz.escape(text.replace("&", "&amp;"))


def _html(text: SceneText) -> str:
    # Bold only exists in HTML-like labels: no bold font name works in both PNG and PDF.
    content = html.escape(text.text or " ").replace("\\", "\\\\")
    if text.size != LABEL_PT:
        content = f'<FONT POINT-SIZE="{text.size:g}">{content}</FONT>'
    if text.color != INK:
        content = f'<FONT COLOR="{text.color}">{content}</FONT>'
    return f"<B>{content}</B>" if text.bold else content
