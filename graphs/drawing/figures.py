"""Files of matplotlib figures."""

from pathlib import Path
from typing import TYPE_CHECKING

from cotrace.common.errors import ArgumentError
from cotrace.common.files import atomic_write
from cotrace.common.visible_text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_SUFFIXES = (".svg", ".png", ".pdf")
MAX_TITLE_CHARACTERS = 90


def check_suffix(path: Path) -> None:
    """Raise ArgumentError for a path that does not end in the suffix of a picture."""
    if path.suffix not in FIGURE_SUFFIXES:
        raise ArgumentError(f"{path.name} should end in {', '.join(FIGURE_SUFFIXES)}")


def save_figure(figure: "Figure", path: Path) -> Path:
    """Write a figure, atomically, in the format of the path's suffix; the same figure gives the same SVG."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "cotrace"}), atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def title_of(prompt: str) -> str:
    """Return a prompt as the title of a figure: in one line, with visible characters, cut to a length."""
    return plain(visible(" ".join(prompt.split()))[:MAX_TITLE_CHARACTERS])


def plain(text: str) -> str:
    """Return a text in which matplotlib finds no mathematics."""
    return text.replace("$", r"\$")
