"""Convolutions compiled: 3x3 of stride 1 by Winograd's F(2x2, 3x3). All others are declined."""

from typing import Any

from xplayers.functional.convolution import conv2d_forward as reference

from .. import winograd
from ..registry import kernel, worth
from .winograd import MAPS

__all__: list[str] = []

_CHANNELS = 16  # from here on the products take more time than the maps


@kernel(
    "numpy",
    reference,
    winograd.twin_backward,
    winograd.supports,
    means="numba",
    rule="3x3, stride 1, dilation 1, one group, float32, from 16 channels: Winograd F(2x2, 3x3)",
)
def conv2d_forward(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Sixteen products in place of thirty-six."""
    if weight.ndim != 4 or not worth(min(weight.shape[:2]), _CHANNELS):
        return NotImplemented
    return winograd.twin(MAPS, x, weight, bias, stride, padding, dilation, groups)
