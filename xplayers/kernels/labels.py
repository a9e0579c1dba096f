"""What the twins of losses of labels share: which calls they take, and the reduction with its gradient."""

import math
from typing import Any

import numpy as np

from xplayers.functional.loss import share

__all__ = ["are_labels", "plain_labels", "reduced", "shares_of"]


def are_labels(x: Any, target: Any, ignore_index: int, reduction: str) -> bool:
    """Whether x is (N, C, *) of float32 and target (N, *) of labels in range."""
    if (
        type(x) is not np.ndarray
        or x.dtype != np.float32
        or x.ndim < 2
        or x.size == 0
        or target.shape != (x.shape[0], *x.shape[2:])
    ):
        return False
    if target.dtype.kind not in "iu" or reduction not in ("mean", "sum", "none"):
        return False
    kept = target[target != ignore_index]
    return not kept.size or bool(kept.min() >= 0 and kept.max() < x.shape[1])


def plain_labels(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> bool:
    """Labels in range, neither weighted nor smoothed."""
    return weight is None and not label_smoothing and are_labels(x, target, ignore_index, reduction)


def shares_of(dy: Any, reduction: str, norm: Any, x: Any, target: Any) -> np.ndarray:
    """What each loss gets of dy."""
    if dy is None and reduction == "none":
        share(dy, reduction, norm, x)  # refuses it in words
    s = np.float32(1 if dy is None else dy) if reduction != "none" else np.asarray(dy, np.float32)
    s = s * np.float32(1 / norm if norm else math.nan) if reduction == "mean" else s
    return np.ascontiguousarray(np.broadcast_to(s, target.shape), np.float32).reshape(-1)


def reduced(loss: np.ndarray, shape: tuple, reduction: str, norm: float) -> np.ndarray:
    if reduction == "none":
        return loss.reshape(shape)
    y = loss.sum(dtype=np.float64)
    return np.asarray(y if reduction == "sum" else y / norm if norm else math.nan, np.float32)
