"""`cotrace view`: the page of graph files, from a server on this machine."""

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotrace.common.errors import ArgumentError, DependencyError

from . import graph_model, options

if TYPE_CHECKING:
    from cotrace.viewer.server.app import Site

    from .model_editor import GraphModelEditor

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def view(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Graph files, *.arrow, also those of reports; two are compared."),
    ],
    port: Annotated[
        int | None,
        typer.Option(help="Where to listen. Default: 8642, or another free port if it is in use.", min=1, max=65535),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 lets other machines reach the page.")
    ] = LOOPBACK[0],
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse to save.")] = False,
    features: options.FeaturesOption = None,
    model: graph_model.ModelOption = None,
    transcoders: graph_model.TranscodersOption = None,
    device: options.DeviceOption = "auto",
    dtype: options.GraphDtypeOption = None,
) -> None:
    """Show graph files on an interactive page, save what you change there, and edit the model.

    The page comes from a server on this machine, which Ctrl-C stops. `cotrace render FILE --to html` writes the same page as
    one file, without saving and edits of the model.
    """
    require_server()
    from cotrace.viewer.server.app import make_app
    from cotrace.viewer.server.serving import address_of, listen, serve

    from .model_editor import GraphModelEditor
    from .report import print_line

    check_files(files, features)
    site = site_of(files, GraphModelEditor(model, transcoders, device, dtype), read_only, features, host)
    sock = listen(host, port)
    address = f"{address_of(sock, host)}?token={site.keys.token}"
    if host not in LOOPBACK:
        print_line(
            f"listening on {host}: whoever can reach this machine and has the token sees and changes the files, and the "
            "connection is not encrypted"
        )
    print_line(f"open {address}")
    print_line("Ctrl-C stops the server")
    if not no_open:
        open_browser(address)
    with suppress(KeyboardInterrupt):
        serve(make_app(site), sock)
    print_line("stopped")


def require_server() -> None:
    """Raise DependencyError unless the packages of the server are installed."""
    if any(find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise DependencyError(
            "`cotrace view` needs two more packages: pip install 'cotrace[view]'; `cotrace render FILE --to html` writes the "
            "page without them"
        )


def check_files(files: list[Path], features: Path | None) -> None:
    """Raise before the server starts what is wrong with graph files, or with a store of features: ArgumentError, FileError."""
    from cotrace.features.store.store import FeatureStore
    from cotrace.graphs import open_graph

    if len({path.resolve() for path in files}) < len(files):
        raise ArgumentError("a file is named twice; name each once")
    for path in files:
        open_graph(path)
    if features is not None:
        FeatureStore.open(features)


def site_of(files: list[Path], editor: "GraphModelEditor", read_only: bool, features: Path | None, host: str) -> "Site":
    """Return the site of graph files, whose model is edited by `editor`."""
    from cotrace.viewer.page.pages import page_of
    from cotrace.viewer.server.app import Site
    from cotrace.viewer.server.files import ServedFile

    return Site(
        [ServedFile(path, read_only) for path in files],
        lambda named, server: page_of(named, features=features, server=server),
        editor,
        host,
    )


def open_browser(address: str) -> None:
    """Open an address in the user's browser, without waiting for it."""
    import threading
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
