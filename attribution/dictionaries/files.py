"""The files of a dictionary: one encoder and decoder for each layer that it reads, through a memory map."""

from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from cotrace.attribution.models.file_kinds import not_safetensors
from cotrace.common.errors import FileError

REQUIRED = ("w_enc", "w_dec", "b_enc", "b_dec")


class DictionaryTensors(NamedTuple):
    """One layer of a dictionary, in views of its file: F features, X the width of its site, J written layers."""

    w_enc_XF: Tensor
    b_enc_F: Tensor
    w_dec_FJX: Tensor
    b_dec_X: Tensor
    threshold_F: Tensor | None


class DictionaryFile(NamedTuple):
    """The file of one layer.

    Attributes:
        layer: the layer whose site the encoder reads.
        path: a safetensors file in Gemma Scope 2's layout: `w_enc` (X, F), `w_dec` (F, X), in a crosscoder (F, J, X), `b_enc`
            (F,), `b_dec` (X,) and `threshold` (F,).
    """

    layer: int
    path: Path

    def check(self, width: int, n_written: int, has_threshold: bool) -> int:
        """Return the number of features. Raises FileError for missing tensors, other shapes, and values that are not finite.

        Args:
            width: width of the site.
            n_written: number of layers that a crosscoder's features write to; 0 for an SAE.
            has_threshold: whether the activation function is JumpReLU.
        """
        shapes = self._shapes()
        required = (*REQUIRED, *(["threshold"] if has_threshold else []))
        absent = [name for name in required if name not in shapes]
        if absent:
            raise FileError(f"{self._where} has no tensor {', '.join(absent)}; it has {', '.join(sorted(shapes))}")
        if "affine_skip_connection" in shapes:
            raise FileError(f"{self._where} has an affine skip, so it is a transcoder; pass it as --transcoders")
        n = shapes["b_enc"][0] if shapes["b_enc"] else 0
        decoder = [n, n_written, width] if n_written else [n, width]
        expected = {"w_enc": [width, n], "w_dec": decoder, "b_enc": [n], "b_dec": [width], "threshold": [n]}
        for name in required:
            if shapes[name] != expected[name] or n == 0:
                raise FileError(
                    f"{name} of {self._where} has shape {tuple(shapes[name])} and the model needs {tuple(expected[name])}; "
                    "choose a dictionary made for it"
                )
        self._check_small(has_threshold)
        return n

    def tensors(self, has_threshold: bool) -> DictionaryTensors:
        """Return all tensors, without copying them."""
        with _open(self.path) as file:
            named = {name: file.get_tensor(name) for name in file.keys()}
        w_dec = named["w_dec"]
        w_dec_FJX = w_dec if w_dec.ndim == 3 else w_dec[:, None]
        threshold_F = named["threshold"] if has_threshold else None
        return DictionaryTensors(named["w_enc"], named["b_enc"], w_dec_FJX, named["b_dec"], threshold_F)

    def _check_small(self, has_threshold: bool) -> None:
        tensors = self.tensors(has_threshold)
        for name in ("b_enc_F", "b_dec_X", "threshold_F"):
            tensor = getattr(tensors, name)
            if tensor is not None and not tensor.isfinite().all():
                raise FileError(f"{name} of {self._where} has NaN or infinite values; download the file again")

    def _shapes(self) -> dict[str, list[int]]:
        with _open(self.path) as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}

    @property
    def _where(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise not_safetensors(path, error) from error
