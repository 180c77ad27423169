"""Effects beside rows of a graph, circuit-tracer's rows and plain autograd; and effects of a long transcript.

    python -m benchmarks.effects [--model gemma-3-270m] [--peer-python ENV/bin/python] [--only batch transcript peer]

- `batch`: effects on 32 features of the top layer in one pass, a batch of their rows, and one backward pass of torch per
  target through the same local replacement model, in turns.
- `peer`: circuit-tracer's rows of the same 32 features; without `--peer-python` they are not measured.
- `transcript`: effects on 50 tokens of a long prompt, each without a cut and with five cuts before it.

Each runs in a separate process, whose peak memory is measured. Writes results/effects.json.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .baselines import HERE, TraceCase, convert_for_peer
from .cells import Record, duration, limit_and_value, markdown, size, target
from .measure import DONE, NOT_MEASURED, machine, run, timed

RESULT = HERE / "results" / "effects.json"
EFFECTS, ROWS, AUTOGRAD = "effects", "rows", "autograd"
TITLES = {
    EFFECTS: "effects of all nodes on 32 features, one pass",
    ROWS: "rows of the same features, one batch of a trace",
    AUTOGRAD: "the same effects by torch's autograd, one backward pass per feature",
    "peer": "circuit-tracer: rows of the same features, one batch",
}
TARGETS, CUTS = 50, 5
MOST_ROW_BATCHES, MOST_SECONDS, MOST_BYTES = 3.0, 180.0, 12e9
TIME_LIMIT_SECONDS = 900.0


class Transcript(NamedTuple):
    """Positions of the targets, and the spans that paths avoid."""

    positions: list[int]
    cuts: list[tuple[int, int]]


def transcript(tokens: int, targets: int = TARGETS, cuts: int = CUTS) -> Transcript:
    """Return spans that share the first half of a prompt, and targets spread over the second: every cut is before each."""
    half = tokens // 2
    edges = [1 + (half - 1) * i // cuts for i in range(cuts + 1)]
    positions = [half + (tokens - half) * (i + 1) // targets - 1 for i in range(targets)]
    return Transcript(positions, list(itertools.pairwise(edges)))


def load(args: argparse.Namespace) -> tuple[Any, list[int]]:
    """Return the model with its transcoders, and the prompt's token ids."""
    import cotrace

    from .gpu_inputs import text_ids

    model = cotrace.load(args.model, args.transcoders, device="cpu", dtype="float32", progress=False)
    return model, text_ids(model, args.tokens)


def transcript_task(args: argparse.Namespace) -> Record:
    """Compute effects on the targets of a transcript, with and without cuts."""
    model, ids = load(args)
    made = transcript(len(ids))
    options = {"position": made.positions, "max_targets": 1, "avoiding": [None, *made.cuts], "progress": False}
    effects, seconds = timed(lambda: model.effects(ids, **options))
    return {
        "seconds": seconds,
        "tokens": len(ids),
        "columns": TARGETS * (CUTS + 1),
        "features": int(effects.nodes["feature"].is_valid().to_numpy(False).sum()),
        "ledger_gap": ledger_gap(effects),
    }


def ledger_gap(effects: Any) -> float:
    """Return the largest remainder without a cut, in units of the absolute sum of what should add up to the value."""
    rows = [row for row in effects.ledger.to_pylist() if not row.get("avoiding")]
    sums = [abs(row["tokens"] + row["errors"]) * row["cancellation"] + abs(row["bias"]) for row in rows]
    return max(abs(row["remainder"]) / total for row, total in zip(rows, sums, strict=True))


def batch_task(args: argparse.Namespace) -> Record:
    """Compute effects, rows and torch's gradients of the same features in turns; return median seconds."""
    import torch

    with torch.no_grad():
        problem = BatchProblem(*load(args), args.rows)
        calls: dict[str, Callable[[], Any]] = {EFFECTS: problem.effects, ROWS: problem.rows, AUTOGRAD: problem.autograd}
        results = {name: call() for name, call in calls.items()}  # compiles
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(args.repeats):
            for name, call in calls.items():
                if name != AUTOGRAD or len(seconds[name]) < args.autograd_repeats:
                    seconds[name].append(timed(call)[1])
    found = {name: {"seconds": statistics.median(each), "all_seconds": each} for name, each in seconds.items()}
    difference = abs(results[EFFECTS] - results[AUTOGRAD]).max() / abs(results[AUTOGRAD]).max()
    features = [[problem.layer, *pair] for pair in problem.features]
    sizes = {"tokens": len(problem.ids), "nodes": results[EFFECTS].shape[1], "rows": args.rows}
    return {"runs": found, "difference": float(difference), "features": features, "ids": problem.ids, **sizes}


