"""`cotrace train`: transcoders for a model, on text."""

from pathlib import Path
from typing import Annotated

import typer

DATA = (
    "A text file (.txt, .md, .rst, .jsonl or .parquet with a column `text`), a folder of them, a Hugging Face data "
    "set as NAME[:SPLIT[:COLUMN]], or samples[:N] that the model writes itself. Repeatable."
)


def train(
    out: Annotated[Path, typer.Option(help="Folder for the run and its result; made if it does not exist.")],
    model: Annotated[str, typer.Option(help="gemma-3-270m, a Hub id, a folder or a .gguf file.")] = "gemma-3-270m",
    data: Annotated[list[str] | None, typer.Option(help=DATA)] = None,
    kind: Annotated[str, typer.Option(help="clt, transcoder, skip-transcoder or sae.")] = "clt",
    width: Annotated[int, typer.Option(help="Features of each layer.", min=1)] = 1024,
    target_l0: Annotated[float, typer.Option(help="Active features of a layer and token to aim for.")] = 20.0,
    activation: Annotated[str, typer.Option(help="batchtopk, topk or jumprelu.")] = "batchtopk",
    affine: Annotated[
        bool | None, typer.Option(help="Train an affine skip too; default: for clt and skip-transcoder.")
    ] = None,
    matryoshka: Annotated[list[int] | None, typer.Option(help="Width of a nested prefix. Repeatable.")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of text to train on.", min=1)] = 1_000_000,
    batch_tokens: Annotated[int, typer.Option(help="Tokens of a step.", min=1)] = 1024,
    context: Annotated[int, typer.Option(help="Tokens of a sequence, BOS included.", min=2)] = 256,
    passes: Annotated[int, typer.Option(help="How often each token is trained on.", min=1)] = 1,
    learning_rate: Annotated[float, typer.Option(help="Highest rate of Adam.")] = 3e-3,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its own settings.")
    ] = False,
) -> None:
    """Train transcoders on a model's own activations, into files in the layout of Gemma Scope 2.

    A run may be stopped at any moment: --resume goes on from its last checkpoint.
    """
    from .places import check_writable

    check_writable(out)
    from cotrace.training import Config, resume_run, train_run

    from .report import console

    if resume:
        result = resume_run(out, device=device)
    else:
        config = Config(
            model=model,
            data=tuple(data or ["samples"]),
            kind=kind,
            width=width,
            target_l0=target_l0,
            affine=affine,
            activation=activation,
            matryoshka=tuple(matryoshka or ()),
            tokens=tokens,
            batch_tokens=batch_tokens,
            context=context,
            passes=passes,
            learning_rate=learning_rate,
            seed=seed,
        )
        result = train_run(config, out, device=device)
    console.print(f"transcoders in {result}", markup=False, soft_wrap=True)
