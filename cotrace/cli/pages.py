"""Interactive pages beside the files of graphs and reports."""

from pathlib import Path
from typing import Any

from cotrace.graphs.drawing.render import PAGE
from cotrace.graphs.pages import page_maker

from .output_paths import save_result


def beside(file: Path, suffix: str) -> Path:
    """Return the path of a picture or page beside a file of a graph or report, with its name."""
    return file.with_name(f"{file.name.removesuffix('.zst').removesuffix('.arrow')}{suffix}")


def save_page(subject: Any, file: Path, *, features: Path | None = None, force: bool) -> tuple[Path, Path]:
    """Write the page of a graph or a report beside its file; return where it was planned, and where it is."""
    from cotrace.common.progress import Progress

    planned, name = beside(file, PAGE), file.name.removesuffix(".zst")
    with Progress().phase("drawing"):
        written = save_result(
            planned, lambda path: page_maker().write(subject, path, features=features, names=[name]), force=force
        )
    return planned, written
