"""Average pooling in float32, compiled: the rows of a window are added up, then the numbers along the row.

Backwards the gradients of a row of windows are spread along one row, which is added to each row that the windows see.
Declined: other dtypes, windows that lie in the padding, rows shorter than the widest registers, for which NumPy alone
is quicker, and adaptive pooling of whole planes, which is one product.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xplayers.functional import pooling as agnostic
from xplayers.functional.pair import wants

from ..registry import kernel, worth
from ..threads import in_parts
from .compiling import compiled
from .windows import Windows, adaptive_windows, fits, parts, windows_of

__all__: list[str] = []

_NARROW = 16  # numbers of a row: of fewer, NumPy alone is quicker
_U = np.uintp
_0 = np.float32(0)


@compiled
def _add(x, p, sums, width, fresh):
    if fresh:
        for k in range(width):
            sums[k] = x[p + k]
    else:
        for k in range(width):
            sums[k] += x[p + k]


@compiled
def _add_to(dx, p, row, width):
    for k in range(width):
        dx[p + k] += row[k]


@functools.cache
def _loops(kernel: int, stride: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """The loops over planes whose windows along a row have this length and distance; over any for (0, 0)."""

    @compiled
    def forward(x, y, counts, sizes, bounds, inner, origin, first, last):
        """x and y are flat: planes of `sizes` and of outputs. The divisor of a window is a product of three counts."""
        _, height, width = sizes
        z, v, h = bounds
        low, high = inner
        n, sums = len(h), np.empty(width, np.float32)
        o = _U(first * len(z) * len(v) * n)
        for plane in range(first, last):
            for d in range(len(z)):
                for e in range(len(v)):
                    fresh = True
                    for i in range(z[d, 0], z[d, 1]):
                        for j in range(v[e, 0], v[e, 1]):
                            _add(x, _U(((plane * sizes[0] + i) * height + j) * width), sums, _U(width), fresh)
                            fresh = False
                    count = counts[0][d] * counts[1][e]
                    if kernel:
                        k0, w0 = _U(low * stride + origin), _U(low)
                        for w in range(_U(high - low)):
                            s = _0
                            for t in range(kernel):
                                s += sums[k0 + w * _U(stride) + _U(t)]
                            y[o + w0 + w] = s / (count * counts[2][w0 + w])
                    for w in range(n):
                        if low <= w < high:
                            continue
                        s = _0
                        for k in range(_U(h[w, 0]), _U(h[w, 1])):
                            s += sums[k]
                        y[o + _U(w)] = s / (count * counts[2][w])
                    o += _U(n)

    @compiled
    def backward(dy, dx, counts, sizes, bounds, inner, origin, first, last):
        depth, height, width = sizes
        z, v, h = bounds
        low, high = inner
        n, row, wide = len(h), np.empty(width, np.float32), _U(width)
        area = depth * height * width
        o = _U(first * len(z) * len(v) * n)
        for plane in range(first, last):
            for k in range(_U(area)):
                dx[_U(plane * area) + k] = _0
            for d in range(len(z)):
                for e in range(len(v)):
                    count = counts[0][d] * counts[1][e]
                    for k in range(wide):
                        row[k] = _0
                    if kernel:
                        k0, w0 = _U(low * stride + origin), _U(low)
                        if stride == 1:
                            for t in range(kernel):
                                for w in range(_U(high - low)):
                                    row[k0 + w + _U(t)] += dy[o + w0 + w] / (count * counts[2][w0 + w])
                        else:
                            for w in range(_U(high - low)):
                                g = dy[o + w0 + w] / (count * counts[2][w0 + w])
                                for t in range(kernel):
                                    row[k0 + w * _U(stride) + _U(t)] += g
                    for w in range(n):
                        if low <= w < high:
                            continue
                        g = dy[o + _U(w)] / (count * counts[2][w])
                        for k in range(_U(h[w, 0]), _U(h[w, 1])):
                            row[k] += g
                    o += _U(n)
                    for i in range(z[d, 0], z[d, 1]):
                        for j in range(v[e, 0], v[e, 1]):
                            _add_to(dx, _U(plane * area + (i * height + j) * width), row, wide)

    return forward, backward


def _averages(x: Any, n: int, windows: Windows, counts: list) -> Any:
    """`counts`: for each axis what its windows count."""
    divisors = (*[np.ones(1, np.float32)] * (3 - n), *(np.array(c, np.float32) for c in counts))
    y = np.empty((*x.shape[:-n], *windows.outputs[3 - n :]), np.float32)
    flat = np.ascontiguousarray(x).reshape(-1), y.reshape(-1), divisors
    geometry = windows.sizes, windows.bounds, windows.inner, windows.origin
    forward, _ = _loops(*windows.way)
    in_parts(lambda r: forward(*flat, *geometry, r.start, r.stop), parts(math.prod(x.shape[:-n]), windows))
    return y, (x.shape, windows, divisors)


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    shape, windows, divisors = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    dx = np.empty(shape, np.float32)
    flat = np.ascontiguousarray(dy, np.float32).reshape(-1), dx.reshape(-1), divisors
    geometry = windows.sizes, windows.bounds, windows.inner, windows.origin
    _, backward = _loops(*windows.way)
    planes = dx.size // math.prod(windows.sizes)
    in_parts(lambda r: backward(*flat, *geometry, r.start, r.stop), parts(planes, windows))
    return dx


def _register(n: int) -> None:
    name = f"avg_pool{n}d"
    rule = "float32: rows of windows, then along the rows"

    def windows_for(
        x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, include_pad: bool, override: Any = None
    ) -> tuple[Windows | None, list]:
        """The windows, and what each of them counts; in one dimension there is nothing to override."""
        if not fits(x, n) or override == 0:
            return None, []
        steps = agnostic.pooling_steps(name, x.shape[-n:], kernel_size, stride, padding, 1, ceil_mode)
        if override is None:
            return windows_of(steps), [agnostic.pooled_counts(step, include_pad) for step in steps]
        return windows_of(steps), [[override if i == 0 else 1] * step.windows for i, step in enumerate(steps)]

    def supports(*given: Any) -> bool:
        return windows_for(*given)[0] is not None

    @kernel(
        "numpy",
        getattr(agnostic, f"{name}_forward"),
        _backward,
        supports,
        means="numba",
        rule=f"{rule}, which are of {_NARROW} or more",
    )
    def forward(x: Any, *given: Any) -> Any:
        """Rows of windows, then along the rows."""
        windows, counts = windows_for(x, *given)
        if windows is None or not worth(x.shape[-1], _NARROW):
            return NotImplemented
        return _averages(x, n, windows, counts)

    adaptive = f"adaptive_avg_pool{n}d"

    def adaptive_supports(x: Any, output_size: Any) -> bool:
        return adaptive_windows(adaptive, n, x, output_size) is not None

    @kernel(
        "numpy",
        getattr(agnostic, f"{adaptive}_forward"),
        _backward,
        adaptive_supports,
        means="numba",
        rule=f"{rule}; not of whole planes",
    )
    def adaptive_forward(x: Any, output_size: Any) -> Any:
        """Rows of windows, then along the rows."""
        windows = adaptive_windows(adaptive, n, x, output_size)
        if windows is None:
            return NotImplemented
        return _averages(x, n, windows, [b[:, 1] - b[:, 0] for b in windows.bounds[3 - n :]])


for _n in (1, 2, 3):
    _register(_n)
