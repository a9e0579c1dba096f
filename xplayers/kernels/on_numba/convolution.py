"""Convolutions compiled, in float32: plane by plane, by Winograd's F(2x2, 3x3), directly in tiles, or by columns.

The sums of a tile stay in registers over all taps and channels; Winograd spares products where there are many of them.
Declined: other dtypes than float32, empty arrays.
"""

from typing import Any

from xplayers.functional.pooling import n_tuple

from .. import convolutions, planes, winograd
from ..registry import worth
from ..winograd_four import maps_for
from .columns import MAPS as COLUMNS
from .depthwise import Sums, pays
from .planes import LOOPS
from .winograd import MAPS as WINOGRAD

__all__: list[str] = []

_PIXELS = 196  # in planes of which Winograd's tiles waste little
_PRODUCTS = 10_000_000  # channels^2 times pixels from which its products save more time than its maps take


def _special(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
    given = x, weight, bias, stride, padding, dilation, groups
    if planes.supports(*given) and _is_of_few(x, weight, groups) and not _in_lanes(x, weight, stride, groups):
        way, answer = planes.conv_backward, planes.conv(LOOPS, *given)
    else:
        maps = maps_for(weight, WINOGRAD if x.ndim == 4 and _is_of_many(x, weight) else None)
        way, answer = winograd.twin_backward, NotImplemented if maps is None else winograd.twin(maps, *given)
    return answer if answer is NotImplemented else (answer[0], (way, *answer[1]))


def _is_of_few(x: Any, weight: Any, groups: int) -> bool:
    """Whether tiles of outputs would be mostly empty, or made of few products."""
    return weight.shape[1] <= 3 and weight.shape[0] <= 32 * groups and (groups > 1 or x[0, 0].size > 144)


def _is_of_many(x: Any, weight: Any) -> bool:
    """Whether Winograd's products are worth its maps."""
    pixels = x[0, 0].size
    return worth(pixels, _PIXELS) and worth(min(weight.shape[:2]) ** 2 * pixels, _PRODUCTS)


def _in_lanes(x: Any, weight: Any, stride: Any, groups: int) -> bool:
    """Whether vectors of channels are quicker, going by the size that y has with padding."""
    n = x.ndim - 2
    steps = n_tuple(f"conv{n}d", "stride", stride, n, 1)
    return pays(weight.shape, groups, [size // s for size, s in zip(x.shape[2:], steps, strict=True)])


_RULE = """float32: depthwise ones of small planes in vectors of channels, others of up to 3 channels a group, to at
most 32, in one or two dimensions plane by plane, 3x3 of stride 1 of many channels and pixels (256 @14, 128
@28, 64 @56) by Winograd F(2x2, 3x3), with precision="fast" from 64 by F(4x4, 3x3), kernels of 1 by columns,
all others directly in tiles"""
convolutions.register("numba", Sums(COLUMNS), _RULE.replace("\n", " "), _special)
