"""Dropout of single elements of CuPy arrays: draws, mask and answer in one kernel, the gradient in another.

The draws are those of the agnostic function for the same rng, bit for bit, computed where they are used: Threefry is
110 operations on integers, each a visit of memory by itself. Declined: evaluation, p of 0 and 1, masks that broadcast
or are no booleans, 2^31 elements and more.
"""

from typing import Any

from xplayers.arrays import array_namespace, device, key_of, threefry2x32, unit_interval
from xplayers.functional.dropout import dropout_forward as reference
from xplayers.functional.pair import wants

from ..registry import kernel
from .fusing import DTYPES, fused, narrow, storage, wide

__all__: list[str] = []


def _draw(x: Any, index: Any, half: int, p: float, a: float, *words: int) -> Any:
    """`Key.uniform` at an index: its first half is the first word of the cipher at 0, 1, ..., the rest the second."""
    xp = array_namespace(index)
    first = index < half
    bits = xp.where(first, *threefry2x32(words, xp.where(first, index, index - half), index * 0))
    kept = unit_interval(bits, xp.float32) >= p
    w = wide(x)
    return narrow(w * (xp.astype(kept, w.dtype) * a), x), kept


def _multiply(x: Any, mask: Any, a: float) -> Any:
    w = wide(x)
    return narrow(w * (array_namespace(x).astype(mask, w.dtype) * a), x)


_draw_fused, _multiply_fused = fused(_draw, "dropout"), fused(_multiply, "dropout_of_a_mask")


def _supports(x: Any, p: float = 0.5, training: bool = True, *, mask: Any = None, rng: Any = None) -> bool:
    if not training or x.dtype.name not in DTYPES or not 0 < p < 1 or not 0 < x.size < 2**31:
        return False
    return mask is None or (mask.dtype == bool and mask.shape == x.shape)


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    mask, a = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    return narrow(_multiply_fused(storage(dy), mask, a), dy)


@kernel(
    "cupy", reference, _backward, _supports, rule="floating dtypes in training, 0 < p < 1, a given mask of booleans"
)
def dropout_forward(x: Any, p: float = 0.5, training: bool = True, *, mask: Any = None, rng: Any = None) -> Any:
    """y and the mask."""
    if not _supports(x, p, training, mask=mask):
        return NotImplemented
    a = 1.0 / (1.0 - p)
    if mask is None:
        xp = array_namespace(x)
        index = xp.reshape(xp.arange(x.size, dtype=xp.int32, device=device(x)), x.shape)
        y, mask = _draw_fused(storage(x), index, (x.size + 1) // 2, p, a, *key_of(rng).words())
    else:
        y = _multiply_fused(storage(x), mask, a)
    return narrow(y, x), (mask, a)
