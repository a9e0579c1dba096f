"""Columns of convolutions compiled: each row of windows is copied, or added, without padding the image first."""

from typing import Any

import numpy as np

from ..columns import Windows
from .compiling import compiled

__all__ = ["MAPS"]


class _Maps:
    @staticmethod
    def gather(x: np.ndarray, columns: np.ndarray, windows: Windows, rows: slice) -> None:
        """x (n, C, D, H, W) -> columns (C * taps, n * positions) of some rows of windows."""
        _gather(x, columns, *_numbers(windows), rows.start, rows.stop)

    @staticmethod
    def add(columns: np.ndarray, x: np.ndarray, windows: Windows, rows: slice) -> None:
        """columns (C * taps, n * positions) of some rows are added where they lie in x (n, C, D, H, W)."""
        _add(columns, x, *_numbers(windows), rows.start, rows.stop)


def _numbers(windows: Windows) -> tuple[Any, ...]:
    return windows.kernel, windows.stride, windows.dilation, windows.before, windows.counts


MAPS = _Maps()

_U = np.uintp


@compiled
def _copy(x, a, step, y, o, n):
    """A step of 1 is written out: LLVM makes a copy of it."""
    if step == 1:
        for j in range(n):
            y[o + j] = x[a + j]
    elif step == 2:
        for j in range(n):
            y[o + j] = x[a + _U(2) * j]
    else:
        for j in range(n):
            y[o + j] = x[a + step * j]


@compiled
def _more(x, a, y, o, step, n):
    if step == 1:
        for j in range(n):
            y[o + j] += x[a + j]
    else:
        for j in range(n):
            y[o + step * j] += x[a + j]


@compiled
def _zeros(y, o, n):
    for j in range(n):
        y[o + j] = np.float32(0)


@compiled
def _inside(tap, dilation, stride, before, size, count):
    """The windows of a row that see the image with one tap: first, past the last; and where the first one looks."""
    shift = tap * dilation - before
    low = min(count, max(0, (-shift + stride - 1) // stride))
    high = min(count, max(low, (size - 1 - shift) // stride + 1))
    return low, high, low * stride + shift


@compiled
def _gather(x, columns, kernel, stride, dilation, before, counts, start, stop):
    n, channels, planes, lines, across = x.shape
    flat, out = x.reshape(x.size), columns.reshape(columns.size)
    wide = _U(counts[2])
    target = _U(0)
    for c in range(channels):
        for kd in range(kernel[0]):
            for kh in range(kernel[1]):
                for kw in range(kernel[2]):
                    low, high, first = _inside(kw, dilation[2], stride[2], before[2], across, counts[2])
                    for image in range(n):
                        for r in range(start, stop):
                            d = (r // counts[1]) * stride[0] + kd * dilation[0] - before[0]
                            h = (r % counts[1]) * stride[1] + kh * dilation[1] - before[1]
                            if 0 <= d < planes and 0 <= h < lines and low < high:
                                line = ((_U(image * channels + c) * _U(planes) + _U(d)) * _U(lines) + _U(h)) * _U(
                                    across
                                )
                                _zeros(out, target, _U(low))
                                _copy(flat, line + _U(first), _U(stride[2]), out, target + _U(low), _U(high - low))
                                _zeros(out, target + _U(high), wide - _U(high))
                            else:
                                _zeros(out, target, wide)
                            target += wide


@compiled
def _add(columns, x, kernel, stride, dilation, before, counts, start, stop):
    n, channels, planes, lines, across = x.shape
    flat, source = x.reshape(x.size), columns.reshape(columns.size)
    wide = _U(counts[2])
    at = _U(0)
    for c in range(channels):
        for kd in range(kernel[0]):
            for kh in range(kernel[1]):
                for kw in range(kernel[2]):
                    low, high, first = _inside(kw, dilation[2], stride[2], before[2], across, counts[2])
                    for image in range(n):
                        for r in range(start, stop):
                            d = (r // counts[1]) * stride[0] + kd * dilation[0] - before[0]
                            h = (r % counts[1]) * stride[1] + kh * dilation[1] - before[1]
                            if 0 <= d < planes and 0 <= h < lines and low < high:
                                line = ((_U(image * channels + c) * _U(planes) + _U(d)) * _U(lines) + _U(h)) * _U(
                                    across
                                )
                                _more(source, at + _U(low), flat, line + _U(first), _U(stride[2]), _U(high - low))
                            at += wide
