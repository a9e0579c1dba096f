"""Where the windows of pooling lie, as compiled loops want it: three axes, of which unused ones have the size 1.

The first two axes are walked over row by row, each loop over a whole row of x, which LLVM vectorises. Along the last
axis windows of common lengths in equal steps have a loop compiled for the two, where they lie inside the input; the
others are walked over one by one.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from xplayers.functional.pooling import Runs, Step, adaptive_runs

from ..threads import runs

__all__ = ["Windows", "adaptive_windows", "fits", "parts", "windows_of"]

_PART = 1 << 15  # numbers that are worth a thread
_WAYS = {
    (2, 1),
    (2, 2),
    (3, 1),
    (3, 2),
    (3, 3),
    (4, 2),
    (4, 4),
    (5, 1),
    (5, 2),
}  # (kernel, stride) of loops of their own


class Windows(NamedTuple):
    """Of each axis the size, (first, past the last) element of each window and their distance; of the last more.

    `way` is (kernel, stride) of the compiled loop for the windows `inner` of the last axis, window o at o * stride +
    `origin`; (0, 0) where there is none.
    """

    sizes: tuple[int, int, int]
    bounds: tuple[np.ndarray, np.ndarray, np.ndarray]
    steps: tuple[int, int, int]
    way: tuple[int, int]
    inner: tuple[int, int]
    origin: int

    @property
    def outputs(self) -> tuple[int, int, int]:
        z, v, h = self.bounds
        return len(z), len(v), len(h)


def _bounds(run: Step | Runs) -> np.ndarray:
    """Of each window the first element that is no padding, and one past the last."""
    if isinstance(run, Runs):
        return np.array(run.bounds, np.intp).reshape(-1, 2)
    starts = np.arange(run.windows) * run.stride - run.padding
    first = np.where(starts < 0, starts % run.dilation, starts)
    return np.stack([first, np.minimum(starts + run.dilation * (run.kernel - 1) + 1, run.size)], axis=1)


@functools.lru_cache(1024)
def windows_of(axes: tuple) -> Windows | None:
    """The windows of the `Step` or `Runs` of each axis; None where one of them sees nothing of the input."""
    axes = (Step(1, 1, 1, 0, 1, 1),) * (3 - len(axes)) + axes
    z, v, h = (_bounds(run) for run in axes)
    if any((b[:, 0] >= b[:, 1]).any() for b in (z, v, h)):
        return None
    last, way, inner, origin = axes[-1], (0, 0), (0, 0), 0
    if isinstance(last, Step) and last.dilation == 1 and (last.kernel, last.stride) in _WAYS:
        low = -(-last.padding // last.stride)
        high = min(last.windows, (last.size + last.padding - last.kernel) // last.stride + 1)
        if low < high:
            way, inner, origin = (last.kernel, last.stride), (low, high), -last.padding
    sizes, steps = (tuple(t) for t in zip(*((run.size, getattr(run, "dilation", 1)) for run in axes), strict=True))
    return Windows(sizes, (z, v, h), steps, way, inner, origin)


def parts(planes: int, windows: Windows) -> list[slice]:
    """Runs of planes, each worth a thread."""
    depth, height, width = windows.sizes
    return runs(planes, max(1, _PART // (depth * height * width)))


def fits(x: Any, n: int) -> bool:
    """Whether x is float32 and not empty, the places in its planes of n axes are int32."""
    return bool(x.dtype == np.float32 and x.ndim >= n and x.size > 0 and math.prod(x.shape[-n:]) < 2**31)


def adaptive_windows(where: str, n: int, x: Any, output_size: Any) -> Windows | None:
    """The windows of adaptive pooling; None for x that does not fit, and where there is one window, of the plane."""
    windows = windows_of(tuple(adaptive_runs(where, x.shape[-n:], output_size))) if fits(x, n) else None
    return windows if windows is not None and math.prod(windows.outputs) > 1 else None
