"""Compile every Triton kernel to machine code for GPUs that need not be there: `compile_kernels.py CAPABILITY …`.

It runs in a separate process, because Triton decides at import whether kernels are interpreted.
"""

import itertools
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cotrace.kernels.decode import triton as decode
from cotrace.kernels.edge_rows import triton as edge_rows
from cotrace.kernels.encode import triton as encode

INDICES = {"count": "*i64", "start": "*i64", "feature": "*i64", "row": "*i64", "groups": "*i64"}
INDICES |= {"one": "*i64", "other": "*i64"}


def kernels(stored: str):
    """Return each kernel with the types of its arrays and its constants, for tensors of one type."""
    summed = "fp64" if stored == "fp64" else "fp32"
    tile = dict.fromkeys(("product", "bias", "least", "bound", "z_out"), f"*{stored}")
    yield encode._count, tile, {"BLOCK": encode.BLOCK}
    yield encode._pack, tile, {"BLOCK": encode.BLOCK}
    sums = {"rows": f"*{stored}", "others": f"*{stored}"}
    sums |= dict.fromkeys(("weight", "ones", "out"), f"*{summed}")
    for add in (False, True):
        yield decode._sum_kernel, sums, {"ADD": add, "AT_ONCE": decode.AT_ONCE, "BLOCK": decode.WIDTH}
    yield decode._dots_kernel, sums, {"BLOCK": decode.WIDTH}
    arrays = dict.fromkeys(("grad", "vectors", "rows"), f"*{stored}")
    block = {"TARGETS": edge_rows.TARGETS, "WIDTH": edge_rows.WIDTH}
    yield edge_rows._position_rows_kernel, arrays, block
    for precision in ("ieee", "tf32"):
        constants = block | {"VECTORS": edge_rows.VECTORS, "PRECISION": precision, "WIDEN": False}
        yield edge_rows._edge_rows_kernel, arrays, constants
        blocks = {"VECTORS": edge_rows.ADDED_VECTORS, "WIDTH": edge_rows.ADDED_WIDTH}
        types = arrays | {"weights": f"*{stored}"}
        yield edge_rows._add_source_vectors_kernel, types, constants | blocks


def machine_code(kernel, types: dict[str, str], constants: dict, capability: int) -> bytes:
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else (INDICES | types).get(name, "i64") for name in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]


if __name__ == "__main__":
    for capability, stored in itertools.product(sys.argv[1:], ("fp32", "fp64", "bf16")):
        for kernel, types, constants in kernels(stored):
            code = machine_code(kernel, types, constants, int(capability))
            print(capability, kernel.__name__, stored, len(code), "bytes")
