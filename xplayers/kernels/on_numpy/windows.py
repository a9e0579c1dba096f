"""Windows along one axis with NumPy alone: copied into phases, of which every tap is a flat run.

Phase j of stride s holds the positions j - padding, j - padding + s, ... of all rows, one row behind the other, and
each row is as long as the last tap reaches. So tap i of all windows is a phase from some element on: no loop of NumPy's
starts anew with each row. What then stands behind a row's windows is of no use, and is cut off at the end. Rows of
several numbers are copied as items of that many bytes, in one loop too.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from xplayers.functional.pooling import Step

__all__ = ["Line", "copy_rows", "crop", "few_taps", "gather", "line_of", "put_back", "spread"]

_SHORT = 1024  # bytes of a row that is copied as an item
_LONGEST = 8  # elements of a window along an axis


class Line(NamedTuple):
    """The windows of an axis: `taps` are (phase, shift in columns); `phases` (first column, its position, columns)."""

    size: int
    windows: int
    stride: int
    columns: int
    taps: tuple[tuple[int, int], ...]
    phases: tuple[tuple[int, int, int], ...]
    plain: bool  # the only phase is the axis itself
    covered: bool  # every position stands in a phase


@functools.lru_cache(1024)
def line_of(step: Step) -> Line:
    """The phases of the windows of a step: those that a tap sees."""
    s, reach = step.stride, [i * step.dilation for i in range(step.kernel)]
    columns = step.windows + reach[-1] // s
    used = sorted({offset % s for offset in reach})
    phases = []
    for j in used:
        first = max(0, -((j - step.padding) // s))
        last = min(columns, -(-(step.size + step.padding - j) // s))
        phases.append((first, first * s + j - step.padding, max(0, last - first)))
    taps = tuple((used.index(offset % s), offset // s) for offset in reach)
    plain = s == 1 and phases[0] == (0, 0, step.size) and columns == step.size
    return Line(step.size, step.windows, s, columns, taps, tuple(phases), plain, sum(p[2] for p in phases) == step.size)


def few_taps(x: Any, steps: tuple) -> bool:
    """Whether the windows are few taps, and x is of a plain dtype and not empty."""
    plain = type(x) is np.ndarray and x.dtype.char in "fd" and x.ndim >= len(steps) > 0 and x.size > 0
    return plain and all(step.kernel <= _LONGEST for step in steps)


def _items(t: np.ndarray) -> np.ndarray:
    """t (a, n, b) contiguous -> (a, n): the b numbers of a step as one item, to be copied."""
    a, n, b = t.shape
    return t.reshape(a, n) if b == 1 else t.reshape(a, n * b).view(np.dtype((np.void, b * t.itemsize)))


def gather(t: np.ndarray, line: Line, fill: float) -> np.ndarray:
    """t (a, size, b) contiguous -> (phases, a * columns * b), `fill` where there is padding. t itself where plain."""
    a, _, b = t.shape
    if line.plain:
        return t.reshape(1, -1)
    out = np.empty((len(line.phases), a, line.columns, b), t.dtype)
    source = _items(t)
    for phase, (column, position, count) in zip(out, line.phases, strict=True):
        if count < line.columns:
            phase[:, :column] = fill
            phase[:, column + count :] = fill
        if count:
            stop = position + (count - 1) * line.stride + 1
            _items(phase)[:, column : column + count] = source[:, position : stop : line.stride]
    return out.reshape(len(out), -1)


def put_back(phases: list[np.ndarray], line: Line, out: np.ndarray) -> None:
    """The adjoint of `gather`: phases of (a * columns * b) numbers each to out (a, size, b), contiguous."""
    a, _, b = out.shape
    if line.plain:
        out[...] = phases[0].reshape(out.shape)
        return
    if not line.covered:
        out[...] = 0
    target = _items(out)
    for phase, (column, position, count) in zip(phases, line.phases, strict=True):
        if count:
            stop = position + (count - 1) * line.stride + 1
            source = _items(phase.reshape(a, line.columns, b))
            target[:, position : stop : line.stride] = source[:, column : column + count]


def copy_rows(target: np.ndarray, source: np.ndarray) -> None:
    """target[...] = source, of the same shape: short rows as items of that many bytes, in one loop."""
    row, size = target.shape[-1], target.itemsize
    if row * size <= _SHORT and target.strides[-1] == size == source.strides[-1]:
        item = np.dtype((np.void, row * size))
        target, source = target.view(item), source.view(item)
    target[...] = source


def crop(t: np.ndarray, lines: list[Line], out: np.ndarray) -> None:
    """t (planes * columns of each axis), of which the windows are copied to out (planes, *windows)."""
    grid = t.reshape(-1, *(line.columns for line in lines))
    copy_rows(out, grid[(slice(None), *(slice(line.windows) for line in lines))])


def spread(d: np.ndarray, lines: list[Line]) -> np.ndarray:
    """The adjoint of `crop`: d (planes, *windows) -> flat, 0 where no window stands; d itself where all do."""
    if all(line.columns == line.windows for line in lines):
        return d.reshape(-1)
    grid = np.zeros((len(d), *(line.columns for line in lines)), d.dtype)
    copy_rows(grid[(slice(None), *(slice(line.windows) for line in lines))], d)
    return grid.reshape(-1)
