"""Losses of one class out of several: the class axis is 1, or 0 without a batch; labels are integers of any kind."""

import math

from xplayers.arrays import (
    add_along,
    array_namespace,
    is_floating,
    one_hot,
    size,
    take_along,
    take_rows,
    total,
)

from .loss import as_floats, fit, reduce, share, sum_of_weights
from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "cross_entropy",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "multi_margin_loss",
    "multi_margin_loss_backward",
    "multi_margin_loss_forward",
    "multilabel_margin_loss",
    "multilabel_margin_loss_backward",
    "multilabel_margin_loss_forward",
    "nll_loss",
    "nll_loss_backward",
    "nll_loss_forward",
]


def _class_axis(x):
    return min(1, x.ndim - 1)


def _indices(x, target, ignore_index=None):
    """target (N, *) -> index (N, 1, *) to gather with, and kept (N, 1, *), False where the label is ignored.

    A negative label would count from the end: it is made too large, so that the library refuses it or gives NaN.
    """
    xp, axis = array_namespace(x, target), _class_axis(x)
    wide = target.dtype in (xp.int32, xp.int64)
    t = target if wide else xp.astype(target, xp.int32)
    t = xp.expand_dims(xp.reshape(t, ()) if x.ndim == 1 else t, axis=axis)  # torch takes (1,) with (C,)
    kept = t == t if ignore_index is None else t != ignore_index
    return xp.where(kept, xp.where(t < 0, x.shape[axis], t), 0), kept


def _label_weights(x, weight, index, kept):
    """(N, 1, *): the weight of each row's label, 0 where it is ignored."""
    xp = array_namespace(x)
    return xp.astype(kept, x.dtype) if weight is None else xp.where(kept, take_rows(weight, index), 0.0)


def _along_classes(weight, x):
    """weight (C,) -> (C, 1...), to be multiplied with x (N, C, *)."""
    return array_namespace(x).reshape(weight, (-1,) + (1,) * (x.ndim - 1 - _class_axis(x)))


def _row_shares(dy, reduction, norm, x):
    """What each row gets of dy: (), or (N, 1, *) for reduction 'none'."""
    s = share(dy, reduction, norm, x)
    return array_namespace(x).expand_dims(s, axis=_class_axis(x)) if reduction == "none" else s


@accelerable
def nll_loss_forward(x, target, weight=None, ignore_index=-100, reduction="mean"):
    """y = -w x[label], w the weight of the label, reduced; 'mean' divides by the sum of the w.

    x (N, C, *) or (C,) of log-probabilities, target (N, *) or () of labels, weight (C,) -> y (), or (N, *) for
    reduction 'none'. A row whose label is ignore_index counts for nothing; the mean of no rows is NaN.
    Errors: IndexError of the library for a label out of range (NaN on jax; CuPy does not look).
    Twin: torch.nn.functional.nll_loss.
    Source: Fisher, On the mathematical foundations of theoretical statistics (1922).
    """
    xp, axis = array_namespace(x, target, weight), _class_axis(x)
    index, kept = _indices(x, target, ignore_index)  # (N, 1, *)
    w = _label_weights(x, weight, index, kept)
    loss = -w * xp.where(kept, take_along(x, index, axis), 0.0)
    norm = sum_of_weights(w)
    return reduce(xp.squeeze(loss, axis=axis), reduction, norm), (x, index, kept, w, reduction, norm)


@follows_cache
def nll_loss_backward(dy, cache, *, wanted=None):
    """dy () or (N, *) -> dx (N, C, *), None, None: the gradients of `nll_loss_forward`. dy None is 1."""
    x, index, kept, w, reduction, norm = cache
    want_x, *_ = wants(wanted, 3)
    if not want_x:
        return None, None, None
    xp = array_namespace(x)
    dloss = xp.where(kept, -w * _row_shares(dy, reduction, norm, x), 0.0)
    return add_along(xp.zeros_like(x), index, dloss, _class_axis(x)), None, None


nll_loss = answer_of(nll_loss_forward)


