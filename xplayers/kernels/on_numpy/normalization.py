"""Normalisation with NumPy alone: large blocks of rows over threads, written in place, the output as the workspace.

A row's sum and its sum of squares are dot products, five times as fast as `sum`. Each row is first centred at a mean of
its own; the spread of a set is then put together from those of its rows (Chan, Golub, LeVeque, Updating formulae and a
pairwise algorithm, 1979), so that no digits are lost where the mean is large, and x is read once before the answer.
Where a set's rows lie side by side (instance, group, layer and RMS norm) all is done while they are in the cache.
Declined: half precision, small arrays, rows too short for a broadcast of one number each, what the reference refuses.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xplayers.functional import normalization as F
from xplayers.functional.pair import wants

from ..registry import kernel, worth
from ..threads import in_parts, runs

_LEAST = 1 << 15  # elements below which the calls cost what is saved
_BLOCK = 1 << 20  # elements of a block: two threads that call NumPy more often wait for one another
_WORTH_THREADS = 1 << 18  # elements
_SHORT = 24  # elements of a row below which its broadcasts are slow


def _parts(work: Callable[[slice], None], count: int, size: int, length: int) -> None:
    """work(slice of 0 ... count), rows of `size` elements in all, `length` in each: over threads where it is worth it.

    OpenBLAS takes dot products of more than 10000 elements over threads of its own, which are not to be disturbed; to
    tell it not to costs half a millisecond a call.
    """
    halves = 2 * -(-size // (2 * _BLOCK))  # an even number of blocks
    parts = runs(count, count if size < _WORTH_THREADS else max(1, -(-count // halves)))
    if length <= 10_000:
        in_parts(work, parts)
        return
    for part in parts:
        work(part)


def _is_plain(x: Any, shape: tuple, *others: Any) -> bool:
    """Whether x is a NumPy array of floats with something in it, and the others are of its dtype and of `shape`."""
    return (
        type(x) is np.ndarray
        and x.dtype.char in "fd"
        and x.size > 0
        and all(a is None or (a.dtype == x.dtype and a.shape == shape) for a in others)
    )


# -- rows that have one weight each: batch, instance and group norm --


def _per_row(t: Any, sets: tuple) -> Any:
    """One number a set -> one a row."""
    return np.broadcast_to(t[None, :, None], sets).reshape(-1)


def _rows_norm(x: Any, sets: tuple, weight: Any, bias: Any, eps: float, given: Any = None) -> Any:
    """As functional/normalization.py has it; the cache ends in mean, biased variance and the count of a set."""
    a, s, b = sets
    x = np.ascontiguousarray(x)
    n, c = x.shape[:2]
    rows = x.reshape(n * c, -1)  # (R, L)
    length = rows.shape[1]
    y = np.empty(rows.shape, x.dtype)
    ones = np.ones(length, x.dtype)
    own, squares = np.empty(n * c, x.dtype), np.empty(n * c, x.dtype)  # of each row its mean and squares around it
    mean, var = given or (np.empty(s, x.dtype), np.empty(s, x.dtype))
    w = np.ones(n * c) if weight is None else np.tile(weight, n)
    shift = np.zeros(n * c) if bias is None else np.tile(bias, n)

    def centre(r: slice) -> None:
        np.vecdot(rows[r], ones, out=own[r])
        own[r] /= length
        np.subtract(rows[r], own[r, None], out=y[r])
        np.vecdot(y[r], y[r], out=squares[r])

    def gather(k: slice, r: slice) -> None:
        """Mean and variance of some sets from those of their rows."""
        table = (a, k.stop - k.start, b)
        m = own[r].astype(np.float64).reshape(table)
        mean[k] = m.mean(axis=(0, 2))
        apart = (m - m.mean(axis=(0, 2), keepdims=True)) ** 2
        q = squares[r].astype(np.float64).reshape(table)
        var[k] = q.sum(axis=(0, 2)) / (a * b * length) + apart.mean(axis=(0, 2))

    def coefficients(k: slice, r: slice) -> tuple:
        """y = scale * (the row around its own mean) + move."""
        table = (a, k.stop - k.start, b)
        spread = lambda t: _per_row(t[k].astype(np.float64), table)  # noqa: E731
        scale = 1.0 / np.sqrt(spread(var) + eps) * w[r]
        around = spread(mean) if given else spread(mean) - own[r]
        return scale.astype(x.dtype)[:, None], (shift[r] - scale * around).astype(x.dtype)[:, None]

    def answer(r: slice, scale: Any, move: Any) -> None:
        np.multiply(rows[r] if given else y[r], scale, out=y[r])
        np.add(y[r], move, out=y[r])

    def whole(k: slice) -> None:
        r = slice(k.start * b, k.stop * b)
        if not given:
            centre(r)
            gather(k, r)
        answer(r, *coefficients(k, r))

    every, all_rows = slice(0, s), slice(0, n * c)
    if a == 1 and not given:
        _parts(whole, s, x.size, length)
    else:
        if not given:
            _parts(centre, n * c, x.size, length)
            gather(every, all_rows)
        scale, move = coefficients(every, all_rows)
        _parts(lambda r: answer(r, scale[r], move[r]), n * c, x.size, length)
    count = None if given else a * b * length
    return y.reshape(x.shape), (sets, x, weight, bias is not None, eps, mean, var, count)


def _rows_norm_backward(dy: Any, cache: tuple, want_x: bool, want_weight: bool, want_bias: bool) -> tuple:
    """dx = r (g - m(g) - u r^2 m(g u)) as functional/normalization.py has it, u = x - mean in dx's own memory."""
    sets, x, weight, has_bias, eps, mean, var, count = cache
    want_weight, want_bias = want_weight and weight is not None, want_bias and has_bias
    a, s, b = sets
    n, c = x.shape[:2]
    rows = x.reshape(n * c, -1)
    d = np.ascontiguousarray(dy, x.dtype).reshape(rows.shape)
    length = rows.shape[1]
    moving = want_x and count is not None
    needs_u = want_weight or moving
    dx = np.empty(rows.shape if want_x or needs_u else (0, length), x.dtype)
    sum_d, sum_du = np.zeros(n * c, x.dtype), np.zeros(n * c, x.dtype)
    ones = np.ones(length, x.dtype)
    middle = _per_row(mean, sets)[:, None]
    r_sets = 1.0 / np.sqrt(var.astype(np.float64) + eps)
    r_rows = _per_row(r_sets, sets)
    scale = r_rows if weight is None else r_rows * np.tile(weight, n)
    factor = scale.astype(x.dtype)[:, None]
    idle: list = []

    def sums(r: slice) -> None:
        if want_bias or moving:
            np.vecdot(d[r], ones, out=sum_d[r])
        if needs_u:
            np.subtract(rows[r], middle[r], out=dx[r])
            np.vecdot(d[r], dx[r], out=sum_du[r])

    def coefficients(k: slice, r: slice) -> tuple:
        """dx = factor * d - slope * u - move."""
        table = (a, k.stop - k.start, b)
        over = scale[r] / (r_rows[r] * count)  # the weight's share
        g = (over * sum_d[r]).reshape(table).sum(axis=(0, 2)) * r_sets[k]
        gu = (over * sum_du[r]).reshape(table).sum(axis=(0, 2)) * r_sets[k] ** 3
        return tuple(_per_row(t, table).astype(x.dtype)[:, None] for t in (gu, g))

    def answer(r: slice, slope: Any, move: Any) -> None:
        np.multiply(dx[r], slope, out=dx[r])
        np.add(dx[r], move, out=dx[r])
        try:
            spare = idle.pop()
        except IndexError:
            spare = np.empty((r.stop - r.start, length), x.dtype)
        if len(spare) < r.stop - r.start:
            spare = np.empty((r.stop - r.start, length), x.dtype)
        t = spare[: r.stop - r.start]
        np.multiply(d[r], factor[r], out=t)
        np.subtract(t, dx[r], out=dx[r])
        idle.append(spare)

    def whole(k: slice) -> None:
        r = slice(k.start * b, k.stop * b)
        sums(r)
        answer(r, *coefficients(k, r))

    every, all_rows = slice(0, s), slice(0, n * c)
    if moving and a == 1:
        _parts(whole, s, x.size, length)
    else:
        if needs_u or want_bias:
            _parts(sums, n * c, x.size, length)
        if moving:
            slope, move = coefficients(every, all_rows)
            _parts(lambda r: answer(r, slope[r], move[r]), n * c, x.size, length)
        elif want_x:
            _parts(lambda r: np.multiply(d[r], factor[r], out=dx[r]), n * c, x.size, length)
    dweight = (sum_du * r_rows).reshape(n, c).sum(axis=0).astype(x.dtype) if want_weight else None
    dbias = sum_d.reshape(n, c).sum(axis=0, dtype=np.float64).astype(x.dtype) if want_bias else None
    return dx.reshape(x.shape) if want_x else None, dweight, dbias


