"""Dropout of single elements in float32, compiled: the draws become the mask and the output in one visit.

The mask is kept as booleans, and is the agnostic function's for the same generator. Declined: other dtypes, evaluation,
p of 0 and 1, masks of another shape than x's.
"""

from typing import Any

import numpy as np

from xplayers.arrays import uniform
from xplayers.functional.dropout import dropout_forward as reference
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs
from .compiling import compiled

__all__: list[str] = []

_PART = 1 << 16  # numbers that are worth a thread


@compiled
def _draw(draws, p, mask, x, y, a):
    for i in range(y.size):
        kept = draws[i] >= p
        mask[i] = kept
        y[i] = x[i] * (a if kept else np.float32(0))


@compiled
def _multiply(mask, x, y, a):
    for i in range(y.size):
        y[i] = x[i] * (a if mask[i] else np.float32(0))


def _supports(x: Any, p: float = 0.5, training: bool = True, *, mask: Any = None, rng: Any = None) -> bool:
    if not training or type(x) is not np.ndarray or x.dtype != np.float32 or not 0 < p < 1:
        return False
    return mask is None or (type(mask) is np.ndarray and mask.dtype == bool and mask.shape == x.shape)


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    mask, a = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    if type(dy) is not np.ndarray or dy.shape != mask.shape or dy.dtype != np.float32:
        return dy * (mask * a)  # as NumPy multiplies them
    dx = np.empty(mask.shape, np.float32)
    flat = mask.reshape(-1), np.ascontiguousarray(dy).reshape(-1), dx.reshape(-1)
    in_parts(lambda r: _multiply(*(t[r] for t in flat), a), runs(dx.size, _PART))
    return dx


@kernel(
    "numpy",
    reference,
    _backward,
    _supports,
    means="numba",
    rule="float32 in training, 0 < p < 1, a mask that is given of x's shape",
)
def dropout_forward(x: Any, p: float = 0.5, training: bool = True, *, mask: Any = None, rng: Any = None) -> Any:
    """One visit of the draws and of x."""
    if not _supports(x, p, training, mask=mask):
        return NotImplemented
    a = np.float32(1.0 / (1.0 - p))
    y = np.empty(x.shape, np.float32)
    flat = np.ascontiguousarray(x).reshape(-1), y.reshape(-1)
    if mask is None:
        draws = uniform(rng, x.shape, np.empty((), np.float32)).reshape(-1)
        mask = np.empty(x.shape, bool)
        to, least = mask.reshape(-1), np.float32(p)
        in_parts(lambda r: _draw(draws[r], least, to[r], *(t[r] for t in flat), a), runs(y.size, _PART))
    else:
        mask = np.ascontiguousarray(mask)
        given = mask.reshape(-1)
        in_parts(lambda r: _multiply(given[r], *(t[r] for t in flat), a), runs(y.size, _PART))
    return y, (mask.reshape(x.shape), a)
