"""Losses that compare: two scores, two vectors, three points."""

import math

from xplayers.arrays import array_namespace, size, total

from .distance import pairwise_distance_backward, pairwise_distance_forward
from .loss import as_floats, fit, pointwise, reduce, share
from .pair import answer_of, wants

__all__ = [
    "cosine_embedding_loss",
    "cosine_embedding_loss_backward",
    "cosine_embedding_loss_forward",
    "margin_ranking_loss",
    "margin_ranking_loss_backward",
    "margin_ranking_loss_forward",
    "triplet_margin_loss",
    "triplet_margin_loss_backward",
    "triplet_margin_loss_forward",
    "triplet_margin_with_distance_loss",
    "triplet_margin_with_distance_loss_backward",
    "triplet_margin_with_distance_loss_forward",
]


def margin_ranking_loss_forward(input1, input2, target, margin=0.0, reduction="mean"):
    """y = max(-t (x1 - x2) + margin, 0), reduced.

    input1 (*), input2 (*), target (*) of 1 (input1 shall be larger) and -1 -> y (), or (*) for reduction 'none'.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.margin_ranking_loss.
    Source: Herbrich, Graepel, Obermayer, Large margin rank boundaries for ordinal regression (2000).
    """
    xp = array_namespace(input1, input2, target)
    loss = xp.clip(margin - as_floats(target, input1) * (input1 - input2), 0.0, math.inf)
    return reduce(loss, reduction, size(loss)), (input1, input2, target, margin, reduction, size(loss))


def margin_ranking_loss_backward(dy, cache, *, wanted=None):
    """dy () or (*) -> dinput1 (*), dinput2 (*), dtarget (*): the gradients of `margin_ranking_loss_forward`.

    dy None is 1. At the margin itself the loss counts as sloped, as in torch.
    """
    input1, input2, target, margin, reduction, norm = cache
    xp = array_namespace(input1, input2, target)
    t, d = as_floats(target, input1), input1 - input2
    sloped = xp.astype(margin - t * d >= 0, d.dtype)
    slopes = (lambda: -t * sloped, lambda: t * sloped, lambda: -d * sloped)
    return pointwise(dy, reduction, norm, slopes, (input1, input2, target), wanted)


margin_ranking_loss = answer_of(margin_ranking_loss_forward)

_EPSILON = 1e-12  # torch's, added to the squares


def _cosine(input1, input2):
    """cos (N, 1) along the last axis, and the squares of the two lengths (N, 1)."""
    xp = array_namespace(input1, input2)
    square1 = total(input1 * input1, axis=-1, keepdims=True) + _EPSILON
    square2 = total(input2 * input2, axis=-1, keepdims=True) + _EPSILON
    product = total(input1 * input2, axis=-1, keepdims=True)
    return product / (xp.sqrt(square1) * xp.sqrt(square2)), square1, square2


def cosine_embedding_loss_forward(input1, input2, target, margin=0.0, reduction="mean"):
    """y = 1 - cos(x1, x2) where t is 1, max(cos(x1, x2) - margin, 0) where it is -1, reduced.

    input1 (N, D) or (D,), input2 (N, D) or (D,), target (N,) or () -> y (), or (N,) for reduction 'none'.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.cosine_embedding_loss.
    Source: Bromley et al., Signature verification using a Siamese time delay neural network (1993).
    """
    xp = array_namespace(input1, input2, target)
    cos = xp.squeeze(_cosine(input1, input2)[0], axis=-1)
    loss = xp.where(target == 1, 1.0 - cos, xp.where(target == -1, xp.clip(cos - margin, 0.0, math.inf), 0.0))
    return reduce(loss, reduction, size(loss)), (input1, input2, target, margin, reduction, size(loss))


def cosine_embedding_loss_backward(dy, cache, *, wanted=None):
    """dy () or (N,) -> dinput1 (N, D), dinput2 (N, D), None: the gradients of `cosine_embedding_loss_forward`.

    dy None is 1.
    """
    input1, input2, target, margin, reduction, norm = cache
    want1, want2, _ = wants(wanted, 3)
    xp = array_namespace(input1, input2, target)
    cos, square1, square2 = _cosine(input1, input2)
    s, t = share(dy, reduction, norm, input1), target[..., None]  # t (N, 1)
    slope = xp.where((t == -1) & (cos >= margin), 1.0, xp.zeros_like(cos))
    dcos = xp.where(t == 1, -1.0, slope) * (s[..., None] if reduction == "none" else s)
    lengths = xp.sqrt(square1) * xp.sqrt(square2)
    dinput1 = fit(dcos * (input2 / lengths - cos * input1 / square1), input1) if want1 else None
    dinput2 = fit(dcos * (input1 / lengths - cos * input2 / square2), input2) if want2 else None
    return dinput1, dinput2, None


