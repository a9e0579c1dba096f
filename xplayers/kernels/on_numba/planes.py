"""The loops of convolutions of few channels compiled: the phases of an image's group stay in the cache.

Offsets are unsigned and each loop writes one array and reads one other, as in `winograd.py`. Nine taps are taken at a
time, then three, then one.
"""

from typing import Any

import numpy as np

from ..planes import Plane
from .compiling import compiled

__all__ = ["LOOPS"]


class _Loops:
    at_once = 1 << 16

    @staticmethod
    def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, y: np.ndarray, plane: Plane, part: slice) -> None:
        """x (n, C, pixels), w (groups, O, C, taps), b (groups, O) -> y (n, O, pixels)."""
        _forward(x, w, b, y, *plane[:5], plane.at, part.start, part.stop)

    @staticmethod
    def backward(x: np.ndarray, w: np.ndarray, dy: np.ndarray, dx: Any, dw: Any, plane: Plane, part: slice) -> None:
        """dy (n, O, pixels) -> dx as x, and added to dw as w, each where it is not None."""
        if dx is not None:
            _back(dy, w, dx, *plane[:5], plane.shift, plane.first, part.start, part.stop)
        if dw is not None:
            _dots(x, dy, dw, *plane[:5], plane.at, part.start, part.stop)


LOOPS = _Loops()

_U = np.uintp


@compiled
def _nine(p, at, k, w, v, y, o, n):
    a0, a1, a2, a3, a4 = at[k], at[k + _U(1)], at[k + _U(2)], at[k + _U(3)], at[k + _U(4)]
    a5, a6, a7, a8 = at[k + _U(5)], at[k + _U(6)], at[k + _U(7)], at[k + _U(8)]
    w0, w1, w2, w3, w4 = w[v], w[v + _U(1)], w[v + _U(2)], w[v + _U(3)], w[v + _U(4)]
    w5, w6, w7, w8 = w[v + _U(5)], w[v + _U(6)], w[v + _U(7)], w[v + _U(8)]
    for j in range(n):
        first = w0 * p[a0 + j] + w1 * p[a1 + j] + w2 * p[a2 + j]
        second = w3 * p[a3 + j] + w4 * p[a4 + j] + w5 * p[a5 + j]
        third = w6 * p[a6 + j] + w7 * p[a7 + j] + w8 * p[a8 + j]
        y[o + j] += first + second + third


@compiled
def _three(p, at, k, w, v, y, o, n):
    a0, a1, a2 = at[k], at[k + _U(1)], at[k + _U(2)]
    w0, w1, w2 = w[v], w[v + _U(1)], w[v + _U(2)]
    for j in range(n):
        y[o + j] += w0 * p[a0 + j] + w1 * p[a1 + j] + w2 * p[a2 + j]


@compiled
def _one(p, at, k, w, v, y, o, n):
    a0, w0 = at[k], w[v]
    for j in range(n):
        y[o + j] += w0 * p[a0 + j]


@compiled
def _weigh(p, at, k, count, w, v, y, o, n):
    """y[o + j] += sum of w[v + i] p[at[k + i] + j] over i below count."""
    nines = count // _U(9) * _U(9)
    threes = count // _U(3) * _U(3)
    for i in range(_U(0), nines, _U(9)):
        _nine(p, at, k + i, w, v + i, y, o, n)
    for i in range(nines, threes, _U(3)):
        _three(p, at, k + i, w, v + i, y, o, n)
    for i in range(threes, count):
        _one(p, at, k + i, w, v + i, y, o, n)


@compiled
def _dot_three(p, a0, a1, a2, d, n, out, o):
    s0 = s1 = s2 = p.dtype.type(0)
    for j in range(n):
        s0 += d[j] * p[a0 + j]
        s1 += d[j] * p[a1 + j]
        s2 += d[j] * p[a2 + j]
    out[o] += s0
    out[o + _U(1)] += s1
    out[o + _U(2)] += s2


@compiled
def _dot_one(p, a0, d, n, out, o):
    s = p.dtype.type(0)
    for j in range(n):
        s += d[j] * p[a0 + j]
    out[o] += s


