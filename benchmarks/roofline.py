"""The least time of one layer of the sweep on a GPU: products, memory traffic and launches, step by step."""

from typing import NamedTuple

from cotrace.attribution.models.architecture import Architecture
from cotrace.attribution.tracing.batches import fastest_batch

from .cells import Record, count, duration, markdown, size


class Step(NamedTuple):
    """One step of a layer: operations, bytes that must move at least, and launches."""

    name: str
    flops: float
    n_bytes: float
    launches: int


def layer_steps(arch: Architecture, positions: int, targets: int, vectors: float, blocks: int) -> list[Step]:
    """Return the steps of one layer with affine skip, full attention, and some source vectors at each position."""
    d, heads, kv, width = arch.d_model, arch.n_heads, arch.n_kv_heads, arch.d_head
    gradients = positions * targets
    attended = gradients * (positions + 1) / 2
    f = 4.0  # bytes of a number
    edges = targets * positions * vectors
    return [
        Step("edge rows", 2 * d * edges, f * (gradients * d + positions * vectors * d + 2 * edges), 1),
        Step("position rows", 4 * d * gradients, f * (gradients * (d + 2) + 2 * positions * d), 4),
        Step("affine skip", 2 * d * d * gradients, f * (4 * gradients * d + d * d), 2),
        Step("output projection", 2 * d * heads * width * gradients, f * heads * gradients * (d + width), heads),
        Step("frozen pattern", 2 * heads * width * attended, f * heads * 3 * gradients * width, heads * blocks + 1),
        Step("value projection", 2 * d * kv * width * gradients, f * kv * gradients * (2 * d + width), kv),
    ]


def roofline(arch: Architecture, tokens: int, active: float, card: Record, launch_seconds: float, block: int) -> Record:
    """Return the steps of a middle layer of a CLT at the last position of a prompt, with their least times.

    A middle layer has source vectors of half of the layers. `share` is what the layer can reach of the card's peak rate
    if launches overlap with the computation; `share_with_launches` if they decide.
    """
    targets = fastest_batch("cuda", tokens, True)
    vectors = active * arch.n_layers / 2
    records = []
    for step in layer_steps(arch, tokens, targets, vectors, -(-tokens // block)):
        products, traffic = step.flops / card["peak_flops"], step.n_bytes / card["bytes_per_second"]
        least = {"products": products, "memory": traffic}
        records.append(step._asdict() | {"seconds": max(least.values()), "limit": max(least, key=least.__getitem__)})
    total, flops = sum(r["seconds"] for r in records), sum(r["flops"] for r in records)
    launching = sum(r["launches"] for r in records) * launch_seconds
    result = {"tokens": tokens, "targets": targets, "vectors": vectors, "steps": records, "seconds": total}
    result |= {"launch_seconds": launching, "share": flops / card["peak_flops"] / total}
    return result | {"share_with_launches": flops / card["peak_flops"] / max(total, launching)}


def roofline_table(records: list[Record]) -> str:
    """Return the steps as Markdown tables, one for each length of prompt."""
    parts = []
    for r in records:
        grid = [
            ["step of a layer", "operations", "bytes", "operations per byte", "least time", "limited by", "launches"]
        ]
        for s in r["steps"]:
            cells = [f"{s['flops'] / 1e9:.3g} G", size(s["n_bytes"]), f"{s['flops'] / s['n_bytes']:.0f}"]
            grid.append([s["name"], *cells, duration(s["seconds"]), s["limit"], count(s["launches"])])
        words = (
            f"{r['tokens']} tokens, {r['targets']:,} targets a batch, {r['vectors']:.0f} source vectors per position: at most "
            f"{r['share']:.0%} of the peak rate; {duration(r['seconds'])} a layer, and {duration(r['launch_seconds'])} to launch it."
        )
        parts.append(f"{markdown(grid)}\n\n{words}")
    return "\n\n".join(parts)
