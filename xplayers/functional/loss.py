"""What all losses share, reduction and weighting, and the losses that compare a number with a number."""

import math
import warnings

from xplayers.arrays import accumulator, array_namespace, is_floating, size, sum_to
from xplayers.errors import refusal

from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "gaussian_nll_loss",
    "gaussian_nll_loss_backward",
    "gaussian_nll_loss_forward",
    "huber_loss",
    "huber_loss_backward",
    "huber_loss_forward",
    "kl_div",
    "kl_div_backward",
    "kl_div_forward",
    "l1_loss",
    "l1_loss_backward",
    "l1_loss_forward",
    "mse_loss",
    "mse_loss_backward",
    "mse_loss_forward",
    "poisson_nll_loss",
    "poisson_nll_loss_backward",
    "poisson_nll_loss_forward",
    "smooth_l1_loss",
    "smooth_l1_loss_backward",
    "smooth_l1_loss_forward",
]

# -- reduction and weighting --


def reduce(loss, reduction, norm):
    """loss (*) -> itself for 'none', its sum for 'sum', for 'mean' its sum / norm, as a 0-d array.

    norm: how many losses there are, or a 0-d array as `sum_of_weights` gives it. The mean of none is NaN.
    """
    xp = array_namespace(loss)
    if reduction == "none":
        return xp.asarray(loss)  # what is 0-d is a scalar on NumPy
    if reduction not in ("mean", "sum"):
        raise refusal("loss", "reduction", repr(reduction), "'none', 'mean' or 'sum'", "pass reduction='mean'")
    y = xp.sum(loss, dtype=accumulator(loss))
    if reduction == "mean":
        y = y * _inverse(norm)
    return xp.astype(xp.asarray(y), loss.dtype, copy=False)


def share(dy, reduction, norm, x):
    """What each loss gets of dy, in x's dtype: () for 'mean' and 'sum' (dy None is 1), dy itself for 'none'."""
    if dy is None:
        if reduction == "none":
            raise refusal("loss", "dy", "None", "the gradient by every loss", "pass dy, or reduce by 'mean' or 'sum'")
        dy = 1.0
    if reduction != "mean":
        return dy
    inverse = _inverse(norm)
    return dy * (inverse if isinstance(norm, int) else array_namespace(x).astype(inverse, x.dtype))


def sum_of_weights(weight):
    """The norm of a weighted mean: a 0-d array, in float32 where the weights are halves (they reach 65504 only)."""
    return array_namespace(weight).sum(weight, dtype=accumulator(weight))


def _inverse(norm):
    """1 / norm, NaN where norm is 0."""
    if isinstance(norm, int):
        return 1.0 / norm if norm else math.nan
    xp = array_namespace(norm)
    none = norm == 0
    return xp.where(none, math.nan, 1.0 / xp.where(none, 1.0, norm))


def as_floats(target, x):
    """The target in x's dtype: integers and booleans, and the float64 that NumPy makes of a list."""
    return target if target.dtype == x.dtype else array_namespace(x).astype(target, x.dtype)


def fit(d, x):
    """A gradient d in the shape of x: summed over the axes along which x was repeated; None where x has none."""
    if x is None or not is_floating(x):
        return None
    xp = array_namespace(d)
    return xp.asarray(sum_to(d, x.shape), dtype=x.dtype)  # what is 0-d is a scalar on NumPy


def pointwise(dy, reduction, norm, slopes, arrays, wanted):
    """The gradients of a loss that is computed element by element: each slope, called when wanted, times dy's share.

    A slope that is None gives None. Arrays may broadcast: each gradient is summed to the shape of its own.
    """
    xp = array_namespace(*arrays)
    s = share(dy, reduction, norm, arrays[0])
    shape = xp.broadcast_arrays(*arrays)[0].shape
    asked = zip(wants(wanted, len(arrays)), slopes, arrays, strict=True)
    return tuple(fit(xp.broadcast_to(s * slope(), shape), a) if want and slope else None for want, slope, a in asked)


