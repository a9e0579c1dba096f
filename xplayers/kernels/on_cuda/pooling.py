"""Pooling of one to three axes: a thread a window, and backward a thread an element, which asks the windows it lies in.

So nothing is added from two sides and the order of adding is always the same. Max pooling keeps where each maximum
stands. Declined: indices to be returned, planes of 2^31 elements, and what the agnostic code refuses.
"""

import math
from typing import Any

from xplayers.functional import pooling as agnostic
from xplayers.functional.pair import wants

from ..registry import kernel
from .launching import FLOATS, contiguous, elements, empty, gradient, launch, types

__all__: list[str] = []

_AXIS = "size", "kernel", "stride", "padding", "dilation", "windows"  # in the order of the kernels
_NONE = (1, 1, 1, 0, 1, 1)


def _is_plain(x: Any) -> bool:
    return x.dtype.name in FLOATS and x.size > 0


def _geometry(name: str, n: int, x: Any, *how: Any) -> tuple[int, ...]:
    """The eighteen numbers of three axes."""
    steps = agnostic.pooling_steps(name, x.shape[-n:], *how)
    return _NONE * (3 - n) + tuple(getattr(step, field) for step in steps for field in _AXIS)


def _shape(x: Any, n: int, geometry: tuple[int, ...]) -> tuple[int, ...]:
    return (*x.shape[:-n], *geometry[5::6][3 - n :])


def _register_max(n: int) -> None:
    name = f"max_pool{n}d"

    def supports(x: Any, *given: Any) -> bool:
        return _is_plain(x) and x.ndim >= n and math.prod(x.shape[-n:]) < 2**31 and not given[-1]

    def backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        at, shape, dtype, planes, geometry = cache
        (want_x,) = wants(wanted, 1)
        if not want_x:
            return None
        dx = empty(shape, dtype)
        arguments = gradient(dy, at.shape, dtype), at, dx, planes, *geometry
        launch("pooling", "max_backward", types(dtype), elements(dx.size), *arguments)
        return dx

    @kernel(
        "cupy", getattr(agnostic, f"{name}_forward"), backward, supports, means="cuda", rule="floats, without indices"
    )
    def forward(x: Any, *given: Any) -> Any:
        """A scan of each window in the order of memory."""
        if not supports(x, *given):
            return NotImplemented
        geometry = _geometry(name, n, x, *given[:-1])
        x, planes, shape = contiguous(x), math.prod(x.shape[:-n]), _shape(x, n, geometry)
        y, at = empty(shape, x.dtype), empty(shape, "int32")
        launch("pooling", "max_forward", types(x.dtype), elements(y.size), x, y, at, planes, *geometry)
        return y, (at, x.shape, x.dtype, planes, geometry)


def _register_avg(n: int) -> None:
    name = f"avg_pool{n}d"

    def supports(x: Any, *given: Any) -> bool:
        override = given[5] if len(given) > 5 else None  # in one dimension there is none
        return _is_plain(x) and x.ndim >= n and math.prod(x.shape[-n:]) < 2**31 and override != 0

    def backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        shape, outputs, dtype, how = cache
        (want_x,) = wants(wanted, 1)
        if not want_x:
            return None
        dx = empty(shape, dtype)
        launch("pooling", "avg_backward", types(dtype), elements(dx.size), gradient(dy, outputs, dtype), dx, *how)
        return dx

    @kernel("cupy", getattr(agnostic, f"{name}_forward"), backward, supports, means="cuda", rule="floats")
    def forward(x: Any, *given: Any) -> Any:
        """A sum of each window."""
        if not supports(x, *given):
            return NotImplemented
        kernel_size, stride, padding, ceil_mode, include_pad, *override = given
        geometry = _geometry(name, n, x, kernel_size, stride, padding, 1, ceil_mode)
        x, y = contiguous(x), empty(_shape(x, n, geometry), x.dtype)
        how = math.prod(x.shape[:-n]), bool(include_pad), float((override and override[0]) or 0), *geometry
        launch("pooling", "avg_forward", types(x.dtype), elements(y.size), x, y, *how)
        return y, (x.shape, y.shape, x.dtype, how)


for _n in (1, 2, 3):
    _register_max(_n)
    _register_avg(_n)
