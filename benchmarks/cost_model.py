"""Memory, rows and time of traces on paper: larger Gemma 3 models with wide transcoders, on one H100 and on eight.

    python -m benchmarks.cost_model [--active 50] [--budget 10000] [--out FILE]

The formulas are those of `cotrace trace --dry-run` (`attribution/tracing/plan.py`), with assumed instead of measured
active features: the same number at every layer and position. The second table applies them to the runs in
results/trace.json, whose rows, operations, time and memory were measured.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.models.attention_pattern import BLOCK_QUERIES, query_blocks
from cotrace.attribution.models.memory import patterns_numel
from cotrace.attribution.tracing.activations import ActiveFeatures
from cotrace.attribution.tracing.config import RowBudget
from cotrace.attribution.tracing.flops import SweepShape, row_flops
from cotrace.attribution.tracing.plan import SWEEP_EFFICIENCY, TracePlan, make_plan
from cotrace.common.errors import ResourceError

from .cells import Record, count, duration, markdown, size
from .measure import DONE
from .roofline import roofline, roofline_table

RESULTS = Path(__file__).parent / "results"
TOKENS = (64, 512, 4096)
ACTIVE = 50.0  # features at each layer and position: an assumption; published wide transcoders have 10 to 150
BUDGET = 10_000  # rows of a trace with max_features=
FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16
PROCESS_BYTES = 700e6  # of a CPU process with torch, numba and transformers, before a model is loaded
LAUNCH_SECONDS = 5e-6  # a kernel launch from Python
DISK_BYTES_PER_SECOND = 2e9  # of a local SSD
UNLIMITED = 1 << 62


@dataclass(frozen=True)
class Card:
    """A GPU: its memory, its rates in float32 without TF32, and its links to its neighbours.

    `matmul_share` is the share of the peak rate that a large cuBLAS product is assumed to reach.
    """

    name: str
    memory_bytes: float
    peak_flops: float
    bytes_per_second: float
    link_bytes_per_second: float
    matmul_share: float = 0.75

    @property
    def matmul_rate(self) -> float:
        """Return the rate of a large product, in operations a second."""
        return self.peak_flops * self.matmul_share


H100 = Card("H100 SXM", 80e9, 67e12, 3.35e12, 450e9)  # NVIDIA's data sheet; links in one direction


def gemma(n_layers: int, d_model: int, heads: tuple[int, int, int], d_mlp: int, window: int) -> Architecture:
    """Return the sizes of a Gemma 3 model; `heads` are query heads, KV heads and their width."""
    kinds = ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(n_layers)]
    options = {"norm_eps": 1e-6, "attention_scale": 1.0, "activation": "gelu_pytorch_tanh", "embedding_scale": 1.0}
    sizes = dict(zip(("n_heads", "n_kv_heads", "d_head"), heads, strict=True)) | {"d_mlp": d_mlp, "vocab_size": 262144}
    return Architecture(
        n_layers=n_layers,
        d_model=d_model,
        layer_types=tuple(kinds),
        sliding_window=window,
        tied_unembedding=True,
        **sizes,
        **options,
    )


MODELS = {
    "Gemma 3 270M": gemma(18, 640, (4, 1, 256), 2048, 512),
    "Gemma 3 1B": gemma(26, 1152, (4, 1, 256), 6912, 512),
    "Gemma 3 4B": gemma(34, 2560, (8, 4, 256), 10240, 1024),
    "Gemma 3 27B": gemma(62, 5376, (32, 16, 128), 21504, 1024),
}


@dataclass(frozen=True)
class Setup:
    """A model with transcoders: `kind` is "clt" or "per-layer"; weights are stored in `stored`, sums are float32."""

    model: str
    kind: str
    features: int
    active: float
    skip: bool = True
    stored: torch.dtype = FLOAT32

    @property
    def arch(self) -> Architecture:
        """Return the sizes of the model."""
        return MODELS[self.model]

    @property
    def title(self) -> str:
        """Return the setup in words."""
        kind = "CLT" if self.kind == "clt" else "per-layer transcoders"
        return f"{self.model}, {kind} of {self.features:,}, {self.active:g} active"


SETUPS = (
    ("Gemma 3 1B", "clt", 262144, FLOAT32),
    ("Gemma 3 4B", "per-layer", 262144, FLOAT32),
    ("Gemma 3 27B", "per-layer", 262144, BFLOAT16),
)


class PaperFeatures:
    """Active features by layer and position; rows are counted at one feature of each site (`rows_per_site`)."""

    def __init__(self, counts_LP: np.ndarray):
        self.counts_LP = torch.from_numpy(counts_LP)
        self.layer_N, self.position_N = self.counts_LP.nonzero(as_tuple=True)

    def __len__(self) -> int:
        return int(self.counts_LP.sum())

    @property
    def rows_per_site(self) -> float:
        """Return the mean number of features at a site that has any."""
        return len(self) / max(1, len(self.layer_N))

    def counts(self, n_layers: int, n_positions: int) -> torch.Tensor:
        """Return the features at each layer and position, (L, P)."""
        return self.counts_LP

    max_edges = ActiveFeatures.max_edges


class PaperActivations:
    """What `make_plan` reads of the activations of a prompt, with the same number of features at each open position.

    Tensors that only have a size are on the "meta" device. Active features are drawn evenly from the dictionary. Real ones
    repeat more often, so that fewer distinct decoder rows are needed.
    """

    def __init__(self, setup: Setup, tokens: int, device: str):
        arch = setup.arch
        self.token_ids_P = range(tokens)
        self.weights = SimpleNamespace(architecture=arch, dtype=FLOAT32, device=torch.device(device))
        skip = torch.empty(0) if setup.skip else None
        self.transcoders = SimpleNamespace(kind=setup.kind, skip=lambda layer, like: skip)
        self.counts_LP = self._counts(setup, tokens)
        self.features = PaperFeatures(self.counts_LP)
        self.written = [arch.n_layers - layer if setup.kind == "clt" else 1 for layer in range(arch.n_layers)]
        unused = np.exp(self.counts_LP.sum(1) * np.log1p(-1 / setup.features))  # share of the dictionary
        self.distinct = (setup.features * (1 - unused)).astype(int).tolist()
        meta = lambda *shape: torch.empty(shape, device="meta")  # noqa: E731
        self.encoded = [SimpleNamespace(encoder_UD=meta(n, arch.d_model)) for n in self.distinct]
        self.layer_caches = [self._cache(arch, tokens, layer) for layer in range(arch.n_layers)]
        self.decoders = SimpleNamespace(on_disk=False)

    @staticmethod
    def _counts(setup: Setup, tokens: int) -> np.ndarray:
        """Return features by layer and position (L, P); position 0 is masked, and fractions are spread over positions."""
        cumulative = np.floor(np.arange(tokens) * setup.active + 0.5).astype(np.int64)
        counts_P = np.diff(cumulative, prepend=0)
        return np.tile(counts_P, (setup.arch.n_layers, 1))

    @staticmethod
    def _cache(arch: Architecture, tokens: int, layer: int) -> Any:
        blocks = query_blocks(tokens, arch.window(layer))
        shapes = [(arch.n_heads, b.queries.stop - b.queries.start, b.keys.stop - b.keys.start) for b in blocks]
        blocks = [SimpleNamespace(pattern_Hqk=torch.empty(shape, device="meta")) for shape in shapes]
        return SimpleNamespace(pattern=SimpleNamespace(blocks=blocks))

    @property
    def table_bytes(self) -> int:
        """Return the size of the decoder rows of distinct features."""
        rows = sum(n * j for n, j in zip(self.distinct, self.written, strict=True))
        return rows * self.weights.architecture.d_model * 4

    @property
    def n_vectors(self) -> int:
        """Return the number of source vectors of all features."""
        return int((self.counts_LP.sum(1) * np.array(self.written)).sum())

    @property
    def max_edges(self) -> int:
        """Return an upper bound for the edges of all rows."""
        return self.features.max_edges(*self.counts_LP.shape)

    @property
    def sharded_bytes(self) -> int:
        """Return the memory that cards can divide by features: decoder and encoder rows."""
        return self.table_bytes + sum(e.encoder_UD.numel() for e in self.encoded) * 4

    @property
    def forward_bytes(self) -> int:
        """Return the size of what the forward pass keeps: patterns, MLP inputs and outputs, encoder rows."""
        arch, tokens = self.weights.architecture, len(self.token_ids_P)
        kept = patterns_numel(arch, tokens) + 2 * arch.n_layers * tokens * arch.d_model
        return 4 * (kept + sum(e.encoder_UD.numel() for e in self.encoded))


def weight_bytes(arch: Architecture, dtype: torch.dtype) -> int:
    """Return the size of a model's weights, without vision."""
    attention = 2 * arch.d_model * arch.d_head * (arch.n_heads + arch.n_kv_heads)
    layer = attention + 3 * arch.d_model * arch.d_mlp + 4 * arch.d_model
    return (arch.vocab_size * arch.d_model + arch.n_layers * layer) * dtype.itemsize


