"""Weights that are computed from other parameters: magnitude and direction apart, or a bound on the largest stretch."""

import math

from xplayers.arrays import accumulator, array_namespace, total, unscalar

from .pair import answer_of, wants

__all__ = [
    "spectral_norm",
    "spectral_norm_backward",
    "spectral_norm_forward",
    "spectral_norm_vectors",
    "weight_norm",
    "weight_norm_backward",
    "weight_norm_forward",
    "weight_norm_magnitude",
]


def weight_norm_magnitude(x, dim=0):
    """||x|| over all axes but `dim`, which keep length 1; with dim None or -1 over all of x, 0-d. The g of x itself."""
    xp = array_namespace(x)
    a = xp.astype(x, accumulator(x), copy=False)
    whole = dim is None or dim == -1
    axes = tuple(range(x.ndim)) if whole else tuple(i for i in range(x.ndim) if i != dim % x.ndim)
    squares = total(a * a, axis=axes, keepdims=not whole) if axes else a * a
    return xp.astype(xp.sqrt(squares), x.dtype, copy=False)


def weight_norm_forward(x, g, dim=0):
    """y = g x / ||x||, the norm over all axes but `dim`.

    x of any shape, g (1, ..., n, ..., 1) with n = x.shape[dim], 0-d with dim None or -1 (torch's rule for -1) -> y of
    x's shape. NaN where the norm is 0, as torch gives.
    Errors: those of the library where the shapes do not fit. Twin: torch._weight_norm, behind
    torch.nn.utils.parametrizations.weight_norm.
    Source: Salimans, Kingma, Weight normalization (2016).
    """
    xp = array_namespace(x, g)
    norm = weight_norm_magnitude(x, dim)
    norm = xp.where(norm > 0, norm, math.nan)  # 0 / 0 without a warning
    return x * (g / norm), (x, g, norm)


def weight_norm_backward(dy, cache, *, wanted=None):
    """dy -> dx, dg: the gradients of `weight_norm_forward`."""
    x, g, norm = cache
    want_x, want_g = wants(wanted, 2)
    xp = array_namespace(dy, x)
    direction = x / norm
    axes = tuple(i for i in range(x.ndim) if norm.ndim == 0 or norm.shape[i] == 1 != x.shape[i])
    along = total(dy * direction, axis=axes, keepdims=norm.ndim > 0) if axes else dy * direction  # like norm
    dx = (g / norm) * (dy - along * direction) if want_x else None
    return dx, unscalar(xp.reshape(along, g.shape)) if want_g else None


def spectral_norm_forward(x, u=None, v=None, dim=0, n_power_iterations=0, eps=1e-12):
    """y = x / sigma, sigma = u^T X v being the largest singular value of the matrix X (n, m), rows along `dim`.

    x of two or more axes, u (n,), v (m,) -> y of x's shape. Before that u and v come closer to the singular vectors
    by `n_power_iterations` times u = X v / ||X v||, v = X^T u / ||X^T u||; they count as constants of the gradient.
    A 1-d x needs neither: y = x / max(||x||, eps). NaN where sigma is 0.
    `spectral_norm_vectors(cache)` gives u and v as they were used.
    Errors: those of the library where the shapes do not fit. Twin: torch.nn.utils.parametrizations.spectral_norm.
    Source: Miyato et al., Spectral normalization for generative adversarial networks (2018).
    """
    xp = array_namespace(x, u, v)
    if x.ndim == 1:
        norm = xp.sqrt(total(x * x))
        y = x / xp.maximum(norm, eps)
        return y, (y, None, None, norm, dim, eps)
    rows = xp.moveaxis(x, dim, 0)
    matrix = xp.reshape(rows, (rows.shape[0], math.prod(rows.shape[1:])))  # (n, m)
    for _ in range(n_power_iterations):
        u = _unit(xp.matmul(matrix, v), eps)
        v = _unit(xp.matmul(matrix.T, u), eps)
    sigma = total(u * xp.matmul(matrix, v))
    y = x / xp.where(sigma != 0, sigma, math.nan)  # 0 / 0 without a warning
    return y, (y, u, v, sigma, dim, eps)


def spectral_norm_backward(dy, cache, *, wanted=None):
    """dy -> dx, None, None: the gradients of `spectral_norm_forward`."""
    y, u, v, sigma, dim, eps = cache
    if not wants(wanted, 3)[0]:
        return None, None, None
    xp = array_namespace(dy, y)
    along = total(dy * y)
    if u is None:
        inside = xp.astype(sigma > eps, y.dtype)  # below eps the divisor is constant
        return (dy - inside * along * y) / xp.maximum(sigma, eps), None, None
    rest = tuple(n for i, n in enumerate(y.shape) if i != dim % y.ndim)
    outer = xp.reshape(u[:, None] * v[None, :], (u.shape[0], *rest))  # dsigma/dX
    sigma = xp.where(sigma != 0, sigma, math.nan)
    return (dy - along * xp.moveaxis(outer, 0, dim)) / sigma, None, None


def spectral_norm_vectors(cache):
    """The u (n,) and v (m,) of a `spectral_norm_forward`, after its iterations; None and None for a 1-d x."""
    return cache[1], cache[2]


def _unit(x, eps):
    """x / max(||x||, eps)."""
    xp = array_namespace(x)
    return x / xp.maximum(xp.sqrt(total(x * x)), eps)


weight_norm = answer_of(weight_norm_forward)
spectral_norm = answer_of(spectral_norm_forward)
