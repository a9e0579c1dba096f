"""Depthwise convolutions with NumPy alone: a tap is a shift of long rows, and one einsum weighs and adds all of them.

Planes are laid out without padding, a channel's images below one another with rows of zeros between them: a tap along
the first axis is a shift by whole rows. For each distance along the second there is a copy shifted by it, with zeros
where it would see the next row. Then y stands in whole planes too, and nothing is copied in short rows:

    y[t] = sum over i, j of w[i, j] x_j[t + i rows]

The gradient of x sees dy as y sees x; that of the weight is the dot products of x with the same shifts of dy. With a
stride all rows are computed and some kept, and between those of dy stand zeros; of the columns only those seen are
copied, and the gradient of x is written phase by phase.

In the sums over dy numbers of x meet zeros that the direct sums do not have, which NaN and infinity show: where the
gradient of the weight or the weight is not finite throughout, the direct sums give the gradients.
"""

from typing import Any, NamedTuple

import numpy as np

from xplayers.functional.convolution import conv2d_backward, padding_pairs
from xplayers.functional.pair import wants
from xplayers.functional.pooling import n_tuple

from ..convolutions import is_finite
from ..threads import in_parts, runs

__all__ = ["backward", "forward"]

_BLOCK = 1 << 19  # numbers of x or y in a part: with less, two threads wait for each other's Python
_ALONE = 1 << 17  # in a call that is not worth a second thread
_LONG = 512  # numbers of an image from which its zeros alone are quicker to write than all


class _Axis(NamedTuple):
    """Window p sees the pixel p * stride + k * dilation - before with tap k."""

    pixels: int
    windows: int
    kernel: int
    stride: int
    dilation: int
    before: int


class _Run(NamedTuple):
    """Taps at equal distances: the first reads the copy `first`, each further one the copy `apart` behind."""

    taps: list[int]
    first: int
    apart: int


