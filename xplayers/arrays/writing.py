"""Writing into arrays: parameters and the moments of optimizers, whose owner asks for it, and what was just made."""

from collections.abc import Callable
from typing import Any

import array_api_compat as aac
import array_api_extra as xpx
import numpy as np

from .namespace import Array, array_namespace, convert, device, is_read_only, is_traced

__all__ = ["add_at", "add_to", "at_home", "find_step", "put_at", "scale_by", "without_history", "writable"]


def add_to(x: Array, y: Array) -> Array:
    """x + y, written into x where library and array allow it; otherwise a new array, which the caller puts in place."""
    if is_read_only(x):
        return array_namespace(x).asarray(x + y)  # NumPy adds 0-d arrays to a scalar
    x += y
    return x


def scale_by(x: Array, factor: float) -> Array:
    """x * factor, written into x where library and array allow it."""
    if is_read_only(x):
        return array_namespace(x).asarray(x * factor)
    x *= factor
    return x


class find_step:
    """Where `kernels/` hangs its ways to step the parameters of an optimizer; see `kernels.registry.update`."""

    by: Callable[[Any, list, dict], list] | None = None


_WRITABLE = ("numpy", "cupy", "torch")  # array_api_extra's own test of it takes 20 us, more than a small slice


def put_at(x: Array, index: Any, values: Array) -> Array:
    """x with `values` at a basic index, written into x where the library allows it: x is an array the caller made."""
    if type(x).__module__ in _WRITABLE:
        x[index] = values
        return x
    return xpx.at(x)[index].set(values)


def add_at(x: Array, index: Any, values: Array) -> Array:
    """x plus `values` at a basic index, written into x where the library allows it: x is an array the caller made."""
    if type(x).__module__ in _WRITABLE:
        x[index] += values
        return x
    return xpx.at(x)[index].add(values)


def writable(x: Array) -> Array:
    """x itself, or a copy of it where its library writes into arrays and this one is read-only."""
    return x.copy() if type(x).__module__ in _WRITABLE and is_read_only(x) else x


def at_home(x: Array, like: Array, dtype: object) -> Array:
    """x itself where it lives in the library and on the device of `like` with `dtype`, a copy that does otherwise."""
    xp = array_namespace(like)
    if type(x) is type(like) is np.ndarray and x.dtype == dtype:
        return x
    where = device(like)
    if array_namespace(x) is xp and x.dtype == dtype and (is_traced(x) or is_traced(like) or device(x) == where):
        return x
    return convert(x, xp, device=where, dtype=dtype)


def without_history(x: Array) -> Array:
    """The same memory without torch's record of how it came about; x itself on other libraries."""
    return x.detach() if type(x) is not np.ndarray and aac.is_torch_array(x) else x