# -- losses of the difference x - target --


def _difference_forward(x, target, weight, reduction, value, by_weight):
    """value(x - target), weighted, reduced. `by_weight`: the mean divides by the sum of the weights."""
    if x.shape != target.shape:
        warnings.warn(
            f"x has shape {tuple(x.shape)}, target {tuple(target.shape)}: they are broadcast, which is rarely meant",
            stacklevel=5,
        )
    d = x - as_floats(target, x)
    loss = value(d) if weight is None else value(d) * weight
    norm = size(loss) if weight is None or not by_weight else sum_of_weights(weight)
    y = reduce(loss, reduction, norm)
    return y, (x, target, weight, reduction, norm, y)


def _difference_backward(dy, cache, wanted, value, slope):
    """The gradients by x, target and weight: dx and dtarget are one another's negative."""
    x, target, weight, reduction, norm, y = cache
    want_x, want_target, want_weight = wants(wanted, 3)
    d = x - as_floats(target, x)
    s = share(dy, reduction, norm, x)
    dx = dtarget = dweight = None
    if want_x or want_target:
        dd = slope(d) * s if weight is None else slope(d) * weight * s
        dx = fit(dd, x) if want_x else None
        dtarget = fit(-dd, target) if want_target else None
    if want_weight and weight is not None:
        dweight = fit(value(d) * s, weight)
        if reduction == "mean" and not isinstance(norm, int):  # the weights are in the denominator too
            dweight = dweight - y * s
    return dx, dtarget, dweight


@accelerable
def mse_loss_forward(x, target, reduction="mean", weight=None):
    """y = (x - target)^2, times weight, reduced; 'mean' divides by the sum of weights.

    x (*), target (*), weight (*) -> y (), or (*) for reduction 'none'. Warns where the shapes only broadcast.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.mse_loss.
    Source: Legendre, Nouvelles methodes pour la determination des orbites des cometes (1805).
    """
    return _difference_forward(x, target, weight, reduction, lambda d: d * d, True)


@follows_cache
def mse_loss_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dx (*), dtarget (*), dweight (*): the gradients of `mse_loss_forward`. dy None is 1."""
    return _difference_backward(dy, cache, wanted, lambda d: d * d, lambda d: 2.0 * d)


mse_loss = answer_of(mse_loss_forward)


@accelerable
def l1_loss_forward(x, target, reduction="mean", weight=None):
    """y = |x - target|, times weight, reduced; 'mean' divides by the sum of weights.

    x (*), target (*), weight (*) -> y (), or (*) for reduction 'none'. Warns where the shapes only broadcast.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.l1_loss.
    Source: Boscovich's least absolute deviations, in Laplace, Sur quelques points du systeme du monde (1789).
    """
    xp = array_namespace(x)
    return _difference_forward(x, target, weight, reduction, xp.abs, True)


@follows_cache
def l1_loss_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dx (*), dtarget (*), dweight (*): the gradients of `l1_loss_forward`, 0 at 0. dy None is 1."""
    xp = array_namespace(cache[0])
    return _difference_backward(dy, cache, wanted, xp.abs, xp.sign)


l1_loss = answer_of(l1_loss_forward)


def _huber(d, delta):
    """d^2 / 2 within delta, and beyond it the tangent, delta (|d| - delta / 2)."""
    xp = array_namespace(d)
    a = xp.abs(d)
    near = xp.minimum(a, float(delta))
    return near * (a - 0.5 * near)


def _clipped(d, delta):
    """The derivative of `_huber`: d, no further from 0 than delta."""
    return array_namespace(d).clip(d, -float(delta), float(delta))


