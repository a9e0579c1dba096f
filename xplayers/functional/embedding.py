"""Look-ups in a table of rows.

Indices are not looked at, so that the functions run under jit and without waiting for a device: one that is out of
range is the library's affair (IndexError on NumPy and torch for one too large, silence elsewhere).
"""

import math

from xplayers.arrays import accumulator, array_namespace, device, dot_trailing, index_add, like, take_rows, total
from xplayers.arrays import one_hot as equals
from xplayers.errors import refusal

from .distance import vector_norm_forward
from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "embedding",
    "embedding_backward",
    "embedding_bag",
    "embedding_bag_backward",
    "embedding_bag_forward",
    "embedding_bag_weight",
    "embedding_forward",
    "embedding_weight",
    "one_hot",
    "one_hot_backward",
    "one_hot_forward",
]


def _renormalised(weight, index, max_norm, norm_type):
    """weight (V, D) with the rows that index (N,) names scaled down to a norm of max_norm; weight itself for None."""
    if max_norm is None:
        return weight
    xp = array_namespace(weight)
    norm = vector_norm_forward(weight, norm_type, 1, True)[0]  # (V, 1)
    named = index_add(xp.zeros(weight.shape[:1], **like(weight)), index, xp.ones(index.shape, **like(weight)))
    large = (named[:, None] > 0) & (norm > max_norm)
    return xp.where(large, weight * (max_norm / (norm + 1e-7)), weight)


def _row_of_padding(where, padding_idx, weight):
    v = weight.shape[0]
    if padding_idx is not None and not -v <= padding_idx < v:
        raise refusal(where, "padding_idx", str(padding_idx), f"a row of {v}", f"pass one in [{-v}, {v})")
    return padding_idx if padding_idx is None else padding_idx % v


def _over_frequency(drows, index, v):
    """drows (N, D), index (N,) -> each row over the number of times that its index occurs."""
    xp = array_namespace(drows)
    occurs = index_add(xp.zeros((v,), **like(drows)), index, xp.ones(index.shape, **like(drows)))
    return drows / take_rows(occurs, index)[:, None]


def _without(rows, hole):
    """rows (N, D) with 0 where hole (N,)."""
    return array_namespace(rows).where(hole[:, None], array_namespace(rows).zeros_like(rows), rows)


@accelerable
def embedding_forward(
    x, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False
):
    """y = weight[x].

    x (*) of integers, weight (V, D) -> y (*, D). The row padding_idx gets no gradient. scale_grad_by_freq divides the
    gradient of a row by how often x names it. `sparse` has no effect. With max_norm the rows that x names are first
    scaled down to that norm_type-norm: torch does it in place, here weight is not written to and
    `embedding_weight(cache)` gives the weight to keep. The scaling has no gradient, as in torch.
    Errors: ValueError for a padding_idx beyond the rows; indices out of range: see the module.
    Twin: torch.nn.functional.embedding. Source: Bengio et al., A neural probabilistic language model (2003).
    """
    xp = array_namespace(x, weight)
    padding_idx = _row_of_padding("embedding", padding_idx, weight)
    weight = _renormalised(weight, xp.reshape(x, (-1,)), max_norm, norm_type)
    return take_rows(weight, x), (x, weight, padding_idx, scale_grad_by_freq)


@follows_cache
def embedding_backward(dy, cache, *, wanted=None):
    """dy (*, D) -> None, dweight (V, D): the gradients of `embedding_forward`."""
    _, want_weight = wants(wanted, 2)
    x, weight, padding_idx, scale_grad_by_freq = cache
    if not want_weight:
        return None, None
    xp = array_namespace(dy)
    index = xp.reshape(x, (-1,))  # (N,)
    drows = xp.reshape(dy, (*index.shape, weight.shape[1]))  # (N, D)
    if padding_idx is not None:
        drows = _without(drows, index == padding_idx)
    if scale_grad_by_freq:
        drows = _over_frequency(drows, index, weight.shape[0])
    return None, index_add(xp.zeros(weight.shape, **like(weight)), index, drows)


def embedding_weight(cache):
    """The weight of an `embedding_forward` with the rows scaled down that exceeded max_norm, (V, D).

    A faster twin's cache has it in the same place.
    """
    return cache[-3]


embedding = answer_of(embedding_forward)


