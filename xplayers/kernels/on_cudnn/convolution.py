"""Convolutions and transposed ones on CuPy arrays: cuDNN's three, in the place of the agnostic code's three sums.

Each operand is taken as it lies where that is in the order of C or channels-last, x and weight and dy each in their
own; y has the order of x, dx that of dy. What cuDNN refuses of a backward, the agnostic sum does in its place.

As everywhere, the default is as exact as the direct computation: products of float32 in float32 (IEEE), where torch by
default rounds what goes into its convolutions to the 10 bits of TF32. `use_kernels(precision="fast")` allows that, and
with it a relative error of about 1e-3 of each product. Two runs give the same bits, either way.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xplayers.arrays import array_namespace, like, sum_leading, total, window_counts
from xplayers.functional import convolution as functional
from xplayers.functional.pair import wants

from ..registry import kernel, precision
from . import graphs
from .graphs import Operand, Refused

__all__: list[str] = []

_DTYPES = ("float16", "bfloat16", "float32", "float64")
_RULE = "float16, bfloat16, float32, float64"
_BUT = "an output_padding below the stride"


# -- how arrays lie --


def _packed(shape: tuple[int, ...], last: bool) -> tuple[int, ...]:
    """The strides of a dense array (N, C, *sizes), in the order of C or with the channels last."""
    order = (1, *range(len(shape) - 1, 1, -1), 0) if last else range(len(shape) - 1, -1, -1)
    strides, n = [0] * len(shape), 1
    for axis in order:
        strides[axis] = n
        n *= shape[axis]
    return tuple(strides)


def _lies(x: Any, last: bool) -> bool:
    """Whether x lies densely in this order. Where an axis has one element, its stride says nothing."""
    spans = zip(x.shape, x.strides, _packed(x.shape, last), strict=True)
    return all(n == 1 or held == stride * x.itemsize for n, held, stride in spans)


def _is_last(x: Any) -> bool:
    """Whether x lies channels-last and in no other order."""
    return not _lies(x, False) and _lies(x, True)


def _fit(x: Any) -> tuple[Any, Operand]:
    """x, or a copy where it lies in neither order or off the boundary, and how it lies."""
    if not (graphs.executor.takes(x) and (_lies(x, False) or _lies(x, True))):
        x = x.copy()
    return x, Operand(x.shape, _packed(x.shape, _is_last(x)), x.dtype.name)


def _empty(shape: tuple[int, ...], last: bool, x: Any) -> tuple[Any, Operand]:
    """A new (N, C, *sizes) like x, with the channels last or not."""
    xp = array_namespace(x)
    held = (shape[0], *shape[2:], shape[1]) if last else shape
    y = xp.empty(held, **like(x))
    return (xp.moveaxis(y, -1, 1) if last else y), Operand(shape, _packed(shape, last), x.dtype.name)


# -- the three sums --


def _paddings(sizes: Any, counts: Any, kernel: Any, stride: Any, pairs: Any, dilation: Any) -> tuple[Any, Any]:
    """What is added before and behind along each size: behind as much as before where that makes as many windows.

    A transposed convolution's padding behind is less by its output_padding, and may be negative, which cuDNN takes not.
    """
    before, behind = [], []
    for size, count, k, s, (a, b), d in zip(sizes, counts, kernel, stride, pairs, dilation, strict=True):
        if window_counts((size + 2 * a,), (k,), (s,), (d,)) == (count,):
            b = a
        if b < 0:
            raise Refused(f"a padding of {b} behind")
        before.append(a)
        behind.append(b)
    return tuple(before), tuple(behind)


def _run(op: str, inputs: Any, out: Any, sizes: Any, counts: Any, kernel: Any, geometry: Any) -> Any:
    stride, pairs, dilation, _ = geometry  # the groups are in the weight's shape
    before, behind = _paddings(sizes, counts, kernel, stride, pairs, dilation)
    options = {"pre_padding": before, "post_padding": behind, "stride": tuple(stride), "dilation": tuple(dilation)}
    graphs.run(op, precision() == "exact", [*map(_fit, inputs), out], **options)
    return out[0]


def _plus(y: Any, bias: Any) -> Any:
    if bias is not None:
        y += array_namespace(y).reshape(bias, (-1, *(1,) * (y.ndim - 2)))  # y is of this call
    return y


class _Sums:
    """The three by cuDNN; each raises Refused."""

    @staticmethod
    def correlate(x: Any, weight: Any, bias: Any, *geometry: Any) -> Any:
        """x (N, C, *sizes), weight (O, C / groups, *kernel), bias (O,) or None -> y (N, O, *counts)."""
        stride, pairs, dilation, _ = geometry
        kernel, sizes = weight.shape[2:], x.shape[2:]
        padded = tuple(n + a + b for n, (a, b) in zip(sizes, pairs, strict=True))
        counts = window_counts(padded, kernel, stride, dilation)
        y = _empty((x.shape[0], weight.shape[0], *counts), _is_last(x), x)
        return _plus(_run("conv_fprop", (x, weight), y, sizes, counts, kernel, geometry), bias)

    @staticmethod
    def scatter(dy: Any, weight: Any, bias: Any, sizes: Any, *geometry: Any) -> Any:
        """dy (N, O, *counts), weight (O, C / groups, *kernel), bias (C,) or None -> dx (N, C, *sizes)."""
        dx = _empty((dy.shape[0], weight.shape[1] * geometry[-1], *sizes), _is_last(dy), dy)
        return _plus(_run("conv_dgrad", (dy, weight), dx, sizes, dy.shape[2:], weight.shape[2:], geometry), bias)

    @staticmethod
    def weight_gradient(x: Any, dy: Any, shape: Any, *geometry: Any) -> Any:
        """x (N, C, *sizes), dy (N, O, *counts) -> dweight of this shape."""
        dw = _empty(tuple(shape), False, x)
        return _run("conv_wgrad", (x, dy), dw, x.shape[2:], dy.shape[2:], shape[2:], geometry)


def _or_agnostic(name: str) -> Any:
    def either(*arguments: Any) -> Any:
        try:
            return getattr(_Sums, name)(*arguments)
        except Refused:
            return getattr(functional.SUMS, name)(*arguments)

    return staticmethod(either)


class _Either:
    """The three by cuDNN where it has a plan: a backward cannot decline."""

    correlate, scatter, weight_gradient = map(_or_agnostic, ("correlate", "scatter", "weight_gradient"))


def _bias_gradient(dy: Any) -> Any:
    """dy (N, O, *counts) -> (O,), in two stages: one alone would run on a few thread blocks."""
    xp = array_namespace(dy)
    if _is_last(dy):
        return sum_leading(xp.moveaxis(dy, 1, -1))
    n, c, *counts = dy.shape
    return total(total(xp.reshape(dy, (n, c, math.prod(counts))), axis=2), axis=0)


# -- the twins --


def supports(x: Any, weight: Any, bias: Any, *rest: Any) -> bool:
    """Whether all are arrays of one dtype and none is empty; the arguments are checked as the agnostic functions do."""
    given = (x, weight) if bias is None else (x, weight, bias)
    return x.dtype.name in _DTYPES and all(type(a) is type(x) and a.dtype == x.dtype and a.size > 0 for a in given)


def supports_transposed(
    x: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, *rest: Any
) -> bool:
    """`supports`, and an output_padding that asks for no negative padding behind."""
    if not supports(x, weight, bias):
        return False
    extra, steps = (np.broadcast_to(a, weight.ndim - 2) for a in (output_padding, stride))
    return bool(np.all(extra < steps))


def _forward(forward_by: Callable[..., Any], *arguments: Any) -> Any:
    if not supports(*arguments[2:5]):
        return NotImplemented
    try:
        return forward_by(*arguments)
    except Refused:
        return NotImplemented


def _backward(backward_by: Callable[..., Any], dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    x, weight, has_bias, _ = cache
    want_x, want_weight, want_bias = wants(wanted, 3)
    dx, dweight, _ = backward_by(_Either, dy, cache, (want_x, want_weight, False))
    dbias = None
    if want_bias and has_bias:
        dbias = _bias_gradient(dy if x.ndim == weight.ndim else dy[None, ...])
    return dx, dweight, dbias


def _register(n: int) -> None:
    """Makes the twins in n dimensions."""
    reference = getattr(functional, f"conv{n}d_forward")
    backward = functools.partial(_backward, functional.conv_backward_by)

    @kernel("cupy", reference, backward, supports, means="cudnn", rule=_RULE)
    def forward(*arguments: Any) -> Any:
        return _forward(functional.conv_forward_by, _Sums, n, *arguments)

    reference = getattr(functional, f"conv_transpose{n}d_forward")
    backward = functools.partial(_backward, functional.conv_transpose_backward_by)

    @kernel("cupy", reference, backward, supports_transposed, means="cudnn", rule=f"{_RULE}, {_BUT}")
    def forward_transposed(*arguments: Any) -> Any:
        return _forward(functional.conv_transpose_forward_by, _Sums, n, *arguments)


for _n in (1, 2, 3):
    _register(_n)
