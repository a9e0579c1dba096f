"""Convolutions summed directly: tiles of 16 outputs by a vector of places whose sums stay in registers, and no columns.

Images lie side by side as in `lay.py`. A vector of y is, for 16 outputs at a time, the sum over its taps and all
channels of numbers of the weight times vectors of x; a vector of the gradient of x likewise of y. The weight's gradient
sums up products of vectors of both. Float32 alone.

Zeros around the image are left out or ride along. An infinity in the weight would meet them, one in x or dy what lies
between the rows; where it does, and for kernels of 1, columns give the answer.
"""

import math
from typing import Any

import numpy as np

from .. import columns
from ..columns import Windows, windows_of
from ..convolutions import is_finite
from ..threads import in_parts, runs
from . import tiles
from .compiling import compiled
from .lay import Lay, Side, Table, lay_of, vectors
from .tiles import LANES

__all__ = ["Sums", "flat", "pack", "unpack", "zeros"]

_U: Any = np.uintp
_IN, _OUT = _U(tiles.IN), _U(tiles.OUT)
_DEPTH = 288  # taps times channels in a tile's sum: its weights stay in the first cache
_NEAR = _U(64)  # vectors whose sums are finished before the next: what they read stays in the second cache
_NUMBERS = 1 << 17  # of x and y that are read and written for a tile of outputs: half of the second cache
_ENTRIES = 1 << 18  # of a table
_THREADED = 1 << 23  # multiplications that are worth a second thread
_FULL = 0.9  # of the numbers in tiles of outputs by inputs, from which these are quicker than sums across vectors
_PARTS = 4  # of a call on threads


class Sums(columns.Sums):
    """Directly where that pays, else by columns."""

    def correlate(
        self, x: Any, weight: Any, bias: Any, stride: Any, pairs: Any, dilation: Any, groups: int
    ) -> np.ndarray:
        windows = windows_of(x.shape[2:], weight.shape[2:], stride, pairs, dilation)
        o, c = weight.shape[0] // groups, weight.shape[1]
        lay = _lay(x.shape[0], o, c, windows) if _pays(x.shape[0], o, windows) else None
        if lay is None or not is_finite(weight):
            return super().correlate(x, weight, bias, stride, pairs, dilation, groups)
        y = np.empty((x.shape[0], weight.shape[0], *windows.counts[3 - len(stride) :]), np.float32)
        _weigh(
            x,
            _packed(weight, groups, o, c, (c * windows.taps, windows.taps)),
            bias,
            y,
            groups,
            lay.x,
            lay.y,
            lay.forward,
            lay.n,
        )
        return y

    def scatter(
        self, dy: Any, weight: Any, bias: Any, sizes: Any, stride: Any, pairs: Any, dilation: Any, groups: int
    ) -> np.ndarray:
        windows = windows_of(sizes, weight.shape[2:], stride, pairs, dilation)
        o, c = weight.shape[0] // groups, weight.shape[1]
        lay = _lay(dy.shape[0], o, c, windows) if _pays(dy.shape[0], c, windows) else None
        if lay is None or not is_finite(weight):
            return super().scatter(dy, weight, bias, sizes, stride, pairs, dilation, groups)
        dx = np.empty((dy.shape[0], c * groups, *sizes), np.float32)
        _weigh(
            dy,
            _packed(weight, groups, c, o, (windows.taps, c * windows.taps)),
            bias,
            dx,
            groups,
            lay.y,
            lay.x,
            lay.back,
            lay.n,
        )
        return dx

    def weight_gradient(
        self, x: Any, dy: Any, shape: Any, stride: Any, pairs: Any, dilation: Any, groups: int
    ) -> np.ndarray:
        windows = windows_of(x.shape[2:], shape[2:], stride, pairs, dilation)
        o, c = shape[0] // groups, shape[1]
        lay = _lay(x.shape[0], o, c, windows) if _pays(x.shape[0], o, windows) else None
        if lay is not None:
            if lay.n == LANES and groups == 1 and _fills(o) * _fills(c) >= _FULL:
                dw = _weight_gradient(x, dy, shape, lay)
                if is_finite(dw):
                    return dw
                return super().weight_gradient(x, dy, shape, stride, pairs, dilation, groups)
            dw = np.empty(shape, np.float32)
            how = x.shape[0], groups, c, o, windows.taps, lay.n
            given = flat(x), flat(dy), dw.reshape(-1), how, lay.x[:5], lay.y[:5], lay.x.columns, lay.y.columns
            tables = lay.forward.target, *lay.pairs
            _each(
                lambda group, some: _slope(*given, *tables, (group.start, group.stop, some.start, some.stop)),
                groups,
                o,
                tiles.OUT,
                dy.size * c * windows.taps,
            )
            if is_finite(dw):
                return dw
        return super().weight_gradient(x, dy, shape, stride, pairs, dilation, groups)