@accelerable
def embedding_bag_forward(
    x,
    weight,
    offsets=None,
    max_norm=None,
    norm_type=2.0,
    scale_grad_by_freq=False,
    mode="mean",
    sparse=False,
    per_sample_weights=None,
    include_last_offset=False,
    padding_idx=None,
):
    """y_b = the sum, mean or maximum of the rows weight[x_n] over the n of bag b.

    x (B, L), a bag a row, or x (N,) with offsets (B,), where each bag starts, the first at 0; with include_last_offset
    offsets (B + 1,) end in N. weight (V, D), per_sample_weights shaped as x, for mode="sum" only -> y (B, D). The row
    padding_idx counts as not there. An empty bag gives 0. The first of equal maxima takes the gradient.
    max_norm, norm_type, scale_grad_by_freq, sparse: as in `embedding_forward`; `embedding_bag_weight(cache)`.
    Errors: ValueError for another mode, for ranks and arguments that do not go together.
    Twin: torch.nn.functional.embedding_bag.
    Source: Joulin et al., Bag of tricks for efficient text classification (2016).
    """
    _check_bags(x, weight, offsets, mode, per_sample_weights, scale_grad_by_freq)
    xp = array_namespace(x, weight, offsets, per_sample_weights)
    padding_idx = _row_of_padding("embedding_bag", padding_idx, weight)
    d = weight.shape[1]
    index = xp.reshape(x, (-1,))  # (N,)
    n = index.shape[0]
    positions = xp.arange(n, dtype=x.dtype, device=device(x))
    if x.ndim == 2:
        bags, longest = x.shape
        bag = positions // max(longest, 1)  # (N,)
        last = xp.arange(1, bags + 1, dtype=x.dtype, device=device(x)) * longest - 1  # (B,): where each bag ends
    else:
        starts = xp.astype(offsets[:-1] if include_last_offset else offsets, x.dtype)
        bags, longest = starts.shape[0], n
        bag = xp.searchsorted(starts, positions, side="right") - 1
        last = xp.concat([starts[1:], xp.full((min(bags, 1),), n, **like(starts))]) - 1
    weight = _renormalised(weight, index, max_norm, norm_type)
    rows = take_rows(weight, index)  # (N, D)
    hole = None if padding_idx is None else index == padding_idx  # (N,)
    counts = chosen = None
    if mode != "sum":
        acc = {"dtype": accumulator(weight), "device": device(weight)}
        there = xp.ones((n,), **acc) if hole is None else xp.astype(~hole, accumulator(weight))
        counts = index_add(xp.zeros((bags,), **acc), bag, there)  # (B,): what a bag holds
    if mode == "max":
        y, chosen = _largest(rows, index, bag, hole, longest, last, counts)
    else:
        if hole is not None:
            rows = _without(rows, hole)
        if per_sample_weights is not None:
            rows = rows * xp.reshape(per_sample_weights, (n, 1))
        if x.ndim == 2:
            y = total(xp.reshape(rows, (bags, longest, d)), axis=1)
        else:
            y = index_add(xp.zeros((bags, d), **like(rows)), bag, rows)
        if mode == "mean":
            y = y / xp.astype(xp.maximum(counts, 1.0), y.dtype)[:, None]
    return y, (index, bag, hole, counts, chosen, mode, x.shape, per_sample_weights, weight, scale_grad_by_freq)


def _check_bags(x, weight, offsets, mode, per_sample_weights, scale_grad_by_freq):
    def refuse(argument, got, expected, mend):
        raise refusal("embedding_bag", argument, got, expected, mend)

    if mode not in ("sum", "mean", "max"):
        refuse("mode", repr(mode), "'sum', 'mean' or 'max'", "pass one of them")
    if weight.ndim != 2:
        refuse("weight", f"shape {weight.shape}", "shape (V, D)", "reshape it")
    if x.ndim not in (1, 2):
        refuse("x", f"shape {x.shape}", "shape (B, L), or (N,) with offsets", "reshape x")
    if x.ndim == 2 and offsets is not None:
        refuse("offsets", f"shape {offsets.shape}", "None, as each row of x is a bag", "leave it out, or flatten x")
    if x.ndim == 1 and (offsets is None or offsets.ndim != 1):
        got = "None" if offsets is None else f"shape {offsets.shape}"
        refuse("offsets", got, "shape (B,), as x has one axis", "pass where each bag starts")
    if per_sample_weights is not None and per_sample_weights.shape != x.shape:
        refuse("per_sample_weights", f"shape {per_sample_weights.shape}", f"the shape of x, {x.shape}", "reshape it")
    if per_sample_weights is not None and mode != "sum":
        refuse("per_sample_weights", f"an array with mode={mode!r}", "None", "pass mode='sum'")
    if mode == "max" and scale_grad_by_freq:
        refuse("scale_grad_by_freq", "True with mode='max'", "False", "pass another mode")