def paper_plan(
    activations: PaperActivations, loaded_bytes: float, budget: RowBudget, limit: float
) -> tuple[TracePlan, bool]:
    """Return the plan for a memory limit, and whether it fits; if it does not, the plan without a limit."""
    loaded = int(loaded_bytes)

    def plan(max_bytes: float) -> TracePlan:
        found = make_plan(activations, None, budget, None, int(max_bytes) - loaded)  # type: ignore[arg-type]
        return replace(found, loaded_bytes=loaded, flops=found.flops * activations.features.rows_per_site)

    try:
        return plan(limit), True
    except ResourceError:
        return plan(UNLIMITED), False


def launches_per_layer(arch: Architecture, tokens: int) -> int:
    """Return the launches of one batch at one layer; `benchmarks.launches` counts the same in the interpreter."""
    blocks = math.ceil(tokens / BLOCK_QUERIES)
    return 8 + arch.n_heads * (1 + blocks) + arch.n_kv_heads


def attention_flops(activations: PaperActivations, rows: int) -> float:
    """Return the operations that do not touch source vectors: those of attention and skips, which every card repeats."""
    features, arch = activations.features, activations.weights.architecture
    shape = SweepShape.of(arch, activations.transcoders)
    nothing_LP = np.zeros_like(activations.counts_LP)
    every = row_flops(shape, nothing_LP, features.layer_N.numpy(), features.position_N.numpy())
    return every * rows / max(1, len(features.layer_N))


