"""Losses of the difference, and of logits or logarithms against probabilities, in blocks that stay in the cache.

The blocks are taken over threads. What is added up is never written out: a block's losses are summed while they are in
the cache. Declined: half precision, small or empty arrays, targets of another shape or dtype, weights.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import xplayers.functional.loss as F
from xplayers.functional.binary_loss import binary_cross_entropy_with_logits_forward as with_logits

from ..losses import Loops, huber_delta, no_logarithm, pair, smooth_beta, unweighted
from ..threads import in_parts, runs
from .activation import logsigmoid_into, sigmoid_into

__all__: list[str] = []

_BLOCK = 1 << 18  # numbers: with less, threads wait for each other's Python
_LEAST = 1 << 14
_LOWEST = -80.0  # where e^-x is far from overflow


def _loss(
    reference: Any,
    value: Callable,
    by_x: Callable,
    by_target: Callable | None,
    constant: Callable[..., float | None],
    gradients: int,
    least: int = _LEAST,
    factor: float = 1.0,
    keeps: bool = False,
) -> None:
    """Registers the twin of a loss: value(x, t, out, two spare blocks, a), by_x and by_target(x, t, out, a).

    A gradient is `factor` times what these give. What `keeps` takes a block more, that value writes for the others.
    """

    def total(x: Any, t: Any, a: Any, *kept: Any) -> float:
        if x.size <= _BLOCK:
            spare = np.empty((3, x.size), x.dtype)
            with np.errstate(all="ignore"):
                value(x, t, *spare, a, *kept)
            return float(np.add.reduce(spare[0]))
        parts = runs(x.size, _BLOCK)
        sums = np.empty(len(parts))
        idle: list = []

        def work(i: int) -> None:
            r, n = parts[i], parts[i].stop - parts[i].start
            spare = idle.pop() if idle else np.empty((3, parts[0].stop), x.dtype)
            with np.errstate(all="ignore"):
                value(x[r], t[r], *spare[:, :n], a, *(k[r] for k in kept))
                sums[i] = spare[0, :n].sum()
            idle.append(spare)

        in_parts(work, range(len(parts)))
        return float(sums.sum())

    def each(x: Any, t: Any, y: Any, a: Any, *kept: Any) -> None:
        def work(r: slice) -> None:
            with np.errstate(all="ignore"):
                value(x[r], t[r], y[r], *np.empty((2, r.stop - r.start), x.dtype), a, *(k[r] for k in kept))

        in_parts(work, runs(x.size, _BLOCK))

    def gradient(slope: Callable) -> Callable[..., None]:
        def into(x: Any, t: Any, d: Any, s: Any, a: Any, *kept: Any) -> None:
            s = s if factor == 1 else s * x.dtype.type(factor)

            def work(r: slice) -> None:
                with np.errstate(all="ignore"):
                    slope(x[r], t[r], d[r], a, *(k[r] for k in kept))
                    np.multiply(d[r], s[r] if isinstance(s, np.ndarray) else s, out=d[r])

            in_parts(work, runs(x.size, _BLOCK))

        return into

    loops = Loops(total, each, gradient(by_x), by_target and gradient(by_target), keeps)
    rule = "float32 and float64, one shape, no weights" + (f", {least} elements and more" if least else "")
    pair("numpy", reference, loops, constant, gradients, floats="fd", least=least, rule=rule)


def _square(x: Any, t: Any, out: Any, u: Any, v: Any, a: Any) -> None:
    np.subtract(x, t, out=out)
    np.multiply(out, out, out=out)


def _square_slope(x: Any, t: Any, out: Any, a: Any) -> None:
    np.subtract(x, t, out=out)


def _huber(x: Any, t: Any, out: Any, u: Any, v: Any, delta: Any) -> None:
    """With near = min(|d|, delta): near (|d| - near / 2)."""
    np.subtract(x, t, out=out)
    np.abs(out, out=out)
    np.clip(out, 0.0, delta, out=u)
    np.multiply(u, 0.5, out=v)
    np.subtract(out, v, out=out)
    np.multiply(out, u, out=out)


def _huber_slope(x: Any, t: Any, out: Any, delta: Any) -> None:
    np.subtract(x, t, out=out)
    np.clip(out, -delta, delta, out=out)


def _smooth(x: Any, t: Any, out: Any, u: Any, v: Any, beta: Any) -> None:
    _huber(x, t, out, u, v, beta)
    np.divide(out, beta, out=out)


def _smooth_slope(x: Any, t: Any, out: Any, beta: Any) -> None:
    _huber_slope(x, t, out, beta)
    np.divide(out, beta, out=out)


def _logits(x: Any, t: Any, out: Any, u: Any, v: Any, a: Any, sigmoid: Any) -> None:
    """(1 - t) x + log(1 + e^-x): of u = 1 + e the logarithm, and (e - (u - 1)) / u for what u has lost by rounding.

    1 / u is the slope's sigmoid.
    """
    if x.min() >= _LOWEST:
        np.negative(x, out=v)
        np.exp(v, out=v)  # e
        np.add(v, 1.0, out=u)
        np.divide(1.0, u, out=sigmoid)
        np.log(u, out=out)
        np.subtract(v, u, out=v)
        np.add(v, 1.0, out=v)
        np.multiply(v, sigmoid, out=v)
        np.add(out, v, out=out)
    else:
        sigmoid_into(x, sigmoid)
        logsigmoid_into(x, out, u, v)
        np.negative(out, out=out)
    np.subtract(1.0, t, out=u)
    np.multiply(u, x, out=u)
    np.add(u, out, out=out)


def _logits_slope(x: Any, t: Any, out: Any, a: Any, sigmoid: Any) -> None:
    np.subtract(sigmoid, t, out=out)


def _logits_slope_back(x: Any, t: Any, out: Any, a: Any, sigmoid: Any) -> None:
    np.negative(x, out=out)


def _divergence(x: Any, t: Any, out: Any, u: Any, v: Any, a: Any) -> None:
    _log_of(t, out)
    np.subtract(out, x, out=out)
    np.multiply(out, t, out=out)


def _log_of(t: Any, out: Any) -> None:
    """log(t), 0 where t is 0."""
    np.log(t, out=out)
    if not t.min() > 0:
        out[t == 0] = 0


def _divergence_slope(x: Any, t: Any, out: Any, a: Any) -> None:
    np.negative(t, out=out)


def _divergence_slope_back(x: Any, t: Any, out: Any, a: Any) -> None:
    np.log(t, out=out)
    np.add(out, 1.0, out=out)
    if not t.min() > 0:
        out[t == 0] = 0
    np.subtract(out, x, out=out)


_loss(F.mse_loss_forward, _square, _square_slope, None, unweighted, 3, factor=2.0)
_loss(F.huber_loss_forward, _huber, _huber_slope, None, huber_delta, 3)
_loss(F.smooth_l1_loss_forward, _smooth, _smooth_slope, None, smooth_beta, 2)
_loss(with_logits, _logits, _logits_slope, _logits_slope_back, unweighted, 4, least=0, keeps=True)
_loss(F.kl_div_forward, _divergence, _divergence_slope, _divergence_slope_back, no_logarithm, 2, least=0)
