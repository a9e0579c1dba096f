"""Convolutions with NumPy alone: depthwise ones by shifts, 3x3 of stride 1 by Winograd where it pays.

All others by columns: products of BLAS, laid out where strided copies are quick. Declined: other dtypes than float32,
empty arrays, short columns of one dimension.
"""

from typing import Any

from .. import convolutions, planes, winograd
from ..registry import worth
from ..winograd_four import maps_for
from . import depthwise
from .beside import is_of_small
from .sums import SUMS
from .winograd import MAPS

__all__: list[str] = []

_CHANNELS = 128  # from here on Winograd's products take more time than its maps: with 64 it is as quick as columns
_PIXELS = 196  # from here on, too: in smaller images much of the tiles is waste
_LONG = 1024  # numbers in a column of one dimension from which its layout costs little beside its product
_SIZE = 1 << 14  # numbers in x from which shifts are worth it


def _special(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
    given = x, weight, bias, stride, padding, dilation, groups
    if groups != 1 and weight.shape[1] == 1 and worth(x.size, _SIZE) and planes.supports(*given):
        way, answer = depthwise.backward, depthwise.forward(*given)
    else:
        pay = x.ndim == 4 and worth(min(weight.shape[:2]), _CHANNELS) and worth(x[0, 0].size, _PIXELS)
        maps = maps_for(weight, MAPS if pay else None)
        way, answer = winograd.twin_backward, NotImplemented if maps is None else winograd.twin(maps, *given)
    return answer if answer is NotImplemented else (answer[0], (way, *answer[1]))


def _pays(x: Any, weight: Any, n: int) -> bool:
    """In one dimension columns are the agnostic code's, unless they are long or of small images in a large batch."""
    return n > 1 or is_of_small(x) or worth(weight[0].size, _LONG)


_RULE = """float32: depthwise ones by shifts of planes, 3x3 of stride 1 from 128 channels and 14x14 pixels by Winograd
F(2x2, 3x3), with precision="fast" from 64 by F(4x4, 3x3), one window as an affine map, small images of large batches
side by side, all others by columns, in one dimension from 1024 numbers a column; the gradient of x is added up where y
has more than twice its channels"""
convolutions.register("numpy", SUMS, _RULE.replace("\n", " "), _special, _pays)
