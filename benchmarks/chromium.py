"""The Chromium in which benchmarks, pictures of the documentation and tests open pages."""

import os
import shutil
from typing import Any

CHROMIUM = os.environ.get("COTRACE_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
"""Path of the browser; None takes Playwright's own."""


def launch(playwright: Any) -> Any:
    """Return a headless browser of a running Playwright."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
