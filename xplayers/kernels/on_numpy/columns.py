"""Columns of convolutions with NumPy alone: windows are a strided view, copied once; they are added up tap by tap."""

import itertools
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..columns import Windows

__all__ = ["MAPS"]


class _Maps:
    @staticmethod
    def gather(x: np.ndarray, columns: np.ndarray, windows: Windows, rows: slice) -> None:
        """x (n, C, D, H, W) -> columns (C * taps, n * positions) of some rows of windows."""
        n, c = x.shape[:2]
        padded = _padded(x, windows) if any(windows.before) or _overhang(windows) else x
        steps = padded.strides[2:]
        strides = (
            padded.strides[1],
            *(t * d for t, d in zip(steps, windows.dilation, strict=True)),
            padded.strides[0],
            *(t * s for t, s in zip(steps, windows.stride, strict=True)),
        )
        view = as_strided(padded, (c, *windows.kernel, n, *windows.counts), strides, writeable=False)
        view = view[..., *_band(rows, windows), :]
        np.copyto(columns.reshape(view.shape), view)

    @staticmethod
    def add(columns: np.ndarray, x: np.ndarray, windows: Windows, rows: slice) -> None:
        """columns (C * taps, n * positions) of some rows are added where they lie in x (n, C, D, H, W)."""
        n, c = x.shape[:2]
        (planes, lines), across = _band(rows, windows), slice(0, windows.counts[2])
        bands = (planes, lines, across)
        counts = tuple(b.stop - b.start for b in bands)
        taps = columns.reshape(c, windows.taps, n, *counts)
        padded = np.zeros((n, c, *_reach(windows)), np.float32)
        for k, tap in enumerate(itertools.product(*map(range, windows.kernel))):
            places = (
                slice(t * d + b.start * s, t * d + (b.stop - 1) * s + 1, s)
                for t, d, s, b in zip(tap, windows.dilation, windows.stride, bands, strict=True)
            )
            padded[:, :, *places] += taps[:, k].swapaxes(0, 1)
        inside = (slice(b, b + size) for b, size in zip(windows.before, windows.sizes, strict=True))
        found = padded[:, :, *inside]
        x[:, :, *(slice(0, m) for m in found.shape[2:])] += found


def _reach(windows: Windows) -> tuple[int, ...]:
    """The sizes that the windows cover, padding in front included."""
    parts = zip(windows.counts, windows.stride, windows.kernel, windows.dilation, strict=True)
    return tuple((c - 1) * s + d * (k - 1) + 1 for c, s, k, d in parts)


def _overhang(windows: Windows) -> bool:
    return any(r > b + n for r, b, n in zip(_reach(windows), windows.before, windows.sizes, strict=True))


def _padded(x: np.ndarray, windows: Windows) -> np.ndarray:
    reach = tuple(max(r, b + n) for r, b, n in zip(_reach(windows), windows.before, windows.sizes, strict=True))
    out = np.zeros((*x.shape[:2], *reach), np.float32)
    out[:, :, *(slice(b, b + n) for b, n in zip(windows.before, windows.sizes, strict=True))] = x
    return out


def _band(rows: slice, windows: Windows) -> tuple[Any, Any]:
    """The rows of a block along the first two axes: whole planes where there are several."""
    lines = windows.counts[1]
    if windows.counts[0] > 1:
        return slice(rows.start // lines, rows.stop // lines), slice(0, lines)
    return slice(0, 1), rows


MAPS = _Maps()
