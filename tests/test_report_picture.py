"""The picture of a report: its machine-readable claims, what it shows of odd transcripts, and every format."""

import itertools
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from helpers.reports import REPORTS, Step, build

from cotrace.common.errors import ArgumentError
from cotrace.faithfulness.report.drawing.features import MAX_FEATURES, FeatureRanking
from cotrace.faithfulness.report.drawing.layout import compute_rows
from cotrace.faithfulness.report.drawing.links import links_of
from cotrace.faithfulness.report.drawing.render import report_svg
from cotrace.faithfulness.report.drawing.style import BAND_LEFT_PT, BAND_RIGHT_PT, PAGE_PT
from cotrace.faithfulness.report.drawing.text_lines import ELLIPSIS, lines_of, pieces_of
from cotrace.faithfulness.report.drawing.words import SENTENCES
from cotrace.graphs import Graph
from cotrace.graphs.drawing.text import text_width

SVG = "{http://www.w3.org/2000/svg}"
needs_graphviz = pytest.mark.skipif(
    shutil.which("dot") is None, reason="NOT TESTED: Graphviz is missing (apt install graphviz)"
)
every_report = pytest.mark.parametrize("name", REPORTS)


class Picture:
    """The elements of a picture by their attributes `data-…`."""

    def __init__(self, report):
        self.root = ElementTree.fromstring(report_svg(report))

    def all(self, attribute):
        """Return the elements with an attribute, in the order in which they are drawn."""
        return [each for each in self.root.iter() if each.get(f"data-{attribute}") is not None]

    def links(self, kind):
        """Return the ends and routes of the links of one kind."""
        links = [each for each in self.all("kind") if each.get("data-kind") == kind]
        return {(each.get("data-source"), each.get("data-target"), each.get("data-via")) for each in links}

    def texts(self):
        return [each.text or "" for each in self.root.iter(f"{SVG}text")]


def expected_links(report, *, cited, used):
    rows = report.links.to_pylist()
    return {(row["source"], row["statement"]) for row in rows if (row["cited"], row["used"]) == (cited, used)}


# --- claims ---------------------------------------------------------------------------------


@every_report
def test_the_page_claims_verdict_score_and_largest_cell(name):
    report = REPORTS[name]()
    root = Picture(report).root
    assert root.get("data-report-verdict") == report.verdict
    assert root.get("data-report-score") == ("" if report.score is None else f"{report.score:g}")
    largest = max(report.sources.to_pylist(), key=lambda row: row["share"])
    assert root.get("data-largest-cell") == largest["cell"]


@every_report
def test_the_bar_has_every_cell_as_wide_as_its_share(name):
    report = REPORTS[name]()
    drawn = {each.get("data-cell"): each for each in Picture(report).all("cell")}
    shares = dict(zip(report.sources["cell"].to_pylist(), report.sources["share"].to_pylist(), strict=True))
    assert set(drawn) == {cell for cell, share in shares.items() if share > 0}
    width = sum(float(each.get("width")) for each in drawn.values())
    for cell, each in drawn.items():
        assert float(each.get("data-share")) == pytest.approx(shares[cell], abs=1e-5)
        assert float(each.get("width")) / width == pytest.approx(shares[cell], abs=2e-4)


@every_report
def test_parts_of_the_bar_add_up_to_one_and_always_name_what_is_unknown(name):
    parts = {each.get("data-part"): float(each.get("data-part-share")) for each in Picture(REPORTS[name]()).all("part")}
    assert sum(parts.values()) == pytest.approx(1, abs=0.03)  # parts below half a percent are not listed
    assert "unknown" in parts


@every_report
def test_links_are_drawn_by_what_the_text_says_and_the_model_does(name):
    report = REPORTS[name]()
    picture = Picture(report)
    for kind, (cited, used) in {"stated": (True, True), "unstated": (False, True), "unused": (True, False)}.items():
        drawn = {(source, target) for source, target, _ in picture.links(kind)}
        assert drawn == expected_links(report, cited=cited, used=used), kind


@every_report
def test_only_links_that_the_model_does_not_use_are_dashed(name):
    report = REPORTS[name]()
    paths = Picture(report).all("kind")
    dashed = {
        (each.get("data-source"), each.get("data-target")) for each in paths if each.get("stroke-dasharray") is not None
    }
    assert dashed == expected_links(report, cited=True, used=False)


