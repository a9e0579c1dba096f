"""Recurrent networks: a step is a product and one kernel, where the agnostic code takes some fifteen passes.

The inputs of all steps come from one product before the scan, and all gradients of weights from one product each behind
it, as in the agnostic code; biases are added where gates are made. States stand in one array with the first one in
front, so that those before each step are a view. Declined: lengths, a projection, mixed dtypes.
"""

import functools
from typing import Any

from xplayers.functional import recurrent as agnostic

from ..recurrences import plain_supports, register
from . import launching
from .launching import FLOATS, contiguous, elements, empty, launch, product, types

__all__: list[str] = []


class _Cell:
    """What a scan needs of a cell: its gates and states, and the two kernels of a step."""

    gates, states, kept = 1, 1, 0  # kept: (N, kept H) numbers a step keeps besides the states

    def __init__(self, relu: bool = False) -> None:
        self.relu = relu

    def step(self, run: Any, z: Any, before: Any, kept: Any, after: Any, sizes: Any) -> None:
        run("rnn_step", *z, after[0], *sizes, self.relu)

    def back(self, run: Any, given: Any, before: Any, kept: Any, after: Any, d: Any, sizes: Any) -> Any:
        """given: dy, dh and what the step behind has answered: dc of an LSTM, what reaches a GRU's h besides by r."""
        run("rnn_back", *given[:2], after[0], d[0], sizes[0], self.relu)


class _LSTM(_Cell):
    gates, states, kept = 4, 2, 4

    def step(self, run: Any, z: Any, before: Any, kept: Any, after: Any, sizes: Any) -> None:
        run("lstm_step", *z, before[1], kept, after[1], after[0], *sizes)

    def back(self, run: Any, given: Any, before: Any, kept: Any, after: Any, d: Any, sizes: Any) -> Any:
        dc = empty(given[1].shape, given[1].dtype)
        run("lstm_back", *given, kept, before[1], after[1], d[0], dc, *sizes)
        return dc


class _GRU(_Cell):
    gates, states, kept = 3, 1, 4

    def step(self, run: Any, z: Any, before: Any, kept: Any, after: Any, sizes: Any) -> None:
        run("gru_step", *z, before[0], kept, after[0], *sizes)

    def back(self, run: Any, given: Any, before: Any, kept: Any, after: Any, d: Any, sizes: Any) -> Any:
        through = empty(given[1].shape, given[1].dtype)
        run("gru_back", *given, kept, before[0], d[0], d[1], through, *sizes)
        return through


class _Scans:
    """The directions of a layer; see functional/recurrent.py for the arguments of each."""

    def __init__(self, cell: _Cell) -> None:
        self.cell = cell

    def forward(self, ways: list) -> list:
        return [self._forward(*way) for way in ways]

    def backward(self, ways: list) -> list:
        return [self._backward(*way) for way in ways]

    def _forward(self, _: Any, x: Any, state: Any, weights: Any, active: Any, steps: range) -> Any:
        cell, (w_ih, w_hh, b_ih, b_hh, _w) = self.cell, weights
        (t, n, inputs), h = x.shape, w_hh.shape[1]
        rows = contiguous(x).reshape(t * n, inputs)
        a = product(rows, w_ih.T).reshape(t, n, -1)  # (T, N, G)
        ahead = int(steps[0] == 0)  # in time the first state is in front, against it behind the last
        held = [empty((t + 1, n, h), x.dtype) for _ in range(cell.states)]
        for s, first in zip(held, state, strict=True):
            s[0 if ahead else t] = first
        kept = empty((t, n, cell.kept * h), x.dtype)
        biases, run, sizes = tuple(map(contiguous, (b_ih, b_hh))), self._run(x.dtype, n * h), (n * h, h)
        for i in steps:
            before, after = ([s[i + k] for s in held] for k in (1 - ahead, ahead))
            cell.step(run, (a[i], product(before[0], w_hh.T), *biases), before, kept[i], after, sizes)
        y, last = held[0][ahead : t + ahead], tuple(s[t if ahead else 0] for s in held)
        return (y, last), (rows, ahead, weights, held, kept, tuple(s[ahead : t + ahead] for s in held))

    def _backward(self, _: Any, dy: Any, dstate: Any, cache: Any, want_x: bool, want: Any) -> Any:
        rows, ahead, (w_ih, w_hh, b_ih, b_hh, _w), held, kept, (y, *_c) = cache
        cell, (t, n, h), g = self.cell, y.shape, w_hh.shape[0]
        d = [empty((t, n, g), y.dtype) for _ in range(2 if isinstance(cell, _GRU) else 1)]  # da, and dr
        run, sizes, (dh, *more) = self._run(y.dtype, n * h), (n * h, h), (contiguous(s, y.dtype) for s in dstate)
        dy, rest = contiguous(dy, y.dtype), more[0] if more else None
        for i in reversed(range(t)) if ahead else range(t):
            before, after = ([s[i + k] for s in held] for k in (1 - ahead, ahead))
            rest = cell.back(run, (dy[i], dh, rest), before, kept[i], after, [part[i] for part in d], sizes)
            dh = product(d[-1][i], w_hh)
        da, dr = d[0].reshape(t * n, g), d[-1].reshape(t * n, g)
        ones = launching.machine.xp.ones((1, t * n), y.dtype)  # a sum of columns as a product, at the speed of memory
        db_ih, db_hh = (
            product(ones, p)[0] if wanted and b is not None else None
            for p, wanted, b in ((da, want[2], b_ih), (dr, want[3], b_hh))
        )
        dx = product(da, w_ih).reshape(t, n, -1) if want_x else None
        dw_ih = product(da.T, rows) if want[0] else None
        dw_hh = product(dr.T, held[0][1 - ahead : t + 1 - ahead].reshape(t * n, h)) if want[1] else None
        first = (dh, rest) if cell.states == 2 else (dh if rest is None else dh + rest,)
        return dx, first, (dw_ih, dw_hh, db_ih, db_hh, None)

    @staticmethod
    def _run(dtype: Any, count: int) -> Any:
        kinds, shape = types(dtype), elements(count)
        return lambda name, *arguments: launch("recurrent", name, kinds, shape, *arguments)


def _supports(cell: _Cell, x: Any, hx: Any, params: Any, *options: Any, **named: Any) -> bool:
    """Floats of one dtype, gates that fit, no lengths, no layer that projects its output."""
    if not plain_supports(FLOATS, x, hx, params, *options, **named):
        return False
    per = 4 if options[0] else 2
    gates = (cell.gates * w_hh.shape[1] for w_hh in params[1::per])
    return all(p.shape[0] == g for k, g in enumerate(gates) for p in params[k * per : (k + 1) * per])


def _register(name: str, cell: _Cell, agnostic_cell: Any) -> None:
    supports, rule = functools.partial(_supports, cell), "one dtype, no lengths: a kernel a step"
    register("cupy", "cuda", rule, name, _Scans(cell), agnostic_cell, supports)


_register("rnn_tanh", _Cell(), agnostic._Tanh)
_register("rnn_relu", _Cell(relu=True), agnostic._ReLU)
_register("lstm", _LSTM(), agnostic._LSTM)
_register("gru", _GRU(), agnostic._GRU)
