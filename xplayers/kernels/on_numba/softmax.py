"""Softmax, its logarithm and the cross entropy of labels in float32, compiled: row by row, in the cache.

The exponential is a polynomial that LLVM vectorises, where NumPy's loop visits the row four times. Cross entropy keeps
the logarithm of each row's sum alone, and its backward makes the gradient from x in one more visit. Declined: another
axis than the last, other dtypes; for cross entropy also probabilities, weights, smoothing, more axes, labels out of
range, and rows whose sum is not finite, which the agnostic code answers.
"""

import math
from typing import Any

import numpy as np

from xplayers.functional.classification_loss import cross_entropy_forward as cross_entropy
from xplayers.functional.loss import share
from xplayers.functional.pair import wants
from xplayers.functional.softmax import log_softmax_forward as log_softmax
from xplayers.functional.softmax import softmax_forward as softmax

from ..registry import kernel
from ..threads import in_parts, runs
from .compiling import compiled
from .elementary import exp

__all__: list[str] = []

_PART = 1 << 16  # numbers that are worth a thread
_U = np.uintp
_INF = np.float32(math.inf)


@compiled
def _largest(x, p, n):
    m = -_INF
    for j in range(n):
        m = max(m, x[p + j])
    return m


@compiled
def _exponentials(x, p, n, m, y):
    """y = exp(x - m), and its sum."""
    for j in range(n):
        y[p + j] = exp(x[p + j] - m)
    s = np.float32(0)
    for j in range(n):
        s += y[p + j]
    return s


@compiled
def _softmax(x, y, n, logarithm, first, last):
    for row in range(first, last):
        p = _U(row) * n
        m = _largest(x, p, n)
        if np.isinf(m):  # of inf - inf and of nothing but -inf
            for j in range(n):
                y[p + j] = np.float32(np.nan)
            continue
        s = _exponentials(x, p, n, m, y)
        if logarithm:
            shift = np.float32(math.log(s))
            for j in range(n):
                y[p + j] = (x[p + j] - m) - shift
        else:
            scale = np.float32(1) / s
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
            dx[p + j] = dy[p + j] - exp(y[p + j]) * s


def _rows(count: int, width: int) -> list[slice]:
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
    in_parts(lambda r: _softmax(*arguments, r.start, r.stop), _rows(x.size // n, n))
    return y, (y,)


def _back_along_rows(loop: Any, dy: Any, cache: Any, wanted: Any) -> Any:
    (y,) = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    dx, n = np.empty(y.shape, np.float32), y.shape[-1]
    arguments = np.ascontiguousarray(dy).reshape(-1), y.reshape(-1), dx.reshape(-1), _U(n)
    in_parts(lambda r: loop(*arguments, r.start, r.stop), _rows(y.size // n, n))
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


# -- cross entropy of labels --


@compiled
def _log_sums(x, target, ignored, top, log_sum, loss, spare, n, first, last):
    """Of each row the largest, the logarithm of the sum of e^(x - top), and the loss."""
    for row in range(first, last):
        p = _U(row) * n
        m = _largest(x, p, n)
        top[row] = m
        for j in range(n):
            spare[j] = exp(x[p + j] - m)
        s = np.float32(0)
        for j in range(n):
            s += spare[j]
        log_sum[row] = np.float32(math.log(s))
        loss[row] = np.float32(0)
        if target[row] != ignored:
            loss[row] = log_sum[row] - (x[p + _U(target[row])] - m)


@compiled
def _cross_entropy_back(x, target, ignored, top, log_sum, shares, dx, n, first, last):
    for row in range(first, last):
        p = _U(row) * n
        if target[row] == ignored:
            for j in range(n):
                dx[p + j] = np.float32(0)
            continue
        s, m, shift = shares[row], top[row], log_sum[row]
        for j in range(n):
            dx[p + j] = exp((x[p + j] - m) - shift) * s
        dx[p + _U(target[row])] -= s


def _cross_entropy_supports(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> bool:
    """Labels in range of rows of float32, neither weighted nor smoothed."""
    if x.dtype != np.float32 or x.ndim != 2 or x.size == 0 or target.shape != x.shape[:1]:
        return False
    if weight is not None or label_smoothing or target.dtype.kind not in "iu":
        return False
    kept = target[target != ignore_index]
    return reduction in ("mean", "sum", "none") and (not kept.size or (kept.min() >= 0 and kept.max() < x.shape[1]))


def _cross_entropy_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    x, target, ignored, top, log_sum, reduction, norm = cache
    want_x, *_ = wants(wanted, 3)
    if not want_x:
        return None, None, None
    count, n = x.shape
    if dy is None and reduction == "none":
        share(dy, reduction, norm, x)  # refuses it in words
    s = np.float32(1 if dy is None else dy) if reduction != "none" else np.ascontiguousarray(dy)
    s = s * np.float32(1 / norm if norm else math.nan) if reduction == "mean" else s
    shares = np.ascontiguousarray(np.broadcast_to(s, (count,)), np.float32)
    dx = np.empty(x.shape, np.float32)
    arguments = x.reshape(-1), target, ignored, top, log_sum, shares, dx.reshape(-1), _U(n)
    in_parts(lambda r: _cross_entropy_back(*arguments, r.start, r.stop), _rows(count, n))
    return dx, None, None


@kernel(
    "numpy",
    cross_entropy,
    _cross_entropy_backward,
    means="numba",
    rule="float32 (N, C) with labels, neither weighted nor smoothed: row by row",
)
def cross_entropy_forward(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """The sum of each row in one visit while it is in the cache."""
    if not _cross_entropy_supports(x, target, weight, ignore_index, reduction, label_smoothing):
        return NotImplemented
    x, target = np.ascontiguousarray(x), np.ascontiguousarray(target, np.int64)
    count, n = x.shape
    top, log_sum, loss = (np.empty(count, np.float32) for _ in range(3))

    def work(r: slice) -> None:
        arguments = x.reshape(-1), target, ignore_index, top, log_sum, loss, np.empty(n, np.float32), _U(n)
        _log_sums(*arguments, r.start, r.stop)

    in_parts(work, _rows(count, n))
    if not np.isfinite(loss).all():
        return NotImplemented
    norm = int((target != ignore_index).sum())
    y = loss
    if reduction != "none":
        y = loss.sum(dtype=np.float64)
        y = np.asarray(y if reduction == "sum" else y / norm if norm else math.nan, np.float32)
    return y, (x, target, ignore_index, top, log_sum, reduction, norm)  # linear_loss.py reads the last
