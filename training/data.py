"""Text to sequences of tokens: read, packed, shuffled and kept in one file, so that a run can go on from it."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.errors import CotraceError
from cotrace.common.files import atomic_write
from cotrace.common.progress import Progress

from .config import Config
from .samples import sampled
from .shards import WHOLE, Shard

TABLES = (".jsonl", ".parquet")  # with a text in each row
SUFFIXES = (".txt", ".md", ".rst", *TABLES)
PIECE = 4096  # bytes
FILE = "tokens.npy"


def sequences(config: Config, model: LanguageModel, folder: Path, bars: Progress, shard: Shard = WHOLE) -> np.ndarray:
    """A run's sequences (S, context) of token ids, each starting with BOS, in the order they are trained on.

    They are made once, by the first process, and kept in `folder`; S is what the run and its
    evaluation need. Raises ValueError if the data has fewer tokens than that, or cannot be read.
    """
    path, needed = folder / FILE, needed_sequences(config)
    if not path.is_file() and shard.rank == 0:
        samples = folder / f"samples-{config.context}-{config.seed}"
        keep(path, read(config.data, model, config.context, needed, config.seed, bars, samples), config)
    shard.wait()
    ids_SP = np.load(path, mmap_mode="r")
    made_of = path.with_suffix(".json")
    if not made_of.is_file() or json.loads(made_of.read_text()) != _made_of(config) or len(ids_SP) != needed:
        raise CotraceError(f"{path} is of other data or settings; remove it, or choose another folder")
    return ids_SP


def keep(path: Path, ids_SP: np.ndarray, config: Config) -> None:
    """Write a run's sequences, all or nothing, and what they were made of."""
    path.with_suffix(".json").write_text(json.dumps(_made_of(config)))
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.save(file, ids_SP)


def _made_of(config: Config) -> dict[str, Any]:
    names = ("model", "data", "context", "seed", "tokens", "buffer_tokens", "fit_tokens", "held_out")
    return json.loads(json.dumps({name: getattr(config, name) for name in names}))


def read(
    data: Sequence[str],
    model: LanguageModel,
    context: int,
    needed: int,
    seed: int,
    bars: Progress,
    samples: Path | None = None,
) -> np.ndarray:
    """Sequences (needed, context) of all sources together, shuffled; `samples` is where those of the model are kept.

    Raises ValueError if there are fewer, and for what cannot be read.
    """
    parts = []
    with bars.phase("reading text", len(data)) as advance:
        for source in data:
            parts.append(_packed(source, needed, model, context, seed, bars, samples))
            advance()
    packed = np.concatenate(parts)
    if len(packed) < needed:
        raise CotraceError(
            f"the data has {len(packed):,} sequences of {context} tokens and {needed:,} are needed; "
            "add data, or ask for fewer tokens"
        )
    return packed[np.random.default_rng(seed).permutation(len(packed))[:needed]]


def needed_sequences(config: Config) -> int:
    """Of the fit, the training and the evaluation."""
    return _n_fit(config) + _n_buffer(config) * config.n_buffers + n_held_out(config)


def n_held_out(config: Config) -> int:
    """Sequences that are never trained on, at the end of all."""
    return int(np.ceil(_n_buffer(config) * config.n_buffers * config.held_out))


def of_fit(config: Config) -> slice:
    """Sequences from which units and the first affine map are fitted."""
    return slice(0, _n_fit(config))


def of_buffer(config: Config, buffer: int) -> slice:
    """Sequences whose activations make a buffer."""
    start = _n_fit(config) + buffer * _n_buffer(config)
    return slice(start, start + _n_buffer(config))


