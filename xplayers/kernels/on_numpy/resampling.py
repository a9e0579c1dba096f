"""Interpolation by whole factors with NumPy alone: every f-th output of a row is the same sum of shifted inputs.

Along an axis the outputs f i + r, for each r, are a phase: one weighed sum of flat runs of x, whatever i is. Only those
whose sources lie beyond the edges are made one by one, from the map's own rows. The gradient adds the phases of dy up
at the same shifts. A block of planes stays in the cache, and threads share the blocks. Declined: half precision, mode
"area", factors that are not whole, and maps that differ from output to output, as with align_corners.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from xplayers.functional.pair import wants
from xplayers.functional.pooling import Step
from xplayers.functional.resampling import Map, interpolated_sizes, maps_of
from xplayers.functional.resampling import interpolate_forward as reference

from ..registry import kernel
from ..threads import in_parts, runs
from .windows import Line, gather, line_of, put_back

__all__: list[str] = []

_BLOCK = 1 << 20  # outputs in a block
_MOST = 16  # outputs of an axis that are made one by one

_Row = tuple[tuple[int, float], ...]  # (source, weight) of an output


class _Factor(NamedTuple):
    """The map of an axis: `taps` of each phase, (shift, weight); `edges`: (phase, place in it, sources and weights)."""

    line: Line
    taps: tuple[_Row, ...]
    edges: tuple[tuple[int, int, _Row], ...]


def _rows_of(map: Map) -> list[_Row]:
    weights = map.weights or ((1.0,) * len(map.sources[0]),)
    return [
        tuple(zip(sources, row, strict=True))
        for sources, row in zip(zip(*map.sources, strict=True), zip(*weights, strict=True), strict=True)
    ]


@functools.lru_cache(256)
def _factor_of(map: Map, size: int) -> _Factor | None:
    """The phases of a map of `size` inputs; None where it has none."""
    rows = _rows_of(map)
    f, rest = divmod(len(rows), size)
    if rest or not f:
        return None
    middle = size // 2
    taps = tuple(tuple((source - middle, weight) for source, weight in rows[f * middle + r]) for r in range(f))
    edges = []
    for o, row in enumerate(rows):
        i, r = divmod(o, f)
        regular = all(
            source == i + shift and math.isclose(weight, usual, abs_tol=1e-12)
            for (source, weight), (shift, usual) in zip(row, taps[r], strict=True)
        )
        if not regular:
            edges.append((r, i, row))
    if len(edges) > _MOST:
        return None
    return _Factor(line_of(Step(len(rows), f, f, 0, 1, size)), taps, tuple(edges))


def _extend(t: np.ndarray, factor: _Factor, out: np.ndarray) -> None:
    """t (a, size, b) to out (a, f * size, b)."""
    (a, n, b), flat = t.shape, t.reshape(-1)
    scaled = {weight: flat if weight == 1 else flat * weight for taps in factor.taps for _, weight in taps}
    phases = []
    for taps in factor.taps:
        if len(taps) == 1 and taps[0][0] == 0:
            phases.append(scaled[taps[0][1]])
            continue
        low, high = max(0, -taps[0][0] * b), flat.size - max(0, taps[-1][0] * b)  # shifts rise
        phase = np.zeros(flat.size, t.dtype)
        parts = [scaled[weight][low + shift * b : high + shift * b] for shift, weight in taps if low < high]
        if len(parts) > 1:
            np.add(parts[0], parts[1], out=phase[low:high])
        for part in parts[2:] if len(parts) > 1 else parts:
            phase[low:high] += part
        phases.append(phase)
    for r, i, row in factor.edges:
        if phases[r] is flat:
            phases[r] = flat.copy()
        phases[r].reshape(a, n, b)[:, i] = sum(t[:, source] * weight for source, weight in row)
    put_back(phases, factor.line, out)


def _gather_back(d: np.ndarray, factor: _Factor, out: np.ndarray) -> None:
    """The gradient of `_extend`: d (a, f * size, b) to out (a, size, b)."""
    a, n, b = out.shape
    if len(factor.taps) > 1 and not factor.edges and all(taps == ((0, 1.0),) for taps in factor.taps):  # repeated
        first, second, *others = d.reshape(a, n, -1, b).transpose(2, 0, 1, 3)
        np.add(first, second, out=out)
        for phase in others:
            out += phase
        return
    phases = gather(d, factor.line, 0.0)
    if factor.line.plain and factor.edges:  # d itself
        phases = phases.copy()
    beyond = []
    for r, i, row in factor.edges:
        column = phases[r].reshape(a, n, b)[:, i]
        beyond.append((column.copy(), row))
        column[...] = 0
    flat = out.reshape(-1)
    terms = [
        (shift, weight, phase)
        for phase, taps in zip(phases, factor.taps, strict=True)
        for shift, weight in taps
        if weight
    ]
    terms.sort(key=lambda term: term[0] != 0)
    if terms[0][0] == 0:
        np.multiply(terms[0][2], terms[0][1], out=flat)
    else:
        flat[...] = 0
    for shift, weight, phase in terms[terms[0][0] == 0 :]:
        start, stop = max(0, shift * b), flat.size + min(0, shift * b)
        part = phase[start - shift * b : stop - shift * b]
        flat[start:stop] += part if weight == 1 else part * weight
    for column, row in beyond:
        for source, weight in row:
            if weight:
                out[:, source] += column * weight


def _resampled(x: Any, factors: tuple, sizes: tuple, work: Any, order: list[int]) -> np.ndarray:
    """x (N, C, ...) -> (N, C, *sizes), by `work` along each axis in that order."""
    n = len(sizes)
    planes = x.reshape(-1, *x.shape[2:])
    y = np.empty((*x.shape[:2], *sizes), x.dtype)
    targets = y.reshape(-1, *sizes)

    def block(r: slice) -> None:
        t, shape = np.ascontiguousarray(planes[r]), list(planes[r].shape)
        with np.errstate(all="ignore"):  # what stands beyond the edges may be anything
            for step, i in enumerate(order, 1):
                old = (math.prod(shape[: i + 1]), shape[i + 1], math.prod(shape[i + 2 :]))
                shape[i + 1] = sizes[i]
                out = targets[r] if step == n else np.empty(shape, x.dtype)
                work(t.reshape(old), factors[i], out.reshape(old[0], sizes[i], old[2]))
                t = out

    in_parts(block, runs(len(planes), _BLOCK // max(math.prod(sizes), math.prod(x.shape[2:]))))
    return y


def _factors(x: Any, *options: Any) -> tuple | None:
    _, _, mode, align_corners, _, antialias = options
    if type(x) is not np.ndarray or x.dtype.char not in "fd" or not 3 <= x.ndim <= 5 or not x.size or mode == "area":
        return None
    outputs, scales = interpolated_sizes("interpolate", x.shape, *options)
    if any(out % n for n, out in zip(x.shape[2:], outputs, strict=True)):
        return None
    parts = zip(x.shape[2:], outputs, scales, strict=True)
    single = x.dtype.char == "f"
    factors = tuple(
        _factor_of(maps_of(mode, n, out, scale, bool(align_corners), antialias, single)[0], n)
        for n, out, scale in parts
    )
    return None if None in factors else factors


def _supports(*given: Any) -> bool:
    return _factors(*given) is not None


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    factors, sizes = cache
    (want_x,) = wants(wanted, 1)
    return _resampled(dy, factors, sizes, _gather_back, list(range(len(sizes)))) if want_x else None


@kernel("numpy", reference, _backward, _supports, rule="float32 and float64, whole factors: phases of flat runs")
def interpolate_forward(x: Any, *options: Any) -> Any:
    """Axis by axis, the innermost first."""
    factors = _factors(x, *options)
    if factors is None:
        return NotImplemented
    outputs = tuple(factor.line.size for factor in factors)
    return _resampled(x, factors, outputs, _extend, list(range(len(outputs)))[::-1]), (factors, x.shape[2:])
