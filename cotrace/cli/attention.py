"""`cotrace attention`: why a head attends where it does."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cotrace.attribution.tracing.config import TraceConfig
from cotrace.defaults import DEFAULT_MODEL
from cotrace.graphs.drawing.figures import check_suffix
from cotrace.target_syntax import parse_bytes

from . import options
from .prompt_source import read_prompt

ROWS_SHOWN = 10


def attention(
    layer: Annotated[int, typer.Option(help="Layer of the head, from 0.")],
    head: Annotated[int, typer.Option(help="The head, from 0: one of the layer's query heads.")],
    query: Annotated[int, typer.Option(help="Position that attends; negative from the end of the prompt.")],
    prompt: options.PromptArgument = None,
    prompt_file: options.PromptFileOption = None,
    key: Annotated[
        int | None, typer.Option(help="Position that is attended to. Default: the one that gets the most attention.")
    ] = None,
    model: options.ModelOption = DEFAULT_MODEL,
    transcoders: options.TranscodersOption = None,
    masked_positions: options.MaskedPositionsOption = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            rich_help_panel=options.MODEL_PANEL,
            help="Use at most this much memory, such as 8GiB. Default: the free memory.",
        ),
    ] = None,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    chat: options.ChatOption = False,
    top: Annotated[int, typer.Option(help="Print this many keys, nodes of each side and pairs.", min=1)] = ROWS_SHOWN,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw keys, nodes and pairs in this file: .svg, .png or .pdf.")
    ] = None,
    force: options.ForceOption = False,
    json: options.JsonOption = False,
) -> None:
    """Explain why a head of the model attends from one position of PROMPT to another.

    cotrace attention "The opposite of hot is" --layer 11 --head 2 --query -1
    """
    from .output_paths import check_file, check_free

    if plot is not None:
        check_suffix(plot)
        check_file(plot, "--plot")
        check_free(plot, "--plot", force)
    settings: dict[str, Any] = {
        "masked_positions": options.positions("--masked-positions", masked_positions),
        "memory": None if memory is None else parse_bytes("--memory", memory),
    }
    TraceConfig(**settings)
    text = read_prompt(prompt, prompt_file)

    import cotrace

    from .console import print_json
    from .report import print_written
    from .report_attention import print_attention

    loading: dict[str, Any] = {"device": device, "dtype": dtype}
    loaded = cotrace.load(model, transcoders, **loading)
    content = [{"role": "user", "content": text}] if chat else text
    score = loaded.attention(content, layer, head, query, key, **settings)
    if plot is not None:
        score.plot(plot)
    if json:
        print_json({**score.as_json(top), "files": [] if plot is None else [str(plot)]})
        return
    print_attention(score, top)
    if plot is not None:
        print_written(plot)
