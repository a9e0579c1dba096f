"""Normalisation: the statistics of a set in one visit, the answer in another, which finds a short row in the cache.

Layer and RMS norm are rows that have a weight for each element; their dweight and dbias are sums in two stages. Batch,
instance and group norm are one pair over rows of (N C, L), as in functional/normalization.py: moments a row, of which a
set's are made (the order is the same every time), then the answer; backward two sums a row, of which those of a set and
of a channel are made. Weights may be of float32 beside halves. Declined: other mixtures, batch norm over rows of less
than 16, where a warp has nothing to do, and what the agnostic code refuses.
"""

import math
from typing import Any

from ..normalizations import Sums, register
from .launching import FLOATS, accumulator, contiguous, elements, empty, gradient, launch, rows, types

__all__: list[str] = []

_SHORT = 16  # elements of a row below which batch norm's warps would wait
_BLOCKS = 512  # enough to fill a card
_PIECE = 4096  # elements of a row that are worth a block


def _is_plain(x: Any, *weights: Any) -> bool:
    """Floats; weights of one dtype, x's or that of its sums."""
    kinds = {w.dtype.name for w in weights if w is not None}
    return x.dtype.name in FLOATS and x.size > 0 and len(kinds) < 2 and kinds <= {x.dtype.name, accumulator(x.dtype)}


def _kind(x: Any, *weights: Any) -> Any:
    """The dtype of the weights."""
    return next((w.dtype for w in weights if w is not None), x.dtype)


# -- rows with a weight for each element --


def _trailing_norm(x: Any, shape: tuple, weight: Any, bias: Any, eps: float, centred: bool) -> Any:
    x, weight, bias = map(contiguous, (x, weight, bias))
    n, acc, kind = math.prod(shape), accumulator(x.dtype), _kind(x, weight, bias)
    count = x.size // n
    y, r = empty(x.shape, x.dtype), empty((count,), acc)
    mean = empty((count,), acc) if centred else None
    arguments = x, weight, bias, y, mean, r, count, n, float(eps)
    launch("trailing_norm", "norm_forward", types(x.dtype, W=kind), rows(count, n), *arguments)
    return y, (x, mean, r, weight, bias is not None, shape, kind)


def _trailing_norm_backward(dy: Any, cache: Any, want_x: bool, want_weight: bool, want_bias: bool) -> Any:
    x, mean, r, weight, has_bias, shape, kind = cache
    count, n, kinds = r.size, math.prod(shape), types(x.dtype, W=kind)
    dx = dweight = dbias = None
    dy = gradient(dy, x.shape, x.dtype)
    if want_x:
        dx = empty(x.shape, x.dtype)
        arguments = dy, x, weight, mean, r, dx, count, n
        launch("trailing_norm", "norm_backward", kinds, rows(count, n), *arguments)
    want_weight, want_bias = want_weight and weight is not None, want_bias and has_bias
    if want_weight or want_bias:
        columns = -(-n // 32)
        parts = max(1, min(_BLOCKS // columns, count // 32))
        sums, both = empty((parts, 2, n), r.dtype), empty((2, *shape), kind)
        launch("trailing_norm", "norm_columns", kinds, ((columns, parts), (32, 8)), dy, x, mean, r, sums, count, n)
        launch("trailing_norm", "norm_totals", kinds, elements(2 * n), sums, both, parts, 2 * n)
        dweight, dbias = both[0] if want_weight else None, both[1] if want_bias else None
    return dx, dweight, dbias


# -- sets of rows --


def _rows_norm(x: Any, sets: tuple, weight: Any, bias: Any, eps: float, given: Any = None) -> Any:
    """The cache ends in mean, variance and the count of a set, as the agnostic one's does."""
    x, weight, bias = map(contiguous, (x, weight, bias))
    (a, s, b), c, n = sets, x.shape[1], math.prod(x.shape[2:])
    count, acc, kind = x.shape[0] * c, accumulator(x.dtype), _kind(x, weight, bias)
    kinds = types(x.dtype, W=kind)
    parts = max(1, min(_BLOCKS // count, n // _PIECE))
    shape, warps = rows(count, n // parts, parts), rows(s, 1)
    if given is None:
        moments, mean, var = empty((count * parts, 3), acc), empty((s,), acc), empty((s,), acc)
        launch("sets_norm", "row_moments", kinds, shape, x, moments, count, n)
        launch("sets_norm", "set_moments", kinds, warps, moments, mean, var, a, s, b, parts)
    else:
        mean, var = (contiguous(t, acc) for t in given)
    y = empty(x.shape, x.dtype)
    launch("sets_norm", "row_apply", kinds, shape, x, mean, var, weight, bias, y, float(eps), a, s, b, c, n)
    size = None if given is not None else a * b * n
    return y, (sets, x, weight, bias is not None, float(eps), kind, parts, mean, var, size)


def _rows_norm_backward(dy: Any, cache: Any, want_x: bool, want_weight: bool, want_bias: bool) -> Any:
    (a, s, b), x, weight, has_bias, eps, kind, parts, mean, var, size = cache
    c, n, acc, kinds = x.shape[1], math.prod(x.shape[2:]), mean.dtype, types(x.dtype, W=kind)
    count = x.shape[0] * c
    want_weight, want_bias = want_weight and weight is not None, want_bias and has_bias
    dy, shape = gradient(dy, x.shape, x.dtype), rows(count, n // parts, parts)
    dx = dweight = dbias = shift = slope = None
    if want_weight or want_bias or (want_x and size is not None):
        sums = empty((count * parts, 2), acc)
        launch("sets_norm", "row_sums", kinds, shape, dy, x, mean, sums, a, s, b, n)
    if want_weight or want_bias:
        dweight, dbias = (empty((c,), kind) if want else None for want in (want_weight, want_bias))
        of_channels = sums, var, dweight, dbias, eps, count, s, b, c, parts
        launch("sets_norm", "channel_sums", kinds, rows(c, 1), *of_channels)
    if want_x:
        dx = empty(x.shape, x.dtype)
        if size is not None:
            shift, slope = empty((s,), acc), empty((s,), acc)
            of_sets = sums, var, weight, shift, slope, eps, a, s, b, c, parts, size
            launch("sets_norm", "set_slopes", kinds, rows(s, 1), *of_sets)
        arguments = dy, x, mean, var, weight, shift, slope, dx, eps, a, s, b, c, n
        launch("sets_norm", "row_backward", kinds, shape, *arguments)
    return dx, dweight, dbias


register(
    "cupy",
    "cuda",
    Sums(_rows_norm, _rows_norm_backward, _trailing_norm, _trailing_norm_backward, _is_plain, shortest_batch=_SHORT),
    f"floats: moments of rows, then of sets, in one visit; batch norm of rows of {_SHORT} or more",
    "floats: a row in one visit, sums of columns in two stages",
)
