"""Convolutions compiled, in float32: of few channels plane by plane, by Winograd's F(2x2, 3x3) or by columns."""

from typing import Any

from .. import columns, convolutions, planes, winograd
from ..registry import worth
from ..winograd_four import maps_for
from .columns import MAPS as COLUMNS
from .planes import LOOPS
from .winograd import MAPS as WINOGRAD

__all__: list[str] = []

_CHANNELS = 16  # from here on Winograd's products take more time than its maps


def _special(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
    given = x, weight, bias, stride, padding, dilation, groups
    if planes.supports(*given) and _is_of_few(x, weight, groups):
        way, answer = planes.conv_backward, planes.conv(LOOPS, *given)
    elif weight.ndim == x.ndim == 4 and worth(min(weight.shape[:2]), _CHANNELS):
        way, answer = winograd.twin_backward, winograd.twin(maps_for(weight, WINOGRAD), *given)
    else:
        return NotImplemented
    return answer if answer is NotImplemented else (answer[0], (way, *answer[1]))


def _is_of_few(x: Any, weight: Any, groups: int) -> bool:
    """Whether columns would take more time than the products that they are for."""
    return weight.shape[1] <= 16 and weight.shape[0] <= 32 * groups and (groups > 1 or x[0, 0].size > 36)


_RULE = """float32: up to 16 channels a group, to at most 32, in one or two dimensions plane by plane,
3x3 of stride 1 from 16 channels by Winograd F(2x2, 3x3) (with precision="fast" from 64 by F(4x4, 3x3)), all others
by columns"""
convolutions.register("numba", columns.Sums(COLUMNS), _RULE.replace("\n", " "), _special)
