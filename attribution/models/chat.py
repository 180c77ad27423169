"""Render a chat with a model's template, so that the text of each message is the text that was written.

Templates may trim messages, drop a reasoning part of them, or skip empty ones. In a chat that ends within the
assistant's message this would move the end of the prompt. Invisible marks around each message therefore show which text the
template keeps: the last message is continued exactly as written, and a chat whose other messages are changed is refused.
"""

import re
from typing import Any

from cotrace.common.checks import check_unicode
from cotrace.common.errors import PromptError, first_line

ASSISTANT_ROLES = ("assistant", "model")  # the second is the name in Gemma's own turns
REPLACE_SURROGATES = "remove or replace its lone surrogates"
PRIVATE_USE = range(0xE000, 0xF900)  # characters without a meaning, so that no template treats them specially

Chat = list[dict[str, Any]]


def chat_parts(tokenizer: Any, chat: Chat) -> list[str]:
    """Return the text of a chat in a tokenizer's template, in parts: template, text of a message, template, and so on.

    A last message of the assistant is left open, at the end of its content; after any other one the assistant's turn
    is opened.

    Raises PromptError if a message lacks a role or text, if the chat does not fit the template, or if the template
    would change the text of a message.
    """
    texts = [text for message in chat for text in _texts(message)]
    opening, closing = _unused_characters("".join(texts))
    is_open = chat[-1]["role"] in ASSISTANT_ROLES

    def render(first_marked: int) -> str:
        marked = [_marked(message, opening, closing) for message in chat[first_marked:]]
        return _apply_template(tokenizer, [*chat[:first_marked], *marked], add_generation_prompt=not is_open)

    def without_marks(text: str) -> str:
        return text.replace(opening, "").replace(closing, "")

    marked, rendered = render(0), render(len(chat) - is_open)
    left = re.findall(f"{opening}(.*?){closing}", marked, re.DOTALL)
    if left != texts or without_marks(marked) != without_marks(rendered):
        changed = next((text for text in texts if text != text.strip() or text not in left), texts[0])
        raise PromptError(
            f"the model's chat template changes the message {changed!r}, so another text would be traced; remove white space "
            "at its ends and parts that the template drops, or pass the whole prompt as text"
        )
    parts = re.split(f"[{opening}{closing}]", marked)
    return parts[:-1] if is_open else parts


def _apply_template(tokenizer: Any, messages: Chat, add_generation_prompt: bool) -> str:
    try:
        return tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, tokenize=False)
    except Exception as error:  # templates raise their own errors for wrong roles and orders
        raise PromptError(f"the chat does not fit the model's template: {first_line(error)}") from error


def _texts(message: dict[str, Any]) -> list[str]:
    """Return the texts of a message, whose content is a string or a list of blocks of text."""
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role or not isinstance(content, str | list | tuple):
        raise PromptError("each message of a chat needs a role and content: {'role': 'user', 'content': …}")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    texts = [block["text"] for block in blocks if _is_text(block)]
    if not texts or len(texts) < len(blocks):
        raise PromptError(
            "the content of a message is a text or a list of {'type': 'text', 'text': …}; images cannot be traced"
        )
    for text in (role, *texts):
        check_unicode(text, REPLACE_SURROGATES, PromptError)
    return texts


def _is_text(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)


def _marked(message: dict[str, Any], opening: str, closing: str) -> dict[str, Any]:
    """Return a message with marks around each of its texts."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": f"{opening}{content}{closing}"}
    return {**message, "content": [{**block, "text": f"{opening}{block['text']}{closing}"} for block in content]}


def _unused_characters(text: str) -> tuple[str, str]:
    """Return two characters that no text of a chat holds."""
    unused = (chr(code) for code in PRIVATE_USE if chr(code) not in text)
    try:
        return next(unused), next(unused)
    except StopIteration:
        raise PromptError("the chat holds every character of the private-use area; pass the prompt as text") from None
