"""Pooling over one, two or three trailing axes: one mathematics for every number of dimensions.

Windows are boxes, so maxima and sums are taken axis by axis: k_h + k_w steps instead of k_h * k_w. A step along one
axis sees the windows as *taps*: tap i is the strided slice that holds element i of every window. Where an argmax is
asked for, or windows do not lie in equal steps, `_argmax` gathers the taps by index instead.
"""

import functools
import inspect
import itertools
import math
import operator
from typing import NamedTuple

from xplayers.arrays import (
    accumulator,
    add_at,
    array_namespace,
    blocks,
    device,
    index_add,
    like,
    sum_trailing,
    total,
    uniform,
)
from xplayers.errors import refusal

from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool1d_backward",
    "adaptive_avg_pool1d_forward",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "adaptive_avg_pool2d_forward",
    "adaptive_avg_pool3d",
    "adaptive_avg_pool3d_backward",
    "adaptive_avg_pool3d_forward",
    "adaptive_max_pool1d",
    "adaptive_max_pool1d_backward",
    "adaptive_max_pool1d_forward",
    "adaptive_max_pool2d",
    "adaptive_max_pool2d_backward",
    "adaptive_max_pool2d_forward",
    "adaptive_max_pool3d",
    "adaptive_max_pool3d_backward",
    "adaptive_max_pool3d_forward",
    "avg_pool1d",
    "avg_pool1d_backward",
    "avg_pool1d_forward",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "avg_pool3d",
    "avg_pool3d_backward",
    "avg_pool3d_forward",
    "fractional_max_pool2d",
    "fractional_max_pool2d_backward",
    "fractional_max_pool2d_forward",
    "fractional_max_pool3d",
    "fractional_max_pool3d_backward",
    "fractional_max_pool3d_forward",
    "lp_pool1d",
    "lp_pool1d_backward",
    "lp_pool1d_forward",
    "lp_pool2d",
    "lp_pool2d_backward",
    "lp_pool2d_forward",
    "lp_pool3d",
    "lp_pool3d_backward",
    "lp_pool3d_forward",
    "max_pool1d",
    "max_pool1d_backward",
    "max_pool1d_forward",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "max_pool3d",
    "max_pool3d_backward",
    "max_pool3d_forward",
    "max_unpool1d",
    "max_unpool1d_backward",
    "max_unpool1d_forward",
    "max_unpool2d",
    "max_unpool2d_backward",
    "max_unpool2d_forward",
    "max_unpool3d",
    "max_unpool3d_backward",
    "max_unpool3d_forward",
]


class Step(NamedTuple):
    """The `windows` along an axis of `size`: window o starts at o * stride - padding."""

    size: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    windows: int

    def start(self, o):
        return o * self.stride - self.padding

    def sources(self):
        """For each window the elements that it sees, padding left out."""
        windows = ([self.start(o) + i * self.dilation for i in range(self.kernel)] for o in range(self.windows))
        return [[r for r in window if 0 <= r < self.size] for window in windows]


class Runs(NamedTuple):
    """Windows along one axis of `size` that are not in equal steps, or longer than many: (start, stop) of each."""

    size: int
    bounds: tuple

    def sources(self):
        return [list(range(*b)) for b in self.bounds]


def _is_whole(run):
    """Whether the only window along an axis sees all of it."""
    if isinstance(run, Runs):
        return run.bounds == ((0, run.size),)
    return run.windows == 1 and run.kernel == run.size and run.padding == 0 and run.dilation == 1


def n_tuple(where, name, value, n, least):
    """`value` for each of n axes: an int for all of them, or n ints of at least `least`."""
    try:
        values = (
            (operator.index(value),) * n if not isinstance(value, tuple | list) else tuple(map(operator.index, value))
        )
        values = values * n if len(values) == 1 else values
    except TypeError:
        values = ()
    if len(values) != n or min(values) < least:
        many = f" or {n} of them" if n > 1 else ""
        raise refusal(where, name, repr(value), f"an integer of at least {least}{many}", f"pass {name}={max(least, 2)}")
    return values


