"""Attention: scaled products of queries and keys, by one head and by many."""

import math

from xplayers.arrays import array_namespace, device, is_floating, like, matmul, mean, size, sum_to, total
from xplayers.errors import refusal

from .dropout import dropout_forward
from .linear import linear_backward, linear_forward
from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "multi_head_attention",
    "multi_head_attention_backward",
    "multi_head_attention_forward",
    "scaled_dot_product_attention",
    "scaled_dot_product_attention_backward",
    "scaled_dot_product_attention_forward",
]


# -- the core that both share: w = dropout(softmax(scale q k^T + mask)), y = w v --


def _attend_forward(q, k, v, attn_mask, scale, dropout_p, vacant, mask, rng):
    """q (*, L, E), k (*, S, E), v (*, S, V), leading axes that broadcast -> (y (*, L, V), w (*, L, S)), cache.

    attn_mask: booleans, true takes part, or floats to add, or None. vacant: what a row is shifted by that has nothing
    to attend to; 0 makes its weights 0, NaN makes them NaN. The cache keeps one (L, S) matrix a head: the softmax, with
    a minus sign where dropout left it out.
    """
    xp = array_namespace(q, k, v, attn_mask)
    s = matmul(q * scale, xp.matrix_transpose(k))  # (*, L, S)
    if attn_mask is not None:
        s = s + attn_mask if is_floating(attn_mask) else xp.where(attn_mask, s, -math.inf)
    if size(s):
        top = xp.max(s, axis=-1, keepdims=True)
        s -= xp.where(top == -math.inf, vacant, xp.where(top == math.inf, math.nan, top))  # s and p are of this call
    p = xp.exp(s)
    sums = total(p, axis=-1, keepdims=True)
    p /= xp.where(sums == 0.0, 1.0, sums)
    w, signed, kept_by = p, p, None
    if dropout_p or mask is not None:
        w, _ = dropout_forward(p, dropout_p, True, mask=mask, rng=rng)
        signed, kept_by = xp.where(w > 0.0, p, -p), 0.0 if dropout_p == 1 else 1.0 / (1.0 - dropout_p)
    y = matmul(w, v)
    return (y, w), (q, k, v, signed, scale, kept_by)


def _attend_backward(dy, dw, cache, want):
    """dy (*, L, V), dw (*, L, S) or None -> dq, dk, dv and ds (*, L, S), that of what the softmax sees."""
    q, k, v, signed, scale, kept_by = cache
    xp = array_namespace(q)
    p, kept, w = signed, None, signed
    if kept_by is not None:
        p, kept = xp.abs(signed), xp.astype(signed > 0.0, signed.dtype) * kept_by
        w = p * kept
    want_q, want_k, want_v, want_s = want
    dq = dk = dv = ds = None
    if want_v:
        dv = sum_to(matmul(xp.matrix_transpose(w), dy), v.shape)
    if want_q or want_k or want_s:
        dp = matmul(dy, xp.matrix_transpose(v))  # (*, L, S)
        dp = dp if dw is None else dp + dw
        dp = dp if kept is None else dp * kept
        # the rows' sums from dp itself, not from dy * y: where one key has all the weight, they cancel to the last bit
        ds = dp * p
        ds -= p * total(ds, axis=-1, keepdims=True)
        if want_q:
            dq = sum_to(matmul(ds, k), q.shape) * scale
        if want_k:
            dk = sum_to(matmul(xp.matrix_transpose(ds), q), k.shape) * scale
    return dq, dk, dv, ds


def _causal(x, n, m):
    """(n, m) booleans: the row i takes part up to the column i."""
    xp = array_namespace(x)
    return xp.arange(n, device=device(x))[:, None] >= xp.arange(m, device=device(x))[None, :]


def _expect_mask(where, argument, mask):
    """Whether a mask is of booleans; one that is neither of booleans nor of floats is refused."""
    if mask is None:
        return False
    boolean = array_namespace(mask).isdtype(mask.dtype, "bool")
    if not boolean and not is_floating(mask):
        mend = f"pass {argument} != 0 for booleans, or floats to add"
        raise refusal(where, argument, f"dtype {mask.dtype}", "booleans or floats", mend, TypeError)
    return boolean