@accelerable
def cross_entropy_forward(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """y = -sum_c q_c log(p_c), p the softmax of x over the classes, reduced.

    For a label, q is w (1 - e) at the label and w_c e / C more everywhere, e the label smoothing, w the weights of the
    classes; a row whose label is ignore_index counts for nothing, and 'mean' divides by the sum of the labels' weights.
    For probabilities t, q_c = w_c ((1 - e) t_c + e / C), and 'mean' divides by the number of rows.
    x (N, C, *) or (C,), target (N, *) or () of integers or (N, C, *) or (C,) of floats, weight (C,) -> y (), or (N, *)
    or () for reduction 'none'. The mean of no rows is NaN.
    Errors: IndexError of the library for a label out of range (NaN on jax; CuPy does not look).
    Twin: torch.nn.functional.cross_entropy.
    Source: Bridle, Training stochastic model recognition algorithms as networks (1990); Szegedy et al., Rethinking the
    Inception architecture (2015).
    """
    xp, axis = array_namespace(x, target, weight), _class_axis(x)
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.isinf(top), math.nan, top)  # inf - inf, without NumPy's warning
    z = x - top  # (N, C, *)
    sum_exp = total(xp.exp(z), axis=axis, keepdims=True)
    log_sum = xp.log(sum_exp)  # (N, 1, *): log(p) = z - log_sum
    if is_floating(target):
        labels, target = None, as_floats(target, x)
        q = _soft_targets(x, target, weight, label_smoothing)
        loss = log_sum * total(q, axis=axis, keepdims=True) - total(q * z, axis=axis, keepdims=True)
        norm = size(loss)
    else:
        index, kept = _indices(x, target, ignore_index)  # (N, 1, *)
        w = _label_weights(x, weight, index, kept)
        labels = index, kept, w
        loss = (1.0 - label_smoothing) * w * (log_sum - xp.where(kept, take_along(z, index, axis), 0.0))
        if label_smoothing:
            spread, sum_of_spread = _smoothing(x, weight, label_smoothing)
            loss = loss + sum_of_spread * log_sum - total(spread * z, axis=axis, keepdims=True)
        loss = xp.where(kept, loss, 0.0)
        norm = sum_of_weights(w)
    y = reduce(xp.squeeze(loss, axis=axis), reduction, norm)
    return y, (x, top, sum_exp, target, labels, weight, reduction, label_smoothing, norm)


@follows_cache
def cross_entropy_backward(dy, cache, *, wanted=None):
    """dy () or (N, *) -> dx (N, C, *), dtarget, dweight: the gradients of `cross_entropy_forward`. dy None is 1.

    dtarget and dweight are None for labels, as in torch.
    """
    x, top, sum_exp, target, labels, weight, reduction, label_smoothing, norm = cache
    want_x, want_target, want_weight = wants(wanted, 3)
    xp, axis = array_namespace(x, target, weight), _class_axis(x)
    s = _row_shares(dy, reduction, norm, x)
    dx = dtarget = dweight = None
    if labels is not None:
        if want_x:
            index, kept, w = labels
            dlabel = xp.where(kept, (1.0 - label_smoothing) * w * s, 0.0)  # (N, 1, *)
            spread, sum_of_spread = _smoothing(x, weight, label_smoothing)
            drow = xp.where(kept, s + xp.zeros_like(w), 0.0)
            dx = xp.exp(x - top) * ((dlabel + drow * sum_of_spread) / sum_exp)
            dx = dx - drow * spread if label_smoothing else dx
            dx = add_along(dx, index, -dlabel, axis)
        return dx, None, None
    if want_x:
        q = _soft_targets(x, target, weight, label_smoothing)
        dx = (xp.exp(x - top) * (total(q, axis=axis, keepdims=True) / sum_exp) - q) * s
    if want_target or want_weight:
        dq = (xp.log(sum_exp) - (x - top)) * s  # -log(p)
        if want_target:
            dtarget = (1.0 - label_smoothing) * (dq if weight is None else dq * _along_classes(weight, x))
        if want_weight and weight is not None:
            dc = dq * _soft_targets(x, target, None, label_smoothing)
            dweight = total(dc, axis=tuple(i for i in range(x.ndim) if i != axis)) if x.ndim > 1 else dc
    return dx, dtarget, dweight


def _soft_targets(x, target, weight, label_smoothing):
    """q (N, C, *): the probabilities, smoothed, times the weights of the classes."""
    q = target
    if label_smoothing:
        q = (1.0 - label_smoothing) * target + label_smoothing / x.shape[_class_axis(x)]
    return q if weight is None else q * _along_classes(weight, x)


def _smoothing(x, weight, label_smoothing):
    """What smoothing adds to q for labels: numbers, or arrays (C, 1...) and () with weights; and the sum of it."""
    part = label_smoothing / x.shape[_class_axis(x)]
    if weight is None:
        return part, label_smoothing
    return part * _along_classes(weight, x), part * total(weight)


cross_entropy = answer_of(cross_entropy_forward)


def _margins(x, index, margin):
    """How far each class is above the margin under the labelled one: max(margin - x[label] + x, 0), (N, C)."""
    xp = array_namespace(x)
    return xp.clip(margin - take_along(x, index, _class_axis(x)) + x, 0.0, math.inf)


