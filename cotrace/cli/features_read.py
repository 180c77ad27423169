"""`cotrace features show`, `search`, `diff` and `label`: read feature stores, and label their features."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotrace.common.errors import DependencyError

from . import options

if TYPE_CHECKING:
    from cotrace.features.store.store import FeatureStore

DEFAULT_TRANSCODERS = "gemma-3-270m-clt"

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="STORE",
        help="A folder that `cotrace features build` wrote. Default: the store that comes with cotrace for "
        f"{DEFAULT_TRANSCODERS}.",
    ),
]


def show_features(
    features: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FEATURE]...", help="Features, such as L17#264. Without any: the store itself."),
    ] = None,
    store: StoreOption = None,
    json: options.JsonOption = False,
) -> None:
    """Show the cards of features: what each is active on, what it promotes, its neighbours, examples and label.

    Without a feature: the model, transcoders and text of the store, and how many features of each layer are active and have a label.

    In examples the token at which the feature is active is «marked». Logits are changes at activation 1, minus the mean
    over the vocabulary.
    """
    from . import report_features
    from .console import print_json

    opened = open_store(store)
    if not features:
        summary = opened.summary()
        print_json(summary) if json else report_features.print_store(summary)
        return
    cards = [opened[name] for name in features]
    print_json([card.to_dict() for card in cards]) if json else report_features.print_cards(cards)


def open_store(path: Path | None) -> "FeatureStore":
    """Open a feature store, by default the one that comes with cotrace.

    Raises FileError for a folder that is not one, DependencyError if the store that comes with cotrace is not installed.
    """
    from cotrace.features.store.store import FeatureStore

    if path is not None:
        return FeatureStore.open(path)
    from cotrace.attribution.transcoders.shipped import shipped_feature_store

    shipped = shipped_feature_store(DEFAULT_TRANSCODERS)
    if shipped is None:
        raise DependencyError(
            f"the feature store of {DEFAULT_TRANSCODERS} is not installed: `pip install 'cotrace[gemma]'`, or give "
            "--features with a folder that `cotrace features build` wrote"
        )
    return FeatureStore.open(shipped)
