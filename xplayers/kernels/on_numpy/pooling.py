"""Adaptive pooling with NumPy alone, to few windows a plane: sums of windows as one product, maxima of rows.

Which elements a window sees is a column of a matrix of ones and zeros, and BLAS multiplies planes with it at once. As
0 times an infinity is NaN, what is not finite is left to the agnostic code. Maxima are taken window by window, in rows
that stand together, and found again as what equals them. Declined: half precision, more windows than 64 a plane; for
averages whole planes, which the agnostic code has as a product already, and planes of more elements than a matrix is
worth; for maxima windows in equal steps.
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


def _members(axes: Any, dtype: Any) -> np.ndarray:
    """(elements, windows) of a plane: 1 where the window sees the element."""
    tables = []
    for run, bounds in zip(axes, _bounds(axes), strict=True):
        table = np.zeros((run.size, len(bounds)), dtype)
        for o, (first, stop) in enumerate(bounds):
            table[first:stop, o] = 1
        tables.append(table)
    return functools.reduce(np.kron, tables)


def _avg_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    axes, members, divisor, shape = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    d = dy / divisor
    if not np.isfinite(d).all():
        return agnostic.avg_pool2d_backward.reference(dy, (axes, divisor))
    return (d.reshape(-1, divisor.size) @ members.T).reshape(shape)


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
        rule=f"float32 and float64, finite, 2 to {_MOST} windows a plane: a product",
    )
    def avg_forward(x: Any, output_size: Any) -> Any:
        """Planes times a matrix of ones."""
        axes = for_average(x, output_size)
        if axes is None:
            return NotImplemented
        members = _members(axes, x.dtype)
        counts = np.ascontiguousarray(members.sum(axis=0))
        with np.errstate(all="ignore"):
            y = x.reshape(-1, len(members)) @ members
        if not np.isfinite(y).all():
            return NotImplemented
        y /= counts
        outputs = tuple(len(run.sources()) for run in axes)
        return y.reshape(*x.shape[:-n], *outputs), (axes, members, counts.reshape(outputs), x.shape)

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
