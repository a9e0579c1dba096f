"""Sliding windows over the trailing axes, and their adjoint: what pooling and convolution stand on.

An index array is never made: on NumPy the windows are a strided view, elsewhere a stack of strided slices, one a tap.
"""

import itertools
import math
from collections.abc import Iterator

import array_api_compat as aac
from numpy.lib.stride_tricks import as_strided

from .namespace import Array, array_namespace, device, like
from .writing import add_at

__all__ = ["add_windows", "blocks", "window_counts", "windows"]

_CACHED = 1 << 18  # numbers in a temporary on a CPU: few enough for its caches, enough for a matrix product
_AT_ONCE = 1 << 28  # elsewhere, where starting a kernel costs more than memory does


def blocks(x: Array, count: int, each: int) -> Iterator[slice]:
    """Parts `count` items into runs, so that a temporary of `each` numbers an item is of a good size for x's device."""
    cpu = str(device(x)) in ("cpu", "CPU_DEVICE")
    run = max(1, (_CACHED if cpu else _AT_ONCE) // max(1, each))
    run = -(-count // -(-count // run)) if count else 1  # runs of equal length
    for start in range(0, count, run):
        yield slice(start, min(start + run, count))


def window_counts(sizes: tuple, kernel: tuple, stride: tuple, dilation: tuple) -> tuple[int, ...]:
    """How many windows fit along each axis."""
    pairs = zip(sizes, kernel, stride, dilation, strict=True)
    return tuple(max(0, (n - d * (k - 1) - 1) // s + 1) for n, k, s, d in pairs)


def _tap(offsets: tuple, counts: tuple, stride: tuple, dilation: tuple) -> tuple:
    """The index of what one tap of the kernel sees in all windows, along the trailing axes."""
    pairs = zip(offsets, counts, stride, dilation, strict=True)
    return (..., *(slice(o * d, o * d + s * (c - 1) + 1 if c else o * d, s) for o, c, s, d in pairs))


def windows(x: Array, kernel: tuple, stride: tuple, dilation: tuple) -> Array:
    """(*lead, *sizes) -> (*lead, *kernel, *counts): element [k, o] is x[o * stride + k * dilation].

    A view of x on NumPy: read it, never write to it.
    """
    n = len(kernel)
    lead, sizes = x.shape[:-n], x.shape[-n:]
    counts = window_counts(sizes, kernel, stride, dilation)
    xp = array_namespace(x)
    if math.prod(kernel) == 1 and counts == sizes:
        return xp.reshape(x, (*lead, *kernel, *counts))
    if aac.is_numpy_array(x):
        steps = x.strides[-n:]
        strides = (
            *x.strides[:-n],
            *(t * d for t, d in zip(steps, dilation, strict=True)),
            *(t * s for t, s in zip(steps, stride, strict=True)),
        )
        return as_strided(x, (*lead, *kernel, *counts), strides, writeable=False)
    taps = [x[_tap(o, counts, stride, dilation)] for o in itertools.product(*map(range, kernel))]
    return xp.reshape(xp.stack(taps, axis=len(lead)), (*lead, *kernel, *counts))


def add_windows(w: Array, sizes: tuple, stride: tuple, dilation: tuple) -> Array:
    """The adjoint of `windows`: (*lead, *kernel, *counts) -> (*lead, *sizes), overlapping windows add up."""
    xp = array_namespace(w)
    n = len(sizes)
    lead, kernel, counts = w.shape[: -2 * n], w.shape[-2 * n : -n], w.shape[-n:]
    if math.prod(kernel) == 1 and counts == tuple(sizes):
        return xp.reshape(w, (*lead, *sizes))
    x = xp.zeros((*lead, *sizes), **like(w))
    for o in itertools.product(*map(range, kernel)):
        x = add_at(x, _tap(o, counts, stride, dilation), w[(..., *o, *(slice(None),) * n)])
    return x
