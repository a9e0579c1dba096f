"""Recurrent networks in float32: a compiled step between products, everything with the samples innermost.

The inputs of all steps and the gradients of weights are products over all steps: see kernels/recurrences.py.
Declined: lengths, a projection, other dtypes.
"""

import functools
from typing import Any

import numpy as np

from xplayers.functional import recurrent as agnostic

from ..recurrences import HostScans, plain_supports, register
from .compiling import compiled
from .elementary import sigmoid, tanh

__all__: list[str] = []

_U = np.uintp

# Arrays are flat: a and r hold the gates of a step, (G, N), states are (H, N), and m = H N.


@compiled
def _sigmoids(a, r, first, last, out):
    for j in range(_U(first), _U(last)):
        out[j] = sigmoid(a[j] + r[j])


@compiled
def _tanhs(a, r, first, last, out):
    for j in range(_U(first), _U(last)):
        out[j] = tanh(a[j] + r[j])


@compiled
def _lstm_step(a, r, m, c, gates, after_c, tanh_c, after_h):
    """-> gates (4H, N), c, tanh(c) and h."""
    m = _U(m)
    _sigmoids(a, r, 0, _U(2) * m, gates)
    _tanhs(a, r, _U(2) * m, _U(3) * m, gates)
    _sigmoids(a, r, _U(3) * m, _U(4) * m, gates)
    for j in range(m):
        after_c[j] = gates[m + j] * c[j] + gates[j] * gates[_U(2) * m + j]
    for j in range(m):
        tanh_c[j] = tanh(after_c[j])
    for j in range(m):
        after_h[j] = gates[_U(3) * m + j] * tanh_c[j]


@compiled
def _lstm_back(dy, dh, dc, m, c, gates, tanh_c, dz):
    """dy, dh, dc of after the step -> dz (4H, N), dc of before it, in place; dh becomes dy + dh."""
    m = _U(m)
    for j in range(m):
        dh[j] += dy[j]
    for j in range(m):
        o = gates[_U(3) * m + j]
        dc[j] += dh[j] * (o * (np.float32(1) - tanh_c[j] * tanh_c[j]))
    for j in range(m):
        i, g = gates[j], gates[_U(2) * m + j]
        dz[j] = dc[j] * (g * (i * (np.float32(1) - i)))
    for j in range(m):
        i, g = gates[j], gates[_U(2) * m + j]
        dz[_U(2) * m + j] = dc[j] * (i * (np.float32(1) - g * g))
    for j in range(m):
        f = gates[m + j]
        dz[m + j] = dc[j] * (c[j] * (f * (np.float32(1) - f)))
    for j in range(m):
        o = gates[_U(3) * m + j]
        dz[_U(3) * m + j] = (dh[j] * tanh_c[j]) * (o * (np.float32(1) - o))
    for j in range(m):
        dc[j] *= gates[m + j]


@compiled
def _gru_step(a, r, m, before, gates, after):
    """-> gates (4H, N): reset, z, the new state's n and its part of r, which stands at the end of gates; h."""
    m = _U(m)
    _sigmoids(a, r, 0, _U(2) * m, gates)
    for j in range(m):
        gates[_U(3) * m + j] = r[_U(2) * m + j]
    for j in range(m):
        gates[_U(2) * m + j] = tanh(a[_U(2) * m + j] + gates[j] * gates[_U(3) * m + j])
    for j in range(m):
        after[j] = gates[_U(2) * m + j] + gates[m + j] * (before[j] - gates[_U(2) * m + j])


@compiled
def _gru_back(dy, dh, m, before, gates, da, dr):
    """dy, dh of after the step -> da, dr (3H, N); dh becomes what reaches h before it past the product."""
    m = _U(m)
    for j in range(m):
        dh[j] += dy[j]
    for j in range(m):
        z, new = gates[m + j], gates[_U(2) * m + j]
        da[_U(2) * m + j] = dh[j] * (np.float32(1) - z) * (np.float32(1) - new * new)
    for j in range(m):
        z, new = gates[m + j], gates[_U(2) * m + j]
        da[m + j] = dh[j] * (before[j] - new) * (z * (np.float32(1) - z))
    for j in range(m):
        reset = gates[j]
        slope = reset * (np.float32(1) - reset)
        da[j] = da[_U(2) * m + j] * gates[_U(3) * m + j] * slope
    for j in range(m):
        dr[j] = da[j]
    for j in range(m):
        dr[m + j] = da[m + j]
    for j in range(m):
        dr[_U(2) * m + j] = da[_U(2) * m + j] * gates[j]
    for j in range(m):
        dh[j] *= gates[m + j]


@compiled
def _tanh_step(a, r, m, after):
    _tanhs(a, r, 0, m, after)


@compiled
def _relu_step(a, r, m, after):
    for j in range(_U(m)):
        z = a[j] + r[j]
        after[j] = np.float32(0) if z <= np.float32(0) else z


@compiled
def _tanh_back(dy, dh, m, after, dz):
    for j in range(_U(m)):
        dz[j] = (dy[j] + dh[j]) * (np.float32(1) - after[j] * after[j])


@compiled
def _relu_back(dy, dh, m, after, dz):
    for j in range(_U(m)):
        dz[j] = (dy[j] + dh[j]) * (np.float32(1) if after[j] > np.float32(0) else np.float32(0))


