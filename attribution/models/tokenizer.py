"""Convert prompts to token ids, and token ids to text."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from cotrace.common.checks import as_index, check_unicode
from cotrace.common.errors import DependencyError, PromptError

from .chat import REPLACE_SURROGATES, Chat, chat_parts

# All sizes of Gemma 3 share one tokenizer. Some versions of transformers convert it wrongly: it splits
# words elsewhere, and every graph would be of another prompt.
KNOWN_SEGMENTATIONS = {" capital": [5279], "The opposite of hot is": [818, 11688, 529, 3425, 563]}
TURN_START, TURN_END = "<start_of_turn>", "<end_of_turn>"
USER, MODEL, LINE_END = "user", "model", "\n"
CHAT_PREFIX = (TURN_START, USER, LINE_END)


def check_segmentation(tokenizer: Any) -> None:
    """Raise DependencyError if transformers built a Gemma 3 tokenizer that splits known texts wrongly."""
    for text, expected in KNOWN_SEGMENTATIONS.items():
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        if found != expected:
            raise DependencyError(
                f"the tokenizer splits {text!r} into {found} instead of {expected}: this version of transformers "
                "builds it wrongly; install 5.18 or newer: `pip install -U transformers`"
            )


class ChatTokens(NamedTuple):
    """The tokens of a chat's markup: a turn is `start`, a role, `line_end`, text, `end`, `line_end`."""

    start: int
    end: int
    line_end: int
    user: int
    model: int


class TokenizedPrompt(Protocol):
    """A prompt as token ids."""

    @property
    def token_ids(self) -> list[int]:
        """The ids of all tokens, BOS included."""


@runtime_checkable
class TokenizablePrompt(Protocol):
    """A prompt that tokenizes itself, such as a transcript."""

    def tokenize(self, model: Any, /) -> TokenizedPrompt:
        """Return the prompt as a model's tokenizer splits it; `model` has the tokenizer or is it."""