def pooling_steps(where, sizes, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    """The `Step` of each axis; refuses, in the name of `where`, what has no windows.

    With `ceil_mode` a last window may hang over the end, but not one that starts behind the input and its left padding.
    """
    n = len(sizes)
    kernel = n_tuple(where, "kernel_size", kernel_size, n, 1)
    stride = n_tuple(where, "stride", stride, n, 1) if stride is not None and stride != () else kernel
    padding = n_tuple(where, "padding", padding, n, 0)
    dilation = n_tuple(where, "dilation", dilation, n, 1)
    steps = []
    for size, k, s, p, d in zip(sizes, kernel, stride, padding, dilation, strict=True):
        reach = d * (k - 1) + 1
        half = (k if n == 1 else reach) // 2  # torch's rule for one axis leaves the dilation out
        if p > half:
            mend = f"pad the input first, or pass padding={half}"
            raise refusal(where, "padding", str(p), f"at most {half}, half of the kernel", mend)
        count = (size + 2 * p - reach + (s - 1 if ceil_mode else 0)) // s + 1
        count -= ceil_mode and (count - 1) * s >= size + p
        if count < 1:
            got = f"shape (..., {', '.join(map(str, sizes))})"
            expected = f"at least {reach - 2 * p} elements on each pooled axis with kernel_size {kernel}"
            raise refusal(where, "x", got, expected, "pass a larger input or a smaller kernel_size")
        steps.append(Step(size, k, s, p, d, count))
    return tuple(steps)


def _along(axis, where):
    """The index that takes `where` along an axis counted from the end."""
    return (..., where, *(slice(None),) * (-axis - 1))


def _taps(t, axis, step, fill):
    """The kernel's taps along one axis, each (..., windows, ...): views of t, padded with `fill` if need be."""
    xp = array_namespace(t)
    right = max(0, step.start(step.windows - 1) + step.dilation * (step.kernel - 1) + 1 - step.size)
    if step.padding or right:
        edge = [list(t.shape) for _ in range(2)]
        edge[0][axis], edge[1][axis] = step.padding, right
        left, right = (xp.full(tuple(shape), fill, **like(t)) for shape in edge)
        t = xp.concat([left, t, right], axis=axis)
    return [t[_along(axis, tap)] for tap in _tap_slices(step)]


def _tap_slices(step):
    span = step.stride * (step.windows - 1) + 1
    return [slice(i, i + span, step.stride) for i in range(0, step.kernel * step.dilation, step.dilation)]


def _add_taps(pieces, axis, step):
    """The adjoint of `_taps`: what each tap is given, in their order, added up in an array of the input's size."""
    slices = _tap_slices(step)
    t = None
    for tap, piece in zip(slices, pieces, strict=True):
        if t is None:
            shape = list(piece.shape)
            shape[axis] = max(step.size + step.padding, slices[-1].stop)
            t = array_namespace(piece).zeros(tuple(shape), **like(piece))
        t = add_at(t, _along(axis, tap), piece)
    return t[_along(axis, slice(step.padding, step.padding + step.size))]


# -- maxima ----------------------------------------------------------------------------------------------------------


def _max_along(t, axis, step):
    xp = array_namespace(t)
    if step.windows == 1 and step.dilation == 1:
        return xp.max(t[_along(axis, slice(0, max(0, step.start(0) + step.kernel)))], axis=axis, keepdims=True)
    return functools.reduce(xp.maximum, _taps(t, axis, step, -math.inf))


def _give_to_winners(dy, t, axis, step):
    """The gradient of `_max_along`: dy (..., windows, ...) goes to the tap that torch's scan of the window ends on.

    The scan takes a tap where it is larger than all before it, is NaN, or is the first that is no padding.
    """
    xp = array_namespace(dy, t)
    if step.windows == 1 and step.dilation == 1:
        return _give_to_argmax(dy, t, axis, step)
    taps = _taps(t, axis, step, -math.inf)
    best, takes = taps[0], []
    first = _first_inside(step, 0)
    for i, tap in enumerate(taps[1:], 1):
        take = (tap > best) | (tap != tap)
        before, first = first, _first_inside(step, i)
        if first < before:  # windows that start in the padding
            o = xp.reshape(xp.arange(step.windows, device=device(t)), (step.windows, *(1,) * (-axis - 1)))
            take = take | ((o >= first) & (o < before))
        takes.append(take)
        best = xp.maximum(best, tap) if i + 1 < step.kernel else None
    pieces, given = [], None
    for take in reversed(takes):  # the last to take has won
        won = take if given is None else take & ~given
        pieces.append(dy * xp.astype(won, dy.dtype))
        given = take if given is None else given | take
    pieces.append(dy if given is None else dy * xp.astype(~given, dy.dtype))
    return _add_taps(reversed(pieces), axis, step)


def _give_to_argmax(dy, t, axis, step):
    """The same for the only window: dy (..., 1, ...) goes to the first maximum, or to the last NaN."""
    xp = array_namespace(dy, t)
    seen = t[_along(axis, slice(0, max(0, step.start(0) + step.kernel)))]
    places = xp.reshape(xp.arange(step.size, device=device(t)), (step.size, *(1,) * (-axis - 1)))
    behind_nan = xp.astype(seen != seen, places.dtype) * (places[: seen.shape[axis], ...] + 1)
    behind_nan = xp.max(behind_nan, axis=axis, keepdims=True)
    winner = xp.where(behind_nan > 0, behind_nan - 1, xp.argmax(seen, axis=axis, keepdims=True))
    return dy * xp.astype(places == winner, dy.dtype)


def _first_inside(step, i):
    """The first window whose tap i lies behind the left padding."""
    return max(0, -((i * step.dilation - step.padding) // step.stride))


def _argmax(x, sources):
    """Maxima and their positions by index, as torch's scan of each window finds them: the first maximum, the last NaN.

    `sources`: for each pooled axis a list of taps, each an integer array (outputs,) or (P, outputs), where P counts the
    planes in front of the pooled axes. A tap may repeat an element of its window. -> y and indices, both
    (*, *outputs), indices counted in the plane.
    """
    xp = array_namespace(x)
    n = len(sources)
    planes, flat = _planes(x.shape, n, x), xp.reshape(x, (-1,))
    y = indices = None
    for taps in itertools.product(*sources):
        at = 0
        for axis, tap in enumerate(taps, -n):
            place = (*tap.shape[:-1], *(1,) * (n + axis), tap.shape[-1], *(1,) * (-axis - 1))
            at = at * x.shape[axis] + xp.reshape(tap, place)
        at = xp.broadcast_to(at, (planes.shape[0], *at.shape[-n:]))  # (P, *outputs)
        value = xp.reshape(xp.take(flat, xp.reshape(planes + at, (-1,))), at.shape)
        if y is None:
            y, indices = value, at
        else:
            take = (value > y) | (value != value)
            y, indices = xp.where(take, value, y), xp.where(take, at, indices)
    shape = (*x.shape[:-n], *y.shape[1:])
    return xp.reshape(y, shape), xp.reshape(indices, shape)


def _planes(shape, n, x):
    """The flat position at which each plane of the last n axes of `shape` begins: integers (P, 1, ..., 1)."""
    xp = array_namespace(x)
    p = math.prod(shape[:-n])
    return xp.reshape(xp.arange(p, device=device(x)) * math.prod(shape[-n:]), (p, *(1,) * n))


def _shared_taps(x, runs):
    """The taps for `_argmax` where all planes have the same windows; a shorter window repeats its last element."""
    xp = array_namespace(x)
    for windows in (run.sources() for run in runs):
        taps = ([w[min(i, len(w) - 1)] for w in windows] for i in range(max(map(len, windows))))
        yield [xp.asarray(tap, device=device(x)) for tap in taps]


def _put(values, indices, shape, n):
    """values (*, *outputs) added where indices say, in planes of n axes: an array of `shape` (*, *sizes)."""
    xp = array_namespace(values)
    at = _planes(shape, n, values) + xp.reshape(indices, (-1, *indices.shape[-n:]))
    flat = xp.zeros((math.prod(shape),), **like(values))
    return xp.reshape(index_add(flat, xp.reshape(at, (-1,)), xp.reshape(values, (-1,))), shape)


def _max_pool_forward(n, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """y[o] = max over k of x[o * stride + k * dilation - padding], padding being -inf; stride None: the kernel's.

    x (*, *sizes) floating -> y (*, *outputs), with `return_indices` (y, indices): where in its plane of `sizes` each
    maximum stands. The first maximum of a window takes its whole gradient; NaN goes through.
    Errors: ValueError for padding of more than half a kernel and for an input smaller than a window.
    Twin: torch.nn.functional.max_pool{n}d. Source: Ranzato, Huang, Boureau, LeCun, Unsupervised learning of invariant
    feature hierarchies (2007).
    """
    steps = pooling_steps(f"max_pool{n}d", x.shape[-n:], kernel_size, stride, padding, dilation, ceil_mode)
    if return_indices:
        y, indices = _argmax(x, list(_shared_taps(x, steps)))
        return (y, indices), (x, n, None, indices)
    return _max_by_steps(x, steps)


def _max_by_steps(x, steps):
    n, lead = len(steps), x.shape[: -len(steps)]
    outputs = (step.windows for step in steps)
    if n > 1 and all(_is_whole(step) for step in steps):  # a plane is one run of its elements
        area = math.prod(step.size for step in steps)
        steps = (Step(area, area, area, 0, 1, 1),)
    xp = array_namespace(x)
    y = xp.reshape(x, (*lead, *(step.size for step in steps)))
    for axis, step in enumerate(steps, -len(steps)):  # outermost first: whole rows, contiguous in memory
        y = _max_along(y, axis, step)
    return xp.reshape(y, (*lead, *outputs)), (x, n, steps, None)


def _max_pool_backward(dy, cache, *, wanted=None):
    """dy of y's shape, or (dy, None) beside indices -> dx of x's shape: the gradient of `{forward}`."""
    x, n, steps, indices = cache
    (want_x,) = wants(wanted, 1)
    dy = dy[0] if isinstance(dy, tuple) else dy
    if not want_x:
        return None
    if dy is None:
        return array_namespace(x).zeros_like(x)
    if steps is None:
        return _put(dy, indices, x.shape, n)
    xp = array_namespace(x)
    p = math.prod(x.shape[:-n])
    planes = xp.reshape(x, (p, *(step.size for step in steps)))
    d = xp.reshape(dy, (p, *(step.windows for step in steps)))
    each = math.prod(x.shape[-n:]) // max(step.kernel for step in steps)  # about what one tap sees
    parts = [_give_back(d[b, ...], planes[b, ...], steps) for b in blocks(x, p, each)]
    return xp.reshape(xp.concat(parts) if len(parts) != 1 else parts[0], x.shape) if parts else xp.zeros_like(x)


def _give_back(dy, x, steps):
    """The gradient of max pooling by steps, of a few planes at once."""
    n = len(steps)
    stages = [x]  # innermost axis first: so the first maximum in the order of memory wins
    for axis in range(-1, -n, -1):
        stages.append(_max_along(stages[-1], axis, steps[axis]))
    for axis, t in enumerate(reversed(stages), -n):
        dy = _give_to_winners(dy, t, axis, steps[axis])
    return dy


def _adaptive_max_pool_forward(n, x, output_size, return_indices=False):
    """y[o] = max of x[floor(o * size / output) : ceil((o + 1) * size / output)], on each axis; None keeps the size.

    x (*, *sizes) floating -> y (*, *output_size), with `return_indices` (y, indices): where in its plane each maximum
    stands. Errors: ValueError for an output size below 1. Twin: torch.nn.functional.adaptive_max_pool{n}d.
    Source: He et al., Spatial pyramid pooling in deep convolutional networks (2014).
    """
    runs = tuple(adaptive_runs(f"adaptive_max_pool{n}d", x.shape[-n:], output_size))
    if not return_indices and all(isinstance(run, Step) for run in runs):
        return _max_by_steps(x, runs)
    y, indices = _argmax(x, list(_shared_taps(x, runs)))
    return (y, indices) if return_indices else y, (x, n, None, indices)


def _fractional_max_pool_forward(
    n, x, kernel_size, output_size=None, output_ratio=None, return_indices=False, *, _random_samples=None, rng=None
):
    """y[o] = max of x[start_o : start_o + kernel], start_o = trunc((o + u) a) - trunc(u a), a = (size - kernel) /
    (output - 1), with one u in [0, 1) for each plane and axis; the last window ends with the input.

    x (N, C, *sizes) or (C, *sizes) floating -> y (..., *outputs), with `return_indices` (y, indices): where in its
    plane each maximum stands. Outputs are `output_size` or trunc(output_ratio * sizes). u is `_random_samples`
    (N, C, {n}), of which more than N are left unused, drawn from `rng` where it is None.
    Errors: ValueError where neither or both of output_size and output_ratio are given, and for windows that do not fit.
    Twin: torch.nn.functional.fractional_max_pool{n}d. Source: Graham, Fractional max-pooling (2014).
    """
    xp = array_namespace(x)
    sizes = x.shape[-n:]
    kernel, outputs = fractional_sizes(f"fractional_max_pool{n}d", sizes, kernel_size, output_size, output_ratio)
    p = math.prod(x.shape[:-n])
    u = _random_samples
    if u is None:
        u = uniform(rng, (*(1,) * (n + 2 - x.ndim), *x.shape[:-n], n), x)
    u = xp.reshape(u, (-1, n))[:p, :]
    sources = []
    for a, (size, k, out) in enumerate(zip(sizes, kernel, outputs, strict=True)):
        # torch keeps the samples of a plane in the order (w, h), of a volume in the order (t, h, w)
        column = u[:, n - 1 - a, None] if n == 2 else u[:, a, None]  # (P, 1)
        step = (size - k) / max(1, out - 1)
        o = xp.arange(out - 1, device=device(x))
        start = xp.trunc((xp.astype(o, x.dtype) + column) * step) - xp.trunc(column * step)  # (P, out - 1)
        last = xp.full((p, 1), size - k, dtype=o.dtype, device=device(x))
        start = xp.concat([xp.astype(start, o.dtype), last], axis=1)
        sources.append([start + i for i in range(k)])
    y, indices = _argmax(x, sources)
    return (y, indices) if return_indices else y, (x, n, None, indices)


def fractional_sizes(where, sizes, kernel_size, output_size, output_ratio):
    """Kernel and outputs of fractional pooling; refuses, in the name of `where`, what does not fit into `sizes`."""
    n = len(sizes)
    kernel = n_tuple(where, "kernel_size", kernel_size, n, 1)
    if (output_size is None) == (output_ratio is None):
        got = "None, as output_ratio" if output_size is None else f"{output_size}, beside output_ratio={output_ratio}"
        raise refusal(where, "output_size", got, "one of the two", "pass output_size= or output_ratio=, not both")
    if output_size is None:
        ratios = tuple(output_ratio) if isinstance(output_ratio, tuple | list) else (output_ratio,) * n
        if len(ratios) != n or not all(0 < r < 1 for r in ratios):
            raise refusal(where, "output_ratio", repr(output_ratio), "ratios between 0 and 1", "pass output_ratio=0.5")
        output_size = tuple(int(size * r) for size, r in zip(sizes, ratios, strict=True))
    outputs = n_tuple(where, "output_size", output_size, n, 1)
    for size, k, out in zip(sizes, kernel, outputs, strict=True):
        least = out + k - 1 + (n == 3)  # torch's rule for volumes asks for one more
        if least > size:
            got = f"shape (..., {', '.join(map(str, sizes))})"
            expected = f"at least {least} elements on each axis, for output_size {out} and kernel_size {k}"
            raise refusal(where, "x", got, expected, "pass a larger input, or a smaller output_size or kernel_size")
    return kernel, outputs


# -- back to where the maxima were -----------------------------------------------------------------------------------


def _max_unpool_forward(n, x, indices, kernel_size, stride=None, padding=0, output_size=None):
    """y = 0 but for y[indices] = x, in each plane; where an index is named twice the last one stays.

    x and indices (integers, as max pooling gives them) (*, *sizes) -> y (*, *outputs): outputs are
    (size - 1) * stride - 2 * padding + kernel, or `output_size` where pooling has lost a remainder.
    Errors: ValueError for shapes that differ and an output_size out of reach.
    Twin: torch.nn.functional.max_unpool{n}d. Source: Zeiler, Fergus, Visualizing and understanding convolutional
    networks (2013).
    """
    xp = array_namespace(x, indices)
    outputs = unpooled_sizes(f"max_unpool{n}d", x, indices, n, kernel_size, stride, padding, output_size)
    shape = (*x.shape[:-n], *outputs)
    at = xp.reshape(_planes(shape, n, x) + xp.reshape(indices, (-1, *indices.shape[-n:])), (-1,))
    # An index that is named twice must not add up: all but the last of each run of equal ones are set to 0.
    order = xp.argsort(at, stable=True)
    at, values = xp.take(at, order), xp.take(xp.reshape(x, (-1,)), order)
    one = min(1, at.shape[0])  # nothing to compare where the batch is empty
    last = xp.zeros((one,), dtype=xp.bool, device=device(x))
    goes_on = xp.concat([at[one:] == at[: at.shape[0] - one], last])
    values = xp.where(goes_on, 0.0, values)
    flat = index_add(xp.zeros((math.prod(shape),), **like(x)), at, values)
    return xp.reshape(flat, shape), (indices, n, shape)


def _max_unpool_backward(dy, cache, *, wanted=None):
    """dy (*, *outputs) -> dx (*, *sizes), None for the indices: the gradients of `{forward}`."""
    indices, n, shape = cache
    want_x, _ = wants(wanted, 2)
    if not want_x:
        return None, None
    xp = array_namespace(dy)
    at = _planes(shape, n, dy) + xp.reshape(indices, (-1, *indices.shape[-n:]))
    return xp.reshape(xp.take(xp.reshape(dy, (-1,)), xp.reshape(at, (-1,))), indices.shape), None


def unpooled_sizes(where, x, indices, n, kernel_size, stride, padding, output_size):
    """The sizes that `max_unpool` makes; refuses, in the name of `where`, those that no pooling can have come from."""
    kernel = n_tuple(where, "kernel_size", kernel_size, n, 1)
    stride = kernel if stride is None else n_tuple(where, "stride", stride, n, 1)
    padding = n_tuple(where, "padding", padding, n, 0)
    if indices.shape != x.shape:
        mend = "pass the indices that came with x from max pooling with return_indices=True"
        raise refusal(where, "indices", f"shape {indices.shape}", f"shape {x.shape}, that of x", mend)
    parts = zip(x.shape[-n:], kernel, stride, padding, strict=True)
    sizes = tuple((size - 1) * s - 2 * p + k for size, k, s, p in parts)
    if output_size is None:
        return sizes
    wished = (
        tuple(output_size)[-n:] if isinstance(output_size, tuple | list) and len(output_size) == n + 2 else output_size
    )
    wished = n_tuple(where, "output_size", wished, n, 0)
    if any(abs(w - size) >= s for w, size, s in zip(wished, sizes, stride, strict=True)):
        expected = f"sizes less than a stride away from {sizes}"
        raise refusal(where, "output_size", repr(output_size), expected, f"pass output_size={sizes}, or leave it out")
    return wished


# -- sums ------------------------------------------------------------------------------------------------------------


def _sum_along(t, axis, run):
    xp = array_namespace(t)
    if isinstance(run, Step):
        return functools.reduce(operator.add, _taps(t, axis, run, 0.0))
    sums = [total(t[_along(axis, slice(*b))], axis=axis, keepdims=True) for b in run.bounds]
    return sums[0] if len(sums) == 1 else xp.concat(sums, axis=axis)


def _spread_along(d, axis, run):
    """The adjoint of `_sum_along`."""
    xp = array_namespace(d)
    if isinstance(run, Step):
        return _add_taps([d] * run.kernel, axis, run)
    t = xp.zeros((*d.shape[:axis], run.size, *d.shape[axis:][1:]), **like(d))
    for o, b in enumerate(run.bounds):
        t = add_at(t, _along(axis, slice(*b)), d[_along(axis, slice(o, o + 1))])
    return t


def _average(x, runs, divisor):
    """The sums of x over the windows, by `divisor`: a number, or for each axis a list of the windows' counts."""
    xp = array_namespace(x)
    runs = tuple(map(_quickest, runs))
    if isinstance(divisor, list) and all(min(counts) == max(counts) for counts in divisor):
        divisor = math.prod(counts[0] for counts in divisor)
    elif isinstance(divisor, list):
        counts = [xp.asarray(c, dtype=accumulator(x), device=device(x)) for c in divisor]  # (outputs,) each
        counts = (xp.reshape(c, (-1, *(1,) * (len(runs) - 1 - i))) for i, c in enumerate(counts))
        divisor = functools.reduce(operator.mul, counts)  # (*outputs)
    t = xp.astype(x, accumulator(x), copy=False)
    if all(map(_is_whole, runs)):
        t = xp.reshape(t, (*x.shape[: -len(runs)], math.prod(run.size for run in runs)))
        t = xp.reshape(sum_trailing(t), (*x.shape[: -len(runs)], *(1,) * len(runs)))
    else:
        for axis, run in enumerate(runs, -len(runs)):
            t = _sum_along(t, axis, run)
    return xp.astype(t / divisor, x.dtype, copy=False), (runs, divisor)


def _avg_pool_backward(dy, cache, *, wanted=None):
    """dy (*, *outputs) -> dx (*, *sizes): the gradient of `{forward}`."""
    runs, divisor = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    xp = array_namespace(dy)
    d = xp.astype(dy, accumulator(dy), copy=False) / divisor
    if all(map(_is_whole, runs)):
        sizes = [run.size for run in runs]
        d = xp.reshape(xp.repeat(xp.reshape(d, (-1,)), math.prod(sizes)), (*dy.shape[: -len(runs)], *sizes))
        return xp.astype(d, dy.dtype, copy=False)
    for axis in range(-1, -len(runs) - 1, -1):
        d = _spread_along(d, axis, runs[axis])
    return xp.astype(d, dy.dtype, copy=False)


def _avg_pool_forward(
    n, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    """y[o] = sum over k of x[o * stride + k - padding] / count, padding being 0; stride None: the kernel's.

    x (*, *sizes) floating -> y (*, *outputs). The count is `divisor_override` or what the window holds of the input
    and, with `count_include_pad`, of its padding; what hangs over behind that with `ceil_mode` never counts.
    Errors: ValueError for padding of more than half a kernel and for an input smaller than a window.
    Twin: torch.nn.functional.avg_pool{n}d. Source: LeCun et al., Backpropagation applied to handwritten zip code
    recognition (1989).
    """
    where = f"avg_pool{n}d"
    steps = pooling_steps(where, x.shape[-n:], kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override is not None and divisor_override == 0:
        raise refusal(where, "divisor_override", "0", "a number other than 0, or None", "leave divisor_override out")
    counts = divisor_override
    if counts is None:
        counts = [pooled_counts(step, count_include_pad) for step in steps]
    return _average(x, steps, counts)


def pooled_counts(step, include_pad):
    pad = step.padding if include_pad else 0
    starts = [step.start(o) for o in range(step.windows)]
    return [min(start + step.kernel, step.size + pad) - max(start, -pad) for start in starts]


def _quickest(step):
    """Few long windows are summed one by one, many short ones tap by tap."""
    if isinstance(step, Runs) or step.windows >= step.kernel:
        return step
    starts = [step.start(o) for o in range(step.windows)]
    return Runs(step.size, tuple((max(0, start), min(step.size, start + step.kernel)) for start in starts))


def adaptive_sizes(where, sizes, output_size):
    """The outputs of adaptive pooling, None being the input's size; refuses, in the name of `where`, those below 1."""
    n = len(sizes)
    if output_size is None:
        return sizes
    if isinstance(output_size, tuple | list) and len(output_size) == n:
        output_size = tuple(size if out is None else out for size, out in zip(sizes, output_size, strict=True))
    return n_tuple(where, "output_size", output_size, n, 1)


def adaptive_runs(where, sizes, output_size):
    """The windows of adaptive pooling on each axis, in equal steps where they are."""
    for size, out in zip(sizes, adaptive_sizes(where, sizes, output_size), strict=True):
        if size % out == 0:
            yield Step(size, size // out, size // out, 0, 1, out)
        else:
            yield Runs(size, tuple((o * size // out, -(-(o + 1) * size // out)) for o in range(out)))


def _adaptive_avg_pool_forward(n, x, output_size):
    """y[o] = mean of x[floor(o * size / output) : ceil((o + 1) * size / output)], on each axis; None keeps the size.

    x (*, *sizes) floating -> y (*, *output_size). Errors: ValueError for an output size below 1.
    Twin: torch.nn.functional.adaptive_avg_pool{n}d.
    Source: He et al., Spatial pyramid pooling in deep convolutional networks (2014).
    """
    runs = tuple(adaptive_runs(f"adaptive_avg_pool{n}d", x.shape[-n:], output_size))
    return _average(x, runs, [[len(window) for window in run.sources()] for run in runs])


# -- norms -----------------------------------------------------------------------------------------------------------


def _lp_pool_forward(n, x, norm_type, kernel_size, stride=None, ceil_mode=False):
    """y[o] = (sum over k of x[o * stride + k]^p)^(1 / p), p = norm_type; for inf and -inf max |x| and min |x|.

    x (*, *sizes) floating -> y (*, *outputs). As torch, a window that hangs over the end with `ceil_mode` has its mean
    power times the whole kernel. Where the sum is 0 the gradient is 0; a root that is not real is NaN.
    Errors: as avg_pool. Twin: torch.nn.functional.lp_pool{n}d. Source: Gulcehre et al., Learned-norm pooling (2014).
    """
    xp = array_namespace(x)
    if math.isinf(norm_type):
        sign = math.copysign(1.0, norm_type)
        y, inner = _max_pool_forward(n, sign * xp.abs(x), kernel_size, stride, 0, 1, ceil_mode)
        return sign * y, (x, None, norm_type, 1, inner)
    volume = math.prod(n_tuple(f"lp_pool{n}d", "kernel_size", kernel_size, n, 1))
    mean_power, inner = _avg_pool_forward(n, _power(x, norm_type), kernel_size, stride, 0, ceil_mode)
    y = _power(mean_power * volume, 1.0 / norm_type)
    return y, (x, y, norm_type, volume, inner)


def _lp_pool_backward(dy, cache, *, wanted=None):
    """dy (*, *outputs) -> dx (*, *sizes): the gradient of `{forward}`."""
    x, y, p, volume, inner = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    xp = array_namespace(x)
    if y is None:
        return _max_pool_backward(dy, inner) * xp.sign(x)
    zero = y == 0
    root = _power(xp.where(zero, xp.ones_like(y), y), 1.0 - p)  # dy/dsum = y^(1 - p) / p
    dmean = xp.where(zero, xp.zeros_like(y), dy * root * (volume / p))
    return _avg_pool_backward(dmean, inner) * (p * _power(x, p - 1.0))


def _power(x, exponent):
    """x ** exponent, NaN without a warning where the answer is not real."""
    if float(exponent).is_integer():
        return x**exponent
    xp = array_namespace(x)
    return xp.where(x < 0, xp.full_like(x, math.nan), x) ** exponent


# -- the names -------------------------------------------------------------------------------------------------------


def _over(n, forward, backward, without=()):
    """The three public functions for n axes: the pair with n filled in, and the shorthand."""
    name = f"{forward.__name__.strip('_').removesuffix('_forward')}{n}d"

    @functools.wraps(forward)
    def forward_n(*args, **kwargs):
        return forward(n, *args, **kwargs)

    @functools.wraps(backward)
    def backward_n(dy, cache, *, wanted=None):
        return backward(dy, cache, wanted=wanted)

    parameters = list(inspect.signature(forward).parameters.values())[1:]
    forward_n.__signature__ = inspect.Signature([p for p in parameters if p.name not in without])
    forward_n.__name__ = forward_n.__qualname__ = f"{name}_forward"
    forward_n.__doc__ = forward.__doc__.replace("{n}", str(n))
    backward_n.__name__ = backward_n.__qualname__ = f"{name}_backward"
    backward_n.__doc__ = backward.__doc__.replace("{forward}", f"{name}_forward")
    forward_n = accelerable(forward_n)
    return forward_n, follows_cache(backward_n), answer_of(forward_n)


max_pool1d_forward, max_pool1d_backward, max_pool1d = _over(1, _max_pool_forward, _max_pool_backward)
max_pool2d_forward, max_pool2d_backward, max_pool2d = _over(2, _max_pool_forward, _max_pool_backward)
max_pool3d_forward, max_pool3d_backward, max_pool3d = _over(3, _max_pool_forward, _max_pool_backward)
adaptive_max_pool1d_forward, adaptive_max_pool1d_backward, adaptive_max_pool1d = _over(
    1, _adaptive_max_pool_forward, _max_pool_backward
)
adaptive_max_pool2d_forward, adaptive_max_pool2d_backward, adaptive_max_pool2d = _over(
    2, _adaptive_max_pool_forward, _max_pool_backward
)
adaptive_max_pool3d_forward, adaptive_max_pool3d_backward, adaptive_max_pool3d = _over(
    3, _adaptive_max_pool_forward, _max_pool_backward
)
fractional_max_pool2d_forward, fractional_max_pool2d_backward, fractional_max_pool2d = _over(
    2, _fractional_max_pool_forward, _max_pool_backward
)
fractional_max_pool3d_forward, fractional_max_pool3d_backward, fractional_max_pool3d = _over(
    3, _fractional_max_pool_forward, _max_pool_backward
)
max_unpool1d_forward, max_unpool1d_backward, max_unpool1d = _over(1, _max_unpool_forward, _max_unpool_backward)
max_unpool2d_forward, max_unpool2d_backward, max_unpool2d = _over(2, _max_unpool_forward, _max_unpool_backward)
max_unpool3d_forward, max_unpool3d_backward, max_unpool3d = _over(3, _max_unpool_forward, _max_unpool_backward)
avg_pool1d_forward, avg_pool1d_backward, avg_pool1d = _over(
    1, _avg_pool_forward, _avg_pool_backward, without=("divisor_override",)
)
avg_pool2d_forward, avg_pool2d_backward, avg_pool2d = _over(2, _avg_pool_forward, _avg_pool_backward)
avg_pool3d_forward, avg_pool3d_backward, avg_pool3d = _over(3, _avg_pool_forward, _avg_pool_backward)
adaptive_avg_pool1d_forward, adaptive_avg_pool1d_backward, adaptive_avg_pool1d = _over(
    1, _adaptive_avg_pool_forward, _avg_pool_backward
)
adaptive_avg_pool2d_forward, adaptive_avg_pool2d_backward, adaptive_avg_pool2d = _over(
    2, _adaptive_avg_pool_forward, _avg_pool_backward
)
adaptive_avg_pool3d_forward, adaptive_avg_pool3d_backward, adaptive_avg_pool3d = _over(
    3, _adaptive_avg_pool_forward, _avg_pool_backward
)
lp_pool1d_forward, lp_pool1d_backward, lp_pool1d = _over(1, _lp_pool_forward, _lp_pool_backward)
lp_pool2d_forward, lp_pool2d_backward, lp_pool2d = _over(2, _lp_pool_forward, _lp_pool_backward)
lp_pool3d_forward, lp_pool3d_backward, lp_pool3d = _over(3, _lp_pool_forward, _lp_pool_backward)