class BatchProblem:
    """The last features of the top layer of a prompt, as targets of effects and of a batch of rows."""

    def __init__(self, model: Any, ids: list[int], n_targets: int):
        import torch

        from cotrace.attribution.effects.config import EffectsConfig
        from cotrace.attribution.effects.effects import EffectSource
        from cotrace.attribution.tracing.batches import BatchSize, feature_batches
        from cotrace.attribution.tracing.config import RowBudget, TraceConfig
        from cotrace.attribution.tracing.plan import allowed_memory, make_plan
        from cotrace.attribution.tracing.replacement import LocalReplacementModel
        from cotrace.attribution.tracing.sweep import SourceColumns
        from cotrace.attribution.tracing.targets import Target
        from cotrace.graphs import NodeOrder
        from cotrace.graphs.nodes import Feature

        self.ids, self.config = ids, EffectsConfig()
        activations = model._activations(torch.tensor(ids), TraceConfig())
        plan = make_plan(activations, None, RowBudget(), None, allowed_memory(None, model.weights.device))
        self.replacement = LocalReplacementModel(activations, plan.keep_vectors)
        self.source = EffectSource(activations, self.replacement)
        features, n_layers = self.replacement.features, self.replacement.n_layers
        self.layer = n_layers - 1
        chosen = (features.layer_N == self.layer).nonzero()[:, 0][-n_targets:]
        self.features = [[int(features.position_N[n]), int(features.feature_N[n])] for n in chosen]
        named = [Feature(self.layer, feature, position) for position, feature in self.features]
        self.targets = [
            Target("feature", str(one), feature=one, feature_index=int(n), position=one.position)
            for n, one in zip(chosen, named, strict=True)
        ]
        self.batch = next(feature_batches(self.replacement, self.layer, chosen, BatchSize(n_targets, True, 1)))
        order = NodeOrder(len(features), n_layers * len(ids), len(ids), 0)
        self.columns = SourceColumns(self.replacement, order)

    def effects(self) -> Any:
        """Return the effects of all nodes on all targets, (K, M)."""
        return self.source.node_effects(self.targets, self.config).effect_KM

    def rows(self) -> Any:
        """Return the rows of the targets."""
        from cotrace.attribution.tracing.sweep import compute_rows

        return compute_rows(self.replacement, self.batch, self.columns)

    def autograd(self) -> Any:
        """Return the effects of all nodes on all targets, (K, M), by one backward pass of torch for each target."""
        import numpy as np
        import torch

        with torch.enable_grad():
            leaves = ReplacementLeaves(self.replacement, self.source.encoded)
            activation_n = leaves.top_activations()
            rows = []
            for value in activation_n[-len(self.targets) :]:
                grads = torch.autograd.grad(value, leaves.all, retain_graph=True, allow_unused=True)
                rows.append(leaves.effects(grads))
        return np.stack(rows)


