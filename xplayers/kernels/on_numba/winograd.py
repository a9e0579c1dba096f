"""The maps of Winograd's F(2x2, 3x3) compiled: each reads its array once and writes the other once, a plane at a time.

Arrays are walked flat, by offsets that are unsigned: an offset that may be negative counts from the end, and LLVM does
not vectorise a loop in which that has to be asked. Each loop writes one array and reads one other, as with more of
them LLVM would have to make sure of too many pairs that they do not overlap.
"""

from typing import Any

import numpy as np

from ..winograd import GG, Tiles
from .compiling import compiled

__all__ = ["MAPS"]


class _Maps:
    tile, kernel = 2, GG

    @staticmethod
    def columns(tiles: Tiles, images: int = 1) -> int:
        return images * tiles.down * tiles.across

    @staticmethod
    def image(x: np.ndarray, v: np.ndarray, tiles: Tiles) -> None:
        """x (n, C, H, W) -> V = B^T d B, (16, C, columns)."""
        _image(x, v, *tiles.before, tiles.down, tiles.across)

    @staticmethod
    def answer(m: np.ndarray, y: np.ndarray, bias: Any, tiles: Tiles) -> None:
        """M (16, O, columns) -> y = A^T M A + bias, (n, O, H', W')."""
        _answer(m, y, np.zeros(m.shape[1], np.float32) if bias is None else bias, tiles.down, tiles.across)

    @staticmethod
    def slope(dy: np.ndarray, d: np.ndarray, tiles: Tiles) -> None:
        """dy (n, O, H', W') -> D = A dy A^T, (16, O, columns)."""
        _slope(dy, d, tiles.down, tiles.across)

    @staticmethod
    def back(dv: np.ndarray, dx: np.ndarray, tiles: Tiles) -> None:
        """dV (16, C, columns) -> dx = the sum of B dV B^T where the tiles lie, (n, C, H, W)."""
        _back(dv, dx, *tiles.before, tiles.down, tiles.across)


MAPS = _Maps()

_U = np.uintp


@compiled
def _add(x, a, b, y, o, n):
    for j in range(n):
        y[o + j] = x[a + j] + x[b + j]


@compiled
def _subtract(x, a, b, y, o, n):
    for j in range(n):
        y[o + j] = x[a + j] - x[b + j]


@compiled
def _add_three(x, a, b, c, y, o, n):
    for j in range(n):
        y[o + j] = x[a + j] + (x[b + j] + x[c + j])


@compiled
def _less_first(x, a, b, c, y, o, n):
    for j in range(n):
        y[o + j] = (x[a + j] - x[b + j]) + x[c + j]


@compiled
def _less_two(x, a, b, c, y, o, n):
    for j in range(n):
        y[o + j] = (x[a + j] - x[b + j]) - x[c + j]


@compiled
def _more(x, a, y, o, n):
    for j in range(n):
        y[o + j] += x[a + j]


@compiled
def _more_of_three(x, a, b, c, y, o, n):
    for j in range(n):
        y[o + j] += (x[a + j] - x[b + j]) + x[c + j]


@compiled
def _copy(x, a, y, o, n):
    for j in range(n):
        y[o + j] = x[a + j]


@compiled
def _every_other(x, a, y, o, n):
    for j in range(n):
        y[o + j] = x[a + _U(2) * j]


@compiled
def _image(x, v, top, left, down, across):
    n, channels, h, w = x.shape
    flat_x, flat_v = x.reshape(x.size), v.reshape(v.size)
    tiles, row = _U(down) * _U(across), _U(across + 1)
    rows, width = _U(2 * (down + 1)), _U(2 * (across + 1))
    wide = _U(n) * tiles  # of V: the next channel
    step = _U(channels) * wide  # of V: the next of the 16
    padded = np.zeros(rows * width, np.float32)
    halves = np.empty(rows * width, np.float32)  # even columns of all rows, then odd ones
    plane = rows * row
    half = _U(down + 1) * _U(across)
    q = np.empty(_U(8) * half, np.float32)  # the four taps along a row, each with even rows, then odd ones
    for c in range(_U(channels)):
        for image in range(_U(n)):
            for y in range(_U(h)):
                source = ((image * _U(channels) + c) * _U(h) + y) * _U(w)
                _copy(flat_x, source, padded, (y + _U(top)) * width + _U(left), _U(w))
            _every_other(padded, _U(0), halves, _U(0), plane)
            _every_other(padded, _U(1), halves, plane, plane)
            for r in range(rows):
                e = r * row
                o = plane + e
                t = (r & _U(1)) * half + (r >> _U(1)) * _U(across)
                _subtract(halves, e, e + _U(1), q, t, _U(across))
                _add(halves, o, e + _U(1), q, t + _U(2) * half, _U(across))
                _subtract(halves, e + _U(1), o, q, t + _U(4) * half, _U(across))
                _subtract(halves, o + _U(1), o, q, t + _U(6) * half, _U(across))
            for k in range(_U(4)):
                e = _U(2) * k * half
                o = e + half
                target = k * step + c * wide + image * tiles
                _subtract(q, e, e + _U(across), flat_v, target, tiles)
                _add(q, o, e + _U(across), flat_v, target + _U(4) * step, tiles)
                _subtract(q, e + _U(across), o, flat_v, target + _U(8) * step, tiles)
                _subtract(q, o + _U(across), o, flat_v, target + _U(12) * step, tiles)


