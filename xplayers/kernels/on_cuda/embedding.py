"""Embedding: rows taken, and their gradients added where they belong, in one visit each.

The adding is atomic and in the accumulator of the dtype, so halves lose nothing; equal rows are added in whatever order
the card takes them. An index out of range gives NaN. Declined: max_norm, scale_grad_by_freq, other integers.
"""

from typing import Any

from xplayers.functional.embedding import embedding_forward as reference
from xplayers.functional.pair import wants

from ..registry import kernel
from .launching import FLOATS, accumulator, contiguous, elements, empty, gradient, launch, types, zeros

__all__: list[str] = []


def _supports(
    x: Any, weight: Any, padding_idx: Any, max_norm: Any, norm_type: Any, by_freq: bool, sparse: bool
) -> bool:
    """Indices of int32 or int64, neither rows scaled nor gradients."""
    if max_norm is not None or by_freq or x.dtype.name not in ("int32", "int64") or x.size == 0:
        return False
    v = weight.shape[0]
    return weight.dtype.name in FLOATS and weight.size > 0 and (padding_idx is None or -v <= padding_idx < v)


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    _, want_weight = wants(wanted, 2)
    x, weight, hole, kinds = cache
    if not want_weight:
        return None, None
    v, width = weight.shape
    dweight = zeros(weight.shape, accumulator(weight.dtype))
    arguments = x, gradient(dy, (*x.shape, width), weight.dtype), dweight, x.size, v, width, hole
    launch("embedding", "add_rows", kinds, elements(x.size * width), *arguments)
    return None, dweight.astype(weight.dtype, copy=False)


@kernel(
    "cupy", reference, _backward, _supports, means="cuda", rule="int32 or int64, no max_norm: rows added atomically"
)
def embedding_forward(x: Any, weight: Any, padding_idx: Any, *options: Any) -> Any:
    """Rows by a kernel that holds no array of indices."""
    if not _supports(x, weight, padding_idx, *options):
        return NotImplemented
    x, weight = contiguous(x), contiguous(weight)
    (v, width), kinds = weight.shape, types(weight.dtype, I=x.dtype)
    y = empty((*x.shape, width), weight.dtype)
    launch("embedding", "take_rows", kinds, elements(y.size), x, weight, y, x.size, v, width)
    hole = -1 if padding_idx is None else padding_idx % v
    return y, (x, weight, hole, kinds)  # `embedding_weight` reads the third from the end
