"""Losses of a number against a number in float32, compiled: value and sum in one visit, each gradient in one more.

A row of the table is the value and the slopes of one pair, x and target. Sums are taken in float32 within a block and
in float64 over the blocks. Declined: other dtypes, shapes that differ, weights.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import xplayers.functional.binary_loss as B
import xplayers.functional.loss as F

from ..losses import Loops, huber_delta, no_logarithm, pair, smooth_beta, unweighted
from ..threads import in_parts, runs
from .compiling import compiled, scalar
from .elementary import decay, log, sigmoid, softplus_from

__all__: list[str] = []

_PART = 1 << 16  # numbers that are worth a thread
_BLOCK = 1 << 11  # numbers that stay in the nearest cache, and whose float32 sum is exact enough
_U = np.uintp
_0, _1, _2, _HALF = (np.float32(v) for v in (0, 1, 2, 0.5))


@scalar
def _nothing(x):
    return _0


def _loops(value: Callable, first: Callable) -> tuple[Callable, Callable]:
    """The loops of a loss value(x, t, first(x), a): the sum, and all of them. In one step LLVM finds too much."""

    @compiled
    def summed(x, t, a, start, stop):
        s, spare = np.float64(0), np.empty(_BLOCK, np.float32)
        for low in range(start, stop, _BLOCK):
            p, n = _U(low), _U(min(_BLOCK, stop - low))
            for i in range(n):
                spare[i] = first(x[p + i])
            for i in range(n):
                spare[i] = value(x[p + i], t[p + i], spare[i], a)
            part = _0
            for i in range(n):
                part += spare[i]
            s += part
        return s

    @compiled
    def each(x, t, y, a, start, stop):
        for low in range(start, stop, _BLOCK):
            p, n = _U(low), _U(min(_BLOCK, stop - low))
            for i in range(n):
                y[p + i] = first(x[p + i])
            for i in range(n):
                y[p + i] = value(x[p + i], t[p + i], y[p + i], a)

    return summed, each


def _slope_loops(slope: Callable) -> tuple[Callable, Callable]:
    """The loops of a gradient: with one share of dy for all, and with one for each."""

    @compiled
    def shared(x, t, d, share, a, start, stop):
        for i in range(_U(start), _U(stop)):
            d[i] = share * slope(x[i], t[i], a)

    @compiled
    def each(x, t, d, shares, a, start, stop):
        for i in range(_U(start), _U(stop)):
            d[i] = shares[i] * slope(x[i], t[i], a)

    return shared, each


def _loss(
    reference: Any,
    value: Callable,
    by_x: Callable,
    by_target: Callable | None,
    constant: Callable[..., float | None],
    gradients: int,
    *,
    first: Callable = _nothing,
) -> None:
    """Registers the twin of a loss: see `losses.pair`."""
    summed, every = _loops(value, first)

    def total(x: Any, t: Any, a: Any) -> float:
        parts = runs(x.size, _PART)
        sums = np.empty(len(parts))

        def work(i: int) -> None:
            sums[i] = summed(x, t, a, parts[i].start, parts[i].stop)

        in_parts(work, range(len(parts)))
        return float(sums.sum())

    def each(x: Any, t: Any, y: Any, a: Any) -> None:
        in_parts(lambda r: every(x, t, y, a, r.start, r.stop), runs(x.size, _PART))

    def gradient(slope: Callable) -> Callable[..., None]:
        shared, single = _slope_loops(slope)

        def into(x: Any, t: Any, d: Any, s: Any, a: Any) -> None:
            loop = single if isinstance(s, np.ndarray) else shared
            in_parts(lambda r: loop(x, t, d, s, a, r.start, r.stop), runs(x.size, _PART))

        return into

    loops = Loops(total, each, gradient(by_x), by_target and gradient(by_target))
    rule = "float32, one shape, no weights: one visit"
    pair("numba", reference, loops, constant, gradients, floats="f", least=0, rule=rule)


# -- of the difference --


@scalar
def _square(x, t, e, a):
    return (x - t) * (x - t)


@scalar
def _square_slope(x, t, a):
    return _2 * (x - t)


@scalar
def _absolute(x, t, e, a):
    return abs(x - t)


@scalar
def _sign(d):
    s = _1 if d > _0 else d  # 0 and NaN stay
    return -_1 if d < _0 else s


@scalar
def _absolute_slope(x, t, a):
    return _sign(x - t)


@scalar
def _huber(x, t, e, delta):
    far = abs(x - t)
    near = delta if far > delta else far
    return near * (far - _HALF * near)


@scalar
def _clipped(d, delta):
    d = delta if d > delta else d
    return -delta if d < -delta else d


@scalar
def _huber_slope(x, t, delta):
    return _clipped(x - t, delta)


@scalar
def _smooth(x, t, e, beta):
    return _huber(x, t, e, beta) / beta


@scalar
def _smooth_slope(x, t, beta):
    return _clipped(x - t, beta) / beta


_loss(F.mse_loss_forward, _square, _square_slope, None, unweighted, 3)
_loss(F.l1_loss_forward, _absolute, _absolute_slope, None, unweighted, 3)
_loss(F.huber_loss_forward, _huber, _huber_slope, None, huber_delta, 3)
_loss(F.smooth_l1_loss_forward, _smooth, _smooth_slope, None, smooth_beta, 2)


# -- of probabilities --

_LEAST = np.float32(-100)  # of the logarithms
_TINY = np.float32(1e-12)


@scalar
def _clamped_log(x):
    y = log(x)
    y = y if y > _LEAST else _LEAST
    return y if x > _0 else _LEAST


@scalar
def _cross_entropy(x, t, log_x, a):
    return -(t * log_x + (_1 - t) * _clamped_log(_1 - x))


@scalar
def _cross_entropy_slope(x, t, a):
    width = x * (_1 - x)
    return (x - t) / (_TINY if width < _TINY else width)


@scalar
def _cross_entropy_slope_back(x, t, a):
    return _clamped_log(_1 - x) - _clamped_log(x)


@scalar
def _logits(x, t, e, a):
    return (_1 - t) * x + softplus_from(-x, e)


@scalar
def _logits_slope(x, t, a):
    return sigmoid(x) - t


@scalar
def _logits_slope_back(x, t, a):
    return -x


@scalar
def _log_of(t):
    y = log(t)
    return _0 if t == _0 else y


@scalar
def _divergence(x, t, e, a):
    return t * (_log_of(t) - x)


@scalar
def _divergence_slope(x, t, a):
    return -t


@scalar
def _divergence_slope_back(x, t, a):
    return (_0 if t == _0 else _log_of(t) + _1) - x


_loss(
    B.binary_cross_entropy_forward,
    _cross_entropy,
    _cross_entropy_slope,
    _cross_entropy_slope_back,
    unweighted,
    3,
    first=_clamped_log,
)
_loss(
    B.binary_cross_entropy_with_logits_forward,
    _logits,
    _logits_slope,
    _logits_slope_back,
    unweighted,
    4,
    first=decay,
)
_loss(F.kl_div_forward, _divergence, _divergence_slope, _divergence_slope_back, no_logarithm, 2)
