"""Errors and speed of the kernels for `benchmarks.gpu_check`."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from cotrace.kernels import backends, decode, edge_rows, encode

from . import kernel_cases as cases
from .cells import Record, target
from .kernel_cases import PEAK
from .kernels import KernelBenchmark
from .measure import DONE

COMPARED = ("torch", "triton")
TRIALS = {"tf32x3": "3xTF32", "tf32": "TF32"}  # precisions of edge rows beside float32
SPEED_SECONDS = 1.0  # for all backends of one case
TF32_SPEED = "edge rows in 3xTF32"


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Return the largest difference in units of the largest entry."""
    return float((found.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-300))


def kernel_errors(device: str, tiny: bool, tolerance: float) -> Iterator[Record]:
    """Yield the errors of every operation's backends against the reference in float64."""
    for function in (_edge_errors, _sum_errors, _position_errors, _decode_errors, _encode_errors):
        yield function(device, tiny, tolerance)


def _record(title: str, errors: dict[str, float], tolerance: float, free: tuple[str, ...] = ()) -> Record:
    """Return the errors as a record whose checks exclude the names in `free`."""
    must = [
        target(f"error of {name}", error, most=tolerance) | {"must": True}
        for name, error in errors.items()
        if name not in free
    ]
    return {"case": f"errors of {title}", "errors": errors, "targets": must}


def _backends(device: str) -> list[str]:
    return [name for name in COMPARED if backends.obstacle(name, device) is None]


def _edge_problem(device: str, tiny: bool) -> cases.EdgeRowsProblem:
    return cases.EdgeRowsProblem(*((3, 5, 4, 24) if tiny else (64, 128, 130, 640)), device)


def _edge_errors(device: str, tiny: bool, tolerance: float) -> Record:
    problem = _edge_problem(device, tiny)
    exact = _edge_rows(problem, "reference", torch.float64)
    errors = {name: relative_error(_edge_rows(problem, name), exact) for name in _backends(device)}
    for precision, title in TRIALS.items():
        with edge_rows_in(precision):
            errors[f"triton, {title}"] = relative_error(_edge_rows(problem, "triton"), exact)
    return _record("edge rows", errors, tolerance, tuple(f"triton, {title}" for title in TRIALS.values()))


def edge_rows_in(precision: str) -> Any:
    """Return a context in which the Triton kernel of edge rows multiplies in a precision of `tl.dot`."""
    from cotrace.kernels.edge_rows import triton as kernel

    return mock.patch.object(kernel, "_precision", return_value=precision)


def _edge_rows(problem: cases.EdgeRowsProblem, backend: str, dtype: torch.dtype = torch.float32) -> Tensor:
    sources = problem.sources
    sources = edge_rows.SourceVectors(sources.vectors_ED.to(dtype), sources.offsets, sources.columns)
    rows_TC = torch.zeros(problem.n_targets, problem.n_columns, device=problem.device, dtype=dtype)
    edge_rows.edge_rows(problem.grad_QTD.to(dtype), 0, sources, rows_TC, backend=backend)
    return rows_TC


def _sum_errors(device: str, tiny: bool, tolerance: float) -> Record:
    problem = _edge_problem(device, tiny)

    def solve(backend: str, dtype: torch.dtype = torch.float32) -> Tensor:
        sources = edge_rows.SourceVectors(
            problem.sources.vectors_ED.to(dtype), problem.sources.offsets, problem.sources.columns
        )
        grad_QTD = torch.zeros_like(problem.grad_QTD, dtype=dtype)
        edge_rows.add_source_vectors(problem.weights_TC.to(dtype), 0, sources, grad_QTD, backend=backend)
        return grad_QTD

    exact = solve("reference", torch.float64)
    return _record("sums of source vectors", {b: relative_error(solve(b), exact) for b in _backends(device)}, tolerance)


def _position_errors(device: str, tiny: bool, tolerance: float) -> Record:
    problem = _edge_problem(device, tiny)

    def solve(backend: str, dtype: torch.dtype = torch.float32) -> Tensor:
        return edge_rows.position_rows(problem.grad_QTD.to(dtype), problem.vectors_KQD.to(dtype), backend=backend)

    exact = solve("reference", torch.float64)
    return _record("position rows", {b: relative_error(solve(b), exact) for b in _backends(device)}, tolerance)


