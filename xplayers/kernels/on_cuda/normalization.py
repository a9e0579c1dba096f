"""Normalisation: the statistics of a set in one visit, the answer in another, which finds a short row in the cache.

Layer and RMS norm are rows that have a weight for each element; their dweight and dbias are sums in two stages. Batch,
instance and group norm are one pair over rows of (N C, L), as in functional/normalization.py: moments a row, of which a
set's are made (the order is the same every time), then the answer; backward two sums a row, of which those of a set and
of a channel are made. Weights may be of float32 beside halves. Declined: other mixtures, batch norm over rows of less
than 16, where a warp has nothing to do, and what the agnostic code refuses.
"""

import math
from typing import Any

from xplayers.functional import normalization as agnostic
from xplayers.functional.pair import wants

from ..registry import kernel
from .launching import FLOATS, accumulator, contiguous, elements, empty, gradient, launch, rows, types

__all__: list[str] = []

_SHORT = 16  # elements of a row below which batch norm's warps would wait
_BLOCKS = 512  # enough to fill a card
_PIECE = 4096  # elements of a row that are worth a block


def _is_plain(x: Any, *weights: Any) -> bool:
    """Floats; weights of one dtype, x's or that of its sums."""
    kinds = {w.dtype.name for w in weights if w is not None}
    return x.dtype.name in FLOATS and x.size > 0 and len(kinds) < 2 and kinds <= {x.dtype.name, accumulator(x.dtype)}


def _of_channels(x: Any, *weights: Any) -> bool:
    """Floats with weights of (C,)."""
    return _is_plain(x, *weights) and x.ndim > 1 and all(w is None or w.shape == x.shape[1:2] for w in weights)


def _kind(x: Any, *weights: Any) -> Any:
    """The dtype of the weights."""
    return next((w.dtype for w in weights if w is not None), x.dtype)


# -- rows with a weight for each element --


def _trailing_supports(x: Any, normalized_shape: Any, weight: Any = None, *rest: Any, **named: Any) -> bool:
    shape = tuple(normalized_shape)
    if not shape or tuple(x.shape[-len(shape) :]) != shape:
        return False
    return _is_plain(x, weight) and (weight is None or tuple(weight.shape) == shape)


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


def _layer_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    return _trailing_norm_backward(dy, cache, *wants(wanted, 3))


def _layer_supports(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> bool:
    fits = _trailing_supports(x, normalized_shape, weight) and _trailing_supports(x, normalized_shape, bias)
    return fits and _is_plain(x, weight, bias)


_ROWS = "floats: a row in one visit, sums of columns in two stages"


@kernel("cupy", agnostic.layer_norm_forward, _layer_backward, _layer_supports, means="cuda", rule=_ROWS)
def layer_norm_forward(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """A row by a warp or a block."""
    if not _layer_supports(x, normalized_shape, weight, bias):
        return NotImplemented
    return _trailing_norm(x, tuple(normalized_shape), weight, bias, eps, True)


def _rms_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    want_x, want_weight = wants(wanted, 2)
    return _trailing_norm_backward(dy, cache, want_x, want_weight, False)[:2]


@kernel("cupy", agnostic.rms_norm_forward, _rms_backward, _trailing_supports, means="cuda", rule=_ROWS)
def rms_norm_forward(x: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """A row by a warp or a block."""
    if not _trailing_supports(x, normalized_shape, weight):
        return NotImplemented
    eps = (2.0**-52 if x.dtype.name == "float64" else 2.0**-23) if eps is None else eps
    return _trailing_norm(x, tuple(normalized_shape), weight, None, eps, False)


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
    """Floats in rows of 16 or more; where the agnostic function refuses, it is asked."""
    if x.ndim < 3 or math.prod(x.shape[2:]) < _SHORT or not _of_channels(x, weight, bias):
        return False
    return training or (
        running_mean is not None and running_var is not None and _of_channels(x, running_mean, running_var)
    )


def _five(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    want_x, _, _, want_weight, want_bias = wants(wanted, 5)
    dx, dweight, dbias = _rows_norm_backward(dy, cache, want_x, want_weight, want_bias)
    return dx, None, None, dweight, dbias


_RULE = "floats: moments of rows, then of sets, in one visit"


@kernel("cupy", agnostic.batch_norm_forward, _five, _batch_supports, means="cuda", rule=f"{_RULE}; rows of 16 or more")
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
    """A set is a channel."""
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
    return x.ndim > 2 and _of_channels(x, weight, bias) and use_input_stats and math.prod(x.shape[2:]) > 1


@kernel("cupy", agnostic.instance_norm_forward, _five, _instance_supports, means="cuda", rule=_RULE)
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
    """A set is a row."""
    if not _instance_supports(x, running_mean, running_var, weight, bias, use_input_stats):
        return NotImplemented
    return _rows_norm(x, (1, x.shape[0] * x.shape[1], 1), weight, bias, eps)


def _group_supports(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> bool:
    if not _of_channels(x, weight, bias) or num_groups < 1 or x.shape[1] % num_groups:
        return False
    return x.size > num_groups


def _three(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    return _rows_norm_backward(dy, cache, *wants(wanted, 3))


@kernel("cupy", agnostic.group_norm_forward, _three, _group_supports, means="cuda", rule=_RULE)
def group_norm_forward(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """A set is a group of rows of a sample."""
    if not _group_supports(x, num_groups, weight, bias):
        return NotImplemented
    return _rows_norm(x, (1, x.shape[0] * num_groups, x.shape[1] // num_groups), weight, bias, eps)