def _pays(n: int, out: int, windows: Windows) -> bool:
    """Not where columns are the image itself, or where most of a tile would be empty."""
    return not (windows.taps == 1 or (n == 1 and windows.taps <= 3) or (out < 4 and windows.taps > 16))


def _lay(n: int, o: int, c: int, windows: Windows) -> Lay | None:
    """As many images side by side as the cache takes, at least 4 of small ones; None where the tables are too long."""
    together = min(LANES, 1 << (n - 1).bit_length())
    depth = max(1, _DEPTH // windows.taps)
    size = min(depth, c) * math.prod(windows.sizes) + min(LANES, o) * math.prod(windows.counts)
    while together > 1 and together * size > (_NUMBERS if together > 4 else 8 * _NUMBERS):
        together //= 2
    return lay_of(windows, together) if vectors(windows, together) * windows.taps <= _ENTRIES else None


def _fills(channels: int) -> float:
    """What part of the tiles these channels fill."""
    return channels / (-(-channels // LANES) * LANES)


def flat(x: np.ndarray) -> np.ndarray:
    """One axis, in C's order."""
    return np.ascontiguousarray(x).reshape(-1)


def _each(work: Any, groups: int, out: int, width: int, amount: int) -> None:
    """Calls work for runs of groups, or of the outputs of one in blocks, on threads where that is worth it."""
    if amount < _THREADED:
        work(slice(0, groups), slice(0, out))
    elif groups > 1:
        in_parts(lambda group: work(group, slice(0, out)), runs(groups, -(-groups // _PARTS)))
    else:
        blocks = -(-out // width)
        parts = [slice(r.start * width, min(out, r.stop * width)) for r in runs(blocks, -(-blocks // _PARTS))]
        in_parts(lambda some: work(slice(0, 1), some), parts)


def _weigh(
    x: np.ndarray,
    packed: tuple[np.ndarray, int],
    bias: np.ndarray | None,
    y: np.ndarray,
    groups: int,
    side_x: Side,
    side_y: Side,
    table: Table,
    n: int,
) -> None:
    """Writes y, from x (N, C, ...) and the weight, or dx from dy and the weight the other way round."""
    count, into, out = x.shape[0], x.shape[1] // groups, y.shape[1] // groups
    w, width = packed
    bias = np.zeros(y.shape[1], np.float32) if bias is None else np.ascontiguousarray(bias)
    taps = w.size // (groups * -(-out // width) * width * into)
    how = groups, into, out, taps, n, width, max(1, _DEPTH // taps)
    given = flat(x), w, bias, y.reshape(-1), how, side_x[:5], side_y[:5], side_x.columns, side_y.columns, *table

    def work(images: slice, group: slice, some: slice) -> None:
        _sum(*given, (images.start, images.stop, group.start, group.stop, some.start, some.stop))

    amount = -(-count // n) * len(table.place) * LANES * into * out * groups
    if count > n and amount >= _THREADED:
        each = -(-count // (n * _PARTS)) * n
        in_parts(
            lambda images: work(images, slice(0, groups), slice(0, out)),
            [slice(i, min(i + each, count)) for i in range(0, count, each)],
        )
    else:
        _each(lambda group, some: work(slice(0, count), group, some), groups, out, width, amount)


def _weight_gradient(x: np.ndarray, dy: np.ndarray, shape: Any, lay: Lay) -> np.ndarray:
    """By tiles of 16 outputs by 16 inputs, which are sums over all images and pixels: for these nothing is summed up
    across a vector, but channels have to stand side by side."""
    (n, o), c = dy.shape[:2], x.shape[1]
    taps, wide = math.prod(shape[2:]), -(-c // LANES) * LANES
    dw = np.empty(shape, np.float32)
    pixels_x, pixels_y = lay.x.columns // LANES, np.arange(lay.forward.target.size, dtype=np.uintp)
    size = int(pixels_x.max()) + 1
    given = (
        flat(x),
        flat(dy),
        dw.reshape(-1),
        n,
        c,
        o,
        taps,
        wide,
        size,
        pixels_x * _U(n * wide),
        pixels_y * _U(n * LANES),
    )
    first, place, which = lay.pairs
    tables = first, place // _U(LANES) * _U(n * wide), which // _U(tiles.OUT * LANES)
    _each(lambda _, some: _slope_across(*given, *tables, some.start, some.stop), 1, o, LANES, dy.size * c * taps)
    return dw


def _packed(weight: np.ndarray, groups: int, out: int, into: int, steps: tuple[int, int]) -> tuple[np.ndarray, int]:
    """The weight as (groups, blocks, taps, in, width), and the width; steps lead to the next output and input."""
    taps = weight.size // (groups * out * into)
    width = 16 if out > 8 else 8 if out > 4 else 4
    blocks = -(-out // width)
    packed = (np.empty if out % width == 0 else np.zeros)(groups * blocks * taps * into * width, np.float32)
    given, count = flat(weight), groups * blocks
    # where the numbers of one output that follow one another go to: a run of taps, or taps of one input after another's
    run = taps if steps[0] == taps else into * taps
    places = (np.arange(run, dtype=np.uintp) % _U(taps) * _U(into) + np.arange(run, dtype=np.uintp) // _U(taps)) * _U(
        width
    )
    in_parts(
        lambda part: _pack_weight(given, packed, part.start, part.stop, out, into, taps, width, places, *steps),
        runs(count, -(-count // _PARTS) if weight.size > _NUMBERS else count),
    )
    return packed, width


@compiled
def _pack_weight(w, packed, first, last, out, into, taps, width, places, step_out, step_in):
    blocks = (out + width - 1) // width
    run = _U(places.size)
    whole = _U(taps * into * width)
    inputs = into if places.size == taps else 1  # taken one by one
    for part in range(first, last):
        g, block = part // blocks, part % blocks
        count = min(width, out - block * width)
        for i in range(inputs):
            source = _U(g * out * into * taps + block * width * step_out + i * step_in)
            target = _U(part) * whole + _U(i * width)
            if count == 16 and run >= _U(4):
                _across(w, source, _U(step_out), run, packed, target, places)
            else:
                for o in range(_U(count)):
                    for k in range(run):
                        packed[target + places[k] + o] = w[source + o * _U(step_out) + k]


@compiled
def _across(x, source, apart, width, to, target, places):
    """`width` numbers, 4 at least, of 16 rows that are `apart`: the 16 of each column side by side at its place."""
    step = _U(16) if width >= _U(16) else _U(8) if width >= _U(8) else _U(4)
    for j in range(_U(0), width, step):
        k = min(j, width - step)
        if step == _U(16):
            tiles.side_16(x, source + k, apart, to, target, places, k, step)
        elif step == _U(8):
            tiles.side_8(x, source + k, apart, to, target, places, k, _U(16))
        else:
            tiles.side_4(x, source + k, apart, to, target, places, k, _U(16))


@compiled
def zeros(n):
    """That many, from an address on that a vector has."""
    held = np.zeros(n + _U(LANES), np.float32)
    skip = _U(LANES) - _U(held.ctypes.data) // _U(4) % _U(LANES)
    return held[skip : skip + n]


@compiled
def pack(x, image, count, channels, first, some, side, places, n, to):
    """Channels first ... first + some of `count` images, side by side."""
    rows, width, row, step, together = _U(side[0]), _U(side[1]), _U(side[2]), _U(side[3]), side[4]
    apart = _U(channels) * rows * width
    for c in range(_U(some)):
        start = (_U(image) * _U(channels) + _U(first) + c) * rows * width
        for r in range(rows):
            source, target = start + r * width, c * step + r * row
            if count < n or together == 0:
                for i in range(_U(count)):
                    for j in range(width):
                        to[target + i + places[j]] = x[source + i * apart + j]
            elif together == 16:
                for j in range(_U(0), width, _U(16)):
                    k = min(j, width - _U(16))
                    tiles.side_16(x, source + k, apart, to, target, places, k, _U(n))
            elif together == 8:
                for j in range(_U(0), width, _U(8)):
                    k = min(j, width - _U(8))
                    tiles.side_8(x, source + k, apart, to, target, places, k, _U(n))
            else:
                for j in range(_U(0), width, _U(4)):
                    k = min(j, width - _U(4))
                    tiles.side_4(x, source + k, apart, to, target, places, k, _U(n))


@compiled
def unpack(of, side, places, n, y, image, count, channels, first, some, bias):
    """To channels first ... first + some of `count` images, plus their bias."""
    rows, width, row, step, together = _U(side[0]), _U(side[1]), _U(side[2]), _U(side[3]), side[4]
    apart = _U(channels) * rows * width
    for c in range(_U(some)):
        b = bias[_U(first) + c]
        start = (_U(image) * _U(channels) + _U(first) + c) * rows * width
        for r in range(rows):
            source, target = c * step + r * row, start + r * width
            if count < n or together == 0:
                for i in range(_U(count)):
                    for j in range(width):
                        y[target + i * apart + j] = of[source + i + places[j]] + b
            elif together == 16:
                for j in range(_U(0), width, _U(16)):
                    k = min(j, width - _U(16))
                    tiles.part_16(of, source, places, k, _U(n), y, target + k, apart, b)
            elif together == 8:
                for j in range(_U(0), width, _U(8)):
                    k = min(j, width - _U(8))
                    tiles.part_8(of, source, places, k, _U(n), y, target + k, apart, b)
            else:
                for j in range(_U(0), width, _U(4)):
                    k = min(j, width - _U(4))
                    tiles.part_4(of, source, places, k, _U(n), y, target + k, apart, b)


@compiled
def _sum(x, w, bias, y, how, side_x, side_y, places_x, places_y, target, first, tap, place, part):
    groups, into, out, taps, n, width, depth = how
    image, end, group, last_group, low, high = part
    blocks = _U((out + width - 1) // width)
    step_x, step_y, wide = _U(side_x[3]), _U(side_y[3]), _U(width)
    src = zeros(_U(into) * step_x + _U(64))
    sums = zeros(_U((high - low + width - 1) // width) * wide * step_y + _U(64))
    for i in range(image, end, n):
        count = min(n, end - i)
        for g in range(group, last_group):
            pack(x, i, count, groups * into, g * into, into, side_x, places_x, n, src)
            for near in range(_U(0), _U(target.size), _NEAR):
                for c in range(_U(0), _U(into), _U(depth)):
                    some = min(_U(depth), _U(into) - c)
                    for block in range(_U(low // width), _U((high + width - 1) // width)):
                        base = ((_U(g) * blocks + block) * _U(taps) * _U(into) + c) * wide
                        to = (block - _U(low // width)) * wide * step_y
                        for v in range(near, min(near + _NEAR, _U(target.size))):
                            tiles.weighed(
                                wide,
                                src,
                                first[v],
                                first[v + _U(1)],
                                tap,
                                place,
                                c * step_x,
                                some,
                                step_x,
                                w,
                                base,
                                _U(into) * wide,
                                sums,
                                to + target[v],
                                step_y,
                                c > _U(0),
                            )
            unpack(sums, side_y, places_y, n, y, i, count, groups * out, g * out + low, high - low, bias)


@compiled
def _slope(x, dy, dw, how, side_x, side_y, places_x, places_y, target, first, place, which, part):
    images, groups, channels, out, taps, n = how
    group, last_group, low, high = part
    step_x, step_y = _U(side_x[3]), _U(side_y[3])
    across, down = (_U(channels) + _IN - _U(1)) // _IN, (_U(high - low) + _OUT - _U(1)) // _OUT
    src, rows = zeros(across * _IN * step_x + _U(64)), zeros(_U(high - low) * step_y + _U(64))
    vectors = _U(target.size * LANES)
    slope = zeros(down * _OUT * vectors)  # of 8 outputs each: their first vectors, their second ones, ...
    sums = np.empty(down * across * _U(taps) * _U(32), np.float32)
    count_runs = (first.size - 1) // taps
    for g in range(group, last_group):
        sums[:] = 0
        for i in range(0, images, n):
            count = min(n, images - i)
            if count < n:
                rows[:] = 0
                src[:] = 0
            pack(x, i, count, groups * channels, g * channels, channels, side_x, places_x, n, src)
            pack(dy, i, count, groups * out, g * out + low, high - low, side_y, places_y, n, rows)
            for o in range(_U(high - low)):
                to = o // _OUT * _OUT * vectors + o % _OUT * _U(LANES)
                for v in range(_U(target.size)):
                    for j in range(_U(LANES)):
                        slope[to + v * _OUT * _U(LANES) + j] = rows[o * step_y + target[v] + j]
            for run in range(_U(count_runs)):
                for o in range(down):
                    for c in range(across):
                        for k in range(_U(taps)):
                            e = run * _U(taps) + k
                            at = ((o * across + c) * _U(taps) + k) * _U(32)
                            tiles.dots(
                                src,
                                c * _IN * step_x,
                                step_x,
                                slope,
                                o * _OUT * vectors,
                                place,
                                which,
                                first[e],
                                first[e + _U(1)],
                                sums,
                                at,
                            )
        for o in range(_U(high - low)):
            for c in range(_U(channels)):
                at = (o // _OUT * across + c // _IN) * _U(taps) * _U(32) + o % _OUT * _U(4) + c % _IN
                to = ((_U(g * out + low) + o) * _U(channels) + c) * _U(taps)
                for k in range(_U(taps)):
                    dw[to + k] = sums[at + k * _U(32)]


@compiled
def _slope_across(x, dy, dw, n, c, o, taps, wide, size, places_x, places_y, first, place, which, low, high):
    src = zeros(_U(size * n * wide))  # (pixels, images, channels)
    vectors = _U(places_y.size * n * LANES)
    slope = zeros(_U((high - low + LANES - 1) // LANES) * vectors)  # (blocks, pixels, images, 16 outputs)
    step = _U(wide + LANES)  # not a power of two: what is gathered at the end does not fall on itself in the cache
    sums = np.empty(_U(taps * LANES) * step, np.float32)  # (16 outputs, taps, channels)
    for image in range(n):
        _beside(x, image * c, c, places_x, src, image * wide, LANES)
        _beside(dy, image * o + low, high - low, places_y, slope, image * LANES, vectors)
    runs_of_pixels = (first.size - 1) // taps
    apart = _U(wide)
    for block in range(_U((high - low + LANES - 1) // LANES)):
        for run in range(_U(runs_of_pixels)):
            for k in range(_U(taps)):
                e = run * _U(taps) + k
                for i in range(_U(0), apart, _U(LANES)):
                    tiles.weighed(
                        _U(LANES),
                        src,
                        first[e],
                        first[e + _U(1)],
                        which,
                        place,
                        i,
                        _U(n),
                        apart,
                        slope,
                        block * vectors,
                        _U(n * LANES),
                        sums,
                        k * step + i,
                        _U(taps) * step,
                        run > _U(0),
                    )
        start = _U(low) + block * _U(LANES)
        for j in range(_U(min(LANES, high - start))):
            target = (start + j) * _U(c) * _U(taps)
            for i in range(_U(c)):
                for k in range(_U(taps)):
                    dw[target + k] = sums[(j * _U(taps) + k) * step + i]
                target += _U(taps)


@compiled
def _beside(x, first, channels, places, to, target, far):
    """Planes first ... first + channels, to channels side by side for each pixel; every 16 are `far` from the last."""
    pixels = _U(places.size)
    for c in range(_U(0), _U(channels), _U(LANES)):
        source, at = (_U(first) + c) * pixels, _U(target) + c // _U(LANES) * _U(far)
        if c + _U(LANES) <= _U(channels) and pixels >= _U(4):
            _across(x, source, pixels, pixels, to, at, places)
        else:
            for j in range(min(_U(LANES), _U(channels) - c)):
                for k in range(pixels):
                    to[at + places[k] + j] = x[source + j * pixels + k]
