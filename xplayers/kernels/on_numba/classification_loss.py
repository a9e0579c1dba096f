"""Losses of labels in float32, compiled: cross entropy and the negative log-likelihood of classes along axis 1.

Cross entropy keeps of each row the largest number and the logarithm of its sum, and its backward makes the gradient
from x in one more visit. Where more axes follow the classes, the loops run along these, some hundred pixels at a time,
whose classes stay in the cache. Declined: other dtypes, labels out of range; for cross entropy also probabilities,
weights, smoothing, and rows whose sum is not finite, which the agnostic code answers.
"""

import math
from typing import Any

import numpy as np

from xplayers.functional.classification_loss import cross_entropy_forward as cross_entropy
from xplayers.functional.classification_loss import nll_loss_forward as nll_loss
from xplayers.functional.pair import wants

from ..labels import are_labels, labels_of, plain_labels, reduced, shares_of
from ..registry import kernel
from ..threads import in_parts, runs
from .compiling import compiled
from .elementary import SCALE_DOWN, exp_up, log
from .softmax import largest, rows_in_parts, sum_of_exponentials

__all__: list[str] = []

_PART = 1 << 16  # numbers that are worth a thread
_PIXELS = 256  # at a time
_U = np.uintp
_0 = np.float32(0)


# -- cross entropy --


@compiled
def _log_sums(x, target, ignored, top, log_sum, loss, n, first, last):
    """Of each row the largest, the logarithm of the sum of e^(x - top), and the loss."""
    for row in range(first, last):
        p = _U(row) * n
        m = largest(x, p, n)
        top[row] = m
        log_sum[row] = np.float32(math.log(sum_of_exponentials(x, p, n, m) * SCALE_DOWN))
        loss[row] = _0
        if target[row] != ignored:
            loss[row] = log_sum[row] - (x[p + _U(target[row])] - m)


@compiled
def _back(x, target, ignored, top, log_sum, shares, dx, n, first, last):
    for row in range(first, last):
        p = _U(row) * n
        if target[row] == ignored:
            for j in range(n):
                dx[p + j] = _0
            continue
        s, m, shift = shares[row] * SCALE_DOWN, top[row], log_sum[row]
        for j in range(n):
            dx[p + j] = exp_up((x[p + j] - m) - shift) * s
        dx[p + _U(target[row])] -= shares[row]


@compiled
def _block(unit, blocks, n, length):
    """Where a block of pixels begins, in x (N, n, length) and in what has no classes, and how many it holds."""
    image, k = unit // blocks, unit % blocks * _PIXELS
    return _U(image * n * length + k), _U(image * length + k), _U(min(_PIXELS, length - k))


@compiled
def _larger(x, p, m, here, there, count):
    """From one half of m to the other: written in place, LLVM masks the stores, which is slow."""
    for k in range(count):
        a, b = x[p + k], m[here + k]
        m[there + k] = a if a > b else b


@compiled
def _log_sums_of_pixels(x, target, ignored, top, log_sum, loss, n, length, blocks, first, last):
    m, s, step = np.empty(2 * _PIXELS, np.float32), np.empty(_PIXELS, np.float32), _U(length)
    for unit in range(first, last):
        p, o, count = _block(unit, blocks, n, length)
        here, there = _U(0), _U(_PIXELS)
        for k in range(count):
            m[k], s[k] = x[p + k], _0
        for c in range(_U(1), _U(n)):
            _larger(x, p + c * step, m, here, there, count)
            here, there = there, here
        for c in range(_U(n)):
            q = p + c * step
            for k in range(count):
                s[k] += exp_up(x[q + k] - m[here + k])
        for k in range(count):
            top[o + k], log_sum[o + k] = m[here + k], log(s[k] * SCALE_DOWN)
        for k in range(count):
            loss[o + k] = _0
            if target[o + k] != ignored:
                loss[o + k] = log_sum[o + k] - (x[p + _U(target[o + k]) * step + k] - top[o + k])


@compiled
def _back_of_pixels(x, target, ignored, top, log_sum, shares, dx, n, length, blocks, first, last):
    step = _U(length)
    for unit in range(first, last):
        p, o, count = _block(unit, blocks, n, length)
        for c in range(_U(n)):
            q = p + c * step
            for k in range(count):
                dx[q + k] = exp_up((x[q + k] - top[o + k]) - log_sum[o + k]) * SCALE_DOWN * shares[o + k]
        for k in range(count):
            if target[o + k] == ignored:
                for c in range(_U(n)):
                    dx[p + c * step + k] = _0
            else:
                dx[p + _U(target[o + k]) * step + k] -= shares[o + k]


