"""Convolutions of few channels a group, depthwise ones above all, in 1 and 2 dimensions: plane by plane, no columns.

A padded plane is parted by the stride into phases: phase (i, j) holds the pixels (i + stride[0] u, j + stride[1] v), as
rows of a width of its own. A tap of the kernel is then a shift of one phase by a fixed number, for all pixels at once:

    y[t] = sum of w[k] phases[at[k] + t]
    dw[k] = sum of dy[t] phases[at[k] + t]        dphases[u] = sum of w[k] dy[u - at[k]]

The numbers between the end of a row of y and the next row are no answers: they ride along, and where dy lies so they
are 0. What an infinity or NaN makes of them would spread: where a gradient is not finite throughout, the direct sums
give it instead.

The loops over planes are a means' own, `loops.forward` and `loops.backward`, and so is how many numbers of x or y a
thread takes at a time, `loops.at_once`: on_numba/planes.py. NumPy alone has another way, on_numpy/depthwise.py.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from xplayers.functional.convolution import conv2d_backward, padding_pairs
from xplayers.functional.pair import wants
from xplayers.functional.pooling import n_tuple

from .convolutions import is_finite
from .threads import in_parts, runs

__all__ = ["Plane", "conv", "conv_backward", "supports"]


class Plane(NamedTuple):
    """How a plane lies: sizes of x and y, what is padded in front, stride, sizes of a phase, and the taps.

    The taps are in the order of their phases: `order` says where in the kernel each stands, `at` where it reads in the
    row of phases, `shift` where in its own phase, `first` which is the first of each phase.
    """

    sizes: tuple[int, int]
    out: tuple[int, int]
    before: tuple[int, int]
    stride: tuple[int, int]
    phase: tuple[int, int]
    order: np.ndarray
    at: np.ndarray
    shift: np.ndarray
    first: np.ndarray


def _plane(sizes: tuple, kernel: tuple, stride: tuple, pairs: Any, dilation: tuple) -> Plane | None:
    """None where no window fits."""
    padded = [size + a + b for size, (a, b) in zip(sizes, pairs, strict=True)]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    out = [(p - r) // s + 1 for p, r, s in zip(padded, reach, stride, strict=True)]
    if min(p - r for p, r in zip(padded, reach, strict=True)) < 0:
        return None
    phase = [-(-p // s) for p, s in zip(padded, stride, strict=True)]
    taps = []
    for k, (a, b) in enumerate(itertools.product(*map(range, kernel))):
        a, b = a * dilation[0], b * dilation[1]
        taps.append((a % stride[0] * stride[1] + b % stride[1], a // stride[0] * phase[1] + b // stride[1], k))
    taps.sort()
    count = stride[0] * stride[1]
    first = np.searchsorted([p for p, _, _ in taps], np.arange(count + 1)).astype(np.uintp)
    shift = np.array([s for _, s, _ in taps], np.uintp)
    at = np.array([p * math.prod(phase) + s for p, s, _ in taps], np.uintp)
    order = np.array([k for _, _, k in taps])
    before = (pairs[0][0], pairs[1][0])
    return Plane(tuple(sizes), tuple(out), before, stride, tuple(phase), order, at, shift, first)


def supports(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> bool:
    """Whether it is a convolution in 1 or 2 dimensions of a batch that fits the weight and is not empty."""
    if x.ndim != weight.ndim or x.ndim not in (3, 4) or type(groups) is not int or groups < 1:
        return False
    if weight.shape[1] * groups != x.shape[1] or weight.shape[0] % groups or not x.size or not weight.size:
        return False
    return bias is None or bool(bias.shape == weight.shape[:1])


def conv(loops: Any, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """A forward and its cache, NotImplemented where no window fits."""
    n = x.ndim - 2
    name = f"conv{n}d"
    stride, dilation = n_tuple(name, "stride", stride, n, 1), n_tuple(name, "dilation", dilation, n, 1)
    pairs = padding_pairs(name, padding, weight.shape[2:], stride, dilation)
    given = x, weight, (stride, pairs, dilation, groups)
    ones, none = (1,) * (2 - n), [(0, 0)] * (2 - n)
    sizes, kernel = (*ones, *x.shape[2:]), (*ones, *weight.shape[2:])
    plane = _plane(sizes, kernel, (*ones, *stride), [*none, *pairs], (*ones, *dilation))
    if plane is None:
        return NotImplemented
    x, w = _of_groups(x, groups), _taps(weight, groups, plane)
    y = np.empty((x.shape[0], w.shape[1], math.prod(plane.out)), x.dtype)
    b = np.zeros(w.shape[:2], x.dtype) if bias is None else np.ascontiguousarray(bias).reshape(w.shape[:2])
    with np.errstate(all="ignore"):
        in_parts(lambda part: loops.forward(x, w, b, y, plane, part), _parts(x, y, loops.at_once))
    shape = given[0].shape[0], weight.shape[0], *plane.out[2 - n :]
    return y.reshape(shape), (loops, plane, *given)


def conv_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    """dy (N, O, *counts) -> dx, dweight, and None for the bias: convolutions.py has its gradient."""
    loops, plane, x, weight, geometry = cache
    want_x, want_weight, _ = wants(wanted, 3)
    groups = geometry[-1]
    flat_x, flat_dy, w = _of_groups(x, groups), _of_groups(dy, groups), _taps(weight, groups, plane)
    parts = _parts(flat_x, flat_dy, loops.at_once)
    dx = np.empty_like(flat_x) if want_x else None
    dw = np.zeros((len(parts), *w.shape), x.dtype) if want_weight else None

    def work(i: int) -> None:
        loops.backward(flat_x, w, flat_dy, dx, None if dw is None else dw[i], plane, parts[i])

    if want_x or want_weight:
        with np.errstate(all="ignore"):
            in_parts(work, range(len(parts)))
    if not (is_finite(dx) and is_finite(dw)):
        return conv2d_backward.reference(dy, (x, weight, False, geometry), wanted=wanted)  # type: ignore[attr-defined]
    dweight = None
    if dw is not None:
        dweight = np.empty((weight.size // plane.order.size, plane.order.size), x.dtype)
        dweight[:, plane.order] = dw.sum(axis=0).reshape(dweight.shape)
        dweight = dweight.reshape(weight.shape)
    return None if dx is None else dx.reshape(x.shape), dweight, None


def _of_groups(x: np.ndarray, groups: int) -> np.ndarray:
    """(N, C, *sizes) -> (N * groups, C / groups, pixels)"""
    n, c = x.shape[:2]
    return np.ascontiguousarray(x).reshape(n * groups, c // groups, -1)


def _taps(weight: np.ndarray, groups: int, plane: Plane) -> np.ndarray:
    """(O, C / groups, *kernel) -> (groups, O / groups, C / groups, taps), in the order of the plane's."""
    o, c = weight.shape[:2]
    return np.ascontiguousarray(weight.reshape(groups, o // groups, c, -1)[..., plane.order])


def _parts(x: np.ndarray, y: np.ndarray, at_once: int) -> list[slice]:
    """Runs of images' groups, at most 16: each has sums of the weight's gradient of its own."""
    count = x.shape[0]
    return runs(count, max(1, -(-count // 16), at_once * count // max(x.size, y.size)))
