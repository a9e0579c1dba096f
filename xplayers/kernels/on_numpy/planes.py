"""Depthwise convolutions with NumPy alone: the planes of some channels as flat rows, all taps weighed in one einsum.

The images of a channel stand one behind the other, with rows of zeros between them that both neighbours share; a tap
along the columns is a shift of the whole run by a row. A tap along the rows is a shift by one number, and what came
from the row before is set to 0: rows as short as 7 are copied in planes. A stride parts rows and columns into phases.

    y[c, t] = sum of w[c, j, k] lines[j, c, k * row + t]

dx is the same sum with lines of dy, for each phase, and dw is the sum over t of those lines times x, a phase of it.

Where dy lies so, the numbers between two images are 0. What an infinity makes of them would spread: where a gradient is
not finite throughout, the direct sums give it instead.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xplayers.functional.convolution import conv2d_backward, padding_pairs
from xplayers.functional.pair import wants
from xplayers.functional.pooling import n_tuple

from ..threads import in_parts, runs
from .columns import Axis, inside, phases, windows

__all__ = ["conv", "conv_backward"]

_NUMBERS = 1 << 18  # in the lines of a block: what a core's second cache holds beside the rest
_LANES = 8  # of runs of channels: enough for the threads of most machines
_LONG = 1 << 13  # numbers in a line: more leave the first cache

_Tap = tuple[int, int, int, int]  # the row phase, the first row, how far to the next, how many


class _Lines:
    """The lines of images (n, channels, H, W), for windows along `rows` and `across`: axes of one step each."""

    def __init__(self, sizes: tuple[int, int], rows: list[Axis], across: list[Axis]) -> None:
        self.sizes, self.rows, self.across = sizes, rows, across
        self.step, self.wide = rows[0].step, max(axis.windows for axis in across)
        offsets = [offset for axis in rows for offset in axis.offsets]
        self.met = sorted({offset % self.step for offset in offsets})
        low, high = min(0, *offsets) // self.step, max(0, *offsets) // self.step
        seen = max(-(-(sizes[0] - r) // self.step) for r in self.met)
        self.lead, self.tail = -low, high
        self.down = max(seen - low, max(axis.windows for axis in rows) + high)  # rows from an image to the next
        self.taps = [offset for axis in across for offset in axis.offsets]
        self.length = self.down * self.wide
        self.numbers = len(self.taps) * len(self.met) * self.length  # of an image's plane

    def new(self, n: int, channels: int) -> np.ndarray:
        """(taps across, channels, row phases, rows, wide)"""
        rows = self.lead + n * self.down + self.tail
        return np.zeros((len(self.taps), channels, len(self.met), rows, self.wide), np.float32)

    def lay(self, x: np.ndarray, lines: np.ndarray) -> None:
        """x (n, channels, H, W) is laid out; what is not of x is 0 already."""
        n, channels = x.shape[:2]
        w, step = self.sizes[1], self.across[0].step
        done: dict[int, int] = {}  # by phase of the columns: the tap that sees all of it
        for j in sorted(range(len(self.taps)), key=lambda j: abs(self.taps[j] // step)):
            shift, phase = divmod(self.taps[j], step)
            if phase in done:
                _shift(lines[done[phase]], shift, lines[j])
                continue
            found = inside(Axis(self.wide, step, ()), self.taps[j], w)
            if found is None:
                continue
            images = lines[j, :, :, self.lead : self.lead + n * self.down]
            images = images.reshape(channels, len(self.met), n, self.down, self.wide)
            for f, residue in enumerate(self.met):
                rows = x[:, :, residue :: self.step, found[1]].transpose(1, 0, 2, 3)
                images[:, f, :, : rows.shape[2], found[0]] = rows
            if shift == 0 and -(-(w - phase) // step) == self.wide:
                done[phase] = j

    def seen(self, lines: np.ndarray, n: int, down: int, across: int) -> list[tuple[np.ndarray, list[int]]]:
        """For one of `rows` and of `across`: views (taps, channels, taps, n * length), with the taps along the rows."""
        first = sum(len(axis.offsets) for axis in self.across[:across])
        some = lines[first : first + len(self.across[across].offsets)]
        found = []
        for f, residue in enumerate(self.met):
            taps = [k for k, offset in enumerate(self.rows[down].offsets) if offset % self.step == residue]
            at = [self.lead + self.rows[down].offsets[k] // self.step for k in taps]
            if not taps:
                continue
            if len(at) > 1 and at[1] < at[0]:
                taps, at = taps[::-1], at[::-1]
            step = at[1] - at[0] if len(at) > 1 else 0
            seen = some[:, :, f, at[0] :]
            shape = len(some), some.shape[1], len(taps), n * self.length
            strides = *seen.strides[:2], step * seen.strides[2], seen.strides[3]
            found.append((np.lib.stride_tricks.as_strided(seen, shape, strides), taps))
        return found

    def images(self, line: np.ndarray, n: int, down: int, across: int) -> np.ndarray:
        """line (channels, n * length) -> the windows in it, (n, channels, ...)."""
        whole = line.reshape(len(line), n, self.down, self.wide).transpose(1, 0, 2, 3)
        return whole[:, :, : self.rows[down].windows, : self.across[across].windows]


class _Space:
    """What a block is worked on in: its lines, what is seen of them, and lines of windows with theirs."""

    def __init__(self, lines: _Lines, n: int, channels: int) -> None:
        self.lines, self.n = lines, n
        self.laid = lines.new(n, channels)
        self.out, self.more = np.zeros((2, channels, n * lines.length), np.float32)
        ways = list(itertools.product(range(len(lines.rows)), range(len(lines.across))))
        self.seen = {way: lines.seen(self.laid, n, *way) for way in ways}
        self.windows = {way: lines.images(self.out, n, *way) for way in ways}
        self.kept: dict[tuple[int, int], np.ndarray] = {}

    def values(self, down: int, across: int) -> tuple[np.ndarray, np.ndarray]:
        """A line that is 0 but for its windows, and they."""
        line = self.kept.get((down, across))
        if line is None:
            line = self.kept[down, across] = np.zeros_like(self.out)
        return line, self.lines.images(line, self.n, down, across)


def _each_block(lines: _Lines, n: int, channels: int, work: Callable[[_Space, slice, slice], None]) -> None:
    """Calls work(space, images, channels) for all blocks of all, a thread's own channels one after the other."""
    images = runs(n, max(1, _LONG // lines.length))
    run = max(1, _NUMBERS // (images[0].stop * lines.numbers))
    lanes = runs(channels, -(-channels // max(2, min(_LANES, channels // run))))
    free: list[dict[tuple[int, int], _Space]] = []  # the memory of threads that have ended a lane

    def some(lane: slice) -> None:
        spaces = free.pop() if free else {}
        for c, i in itertools.product(runs(lane.stop - lane.start, run), images):
            size = i.stop - i.start, c.stop - c.start
            if size not in spaces:
                spaces[size] = _Space(lines, *size)
            work(spaces[size], i, slice(lane.start + c.start, lane.start + c.stop))
        free.append(spaces)

    in_parts(some, lanes)


def _shift(line: np.ndarray, shift: int, out: np.ndarray) -> None:
    """out[..., i] = line[..., i + shift], 0 where that is another row."""
    wide = line.shape[-1]
    if abs(shift) >= wide:
        return
    source, target = line.reshape(-1), out.reshape(-1)
    if shift >= 0:
        target[: target.size - shift] = source[shift:]
        out[..., wide - shift :] = 0
    else:
        target[-shift:] = source[:shift]
        out[..., :-shift] = 0


def _weigh(seen: list[tuple[np.ndarray, list[int]]], w: np.ndarray, out: np.ndarray, more: np.ndarray) -> None:
    """out (channels, length) = the sum over all taps of what they see, times w (taps across, channels, taps down)."""
    for i, (lines, taps) in enumerate(seen):
        some = w if len(seen) == 1 and taps == list(range(len(taps))) else w[:, :, taps]
        np.einsum("jckn,jck->cn", lines, some, out=more if i else out)
        if i:
            out += more


class _Geometry(NamedTuple):
    stride: tuple[int, int]
    pairs: list[tuple[int, int]]
    dilation: tuple[int, int]
    sizes: tuple[int, int]
    kernel: tuple[int, int]

    def windows(self) -> _Lines:
        rows, across = windows(self.sizes, self.kernel, self.stride, self.pairs, self.dilation)
        return _Lines(self.sizes, [rows], [across])


def _by_tap(weight: np.ndarray, channels: int, kernel: tuple[int, int]) -> np.ndarray:
    """(C * m, 1, KH, KW) -> (m, KW, C, KH)"""
    return np.ascontiguousarray(weight.reshape(channels, -1, *kernel).transpose(1, 3, 0, 2))


def conv(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """A forward and its cache, NotImplemented where no window fits."""
    d = x.ndim - 2
    stride, dilation = n_tuple("conv", "stride", stride, d, 1), n_tuple("conv", "dilation", dilation, d, 1)
    pairs = padding_pairs(f"conv{d}d", padding, weight.shape[2:], stride, dilation)
    given = x, weight, bias is not None, (stride, pairs, dilation, groups)
    ones = (1,) * (2 - d)
    sizes, kernel = (*ones, *x.shape[2:]), (*ones, *weight.shape[2:])
    geometry = _Geometry((*ones, *stride), [*[(0, 0)] * (2 - d), *pairs], (*ones, *dilation), sizes, kernel)
    lines = geometry.windows()
    counts = lines.rows[0].windows, lines.across[0].windows
    if 0 in counts:
        return NotImplemented
    n, c = x.shape[:2]
    x, w = x.reshape(n, c, *sizes), _by_tap(weight, c, kernel)
    y = np.empty((n, c, len(w), *counts), np.float32)
    b = None if bias is None else bias.reshape(c, -1, 1)

    def work(space: _Space, images: slice, some: slice) -> None:
        lines.lay(x[images, some], space.laid)
        for m in range(len(w)):
            _weigh(space.seen[0, 0], w[m, :, some], space.out, space.more)
            if b is not None:
                space.out += b[some, m]
            y[images, some, m] = space.windows[0, 0]

    with np.errstate(all="ignore"):
        _each_block(lines, n, c, work)
    return y.reshape(n, weight.shape[0], *counts[2 - d :]), (geometry, *given)


def conv_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    """dy (N, O, *counts) -> dx, dweight, dbias."""
    geometry, x, weight, has_bias, direct = cache
    want_x, want_weight, want_bias = wants(wanted, 3)
    with np.errstate(all="ignore"):
        dx, dw = _gradients(x, dy, weight, geometry, want_x, want_weight)
        if not all(g is None or np.isfinite(g.sum()) for g in (dx, dw)):
            return conv2d_backward.reference(dy, (x, weight, has_bias, direct), wanted=wanted)  # type: ignore[attr-defined]
    dbias = np.add.reduce(dy.reshape(*dy.shape[:2], -1), axis=(0, 2)) if want_bias and has_bias else None
    return dx, dw, dbias


def _gradients(x: Any, dy: Any, weight: Any, geometry: _Geometry, want_x: bool, want_weight: bool) -> tuple[Any, Any]:
    """Of each phase of the image, by the taps that meet it: both see the same lines of dy."""
    (n, c), shape, stride, sizes = x.shape[:2], x.shape, geometry.stride, geometry.sizes
    befores = [a for a, _ in geometry.pairs]
    each = zip(sizes, geometry.kernel, stride, befores, geometry.dilation, strict=True)
    met = [[(f, taps, axis) for f, (taps, axis) in enumerate(phases(*of_axis)) if taps] for of_axis in each]
    w = _by_tap(weight, c, geometry.kernel)
    dw = np.zeros(w.shape, np.float32) if want_weight else None
    dx = np.empty((n, c, *sizes), np.float32) if want_x else None
    if dx is not None and any(len(axis) < min(s, size) for axis, s, size in zip(met, stride, sizes, strict=True)):
        dx[...] = 0  # no tap meets some phase
    x, d = x.reshape(n, c, *sizes), dy.reshape(n, c, len(w), 1 if dy.ndim == 3 else dy.shape[2], dy.shape[-1])
    lines = _Lines(d.shape[3:], *([axis for _, _, axis in axes] for axes in met))

    def work(space: _Space, images: slice, some: slice) -> None:
        for m in range(len(w)):
            lines.lay(d[images, some, m], space.laid)
            for (i, (f, first, _)), (j, (g, second, _)) in itertools.product(*map(enumerate, met)):
                place = images, some, slice(f, None, stride[0]), slice(g, None, stride[1])
                if dx is not None:
                    _weigh(space.seen[i, j], w[m][second][:, some][..., first], space.out, space.more)
                    if m == 0:
                        dx[place] = space.windows[i, j]
                    else:
                        dx[place] += space.windows[i, j]
                if dw is not None:
                    values, within = space.values(i, j)
                    within[...] = x[place]
                    for seen, taps in space.seen[i, j]:
                        for across, down in itertools.product(range(len(seen)), range(len(taps))):
                            dots = np.vecdot(seen[across, :, down], values)
                            dw[m, second[across], some, first[taps[down]]] += dots

    if met[0] and met[1]:
        _each_block(lines, n, c, work)
    dweight = None if dw is None else np.ascontiguousarray(dw.transpose(2, 0, 3, 1)).reshape(weight.shape)
    return None if dx is None else dx.reshape(shape), dweight
