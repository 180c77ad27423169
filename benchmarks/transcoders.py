"""Write random transcoders with realistic activity, or convert transcoders to circuit-tracer's layout.

    python -m benchmarks.transcoders random --model DIR --out DIR [--kind per-layer]
    python -m benchmarks.transcoders convert --model DIR --transcoders SPEC --out DIR

Weights are random and reproducible from a seed. Thresholds and scales are fitted to the model's own activations on the
benchmark's text: the given number of features is active per layer and position, and the norm of the reconstruction is a
fixed share of the norm of the MLP output. Per-layer transcoders have an affine skip connection fitted to the same
activations.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SEED = 0
CALIBRATION_TOKENS = 64
DECODER_DECAY = 0.85  # factor of a decoder's norm from one target layer to the next
RECONSTRUCTION_SHARE = 0.25  # of the MLP output's norm; small, since random directions explain nothing
RIDGE = 1.0  # of the affine skips, relative to the mean squared norm of an input


def write_random(model: Path, out: Path, kind: str, features: int, active: float) -> None:
    """Write random transcoders into `out` in the layout of Gemma Scope 2, one file per layer."""
    inputs, outputs = activations(model)
    encoders = [encoder(inputs[layer], features, active, layer) for layer in range(len(inputs))]
    energy = np.array([tensors.pop("energy") for tensors in encoders])
    scales = decoder_scales(outputs, energy, DECODER_DECAY if kind == "clt" else 0.0)
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
    """Return MLP inputs and outputs on the benchmark's text, (L, P, D) each, without position 0."""
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
        network(torch.tensor([token_ids(model, CALIBRATION_TOKENS)]))
    inputs, outputs = (np.stack(seen) for seen in sites.values())
    return inputs, outputs


def encoder(inputs: np.ndarray, features: int, active: float, layer: int) -> dict[str, np.ndarray]:
    """Return the encoder tensors of one layer, and the mean over positions of the sum of squared activations as `energy`."""
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
    """Return the ridge regression (D, D) of outputs (P, D) on inputs (P, D)."""
    x, y = inputs - inputs.mean(axis=0), outputs - outputs.mean(axis=0)
    gram = x @ x.T
    return x.T @ np.linalg.solve(gram + RIDGE * gram.trace() / len(gram) * np.eye(len(gram), dtype=x.dtype), y)


def decoder_scales(outputs: np.ndarray, energy: np.ndarray, decay: float) -> np.ndarray:
    """Return decoder scales (L,) by target layer that give sums with `RECONSTRUCTION_SHARE` of the MLP outputs' norm."""
    centred = outputs - outputs.mean(axis=1, keepdims=True)
    wanted = (centred**2).sum(axis=2).mean(axis=1)
    layers = np.arange(len(energy))
    reaching = np.tril(decay ** np.maximum(2.0 * (layers[:, None] - layers[None]), 0))
    return RECONSTRUCTION_SHARE * np.sqrt(wanted / (reaching @ energy))


def decoder(layer: int, features: int, width: int, scales: np.ndarray) -> np.ndarray:
    """Return the decoder (F, L, D) of one layer: zero for earlier layers, weaker for distant ones."""
    written = len(scales) - layer
    size = scales[layer:] * DECODER_DECAY ** np.arange(written) / np.sqrt(width)
    w_dec = np.zeros((features, len(scales), width), dtype=np.float32)
    random = np.random.default_rng([SEED, layer, 1])
    w_dec[:, layer:] = random.standard_normal((features, written, width), dtype=np.float32)
    w_dec[:, layer:] *= size.astype(np.float32)[:, None]
    return w_dec


def convert(model: Path, transcoders: str, out: Path) -> None:
    """Write transcoders in circuit-tracer's layout, with a CLT's skip connections in a separate file."""
    import cotrace

    loaded = cotrace.load(model, transcoders, device="cpu")
    read, kind = loaded.transcoders.tensors, loaded.transcoders.kind  # type: ignore[attr-defined]
    layers = range(loaded.architecture.n_layers)
    out.mkdir(parents=True, exist_ok=True)
    for layer in layers:
        for name, tensors in (cross_layer_files if kind == "clt" else per_layer_file)(layer, read(layer)).items():
            save_file(tensors, out / f"{name}.safetensors")
    if kind == "clt" and read(0).skip_DD is not None:
        save_file(
            {"W_skip": np.stack([to_float32(read(layer).skip_DD) for layer in layers])}, out / "W_skip.safetensors"
        )


def cross_layer_files(layer: int, tensors: Any) -> dict[str, dict[str, np.ndarray]]:
    """Return the two files of a CLT's layer: encoder and decoder."""
    read = {"W_enc": tensors.w_enc_DF.T, "b_enc": tensors.b_enc_F, "b_dec": tensors.b_dec_D}
    read["threshold"] = tensors.threshold_F
    written = {f"W_dec_{layer}": to_float32(tensors.w_dec_FJD)}
    return {f"W_enc_{layer}": {f"{name}_{layer}": to_float32(t) for name, t in read.items()}, f"W_dec_{layer}": written}


def per_layer_file(layer: int, tensors: Any) -> dict[str, dict[str, np.ndarray]]:
    """Return the file of a per-layer transcoder's layer."""
    named = {"W_enc": tensors.w_enc_DF.T, "W_dec": tensors.w_dec_FJD[:, 0], "b_enc": tensors.b_enc_F}
    named |= {"b_dec": tensors.b_dec_D, "activation_function.threshold": tensors.threshold_F}
    if tensors.skip_DD is not None:
        named["W_skip"] = tensors.skip_DD.T
    return {f"layer_{layer}": {name: to_float32(tensor) for name, tensor in named.items()}}


def to_float32(tensor: Any) -> np.ndarray:
    """Return a tensor as a contiguous float32 array."""
    return np.ascontiguousarray(tensor.float().numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, dest="command")
    random = commands.add_parser("random")
    random.add_argument("--kind", choices=("clt", "per-layer"), default="clt")
    random.add_argument("--features", type=int, default=2048)
    random.add_argument(
        "--active", type=float, default=14, help="mean number of active features per layer and position"
    )
    converting = commands.add_parser("convert")
    converting.add_argument("--transcoders", required=True, help="transcoders, as cotrace.load takes them")
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
