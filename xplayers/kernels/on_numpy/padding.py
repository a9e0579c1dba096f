"""Padding with NumPy alone: one new array, of which the inside and then the edges are written.

Short rows are copied as items of that many bytes, in one loop. Reflection, replication and circles then go axis by
axis, the innermost first, each column or row of the margin a copy of one that stands already; backwards the same copies
are added in turn, the outermost axis first. A block of planes stays in the cache, and threads share the blocks.
Declined: half precision, negative padding, padding along other axes than the last three, empty arrays.
"""

import math
from typing import Any

import numpy as np

from xplayers.functional.padding import checked_pairs
from xplayers.functional.padding import pad_forward as reference
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs
from .windows import copy_rows

__all__: list[str] = []

_BLOCK = 1 << 18  # numbers of y in a block


def _copies(size: int, a: int, b: int, mode: str) -> list[tuple[int, int]]:
    """(place in the margin, place that it copies) along an axis of y, of `size` elements between a and b others."""
    end = a + size
    if mode == "reflect":
        return [(a - i, a + i) for i in range(1, a + 1)] + [(end - 1 + i, end - 1 - i) for i in range(1, b + 1)]
    if mode == "replicate":
        return [(i, a) for i in range(a)] + [(end + i, end - 1) for i in range(b)]
    return [(i, i + size) for i in range(a)] + [(end + i, a + i) for i in range(b)]


def _inside(sizes: tuple, pairs: list) -> tuple:
    return (slice(None), *(slice(a, a + n) for n, (a, _) in zip(sizes, pairs, strict=True)))


def _margins(sizes: tuple, pairs: list, mode: str) -> list[tuple[tuple, tuple]]:
    """(index of a part of the margin, index of its source), the innermost axis first, in (planes, *sizes of y)."""
    found = []
    for axis in reversed(range(len(sizes))):
        front = _inside(sizes[:axis], pairs[:axis])  # the outer axes have no margins yet
        a, b = pairs[axis]
        for target, source in _copies(sizes[axis], a, b, mode):
            found.append(((*front, target), (*front, source)))
    return found


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    shape, pairs, mode = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    n = len(pairs)
    sizes = shape[len(shape) - n :]
    inside = _inside(sizes, pairs)
    if mode == "constant":
        return dy[(..., *inside[1:])]
    planes = dy.reshape(-1, *dy.shape[len(shape) - n :])
    dx = np.empty((len(planes), *sizes), dy.dtype)
    margins = _margins(sizes, pairs, mode)[::-1]

    def block(r: slice) -> None:
        d = planes[r].copy()
        for target, source in margins:
            d[source] += d[target]
        copy_rows(dx[r], d[inside])

    in_parts(block, runs(len(planes), _BLOCK // math.prod(planes.shape[1:])))
    return dx.reshape(shape)


def _pairs(x: Any, pad: Any, mode: str, value: Any) -> list | None:
    """The pairs of the axes that are padded, and those behind them."""
    if type(x) is not np.ndarray or x.dtype.char not in "fd" or not x.size:
        return None
    pairs = checked_pairs("pad", x, tuple(pad), mode, value)
    first = next((i for i, pair in enumerate(pairs) if pair != (0, 0)), len(pairs))
    pairs = pairs[first:]
    return pairs if 1 <= len(pairs) <= 3 and min(map(min, pairs)) >= 0 else None


@kernel(
    "numpy",
    reference,
    _backward,
    lambda *given: _pairs(*given) is not None,
    rule="float32 and float64, up to three axes, nothing taken away: rows copied into one new array",
)
def pad_forward(x: Any, pad: Any, mode: str, value: Any) -> Any:
    """The inside, then the margins."""
    pairs = _pairs(x, pad, mode, value)
    if pairs is None:
        return NotImplemented
    n = len(pairs)
    lead, sizes = x.shape[: x.ndim - n], x.shape[x.ndim - n :]
    outputs = tuple(size + a + b for size, (a, b) in zip(sizes, pairs, strict=True))
    y = np.empty((*lead, *outputs), x.dtype)
    planes, targets = x.reshape(-1, *sizes), y.reshape(-1, *outputs)
    inside = _inside(sizes, pairs)
    margins = [] if mode == "constant" else _margins(sizes, pairs, mode)

    def block(r: slice) -> None:
        target = targets[r]
        if mode == "constant":
            target[...] = value or 0
        copy_rows(target[inside], planes[r])
        for there, here in margins:
            target[there] = target[here]

    in_parts(block, runs(len(targets), _BLOCK // math.prod(outputs)))
    return y, (x.shape, pairs, mode)
