"""The agnostic mathematics of single elements, traced by `cupy.fuse` into one kernel: nothing is written a second time.

What fuse hands to a function in place of an array is made known to `array_namespace`, with CuPy as its namespace. A
reference is traced once for its constants, the dtype and the number of axes; half precisions are computed in float32
and rounded once, at the end.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import cupy
from cupy._core._fusion_interface import _ArrayProxy, _ScalarProxy
from cupy._core.fusion import _FusionVarArray, _FusionVarScalar

from xplayers.arrays import know

__all__ = ["DTYPES", "fused", "fused_backward", "fused_forward", "narrow", "storage", "wide"]

DTYPES = ("float64", "float32", "float16", "bfloat16")


class _Namespace:
    """CuPy as the Array API names it, as far as elementwise mathematics goes, for what fuse hands over."""

    __name__ = "fused.cupy"

    def __getattr__(self, name: str) -> Any:
        return getattr(cupy, name)

    @staticmethod
    def astype(x: Any, dtype: Any, *, copy: bool = True) -> Any:
        return x.astype(dtype)

    @staticmethod
    def clip(x: Any, low: float, high: float) -> Any:
        x = cupy.maximum(x, low) if low > -math.inf else x
        return cupy.minimum(x, high) if high < math.inf else x


_TRACED = (_FusionVarArray, _FusionVarScalar, _ArrayProxy, _ScalarProxy)  # of fuse's two ways to trace
_namespace = _Namespace()
for _kind in _TRACED:
    know(_kind, _namespace)


def fused(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """`cupy.fuse(function)`; on arrays of another library the function itself."""
    return cupy.fuse(kernel_name=name)(function)


def wide(x: Any) -> Any:
    """x in the dtype to compute in."""
    return x.astype(cupy.float32) if x.dtype.name in ("float16", "bfloat16") else x


def narrow(y: Any, x: Any) -> Any:
    """y in the dtype of x."""
    return y if y.dtype == x.dtype else y.astype(x.dtype)


class _Forward:
    """A forward for some constants as one kernel: y, and what its cache holds beside x, y and numbers."""

    def __init__(self, reference: Callable[..., Any], args: tuple, kwargs: dict) -> None:
        self.layout: list[Any] = []  # of the cache: "x", "y", the number of a further output, or a one-tuple of a value

        def whole(x: Any) -> Any:
            w = wide(x)
            y, cache = reference(w, *args, **kwargs)
            outputs: list[Any] = [y]
            layout: list[Any] = []
            for part in cache:
                if part is w or part is y:
                    layout.append("x" if part is w else "y")
                elif hasattr(part, "astype"):
                    layout.append(len(outputs))
                    outputs.append(part)
                else:
                    layout.append((part,))
            self.layout[:] = layout
            return tuple(o if o.dtype.kind == "b" else narrow(o, x) for o in outputs)

        self.kernel = fused(whole, reference.__name__)

    def __call__(self, x: Any) -> tuple[Any, tuple]:
        outputs = self.kernel(x)
        pick = {"x": x, "y": outputs[0]}
        cache = (p[0] if type(p) is tuple else outputs[p] if type(p) is int else pick[p] for p in self.layout)
        return outputs[0], tuple(cache)


@functools.lru_cache(512)
def _forward(reference: Callable[..., Any], args: tuple, kwargs: tuple) -> _Forward:
    return _Forward(reference, args, dict(kwargs))


@functools.lru_cache(512)
def _backward(reference: Callable[..., Any], layout: tuple) -> Callable[..., Any]:
    """dx of dy and the arrays of a cache; None in `layout` is the place of an array, a one-tuple holds a value."""

    def whole(dy: Any, *arrays: Any) -> Any:
        given = iter(arrays)
        cache = tuple(wide(next(given)) if place is None else place[0] for place in layout)
        return narrow(reference(wide(dy), cache), dy)

    return fused(whole, reference.__name__)


def storage(x: Any) -> Any:
    """bfloat16 is no dtype of fuse's: it goes through float32 outside of it."""
    return x.astype(cupy.float32) if x.dtype.name == "bfloat16" else x


def fused_forward(reference: Callable[..., Any], x: Any, args: tuple, kwargs: dict) -> tuple[Any, tuple]:
    """The forward of one array in one kernel. TypeError where an argument cannot stand in a key."""
    y, cache = _forward(reference, args, tuple(sorted(kwargs.items())))(storage(x))
    if y.dtype == x.dtype:
        return y, cache
    return y.astype(x.dtype), tuple(part.astype(x.dtype) if hasattr(part, "astype") else part for part in cache)


def fused_backward(reference: Callable[..., Any], dy: Any, cache: tuple) -> Any:
    """Its gradient in one kernel, from the arrays of the cache."""
    layout = tuple(None if hasattr(part, "astype") else (part,) for part in cache)
    arrays = [storage(part) for part in cache if hasattr(part, "astype")]
    return narrow(_backward(reference, layout)(storage(dy), *arrays), dy)
