"""File names in the result folder of a batch. Names that start with _ do not belong to the data set."""

import re

from cotrace.common.errors import PromptError

RECORDS = "_prompts.jsonl"
SETTINGS = "_settings.json"
FULL_FOLDER = "_full"
SUMMARY_FILE, QUESTIONS_FILE, SUMMARY_PLOT = "_summary.csv", "_questions.csv", "_summary.svg"
CIRCUIT_FILE, FULL_FILE = "circuit.arrow", "graph.arrow"

NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"  # readers of data sets read it as a missing value
MAX_NAME_BYTES = 255  # of file systems in general use


def partition(prompt_id: str | int) -> str:
    """Return the name of a prompt's folder, `id=…`, from which readers of data sets get the id back.

    Everything but lower-case letters, digits, `_`, `-` and `.` is percent-encoded, capitals too, so that different
    ids have different folders where file systems ignore case or normalise Unicode. So is a full stop at the end,
    which Windows drops. Raises PromptError for a text that is not valid Unicode.
    """
    try:
        text = str(prompt_id).encode()
    except UnicodeEncodeError as error:
        raise PromptError(f"the id {prompt_id!r} is not valid Unicode; choose another") from error
    return "id=" + re.sub(rb"[^a-z0-9_.-]|\.\Z", lambda match: b"%%%02X" % match[0][0], text).decode()
