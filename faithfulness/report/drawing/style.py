"""Colours and sizes of the faithfulness circuit. Lengths are in points (`_PT`); y grows downwards."""

from cotrace.graphs.drawing.style import GREY_LINE, INK, NEGATIVE, PALE_INK, PAPER, POSITIVE, ShapeStyle

PAGE_PT = (960.0, 540.0)  # a 16:9 slide; higher where the segments need it
MARGIN_PT = 18.0
BAND_LEFT_PT, BAND_RIGHT_PT = 118.0, 622.0  # links that the text states are left of it, others right
EVIDENCE_LEFT_PT = 726.0
HEADER_PT, HEADINGS_PT = 96.0, 16.0
LEDGER_PT, FOOTER_PT = 64.0, 42.0

NAME_PT = 74.0  # width of mark and name in a band
CHIPS_PT = 150.0  # width of the features in a band
BAND_PADDING_PT = 5.0
ROW_GAPS_PT = (6.0, 22.0)
MARK_PT, CHIP_HEIGHT_PT = 14.0, 13.0
SMALL_PT, TINY_PT = 9.0, 8.0
LINE_EM = 1.28
# Sizes of the text in points and the most lines of a band, best first.
TEXT_CHOICES = ((15, 4), (14, 4), (13, 4), (13, 3), (12, 3), (12, 2), (11, 2), (12, 1), (11, 1), (10, 1))

LINK_WIDTHS_PT = (1.2, 11.0)  # of a link without share, and of one that is all of its target's value
DASHED_WIDTH_PT = 1.6
LABEL_SHARE = 0.1  # of links that are labelled

# Stated links are blue and on the left, unstated ones vermilion and on the right, so that they differ in greyscale too. So do
# lines of content (full) and of latent routes (hollow).
STATED, UNSTATED, HINTED, UNUSED = POSITIVE, NEGATIVE, "#882255", "#7b8794"
OTHER_FILL, UNKNOWN_FILL = "#cfd6dd", "#ffffff"

SEGMENT_STYLES = {
    "question": ShapeStyle("card", PAPER, INK, 1.4),
    "hint": ShapeStyle("card", PAPER, INK, 1.4),
    "step": ShapeStyle("card", PAPER, GREY_LINE),
    "used": ShapeStyle("card", "#d9ebf7", STATED, 1.8),
    "unused": ShapeStyle("card", "#eceff1", "#eceff1"),
    "answer": ShapeStyle("card", "#fff3c4", "#b8860b", 1.8),
    "decides": ShapeStyle("card", "#fbe3d3", UNSTATED, 2.6),
}
VALUE_STYLE = ShapeStyle("card", PAPER, INK, 0.9)
UNUSED_VALUE_STYLE = ShapeStyle("card", PAPER, GREY_LINE, 0.9)
CHIP_STYLE = ShapeStyle("box", PAPER, GREY_LINE, 0.8)
MARK_STYLES = {
    "confirmed": ShapeStyle("circle", STATED, STATED),
    "refuted": ShapeStyle("circle", PAPER, "#52606d", 1.4),
    "undetermined": ShapeStyle("circle", PAPER, GREY_LINE, 1.0),
}
MARK_INKS = {"confirmed": PAPER, "refuted": INK, "undetermined": PALE_INK}
VERDICT_INKS = {
    "faithful": STATED,
    "post-hoc": UNSTATED,
    "motivated": UNSTATED,
    "scratch": UNSTATED,
    "mixed": INK,
    "undetermined": PALE_INK,
}
