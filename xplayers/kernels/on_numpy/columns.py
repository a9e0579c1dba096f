"""Columns of convolutions with NumPy alone: what each tap sees of some images, one image's row behind the other's.

The columns are (taps, C, rows, n, *counts), where the taps are those along all axes but the first: a tap along the
first is a run of the same columns. A stride parts the rows into phases, which stand one below another. Strided copies
are quick in long rows alone: with the batch behind the rows, nothing is copied twice but by the taps of one row.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from xplayers.arrays import window_counts

from ..threads import runs

__all__ = ["Axis", "Block", "Columns", "blocks", "grouped", "inside", "phases", "windows"]

_ALONE = 1 << 17  # in a call that is not worth a second thread
_APART = 64  # windows of an image from which its products are not too small
_NARROW = 64  # rows of columns up to which those of all taps along the first axis stand in one product


class Axis(NamedTuple):
    """Window p sees p * step + offset with each of its taps."""

    windows: int
    step: int
    offsets: tuple[int, ...]


class Block(NamedTuple):
    groups: slice
    images: slice
    band: slice  # of windows along the first axis


@functools.lru_cache(maxsize=256)
def windows(sizes: tuple, kernel: tuple, stride: tuple, pairs: tuple, dilation: tuple) -> tuple[Axis, ...]:
    padded = tuple(n + a + b for n, (a, b) in zip(sizes, pairs, strict=True))
    counts = window_counts(padded, kernel, stride, dilation)
    each = zip(counts, kernel, stride, pairs, dilation, strict=True)
    return tuple(Axis(count, s, tuple(k * d - a for k in range(size))) for count, size, s, (a, _), d in each)


@functools.lru_cache(maxsize=256)
def phases(size: int, kernel: int, stride: int, before: int, dilation: int) -> tuple[tuple[tuple[int, ...], Axis], ...]:
    """For each phase of an axis of the image: the taps that meet it, and in which windows they do."""
    found = []
    for phase in range(min(stride, size)):
        taps = tuple(k for k in range(kernel) if (phase + before - k * dilation) % stride == 0)
        offsets = tuple((phase + before - k * dilation) // stride for k in taps)
        found.append((taps, Axis(-(-(size - phase) // stride), 1, offsets)))
    return tuple(found)


def inside(axis: Axis, offset: int, size: int) -> tuple[slice, slice] | None:
    """The windows that see the image with a tap, and what they see of it."""
    low = max(0, -(offset // axis.step))
    high = min(axis.windows, (size - 1 - offset) // axis.step + 1)
    if low >= high:
        return None
    first = low * axis.step + offset
    return slice(low, high), slice(first, first + (high - low - 1) * axis.step + 1, axis.step)


def grouped(x: np.ndarray, groups: int) -> np.ndarray:
    """x (N, C, H, ...) -> (groups, C / groups, H, N, ...): a view, whatever its strides."""
    parted = x.reshape(len(x), groups, x.shape[1] // groups, *x.shape[2:])
    return parted.transpose(1, 2, 3, 0, *range(4, parted.ndim))


def blocks(n: int, groups: int, depth: int, rows: int, across: int, halo: int, numbers: int) -> list[Block]:
    """Some groups of some images whole, or the bands of one; an even number of them where there are several, for two
    threads. `depth` is that of a group."""
    each = depth * (rows + halo) * across
    if groups > 1 and groups * each > numbers:
        share = runs(groups, max(1, numbers // each))
        held = blocks(n, 1, depth * share[0].stop, rows, across, halo, numbers)
        return [block._replace(groups=some) for some in share for block in held]
    every, each = slice(0, groups), groups * each
    if each > numbers and rows > 1:
        bands = runs(rows, max(1, numbers // (depth * across) - halo))
        return [Block(every, slice(i, i + 1), band) for band in bands for i in range(n)]
    if n * each <= _ALONE:
        return [Block(every, slice(0, n), slice(0, rows))]
    run = max(1, min(numbers // max(each, 1), n))
    count = -(-n // run)
    return [Block(every, images, slice(0, rows)) for images in runs(n, -(-n // (count + count % 2)))]


class _Rows(NamedTuple):
    """The rows of the image that a band of windows sees, phase by phase."""

    size: int  # in all
    copies: list[tuple[slice, slice]]  # where they stand, and which they are
    starts: list[list[int]]  # for each axis and tap: where its run begins


@functools.lru_cache(maxsize=256)
def _rows(axes: tuple[Axis, ...], first: int, last: int, size: int) -> _Rows:
    """Of windows first ... last of one step along the first axis: several phases of the image may read the same."""
    step = axes[0].step
    at, count, copies = {}, 0, []
    for residue in sorted({offset % step for axis in axes for offset in axis.offsets}):
        reads = [offset // step for axis in axes for offset in axis.offsets if offset % step == residue]
        low, high = min(reads) + first, max(reads) + last
        at[residue] = count - min(reads)
        found = inside(Axis(high - low, step, ()), low * step + residue, size)
        if found is not None:
            copies.append((slice(count + found[0].start, count + found[0].stop), found[1]))
        count += high - low
    starts = [[at[offset % step] + offset // step for offset in axis.offsets] for axis in axes]
    return _Rows(count, copies, starts)


@functools.lru_cache(maxsize=256)
def _across(axes: tuple[Axis, ...], sizes: tuple[int, ...]) -> tuple[tuple[int, tuple, tuple] | None, ...]:
    """Of each tap along these axes: its number, the windows that see the image with it, and what they see of it."""
    seen = (
        tuple(inside(axis, offset, size) for offset in axis.offsets) for axis, size in zip(axes, sizes, strict=True)
    )
    met = enumerate(itertools.product(*seen))
    return tuple(None if None in each else (t, *zip(*each, strict=True)) for t, each in met)


class Columns:
    """Lays out the columns of blocks of x (N, C, H, ...), in one thread, in memory of its own.

    Several axes in `rows`, of one step, are the first axis of several convolutions: they see the same columns.
    """

    def __init__(self, x: np.ndarray, groups: int, rows: tuple[Axis, ...], across: tuple[Axis, ...]) -> None:
        self.x, self.rows, self.size = grouped(x, groups), rows, x.shape[2]
        self.counts = tuple(axis.windows for axis in across)
        self.taps = _across(across, x.shape[3:])
        self.is_whole = (*rows, *across) == tuple(Axis(size, 1, (0,)) for size in x.shape[2:])
        # Narrow ones of large images stand image by image, as y does: nothing of y is put in another order.
        self.is_apart = len(rows) == 1 and self.is_stacked(0) and rows[0].windows * math.prod(self.counts) >= _APART
        self.held: Any = np.empty(0, np.float32)
        self.target: Any = self.held
        self.stack: Any = self.held
        self.band: slice | None = None

    def lay(self, block: Block) -> None:
        """Lays out those of a block, of which `of` then tells."""
        n = block.images.stop - block.images.start
        x = self.x[block.groups, :, :, block.images]
        groups, c = x.shape[:2]
        shape = groups, len(self.taps) * c, *((n, -1) if self.is_apart else (-1,))
        is_new, self.band = self.band != block.band, block.band
        if is_new:
            self.where = _rows(self.rows, block.band.start, block.band.stop, self.size)
        self.row = n * math.prod(self.counts)  # positions
        if self.is_whole and n == 1 and x[0, 0].flags.c_contiguous:
            self.laid = x[:, :, block.band].reshape(shape)
            return
        lines = (n, self.where.size) if self.is_apart else (self.where.size, n)
        whole = groups, len(self.taps), c, *lines, *self.counts
        if is_new or self.held.shape != whole:
            self.held = np.zeros(whole, np.float32)
            self.target = self.held.swapaxes(3, 4) if self.is_apart else self.held
        for tap in self.taps:
            if tap is not None:
                t, to, seen = tap
                for rows, image in self.where.copies:
                    self.target[:, t, :, rows][(..., *to)] = x[:, :, image][(..., *seen)]
        self.laid = self.held.reshape(shape)

    def of(self, axis: int, windows: int, one: bool = False) -> list[np.ndarray]:
        """For each tap along one of `rows`: (groups, taps * C, positions of so many windows), or all taps in one.

        Where they are apart it is one of (n, groups, taps * C, positions). All taps in one have a row of ones more
        where `one` is asked for: a bias is its weight.
        """
        starts, (groups, depth) = self.where.starts[axis], self.laid.shape[:2]
        if self.is_apart:
            row = math.prod(self.counts)
            stack, taps = self._stack((self.laid.shape[2], groups), (len(starts), depth), windows * row, one)
            for i, start in enumerate(starts):
                taps[:, :, i] = self.laid[..., start * row : (start + windows) * row].transpose(2, 0, 1, 3)
            return [stack]
        seen = [self.laid[:, :, start * self.row : (start + windows) * self.row] for start in starts]
        if not self.is_stacked(axis):
            return seen
        stack, taps = self._stack((groups,), (len(seen), depth), windows * self.row, one)
        for i, run in enumerate(seen):
            taps[:, i] = run
        return [stack]

    def _stack(
        self, lead: tuple[int, ...], taps: tuple[int, int], positions: int, one: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """(*lead, taps * C, positions), with a row of ones behind or not, and the view (*lead, *taps, positions)."""
        depth = math.prod(taps)
        if self.stack.shape != (*lead, depth + one, positions):
            self.stack = np.empty((*lead, depth + one, positions), np.float32)
            self.stack[..., depth:, :] = 1
        return self.stack, self.stack[..., :depth, :].reshape(*lead, *taps, positions)

    def is_stacked(self, axis: int) -> bool:
        """Whether the columns of all taps along one of `rows` are copied together: narrow products are slow."""
        return len(self.rows[axis].offsets) > 1 and len(self.taps) * self.x.shape[1] <= _NARROW
