"""Products of stacks of matrices on cuBLAS, in the dtype they come in.

CuPy's own widens float16 to float32, knows no bfloat16 and copies views; here a stack is one strided batch of cuBLAS,
which reads transposed and broadcast operands as they lie. Sums are taken in float32 (float64 of float64). With
`precision="fast"` float32 is multiplied in TF32: 10 bits of each factor, an error of 2^-11 in place of 2^-24.
Declined: other dtypes, operands of two dtypes, products of vectors and of nothing; two matrices, which CuPy multiplies
well, unless in TF32.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..registry import precision, product

__all__ = ["Batch", "cublas", "plan"]

_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # cudaDataType
_IN_FLOAT, _IN_TF32, _IN_DOUBLE = 68, 77, 70  # cublasComputeType


class Batch(NamedTuple):
    """How cuBLAS, whose matrices lie by columns, is asked for C = A B by rows: for C^T = B^T A^T."""

    transposes: tuple[int, int]  # of b, of a
    sizes: tuple[int, int, int]  # N, M, K
    leads: tuple[int, int, int]  # from one row to the next of b, of a, of c
    steps: tuple[int, int, int]  # from one matrix to the next
    matrices: int


class _CuBLAS:
    """The library itself. Tests put a host in its place."""

    @property
    def xp(self) -> Any:
        import cupy

        return cupy

    def run(self, batch: Batch, b: Any, a: Any, c: Any, compute: int) -> None:
        from cupy.cuda import device
        from cupy_backends.cuda.libs import cublas as library

        kind = _TYPES[c.dtype.name]
        one, zero = (np.array(v, np.float64 if compute == _IN_DOUBLE else np.float32) for v in (1, 0))
        ways = zip((b, a, c), batch.leads, batch.steps, strict=True)
        of_b, of_a, of_c = ((x.data.ptr, kind, lead, step) for x, lead, step in ways)
        given = *batch.transposes, *batch.sizes, one.ctypes.data, *of_b, *of_a, zero.ctypes.data, *of_c, batch.matrices
        library.gemmStridedBatchedEx(device.get_cublas_handle(), *given, compute, -1)  # -1: an algorithm of its choice


cublas: Any = _CuBLAS()


def _lying(x: Any) -> tuple[int, int, int] | None:
    """(transposed, lead, step) of a stack as it lies; None where no single stride leads from matrix to matrix."""
    *outer, rows, columns = x.shape
    *strides, down, across = (s // x.dtype.itemsize for s in x.strides)
    if across == 1 or columns == 1:
        transposed, lead, least = 0, down if rows > 1 else columns, columns
    elif down == 1 or rows == 1:
        transposed, lead, least = 1, across, rows
    else:
        return None
    if lead < least:
        return None
    walked = [(n, s) for n, s in zip(outer, strides, strict=True) if n > 1]
    step = walked[-1][1] if walked else 0
    reach = step
    for n, s in reversed(walked):
        if s != reach:
            return None
        reach = s * n
    return transposed, lead, step


def _ready(x: Any, outer: tuple[int, ...], xp: Any) -> tuple[Any, Any]:
    """A stack with all its leading axes, copied where it does not lie as cuBLAS walks, and how it lies."""
    x = xp.broadcast_to(x, (*outer, *x.shape[-2:]))
    lies = _lying(x)
    if lies is None or any(s < 0 for s in x.strides):
        x = xp.ascontiguousarray(x)
        lies = _lying(x)
    return x, lies


def plan(a: Any, b: Any, xp: Any) -> tuple[Batch, Any, Any]:
    """The batch, and b and a with all the leading axes."""
    outer = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, (transposed_a, lead_a, step_a) = _ready(a, outer, xp)
    b, (transposed_b, lead_b, step_b) = _ready(b, outer, xp)
    (m, k), n = a.shape[-2:], b.shape[-1]
    batch = Batch(
        (transposed_b, transposed_a), (n, m, k), (lead_b, lead_a, n), (step_b, step_a, m * n), math.prod(outer)
    )
    return batch, b, a


@product("cupy", "cupy", rule="floating dtypes, stacks of matrices: one strided batch of cuBLAS")
def matmul(a: Any, b: Any) -> Any:
    if min(a.ndim, b.ndim) < 2 or (max(a.ndim, b.ndim) == 2 and precision() != "fast"):
        return NotImplemented  # two matrices are CuPy's, but for TF32
    if a.dtype != b.dtype or a.dtype.name not in _TYPES or not a.size or not b.size:
        return NotImplemented
    batch, b, a = plan(a, b, cublas.xp)
    c = cublas.xp.empty((*a.shape[:-1], b.shape[-1]), a.dtype)
    tf32 = _IN_TF32 if precision() == "fast" else _IN_FLOAT
    cublas.run(batch, b, a, c, {"float64": _IN_DOUBLE, "float32": tf32}.get(a.dtype.name, _IN_FLOAT))
    return c