def _largest(rows, index, bag, hole, longest, last, counts):
    """rows (N, D) -> the maxima of the bags and the rows of the table they come from, (B, D) each.

    A running maximum within each bag, in steps that double: after it, the last row of a bag holds the bag's maximum.
    """
    xp = array_namespace(rows)
    bags, (n, d) = last.shape[0], rows.shape
    if not n:
        return xp.zeros((bags, d), **like(rows)), xp.zeros((bags, d), **like(index))
    if hole is not None:
        rows = xp.where(hole[:, None], xp.full_like(rows, -math.inf), rows)
    chosen = xp.broadcast_to(index[:, None], (n, d))
    step = 1
    while step < min(longest, n):
        same = (bag[step:] == bag[:-step])[:, None]
        earlier = same & (rows[:-step, :] >= rows[step:, :])  # the first of equals wins
        rows, chosen = (xp.concat([t[:step, :], xp.where(earlier, t[:-step, :], t[step:, :])]) for t in (rows, chosen))
        step *= 2
    last = xp.maximum(last, xp.zeros_like(last))
    y = take_rows(rows, last)
    return _without(y, counts == 0), take_rows(chosen, last)


@follows_cache
def embedding_bag_backward(dy, cache, *, wanted=None):
    """dy (B, D) -> None, dweight (V, D), None, dper_sample_weights as x: the gradients of `embedding_bag_forward`."""
    _, want_weight, _, want_samples = wants(wanted, 4)
    index, bag, hole, counts, chosen, mode, shape, per_sample_weights, weight, scale_grad_by_freq = cache
    xp = array_namespace(dy, weight)
    v, d = weight.shape
    dweight = dsamples = None
    if mode == "max":
        if want_weight:
            columns = xp.arange(d, dtype=chosen.dtype, device=device(chosen))
            flat = index_add(xp.zeros((v * d,), **like(weight)), chosen * d + columns, _without(dy, counts == 0))
            dweight = xp.reshape(flat, (v, d))
        return None, dweight, None, None
    if mode == "mean":
        dy = dy / xp.astype(xp.maximum(counts, 1.0), dy.dtype)[:, None]
    drows = take_rows(dy, bag) if index.shape[0] else xp.zeros((0, d), **like(dy))  # (N, D)
    if hole is not None:
        drows = _without(drows, hole)
    if want_samples and per_sample_weights is not None:
        dsamples = xp.reshape(dot_trailing(drows, take_rows(weight, index)), shape)
    if want_weight:
        if per_sample_weights is not None:
            drows = drows * xp.reshape(per_sample_weights, (-1, 1))
        if scale_grad_by_freq:
            drows = _over_frequency(drows, index, v)
        dweight = index_add(xp.zeros((v, d), **like(weight)), index, drows)
    return None, dweight, None, dsamples


def embedding_bag_weight(cache):
    """`embedding_weight` of an `embedding_bag_forward`, (V, D)."""
    return cache[-2]


embedding_bag = answer_of(embedding_bag_forward)


def one_hot_forward(x, num_classes=-1):
    """y[..., k] = 1 where x = k, else 0.

    x (*) of integers -> y (*, num_classes) in x's dtype. num_classes=-1 takes the largest of x plus one: it looks at
    the values, so jit wants num_classes given, and so does an empty x (ValueError). A value out of range gives a row of
    zeros, where torch refuses it.
    Errors: ValueError for an empty x without num_classes. Twin: torch.nn.functional.one_hot.
    Source: elementary.
    """
    if num_classes == -1:
        if not math.prod(x.shape):
            raise refusal("one_hot", "num_classes", "-1 for an empty x", "the number of classes", "pass num_classes=")
        num_classes = int(array_namespace(x).max(x)) + 1
    return equals(x, num_classes, x.dtype), ()


def one_hot_backward(dy, cache, *, wanted=None):
    """None: integers have no gradient."""
    wants(wanted, 1)


one_hot = answer_of(one_hot_forward)
