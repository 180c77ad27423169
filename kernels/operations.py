"""All operations by name, for code that lists, tests or benchmarks them."""

from .backends import Operation
from .decode.api import DECODE
from .edge_rows.api import ADD_SOURCE_VECTORS, EDGE_ROWS, POSITION_ROWS
from .encode.api import ENCODE

OPERATIONS: dict[str, Operation] = {
    operation.name: operation for operation in (ENCODE, DECODE, EDGE_ROWS, ADD_SOURCE_VECTORS, POSITION_ROWS)
}
