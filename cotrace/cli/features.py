"""`cotrace features`: build feature stores, and read them."""

from collections.abc import Callable

import typer

from .command import Command, with_output_options
from .features_active import active_features
from .features_build import build_feature_store
from .features_read import diff_features, label_features, search_features, show_features

app = typer.Typer(
    no_args_is_help=True,
    help="What features respond to and promote: build a feature store, show, search and compare.",
)

COMMANDS: dict[str, Callable[..., None]] = {
    "build": build_feature_store,
    "active": active_features,
    "show": show_features,
    "search": search_features,
    "diff": diff_features,
    "label": label_features,
}
for command, function in COMMANDS.items():
    app.command(command, cls=Command)(with_output_options(function))
