"""Random but realistic transcoders, and circuit-tracer's layout of any.

    python -m benchmarks.transcoders random --model DIR --out DIR [--kind per-layer]
    python -m benchmarks.transcoders convert --model DIR --transcoders SPEC --out DIR

Random weights, reproducible from a seed; thresholds and scales come from the model's own activations
on the benchmark's text, so that the stated number of features is active per layer and position and
reconstructions keep a fixed proportion to the MLP outputs they stand for. Per-layer ones have an
affine skip that is fitted to the same activations.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SEED = 0
CALIBRATION = 64  # tokens of the text that thresholds and scales are set on
DECAY = 0.85  # of what a feature writes, from one layer to the next
SHARE = 0.25  # size of reconstructions against MLP outputs: random directions explain nothing, so they stay small
RIDGE = 1.0  # of the affine skips, in units of an input's mean squared length


def write_random(model: Path, out: Path, kind: str, features: int, active: float) -> None:
    """Write transcoders in the Gemma Scope 2 layout of their kind, one file a layer, into `out`."""
    inputs, outputs = activations(model)
    encoders = [encoder(inputs[layer], features, active, layer) for layer in range(len(inputs))]
    energy = np.array([tensors.pop("energy") for tensors in encoders])
    scales = decoder_scales(outputs, energy, DECAY if kind == "clt" else 0.0)
    for layer, tensors in enumerate(encoders):
        tensors |= {"w_dec": decoder(layer, features, outputs.shape[-1], scales), "b_dec": outputs[layer].mean(axis=0)}
        if kind == "per-layer":
            tensors["w_dec"] = np.ascontiguousarray(tensors["w_dec"][:, layer])
            tensors["affine_skip_connection"] = affine_skip(inputs[layer], outputs[layer])
            tensors["b_dec"] -= inputs[layer].mean(axis=0) @ tensors["affine_skip_connection"]
        path = out / (f"params_layer_{layer}" if kind == "clt" else f"layer_{layer}_random/params")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path.with_suffix(".safetensors"))


def activations(model: Path) -> tuple[np.ndarray, np.ndarray]:
    """What the transcoders read and should write on the benchmark's text, (L, P, D) each, without position 0."""
    import torch
    from transformers import AutoModelForCausalLM

    from .prompts import token_ids

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    sites: dict[str, list[np.ndarray]] = {"pre_feedforward_layernorm": [], "post_feedforward_layernorm": []}
    for layer in network.model.layers:
        for name, seen in sites.items():
            hook = lambda module, inputs, output, seen=seen: seen.append(output[0, 1:].numpy())  # noqa: E731
            getattr(layer, name).register_forward_hook(hook)
    with torch.no_grad():
        network(torch.tensor([token_ids(model, CALIBRATION)]))
    read, written = (np.stack(seen) for seen in sites.values())
    return read, written


def encoder(inputs: np.ndarray, features: int, active: float, layer: int) -> dict[str, np.ndarray]:
    """Encoder tensors of one layer, and the mean of a position's summed squared activations as `energy`."""
    random = np.random.default_rng([SEED, layer, 0])
    w_enc = random.standard_normal((inputs.shape[-1], features), dtype=np.float32)
    spread = inputs.std(axis=0)
    w_enc /= np.maximum(spread, 0.01 * spread.mean())[:, None] * np.sqrt(len(w_enc), dtype=np.float32)
    z = inputs @ w_enc
    b_enc = -z.mean(axis=0)
    z += b_enc
    threshold = z.std(axis=0) * np.quantile(z / z.std(axis=0), 1 - active / features).astype(np.float32)
    energy = np.where(z > threshold, z**2, 0).sum(axis=1).mean()
    return {"w_enc": w_enc, "b_enc": b_enc, "threshold": threshold, "energy": energy}


