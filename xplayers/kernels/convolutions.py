"""The twins of all convolutions by three sums of a kernel's own: what the means share in registering them."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xplayers.functional import convolution as agnostic
from xplayers.functional.pair import wants

from .registry import kernel

__all__ = ["is_finite", "register"]

Special = Callable[..., Any]


def is_finite(x: np.ndarray | None) -> bool:
    """Whether no number is NaN or infinite; False as well where the sum of all is beyond the floats."""
    with np.errstate(all="ignore"):  # that only sends us to another way
        return x is None or bool(np.isfinite(x.sum()))


def supports(x: Any, weight: Any, bias: Any, *rest: Any) -> bool:
    """Whether all arrays are of float32 and none is empty; the arguments are checked as the agnostic functions do."""
    return (
        x.dtype == np.float32
        and weight.dtype == np.float32
        and (bias is None or bias.dtype == np.float32)
        and x.size > 0
        and weight.size > 0
    )


def register(
    means: str,
    sums: Any,
    rule: str,
    special: Special | None = None,
    pays: Callable[[Any, Any, int], bool] = lambda x, weight, n: True,
) -> None:
    """Makes the six twins of a means, by three sums as in functional/convolution.py. `special` is asked first for a
    convolution; its backward leads its cache. `pays` says whether the sums are quicker than the agnostic code for an x
    and a weight of n axes."""
    ways = (
        ("conv", agnostic.conv_forward_by, agnostic.conv_backward_by),
        ("conv_transpose", agnostic.conv_transpose_forward_by, agnostic.conv_transpose_backward_by),
    )
    for name, forward_by, backward_by in ways:
        for n in (1, 2, 3):
            reference = getattr(agnostic, f"{name}{n}d_forward")
            first = special if name == "conv" else None
            _register(
                means,
                reference,
                functools.partial(forward_by, sums, n),
                functools.partial(backward_by, sums),
                rule,
                first,
                pays,
                n,
            )


def _register(
    means: str,
    reference: Any,
    forward_by: Special,
    backward_by: Special,
    rule: str,
    special: Special | None,
    pays: Callable[[Any, Any, int], bool],
    n: int,
) -> None:
    def backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        by_special, has_bias, *cache = cache
        want_x, want_weight, want_bias = wants(wanted, 3)
        dx = dweight = dbias = None
        if want_x or want_weight:
            some = want_x, want_weight, False
            dx, dweight, _ = (by_special or backward_by)(dy, tuple(cache), wanted=some)
        if want_bias and has_bias:
            dbias = _bias_gradient(dy, n)
        return dx, dweight, dbias

    @kernel("numpy", reference, backward, supports, means=means, rule=rule)
    def forward(*arguments: Any) -> Any:
        if not supports(*arguments[:3]):
            return NotImplemented
        if special is not None:
            answer = special(*arguments)
            if answer is not NotImplemented:
                y, (way, *cache) = answer
                return y, (way, arguments[2] is not None, *cache)
        if not pays(arguments[0], arguments[1], n):
            return NotImplemented
        y, cache = forward_by(*arguments)
        return y, (None, arguments[2] is not None, *cache)


def _bias_gradient(dy: np.ndarray, n: int) -> np.ndarray:
    """dy (N, O, *counts) or (O, *counts), of n axes -> (O,): a product with ones is five times as quick as a sum."""
    o = dy.shape[-n - 1]
    rows = np.ascontiguousarray(dy).reshape(-1, math.prod(dy.shape[-n:]))
    return (rows @ np.ones(rows.shape[1], dy.dtype)).reshape(-1, o).sum(axis=0)
