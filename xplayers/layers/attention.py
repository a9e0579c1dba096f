"""Attention by many heads."""

import math
from typing import Any

from xplayers import functional as F
from xplayers.arrays import (
    Array,
    array_namespace,
    fan_in_bound,
    host_full,
    host_normal,
    host_uniform,
    is_array,
    is_floating,
    place_of,
)

from .layer import Layer, is_whole, record
from .linear import Linear
from .tape import Tape

__all__ = ["MultiheadAttention"]

_OWN = ("in_proj_weight", "in_proj_bias", "bias_k", "bias_v", "q_proj_weight", "k_proj_weight", "v_proj_weight")


class MultiheadAttention(Layer):
    """Attention of queries to keys by many heads. See `functional.multi_head_attention_forward`.

    `layer(query, key, value)` -> (y, weights), weights None with `need_weights=False`; `backward((dy, dweights))`,
    either may be None, -> (dquery, dkey, dvalue). With `batch_first` the arrays are (N, L, E) and (N, S, E). dropout
    leaves out weights, in training, drawn from `rng`, or by `mask` (N, num_heads, L, S): what is kept.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.dropout = dropout
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.add_zero_attn = add_zero_attn
        self.batch_first = batch_first
        for name in ("embed_dim", "num_heads", "kdim", "vdim"):
            if not is_whole(size := getattr(self, name)) or size <= 0:
                mend = f"pass {name} as an int, as in MultiheadAttention(8, 2)"
                raise self.refusal(name, repr(size), "a positive int", mend)
        if embed_dim % num_heads:
            mend = f"pass embed_dim={-(-embed_dim // num_heads) * num_heads}, or other num_heads"
            raise self.refusal("embed_dim", repr(embed_dim), f"a multiple of num_heads {num_heads}", mend)
        if not 0 <= dropout <= 1:
            mend = "pass the share to be dropped, as in dropout=0.1"
            raise self.refusal("dropout", repr(dropout), "a probability, 0 <= dropout <= 1", mend)
        e = embed_dim
        separate = (self.kdim, self.vdim) != (e, e)
        for name, rows, columns in (
            ("in_proj_weight", 3 * e, e),
            ("q_proj_weight", e, e),
            ("k_proj_weight", e, self.kdim),
            ("v_proj_weight", e, self.vdim),
        ):
            here = separate == (name != "in_proj_weight")
            xavier = math.sqrt(6.0 / (rows + columns))
            self.parameter(name, host_uniform(rng, (rows, columns), xavier) if here else None)
        self.parameter("in_proj_bias", host_full((3 * e,), 0.0) if bias else None)
        for name in ("bias_k", "bias_v"):
            self.parameter(name, host_normal(rng, (1, 1, e), math.sqrt(1.0 / e)) if add_bias_kv else None)
        self.out_proj = Linear(e, e, bias=bias, xp=xp, device=device, dtype=dtype, rng=rng)
        self.out_proj.parameter("weight", host_uniform(rng, (e, e), fan_in_bound(e)))
        self.out_proj.parameter("bias", host_full((e,), 0.0) if bias else None)

    def describe(self) -> str:
        options = {"dropout": 0.0, "kdim": self.embed_dim, "vdim": self.embed_dim, "add_zero_attn": False}
        held = [f"{k}={v!r}" for k, d in (*options.items(), ("batch_first", False)) if (v := getattr(self, k)) != d]
        return ", ".join([f"{self.embed_dim}, {self.num_heads}", *held])

    def _check(self, query: Array, key: Array, value: Array, padding: Any, attn_mask: Any, is_causal: bool) -> None:
        batch = "N, " if self.batch_first else ""
        middle = "" if self.batch_first else "N, "
        for name, x, size in (("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim)):
            self.expect_floating(x, name)
            length = "L" if name == "query" else "S"
            self.expect_rank(x, (2, 3), f"({batch}{length}, {middle}{size}) or ({length}, {size})", name)
            mend = f"pass {name} with {size} features, or build the layer with {name[0]}dim={x.shape[-1]}"
            if name == "query":
                mend = f"pass query with {size} features, or build MultiheadAttention({x.shape[-1]}, ...)"
            self.expect_size(x, -1, size, "features", mend, name)
            if x.ndim != query.ndim:
                mend = "give all three the axis of the batch, or none"
                raise self.refusal(name, f"shape {x.shape}, {x.ndim}-d", f"{query.ndim} axes, as query has", mend)
            axis = 0 if self.batch_first else 1
            if x.ndim == 3 and x.shape[axis] != query.shape[axis]:
                self.expect_size(x, axis, query.shape[axis], "samples", "pass query, key and value of one batch", name)
        if key.shape[:-1] != value.shape[:-1]:
            got, expected = f"shape {value.shape}", f"{key.shape[:-1]} before the features, as key has"
            raise self.refusal("value", got, expected, "pass one value a key")
        if is_causal and attn_mask is None:
            mend = "pass Transformer.generate_square_subsequent_mask(L) as attn_mask"
            raise self.refusal("attn_mask", "None with is_causal=True", "the causal mask", mend)
        steps = -2 if self.batch_first or query.ndim == 2 else 0
        n = () if query.ndim == 2 else (query.shape[0 if self.batch_first else 1],)
        t, s = query.shape[steps], key.shape[steps]
        self._expect_mask("key_padding_mask", padding, query, ((*n, s),))
        self._expect_mask("attn_mask", attn_mask, query, ((t, s), (math.prod(n) * self.num_heads, t, s)))

    def _expect_mask(self, name: str, mask: Any, query: Array, shapes: tuple[tuple[int, ...], ...]) -> None:
        if mask is None:
            return
        if not is_array(mask):
            raise self.refusal(name, f"a {type(mask).__name__}", "an array", "pass an array of booleans", TypeError)
        xp = array_namespace(query)
        if array_namespace(mask) is not xp or (is_floating(mask) and mask.dtype != query.dtype):
            mend = "move the mask to the library and the dtype of query"
            raise self.refusal(
                name, f"an array in {place_of(mask)}", f"one as query, {place_of(query)}", mend, TypeError
            )
        if not is_floating(mask) and not xp.isdtype(mask.dtype, "bool"):
            mend = f"pass {name} != 0 for booleans, or floats to add"
            raise self.refusal(name, f"dtype {mask.dtype}", "booleans or floats", mend, TypeError)
        if tuple(mask.shape) not in shapes:
            expected = " or ".join(map(str, shapes))
            raise self.refusal(name, f"shape {mask.shape}", f"shape {expected}", f"pass a mask of shape {shapes[0]}")

    def forward(
        self,
        query: Array,
        key: Array,
        value: Array,
        key_padding_mask: Array | None = None,
        need_weights: bool = True,
        attn_mask: Array | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        mask: Array | None = None,
        tape: Tape | None = None,
    ) -> tuple[Array, Array | None]:
        self._check(query, key, value, key_padding_mask, attn_mask, is_causal)
        self.out_proj.door(query)
        turned = self.batch_first and query.ndim == 3
        if turned:
            query, key, value = map(_turn, (query, key, value))
        (y, weights), cache = F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            self.training,
            key_padding_mask,
            need_weights,
            attn_mask,
            self.in_proj_weight is None,
            self.q_proj_weight,
            self.k_proj_weight,
            self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            mask=mask,
            rng=self.rng,
        )
        record(tape, self, (cache, turned))
        return _turn(y) if turned else y, weights

    def backward(self, dy: Any, *, tape: Tape) -> tuple[Array | None, Array | None, Array | None]:
        cache, turned = tape.pop(self)
        dout, dweights = dy
        dout = _turn(dout) if turned and dout is not None else dout
        *inputs, weight, bias, bias_k, bias_v, wq, wk, wv = self.wanted(tape, *_OWN, inputs=3)
        out = self.out_proj.wanted(tape, "weight", "bias", inputs=0)
        wanted = (*inputs, weight, bias, bias_k, bias_v, *out, False, False, wq, wk, wv, False, False)
        gradients = F.multi_head_attention_backward((dout, dweights), cache, wanted=wanted)
        *dinputs, weight, bias, bias_k, bias_v, out_weight, out_bias, _, _, wq, wk, wv, _, _ = gradients
        self.accumulate(**dict(zip(_OWN, (weight, bias, bias_k, bias_v, wq, wk, wv), strict=True)))
        self.out_proj.accumulate(weight=out_weight, bias=out_bias)
        dquery, dkey, dvalue = (_turn(d) if turned and d is not None else d for d in dinputs)
        return dquery, dkey, dvalue


def _turn(x: Array) -> Array:
    """(N, L, E) <-> (L, N, E)."""
    return array_namespace(x).permute_dims(x, (1, 0, 2))
