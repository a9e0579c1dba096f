"""Normalisation with NumPy alone: few calls on large blocks, in place, the output as the workspace.

A row's sum is a product with ones and its sum of squares a dot product, five times as fast as `sum`; a block is a
number of whole sets (the channels x[:, k] of batch norm), so that statistics and answer are one visit of few calls.
Large arrays whose means are small beside their spreads (looked at in every block) are not centred first: the sums are
those of x, and y = a x + b and dx = c (dy + p x + q) are formed in place. All else is centred, as the reference does.
Batch norm over short rows goes by columns: x as (N, C L), statistics down the columns, coefficients repeated L times.
Declined: half precision, small arrays, short rows but batch norm's, what the reference refuses.
"""

import math
from typing import Any

import numpy as np

from ..normalizations import Sums, register
from ..threads import runs
from .broadcasts import over_rows

__all__: list[str] = []

_LEAST = 1 << 13  # elements below which the calls cost what is saved
_LARGE = 1 << 17  # elements from which a pass costs more than a look at the statistics
_BLOCK = 1 << 20  # elements of a block: two threads that call NumPy more often wait for one another
_SHORT = 24  # elements of a row below which its broadcasts are slow
_COLUMNS = 200  # elements of batch norm's rows below which columns are faster
_LEAN = 4.0  # mean^2 / variance up to which sums around 0 have the digits of those around the mean


def _is_plain(x: Any, *others: Any) -> bool:
    """A NumPy array of float32 or float64 with something in it, the others of its dtype."""
    return (
        type(x) is np.ndarray
        and x.dtype.char in "fd"
        and x.size > 0
        and all(t is None or t.dtype == x.dtype for t in others)
    )


