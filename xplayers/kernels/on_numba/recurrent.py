"""Recurrent networks in float32: a compiled step between products, everything with the samples innermost.

States and gates stand as (H, N): the product of a step, W_hh h, is then quicker by a third than h W_hh^T, and a gate is
a run of rows. The inputs of all steps come from one product before the scan and all gradients of weights from one
product each behind it, as in the agnostic code. Declined: lengths, a projection, other dtypes.
"""

from typing import Any

import numpy as np

from xplayers.functional import recurrent as agnostic

from ..recurrences import register
from .compiling import compiled
from .elementary import sigmoid, tanh

__all__: list[str] = []

_U = np.uintp


@compiled
def _sigmoids(a, at, r, bias, first, last, n, wide, out):
    """out (G, N) = sigmoid(a + r + bias) for some rows; a is (G, T N), of which the step begins at the column `at`."""
    for g in range(first, last):
        b, p, q = bias[g], _U(g) * _U(wide) + _U(at), _U(g) * _U(n)
        for j in range(_U(n)):
            out[q + j] = sigmoid(a[p + j] + (r[q + j] + b))


@compiled
def _tanhs(a, at, r, bias, first, last, n, wide, out):
    for g in range(first, last):
        b, p, q = bias[g], _U(g) * _U(wide) + _U(at), _U(g) * _U(n)
        for j in range(_U(n)):
            out[q + j] = tanh(a[p + j] + (r[q + j] + b))


@compiled
def _lstm_step(a, at, r, bias, h, n, wide, c, gates, after_c, tanh_c, after_h):
    """Flat arrays: a (4H, T N), r (4H, N), c (H, N) -> gates (4H, N), c, tanh(c) and h (H, N)."""
    _sigmoids(a, at, r, bias, 0, 2 * h, n, wide, gates)
    _tanhs(a, at, r, bias, 2 * h, 3 * h, n, wide, gates)
    _sigmoids(a, at, r, bias, 3 * h, 4 * h, n, wide, gates)
    m = _U(h) * _U(n)
    for j in range(m):
        after_c[j] = gates[m + j] * c[j] + gates[j] * gates[_U(2) * m + j]
    for j in range(m):
        tanh_c[j] = tanh(after_c[j])
    for j in range(m):
        after_h[j] = gates[_U(3) * m + j] * tanh_c[j]


@compiled
def _lstm_back(dy, dh, dc, h, n, wide, at, c, gates, tanh_c, dz, spare):
    """dy, dh (H, N), dc (H, N) of after the step -> dz (4H, T N) from the column `at`, dc of before it, in place."""
    m = _U(h) * _U(n)
    for j in range(m):
        spare[j] = dy[j] + dh[j]
    for j in range(m):
        o = gates[_U(3) * m + j]
        dc[j] += spare[j] * (o * (np.float32(1) - tanh_c[j] * tanh_c[j]))
    for row in range(_U(h)):
        p, q = row * _U(wide) + _U(at), row * _U(n)
        step = _U(h) * _U(wide)
        for j in range(_U(n)):
            i, g = gates[q + j], gates[_U(2) * m + q + j]
            dz[p + j] = dc[q + j] * (g * (i * (np.float32(1) - i)))
        for j in range(_U(n)):
            i, g = gates[q + j], gates[_U(2) * m + q + j]
            dz[_U(2) * step + p + j] = dc[q + j] * (i * (np.float32(1) - g * g))
        for j in range(_U(n)):
            f = gates[m + q + j]
            dz[step + p + j] = dc[q + j] * (c[q + j] * (f * (np.float32(1) - f)))
        for j in range(_U(n)):
            o = gates[_U(3) * m + q + j]
            dz[_U(3) * step + p + j] = (spare[q + j] * tanh_c[q + j]) * (o * (np.float32(1) - o))
    for j in range(m):
        dc[j] *= gates[m + j]


@compiled
def _gru_step(a, at, r, bias, h, n, wide, before, gates, after):
    """a (3H, T N), r (3H, N), h (H, N) -> gates (4H, N): reset, z, the new state's n and its part of r; h (H, N)."""
    _sigmoids(a, at, r, bias, 0, 2 * h, n, wide, gates)
    m = _U(h) * _U(n)
    for row in range(_U(h)):
        b, q = bias[_U(2 * h) + row], row * _U(n)
        for j in range(_U(n)):
            gates[_U(3) * m + q + j] = r[_U(2) * m + q + j] + b
    for row in range(_U(h)):
        p, q = (_U(2 * h) + row) * _U(wide) + _U(at), row * _U(n)
        for j in range(_U(n)):
            gates[_U(2) * m + q + j] = tanh(a[p + j] + gates[q + j] * gates[_U(3) * m + q + j])
    for j in range(m):
        after[j] = gates[_U(2) * m + j] + gates[m + j] * (before[j] - gates[_U(2) * m + j])


