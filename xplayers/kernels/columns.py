"""Convolutions of any kernel, stride, dilation and groups as products with columns, an image at a time.

The windows of an image are laid out as (C * kernel, positions), which the product with the weight takes straight to
(O, positions), an image of the output: nothing is put in another order afterwards, and the columns stay in the cache.
Images with few positions are taken several at once, large ones in bands of rows. A kernel of 1 and a stride of 1 needs
no columns: the image is what is multiplied.

`Sums(maps)` stands in the place of the three sums of functional/convolution.py. Laying out and adding up the columns
is left to `maps.gather` and `maps.add`, over three axes of which unused ones have the size 1. With NumPy alone rows as
short as an image's are slow to copy: on_numpy/sums.py copies the taps of one row alone.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xplayers.arrays import window_counts

from .threads import products_in_parts, runs

__all__ = ["Sums", "Windows", "windows_of"]

_NUMBERS = 1 << 19  # of columns in a block, 2 MB: a core's share of the cache
_AT_LEAST = 1 << 17  # in a block of several images: narrow products are slow, and so is Python between small ones
_ALONE = 1 << 16  # in a call that is not worth a second thread
_LANES = 4  # sums of dweight that are kept apart, so that the order of adding does not depend on the threads


class Windows(NamedTuple):
    """Where the windows lie, over three axes: sizes of the image, of the kernel, ..., how many windows there are."""

    sizes: tuple[int, int, int]
    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    dilation: tuple[int, int, int]
    before: tuple[int, int, int]
    counts: tuple[int, int, int]

    @property
    def taps(self) -> int:
        return math.prod(self.kernel)

    @property
    def rows(self) -> int:
        return self.counts[0] * self.counts[1]

    @property
    def is_whole(self) -> bool:
        """Whether the columns are the image itself."""
        return self.taps == 1 and self.counts == self.sizes and self.stride == (1, 1, 1)


class _Block(NamedTuple):
    """Images and, of each, rows of windows, counted over the first two axes."""

    images: slice
    rows: slice


def windows_of(sizes: Any, kernel: Any, stride: Any, pairs: Any, dilation: Any) -> Windows:
    padded = tuple(n + a + b for n, (a, b) in zip(sizes, pairs, strict=True))
    counts = window_counts(padded, tuple(kernel), stride, dilation)
    three: Callable[[Any, int], Any] = lambda t, fill: (*(fill,) * (3 - len(t)), *t)  # noqa: E731
    before = tuple(a for a, _ in pairs)
    fills = ((sizes, 1), (kernel, 1), (stride, 1), (dilation, 1), (before, 0), (counts, 1))
    return Windows(*(three(tuple(t), fill) for t, fill in fills))


def _blocks(n: int, depth: int, windows: Windows) -> list[list[_Block]]:
    """Each item is what one thread does at a time: some images whole, or the bands of one."""
    positions = windows.rows * windows.counts[2]
    if windows.is_whole:
        return [[_Block(slice(i, i + 1), slice(0, windows.rows))] for i in range(n)]
    if depth * positions > _NUMBERS:
        step = windows.counts[1] if windows.counts[0] > 1 else 1  # a band is of whole planes where there are several
        count = windows.rows // step
        band = max(1, _NUMBERS // (depth * windows.counts[2] * step))
        bands = [slice(r.start * step, r.stop * step) for r in runs(count, band)]
        return [[_Block(slice(i, i + 1), band) for band in bands] for i in range(n)]
    each = depth * positions
    run = n if n * each <= _ALONE else max(1, min(_AT_LEAST // each, -(-n // 2)))
    return [[_Block(images, slice(0, windows.rows))] for images in runs(n, run)]


class Sums:
    """y from x and the weight, dx from dy and the weight, dweight from x and dy: see functional/convolution.py."""

    def __init__(self, maps: Any) -> None:
        self.maps = maps

    def correlate(
        self, x: Any, weight: Any, bias: Any, stride: Any, pairs: Any, dilation: Any, groups: int
    ) -> np.ndarray:
        """x (N, C, *sizes), weight (O, C / groups, *kernel), bias (O,) or None -> y (N, O, *counts)."""
        windows = windows_of(x.shape[2:], weight.shape[2:], stride, pairs, dilation)
        n, o = x.shape[0], weight.shape[0]
        x, w = _images(x, windows), weight.reshape(groups, o // groups, -1)  # (groups, O', C' * taps)
        counts = windows.counts[3 - len(stride) :]
        y = np.empty((n, o, *counts), np.float32)
        flat = y.reshape(n, groups, o // groups, -1)

        def work(blocks: list[_Block]) -> None:
            columns = None
            for block in blocks:
                columns, mine = self._columns(x, columns, block, windows, groups), _positions(block, windows)
                images = block.images.stop - block.images.start
                if images == 1:
                    out = flat[block.images.start, :, :, mine]
                    np.matmul(w, columns, out=out)
                    if bias is not None:
                        out += bias.reshape(groups, -1, 1)
                    continue
                t = w @ columns
                if bias is not None:
                    t += bias.reshape(groups, -1, 1)
                flat[block.images] = t.reshape(groups, o // groups, images, -1).transpose(2, 0, 1, 3)

        products_in_parts(work, _blocks(n, w.shape[2] * groups, windows))
        return y

    def scatter(
        self, dy: Any, weight: Any, bias: Any, sizes: Any, stride: Any, pairs: Any, dilation: Any, groups: int
    ) -> np.ndarray:
        """dy (N, O, *counts), weight (O, C / groups, *kernel), bias (C,) or None -> dx (N, C, *sizes)."""
        windows = windows_of(sizes, weight.shape[2:], stride, pairs, dilation)
        n, o, c = dy.shape[0], weight.shape[0], weight.shape[1] * groups
        w = weight.reshape(groups, o // groups, -1).transpose(0, 2, 1)  # (groups, C' * taps, O')
        d = np.ascontiguousarray(dy).reshape(n, groups, o // groups, -1)
        dx = (np.empty if windows.is_whole else np.zeros)((n, c, *sizes), np.float32)
        images = dx.reshape(n, c, *windows.sizes)
        flat = dx.reshape(n, groups, c // groups, -1)

        def work(blocks: list[_Block]) -> None:
            for block in blocks:
                part = d[block.images, ..., _positions(block, windows)]  # (n, groups, O', positions)
                if windows.is_whole:
                    np.matmul(w, part[0], out=flat[block.images.start])
                else:
                    columns = w @ _side_by_side(part)  # (groups, C' * taps, n * positions)
                    self.maps.add(columns.reshape(c * windows.taps, -1), images[block.images], windows, block.rows)
            if bias is not None:
                flat[blocks[0].images] += bias.reshape(groups, -1, 1)

        products_in_parts(work, _blocks(n, w.shape[1] * groups, windows))
        return dx

    def weight_gradient(
        self, x: Any, dy: Any, shape: Any, stride: Any, pairs: Any, dilation: Any, groups: int
    ) -> np.ndarray:
        """x (N, C, *sizes), dy (N, O, *counts) -> dweight of shape (O, C / groups, *kernel)."""
        windows = windows_of(x.shape[2:], shape[2:], stride, pairs, dilation)
        n, o = x.shape[0], shape[0]
        x, d = _images(x, windows), np.ascontiguousarray(dy).reshape(n, groups, o // groups, -1)
        parts = _blocks(n, x.shape[1] * windows.taps, windows)
        lanes = [[b for part in parts[r] for b in part] for r in runs(len(parts), -(-len(parts) // _LANES))]
        sums = np.zeros((len(lanes), groups, o // groups, math.prod(shape[1:])), np.float32)

        def work(lane: int) -> None:
            columns = None
            for block in lanes[lane]:
                columns = self._columns(x, columns, block, windows, groups)
                part = d[block.images, ..., _positions(block, windows)]
                sums[lane] += _side_by_side(part) @ columns.transpose(0, 2, 1)

        products_in_parts(work, range(len(lanes)))
        return sums.sum(axis=0).reshape(shape)

    def _columns(
        self, x: np.ndarray, held: np.ndarray | None, block: _Block, windows: Windows, groups: int
    ) -> np.ndarray:
        """x (N, C, D, H, W) -> (groups, C' * taps, n * positions), in the memory of the last block's where it fits."""
        n, c = block.images.stop - block.images.start, x.shape[1]
        if windows.is_whole:
            return x[block.images.start].reshape(groups, c // groups, -1)
        width = n * (block.rows.stop - block.rows.start) * windows.counts[2]
        if held is None or held.shape[2] != width:
            held = np.empty((groups, c // groups * windows.taps, width), np.float32)
        self.maps.gather(x[block.images], held.reshape(c * windows.taps, width), windows, block.rows)
        return held


def _images(x: np.ndarray, windows: Windows) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(*x.shape[:2], *windows.sizes)


def _positions(block: _Block, windows: Windows) -> slice:
    """Where the windows of a block stand in a flat image of the output."""
    return slice(block.rows.start * windows.counts[2], block.rows.stop * windows.counts[2])


def _side_by_side(d: np.ndarray) -> np.ndarray:
    """(n, groups, O', positions) -> (groups, O', n * positions)."""
    return d[0] if d.shape[0] == 1 else d.transpose(1, 2, 0, 3).reshape(*d.shape[1:3], -1)
