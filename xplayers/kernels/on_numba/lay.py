"""Where images lie side by side for the direct convolutions of `direct.py`, and what each vector of them sees.

The innermost axis are n images, a power of two up to 16; a vector of 16 numbers is then 16 / n pixels next to one
another of each. Columns of x are parted by their phase, their place modulo the stride, so that a tap of the kernel is a
shift by a fixed number for a whole vector; rows need not be. Columns have zeros on both sides, rows have not: taps that
see no row of the image are left out, and so are those that see zeros alone.
"""

import functools
import itertools
from typing import Any, NamedTuple

import numpy as np

from ..columns import Windows
from .compiling import compiled
from .tiles import LANES, OUT

__all__ = ["Lay", "Side", "Table", "lay_of", "vectors"]

_U: Any = np.uintp
_RUN = 48  # vectors whose products with x are summed before the next: they stay in the first cache


class Side(NamedTuple):
    """How images of x, or of y, lie side by side: `columns[j]` is where column j stands in a row of `row` numbers."""

    rows: int
    width: int
    row: int
    step: int  # from one channel to the next
    together: int  # how many columns are moved at once, 0 where each is alone
    columns: np.ndarray


class Table(NamedTuple):
    """The vectors at `target`; the i-th sees the taps `tap[first[i] : first[i + 1]]`, at `place` likewise."""

    target: np.ndarray
    first: np.ndarray
    tap: np.ndarray
    place: np.ndarray


class Pairs(NamedTuple):
    """For each run of vectors of y, and each tap in it, from `first` on: where they see x, and which they are.

    Which, as a place: vectors of 8 channels of y stand next to one another.
    """

    first: np.ndarray
    place: np.ndarray
    which: np.ndarray


class Lay(NamedTuple):
    """n images side by side: x and y, what each vector of y sees in x, each of x in y, and both again for each tap."""

    n: int
    x: Side
    y: Side
    forward: Table
    back: Table
    pairs: Pairs