@accelerable
def huber_loss_forward(x, target, reduction="mean", delta=1.0, weight=None):
    """y = d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = x - target; times weight, reduced.

    x (*), target (*), weight (*) -> y (), or (*) for reduction 'none'; 'mean' divides by the number of losses, weighted
    or not. Warns where the shapes only broadcast. Errors: those of the library where the shapes do not fit.
    Twin: torch.nn.functional.huber_loss. Source: Huber, Robust estimation of a location parameter (1964).
    """
    y, cache = _difference_forward(x, target, weight, reduction, lambda d: _huber(d, delta), False)
    return y, (cache, delta)


@follows_cache
def huber_loss_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dx (*), dtarget (*), dweight (*): the gradients of `huber_loss_forward`. dy None is 1."""
    inner, delta = cache
    return _difference_backward(dy, inner, wanted, lambda d: _huber(d, delta), lambda d: _clipped(d, delta))


huber_loss = answer_of(huber_loss_forward)


@accelerable
def smooth_l1_loss_forward(x, target, reduction="mean", beta=1.0):
    """y = d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = x - target, reduced; |d| for beta 0.

    x (*), target (*) -> y (), or (*) for reduction 'none'. Warns where the shapes only broadcast.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.smooth_l1_loss.
    Source: Girshick, Fast R-CNN (2015). It is Huber's loss divided by beta.
    """
    value = (lambda d: _huber(d, beta) / beta) if beta else array_namespace(x).abs
    y, cache = _difference_forward(x, target, None, reduction, value, False)
    return y, (cache, beta)


@follows_cache
def smooth_l1_loss_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dx (*), dtarget (*): the gradients of `smooth_l1_loss_forward`. dy None is 1."""
    inner, beta = cache
    slope = (lambda d: _clipped(d, beta) / beta) if beta else array_namespace(inner[0]).sign
    return _difference_backward(dy, inner, (*wants(wanted, 2), False), None, slope)[:2]


smooth_l1_loss = answer_of(smooth_l1_loss_forward)

# -- negative log likelihoods of a number --


def poisson_nll_loss_forward(x, target, log_input=True, full=False, eps=1e-8, reduction="mean"):
    """y = e^x - target x, or x - target log(x + eps) where x is no logarithm, reduced.

    With `full`, Stirling's target log(target) - target + log(2 pi target) / 2 is added where target > 1.
    x (*), target (*) -> y (), or (*) for reduction 'none'. Errors: those of the library where the shapes do not fit.
    Twin: torch.nn.functional.poisson_nll_loss. Source: Nelder, Wedderburn, Generalized linear models (1972).
    """
    xp = array_namespace(x, target)
    t = as_floats(target, x)
    loss = xp.exp(x) - t * x if log_input else x - t * xp.log(x + eps)
    if full:
        large = t > 1
        u = xp.where(large, t, 1.0)
        loss = loss + xp.where(large, u * xp.log(u) - u + 0.5 * xp.log(2 * math.pi * u), 0.0)
    return reduce(loss, reduction, size(loss)), (x, target, log_input, full, eps, reduction, size(loss))


