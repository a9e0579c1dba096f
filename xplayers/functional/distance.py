"""Norms and distances, and the bilinear form."""

import math

from xplayers.arrays import (
    accumulator,
    array_namespace,
    device,
    index_add,
    like,
    sum_leading,
    sum_to,
    take_rows,
    total,
)

from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "bilinear",
    "bilinear_backward",
    "bilinear_forward",
    "cosine_similarity",
    "cosine_similarity_backward",
    "cosine_similarity_forward",
    "pairwise_distance",
    "pairwise_distance_backward",
    "pairwise_distance_forward",
    "pdist",
    "pdist_backward",
    "pdist_forward",
    "vector_norm",
    "vector_norm_backward",
    "vector_norm_forward",
]


def _axes(x, dim):
    """`dim` of torch as a tuple of axes: None and () are all of them."""
    if dim is None or dim == ():
        return tuple(range(x.ndim))
    return tuple(d % x.ndim for d in ((dim,) if isinstance(dim, int) else dim)) if x.ndim else ()


def _expand(t, shape):
    """What a reduction without keepdims left, with the reduced axes back in place as 1."""
    return array_namespace(t).reshape(t, shape)


def _fill(t, hole, value):
    """t with `value` where `hole`."""
    xp = array_namespace(t)
    return xp.where(hole, xp.full_like(t, value), t)


def vector_norm_forward(x, p=2.0, dim=None, keepdim=False):
    """(sum |x|^p)^(1/p); max |x| for p = inf, min |x| for -inf, the count of what is not 0 for p = 0.

    x of any shape, dim an axis, a tuple of axes, or None for all -> the norms, the axes gone or of size 1.
    Errors: those of the library where there is no such axis, and over nothing for p = inf and -inf.
    Twin: torch.linalg.vector_norm.
    Source: Minkowski, Geometrie der Zahlen (1896).
    """
    xp = array_namespace(x)
    axes = _axes(x, dim)
    a = xp.abs(x)
    if abs(p) == math.inf:
        norm = (xp.max if p > 0 else xp.min)(a, axis=axes, keepdims=True)
    elif p == 0:
        norm = total(xp.astype(a != 0, x.dtype), axis=axes, keepdims=True)
    elif p == 1:
        norm = total(a, axis=axes, keepdims=True)
    elif p == 2:
        acc = accumulator(x)
        w = a if acc == x.dtype else xp.astype(a, acc)
        norm = xp.astype(xp.sqrt(total(w * w, axis=axes, keepdims=True)), x.dtype)
    else:
        # by the largest, so that no power leaves the range
        top = xp.max(a, axis=axes, keepdims=True) if p > 0 else xp.min(a, axis=axes, keepdims=True)
        unit = _fill(top, (top == 0) | xp.isinf(top), 1.0)
        norm = top * total((a / unit) ** p, axis=axes, keepdims=True) ** (1.0 / p)
    shape = norm.shape
    if not keepdim:
        norm = xp.squeeze(norm, axis=axes)
    return norm, (x, p, axes, shape, norm)


def _slope(x, norm, p):
    """d norm / dx, the norm in a shape that broadcasts: 0 where it is not defined, 1 at every largest for p = inf."""
    xp = array_namespace(x)
    if abs(p) == math.inf:
        return xp.sign(x) * xp.astype(xp.abs(x) == norm, x.dtype)
    if p == 0:
        return xp.zeros_like(x)
    if p == 1:
        return xp.sign(x)
    unit = x / _fill(norm, norm == 0, 1.0)
    if p == 2:
        return unit
    hole = unit == 0
    return _fill(xp.sign(x) * _fill(xp.abs(unit), hole, 1.0) ** (p - 1), hole, 0.0)