class PromptTokenizer:
    """The tokenizer of a model. Without a Hugging Face tokenizer, prompts and targets must be token ids."""

    def __init__(self, hf_tokenizer: Any | None, vocab_size: int, bos_id: int | None):
        self.hf_tokenizer, self.vocab_size, self.bos_id = hf_tokenizer, vocab_size, bos_id

    def encode(self, prompt: Any) -> list[int]:
        """Return the token ids of a text (with one BOS), a chat (list of role/content), a transcript, a list or tensor of ids.

        Raises PromptError for an empty prompt, for ids outside the vocabulary, and for texts or chats that the
        model's tokenizer cannot encode.
        """
        if isinstance(prompt, TokenizablePrompt):
            return prompt.tokenize(self).token_ids
        if isinstance(prompt, str):
            ids = self._encode_text(prompt)
        elif isinstance(prompt, Sequence) and prompt and all(isinstance(message, dict) for message in prompt):
            ids = self._encode_chat(list(prompt))
        else:
            ids = _plain_ids(prompt)
        if not ids:
            raise PromptError("the prompt is empty; give it at least one token")
        self.check_ids(ids)
        return ids

    def check_ids(self, ids: Sequence[int]) -> None:
        """Raise PromptError for a token id outside the vocabulary."""
        bad = [token for token in ids if not 0 <= token < self.vocab_size]
        if bad:
            raise PromptError(
                f"token id {bad[0]} is outside the vocabulary of {self.vocab_size} tokens (0 … {self.vocab_size - 1})"
            )

    def encode_without_bos(self, text: str) -> list[int]:
        """Return the token ids of a text, without BOS. Raises PromptError for a text that is not valid Unicode."""
        return self._tokenize(text, "a text")

    def encode_with_offsets(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Return for each text its token ids, without BOS, and the characters (start, stop) that each token covers.

        Tokens that are parts of one character all cover it. Raises PromptError for a text that is not valid Unicode, and for
        a tokenizer that does not tell offsets.
        """
        tokenizer = self._require_tokenizer("a text")
        for text in texts:
            check_unicode(text, REPLACE_SURROGATES, PromptError)
        if not tokenizer.is_fast:
            raise PromptError(
                "the model's tokenizer does not tell which characters a token covers: save it as tokenizer.json, or give the "
                "segments as token ids"
            )
        encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
        return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))

    def _encode_text(self, text: str) -> list[int]:
        if not text:
            raise PromptError("the prompt is empty; write some text")
        ids = self.encode_without_bos(text)
        starts_with_bos = bool(ids) and ids[0] == self.bos_id
        return ids if starts_with_bos or self.bos_id is None else [self.bos_id, *ids]

    def chat_parts(self, chat: Chat) -> list[str]:
        """Return the text of a chat in the model's template, in parts: template, message, template, message, and so on.

        Raises PromptError for a chat that does not fit the template, and if there is none.
        """
        tokenizer = self._require_tokenizer("a chat prompt")
        if not getattr(tokenizer, "chat_template", None):
            raise PromptError(
                "the model's tokenizer has no chat template: use an instruction-tuned model, or a text prompt"
            )
        return chat_parts(tokenizer, chat)

    def _encode_chat(self, chat: Chat) -> list[int]:
        return self._tokenize("".join(self.chat_parts(chat)), "a chat prompt")

    def token_id(self, token: Any) -> int:
        """Return the id of a token that is given by id or by exact text. Raises PromptError if the text is not one token."""
        if not isinstance(token, str):
            token = as_index(token, "a target's token")
            if not 0 <= token < self.vocab_size:
                raise PromptError(f"token id {token} is outside the vocabulary of {self.vocab_size} tokens")
            return token
        ids = self._tokenize(token, "a target given as text")
        if len(ids) != 1:
            pieces = ", ".join(f"{self.decode_token(piece)!r} ({piece})" for piece in ids) or "no token"
            meant = " or ".join(repr(self.decode_token(other)) for other in self.other_spellings(token)[:2])
            cure = f"did you mean {meant}?" if meant else "choose one of them, by text or id"
            raise PromptError(f"{token!r} is not one token but {pieces}; {cure}")
        return ids[0]

    def other_spellings(self, text: str) -> list[int]:
        """Return the tokens whose texts differ from a text only in capital letters and spaces around it."""
        word = text.strip()
        if self.hf_tokenizer is None or not word:
            return []
        forms = (word, word.lower(), word.capitalize(), word.upper())
        texts = dict.fromkeys(space + form for form in forms for space in (" ", ""))
        found = {other: self._tokenize(other, "a text") for other in texts if other != text}
        single = [ids[0] for other, ids in found.items() if len(ids) == 1 and self.decode_token(ids[0]) == other]
        return list(dict.fromkeys(single))

    def decode_token(self, token_id: int) -> str:
        """Return the text of one token, leading space included; `<id>` without a tokenizer."""
        if self.hf_tokenizer is None:
            return f"<{token_id}>"
        decoded = self.hf_tokenizer.decode([token_id])
        if decoded and "\ufffd" not in decoded:
            return decoded
        return str(self.hf_tokenizer.convert_ids_to_tokens(token_id) or f"<{token_id}>")  # a piece of a character

    def decode(self, ids: list[int]) -> str:
        """Return the text of several tokens."""
        return "".join(map(self.decode_token, ids)) if self.hf_tokenizer is None else self.hf_tokenizer.decode(ids)

    def end_token_ids(self) -> set[int]:
        """Return the ids of the tokens that end a text or a turn of a chat."""
        if self.hf_tokenizer is None:
            return set()
        turn = self.hf_tokenizer.convert_tokens_to_ids(TURN_END)
        # Without this token in the vocabulary, the id is None or that of the unknown token.
        known = turn is not None and self.hf_tokenizer.convert_ids_to_tokens(turn) == TURN_END
        return {self.hf_tokenizer.eos_token_id, turn if known else None} - {None}

    def chat_tokens(self) -> ChatTokens | None:
        """Return the tokens of a chat's markup, None where the vocabulary lacks one."""
        texts = [TURN_START, TURN_END, LINE_END, USER, MODEL]
        if self.hf_tokenizer is None:
            return None
        ids = self.hf_tokenizer.convert_tokens_to_ids(texts)
        # Without a token in the vocabulary, its id is None or that of the unknown token.
        return ChatTokens(*ids) if self.hf_tokenizer.convert_ids_to_tokens(ids) == texts else None

    def constant_prefix_length(self, ids: list[int]) -> int:
        """Return how many leading tokens are the same for all prompts of this kind: 4 in a chat, else 1.

        Transcoders are not trained on these positions, so they are masked by default.
        """
        if self.hf_tokenizer is None or len(ids) <= len(CHAT_PREFIX) or ids[0] != self.bos_id:
            return 1
        opening = self.hf_tokenizer.convert_ids_to_tokens(ids[1 : 1 + len(CHAT_PREFIX)])
        return 1 + len(CHAT_PREFIX) if tuple(opening) == CHAT_PREFIX else 1

    def _tokenize(self, text: str, what: str) -> list[int]:
        tokenizer = self._require_tokenizer(what)
        check_unicode(text, REPLACE_SURROGATES, PromptError)
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def _require_tokenizer(self, what: str) -> Any:
        if self.hf_tokenizer is None:
            raise PromptError(f"the model has no tokenizer, so {what} cannot be read; give token ids")
        return self.hf_tokenizer


def as_prompt_list(prompt: Any) -> list[Any] | None:
    """Return the prompts of a list of texts, of lists of ids or of chats; None for a single prompt."""
    if not isinstance(prompt, list | tuple) or not prompt:
        return None
    each_is_one = all(isinstance(each, str | list | tuple | Tensor | np.ndarray | TokenizablePrompt) for each in prompt)
    return list(prompt) if each_is_one else None


def _plain_ids(prompt: Any) -> list[int]:
    if isinstance(prompt, Tensor | np.ndarray):
        if prompt.ndim != 1 or "int" not in str(prompt.dtype):
            raise PromptError(
                f"a tensor prompt must be 1-D token ids; this one is {prompt.dtype} of shape {tuple(prompt.shape)}"
            )
        return prompt.tolist()
    if isinstance(prompt, Sequence) and not isinstance(prompt, bytes) and all(map(_is_id, prompt)):
        return [int(item) for item in prompt]
    raise PromptError(
        f"a prompt is a text, a list or 1-D tensor of token ids, a list of chat messages, or a transcript, not {type(prompt).__name__}"
    )


def _is_id(item: Any) -> bool:
    return isinstance(item, int | np.integer) and not isinstance(item, bool)