def times(plan: TracePlan, arch: Architecture, card: Card, flops: float, rows: float) -> dict[str, float]:
    """Return the seconds of products, launches and writing, for the rows that one card computes."""
    batches = rows / max(1, plan.batch_targets)
    return {
        "products": flops / (SWEEP_EFFICIENCY * card.matmul_rate),
        "launches": batches * arch.n_layers / 2 * launches_per_layer(arch, plan.tokens) * LAUNCH_SECONDS,
        "writing": plan.disk_bytes / DISK_BYTES_PER_SECOND,
    }


def case(setup: Setup, tokens: int, budget: RowBudget, card: Card = H100, cards: int = 8) -> Record:
    """Return one row of the table: memory, rows and seconds on one card, and on several for one prompt."""
    weights = weight_bytes(setup.arch, setup.stored)
    activations = PaperActivations(setup, tokens, "cuda")
    loaded = weights + activations.table_bytes + activations.forward_bytes
    plan, fits = paper_plan(activations, loaded, budget, card.memory_bytes)
    one = times(plan, setup.arch, card, plan.flops, plan.rows)
    record = {"setup": setup.title, "tokens": tokens, "budget": budget.max_features, "features": plan.features}
    record |= {"rows": plan.rows, "edges": plan.edges, "flops": plan.flops, "disk_bytes": plan.disk_bytes}
    record |= {"memory_bytes": plan.memory_bytes, "fits": fits, "seconds": max(one.values()), "times": one}
    record |= {"limit": max(one, key=one.__getitem__), "host_bytes": plan.assembly_bytes}
    return record | {"several": _several(setup, activations, plan, card, cards)}


