"""Where the results of many prompts are in their folder; what starts with _ is no part of the data set."""

import re

RECORDS = "_prompts.jsonl"
SETTINGS = "_settings.json"
FULL = "_full"
CIRCUIT_FILE, FULL_FILE = "circuit.arrow", "graph.arrow"

NULL = "__HIVE_DEFAULT_PARTITION__"  # what readers take for no value, however it is written
MOST_BYTES = 255  # of a name, on the usual file systems


def partition(prompt_id: str | int) -> str:
    """Name of a prompt's folder: `id=…`, from which readers of data sets get the id back.

    Everything but lower-case letters, digits, `_`, `-` and `.` is percent-encoded, capitals too, so that different
    ids have different folders where file systems ignore case or normalise Unicode. So is a full stop at the end,
    which Windows drops. Raises ValueError for a text that is no Unicode.
    """
    text = str(prompt_id).encode()
    return "id=" + re.sub(rb"[^a-z0-9_.-]|\.\Z", lambda match: b"%%%02X" % match[0][0], text).decode()
