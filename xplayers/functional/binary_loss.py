"""Losses of yes and no: a probability, a score or a distance against a target of two values."""

import math

from xplayers.arrays import array_namespace, mean, size

from .activation import logsigmoid, sigmoid
from .loss import as_floats, fit, pointwise, reduce, share
from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_forward",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_backward",
    "binary_cross_entropy_with_logits_forward",
    "hinge_embedding_loss",
    "hinge_embedding_loss_backward",
    "hinge_embedding_loss_forward",
    "multilabel_soft_margin_loss",
    "multilabel_soft_margin_loss_backward",
    "multilabel_soft_margin_loss_forward",
    "soft_margin_loss",
    "soft_margin_loss_backward",
    "soft_margin_loss_forward",
]


def _weighted(a, weight):
    return a if weight is None else a * weight


_TINY = 9.999999960041972e-13  # torch's bound of x (1 - x): 1e-12 in float32


def _clamped_log(xp, x):
    """log(x), not under -100: a certain answer that is wrong costs 100 and not infinity."""
    some = x > 0
    return xp.where(some, xp.maximum(xp.log(xp.where(some, x, 1.0)), -100.0), -100.0)


@accelerable
def binary_cross_entropy_forward(x, target, weight=None, reduction="mean"):
    """y = -(t log(x) + (1 - t) log(1 - x)), times weight, reduced; the logarithms stop at -100.

    x (*) in [0, 1], target (*), weight broadcasting with them -> y (), or (*) for reduction 'none'.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.binary_cross_entropy.
    Source: Good, Rational decisions (1952).
    """
    xp, target = array_namespace(x, target, weight), as_floats(target, x)
    loss = -(target * _clamped_log(xp, x) + (1.0 - target) * _clamped_log(xp, 1.0 - x))
    return reduce(_weighted(loss, weight), reduction, size(loss)), (x, target, weight, reduction, size(loss))


@follows_cache
def binary_cross_entropy_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dx (*), dtarget (*), None: the gradients of `binary_cross_entropy_forward`. dy None is 1."""
    x, target, weight, reduction, norm = cache
    xp = array_namespace(x, target, weight)

    def by_x():
        return _weighted((x - target) / xp.maximum(x * (1.0 - x), _TINY), weight)

    def by_target():
        return _weighted(_clamped_log(xp, 1.0 - x) - _clamped_log(xp, x), weight)

    want_x, want_target, _ = wants(wanted, 3)
    return *pointwise(dy, reduction, norm, (by_x, by_target), (x, target), (want_x, want_target)), None


binary_cross_entropy = answer_of(binary_cross_entropy_forward)


@accelerable
def binary_cross_entropy_with_logits_forward(x, target, weight=None, reduction="mean", pos_weight=None):
    """y = -(p t log(s) + (1 - t) log(1 - s)) with s = 1 / (1 + e^-x), times weight, reduced; p is pos_weight or 1.

    x (*), target (*), weight and pos_weight broadcasting with them -> y (), or (*) for reduction 'none'. No overflow
    for any x: log(1 - s) is log(s) - x.
    Errors: those of the library where the shapes do not fit.
    Twin: torch.nn.functional.binary_cross_entropy_with_logits.
    Source: Cox, The regression analysis of binary sequences (1958).
    """
    target = as_floats(target, x)
    positive = 1.0 if pos_weight is None else 1.0 + (pos_weight - 1.0) * target
    loss = (1.0 - target) * x - positive * logsigmoid(x)
    return reduce(_weighted(loss, weight), reduction, size(loss)), (
        x,
        target,
        weight,
        reduction,
        pos_weight,
        size(loss),
    )


@follows_cache
def binary_cross_entropy_with_logits_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dx (*), dtarget (*), None, None: the gradients of `binary_cross_entropy_with_logits_forward`.

    dy None is 1.
    """
    x, target, weight, reduction, pos_weight, norm = cache

    def by_x():
        if pos_weight is None:
            return _weighted(sigmoid(x) - target, weight)
        return _weighted((1.0 + (pos_weight - 1.0) * target) * sigmoid(x) - pos_weight * target, weight)

    def by_target():
        return _weighted(-x if pos_weight is None else -x - (pos_weight - 1.0) * logsigmoid(x), weight)

    want_x, want_target, *_ = wants(wanted, 4)
    return *pointwise(dy, reduction, norm, (by_x, by_target), (x, target), (want_x, want_target)), None, None