class _Columns:
    """Columns of targets, phase by phase of a stride, and at which distances they see columns of sources."""

    def __init__(self, axis: _Axis, is_back: bool) -> None:
        s = axis.stride
        at = [(k, k * axis.dilation - axis.before) for k in range(axis.kernel)]
        if is_back:  # a pixel sees the windows that see it
            self.step, count = 1, axis.pixels
            phases = [[(k, -(a // s)) for k, a in at if a % s == g] for g in range(s)]
        else:
            self.step, count, phases = s, axis.windows, [at]
        self.q = -(-count // len(phases))
        self.offsets = sorted({offset for phase in phases for _, offset in phase})
        self.phases = [self._run(phase) for phase in phases]

    def _run(self, phase: list[tuple[int, int]]) -> _Run | None:
        """None without taps. The distances of a phase are equal, and so is how many others stand between them."""
        at = [self.offsets.index(offset) for _, offset in phase]
        return _Run([k for k, _ in phase], at[0], at[1] - at[0] if len(at) > 1 else 0) if at else None


class _Shifts:
    """The sources as (C, offsets, rows, q), a copy for each distance of a column, and what targets read of them."""

    def __init__(self, axes: list[_Axis], is_back: bool) -> None:
        down, across = axes
        self.columns = _Columns(across, is_back)
        # The rows are those of the pixels, of which windows stand at every stride-th.
        self.spread, self.keep = (down.stride, 1) if is_back else (1, down.stride)
        windows = (down.windows - 1) * down.stride + 1
        sources, targets = (windows, down.pixels) if is_back else (down.pixels, windows)
        ends = -down.before, (down.kernel - 1) * down.dilation - down.before
        low, high = (-ends[1], -ends[0]) if is_back else ends
        self.front, self.behind = max(0, -low), max(0, high)
        self.pitch = max(targets + self.behind, sources + self.front)  # an image, and zeros before the next
        self.first, self.apart, self.taps = -ends[0] if is_back else low, down.dilation, down.kernel
        if is_back:
            self.apart = -self.apart

    def lay(self, x: np.ndarray) -> np.ndarray:
        """x (n, C, sources, sources)"""
        (n, c, height, width), step, q = x.shape, self.columns.step, self.columns.q
        rows = (height - 1) * self.spread + 1
        behind = self.front + n * self.pitch
        shape = c, len(self.columns.offsets), behind + self.behind, q
        is_full = self.spread == 1 and self.pitch * q >= _LONG
        laid = (np.empty if is_full else np.zeros)(shape, np.float32)
        images = laid[:, :, self.front : behind].reshape(*shape[:2], n, self.pitch, q)
        if is_full:
            laid[:, :, : self.front] = 0
            laid[:, :, behind:] = 0
            images[..., rows:, :] = 0
        planes = x.swapaxes(0, 1)
        for o, offset in enumerate(self.columns.offsets):
            low = min(q, max(0, -(offset // step)))
            high = max(low, min(q, (width - 1 - offset) // step + 1))
            if self.spread == 1 and width == q * step and low < high:  # whole planes, shifted
                seen = x.reshape(n, c, -1).swapaxes(0, 1)[..., low * step + offset :: step]
                to = images[:, o].reshape(c, n, -1)[..., low : rows * q]
                seen = seen[..., : to.shape[-1]]
                to[..., : seen.shape[-1]] = seen
            else:
                seen = planes[..., low * step + offset :: step][..., : high - low]
                images[:, o, :, : rows : self.spread, low:high] = seen
            laid[:, o, :, :low] = 0
            laid[:, o, :, high:] = 0
        return laid

    def seen(self, laid: np.ndarray, n: int, run: _Run) -> np.ndarray:
        """(C, KH, taps of the run, n * rows * q)"""
        shape = len(laid), self.taps, len(run.taps), n * self.pitch * self.columns.q
        outer, offset, row, item = laid.strides
        at = laid[:, run.first, self.front + self.first :]
        return np.lib.stride_tricks.as_strided(at, shape, (outer, self.apart * row, run.apart * offset, item))

    def weigh(self, laid: np.ndarray, w: np.ndarray, bias: Any, y: np.ndarray) -> None:
        """w (C, KH, KW), bias (C,) or None -> y (n, C, targets, targets) is written."""
        n, c, height = y.shape[:3]
        t = np.empty((c, n * self.pitch * self.columns.q), np.float32)
        for g, run in enumerate(self.columns.phases):
            if run is None:
                t[...] = 0
            else:
                np.einsum("cijn,cij->cn", self.seen(laid, n, run), w[:, :, run.taps], out=t)
            if bias is not None:
                t += bias[:, None]
            to = y[..., g :: len(self.columns.phases)]
            rows = t.reshape(c, n, self.pitch, -1)[:, :, : (height - 1) * self.keep + 1 : self.keep, : to.shape[3]]
            to[...] = rows.swapaxes(0, 1)

    def dots(self, laid: np.ndarray, y: np.ndarray, dw: np.ndarray) -> None:
        """The gradient of `weigh`'s w for a gradient y without steps is written to dw (C, KH, KW)."""
        n, c, height = y.shape[:3]
        t = np.empty((c, n, self.pitch, self.columns.q), np.float32)
        t[:, :, height:] = 0
        for g, run in enumerate(self.columns.phases):
            if run is not None:
                part = y[..., g :: len(self.columns.phases)].swapaxes(0, 1)
                t[:, :, :height, : part.shape[3]] = part
                t[..., part.shape[3] :] = 0
                dw[:, :, run.taps] = np.vecdot(self.seen(laid, n, run), t.reshape(c, 1, 1, -1))


def _parts(n: int, c: int, down: _Axis, across: _Axis) -> list[tuple[int, slice, slice]]:
    """Some channels of all images, or one of some, an even number; and in front the place of their sums."""
    plane = (down.pixels * across.pixels + down.windows * across.windows) * max(across.kernel, 3) // 6
    images = runs(n, max(1, _BLOCK // plane))
    count = -(-c * plane * images[0].stop // _BLOCK)
    count += count % 2 if c * n * plane > _ALONE else 0
    return [(i, some, each) for each in runs(c, -(-c // count)) for i, some in enumerate(images)]


def forward(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """A forward and its cache, NotImplemented where no window fits."""
    n = x.ndim - 2
    name = f"conv{n}d"
    stride, dilation = n_tuple(name, "stride", stride, n, 1), n_tuple(name, "dilation", dilation, n, 1)
    pairs = padding_pairs(name, padding, weight.shape[2:], stride, dilation)
    axes = []
    for size, k, s, d, (a, b) in zip(x.shape[2:], weight.shape[2:], stride, dilation, pairs, strict=True):
        axes.append(_Axis(size, (size + a + b - d * (k - 1) - 1) // s + 1, k, s, d, a))
    axes += [_Axis(1, 1, 1, 1, 1, 0)] * (2 - n)  # all taps of one dimension are shifts of one copy
    if min(axis.windows for axis in axes) < 1:
        return NotImplemented
    images, w = _planes(x, groups, axes), _taps(weight, groups, axes)
    b = None if bias is None else bias.reshape(groups, -1)
    y = np.empty((len(x), *w.shape[:2], *(axis.windows for axis in axes)), np.float32)
    shifts = _Shifts(axes, is_back=False)

    def work(part: tuple[int, slice, slice]) -> None:
        _, some, channels = part
        laid = shifts.lay(images[some, channels])
        for i in range(w.shape[1]):
            shifts.weigh(laid, w[channels, i], None if b is None else b[channels, i], y[some, channels, i])

    with np.errstate(all="ignore"):
        in_parts(work, _parts(len(x), groups, *axes))
    shape = len(x), weight.shape[0], *(axis.windows for axis in axes[:n])
    return y.reshape(shape), (axes, x, weight, (stride, pairs, dilation, groups))


def backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    """dy (N, O, *counts) -> dx, dweight, and None for the bias: convolutions.py has its gradient."""
    axes, x, weight, geometry = cache
    want_x, want_weight, _ = wants(wanted, 3)
    groups = geometry[-1]
    images, w = _planes(x, groups, axes), _taps(weight, groups, axes)
    d = np.ascontiguousarray(dy).reshape(len(x), *w.shape[:2], *(axis.windows for axis in axes))
    parts = _parts(len(x), groups, *axes)
    dx = np.empty_like(images) if want_x else None
    dw = np.zeros((parts[-1][0] + 1, *w.shape), np.float32) if want_weight else None
    shifts = _Shifts(axes, is_back=True)

    def work(part: tuple[int, slice, slice]) -> None:
        row, some, channels = part
        for i in range(w.shape[1]):
            laid = shifts.lay(d[some, channels, i])
            if dw is not None:
                shifts.dots(laid, images[some, channels], dw[row, channels, i])
            if dx is not None and i == 0:
                shifts.weigh(laid, w[channels, i], None, dx[some, channels])
            elif dx is not None:
                more = np.empty_like(dx[some, channels])
                shifts.weigh(laid, w[channels, i], None, more)
                dx[some, channels] += more

    with np.errstate(all="ignore"):
        in_parts(work, parts if want_x or want_weight else [])
    if not (is_finite(w) and is_finite(dw)):
        return conv2d_backward.reference(dy, (x, weight, False, geometry), wanted=wanted)  # type: ignore[attr-defined]
    dweight = None if dw is None else dw.sum(axis=0).reshape(weight.shape)
    return None if dx is None else dx.reshape(x.shape), dweight, None


def _planes(x: np.ndarray, groups: int, axes: list[_Axis]) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(len(x), groups, *(axis.pixels for axis in axes))


def _taps(weight: np.ndarray, groups: int, axes: list[_Axis]) -> np.ndarray:
    """(groups, O / groups, KH, KW)"""
    return np.ascontiguousarray(weight).reshape(groups, -1, *(axis.kernel for axis in axes))
