"""Linking of ES modules into one script."""

import json
import re
from pathlib import Path

import pytest

from cotrace.viewer.page.html import WORKERS
from cotrace.viewer.page.link import LinkError, link

JS = Path(__file__).parent.parent / "viewer" / "js"
ENTRIES = ["main.js", *WORKERS.values()]
MARKUP_AND_LOADING = (
    r"(inner|outer)HTML\s*=|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|\bimport\("
)


def test_the_page_starts_the_workers_that_it_has():
    names = re.search(r"const NAMES = (\[.*?\]);", (JS / "data" / "workers.js").read_text())
    assert json.loads(names[1]) == list(WORKERS)


def linked(modules):
    return link("main.js", modules.__getitem__)


def test_linked_modules_run_as_a_classic_script(browser):
    modules = {
        "main.js": 'import { twice, NAME as name } from "./a/twice.js";\nimport { Box } from "./a/box.js";\n'
        "globalThis.result = [twice(4), name, new Box().value, typeof secret];\n",
        "a/twice.js": 'import { Box } from "./box.js";\nexport function twice(x) {\n  return 2 * x + new Box().value;\n}\n'
        'const secret = 1;\nexport const NAME = "n" + secret;\nexport async function* later() {}\n',
        "a/box.js": "globalThis.ran = (globalThis.ran ?? 0) + 1;\nexport class Box {\n  value = globalThis.ran;\n}\n",
    }
    page = browser.new_page()
    page.evaluate(f"() => {{ {linked(modules)} }}")
    assert page.evaluate("result") == [9, "n1", 1, "undefined"]  # a module runs once, and keeps what it does not export
    page.close()


FORBIDDEN = {
    "a default export": "export default 1;",
    "a list of exports": "const a = 1;\nexport { a };",
    "a variable": "export let a = 1;",
    "everything of a module": 'import * as all from "./b.js";',
    "a default import": 'import b from "./b.js";',
    "a package": 'import { a } from "d3";',
    "a name that is missing": 'import { nothing } from "./b.js";',
    "an import that goes on": 'import { a } from "./b.js"; a();',
    "itself": 'import { a } from "./main.js";\nexport const a = 1;',
    "the end of a script": 'const a = "</SCRIPT>";',
    "the begin of a comment": 'const a = "<!--";',
    "a template literal over lines": "const a = `x\n// y`;",
}


@pytest.mark.parametrize("source", FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_cannot_be_linked_is_refused(source):
    with pytest.raises(LinkError, match=r"main\.js"):
        linked({"main.js": source, "b.js": "export const a = 1;"})


def test_a_cycle_is_named():
    modules = {
        "main.js": 'import { a } from "./x/a.js";',
        "x/a.js": 'import { b } from "../b.js";\nexport const a = 1;',
        "b.js": 'import { a } from "./x/a.js";\nexport const b = 1;',
    }
    with pytest.raises(LinkError, match=r"main\.js -> x/a\.js -> b\.js -> x/a\.js"):
        linked(modules)


def test_comments_that_fill_their_lines_and_indentation_are_left_out():
    source = (
        "/** Return\n * 1. */\n// a\n\n  const a = 1; // b\n  /* c */\nconst url = `//x  y`;\nconst d = 2; /* e\n */\n"
    )
    assert "\nconst a = 1; // b\nconst url = `//x  y`;\nconst d = 2; /* e\n*/\n" in linked({"main.js": source})


# --- the modules of the page ----------------------------------------------------------------


def of_page(entry):
    return link(entry, lambda name: (JS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_scripts_of_the_page_are_linked_and_name_no_address(entry):
    text = of_page(entry)
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE)
    assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}


def test_every_module_is_part_of_a_script():
    named = set(re.findall(r"^// (\S+\.js)$", "\n".join(map(of_page, ENTRIES)), re.MULTILINE))
    assert named == {path.relative_to(JS).as_posix() for path in JS.rglob("*.js")}


def test_modules_make_no_markup_and_load_nothing():
    """One file hands over the page's own texts as markup and scripts."""
    found = {
        path.relative_to(JS).as_posix() for path in JS.rglob("*.js") if re.search(MARKUP_AND_LOADING, path.read_text())
    }
    assert found <= {"data/trusted.js"}
