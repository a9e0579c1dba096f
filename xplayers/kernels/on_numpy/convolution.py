"""Convolutions with NumPy alone: 3x3 of stride 1 by Winograd's F(2x2, 3x3) where it pays. All others are declined."""

from typing import Any

from xplayers.functional.convolution import conv2d_forward as reference

from .. import winograd
from ..registry import kernel, worth
from .winograd import MAPS

__all__: list[str] = []

_CHANNELS = 128  # from here on the products take more time than the maps


@kernel(
    "numpy",
    reference,
    winograd.twin_backward,
    winograd.supports,
    rule="float32: 3x3 of stride 1 from 128 channels by Winograd F(2x2, 3x3)",
)
def conv2d_forward(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    """Sixteen products in place of thirty-six."""
    if weight.ndim == x.ndim == 4 and worth(min(weight.shape[:2]), _CHANNELS):
        return winograd.twin(MAPS, x, weight, bias, stride, padding, dilation, groups)
    return NotImplemented