def affine_skip(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Ridge regression of the outputs (P, D) on the inputs, (D, D)."""
    x, y = inputs - inputs.mean(axis=0), outputs - outputs.mean(axis=0)
    gram = x @ x.T
    return x.T @ np.linalg.solve(gram + RIDGE * gram.trace() / len(gram) * np.eye(len(gram), dtype=x.dtype), y)


def decoder_scales(outputs: np.ndarray, energy: np.ndarray, decay: float) -> np.ndarray:
    """Scale (L,) of what is written into each layer, for sums of `SHARE` of the centred MLP outputs' size."""
    centred = outputs - outputs.mean(axis=1, keepdims=True)
    wanted = (centred**2).sum(axis=2).mean(axis=1)
    layers = np.arange(len(energy))
    reaching = np.tril(decay ** np.maximum(2.0 * (layers[:, None] - layers[None]), 0))
    return SHARE * np.sqrt(wanted / (reaching @ energy))


def decoder(layer: int, features: int, width: int, scales: np.ndarray) -> np.ndarray:
    """Decoder (F, L, D) of one layer: zero below it, weaker with distance above."""
    written = len(scales) - layer
    size = scales[layer:] * DECAY ** np.arange(written) / np.sqrt(width)
    w_dec = np.zeros((features, len(scales), width), dtype=np.float32)
    random = np.random.default_rng([SEED, layer, 1])
    w_dec[:, layer:] = random.standard_normal((features, written, width), dtype=np.float32)
    w_dec[:, layer:] *= size.astype(np.float32)[:, None]
    return w_dec


def convert(model: Path, transcoders: str, out: Path) -> None:
    """Write transcoders that cotrace reads in circuit-tracer's layout; a CLT's skips in a file of their own."""
    import cotrace

    loaded = cotrace.load(model, transcoders, device="cpu")
    read, kind = loaded.transcoders.tensors, loaded.transcoders.kind  # type: ignore[attr-defined]
    layers = range(loaded.architecture.n_layers)
    out.mkdir(parents=True, exist_ok=True)
    for layer in layers:
        for name, tensors in (cross_layer_files if kind == "clt" else per_layer_file)(layer, read(layer)).items():
            save_file(tensors, out / f"{name}.safetensors")
    if kind == "clt" and read(0).skip_DD is not None:
        save_file({"W_skip": np.stack([plain(read(layer).skip_DD) for layer in layers])}, out / "W_skip.safetensors")


def cross_layer_files(layer: int, tensors: Any) -> dict[str, dict[str, np.ndarray]]:
    """A CLT's layer: encoder and decoder apart."""
    read = {"W_enc": tensors.w_enc_DF.T, "b_enc": tensors.b_enc_F, "b_dec": tensors.b_dec_D}
    read["threshold"] = tensors.threshold_F
    written = {f"W_dec_{layer}": plain(tensors.w_dec_FJD)}
    return {f"W_enc_{layer}": {f"{name}_{layer}": plain(t) for name, t in read.items()}, f"W_dec_{layer}": written}


def per_layer_file(layer: int, tensors: Any) -> dict[str, dict[str, np.ndarray]]:
    """A per-layer transcoder's layer, in one file."""
    named = {"W_enc": tensors.w_enc_DF.T, "W_dec": tensors.w_dec_FJD[:, 0], "b_enc": tensors.b_enc_F}
    named |= {"b_dec": tensors.b_dec_D, "activation_function.threshold": tensors.threshold_F}
    if tensors.skip_DD is not None:
        named["W_skip"] = tensors.skip_DD.T
    return {f"layer_{layer}": {name: plain(tensor) for name, tensor in named.items()}}


def plain(tensor: Any) -> np.ndarray:
    """A tensor of any precision as consecutive float32."""
    return np.ascontiguousarray(tensor.float().numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    random = commands.add_parser("random")
    random.add_argument("--kind", choices=("clt", "per-layer"), default="clt")
    random.add_argument("--features", type=int, default=2048)
    random.add_argument("--active", type=float, default=14, help="mean active features per layer and position")
    converting = commands.add_parser("convert")
    converting.add_argument("--transcoders", required=True, help="anything that cotrace loads")
    for command in (random, converting):
        command.add_argument("--model", type=Path, required=True)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--report", type=Path)
    args = parser.parse_args()
    if args.command == "random":
        write_random(args.model, args.out, args.kind, args.features, args.active)
    else:
        convert(args.model, args.transcoders, args.out)
    if args.report:
        args.report.write_text(json.dumps({"folder": str(args.out)}))


if __name__ == "__main__":
    main()
