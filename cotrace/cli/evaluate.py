"""`cotrace evaluate`: measure how well transcoders replace a model's MLPs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cotrace.defaults import DEFAULT_MODEL

from . import options

if TYPE_CHECKING:
    from cotrace.training import TranscoderEvaluation


def evaluate(
    transcoders: Annotated[
        list[str], typer.Argument(metavar="TRANSCODERS...", help="Folders or Hub ids of transcoders for one model.")
    ],
    model: options.ModelOption = DEFAULT_MODEL,
    data: Annotated[list[str] | None, typer.Option(help=options.DATA_SYNTAX)] = None,
    run: Annotated[Path | None, typer.Option(help="The folder of a training run, whose held-out text is used.")] = None,
    tokens: Annotated[int, typer.Option(help="Number of tokens to measure on.", min=2)] = 20_000,
    fit_tokens: Annotated[int, typer.Option(help="Number of other tokens to fit the baselines to.", min=2)] = 32_768,
    context: Annotated[int, typer.Option(help="Tokens per sequence, with --data.", min=2)] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the choice of text.")] = 0,
    baselines: Annotated[bool, typer.Option(help="Also measure an affine map and mean ablation.")] = True,
    trace_prompts: Annotated[bool, typer.Option(help="Also trace ten everyday prompts for their scores.")] = True,
    device: options.DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the measurements as JSON to this file.")] = None,
) -> None:
    """Measure TRANSCODERS on text they were not trained on: reconstruction, sparsity, and the model's predictions."""
    from .output_paths import check_folder

    if out is not None:
        check_folder(out.parent)
    from cotrace.attribution.validation.graph_scores import EVERYDAY_PROMPTS
    from cotrace.evaluation import evaluate_transcoders
    from cotrace.training.evaluate import save_evaluations

    from .report import print_written

    results = evaluate_transcoders(
        transcoders,
        model=model,
        data=tuple(data or ()),
        run=run,
        tokens=tokens,
        fit_tokens=fit_tokens,
        context=context,
        seed=seed,
        baselines=baselines,
        prompts=EVERYDAY_PROMPTS if trace_prompts else (),
        device=device,
    )
    print_results(results)
    if out is not None:
        save_evaluations(results, out)
        print_written(out)


def print_results(results: Sequence["TranscoderEvaluation"]) -> None:
    """Print the sets of transcoders side by side, and their reconstruction by layer."""
    from rich.table import Table

    from cotrace.common.visible_text import printable

    from .report import console

    columns = ("FVU", "L0", "dead", "dense", "loss", "KL", "same top token", "replacement", "completeness")
    table = Table("", *columns, box=None, title_justify="left")
    for r in results:
        shares = (_share(r.dead), _share(r.dense))
        predicted = (f"{r.loss:.3f}", f"{r.kl:.3f}", f"{r.top1_agreement:.1%}")
        traced = (_number(r.replacement_score), _number(r.completeness_score))
        table.add_row(printable(r.name), f"{r.fvu:.4f}", _number(r.l0), *shares, *predicted, *traced)
    console.print(table)
    console.print(f"the model's own loss: {results[0].loss_of_model:.3f}")
    layers = Table("FVU of layer", *(printable(r.name) for r in results), box=None, title_justify="left")
    for layer, values in enumerate(zip(*(r.fvu_by_layer for r in results), strict=True)):
        layers.add_row(str(layer), *(f"{value:.4f}" for value in values))
    console.print(layers)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
