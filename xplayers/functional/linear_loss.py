"""A linear map and the cross entropy of what it gives, in one."""

import math
from dataclasses import dataclass
from typing import Any

from xplayers.arrays import accumulator, array_namespace
from xplayers.errors import refusal

from .classification_loss import cross_entropy_backward, cross_entropy_forward
from .linear import linear_backward, linear_forward
from .loss import reduce, share
from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "LinearCrossEntropyOptions",
    "linear_cross_entropy",
    "linear_cross_entropy_backward",
    "linear_cross_entropy_forward",
]


@dataclass(frozen=True)
class LinearCrossEntropyOptions:
    """How `linear_cross_entropy` cuts a batch into pieces, so that the logits never stand in memory at once.

    batch_chunk_size: rows a piece. chunking_method: "aspect_ratio" takes pieces whose logits are no larger than x,
    "aspect_ratio:N" N times smaller ones, "auto" means "aspect_ratio:2" unless batch_chunk_size is given. The other
    three of torch's options have no effect: sums over the pieces are always as exact as float32, and a cache may
    always be called back again. Twin: torch.nn.LinearCrossEntropyOptions.
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: Any = None

    def __post_init__(self) -> None:
        n, method = self.batch_chunk_size, self.chunking_method
        if n is not None and (not isinstance(n, int) or n < 1):
            raise refusal(
                repr(self), "batch_chunk_size", repr(n), "a positive int or None", "pass batch_chunk_size=1024"
            )
        name, colon, factor = str(method).partition(":")
        known = not colon or (name == "aspect_ratio" and factor.isdigit() and int(factor) > 0)
        if name not in ("aspect_ratio", "auto", "None") or not known:
            ways = "'auto', 'aspect_ratio', 'aspect_ratio:N' or None"
            raise refusal(repr(self), "chunking_method", repr(method), ways, "pass chunking_method='auto'")
        if n is not None and name == "aspect_ratio":
            raise refusal(repr(self), "chunking_method", repr(method), "one of the two", "leave batch_chunk_size out")
        if self.acc_policy not in ("auto", "accurate", "balanced", "compact"):
            ways = "'auto', 'accurate', 'balanced' or 'compact'"
            raise refusal(repr(self), "acc_policy", repr(self.acc_policy), ways, "pass acc_policy='auto'")

    def rows(self, n: int, features: int, classes: int) -> int:
        """Rows a piece for x (n, features) and that many classes."""
        if self.batch_chunk_size is not None or self.chunking_method is None:
            return max(1, min(self.batch_chunk_size or n, n))
        factor = int(self.chunking_method.replace("auto", "aspect_ratio:2").partition(":")[2] or 1)
        target = -(-n // max(1, -(-classes // max(1, features))))
        return max(1, min((1 << (target - 1).bit_length() if target else 1) // factor, n))


def _logits_forward(x, linear_weight, linear_bias):
    """x (N, in) or (in,), linear_weight (C, *, in), linear_bias (C, *) -> logits (N, C, *) or (C,)."""
    xp = array_namespace(x, linear_weight, linear_bias)
    out = linear_weight.shape[:-1]
    bias = None if linear_bias is None else xp.reshape(linear_bias, (-1,))
    logits, cache = linear_forward(x, xp.reshape(linear_weight, (math.prod(out), x.shape[-1])), bias)
    return xp.reshape(logits, (*x.shape[:-1], *out)), (cache, linear_weight.shape)


def _logits_backward(dlogits, cache, wanted):
    inner, shape = cache
    xp = array_namespace(dlogits)
    rows = dlogits.shape[:1] if dlogits.ndim == len(shape) else ()
    dx, dw, db = linear_backward(xp.reshape(dlogits, (*rows, math.prod(shape[:-1]))), inner, wanted=wanted)
    dw = None if dw is None else xp.reshape(dw, shape)
    return dx, dw, None if db is None else xp.reshape(db, shape[:-1])


@accelerable
def linear_cross_entropy_forward(
    x,
    linear_weight,
    target,
    *,
    linear_bias=None,
    weight=None,
    reduction="mean",
    ignore_index=None,
    label_smoothing=0.0,
    options=None,
):
    """y = cross_entropy(x W^T + b, target), W and b being linear_weight and linear_bias.

    x (N, in) or (in,), linear_weight (C, *, in), linear_bias (C, *), target as in `cross_entropy_forward` for logits
    (N, C, *), weight (C,) -> y (), or (N, *) or () for reduction 'none'. With `options` the batch goes through in
    pieces, and the backward computes the logits again: less memory, more work, the same numbers. ignore_index None is
    -100. Errors: those of the library where the shapes do not fit. Twin: torch.nn.functional.linear_cross_entropy.
    Source: Wijmans et al., Cut your losses in large-vocabulary language models (2024).
    """
    ignore_index = -100 if ignore_index is None else ignore_index
    how = weight, ignore_index
    if options is None or x.ndim == 1:
        logits, linear_cache = _logits_forward(x, linear_weight, linear_bias)
        y, entropy_cache = cross_entropy_forward(logits, target, *how, reduction, label_smoothing)
        return y, (None, linear_cache, entropy_cache)
    xp = array_namespace(x, linear_weight, target)
    n = options.rows(x.shape[0], x.shape[-1], math.prod(linear_weight.shape[:-1]))
    losses, norms = [], []
    for rows in _pieces(x.shape[0], n):
        logits, _ = _logits_forward(x[rows, :], linear_weight, linear_bias)
        loss, cache = cross_entropy_forward(logits, target[rows, ...], *how, "none", label_smoothing)
        losses.append(loss)
        norms.append(cache[-1])  # the number of losses, or the sum of their labels' weights
    norm = sum(norms[1:], norms[0])
    y = reduce(xp.concat(losses, axis=0), reduction, norm)
    return y, (n, x, linear_weight, target, linear_bias, how, reduction, label_smoothing, norm)


@follows_cache
def linear_cross_entropy_backward(dy, cache, *, wanted=None):
    """dy () or (N, *) -> dx, dlinear_weight, dtarget, dlinear_bias, dweight: those of `linear_cross_entropy_forward`.

    dtarget and dweight are None for labels. dy None is 1.
    """
    want_x, want_w, want_target, want_b, want_weight = wants(wanted, 5)
    wanted_linear, wanted_entropy = (want_x, want_w, want_b), (any((want_x, want_w, want_b)), want_target, want_weight)

    def undo(d, linear_cache, entropy_cache):
        dlogits, dtarget, dweight = cross_entropy_backward(d, entropy_cache, wanted=wanted_entropy)
        dx = dw = db = None
        if dlogits is not None:
            dx, dw, db = _logits_backward(dlogits, linear_cache, wanted_linear)
        return dx, dw, dtarget, db, dweight

    if cache[0] is None:
        return undo(dy, *cache[1:])
    n, x, linear_weight, target, linear_bias, how, reduction, label_smoothing, norm = cache
    xp = array_namespace(x, linear_weight, target)
    s = share(dy, reduction, norm, x)
    pieces = []
    for rows in _pieces(x.shape[0], n):
        logits, linear_cache = _logits_forward(x[rows, :], linear_weight, linear_bias)
        loss, entropy_cache = cross_entropy_forward(logits, target[rows, ...], *how, "none", label_smoothing)
        d = s[rows, ...] if reduction == "none" else s + xp.zeros_like(loss)
        pieces.append(undo(d, linear_cache, entropy_cache))
    dx, dw, dtarget, db, dweight = zip(*pieces, strict=True)
    dx, dtarget = (None if ds[0] is None else xp.concat(ds, axis=0) for ds in (dx, dtarget))
    return dx, _sum_pieces(dw), dtarget, _sum_pieces(db), _sum_pieces(dweight)


def _pieces(rows, n):
    """Slices of n rows each, the last of what is left; one of none where there are no rows."""
    return [slice(i, min(i + n, rows)) for i in range(0, max(rows, 1), n)]


def _sum_pieces(ds):
    """The sum of gradients that several pieces gave, at least in float32."""
    if ds[0] is None or len(ds) == 1:
        return ds[0]
    xp, acc = array_namespace(ds[0]), accumulator(ds[0])
    out = xp.astype(ds[0], acc)
    for d in ds[1:]:
        out = out + xp.astype(d, acc)
    return xp.astype(out, ds[0].dtype)


linear_cross_entropy = answer_of(linear_cross_entropy_forward)
