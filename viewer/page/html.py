"""One HTML document from the parts of a page. It loads nothing, and its policy forbids to."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from .link import link

ROOM = Path(__file__).parent.parent
STYLE_SHEETS = ("theme", "base", "layout")  # in this order; then all others by name
ARROW = "vendor/apache-arrow/Arrow.esnext.min.js"
WORKERS = {"worker-prune": "prune/worker.js", "worker-paint": "circuit/worker.js"}  # by the name of their part
UNREADABLE = "This browser is too old for the interactive page, or JavaScript is off: here is the picture."


def document(
    title: str,
    header: Mapping[str, Any],
    parts: Mapping[str, bytes],
    *,
    early: Mapping[str, bytes] | None = None,
    fallback: str = "",
) -> str:
    """Return a page.

    Args:
        title: text of the title.
        header: what the page needs first, which JSON can hold.
        parts: contents by name; the page finds `graph-0` in the element `part-graph-0`, compressed.
        early: contents by name that the page gets at once, while the browser still reads the others.
        fallback: a picture for browsers that do not run the page, an `<svg>` element.
    """
    style, arrow, main = style_sheet(), _read(ARROW), script("main.js")
    policy = page_policy(served=header.get("server") is not None)
    first = {**{name: script(entry).encode() for name, entry in WORKERS.items()}, **(early or {})}
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n'
        f'<body>\n<div id="fallback"><p>{UNREADABLE}</p>{_image(fallback, title)}</div>\n<div id="app" hidden></div>\n'
        f'<script type="application/json" id="page">{json_text(header)}</script>\n'
        f"{_data(first)}\n<script>{arrow}</script>\n<script>{main}</script>\n{_data(parts)}\n</body>\n</html>\n"
    )


def _data(parts: Mapping[str, bytes]) -> str:
    """Return elements with the contents of parts."""
    return "\n".join(
        f'<script type="text/plain" id="part-{escape(name)}">{packed(part)}</script>' for name, part in parts.items()
    )


@cache
def page_policy(served: bool = False) -> str:
    """Return the Content-Security-Policy of every page: all have the same scripts and style sheets.

    A page that a server shows may connect to it; one in a file connects to nothing.
    """
    return content_policy([_read(ARROW), script("main.js")], [style_sheet()], "'self'" if served else "'none'")


def _image(svg: str, text: str) -> str:
    """Return a picture as an image, in which the page's policy does not forbid style attributes."""
    return f'<img alt="{escape(text)}" src="data:image/svg+xml;base64,{_base64(svg.encode())}">' if svg else ""


def content_policy(scripts: list[str], styles: list[str], connect: str) -> str:
    """Return the Content-Security-Policy of a page with these inline scripts and style sheets.

    Workers come from `blob:` only, images from `data:` and `blob:`, and the page connects to `connect` only.
    """
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(map(_hash, scripts))}",
            f"style-src {' '.join(map(_hash, styles))}",
            "img-src data: blob:",
            "worker-src blob:",
            f"connect-src {connect}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types cotrace",
        ]
    )


def packed(content: bytes) -> str:
    """Return bytes as base64 of gzip, the same for the same bytes."""
    return _base64(gzip.compress(content, compresslevel=6, mtime=0))


def json_text(value: Any) -> str:
    """Return JSON that stays text inside a `<script>` element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def script(entry: str) -> str:
    """Return the linked script of a module in `js/`."""
    return link(entry, lambda name: _read(f"js/{name}"))


@cache
def style_sheet() -> str:
    """Return all style sheets as one."""
    found = sorted(path.stem for path in (ROOM / "css").glob("*.css"))
    names = [*STYLE_SHEETS, *(each for each in found if each not in STYLE_SHEETS)]
    text = "\n".join(_read(f"css/{name}.css") for name in names)
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))


def _read(name: str) -> str:
    return (ROOM / name).read_text(encoding="utf-8")


def _hash(source: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(source.encode()).digest())}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
