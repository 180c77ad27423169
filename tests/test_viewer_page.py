"""Pages: one HTML file that opens offline."""

from helpers.random_graphs import random_graph

from cotrace.viewer.page.payload import PageFile, write_page


def test_a_page_opens_from_a_file(tmp_path, open_page):
    page = open_page(write_page([PageFile("a.arrow", random_graph(3))], tmp_path / "a.html"))
    assert page.locator("h1").inner_text().endswith("cold")
