"""`cotrace features show`, `search`, `diff` and `label`: read feature stores, and label their features."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotrace.common.errors import ArgumentError, DependencyError
from cotrace.common.progress import Progress
from cotrace.features.store.shipped import DEFAULT_TRANSCODERS, shipped_feature_store

from . import options

if TYPE_CHECKING:
    from cotrace.features.store.store import FeatureStore


class MatchBy(StrEnum):
    """Rules by which features of two stores are matched."""

    NUMBER = "number"
    PROFILE = "profile"


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


def search_features(
    word: Annotated[str, typer.Argument(metavar="WORD", help="A word, or a part of a label.")],
    store: StoreOption = None,
    layer: Annotated[int | None, typer.Option(help="Search this layer only.", min=0)] = None,
    top: Annotated[int, typer.Option(help="Number of features to list.", min=1)] = 20,
    json: options.JsonOption = False,
) -> None:
    """Search for features by a word: in labels, in the tokens that they are active on most often, and in those they promote.

    Upper and lower case do not matter. The value is the score of an automatic label, the share of the feature's activity that is
    on the word, or the change of the word's logit at activation 1.
    """
    from .console import print_json
    from .report_features import print_hits

    hits = open_store(store).search(word, layer=layer, n=top)
    if json:
        print_json([{**hit._asdict(), "feature": str(hit.feature)} for hit in hits])
        return
    print_hits(hits, word)


def diff_features(
    first: Annotated[Path, typer.Argument(metavar="A", help="A feature store.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another feature store.")],
    match: Annotated[
        MatchBy | None,
        typer.Option(
            help="Compare features of the same layer and number, or each feature of A with the most similar one of B. Default: "
            "number, if both stores have the same layers and widths."
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Number of features to list, the least similar first.", min=0)] = 20,
    json: options.JsonOption = False,
) -> None:
    """Compare two feature stores: features that changed, and those that are active in one store only.

    The similarity of two features is the mean of two cosines: of the tokens that they are active on most often, weighted by how often, and
    of the tokens that they promote, weighted by their logits. 1 is the same.
    """
    from .console import print_json
    from .report_features import print_diff

    found = open_store(first).diff(open_store(second), match)
    print_json(found.to_dict()) if json else print_diff(found, top)


def label_features(
    feature: Annotated[str | None, typer.Argument(metavar="FEATURE", help="A feature, such as L17#264.")] = None,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Its label; an empty one removes the label.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--features", metavar="STORE", help="The feature store to write to.")
    ] = None,
    labels: Annotated[
        list[Path] | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            help="A file of labels (.json, .jsonl, .csv, .tsv), or one that Neuronpedia exported. Repeatable.",
        ),
    ] = None,
    automatic: Annotated[
        bool, typer.Option("--automatic", help="Make the automatic labels again, from the examples in the store.")
    ] = False,
) -> None:
    """Label features in a feature store: one by hand, many from files, or all automatically.

    A label of a stronger source stays: by hand, from a file, from Neuronpedia, automatic.
    """
    from cotrace.features.store.label_files import read_label_file
    from cotrace.features.store.labels import write_labels

    from .report import print_line

    if store is None:
        raise ArgumentError("no store to write to; give --features with a folder that `cotrace features build` wrote")
    if (feature is None) != (text is None) or not (feature or labels or automatic):
        raise ArgumentError("nothing to label; give a feature and its label, --labels FILE or --automatic")
    opened = open_store(store)
    if feature is not None and text is not None:
        opened.parse(feature)
    read = {key: label for path in reversed(labels or []) for key, label in read_label_file(path).items()}
    known = {key: label for key, label in read.items() if key in opened}
    if read and not known:
        raise ArgumentError(
            f"none of the {len(read):,} labels is of a feature of {opened.name}; give labels of its features"
        )
    changed = opened.add_labels(known, "file") if known else 0
    if feature is not None and text is not None:
        changed += opened.add_labels({feature: text})
    if read or feature:
        print_line(f"labelled {changed:,} features of {opened.name}")
    if len(known) < len(read):
        print_line(f"{len(read) - len(known):,} labels are of features that {opened.name} does not have")
    if automatic:
        count = write_labels(store, Progress(None))
        print_line(f"{count:,} of {len(opened):,} features have a label")


def open_store(path: Path | None) -> "FeatureStore":
    """Open a feature store, by default the one that comes with cotrace.

    Raises FileError for a folder that is not one, DependencyError if the store that comes with cotrace is not installed.
    """
    from cotrace.features.store.store import FeatureStore

    if path is not None:
        return FeatureStore.open(path)

    shipped = shipped_feature_store(DEFAULT_TRANSCODERS)
    if shipped is None:
        raise DependencyError(
            f"the feature store of {DEFAULT_TRANSCODERS} is not installed: `pip install 'cotrace[gemma]'`, or give "
            "--features with a folder that `cotrace features build` wrote"
        )
    return FeatureStore.open(shipped)
