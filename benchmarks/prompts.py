"""The text of the benchmarks as token ids, so that all programs get the same input.

A story of about 250 tokens; longer prompts continue with the project's licence.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer

TEXT = (
    "The old lighthouse at the end of the harbour had not been used for many years, but every evening an elderly "
    "man still climbed its narrow stairs, cleaned the great lens with a soft cloth, and looked out over the grey "
    "water towards the islands. He had promised his father that he would keep the light ready, because ships might "
    "one day need it again. In the village nobody believed that this would happen. New satellites told every "
    "captain exactly where the rocks were, and the fishing boats that once filled the bay had been sold to a larger "
    "company in the south. Still, when the first storm of the winter broke the power lines and silenced the radio, "
    "three crews found their way home by a small yellow flame, and the children asked the old man to teach them how "
    "the lamp worked. He showed them the oil, the wick and the brass wheels, and explained that light travels in "
    "straight lines until glass or water bends it. By spring there was a list of names on the door, two for each "
    "night of the year, and the paint on the tower was white once more."
)


LICENSE_FILE = Path(__file__).parent.parent / "LICENSE"


def token_ids(model: Path, length: int) -> list[int]:
    """Return BOS and the first `length - 1` tokens of the text, by the tokenizer in the model's folder."""
    text = f"{TEXT}\n\n{' '.join(LICENSE_FILE.read_text().split())}"
    ids = Tokenizer.from_file(str(model / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    if length > len(ids) + 1:
        raise ValueError(f"invalid length {length}: the text has {len(ids)} tokens, so at most {len(ids) + 1} with BOS")
    bos = json.loads((model / "config.json").read_text()).get("bos_token_id", 2)
    return [bos, *ids][:length]
