"""Max pooling in float32, compiled: maxima of rows first, then along the rows, and where they stand for the backward.

The rows of a window are compared element by element, in the widest registers, which leaves one row of maxima; a window
along it takes, as torch's scan of the window does, the first maximum in the order of memory, or the last NaN.
Declined: other dtypes, windows that lie in the padding, and the adaptive pooling of whole planes, for which NumPy has
an argmax.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xplayers.functional import pooling as agnostic
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts
from .compiling import compiled, scalar
from .windows import Windows, adaptive_windows, fits, parts, windows_of

__all__: list[str] = []

_U = np.uintp


@scalar
def _wins(value, place, best, at):
    """Whether torch's scan of a window would rather have this value than the best so far."""
    larger = (value > best) | ((value == best) & (place < at))
    return larger | ((value != value) & ((best == best) | (place > at)))


@compiled
def _copy(x, p, best, place, row, width):
    for k in range(width):
        best[k] = x[p + k]
        place[k] = row


@compiled
def _larger_of_two(x, p, q, best, place, row_p, row_q, width):
    for k in range(width):
        a, b = x[p + k], x[q + k]
        take = (b > a) | (b != b)
        best[k] = b if take else a
        place[k] = row_q if take else row_p


@compiled
def _larger(x, p, best, place, here, there, row, width):
    """From one half of best and place to the other: written in place, LLVM masks the stores, which is slow."""
    for k in range(width):
        value, a, at = x[p + k], best[here + k], place[here + k]
        take = (value > a) | (value != value)
        best[there + k] = value if take else a
        place[there + k] = row if take else at


@functools.cache
def _scan(kernel: int, stride: int) -> Callable[..., None]:
    """The loop over planes whose windows along a row have this length and distance; over any for (0, 0)."""

    @compiled
    def scan(x, y, at, sizes, bounds, steps, inner, origin, first, last):
        """x, y and at are flat: planes of `sizes` and of outputs."""
        depth, height, width = sizes
        z, v, h = bounds
        low, high = inner
        area, n, wide = depth * height * width, len(h), _U(width)
        best, place = np.empty(2 * width, np.float32), np.empty(2 * width, np.int32)
        o = _U(first * len(z) * len(v) * n)
        for plane in range(first, last):
            for d in range(len(z)):
                for e in range(len(v)):
                    seen, p0, here, there = 0, 0, _U(0), wide
                    for i in range(z[d, 0], z[d, 1], steps[0]):
                        for j in range(v[e, 0], v[e, 1], steps[1]):
                            row = (i * height + j) * width
                            p = plane * area + row
                            if seen == 0:
                                p0 = p
                            elif seen == 1:
                                row0 = np.int32(p0 - plane * area)
                                _larger_of_two(x, _U(p0), _U(p), best, place, row0, np.int32(row), wide)
                            else:
                                _larger(x, _U(p), best, place, here, there, np.int32(row), wide)
                                here, there = there, here
                            seen += 1
                    if seen == 1:
                        _copy(x, _U(p0), best, place, np.int32(p0 - plane * area), wide)
                    if kernel:
                        k0, o0 = here + _U(low * stride + origin), o + _U(low)
                        for w in range(_U(high - low)):
                            k = k0 + w * _U(stride)
                            top, spot = best[k], place[k] + np.int32(k - here)
                            for t in range(1, kernel):
                                value, where = best[k + _U(t)], place[k + _U(t)] + np.int32(k - here + _U(t))
                                take = _wins(value, where, top, spot)
                                top = value if take else top
                                spot = where if take else spot
                            y[o0 + w] = top
                            at[o0 + w] = spot
                    for w in range(n):
                        if low <= w < high:
                            continue
                        k = here + _U(h[w, 0])
                        top, spot = best[k], place[k] + np.int32(k - here)
                        for m in range(k + _U(steps[2]), here + _U(h[w, 1]), _U(steps[2])):
                            value, where = best[m], place[m] + np.int32(m - here)
                            take = _wins(value, where, top, spot)
                            top = value if take else top
                            spot = where if take else spot
                        y[o + _U(w)] = top
                        at[o + _U(w)] = spot
                    o += _U(n)

    return scan


@compiled
def _give_back(dy, at, dx, area, count, first, last):
    for plane in range(first, last):
        start, o = _U(plane * area), _U(plane * count)
        for k in range(_U(area)):
            dx[start + k] = np.float32(0)
        for j in range(_U(count)):
            dx[start + _U(at[o + j])] += dy[o + j]


def _maxima(x: Any, n: int, windows: Windows, return_indices: bool) -> Any:
    outputs = windows.outputs
    y = np.empty((*x.shape[:-n], *outputs[3 - n :]), np.float32)
    at = np.empty(y.size, np.int32)
    flat = np.ascontiguousarray(x).reshape(-1), y.reshape(-1), at
    geometry = windows.sizes, windows.bounds, windows.steps, windows.inner, windows.origin
    scan = _scan(*windows.way)
    in_parts(lambda r: scan(*flat, *geometry, r.start, r.stop), parts(math.prod(x.shape[:-n]), windows))
    return (y, at.reshape(y.shape).astype(np.int64)) if return_indices else y, (at, x.shape, windows)


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    at, shape, windows = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    dy = dy[0] if isinstance(dy, tuple) else dy
    if dy is None:
        return np.zeros(shape, np.float32)
    area, count = math.prod(windows.sizes), math.prod(windows.outputs)
    dx = np.empty(shape, np.float32)
    flat = np.ascontiguousarray(dy, np.float32).reshape(-1), at, dx.reshape(-1), area, count
    in_parts(lambda r: _give_back(*flat, r.start, r.stop), parts(dx.size // area, windows))
    return dx


def _register(n: int) -> None:
    name = f"max_pool{n}d"
    rule = "float32: rows of windows, then along the rows"

    def windows_for(x: Any, *given: Any) -> Windows | None:
        """Of the arguments of max pooling, the last of which asks for indices."""
        return windows_of(agnostic.pooling_steps(name, x.shape[-n:], *given[:-1])) if fits(x, n) else None

    def supports(*given: Any) -> bool:
        return windows_for(*given) is not None

    @kernel("numpy", getattr(agnostic, f"{name}_forward"), _backward, supports, means="numba", rule=rule)
    def forward(x: Any, *given: Any) -> Any:
        """Rows of windows, then along the rows."""
        windows = windows_for(x, *given)
        return NotImplemented if windows is None else _maxima(x, n, windows, given[-1])

    adaptive = f"adaptive_max_pool{n}d"

    def adaptive_supports(x: Any, output_size: Any, return_indices: bool) -> bool:
        return adaptive_windows(adaptive, n, x, output_size) is not None

    @kernel(
        "numpy",
        getattr(agnostic, f"{adaptive}_forward"),
        _backward,
        adaptive_supports,
        means="numba",
        rule=f"{rule}; not of whole planes",
    )
    def adaptive_forward(x: Any, output_size: Any, return_indices: bool) -> Any:
        """Rows of windows, then along the rows."""
        windows = adaptive_windows(adaptive, n, x, output_size)
        return NotImplemented if windows is None else _maxima(x, n, windows, return_indices)


for _n in (1, 2, 3):
    _register(_n)
