"""Scaled products of queries and keys on CuPy arrays by cuDNN's attention, which never holds the (L, S) weights.

A cache holds query, key, value, y and one float32 a row, the logarithm of its sum; the backward makes the weights anew,
tile by tile, in an order that does not change. Scores and sums are of float32.
"""

import math
from typing import Any

from xplayers.arrays import array_namespace, like
from xplayers.functional import attention as functional
from xplayers.functional.pair import wants

from ..registry import kernel
from . import graphs
from .graphs import Operand, Refused

__all__: list[str] = []

_DTYPES = ("float16", "bfloat16")
_STEP = 8  # numbers that the sizes of heads and the strides of rows are a multiple of: 16 bytes
_WIDEST = 128  # a head that the backward takes


def _heads_fit(query: Any, key: Any, value: Any, enable_gqa: bool) -> bool:
    """Whether the shapes are (*lead, Hq, L, E), (*lead, H, S, E), (*lead, H, S, V) without broadcasting."""
    q, k, v = query.shape, key.shape, value.shape
    if not 2 <= len(q) == len(k) == len(v) or k[:-1] != v[:-1] or q[-1] != k[-1]:
        return False
    if enable_gqa:
        return len(q) > 2 and q[:-3] == k[:-3] and k[-3] > 0 and q[-3] % k[-3] == 0
    return q[:-2] == k[:-2]


def supports(query: Any, key: Any, value: Any, attn_mask: Any, *options: Any, mask: Any, rng: Any) -> bool:
    """Whether all are of one half precision, the heads of a size that cuDNN takes, and no mask or dropout is asked for.

    A scale of 0 or below is left to the agnostic function: the greatest score is sought before it is scaled.
    """
    given, (dropout_p, _, scale, enable_gqa) = (query, key, value), options
    if attn_mask is not None or mask is not None or dropout_p or query.dtype.name not in _DTYPES:
        return False
    if not all(type(a) is type(query) and a.dtype == query.dtype and a.size > 0 for a in given):
        return False
    if not (scale is None or (isinstance(scale, int | float) and 0 < scale < math.inf)):
        return False
    sizes = query.shape[-1], value.shape[-1]
    return _heads_fit(*given, enable_gqa) and all(n % _STEP == 0 and n <= _WIDEST for n in sizes)


def _packed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _fit(x: Any) -> tuple[Any, Operand]:
    """x (*lead, H, L, E) as (B, H, L, E), copied where its rows are not dense or off the boundary, and how it lies."""
    lead = x.shape[:-3]
    x = array_namespace(x).reshape(x, (math.prod(lead), *(1,) * (3 - x.ndim), *x.shape[-3:]))
    strides = _strides(x)
    if strides[-1] != 1 or any(s <= 0 or s % _STEP for s in strides[:-1]) or not graphs.executor.takes(x):
        x = x.copy()
        strides = _strides(x)
    return x, Operand(x.shape, strides, x.dtype.name)


def _strides(x: Any) -> tuple[int, ...]:
    """In elements; what stands at an axis of size 1 says nothing and is what a dense array has."""
    spans = zip(x.shape, x.strides, _packed(x.shape), strict=True)
    return tuple(dense if n == 1 else held // x.itemsize for n, held, dense in spans)


def _empty(shape: tuple[int, ...], x: Any, **dtype: Any) -> tuple[Any, Operand]:
    y = array_namespace(x).empty(shape, **{**like(x), **dtype})
    return y, Operand(shape, _packed(shape), y.dtype.name)


def _run(op: str, arrays: Any, scale: float, is_causal: bool, **options: Any) -> None:
    graphs.run(op, True, arrays, attn_scale=scale, use_causal_mask=bool(is_causal), **options)


def _backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
    """dy (*lead, Hq, L, V) -> dquery, dkey, dvalue, None for the mask."""
    query, key, value, y, stats, scale, is_causal, enable_gqa = cache
    want = wants(wanted, 4)[:3]
    if not any(want):
        return None, None, None, None
    given = query, key, value
    inputs = [_fit(a) for a in (*given, y, dy)] + [(stats, Operand(stats.shape, _packed(stats.shape), "float32"))]
    outputs = [_empty(operand.shape, x) for x, operand in inputs[:3]]
    try:
        _run("sdpa_backward", (*inputs, *outputs), scale, is_causal, use_deterministic_algorithm=True)
    except Refused:  # a backward cannot decline
        forward, backward = (getattr(functional, f"scaled_dot_product_attention_{w}") for w in ("forward", "backward"))
        _, cache = forward.reference(*given, None, 0.0, is_causal, scale, enable_gqa)
        return backward.reference(dy, cache, wanted=wanted)
    reshape = array_namespace(dy).reshape
    spans = zip(want, outputs, given, strict=True)
    return *(reshape(d, a.shape) if w else None for w, (d, _), a in spans), None


@kernel(
    "cupy",
    functional.scaled_dot_product_attention_forward,
    _backward,
    supports,
    means="cudnn",
    rule="float16, bfloat16: heads of a multiple of 8, up to 128; causal or whole, no mask, no dropout",
)
def scaled_dot_product_attention_forward(query: Any, key: Any, value: Any, *options: Any, **drawn: Any) -> Any:
    """y (*lead, Hq, L, V); the cache keeps the logarithm of each row's sum in place of the weights."""
    if not supports(query, key, value, *options, **drawn):
        return NotImplemented
    _, _, is_causal, scale, enable_gqa = options
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    q, k, v = (_fit(a) for a in (query, key, value))
    rows = q[1].shape[:3]
    y, stats = _empty((*rows, value.shape[-1]), query), _empty((*rows, 1), query, dtype=array_namespace(query).float32)
    try:
        _run("sdpa", (q, k, v, y, stats), scale, is_causal, generate_stats=True)
    except Refused:
        return NotImplemented
    answer = array_namespace(query).reshape(y[0], (*query.shape[:-1], value.shape[-1]))
    return answer, (query, key, value, y[0], stats[0], scale, is_causal, enable_gqa)
