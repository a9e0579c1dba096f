"""Softmax and its logarithm in float32, compiled: row by row, in the cache.

The exponential is a polynomial that LLVM vectorises, where NumPy's loop visits the row four times. Declined: another
axis than the last, other dtypes.
"""

import math
from typing import Any

import numpy as np

from xplayers.functional.pair import wants
from xplayers.functional.softmax import log_softmax_forward as log_softmax
from xplayers.functional.softmax import softmax_forward as softmax

from ..registry import kernel
from ..threads import in_parts, runs
from .compiling import compiled
from .elementary import SCALE_DOWN, bits, exp_up, number

__all__ = ["largest", "rows_in_parts", "sum_of_exponentials"]

_PART = 1 << 18  # numbers that are worth a thread
_U = np.uintp
_0 = np.float32(0)
_LEAST_BITS, _ALL, _NO_SIGN = np.int32(-(2**31)), np.int32(31), np.int32(2**31 - 1)


@compiled
def largest(x, p, n):
    """By the bits, whose order is the numbers' once those of negative ones are turned over: LLVM takes the largest of
    integers many at a time, and of floats one by one. NaN comes out on top, or below where its sign is set."""
    top = _LEAST_BITS
    for j in range(n):
        b = bits(x[p + j])
        b = np.int32(b ^ ((b >> _ALL) & _NO_SIGN))
        top = b if b > top else top
    return number(top ^ ((top >> _ALL) & _NO_SIGN))


@compiled
def sum_of_exponentials(x, p, n, m):
    """2^24 times it."""
    s = _0
    for j in range(n):
        s += exp_up(x[p + j] - m)
    return s


@compiled
def _exponentials(x, p, n, m, y):
    """y = 2^24 exp(x - m), and its sum."""
    s = _0
    for j in range(n):
        e = exp_up(x[p + j] - m)
        y[p + j] = e
        s += e
    return s


@compiled
def _softmax(x, y, n, logarithm, first, last):
    for row in range(first, last):
        p = _U(row) * n
        m = largest(x, p, n)
        if np.isinf(m):  # of inf - inf and of nothing but -inf
            for j in range(n):
                y[p + j] = np.float32(np.nan)
            continue
        if logarithm:
            shift = np.float32(math.log(sum_of_exponentials(x, p, n, m) * SCALE_DOWN))
            for j in range(n):
                y[p + j] = (x[p + j] - m) - shift
        else:
            scale = np.float32(1) / _exponentials(x, p, n, m, y)
            for j in range(n):
                y[p + j] *= scale


@compiled
def _softmax_back(dy, y, dx, n, first, last):
    for row in range(first, last):
        p = _U(row) * n
        s = np.float32(0)
        for j in range(n):
            s += dy[p + j] * y[p + j]
        for j in range(n):
            dx[p + j] = y[p + j] * (dy[p + j] - s)


@compiled
def _log_softmax_back(dy, y, dx, n, first, last):
    for row in range(first, last):
        p = _U(row) * n
        s = np.float32(0)
        for j in range(n):
            s += dy[p + j]
        for j in range(n):
            dx[p + j] = dy[p + j] - exp_up(y[p + j]) * SCALE_DOWN * s


def rows_in_parts(count: int, width: int) -> list[slice]:
    return runs(count, max(1, _PART // max(width, 1)))


def _supports(x: Any, dim: Any = None, dtype: Any = None) -> bool:
    """float32, along the last axis."""
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
    return x.dtype == np.float32 and dtype is None and x.ndim > 0 and dim in (-1, x.ndim - 1) and x.size > 0


def _along_rows(x: Any, logarithm: bool) -> Any:
    x = np.ascontiguousarray(x)
    y, n = np.empty(x.shape, np.float32), x.shape[-1]
    arguments = x.reshape(-1), y.reshape(-1), _U(n), logarithm
    in_parts(lambda r: _softmax(*arguments, r.start, r.stop), rows_in_parts(x.size // n, n))
    return y, (y,)


def _back_along_rows(loop: Any, dy: Any, cache: Any, wanted: Any) -> Any:
    (y,) = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    dx, n = np.empty(y.shape, np.float32), y.shape[-1]
    arguments = np.ascontiguousarray(dy).reshape(-1), y.reshape(-1), dx.reshape(-1), _U(n)
    in_parts(lambda r: loop(*arguments, r.start, r.stop), rows_in_parts(y.size // n, n))
    return dx


def _softmax_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    return _back_along_rows(_softmax_back, dy, cache, wanted)


def _log_softmax_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    return _back_along_rows(_log_softmax_back, dy, cache, wanted)


_RULE = "float32 along the last axis: row by row"


@kernel("numpy", softmax, _softmax_backward, _supports, means="numba", rule=_RULE)
def softmax_forward(x: Any, dim: Any = None, dtype: Any = None) -> Any:
    """A row at a time."""
    return _along_rows(x, False) if _supports(x, dim, dtype) else NotImplemented


@kernel("numpy", log_softmax, _log_softmax_backward, _supports, means="numba", rule=_RULE)
def log_softmax_forward(x: Any, dim: Any = None, dtype: Any = None) -> Any:
    """A row at a time."""
    return _along_rows(x, True) if _supports(x, dim, dtype) else NotImplemented
