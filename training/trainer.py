"""The training loop: buffers of examples, steps, features that start anew, checkpoints."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cotrace.attribution.models.language_model import LanguageModel
from cotrace.common.errors import CotraceError
from cotrace.common.progress import Progress

from .activations import Examples, examples
from .checkpoints import save
from .config import Config
from .data import of_buffer, of_fit, sequences
from .dictionary import DecodedOutput, Dictionary, Units
from .initialize import begin, fit_units, resample_dead
from .losses import losses
from .shards import WHOLE, Shard

THRESHOLD_MEMORY = 0.99  # share of the running threshold that a step keeps
REVIVE_EVERY = 50  # steps
NOTED = {"loss": "loss", "fvu": "FVU", "l0": "L0", "dead": "dead"}  # what is shown while it runs
MOMENTS = ("exp_avg", "exp_avg_sq")
SAVE_SECONDS = 300.0  # at least, between two checkpoints


class Trainer:
    """One dictionary in training: parameters, optimizer, and what is remembered of every feature."""

    def __init__(self, config: Config, n_layers: int, d_model: int, device: torch.device, shard: Shard = WHOLE):
        self.config, self.shard = config, shard
        self.dictionary = Dictionary(config, n_layers, d_model, shard).to(device)
        self.optimizer = torch.optim.Adam(self.dictionary.parameters(), lr=config.learning_rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.units: Units | None = None
        self.step = 0
        self.idle_LF = torch.zeros(n_layers, len(self.dictionary.features), dtype=torch.long, device=device)
        # For TopK and BatchTopK: the least activation that was kept, as JumpReLU's threshold when training is
        # over (Bussmann et al. 2024, section 3.2).
        self.least_L = torch.zeros(n_layers, device=device)
        self.history: list[dict[str, float]] = []

    def begin(self, found: Examples) -> None:
        """Fit units and the affine map, and make the first features."""
        self.units = fit_units(found)
        self.dictionary.to(found.x_LND.dtype)
        x_LND, y_LND = self.units.of_inputs(found.x_LND), self.units.of_outputs(found.y_LND)
        begin(self.dictionary, x_LND, y_LND, self._generator(0))

    def train_step(self, x_LPD: Tensor, y_LPD: Tensor) -> dict[str, float]:
        """One step on a batch; returns what there is to watch. Raises ValueError where the loss is not finite."""
        assert self.units is not None
        x_LPD, y_LPD = self.units.of_inputs(x_LPD), self.units.of_outputs(y_LPD)
        written = self.dictionary(x_LPD)
        parts = losses(written, y_LPD, self.config, self.shard)
        if not parts.total.isfinite():
            raise CotraceError(
                f"the loss is {parts.total.item()} at step {self.step}; go on from the checkpoint with a lower learning rate"
            )
        self.optimizer.zero_grad()
        parts.total.backward()
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        with torch.no_grad():
            error_LPD = y_LPD - written.y_MLPD[-1]
            seen = self._note(written, error_LPD, y_LPD)
            if self.step % REVIVE_EVERY == 0 and self.step < (1 - self.config.decay) * self.config.n_steps:
                self._revive(x_LPD, error_LPD)
        return seen

    @property
    def threshold_LF(self) -> Tensor:
        """JumpReLU's threshold of this process's features, in fitted units, whatever they were trained with."""
        if self.config.activation == "jumprelu":
            return torch.stack([threshold_F.clamp(min=0) for threshold_F in self.dictionary.threshold])
        return self.least_L[:, None].expand_as(self.idle_LF).contiguous()

    def _note(self, written: DecodedOutput, error_LPD: Tensor, y_LPD: Tensor) -> dict[str, float]:
        """Remember which features were active, and the least activation that was kept."""
        n_positions, n_layers = y_LPD.shape[1], len(y_LPD)
        on_L = torch.zeros(n_layers, device=y_LPD.device)
        least_L = torch.full_like(on_L, torch.inf)
        self.idle_LF += n_positions
        for layer, found in enumerate(written.entries):
            active_n = found.activation_n > 0
            self.idle_LF[layer, found.feature_n[active_n]] = 0
            on_L[layer] = active_n.sum() / n_positions
            if active_n.any():
                least_L[layer] = found.activation_n[active_n].min()
        least_L = self.shard.least(least_L)
        memory = min(THRESHOLD_MEMORY, 1 - 1 / self.step)
        self.least_L = torch.where(least_L.isinf(), self.least_L, memory * self.least_L + (1 - memory) * least_L)
        dead = (self.idle_LF >= self.config.revive_after).float().mean()
        dead, l0 = self.shard.total(torch.stack([dead / self.shard.size, on_L.mean()])).tolist()
        fvu_L = error_LPD.square().sum((1, 2)) / y_LPD.square().sum((1, 2))
        loss = error_LPD.square().mean((1, 2)).sum()
        return {"step": self.step, "loss": loss.item(), "fvu": fvu_L.mean().item(), "l0": l0, "dead": dead}

    def _revive(self, x_LPD: Tensor, error_LPD: Tensor) -> None:
        """Let features that have not been active for long start anew, from examples of this batch."""
        dead = [(idle_F >= self.config.revive_after).nonzero()[:, 0] for idle_F in self.idle_LF]
        resample_dead(self.dictionary, dead, x_LPD, error_LPD, self._generator(self.step))
        for layer, feature_u in enumerate(dead):
            self.idle_LF[layer, feature_u] = 0
            lists = (self.dictionary.w_enc, self.dictionary.b_enc, self.dictionary.w_dec, self.dictionary.threshold)
            for parameter in (parameters[layer] for parameters in lists if len(parameters)):
                for moment in MOMENTS:
                    self.optimizer.state[parameter][moment][feature_u] = 0

    def _rate(self, step: int) -> float:
        """Learning rate as a share of the highest: a linear warm-up, then constant, then a linear decay to 0."""
        n_steps = self.config.n_steps
        rising = (step + 1) / max(self.config.warm_up * n_steps, 1)
        falling = (n_steps - step) / max(self.config.decay * n_steps, 1)
        return min(1.0, rising, falling)

    def _generator(self, step: int) -> torch.Generator:
        """Random numbers of a step: the same when a run is resumed, and in every process."""
        return torch.Generator(self.idle_LF.device).manual_seed((self.config.seed << 32) + step)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All tensors and all other values that a run continues from."""
        assert self.units is not None
        tensors = {f"dictionary.{name}": tensor for name, tensor in self.dictionary.state_dict().items()}
        tensors |= {f"units.{name}": tensor for name, tensor in self.units._asdict().items()}
        for name, parameter in self.dictionary.named_parameters():
            tensors |= {f"adam.{name}.{key}": self.optimizer.state[parameter][key] for key in MOMENTS if self.step}
        tensors |= {"idle_LF": self.idle_LF, "least_L": self.least_L}
        return tensors, {"step": self.step, "config": self.config.to_json()}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.step = values["step"]
        self.dictionary.load_state_dict(_below("dictionary", tensors))
        self.units = Units(**_below("units", tensors))
        for name, parameter in self.dictionary.named_parameters():
            moments = {key: tensors[f"adam.{name}.{key}"] for key in MOMENTS if self.step}
            if moments:
                step = torch.tensor(float(self.step), device=parameter.device)
                self.optimizer.state[parameter] = {"step": step, **moments}
        self.idle_LF, self.least_L = tensors["idle_LF"], tensors["least_L"]
        self.schedule.last_epoch = self.step
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._rate(self.step)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def train(trainers: Sequence[Trainer], model: LanguageModel, folders: Sequence[Path], bars: Progress) -> None:
    """Train dictionaries side by side, each on the same tokens, each in a folder of its own.

    They share what their configurations say of data: they must say the same. Continues from the
    folders' checkpoints.
    """
    config, shard = trainers[0].config, trainers[0].shard
    steps = {int(step) for trainer in trainers for step in shard.whole(trainer.idle_LF.new_tensor([trainer.step]))}
    if len(steps) > 1:
        raise CotraceError(f"the checkpoints are of different steps ({sorted(steps)}): remove them, and begin again")
    ids_SP = sequences(config, model, folders[0], bars, shard)
    how: dict[str, Any] = {"kind": config.kind, "in_bfloat16": config.in_bfloat16(model.weights.device.type)}
    if trainers[0].units is None:
        with bars.phase("fitting units and the affine map"):
            found = examples(model, ids_SP[of_fit(config)], **how)
            for trainer in trainers:
                trainer.begin(found)
            del found
    saved = time.monotonic()
    with bars.phase("training", config.n_steps) as advance:
        advance(trainers[0].step)
        for buffer in range(trainers[0].step // config.steps_per_buffer, config.n_buffers):
            found = examples(model, ids_SP[of_buffer(config, buffer)], **how)
            for token_P in _batches(config, buffer, found.x_LND.shape[1]):
                index_P = token_P.to(found.x_LND.device)
                batch = found.x_LND[:, index_P], found.y_LND[:, index_P]
                for trainer in trainers:
                    trainer.history.append(trainer.train_step(*batch))
                last_seen = trainers[0].history[-1]
                advance(note=", ".join(f"{title} {last_seen[name]:.3g}" for name, title in NOTED.items()))
            last = buffer == config.n_buffers - 1
            due = shard.rank == 0 and time.monotonic() - saved > SAVE_SECONDS  # by one clock
            if shard.any(last or due, found.x_LND.device):
                save(trainers, folders)
                saved = time.monotonic()


def _batches(config: Config, buffer: int, n_tokens: int) -> list[Tensor]:
    """A buffer's tokens in batches, shuffled anew in each pass; it begins anew where BOS left too few.

    Raises ValueError for a buffer without any.
    """
    if not n_tokens:
        raise CotraceError("the text has no tokens beside those that open one; add data")
    generator = torch.Generator().manual_seed((config.seed << 32) + (1 << 31) + buffer)
    size = config.batch_tokens
    n_passes = max(config.passes, -(-size * config.steps_per_buffer // n_tokens))
    order = torch.cat([torch.randperm(n_tokens, generator=generator) for _ in range(n_passes)])
    return [order[step * size : (step + 1) * size] for step in range(config.steps_per_buffer)]