def _several(setup: Setup, activations: PaperActivations, plan: TracePlan, card: Card, cards: int) -> Record:
    """Return memory and seconds of one prompt on several cards.

    Features are divided among as few cards as have room for them, and rows among groups of such cards: a row's gradient
    passes attention on every card that holds some of the features, so dividing features saves memory and no attention.
    """
    influence = plan.nodes * 8 * setup.arch.n_layers / card.link_bytes_per_second  # all-reduced after each layer
    same = attention_flops(activations, plan.rows)
    divided = activations.sharded_bytes + plan.replacement_bytes + plan.batch_bytes
    for holders in (1, 2, 4, 8):
        memory = plan.memory_bytes - divided * (1 - 1 / holders)
        if memory <= card.memory_bytes:
            break
    groups = cards // holders
    flops = same / groups + (plan.flops - same) / cards
    found = times(plan, setup.arch, card, flops, plan.rows / groups)
    record = {
        "features_over": holders,
        "rows_over": groups,
        "memory_bytes": memory,
        "fits": memory <= card.memory_bytes,
    }
    return record | {"seconds": max(found.values()) + influence, "limit": max(found, key=found.__getitem__)}


def table(records: list[Record]) -> str:
    """Return the cases as a Markdown table."""
    heading = ["setup", "tokens", "features", "rows", "GPU memory", "host memory", "disk", "time", "limited by"]
    grid = [[*heading, "eight cards: rows over", "features over", "memory of each", "time"]]
    for r in records:
        several = r["several"]
        memory, each = (size(x["memory_bytes"]) + ("" if x["fits"] else " (too much)") for x in (r, several))
        cells = [r["setup"], count(r["tokens"]), count(r["features"]), count(r["rows"]), memory]
        cells += [size(r["host_bytes"]), size(r["disk_bytes"]), time_words(r["seconds"]), r["limit"]]
        shards = [str(several["rows_over"]), str(several["features_over"])]
        grid.append([*cells, *shards, each, time_words(several["seconds"])])
    return markdown(grid)


def time_words(seconds: float) -> str:
    """Return seconds in words; hours and days for long times."""
    if seconds < 3600:
        return duration(seconds)
    return f"{seconds / 3600:.3g} h" if seconds < 86400 else f"{seconds / 86400:,.3g} days"


def checks(results: Path) -> Iterator[Record]:
    """Yield predictions and measurements for the complete and limited traces of Gemma 3 270M in a result file."""
    kinds = {"clt": ("clt", 2048, False), "per-layer": ("per-layer", 2048, True), "shipped": ("clt", 832, True)}
    result = json.loads(results.read_text())
    for record in result["cases"]:
        run = record["runs"].get("cotrace", {"status": ""})
        run = run if run["status"] == DONE else record["runs"].get("cotrace_max_seconds", {"status": ""})
        if run["status"] != DONE:
            continue
        kind, width, skip = kinds[record["transcoders"]]
        active = run["features"] / (18 * (record["tokens"] - 1))
        setup = Setup("Gemma 3 270M", kind, width, active, skip)
        yield checked(record, run, setup)


