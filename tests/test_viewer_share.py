"""Sharing the page: links, saved pages, and exports, which Python reads."""

import json
import random

import numpy as np
import pytest
import xxhash
from helpers.browser import Opener, chromium
from helpers.random_graphs import random_graph

import cotrace
from cotrace.graphs import Graph
from cotrace.viewer.page.payload import PageFile, write_page

HOSTILE = "</script><img src=x onerror=alert(1)><!-- \u2028 \u202e ' \""


@pytest.fixture(scope="module")
def open_page():
    """Return a function that opens pages in one browser."""
    with chromium() as browser:
        opener = Opener(browser)
        yield opener
        opener.close()


@pytest.fixture
def page_of(tmp_path):
    """Return a function that writes the page of some graphs."""
    return lambda *graphs, **extras: write_page(
        [PageFile(f"{at}.arrow", graph, extras) for at, graph in enumerate(graphs)], tmp_path / "page.html"
    )


def changed(page, graph):
    """Change everything that a page can hold, and return its state."""
    a, b = (str(node) for node in cotrace.graphs.annotations.node_names(graph, [0, 1]))
    values = {
        "nodeThreshold": 0.5, "edgeThreshold": 0.75, "keepErrors": True, "target": 1, "sizeBy": "effect", "pins": [b],
        "selected": [a], "groups": [{"name": HOSTILE, "nodes": [a, b]}], "labels": {a.split("@")[0]: HOSTILE},
        "dismissed": ["x"], "moved": {a: [1.5, -2]}, "collapsed": [[0, 1]], "view": {"x": 1, "y": 2, "scale": 3},
    }  # fmt: skip
    page.evaluate("values => cotrace.store.update(0, values, 'change')", values)
    return state_of(page)


def state_of(page):
    return page.evaluate("() => cotrace.store.state")


def exported(page, command, path):
    with page.expect_download() as download:
        page.evaluate("id => cotrace.commands.run(id)", command)
    download.value.save_as(path)
    return path


def test_a_link_restores_all(open_page, page_of):
    graph = random_graph(1)
    page = open_page(page_of(graph))
    state = changed(page, graph)
    page.wait_for_url(lambda url: "#s=" in url)
    assert state_of(open_page(page.url)) == state


def test_a_saved_page_restores_all_and_its_policy_holds(open_page, page_of, tmp_path):
    graph = random_graph(1)
    page = open_page(page_of(graph))
    state = changed(page, graph)
    saved = exported(page, "save", tmp_path / "saved.html")
    again = open_page(saved)
    assert state_of(again) == state
    second = exported(again, "save", tmp_path / "second.html")
    assert second.read_text() == saved.read_text()


def test_a_saved_page_has_the_picture_for_old_browsers(open_page, page_of, tmp_path):
    page = open_page(page_of(random_graph(1)))
    saved = exported(page, "save", tmp_path / "saved.html")
    old = open_page(saved, wait=False, java_script_enabled=False)
    assert old.locator("#fallback svg").is_visible()


GARBAGE = [
    "garbage", "{}", "[]", "null", "", "q1YqLkksSVWyUlBKyknMS1eqBQA", "%", "%ff",
]  # fmt: skip


@pytest.mark.parametrize("text", GARBAGE)
def test_a_damaged_link_changes_nothing(open_page, page_of, text):
    path = page_of(random_graph(1))
    first = state_of(open_page(path))
    assert state_of(open_page(f"{path.as_uri()}#s={text}")) == first
