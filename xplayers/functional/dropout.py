"""Dropout: elements or whole channels left out at random, each of them x times a mask, scaled and shifted."""

import math

from xplayers.arrays import array_namespace, device, uniform
from xplayers.errors import refusal

from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "alpha_dropout",
    "alpha_dropout_backward",
    "alpha_dropout_forward",
    "dropout",
    "dropout1d",
    "dropout1d_backward",
    "dropout1d_forward",
    "dropout2d",
    "dropout2d_backward",
    "dropout2d_forward",
    "dropout3d",
    "dropout3d_backward",
    "dropout3d_forward",
    "dropout_backward",
    "dropout_forward",
    "feature_alpha_dropout",
    "feature_alpha_dropout_backward",
    "feature_alpha_dropout_forward",
]


def _drop(name, x, p, training, mask, rng, shape, dropped=0.0):
    """y = a (x where mask, `dropped` where not) + b; a and b keep x's mean, and its variance where `dropped` is not 0.

    `shape` is that of the mask to draw, and broadcasts to x's. The cache is (mask, a): the mask is kept as booleans.
    """
    if not 0 <= p <= 1:
        raise refusal(name, "p", repr(p), "a probability, 0 <= p <= 1", "pass the share to be dropped, as in p=0.5")
    if not training or (p == 0 and mask is None):
        return x, (None, 1.0)
    xp = array_namespace(x, mask)
    if mask is None:
        mask = uniform(rng, shape, xp.zeros((), dtype=xp.float32, device=device(x))) >= p
    keep = xp.astype(mask, x.dtype)
    if p == 1:  # nothing is left that could be scaled up
        return x * (0.0 * keep), (mask, 0.0)
    if not dropped:
        a = 1.0 / (1.0 - p)
        return x * (keep * a), (mask, a)
    a = 1.0 / math.sqrt((1.0 + p * dropped * dropped) * (1.0 - p))
    return x * (keep * a) + (1.0 - p - keep) * (a * dropped), (mask, a)


@accelerable
def dropout_forward(x, p=0.5, training=True, *, mask=None, rng=None):
    """y = x * mask / (1 - p) in training, x where not; each element of the mask is 0 with probability p, else 1.

    x (*) -> y (*). mask (*): what is kept, boolean or 0 and 1, where it is not to be drawn; rng: what draws it, a NumPy
    Generator or a Key. Errors: ValueError where p is no probability. Twin: torch.nn.functional.dropout.
    Source: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, Dropout (2014).
    """
    return _drop("dropout", x, p, training, mask, rng, x.shape)


@follows_cache
def dropout_backward(dy, cache, *, wanted=None):
    """dy (*) -> dx (*): the gradient of `dropout_forward`, and of all its kin."""
    mask, a = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    return dy if mask is None else dy * (array_namespace(dy, mask).astype(mask, dy.dtype) * a)


dropout = answer_of(dropout_forward)


def _channels(name, x, lead, fits, shapes):
    """The shape of a mask of channels: x's first `lead` axes, then ones. `shapes` says in words what `fits`."""
    if not fits:
        mend = "call dropout, which leaves out single elements, or give x the axes of a batch and of channels"
        raise refusal(name, "x", f"shape {x.shape}, {x.ndim}-d", f"shape {shapes}", mend)
    return (*x.shape[:lead], *(1,) * (x.ndim - lead))


@accelerable
def dropout1d_forward(x, p=0.5, training=True, *, mask=None, rng=None):
    """y = x * mask / (1 - p) in training, x where not; each channel of the mask is 0 with probability p, else 1.

    x (N, C, L) or (C, L) -> y of x's shape. mask (N, C, 1) or (C, 1), or what else broadcasts to x.
    Errors: ValueError where p is no probability or x of another rank. Twin: torch.nn.functional.dropout1d.
    Source: Tompson, Goroshin, Jain, LeCun, Bregler, Efficient object localization using convolutional networks (2014).
    """
    shape = _channels("dropout1d", x, x.ndim - 1, x.ndim in (2, 3), "(N, C, L) or (C, L)")
    return _drop("dropout1d", x, p, training, mask, rng, shape)


def dropout1d_backward(dy, cache, *, wanted=None):
    """dy of x's shape -> dx of x's shape: the gradient of `dropout1d_forward`."""
    return dropout_backward(dy, cache, wanted=wanted)


dropout1d = answer_of(dropout1d_forward)