@every_report
def test_stated_links_run_left_of_the_bands_and_unstated_ones_right(name):
    for each in Picture(REPORTS[name]()).all("kind"):
        xs = [float(x) for x in re.findall(r"(-?[\d.]+),", each.get("d"))]
        if each.get("data-kind") == "unstated":
            assert min(xs) >= BAND_RIGHT_PT
        else:
            assert max(xs) <= BAND_LEFT_PT


@every_report
def test_links_are_as_wide_as_their_share(name):
    used = [each for each in Picture(REPORTS[name]()).all("kind") if each.get("data-kind") != "unused"]
    ordered = sorted(used, key=lambda each: float(each.get("data-share")))
    widths = [float(each.get("stroke-width")) for each in ordered]
    assert widths == sorted(widths)


@every_report
def test_every_step_has_its_mark_verdict_and_score(name):
    report = REPORTS[name]()
    picture = Picture(report)
    steps = report.steps.to_pylist()
    assert [(each.get("data-mark"), each.get("data-status")) for each in picture.all("mark")] == [
        (row["step"], row["confirmed"]) for row in steps
    ]
    scores = {each.get("data-step-score"): float(each.get("data-score")) for each in picture.all("step-score")}
    assert scores == {row["step"]: pytest.approx(row["score"]) for row in steps if row["score"] is not None}
    shown = picture.texts()
    signs = {"confirmed": "✓", "refuted": "✗", "undetermined": "?"}
    for status, sign in signs.items():
        assert shown.count(sign) >= [row["confirmed"] for row in steps].count(status)
    for verdict in {row["verdict"] for row in steps}:
        assert shown.count(verdict) == [row["verdict"] for row in steps].count(verdict)


def test_latent_routes_are_hollow_and_pass_through_the_step():
    report = REPORTS["scratch"]()
    picture = Picture(report)
    assert picture.links("unstated") == {
        ("question", "answer", None), ("question", "answer", "step1"), ("question", "answer", "step2"),
    }  # fmt: skip
    through = [each for each in picture.all("via") if each.get("data-via") == "step1"]
    assert len(through) == 2  # into the step, and from it to the answer
    cells = {row["cell"]: abs(row["effect"]) for row in report.sources.to_pylist() if row["source"] == "question"}
    part = cells["question latent step1"] / sum(cells.values())
    (share,) = {float(each.get("data-share")) for each in through}
    assert share == pytest.approx(0.9 * part, rel=1e-4)
    latent = [each for each in picture.all("cell") if "latent step1" in each.get("data-cell")]
    assert [each.get("fill") for each in latent] == ["#ffffff"]  # hatched, where words are full


@pytest.mark.parametrize(
    ("name", "segment"), [("post_hoc", "question"), ("motivated", "hint"), ("faithful", None), ("mixed", None)]
)
def test_the_segment_that_decides_in_place_of_the_steps_stands_out(name, segment):
    styles = {each.get("data-segment"): each.get("data-style") for each in Picture(REPORTS[name]()).all("segment")}
    assert [each for each, style in styles.items() if style == "decides"] == ([segment] if segment else [])


@every_report
def test_verdict_and_score_are_the_largest_texts_and_on_top(name):
    report = REPORTS[name]()
    texts = list(Picture(report).root.iter(f"{SVG}text"))
    sizes = [float(each.get("font-size") or 9) for each in texts]
    score = "–" if report.score is None else f"{report.score:.2f}"
    largest = [each.text for each, size in zip(texts, sizes, strict=True) if size == 30]
    assert largest == [report.verdict.capitalize(), score]
    top = {float(each.get("y")) for each, size in zip(texts, sizes, strict=True) if size == 30}
    assert max(top) < 60


def test_every_verdict_has_another_sentence_and_picture():
    assert len(set(SENTENCES.values())) == 6
    names = ("faithful", "post_hoc", "motivated", "scratch", "mixed", "undetermined")
    assert len({report_svg(replace(REPORTS["mixed"](), verdict=REPORTS[name]().verdict)) for name in names}) == 6


def test_a_report_without_evidence_says_that_nothing_was_tested():
    shown = Picture(REPORTS["no_evidence"]()).texts()
    assert "Not decided: no edit was made, so there is only a score." in shown
    assert shown.count("not tested") == 2
    assert shown.count("✓") == 0


