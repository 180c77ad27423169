"""`cotrace convert`: transcoders from one layout of files to another."""

from pathlib import Path
from typing import Annotated

import typer

from cotrace.common.errors import CotraceError


def convert(
    transcoders: Annotated[str, typer.Argument(help="A folder, a Hub id or the name of a shipped set.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    to: Annotated[
        str, typer.Option(help="gemma-scope-2 (float32, read by every tool), or packed (CLTs in 8 and 16 bits).")
    ] = "gemma-scope-2",
    model: Annotated[str, typer.Option(help="The model they are for; only its sizes are read.")] = "gemma-3-270m",
) -> None:
    """Write TRANSCODERS in another layout.

    Packed files hold a cross-layer transcoder in a quarter of the bytes; only cotrace reads them.
    """
    from cotrace.attribution.models.architecture import read_architecture
    from cotrace.attribution.models.model_source import find_config
    from cotrace.attribution.transcoders import load_transcoders
    from cotrace.attribution.transcoders.export import check_layout, write_layout
    from cotrace.attribution.transcoders.files import FileTranscoders
    from cotrace.common.progress import Progress

    from .output_paths import check_writable
    from .report import say_written

    check_layout(to, out)
    check_writable(out.parent)
    arch = read_architecture(find_config(model))
    loaded = load_transcoders(transcoders, arch)
    if not isinstance(loaded, FileTranscoders):
        raise CotraceError(f"{loaded.name} are in no file that could be converted; name a folder or Hub id")
    write_layout(loaded, arch.n_layers, out, to, Progress())
    say_written(out)
