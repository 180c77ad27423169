"""`cotrace train`: transcoders for a model, on text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cotrace.common.errors import CotraceError

DATA = (
    "A text file (.txt, .md, .rst, .jsonl or .parquet with a column `text`), a folder of them, a Hugging Face data "
    "set as NAME[:SPLIT[:COLUMN]], or samples[:N], so many sequences that the model writes itself. Repeatable."
)


def train(
    out: Annotated[Path, typer.Option(help="Folder for the run and its result; made if it does not exist.")],
    model: Annotated[str | None, typer.Option(help="A Hub id, a folder or a .gguf file.  [gemma-3-270m]")] = None,
    data: Annotated[list[str] | None, typer.Option(help=f"{DATA}  [samples]")] = None,
    kind: Annotated[str | None, typer.Option(help="clt, transcoder, skip-transcoder or sae.  [clt]")] = None,
    width: Annotated[int | None, typer.Option(help="Features of each layer.  [1024]")] = None,
    target_l0: Annotated[float | None, typer.Option(help="Active features of a layer and token.  [20]")] = None,
    activation: Annotated[str | None, typer.Option(help="batchtopk, topk or jumprelu.  [batchtopk]")] = None,
    affine: Annotated[bool | None, typer.Option(help="An affine skip too.  [for clt and skip-transcoder]")] = None,
    matryoshka: Annotated[list[int] | None, typer.Option(help="Width of a nested prefix. Repeatable.")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens of text to train on.  [1000000]")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Tokens of a step.  [1024]")] = None,
    buffer_tokens: Annotated[
        int | None, typer.Option(help="Tokens whose activations are in memory and shuffled together.  [32768]")
    ] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of a sequence, BOS included.  [256]")] = None,
    passes: Annotated[int | None, typer.Option(help="How often each token is trained on.  [1]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Highest rate of Adam.  [0.003]")] = None,
    sparsity: Annotated[float | None, typer.Option(help="Weight of the L0 penalty, for jumprelu.  [0.3]")] = None,
    bandwidth: Annotated[float | None, typer.Option(help="Of jumprelu's gradient estimate.  [0.1]")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of large products: float32, bfloat16, or auto, bfloat16 on a GPU.  [auto]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.  [0]")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its own settings.")
    ] = False,
) -> None:
    """Train transcoders on a model's own activations, into files in the layout of Gemma Scope 2.

    A run may be stopped at any moment: --resume goes on from its last checkpoint.
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
        raise CotraceError(f"--resume goes on with the run's own settings: leave out {names}")

    from .output_paths import check_writable

    check_writable(out)

    from cotrace.training import TrainingConfig, resume_training, train_transcoders

    from .report import console

    if resume:
        result = resume_training(out, device=device)
    else:
        result = train_transcoders(TrainingConfig(**settings), out, device=device)
    console.print(f"transcoders in {result}", markup=False, highlight=False, soft_wrap=True)