def test_evidence_beside_each_step_counts_edits_of_its_value_and_of_the_null():
    shown = Picture(REPORTS["motivated"]()).texts()
    assert shown.count("0 of 4 edits moved the answer; random words 0 of 4") == 2
    assert "1 of 1 edits moved the answer, steps kept" in shown


@pytest.mark.parametrize(
    ("name", "shown"), [("google/gemma-3-270m", "google/gemma-3-270m"), ("/home/someone/models/mine", "mine")]
)
def test_a_model_in_a_folder_is_named_by_the_folder_alone(name, shown):
    report = REPORTS["faithful"]()
    report.graph.info["model"]["name"] = name
    assert any(text.endswith(f"model {shown}") for text in Picture(report).texts())
    assert "someone" not in report_svg(report)


# --- features -------------------------------------------------------------------------------


@every_report
def test_bands_show_the_strongest_features_of_their_tokens(name):
    report = REPORTS[name]()
    shown = Picture(report).all("feature")
    for segment in report.segments.to_pylist():
        here = [each.get("data-feature") for each in shown if each.get("data-of") == segment["name"]]
        assert len(here) <= MAX_FEATURES
        if segment["role"] != "text":
            assert here, segment["name"]


def test_features_are_ranked_by_expected_effect_and_named_by_top_tokens():
    report = REPORTS["faithful"]()
    step = next(row for row in report.segments.to_pylist() if row["name"] == "step2")
    found = FeatureRanking(report.graph).strongest(step["first"], step["last"])
    assert [each.measure for each in found] == ["expected effect"] * 2
    assert found[0].size >= found[1].size
    assert found[0].name == 'says "14", "about 14"'
    report.graph.label(range(report.graph.order.n_features), "")
    plain = FeatureRanking(report.graph).strongest(step["first"], step["last"])
    assert re.fullmatch(r"L\d+#\d+", plain[0].name)


def test_features_are_ranked_by_their_effect_on_the_answer_not_on_other_targets():
    graph = REPORTS["faithful"]().graph
    field = graph.nodes.schema.field("expected_effect")
    on_answer = np.array([each[0] for each in graph.nodes["expected_effect"].to_pylist()[: graph.order.n_editable]])
    rows = [[effect, 100.0 * node] for node, effect in enumerate(on_answer)]  # of a second target, read elsewhere
    rows += [[0.0, 0.0]] * (graph.order.n_nodes - len(rows))
    number = graph.nodes.column_names.index("expected_effect")
    target = graph.info["targets"][0]
    info = {**graph.info, "targets": [{**target, "weight": 0.5}, {**target, "weight": 0.5, "node": 0, "position": 3}]}
    both = Graph(graph.nodes.set_column(number, field, pa.array(rows, field.type)), info)
    ranking = FeatureRanking(both, range(target["position"], target["position"] + 2))
    np.testing.assert_allclose(ranking.sizes, np.abs(on_answer[graph.order.features]), rtol=1e-6)
    assert FeatureRanking(both).sizes.max() > 10 * ranking.sizes.max()


def test_a_label_of_the_user_goes_before_top_tokens():
    report = REPORTS["faithful"]()
    step = next(row for row in report.segments.to_pylist() if row["name"] == "step1")
    feature = FeatureRanking(report.graph).strongest(step["first"], step["last"])[0].feature
    report.graph.label(str(feature), "sum so far")
    assert "sum so far" in Picture(report).texts()


# --- layout ---------------------------------------------------------------------------------


@every_report
def test_a_slide_holds_everything_in_reading_order(name):
    report = REPORTS[name]()
    picture = Picture(report)
    assert picture.root.get("viewBox") == f"0 0 {PAGE_PT[0]:g} {PAGE_PT[1]:g}"
    bands = [each.find(f"{SVG}rect") for each in picture.all("segment")]
    names = [row["name"] for row in report.segments.to_pylist() if row["role"] != "text"]
    assert [each.get("data-segment") for each in picture.all("segment")] == names
    edges = [(float(each.get("y")), float(each.get("y")) + float(each.get("height"))) for each in bands]
    for (_, bottom), (top, _) in itertools.pairwise(edges):
        assert bottom < top
    bar = min(float(each.get("y")) for each in picture.all("cell"))
    assert edges[-1][1] < bar


