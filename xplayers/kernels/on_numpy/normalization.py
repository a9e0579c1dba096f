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
from ..threads import even_runs
from .broadcasts import WORTH_THREADS, ones, over_rows

__all__: list[str] = []

_LEAST = 1 << 13  # elements below which the calls cost what is saved
_LARGE = 1 << 17  # elements from which a pass costs more than a look at the statistics
_BLOCK = 1 << 20  # elements of a block: two threads that call NumPy more often wait for one another
_BLOCK_OF_FOUR = 3 << 17  # where a block is of four arrays
_TILED = 4096  # elements of a row that is met by another one
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


def _blocks(count: int, size: int, block: int) -> list[slice]:
    """0 ... count in an even number of blocks where threads are worth it; `size` elements in all."""
    return [slice(0, count)] if size < WORTH_THREADS else even_runs(count, size, block)


# -- rows that have one weight each: batch, instance and group norm --


def _is_lean(mean: Any, var: Any) -> bool:
    """Whether no mean is large beside its spread; not where something is NaN or infinite."""
    spread = _LEAN * var - mean * mean
    return bool(spread.min() >= 0) and bool(spread @ spread < math.inf)


def _per_row(t: Any, sets: tuple, c: int) -> Any:
    """One number a channel, (C,), or None -> one a row, (s, b) of float64."""
    if t is None:
        return None
    rows = np.empty((sets[1] * sets[2] // c, c))
    rows[...] = t
    return rows.reshape(sets[1:])


def _over_sets(t: Any) -> Any:
    """(a, k) -> the sums over a, of float64."""
    t = t.astype(np.float64)
    return t[0] if len(t) == 1 else ones(len(t), "d") @ t


def _each(change: Any, u: Any, t: Any, out: Any) -> None:
    """change(u, t, out), u (a, k, *) and t (k,) or (k, r): a number for a row or for each of its r equal parts."""
    shape = (len(u), t.size, -1)
    change(u.reshape(shape), t.astype(u.dtype).reshape(-1, 1), out=out.reshape(shape))


def _rows_norm(x: Any, sets: tuple, weight: Any, bias: Any, eps: float, given: Any) -> Any:
    """As functional/normalization.py has it; the cache ends in mean, biased variance and the count of a set."""
    x = np.ascontiguousarray(x)
    a, s, b = sets
    n, c = x.shape[:2]
    length = x.size // (n * c)
    if s == c and b == 1 and length < _COLUMNS:
        return _columns_norm(x, weight, bias, eps, given)
    rows, count = x.reshape(a, s, b * length), a * b * length
    y, unit = np.empty(rows.shape, x.dtype), ones(b * length, x.dtype.char)
    mean, var = [t.copy() for t in given] if given else np.empty((2, s), x.dtype)
    w, shift = _per_row(weight, sets, c), _per_row(bias, sets, c)
    lean = x.size >= _LARGE and all(t is None or bool(np.isfinite(t).all()) for t in (w, shift))

    def work(k: slice) -> None:
        u, out = rows[:, k], y[:, k]
        if given:
            m, v = mean[k].astype(np.float64), var[k].astype(np.float64)
        else:
            m = _over_sets(u @ unit) / count
            v = _over_sets(np.vecdot(u, u)) / count - m * m if lean else m
        near = lean and _is_lean(m, v)
        if not near:
            _each(np.subtract, u, m, out)
            u = out
        if not given:
            v = v if near else _over_sets(np.vecdot(u, u)) / count
            mean[k], var[k] = m, v
        scale = (1.0 / np.sqrt(v + eps))[:, None]  # (k, 1) or (k, b)
        scale = scale if w is None else scale * w[k]
        _each(np.multiply, u, scale, out)
        if near:
            move = m[:, None] * scale
            _each(np.subtract, out, move if shift is None else move - shift[k], out)
        elif shift is not None:
            _each(np.add, out, shift[k], out)

    with over_rows(x.size, length) as over:
        over(work, _blocks(s, x.size, _BLOCK))
    return y.reshape(x.shape), (sets, x, w, bias is not None, eps, lean, mean, var, None if given else count)


def _rows_norm_backward(dy: Any, cache: tuple, want_x: bool, want_weight: bool, want_bias: bool) -> tuple:
    """dx = r (g - m(g) - u r^2 m(g u)) as functional/normalization.py has it, u = x - mean in dx's own memory."""
    if len(cache) == 8:
        return _columns_norm_backward(dy, cache, want_x, want_weight, want_bias)
    sets, x, w, has_bias, eps, lean, mean, var, count = cache
    want_weight, want_bias = want_weight and w is not None, want_bias and has_bias
    a, s, b = sets
    c = x.shape[1]
    rows = x.reshape(a, s, -1)
    d = np.ascontiguousarray(dy, x.dtype).reshape(rows.shape)
    moving = want_x and count is not None
    dx, sums = np.empty(rows.shape, x.dtype), np.empty((2, s, b))
    length = rows.shape[2] // b
    unit = ones(length, x.dtype.char)

    def work(k: slice) -> None:
        u, g, out, n = rows[:, k], d[:, k], dx[:, k], k.stop - k.start
        m, v = mean[k].astype(np.float64), var[k].astype(np.float64)
        rstd = 1.0 / np.sqrt(v + eps)
        near = lean and _is_lean(m, v)
        if moving or want_weight or want_bias:
            if not near:
                _each(np.subtract, u, m, out)
                u = out
            parts = (a, n * b, length)
            t = sums[:, k]  # sum(dy), sum(dy u), and then sum(dy h)
            t[0] = _over_sets(g.reshape(parts) @ unit).reshape(n, b)
            t[1] = _over_sets(np.vecdot(g.reshape(parts), u.reshape(parts))).reshape(n, b)
            if near:
                t[1] -= m[:, None] * t[0]
            t[1] *= rstd[:, None]
        scale = rstd[:, None] if w is None else rstd[:, None] * w[k]  # (k, 1) or (k, b)
        if not moving:
            if want_x:
                _each(np.multiply, g, scale, out)
        elif w is None or b == 1:  # dx = scale (dy - move - slope u)
            move, slope = np.add.reduce(t, axis=2) / count
            slope *= rstd
            _each(np.multiply, u, slope, out)
            np.subtract(g, out, out=out)
            _each(np.subtract, out, move - slope * m if near else move, out)
            _each(np.multiply, out, scale, out)
        else:  # dx = scale dy + slope u + move
            move, slope = np.add.reduce(t * scale, axis=2) / -count
            slope *= rstd
            _combine(g, u, scale, slope, move - slope * m if near else move, out, lean)

    with over_rows(x.size, length) as over:
        over(work, _blocks(s, x.size, _BLOCK))
    dbias, dweight = np.add.reduce(sums.reshape(2, -1, c), axis=1).astype(x.dtype)
    return dx.reshape(x.shape) if want_x else None, dweight if want_weight else None, dbias if want_bias else None


def _combine(g: Any, u: Any, scale: Any, slope: Any, move: Any, out: Any, lean: bool) -> None:
    """out = scale g + slope u + move, in place where no scale is 0 or far below the others; u may be out."""
    if lean and scale.all():
        over, moved = slope[:, None] / scale, move[:, None] / scale
        if max(np.abs(over).max(), np.abs(moved).max()) < 1e6:
            _each(np.multiply, u, over, out)
            np.add(out, g, out=out)
            _each(np.add, out, moved, out)
            _each(np.multiply, out, scale, out)
            return
    _each(np.multiply, u, slope, out)
    _each(np.add, out, move, out)
    t = np.empty(g.shape, g.dtype)
    _each(np.multiply, g, scale, t)
    np.add(out, t, out=out)


# -- batch norm over short rows: columns --


def _folded(sums: Any, c: int) -> Any:
    """(..., parts, C L) -> the sums (..., C)."""
    t = np.add.reduce(sums, axis=-2) if sums.shape[-2] > 1 else sums[..., 0, :]
    length = t.shape[-1] // c
    return t if length == 1 else t.reshape(*t.shape[:-1], c, length) @ ones(length, t.dtype.char)


def _columns_norm(x: Any, weight: Any, bias: Any, eps: float, given: Any) -> Any:
    n, c = x.shape[:2]
    rows = x.reshape(n, -1)  # (N, C L)
    width = rows.shape[1]
    parts = _blocks(n, x.size, _BLOCK)
    y, lead, sums = np.empty(rows.shape, x.dtype), ones(n, x.dtype.char), np.empty((len(parts), width), x.dtype)
    spread = lambda t: t if width == c else t.repeat(width // c)  # noqa: E731
    count, every, number = x.size // c, range(len(parts)), x.dtype.type

    def total(i: int) -> None:
        np.matmul(lead[parts[i]], rows[parts[i]], out=sums[i])

    def squares(i: int) -> None:
        p = parts[i]
        u = np.subtract(rows[p], middle, out=y[p])
        np.matmul(lead[p], u * u, out=sums[i])

    def answer(i: int) -> None:
        p = parts[i]
        out = y[p]
        np.multiply(np.subtract(rows[p], middle, out=out) if given else out, scale, out=out)
        if shift is not None:
            np.add(out, shift, out=out)

    with over_rows(x.size, width) as over:
        if given:
            mean, var = (t.copy() for t in given)
            middle = spread(mean)
        else:
            over(total, every)
            mean = _folded(sums, c) * number(1.0 / count)
            middle = spread(mean)
            over(squares, every)
            var = _folded(sums, c) * number(1.0 / count)
        rstd = number(1.0) / np.sqrt(var + number(eps))
        scale, shift = spread(rstd if weight is None else rstd * weight), None if bias is None else spread(bias)
        over(answer, every)
    return y.reshape(x.shape), (x, weight, bias is not None, rstd, scale, mean, var, None if given else count)


def _columns_norm_backward(dy: Any, cache: tuple, want_x: bool, want_weight: bool, want_bias: bool) -> tuple:
    """dx = scale (dy - move - slope u)."""
    x, weight, has_bias, rstd, scale, mean, _, count = cache
    want_weight, want_bias = want_weight and weight is not None, want_bias and has_bias
    n, c = x.shape[:2]
    rows = x.reshape(n, -1)
    width = rows.shape[1]
    d = np.ascontiguousarray(dy, x.dtype).reshape(n, width)
    parts = _blocks(n, x.size, _BLOCK)
    dx, lead = np.empty(rows.shape, x.dtype), ones(n, x.dtype.char)
    sums = np.empty((2, len(parts), width), x.dtype)
    spread = lambda t: t if width == c else t.repeat(width // c)  # noqa: E731
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
        np.subtract(d[p], out, out=out)
        np.subtract(out, move, out=out)
        np.multiply(out, scale, out=out)

    dbias: Any = None
    dweight: Any = None
    with over_rows(x.size, width) as over:
        if moving or want_weight or want_bias:
            middle = spread(mean)
            over(totals, range(len(parts)))
            dbias, dweight = _folded(sums, c)
            dweight = dweight * rstd
        if moving:
            share = x.dtype.type(1.0 / count)
            slope, move = spread(dweight * (rstd * share)), spread(dbias * share)
        if want_x:
            over(answer, range(len(parts)))
    return dx.reshape(x.shape) if want_x else None, dweight if want_weight else None, dbias if want_bias else None


# -- rows that have a weight for each element: layer and RMS norm --


def _trailing_norm(x: Any, shape: tuple, weight: Any, bias: Any, eps: float, centred: bool) -> Any:
    width = math.prod(shape)
    x = np.ascontiguousarray(x)
    rows = x.reshape(-1, width)  # (M, D)
    y, number = np.empty(rows.shape, x.dtype), x.dtype.type
    mean, r = np.empty((2, len(rows)), x.dtype)
    unit, share = ones(width, x.dtype.char), number(1.0 / width)
    parts = _blocks(len(rows), x.size, _BLOCK_OF_FOUR)
    w, add = (None if t is None else _tiled(t.reshape(-1), parts) for t in (weight, bias))

    def work(k: slice) -> None:
        u, out, m = rows[k], y[k], mean[k]
        if centred:
            np.multiply(np.matmul(u, unit, out=m), share, out=m)
            u = np.subtract(u, m[:, None], out=out)
        var = np.vecdot(u, u)
        var *= share
        var += number(eps)
        rk = np.divide(number(1.0), np.sqrt(var, out=var), out=r[k])
        np.multiply(u, rk[:, None], out=out)
        if w is not None:
            out = out.reshape(-1, len(w))
            np.multiply(out, w, out=out)
        if add is not None:
            out = out.reshape(-1, len(add))
            np.add(out, add, out=out)

    with over_rows(x.size, width) as over:
        over(work, parts)
    return y.reshape(x.shape), (x, mean, r, centred, weight, bias is not None, shape)


def _tiled(t: Any, parts: list) -> Any:
    """(D,) over and over, as often as divides the rows of every block: few long rows are met faster than many."""
    if len(parts) == 1:
        return t
    times = math.gcd(1 << max(1, _TILED // len(t)).bit_length() - 1, *(k.stop - k.start for k in parts))
    return t if times == 1 else np.concatenate((t,) * times)


def _trailing_norm_backward(dy: Any, cache: tuple, want_x: bool, want_weight: bool, want_bias: bool) -> tuple:
    """With u = x - mean, g = dy * weight: dx = r (g - m(g) - r^2 m(g u) u), dweight = sum(dy u r), dbias = sum(dy)."""
    x, mean, r, centred, weight, has_bias, shape = cache
    want_weight, want_bias = want_weight and weight is not None, want_bias and has_bias
    width = math.prod(shape)
    rows = x.reshape(-1, width)
    d = np.ascontiguousarray(dy, x.dtype).reshape(rows.shape)
    dx = np.empty(rows.shape, x.dtype)
    parts = _blocks(len(rows), x.size, _BLOCK_OF_FOUR)
    w = ones(width, x.dtype.char) if weight is None else weight.reshape(-1)
    long = _tiled(w, parts)
    sums, lead, share = (
        np.empty((2, len(parts), width), x.dtype),
        ones(len(rows), x.dtype.char),
        x.dtype.type(1 / width),
    )

    def work(i: int) -> None:
        k = parts[i]
        u, dk, out, rk = rows[k], d[k], dx[k], r[k]
        if want_bias:
            np.matmul(lead[k], dk, out=sums[1, i])
        if not (want_x or want_weight):
            return
        if centred:
            u = np.subtract(u, mean[k, None], out=out)
        t = u * dk
        if want_weight:
            np.matmul(rk, t, out=sums[0, i])
        if not want_x:
            return
        slope = t @ w
        slope *= share
        slope *= rk
        slope *= rk
        np.multiply(u, slope[:, None], out=out)
        g = dk if weight is None else np.multiply(dk.reshape(-1, len(long)), long, out=t.reshape(-1, len(long)))
        np.subtract(g.reshape(out.shape), out, out=out)
        if centred:
            move = dk @ w
            move *= share
            np.subtract(out, move[:, None], out=out)
        np.multiply(out, rk[:, None], out=out)

    with over_rows(x.size, width) as over:
        over(work, range(len(parts)))
    dweight, dbias = (
        (t[0] if len(t) == 1 else np.add.reduce(t, axis=0)).reshape(shape) if wanted else None
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