@compiled
def _answer(m, y, bias, down, across):
    n, channels, h, w = y.shape
    flat_m, flat_y = m.reshape(m.size), y.reshape(y.size)
    tiles = _U(down) * _U(across)
    wide = _U(n) * tiles
    step = _U(channels) * wide
    t = np.empty(_U(8) * tiles, np.float32)  # even rows of the four taps, then odd ones
    halves = np.empty(_U(2) * tiles, np.float32)
    for o in range(_U(channels)):
        b = bias[o]
        for image in range(_U(n)):
            for k in range(_U(4)):
                m0 = k * step + o * wide + image * tiles
                m1, m2, m3 = m0 + _U(4) * step, m0 + _U(8) * step, m0 + _U(12) * step
                _add_three(flat_m, m0, m1, m2, t, k * tiles, tiles)
                _less_first(flat_m, m1, m2, m3, t, (k + _U(4)) * tiles, tiles)
            for a in range(_U(2)):
                t0 = _U(4) * a * tiles
                t1, t2, t3 = t0 + tiles, t0 + _U(2) * tiles, t0 + _U(3) * tiles
                _add_three(t, t0, t1, t2, halves, _U(0), tiles)
                _less_first(t, t1, t2, t3, halves, tiles, tiles)
                for i in range(_U((h + 1 - a) // 2)):
                    target = ((image * _U(channels) + o) * _U(h) + _U(2) * i + a) * _U(w)
                    source = i * _U(across)
                    for j in range(_U(w // 2)):
                        flat_y[target + _U(2) * j] = halves[source + j] + b
                        flat_y[target + _U(2) * j + _U(1)] = halves[tiles + source + j] + b
                    if w % 2:
                        flat_y[target + _U(w - 1)] = halves[source + _U(across - 1)] + b


@compiled
def _slope(dy, d, down, across):
    n, channels, h, w = dy.shape
    flat_dy, flat_d = dy.reshape(dy.size), d.reshape(d.size)
    tiles = _U(down) * _U(across)
    wide = _U(n) * tiles
    step = _U(channels) * wide
    width = _U(2 * across)
    padded = np.zeros(_U(2 * down) * width, np.float32)  # even rows, then odd ones
    q = np.empty(_U(8) * tiles, np.float32)  # the four of each row, each with even rows, then odd ones
    for o in range(_U(channels)):
        for image in range(_U(n)):
            for y in range(_U(h)):
                source = ((image * _U(channels) + o) * _U(h) + y) * _U(w)
                target = ((y & _U(1)) * _U(down) + (y >> _U(1))) * width
                _copy(flat_dy, source, padded, target, _U(w))
            both = _U(2) * tiles
            _every_other(padded, _U(0), q, _U(0), both)
            _every_other(padded, _U(1), q, _U(3) * both, both)
            for j in range(both):
                q[both + j] = q[j] + q[_U(3) * both + j]
            for j in range(both):
                q[_U(2) * both + j] = q[j] - q[_U(3) * both + j]
            for k in range(_U(4)):
                even = k * both
                odd = even + tiles
                target = k * step + o * wide + image * tiles
                _copy(q, even, flat_d, target, tiles)
                _add(q, even, odd, flat_d, target + _U(4) * step, tiles)
                _subtract(q, even, odd, flat_d, target + _U(8) * step, tiles)
                _copy(q, odd, flat_d, target + _U(12) * step, tiles)


@compiled
def _back(dv, dx, top, left, down, across):
    n, channels, h, w = dx.shape
    flat_v, flat_x = dv.reshape(dv.size), dx.reshape(dx.size)
    tiles, last = _U(down) * _U(across), _U(across)
    wide = _U(n) * tiles
    step = _U(channels) * wide
    half = _U(down + 1) * _U(across)
    q = np.empty(_U(8) * half, np.float32)  # the four taps along a row, each with even rows, then odd ones
    row = np.zeros(_U(2) * (last + _U(1)), np.float32)
    pair = np.empty(_U(2) * (last + _U(1)), np.float32)
    odds = last + _U(1)
    for c in range(_U(channels)):
        for image in range(_U(n)):
            for k in range(_U(4)):
                v0 = k * step + c * wide + image * tiles
                v1, v2, v3 = v0 + _U(4) * step, v0 + _U(8) * step, v0 + _U(12) * step
                e = _U(2) * k * half
                o = e + half
                _copy(flat_v, v0, q, e, tiles)
                _less_two(flat_v, v1, v2, v3, q, o, tiles)
                for j in range(last):
                    q[e + tiles + j] = np.float32(0)
                    q[o + tiles + j] = np.float32(0)
                _more_of_three(flat_v, v1, v0, v2, q, e + last, tiles)
                _more(flat_v, v3, q, o + last, tiles)
            for r in range(_U(top), _U(top + h)):
                t = (r & _U(1)) * half + (r >> _U(1)) * last
                q0, q1, q2, q3 = t, t + _U(2) * half, t + _U(4) * half, t + _U(6) * half
                _copy(q, q0, row, _U(0), last)
                _less_two(q, q1, q2, q3, row, odds, last)
                row[last] = np.float32(0)
                row[odds + last] = np.float32(0)
                _more_of_three(q, q1, q0, q2, row, _U(1), last)
                _more(q, q3, row, odds + _U(1), last)
                for j in range(odds):
                    pair[_U(2) * j] = row[j]
                    pair[_U(2) * j + _U(1)] = row[odds + j]
                target = ((image * _U(channels) + c) * _U(h) + r - _U(top)) * _U(w)
                _copy(pair, _U(left), flat_x, target, _U(w))