def checked(record: Record, run: Record, setup: Setup) -> Record:
    """Return what the model predicts for a measured run, over what was measured."""
    activations = PaperActivations(setup, record["tokens"], "cpu")
    loaded = PROCESS_BYTES + weight_bytes(setup.arch, FLOAT32) + activations.table_bytes + activations.forward_bytes
    complete = run["rows"] == run["features"]
    budget = RowBudget() if complete else RowBudget(max_features=run["rows"])
    plan, _ = paper_plan(activations, loaded, budget, UNLIMITED)
    seconds = plan.flops / (SWEEP_EFFICIENCY * run["machine_rate"])
    ratios = {"memory": plan.memory_bytes / run["peak_bytes"]}
    if complete:  # which rows a limited trace computes depends on their influence
        ratios |= {"edges": plan.edges / run["edges"], "operations": plan.flops / run["operations"]}
        ratios["seconds"] = seconds / run["phases"]["rows"]
    return {"case": record["case"], "features": run["features"], "rows": run["rows"], "ratios": ratios}


def check_table(records: list[Record]) -> str:
    """Return the predictions as a Markdown table of ratios."""
    names = ("edges", "operations", "seconds", "memory")
    grid = [["measured run", "features", "rows", *(f"{name}, predicted over measured" for name in names)]]
    for r in records:
        ratios = [f"{r['ratios'][name]:.2f}" if name in r["ratios"] else "" for name in names]
        grid.append([r["case"], count(r["features"]), count(r["rows"]), *ratios])
    return markdown(grid)


def cost_table(result: Record) -> str:
    """Return the section of the docs: both tables and the assumptions."""
    card, s = result["card"], result["settings"]
    note = (
        f"On paper, for a card with {size(card['memory_bytes'])}, {card['peak_flops'] / 1e12:.0f} TFLOP/s in float32 of which a "
        f"large product reaches {card['matmul_share']:.0%} and the sweep {SWEEP_EFFICIENCY:.0%} of that; {s['active']:g} active "
        f"features per layer and position, drawn evenly from the dictionary; affine skips; weights in float32, of the 27B in bfloat16; "
        f"{LAUNCH_SECONDS * 1e6:.0f} µs a launch; {DISK_BYTES_PER_SECOND / 1e9:.0f} GB/s to disk."
    )
    limited = f"With `max_features={s['budget']:,}`:".replace(",", "_")
    complete = [r for r in result["cases"] if r["budget"] is None]
    chosen = [r for r in result["cases"] if r["budget"] is not None]
    parts = ["Every row:", table(complete), limited, table(chosen), note, "Against measured runs of Gemma 3 270M:"]
    parts += [
        check_table(result["checks"]),
        "Roofline of one layer of the sweep, Gemma 3 270M with a CLT, 14 active features:",
    ]
    return "\n\n".join([*parts, roofline_table(result["roofline"])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--active", type=float, default=ACTIVE, help="active features at each layer and position")
    parser.add_argument("--budget", type=int, default=BUDGET, help="rows of the traces with max_features=")
    parser.add_argument("--out", type=Path, default=RESULTS / "cost.json")
    args = parser.parse_args()
    setups = [Setup(model, kind, width, args.active, stored=dtype) for model, kind, width, dtype in SETUPS]
    budgets = (RowBudget(), RowBudget(max_features=args.budget))
    cases = [case(setup, tokens, budget) for budget in budgets for setup in setups for tokens in TOKENS]
    result: Record = {"benchmark": "cost", "date": time.strftime("%Y-%m-%d"), "card": vars(H100)}
    result |= {"settings": {"active": args.active, "budget": args.budget}, "cases": cases}
    small = MODELS["Gemma 3 270M"], 14.0, vars(H100), LAUNCH_SECONDS, BLOCK_QUERIES
    result["roofline"] = [roofline(small[0], tokens, *small[1:]) for tokens in (64, 512)]
    result["checks"] = list(checks(RESULTS / "trace.json"))
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(cost_table(result))


if __name__ == "__main__":
    main()
