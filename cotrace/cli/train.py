"""`cotrace train`: train transcoders for a model on text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cotrace.common.errors import ArgumentError

from . import options


def train(
    out: Annotated[Path, typer.Option(help="Folder for the run and its result; created if it does not exist.")],
    model: Annotated[
        str | None, typer.Option(help="A Hub id, a folder or a .gguf file.", show_default="gemma-3-270m")
    ] = None,
    data: Annotated[list[str] | None, typer.Option(help=options.DATA_SYNTAX, show_default="samples")] = None,
    kind: Annotated[
        str | None, typer.Option(help="clt, transcoder, skip-transcoder or sae.", show_default="clt")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Features per layer.", show_default="1024")] = None,
    target_l0: Annotated[
        float | None, typer.Option(help="Mean number of active features per layer and token.", show_default="20")
    ] = None,
    activation: Annotated[
        str | None, typer.Option(help="batchtopk, topk or jumprelu.", show_default="batchtopk")
    ] = None,
    affine: Annotated[
        bool | None,
        typer.Option(help="Also train an affine skip connection.", show_default="for clt and skip-transcoder"),
    ] = None,
    matryoshka: Annotated[
        list[int] | None, typer.Option(help="Width of a nested prefix of the features. Repeatable.")
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="Number of tokens to train on.", show_default="1000000")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens per step.", show_default="1024")] = None,
    buffer_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens whose activations are kept in memory and shuffled together.", show_default="32768"),
    ] = None,
    context: Annotated[int | None, typer.Option(help="Tokens per sequence, BOS included.", show_default="256")] = None,
    passes: Annotated[
        int | None, typer.Option(help="Number of times each token is trained on.", show_default="1")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate of Adam.", show_default="0.003")
    ] = None,
    sparsity: Annotated[
        float | None, typer.Option(help="Weight of the L0 penalty (jumprelu).", show_default="0.3")
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(help="Bandwidth of the gradient estimate (jumprelu).", show_default="0.1")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precision of large matrix products: float32, bfloat16, or auto (bfloat16 on a GPU).",
            show_default="auto",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random numbers.", show_default="0")] = None,
    device: options.DeviceOption = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, with its settings.")] = False,
) -> None:
    """Train transcoders on a model's activations, and write them in the layout of Gemma Scope 2.

    A run can be stopped at any time: --resume continues from its last checkpoint.
    """
    given = {
        "model": model,
        "data": None if data is None else tuple(data),
        "kind": kind,
        "width": width,
        "target_l0": target_l0,
        "activation": activation,
        "affine": affine,
        "matryoshka": None if matryoshka is None else tuple(matryoshka),
        "tokens": tokens,
        "batch_tokens": batch_tokens,
        "buffer_tokens": buffer_tokens,
        "context": context,
        "passes": passes,
        "learning_rate": learning_rate,
        "sparsity": sparsity,
        "bandwidth": bandwidth,
        "precision": precision,
        "seed": seed,
    }
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if resume and settings:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in settings)
        raise ArgumentError(f"--resume continues with the settings of the run: omit {names}")

    from .output_paths import check_folder

    check_folder(out)

    from cotrace.training import TrainingConfig, resume_training, train_transcoders

    from .report import print_line

    if resume:
        result = resume_training(out, device=device)
    else:
        result = train_transcoders(TrainingConfig(**settings), out, device=device)
    print_line(f"transcoders in {result}")