def _n_fit(config: Config) -> int:
    return -(-min(config.fit_tokens, config.tokens) // (config.context - 1))


def _n_buffer(config: Config) -> int:
    return -(-config.tokens_per_buffer // (config.context - 1))  # BOS is not trained on


def _packed(
    source: str, needed: int, model: LanguageModel, context: int, seed: int, bars: Progress, samples: Path | None
) -> np.ndarray:
    """At most `needed` sequences of one source."""
    kind, _, n = source.partition(":")
    if kind == "samples":
        if (n and not n.isdecimal()) or n == "0" or samples is None:
            raise CotraceError(f"{source!r} should be samples or samples:N, with the number of sequences, to train on")
        return sampled(model, min(needed, int(n or needed)), _bos(model), context, seed, samples, bars)
    documents = pieces(Path(source), seed) if Path(source).exists() else _data_set(source)
    return pack(documents, model.tokenizer.encode_without_bos, _bos(model), context, needed)


def _bos(model: LanguageModel) -> int:
    if model.tokenizer.bos_id is None:
        raise CotraceError(f"{model.source.name} has no token that opens a text (BOS); training needs one")
    return model.tokenizer.bos_id


def pack(
    documents: Iterable[str], encode: Callable[[str], list[int]], bos: int, context: int, needed: int
) -> np.ndarray:
    """Sequences (at most `needed`, context): BOS, then what comes next of the documents, divided by BOS too.

    What does not fill a sequence at the end is dropped.
    """
    rows: list[np.ndarray] = []
    stream = np.empty(0, np.int32)
    for text in documents:
        stream = np.concatenate([stream, np.array([bos, *encode(text)], np.int32)])
        start = 0
        while len(rows) < needed and len(stream) - start >= context:
            first = start + int(stream[start] == bos)  # it is there already
            rows.append(np.concatenate([[bos], stream[first : first + context - 1]]))
            start = first + context - 1
        stream = stream[start:]
        if len(rows) == needed:
            break
    return np.array(rows, np.int32).reshape(-1, context)


def pieces(source: Path, seed: int) -> Iterator[str]:
    """All texts of a file or folder, shuffled: files of text in pieces of about `PIECE` bytes, so that each is
    seen in its proportion, files of many texts from the first to the last.

    Raises ValueError where there is no text, or what cannot be read.
    """
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.suffix in SUFFIXES)
    if not files:
        raise CotraceError(f"{source} holds no text: none of {', '.join('*' + suffix for suffix in SUFFIXES)}")
    starts = [(path, start) for path in files for start in _starts(path)]
    for index in np.random.default_rng(seed).permutation(len(starts)):
        path, start = starts[index]
        try:
            found = [_lines(path, start)] if start is not None else _rows(path)
            yield from (text for text in found if text)
        except (KeyError, TypeError, ValueError, OSError, pa.ArrowException) as error:
            raise CotraceError(f"{path} cannot be read as text ({error}); convert or remove it") from error


def _starts(path: Path) -> Iterable[int | None]:
    """Where pieces of a text start, in bytes; None for files of many texts, which are read from first to last."""
    return [None] if path.suffix in TABLES else range(0, path.stat().st_size, PIECE)


def _lines(path: Path, start: int) -> str:
    """The lines that begin in a piece."""
    lines = []
    with path.open("rb") as file:
        file.seek(max(start - 1, 0))
        if start:
            file.readline()  # of the piece before
        while file.tell() < start + PIECE and (line := file.readline()):
            lines.append(line)
    return b"".join(lines).decode()


def _rows(path: Path) -> Iterator[str]:
    """The column `text` of every row."""
    if path.suffix == ".parquet":
        for batch in parquet.ParquetFile(path).iter_batches(columns=["text"]):
            yield from batch["text"].to_pylist()
    else:
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines if line.strip())


def _data_set(source: str) -> Iterator[str]:
    """A Hugging Face data set as NAME[:SPLIT[:COLUMN]], streamed."""
    name, _, rest = source.partition(":")
    split, _, column = rest.partition(":")
    try:
        import datasets
    except ImportError as error:
        raise CotraceError(
            f"{source} is no file or folder here; reading it as a Hugging Face data set needs `pip install datasets`"
        ) from error
    rows: Any = datasets.load_dataset(name, split=split or "train", streaming=True)
    for row in rows:
        if (column or "text") not in row:
            raise CotraceError(f"{source} has no column {column or 'text'!r}; it has {', '.join(row)}")
        yield row[column or "text"] or ""
