"""Take the pictures of the interactive page that the documentation shows: docs/gallery/*.webp.

    python -m recipes.gallery [--graph FILE] [--report FILE] [--other FILE]

`make gallery` traces and compares first. Pages are opened in a headless Chromium from their files, as a reader opens them.
"""

import argparse
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import cotrace
from benchmarks.chromium import launch

OUT = Path(__file__).parents[1] / "docs" / "gallery"
DESKTOP, PHONE = (1400, 900), (390, 844)
QUALITY = 82  # of WebP: text stays sharp, and all pictures together stay below a megabyte
SETTLE_MS = 1000  # between two looks at a page, which must be the same
MAX_LOOKS = 30
NO_TOUR = "try { localStorage.setItem('cotrace.tour', 'seen') } catch {}"

Steps = Callable[[Page], None]


@dataclass(frozen=True)
class Shot:
    """A picture: which page, what is done on it, and how it is looked at."""

    name: str
    page: str
    steps: Steps
    size: tuple[int, int] = DESKTOP
    dark: bool = False


def look(page: Page) -> None:
    """Change nothing."""


def pin_strongest(page: Page) -> None:
    """Pin the most influential feature."""
    page.keyboard.press("n")
    page.get_by_role("button", name="Features").click()
    page.get_by_role("grid").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("b")


def search_table(page: Page) -> None:
    """Search the table for a word of the labels, with a pinned row."""
    pin_strongest(page)
    page.keyboard.press("n")


def accept_groups(page: Page) -> None:
    """Accept all suggested groups and close the drawer."""
    page.get_by_role("tab", name="Groups").click()
    page.get_by_role("button", name="Accept all").click()
    page.keyboard.press("b")


def open_report(page: Page) -> None:
    """Open the report of a transcript."""
    page.get_by_role("tab", name="Report").click()


SHOTS = (
    Shot("circuit", "graph", pin_strongest),
    Shot("dark", "graph", pin_strongest, dark=True),
    Shot("table", "graph", search_table),
    Shot("groups", "graph", accept_groups),
    Shot("transcript", "report", look),
    Shot("report", "report", open_report, dark=True),
    Shot("compare", "diff", look),
    Shot("phone", "graph", look, size=PHONE),
)


def main() -> None:
    """Render the pages, take every picture and print its size."""
    options = arguments()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        pages = render(options, Path(folder))
        browser = launch(running)
        OUT.mkdir(parents=True, exist_ok=True)
        for shot in SHOTS:
            if shot.page in pages:
                path = take(browser, shot, pages[shot.page])
                print(f"{path.relative_to(OUT.parents[1])}  {path.stat().st_size / 1000:.0f} kB")
        browser.close()


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--graph", type=Path, required=True, help="graph file of a prompt")
    parser.add_argument("--report", type=Path, help="report file of `cotrace compare`")
    parser.add_argument("--other", type=Path, help="graph file that the first one is compared with")
    return parser.parse_args()


def render(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """Return the page files of the graph, the report and the comparison that the options name."""
    graph = cotrace.open(options.graph)
    pages = {"graph": graph.render(folder / "graph.html")}
    if options.report:
        pages["report"] = cotrace.open(options.report).render(folder / "report.html")
    if options.other:
        pages["diff"] = graph.diff(cotrace.open(options.other)).render(folder / "diff.html")
    return pages


def take(browser: Browser, shot: Shot, path: Path) -> Path:
    """Return the path of a picture, after it was taken."""
    width, height = shot.size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if shot.dark else "light",
        reduced_motion="reduce",
    )
    context.add_init_script(NO_TOUR)
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=true]")
    shot.steps(page)
    page.mouse.move(0, 0)
    picture = Image.open(io.BytesIO(settled(page)))
    context.close()
    target = OUT / f"{shot.name}.webp"
    picture.convert("RGB").save(target, quality=QUALITY, method=6)
    return target


def settled(page: Page) -> bytes:
    """Return a picture of a page that has stopped to change, such as by painting a new layout."""
    last = b""
    for _ in range(MAX_LOOKS):
        page.wait_for_timeout(SETTLE_MS)
        last, before = page.screenshot(), last
        if last == before:
            return last
    raise RuntimeError(f"the page changed for {MAX_LOOKS} looks")


if __name__ == "__main__":
    main()