@compiled
def _gru_back(dy, dh, h, n, wide, at, before, gates, da, dr, spare):
    """dy, dh (H, N) of after the step -> da, dr (3H, T N) from the column `at`; dh z in `spare`."""
    m = _U(h) * _U(n)
    step = _U(h) * _U(wide)
    for j in range(m):
        spare[j] = dy[j] + dh[j]
    for row in range(_U(h)):
        p, q = row * _U(wide) + _U(at), row * _U(n)
        for j in range(_U(n)):
            z, new = gates[m + q + j], gates[_U(2) * m + q + j]
            da[_U(2) * step + p + j] = spare[q + j] * (np.float32(1) - z) * (np.float32(1) - new * new)
        for j in range(_U(n)):
            z, new = gates[m + q + j], gates[_U(2) * m + q + j]
            da[step + p + j] = spare[q + j] * (before[q + j] - new) * (z * (np.float32(1) - z))
        for j in range(_U(n)):
            reset = gates[q + j]
            slope = reset * (np.float32(1) - reset)
            da[p + j] = da[_U(2) * step + p + j] * gates[_U(3) * m + q + j] * slope
        for j in range(_U(n)):
            dr[p + j] = da[p + j]
        for j in range(_U(n)):
            dr[step + p + j] = da[step + p + j]
        for j in range(_U(n)):
            dr[_U(2) * step + p + j] = da[_U(2) * step + p + j] * gates[q + j]
    for j in range(m):
        spare[j] *= gates[m + j]


@compiled
def _tanh_step(a, at, r, bias, h, n, wide, after):
    _tanhs(a, at, r, bias, 0, h, n, wide, after)


@compiled
def _relu_step(a, at, r, bias, h, n, wide, after):
    for g in range(_U(h)):
        b, p, q = bias[g], g * _U(wide) + _U(at), g * _U(n)
        for j in range(_U(n)):
            z = a[p + j] + (r[q + j] + b)
            after[q + j] = np.float32(0) if z <= np.float32(0) else z


@compiled
def _tanh_back(dy, dh, h, n, wide, at, after, dz):
    for row in range(_U(h)):
        p, q = row * _U(wide) + _U(at), row * _U(n)
        for j in range(_U(n)):
            dz[p + j] = (dy[q + j] + dh[q + j]) * (np.float32(1) - after[q + j] * after[q + j])


@compiled
def _relu_back(dy, dh, h, n, wide, at, after, dz):
    for row in range(_U(h)):
        p, q = row * _U(wide) + _U(at), row * _U(n)
        for j in range(_U(n)):
            dz[p + j] = (dy[q + j] + dh[q + j]) * (np.float32(1) if after[q + j] > np.float32(0) else np.float32(0))


class _Cell:
    """What a scan needs of a cell: how many gates, and its two steps on flat arrays."""

    gates, states, kept = 1, 1, 0  # kept: (H, N) arrays a step keeps besides h

    def __init__(self, step: Any, back: Any) -> None:
        self._step, self._back = step, back

    def step(self, a: Any, at: int, r: Any, bias: Any, sizes: Any, before: Any, kept: Any, after: Any) -> None:
        self._step(a, at, r, bias, *sizes, after[0])

    def back(self, dy: Any, dh: Any, dc: Any, sizes: Any, at: int, before: Any, kept: Any, after: Any, d: Any) -> Any:
        """-> what reaches the state before the step besides what comes through r."""
        self._back(dy, dh, *sizes, at, after[0], d[0])


class _LSTM(_Cell):
    gates, states, kept = 4, 2, 5

    def step(self, a: Any, at: int, r: Any, bias: Any, sizes: Any, before: Any, kept: Any, after: Any) -> None:
        cut = 4 * before[0].size
        _lstm_step(a, at, r, bias, *sizes, before[1], kept[:cut], after[1], kept[cut:], after[0])

    def back(self, dy: Any, dh: Any, dc: Any, sizes: Any, at: int, before: Any, kept: Any, after: Any, d: Any) -> Any:
        cut = 4 * before[0].size
        _lstm_back(dy, dh, dc, *sizes, at, before[1], kept[:cut], kept[cut:], d[0], np.empty_like(dh))


class _GRU(_Cell):
    gates, states, kept = 3, 1, 4

    def step(self, a: Any, at: int, r: Any, bias: Any, sizes: Any, before: Any, kept: Any, after: Any) -> None:
        _gru_step(a, at, r, bias, *sizes, before[0], kept, after[0])

    def back(self, dy: Any, dh: Any, dc: Any, sizes: Any, at: int, before: Any, kept: Any, after: Any, d: Any) -> Any:
        through = np.empty_like(dh)
        _gru_back(dy, dh, *sizes, at, before[0], kept, *d, through)
        return through


def _innermost(x: np.ndarray) -> np.ndarray:
    """(T, N, H) -> (T, H N), the samples innermost."""
    return np.ascontiguousarray(x.transpose(0, 2, 1)).reshape(x.shape[0], -1)


