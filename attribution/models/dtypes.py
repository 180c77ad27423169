"""Names of the dtypes that a model can be loaded with. Imports no torch."""

from typing import Literal, get_args

from cotrace.common.errors import ArgumentError

DtypeName = Literal["auto", "float32", "float64", "bfloat16"]


def check_dtype(name: str) -> str:
    """Return the name of a dtype. Raises ArgumentError for an unknown one."""
    if name not in get_args(DtypeName):
        raise ArgumentError(f"invalid dtype {name!r}: expected one of {', '.join(get_args(DtypeName))}")
    return name
