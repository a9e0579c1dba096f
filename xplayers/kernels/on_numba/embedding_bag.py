"""Bags of an embedding in float32, compiled: rows are added or compared where they stand, and never gathered.

Backwards each row's gradient is added where it belongs, in the order of the indices; threads share the columns, as in
embedding.py. Declined: other dtypes, max_norm, scale_grad_by_freq, indices out of range, offsets that do not rise
from 0, and what the agnostic code refuses.
"""

from typing import Any

import numpy as np

from xplayers.functional.embedding import embedding_bag_forward as reference
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs
from .compiling import compiled
from .embedding import columns_in_parts

__all__: list[str] = []

_PART = 1 << 16  # numbers that are worth a thread
_U = np.uintp
_0, _1 = np.float32(0), np.float32(1)


@compiled
def _count(index, starts, hole, counts):
    """How many rows each bag holds."""
    for b in range(counts.size):
        n = 0
        for i in range(starts[b], starts[b + 1]):
            n += index[i] != hole
        counts[b] = n


@compiled
def _add(weight, index, starts, hole, samples, counts, mean, y, d, first, last):
    for b in range(first, last):
        o = _U(b) * d
        for j in range(d):
            y[o + j] = _0
        for i in range(starts[b], starts[b + 1]):
            if index[i] != hole:
                p, s = _U(index[i]) * d, samples[i] if samples.size else _1
                for j in range(d):
                    y[o + j] += s * weight[p + j]
        if mean and counts[b] > 1:
            count = np.float32(counts[b])
            for j in range(d):
                y[o + j] /= count


@compiled
def _add_back(dy, index, starts, hole, samples, counts, mean, dweight, d, low, high):
    """To the columns low ... high of dweight."""
    for b in range(counts.size):
        o, share = _U(b) * d, _1
        if mean and counts[b] > 1:
            share = _1 / np.float32(counts[b])
        for i in range(starts[b], starts[b + 1]):
            if index[i] != hole:
                p, s = _U(index[i]) * d, samples[i] if samples.size else share
                for j in range(_U(low), _U(high)):
                    dweight[p + j] += s * dy[o + j]


@compiled
def _dots(dy, weight, index, starts, hole, dsamples, d, first, last):
    for b in range(first, last):
        o = _U(b) * d
        for i in range(starts[b], starts[b + 1]):
            s = _0
            if index[i] != hole:
                p = _U(index[i]) * d
                for j in range(d):
                    s += weight[p + j] * dy[o + j]
            dsamples[i] = s


@compiled
def _largest(weight, index, starts, hole, y, chosen, d, first, last):
    """The maxima, the first of equal ones, and the rows they come from: -1 for a bag of nothing."""
    for b in range(first, last):
        o, fresh = _U(b) * d, True
        for i in range(starts[b], starts[b + 1]):
            if index[i] != hole:
                p, row = _U(index[i]) * d, np.int32(index[i])
                for j in range(d):
                    value, best, at = weight[p + j], y[o + j], chosen[o + j]
                    keep = (best >= value) & (not fresh)
                    y[o + j] = best if keep else value
                    chosen[o + j] = at if keep else row
                fresh = False
        if fresh:
            for j in range(d):
                y[o + j], chosen[o + j] = _0, np.int32(-1)


@compiled
def _largest_back(dy, chosen, dweight, d, bags, low, high):
    for b in range(bags):
        o = _U(b) * d
        for j in range(_U(low), _U(high)):
            if chosen[o + j] >= 0:
                dweight[_U(chosen[o + j]) * d + j] += dy[o + j]


def _starts(x: Any, offsets: Any, include_last_offset: bool) -> np.ndarray | None:
    """Where each bag begins, and the last one ends; None where they do not rise from 0 to the number of indices."""
    if x.ndim == 2:
        return np.arange(x.shape[0] + 1) * x.shape[1]
    if x.ndim != 1 or offsets is None or offsets.ndim != 1 or offsets.dtype.kind not in "iu":
        return None
    starts = np.append(offsets[:-1] if include_last_offset else offsets, x.size).astype(np.int64)
    return starts if starts.size > 1 and starts[0] == 0 and (np.diff(starts) >= 0).all() else None