def poisson_nll_loss_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dx (*), dtarget (*): the gradients of `poisson_nll_loss_forward`. dy None is 1."""
    x, target, log_input, full, eps, reduction, norm = cache
    xp = array_namespace(x, target)
    t = as_floats(target, x)

    def by_x():
        return xp.exp(x) - t if log_input else 1.0 - t / (x + eps)

    def by_target():
        d = -x if log_input else -xp.log(x + eps)
        if full:
            u = xp.where(t > 1, t, 1.0)
            d = d + xp.where(t > 1, xp.log(u) + 0.5 / u, 0.0)
        return d

    return pointwise(dy, reduction, norm, (by_x, by_target), (x, target), wanted)


poisson_nll_loss = answer_of(poisson_nll_loss_forward)


def _variance(x, var, eps):
    """var in a shape that broadcasts with x, not under eps."""
    xp = array_namespace(x)
    if isinstance(var, int | float):
        return max(float(var), eps)
    if var.shape != x.shape and var.shape == x.shape[:-1]:
        var = var[..., None]
    return xp.maximum(as_floats(var, x), eps)


def gaussian_nll_loss_forward(x, target, var, full=False, eps=1e-6, reduction="mean"):
    """y = (log(v) + (x - target)^2 / v) / 2 with v = max(var, eps), reduced; with `full`, plus log(2 pi) / 2.

    x (*, D), target (*, D), var (*, D), (*, 1), (*) or a number -> y (), or (*, D) for reduction 'none'.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.gaussian_nll_loss.
    Source: Nix, Weigend, Estimating the mean and variance of the target probability distribution (1994).
    """
    xp = array_namespace(x, target)
    d, v = x - as_floats(target, x), _variance(x, var, eps)
    loss = 0.5 * ((math.log(v) if isinstance(v, float) else xp.log(v)) + d * d / v)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduce(loss, reduction, size(loss)), (x, target, var, eps, reduction, size(loss))


def gaussian_nll_loss_backward(dy, cache, *, wanted=None):
    """dy () or (*, D) -> dx (*, D), dtarget (*, D), dvar: the gradients of `gaussian_nll_loss_forward`. dy None is 1.

    dvar is the derivative by v: eps moves where it is taken but does not stop it, as in torch.
    """
    x, target, var, eps, reduction, norm = cache
    want_x, want_target, want_var = wants(wanted, 3)
    d, v = x - as_floats(target, x), _variance(x, var, eps)
    s = share(dy, reduction, norm, x)
    dx = fit(s * (d / v), x) if want_x else None
    dtarget = fit(s * (-d / v), target) if want_target else None
    dvar = None
    if want_var and not isinstance(var, int | float) and is_floating(var):
        dv = fit(s * (0.5 * (1.0 - d * d / v) / v), v)
        dvar = array_namespace(x).reshape(dv, var.shape)
    return dx, dtarget, dvar


gaussian_nll_loss = answer_of(gaussian_nll_loss_forward)


def _safe_log(xp, t):
    """log(t) of a positive t; 0 where t is 0 and NaN below it, without a warning."""
    return xp.where(t < 0, math.nan, xp.log(xp.where(t > 0, t, 1.0)))


@accelerable
def kl_div_forward(x, target, reduction="mean", log_target=False):
    """y = t (log(t) - x), the pointwise divergence of the logarithms x from t = target, or e^target; reduced.

    x (N, *), target (N, *) -> y (), or (N, *) for reduction 'none'; 'batchmean' divides the sum by N, which is what the
    mathematics means, and 'mean' by the number of elements. Where t is 0, so is t log(t).
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.kl_div.
    Source: Kullback, Leibler, On information and sufficiency (1951).
    """
    xp, target = array_namespace(x, target), as_floats(target, x)
    if log_target:
        loss = xp.exp(target) * (target - x)
    else:
        loss = target * (_safe_log(xp, target) - x)
    norm = size(loss)
    if reduction == "batchmean":
        reduction, norm = "mean", x.shape[0] if x.ndim else 1
    return reduce(loss, reduction, norm), (x, target, reduction, log_target, norm)


@follows_cache
def kl_div_backward(dy, cache, *, wanted=None):
    """dy () or (N, *) -> dx (N, *), dtarget (N, *): the gradients of `kl_div_forward`. dy None is 1."""
    x, target, reduction, log_target, norm = cache
    xp = array_namespace(x, target)
    if log_target:
        t = xp.exp(target)
        slopes = (lambda: -t, lambda: t * (target - x + 1.0))
    else:
        zero = target == 0  # the slope of t log(t) is infinite there; 0 is taken
        slopes = (lambda: -target, lambda: xp.where(zero, 0.0, _safe_log(xp, target) + 1.0) - x)
    return pointwise(dy, reduction, norm, slopes, (x, target), wanted)


kl_div = answer_of(kl_div_forward)