def vector_norm_backward(dy, cache, *, wanted=None):
    """dy, shaped as the norms -> dx as x: the gradient of `vector_norm_forward`.

    dx = dy sign(x) (|x| / norm)^(p - 1), 0 where the norm is 0. For p = inf equal maxima share the gradient.
    """
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    x, p, axes, shape, norm = cache
    xp = array_namespace(dy, x)
    norm, dy = _expand(norm, shape), _expand(dy, shape)
    if abs(p) == math.inf:
        dy = dy / total(xp.astype(xp.abs(x) == norm, x.dtype), axis=axes, keepdims=True)
    return dy * _slope(x, norm, p)


vector_norm = answer_of(vector_norm_forward)


def cosine_similarity_forward(x1, x2, dim=1, eps=1e-8):
    """y = sum(x1 x2) / (max(||x1||, eps) max(||x2||, eps)), the sums along the axis `dim` of their common shape.

    x1, x2 broadcast against each other -> y with the axis gone. Errors: those of the library.
    Twin: torch.nn.functional.cosine_similarity.
    Source: Salton, Wong, Yang, A vector space model for automatic indexing (1975).
    """
    xp = array_namespace(x1, x2)
    a, b = xp.broadcast_arrays(x1, x2)
    norms = [vector_norm_forward(v, 2.0, dim, True)[0] for v in (a, b)]
    clamped = [xp.maximum(n, xp.full_like(n, eps)) for n in norms]
    y = total((a / clamped[0]) * (b / clamped[1]), axis=dim)
    return xp.asarray(y), (x1, x2, dim, norms, clamped)  # what is 0-d is a scalar on NumPy


def cosine_similarity_backward(dy, cache, *, wanted=None):
    """dy -> dx1, dx2 as x1, x2: the gradients of `cosine_similarity_forward`.

    With h = x / n: dx1 = (dy h2 - (sum(dy h1 h2)) x1 / ||x1||) / n1, and the same for x2. As in torch, n counts as the
    norm also where it was held at eps; its slope is 0 where x is 0.
    """
    x1, x2, dim, norms, clamped = cache
    xp = array_namespace(dy, x1, x2)
    a, b = xp.broadcast_arrays(x1, x2)
    d = xp.expand_dims(dy, axis=dim % a.ndim)
    (h1, h2), grads = (a / clamped[0], b / clamped[1]), []
    y = total(h1 * h2, axis=dim, keepdims=True)
    pairs = ((x1, a, h2, norms[0], clamped[0]), (x2, b, h1, norms[1], clamped[1]))
    for want, (x, full, other, norm, n) in zip(wants(wanted, 2), pairs, strict=True):
        grads.append(sum_to(d * (other - y * _slope(full, norm, 2)) / n, x.shape) if want else None)
    return tuple(grads)


cosine_similarity = answer_of(cosine_similarity_forward)


