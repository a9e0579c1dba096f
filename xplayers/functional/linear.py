"""Affine maps."""

import math

from xplayers.arrays import array_namespace, matmul, sum_leading

from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "flatten",
    "flatten_backward",
    "flatten_forward",
    "linear",
    "linear_backward",
    "linear_forward",
    "unflatten",
    "unflatten_backward",
    "unflatten_forward",
]


@accelerable
def linear_forward(x, weight, bias=None):
    """y = x W^T + b.

    x (*, in), weight (out, in) or (in,), bias (out,) or () -> y (*, out) or (*).
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.linear.
    Source: Rumelhart, Hinton, Williams, Learning representations by back-propagating errors (1986).
    """
    xp = array_namespace(x, weight, bias)
    rows = xp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1])) if x.ndim != 2 else x  # (M, in): one BLAS product
    y = matmul(rows, weight.T if weight.ndim == 2 else weight)  # (M, out) or (M,)
    y = y if bias is None else y + bias
    if x.ndim != 2:
        y = xp.reshape(y, (*x.shape[:-1], *weight.shape[:-1]))
    return y, (x, weight, bias is not None)


@follows_cache
def linear_backward(dy, cache, *, wanted=None):
    """dy (*, out) -> dx (*, in), dweight (out, in), dbias (out,): the gradients of `linear_forward`."""
    x, weight, has_bias = cache
    xp = array_namespace(dy, x)
    want_x, want_weight, want_bias = wants(wanted, 3)
    out, inn = (1, *weight.shape)[-2:]
    m = math.prod(x.shape[:-1])
    d = xp.reshape(dy, (m, out))  # (M, out)
    dx = dweight = dbias = None
    if want_x:
        dx = xp.reshape(matmul(d, xp.reshape(weight, (out, inn))), x.shape)
    if want_weight:
        dweight = xp.reshape(matmul(d.T, xp.reshape(x, (m, inn))), weight.shape)
    if want_bias and has_bias:
        dbias = xp.reshape(sum_leading(d), weight.shape[:-1])
    return dx, dweight, dbias


linear = answer_of(linear_forward)


def flatten_forward(x, start_dim=0, end_dim=-1):
    """One axis of the axes start_dim to end_dim, both included.

    x (a, b, c, d) with start_dim=1, end_dim=2 -> y (a, b c, d); a 0-d x -> (1,). Any dtype.
    Errors: those of the library where there is no such axis. Twin: torch.flatten.
    Source: elementary.
    """
    if x.ndim == 0:
        shape = (1,)
    else:
        start, end = start_dim % x.ndim, end_dim % x.ndim
        shape = (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
    return array_namespace(x).reshape(x, shape), (x.shape,)


def flatten_backward(dy, cache, *, wanted=None):
    """dy -> dx of the shape that x had: the gradient of `flatten_forward`."""
    (want_x,) = wants(wanted, 1)
    (shape,) = cache
    return array_namespace(dy).reshape(dy, shape) if want_x else None


def unflatten_forward(x, dim, sizes):
    """The axis `dim` parted into axes of `sizes`, of which one may be -1.

    x (a, b c, d) with dim=1, sizes=(b, c) -> y (a, b, c, d). Any dtype.
    Errors: those of the library where the sizes do not fit. Twin: torch.unflatten.
    Source: elementary.
    """
    dim = dim % x.ndim
    known = math.prod(n for n in sizes if n != -1)
    parts = tuple(x.shape[dim] // known if n == -1 else n for n in sizes)
    return array_namespace(x).reshape(x, (*x.shape[:dim], *parts, *x.shape[dim + 1 :])), (x.shape,)


unflatten_backward = flatten_backward

flatten = answer_of(flatten_forward)
unflatten = answer_of(unflatten_forward)
