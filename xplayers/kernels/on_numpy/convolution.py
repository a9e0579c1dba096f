"""Convolutions with NumPy alone, in float32: by Winograd's F(2x2, 3x3) where it pays, by columns otherwise."""

from typing import Any

from .. import columns, convolutions, winograd
from ..registry import worth
from .columns import MAPS as COLUMNS
from .winograd import MAPS as WINOGRAD

__all__: list[str] = []

_CHANNELS = 128  # from here on Winograd's products take more time than its maps
_ACROSS = 10  # the maps of smaller images have more columns than tiles


def _winograd(x: Any, weight: Any, *rest: Any) -> Any:
    if weight.ndim == x.ndim == 4 and worth(min(weight.shape[:2]), _CHANNELS) and worth(x.shape[-1], _ACROSS):
        return winograd.twin(WINOGRAD, x, weight, *rest)
    return NotImplemented


_RULE = "float32: 3x3 of stride 1 from 128 channels and 10 pixels across by Winograd F(2x2, 3x3), all others by columns"
convolutions.register("numpy", columns.Sums(COLUMNS), _RULE, _winograd, winograd.twin_backward)
