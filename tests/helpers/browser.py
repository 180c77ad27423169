"""Pages in a headless Chromium. A page that logs an error, breaks its policy or loads anything fails its test."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chromium import CHROMIUM, launch

MISSING = "no Chromium: apt-get install chromium, or name one in COTRACE_CHROMIUM"
SLOW_MACHINE_MS = 60_000
LOCAL = ("file:", "blob:", "data:", "http://127.0.0.1:")


@contextlib.contextmanager
def chromium() -> Iterator:
    """Yield a browser. Skips the test without Playwright or Chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="browser tests need the extra: pip install 'cotrace[dev]'"
    )
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with playwright.sync_playwright() as running:
        browser = launch(running)
        yield browser
        browser.close()


class Opener:
    """Opens pages in contexts of their own, and collects what goes wrong in them."""

    def __init__(self, browser):
        self.browser, self.problems, self.contexts = browser, [], []

    def __call__(self, page: Path | str, *, wait: bool = True, tour: bool = False, before: str = "", **options):
        """Return the page at a path or URL, once it is ready; `options` are those of a browser context.

        The script `before` runs before those of the page. Without `tour` this is not the first visit: the guided tour, which would cover a part of the page, does not begin.
        """
        options = {"viewport": {"width": 1400, "height": 900}, **options}
        context = self.browser.new_context(**options)
        context.set_default_timeout(SLOW_MACHINE_MS)
        self.contexts.append(context)
        if not tour:
            context.add_init_script("try { localStorage.setItem('cotrace.tour', 'seen') } catch {}")
        if before:
            context.add_init_script(before)
        opened = context.new_page()
        opened.on(
            "console", lambda message: message.type in ("error", "warning") and self.problems.append(message.text)
        )
        opened.on("pageerror", lambda error: self.problems.append(str(error)))
        opened.on(
            "request", lambda request: request.url.startswith(LOCAL) or self.problems.append(f"loads {request.url}")
        )
        opened.goto(page if isinstance(page, str) else page.resolve().as_uri())
        if wait:
            opened.wait_for_selector("html[data-ready=true]")
        return opened

    def close(self) -> None:
        """Close all pages, and fail if one had a problem."""
        for context in self.contexts:
            context.close()
        assert not self.problems, self.problems
