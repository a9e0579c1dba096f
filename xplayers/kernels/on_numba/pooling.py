"""Max pooling in float32, compiled: each window is scanned once, and where its maximum stands is kept for the backward.

One loop over three axes, of which unused ones have the size 1, is all of 1, 2 and 3 dimensions. The scan is torch's: an
element is taken where it is larger than all before it, is NaN, or is the first that is no padding. Declined: other
dtypes, and where indices are asked for.
"""

import math
from typing import Any

import numpy as np

from xplayers.functional import pooling as agnostic
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs
from .compiling import compiled

__all__: list[str] = []

_PART = 1 << 15  # numbers that are worth a thread


@compiled
def _inside(start, step, taps, size):
    """Which taps of a window that starts there see the image: first, past the last."""
    first, last = 0, taps
    if start < 0:
        first = min(taps, (step - 1 - start) // step)
    if start + (taps - 1) * step >= size:
        last = max(first, (size - 1 - start) // step + 1)
    return first, last


@compiled
def _scan(x, y, at, sizes, kernels, strides, paddings, dilations, counts, first, last):
    """x, y and at are flat: planes of `sizes` and of `counts`."""
    depth, height, width = sizes
    _, _, kw = kernels
    sw, pw, dw = strides[2], paddings[2], dilations[2]
    area, o = depth * height * width, first * counts[0] * counts[1] * counts[2]
    for plane in range(first, last):
        image = x[plane * area : (plane + 1) * area]
        for d in range(counts[0]):
            z0 = d * strides[0] - paddings[0]
            i0, i1 = _inside(z0, dilations[0], kernels[0], depth)
            for h in range(counts[1]):
                y0 = h * strides[1] - paddings[1]
                j0, j1 = _inside(y0, dilations[1], kernels[1], height)
                for w in range(counts[2]):
                    x0 = w * sw - pw
                    k0, k1 = _inside(x0, dw, kw, width)
                    best, place = np.float32(-np.inf), -1
                    for i in range(i0, i1):
                        for j in range(j0, j1):
                            row = ((z0 + i * dilations[0]) * height + y0 + j * dilations[1]) * width + x0
                            for k in range(k0, k1):
                                value, here = image[row + k * dw], row + k * dw
                                take = (value > best) | (value != value) | (place < 0)
                                best = value if take else best  # two choices in place of a branch, which no
                                place = here if take else place  # processor foresees
                    y[o], at[o] = best, place
                    o += 1


@compiled
def _give_back(dy, at, dx, area, count, first, last):
    for plane in range(first, last):
        start, o = plane * area, plane * count
        for j in range(count):
            dx[start + at[o + j]] += dy[o + j]


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    at, shape, n = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    area, count = math.prod(shape[-n:]), math.prod(dy.shape[-n:])
    dx = np.zeros(shape, np.float32)
    flat = np.ascontiguousarray(dy).reshape(-1), at, dx.reshape(-1), area, count
    in_parts(lambda r: _give_back(*flat, r.start, r.stop), runs(dx.size // area, max(1, _PART // area)))
    return dx


def _supports(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> bool:
    return x.dtype == np.float32 and x.size > 0 and not return_indices


def _register(n: int) -> None:
    name = f"max_pool{n}d"
    reference = getattr(agnostic, f"{name}_forward")

    @kernel("numpy", reference, _backward, _supports, means="numba", rule="float32, without indices: a scan of windows")
    def forward(
        x: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        """Windows one by one."""
        if not _supports(x, kernel_size, return_indices=return_indices) or x.ndim < n:
            return NotImplemented
        steps = agnostic.pooling_steps(name, x.shape[-n:], kernel_size, stride, padding, dilation, ceil_mode)
        more = 3 - n
        sizes, kernels, strides, dilations, counts = (
            (1,) * more + tuple(getattr(s, field) for s in steps)
            for field in ("size", "kernel", "stride", "dilation", "windows")
        )
        paddings = (0,) * more + tuple(s.padding for s in steps)
        y = np.empty((*x.shape[:-n], *counts[more:]), np.float32)
        at = np.empty(y.size, np.int32)
        geometry = sizes, kernels, strides, paddings, dilations, counts
        flat = np.ascontiguousarray(x).reshape(-1), y.reshape(-1), at
        planes, area = math.prod(x.shape[:-n]), math.prod(sizes)
        in_parts(lambda r: _scan(*flat, *geometry, r.start, r.stop), runs(planes, max(1, _PART // area)))
        return y, (at, x.shape, n)


for _n in (1, 2, 3):
    _register(_n)
