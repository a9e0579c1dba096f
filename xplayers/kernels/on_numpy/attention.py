"""Attention with NumPy alone: some heads and rows at a time, whose scores stay in the cache, over threads.

Each thread has one BLAS thread. Scores are written over by their exponentials, which the backward reads; their sums
divide the answer, which is smaller. Where all scores of a block are small the rows are not shifted by their maxima.
Of a causal block the columns beyond its rows are not computed. The whole of many heads takes and leaves heads as
columns of the projections, without copies. Declined: dropout, weights that are asked for, groups of heads, added and
static keys, half precision.
"""

import functools
import inspect
import math
import types
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from xplayers.arrays import sum_to
from xplayers.functional import attention as F
from xplayers.functional.pair import wants

from ..registry import kernel, worth
from ..threads import products_in_parts, runs

_BLOCK = 1 << 18  # scores of a part: a megabyte in float32
_ROWS = 128  # of a causal block
_WORTH_THREADS = 1 << 16  # scores
_LEAST = 1 << 10  # scores below which the calls cost what is saved
_SMALL = 40.0  # of the magnitude of scores: neither sums of exponentials nor what they divide leave the range of floats

_RULE = "float32 and float64, no dropout, no groups of heads, no axis that broadcasts but the mask's"


class _Block(NamedTuple):
    """Rows of some heads: their exponentials (n, h, b, columns), and what these are to be multiplied by (n, h, b)."""

    rows: slice
    p: Any
    inverse: Any


