"""The gradient of an embedding in float32, compiled: rows are added where they belong, in the order of the indices.

Threads share the columns, so that no two write into one number and the order of adding stays. The rows that no index
names are never touched: NumPy's zeros are pages that the system has not handed out yet. Declined: other dtypes,
max_norm, scale_grad_by_freq.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from xplayers.functional.embedding import embedding_forward as reference
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs
from .compiling import compiled

__all__ = ["columns_in_parts"]

_PART = 1 << 16  # numbers that are worth a thread


@compiled
def _add_rows(dy, index, hole, dweight, first, last):
    for i in range(index.size):
        row = index[i]
        if row != hole:
            source, target = dy[i, first:last], dweight[row, first:last]
            for j in range(target.size):
                target[j] += source[j]


def _supports(
    x: Any, weight: Any, padding_idx: Any, max_norm: Any, norm_type: Any, by_freq: bool, sparse: bool
) -> bool:
    plain = weight.dtype == np.float32 and x.dtype.kind in "iu" and weight.ndim == 2 and x.size > 0 and weight.size > 0
    inside = padding_idx is None or -weight.shape[0] <= padding_idx < weight.shape[0]
    return plain and inside and max_norm is None and not by_freq


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    index, hole, weight, _, _ = cache
    _, want_weight = wants(wanted, 2)
    if not want_weight:
        return None, None
    dweight = np.zeros(weight.shape, np.float32)
    rows = np.ascontiguousarray(dy).reshape(index.size, weight.shape[1])
    columns_in_parts(lambda r: _add_rows(rows, index, hole, dweight, r.start, r.stop), weight.shape[1], index.size)
    return None, dweight


def columns_in_parts(work: Callable[[slice], object], columns: int, rows: int) -> None:
    """Calls `work` for runs of columns, so that no two threads write into one number, whichever rows it names."""
    in_parts(work, runs(columns, max(32, _PART // rows, -(-columns // 8))))


@kernel("numpy", reference, _backward, _supports, means="numba", rule="float32, plain: rows added in columns' parts")
def embedding_forward(x: Any, weight: Any, padding_idx: Any, *options: Any) -> Any:
    """The forward is NumPy's own take, which refuses an index out of range."""
    if not _supports(x, weight, padding_idx, *options):
        return NotImplemented
    v = weight.shape[0]
    flat = x.reshape(-1)
    y = weight.take(flat, axis=0).reshape(*x.shape, weight.shape[1])
    index = np.ascontiguousarray(flat, np.int64)
    index = np.where(index < 0, index + v, index)  # as NumPy counts them
    hole = -1 if padding_idx is None else padding_idx % v
    return y, (index, hole, weight, padding_idx, False)