def _pixels(x: Any) -> tuple[tuple, list[slice]]:
    """The sizes that the loops over pixels take, and their parts."""
    n, length = x.shape[1], math.prod(x.shape[2:])
    blocks = -(-length // _PIXELS)
    return (n, length, blocks), runs(len(x) * blocks, max(1, _PART // (n * min(length, _PIXELS))))


def _cross_entropy_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    x, target, ignored, top, log_sum, reduction, norm = cache
    want_x, *_ = wants(wanted, 3)
    if not want_x:
        return None, None, None
    dx = np.empty(x.shape, np.float32)
    shares = shares_of(dy, reduction, norm, x, target)
    flat = x.reshape(-1), target.reshape(-1), ignored, top, log_sum, shares, dx.reshape(-1)
    if target.size == len(x):
        n = x.shape[1]
        in_parts(lambda r: _back(*flat, _U(n), r.start, r.stop), rows_in_parts(len(x), n))
    else:
        sizes, parts = _pixels(x)
        in_parts(lambda r: _back_of_pixels(*flat, *sizes, r.start, r.stop), parts)
    return dx, None, None


@kernel(
    "numpy",
    cross_entropy,
    _cross_entropy_backward,
    means="numba",
    rule="float32 (N, C, *) with labels, neither weighted nor smoothed: row by row, or pixels by the hundred",
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
    labels = plain_labels(x, target, weight, ignore_index, reduction, label_smoothing)
    if labels is None:
        return NotImplemented
    x, target = np.ascontiguousarray(x), np.ascontiguousarray(target, np.int64)
    n = x.shape[1]
    top, log_sum, loss = (np.empty(target.size, np.float32) for _ in range(3))
    flat = x.reshape(-1), target.reshape(-1), ignore_index, top, log_sum, loss
    if target.size == len(x):
        in_parts(lambda r: _log_sums(*flat, _U(n), r.start, r.stop), rows_in_parts(len(x), n))
    else:
        sizes, parts = _pixels(x)
        in_parts(lambda r: _log_sums_of_pixels(*flat, *sizes, r.start, r.stop), parts)
    if not np.isfinite(loss).all():
        return NotImplemented
    norm = target.size if labels[1] is None else int(labels[1].sum())
    y = reduced(loss, target.shape, reduction, norm)
    return y, (x, target, ignore_index, top, log_sum, reduction, norm)  # linear_loss.py reads the last


# -- negative log-likelihood --


@compiled
def _pick(x, target, ignored, weight, w, loss, n, length):
    """Of each label its weight, 0 where it is ignored, and -weight x."""
    for o in range(target.size):
        t = target[o]
        w[o] = loss[o] = _0
        if t != ignored:
            w[o] = weight[t]
            loss[o] = -weight[t] * x[((o // length) * n + t) * length + o % length]


@compiled
def _put(target, ignored, w, shares, dx, n, length):
    for o in range(target.size):
        if target[o] != ignored:
            dx[((o // length) * n + target[o]) * length + o % length] = -w[o] * shares[o]


def _nll_supports(x: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> bool:
    fits = weight is None or (weight.dtype == np.float32 and x.ndim > 1 and weight.shape == x.shape[1:2])
    return fits and are_labels(x, target, reduction) and labels_of(x.shape[1], target, ignore_index) is not None


def _nll_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    x, target, ignored, w, reduction, norm = cache
    want_x, *_ = wants(wanted, 3)
    if not want_x:
        return None, None, None
    dx = np.zeros(x.shape, np.float32)
    shares = shares_of(dy, reduction, norm, x, target)
    _put(target.reshape(-1), ignored, w, shares, dx.reshape(-1), x.shape[1], math.prod(x.shape[2:]))
    return dx, None, None


@kernel(
    "numpy", nll_loss, _nll_backward, _nll_supports, means="numba", rule="float32 (N, C, *) with labels: one by one"
)
def nll_loss_forward(x: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """One number of x for each label."""
    if not _nll_supports(x, target, weight, ignore_index, reduction):
        return NotImplemented
    x, target = np.ascontiguousarray(x), np.ascontiguousarray(target, np.int64)
    n, length = x.shape[1], math.prod(x.shape[2:])
    weights = np.ones(n, np.float32) if weight is None else np.ascontiguousarray(weight)
    w, loss = np.empty(target.size, np.float32), np.empty(target.size, np.float32)
    _pick(x.reshape(-1), target.reshape(-1), ignore_index, weights, w, loss, n, length)
    norm = float(w.sum(dtype=np.float64))
    return reduced(loss, target.shape, reduction, norm), (x, target, ignore_index, w, reduction, norm)