def _is_plain(x: Any, weight: Any, padding_idx: Any, mode: str, samples: Any) -> bool:
    """Whether the dtypes and shapes are those of a table of rows in float32, the indices in range."""
    if weight.ndim != 2 or weight.dtype != np.float32 or x.dtype.kind not in "iu" or not x.size or not weight.size:
        return False
    v = weight.shape[0]
    if mode not in ("sum", "mean", "max") or not (padding_idx is None or -v <= padding_idx < v) or v >= 2**31:
        return False
    if samples is not None and (samples.dtype != np.float32 or samples.shape != x.shape or mode != "sum"):
        return False
    return bool(x.min() >= 0 and x.max() < v)


def _supports(x: Any, weight: Any, offsets: Any, max_norm: Any, _: Any, by_freq: bool, *how: Any) -> bool:
    mode, _, samples, include_last_offset, padding_idx = how
    if max_norm is not None or by_freq or (x.ndim == 2 and offsets is not None):
        return False
    return _is_plain(x, weight, padding_idx, mode, samples) and _starts(x, offsets, include_last_offset) is not None


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    index, starts, hole, samples, counts, chosen, mode, shape, weight, _ = cache
    _, want_weight, _, want_samples = wants(wanted, 4)
    d = weight.shape[1]
    dweight = dsamples = None
    dy = np.ascontiguousarray(dy, np.float32).reshape(-1)
    if want_samples and samples.size:
        dsamples = np.empty(index.size, np.float32)
        given = dy, weight.reshape(-1), index, starts, hole, dsamples, _U(d)
        in_parts(lambda r: _dots(*given, r.start, r.stop), _bags(counts.size, index.size, d))
        dsamples = dsamples.reshape(shape)
    if want_weight:
        dweight = np.zeros(weight.shape, np.float32)
        flat = dweight.reshape(-1)
        if mode == "max":
            columns_in_parts(
                lambda r: _largest_back(dy, chosen, flat, _U(d), counts.size, r.start, r.stop), d, counts.size
            )
        else:
            rows = dy, index, starts, hole, samples, counts, mode == "mean", flat, _U(d)
            columns_in_parts(lambda r: _add_back(*rows, r.start, r.stop), d, index.size)
    return None, dweight, None, dsamples


def _bags(count: int, rows: int, d: int) -> list[slice]:
    return runs(count, max(1, _PART * count // (rows * d)))


@kernel("numpy", reference, _backward, _supports, means="numba", rule="float32, plain, indices in range: row by row")
def embedding_bag_forward(x: Any, weight: Any, offsets: Any, *options: Any) -> Any:
    """Each row is read once, where it stands."""
    if not _supports(x, weight, offsets, *options):
        return NotImplemented
    mode, _, per_sample_weights, include_last_offset, padding_idx = options[3:]
    starts = _starts(x, offsets, include_last_offset)
    assert starts is not None
    index = np.ascontiguousarray(x, np.int64).reshape(-1)
    weight = np.ascontiguousarray(weight)
    d, hole = weight.shape[1], -1 if padding_idx is None else padding_idx % weight.shape[0]
    bags = len(starts) - 1
    samples = np.empty(0, np.float32) if per_sample_weights is None else np.ascontiguousarray(per_sample_weights)
    samples = samples.reshape(-1)
    counts, y, chosen = np.empty(bags, np.int64), np.empty((bags, d), np.float32), None
    _count(index, starts, hole, counts)
    rows = weight.reshape(-1), index, starts, hole
    parts = _bags(bags, index.size, d)
    if mode == "max":
        chosen = np.empty(y.size, np.int32)
        in_parts(lambda r: _largest(*rows, y.reshape(-1), chosen, _U(d), r.start, r.stop), parts)
    else:
        mean = mode == "mean"
        in_parts(lambda r: _add(*rows, samples, counts, mean, y.reshape(-1), _U(d), r.start, r.stop), parts)
    # the weight stands where embedding_bag_weight looks for it
    return y, (index, starts, hole, samples, counts, chosen, mode, x.shape, weight, None)