def _flat(x: Any) -> Any:
    """(T, ., N) -> (T, . N)."""
    return x.reshape(len(x), -1)


class _Cell:
    """See kernels/recurrences.py."""

    gates, states, apart = 1, 1, False

    def __init__(self, step: Any = None, back: Any = None) -> None:
        self._step, self._back = step, back

    def ordered(self, w: Any) -> Any:
        return w

    arrange = restore = ordered

    def turned(self, w: Any) -> Any:
        return np.ascontiguousarray(w.T)

    def run(self, a: Any, w: Any, b: Any, states: Any, hs: Any) -> Any:
        m, r, step = hs[0].size, np.empty(a.shape[1:], a.dtype), self._step
        flat = r.reshape(-1)
        for x, before, after in zip(_flat(a), hs, _flat(hs)[1:], strict=False):
            np.matmul(w, before, out=r)
            step(x, flat, m, after)
        return (hs[-1],), ()

    def back(self, dy: Any, turned: Any, kept: Any, hs: Any, dstates: Any, da: Any, dr: Any) -> Any:
        (dh,), back, dz = dstates, self._back, np.empty_like(dy)
        flat, m = dh.reshape(-1), dh.size
        for each, after, d, z in zip(*(x[::-1] for x in (_flat(dy), _flat(hs), _flat(dz), dz)), strict=False):
            back(each, flat, m, after, d)
            np.matmul(turned, z, out=dh)
        da[0] = dz.transpose(1, 0, 2)
        return (dh,)


class _LSTM(_Cell):
    gates, states = 4, 2

    def run(self, a: Any, w: Any, b: Any, states: Any, hs: Any) -> Any:
        m, r = hs[0].size, np.empty(a.shape[1:], a.dtype)
        cs, gates, tanh_c = np.empty_like(hs), np.empty_like(a), np.empty_like(hs[1:])
        cs[0], flat = states[1], r.reshape(-1)
        columns = _flat(a), hs, _flat(cs), _flat(gates), _flat(cs)[1:], _flat(tanh_c), _flat(hs)[1:]
        for x, before, c, g, after_c, t, after in zip(*columns, strict=False):
            np.matmul(w, before, out=r)
            _lstm_step(x, flat, m, c, g, after_c, t, after)
        return (hs[-1], cs[-1]), (cs, gates, tanh_c)

    def back(self, dy: Any, turned: Any, kept: Any, hs: Any, dstates: Any, da: Any, dr: Any) -> Any:
        (dh, dc), (cs, gates, tanh_c) = dstates, kept
        dz = np.empty_like(gates)
        columns = (x[::-1] for x in (*map(_flat, (dy, cs[:-1], gates, tanh_c, dz)), dz))
        flat, flat_c, m = dh.reshape(-1), dc.reshape(-1), dh.size
        for each, c, g, t, d, z in zip(*columns, strict=True):
            _lstm_back(each, flat, flat_c, m, c, g, t, d)
            np.matmul(turned, z, out=dh)
        da[...] = dz.reshape(len(dz), *da.shape[:2], -1).transpose(1, 2, 0, 3)
        return dh, dc


class _GRU(_Cell):
    gates, apart = 3, True

    def run(self, a: Any, w: Any, b: Any, states: Any, hs: Any) -> Any:
        m, r = hs[0].size, np.empty(a.shape[1:], a.dtype)
        gates, flat = np.empty((len(a), 4 * m), a.dtype), r.reshape(-1)
        bias = None if b is None else np.repeat(b[:, None], a.shape[2], axis=1)
        for x, before, now, g, after in zip(_flat(a), hs, _flat(hs), gates, _flat(hs)[1:], strict=False):
            np.matmul(w, before, out=r)
            if bias is not None:
                np.add(r, bias, out=r)
            _gru_step(x, flat, m, now, g, after)
        return (hs[-1],), (gates,)

    def back(self, dy: Any, turned: Any, kept: Any, hs: Any, dstates: Any, da: Any, dr: Any) -> Any:
        ((dh,), (gates,)), (t, h, n) = (dstates, kept), dy.shape
        das, drs = np.empty((2, t, 3 * h, n), dy.dtype)
        columns = (x[::-1] for x in (*map(_flat, (dy, hs[:-1], gates, das, drs)), drs))
        through, flat, m = np.empty_like(dh), dh.reshape(-1), dh.size
        for each, before, g, a, r, product in zip(*columns, strict=True):
            _gru_back(each, flat, m, before, g, a, r)
            np.matmul(turned, product, out=through)
            dh += through
        for to, d in ((da, das), (dr, drs)):
            to[...] = d.reshape(t, 3, h, n).transpose(1, 2, 0, 3)
        return (dh,)


_RULE = "float32, no lengths, no projection: compiled steps with the samples innermost"


def _register(name: str, cell: _Cell, agnostic_cell: Any) -> None:
    supports = functools.partial(plain_supports, ("float32",))
    register("numpy", "numba", _RULE, name, HostScans(cell), agnostic_cell, supports)


_register("rnn_tanh", _Cell(_tanh_step, _tanh_back), agnostic._Tanh)
_register("rnn_relu", _Cell(_relu_step, _relu_back), agnostic._ReLU)
_register("lstm", _LSTM(), agnostic._LSTM)
_register("gru", _GRU(), agnostic._GRU)
