"""`cotrace evaluate`: measure how well transcoders replace a model's MLPs, and SAEs and crosscoders reconstruct their site."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cotrace.defaults import DEFAULT_MODEL

from . import options

if TYPE_CHECKING:
    from cotrace.attribution.dictionaries.evaluation import DictionaryEvaluation
    from cotrace.training import TranscoderEvaluation


def evaluate(
    transcoders: Annotated[
        list[str],
        typer.Argument(
            metavar="TRANSCODERS...",
            help="Folders or Hub ids of transcoders for one model; or of SAEs and crosscoders of Gemma Scope 2.",
        ),
    ],
    model: options.ModelOption = DEFAULT_MODEL,
    data: Annotated[list[str] | None, typer.Option(help=options.DATA_SYNTAX)] = None,
    run: Annotated[Path | None, typer.Option(help="The folder of a training run, whose held-out text is used.")] = None,
    tokens: Annotated[int, typer.Option(help="Number of tokens to measure on.", min=2)] = 20_000,
    fit_tokens: Annotated[
        int, typer.Option(help="Number of other tokens to fit the baselines to. Not for SAEs.", min=2)
    ] = 32_768,
    context: Annotated[int, typer.Option(help="Tokens per sequence, with --data.", min=2)] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the choice of text.")] = 0,
    baselines: Annotated[bool, typer.Option(help="Also measure an affine map and mean ablation. Not for SAEs.")] = True,
    trace_prompts: Annotated[
        bool, typer.Option(help="Also trace ten everyday prompts for their scores. Not for SAEs.")
    ] = True,
    device: options.DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the measurements as JSON to this file.")] = None,
    json: options.JsonOption = False,
) -> None:
    """Measure TRANSCODERS on text they were not trained on: reconstruction, sparsity, and the model's predictions.

    SAEs and crosscoders are measured too: squared error, explained variance about the mean, and sparsity, at each layer.
    """
    from .output_paths import check_folder

    if out is not None:
        check_folder(out.parent)
    from cotrace.attribution.validation.graph_scores import EVERYDAY_PROMPTS
    from cotrace.evaluation import evaluate_dictionaries, evaluate_transcoders, only_dictionaries
    from cotrace.training.evaluate import save_evaluations

    from .console import print_json
    from .report import print_written

    text: dict[str, Any] = {"data": tuple(data or ()), "run": run, "tokens": tokens, "context": context, "seed": seed}
    if only_dictionaries(transcoders):
        results: Sequence[Any] = evaluate_dictionaries(transcoders, model=model, **text, device=device)
        print_table: Callable[[Any], None] = print_dictionaries
    else:
        results = evaluate_transcoders(
            transcoders,
            model=model,
            **text,
            fit_tokens=fit_tokens,
            baselines=baselines,
            prompts=EVERYDAY_PROMPTS if trace_prompts else (),
            device=device,
        )
        print_table = print_results
    if out is not None:
        save_evaluations(results, out)
    if json:
        print_json([result.to_json() for result in results])
        return
    print_table(results)
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


def print_dictionaries(results: Sequence["DictionaryEvaluation"]) -> None:
    """Print the measurements of SAEs and crosscoders, a line for each layer of each."""
    from rich.table import Table

    from cotrace.common.visible_text import printable

    from .report import console

    for result in results:
        table = Table(*DICTIONARY_COLUMNS, box=None, title=printable(result.name), title_justify="left")
        for each in result.layers:
            row = (each.explained_variance, each.mse, each.l0)
            table.add_row(str(each.layer), *(f"{value:.4g}" for value in row), _share(each.dead), _share(each.dense))
        if len(result.layers) > 1:
            table.add_row("all", *(f"{value:.4g}" for value in (result.explained_variance, result.mse, result.l0)))
        console.print(table)
        console.print(f"{result.kind} of {result.site}, {result.tokens:,} tokens")


DICTIONARY_COLUMNS = ("layer", "explained variance", "MSE", "L0", "dead", "dense")


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
