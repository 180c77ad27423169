"""Print which prompts Gemma 3 270M completes: the table of docs/models.md.

python recipes/next_tokens_270m.py
"""

import cotrace

PROMPTS = (  # text, expected next token
    ("The author of Romeo and Juliet is William", " Shakespeare"),
    ("When Mary and John went to the store, John gave a drink to", " Mary"),
    ("Water is made of hydrogen and", " oxygen"),
    ("The quick brown fox jumps over the lazy", " dog"),
    ("a b c d e f", " g"),
    ("Monday, Tuesday, Wednesday,", " Thursday"),
    ("def add(a, b):\n    return a", " +"),
    ("The currency of Japan is the", " yen"),
    ("The opposite of hot is", " cold"),
    ("The Eiffel Tower is in the city of", " Paris"),
    ("The key to the cabinets", " is"),
    ("The keys to the cabinet", " are"),
    ("The sky is", " blue"),
    ("The capital of France is", " Paris"),
    ("The color of a banana is", " yellow"),
    ("The capital of the country where the Eiffel Tower stands is", " Paris"),
    ("hello -> bonjour\ncat -> chat\ndog ->", " chien"),
    ("Barack Obama was born in", " Hawaii"),
    ("Fact: the capital of the state containing Dallas is", " Austin"),
)


def main() -> None:
    """Print a row for each prompt: the expected token, its probability and rank, and the likeliest token."""
    model = cotrace.load("gemma-3-270m", "neurons")
    print("| prompt | next token | probability | rank | likeliest |\n|---|---|---|---|---|")
    for prompt, expected in PROMPTS:
        probability_V = model.logits(prompt)[-1].softmax(-1)
        (token,) = model.tokenizer.hf_tokenizer.encode(expected, add_special_tokens=False)
        top = int(probability_V.argmax())
        rank = int((probability_V > probability_V[token]).sum()) + 1
        shown = prompt.replace("\n", "⏎")
        likeliest = "" if rank == 1 else f"`{model.tokenizer.decode_token(top)}` {probability_V[top]:.1%}"
        print(f"| {shown} | `{expected}` | {probability_V[token]:.1%} | {rank} | {likeliest} |")


if __name__ == "__main__":
    main()
