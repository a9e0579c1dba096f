"""Normalisation in float32, compiled: a set of elements is visited while it is in the cache, for its mean, for its
spread around the mean, and for the answer; so that memory is read and written once.

Batch, instance and group norm are one pair over rows of (N C, L), as in functional/normalization.py; layer and RMS norm
are another over rows that have a weight for each element. Sums are those of the agnostic code, mean first; each row's
is taken in float32 and added up in float64. Declined: other dtypes, and what the agnostic code refuses.
"""

import math
from typing import Any

import numpy as np

from xplayers.functional import normalization as agnostic
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs
from .compiling import compiled

__all__: list[str] = []

_PART = 1 << 16  # numbers that are worth a thread
_SHORT = 32  # elements of a row: channels with fewer are turned first, so that a channel lies in one place
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
def _sum_of_products(dy, x, p, n, mean):
    s = np.float32(0)
    for j in range(n):
        s += dy[p + j] * (x[p + j] - mean)
    return s


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
def _rows_sums(dy, x, mean, sets, sum_d, sum_du, first, last):
    """For each row of some sets the sums of dy and of dy (x - mean)."""
    a, s, b = sets
    n = _U(x.size // (a * s * b))
    for k in range(first, last):
        for i in range(a):
            for j in range(b):
                row = (i * s + k) * b + j
                sum_d[row] = _sum(dy, _U(row) * n, n)
                sum_du[row] = _sum_of_products(dy, x, _U(row) * n, n, mean[k])


@compiled
def _rows_backward(dy, x, mean, var, given, weight, eps, sets, channels, sum_d, sum_du, dx, first, last):
    """dx of some sets, from the sums of their rows."""
    a, s, b = sets
    n = _U(x.size // (a * s * b))
    for k in range(first, last):
        r = np.float32(1) / np.sqrt(var[k] + eps)
        g, gu = 0.0, 0.0
        if not given:
            for i in range(a):
                for j in range(b):
                    row = (i * s + k) * b + j
                    g += weight[row % channels] * sum_d[row]
                    gu += weight[row % channels] * sum_du[row]
        count = a * b * n
        slope, shift, m = np.float32(gu / count) * r * r * r, np.float32(g / count) * r, mean[k]
        for i in range(a):
            for j in range(b):
                row = (i * s + k) * b + j
                scale, p = r * weight[row % channels], _U(row) * n
                if given:
                    for q in range(n):
                        dx[p + q] = dy[p + q] * scale
                    continue
                for q in range(n):
                    dx[p + q] = dy[p + q] * scale - (x[p + q] - m) * slope - shift


def _ones(weight: Any, count: int) -> np.ndarray:
    return np.ones(count, np.float32) if weight is None else weight


def _rows_norm(x: Any, sets: tuple, weight: Any, bias: Any, eps: float, given: Any = None) -> Any:
    """The forward of rows: cache ends in mean, variance and the count of a set, as the agnostic one's does."""
    shape = x.shape
    turned = sets[0] > 1 and math.prod(shape[2:]) < _SHORT
    if turned:
        x, sets = _turned(x), (1, shape[1], 1)
    x = np.ascontiguousarray(x)
    c, s = x.shape[1], sets[1]
    y = np.empty(x.shape, np.float32)
    # copies of what is given: the compiled loop is one for both, and writes into them where nothing is given
    mean, var = map(np.array, given) if given else (np.empty(s, np.float32), np.empty(s, np.float32))
    shift = np.zeros(c, np.float32) if bias is None else bias
    numbers = np.float32(eps), sets, c
    arguments = x.reshape(-1), y.reshape(-1), mean, var, given is not None, _ones(weight, c), shift
    in_parts(lambda r: _rows_forward(*arguments, *numbers, r.start, r.stop), runs(s, max(1, _PART * s // x.size)))
    count = None if given is not None else sets[0] * sets[2] * math.prod(x.shape[2:])
    y = _back(y, shape) if turned else y
    return y, (sets, x, weight, bias is not None, eps, shape if turned else None, mean, var, count)


def _turned(x: np.ndarray) -> np.ndarray:
    """(N, C, *) -> (1, C, N *): the elements of a channel side by side."""
    return np.ascontiguousarray(x.swapaxes(0, 1)).reshape(1, x.shape[1], -1)


def _back(x: np.ndarray, shape: tuple) -> np.ndarray:
    """The inverse of `_turned`."""
    return np.ascontiguousarray(x.reshape(shape[1], shape[0], *shape[2:]).swapaxes(0, 1))


def _rows_norm_backward(dy: Any, cache: Any, want_x: bool, want_weight: bool, want_bias: bool) -> Any:
    sets, x, weight, has_bias, eps, shape, mean, var, count = cache
    dy = dy if shape is None else _turned(dy)
    n, c = x.shape[:2]
    want_weight, want_bias = want_weight and weight is not None, want_bias and has_bias
    d, flat = np.ascontiguousarray(dy).reshape(-1), x.reshape(-1)
    parts = runs(sets[1], max(1, _PART * sets[1] // x.size))
    sum_d, sum_du = np.empty((n, c), np.float32), np.empty((n, c), np.float32)
    given, scale = count is None, _ones(weight, c)
    dx = np.empty(x.shape, np.float32) if want_x else None
    sums = sum_d.reshape(-1), sum_du.reshape(-1)
    needs_sums = want_weight or want_bias or (want_x and not given)

    def work(r: slice) -> None:
        if needs_sums:
            _rows_sums(d, flat, mean, sets, *sums, r.start, r.stop)
        if dx is not None:
            numbers = given, scale, np.float32(eps), sets, c
            _rows_backward(d, flat, mean, var, *numbers, *sums, dx.reshape(-1), r.start, r.stop)

    in_parts(work, parts)
    if dx is not None and shape is not None:
        dx = _back(dx, shape)
    dweight = dbias = None
    if want_weight:
        r = (1.0 / np.sqrt(var + np.float32(eps))).astype(np.float32)
        rows = np.broadcast_to(r[:, None], (sets[1], sets[2])).reshape(1 if sets[0] > 1 else n, c)
        dweight = (sum_du * rows).sum(axis=0, dtype=np.float64).astype(np.float32)
    if want_bias:
        dbias = sum_d.sum(axis=0, dtype=np.float64).astype(np.float32)
    return dx, dweight, dbias


def _is_plain(x: Any, *others: Any) -> bool:
    return x.dtype == np.float32 and x.size > 0 and all(a is None or a.dtype == np.float32 for a in others)


def _batch_supports(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> bool:
    """float32; where the agnostic function refuses, it is asked."""
    if x.ndim < 2 or not _is_plain(x, weight, bias):
        return False
    if training:
        return x.size > x.shape[1]
    return running_mean is not None and running_var is not None and _is_plain(x, running_mean, running_var)


def _five(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    want_x, _, _, want_weight, want_bias = wants(wanted, 5)
    dx, dweight, dbias = _rows_norm_backward(dy, cache, want_x, want_weight, want_bias)
    return dx, None, None, dweight, dbias


_RULE = "float32: the sets of elements one by one, in the cache"


@kernel("numpy", agnostic.batch_norm_forward, _five, _batch_supports, means="numba", rule=_RULE)
def batch_norm_forward(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """A channel at a time."""
    if not _batch_supports(x, running_mean, running_var, weight, bias, training):
        return NotImplemented
    sets = (x.shape[0], x.shape[1], 1)
    return _rows_norm(x, sets, weight, bias, eps, None if training else (running_mean, running_var))


def _instance_supports(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> bool:
    return x.ndim > 2 and _is_plain(x, weight, bias) and use_input_stats and math.prod(x.shape[2:]) > 1


@kernel("numpy", agnostic.instance_norm_forward, _five, _instance_supports, means="numba", rule=_RULE)
def instance_norm_forward(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """A channel of a sample at a time."""
    if not _instance_supports(x, running_mean, running_var, weight, bias, use_input_stats):
        return NotImplemented
    return _rows_norm(x, (1, x.shape[0] * x.shape[1], 1), weight, bias, eps)


def _group_supports(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> bool:
    if x.ndim < 2 or not _is_plain(x, weight, bias) or num_groups < 1 or x.shape[1] % num_groups:
        return False
    return x.size > num_groups


def _three(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    return _rows_norm_backward(dy, cache, *wants(wanted, 3))


@kernel("numpy", agnostic.group_norm_forward, _three, _group_supports, means="numba", rule=_RULE)
def group_norm_forward(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """A group of a sample at a time."""
    if not _group_supports(x, num_groups, weight, bias):
        return NotImplemented
    sets = (1, x.shape[0] * num_groups, x.shape[1] // num_groups)
    return _rows_norm(x, sets, weight, bias, eps)


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


def _trailing_supports(x: Any, normalized_shape: Any, weight: Any = None, *rest: Any, **named: Any) -> bool:
    shape = tuple(normalized_shape)
    if not shape or tuple(x.shape[-len(shape) :]) != shape:
        return False
    return _is_plain(x, weight) and (weight is None or tuple(weight.shape) == shape)


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


def _layer_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    return _trailing_norm_backward(dy, cache, *wants(wanted, 3))


def _layer_supports(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> bool:
    return _trailing_supports(x, normalized_shape, weight) and _trailing_supports(x, normalized_shape, bias)


_ROWS = "float32: row by row, in the cache"


@kernel("numpy", agnostic.layer_norm_forward, _layer_backward, _layer_supports, means="numba", rule=_ROWS)
def layer_norm_forward(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """A row at a time."""
    if not _layer_supports(x, normalized_shape, weight, bias):
        return NotImplemented
    return _trailing_norm(x, tuple(normalized_shape), weight, bias, eps, True)


def _rms_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    want_x, want_weight = wants(wanted, 2)
    return _trailing_norm_backward(dy, cache, want_x, want_weight, False)[:2]


@kernel("numpy", agnostic.rms_norm_forward, _rms_backward, _trailing_supports, means="numba", rule=_ROWS)
def rms_norm_forward(x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """A row at a time."""
    if not _trailing_supports(x, normalized_shape, weight):
        return NotImplemented
    eps = float(np.finfo(np.float32).eps) if eps is None else eps
    return _trailing_norm(x, tuple(normalized_shape), weight, None, eps, False)
