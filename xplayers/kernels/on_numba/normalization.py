"""Normalisation in float32, compiled: a set of elements is visited while it is in the cache, for its mean, for its
spread around the mean, and for the answer; so that memory is read and written once.

Batch, instance and group norm are one pair over rows of (N C, L), as in functional/normalization.py; layer and RMS norm
are another over rows that have a weight for each element. Sums are those of the agnostic code, mean first; each row's
is taken in float32 and added up in float64. Declined: other dtypes, and what the agnostic code refuses.
"""

import math
from typing import Any

import numpy as np

from ..normalizations import Sums, register
from ..threads import in_parts, runs
from .compiling import compiled

__all__: list[str] = []

_PART = 1 << 16  # numbers that are worth a thread
_SHORT = 32  # elements of a row: channels of batch norm with fewer are met by columns
_U = np.uintp


@compiled
def _sum(x, p, n):
    s = np.float32(0)
    for j in range(n):
        s += x[p + j]
    return s


@compiled
def _sum_of_squares(x, p, n, mean):
    s = np.float32(0)
    for j in range(n):
        d = x[p + j] - mean
        s += d * d
    return s


@compiled
def _both_sums(dy, x, p, n, mean):
    """The sums of dy and of dy (x - mean)."""
    s, t = np.float32(0), np.float32(0)
    for j in range(n):
        d = dy[p + j]
        s += d
        t += d * (x[p + j] - mean)
    return s, t