binary_cross_entropy_with_logits = answer_of(binary_cross_entropy_with_logits_forward)


def multilabel_soft_margin_loss_forward(x, target, weight=None, reduction="mean"):
    """y = -sum(t log(s) + (1 - t) log(1 - s)) / C over the C classes, s = 1 / (1 + e^-x), times weight, reduced.

    x (*, C), target (*, C), weight broadcasting with them -> y (), or (*) for reduction 'none'.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.multilabel_soft_margin_loss.
    Source: Cox, The regression analysis of binary sequences (1958).
    """
    t = as_floats(target, x)
    xp = array_namespace(x, target, weight)
    loss = xp.asarray(mean(_weighted((1.0 - t) * x - logsigmoid(x), weight), axis=-1))
    y = reduce(loss, reduction, size(loss))
    return y, (x, target, weight, reduction, size(loss))


def multilabel_soft_margin_loss_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dx (*, C), dtarget (*, C), dweight: the gradients of `multilabel_soft_margin_loss_forward`.

    dy None is 1.
    """
    x, target, weight, reduction, norm = cache
    want_x, want_target, want_weight = wants(wanted, 3)
    t = as_floats(target, x)
    s = share(dy, reduction, norm, x)
    s = (s[..., None] if reduction == "none" else s) * (1.0 / max(x.shape[-1], 1))  # (*, 1) or ()
    dx = fit(_weighted(sigmoid(x) - t, weight) * s, x) if want_x else None
    dtarget = fit(_weighted(-x, weight) * s, target) if want_target else None
    dweight = fit(((1.0 - t) * x - logsigmoid(x)) * s, weight) if want_weight else None
    return dx, dtarget, dweight


multilabel_soft_margin_loss = answer_of(multilabel_soft_margin_loss_forward)


def soft_margin_loss_forward(x, target, reduction="mean"):
    """y = log(1 + e^(-t x)), reduced.

    x (*), target (*) of 1 and -1 -> y (), or (*) for reduction 'none'. No overflow: y is |x| where t x is far under 0.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.soft_margin_loss.
    Source: Friedman, Hastie, Tibshirani, Additive logistic regression (2000).
    """
    loss = -logsigmoid(as_floats(target, x) * x)
    return reduce(loss, reduction, size(loss)), (x, target, reduction, size(loss))


def soft_margin_loss_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dx (*), None: the gradients of `soft_margin_loss_forward`. dy None is 1."""
    x, target, reduction, norm = cache
    t = as_floats(target, x)
    return pointwise(dy, reduction, norm, (lambda: -t * sigmoid(-t * x), None), (x, target), wanted)


soft_margin_loss = answer_of(soft_margin_loss_forward)


def hinge_embedding_loss_forward(x, target, margin=1.0, reduction="mean"):
    """y = x where t is 1, max(margin - x, 0) where it is -1, reduced.

    x (*) distances, target (*) of 1 and -1 -> y (), or (*) for reduction 'none'.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.hinge_embedding_loss.
    Source: Hadsell, Chopra, LeCun, Dimensionality reduction by learning an invariant mapping (2006).
    """
    xp = array_namespace(x, target)
    alike, apart = xp.where(target != -1, x, 0.0), xp.where(target != 1, xp.clip(margin - x, 0.0, math.inf), 0.0)
    loss = alike + apart  # a target that is neither counts as both, as in torch
    return reduce(loss, reduction, size(loss)), (x, target, margin, reduction, size(loss))


def hinge_embedding_loss_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dx (*), None: the gradients of `hinge_embedding_loss_forward`. dy None is 1."""
    x, target, margin, reduction, norm = cache
    xp = array_namespace(x, target)

    def by_x():
        alike, apart = target != -1, (target != 1) & (x <= margin)
        return xp.astype(alike, x.dtype) - xp.astype(apart, x.dtype)

    return pointwise(dy, reduction, norm, (by_x, None), (x, target), wanted)


hinge_embedding_loss = answer_of(hinge_embedding_loss_forward)
