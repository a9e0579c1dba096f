"""The twins of recurrent networks: the agnostic function around the scans of a means, and those of NumPy arrays.

`HostScans` has the samples innermost: states and gates stand as (H, N), where the product of a step, W_hh h, is quicker
than h W_hh^T and a gate is a run of rows. The inputs of all steps come from one product before the scan, and each
gradient of a weight from one product behind it, as in the agnostic code. Directions take a thread each, and where there
is one, halves of the samples: the small products of a step do not make up for the wait of BLAS's threads.
"""

import functools
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from xplayers.functional import recurrent as agnostic

from .registry import kernel, worth
from .threads import one_blas_thread, products_in_parts, runs

__all__ = ["HostScans", "plain_supports", "register"]

_WORTH_THREADS = 1 << 22  # multiplications of a direction
_LEAST_SAMPLES = 32  # that are halved: products of fewer than 16 columns are slow
_MOST_HIDDEN = 512  # units whose weights each thread reads for itself


def register(
    library: str, means: str, rule: str, name: str, scans: Any, agnostic_cell: Any, supports: Callable[..., bool]
) -> None:
    """Registers the twin of `<name>_forward` that goes by `scans`, where `supports` takes the call."""
    reference = getattr(agnostic, f"{name}_forward")
    several = scans.cell.states > 1

    def backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        if several:
            return agnostic.backward_by(scans, agnostic_cell, dy[0], dy[1] or (None, None), cache, wanted)
        dx, dhx, dparams = agnostic.backward_by(scans, agnostic_cell, dy[0], dy[1:], cache, wanted)
        return dx, None if dhx is None else dhx[0], dparams

    @kernel(library, reference, backward, supports, means=means, rule=rule)
    @functools.wraps(reference)
    def forward(x: Any, hx: Any, params: Any, *options: Any, lengths: Any, mask: Any, rng: Any) -> Any:
        if not supports(x, hx, params, *options, lengths=lengths, mask=mask, rng=rng):
            return NotImplemented
        given = hx if several or hx is None else (hx,)
        rest: Any = (*options, None, mask, rng)
        (y, states), cache = agnostic.forward_by(scans, agnostic_cell, x, given, params, *rest)
        return (y, states if several else states[0]), cache


def plain_supports(
    dtypes: Collection[str], x: Any, hx: Any, params: Any, *options: Any, lengths: Any, **_: Any
) -> bool:
    """Whether all arrays are of one of the dtypes, no lengths are given and no layer projects its output."""
    if x.dtype.name not in dtypes or lengths is not None or x.size == 0 or x.ndim not in (2, 3):
        return False
    has_biases, num_layers, _dropout, _train, bidirectional, _first = options
    per = 4 if has_biases else 2
    layers = num_layers * (2 if bidirectional else 1)
    states = () if hx is None else hx if isinstance(hx, tuple) else (hx,)
    return len(params) == per * layers and all(p.dtype == x.dtype for p in (*params, *states))


