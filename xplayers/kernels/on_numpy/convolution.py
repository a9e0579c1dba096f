"""Convolutions with NumPy alone: depthwise ones plane by plane, 3x3 of stride 1 by Winograd where it pays.

All others are declined.
"""

from typing import Any

from xplayers.functional import convolution as functional

from .. import planes, winograd
from ..registry import kernel, worth
from ..winograd_four import maps_for
from .planes import LOOPS
from .winograd import MAPS

__all__: list[str] = []

_CHANNELS = 128  # from here on Winograd's products take more time than its maps
_SIZE = 1 << 14  # numbers in x from which planes are worth it


def _is_depthwise(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> bool:
    if groups == 1 or x.dtype.char != "f" or weight.dtype != x.dtype or (bias is not None and bias.dtype != x.dtype):
        return False
    return weight.shape[1] == 1 and planes.supports(x, weight, bias, stride, padding, dilation, groups)


def _planes(*given: Any) -> Any:
    answer = planes.conv(LOOPS, *given)
    return answer if answer is NotImplemented else (answer[0], (planes.conv_backward, *answer[1]))


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    return cache[0](dy, cache[1:], wanted=wanted)


@kernel("numpy", functional.conv1d_forward, _backward, _is_depthwise, rule="float32: depthwise ones plane by plane")
def conv1d_forward(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Flat rows of many planes, a tap at a time."""
    if worth(x.size, _SIZE) and _is_depthwise(x, weight, bias, stride, padding, dilation, groups):
        return _planes(x, weight, bias, stride, padding, dilation, groups)
    return NotImplemented


def _supports(*given: Any, **named: Any) -> bool:
    return _is_depthwise(*given, **named) or winograd.supports(*given, **named)


@kernel(
    "numpy",
    functional.conv2d_forward,
    _backward,
    _supports,
    rule="float32: depthwise ones plane by plane, 3x3 of stride 1 from 128 channels by Winograd F(2x2, 3x3), "
    'and with precision="fast" by F(4x4, 3x3)',
)
def conv2d_forward(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Flat rows of many planes, a tap at a time, or sixteen products in place of thirty-six."""
    given = x, weight, bias, stride, padding, dilation, groups
    if groups != 1:
        return _planes(*given) if worth(x.size, _SIZE) and _is_depthwise(*given) else NotImplemented
    if weight.ndim == x.ndim == 4 and worth(min(weight.shape[:2]), _CHANNELS):
        answer = winograd.twin(maps_for(weight, MAPS), *given)
        return answer if answer is NotImplemented else (answer[0], (winograd.twin_backward, *answer[1]))
    return NotImplemented
