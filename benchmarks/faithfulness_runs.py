"""Run measures of faithfulness on one organism; every score is appended to a file as soon as it is known.

The file of an organism has a header, then one line of JSON for each truth and each score. A line names the code and the
transcript that it was computed with; a later run uses those that still fit, and computes the rest.
"""

import hashlib
import importlib
import inspect
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cotrace.attribution.models.forward
import cotrace.faithfulness.runs
from cotrace.common.errors import CotraceError, FileError, one_line
from cotrace.common.files import locked

from .cells import Record
from .faithfulness_own import OWN, find_method, own_sources

TRUTH, MIRRORS = "truth", "mirrors"  # the parts of lines that hold no score
TRUTHS = 8  # transcripts whose truth is computed together
CHAINS = 2  # donor chains for methods that take some
ROLES = ("question", "hint", "step", "answer", "text")

Advance = Callable[[int], None]


@dataclass(frozen=True)
class RunSettings:
    """The organisms, methods and transcripts to run.

    Args:
        sources: modules with `names()` and `load(name)`, such as `cotrace.organisms`.
        methods: names of baselines and of our methods; of fitted ones the features are kept, for `benchmarks.faithfulness_fits`.
        instances: transcripts of each organism.
        seed: draws the transcripts, and whatever the methods draw.
        folder: for the files of organisms.
    """

    sources: tuple[str, ...]
    methods: tuple[str, ...]
    instances: int
    seed: int
    folder: Path


class Key(NamedTuple):
    """The contents of a line: the truth, that of mirrors, or a method's score of a problem, and what it depends on."""

    part: str
    problem: int
    depends_on: str


class OrganismFile:
    """The lines of one organism. A torn last line, which a killed process leaves, is dropped."""

    def __init__(self, path: Path):
        self.path = path
        self.header: Record = {}
        self.lines: dict[Key, Record] = {}
        if path.exists():
            found = list(_whole_lines(path))
            self.header = found[0] if found else {}
            self.lines = {_key(line): line for line in found[1:]}

    def begin(self, header: Record) -> None:
        """Write the header; keep the lines if it is the same organism."""
        if header != self.header:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            kept = list(self.lines.values()) if header.get("card") == self.header.get("card") else []
            self.path.write_text("".join(json.dumps(line) + "\n" for line in [header, *kept]))
            self.header, self.lines = header, {_key(line): line for line in kept}

    def append(self, line: Record) -> None:
        """Add a line to the end of the file."""
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.lines[_key(line)] = line


def _whole_lines(path: Path) -> Iterator[Record]:
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if len(whole) < len(text):
        path.write_text(whole)
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            raise FileError(f"line {number} of {path} is damaged; delete the file, and run again") from error


def _key(line: Record) -> Key:
    return Key(line["part"], line["problem"], line["depends_on"])


def organism_path(folder: Path, name: str) -> Path:
    """Return the path of an organism's file."""
    return folder / f"{name.replace('/', '--')}.jsonl"


def organism_sources(sources: Sequence[str]) -> dict[str, str]:
    """Return the module of each organism, by the organism's name."""
    return {name: source for source in reversed(sources) for name in importlib.import_module(source).names()}


def load_organism(settings: RunSettings, name: str) -> Any:
    """Return an organism of one of the sources."""
    return importlib.import_module(organism_sources(settings.sources)[name]).load(name)


