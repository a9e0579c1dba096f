"""Channels and space traded with NumPy alone: r * r copies of planes, each with a stride on one side only.

One transposed copy would go through its numbers r at a time. A block of planes stays in the cache, and threads share
the blocks. Declined: empty arrays.
"""

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


def _fits(name: str, x: Any, r: Any) -> bool:
    agnostic.expect_shuffling(name, x.shape, r, name == "pixel_shuffle")
    return type(x) is np.ndarray and x.size > 0


def _shuffle_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    (want_x,) = wants(wanted, 1)
    return _to_channels(dy, *cache) if want_x else None


@kernel(
    "numpy",
    agnostic.pixel_shuffle_forward,
    _shuffle_backward,
    lambda x, upscale_factor: _fits("pixel_shuffle", x, upscale_factor),
    rule="any dtype: a copy for each place",
)
def pixel_shuffle_forward(x: Any, upscale_factor: int) -> Any:
    """Copies with a stride in y."""
    fits = _fits("pixel_shuffle", x, upscale_factor)
    return (_to_space(x, upscale_factor), (upscale_factor,)) if fits else NotImplemented


def _unshuffle_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    (want_x,) = wants(wanted, 1)
    return _to_space(dy, *cache) if want_x else None


@kernel(
    "numpy",
    agnostic.pixel_unshuffle_forward,
    _unshuffle_backward,
    lambda x, downscale_factor: _fits("pixel_unshuffle", x, downscale_factor),
    rule="any dtype: a copy for each place",
)
def pixel_unshuffle_forward(x: Any, downscale_factor: int) -> Any:
    """Copies with a stride in x."""
    fits = _fits("pixel_unshuffle", x, downscale_factor)
    return (_to_channels(x, downscale_factor), (downscale_factor,)) if fits else NotImplemented
