"""`cotrace evaluate`: measure how well transcoders replace a model's MLPs."""

from collections.abc import Callable, Sequence
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
    json: options.JsonOption = False,
) -> None:
    """Measure TRANSCODERS on text they were not trained on: reconstruction, sparsity, and the model's predictions."""
    from .output_paths import check_folder

    if out is not None:
        check_folder(out.parent)
    from cotrace.attribution.validation.graph_scores import EVERYDAY_PROMPTS
    from cotrace.evaluation import evaluate_transcoders
    from cotrace.training.evaluate import save_evaluations

    from .console import print_json
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
    if out is not None:
        save_evaluations(results, out)
    if json:
        print_json([result.to_json() for result in results])
        return
    print_results(results)
    if out is not None:
        print_written(out)


def print_results(results: Sequence["TranscoderEvaluation"]) -> None:
    """Print the measurements, one a line, with a column for each set of transcoders."""
    from rich.table import Table

    from cotrace.common.visible_text import printable

    from .report import console

    table = Table("", box=None)
    for result in results:
        table.add_column(printable(result.name), justify="right", overflow="fold")
    for name, measure in MEASURES.items():
        table.add_row(name, *map(measure, results))
    for layer, values in enumerate(zip(*(result.fvu_by_layer for result in results), strict=True)):
        table.add_row(f"FVU of layer {layer}", *(f"{value:.4f}" for value in values))
    console.print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


MEASURES: dict[str, Callable[["TranscoderEvaluation"], str]] = {
    "FVU (unexplained variance)": lambda result: f"{result.fvu:.4f}",
    "L0 (active per layer and token)": lambda result: _number(result.l0),
    "dead features": lambda result: _share(result.dead),
    "dense features": lambda result: _share(result.dense),
    "loss, MLPs replaced": lambda result: f"{result.loss:.3f}",
    "loss of the model": lambda result: f"{result.loss_of_model:.3f}",
    "KL from the model, nats": lambda result: f"{result.kl:.3f}",
    "same top token": lambda result: f"{result.top1_agreement:.1%}",
    "replacement score": lambda result: _number(result.replacement_score),
    "completeness score": lambda result: _number(result.completeness_score),
}
