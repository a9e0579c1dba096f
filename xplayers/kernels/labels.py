"""What the twins of losses of labels share: which calls they take, and the reduction with its gradient."""

import math
from typing import Any

import numpy as np

from xplayers.functional.loss import share

__all__ = ["are_labels", "labels_of", "plain_labels", "reduced", "shares_of"]


def labels_of(classes: int, target: np.ndarray, ignore_index: int) -> tuple[np.ndarray, np.ndarray | None] | None:
    """The labels, 0 where they are ignored, and which are kept: None where all are. None where one is out of range."""
    if not target.size:
        return target, None
    low, high = np.minimum.reduce(target, None), np.maximum.reduce(target, None)
    kept = target != ignore_index if low <= ignore_index <= high else None
    if kept is not None:
        target = np.where(kept, target, 0)
        low, high = np.minimum.reduce(target, None), np.maximum.reduce(target, None)
    return (target, kept) if low >= 0 and high < classes else None


def are_labels(x: Any, target: Any, reduction: str) -> bool:
    """Whether x is (N, C, *) of float32 and target (N, *) of integers."""
    return (
        type(x) is np.ndarray
        and x.dtype.char == "f"
        and x.ndim > 1
        and x.size > 0
        and target.shape == (x.shape[0], *x.shape[2:])
        and target.dtype.kind in "iu"
        and reduction in ("mean", "sum", "none")
    )


def plain_labels(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """`labels_of` what is neither weighted nor smoothed, None of anything else."""
    if weight is not None or label_smoothing or not are_labels(x, target, reduction):
        return None
    return labels_of(x.shape[1], target, ignore_index)


def shares_of(dy: Any, reduction: str, norm: float, x: Any, target: Any) -> np.ndarray:
    """What each loss gets of dy."""
    if reduction == "none":
        return np.ascontiguousarray(share(dy, reduction, norm, x), np.float32).reshape(-1)
    s = np.float32(1 if dy is None else dy)
    s = s * np.float32(1 / norm if norm else math.nan) if reduction == "mean" else s
    return np.full(target.size, s, np.float32)


def reduced(loss: np.ndarray, shape: tuple, reduction: str, norm: float) -> np.ndarray:
    """The flat losses of these labels as they are asked for."""
    if reduction == "none":
        return loss.astype(np.float32, copy=False).reshape(shape)
    y = np.add.reduce(loss, dtype=np.float64)
    return np.asarray(y if reduction == "sum" else y / norm if norm else math.nan, np.float32)
