"""The gradients of tables of rows with NumPy alone: each round adds one row to every place that is still named.

Every place notes the first index that names it: these rows have their places to themselves and are written at once;
the others are the next round's. Nothing is sorted, and there is no second table. Only what is named more often than
there are rounds is sorted and summed run by run. Bags are rows gathered in blocks, which threads share. Declined: half
precision, max_norm, scale_grad_by_freq; of bags those with offsets, weights of samples, mode "max" and a padding index.
"""

from typing import Any

import numpy as np

from xplayers.functional.embedding import embedding_bag_forward, embedding_forward
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs

__all__: list[str] = []

_ROUNDS = 6
_BLOCK = 1 << 17  # numbers gathered in a block


def _table(shape: tuple, index: np.ndarray, rows: np.ndarray, of: np.ndarray | None) -> np.ndarray:
    """The sums of `rows` at the places that index (N,) names, in its order; row n, or row of[n], goes to index[n]."""
    table = np.zeros(shape, rows.dtype)
    slot = np.empty(shape[0], np.intp)
    for turn in range(_ROUNDS):
        n = np.arange(index.size)
        slot[index[::-1]] = n[::-1]  # the first that names a place is written last
        first = slot.take(index, mode="wrap") == n
        places = index[first]
        values = rows[first] if of is None else rows.take(of[first], axis=0)
        if turn == 0:
            table[places] = values
        else:
            table[places] += values
        later = ~first
        index = index[later]
        if of is None:
            rows = rows[later]
        else:
            of = of[later]
        if not index.size:
            return table
    order = np.argsort(index, kind="stable")
    index = index[order]
    starts = np.flatnonzero(np.concatenate([[True], index[1:] != index[:-1]]))
    table[index[starts]] += np.add.reduceat(rows.take(order if of is None else of[order], axis=0), starts, axis=0)
    return table


def _is_table(x: Any, weight: Any, padding_idx: Any, max_norm: Any, scale_grad_by_freq: bool) -> bool:
    plain = type(x) is type(weight) is np.ndarray and x.dtype.kind in "iu" and weight.dtype.char in "fd"
    inside = plain and weight.ndim == 2 and (padding_idx is None or -len(weight) <= padding_idx < len(weight))
    return inside and x.size > 0 and weight.size > 0 and max_norm is None and not scale_grad_by_freq


def _supports(
    x: Any, weight: Any, padding_idx: Any, max_norm: Any, norm_type: Any, by_freq: bool, sparse: bool
) -> bool:
    return _is_table(x, weight, padding_idx, max_norm, by_freq)


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    x, weight, padding_idx, _ = cache
    _, want_weight = wants(wanted, 2)
    if not want_weight:
        return None, None
    index = x.reshape(-1)
    rows = dy.reshape(index.size, weight.shape[1])
    if padding_idx is None:
        return None, _table(weight.shape, index, rows, None)
    named = np.flatnonzero(index != padding_idx)
    return None, _table(weight.shape, index[named], rows, named)


@kernel("numpy", embedding_forward, _backward, _supports, rule="float32 and float64, plain: rows added in rounds")
def forward(x: Any, weight: Any, padding_idx: Any, *options: Any) -> Any:
    """The forward is NumPy's own take."""
    if not _supports(x, weight, padding_idx, *options):
        return NotImplemented
    hole = None if padding_idx is None else padding_idx % len(weight)
    # the weight stands where embedding_weight looks for it
    return weight.take(x, axis=0), (x, weight, hole, False)


def _bag_supports(x: Any, weight: Any, offsets: Any, max_norm: Any, _: Any, by_freq: bool, *how: Any) -> bool:
    mode, _, samples, _, padding_idx = how
    plain = _is_table(x, weight, None, max_norm, by_freq) and x.ndim == 2 and mode in ("sum", "mean")
    return plain and offsets is None and samples is None and padding_idx is None


def _bag_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    x, mode, weight, _ = cache
    _, want_weight, _, _ = wants(wanted, 4)
    if not want_weight:
        return None, None, None, None
    bags, longest = x.shape
    rows = dy / longest if mode == "mean" else dy
    return None, _table(weight.shape, x.reshape(-1), rows, np.repeat(np.arange(bags), longest)), None, None


@kernel(
    "numpy",
    embedding_bag_forward,
    _bag_backward,
    _bag_supports,
    rule="float32 and float64, a bag a row, sum or mean, plain: rows gathered in blocks",
)
def bag_forward(x: Any, weight: Any, *options: Any) -> Any:
    """Rows gathered and added up, some bags at once."""
    if not _bag_supports(x, weight, *options):
        return NotImplemented
    mode = options[4]
    y = np.empty((x.shape[0], weight.shape[1]), weight.dtype)

    def block(r: slice) -> None:
        np.add.reduce(weight.take(x[r], axis=0), axis=1, out=y[r])

    in_parts(block, runs(len(x), _BLOCK // (x.shape[1] * weight.shape[1])))
    if mode == "mean":
        y /= x.shape[1]
    # the weight stands where embedding_bag_weight looks for it
    return y, (x, mode, weight, None)