def _parts(n: int, h: int, scores: int) -> list[tuple[slice, slice]]:
    """Samples and heads that are taken together, of so many scores a head: two parts at least where it is worth it."""
    if n * h * scores < _WORTH_THREADS:
        return [(slice(0, n), slice(0, h))]
    most = max(1, _BLOCK // scores)
    if n == 1 or most < h:
        heads = runs(h, min(most, -(-h // 2) if n == 1 else h))
        return [(slice(i, i + 1), r) for i in range(n) for r in heads]
    return [(r, slice(0, h)) for r in runs(n, min(most // h, -(-n // 2)))]


def _over(work: Callable[[Any], None], parts: Sequence[Any]) -> None:
    """work of all parts; NaN and infinities pass without a warning."""

    def quietly(part: Any) -> None:
        with np.errstate(all="ignore"):
            work(part)

    if len(parts) == 1:
        quietly(parts[0])
    else:
        products_in_parts(quietly, parts)


def _is_finite(x: Any) -> bool:
    return math.isfinite(np.add.reduce(x, axis=None))


def _shift(s: Any) -> None:
    """Takes the maximum of each row from s, as the agnostic function does."""
    top = np.maximum.reduce(s, axis=-1, keepdims=True)
    s -= np.where(top == -np.inf, 0, np.where(top == np.inf, np.nan, top))


def _attend(q: Any, k: Any, v: Any, y: Any, mask: Any, causal: bool) -> tuple:
    """q (N, H, L, E) times the scale, k (N, H, S, E), v (N, H, S, V), y (N, H, L, V) is written into.

    mask: booleans or floats that broadcast to (N, H, L, S), or None. -> the parts, each with its blocks.
    """
    (n, h, t, _), columns = q.shape, k.shape[2]
    rows = runs(t, min(max(32, _BLOCK // columns), _ROWS if causal else t))
    ones = np.ones(columns, q.dtype)
    boolean = mask is not None and mask.dtype == np.bool_
    if mask is not None:
        mask = np.broadcast_to(~mask if boolean else mask, (n, h, t, columns))
    parts = [(part, []) for part in _parts(n, h, rows[0].stop * columns)]  # type: ignore[var-annotated]

    def work(given: Any) -> None:
        part, held = given
        a, b, c, d = q[part], k[part].swapaxes(-1, -2), v[part], y[part]
        skips = causal and _is_finite(b) and _is_finite(c)  # 0 times NaN is NaN
        for r in rows:
            end = min(r.stop, columns) if skips else columns
            s = a[:, :, r] @ b[..., :end]
            low, high = s.min(), s.max()
            if end < columns and not (math.isfinite(low) and math.isfinite(high)):
                end, s = columns, a[:, :, r] @ b
            shifts = not (low > -_SMALL and high < _SMALL)
            if boolean:
                np.copyto(s, -np.inf, where=mask[part][:, :, r])
            elif mask is not None:
                s += mask[part][:, :, r]
                shifts = True
            if causal and end > r.start:
                np.copyto(s[..., r.start :], -np.inf, where=_above(r.stop - r.start, end - r.start))
            if shifts:
                _shift(s)
            np.exp(s, out=s)
            sums = s @ ones[:end]
            inverse = np.divide(1, sums, out=sums, where=sums != 0)
            np.matmul(s, c[:, :, :end], out=d[:, :, r])
            d[:, :, r] *= inverse[..., None]
            held.append(_Block(r, s, inverse))

    _over(work, parts)
    return tuple((part, tuple(held)) for part, held in parts)


@functools.lru_cache(8)
def _above(n: int, m: int) -> Any:
    """(n, m) booleans: the columns beyond each row."""
    return np.arange(m) > np.arange(n)[:, None]


def _attend_backward(dy: Any, given: Any, parts: tuple, scale: float, causal: bool, gradients: Any) -> None:
    """dy (N, H, L, V) -> the gradients of q, k, v and the scores (N, H, L, S), written into those that are not None.

    given: q times the scale, k and v.
    """
    (q, k, v), (dq, dk, dv, ds) = given, gradients
    columns = k.shape[2]

    def work(given: Any) -> None:
        part, blocks = given
        a, b, c, d = q[part], k[part], v[part].swapaxes(-1, -2), dy[part]
        whole, first = causal and not _is_finite(d), True  # 0 times NaN is NaN
        for r, p, inverse in reversed(blocks):  # that with the most columns first
            if whole:
                p = np.concatenate([p, np.zeros((*p.shape[:-1], columns - p.shape[-1]), p.dtype)], axis=-1)
            end = p.shape[-1]
            over = d[:, :, r] * inverse[..., None]
            if dv is not None:
                _add_product(p, over, dv[part], first)
            if dq is not None or dk is not None or ds is not None:
                dp = over @ c[..., :end]
                # the rows' sums from dp itself: where one key has all the weight, they cancel to the last bit
                sums = np.vecdot(dp, p)
                sums *= inverse
                dp -= sums[..., None]
                dp *= p
                if ds is not None:
                    ds[part][:, :, r] = dp
                if dq is not None:
                    np.matmul(dp, b[:, :, :end], out=dq[part][:, :, r])
                if dk is not None:
                    _add_product(dp, a[:, :, r], dk[part], first)
            first = False
        if dq is not None:
            dq[part] *= scale

    _over(work, parts)


def _add_product(p: Any, d: Any, out: Any, first: bool) -> None:
    """out (*, S, E) += p^T d of p (*, b, columns), d (*, b, E); the first writes 0 beyond the columns."""
    columns, p = out[:, :, : p.shape[-1]], p.swapaxes(-1, -2)
    if first:
        np.matmul(p, d, out=columns)
        out[:, :, p.shape[-2] :] = 0
    else:
        columns += p @ d


# -- scaled products of queries and keys --


def _plain(*arrays: Any) -> bool:
    """Whether all that are not None are NumPy arrays of one dtype of float32 and float64, with something in them."""
    first = arrays[0]
    return first.dtype.char in "fd" and all(
        a is None or (type(a) is np.ndarray and a.dtype == first.dtype and a.size > 0) for a in arrays
    )


def _supports(query: Any, key: Any, value: Any, attn_mask: Any, *options: Any, mask: Any, rng: Any) -> bool:
    """Whether there is neither dropout nor are there groups of heads, and no axis of the three broadcasts."""
    dropout_p, is_causal, _, enable_gqa = options
    if dropout_p or mask is not None or enable_gqa or (is_causal and attn_mask is not None):
        return False
    if not _plain(query, key, value) or not 2 <= query.ndim == key.ndim == value.ndim <= 4:
        return False
    if query.shape[:-2] != key.shape[:-2] or key.shape[:-1] != value.shape[:-1] or query.shape[-1] != key.shape[-1]:
        return False
    return attn_mask is None or (
        type(attn_mask) is np.ndarray
        and attn_mask.dtype in (np.bool_, query.dtype)
        and attn_mask.ndim <= query.ndim
        and all(n in (1, m) for n, m in zip(attn_mask.shape[::-1], _scores_of(query, key)[::-1], strict=False))
    )


def _scores_of(query: Any, key: Any) -> tuple[int, ...]:
    return *query.shape[:-1], key.shape[-2]


def _four(x: Any) -> Any:
    """x with leading axes of 1, (N, H, L, E)."""
    return x.reshape((1,) * (4 - x.ndim) + x.shape)


def _backward(dy: Any, cache: tuple, *, wanted: Any = None) -> tuple:
    """dy (*, L, V) -> dquery, dkey, dvalue, and dattn_mask where the mask is of floats."""
    q, k, v, parts, scale, causal, shapes = cache
    *want, want_mask = wants(wanted, 4)
    out = [np.empty(x.shape, x.dtype) if w else None for w, x in zip(want, (q, k, v), strict=True)]
    want_mask = want_mask and shapes[3] is not None
    ds = np.empty((*q.shape[:3], k.shape[2]), q.dtype) if want_mask else None
    if any(want) or want_mask:
        _attend_backward(_four(dy), (q, k, v), parts, scale, causal, (*out, ds))
    d = [None if d is None else d.reshape(shape) for d, shape in zip(out, shapes[:3], strict=True)]
    return *d, None if ds is None else sum_to(ds, (1,) * (4 - len(shapes[3])) + shapes[3]).reshape(shapes[3])


@kernel("numpy", F.scaled_dot_product_attention_forward, _backward, _supports, rule=_RULE)
def scaled_dot_product_attention_forward(
    query: Any, key: Any, value: Any, attn_mask: Any, *options: Any, **drawn: Any
) -> Any:
    """y (*, L, V); the cache holds the exponentials of the scores."""
    if not _supports(query, key, value, attn_mask, *options, **drawn):
        return NotImplemented
    _, is_causal, scale, _ = options
    if not worth(math.prod(_scores_of(query, key)), _LEAST):
        return NotImplemented
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    q, k, v = _four(query * query.dtype.type(scale)), _four(key), _four(value)
    y = np.empty((*q.shape[:3], v.shape[3]), q.dtype)
    parts = _attend(q, k, v, y, None if attn_mask is None else _four(attn_mask), is_causal)
    shapes = *(x.shape for x in (query, key, value)), attn_mask.shape if _is_of_floats(attn_mask) else None
    return y.reshape((*query.shape[:-1], v.shape[3])), (q, k, v, parts, scale, is_causal, shapes)


def _is_of_floats(mask: Any) -> bool:
    return mask is not None and mask.dtype != np.bool_


# -- many heads --


_NAMES = tuple(inspect.signature(F.multi_head_attention_forward).parameters)


def _named(*arguments: Any, **drawn: Any) -> Any:
    """Every argument by its name; what is drawn has it already."""
    return types.SimpleNamespace(**dict(zip(_NAMES, arguments, strict=False)), **drawn)


def _takes(*arguments: Any, **drawn: Any) -> bool:
    """Whether neither weights nor dropout are asked for, and no keys are added or given."""
    a = _named(*arguments, **drawn)
    if a.need_weights or a.add_zero_attn or (a.training and (a.dropout_p or a.mask is not None)):
        return False
    if any(given is not None for given in (a.bias_k, a.bias_v, a.static_k, a.static_v)):
        return False
    masks = tuple(m for m in (a.key_padding_mask, a.attn_mask) if m is not None)
    floats = tuple(m for m in masks if m.dtype != np.bool_)
    biases = a.in_proj_bias, a.out_proj_bias
    if not _plain(a.query, a.key, a.value, *_projections(a), a.out_proj_weight, *biases, *floats):
        return False
    rank, query, key, value = a.query.ndim, a.query, a.key, a.value
    return (
        rank in (2, 3)
        and key.ndim == value.ndim == rank
        and key.shape[:-1] == value.shape[:-1]
        and (rank == 2 or query.shape[1] == key.shape[1])
        and all(type(m) is np.ndarray for m in masks)
    )


def _projections(a: Any) -> tuple:
    """The weights of the three projections, or the one that holds them."""
    separate = a.q_proj_weight, a.k_proj_weight, a.v_proj_weight
    return separate if a.use_separate_proj_weight else (a.in_proj_weight,)


class _Side(NamedTuple):
    """What a projection of query, key or value leaves behind. Rows stand in the order in which the array lies."""

    rows: Any  # (L N, I), or (N L, I) where it is turned
    y: Any  # (rows, E), the projection
    weight: Any
    scale: float
    length: int
    heads: int
    turned: bool

    def rows_of(self, x: Any) -> Any:
        """(L, N, E) -> (rows, E)."""
        return _rows_of(x, self.turned)

    def heads_of(self, y: Any) -> Any:
        """(rows, E) -> (N, H, L, E / H), a view."""
        if self.turned:
            return y.reshape(-1, self.length, self.heads, y.shape[1] // self.heads).transpose(0, 2, 1, 3)
        return y.reshape(self.length, -1, self.heads, y.shape[1] // self.heads).transpose(1, 2, 0, 3)

    def steps_of(self, y: Any) -> Any:
        """(rows, E) -> (L, N, E), a view."""
        if self.turned:
            return y.reshape(-1, self.length, y.shape[1]).transpose(1, 0, 2)
        return y.reshape(self.length, -1, y.shape[1])


def _projected(x: Any, weight: Any, bias: Any, scale: float, heads: int) -> _Side:
    """x (L, N, I), weight (E, I), bias (E,) or None."""
    turned = not x.flags.c_contiguous and x.transpose(1, 0, 2).flags.c_contiguous
    rows = _rows_of(x, turned)
    y = _affine(rows, weight, bias)
    if scale != 1.0:
        y *= scale
    return _Side(rows, y, weight, scale, len(x), heads, turned)


def _rows_of(x: Any, turned: bool) -> Any:
    return (x.transpose(1, 0, 2) if turned else x).reshape(-1, x.shape[-1])


def _affine(x: Any, weight: Any, bias: Any) -> Any:
    y = x @ weight.T
    if bias is not None:
        y += bias
    return y


def _thirds(x: Any) -> tuple:
    """The parts of query, key and value, views."""
    return (None,) * 3 if x is None else tuple(x.reshape(3, len(x) // 3, *x.shape[1:]))


def _weights_backward(d: Any, x: Any, dweight: Any, dbias: Any) -> None:
    """d (rows, out), x (rows, in) -> dweight (out, in) and dbias (out,), written into those that are not None."""
    if dweight is not None:
        np.matmul(d.T, x, out=dweight)
    if dbias is not None:
        np.matmul(np.ones(len(d), d.dtype), d, out=dbias)


class _Heads(NamedTuple):
    """What a forward leaves to its backward."""

    sides: tuple[_Side, _Side, _Side]
    parts: tuple
    causal: bool
    out: Any  # (rows, E): what the heads give, before the last projection
    out_weight: Any
    out_bias: Any
    in_weight: Any  # None where each side has a weight of its own
    in_bias: Any
    floats: tuple  # of each mask of floats its shape as (N, H, L, S) and as it was given
    batched: bool


def _heads_backward(dy: Any, cache: tuple, *, wanted: Any = None) -> tuple:
    """As functional/attention.py has it."""
    held = _Heads(*cache)
    sides, out, w = held.sides, held.out, wants(wanted, 16)
    new = lambda x, asked: None if x is None or not asked else np.empty(x.shape, x.dtype)  # noqa: E731
    q, dout = sides[0], dy[0]
    if dout is None:
        dout = np.zeros(out.shape, out.dtype)
    else:
        dout = q.rows_of(dout if held.batched else dout[:, None, :])
    dout_weight, dout_bias = new(held.out_weight, w[7]), new(held.out_bias, w[8])
    _weights_backward(dout, out, dout_weight, dout_bias)

    dweight, dbias = new(held.in_weight, w[3]), new(held.in_bias, w[4])
    dweights: tuple = (None,) * 3
    if held.in_weight is None:
        dweights = tuple(new(side.weight, asked) for side, asked in zip(sides, w[11:14], strict=True))
    parts = list(zip(sides, w[:3], dweights if dweight is None else _thirds(dweight), _thirds(dbias), strict=True))
    ds = [new(side.y, x or dw is not None or db is not None) for side, x, dw, db in parts]  # (rows, E) each
    want_masks = [asked and shapes is not None for asked, shapes in zip(w[9:11], held.floats, strict=True)]
    dscores = None
    if any(want_masks):
        dscores = np.empty((*q.heads_of(q.y).shape[:3], sides[1].length), out.dtype)
    if dscores is not None or any(d is not None for d in ds):
        given = [side.heads_of(side.y) for side in sides]
        to = [None if d is None else side.heads_of(d) for d, side in zip(ds, sides, strict=True)]
        dy = q.heads_of(dout @ held.out_weight)
        _attend_backward(dy, given, held.parts, q.scale, held.causal, (*to, dscores))
    dinputs = []
    for d, (side, want_x, dw, db) in zip(ds, parts, strict=True):
        _weights_backward(d, side.rows, dw, db)
        dx = side.steps_of(d @ side.weight) if want_x else None
        dinputs.append(dx if dx is None or held.batched else dx[:, 0, :])
    dmasks = [
        sum_to(dscores, shapes[0]).reshape(shapes[1]) if asked else None
        for asked, shapes in zip(want_masks, held.floats, strict=True)
    ]
    return *dinputs, dweight, dbias, None, None, dout_weight, dout_bias, *dmasks, *dweights, None, None


@kernel("numpy", F.multi_head_attention_forward, _heads_backward, _takes, rule=f"{_RULE}; weights not needed")
def multi_head_attention_forward(*arguments: Any, **drawn: Any) -> Any:
    """(y (L, N, E), None); heads are columns of the projections, which are not copied."""
    if not _takes(*arguments, **drawn):
        return NotImplemented
    a = _named(*arguments, **drawn)
    batched, h = a.query.ndim == 3, a.num_heads
    inputs = tuple(x if batched else x[:, None, :] for x in (a.query, a.key, a.value))
    (t, n, e), s = inputs[0].shape, len(a.key)
    F._check(inputs[0], a.embed_dim_to_check, h, None, None, None, None, a.is_causal, a.attn_mask)
    hint = a.is_causal and a.key_padding_mask is None  # the causal mask takes the given one's place
    shapes = (n, 1, 1, s), (1, 1, t, s) if a.attn_mask is None or a.attn_mask.ndim == 2 else (n, h, t, s)
    padding = F._opened("key_padding_mask", a.key_padding_mask, shapes[0], batched)
    barred = None if hint else F._opened("attn_mask", a.attn_mask, shapes[1], batched)
    floats = tuple(
        (shape, given.shape) if mask is not None and mask.dtype != np.bool_ else None
        for mask, shape, given in ((padding, shapes[0], a.key_padding_mask), (barred, shapes[1], a.attn_mask))
    )
    in_weight = None if a.use_separate_proj_weight else a.in_proj_weight
    weights = _projections(a) if in_weight is None else _thirds(in_weight)
    biases = _thirds(a.in_proj_bias)
    scales = 1.0 / math.sqrt(e // h), 1.0, 1.0
    sides = tuple(_projected(*given, h) for given in zip(inputs, weights, biases, scales, strict=True))
    q, k, v = (side.heads_of(side.y) for side in sides)
    out = np.empty((t * n, v.shape[3] * h), q.dtype)
    parts = _attend(q, k, v, sides[0].heads_of(out), F._joined(padding, barred, s), hint)
    y = sides[0].steps_of(_affine(out, a.out_proj_weight, a.out_proj_bias))
    held = sides, parts, hint, out, a.out_proj_weight, a.out_proj_bias, in_weight, a.in_proj_bias, floats, batched
    return (y if batched else y[:, 0, :], None), held
