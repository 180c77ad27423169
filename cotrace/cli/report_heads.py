"""Head loadings as text in a terminal."""

import pyarrow as pa
from rich.table import Table

from cotrace.graphs.head_loadings import HeadLoadings, LoadingKind, head_name

from . import report

TITLES = {"last": "last", "first": "first", "one_hop": "only"}


def print_loadings(loadings: HeadLoadings, top: int, by: LoadingKind) -> None:
    """Print the head loadings of an edge: its parts, and the heads that carry most."""
    assert loadings.one_hop is not None
    report.print_line(
        f"{loadings.source} → {loadings.target}: {loadings.edge:+.4g} = {loadings.direct:+.4g} without attention "
        f"{loadings.one_hop.sum():+.4g} through one head {loadings.several_hops:+.4g} through several"
    )
    table = Table("head", box=None)
    for kind in loadings.kinds:
        table.add_column(TITLES[kind], justify="right", no_wrap=True)
    for row in loadings.top(top, by).to_pylist():
        table.add_row(head_name(row["layer"], row["head"]), *(f"{row[kind]:+.4g}" for kind in loadings.kinds))
    if table.row_count:
        report.console.print(table)


def print_head_shares(shares: pa.Table, top: int) -> None:
    """Print the heads that carry most of a graph's influence."""
    table = Table(
        "head", box=None, title="influence along edges, by the last head that it passes", title_justify="left"
    )
    table.add_column("share", justify="right", no_wrap=True)
    for row in shares.to_pylist()[: top + 1]:
        name = "no head" if row["layer"] is None else head_name(row["layer"], row["head"])
        table.add_row(name, f"{row['share']:.1%}")
    report.console.print(table)