def crowded():
    """Return a report whose bar has every part, with signs, and whose reason is long."""
    steps = [Step(" 2 plus 3 is 5.", "5", "6", "used", 0.9)]
    cells = (
        "question direct",
        "question latent step1",
        "hint direct",
        "hint latent step1",
        "content step1",
        "own",
        "unknown",
    )
    effects = {cell: (-1.0) ** i * (1 + i) for i, cell in enumerate(cells)}
    report = build("2 + 3 = ?", steps, (" 5", "6"), "mixed", 0.5, effects, {}, " Say 5.")
    return replace(report, reason="4 of 4 edits of step1 moved the answer, and 2 of 3 of the question did so too; " * 5)


def test_a_long_reason_has_two_lines():
    lines = [text for text in Picture(crowded()).texts() if "of the question did" in text]
    assert len(lines) == 2
    assert lines[1].endswith("…")


@pytest.mark.parametrize("report", [*REPORTS.values(), crowded])
def test_no_text_leaves_the_page(report):
    for each in Picture(report()).root.iter(f"{SVG}text"):
        width = text_width(each.text or "", float(each.get("font-size") or 9))
        x = float(each.get("x"))
        left = x - {"middle": width / 2, "end": width}.get(each.get("text-anchor"), 0)
        assert left >= 0
        assert left + width <= PAGE_PT[0] * 1.01


def test_eight_steps_are_legible_on_a_slide():
    rows = compute_rows(REPORTS["eight_steps"]()).rows
    assert len(rows) == 10
    assert min(row.text_size for row in rows) >= 9
    assert all(row.height >= len(row.lines) * row.line_height for row in rows)
    assert all(placed.piece.text != ELLIPSIS for row in rows for line in row.lines for placed in line)


def test_many_steps_make_the_page_higher():
    steps = [Step(f" Add {i} to get {i + 1}.", str(i + 1), str(i + 2), "used", 0.9) for i in range(40)]
    report = build(
        "How much?", steps, (" 40", "41"), "faithful", 0.9, {"content step40": 3.0}, {("answer", "step40"): 0.9}
    )
    picture = Picture(report)
    height = float(picture.root.get("viewBox").split()[-1])
    assert height > 2 * PAGE_PT[1]
    assert len(picture.all("segment")) == 42
    assert max(float(each.get("y")) for each in picture.root.iter(f"{SVG}text")) < height


def test_a_long_text_lacks_its_middle_but_never_its_value():
    filler = " and so on" * 300
    steps = [Step(f"{filler} we get 77{filler}.", "77", "78", "used", 0.9), Step(" That is 5.", "5", "6", "used", 0.9)]
    report = build(f"Why?{filler}", steps, (" 5", "6"), "faithful", 0.9, {"content step2": 3.0}, {})
    picture = Picture(report)
    shown = picture.texts()
    assert "77" in shown
    assert "Why" in shown
    assert shown.count("…") >= 2
    assert picture.root.get("viewBox") == "0 0 960 540"


def test_lines_fit_their_width_and_keep_every_token_if_there_is_room():
    segment = {"first": 0, "last": 5, "text": "What is 3 plus 4?", "value": "4", "value_first": 4, "value_last": 4}
    tokens = ["What", " is", " 3", " plus", " 4", "?"]
    pieces = pieces_of(segment, tokens)
    for width in (4.0, 6.0, 20.0):
        lines = lines_of(pieces, width, 9)
        assert [placed.piece.text for line in lines for placed in line] == tokens
        assert all(line[-1].end <= width + 0.2 for line in lines)
    cut = lines_of(pieces, 5.0, 1)
    assert len(cut) == 1
    assert "4" in [placed.text for placed in cut[0]]


def test_a_value_longer_than_its_band_keeps_both_ends():
    tokens = [f" word{i}" for i in range(90)]
    segment = {"first": 0, "last": 89, "text": "".join(tokens), "value": "x", "value_first": 0, "value_last": 89}
    (line,) = lines_of(pieces_of(segment, tokens), 30.0, 1)
    assert [line[0].text, line[-1].text] == ["word0", "word89"]
    assert ELLIPSIS in [placed.piece.text for placed in line]


