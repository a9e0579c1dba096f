"""Softmax and its logarithm with NumPy alone: some rows at a time, all of their steps while they are in the cache.

e^x is taken of x as it is, which rounds nothing, and the sums say afterwards whether anything came out too large or too
small: only then the largest of each row is subtracted first, which costs two more visits. Rows are added up by their
products with ones. The logarithm keeps the exponentials for its backward. Declined: few logarithms, a dtype to cast to,
and other dtypes than float32 and float64.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xplayers.functional.pair import wants
from xplayers.functional.softmax import log_softmax_forward as log_softmax
from xplayers.functional.softmax import softmax_forward as softmax

from ..registry import kernel, worth
from ..threads import runs
from .broadcasts import WORTH_THREADS, ones, over_rows

__all__ = ["OF_EXPONENTIALS", "along", "exponentials", "over_blocks", "sums_like"]

_BLOCK = 1 << 20  # numbers: two threads that call NumPy more often wait for one another instead, at 50 us a time
OF_EXPONENTIALS = 1 << 19  # numbers from which exponentials are worth threads
_FEW_LOGARITHMS = 1 << 13  # numbers: below, the calls cost what is saved
_ALONE = 1 << 13  # numbers below which BLAS takes one thread by itself
_LEAST, _MOST = 2.0**-10, 2.0**60  # sums between which nothing that counts is lost
_RULE = "float32 and float64, no dtype to cast to{}: some rows at a time"
_NEAR = 8.0  # logarithms of sums up to here are exact enough in float32


def along(x: np.ndarray, axis: int) -> np.ndarray:
    """x as (N, C), C its size along the axis, or as (N, C, L) where more axes follow."""
    n, after = x.shape[axis], math.prod(x.shape[axis + 1 :]) if axis != -1 else 1
    return np.ascontiguousarray(x).reshape((-1, n) if after == 1 else (-1, n, after))


def sums_like(x: np.ndarray) -> np.ndarray:
    """Room for the sums of (N, C) or (N, C, L): (N, 1) or (N, 1, L)."""
    return np.empty((len(x), 1, *x.shape[2:]), x.dtype)


def over_blocks(work: Callable[[Any], object], shape: tuple[int, ...], worth: int | None = None) -> None:
    """work(block) for some rows of (N, C), images of (N, C, L) or pixels of these: the same indices are the sums' own.

    The blocks are on threads where there are `worth` numbers.
    """
    size, worth = math.prod(shape), WORTH_THREADS if worth is None else worth
    if size < _ALONE:
        work(...)
        return
    with over_rows(size, shape[1] if len(shape) == 2 else 0, worth) as over:
        over(work, _blocks(shape, size) if size >= worth else (...,))


def _blocks(shape: tuple[int, ...], size: int) -> list:
    count = 2 * -(-size // (2 * _BLOCK))  # one for each of two threads
    if len(shape) == 2 or shape[0] >= count:
        return runs(shape[0], -(-shape[0] // count))
    cuts = runs(shape[2], -(-shape[2] // -(-count // shape[0])))
    return [(slice(i, i + 1), slice(None), r) for i in range(shape[0]) for r in cuts]


def _total_into(e: np.ndarray, sums: np.ndarray) -> None:
    if e.ndim == 2:
        np.matmul(e, ones(e.shape[1], e.dtype.char), out=sums[:, 0])
    else:
        np.add.reduce(e, axis=1, keepdims=True, out=sums)


def exponentials(x: np.ndarray, e: np.ndarray, sums: np.ndarray) -> np.ndarray | None:
    """e = e^x and its sums; e^(x - top) where that is needed, and then top."""
    if x.shape[1] > 1:
        np.exp(x, out=e)
        _total_into(e, sums)
        if np.minimum.reduce(sums, axis=None) >= _LEAST and np.maximum.reduce(sums, axis=None) <= _MOST:
            return None
    top = np.maximum.reduce(x, axis=1, keepdims=True)
    top[np.isinf(top)] = math.nan  # of inf - inf and of nothing but -inf
    np.subtract(x, top, out=e)
    np.exp(e, out=e)
    _total_into(e, sums)
    return top


def _supports(x: Any, dim: Any = None, dtype: Any = None) -> bool:
    return type(x) is np.ndarray and x.dtype.char in "fd" and dtype is None and x.size > 0 and x.ndim > 0


def _axis(x: np.ndarray, dim: int | None) -> int:
    if dim is None:
        return 0 if x.ndim in (1, 3) else 1
    return dim


def _upstream(dy: Any, y: np.ndarray, shape: tuple) -> np.ndarray:
    """dy in the dtype and the view of y, which was of this shape."""
    dy = np.asarray(dy, y.dtype)
    if dy.shape != shape:
        dy = np.broadcast_to(dy, shape)
    return np.ascontiguousarray(dy).reshape(y.shape)


# -- softmax --


def _softmax_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    y, shape = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    dy, dx, sums = _upstream(dy, y, shape), np.empty(y.shape, y.dtype), sums_like(y)

    def work(i: Any) -> None:
        d, s = dx[i], sums[i]
        with np.errstate(all="ignore"):
            if d.ndim == 2:
                np.vecdot(dy[i], y[i], out=s[:, 0])
            else:
                np.multiply(dy[i], y[i], out=d)
                _total_into(d, s)
            np.subtract(dy[i], s, out=d)
            np.multiply(d, y[i], out=d)

    over_blocks(work, y.shape)
    return dx.reshape(shape)


@kernel("numpy", softmax, _softmax_backward, _supports, rule=_RULE.format(""))
def softmax_forward(x: Any, dim: Any = None, dtype: Any = None) -> Any:
    """Some rows at a time."""
    if not _supports(x, dim, dtype):
        return NotImplemented
    shape, x = x.shape, along(x, _axis(x, dim))
    y, sums = np.empty(x.shape, x.dtype), sums_like(x)

    def work(i: Any) -> None:
        e, s = y[i], sums[i]
        with np.errstate(all="ignore"):
            exponentials(x[i], e, s)
            np.divide(e, s, out=e)

    over_blocks(work, x.shape, OF_EXPONENTIALS)
    return y.reshape(shape), (y, shape)


# -- its logarithm --


def _log_softmax_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    e, sums, shape = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    dy, dx, of_dy = _upstream(dy, e, shape), np.empty(e.shape, e.dtype), sums_like(e)

    def work(i: Any) -> None:
        d, s = dx[i], of_dy[i]
        with np.errstate(all="ignore"):
            _total_into(dy[i], s)
            np.divide(s, sums[i], out=s)
            np.multiply(e[i], s, out=d)
            np.subtract(dy[i], d, out=d)

    over_blocks(work, e.shape)
    return dx.reshape(shape)


@kernel(
    "numpy", log_softmax, _log_softmax_backward, _supports, rule=_RULE.format(f", {_FEW_LOGARITHMS} numbers and more")
)
def log_softmax_forward(x: Any, dim: Any = None, dtype: Any = None) -> Any:
    """x less the logarithm of its sum, which where it is large is taken in two pieces."""
    if not _supports(x, dim, dtype) or not worth(x.size, _FEW_LOGARITHMS):
        return NotImplemented
    shape, x = x.shape, along(x, _axis(x, dim))
    y, e, sums = np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype), sums_like(x)

    def work(i: Any) -> None:
        z, s = y[i], sums[i]
        with np.errstate(all="ignore"):
            top = exponentials(x[i], e[i], s)
            exact = np.log(s.astype(np.float64))
            high = exact.astype(x.dtype)
            np.subtract(x[i] if top is None else np.subtract(x[i], top, out=z), high, out=z)
            if np.maximum.reduce(exact, axis=None) > _NEAR:
                np.subtract(z, (exact - high).astype(x.dtype), out=z)
            if not np.maximum.reduce(z, axis=None) <= 0:  # by rounding
                np.minimum(z, 0.0, out=z)

    over_blocks(work, x.shape, OF_EXPONENTIALS)
    return y.reshape(shape), (e, sums, shape)
