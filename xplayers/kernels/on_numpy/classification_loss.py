"""Cross entropy of labels with NumPy alone: some rows at a time, all of their steps while they are in the cache.

Of each row the largest number and the logarithm of its sum are kept; the backward makes the gradient from x in place.
Declined: other dtypes than float32, few numbers, more axes than (N, C), probabilities, weights, smoothing, labels out
of range, and rows whose sum is not finite, which the agnostic code answers.
"""

from typing import Any

import numpy as np

from xplayers.functional.classification_loss import cross_entropy_forward as reference
from xplayers.functional.pair import wants

from ..labels import plain_labels, reduced, shares_of
from ..registry import kernel, worth
from ..threads import in_parts, runs

__all__: list[str] = []

_LEAST = 1 << 13  # numbers
_BLOCK = 1 << 17  # numbers: with less, threads wait for each other's Python


def _blocks(x: np.ndarray) -> list[slice]:
    return runs(len(x), max(1, _BLOCK // x.shape[1]))


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    x, target, kept, top, log_sum, reduction, norm = cache
    want_x, *_ = wants(wanted, 3)
    if not want_x:
        return None, None, None
    shares = np.where(kept, shares_of(dy, reduction, norm, x, target), np.float32(0))
    dx = np.empty(x.shape, np.float32)

    def work(r: slice) -> None:
        d = dx[r]
        np.subtract(x[r], top[r, None], out=d)
        np.subtract(d, log_sum[r, None], out=d)
        np.exp(d, out=d)
        np.multiply(d, shares[r, None], out=d)
        d[np.arange(len(d)), target[r]] -= shares[r]
        if not kept[r].all():
            d[~kept[r]] = 0  # whatever x is there

    with np.errstate(all="ignore"):
        in_parts(work, _blocks(x))
    return dx, None, None


@kernel(
    "numpy",
    reference,
    _backward,
    rule=f"float32 (N, C) with labels, neither weighted nor smoothed, {_LEAST} numbers and more: some rows at a time",
)
def cross_entropy_forward(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Some rows at a time."""
    if x.ndim != 2 or not worth(x.size, _LEAST):
        return NotImplemented
    if not plain_labels(x, target, weight, ignore_index, reduction, label_smoothing):
        return NotImplemented
    kept = target != ignore_index
    x, target = np.ascontiguousarray(x), np.where(kept, target, 0)
    top, log_sum, loss = np.empty((3, len(x)), np.float32)
    ones = np.ones(x.shape[1], np.float32)

    def work(r: slice) -> None:
        np.max(x[r], axis=1, out=top[r])
        z = x[r] - top[r, None]
        at_label = z[np.arange(len(z)), target[r]]
        np.exp(z, out=z)
        np.log(z @ ones, out=log_sum[r])
        loss[r] = np.where(kept[r], log_sum[r] - at_label, np.float32(0))

    with np.errstate(all="ignore"):
        in_parts(work, _blocks(x))
    if not np.isfinite(loss).all():
        return NotImplemented
    norm = int(kept.sum())
    return reduced(loss, target.shape, reduction, norm), (x, target, kept, top, log_sum, reduction, norm)
