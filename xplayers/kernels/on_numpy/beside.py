"""The three sums of convolutions of small images in large batches: the images side by side, as the innermost axis.

Rows of a few numbers are copied and added slowly; of 16 images and more beside one another each row is a run of dozens
of numbers. What this costs is turning x, y and their gradients over once. Columns are laid out for all taps; a window
that is beyond the image reads zeros. Declined are groups, fewer than 16 images, images of more than 200 positions, and
those of fewer than 4 channels, of which y takes longer to turn than the columns to lay out.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..threads import in_parts, products_in_parts, runs, threads

__all__ = ["TURNED", "correlate", "is_beside", "is_of_small", "scatter", "weight_gradient"]

_IMAGES = 16
_CHANNELS = 4
_POSITIONS = 200
TURNED = 128  # channels of y a group up to which dweight is taken as (C * taps, O)
_NUMBERS = 1 << 19  # of columns in a part: 2 MB, with less two threads wait for each other's Python
_ALONE = 1 << 20  # numbers whose copies are not worth a second thread


def is_of_small(x: np.ndarray) -> bool:
    """Whether the images of x (N, C, *sizes) are small and many."""
    return len(x) >= _IMAGES and x.shape[1] >= _CHANNELS and math.prod(x.shape[2:]) <= _POSITIONS


def is_beside(x: np.ndarray, counts: Sequence[int], groups: int, pairs: Any) -> bool:
    """Whether a sum between x (N, C, *sizes) and y (N, O, *counts) is taken here."""
    few = 0 < math.prod(counts) <= _POSITIONS
    return groups == 1 and few and is_of_small(x) and all(a >= 0 for a, _ in pairs)


class _Images:
    """Images beside one another with zeros around them, (C, *sizes, N), and the view of all of their windows."""

    def __init__(self, n: int, c: int, sizes: Any, kernel: Any, counts: Any, stride: Any, pairs: Any, dilation: Any):
        self.sizes, self.befores, self.counts = tuple(sizes), [a for a, _ in pairs], tuple(counts)
        reach = zip(sizes, self.befores, kernel, counts, stride, dilation, strict=True)
        wide = [max(size + a, (m - 1) * s + (k - 1) * d + 1) for size, a, k, m, s, d in reach]
        self.wide = np.zeros((c, *wide, n), np.float32)
        outer, *middle, inner = self.wide.strides
        taps = tuple(step * d for step, d in zip(middle, dilation, strict=True))
        steps = tuple(step * s for step, s in zip(middle, stride, strict=True))
        shape = (c, *kernel, *counts, n)
        self.windows = np.lib.stride_tricks.as_strided(self.wide, shape, (outer, *taps, *steps, inner))

    @property
    def inside(self) -> np.ndarray:
        """The images alone."""
        return self.wide[:, *(slice(a, a + n) for a, n in zip(self.befores, self.sizes, strict=True))]

    def columns(self, x: np.ndarray) -> np.ndarray:
        """x (n, C, *sizes) -> (C * taps, positions * n)."""
        columns, inside = np.empty(self.windows.shape, np.float32), self.inside

        def work(c: slice) -> None:
            inside[c] = _turned(x[:, c])
            columns[c] = self.windows[c]

        _by_channels(work, columns)
        return columns.reshape(math.prod(columns.shape[: 1 + len(self.sizes)]), -1)

    def add(self, columns: np.ndarray, dx: np.ndarray) -> None:
        """(C * taps, positions * n) are added where they lie -> dx (n, C, *sizes) is written."""
        n = len(self.sizes)
        columns = columns.reshape(self.windows.shape)
        images = self.inside.transpose(n + 1, *range(n + 1))

        def work(c: slice) -> None:
            for tap in np.ndindex(columns.shape[1 : 1 + n]):
                self.windows[c, *tap] += columns[c, *tap]
            dx[:, c] = images[:, c]

        _by_channels(work, columns)


def _by_channels(work: Callable[[slice], object], array: np.ndarray) -> None:
    """work(channels) for all of an array (C, ...), shared by the threads where this is not a thread's part itself."""
    in_parts(work, runs(len(array), -(-len(array) // (threads() if array.size > _ALONE else 1))))


def _turned(x: np.ndarray) -> np.ndarray:
    """(n, C, *sizes) -> (C, *sizes, n), in this order in memory."""
    return np.ascontiguousarray(x.reshape(len(x), -1).T).reshape(*x.shape[1:], len(x))


def _parts(n: int, depth: int, positions: int) -> list[slice]:
    """Runs of images, each with columns that stay in the cache; at least two where there is work for two threads."""
    each = depth * positions
    return runs(n, n if n * each <= _NUMBERS else max(_IMAGES, min(_NUMBERS // each, -(-n // 2))))


def correlate(x: Any, weight: Any, bias: Any, counts: Any, stride: Any, pairs: Any, dilation: Any) -> np.ndarray:
    """x (N, C, *sizes), weight (O, C, *kernel), bias (O,) or None -> y (N, O, *counts)."""
    o, c, *kernel = weight.shape
    w = weight.reshape(o, -1)
    y = np.empty((len(x), o, *counts), np.float32)

    def work(part: slice) -> None:
        n = part.stop - part.start
        images = _Images(n, c, x.shape[2:], kernel, counts, stride, pairs, dilation)
        t = w @ images.columns(x[part])
        if bias is not None:
            t += bias[:, None]
        t, mine = t.reshape(o, *counts, n), y[part]
        turn = (len(counts) + 1, *range(len(counts) + 1))

        def write(some: slice) -> None:
            mine[:, some] = t[some].transpose(turn)

        _by_channels(write, t)

    products_in_parts(work, _parts(len(x), w.shape[1], math.prod(counts)), y.size * w.shape[1])
    return y


def scatter(dy: Any, weight: Any, bias: Any, sizes: Any, stride: Any, pairs: Any, dilation: Any) -> np.ndarray:
    """dy (N, O, *counts), weight (O, C, *kernel), bias (C,) or None -> dx (N, C, *sizes)."""
    o, c, *kernel = weight.shape
    w = weight.reshape(o, -1).T
    dx = np.empty((len(dy), c, *sizes), np.float32)

    def work(part: slice) -> None:
        n = part.stop - part.start
        images = _Images(n, c, sizes, kernel, dy.shape[2:], stride, pairs, dilation)
        images.add(w @ _turned(dy[part]).reshape(o, -1), dx[part])
        if bias is not None:
            dx[part] += bias.reshape(-1, *(1,) * len(kernel))

    products_in_parts(work, _parts(len(dy), len(w), math.prod(dy.shape[2:])), dy.size * len(w))
    return dx


def weight_gradient(x: Any, dy: Any, shape: Any, stride: Any, pairs: Any, dilation: Any) -> np.ndarray:
    """x (N, C, *sizes), dy (N, O, *counts) -> dweight of `shape`, (O, C, *kernel)."""
    o, c, *kernel = shape
    depth = math.prod(shape[1:])
    parts = _parts(len(x), depth, math.prod(dy.shape[2:]))
    turned = o <= TURNED
    sums = np.empty((len(parts), *((depth, o) if turned else (o, depth))), np.float32)

    def work(i: int) -> None:
        part = parts[i]
        images = _Images(part.stop - part.start, c, x.shape[2:], kernel, dy.shape[2:], stride, pairs, dilation)
        columns, d = images.columns(x[part]), _turned(dy[part]).reshape(o, -1)
        left, right = (columns, d.T) if turned else (d, columns.T)
        np.matmul(left, right, out=sums[i])

    products_in_parts(work, range(len(parts)), dy.size * depth)
    whole = sums[0] if len(parts) == 1 else sums.sum(axis=0)
    return (np.ascontiguousarray(whole.T) if turned else whole).reshape(shape)