def _decode_errors(device: str, tiny: bool, tolerance: float) -> Record:
    problem = cases.DecodeProblem((4, 16, 2, 2) if tiny else (256, 4096, 33, 6), 24 if tiny else 640, device)
    generator = torch.Generator(device).manual_seed(0)
    shape = (problem.n_layers, problem.n_positions, problem.width)
    grad_LPD = torch.randn(shape, generator=generator, device=device)

    def solve(backend: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Return the output, and the gradients of the first layer's activations and decoder."""
        active = [f._replace(activation_n=f.activation_n.to(dtype).requires_grad_()) for f in problem.active]
        decoders = [w.to(dtype).detach().requires_grad_() for w in problem.decoders]
        y_LPD = decode.decode(active, decoders, problem.n_positions, backend=backend)
        grads = torch.autograd.grad(y_LPD, [active[0].activation_n, decoders[0]], grad_LPD.to(dtype))
        return [y_LPD.detach(), *grads]

    exact = solve("reference", torch.float64)
    parts = ("output", "gradient of activations", "gradient of decoders")
    errors = {}
    for backend in _backends(device):
        found = zip(parts, solve(backend), exact, strict=True)
        errors |= {f"{backend}, {part}": relative_error(one, other) for part, one, other in found}
    return _record("decode", errors, tolerance)


def _encode_errors(device: str, tiny: bool, tolerance: float) -> Record:
    """Compare ReLU, which has no jump where a rounding error could decide."""
    problem = cases.EncodeProblem(*((4, 40, 24, 0.1) if tiny else (256, 16384, 640, 0.002)), device)

    def solve(backend: str, dtype: torch.dtype = torch.float32) -> Tensor:
        options = {name: t.to(dtype) for name, t in problem.options["ReLU"].items()}
        active = encode.encode(problem.x_PD.to(dtype), problem.w_enc_DF.to(dtype), **options, backend=backend)
        dense_PF = torch.zeros(len(problem.x_PD), len(problem.bias_F), device=device, dtype=dtype)
        return dense_PF.index_put_((active.position_n, active.feature_n), active.activation_n)

    exact = solve("reference", torch.float64)
    return _record("encode", {b: relative_error(solve(b), exact) for b in _backends(device)}, tolerance)


def kernel_speeds(device: str, tiny: bool) -> Iterator[Record]:
    """Yield the cases of `benchmarks.kernels`, and edge rows in 3xTF32; a tiny run keeps one of each operation."""
    bench = KernelBenchmark(device, quick=tiny)
    bench.timing.seconds, bench.timing.min_rounds = (0.01, 1) if tiny else (SPEED_SECONDS, 3)
    for group in ("edge_rows", "decode", "encode"):
        seen: set[str] = set()
        for record in getattr(bench, group)():
            yield record | ({"targets": []} if tiny else {})
            seen.add(record["operation"])
            if tiny and (group != "edge_rows" or len(seen) == 3):
                break
    if device == "cuda":
        yield _tf32x3_speed(bench)


def _tf32x3_speed(bench: KernelBenchmark) -> Record:
    """Return the speed of edge rows in 3xTF32 beside float32 and a large product."""
    positions, targets = bench.sizes.targets[1]
    problem = cases.EdgeRowsProblem(positions, targets, bench.sizes.groups[-1], bench.sizes.width, bench.device)
    call = problem.rows("triton")

    def in_tf32x3() -> Any:
        with edge_rows_in("tf32x3"):
            return call()

    candidates: dict[str, Callable[[], Any]] = {"float32": call, "3xTF32": in_tf32x3}
    runs = bench.timing.run(candidates | bench.limits.arithmetic())
    peak = bench.limits.work[PEAK] / runs[PEAK]["seconds"]
    shares = {n: problem.flops / runs[n]["seconds"] / peak for n in candidates if runs[n]["status"] == DONE}
    return {"case": TF32_SPEED, "runs": runs, "shares": shares, "targets": []}
