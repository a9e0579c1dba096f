"""Max pooling with NumPy alone: axis by axis, each tap a flat run, and which tap has won remembered as booleans.

Forwards the taps of windows.py are compared one after the other, the innermost axis first, so that the first maximum in
the order of memory wins; backwards each tap is given dy times its booleans. A block of planes stays in the cache from
the first axis to the last, and threads share the blocks. A block that has NaN or -inf for a maximum has the agnostic
backward. Declined: half precision, windows of more than 8 elements along an axis, return_indices.
"""

import math
from typing import Any

import numpy as np

from xplayers.functional import pooling as agnostic
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs
from .windows import Line, crop, few_taps, gather, line_of, put_back, spread

__all__ = ["max_backward", "max_by_taps"]

_BLOCK = 1 << 19  # numbers of x in a block


def _along(t: np.ndarray, line: Line) -> tuple[np.ndarray, np.ndarray]:
    """t (a, size, b) -> the maxima, flat (a * columns * b), and whether each tap has won, (taps, the same)."""
    b, phases = t.shape[2], gather(t, line, -math.inf)
    size = phases.shape[1]
    end = size - line.taps[-1][1] * b  # where the last tap ends
    taps = [phases[phase, shift * b : shift * b + end] for phase, shift in line.taps]
    if len(taps) == 1:
        return phases[0], np.ones((1, size), np.bool_)
    won, best = np.empty((len(taps), size), np.bool_), np.empty(size, t.dtype)
    won[:, end:], best[end:] = False, -math.inf
    before = taps[0]
    for tap, take in zip(taps[1:], won[1:, :end], strict=True):
        np.greater(tap, before, out=take)
        before = np.maximum(before, tap, out=best[:end])
    given = won[-1]
    for take in won[-2:0:-1]:  # the last to take has won
        np.greater(take, given, out=take)
        given = given | take
    np.logical_not(given, out=won[0])
    return best, won


def _give_back(d: np.ndarray, line: Line, won: np.ndarray, out: np.ndarray) -> None:
    """The gradient of `_along`: d flat to out (a, size, b)."""
    b = out.shape[2]
    phases: list[Any] = [None] * len(line.phases)
    for (phase, shift), take in zip(line.taps, won, strict=True):
        end = d.size - shift * b
        piece = d[:end] * take[:end]
        if phases[phase] is not None:
            phases[phase][shift * b :] += piece
        else:
            phases[phase] = np.concatenate([np.zeros(d.size - end, d.dtype), piece]) if shift else piece
    put_back(phases, line, out)


def _numbers_behind(lines: list[Line]) -> list[int]:
    """For each axis how many numbers one step along it is, when those behind it are windows already."""
    return [math.prod(line.columns for line in lines[i + 1 :]) for i in range(len(lines))]


def max_by_taps(x: Any, steps: tuple) -> Any:
    """Maxima of the windows along the trailing axes of x: answer and cache."""
    lines = [line_of(step) for step in steps]
    behind = _numbers_behind(lines)
    sizes, outputs = x.shape[-len(lines) :], tuple(line.windows for line in lines)
    planes = x.reshape(-1, *sizes)
    y = np.empty((len(planes), *outputs), x.dtype)
    parts = runs(len(planes), _BLOCK // math.prod(sizes))
    won: list[Any] = [None] * len(parts)

    def work(i: int) -> None:
        t, held = np.ascontiguousarray(planes[parts[i]]), []
        for line, b in zip(reversed(lines), reversed(behind), strict=True):
            t, taken = _along(t.reshape(-1, line.size, b), line)
            held.append(taken)
        best = y[parts[i]]
        crop(t, lines, best)
        if np.minimum.reduce(best, axis=None) > -math.inf:
            won[i] = held[::-1]

    in_parts(work, range(len(parts)))
    y = y.reshape(*x.shape[: -len(lines)], *outputs)
    return y, (tuple(won), parts, lines, planes if None in won else None, steps, x.shape, x.dtype)


def max_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    won, parts, lines, planes, steps, shape, dtype = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    dy = dy[0] if isinstance(dy, tuple) else dy
    if dy is None:
        return np.zeros(shape, dtype)
    n, behind = len(lines), _numbers_behind(lines)
    dx = np.empty((math.prod(shape[:-n]), *shape[-n:]), dtype)
    dplanes = dy.reshape(len(dx), *dy.shape[-n:])

    def work(part: int) -> None:
        r, held = parts[part], won[part]
        if held is None:
            dx[r] = agnostic.max_pool1d_backward.reference(dplanes[r], (planes[r], n, steps, None))
            return
        d = spread(dplanes[r], lines)
        with np.errstate(invalid="ignore"):  # an infinity times 0
            for i, (line, b, taken) in enumerate(zip(lines, behind, held, strict=True), 1):
                out = dx[r].reshape(-1) if i == n else np.empty(d.size // line.columns * line.size, dtype)
                _give_back(d, line, taken, out.reshape(-1, line.size, b))
                d = out

    in_parts(work, range(len(parts)))
    return dx.reshape(shape)


def _register(n: int) -> None:
    name = f"max_pool{n}d"

    def steps_for(x: Any, *given: Any) -> tuple | None:
        """Of the arguments of max pooling; None where the last asks for indices."""
        *how, return_indices = given
        steps = agnostic.pooling_steps(name, x.shape[-n:], *how) if x.ndim >= n and not return_indices else ()
        return steps if few_taps(x, steps) else None

    def supports(*given: Any) -> bool:
        return steps_for(*given) is not None

    @kernel(
        "numpy",
        getattr(agnostic, f"{name}_forward"),
        max_backward,
        supports,
        rule="float32 and float64, up to 8 elements along an axis, no indices: taps as flat runs",
    )
    def forward(x: Any, *given: Any) -> Any:
        """Axis by axis, tap by tap."""
        steps = steps_for(x, *given)
        return NotImplemented if steps is None else max_by_taps(x, steps)


for _n in (1, 2, 3):
    _register(_n)
