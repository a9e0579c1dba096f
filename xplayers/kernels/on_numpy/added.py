"""The gradient of an image of few channels: its columns' gradients, w^T dy, added up where they overlap.

Along all axes but the first they are added for all rows of the kernel at once, then along the first in runs of whole
rows; phase by phase of a stride, so that no step is in what is added. The weight is not laid out anew.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..threads import products_in_parts, runs
from .broadcasts import unbuffered
from .columns import Axis, Block, blocks, grouped, inside

__all__ = ["add_columns"]

_NUMBERS = 1 << 19  # in the columns' gradient of a block
_LANES = 4  # sums over the bands of an image: the order of adding does not depend on the threads

Phases = Sequence[tuple[tuple[int, ...], Axis]]  # of an axis: the taps that meet each, and in which windows


def add_columns(dy: np.ndarray, w: np.ndarray, axes: Sequence[Phases], targets: dict, bias: Any) -> None:
    """dy (N, O, H', ...), w (groups, O', C', KH, ...) -> targets, phase: its part of dx (N, C, H, ...), are written."""
    groups, n_out, c = w.shape[:3]
    views = {phase: grouped(dx, groups) for phase, dx in targets.items()}
    bias = None if bias is None else bias.reshape(groups, c, *(1,) * (dy.ndim - 1))
    wt = w.reshape(groups, n_out, -1).transpose(0, 2, 1)  # (groups, C' * taps, O')
    d = grouped(dy, groups)
    parts: dict[tuple[int, int], list[Block]] = {}
    for block in blocks(len(dy), groups, wt.shape[1], d.shape[2], math.prod(dy.shape[3:]), 0, _NUMBERS):
        parts.setdefault((block.groups.start, block.images.start), []).append(block)
    share = -(-_LANES // len(parts))
    lanes = [held[r] for held in parts.values() for r in runs(len(held), -(-len(held) // share))]
    sums: list[dict] = [{} for _ in lanes]

    def write(block: Block, sums: dict) -> None:
        for phase, v in views.items():
            if bias is None:
                v[block.groups, :, :, block.images] = sums[phase]
            else:
                np.add(sums[phase], bias[block.groups], out=v[block.groups, :, :, block.images])

    def work(lane: int) -> None:
        first = lanes[lane][0]
        some, n = first.groups, first.images.stop - first.images.start
        count = some.stop - some.start
        mine = {phase: np.zeros((count, *v.shape[1:3], n, *v.shape[4:]), np.float32) for phase, v in views.items()}
        for block in lanes[lane]:
            part = d[some, :, block.band, block.images]
            columns = wt[some] @ part.reshape(count, n_out, -1)
            columns = columns.reshape(count, c, *w.shape[3:], *part.shape[2:])
            for across in itertools.product(*(enumerate(axis) for axis in axes[1:])):
                rows = _rows_of(columns, [of_phase for _, of_phase in across])
                for f, (taps, axis) in enumerate(axes[0]):
                    _add_rows(mine[f, *(g for g, _ in across)], rows, taps, axis, block.band)
        if len(lanes) > len(parts):
            sums[lane] = mine
        else:
            write(first, mine)

    with unbuffered(min(b.band.stop - b.band.start for (b, *_) in lanes) * math.prod(dy.shape[3:])):
        products_in_parts(work, range(len(lanes)), dy.size * wt.shape[1])
    if len(lanes) > len(parts):
        for part in parts.values():
            whole, *others = [s for s, lane in zip(sums, lanes, strict=True) if lane[0][:2] == part[0][:2]]
            for other in others:
                for phase, dx in other.items():
                    whole[phase] += dx
            write(part[0], whole)


def _rows_of(columns: np.ndarray, across: Phases) -> np.ndarray:
    """columns (groups, C', KH, *kernel, rows, n, *counts), written to, -> (groups, C', KH, rows, n, *sizes) of a phase.

    With as many windows as pixels a tap is a shift of all rows at once, what falls beyond the image made 0 before.
    """
    axes = len(across)
    rows, n, *counts = columns.shape[3 + axes :]
    sizes = [axis.windows for _, axis in across]
    out = np.zeros((*columns.shape[:3], rows, n, *sizes), np.float32)
    flat, is_flat = out.reshape(*out.shape[:3], -1), sizes == counts
    for taps in itertools.product(*(zip(t, axis.offsets, strict=True) for t, axis in across)):
        each = zip(taps, sizes, counts, strict=True)
        seen = [inside(Axis(size, 1, ()), offset, count) for (_, offset), size, count in each]
        met: list[Any] = [s for s in seen if s is not None]
        if len(met) < axes:
            continue
        of_tap = columns[(slice(None),) * 3 + tuple(t for t, _ in taps)]
        if is_flat:
            shift = 0
            for i, (_, offset) in enumerate(taps):
                beyond = slice(0, offset) if offset > 0 else slice(counts[i] + offset, None)
                rest: list[Any] = [slice(None)] * (axes - 1 - i)
                of_tap[(..., beyond, *rest)] = 0
                shift = shift * counts[i] + offset
            length, run = flat.shape[3] - abs(shift), of_tap.reshape(flat.shape)
            flat[..., max(0, -shift) :][..., :length] += run[..., max(0, shift) :][..., :length]
        else:
            to: list[Any] = [..., *(a for a, _ in met)]
            windows: list[Any] = [..., *(b for _, b in met)]
            out[tuple(to)] += of_tap[tuple(windows)]
    return out


def _add_rows(dx: np.ndarray, rows: np.ndarray, taps: tuple[int, ...], axis: Axis, band: slice) -> None:
    """rows (groups, C', KH, rows, n, ...) of a band of windows are added to dx (groups, C', H, n, ...)."""
    for k, offset in zip(taps, axis.offsets, strict=True):
        seen = inside(Axis(axis.windows, 1, ()), offset - band.start, rows.shape[3])
        if seen is not None:
            dx[:, :, seen[0]] += rows[:, :, k, seen[1]]