def _long_rows(x: Any, *channels: Any) -> bool:
    """(N, C, *) of which a row is long enough, with one number a channel."""
    return (
        type(x) is np.ndarray
        and x.ndim > 2
        and math.prod(x.shape[2:]) >= _SHORT
        and _is_plain(x, x.shape[1:2], *channels)
    )


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
    if training:
        return _long_rows(x, weight, bias)
    return (
        running_mean is not None and running_var is not None and _long_rows(x, weight, bias, running_mean, running_var)
    )


def _five(dy: Any, cache: tuple, *, wanted: Any = None) -> tuple:
    want_x, _, _, want_weight, want_bias = wants(wanted, 5)
    dx, dweight, dbias = _rows_norm_backward(dy, cache, want_x, want_weight, want_bias)
    return dx, None, None, dweight, dbias


_RULE = f"float32 and float64, 32768 elements and more, {_SHORT} and more a channel of a sample"


@kernel("numpy", F.batch_norm_forward, _five, _batch_supports, rule=_RULE)
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
    """Two visits of x, in blocks of rows over threads."""
    if not worth(x.size, _LEAST) or not _batch_supports(x, running_mean, running_var, weight, bias, training):
        return NotImplemented
    given = None if training else (running_mean.copy(), running_var.copy())
    return _rows_norm(x, (x.shape[0], x.shape[1], 1), weight, bias, eps, given)


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
    return use_input_stats and _long_rows(x, weight, bias)


