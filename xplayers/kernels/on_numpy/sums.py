"""The three sums of every convolution with NumPy alone, as products with columns of some images.

The gradient of a strided convolution is a correlation of stride 1 for each phase of the image, with the taps that meet
it. Where the image has few channels the other way is quicker: the columns' own gradient, added up phase by phase.

Products are quick with a transpose on the right of a wide matrix alone: dweight is taken as (taps * C, positions) times
(positions, O), up to twice as quick as the other way round. Each thread lays out, multiplies and writes some images, or
a band of rows of one, with a BLAS of one thread.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..threads import products_in_parts, runs
from . import beside
from .added import add_columns
from .broadcasts import unbuffered
from .columns import Axis, Block, Columns, blocks, grouped, phases, windows

__all__ = ["SUMS"]

_NUMBERS = 1 << 19  # of columns in a block: 2 MB, with less two threads wait for each other's Python
_MOST = 16  # lanes of blocks, each in memory of its own
_LANES = 4  # sums that are kept apart, so that the order of adding does not depend on the threads


class _Target(NamedTuple):
    """What is written: the sums over the taps along the first axis, w (taps, groups, M, depth) -> y (N, M, H, ...)."""

    axis: Axis
    w: np.ndarray
    y: np.ndarray


class _Sums:
    """The three sums of functional/convolution.py."""

    @staticmethod
    def correlate(x: Any, weight: Any, bias: Any, stride: Any, pairs: Any, dilation: Any, groups: int) -> np.ndarray:
        """x (N, C, *sizes), weight (O, C / groups, *kernel), bias (O,) or None -> y (N, O, *counts)."""
        axes = windows(x.shape[2:], weight.shape[2:], stride, pairs, dilation)
        if groups == 1 and _is_one(axes, x.shape):
            y = x.reshape(len(x), -1) @ weight.reshape(len(weight), -1).T
            if bias is not None:
                y += bias
            return y.reshape(*y.shape, *(1,) * len(axes))
        counts = [axis.windows for axis in axes]
        if beside.is_beside(x, counts, groups, pairs):
            return beside.correlate(x, weight, bias, counts, stride, pairs, dilation)
        y = np.empty((x.shape[0], weight.shape[0], *(axis.windows for axis in axes)), np.float32)
        x, out, w, axes = _at_least_two(axes, x, y, weight)
        w = _taps_first(w.reshape(groups, -1, *w.shape[1:])).swapaxes(2, 3)
        w = np.ascontiguousarray(w).reshape(len(w), groups, w.shape[2], -1)  # (KH, groups, O', taps * C')
        _write(x, groups, axes[1:], [_Target(axes[0], w, out)], bias)
        return y

    @staticmethod
    def scatter(
        dy: Any, weight: Any, bias: Any, sizes: Any, stride: Any, pairs: Any, dilation: Any, groups: int
    ) -> np.ndarray:
        """dy (N, O, *counts), weight (O, C / groups, *kernel), bias (C,) or None -> dx (N, C, *sizes)."""
        befores = [a for a, _ in pairs]
        axes: Any = tuple(
            phases(*of_axis) for of_axis in zip(sizes, weight.shape[2:], stride, befores, dilation, strict=True)
        )
        dx = np.empty((dy.shape[0], weight.shape[1] * groups, *sizes), np.float32)
        if groups == 1 and _is_one(windows(sizes, weight.shape[2:], stride, pairs, dilation), dx.shape):
            np.matmul(dy.reshape(len(dy), -1), weight.reshape(len(weight), -1), out=dx.reshape(len(dx), -1))
            if bias is not None:
                dx += bias.reshape(-1, *(1,) * len(axes))
            return dx
        if beside.is_beside(dx, dy.shape[2:], groups, pairs):
            return beside.scatter(dy, weight, bias, sizes, stride, pairs, dilation)
        dy, out, w, axes = _at_least_two(axes, dy, dx, weight)
        w = w.reshape(groups, -1, *w.shape[1:])
        stride = (1,) * (out.ndim - 2 - len(stride)) + tuple(stride)
        views = {
            phase: out[:, :, *(slice(f, None, s) for f, s in zip(phase, stride, strict=True))]
            for phase in itertools.product(*(range(len(axis)) for axis in axes))
        }
        if _adds(w):
            add_columns(dy, w, axes, views, bias)
            return dx
        if any(not taps for axis in axes for taps, _ in axis):
            dx[...] = 0 if bias is None else bias.reshape(-1, *(1,) * (dx.ndim - 2))
        by_tap = _taps_first(w)
        by_tap = np.ascontiguousarray(by_tap.reshape(*w.shape[3:4], groups, *w.shape[4:], *w.shape[1:3]))
        for across in itertools.product(*(list(enumerate(axis)) for axis in axes[1:])):
            phase, taps = [f for f, _ in across], [t for _, (t, _) in across]
            targets = []
            for f, (first, axis) in enumerate(axes[0]):
                chosen = by_tap[np.ix_(first, range(groups), *taps)]  # (KH', groups, ..., O', C')
                chosen = chosen.reshape(*chosen.shape[:2], math.prod(chosen.shape[2:-1]), chosen.shape[-1])
                if first:
                    targets.append(_Target(axis, chosen.transpose(0, 1, 3, 2), views[f, *phase]))
            if targets and all(taps):
                _write(dy, groups, tuple(axis for _, (_, axis) in across), targets, bias)
        return dx

    @staticmethod
    def weight_gradient(x: Any, dy: Any, shape: Any, stride: Any, pairs: Any, dilation: Any, groups: int) -> np.ndarray:
        """x (N, C, *sizes), dy (N, O, *counts) -> dweight of shape (O, C / groups, *kernel)."""
        n_out, c_in, *kernel = shape
        axes = windows(x.shape[2:], tuple(kernel), stride, pairs, dilation)
        if groups == 1 and _is_one(axes, x.shape):
            return (dy.reshape(len(dy), -1).T @ x.reshape(len(x), -1)).reshape(shape)
        if beside.is_beside(x, dy.shape[2:], groups, pairs):
            return beside.weight_gradient(x, dy, shape, stride, pairs, dilation)
        x, dy, w, axes = _at_least_two(axes, x, dy, np.broadcast_to(np.float32(0), shape))
        kernel = w.shape[2:]
        d, depth = grouped(dy, groups), math.prod(kernel[1:]) * c_in
        parts = _blocks_of(x, groups, axes[:1], axes[1:])
        lanes = [parts[r] for r in runs(len(parts), -(-len(parts) // _LANES))]
        turned = n_out // groups <= beside.TURNED
        sums = np.zeros(
            (len(lanes), kernel[0], groups, *((depth, n_out // groups) if turned else (n_out // groups, depth))),
            np.float32,
        )

        def work(lane: int) -> None:
            columns = Columns(x, groups, axes[:1], axes[1:])
            for block in lanes[lane]:
                columns.lay(block)
                part, mine = d[block.groups, :, block.band, block.images], sums[lane, :, block.groups]
                seen = columns.of(0, block.band.stop - block.band.start)
                if columns.is_apart:
                    part = part.transpose(3, 0, 1, 2, *range(4, part.ndim)).reshape(
                        *seen[0].shape[:2], n_out // groups, -1
                    )
                else:
                    part = part.reshape(len(part), n_out // groups, -1)
                if len(seen) < kernel[0]:
                    more = seen[0] @ part.swapaxes(-1, -2)
                    more = more.reshape(-1, mine.shape[1], kernel[0], depth, n_out // groups).sum(axis=0)
                    mine += more.transpose(1, 0, 2, 3) if turned else more.transpose(1, 0, 3, 2)
                    continue
                for of_tap, run in zip(mine, seen, strict=True):
                    of_tap += run @ part.transpose(0, 2, 1) if turned else part @ run.transpose(0, 2, 1)

        products_in_parts(work, range(len(lanes)), dy.size * kernel[0] * depth)
        dw = sums.sum(axis=0) if len(sums) > 1 else sums[0]
        dw = dw.swapaxes(2, 3) if turned else dw
        dw = dw.reshape(kernel[0], groups, n_out // groups, depth // c_in, c_in)
        return dw.transpose(1, 2, 4, 0, 3).reshape(shape)


SUMS = _Sums()


def _is_one(axes: tuple[Axis, ...], shape: Any) -> bool:
    """Whether there is one window, the image: then a convolution is an affine map."""
    return all(axis == Axis(1, axis.step, tuple(range(size))) for axis, size in zip(axes, shape[2:], strict=True))


def _at_least_two(axes: tuple, x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple:
    """With an axis of 1 in front where there is one alone, or where the windows are the image: then it is one row."""
    if len(axes) > 1 and not (math.prod(weight.shape[2:]) == 1 and x.shape[2:] == y.shape[2:]):
        return x, y, weight, axes
    alone = Axis(1, 1, (0,))
    if len(axes) > 1:
        axis: Any = Axis(math.prod(x.shape[2:]), 1, (0,))
        axes = (axis if isinstance(axes[0], Axis) else (((0,), axis),),)
    first: Any = alone if isinstance(axes[0], Axis) else (((0,), alone),)
    size = math.prod(x.shape[2:])
    return (
        x.reshape(*x.shape[:2], 1, size),
        y.reshape(*y.shape[:2], 1, math.prod(y.shape[2:])),
        weight.reshape(*weight.shape[:2], 1, math.prod(weight.shape[2:])),
        (first, *axes),
    )


def _taps_first(w: np.ndarray) -> np.ndarray:
    """(groups, O', C', KH, ...) -> (KH, groups, taps, O', C')"""
    return w.reshape(*w.shape[:4], math.prod(w.shape[4:])).transpose(3, 0, 4, 1, 2)


def _blocks_of(x: np.ndarray, groups: int, rows: Sequence[Axis], across: Sequence[Axis]) -> list[Block]:
    depth = x.shape[1] // groups * math.prod(len(axis.offsets) for axis in across)
    halo = max(len(axis.offsets) for axis in rows) - 1
    high, wide = max(axis.windows for axis in rows), math.prod(axis.windows for axis in across)
    return blocks(len(x), groups, depth, high, wide, halo, _NUMBERS)


def _write(x: np.ndarray, groups: int, across: tuple[Axis, ...], targets: list[_Target], bias: Any) -> None:
    """Writes the correlations of x along `across` and the first axis of each target."""
    rows = tuple(target.axis for target in targets)
    views = [grouped(target.y, groups) for target in targets]
    bias = None if bias is None else bias.reshape(groups, -1, 1)
    parts = _blocks_of(x, groups, rows, across)
    lanes = [parts[r] for r in runs(len(parts), max(1, len(parts) // _MOST))]

    def work(lane: int) -> None:
        columns = Columns(x, groups, rows, across)
        ws = [_stacked(t.w, bias) if columns.is_stacked(i) else t.w for i, t in enumerate(targets)]
        for block in lanes[lane]:
            columns.lay(block)
            for i, (w, y) in enumerate(zip(ws, views, strict=True)):
                w, mine = w[:, block.groups], y[block.groups, :, block.band, block.images]  # (groups, M, rows, n, ...)
                in_one = columns.is_stacked(i)
                seen = columns.of(i, mine.shape[2], in_one and bias is not None)
                if columns.is_apart:
                    mine = mine.transpose(3, 0, 1, 2, *range(4, mine.ndim))
                t = more = None
                if targets[i].y.flags.c_contiguous and (mine.shape[3] == 1 or columns.is_apart):
                    t = mine.reshape(*mine.shape[: 2 + columns.is_apart], -1)
                t = np.matmul(w[0], seen[0], out=t)
                for w_of_tap, run in zip(w[1:], seen[1:], strict=True):
                    more = np.matmul(w_of_tap, run, out=more)
                    t += more
                if bias is not None and not in_one:
                    t += bias[block.groups]
                if not np.may_share_memory(t, mine):
                    mine[...] = t.reshape(mine.shape)

    row = min(b.band.stop - b.band.start for b in parts) * math.prod(axis.windows for axis in across)
    with unbuffered(row):
        products_in_parts(work, range(len(lanes)), sum(t.y.size * t.w[:, 0, 0].size for t in targets))


def _stacked(w: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """(taps, groups, M, depth) -> (1, groups, M, taps * depth), a bias (groups, M, 1) as the last column."""
    taps, groups, m, depth = w.shape
    w = w.transpose(1, 2, 0, 3).reshape(groups, m, taps * depth)
    return (w if bias is None else np.concatenate([w, bias], axis=-1))[None]


def _adds(w: np.ndarray) -> bool:
    """Whether adding up the columns' gradient is quicker than laying out those of dy: where dy has more channels."""
    n_out, c = w.shape[1:3]
    return n_out > 2 * c and math.prod(w.shape[3:]) > 1