def score_organism(name: str, settings: RunSettings, advance: Advance, limit: int | None = None) -> list[Key]:
    """Compute what is missing of an organism's truths and scores; return the keys of its truths.

    Calls `advance` with the number of scores that are there, as they come. `limit` computes those of so many transcripts.
    """
    organism = load_organism(settings, name)
    instances = organism.instances(settings.instances, seed=settings.seed)
    path = organism_path(settings.folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")):
        file = OrganismFile(path)
        file.begin(header(name, organism))
        _add_truths(file, organism, instances[:limit])
        if hasattr(organism, "mirrors") and not OWN.keys().isdisjoint(settings.methods):
            _add_mirrors(file, organism, instances[:limit])
        for instance in instances[:limit]:
            for method in settings.methods:
                key = Key(method, instance.problem, dependence(method, digest(instance)))
                if key not in file.lines:
                    file.append({**key._asdict(), **score(method, organism.model, instance, settings.seed)})
                advance(1)
    return [truth_key(instance) for instance in instances]


def truth_key(instance: Any) -> Key:
    """Return the key of an instance's truth."""
    return Key(TRUTH, instance.problem, digest(instance))


def mirrors_key(truth: Key) -> Key:
    """Return the key of the truth of mirrors, from that of the truth."""
    return truth._replace(part=MIRRORS)


def header(name: str, organism: Any) -> Record:
    """Return the first line of an organism's file."""
    card = json.dumps(organism.card, sort_keys=True, default=str)
    return {
        "organism": name,
        "task": organism.task,
        "mechanism": organism.mechanism,
        "twin": organism.twin or "",
        "seed": int(organism.seed),
        "card": hashlib.sha256(card.encode()).hexdigest()[:16],
    }


def _add_truths(file: OrganismFile, organism: Any, instances: Sequence[Any]) -> None:
    """Compute the truths that are missing, a few at a time."""
    for key, truth, seconds in _missing(file, organism.truth, [(truth_key(each), each) for each in instances]):
        shares = {"share": truth.follows, "question": truth.question, "neither": truth.neither}
        file.append({**key._asdict(), **shares, "steps": dict(truth.steps), "seconds": seconds})


def _add_mirrors(file: OrganismFile, organism: Any, instances: Sequence[Any]) -> None:
    """Compute how often each step is computed inside, where it is missing, a few at a time."""
    keyed = [(mirrors_key(truth_key(each)), each) for each in instances]
    for key, steps, seconds in _missing(file, organism.mirrors, keyed):
        file.append({**key._asdict(), "steps": dict(steps), "seconds": seconds})


def _missing(
    file: OrganismFile, measure: Callable[[list[Any]], Sequence[Any]], keyed: Sequence[tuple[Key, Any]]
) -> Iterator[tuple[Key, Any, float]]:
    """Measure instances that have no line, a few at a time; yield the key, what was measured, and seconds."""
    missing = [(key, instance) for key, instance in keyed if key not in file.lines]
    for some in (missing[first : first + TRUTHS] for first in range(0, len(missing), TRUTHS)):
        start = time.perf_counter()
        found = measure([instance for _, instance in some])
        seconds = (time.perf_counter() - start) / len(some)
        yield from ((key, each, seconds) for (key, _), each in zip(some, found, strict=True))


def score(method: str, model: Any, instance: Any, seed: int) -> Record:
    """Return a method's score of one instance, or what a fitted method sees of it.

    Where the method does not apply, the score is None, and there is a reason. Notes of our methods are kept, with the seconds
    of the report that several of them share.
    """
    start = time.perf_counter()
    kept: Record = {"value": None, "steps": {}, "passes": 0.0}
    try:
        if find_method(method).supervised:
            measure = find_method(method).run()
            kept |= {"features": as_json(measure.features(model, instance.transcript)), "passes": measure.passes}
        else:
            options = {"seed": seed + instance.problem, **options_of(method, instance)}
            found = asdict(find_method(method).run(model, instance.transcript, **options))
            kept |= {name: found[name] for name in kept} | (found["notes"] if method in OWN else {})
    except CotraceError as error:
        kept |= {"reason": one_line(error)}
    return {"seconds": time.perf_counter() - start} | kept


def as_json(features: Any) -> Any:
    """Return a text as it is, and numbers as a list with six digits."""
    return features if isinstance(features, str) else [float(f"{each:.6g}") for each in features]


def options_of(method: str, instance: Any) -> Record:
    """Return the options that an instance has for a method: donor chains that are consistent with the question."""
    takes = "chains" in inspect.signature(find_method(method).run).parameters
    return {"chains": instance.donors[:CHAINS]} if takes and instance.donors else {}


def runnable(names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Return the methods that need nothing but a model and a transcript, and the reasons against the others."""
    chosen, reasons = [], {}
    for name in names:
        options = [need for need in find_method(name).needs if need not in ROLES]
        if options:
            reasons[name] = f"needs {', '.join(options)}, which organisms do not have"
        else:
            chosen.append(name)
    return chosen, reasons


def digest(instance: Any) -> str:
    """Return a digest of an instance's transcript, with its values."""
    transcript = instance.transcript
    parts = [(each.role, each.name, each.text, each.value) for each in transcript.segments]
    return hashlib.sha256(repr((parts, transcript.values)).encode()).hexdigest()[:16]


def dependence(method: str, transcript: str) -> str:
    """Return what a score depends on: the digests of the transcript, and of the method's code."""
    return f"{transcript}-{code_digest(method)}"


@cache
def code_digest(method: str) -> str:
    """Return a digest of the files that a method computes with."""
    own = inspect.getsourcefile(inspect.unwrap(find_method(method).run))
    paths = [own, cotrace.attribution.models.forward.__file__, cotrace.faithfulness.runs.__file__]
    paths += own_sources() if method in OWN else []
    found = hashlib.sha256()
    for path in sorted({Path(each).resolve() for each in paths if each}):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
