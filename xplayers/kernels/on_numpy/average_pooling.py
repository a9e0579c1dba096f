"""Average pooling with NumPy alone: sums axis by axis, each tap a flat run.

Forwards the taps of windows.py are added up, the outermost axis first, as its rows are copied quickest; backwards dy
over the windows' counts goes to every tap, the innermost axis first. A block of planes stays in the cache, and threads
share the blocks. Declined: half precision, windows of more than 8 elements along an axis.
"""

import functools
import math
from typing import Any

import numpy as np

from xplayers.functional import pooling as agnostic
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs
from .windows import Line, crop, few_taps, gather, line_of, put_back, spread

__all__: list[str] = []

_BLOCK = 1 << 19  # numbers of x in a block


def _sums(t: np.ndarray, line: Line) -> np.ndarray:
    """t (a, size, b) -> the sums of the windows, flat (a * columns * b)."""
    b, phases = t.shape[2], gather(t, line, 0.0)
    size = phases.shape[1]
    end = size - line.taps[-1][1] * b  # where the last tap ends
    taps = [phases[phase, shift * b : shift * b + end] for phase, shift in line.taps]
    if len(taps) == 1:
        return phases[0]
    sums = np.empty(size, t.dtype)
    sums[end:] = 0
    before = taps[0]
    for tap in taps[1:]:
        before = np.add(before, tap, out=sums[:end])
    return sums


def _spread_sums(d: np.ndarray, line: Line, out: np.ndarray) -> None:
    """The gradient of `_sums`: d flat to out (a, size, b)."""
    b = out.shape[2]
    phases: list[Any] = [None] * len(line.phases)
    own = [False] * len(line.phases)  # whether a phase is an array of its own, and not d
    for phase, shift in line.taps:
        held = phases[phase]
        if held is None and shift == 0:
            phases[phase] = d
            continue
        if not own[phase]:
            phases[phase], own[phase] = np.zeros_like(d) if held is None else d.copy(), True
        phases[phase][shift * b :] += d[: d.size - shift * b]
    put_back(phases, line, out)


@functools.lru_cache(256)
def _divisor(steps: tuple, include_pad: bool, dtype: Any) -> Any:
    """What each window holds: a number where it is the same for all, else an array of the outputs' shape."""
    counts = [agnostic.pooled_counts(step, include_pad) for step in steps]
    if all(min(c) == max(c) for c in counts):
        return math.prod(c[0] for c in counts)
    return functools.reduce(np.multiply.outer, [np.asarray(c, dtype) for c in counts])


def _average(x: Any, steps: tuple, divisor: Any) -> Any:
    lines = [line_of(step) for step in steps]
    n = len(lines)
    sizes, outputs = x.shape[-n:], tuple(line.windows for line in lines)
    planes = x.reshape(-1, *sizes)
    y = np.empty((len(planes), *outputs), x.dtype)
    behind = [math.prod(sizes[i + 1 :]) for i in range(n)]
    parts = runs(len(planes), _BLOCK // math.prod(sizes))

    def work(r: slice) -> None:
        t = np.ascontiguousarray(planes[r])
        for line, b in zip(lines, behind, strict=True):
            t = _sums(t.reshape(-1, line.size, b), line)
        crop(t, lines, y[r])
        np.divide(y[r], divisor, out=y[r])

    in_parts(work, parts)
    return y.reshape(*x.shape[:-n], *outputs), (lines, behind, parts, divisor, x.shape)


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    lines, behind, parts, divisor, shape = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    n = len(lines)
    dx = np.empty((math.prod(shape[:-n]), *shape[-n:]), dy.dtype)
    dplanes = dy.reshape(len(dx), *dy.shape[-n:])

    def work(r: slice) -> None:
        d = spread(dplanes[r] / divisor, lines)
        for i in reversed(range(n)):
            line = lines[i]
            out = np.empty(d.size // line.columns * line.size, d.dtype) if i else dx[r].reshape(-1)
            _spread_sums(d, line, out.reshape(-1, line.size, behind[i]))
            d = out

    in_parts(work, parts)
    return dx.reshape(shape)


def _register(n: int) -> None:
    name = f"avg_pool{n}d"

    def ways(
        x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, include_pad: bool, override: Any = None
    ) -> tuple | None:
        """The steps and the divisor; in one dimension there is nothing to override."""
        if x.ndim < n or override == 0:
            return None
        steps = agnostic.pooling_steps(name, x.shape[-n:], kernel_size, stride, padding, 1, ceil_mode)
        if not few_taps(x, steps):
            return None
        return steps, _divisor(steps, bool(include_pad), x.dtype) if override is None else override

    def supports(*given: Any) -> bool:
        return ways(*given) is not None

    @kernel(
        "numpy",
        getattr(agnostic, f"{name}_forward"),
        _backward,
        supports,
        rule="float32 and float64, up to 8 elements along an axis: taps as flat runs",
    )
    def forward(x: Any, *given: Any) -> Any:
        """Axis by axis, tap by tap."""
        found = ways(x, *given)
        return NotImplemented if found is None else _average(x, *found)


for _n in (1, 2, 3):
    _register(_n)
