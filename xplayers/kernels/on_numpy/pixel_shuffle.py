"""Channels and space traded with NumPy alone: r * r copies of planes, each with a stride on one side only.

One transposed copy would go through its numbers r at a time. A block of planes stays in the cache, and threads share
the blocks. Declined: empty arrays.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from xplayers.functional import resampling as agnostic
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs

__all__: list[str] = []

_BLOCK = 1 << 18  # numbers in a block


def _to_space(x: np.ndarray, r: int) -> np.ndarray:
    *lead, c, h, w = x.shape
    y = np.empty((*lead, c // r**2, h * r, w * r), x.dtype)
    few, many = x.reshape(-1, r, r, h, w), y.reshape(-1, h, r, w, r)

    def block(part: slice) -> None:
        for i in range(r):
            for j in range(r):
                many[part, :, i, :, j] = few[part, i, j]

    in_parts(block, runs(len(few), _BLOCK // (r * r * h * w)))
    return y


def _to_channels(x: np.ndarray, r: int) -> np.ndarray:
    *lead, c, h, w = x.shape
    y = np.empty((*lead, c * r**2, h // r, w // r), x.dtype)
    few, many = y.reshape(-1, r, r, h // r, w // r), x.reshape(-1, h // r, r, w // r, r)

    def block(part: slice) -> None:
        for i in range(r):
            for j in range(r):
                few[part, i, j] = many[part, :, i, :, j]

    in_parts(block, runs(len(few), _BLOCK // (h * w)))
    return y


def _register(name: str, there: Callable[..., Any], back: Callable[..., Any]) -> None:
    def supports(x: Any, r: Any) -> bool:
        agnostic.expect_shuffling(name, x.shape, r, name == "pixel_shuffle")
        return type(x) is np.ndarray and x.size > 0

    def backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        (want_x,) = wants(wanted, 1)
        return back(dy, *cache) if want_x else None

    @kernel("numpy", getattr(agnostic, f"{name}_forward"), backward, supports, rule="any dtype: a copy for each place")
    def forward(x: Any, r: Any) -> Any:
        """Copies with a stride."""
        return (there(x, r), (r,)) if supports(x, r) else NotImplemented


_register("pixel_shuffle", _to_space, _to_channels)
_register("pixel_unshuffle", _to_channels, _to_space)
