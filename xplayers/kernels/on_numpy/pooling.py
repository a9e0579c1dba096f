"""Adaptive pooling with NumPy alone, to few windows a plane: sums of windows as products, maxima of rows.

Which elements of an axis a window sees is a column of a matrix of ones and zeros, and BLAS multiplies all planes with
it at once, axis by axis. As 0 times an infinity is NaN, what is not finite is left to the agnostic code. Maxima are
taken window by window, in rows that stand together, and found again as what equals them. Declined: half precision, more
windows than 64 a plane; for averages whole planes, which the agnostic code has as a product already, and planes of more
elements than a matrix is worth; for maxima windows in equal steps.
"""

import functools
import itertools
import math
from typing import Any

import numpy as np

from xplayers.functional import pooling as agnostic
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs

__all__: list[str] = []

_MOST = 64  # windows a plane
_LARGEST = 1 << 20  # numbers of a matrix
_PART = 1 << 18  # numbers that are worth a thread


def _bounds(axes: Any) -> list[list[tuple[int, int]]]:
    """(first, past the last) of the windows of each axis, in the agnostic code's words for them."""
    return [[(window[0], window[-1] + 1) for window in run.sources()] for run in axes]


def _is_plain(x: Any, n: int) -> bool:
    return type(x) is np.ndarray and x.dtype.char in "fd" and x.ndim >= n and x.size > 0


# -- averages --


@functools.lru_cache(64)
def _members(axes: tuple, dtype: Any) -> tuple[list[np.ndarray], np.ndarray]:
    """For each axis, the innermost first, (elements, windows) with 1 where the window sees the element, blown up to the
    windows behind it; and how many elements each window sees, (*outputs)."""
    tables: list[np.ndarray] = []
    counts, behind = np.ones((), dtype), 1
    for run, bounds in zip(reversed(axes), reversed(_bounds(axes)), strict=True):
        table = np.zeros((run.size, len(bounds)), dtype)
        for o, (first, stop) in enumerate(bounds):
            table[first:stop, o] = 1
        tables.append(np.kron(table, np.eye(behind, dtype=dtype)))
        counts = np.multiply.outer(table.sum(axis=0), counts)
        behind *= len(bounds)
    return tables, counts


def _avg_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    axes, tables, counts, shape = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    d = dy / counts
    if not np.isfinite(d).all():
        return agnostic.avg_pool2d_backward.reference(dy, (axes, counts))
    for table in reversed(tables):
        d = d.reshape(-1, table.shape[1]) @ table.T
    return d.reshape(shape)


# -- maxima --


def _places(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maximum of each row (P, n) and where it stands: the first of equal ones, or the last NaN."""
    width, flat = rows.shape[1], rows.reshape(-1)
    starts = np.arange(0, flat.size, width)
    value = np.maximum.reduceat(flat, starts)
    if np.isnan(value).any():  # which equals nothing
        place, which = rows.argmax(axis=1), np.isnan(value)
        place[which] = width - 1 - np.isnan(rows[which, ::-1]).argmax(axis=1)
        return value, place
    there = np.flatnonzero(flat == np.repeat(value, width))
    if len(there) != len(rows):
        row = there // width
        there = there[np.concatenate([[True], row[1:] != row[:-1]])]
    return value, there - starts


def _search(x: Any, sizes: tuple, boxes: list, y: np.ndarray, at: np.ndarray) -> None:
    """The maximum of each box of planes x (P, *sizes), and where in the plane it stands: y and at (P, boxes)."""
    for o, box in enumerate(boxes):
        seen = x[(slice(None), *(slice(*b) for b in box))]
        y[:, o], place = _places(seen.reshape(len(x), -1))
        if seen.shape != x.shape:
            inside = np.unravel_index(place, seen.shape[1:])
            place = np.ravel_multi_index([i + b[0] for i, b in zip(inside, box, strict=True)], sizes)
        at[:, o] = place


def _max_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    at, shape, dtype = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    dx = np.zeros(shape, dtype)
    dy = dy[0] if isinstance(dy, tuple) else dy
    if dy is not None and dx.size:
        planes = dx.reshape(len(at), -1)
        d = dy.reshape(at.shape)
        for o in range(at.shape[1]):  # windows overlap, so that two may have the same maximum
            planes[np.arange(len(at)), at[:, o]] += d[:, o]
    return dx


def _register(n: int) -> None:
    average, maximum = f"adaptive_avg_pool{n}d", f"adaptive_max_pool{n}d"

    def few(where: str, x: Any, output_size: Any) -> tuple | None:
        if not _is_plain(x, n):
            return None
        axes = tuple(agnostic.adaptive_runs(where, x.shape[-n:], output_size))
        return axes if math.prod(len(run.sources()) for run in axes) <= _MOST else None

    def for_maximum(x: Any, output_size: Any) -> tuple | None:
        axes = few(maximum, x, output_size)
        whole = axes is not None and math.prod(len(run.sources()) for run in axes) == 1
        return axes if axes is not None and (whole or any(isinstance(a, agnostic.Runs) for a in axes)) else None

    def for_average(x: Any, output_size: Any) -> tuple | None:
        axes = few(average, x, output_size)
        outputs = 0 if axes is None else math.prod(len(run.sources()) for run in axes)
        return axes if outputs > 1 and outputs * math.prod(x.shape[-n:]) <= _LARGEST else None

    @kernel(
        "numpy",
        getattr(agnostic, f"{average}_forward"),
        _avg_backward,
        rule=f"float32 and float64, finite, 2 to {_MOST} windows a plane: a product an axis",
    )
    def avg_forward(x: Any, output_size: Any) -> Any:
        """Planes times a matrix of ones for each axis."""
        axes = for_average(x, output_size)
        if axes is None:
            return NotImplemented
        tables, counts = _members(axes, x.dtype)
        y = x
        with np.errstate(all="ignore"):
            for table in tables:
                y = y.reshape(-1, len(table)) @ table
        if not np.isfinite(y).all():
            return NotImplemented
        y = y.reshape(*x.shape[:-n], *counts.shape)
        return y / counts, (axes, tables, counts, x.shape)

    @kernel(
        "numpy",
        getattr(agnostic, f"{maximum}_forward"),
        _max_backward,
        lambda x, output_size, return_indices=False: for_maximum(x, output_size) is not None,
        rule=f"float32 and float64, whole planes and up to {_MOST} unequal windows a plane, row by row",
    )
    def max_forward(x: Any, output_size: Any, return_indices: bool = False) -> Any:
        """Window by window, the planes' rows together."""
        axes = for_maximum(x, output_size)
        if axes is None:
            return NotImplemented
        bounds, sizes = _bounds(axes), x.shape[-n:]
        boxes = list(itertools.product(*bounds))
        planes = x.reshape(-1, *sizes)
        y, at = np.empty((len(planes), len(boxes)), x.dtype), np.empty((len(planes), len(boxes)), np.int64)
        parts = runs(len(planes), max(1, _PART // math.prod(sizes)))
        in_parts(lambda r: _search(planes[r], sizes, boxes, y[r], at[r]), parts)
        shape = (*x.shape[:-n], *map(len, bounds))
        answer = y.reshape(shape)
        return (answer, at.reshape(shape)) if return_indices else answer, (at, x.shape, x.dtype)


for _n in (1, 2, 3):
    _register(_n)
