"""The loops of depthwise convolutions with NumPy alone, on flat rows of many planes at once.

The taps below one another read the same phase at equal distances: one einsum weighs and adds them in a single visit,
with the planes' pixels as its innermost loop.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..planes import Plane
from ..threads import runs

__all__ = ["LOOPS"]

_BLOCK = 1 << 18  # numbers in an operand: with less, two threads wait for each other's Python


class _Taps(NamedTuple):
    """Taps of one phase at equal distances."""

    phase: int
    which: list[int]
    first: int  # where the first reads in its phase
    step: int


class _Loops:
    at_once = _BLOCK

    @staticmethod
    def forward(x: np.ndarray, w: np.ndarray, b: np.ndarray, y: np.ndarray, plane: Plane, part: slice) -> None:
        """x (n, 1, pixels), w (groups, O, 1, taps), b (groups, O) -> y (n, O, pixels)."""
        size, taps, mine = plane.phase[0] * plane.phase[1], _together(plane), _groups_of(part, w)
        weights, bias = [w[mine, :, 0][..., t.which] for t in taps], b[mine]
        for p, local in _blocks(part, plane):
            phases = _phases(x[p, 0], plane)
            t, more = np.empty((2, len(phases), plane.out[0] * plane.phase[1]), x.dtype)
            for i in range(w.shape[1]):
                reads = [(q.phase * size + q.first, q.step, v[local, i]) for q, v in zip(taps, weights, strict=True)]
                _weigh(phases, reads, t, more)
                t += bias[local, i, None]
                y[p, i].reshape(-1, *plane.out)[...] = t.reshape(len(t), plane.out[0], -1)[..., : plane.out[1]]

    @staticmethod
    def backward(x: np.ndarray, w: np.ndarray, dy: np.ndarray, dx: Any, dw: Any, plane: Plane, part: slice) -> None:
        """dy (n, O, pixels) -> dx as x, and added to dw as w, each where it is not None."""
        n, size, taps, mine = _reach(plane), plane.phase[0] * plane.phase[1], _together(plane), _groups_of(part, w)
        weights = [w[mine, :, 0][..., t.which] for t in taps]
        lead = int(plane.shift.max())
        low = plane.before[0] // plane.stride[0] * plane.phase[1]  # the rows that hold pixels
        high = min(size, -(-(plane.before[0] + plane.sizes[0]) // plane.stride[0]) * plane.phase[1])
        for p, local in _blocks(part, plane):
            count = p.stop - p.start
            d = _zeros(count, lead + size, plane, dy.dtype)
            spread = d[:, lead:].reshape(count, *plane.phase)[:, : plane.out[0], : plane.out[1]]
            phases = None if dw is None else _phases(x[p, 0], plane)
            # the phases of dx, each of the planes' whole rows that hold pixels
            back = np.zeros((plane.stride[0] * plane.stride[1], count, high - low), dy.dtype)
            one, more = np.empty((2, count, high - low), dy.dtype)
            for i in range(w.shape[1]):
                spread[...] = dy[p, i].reshape(spread.shape)
                if phases is not None:
                    values = d[:, lead : lead + n]
                    dots = np.stack([np.vecdot(phases[:, at : at + n], values) for at in plane.at.tolist()], axis=1)
                    _add_each(dots, p.start, dw[:, i, 0])
                for f in range(len(back)) if dx is not None else ():
                    reads = [
                        (lead + low - q.first, -q.step, v[local, i])
                        for q, v in zip(taps, weights, strict=True)
                        if q.phase == f
                    ]
                    if reads and i == 0:
                        _weigh(d, reads, back[f], more)
                    elif reads:
                        _weigh(d, reads, one, more)
                        back[f] += one
            if dx is not None:
                rows = back.transpose(1, 0, 2).reshape(count, *plane.stride, -1, plane.phase[1])
                for pixels, phase in _matching(dx[p, 0], rows, plane, low // plane.phase[1]):
                    pixels[...] = phase


LOOPS = _Loops()


def _reach(plane: Plane) -> int:
    """From the first answer to the last."""
    return (plane.out[0] - 1) * plane.phase[1] + plane.out[1]


def _blocks(part: slice, plane: Plane) -> Iterator[tuple[slice, slice]]:
    """Runs of a part's planes, and the same counted from its first."""
    size = plane.stride[0] * plane.stride[1] * plane.phase[0] * plane.phase[1]
    for run in runs(part.stop - part.start, max(1, _BLOCK // size)):
        yield slice(part.start + run.start, part.start + run.stop), run


def _groups_of(part: slice, w: np.ndarray) -> np.ndarray:
    return np.arange(part.start, part.stop) % w.shape[0]


def _together(plane: Plane) -> list[_Taps]:
    """The taps of each phase and column."""
    found: dict[tuple[int, int], list[int]] = {}
    for f in range(len(plane.first) - 1):
        for k in range(int(plane.first[f]), int(plane.first[f + 1])):
            found.setdefault((f, int(plane.shift[k]) % plane.phase[1]), []).append(k)
    shift = plane.shift.tolist()
    return [
        _Taps(f, which, shift[which[0]], shift[which[1]] - shift[which[0]] if len(which) > 1 else 0)
        for (f, _), which in found.items()
    ]


def _weigh(source: np.ndarray, reads: list[tuple[int, int, np.ndarray]], out: np.ndarray, more: np.ndarray) -> None:
    """out[p, j] = sum of w[p, i] source[p, at + i * step + j] over the reads (at, step, w) and all i.

    A plane's last reads may go beyond it: to where they are no answers.
    """
    (planes, n), item = out.shape, source.itemsize
    for i, (at, step, w) in enumerate(reads):
        steps = source.strides[0], step * item, item
        seen: np.ndarray = np.ndarray((planes, w.shape[1], n), source.dtype, source.base, at * item, steps)
        np.einsum("pkn,pk->pn", seen, w, out=more if i else out)
        if i:
            out += more


def _zeros(count: int, size: int, plane: Plane, dtype: Any) -> np.ndarray:
    """(count, size) at the beginning of memory that goes on for a row."""
    return np.zeros(count * size + plane.phase[1], dtype)[: count * size].reshape(count, size)


def _add_each(dots: np.ndarray, start: int, sums: np.ndarray) -> None:
    """Adds the row of each plane, counted from start, to that of its group."""
    groups, done = len(sums), 0
    while done < len(dots):
        g = (start + done) % groups
        run = min(groups - g, len(dots) - done)
        sums[g : g + run] += dots[done : done + run]
        done += run


def _phases(x: np.ndarray, plane: Plane) -> np.ndarray:
    """x (n, pixels) -> (n, phases * size), 0 where x has no pixels."""
    phases = _zeros(len(x), plane.stride[0] * plane.stride[1] * plane.phase[0] * plane.phase[1], plane, x.dtype)
    for pixels, phase in _matching(x, phases.reshape(-1, *plane.stride, *plane.phase), plane, 0):
        phase[...] = pixels
    return phases


def _matching(x: np.ndarray, phases: np.ndarray, plane: Plane, low: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Views of the same pixels, in x (n, pixels) and in phases (n, *stride, rows from low on, row)."""
    (sh, sw), (top, left) = plane.stride, plane.before
    x = x.reshape(-1, *plane.sizes)
    for i in range(sh):
        for j in range(sw):
            r, c = (i - top) % sh, (j - left) % sw
            pixels = x[:, r::sh, c::sw]
            r, c = (r + top) // sh - low, (c + left) // sw
            yield pixels, phases[:, i, j, r : r + pixels.shape[1], c : c + pixels.shape[2]]
