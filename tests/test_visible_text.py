"""Every character that is invisible, breaks a line or turns direction has a visible sign, in pictures, tables and labels."""

import re
import sys
import unicodedata
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from helpers.random_graphs import random_graph

from cotrace.attribution.interventions.html import table_html
from cotrace.common.visible_text import printable, quoted, visible
from cotrace.graphs import Graph, node_label
from cotrace.graphs.drawing.render import svg_text
from cotrace.graphs.metadata import metadata_of

BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
INVISIBLE = (
    "\x00\x1b\x7f\u00ad\u034f\u115f\u1160\u17b4\u180b\u180e\u200b\u200c\u200d\u2060\u2063\u206f\u2800\u3164\ufe00\ufe0f\ufeff"
    "\uffa0\ufff9\U0001d159\U0001d173\U000e0001\U000e0041\U000e0100\ue000\U0010fffd"
)
SPACES = "\u00a0\u2003\u2009\u202f\u205f\u3000"
HIDDEN = BREAKS + TURNS + INVISIBLE
DRAWN = "aé你🙂אب\u0601\u06dd…—\u0301"


def with_text(text):
    """Return a graph with a text as its prompt and in every token and label."""
    graph = random_graph(3)
    texts = [text if old else old for old in graph.nodes["text"].to_pylist()]
    column = graph.nodes.schema.get_field_index("text")
    nodes = graph.nodes.set_column(column, graph.nodes.schema.field("text"), pa.array(texts))
    info = {**graph.info, "prompt": text * 2, "tokens": [text for _ in graph.info["tokens"]]}
    info["targets"] = [{**target, "label": text} for target in info["targets"]]
    return Graph(nodes.replace_schema_metadata(metadata_of(info)), info)


@pytest.mark.parametrize("character", HIDDEN + SPACES, ids=lambda character: f"{ord(character):04X}")
def test_a_hidden_character_has_a_sign(character):
    for text in (character, f"a{character}b", f"{character}ab", f"ab{character}"):
        for shown in (visible(text), quoted(text)):
            assert character not in shown
            assert len(shown) >= len(text)
            assert shown.isprintable()
    assert character in SPACES or character not in printable(f"a{character}b")


def test_every_character_that_unicode_calls_invisible_has_a_sign():
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        shown = visible(f"a{character}b")
        assert shown.splitlines() == [shown]
        if unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co", "Zl", "Zp"):
            assert character not in shown
        if unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"):
            assert character not in shown


def test_characters_that_are_drawn_stay():
    for character in DRAWN:
        assert visible(f"a{character}b") == printable(f"a{character}b") == f"a{character}b"
    assert visible(" a  b ") == "␣a  b␣"
    assert visible("\u0301") == "◌\u0301"
    assert visible("a\u200bb") == "a⟨200B⟩b"
    assert quoted("a\u3164\ufe0f") == "'a\\u3164\\ufe0f'"


@pytest.mark.parametrize("characters", [BREAKS, TURNS, INVISIBLE])
def test_pictures_tables_and_labels_have_signs(characters, command, tmp_path):
    text = "x".join(character for character in characters if not 0xD800 <= ord(character) < 0xE000)
    graph = with_text(text)
    picture = svg_text(graph, target="all")
    shown = [
        element.text or ""
        for element in ElementTree.fromstring(picture).iter()
        if element.tag.endswith(("text", "title"))
    ]
    assert sum("x" in each for each in shown) > 5
    _, terminal, _ = command("show", graph.save(tmp_path / "graph.arrow"), "--kind", "token", "--min-length", "1")
    labels = [node_label(graph, node) for node in range(graph.order.n_nodes)]
    assert not re.search(
        f"[{re.escape(characters)}]",
        "".join([*shown, *labels, *terminal.split("\n"), table_html(text, ["a"], [[text]])]),
    )