class ReplacementLeaves:
    """A local replacement model as a function of the scales of its features, its errors and its tokens."""

    def __init__(self, replacement: Any, encoded: Sequence[Any]):
        import torch

        self.replacement, self.encoded = replacement, encoded
        self.scale_N = torch.ones(len(replacement.features), requires_grad=True)
        self.error_LPD = replacement.rest_LKPD[:, 0].clone().requires_grad_()
        self.token_PD = replacement.embedding_PD.clone().requires_grad_()
        self.all = [self.scale_N, self.error_LPD, self.token_PD]

    def top_activations(self) -> Any:
        """Return the activations of the top layer's features, (n,)."""
        import torch

        from cotrace.attribution.models.forward import ForwardPass, FrozenLayer
        from cotrace.attribution.transcoders import DecodedOutputs

        replacement = self.replacement
        one_P = torch.ones_like(replacement.final_rms_P)
        frozen = [
            FrozenLayer(pattern, one_P, one_P, rms_P)
            for pattern, rms_P in zip(replacement.patterns, replacement.mlp_in_rms_LP, strict=True)
        ]
        self.outputs, self.activations = DecodedOutputs(replacement.n_layers), []
        ForwardPass(replacement.weights, self.token_PD, frozen=frozen, mlp=self._mlp).run()
        return self.activations[-1]

    def effects(self, grads: Sequence[Any]) -> Any:
        """Return the effects of all nodes from the gradients of the leaves: features, errors, tokens."""
        import torch

        scale_N, error_LPD, token_PD = (
            torch.zeros_like(leaf) if g is None else g for g, leaf in zip(grads, self.all, strict=True)
        )
        parts = [scale_N, (error_LPD * self.error_LPD).sum(-1).flatten(), (token_PD * self.token_PD).sum(-1)]
        return torch.cat(parts).detach().numpy()

    def _mlp(self, before: Any, w: Any) -> Any:
        from cotrace.kernels.active import FeatureIndex, with_activations

        layer, replacement, own = before.layer, self.replacement, self.encoded[before.layer]
        encoders_nD = own.encoder_UD[own.row_n] * own.read_scale_n[:, None]
        activation_n = (encoders_nD * before.mlp_in_PD[own.position_n]).sum(-1) + own.bias_n
        self.activations.append(activation_n)
        here = replacement.features.layer_N == layer
        scale_n = own.write_scale_n * activation_n / own.activation_n * self.scale_N[here]
        active = with_activations(FeatureIndex(own.position_n, own.row_n), scale_n)
        self.outputs.add(layer, active, own.row_n, own.decoder_UJD, replacement.n_positions)
        out_PD = self.error_LPD[layer] + replacement.rest_LKPD[layer, 1]
        decoded_PD, skip_DD = self.outputs[layer], replacement.skip[layer]
        out_PD = out_PD if decoded_PD is None else out_PD + decoded_PD
        return before._replace(mlp_out_PD=out_PD if skip_DD is None else out_PD + before.mlp_in_PD @ skip_DD)


TASKS = {"batch": batch_task, "transcript": transcript_task}


def process(args: argparse.Namespace, name: str, tokens: int, work: Path) -> Record:
    """Run a task in a separate process; return its record."""
    options = {"model": args.model, "transcoders": args.transcoders, "tokens": tokens, "repeats": args.repeats}
    options |= {"autograd-repeats": args.autograd_repeats, "rows": args.rows}
    command = [sys.executable, "-m", "benchmarks.effects", "--task", name]
    for option, value in options.items():
        command += [f"--{option}", str(value)]
    return run(command, work, TIME_LIMIT_SECONDS).record()


def peer(args: argparse.Namespace, batch: Record, work: Path) -> Record:
    """Measure circuit-tracer's rows of the same features."""
    if not args.peer_python or batch["status"] != DONE:
        reason = "no --peer-python" if batch["status"] == DONE else "no features to compare"
        return {"status": NOT_MEASURED, "detail": reason}
    import cotrace

    model = cotrace.load(args.model, args.transcoders, device="cpu", progress=False).language_model.source.folder
    named = argparse.Namespace(transcoders={"shipped": args.transcoders}, model=model)
    folder = convert_for_peer(named, work, TraceCase("shipped", args.tokens, ()))
    features = work / "features.json"
    features.write_text(json.dumps({"ids": batch["ids"], "features": batch["features"], "repeats": args.repeats}))
    command = [str(args.peer_python), "-I", str(HERE / "run_circuit_tracer.py"), "rows", "--model", str(model)]
    command += ["--transcoders", str(folder), "--features", str(features)]
    return run(command, work, TIME_LIMIT_SECONDS).record()