class _Scans:
    """One direction of one layer; see functional/recurrent.py for the arguments."""

    def __init__(self, cell: _Cell) -> None:
        self.cell = cell

    def forward(self, _: Any, x: Any, state: Any, weights: Any, active: Any, steps: range) -> Any:
        cell, (w_ih, w_hh, b_ih, b_hh, _w) = self.cell, weights
        (t, n, inputs), h = x.shape, w_hh.shape[1]
        rows = x.reshape(t * n, inputs)
        a = (w_ih @ rows.T).reshape(-1)  # (G, T N)
        if b_ih is not None:
            a.reshape(-1, t * n)[...] += b_ih[:, None]
        bias = np.zeros(w_hh.shape[0], np.float32) if b_hh is None else b_hh
        first = [np.ascontiguousarray(s.T).reshape(-1) for s in state]
        states = [np.empty((t, h * n), np.float32) for _ in range(cell.states)]
        kept = np.empty((t, cell.kept * h * n), np.float32)
        r, before = np.empty((w_hh.shape[0], n), np.float32), first
        for i in steps:
            np.matmul(w_hh, before[0].reshape(h, n), out=r)
            after = [s[i] for s in states]
            cell.step(a, i * n, r.reshape(-1), bias, (h, n, t * n), before, kept[i], after)
            before = after
        y = np.ascontiguousarray(states[0].reshape(t, h, n).transpose(0, 2, 1))  # (T, N, H)
        last = tuple(np.ascontiguousarray(s.reshape(h, n).T) for s in before)
        return (y, last), (rows, first, weights, steps, (states, kept), (y,) * cell.states)

    def backward(self, _: Any, dy: Any, dstate: Any, cache: Any, want_x: bool, want: Any) -> Any:
        rows, first, (w_ih, w_hh, b_ih, b_hh, _w), steps, (states, kept), (y, *_r) = cache
        cell, (t, n, h), g = self.cell, y.shape, w_hh.shape[0]
        d = [np.empty((g, t * n), np.float32) for _ in range(2 if isinstance(cell, _GRU) else 1)]  # da, and dr
        flat = [part.reshape(-1) for part in d]
        dys, dh, *rest = _innermost(dy), *(np.ascontiguousarray(s.T).reshape(-1) for s in dstate)
        dc = rest[0].copy() if rest else None
        turned = np.ascontiguousarray(w_hh.T)
        order = list(steps)
        for k in reversed(range(t)):
            i = order[k]
            before = [s[order[k - 1]] for s in states] if k else first
            through = cell.back(dys[i], dh, dc, (h, n, t * n), i * n, before, kept[i], [s[i] for s in states], flat)
            dh = (turned @ d[-1][:, i * n : (i + 1) * n]).reshape(-1)
            if through is not None:
                dh += through
        da, dr = d[0], d[-1]
        dx = (da.T @ w_ih).reshape(t, n, -1) if want_x else None
        dw_ih = da @ rows if want[0] else None
        dw_hh = None
        if want[1]:
            start = first[0].reshape(h, n).T[None]
            past = np.concatenate([start, y[:-1]] if order[0] == 0 else [y[1:], start])
            dw_hh = dr @ past.reshape(t * n, h)
        sums = [
            p.sum(axis=1) if wanted and b is not None else None
            for p, wanted, b in ((da, want[2], b_ih), (dr, want[3], b_hh))
        ]
        dfirst = tuple(np.ascontiguousarray(s.reshape(h, n).T) for s in (dh, *(() if dc is None else (dc,))))
        return dx, dfirst, (dw_ih, dw_hh, *sums, None)


def _supports(
    x: Any,
    hx: Any,
    params: Any,
    has_biases: bool = True,
    num_layers: int = 1,
    dropout: float = 0.0,
    train: bool = False,
    bidirectional: bool = False,
    batch_first: bool = False,
    *,
    lengths: Any = None,
    mask: Any = None,
    rng: Any = None,
) -> bool:
    """Whether all arrays are of float32, no lengths are given and no layer projects its output."""
    if x.dtype != np.float32 or lengths is not None or x.size == 0 or x.ndim not in (2, 3):
        return False
    per = 4 if has_biases else 2
    layers = num_layers * (2 if bidirectional else 1)
    states = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
    return len(params) == per * layers and all(p.dtype == np.float32 for p in (*params, *states))


_RULE = "float32, no lengths, no projection: compiled steps with the samples innermost"


def _register(name: str, cell: _Cell, agnostic_cell: Any) -> None:
    register("numpy", "numba", _RULE, name, _Scans(cell), agnostic_cell, _supports)


_register("rnn_tanh", _Cell(_tanh_step, _tanh_back), agnostic._Tanh)
_register("rnn_relu", _Cell(_relu_step, _relu_back), agnostic._ReLU)
_register("lstm", _LSTM(None, None), agnostic._LSTM)
_register("gru", _GRU(None, None), agnostic._GRU)
