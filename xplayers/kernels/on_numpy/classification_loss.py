"""Cross entropy of labels with NumPy alone, along rows or along the pixels of images, a block at a time.

The exponentials of softmax.py and their sums are kept, so that the backward is one product and the labels' own shares.
A loss is the difference of two numbers that may be nearly the same: it is taken in float64. Declined: other dtypes than
float32, probabilities, weights, smoothing, labels out of range.
"""

from typing import Any

import numpy as np

from xplayers.functional.classification_loss import cross_entropy_forward as reference
from xplayers.functional.loss import share
from xplayers.functional.pair import wants

from ..labels import plain_labels, reduced
from ..registry import kernel
from .softmax import OF_EXPONENTIALS, along, exponentials, over_blocks, sums_like

__all__: list[str] = []


def _places(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Where the numbers of the labels are in a flat (N, C) or (N, C, L): (N, 1) or (N, 1, L)."""
    n, c, *length = shape
    if not length:
        return (labels + np.arange(0, n * c, c)).reshape(n, 1)
    at = labels.reshape(n, 1, *length) + np.arange(0, n * c, c).reshape(n, 1, 1)
    return at * length[0] + np.arange(length[0])


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    e, sums, places, kept, shape, reduction, norm = cache
    want_x, *_ = wants(wanted, 3)
    if not want_x:
        return None, None, None
    s = np.asarray(share(dy, reduction, norm, e), np.float32)
    s = s.reshape(sums.shape) if s.ndim else s
    s = s if kept is None else np.where(kept, s, np.float32(0))
    by_sum = s / sums
    dx = np.empty(e.shape, np.float32)
    flat = dx.reshape(-1)

    def work(i: Any) -> None:
        np.multiply(e[i], by_sum[i], out=dx[i])
        flat[places[i]] -= s[i] if s.ndim else s

    over_blocks(work, e.shape)
    return dx.reshape(shape), None, None


@kernel("numpy", reference, _backward, rule="float32 (N, C, *) with labels, neither weighted nor smoothed, in blocks")
def cross_entropy_forward(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """A block at a time."""
    found = plain_labels(x, target, weight, ignore_index, reduction, label_smoothing)
    if found is None:
        return NotImplemented
    labels, kept = found
    shape, x = x.shape, along(x, 1)
    e, sums, places = np.empty(x.shape, np.float32), sums_like(x), _places(labels, x.shape)
    loss, flat = np.empty(sums.shape), x.reshape(-1)
    kept = kept if kept is None else kept.reshape(sums.shape)

    def work(i: Any) -> None:
        with np.errstate(all="ignore"):
            top = exponentials(x[i], e[i], sums[i])
            at = flat.take(places[i])
            np.log(sums[i].astype(np.float64), out=loss[i])
            np.subtract(loss[i], at if top is None else at - top, out=loss[i])
            np.maximum(loss[i], 0.0, out=loss[i])  # what rounding may take below

    over_blocks(work, x.shape, OF_EXPONENTIALS)
    norm = loss.size
    if kept is not None:
        norm = int(kept.sum())
        loss[~kept] = 0
    y = reduced(loss.reshape(-1), target.shape, reduction, norm)
    return y, (e, sums, places, kept, shape, reduction, norm)  # linear_loss.py reads the last