class HostScans:
    """The scans of NumPy arrays by a cell, which has besides `gates` and `states`

    arrange(w), restore(w): the rows of a weight or bias in the cell's order, scaled as its `run` wants them, and the
    way back for a gradient; `turned(w_hh)` (H, G): the transposed weight, its columns in that order and not scaled.
    run(a, w_hh, b, states, hs) -> last states, kept: all steps of some samples. a (T, G, N) may be written to; b (G,)
    is b_hh where the cell has it apart from a (`apart`), or None; states (H, N) each; hs (T + 1, H, N) begins with the
    first and takes the others.
    back(dy, turned, kept, hs, dstates, da, dr) -> dstates: dy (T, H, N); da and dr (gates, H, T, N) are written into,
    and are the same array where the cell's a and r are only ever added.
    """

    def __init__(self, cell: Any) -> None:
        self.cell = cell

    def forward(self, ways: list) -> list:
        _, x, _, weights, *_ = ways[0]
        return _each(self._forward, ways, x.shape[0] * x.shape[1] * weights[1].size)

    def backward(self, ways: list) -> list:
        _, dy, _, cache, *_ = ways[0]
        return _each(self._backward, ways, dy.size * cache[2][1].shape[0])

    def _forward(self, parted: bool, _: Any, x: Any, state: Any, weights: Any, active: Any, steps: range) -> Any:
        cell, (w_ih, w_hh, b_ih, b_hh, _w) = self.cell, weights
        (t, n, _i), (g, h) = x.shape, w_hh.shape
        way = slice(None) if steps[0] == 0 else slice(None, None, -1)
        rows = x.reshape(t * n, -1)
        a = (cell.arrange(w_ih) @ rows.T).reshape(g, t, n)[:, way].transpose(1, 0, 2)
        bias = b_ih if cell.apart or b_hh is None else b_ih + b_hh
        bias = 0.0 if bias is None else cell.arrange(bias)[:, None]
        b = cell.arrange(b_hh) if cell.apart and b_hh is not None else None
        w = cell.arrange(w_hh)
        y = np.empty((t, n, h), x.dtype)
        last = tuple(np.empty((n, h), x.dtype) for _ in state)
        parts = runs(n, -(-n // 2)) if parted and worth(n, _LEAST_SAMPLES) and h <= _MOST_HIDDEN else [slice(0, n)]
        held: list[Any] = [None] * len(parts)

        def work(k: int) -> None:
            r = parts[k]
            inputs = np.empty((t, g, r.stop - r.start), x.dtype)
            np.add(a[:, :, r], bias, out=inputs)
            hs = np.empty((t + 1, h, r.stop - r.start), x.dtype)
            hs[0] = state[0][r].T
            states, kept = cell.run(inputs, w, b, [hs[0], *(s[r].T for s in state[1:])], hs)
            y[way, r] = hs[1:].transpose(0, 2, 1)
            for to, s in zip(last, states, strict=True):
                to[r] = s.T
            held[k] = r, hs, kept

        _parted(work, len(parts))
        return (y, last), (rows, way.step, weights, None, tuple(held), (y,) * cell.states)

    def _backward(self, parted: bool, _: Any, dy: Any, dstate: Any, cache: Any, want_x: bool, want: Any) -> Any:
        rows, step, (w_ih, w_hh, *_rest), _none, held, (y, *_r) = cache
        cell, (t, n, h), g, way = self.cell, y.shape, w_hh.shape[0], slice(None, None, step)
        da = np.empty((cell.gates, h, t, n), y.dtype)
        dr = np.empty_like(da) if cell.apart else da
        past = np.empty((h, t, n), y.dtype)
        dfirst = tuple(np.empty((n, h), y.dtype) for _ in dstate)
        turned = cell.turned(w_hh)

        def work(k: int) -> None:
            r, hs, kept = held[k]
            dys = np.ascontiguousarray(dy[way, r].transpose(0, 2, 1))
            given = [np.array(s[r].T, order="C") for s in dstate]  # written to
            to = [d[:, :, way, r] for d in (da, dr)]
            for d, s in zip(dfirst, cell.back(dys, turned, kept, hs, given, *to), strict=True):
                d[r] = s.T
            past[:, way, r] = hs[:-1].transpose(1, 0, 2)

        _parted(work, len(held))
        da, dr = da.reshape(g, t * n), dr.reshape(g, t * n)
        dx = (da.T @ cell.ordered(w_ih)).reshape(t, n, -1) if want_x else None
        dw_ih = cell.restore(da @ rows) if want[0] else None
        dw_hh = cell.restore(dr @ past.reshape(h, t * n).T) if want[1] else None
        ones = np.ones(t * n, y.dtype)
        sums = [p @ ones for p in ((da, dr) if cell.apart else (da,)) if want[2] or want[3]]
        dbiases = [cell.restore(sums[k].copy()) if asked else None for k, asked in ((0, want[2]), (-1, want[3]))]
        return dx, dfirst, (dw_ih, dw_hh, *dbiases, None)


def _each(scan: Callable[..., Any], ways: list, work: int) -> list:
    """scan(parted, *way) of each direction; over threads where it is worth it, and else BLAS has one as well."""
    if not worth(work, _WORTH_THREADS):
        with one_blas_thread(), np.errstate(all="ignore"):
            return [scan(False, *way) for way in ways]
    if len(ways) == 1:
        return [scan(True, *ways[0])]
    answers: list[Any] = [None] * len(ways)

    def one(k: int) -> None:
        answers[k] = scan(False, *ways[k])

    _parted(one, len(ways))
    return answers


def _parted(work: Callable[[int], None], count: int) -> None:
    """work(0) ... work(count - 1) over threads; NaN and infinities pass without a warning."""

    def quiet(k: int) -> None:
        with np.errstate(all="ignore"):
            work(k)

    if count > 1:
        products_in_parts(quiet, range(count))
    else:
        quiet(0)