@compiled
def _part(x, o, sizes, before, stride, phase, phases, start):
    """The pixels of the plane of x at o, to where they lie among its phases, from start on."""
    h, w = _U(sizes[0]), _U(sizes[1])
    top, left = _U(before[0]), _U(before[1])
    sh, sw = _U(stride[0]), _U(stride[1])
    row, size = _U(phase[1]), _U(phase[0] * phase[1])
    for i in range(h):
        r = i + top
        base = start + (r % sh) * sw * size + (r // sh) * row
        source = o + i * w
        if sw == _U(1):
            for j in range(w):
                phases[base + left + j] = x[source + j]
        else:
            for q in range(sw):
                # the first pixel of this phase, and how many there are
                skip = (q + sw - left % sw) % sw
                if skip < w:
                    target = base + q * size + (skip + left) // sw
                    for j in range((w - skip + sw - _U(1)) // sw):
                        phases[target + j] = x[source + skip + j * sw]


@compiled
def _forward(x, w, b, y, sizes, out, before, stride, phase, at, start, stop):
    groups, m, channels, taps = w.shape
    flat_x, flat_y, flat_w, flat_b = x.reshape(x.size), y.reshape(y.size), w.reshape(w.size), b.reshape(b.size)
    row, pixels = _U(phase[1]), _U(out[0] * out[1])
    size = _U(stride[0] * stride[1] * phase[0] * phase[1])
    phases = np.zeros(_U(channels) * size, x.dtype)
    n, wide = _U((out[0] - 1) * phase[1] + out[1]), _U(out[1])
    t = np.empty(n, x.dtype)
    shifts = np.empty(_U(channels * taps), np.uintp)
    for k in range(channels * taps):
        shifts[k] = at[k % taps] + _U(k // taps) * size
    for p in range(_U(start), _U(stop)):
        for c in range(_U(channels)):
            _part(
                flat_x, (p * _U(channels) + c) * _U(sizes[0] * sizes[1]), sizes, before, stride, phase, phases, c * size
            )
        for i in range(_U(m)):
            o = (p % _U(groups)) * _U(m) + i
            bias = flat_b[o]
            for j in range(n):
                t[j] = bias
            _weigh(phases, shifts, _U(0), _U(channels * taps), flat_w, o * _U(channels * taps), t, _U(0), n)
            target = (p * _U(m) + i) * pixels
            for r in range(_U(out[0])):
                for j in range(wide):
                    flat_y[target + r * wide + j] = t[r * row + j]


@compiled
def _spread(dy, o, out, row, d, lead):
    """The plane of dy at o as rows of the phases' width; what lies between them stays 0."""
    wide = _U(out[1])
    for r in range(_U(out[0])):
        source, target = o + r * wide, lead + r * row
        for j in range(wide):
            d[target + j] = dy[source + j]


@compiled
def _back(dy, w, dx, sizes, out, before, stride, phase, shift, first, start, stop):
    groups, m, channels, taps = w.shape
    flat_x, flat_dy, flat_w = dx.reshape(dx.size), dy.reshape(dy.size), w.reshape(w.size)
    row, size = _U(phase[1]), _U(phase[0] * phase[1])
    h, wide = _U(sizes[0]), _U(sizes[1])
    top, left, sh, sw = _U(before[0]), _U(before[1]), _U(stride[0]), _U(stride[1])
    low, high = top // sh * row, (top + h + sh - _U(1)) // sh * row  # the rows that hold pixels
    if high > size:
        high = size
    lead = shift.max()
    d = np.zeros(_U(m) * (lead + size), dy.dtype)
    back = np.empty(shift.size, np.uintp)
    phases = np.empty(sh * sw * size, dy.dtype)
    for p in range(_U(start), _U(stop)):
        for i in range(_U(m)):
            _spread(flat_dy, (p * _U(m) + i) * _U(out[0] * out[1]), out, row, d, i * (lead + size) + lead)
        for c in range(_U(channels)):
            for j in range(phases.size):
                phases[j] = 0
            for i in range(_U(m)):
                for k in range(_U(shift.size)):
                    back[k] = i * (lead + size) + lead + low - shift[k]
                o = (((p % _U(groups)) * _U(m) + i) * _U(channels) + c) * _U(taps)
                for f in range(sh * sw):
                    k = first[f]
                    _weigh(d, back, k, first[f + _U(1)] - k, flat_w, o + k, phases, f * size + low, high - low)
            for i in range(h):
                r = i + top
                base = (r % sh) * sw * size + (r // sh) * row
                target = (p * _U(channels) + c) * h * wide + i * wide
                if sw == _U(1):
                    for j in range(wide):
                        flat_x[target + j] = phases[base + left + j]
                else:
                    for q in range(sw):
                        skip = (q + sw - left % sw) % sw
                        if skip < wide:
                            source = base + q * size + (skip + left) // sw
                            for j in range((wide - skip + sw - _U(1)) // sw):
                                flat_x[target + skip + j * sw] = phases[source + j]


@compiled
def _dots(x, dy, dw, sizes, out, before, stride, phase, at, start, stop):
    groups, m, channels, taps = dw.shape
    flat_x, flat_dy, flat_w = x.reshape(x.size), dy.reshape(dy.size), dw.reshape(dw.size)
    row, pixels = _U(phase[1]), _U(out[0] * out[1])
    size = _U(stride[0] * stride[1] * phase[0] * phase[1])
    phases = np.zeros(_U(channels) * size, x.dtype)
    n, all_taps = _U((out[0] - 1) * phase[1] + out[1]), _U(channels * taps)
    d = np.zeros(n, x.dtype)
    shifts = np.empty(all_taps, np.uintp)
    for k in range(channels * taps):
        shifts[k] = at[k % taps] + _U(k // taps) * size
    for p in range(_U(start), _U(stop)):
        for c in range(_U(channels)):
            _part(
                flat_x, (p * _U(channels) + c) * _U(sizes[0] * sizes[1]), sizes, before, stride, phase, phases, c * size
            )
        for i in range(_U(m)):
            _spread(flat_dy, (p * _U(m) + i) * pixels, out, row, d, _U(0))
            o = ((p % _U(groups)) * _U(m) + i) * all_taps
            for k in range(_U(0), all_taps // _U(3) * _U(3), _U(3)):
                _dot_three(phases, shifts[k], shifts[k + _U(1)], shifts[k + _U(2)], d, n, flat_w, o + k)
            for k in range(all_taps // _U(3) * _U(3), all_taps):
                _dot_one(phases, shifts[k], d, n, flat_w, o + k)