@accelerable
def dropout2d_forward(x, p=0.5, training=True, *, mask=None, rng=None):
    """y = x * mask / (1 - p) in training, x where not; each channel of the mask is 0 with probability p, else 1.

    x (N, C, H, W), or (N, C, L) as in torch, which takes three axes so -> y of x's shape. mask (N, C, 1, 1) or
    (N, C, 1), or what else broadcasts to x. Errors: ValueError where p is no probability or x of another rank.
    Twin: torch.nn.functional.dropout2d.
    Source: Tompson, Goroshin, Jain, LeCun, Bregler, Efficient object localization using convolutional networks (2014).
    """
    shape = _channels("dropout2d", x, 2, x.ndim in (3, 4), "(N, C, H, W) or (N, C, L)")
    return _drop("dropout2d", x, p, training, mask, rng, shape)


def dropout2d_backward(dy, cache, *, wanted=None):
    """dy of x's shape -> dx of x's shape: the gradient of `dropout2d_forward`."""
    return dropout_backward(dy, cache, wanted=wanted)


dropout2d = answer_of(dropout2d_forward)


@accelerable
def dropout3d_forward(x, p=0.5, training=True, *, mask=None, rng=None):
    """y = x * mask / (1 - p) in training, x where not; each channel of the mask is 0 with probability p, else 1.

    x (N, C, D, H, W) or (C, D, H, W) -> y of x's shape. mask (N, C, 1, 1, 1) or (C, 1, 1, 1), or what else broadcasts
    to x. Errors: ValueError where p is no probability or x of another rank. Twin: torch.nn.functional.dropout3d.
    Source: Tompson, Goroshin, Jain, LeCun, Bregler, Efficient object localization using convolutional networks (2014).
    """
    shape = _channels("dropout3d", x, x.ndim - 3, x.ndim in (4, 5), "(N, C, D, H, W) or (C, D, H, W)")
    return _drop("dropout3d", x, p, training, mask, rng, shape)


def dropout3d_backward(dy, cache, *, wanted=None):
    """dy of x's shape -> dx of x's shape: the gradient of `dropout3d_forward`."""
    return dropout_backward(dy, cache, wanted=wanted)


dropout3d = answer_of(dropout3d_forward)

_SELU_FLOOR = -1.7580993408473766  # -scale * alpha: where SELU ends on the left


@accelerable
def alpha_dropout_forward(x, p=0.5, training=False, *, mask=None, rng=None):
    """y = a (x where mask, s where not) + b in training, x where not; s = -1.7580993... is SELU's limit on the left.

    a = ((1 - p) (1 + p s^2))^(-1/2) and b = -a p s keep mean 0 and variance 1. The mask as in `dropout_forward`.
    x (*) -> y (*). Errors: ValueError where p is no probability. Twin: torch.nn.functional.alpha_dropout.
    Source: Klambauer, Unterthiner, Mayr, Hochreiter, Self-normalizing neural networks (2017).
    """
    return _drop("alpha_dropout", x, p, training, mask, rng, x.shape, _SELU_FLOOR)


def alpha_dropout_backward(dy, cache, *, wanted=None):
    """dy (*) -> dx (*): the gradient of `alpha_dropout_forward`."""
    return dropout_backward(dy, cache, wanted=wanted)


alpha_dropout = answer_of(alpha_dropout_forward)


@accelerable
def feature_alpha_dropout_forward(x, p=0.5, training=False, *, mask=None, rng=None):
    """`alpha_dropout_forward` of whole channels: one element of the mask for each.

    x (N, C, *) -> y (N, C, *). mask (N, C, 1, ...), or what else broadcasts to x. Errors: ValueError where p is no
    probability or x has no axis of channels. Twin: torch.nn.functional.feature_alpha_dropout.
    Source: Klambauer, Unterthiner, Mayr, Hochreiter, Self-normalizing neural networks (2017).
    """
    shape = _channels("feature_alpha_dropout", x, 2, x.ndim >= 2, "(N, C, *)")
    return _drop("feature_alpha_dropout", x, p, training, mask, rng, shape, _SELU_FLOOR)


def feature_alpha_dropout_backward(dy, cache, *, wanted=None):
    """dy (N, C, *) -> dx (N, C, *): the gradient of `feature_alpha_dropout_forward`."""
    return dropout_backward(dy, cache, wanted=wanted)


feature_alpha_dropout = answer_of(feature_alpha_dropout_forward)
