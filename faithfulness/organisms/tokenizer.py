"""The word-level tokenizer of a task, in Hugging Face's format. A word carries the space before it, as in Gemma."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from .tasks import BOS, EOS, PAD, UNKNOWN, Task

SPACE = "▁"


def task_tokenizer(task: Task) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a task."""
    vocabulary = {word.replace(" ", SPACE): number for number, word in enumerate(task.words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never")
    backend.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="never")
    backend.add_special_tokens([AddedToken(word, special=True) for word in (PAD, BOS, EOS, UNKNOWN)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(task: Task, folder: Path) -> None:
    """Write the tokenizer of a task into a model's folder."""
    task_tokenizer(task).save_pretrained(folder)
