"""`cotrace convert`: transcoders in another file layout."""

from pathlib import Path
from typing import Annotated

import typer

from cotrace.common.errors import ArgumentError
from cotrace.defaults import DEFAULT_MODEL


def convert(
    transcoders: Annotated[
        str, typer.Argument(metavar="TRANSCODERS", help="A folder, a Hub id or the name of a shipped set.")
    ],
    out: Annotated[Path, typer.Option(help="A new folder for the result.")],
    to: Annotated[
        str,
        typer.Option(help="gemma-scope-2 (float32, which other tools read too), or packed (CLTs in 8 and 16 bits)."),
    ] = "gemma-scope-2",
    model: Annotated[
        str, typer.Option(help="The model they were trained for; only its sizes are read.")
    ] = DEFAULT_MODEL,
) -> None:
    """Write TRANSCODERS in another layout.

    Packed files take a quarter of the space of a cross-layer transcoder; only cotrace reads them.
    """
    from cotrace.attribution.models.architecture import read_architecture
    from cotrace.attribution.models.model_source import find_config
    from cotrace.attribution.transcoders import load_transcoders
    from cotrace.attribution.transcoders.export import check_layout, write_layout
    from cotrace.attribution.transcoders.files import FileTranscoders
    from cotrace.common.progress import Progress

    from .output_paths import check_folder
    from .report import print_written

    check_layout(to, out)
    check_folder(out.parent)
    arch = read_architecture(find_config(model))
    loaded = load_transcoders(transcoders, arch)
    if not isinstance(loaded, FileTranscoders):
        raise ArgumentError(f"{loaded.name} are not in files; name a folder or Hub id")
    write_layout(loaded, arch.n_layers, out, to, Progress())
    print_written(out)
