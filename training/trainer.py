"""`Trainer`: one training step of a dictionary, and its state."""

from typing import Any

import torch
from torch import Tensor

from cotrace.common.errors import CotraceError

from .activations import MLPActivations
from .config import TrainingConfig
from .dictionary import DecodedOutput, Dictionary, Normalization
from .initialize import fit_normalization, initialize_dictionary, resample_dead
from .losses import compute_losses
from .shards import SINGLE_PROCESS, Shard

THRESHOLD_DECAY = 0.99  # per step, of the running mean of the smallest kept activation
RESAMPLE_EVERY_STEPS = 50
ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")


class Trainer:
    """One dictionary in training: parameters, optimizer, and statistics of every feature."""

    def __init__(
        self,
        config: TrainingConfig,
        n_layers: int,
        d_model: int,
        device: torch.device,
        shard: Shard = SINGLE_PROCESS,
    ):
        self.config, self.shard = config, shard
        self.dictionary = Dictionary(config, n_layers, d_model, shard).to(device)
        self.optimizer = torch.optim.Adam(self.dictionary.parameters(), lr=config.learning_rate, fused=True)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._learning_rate_factor)
        self.normalization: Normalization | None = None
        self.step = 0
        n_features = len(self.dictionary.features)
        self.idle_tokens_LF = torch.zeros(n_layers, n_features, dtype=torch.long, device=device)
        # For TopK and BatchTopK: a running mean of the smallest activation that was kept. It becomes JumpReLU's
        # threshold when training is over (Bussmann et al. 2024, section 3.2).
        self.min_activation_L = torch.zeros(n_layers, device=device)
        self.history: list[dict[str, float]] = []

    def initialize(self, activations: MLPActivations) -> None:
        """Fit the normalization and the affine map, and initialize the features."""
        self.normalization = fit_normalization(activations)
        self.dictionary.to(activations.x_LND.dtype)
        x_LND = self.normalization.normalize_inputs(activations.x_LND)
        y_LND = self.normalization.normalize_outputs(activations.y_LND)
        initialize_dictionary(self.dictionary, x_LND, y_LND, self._generator(0))

    def train_step(self, x_LPD: Tensor, y_LPD: Tensor) -> dict[str, float]:
        """Take one optimizer step on MLP inputs and outputs (L, P, D); return metrics.

        Returns `step`, `loss`, `fvu` (fraction of variance unexplained, mean over layers), `l0` (active features per
        layer and token) and `dead` (share of features). Raises CotraceError if the loss is not finite.
        """
        assert self.normalization is not None, "call initialize first"
        x_LPD = self.normalization.normalize_inputs(x_LPD)
        y_LPD = self.normalization.normalize_outputs(y_LPD)
        decoded = self.dictionary(x_LPD)
        loss = compute_losses(decoded, y_LPD, self.config, self.shard).total
        if not loss.isfinite():
            raise CotraceError(
                f"the loss is {loss.item()} at step {self.step}: train with a lower learning rate in a new folder"
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        with torch.no_grad():
            error_LPD = y_LPD - decoded.y_MLPD[-1]
            metrics = self._update_statistics(decoded, error_LPD, y_LPD)
            decay_start = (1 - self.config.decay) * self.config.n_steps
            if self.step % RESAMPLE_EVERY_STEPS == 0 and self.step < decay_start:
                self._resample_dead(x_LPD, error_LPD)
        return metrics

    @property
    def threshold_LF(self) -> Tensor:
        """Return the JumpReLU threshold of this process's features (L, F), normalized, for every activation."""
        if self.config.activation == "jumprelu":
            return torch.stack([threshold_F.clamp(min=0) for threshold_F in self.dictionary.threshold])
        return self.min_activation_L[:, None].expand_as(self.idle_tokens_LF).contiguous()

    def _update_statistics(self, decoded: DecodedOutput, error_LPD: Tensor, y_LPD: Tensor) -> dict[str, float]:
        """Update which features were active and the smallest kept activation; return the metrics of the step."""
        n_positions, n_layers = y_LPD.shape[1], len(y_LPD)
        l0_L = torch.zeros(n_layers, device=y_LPD.device)
        smallest_L = torch.full_like(l0_L, torch.inf)
        self.idle_tokens_LF += n_positions
        for layer, entries in enumerate(decoded.active):
            active_n = entries.activation_n > 0
            self.idle_tokens_LF[layer, entries.feature_n[active_n]] = 0
            l0_L[layer] = active_n.sum() / n_positions
            if active_n.any():
                smallest_L[layer] = entries.activation_n[active_n].min()
        self._update_threshold(self.shard.min(smallest_L))
        dead = (self.idle_tokens_LF >= self.config.dead_after_tokens).float().mean()
        dead, l0 = self.shard.sum(torch.stack([dead / self.shard.size, l0_L.mean()])).tolist()
        fvu_L = error_LPD.square().sum((1, 2)) / y_LPD.square().sum((1, 2))
        loss = error_LPD.square().mean((1, 2)).sum()
        return {"step": self.step, "loss": loss.item(), "fvu": fvu_L.mean().item(), "l0": l0, "dead": dead}

    def _update_threshold(self, smallest_L: Tensor) -> None:
        """Add a batch's smallest kept activations to the running mean; layers without one keep theirs."""
        decay = min(THRESHOLD_DECAY, 1 - 1 / self.step)
        mean_L = decay * self.min_activation_L + (1 - decay) * smallest_L
        self.min_activation_L = torch.where(smallest_L.isinf(), self.min_activation_L, mean_L)

    def _resample_dead(self, x_LPD: Tensor, error_LPD: Tensor) -> None:
        """Restart dead features from examples of this batch, and reset their Adam moments."""
        dead = [(idle_F >= self.config.dead_after_tokens).nonzero()[:, 0] for idle_F in self.idle_tokens_LF]
        resample_dead(self.dictionary, dead, x_LPD, error_LPD, self._generator(self.step))
        for layer, feature_u in enumerate(dead):
            self.idle_tokens_LF[layer, feature_u] = 0
            lists = (self.dictionary.w_enc, self.dictionary.b_enc, self.dictionary.w_dec, self.dictionary.threshold)
            for parameter in (parameters[layer] for parameters in lists if len(parameters)):
                for moment in ADAM_MOMENTS:
                    self.optimizer.state[parameter][moment][feature_u] = 0

    def _learning_rate_factor(self, step: int) -> float:
        """Return the learning rate relative to its peak: linear warm-up, constant, then linear decay to 0."""
        n_steps = self.config.n_steps
        rising = (step + 1) / max(self.config.warm_up * n_steps, 1)
        falling = (n_steps - step) / max(self.config.decay * n_steps, 1)
        return min(1.0, rising, falling)

    def _generator(self, step: int) -> torch.Generator:
        """Return the random generator of a step: the same in every process and in a resumed run."""
        return torch.Generator(self.idle_tokens_LF.device).manual_seed((self.config.seed << 32) + step)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and the other values of a checkpoint."""
        assert self.normalization is not None, "call initialize first"
        tensors = {f"dictionary.{name}": tensor for name, tensor in self.dictionary.state_dict().items()}
        tensors |= {f"units.{name}": tensor for name, tensor in self.normalization._asdict().items()}
        for name, parameter in self.dictionary.named_parameters():
            tensors |= {f"adam.{name}.{key}": self.optimizer.state[parameter][key] for key in ADAM_MOMENTS if self.step}
        # These names in the file differ from the attributes, so that older checkpoints stay readable.
        tensors |= {"idle_LF": self.idle_tokens_LF, "least_L": self.min_activation_L}
        return tensors, {"step": self.step, "config": self.config.to_json()}

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises KeyError, TypeError, ValueError or RuntimeError for tensors that are missing or do not fit.
        """
        self.step = values["step"]
        self.dictionary.load_state_dict(_strip_prefix("dictionary", tensors))
        self.normalization = Normalization(**_strip_prefix("units", tensors))
        for name, parameter in self.dictionary.named_parameters():
            moments = {key: tensors[f"adam.{name}.{key}"] for key in ADAM_MOMENTS if self.step}
            if moments:
                _check_shapes(moments, parameter)
                step = torch.tensor(float(self.step), device=parameter.device)
                self.optimizer.state[parameter] = {"step": step, **moments}
        _check_shapes({"idle_LF": tensors["idle_LF"]}, self.idle_tokens_LF)
        _check_shapes({"least_L": tensors["least_L"]}, self.min_activation_L)
        self.idle_tokens_LF, self.min_activation_L = tensors["idle_LF"], tensors["least_L"]
        self.scheduler.last_epoch = self.step
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self._learning_rate_factor(self.step)


def _check_shapes(tensors: dict[str, Tensor], like: Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.shape != like.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}")


def _strip_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
