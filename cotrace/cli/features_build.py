"""`cotrace features build`: build a feature store from text."""

from pathlib import Path
from typing import Annotated

import typer

from cotrace.defaults import DEFAULT_MODEL

from . import options


def build_feature_store(
    data: Annotated[list[str] | None, typer.Option(help=options.DATA_SYNTAX)] = None,
    out: Annotated[Path, typer.Option(help="Folder of the store.")] = Path("feature-store"),
    model: options.ModelOption = DEFAULT_MODEL,
    transcoders: options.FeaturesOfOption = None,
    tokens: Annotated[int, typer.Option(help="Number of tokens to read, BOS not counted.", min=1)] = 1_000_000,
    context: Annotated[int, typer.Option(help="Tokens per sequence, BOS included.", min=2)] = 256,
    chat_share: Annotated[
        float, typer.Option(help="Share of the sequences that are rewritten as chats, 0 to 1.", show_default="1/32")
    ] = 1 / 32,
    top: Annotated[int, typer.Option(help="Examples of the largest activation per feature.", min=1)] = 24,
    quantiles: Annotated[
        int, typer.Option(help="Examples per feature drawn from all tokens at which it is active.", min=0)
    ] = 16,
    before: Annotated[int, typer.Option(help="Tokens of a context before the marked one.", min=0)] = 24,
    after: Annotated[int, typer.Option(help="Tokens of a context after the marked one.", min=0)] = 8,
    fires_on: Annotated[
        int, typer.Option(help="Tokens to keep of those that a feature is active at most often.", min=0)
    ] = 10,
    outputs: Annotated[
        str,
        typer.Option(help="Output tokens: layers (of each written layer and of all), sum (of all), none, or auto."),
    ] = "auto",
    neighbours: Annotated[
        str, typer.Option(help="Nearest features: all (of all layers), layer (of the same layer), none, or auto.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the choice of text and examples.", min=0)] = 0,
    labels: Annotated[bool, typer.Option(help="Label the features automatically.")] = True,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
) -> None:
    """Build a feature store: run the model over text, and record what its features respond to and promote.

    A build can be stopped at any time: the same command continues it.
    """
    from .output_paths import check_folder

    check_folder(out)
    from cotrace.feature_building import build_features

    from .report import print_line

    folder = build_features(
        out,
        data or (),
        model=model,
        transcoders=transcoders,
        tokens=tokens,
        context=context,
        chat_share=chat_share,
        top=top,
        quantiles=quantiles,
        before=before,
        after=after,
        fires_on=fires_on,
        outputs=outputs,
        neighbours=neighbours,
        seed=seed,
        labels=labels,
        device=device,
        dtype=dtype,
    )
    print_line(f"feature store in {folder}")