def _up(n: int, to: int) -> int:
    return -(-n // to) * to


def vectors(windows: Windows, n: int) -> int:
    """How many vectors y has."""
    return windows.rows * -(-windows.counts[2] // (LANES // n))


@functools.lru_cache(64)  # half a megabyte each in most networks, 12 at most
def lay_of(windows: Windows, n: int) -> Lay:
    """The windows' lay, n images side by side."""
    q = LANES // n
    (depth, height, width), (_, _, kw) = windows.sizes, windows.kernel
    stride, shift = windows.stride[2], (kw - 1) * windows.dilation[2] // windows.stride[2]
    lead, out = _up(shift, q), windows.counts[2]
    phase = _up(max((width + windows.before[2] - 1) // stride + 1, _up(out, q) + shift), q)
    row = lead + phase  # of y

    at = np.arange(width) + windows.before[2]
    x = _side(depth * height, width, at % stride * phase + at // stride, stride * phase, n)
    y = _side(windows.rows, out, lead + np.arange(out), row, n)
    holds_x, holds_y = np.zeros((stride, phase + q), bool), np.zeros(row + q, bool)
    holds_x[at % stride, at // stride] = True
    holds_y[lead : lead + out] = True
    sees_x, sees_y = ([h[..., i : h.shape[-1] - q + i] for i in range(q)] for h in (holds_x, holds_y))

    taps = np.array(
        [
            (
                a * windows.dilation[0] - windows.before[0],
                b * windows.dilation[1] - windows.before[1],
                e % stride,
                e // stride,
            )
            for a, b, e in itertools.product(
                *map(range, windows.kernel[:2]), range(0, kw * windows.dilation[2], windows.dilation[2])
            )
        ]
    )
    given = windows.sizes, windows.stride, windows.counts, taps, np.logical_or.reduce(sees_x)
    forward, pairs = _forward(*given, lead, n, q)
    back = _back(*given, np.logical_or.reduce(sees_y), lead, n, q)
    return Lay(n, x, y, Table(*forward), Table(*back), Pairs(*pairs))


def _side(rows: int, width: int, places: np.ndarray, row: int, n: int) -> Side:
    step = _up(rows * row * n, LANES)
    step += LANES * (step // LANES % 2 == 0)  # an odd number of cache lines: channels do not fall on one another
    if n == LANES:  # each column is a vector of its own: a plane is one row
        places = (np.arange(rows)[:, None] * row + places).reshape(-1)
        rows, width, row = 1, rows * width, rows * row
    far = n < LANES and bool((np.diff(places) != 1).any())
    together = 0 if far else next((k for k in (16, 8, 4) if width >= k), 0)
    return Side(rows, width, row * n, step, together, (places * n).astype(_U))


@compiled
def _forward(sizes, stride, counts, taps, sees, lead, n, q):
    """What each vector of y sees, and for each run of them and tap which see x where."""
    phases, phase = sees.shape
    row, across = lead + phase, (counts[2] + q - 1) // q
    count, most = counts[0] * counts[1] * across, counts[0] * counts[1] * across * len(taps)
    target, first = np.empty(count, np.uintp), np.zeros(count + 1, np.uintp)
    tap, place = np.empty(most, np.uintp), np.empty(most, np.uintp)
    found = 0
    for i in range(count):
        d, h, w = i // across // counts[1], i // across % counts[1], i % across * q
        target[i] = ((d * counts[1] + h) * row + lead + w) * n
        for k in range(len(taps)):
            r, t, f, m = d * stride[0] + taps[k, 0], h * stride[1] + taps[k, 1], taps[k, 2], w + taps[k, 3]
            if 0 <= r < sizes[0] and 0 <= t < sizes[1] and sees[f, m]:
                tap[found] = k
                place[found] = (((r * sizes[1] + t) * phases + f) * phase + m) * n
                found += 1
        first[i + 1] = found
    tap, place = tap[:found].copy(), place[:found].copy()
    runs = (count + _RUN - 1) // _RUN
    begins = np.zeros(runs * len(taps) + 1, np.uintp)
    at, which = np.empty(found, np.uintp), np.empty(found, np.uintp)
    done = 0
    for run in range(runs):
        for k in range(len(taps)):
            for i in range(run * _RUN, min(count, (run + 1) * _RUN)):
                for e in range(first[i], first[i + 1]):
                    if tap[e] == k:
                        at[done], which[done] = place[e], i * OUT * LANES
                        done += 1
            begins[run * len(taps) + k + 1] = done
    return (target, first, tap, place), (begins, at, which)


@compiled
def _back(sizes, stride, counts, taps, sees_x, sees_y, lead, n, q):
    """What each vector of x sees in y: the windows that it is in."""
    phases, phase = sees_x.shape
    row, across = lead + phase, phase // q
    count = sizes[0] * sizes[1] * phases * across
    target, first = np.empty(count, np.uintp), np.zeros(count + 1, np.uintp)
    tap, place = np.empty(count * len(taps), np.uintp), np.empty(count * len(taps), np.uintp)
    found = some = 0
    for i in range(count):
        d, h = i // across // phases // sizes[1], i // across // phases % sizes[1]
        f, m = i // across % phases, i % across * q
        if not sees_x[f, m]:
            continue
        target[some] = (((d * sizes[1] + h) * phases + f) * phase + m) * n
        for k in range(len(taps)):
            r, t, w = d - taps[k, 0], h - taps[k, 1], m - taps[k, 3] + lead
            if f != taps[k, 2] or r < 0 or t < 0 or r % stride[0] or t % stride[1] or not sees_y[w]:
                continue
            r, t = r // stride[0], t // stride[1]
            if r < counts[0] and t < counts[1]:
                tap[found] = k
                place[found] = ((r * counts[1] + t) * row + w) * n
                found += 1
        some += 1
        first[some] = found
    return target[:some].copy(), first[: some + 1].copy(), tap[:found].copy(), place[:found].copy()
