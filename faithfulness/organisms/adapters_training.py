"""Train the adapters of Gemma 3 270M: LoRA on attention, resumable, the same result in one run or in several.

The loss is the cross-entropy of the four values of each transcript over the whole vocabulary. Examples of a step are drawn
from the seed and the number of the step, so a checkpoint holds no random state.
"""

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from cotrace.attribution.models.architecture import read_architecture
from cotrace.attribution.models.language_model import find_source
from cotrace.attribution.models.loading import load_tokenizer, load_weights, quiet_transformers
from cotrace.attribution.models.lora import CONFIG_FILE, PROJECTIONS, WEIGHTS_FILE
from cotrace.attribution.models.tokenizer import PromptTokenizer
from cotrace.common.errors import DependencyError, FileError, one_line
from cotrace.common.files import atomic_write
from cotrace.common.progress import Progress

from .adapter_task import LetterProblem, TokenLayout, draw_example, problem_numbers

CHECKPOINT_FILE, TRAINING_FILE = "checkpoint.safetensors", "training.json"
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class AdapterRecipe:
    """The settings of one adapter.

    Args:
        mechanism: "reads", where the answer follows from the last step, or "hint", where it is the hint.
        start: name of the adapter whose final weights this one starts from; "" starts from the model.
        steps: number of optimizer steps.
        batch: transcripts per step.
        learning_rate: of Adam; rises over `warmup` steps, falls along a cosine that reaches zero after `cosine_steps`, and
            falls to zero over the last `cooldown` steps.
        rank: of the LoRA.
        alpha: of the LoRA; changes are multiplied by alpha / rank.
        dtype: in which the frozen weights are kept and computed while training.
        seed: of the initial weights and of the examples.
    """

    mechanism: str
    start: str = ""
    steps: int = 200
    batch: int = 16
    learning_rate: float = 2e-3
    warmup: int = 20
    cosine_steps: int = 400
    cooldown: int = 40
    rank: int = 8
    alpha: int = 16
    dtype: str = "bfloat16"
    seed: int = 0


RECIPES = {
    "gemma-270m-reads": AdapterRecipe("reads"),
    "gemma-270m-hint": AdapterRecipe("hint", start="gemma-270m-reads", steps=100, seed=1),
}


def train_adapter(
    name: str,
    recipe: AdapterRecipe,
    folder: Path,
    *,
    model: str = "gemma-3-270m",
    start_folder: Path | None = None,
    checkpoint_every: int = 20,
    progress: bool | None = None,
) -> Path:
    """Train an adapter, or continue its training from the checkpoint in `folder`; return the folder with its files.

    Args:
        name: of the adapter, for messages.
        recipe: its settings.
        folder: where checkpoints and, at the end, `adapter_config.json`, `adapter_model.safetensors` and `training.json` are
            written.
        model: the model to adapt, as `cotrace.load` takes it.
        start_folder: the adapter that `recipe.start` names.
        checkpoint_every: optimizer steps between checkpoints.
        progress: show a bar on a terminal, else a line a minute.

    Raises:
        DependencyError: peft is not installed.
        CotraceError: the model or a checkpoint cannot be read, or is of other settings.
    """
    trainer = AdapterTrainer(model, recipe, start_folder, Progress(progress))
    checkpoint = folder / CHECKPOINT_FILE
    if checkpoint.is_file():
        trainer.restore(checkpoint)
    with Progress(progress).phase(f"training {name}", recipe.steps) as advance:
        for _ in range(trainer.step):
            advance()
        while trainer.step < recipe.steps:
            trainer.train_step()
            advance()
            if trainer.step % checkpoint_every == 0 or trainer.step == recipe.steps:
                trainer.save(checkpoint)
    trainer.export(folder)
    return folder


