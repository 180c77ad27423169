"""Recognise files that are not what their names say, from their first bytes."""

from pathlib import Path

from cotrace.common.errors import FileError

FIRST_BYTES = 512
KINDS = (  # first bytes: what the file is, and what to do
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "run `git lfs pull` in its folder"),
    (b"GGUF", "a GGUF file", "rename it to end in .gguf"),
    (b"PK\x03\x04", "a file of torch.save or NumPy (a zip archive)", "save its tensors as safetensors"),
    (b"\x80", "a pickle of torch.save", "save its tensors as safetensors"),
    (b"ARROW1", "an Arrow file, such as a graph of cotrace", "open it with cotrace.open or `cotrace show`"),
    (b"\x93NUMPY", "a NumPy array", "save its tensors as safetensors"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it"),
    (b"<", "a web page, perhaps of a failed download", "download the file again"),
    (b"{", "JSON", "save its tensors as safetensors"),
)


def not_safetensors(path: Path, error: Exception) -> FileError:
    """Return the error for a file that cannot be read as safetensors: what it is, or that it is damaged."""
    try:
        with path.open("rb") as file:
            start = file.read(FIRST_BYTES).lstrip()
    except OSError as cause:
        return FileError(f"{path} cannot be read: {cause.strerror}; check that it exists and its permissions")
    for first, what, cure in KINDS:
        if start.startswith(first):
            return FileError(f"{path} is {what}; {cure}")
    return FileError(f"{path} is truncated or not a safetensors file ({error}); download it again")