@pytest.mark.parametrize(("effect", "explained"), [(-2.0, True), (2.0, False)])
def test_cells_against_the_answer_have_a_sign_that_is_explained(effect, explained):
    steps = [Step(" 2 plus 3 is 5.", "5", "6", "used", 0.9)]
    report = build("2 + 3 = ?", steps, (" 5", "6"), "mixed", 0.5, {"content step1": 3.0, "question direct": effect}, {})
    shown = Picture(report).texts()
    assert ("−: against the answer" in shown) == explained
    assert any(re.match(r"question\s+−\d", text) for text in shown) == explained


def test_tokens_that_are_no_whole_characters_give_way_to_words():
    segment = {"first": 0, "last": 2, "text": " so 🙂 7", "value": "7", "value_first": 2, "value_last": 2}
    pieces = pieces_of(segment, [" so", " \ufffd\ufffd", " 7"])
    assert [piece.text for piece in pieces] == [" so", " 🙂", " 7"]
    assert [piece.is_value for piece in pieces] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "value", "pieces"),
    [
        (" It is 4.", "4", [" It", " is", "[ 4]", "."]),
        (" 4 and 4", " 4", [" 4", " and", "[ 4]"]),
        (" in New York, yes", "New York", [" in", "[ New]", "[ York]", ",", " yes"]),
        (" none", "7", [" none"]),
        ("7", "7", ["[7]"]),
        ("", None, []),
    ],
)
def test_words_have_the_value_apart_where_tokens_are_unknown(text, value, pieces):
    segment = {"first": 5, "last": 9, "text": text, "value": value, "value_first": 8, "value_last": 8}
    found = pieces_of(segment, ["a", "b"])
    assert [f"[{piece.text}]" if piece.is_value else piece.text for piece in found] == pieces


def test_several_segments_of_a_role_share_its_links():
    report = REPORTS["post_hoc"]()
    rows = report.segments.to_pylist()
    rows[0] |= {"name": "question1"}
    renamed = replace(report, segments=pa.Table.from_pylist(rows, report.segments.schema))
    assert {link.source for link in links_of(renamed) if link.kind == "unstated"} == {"question1"}


# --- hostile text, formats ------------------------------------------------------------------

HOSTILE = [
    '"quo\\te"',
    "\\N\\l",
    "<b>x</b>",
    "&lt;&#65;",
    "\x00\x07\x1b",
    "]]>",
    "-->",
    "\u202eabc",
    "</style>",
    "%s{}:n",
]


def hostile_report():
    steps = [Step(f" {text} 7", "7", "8", "used", 0.9) for text in HOSTILE]
    report = build("".join(HOSTILE), steps, (" 7", "8"), "faithful", 0.9, {}, {})
    report.graph.info["model"]["name"] = "".join(HOSTILE)
    return replace(report, reason=" ".join(HOSTILE))


def test_hostile_text_is_shown_and_changes_nothing():
    shown = Picture(hostile_report()).texts()
    assert any("]]>" in text for text in shown)
    assert not any(character in "".join(shown) for character in "\x00\x07\x1b\u202e")


MAGIC = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF", "dot": b"// draw with"}


@needs_graphviz
@pytest.mark.parametrize("ending", MAGIC)
@pytest.mark.parametrize("report", [REPORTS["eight_steps"], hostile_report])
def test_every_format_is_written_and_the_same_twice(tmp_path, ending, report):
    first = report().render(tmp_path / "new" / f"first.{ending}")
    second = report().render(str(tmp_path / f"second.{ending.upper()}"))
    assert first.read_bytes().startswith(MAGIC[ending])
    assert first.read_bytes() == second.read_bytes()


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ArgumentError, match=r"\.svg, \.png, \.pdf, \.dot or \.html"):
        REPORTS["faithful"]().render(tmp_path / "report.jpg")
    assert list(tmp_path.iterdir()) == []


def test_notebooks_show_the_picture():
    report = REPORTS["faithful"]()
    assert report._repr_svg_() == report._repr_html_() == report_svg(report)
    assert not re.search(r"<style|<script|\bid=|href=", report_svg(report))  # these could change the notebook's page


def test_drawing_needs_neither_torch_nor_matplotlib_nor_graphviz():
    code = (
        "import sys; sys.modules['graphviz'] = None\n"
        "from cotrace.faithfulness.report.drawing.render import report_svg\n"
        "print(sorted(set(sys.modules) & {'graphviz', 'torch', 'matplotlib'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "['graphviz']"
