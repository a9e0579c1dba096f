"""Softmax and its kin: the activations that look at a whole axis."""

import math

from xplayers.arrays import (
    accumulator,
    array_namespace,
    device,
    is_floating,
    one_hot,
    size,
    total,
    uniform,
)

from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "gumbel_softmax",
    "gumbel_softmax_backward",
    "gumbel_softmax_forward",
    "log_softmax",
    "log_softmax_backward",
    "log_softmax_forward",
    "softmax",
    "softmax_backward",
    "softmax_forward",
    "softmin",
    "softmin_backward",
    "softmin_forward",
]


def _prepared(x, dim, dtype):
    """What all begin with: x in the dtype asked for and less its maximum, the axis, and the dtype that dx will have.

    A row whose maximum is infinite becomes NaN, as in torch, but without NumPy's warning of inf - inf.
    """
    xp = array_namespace(x)
    if dim is None:  # torch's rule, which it warns of
        dim = 0 if x.ndim in (0, 1, 3) else 1
    axis = dim if x.ndim else None
    source = x.dtype if is_floating(x) else None
    z = x if dtype is None else xp.astype(x, dtype)
    if size(z):
        top = xp.max(z, axis=axis, keepdims=True)
        z = z - xp.where(xp.isinf(top), math.nan, top)
    return z, axis, source


def _returned(dx, source):
    return dx if dx.dtype == source else array_namespace(dx).astype(dx, source)


@accelerable
def softmax_forward(x, dim=None, dtype=None):
    """y = e^x / sum(e^x), the sum along the axis dim.

    x (*) -> y (*), of `dtype` where it is given: x is cast before anything else. dim None is torch's old rule: axis 0
    of 0-, 1- and 3-d arrays, axis 1 of others. Errors: those of the library where there is no such axis.
    Twin: torch.nn.functional.softmax.
    Source: Bridle, Probabilistic interpretation of feedforward classification network outputs (1990).
    """
    z, axis, source = _prepared(x, dim, dtype)
    e = array_namespace(z).exp(z)
    y = e / total(e, axis=axis, keepdims=True)
    return y, (y, axis, source)


@follows_cache
def softmax_backward(dy, cache, *, wanted=None):
    """dy (*) -> dx (*) in x's dtype: the gradient of `softmax_forward`."""
    y, axis, source = cache
    (want_x,) = wants(wanted, 1)
    if not want_x or source is None:
        return None
    return _returned(y * (dy - total(dy * y, axis=axis, keepdims=True)), source)


softmax = answer_of(softmax_forward)


@accelerable
def softmin_forward(x, dim=None, dtype=None):
    """y = e^-x / sum(e^-x), the sum along the axis dim: the softmax of -x.

    x (*) -> y (*); dim and dtype as in `softmax_forward`. Errors: those of the library where there is no such axis.
    Twin: torch.nn.functional.softmin.
    Source: Bridle, Training stochastic model recognition algorithms as networks (1990).
    """
    y, cache = softmax_forward(-x, dim, dtype)
    return y, (cache,)  # one item, so that it is not taken for a softmax's own


@follows_cache
def softmin_backward(dy, cache, *, wanted=None):
    """dy (*) -> dx (*): the gradient of `softmin_forward`."""
    dx = softmax_backward(dy, cache[0], wanted=wanted)
    return None if dx is None else -dx


softmin = answer_of(softmin_forward)


@accelerable
def log_softmax_forward(x, dim=None, dtype=None):
    """y = x - log(sum(e^x)), the sum along the axis dim.

    x (*) -> y (*); dim and dtype as in `softmax_forward`. Errors: those of the library where there is no such axis.
    Twin: torch.nn.functional.log_softmax.
    Source: Bridle, Training stochastic model recognition algorithms as networks (1990).
    """
    z, axis, source = _prepared(x, dim, dtype)
    xp = array_namespace(z)
    y = z - xp.log(total(xp.exp(z), axis=axis, keepdims=True)) if size(z) else z  # no logarithm of an empty sum
    return y, (y, axis, source)


@follows_cache
def log_softmax_backward(dy, cache, *, wanted=None):
    """dy (*) -> dx (*) in x's dtype: the gradient of `log_softmax_forward`."""
    y, axis, source = cache
    (want_x,) = wants(wanted, 1)
    if not want_x or source is None:
        return None
    return _returned(dy - array_namespace(y).exp(y) * total(dy, axis=axis, keepdims=True), source)


log_softmax = answer_of(log_softmax_forward)


@accelerable
def gumbel_softmax_forward(x, tau=1.0, hard=False, eps=1e-10, dim=-1, *, noise=None, rng=None):
    """y = softmax((x + g) / tau) along the axis dim, g drawn from the Gumbel distribution: -log(-log(u)).

    With `hard`, y is 1 at the largest and 0 elsewhere, and the gradient is the soft one's. x (*) -> y (*).
    noise (*): g, where it is not to be drawn. eps has no effect, as in torch. Errors: those of the library where there
    is no such axis. Twin: torch.nn.functional.gumbel_softmax.
    Source: Jang, Gu, Poole, Categorical reparameterization with Gumbel-softmax (2016).
    """
    xp = array_namespace(x)
    if noise is None:
        floats = xp.zeros((), dtype=accumulator(x), device=device(x))
        exponential = -xp.log1p(-uniform(rng, x.shape, floats))  # 1 - u is in (0, 1]
        noise = xp.astype(-xp.log(xp.maximum(exponential, 2.0**-25)), x.dtype)
    y, cache = softmax_forward((x + noise) / tau, dim)
    if hard:
        y = xp.moveaxis(one_hot(xp.argmax(y, axis=dim), x.shape[dim], y.dtype), -1, dim)
    return y, (cache, tau)


@follows_cache
def gumbel_softmax_backward(dy, cache, *, wanted=None):
    """dy (*) -> dx (*): the gradient of `gumbel_softmax_forward`, of the soft answer also where it was hard."""
    inner, tau = cache
    dx = softmax_backward(dy, inner, wanted=wanted)
    return None if dx is None else dx / tau


gumbel_softmax = answer_of(gumbel_softmax_forward)
