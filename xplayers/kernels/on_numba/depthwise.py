"""Depthwise convolutions of small planes: the vectors are 16 channels, which lie side by side as images do in `lay.py`.

Where the direct sums have 16 images, here are the planes of 16 channels, each with a weight of its own; no loop is as
short as a row of 7 pixels. An infinity in the weight, x or dy would meet padding: then columns give the answer.
"""

import math
from typing import Any

import numpy as np

from ..columns import windows_of
from ..convolutions import is_finite
from ..threads import in_parts, runs
from . import direct, tiles
from .compiling import compiled
from .direct import flat, pack, unpack, zeros
from .lay import Side, Table, lay_of
from .tiles import LANES

__all__ = ["Sums", "pays"]

_U: Any = np.uintp
_PIXELS = 196  # in a plane of y: longer loops are quick without vectors of channels
_THREADED = 1 << 18  # numbers in x from which a second thread is worth it
_PARTS = 4  # of a call on threads


def pays(shape: Any, groups: int, counts: Any) -> bool:
    """Whether every channel has a kernel of its own, there are whole vectors of them, and planes of y are small."""
    return bool(shape[0] == groups and shape[1] == 1 and groups % LANES == 0 and math.prod(counts) <= _PIXELS)


class Sums(direct.Sums):
    """By vectors of channels where that pays, else directly in tiles, or by columns."""

    def correlate(
        self, x: Any, weight: Any, bias: Any, stride: Any, pairs: Any, dilation: Any, groups: int
    ) -> np.ndarray:
        windows = windows_of(x.shape[2:], weight.shape[2:], stride, pairs, dilation)
        if not pays(weight.shape, groups, windows.counts) or not is_finite(weight):
            return super().correlate(x, weight, bias, stride, pairs, dilation, groups)
        lay = lay_of(windows, LANES)
        y = np.empty((*x.shape[:2], *windows.counts[3 - len(stride) :]), np.float32)
        _weigh(x, weight, bias, y, lay.x, lay.y, lay.forward)
        return y

    def scatter(
        self, dy: Any, weight: Any, bias: Any, sizes: Any, stride: Any, pairs: Any, dilation: Any, groups: int
    ) -> np.ndarray:
        windows = windows_of(sizes, weight.shape[2:], stride, pairs, dilation)
        if not pays(weight.shape, groups, windows.counts) or not is_finite(weight):
            return super().scatter(dy, weight, bias, sizes, stride, pairs, dilation, groups)
        lay = lay_of(windows, LANES)
        dx = np.empty((*dy.shape[:2], *sizes), np.float32)
        _weigh(dy, weight, bias, dx, lay.y, lay.x, lay.back)
        return dx

    def weight_gradient(
        self, x: Any, dy: Any, shape: Any, stride: Any, pairs: Any, dilation: Any, groups: int
    ) -> np.ndarray:
        windows = windows_of(x.shape[2:], shape[2:], stride, pairs, dilation)
        if pays(shape, groups, windows.counts):
            lay = lay_of(windows, LANES)
            n, c = x.shape[:2]
            dw = np.zeros((windows.taps, c), np.float32)
            given = flat(x), flat(dy), dw.reshape(-1), n, c, lay.x[:5], lay.y[:5], lay.x.columns, lay.y.columns
            blocks = c // LANES
            in_parts(
                lambda part: _slope(*given, *lay.forward, part.start, part.stop), runs(blocks, _run(blocks, x, dy))
            )
            if is_finite(dw):
                return np.ascontiguousarray(dw.T).reshape(shape)
        return super().weight_gradient(x, dy, shape, stride, pairs, dilation, groups)


def _weigh(
    x: np.ndarray, weight: np.ndarray, bias: Any, y: np.ndarray, side_x: Side, side_y: Side, table: Table
) -> None:
    n, c = x.shape[:2]
    w = np.ascontiguousarray(weight.reshape(c, -1).T)  # (taps, C)
    b = np.zeros(c, np.float32) if bias is None else np.ascontiguousarray(bias)
    given = flat(x), flat(w), b, y.reshape(-1), side_x[:5], side_y[:5], side_x.columns, side_y.columns, *table
    blocks = n * c // LANES
    in_parts(lambda part: _sum(*given, part.start, part.stop), runs(blocks, _run(blocks, x, y)))


def _run(blocks: int, x: np.ndarray, y: np.ndarray) -> int:
    return blocks if max(x.size, y.size) < _THREADED else -(-blocks // _PARTS)


@compiled
def _sum(x, w, bias, y, side_x, side_y, places_x, places_y, target, first, tap, place, start, stop):
    src, sums = zeros(_U(side_x[3]) + _U(64)), zeros(_U(side_y[3]) + _U(64))
    channels, nothing = _U(bias.size), np.zeros(1, np.float32)
    for block in range(start, stop):
        pack(x, block * LANES, LANES, 1, 0, 1, side_x, places_x, LANES, src)
        c = _U(block * LANES) % channels
        for v in range(_U(target.size)):
            tiles.lanes(src, first[v], first[v + _U(1)], tap, place, w, c, channels, bias, c, sums, target[v])
        unpack(sums, side_y, places_y, LANES, y, block * LANES, LANES, 1, 0, 1, nothing)


@compiled
def _slope(x, dy, dw, n, channels, side_x, side_y, places_x, places_y, target, first, tap, place, start, stop):
    src, slope = zeros(_U(side_x[3]) + _U(64)), zeros(_U(side_y[3]) + _U(64))
    taps = dw.size // channels
    sums = np.empty(taps * LANES, np.float32)  # of an image: fewer numbers in a row are more exact
    for block in range(start, stop):
        for image in range(n):
            c = image * channels + block * LANES
            pack(x, c, LANES, 1, 0, 1, side_x, places_x, LANES, src)
            pack(dy, c, LANES, 1, 0, 1, side_y, places_y, LANES, slope)
            sums[:] = 0
            for v in range(_U(target.size)):
                e, last = first[v], first[v + _U(1)]
                tiles.lane_dots(src, e, last, tap, place, slope, target[v], sums, _U(0), _U(LANES))
            for k in range(_U(taps)):
                for j in range(_U(LANES)):
                    dw[k * _U(channels) + _U(block * LANES) + j] += sums[k * _U(LANES) + j]
