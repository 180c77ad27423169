"""`cotrace steer`: compare the texts that a model generates without and with edits."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cotrace.attribution.interventions.config import SEED_STOP, InterventionConfig, SamplingConfig
from cotrace.common.errors import ArgumentError
from cotrace.defaults import DEFAULT_MODEL
from cotrace.graphs import open_graph

from . import options
from .comparison import as_json, compare, print_comparison
from .prompt_source import read_prompt


def steer(
    prompt: options.PromptArgument = None,
    prompt_file: options.PromptFileOption = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE", help=f"Set a node to zero, or remove a direction. Repeatable. {options.NODE_SYNTAX}"
        ),
    ] = None,
    set_to: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NODE=VALUE",
            help="Set an activation: L5#123@generated=2.5, or =2x as in --add. Or replace a token: 'token@4= cold', by id 'token@4=id:1234', by "
            "the embedding at another position 'token@4=token@2', by the mean of several 'token@4= cold| warm'. Repeatable.",
        ),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE=VALUE",
            help="Add to an activation: L12:direction.npy=-3, or L5#123@generated=2x for twice the usual activation of the "
            "feature in the graph that --graph names. Repeatable.",
        ),
    ] = None,
    multiply: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE=FACTOR", help="Multiply an activation: L5#error@4=0.5. Repeatable."),
    ] = None,
    graph: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A graph file whose labels, groups and node numbers NODE can be, too."),
    ] = None,
    dictionary: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="An SAE or crosscoder of Gemma Scope 2, a folder or a Hub id: NODE can be dictionary:L9#123@generated, its "
            "feature's direction. --add dictionary:L9#123=40 adds what the feature writes with an activation of 40.",
        ),
    ] = None,
    model: options.ModelOption = DEFAULT_MODEL,
    transcoders: options.TranscodersOption = None,
    freeze: options.FreezeOption = InterventionConfig.freeze,
    layers: options.LayersOption = None,
    errors: options.ErrorsOption = InterventionConfig.errors,
    masked_positions: options.MaskedPositionsOption = None,
    max_new_tokens: Annotated[
        int, typer.Option(help="Generate at most this many tokens.", min=1)
    ] = SamplingConfig.max_new_tokens,
    temperature: Annotated[
        float,
        typer.Option(
            help="0 takes the likeliest token; otherwise tokens are sampled at this temperature. Probabilities are shown at "
            "temperature 1.",
            min=0,
        ),
    ] = SamplingConfig.temperature,
    seed: Annotated[
        int, typer.Option(help="Seed of the sampling, the same without and with edits.", min=0, max=SEED_STOP - 1)
    ] = SamplingConfig.seed,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    chat: options.ChatOption = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write texts, tokens, probabilities and settings to this JSON file.")
    ] = None,
    force: options.ForceOption = False,
) -> None:
    """Continue PROMPT without and with edits, and compare texts and probabilities.

    cotrace steer "The opposite of hot is" --ablate L17#264@5
    """
    from .output_paths import check_file, check_free

    if layers and freeze == "none":
        raise ArgumentError("--layers says where --freeze applies; add --freeze attention or --freeze all")
    given = {"ablate": ablate or [], "set": set_to or [], "add": add or [], "multiply": multiply or []}

    from .edit_syntax import check_dictionary, parse_edits, with_directions

    names = None if graph is None else open_graph(graph)
    edits = parse_edits(given, names)
    check_dictionary(edits, dictionary)
    freezing: dict[str, Any] = {"freeze": freeze, "layers": options.positions("--layers", layers), "errors": errors}
    sampling: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    masked: dict[str, Any] = {"masked_positions": options.positions("--masked-positions", masked_positions)}
    InterventionConfig(**freezing)
    SamplingConfig(**sampling)
    if out is not None:
        check_file(out)
        check_free(out, "--out", force)
    text = read_prompt(prompt, prompt_file)

    import cotrace
    from cotrace.attribution.dictionaries import find_dictionary

    from .report import print_written

    loading: dict[str, Any] = {"device": device, "dtype": dtype}
    if dictionary is not None:
        find_dictionary(dictionary)  # a misspelt name is reported before a model is loaded
    loaded = cotrace.load(model, transcoders, **loading)
    opened = None if dictionary is None else cotrace.load_dictionary(dictionary, loaded)
    edits = with_directions(edits, opened)
    content = [{"role": "user", "content": text}] if chat else text
    edited = loaded.generate(content, edits, **freezing, **sampling, **masked, progress=None)
    comparison = compare(loaded.generate(content, **sampling, progress=None), edited)
    if out is not None:  # before anything is printed: a reader of the output may stop reading
        settings = {**freezing, **sampling, **masked, "dtype": str(loaded.weights.dtype).removeprefix("torch.")}
        request = {"prompt": text, "chat": chat, "edits": given, "settings": settings}
        if opened is not None:
            request["dictionary"] = opened.describe()
        write(loaded.describe() | request | as_json(comparison), out)
    print_comparison(comparison)
    if out is not None:
        print_written(out)


def write(result: dict[str, Any], path: Path) -> None:
    """Write a result as JSON, atomically."""
    from cotrace.common.files import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
