"""Interpolation along one and two axes in float32, compiled: plane by plane, in the cache.

Every mode is a map of each axis that gathers a few sources, each with its weight, and its gradient is the transposed
map. Rows are weighed and added as a whole; the order of the two axes is the one that gathers along shorter rows.
Nearest neighbours by whole factors, constants of their loops, are rows repeated or added up, without a gathering.
Declined: other dtypes, three axes, mode "area".
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xplayers.functional.pair import wants
from xplayers.functional.resampling import Map, interpolated_sizes, maps_of
from xplayers.functional.resampling import interpolate_forward as reference

from ..registry import kernel
from ..threads import in_parts, runs
from .compiling import compiled

__all__: list[str] = []

_MOST = 4  # the largest factor that has loops of its own
_PART = 1 << 15  # numbers that are worth a thread
_U = np.uintp


@compiled
def _along(x, p, sources, weights, y, q, n):
    """n outputs of the map of a row that begins at x[p], to y[q] and on."""
    taps = _U(sources.size) // n
    if weights.size == 0:
        for o in range(n):
            y[q + o] = x[p + _U(sources[o])]
        return
    if taps == 2:
        for o in range(n):
            y[q + o] = weights[o] * x[p + _U(sources[o])] + weights[n + o] * x[p + _U(sources[n + o])]
        return
    for o in range(n):
        s = np.float32(0)
        for k in range(taps):
            s += weights[k * n + o] * x[p + _U(sources[k * n + o])]
        y[q + o] = s


@compiled
def _down(x, p, width, sources, weights, o, n, y, q):
    """Output o of n of the map of a plane's rows that begins at x[p]: a row, to y[q] and on."""
    if weights.size == 0:
        a = p + _U(sources[o]) * width
        for j in range(width):
            y[q + j] = x[a + j]
        return
    a, w = p + _U(sources[o]) * width, weights[o]
    for j in range(width):
        y[q + j] = w * x[a + j]
    for k in range(_U(1), _U(sources.size) // n):
        a, w = p + _U(sources[k * n + o]) * width, weights[k * n + o]
        for j in range(width):
            y[q + j] += w * x[a + j]


@compiled
def _planes(x, y, rows, row_weights, columns, column_weights, sizes, outputs, first, last):
    height, width = _U(sizes[0]), _U(sizes[1])
    tall, wide = _U(outputs[0]), _U(outputs[1])
    spare = np.empty(max(height * wide, width), np.float32)
    for plane in range(first, last):
        p, q = _U(plane) * height * width, _U(plane) * tall * wide
        if tall >= height:
            for i in range(height):
                _along(x, p + i * width, columns, column_weights, spare, i * wide, wide)
            for o in range(tall):
                _down(spare, _U(0), wide, rows, row_weights, o, tall, y, q + o * wide)
        else:
            for o in range(tall):
                _down(x, p, width, rows, row_weights, o, tall, spare, _U(0))
                _along(spare, _U(0), columns, column_weights, y, q + o * wide, wide)


@functools.cache
def _repeating(tall: int, wide: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """The loops over rows of x, each number of which is a block of tall * wide numbers of y."""

    @compiled
    def repeat(x, y, width, first, last):
        row = width * _U(wide)
        for i in range(first, last):
            p, q = _U(i) * width, _U(i) * row * _U(tall)
            for j in range(width):
                for r in range(wide):
                    y[q + j * _U(wide) + _U(r)] = x[p + j]
            for k in range(1, tall):
                for j in range(row):
                    y[q + _U(k) * row + j] = y[q + j]

    @compiled
    def add_up(dy, dx, width, first, last):
        row = width * _U(wide)
        for i in range(first, last):
            p, q = _U(i) * width, _U(i) * row * _U(tall)
            for j in range(width):
                s = np.float32(0)
                for k in range(tall):
                    for r in range(wide):
                        s += dy[q + _U(k) * row + j * _U(wide) + _U(r)]
                dx[p + j] = s

    return repeat, add_up


@functools.lru_cache(256)
def _factor(map: Map, size: int) -> int:
    """The whole factor by which a map repeats each of `size` inputs, 0 where it does not."""
    out = len(map.sources[0])
    f = out // size
    return f if not map.weights and f <= _MOST and map.sources == (tuple(o // f for o in range(f * size)),) else 0


def _repeated(x: Any, factors: tuple, sizes: tuple, back: bool) -> np.ndarray:
    """x (N, C, *sizes) -> (N, C, *factors * sizes), or with `back` the gradient of that."""
    tall, wide = (1, *factors)[-2:]
    outputs = sizes if back else tuple(n * f for n, f in zip(sizes, factors, strict=True))
    y = np.empty((*x.shape[:2], *outputs), np.float32)
    flat, width = (np.ascontiguousarray(x, np.float32).reshape(-1), y.reshape(-1)), sizes[-1]
    rows = min(x.size, y.size) // width
    loop = _repeating(tall, wide)[back]
    in_parts(lambda r: loop(*flat, _U(width), r.start, r.stop), runs(rows, max(1, _PART // (width * tall * wide))))
    return y


@functools.lru_cache(256)
def _arrays(map: Map) -> tuple[np.ndarray, np.ndarray]:
    """Sources and weights of a map, (taps, outputs) in a row each."""
    return np.array(map.sources, np.int32).reshape(-1), np.array(map.weights, np.float32).reshape(-1)


def _mapped(x: Any, maps: list[Map], sizes: tuple, outputs: tuple) -> np.ndarray:
    """The maps of the trailing axes, of `sizes`, to `outputs`."""
    y = np.empty((*x.shape[: -len(sizes)], *outputs), np.float32)
    if len(maps) == 1:
        maps, sizes, outputs = [Map(((0,),), ()), *maps], (1, *sizes), (1, *outputs)
    flat = np.ascontiguousarray(x, np.float32).reshape(-1), y.reshape(-1)
    arrays = *_arrays(maps[0]), *_arrays(maps[1])
    planes = x.size // math.prod(sizes)
    parts = runs(planes, max(1, _PART // max(math.prod(sizes), math.prod(outputs))))
    in_parts(lambda r: _planes(*flat, *arrays, sizes, outputs, r.start, r.stop), parts)
    return y


def _supports(x: Any, size: Any, scale_factor: Any, mode: str, *rest: Any) -> bool:
    return bool(x.dtype == np.float32 and x.ndim in (3, 4) and x.size > 0 and mode != "area")


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    maps, sizes, outputs, factors = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    if all(factors):
        return _repeated(dy, factors, sizes, True)
    return _mapped(dy, [transposed for _, transposed in maps], outputs, sizes)


@kernel("numpy", reference, _backward, _supports, means="numba", rule="float32, one or two axes, not area: by planes")
def interpolate_forward(x: Any, *options: Any) -> Any:
    """Plane by plane."""
    if not _supports(x, *options):
        return NotImplemented
    _, _, mode, align_corners, _, antialias = options
    outputs, factors = interpolated_sizes("interpolate", x.shape, *options)
    parts = zip(x.shape[2:], outputs, factors, strict=True)
    maps = [maps_of(mode, n, out, factor, bool(align_corners), antialias, True) for n, out, factor in parts]
    sizes = x.shape[2:]
    factors = tuple(_factor(forward, n) for (forward, _), n in zip(maps, sizes, strict=True))
    y = _repeated(x, factors, sizes, False) if all(factors) else _mapped(x, [m for m, _ in maps], sizes, outputs)
    return y, (maps, sizes, outputs, factors)