def _blocks(count: int, size: int) -> list[slice]:
    """0 ... count in an even number of blocks; `size` elements in all."""
    halves = 2 * -(-size // (2 * _BLOCK))
    return runs(count, count if size < _LARGE else max(1, -(-count // halves)))


def _column(t: Any, dtype: Any) -> Any:
    return t.astype(dtype).reshape(-1, 1)


# -- rows that have one weight each: batch, instance and group norm --


def _is_lean(mean: Any, var: Any) -> bool:
    """Whether no mean is large beside its spread; not where something is NaN or infinite."""
    spread = _LEAN * var - mean * mean
    return bool((spread >= 0).all()) and bool(spread @ spread < math.inf)


def _per_row(t: Any, fill: float, sets: tuple, c: int) -> Any:
    """One number a channel, or `fill` -> one a row, (s, b)."""
    a, s, b = sets
    if t is None:
        return np.full((s, b), fill)
    if a > 1:
        return t[:, None]
    rows = np.empty((s * b // c, c), t.dtype)
    rows[...] = t
    return rows.reshape(s, b)


def _rows_norm(x: Any, sets: tuple, weight: Any, bias: Any, eps: float, given: Any) -> Any:
    """As functional/normalization.py has it; the cache ends in mean, biased variance and the count of a set."""
    x = np.ascontiguousarray(x)
    a, s, b = sets
    n, c = x.shape[:2]
    length = x.size // (n * c)
    if s == c and b == 1 and length < _COLUMNS:
        return _columns_norm(x, weight, bias, eps, given)
    rows = x.reshape(a, s * b, length)
    y = np.empty(rows.shape, x.dtype)
    ones, count = np.ones(length, x.dtype), a * b * length
    mean, var = [t.copy() for t in given] if given else (np.empty(s, x.dtype), np.empty(s, x.dtype))
    w, shift = _per_row(weight, 1.0, sets, c), _per_row(bias, 0.0, sets, c)
    lean = x.size >= _LARGE and bool(np.isfinite(w).all() and np.isfinite(shift).all())

    def over_sets(t: Any, k: slice) -> Any:
        """One number a row, (a, rows) -> the means over the sets k."""
        return np.add.reduce(t.reshape(a, k.stop - k.start, b), axis=(0, 2), dtype=np.float64) / count

    def work(k: slice) -> None:
        r = slice(k.start * b, k.stop * b)
        u, out = rows[:, r], y[:, r]
        if given:
            m, v = mean[k].astype(np.float64), var[k].astype(np.float64)
        else:
            m = over_sets(u @ ones, k)
            v = over_sets(np.vecdot(u, u), k) - m * m if lean else m
        near = lean and _is_lean(m, v)
        if not near:
            u = np.subtract(u, _column(np.repeat(m, b), x.dtype), out=out)
        if not given:
            v = v if near else over_sets(np.vecdot(u, u), k)
            mean[k], var[k] = m, v
        scale = (1.0 / np.sqrt(v + eps))[:, None] * w[k]  # (k, b)
        np.multiply(u, _column(scale, x.dtype), out=out)
        if near or bias is not None:
            np.add(out, _column(shift[k] - m[:, None] * scale if near else shift[k], x.dtype), out=out)

    with over_rows(x.size, length) as over:
        over(work, _blocks(s, x.size))
    cache = sets, x, w, weight is not None, bias is not None, eps, lean, mean, var, None if given else count
    return y.reshape(x.shape), cache


def _rows_norm_backward(dy: Any, cache: tuple, want_x: bool, want_weight: bool, want_bias: bool) -> tuple:
    """dx = r (g - m(g) - u r^2 m(g u)) as functional/normalization.py has it, u = x - mean in dx's own memory."""
    if len(cache) == 9:
        return _columns_norm_backward(dy, cache, want_x, want_weight, want_bias)
    sets, x, w, has_weight, has_bias, eps, lean, mean, var, count = cache
    want_weight, want_bias = want_weight and has_weight, want_bias and has_bias
    a, s, b = sets
    c = x.shape[1]
    rows = x.reshape(a, s * b, -1)
    d = np.ascontiguousarray(dy, x.dtype).reshape(rows.shape)
    moving = want_x and count is not None
    dx = np.empty(rows.shape, x.dtype)
    ones, sums = np.ones(rows.shape[2], x.dtype), np.empty((2, s, b))

    def work(k: slice) -> None:
        r = slice(k.start * b, k.stop * b)
        u, g, out, n = rows[:, r], d[:, r], dx[:, r], k.stop - k.start
        m, v = mean[k].astype(np.float64), var[k].astype(np.float64)
        rstd = 1.0 / np.sqrt(v + eps)
        scale = rstd[:, None] * w[k]  # (k, b)
        near = lean and _is_lean(m, v)
        if moving or want_weight or want_bias:
            if not near:
                u = np.subtract(u, _column(np.repeat(m, b), x.dtype), out=out)
            t = np.empty((2, a, n * b), x.dtype)
            np.matmul(g, ones, out=t[0])
            np.vecdot(g, u, out=t[1])
            t = np.add.reduce(t, axis=1, dtype=np.float64).reshape(2, n, b)
            if near:
                t[1] -= m[:, None] * t[0]
            t[1] *= rstd[:, None]
            sums[:, k] = t  # sum(dy), sum(dy h)
        if moving:  # dx = scale dy + slope u + move
            move, slope = np.add.reduce(t * scale, axis=2) * (-1.0 / count)
            slope *= rstd
            if near:
                move -= slope * m
            _combine(g, u, scale, slope, move, out, lean)
        elif want_x:
            np.multiply(g, _column(scale, x.dtype), out=out)

    with over_rows(x.size, rows.shape[2]) as over:
        over(work, _blocks(s, x.size))
    dbias, dweight = np.add.reduce(sums.reshape(2, -1, c), axis=1).astype(x.dtype)
    return dx.reshape(x.shape) if want_x else None, dweight if want_weight else None, dbias if want_bias else None


def _combine(g: Any, u: Any, scale: Any, slope: Any, move: Any, out: Any, lean: bool) -> None:
    """out = scale g + slope u + move, in place where no scale is 0 or far below the others; u may be out."""
    number, b = out.dtype, scale.shape[1]
    if lean and scale.all():
        over, moved = slope[:, None] / scale, move[:, None] / scale
        if max(np.abs(over).max(), np.abs(moved).max()) < 1e6:
            np.multiply(u, _column(over, number), out=out)
            np.add(out, g, out=out)
            np.add(out, _column(moved, number), out=out)
            np.multiply(out, _column(scale, number), out=out)
            return
    np.multiply(u, _column(np.repeat(slope, b), number), out=out)
    np.add(out, _column(np.repeat(move, b), number), out=out)
    np.add(out, g * _column(scale, number), out=out)


# -- batch norm over short rows: columns --


def _folded(t: Any, c: int) -> Any:
    """(..., parts, C L) -> the sums (..., C)."""
    return np.add.reduce(t.reshape(*t.shape[:-1], c, -1), axis=(-3, -1), dtype=np.float64)


def _columns_norm(x: Any, weight: Any, bias: Any, eps: float, given: Any) -> Any:
    n, c = x.shape[:2]
    rows = x.reshape(n, -1)  # (N, C L)
    width = rows.shape[1]
    parts = runs(n, max(1, _BLOCK // width))
    y, lead, sums = np.empty(rows.shape, x.dtype), np.ones(n, x.dtype), np.empty((len(parts), width), x.dtype)
    spread = lambda t: t.repeat(width // c)  # noqa: E731
    count, every = x.size // c, range(len(parts))

    def total(i: int) -> None:
        np.matmul(lead[parts[i]], rows[parts[i]], out=sums[i])

    def squares(i: int) -> None:
        p = parts[i]
        u = np.subtract(rows[p], middle, out=y[p])
        np.matmul(lead[p], u * u, out=sums[i])

    def answer(i: int) -> None:
        p = parts[i]
        np.multiply(np.subtract(rows[p], middle, out=y[p]) if given else y[p], scale, out=y[p])
        if shift is not None:
            np.add(y[p], shift, out=y[p])

    with over_rows(x.size, width) as over:
        if given:
            mean, var = (t.copy() for t in given)
            middle = spread(mean)
        else:
            over(total, every)
            mean = (_folded(sums, c) / count).astype(x.dtype)
            middle = spread(mean)
            over(squares, every)
            var = (_folded(sums, c) / count).astype(x.dtype)
        rstd = 1.0 / np.sqrt(var + x.dtype.type(eps))
        scale, shift = spread(rstd if weight is None else rstd * weight), None if bias is None else spread(bias)
        over(answer, every)
    return y.reshape(x.shape), (x, weight, bias is not None, rstd, middle, scale, mean, var, None if given else count)


def _columns_norm_backward(dy: Any, cache: tuple, want_x: bool, want_weight: bool, want_bias: bool) -> tuple:
    x, weight, has_bias, rstd, middle, scale, _, _, count = cache
    want_weight, want_bias = want_weight and weight is not None, want_bias and has_bias
    n, c = x.shape[:2]
    rows = x.reshape(n, -1)
    width = rows.shape[1]
    d = np.ascontiguousarray(dy, x.dtype).reshape(n, width)
    parts = runs(n, max(1, _BLOCK // width))
    dx, lead, sums = np.empty(rows.shape, x.dtype), np.ones(n, x.dtype), np.empty((2, len(parts), width), x.dtype)
    moving = want_x and count is not None

    def totals(i: int) -> None:
        p = parts[i]
        u = np.subtract(rows[p], middle, out=dx[p])
        np.matmul(lead[p], d[p], out=sums[0, i])
        np.matmul(lead[p], u * d[p], out=sums[1, i])

    def answer(i: int) -> None:
        p = parts[i]
        out = dx[p]
        if not moving:
            np.multiply(d[p], scale, out=out)
            return
        np.multiply(out, slope, out=out)
        np.add(out, move, out=out)
        np.add(out, d[p] * scale, out=out)

    dbias: Any = None
    dweight: Any = None
    with over_rows(x.size, width) as over:
        if moving or want_weight or want_bias:
            over(totals, range(len(parts)))
            dbias, dweight = _folded(sums, c)
            dweight *= rstd
        if moving:
            factor = (rstd if weight is None else rstd * weight) * (-1.0 / count)
            slope, move = (t.astype(x.dtype).repeat(width // c) for t in (factor * rstd * dweight, factor * dbias))
        if want_x:
            over(answer, range(len(parts)))
    return (
        dx.reshape(x.shape) if want_x else None,
        dweight.astype(x.dtype) if want_weight else None,
        dbias.astype(x.dtype) if want_bias else None,
    )


# -- rows that have a weight for each element: layer and RMS norm --


def _trailing_norm(x: Any, shape: tuple, weight: Any, bias: Any, eps: float, centred: bool) -> Any:
    width = math.prod(shape)
    x = np.ascontiguousarray(x)
    rows = x.reshape(-1, width)  # (M, D)
    y = np.empty(rows.shape, x.dtype)
    mean, r = np.empty(len(rows), x.dtype), np.empty(len(rows), x.dtype)
    share, number = np.full(width, 1.0 / width, x.dtype), x.dtype.type
    w, add = (None if t is None else t.reshape(-1) for t in (weight, bias))

    def work(k: slice) -> None:
        u, out = rows[k], y[k]
        if centred:
            np.matmul(u, share, out=mean[k])
            u = np.subtract(u, mean[k, None], out=out)
        var = np.vecdot(u, u)
        var *= number(1.0 / width)
        var += number(eps)
        np.divide(number(1.0), np.sqrt(var, out=var), out=r[k])
        np.multiply(u, r[k, None], out=out)
        if w is not None:
            np.multiply(out, w, out=out)
        if add is not None:
            np.add(out, add, out=out)

    with over_rows(x.size, width) as over:
        over(work, _blocks(len(rows), x.size))
    return y.reshape(x.shape), (x, mean, r, centred, weight, bias is not None, shape)


def _trailing_norm_backward(dy: Any, cache: tuple, want_x: bool, want_weight: bool, want_bias: bool) -> tuple:
    """With u = x - mean, g = dy * weight: dx = r g - r m(g) - r^3 m(g u) u, dweight = sum(dy u r), dbias = sum(dy)."""
    x, mean, r, centred, weight, has_bias, shape = cache
    want_weight, want_bias = want_weight and weight is not None, want_bias and has_bias
    width = math.prod(shape)
    rows = x.reshape(-1, width)
    d = np.ascontiguousarray(dy, x.dtype).reshape(rows.shape)
    dx = np.empty(rows.shape, x.dtype)
    w = None if weight is None else weight.reshape(-1)
    share = np.full(width, 1.0 / width, x.dtype) if w is None else w * x.dtype.type(1.0 / width)
    parts = _blocks(len(rows), x.size)
    sums = np.empty((2, len(parts), width), x.dtype)
    ones = np.ones(len(rows), x.dtype)

    def work(i: int) -> None:
        k = parts[i]
        u, dk, out, rk = rows[k], d[k], dx[k], r[k]
        if want_bias:
            np.matmul(ones[k], dk, out=sums[1, i])
        if not (want_x or want_weight):
            return
        if centred:
            u = np.subtract(u, mean[k, None], out=out)
        t = u * dk
        if want_weight:
            np.matmul(rk, t, out=sums[0, i])
        if not want_x:
            return
        slope = t @ share
        slope *= rk
        slope *= rk
        slope *= rk
        np.multiply(u, slope[:, None], out=out)
        if centred:
            np.add(out, (dk @ share * rk)[:, None], out=out)
        if w is None:
            np.multiply(dk, rk[:, None], out=t)
        else:
            np.multiply(dk, w, out=t)
            np.multiply(t, rk[:, None], out=t)
        np.subtract(t, out, out=out)

    with over_rows(x.size, width) as over:
        over(work, range(len(parts)))
    dweight, dbias = (
        np.add.reduce(t, axis=0).reshape(shape) if wanted else None
        for t, wanted in zip(sums, (want_weight, want_bias), strict=True)
    )
    return dx.reshape(x.shape) if want_x else None, dweight, dbias


register(
    "numpy",
    "numpy",
    Sums(
        _rows_norm,
        _rows_norm_backward,
        _trailing_norm,
        _trailing_norm_backward,
        _is_plain,
        least=_LEAST,
        shortest=_SHORT,
        shortest_trailing=_SHORT,
    ),
    f"float32 and float64, {_LEAST} elements and more, {_SHORT} and more a channel of a sample but in batch norm",
    f"float32 and float64, {_LEAST} elements and more, {_SHORT} and more a row",
)