def multi_margin_loss_forward(x, target, p=1, margin=1.0, weight=None, reduction="mean"):
    """y = w sum of max(margin - x[label] + x[c], 0)^p / C over the other classes c, w the label's weight; reduced.

    x (N, C) or (C,), target (N,) or () of labels, p 1 or 2, weight (C,) -> y (), or (N,) for reduction 'none'.
    Errors: IndexError of the library for a label out of range (NaN on jax; CuPy does not look).
    Twin: torch.nn.functional.multi_margin_loss.
    Source: Crammer, Singer, On the algorithmic implementation of multiclass kernel-based vector machines (2001).
    """
    xp, axis = array_namespace(x, target, weight), _class_axis(x)
    index, kept = _indices(x, target)
    others = _others(x, index)
    z = xp.where(others, _margins(x, index, margin), 0.0)
    w = _label_weights(x, weight, index, kept)  # (N, 1)
    loss = total(z if p == 1 else z * z, axis=axis, keepdims=True) * w * (1.0 / x.shape[axis])
    loss = xp.reshape(loss, target.shape)
    return reduce(loss, reduction, size(loss)), (x, index, w, p, margin, reduction, size(loss))


def multi_margin_loss_backward(dy, cache, *, wanted=None):
    """dy () or (N,) -> dx (N, C), None, None: the gradients of `multi_margin_loss_forward`. dy None is 1."""
    x, index, w, p, margin, reduction, norm = cache
    want_x, *_ = wants(wanted, 3)
    if not want_x:
        return None, None, None
    xp, axis = array_namespace(x), _class_axis(x)
    s = xp.reshape(dy, index.shape) if reduction == "none" else share(dy, reduction, norm, x)
    z = _margins(x, index, margin)
    slope = xp.astype(z > 0, x.dtype) if p == 1 else 2.0 * z
    d = xp.where(_others(x, index), slope * (w * s * (1.0 / x.shape[axis])), 0.0)
    return add_along(d, index, -total(d, axis=axis, keepdims=True), axis), None, None


def _others(x, index):
    """(N, C), False at the label."""
    xp = array_namespace(x)
    hot = one_hot(xp.squeeze(index, axis=_class_axis(x)), x.shape[-1], x.dtype)
    return hot == 0


multi_margin_loss = answer_of(multi_margin_loss_forward)


def _label_pairs(x, target):
    """target (N, C) -> hot (N, C, C), True at [n, j, target[n, j]] for the labels before the first negative one."""
    xp = array_namespace(x, target)
    t = target if target.dtype in (xp.int32, xp.int64) else xp.astype(target, xp.int32)
    listed = xp.cumulative_sum(xp.astype(t < 0, xp.int32), axis=-1) == 0
    return one_hot(xp.where(listed, t, -1), x.shape[-1], x.dtype)  # all 0 where -1


def _pair_margins(x, hot):
    """(N, j, c): 1 - x[label j] + x[c] where it is positive, j is a label and c is none, 0 elsewhere."""
    xp = array_namespace(x)
    labelled = xp.max(hot, axis=-2, keepdims=True)  # (N, 1, C)
    listed = xp.max(hot, axis=-1, keepdims=True)  # (N, C, 1)
    rows, nothing = x[..., None, :], xp.zeros_like(hot)  # chosen, not multiplied: 0 times an infinity is none
    at_label = total(xp.where(hot > 0, rows, nothing), axis=-1, keepdims=True)  # (N, C, 1)
    margins = xp.clip(1.0 - at_label + xp.where(labelled == 0, rows, nothing), 0.0, math.inf)
    return xp.where((listed > 0) & (labelled == 0), margins, nothing)


def multilabel_margin_loss_forward(x, target, reduction="mean"):
    """y = sum of max(1 - x[j] + x[c], 0) / C over the labels j and the classes c that are no labels, reduced.

    x (N, C) or (C,), target (N, C) or (C,) of labels, those before the first negative one -> y (), or (N,) or () for
    reduction 'none'. It takes memory N C^2. Errors: those of the library where the shapes do not fit.
    Twin: torch.nn.functional.multilabel_margin_loss.
    Source: Elisseeff, Weston, A kernel method for multi-labelled classification (2001).
    """
    z = _pair_margins(x, _label_pairs(x, target))
    loss = array_namespace(x).asarray(total(z, axis=(-2, -1)) * (1.0 / x.shape[-1]))
    return reduce(loss, reduction, size(loss)), (x, target, reduction, size(loss))


def multilabel_margin_loss_backward(dy, cache, *, wanted=None):
    """dy () or (N,) -> dx (N, C), None: the gradients of `multilabel_margin_loss_forward`. dy None is 1."""
    x, target, reduction, norm = cache
    want_x, _ = wants(wanted, 2)
    if not want_x:
        return None, None
    xp = array_namespace(x, target)
    s = share(dy, reduction, norm, x)
    s = (s[..., None] if reduction == "none" else s) * (1.0 / x.shape[-1])
    hot = _label_pairs(x, target)
    over = xp.astype(_pair_margins(x, hot) > 0, x.dtype)  # (N, j, c)
    at_labels = total(total(over, axis=-1, keepdims=True) * hot, axis=-2)  # what each label gets, from its row of c
    return fit((total(over, axis=-2) - at_labels) * s, x), None


multilabel_margin_loss = answer_of(multilabel_margin_loss_forward)