@compiled
def _rows_forward(x, y, mean, var, given, weight, bias, eps, sets, channels, first, last):
    """The sets first ... last of (a, s, b) rows, as functional/normalization.py has them; x and y are flat."""
    a, s, b = sets
    n = _U(x.size // (a * s * b))
    for k in range(first, last):
        if not given:
            total = 0.0
            for i in range(a):
                for j in range(b):
                    total += _sum(x, _U((i * s + k) * b + j) * n, n)
            mean[k] = total / (a * b * n)
            m = mean[k]
            total = 0.0
            for i in range(a):
                for j in range(b):
                    total += _sum_of_squares(x, _U((i * s + k) * b + j) * n, n, m)
            var[k] = total / (a * b * n)
        m, r = mean[k], np.float32(1) / np.sqrt(var[k] + eps)
        for i in range(a):
            for j in range(b):
                row = (i * s + k) * b + j
                scale, shift, p = r * weight[row % channels], bias[row % channels], _U(row) * n
                for q in range(n):
                    y[p + q] = (x[p + q] - m) * scale + shift


@compiled
def _rows_backward(dy, x, mean, var, given, weight, eps, sets, channels, sum_d, sum_du, dx, first, last):
    """Of some sets the sums of each row, unless sum_d is empty, and dx, unless it is empty."""
    a, s, b = sets
    n = _U(x.size // (a * s * b))
    for k in range(first, last):
        m, r = mean[k], np.float32(1) / np.sqrt(var[k] + eps)
        g, gu = 0.0, 0.0
        if sum_d.size:
            for i in range(a):
                for j in range(b):
                    row = (i * s + k) * b + j
                    sum_d[row], sum_du[row] = _both_sums(dy, x, _U(row) * n, n, m)
                    g += weight[row % channels] * sum_d[row]
                    gu += weight[row % channels] * sum_du[row]
        if not dx.size:
            continue
        count = a * b * n
        slope, shift = np.float32(gu / count) * r * r * r, np.float32(g / count) * r
        for i in range(a):
            for j in range(b):
                row = (i * s + k) * b + j
                scale, p = r * weight[row % channels], _U(row) * n
                if given:
                    for q in range(n):
                        dx[p + q] = dy[p + q] * scale
                else:
                    for q in range(n):
                        dx[p + q] = dy[p + q] * scale - (x[p + q] - m) * slope - shift


@compiled
def _columns_forward(x, y, mean, var, given, weight, bias, eps, length, first, last):
    """The channels first ... last of x (N, C length)."""
    width, size = _U(mean.size * length), (last - first) * length
    n, begin = _U(x.size) // width, _U(first * length)
    sums, middle = np.zeros(size), np.empty(size, np.float32)
    if not given:
        for i in range(n):
            p = _U(i) * width + begin
            for j in range(size):
                sums[j] += x[p + _U(j)]
        for k in range(first, last):
            mean[k] = sums[(k - first) * length : (k - first + 1) * length].sum() / (n * length)
    for k in range(first, last):
        middle[(k - first) * length : (k - first + 1) * length] = mean[k]
    sums[:] = 0.0
    if not given:
        for i in range(n):
            p = _U(i) * width + begin
            for j in range(size):
                d = x[p + _U(j)] - middle[j]
                sums[j] += d * d
        for k in range(first, last):
            var[k] = sums[(k - first) * length : (k - first + 1) * length].sum() / (n * length)
    scale, shift = np.empty(size, np.float32), np.empty(size, np.float32)
    for k in range(first, last):
        own = slice((k - first) * length, (k - first + 1) * length)
        scale[own], shift[own] = weight[k] / np.sqrt(var[k] + eps), bias[k]
    for i in range(n):
        p = _U(i) * width + begin
        for j in range(size):
            y[p + _U(j)] = (x[p + _U(j)] - middle[j]) * scale[j] + shift[j]


@compiled
def _columns_backward(dy, x, mean, var, given, weight, eps, length, sum_d, sum_du, dx, first, last):
    """Of some channels the sums of dy and dy (x - mean), and dx, unless it is empty."""
    width, size = _U(mean.size * length), (last - first) * length
    n, begin = _U(x.size) // width, _U(first * length)
    sums, products, middle = np.zeros(size), np.zeros(size), np.empty(size, np.float32)
    for k in range(first, last):
        middle[(k - first) * length : (k - first + 1) * length] = mean[k]
    for i in range(n):
        p = _U(i) * width + begin
        for j in range(size):
            d = dy[p + _U(j)]
            sums[j] += d
            products[j] += d * (x[p + _U(j)] - middle[j])
    for k in range(first, last):
        sum_d[k] = sums[(k - first) * length : (k - first + 1) * length].sum()
        sum_du[k] = products[(k - first) * length : (k - first + 1) * length].sum()
    if not dx.size:
        return
    scale, slope, shift = (np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32))
    for k in range(first, last):
        own = slice((k - first) * length, (k - first + 1) * length)
        r = np.float32(1) / np.sqrt(var[k] + eps)
        scale[own] = r * weight[k]
        slope[own] = r * weight[k] * np.float32(sum_du[k] / (n * length)) * r * r
        shift[own] = r * weight[k] * np.float32(sum_d[k] / (n * length))
    for i in range(n):
        p = _U(i) * width + begin
        if given:  # statistics that do not move with x
            for j in range(size):
                dx[p + _U(j)] = dy[p + _U(j)] * scale[j]
            continue
        for j in range(size):
            dx[p + _U(j)] = dy[p + _U(j)] * scale[j] - (x[p + _U(j)] - middle[j]) * slope[j] - shift[j]


def _ones(weight: Any, count: int) -> np.ndarray:
    return np.ones(count, np.float32) if weight is None else weight


def _rows_norm(x: Any, sets: tuple, weight: Any, bias: Any, eps: float, given: Any) -> Any:
    """The forward of rows: cache ends in mean, variance and the count of a set, as the agnostic one's does."""
    x = np.ascontiguousarray(x)
    c, s = x.shape[1], sets[1]
    length = x.size // (x.shape[0] * c)
    columns = sets[2] == 1 and s == c and length < _SHORT
    y = np.empty(x.shape, np.float32)
    # copies of what is given: the compiled loop is one for both, and writes into them where nothing is given
    mean, var = map(np.array, given) if given else (np.empty(s, np.float32), np.empty(s, np.float32))
    w, shift = _ones(weight, c), np.zeros(c, np.float32) if bias is None else bias
    arguments = x.reshape(-1), y.reshape(-1), mean, var, given is not None, w, shift, np.float32(eps)
    if columns:
        in_parts(lambda r: _columns_forward(*arguments, length, r.start, r.stop), _channels(c, x.size))
    else:
        in_parts(lambda r: _rows_forward(*arguments, sets, c, r.start, r.stop), _sets(s, x.size))
    count = None if given is not None else sets[0] * sets[2] * length
    return y, (sets, columns, x, w, weight is not None, bias is not None, np.float32(eps), mean, var, count)


def _sets(s: int, size: int) -> list[slice]:
    return runs(s, max(1, _PART * s // size))


def _channels(c: int, size: int) -> list[slice]:
    """Channels whose columns are wide enough to be met one row after the other."""
    return runs(c, max(64, 4 * _PART * c // size))


def _rows_norm_backward(dy: Any, cache: Any, want_x: bool, want_weight: bool, want_bias: bool) -> Any:
    sets, columns, x, w, has_weight, has_bias, eps, mean, var, count = cache
    n, c = x.shape[:2]
    want_weight, want_bias = want_weight and has_weight, want_bias and has_bias
    given = count is None
    dx = np.empty(x.shape if want_x else 0, np.float32)
    needs_sums = columns or want_weight or want_bias or (want_x and not given)
    lead = 1 if columns else n
    sum_d, sum_du = np.empty((2, lead, c) if needs_sums else (2, 0, c), np.float32)
    arguments = np.ascontiguousarray(dy).reshape(-1), x.reshape(-1), mean, var, given, w, eps
    out = sum_d.reshape(-1), sum_du.reshape(-1), dx.reshape(-1)
    if columns:
        length = x.size // (n * c)
        in_parts(lambda r: _columns_backward(*arguments, length, *out, r.start, r.stop), _channels(c, x.size))
    else:
        in_parts(lambda r: _rows_backward(*arguments, sets, c, *out, r.start, r.stop), _sets(sets[1], x.size))
    dweight = dbias = None
    if want_weight:
        r = np.float32(1.0) / np.sqrt(var + eps)
        if sets[2] > 1:
            r = np.repeat(r, sets[2])
        dweight = np.add.reduce(sum_du * r.reshape(-1, c), axis=0, dtype=np.float64).astype(np.float32)
    if want_bias:
        dbias = np.add.reduce(sum_d, axis=0, dtype=np.float64).astype(np.float32)
    return dx if want_x else None, dweight, dbias


def _is_plain(x: Any, *others: Any) -> bool:
    return x.dtype == np.float32 and x.size > 0 and all(a is None or a.dtype == np.float32 for a in others)


# -- rows with a weight for each element --


@compiled
def _trailing_forward(x, y, mean, r, centred, weight, bias, eps, width, first, last):
    n = _U(width)
    for row in range(first, last):
        p = _U(row) * n
        m = _sum(x, p, n) / np.float32(width) if centred else np.float32(0)
        scale = np.float32(1) / np.sqrt(_sum_of_squares(x, p, n, m) / np.float32(width) + eps)
        mean[row], r[row] = m, scale
        for j in range(n):
            y[p + j] = (x[p + j] - m) * scale * weight[j] + bias[j]


@compiled
def _trailing_backward(dy, x, mean, r, centred, weight, width, dx, dweight, dbias, first, last):
    n = _U(width)
    for row in range(first, last):
        p, m, scale = _U(row) * n, mean[row], r[row]
        if dweight.size:
            for j in range(n):
                dweight[j] += dy[p + j] * ((x[p + j] - m) * scale)
        if dbias.size:
            for j in range(n):
                dbias[j] += dy[p + j]
        if dx.size:
            g, gu = np.float32(0), np.float32(0)
            for j in range(n):
                d = dy[p + j] * weight[j]
                g += d
                gu += d * (x[p + j] - m)
            g = g / np.float32(width) if centred else np.float32(0)
            slope = gu / np.float32(width) * scale * scale
            for j in range(n):
                dx[p + j] = (dy[p + j] * weight[j] - g - (x[p + j] - m) * slope) * scale


def _trailing_norm(x: Any, shape: tuple, weight: Any, bias: Any, eps: float, centred: bool) -> Any:
    x = np.ascontiguousarray(x)
    width = math.prod(shape)
    count = x.size // width
    y, mean, r = np.empty(x.shape, np.float32), np.empty(count, np.float32), np.empty(count, np.float32)
    scale = _ones(weight, width).reshape(-1)
    shift = np.zeros(width, np.float32) if bias is None else bias.reshape(-1)
    arguments = x.reshape(-1), y.reshape(-1), mean, r, centred, scale, shift, np.float32(eps), width
    in_parts(lambda s: _trailing_forward(*arguments, s.start, s.stop), runs(count, max(1, _PART // width)))
    return y, (x, mean, r, centred, weight, bias is not None, shape)


def _trailing_norm_backward(dy: Any, cache: Any, want_x: bool, want_weight: bool, want_bias: bool) -> Any:
    x, mean, r, centred, weight, has_bias, shape = cache
    want_weight, want_bias = want_weight and weight is not None, want_bias and has_bias
    width = math.prod(shape)
    count = x.size // width
    # eight sums of dweight at most, so that neither their memory nor the order of adding depends on the threads
    parts = runs(count, max(1, _PART // width, -(-count // 8)))
    dx = np.empty(x.size if want_x else 0, np.float32)
    sums = [np.zeros((len(parts), width if wanted else 0), np.float32) for wanted in (want_weight, want_bias)]
    arguments = np.ascontiguousarray(dy).reshape(-1), x.reshape(-1), mean, r, centred, _ones(weight, width).reshape(-1)

    def work(i: int) -> None:
        _trailing_backward(*arguments, width, dx, *(s[i] for s in sums), parts[i].start, parts[i].stop)

    in_parts(work, range(len(parts)))
    dweight, dbias = (
        s.sum(axis=0).reshape(shape) if wanted else None
        for s, wanted in zip(sums, (want_weight, want_bias), strict=True)
    )
    return dx.reshape(x.shape) if want_x else None, dweight, dbias


register(
    "numpy",
    "numba",
    Sums(_rows_norm, _rows_norm_backward, _trailing_norm, _trailing_norm_backward, _is_plain),
    "float32: the sets of elements one by one, in the cache",
    "float32: row by row, in the cache",
)