@accelerable
def scaled_dot_product_attention_forward(
    query,
    key,
    value,
    attn_mask=None,
    dropout_p=0.0,
    is_causal=False,
    scale=None,
    enable_gqa=False,
    *,
    mask=None,
    rng=None,
):
    """y = dropout(softmax(scale query key^T + attn_mask)) value, the softmax along the keys.

    query (N, ..., Hq, L, E), key (N, ..., H, S, E), value (N, ..., H, S, V) -> y (N, ..., Hq, L, V). Leading axes may
    be left out, and broadcast. attn_mask broadcasts to (N, ..., Hq, L, S): booleans, true takes part, or floats to add.
    A row that has nothing to attend to gives 0. scale: 1/sqrt(E) where it is None. is_causal: the row i takes part up
    to the column i. enable_gqa: each head of key and value serves Hq / H heads of query, the first ones first.
    dropout_p holds always, also in evaluation; mask (N, ..., Hq, L, S): what it keeps, where it is not to be drawn.
    The cache holds one (L, S) matrix a head. Errors: ValueError for a mask with is_causal, or heads that do not divide;
    TypeError for a mask of integers. Twin: torch.nn.functional.scaled_dot_product_attention.
    Source: Vaswani et al., Attention is all you need (2017); Ainslie et al., GQA (2023).
    """
    name = "scaled_dot_product_attention"
    if is_causal and attn_mask is not None:
        raise refusal(name, "attn_mask", "a mask with is_causal=True", "one of the two", "join them into one mask")
    _expect_mask(name, "attn_mask", attn_mask)
    given = None if attn_mask is None or not is_floating(attn_mask) else attn_mask.shape
    if is_causal:
        attn_mask = _causal(query, query.shape[-2], key.shape[-2])
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    q, k, v = query, key, value
    heads = None
    if enable_gqa:
        heads = query.shape[-3], key.shape[-3]
        if value.shape[-3] != heads[1] or not heads[1] or heads[0] % heads[1]:
            got = f"{heads[0]} heads of query, {heads[1]} of key, {value.shape[-3]} of value"
            raise refusal(name, "key", got, "heads of key and value that divide those of query", "repeat the heads")
        q, attn_mask, mask = (_grouped(a, *heads) for a in (q, attn_mask, mask))  # (..., H, Hq / H, L, .)
        k, v = k[..., None, :, :], v[..., None, :, :]
    (y, _), inner = _attend_forward(q, k, v, attn_mask, scale, dropout_p, 0.0, mask, rng)
    return _ungrouped(y, heads), (inner, (query.shape, key.shape, value.shape, given), heads)


@follows_cache
def scaled_dot_product_attention_backward(dy, cache, *, wanted=None):
    """dy (N, ..., Hq, L, V) -> dquery, dkey, dvalue, dattn_mask (None but for a mask of floats): the gradients of
    `scaled_dot_product_attention_forward`."""
    inner, shapes, heads = cache
    want = [w and shape is not None for w, shape in zip(wants(wanted, 4), shapes, strict=True)]
    dy = dy if heads is None else _grouped(dy, *heads)
    *gradients, ds = _attend_backward(dy, None, inner, want)
    xp = array_namespace(dy)
    gradients = [None if d is None else xp.reshape(d, shape) for d, shape in zip(gradients, shapes[:3], strict=True)]
    return *gradients, sum_to(_ungrouped(ds, heads), shapes[3]) if want[3] else None