def pairwise_distance_forward(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """y = ||x1 - x2 + eps||_p along the last axis.

    x1, x2 (*, D), broadcast against each other -> y (*), or (*, 1) with keepdim. Errors: those of the library.
    Twin: torch.nn.functional.pairwise_distance.
    Source: Minkowski, Geometrie der Zahlen (1896).
    """
    y, cache = vector_norm_forward(x1 - x2 + eps, p, -1, keepdim)
    return y, (x1.shape, x2.shape, cache)


def pairwise_distance_backward(dy, cache, *, wanted=None):
    """dy (*) or (*, 1) -> dx1, dx2 as x1, x2: the gradients of `pairwise_distance_forward`."""
    want1, want2 = wants(wanted, 2)
    shape1, shape2, norm_cache = cache
    d = vector_norm_backward(dy, norm_cache, wanted=(want1 or want2,))
    return sum_to(d, shape1) if want1 else None, -sum_to(d, shape2) if want2 else None


pairwise_distance = answer_of(pairwise_distance_forward)


def _pairs(x):
    """The first and the second of all pairs i < j of rows, in torch's order."""
    xp = array_namespace(x)
    n = x.shape[0]
    ij = [[i for i in range(n) for _ in range(i + 1, n)], [j for i in range(n) for j in range(i + 1, n)]]
    return (xp.asarray(k, dtype=xp.int64, device=device(x)) for k in ij)


def pdist_forward(x, p=2.0):
    """y = ||x_i - x_j||_p for all pairs of rows i < j: (0, 1), (0, 2), ..., (1, 2), ...

    x (N, D) -> y (N (N - 1) / 2,). Memory: D numbers a pair. Errors: those of the library.
    Twin: torch.nn.functional.pdist.
    Source: Minkowski, Geometrie der Zahlen (1896).
    """
    first, second = _pairs(x)
    diff = take_rows(x, first) - take_rows(x, second)  # (P, D)
    return vector_norm_forward(diff, p, -1)[0], (x, p)


def pdist_backward(dy, cache, *, wanted=None):
    """dy (N (N - 1) / 2,) -> dx (N, D): the gradient of `pdist_forward`. For p = inf every largest takes all of it."""
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    x, p = cache
    first, second = _pairs(x)
    diff = take_rows(x, first) - take_rows(x, second)  # (P, D)
    d = dy[:, None] * _slope(diff, vector_norm_forward(diff, p, -1, True)[0], p)
    return index_add(index_add(array_namespace(dy).zeros(x.shape, **like(x)), first, d), second, -d)


pdist = answer_of(pdist_forward)


@accelerable
def bilinear_forward(input1, input2, weight, bias=None):
    """y_o = x1^T W_o x2 + b_o.

    input1 (*, in1), input2 (*, in2), weight (out, in1, in2), bias (out,) -> y (*, out).
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.bilinear.
    Source: Tenenbaum, Freeman, Separating style and content with bilinear models (2000).
    """
    xp = array_namespace(input1, input2, weight, bias)
    out, in1, in2 = weight.shape
    m = math.prod(input1.shape[:-1])
    y = xp.matmul(_outer(input1, input2, m), xp.reshape(weight, (out, in1 * in2)).T)  # (M, out): one BLAS product
    y = y if bias is None else y + bias
    return xp.reshape(y, (*input1.shape[:-1], out)), (input1, input2, weight, bias is not None)


def _outer(x1, x2, m):
    """(*, in1), (*, in2) -> all products, (M, in1 in2)."""
    xp = array_namespace(x1, x2)
    in1, in2 = x1.shape[-1], x2.shape[-1]
    return xp.reshape(xp.reshape(x1, (m, in1, 1)) * xp.reshape(x2, (m, 1, in2)), (m, in1 * in2))


@follows_cache
def bilinear_backward(dy, cache, *, wanted=None):
    """dy (*, out) -> dinput1, dinput2, dweight, dbias: the gradients of `bilinear_forward`."""
    want1, want2, want_weight, want_bias = wants(wanted, 4)
    x1, x2, weight, has_bias = cache
    xp = array_namespace(dy, x1, x2)
    out, in1, in2 = weight.shape
    m = math.prod(x1.shape[:-1])
    d = xp.reshape(dy, (m, out))  # (M, out)
    dx1 = dx2 = dweight = dbias = None
    if want1 or want2:
        douter = xp.reshape(xp.matmul(d, xp.reshape(weight, (out, in1 * in2))), (m, in1, in2))
    if want1:
        dx1 = xp.reshape(xp.matmul(douter, xp.reshape(x2, (m, in2, 1))), x1.shape)
    if want2:
        dx2 = xp.reshape(xp.matmul(xp.reshape(x1, (m, 1, in1)), douter), x2.shape)
    if want_weight:
        dweight = xp.reshape(xp.matmul(d.T, _outer(x1, x2, m)), weight.shape)
    if want_bias and has_bias:
        dbias = sum_leading(d)
    return dx1, dx2, dweight, dbias


bilinear = answer_of(bilinear_forward)
