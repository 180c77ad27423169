"""Fonts, colours and sizes that every picture format shares. Lengths are in points (`_PT`)."""

from dataclasses import dataclass, replace

FONT = "Helvetica,Arial,sans-serif"
LABEL_PT = 9.0
TITLE_PT, SUBTITLE_PT, NOTE_PT = 15.0, 10.0, 11.0
DETAIL_PT = 8.5  # second line of a target
CAPTION_LINE_PT, LEGEND_LINE_PT = 13.0, 18.0

MARGIN_PT = 18.0
HEADER_PT = 46.0  # title and subtitle
LAYER_NAME_PT = 30.0  # width of the layer names, left of the columns
NODE_GAP_PT = 8.0  # between columns, and between the nodes of a column
TOKEN_HEIGHT_PT, TARGET_HEIGHT_PT, TARGET_LINE_PT = 18.0, 28.0, 33.0  # a line of targets has some space
DIAMETERS_PT = (6.0, 23.0)  # of a node of size 0, and of the largest one
LABEL_WIDTHS_PT = {"feature": 76.0, "error": 76.0, "token": 64.0, "logit": 90.0}

EDGE_WIDTHS_PT = (0.5, 4.5)  # of an edge without weight, and of one that is all of its target's input
EDGE_OPACITIES = (0.16, 0.85)  # of an edge that carries no influence, and of the one that carries most
DASH_PT = 5.0  # length of a dash and of the gap after it
CARD_RADIUS_PT = 4.0  # largest radius of a card's corners
EDGE_BEND = 0.45  # distance of an edge's control points from its ends, as a share of its height

# Okabe and Ito's blue and vermilion can be told apart with every kind of colour vision, and in grey.
POSITIVE, NEGATIVE = "#0072b2", "#d55e00"
INK, PALE_INK, GREY_LINE = "#1f2933", "#6b7682", "#9aa5b1"
BAND, RULE, PAPER = "#f5f7f9", "#dfe4e9", "#ffffff"
VEIL_OPACITY = 0.75  # of the band colour under a label, which keeps it readable where edges pass


@dataclass(frozen=True)
class ShapeStyle:
    """Form and colours of a node."""

    form: str
    """One of "circle", "diamond", "box" (rounded), "card" (with small corners), and "left" and "right" (arrow heads)."""
    fill: str
    stroke: str
    stroke_width: float = 1.0

    @property
    def holds_text(self) -> bool:
        """True for the forms that have their text inside."""
        return self.form in ("box", "card")


STYLES = {
    "feature": ShapeStyle("circle", "#44515e", PAPER),
    "error": ShapeStyle("diamond", PAPER, "#52606d"),
    "token": ShapeStyle("box", PAPER, GREY_LINE),
    "logit": ShapeStyle("box", "#fff3c4", "#b8860b"),
}
TARGET_FEATURE_STYLE = replace(STYLES["feature"], stroke="#b8860b", stroke_width=3.0)

# Pictures of two graphs: Okabe and Ito's green and Tol's purple, so that no side looks like a sign.
SIDE_COLORS = {"a": "#009e73", "b": "#aa4499"}
SIDE_FORMS = {"a": "left", "b": "right"}
CHANGED_STROKE_PT = 3.0  # of the ring around a node of both graphs that matters more in one