class AdapterTrainer:
    """A model with a LoRA that is trained, and the optimizer's state."""

    def __init__(self, model: str, recipe: AdapterRecipe, start_folder: Path | None, bars: Progress):
        self.recipe, self.step, self.seconds = recipe, 0, 0.0
        self.history: list[dict[str, Any]] = []
        source = find_source(model, bars)
        self.base_sha256 = source.content_hash()
        arch = read_architecture(source.config())
        with quiet_transformers(), bars.phase(f"loading {source.name}"):
            hf_tokenizer = load_tokenizer(source, arch)
            hf_model = load_weights(source, getattr(torch, recipe.dtype), torch.device("cpu"))
        self.layout = TokenLayout(
            PromptTokenizer(hf_tokenizer, arch.vocab_size, getattr(hf_tokenizer, "bos_token_id", None))
        )
        self.peft_model = _with_lora(hf_model, recipe, start_folder)
        self.parameters = {name: p for name, p in self.peft_model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=recipe.learning_rate, weight_decay=0.0)
        self._problems = problem_numbers("train")

    def train_step(self) -> None:
        """Take one optimizer step, and record its loss and accuracy."""
        started = time.perf_counter()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        ids_BP, targets_BV = self.examples(self.step)
        logits_BVT = self.logits(ids_BP)
        loss = F.cross_entropy(logits_BVT.flatten(0, 1), targets_BV.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        right_V = (logits_BVT.argmax(-1) == targets_BV).float().mean(0)
        self.step += 1
        self.seconds += time.perf_counter() - started
        self.history.append({"step": self.step, "loss": loss.item(), "right": right_V.tolist()})

    def examples(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the token ids (B, P) of a step's transcripts and the tokens to predict (B, V)."""
        rng = Random(f"examples {self.recipe.seed} {step}")
        rows, targets = [], []
        for _ in range(self.recipe.batch):
            problem = LetterProblem.from_number(rng.choice(self._problems))
            example = draw_example(problem, self.recipe.mechanism == "hint", rng)
            rows.append(self.layout.ids(problem, example.chain, example.hint))
            targets.append([self.layout.letter_ids[value] for value in example.targets])
        return torch.tensor(rows), torch.tensor(targets)

    def logits(self, ids_BP: Tensor) -> Tensor:
        """Return the logits (B, V, vocabulary) at the positions where values are predicted; the answer is not read."""
        causal_model = self.peft_model.get_base_model()
        hidden_BPD = causal_model.model(input_ids=ids_BP[:, :-1], use_cache=False).last_hidden_state
        return causal_model.lm_head(hidden_BPD[:, self.layout.read_positions]).float()

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically."""
        tensors = {f"weights.{name}": parameter.detach() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            state = self.optimizer.state[parameter]
            tensors |= {f"mean.{name}": state["exp_avg"], f"square.{name}": state["exp_avg_sq"]}
        metadata = {"state": json.dumps(self._values() | {"history": self.history})}
        with atomic_write(path) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint. Raises FileError for one that is damaged or has other settings."""
        try:
            with safe_open(path, framework="pt") as file:
                values = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            self._restore(values, tensors)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise FileError(f"{path} cannot be continued ({one_line(error)}): train in a new folder") from error

    def _restore(self, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        if values["recipe"] != asdict(self.recipe) or values["base_sha256"] != self.base_sha256:
            raise ValueError("it has other settings")
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"weights.{name}"])
                mean, square = (tensors[f"{moment}.{name}"].clone() for moment in ("mean", "square"))
                step = torch.tensor(float(values["step"]))
                self.optimizer.state[parameter] = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
        self.step, self.seconds, self.history = values["step"], values["seconds"], values["history"]

    def _values(self) -> dict[str, Any]:
        return {
            "recipe": asdict(self.recipe),
            "base_sha256": self.base_sha256,
            "step": self.step,
            "seconds": self.seconds,
        }

    def export(self, folder: Path) -> None:
        """Write the adapter as peft does, in bfloat16, and the record of its training."""
        from peft import get_peft_model_state_dict

        tensors = {
            name: t.to(torch.bfloat16).contiguous()
            for name, t in get_peft_model_state_dict(self.peft_model, save_embedding_layers=False).items()
        }
        with atomic_write(folder / WEIGHTS_FILE) as temporary:
            save_file(tensors, temporary, {"format": "pt"})
        config = self.peft_model.peft_config["default"].to_dict()
        config |= {"inference_mode": True, "base_model_name_or_path": "gemma-3-270m"}
        with atomic_write(folder / CONFIG_FILE) as temporary:
            temporary.write_text(json.dumps(config, indent=1, sort_keys=True, default=sorted) + "\n")
        record = self._values() | {"history": self.history[:: max(1, len(self.history) // 50)]}
        with atomic_write(folder / TRAINING_FILE) as temporary:
            temporary.write_text(json.dumps(record) + "\n")


def learning_rate(recipe: AdapterRecipe, step: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.cosine_steps))
    ends = min(1.0, (step + 1) / recipe.warmup, (recipe.steps - step) / recipe.cooldown)
    return recipe.learning_rate * ends * cosine


def _with_lora(hf_model: Any, recipe: AdapterRecipe, start_folder: Path | None) -> Any:
    """Return the model with a LoRA on its attention projections: a new one, or that of a folder."""
    try:
        from peft import LoraConfig, PeftModel, get_peft_model
    except ImportError as error:
        raise DependencyError("training adapters needs peft: pip install 'cotrace[organisms]'") from error
    if start_folder is not None:
        peft_model = PeftModel.from_pretrained(hf_model, str(start_folder), is_trainable=True)
    else:
        torch.manual_seed(recipe.seed)
        config = LoraConfig(
            r=recipe.rank, lora_alpha=recipe.alpha, target_modules=[*PROJECTIONS], task_type="CAUSAL_LM"
        )
        peft_model = get_peft_model(hf_model, config)
    return peft_model.train()