@kernel("numpy", F.instance_norm_forward, _five, _instance_supports, rule=_RULE)
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
    """Some rows at a time, all of their steps while they are in the cache."""
    if not worth(x.size, _LEAST) or not _instance_supports(x, None, None, weight, bias, use_input_stats):
        return NotImplemented
    return _rows_norm(x, (1, x.shape[0] * x.shape[1], 1), weight, bias, eps)


def _group_supports(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> bool:
    return _long_rows(x, weight, bias) and num_groups >= 1 and x.shape[1] % num_groups == 0


def _three(dy: Any, cache: tuple, *, wanted: Any = None) -> tuple:
    return _rows_norm_backward(dy, cache, *wants(wanted, 3))


@kernel("numpy", F.group_norm_forward, _three, _group_supports, rule=_RULE)
def group_norm_forward(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Some groups at a time, all of their steps while they are in the cache."""
    if not worth(x.size, _LEAST) or not _group_supports(x, num_groups, weight, bias):
        return NotImplemented
    return _rows_norm(x, (1, x.shape[0] * num_groups, x.shape[1] // num_groups), weight, bias, eps)


# -- rows that have a weight for each element: layer and RMS norm --


def _trailing_norm(x: Any, shape: tuple, weight: Any, bias: Any, eps: float, centred: bool) -> Any:
    width = math.prod(shape)
    x = np.ascontiguousarray(x)
    rows = x.reshape(-1, width)  # (M, D)
    y = np.empty(rows.shape, x.dtype)
    mean, r = np.zeros(len(rows), x.dtype), np.empty(len(rows), x.dtype)
    ones = np.full(width, 1.0 / width, x.dtype)
    w, add = (None if t is None else t.reshape(-1) for t in (weight, bias))

    def work(k: slice) -> None:
        u, t = rows[k], y[k]
        if centred:
            np.vecdot(u, ones, out=mean[k])
            np.subtract(u, mean[k, None], out=t)
            u = t
        np.vecdot(u, u, out=r[k])
        r[k] *= 1.0 / width
        r[k] += eps
        np.divide(1.0, np.sqrt(r[k]), out=r[k])
        np.multiply(u, r[k, None], out=t)
        if w is not None:
            np.multiply(t, w, out=t)
        if add is not None:
            np.add(t, add, out=t)

    _parts(work, len(rows), x.size, width)
    return y.reshape(x.shape), (x, mean, r, centred, weight, bias is not None, shape)


def _trailing_norm_backward(dy: Any, cache: tuple, want_x: bool, want_weight: bool, want_bias: bool) -> tuple:
    """With u = x - mean, g = dy * weight: dx = r g - r m(g) - u r^3 m(g u), dweight = sum(dy u r), dbias = sum(dy)."""
    x, mean, r, centred, weight, has_bias, shape = cache
    want_weight, want_bias = want_weight and weight is not None, want_bias and has_bias
    width = math.prod(shape)
    rows = x.reshape(-1, width)
    d = np.ascontiguousarray(dy, x.dtype).reshape(rows.shape)
    dx = np.empty(rows.shape, x.dtype)
    w = None if weight is None else weight.reshape(-1)
    share = np.full(width, 1.0 / width, x.dtype)
    sums: dict[int, tuple] = {}  # where a block begins: its sums for dweight and dbias

    def work(k: slice) -> None:
        dk, t = d[k], dx[k]
        dweight = dbias = None
        if want_bias:
            dbias = np.add.reduce(dk, axis=0)
        if want_x or want_weight:
            u = rows[k] - mean[k, None] if centred else rows[k]
        if want_weight:
            np.multiply(u, r[k, None], out=t)
            np.multiply(t, dk, out=t)
            dweight = np.add.reduce(t, axis=0)
        sums[k.start] = dweight, dbias
        if not want_x:
            return
        g = dk
        if w is not None:
            g = np.multiply(dk, w, out=t)
        gu = np.vecdot(g, u)
        gu *= r[k] ** 3
        gu /= width
        slope = gu[:, None]
        u = np.multiply(u, slope, out=u) if centred else u * slope
        if centred:
            np.add(u, (np.vecdot(g, share) * r[k])[:, None], out=u)
        np.multiply(g, r[k, None], out=t)
        np.subtract(t, u, out=t)

    _parts(work, len(rows), x.size, width)
    dweight, dbias = (
        sum(sums[k][i] for k in sorted(sums)).reshape(shape) if wanted else None
        for i, wanted in enumerate((want_weight, want_bias))
    )
    return dx.reshape(x.shape) if want_x else None, dweight, dbias


def _layer_supports(
    x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float | None = 1e-5
) -> bool:
    shape = tuple(normalized_shape)
    return (
        type(x) is np.ndarray
        and bool(shape)
        and x.shape[-len(shape) :] == shape
        and math.prod(shape) >= _SHORT
        and _is_plain(x, shape, weight, bias)
    )


def _layer_backward(dy: Any, cache: tuple, *, wanted: Any = None) -> tuple:
    return _trailing_norm_backward(dy, cache, *wants(wanted, 3))


_ROWS = f"float32 and float64, 32768 elements and more, {_SHORT} and more a row"


@kernel("numpy", F.layer_norm_forward, _layer_backward, _layer_supports, rule=_ROWS)
def layer_norm_forward(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Some rows at a time, all of their steps while they are in the cache."""
    if not worth(x.size, _LEAST) or not _layer_supports(x, normalized_shape, weight, bias):
        return NotImplemented
    return _trailing_norm(x, tuple(normalized_shape), weight, bias, eps, True)


def _rms_supports(x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> bool:
    return _layer_supports(x, normalized_shape, weight)


def _rms_backward(dy: Any, cache: tuple, *, wanted: Any = None) -> tuple:
    want_x, want_weight = wants(wanted, 2)
    return _trailing_norm_backward(dy, cache, want_x, want_weight, False)[:2]


@kernel("numpy", F.rms_norm_forward, _rms_backward, _rms_supports, rule=_ROWS)
def rms_norm_forward(x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """Some rows at a time, all of their steps while they are in the cache."""
    if not worth(x.size, _LEAST) or not _rms_supports(x, normalized_shape, weight):
        return NotImplemented
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return _trailing_norm(x, tuple(normalized_shape), weight, None, eps, False)