cosine_embedding_loss = answer_of(cosine_embedding_loss_forward)


def triplet_margin_with_distance_loss_forward(
    anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"
):
    """y = max(d(a, p) - d(a, n) + margin, 0), reduced; with `swap`, d(a, n) or d(p, n), whichever is smaller.

    anchor, positive, negative (N, *) -> y (), or (N,) for reduction 'none'. distance_function is a pair, as all here
    are: (forward, backward) with d, cache = forward(a, b) and da, db = backward(dd, cache); None is
    `pairwise_distance`'s. Errors: those of the distance. Twin: torch.nn.functional.triplet_margin_with_distance_loss.
    Source: Balntas et al., Learning local feature descriptors with triplets (2016).
    """
    pair = (pairwise_distance_forward, pairwise_distance_backward) if distance_function is None else distance_function
    xp = array_namespace(anchor, positive, negative)
    to_positive, cache_positive = pair[0](anchor, positive)
    to_negative, cache_negative = pair[0](anchor, negative)
    between, cache_between = pair[0](positive, negative) if swap else (None, None)
    nearest = xp.minimum(to_negative, between) if swap else to_negative
    over = margin + to_positive - nearest
    y = reduce(xp.clip(over, 0.0, math.inf), reduction, size(over))
    distances = to_positive, to_negative, between
    return y, (pair, (cache_positive, cache_negative, cache_between), distances, over, reduction, size(over))


def triplet_margin_with_distance_loss_backward(dy, cache, *, wanted=None):
    """dy () or (N,) -> danchor, dpositive, dnegative: the gradients of `triplet_margin_with_distance_loss_forward`.

    dy None is 1. At the margin itself the loss counts as sloped, and equal distances share the gradient, as in torch.
    """
    pair, (cache_positive, cache_negative, cache_between), distances, over, reduction, norm = cache
    to_positive, to_negative, between = distances
    xp = array_namespace(over)
    d = xp.astype(over >= 0, over.dtype) * share(dy, reduction, norm, over)
    danchor, dpositive = pair[1](fit(d, to_positive), cache_positive)
    if between is None:
        danchor2, dnegative = pair[1](fit(-d, to_negative), cache_negative)
    else:
        first = 0.5 * (xp.astype(to_negative < between, d.dtype) + xp.astype(to_negative <= between, d.dtype))
        danchor2, dnegative = pair[1](fit(-d * first, to_negative), cache_negative)
        dpositive2, dnegative2 = pair[1](fit(-d * (1.0 - first), between), cache_between)
        dpositive, dnegative = dpositive + dpositive2, dnegative + dnegative2
    gradients = danchor + danchor2, dpositive, dnegative
    return tuple(g if want else None for g, want in zip(gradients, wants(wanted, 3), strict=True))


triplet_margin_with_distance_loss = answer_of(triplet_margin_with_distance_loss_forward)


def triplet_margin_loss_forward(anchor, positive, negative, margin=1.0, p=2.0, eps=1e-6, swap=False, reduction="mean"):
    """y = max(|a - p| - |a - n| + margin, 0), reduced, | | being the p-norm of `pairwise_distance_forward`.

    anchor, positive, negative (N, D) or (D,) -> y (), or (N,) or () for reduction 'none'. swap as in
    `triplet_margin_with_distance_loss_forward`. Errors: those of the library where the shapes do not fit.
    Twin: torch.nn.functional.triplet_margin_loss. Source: the same.
    """
    pair = (lambda a, b: pairwise_distance_forward(a, b, p, eps)), pairwise_distance_backward
    how = {"distance_function": pair, "margin": margin, "swap": swap, "reduction": reduction}
    return triplet_margin_with_distance_loss_forward(anchor, positive, negative, **how)


triplet_margin_loss_backward = triplet_margin_with_distance_loss_backward

triplet_margin_loss = answer_of(triplet_margin_loss_forward)