def _grouped(x, hq, h):
    """(..., Hq, a, b) -> (..., H, Hq / H, a, b): the heads of query by the head of key that serves them."""
    if x is None or x.ndim < 3:
        return x
    groups = (h, hq // h) if x.shape[-3] == hq else (1, 1)
    return array_namespace(x).reshape(x, (*x.shape[:-3], *groups, *x.shape[-2:]))


def _ungrouped(x, heads):
    if heads is None:
        return x
    return array_namespace(x).reshape(x, (*x.shape[:-4], heads[0], *x.shape[-2:]))


scaled_dot_product_attention = answer_of(scaled_dot_product_attention_forward)


@accelerable
def multi_head_attention_forward(
    query,
    key,
    value,
    embed_dim_to_check,
    num_heads,
    in_proj_weight,
    in_proj_bias,
    bias_k,
    bias_v,
    add_zero_attn,
    dropout_p,
    out_proj_weight,
    out_proj_bias,
    training=True,
    key_padding_mask=None,
    need_weights=True,
    attn_mask=None,
    use_separate_proj_weight=False,
    q_proj_weight=None,
    k_proj_weight=None,
    v_proj_weight=None,
    static_k=None,
    static_v=None,
    average_attn_weights=True,
    is_causal=False,
    *,
    mask=None,
    rng=None,
):
    """y = concat(y_1, ..., y_H) W_o^T + b_o, y_h = attention(query W_q^T + b_q, key W_k^T + b_k, value W_v^T + b_v).

    query (L, N, E), key (S, N, Ek), value (S, N, Ev), or all without N -> (y (L, N, E), weights), weights (N, L, S), or
    (N, H, L, S) without `average_attn_weights`, None without `need_weights`. E = H times the size of a head.
    in_proj_weight (3E, E) holds W_q, W_k, W_v, or with `use_separate_proj_weight` q_proj_weight (E, E), k_proj_weight
    (E, Ek), v_proj_weight (E, Ev); in_proj_bias (3E,); out_proj_weight (E, E), out_proj_bias (E,). bias_k, bias_v
    (1, 1, E): one more key and value; add_zero_attn: one more of zeros. static_k, static_v (N H, S, E / H) stand for
    the projected key and value. key_padding_mask (N, S), attn_mask (L, S) or (N H, L, S): booleans, true is left out,
    or floats to add. is_causal says that attn_mask is the causal one, which is then used in its place where the weights
    are not needed and no key is padded. A row with nothing to attend to gives NaN where the weights are needed and b_o
    where not, as in torch. dropout_p: of the weights, in training; mask (N, H, L, S): what it keeps, where it is not to
    be drawn. Errors: ValueError where sizes and arguments do not go together, TypeError for a mask of integers.
    Twin: torch.nn.functional.multi_head_attention_forward. Source: Vaswani et al., Attention is all you need (2017).
    """
    batched = query.ndim == 3
    if not batched:
        query, key, value = (x[:, None, :] for x in (query, key, value))
    (t, n, e), h, s = query.shape, num_heads, key.shape[0]
    padding_shape, attn_shape = (n, 1, 1, s), (1, 1, t, s) if attn_mask is None or attn_mask.ndim == 2 else (n, h, t, s)
    _check(query, embed_dim_to_check, h, bias_k, bias_v, static_k, static_v, is_causal, attn_mask)
    hint = is_causal and key_padding_mask is None and not need_weights  # the causal mask takes the given one's place
    padding = _opened("key_padding_mask", key_padding_mask, padding_shape, batched)
    barred = None if hint else _opened("attn_mask", attn_mask, attn_shape, batched)

    if not use_separate_proj_weight:
        q_proj_weight, k_proj_weight, v_proj_weight = (in_proj_weight[i * e : (i + 1) * e, :] for i in range(3))
    biases = (None,) * 3 if in_proj_bias is None else tuple(in_proj_bias[i * e : (i + 1) * e] for i in range(3))
    q, to_q = linear_forward(query, q_proj_weight, biases[0])  # (L, N, E)
    k, to_k = linear_forward(key, k_proj_weight, biases[1])  # (S, N, E)
    v, to_v = linear_forward(value, v_proj_weight, biases[2])
    q = _heads(q, h)  # (N, H, L, E / H)
    k = _extended(k, h, bias_k, static_k, add_zero_attn)  # (N, H, S + 0, 1 or 2, E / H)
    v = _extended(v, h, bias_v, static_v, add_zero_attn)
    columns = k.shape[2]
    joined = None if hint else _joined(padding, barred, columns)
    p, mask = (dropout_p, mask) if training else (0.0, None)
    w = None
    if need_weights:
        (y, w), core = _attend_forward(q, k, v, joined, 1.0 / math.sqrt(e // h), p, math.nan, mask, rng)
        w = mean(w, axis=1) if average_attn_weights else w
    else:
        y, core = scaled_dot_product_attention_forward(q, k, v, joined, p, hint, mask=mask, rng=rng)
    y, to_y = linear_forward(_unheads(y), out_proj_weight, out_proj_bias)  # (L, N, E)

    floats = tuple(
        None if m is None or not is_floating(m) else (shape, given.shape)
        for m, shape, given in ((padding, padding_shape, key_padding_mask), (barred, attn_shape, attn_mask))
    )
    given = tuple(a is not None for a in (in_proj_bias, bias_k, static_k, static_v))
    averages = need_weights, average_attn_weights
    options = y.shape, batched, h, s, *averages, use_separate_proj_weight, bool(add_zero_attn), given
    if not batched:
        y, w = y[:, 0, :], None if w is None else w[0, ...]
    return (y, w), (core, q, to_q, to_k, to_v, to_y, floats, options)


@follows_cache
def multi_head_attention_backward(dy, cache, *, wanted=None):
    """dy (dy (L, N, E), dweights), either may be None -> dquery, dkey, dvalue, din_proj_weight, din_proj_bias, dbias_k,
    dbias_v, dout_proj_weight, dout_proj_bias, dkey_padding_mask, dattn_mask, dq_proj_weight, dk_proj_weight,
    dv_proj_weight, dstatic_k, dstatic_v: the gradients of `multi_head_attention_forward`."""
    core, q, to_q, to_k, to_v, to_y, floats, (shape, batched, h, s, weighed, average, separate, zeros, given) = cache
    has_bias, has_added, has_static_k, has_static_v = given
    names = "query key value weight bias bias_k bias_v out_weight out_bias padding attn_mask wq wk wv static_k static_v"
    want = dict(zip(names.split(), wants(wanted, 16), strict=True))
    dout, dw = dy
    xp = array_namespace(q)
    if dout is None:
        dout = xp.zeros(shape, **like(q))
    elif not batched:
        dout = dout[:, None, :]
    if dw is not None and not batched:
        dw = dw[None, ...]
    if dw is not None and average:
        dw = dw[:, None, :, :] * (1.0 / h)  # (N, 1, L, S), the same for each head
    dy, dout_weight, dout_bias = linear_backward(dout, to_y, wanted=(True, want["out_weight"], want["out_bias"]))
    dy = _heads(dy, h)  # (N, H, L, E / H)
    own = {"q": "wq", "k": "wk", "v": "wv"} if separate else dict.fromkeys("qkv", "weight")
    asked = {  # of each projection: its input, its weight, its bias
        side: (want[array], want[own[side]], want["bias"] and has_bias)
        for side, array in (("q", "query"), ("k", "key"), ("v", "value"))
    }
    want_k = any(asked["k"]) or (want["bias_k"] and has_added) or (want["static_k"] and has_static_k)
    want_v = any(asked["v"]) or (want["bias_v"] and has_added) or (want["static_v"] and has_static_v)
    want_masks = [want[m] and shapes is not None for m, shapes in zip(("padding", "attn_mask"), floats, strict=True)]
    want_core = any(asked["q"]), want_k, want_v, any(want_masks)
    if weighed:
        dq, dk, dv, ds = _attend_backward(dy, dw, core, want_core)
    else:
        dq, dk, dv, ds = scaled_dot_product_attention_backward(dy, core, wanted=want_core)

    dk, dbias_k, dstatic_k = _extended_backward(dk, s, zeros, has_added, has_static_k)  # dk (S, N, E)
    dv, dbias_v, dstatic_v = _extended_backward(dv, s, zeros, has_added, has_static_v)
    dquery, *dq = _projected_backward(_unheads(dq), to_q, asked["q"], batched)
    dkey, *dk = _projected_backward(dk, to_k, asked["k"], batched)
    dvalue, *dv = _projected_backward(dv, to_v, asked["v"], batched)
    dweights, dbiases = zip(dq, dk, dv, strict=True)  # three each
    dweight = xp.concat(dweights) if want["weight"] and not separate else None
    dbias = xp.concat(dbiases) if want["bias"] and has_bias else None
    dmasks = [
        xp.reshape(sum_to(ds[..., :s], shapes[0]), shapes[1]) if wanted else None
        for wanted, shapes in zip(want_masks, floats, strict=True)
    ]
    added = [d if want[name] else None for name, d in (("bias_k", dbias_k), ("bias_v", dbias_v))]
    static = [d if want[name] else None for name, d in (("static_k", dstatic_k), ("static_v", dstatic_v))]
    dweights = dweights if separate else (None,) * 3
    return dquery, dkey, dvalue, dweight, dbias, *added, dout_weight, dout_bias, *dmasks, *dweights, *static


multi_head_attention = answer_of(multi_head_attention_forward)


def _check(query, embed_dim, h, bias_k, bias_v, static_k, static_v, is_causal, attn_mask):
    """Refuses what does not go together."""
    e, name = query.shape[-1], "multi_head_attention"
    if e != embed_dim or e % h:
        expected = f"embed_dim {embed_dim}, a multiple of num_heads {h}"
        raise refusal(name, "query", f"{e} features", expected, f"pass a query with {embed_dim} features")
    if is_causal and attn_mask is None:
        mend = "pass Transformer.generate_square_subsequent_mask(L) as attn_mask"
        raise refusal(name, "attn_mask", "None with is_causal=True", "the causal mask", mend)
    if (bias_k is None) != (bias_v is None):
        raise refusal(name, "bias_k", "one of bias_k and bias_v", "both or neither", "pass both")
    if bias_k is not None and (static_k is not None or static_v is not None):
        raise refusal(name, "static_k", "static keys with bias_k", "one of the two", "leave bias_k and bias_v out")


def _opened(argument, mask, shape, batched):
    """The mask with the axes of (N, H, L, S), 1 where it holds for all. `shape` is what it should have then."""
    if mask is None:
        return None
    _expect_mask("multi_head_attention", argument, mask)
    n, h, t, s = shape
    if argument == "key_padding_mask":
        expected = (n, s) if batched else (s,)
    else:
        expected = (t, s) if mask.ndim == 2 else (n * h, t, s)
    if tuple(mask.shape) != expected:
        mend = f"pass a mask of shape {expected}"
        raise refusal("multi_head_attention", argument, f"shape {mask.shape}", f"shape {expected}", mend)
    return array_namespace(mask).reshape(mask, shape)


def _joined(padding, barred, columns):
    """One mask for `_attend_forward` from two in which true is left out; None where there is none.

    Columns beyond the masks' are the added keys, which are never left out.
    """
    masks = [m for m in (padding, barred) if m is not None]
    if not masks:
        return None
    xp = array_namespace(*masks)
    if added := columns - masks[0].shape[-1]:
        masks = [xp.concat([m, xp.zeros((*m.shape[:-1], added), **like(m))], axis=-1) for m in masks]
    dtype = next((m.dtype for m in masks if is_floating(m)), None)
    if dtype is None:
        return ~masks[0] if len(masks) == 1 else ~(masks[0] | masks[1])
    zeros = xp.zeros((), dtype=dtype, device=device(masks[0]))
    floats = [m if is_floating(m) else xp.where(m, -math.inf, zeros) for m in masks]
    return floats[0] if len(floats) == 1 else floats[0] + floats[1]


def _heads(x, h):
    """(L, N, E) -> (N, H, L, E / H)."""
    xp = array_namespace(x)
    t, n, e = x.shape
    return xp.permute_dims(xp.reshape(x, (t, n, h, e // h)), (1, 2, 0, 3))


def _unheads(x):
    """(N, H, L, E / H) -> (L, N, E); None stays."""
    if x is None:
        return None
    xp = array_namespace(x)
    n, h, t, d = x.shape
    return xp.reshape(xp.permute_dims(x, (2, 0, 1, 3)), (t, n, h * d))


def _extended(x, h, bias, static, add_zero_attn):
    """The projected key or value (S, N, E), or the static one in its place, -> (N, H, S + what is added, E / H)."""
    xp = array_namespace(x)
    _, n, e = x.shape
    if bias is not None:
        x = xp.concat([x, xp.broadcast_to(bias, (1, n, e))])
    x = _heads(x, h) if static is None else xp.reshape(static, (n, h, *static.shape[1:]))
    return xp.concat([x, xp.zeros((n, h, 1, e // h), **like(x))], axis=2) if add_zero_attn else x


def _extended_backward(d, s, add_zero_attn, has_bias, has_static):
    """-> the gradients of x (S, N, E), of bias and of static; None where they have none."""
    if d is None:
        return None, None, None
    xp = array_namespace(d)
    d = d[:, :, :-1, :] if add_zero_attn else d
    n, h, _, width = d.shape
    if has_static:
        return xp.zeros((s, n, h * width), **like(d)), None, xp.reshape(d, (n * h, -1, width))
    d = _unheads(d)
    return d[:s, ...], total(d[s:, ...], axis=1, keepdims=True) if has_bias else None, None


def _projected_backward(d, cache, want, batched):
    """The gradients of a projection's input, weight and bias."""
    if not any(want):
        return None, None, None
    dx, dweight, dbias = linear_backward(d, cache, wanted=want)
    return dx if batched or dx is None else dx[:, 0, :], dweight, dbias
