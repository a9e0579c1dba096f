"""Softmax, its logarithm and the cross entropy of labels, a row by a warp or a block.

The largest of a row and the sum of its exponentials come from one visit, so that a row is read from memory once and
again from the cache. Cross entropy keeps these two numbers a row alone, and its backward makes the gradient from x in
one more visit. Declined: another axis than the last, a dtype to cast to; for cross entropy also probabilities and more
axes. A label out of range gives NaN: nobody waits for the device to look.
"""

from typing import Any

from xplayers.functional.classification_loss import cross_entropy_forward as cross_entropy
from xplayers.functional.loss import share
from xplayers.functional.pair import wants
from xplayers.functional.softmax import log_softmax_forward as log_softmax
from xplayers.functional.softmax import softmax_forward as softmax

from ..registry import kernel
from .launching import FLOATS, accumulator, contiguous, empty, gradient, launch, one_block, rows, types

__all__: list[str] = []


def _supports(x: Any, dim: Any = None, dtype: Any = None) -> bool:
    """Floats along the last axis."""
    if dim is None:
        dim = 0 if x.ndim in (0, 1, 3) else 1
    return x.dtype.name in FLOATS and dtype is None and x.ndim > 0 and dim in (-1, x.ndim - 1) and x.size > 0


def _along_rows(x: Any, logarithm: bool) -> Any:
    x = contiguous(x)
    y, n = empty(x.shape, x.dtype), x.shape[-1]
    count = x.size // n
    launch("softmax", "softmax_forward", types(x.dtype), rows(count, n), x, y, count, n, logarithm)
    return y, (y,)


def _back_along_rows(dy: Any, cache: Any, wanted: Any, logarithm: bool) -> Any:
    (y,) = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    dx, n = empty(y.shape, y.dtype), y.shape[-1]
    count = y.size // n
    arguments = gradient(dy, y.shape, y.dtype), y, dx, count, n, logarithm
    launch("softmax", "softmax_backward", types(y.dtype), rows(count, n), *arguments)
    return dx


def _softmax_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    return _back_along_rows(dy, cache, wanted, False)


def _log_softmax_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    return _back_along_rows(dy, cache, wanted, True)


_RULE = "floats along the last axis: a row in one visit"


@kernel("cupy", softmax, _softmax_backward, _supports, means="cuda", rule=_RULE)
def softmax_forward(x: Any, dim: Any = None, dtype: Any = None) -> Any:
    """Maximum and sum in one visit."""
    return _along_rows(x, False) if _supports(x, dim, dtype) else NotImplemented


@kernel("cupy", log_softmax, _log_softmax_backward, _supports, means="cuda", rule=_RULE)
def log_softmax_forward(x: Any, dim: Any = None, dtype: Any = None) -> Any:
    """Maximum and sum in one visit."""
    return _along_rows(x, True) if _supports(x, dim, dtype) else NotImplemented


# -- cross entropy of labels --


def _cross_entropy_supports(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> bool:
    """Rows of floats with labels of int32 or int64; weights in x's dtype."""
    if x.dtype.name not in FLOATS or x.ndim != 2 or x.size == 0 or target.shape != x.shape[:1]:
        return False
    if weight is not None and (weight.dtype != x.dtype or weight.shape != x.shape[1:]):
        return False
    return target.dtype.name in ("int32", "int64") and reduction in ("mean", "sum", "none")


def _cross_entropy_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    x, target, weight, top, total, options, norm = cache
    want_x, *_ = wants(wanted, 3)
    if not want_x:
        return None, None, None
    ignored, smoothing, reduction = options
    if dy is None and reduction == "none":
        share(dy, reduction, norm, x)  # refuses it in words
    if dy is not None:
        dy = gradient(dy, x.shape[:1] if reduction == "none" else (), x.dtype)
    (count, n), dx = x.shape, empty(x.shape, x.dtype)
    arguments = dy, x, target, weight, top, total, norm, dx, count, n, ignored, smoothing
    how = reduction == "none", reduction == "mean"
    launch("cross_entropy", "entropy_backward", types(x.dtype, I=target.dtype), rows(count, n), *arguments, *how)
    return dx, None, None


@kernel(
    "cupy",
    cross_entropy,
    _cross_entropy_backward,
    _cross_entropy_supports,
    means="cuda",
    rule="(N, C) with labels of int32 or int64: two numbers a row are kept",
)
def cross_entropy_forward(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Maximum and sum of each row in one visit; a second kernel adds the rows up, always in the same order."""
    if not _cross_entropy_supports(x, target, weight, ignore_index, reduction, label_smoothing):
        return NotImplemented
    x, target, weight = map(contiguous, (x, target, weight))
    (count, n), acc, kinds = x.shape, accumulator(x.dtype), types(x.dtype, I=target.dtype)
    top, total, loss = (empty((count,), acc) for _ in range(3))
    arguments = x, target, weight, top, total, loss, count, n, ignore_index, float(label_smoothing)
    launch("cross_entropy", "entropy_forward", kinds, rows(count, n), *arguments)
    norm = empty((), acc)  # linear_loss.py reads the last
    y = None if reduction == "none" else empty((), x.dtype)
    added = loss, target, weight, y, norm, count, n, ignore_index, reduction == "mean"
    launch("cross_entropy", "entropy_reduce", kinds, one_block(), *added)
    options = ignore_index, float(label_smoothing), reduction
    return loss.astype(x.dtype, copy=False) if y is None else y, (x, target, weight, top, total, options, norm)
