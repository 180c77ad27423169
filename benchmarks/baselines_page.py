"""Write the table of baselines of faithfulness into the docs: `python -m benchmarks.baselines_page`."""

import re
from pathlib import Path

from cotrace.faithfulness.baselines import markdown_table

PAGE = Path(__file__).parent.parent / "docs" / "baselines.md"
MARKED = re.compile(r"(?<=<!-- baselines -->\n\n).*(?=\n\n<!-- /baselines -->)", re.DOTALL)


def with_table(page: str) -> str:
    """Return the page with the table of the registry between its marks."""
    return MARKED.sub(lambda _: markdown_table(), page)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