def targets(result: Record) -> list[Record]:
    """Return the targets that a result is measured for."""
    found, batch, long = [], result.get("batch", {}), result.get("transcript", {})
    if batch.get("status") == DONE:
        ratio = batch["runs"][EFFECTS]["seconds"] / batch["runs"][ROWS]["seconds"]
        found.append(target("effects on 32 features over a batch of their rows", ratio, most=MOST_ROW_BATCHES))
    if long:
        done = long["status"] == DONE
        words = f"{TARGETS} targets with {CUTS} cuts each, {result['settings']['transcript']:,} tokens"
        found.append(target(f"{words}: seconds", long["seconds"] if done else None, most=MOST_SECONDS))
        found.append(target(f"{words}: bytes", long["peak_bytes"] if done else None, most=MOST_BYTES))
    return found


def effects_table(result: Record) -> str:
    """Return the table of this benchmark."""
    grid = [["", "seconds", "per target", "peak memory", "over one batch of rows"]]
    batch, long, other = (result.get(name, {"status": NOT_MEASURED}) for name in ("batch", "transcript", "peer"))
    runs = dict(batch.get("runs", {}))
    if other["status"] == DONE:
        runs["peer"] = {"seconds": other["seconds"]}
    for name, one in runs.items():
        ratio = one["seconds"] / runs[ROWS]["seconds"]
        grid.append(
            [TITLES[name], duration(one["seconds"]), duration(one["seconds"] / batch["rows"]), "", f"{ratio:.2f}"]
        )
    if long["status"] == DONE:
        title = f"{TARGETS} tokens without a cut and with {CUTS} cuts each, {long['tokens']:,} tokens"
        each = duration(long["seconds"] / long["columns"])
        grid.append([title, duration(long["seconds"]), each, size(long["peak_bytes"]), ""])
    chosen, used = result["settings"], result["machine"]
    busy = [one["others_cores"] for one in (batch, long, other) if "others_cores" in one]
    note = (
        f"Measured {result['date']} on {used['cpu']}, {used['cores']} cores; `{chosen['model']}` with "
        f"`{chosen['transcoders']}`, {chosen['tokens']} tokens where none are named; medians of {chosen['repeats']} repeats. Other "
        f"processes kept up to {max(busy, default=0.0):.1f} cores busy meanwhile."
    )
    return "\n\n".join([_targets(result["targets"]), markdown(grid), note])


def _targets(found: list[Record]) -> str:
    met = {True: "yes", False: "**no**"}
    rows = [[one["what"], *limit_and_value(one), met[one["met"]]] for one in found]
    return markdown([["target", "limit", "measured", "met"], *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="gemma-3-270m")
    add("--transcoders", default="gemma-3-270m-clt")
    add("--tokens", type=int, default=64, help="tokens of the short prompt")
    add("--transcript", type=int, default=2000, help="tokens of the long prompt")
    add("--rows", type=int, default=32)
    add("--repeats", type=int, default=7)
    add("--autograd-repeats", type=int, default=1)
    add("--peer-python", type=lambda path: Path(path).absolute(), help="Python of an environment with circuit-tracer")
    add("--only", nargs="+", choices=("batch", "peer", "transcript"), default=("batch", "peer", "transcript"))
    add("--out", type=Path, default=RESULT)
    add("--task", choices=TASKS, help=argparse.SUPPRESS)
    add("--report", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        args.report.write_text(json.dumps(TASKS[args.task](args)))
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """Measure the chosen parts one after another, and write the result file after each; parts not chosen are kept."""
    result: Record = json.loads(args.out.read_text()) if args.out.exists() else {}
    settings = {name: getattr(args, name) for name in ("model", "transcoders", "tokens", "transcript", "repeats")}
    result |= {"benchmark": "effects", "date": time.strftime("%Y-%m-%d"), "machine": machine(), "settings": settings}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in (each for each in ("batch", "peer", "transcript") if each in args.only):
            if name == "peer":
                result[name] = peer(args, result.get("batch", {"status": NOT_MEASURED}), Path(folder))
            else:
                result[name] = process(args, name, args.tokens if name == "batch" else args.transcript, Path(folder))
            result["targets"] = targets(result)
            args.out.write_text(json.dumps(result, indent=1) + "\n")
            print(name, result[name]["status"], result[name].get("detail", ""), flush=True)
    for one in result["targets"]:
        print(f"{one['what']}: {one['value']} (at most {one['most']:g})")


if __name__ == "__main__":
    main()
