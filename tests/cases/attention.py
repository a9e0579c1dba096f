"""Rows for attention and transformers."""

import warnings

import numpy as np
import torch

import xplayers as xpl
from tests.cases import Bad, Case, Fault, Function, f32, f64, floats, masks, values


def _barred(*shape, share=0.4, seed=0):
    """Booleans, true with probability `share`, never along a whole row."""
    mask = np.random.default_rng(seed).random(shape) < share
    mask[..., 0] = False
    return mask


def _causal(n):
    return np.triu(np.full((n, n), -np.inf), 1)


_PADDED = np.array([[False, False, True, True], [False] * 4, [False, True, False, False]])
_FLOATS = np.random.default_rng(3).standard_normal((5, 4))
_SMALL = (8, 2, 6, 0.0)  # d_model, nhead, dim_feedforward, dropout


def _draw(function, *args, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return function(*args, **kwargs)


def _kept(p, *shape):
    """What torch's dropout keeps in `_draw`."""
    return values(_draw(lambda: torch.empty(shape, dtype=torch.float64).bernoulli_(1 - p)).numpy() > 0)


def _mha(*args, arrays=None, call=None, **kwargs):
    inputs = kwargs.pop("inputs", ((5, 3, 8), (4, 3, 8), (4, 3, 8)))
    arrays = {k: values(v) for k, v in (arrays or {}).items()}
    return Case("MultiheadAttention", args, kwargs, inputs=inputs, arrays=arrays, call=call or {})


def _deep(layer, twin, *options, **kwargs):
    """A row for TransformerEncoder or TransformerDecoder: a layer inside, two copies, a norm behind them."""

    def build(library):
        inner = getattr(library, f"{layer}Layer")(*_SMALL, **kwargs)
        return getattr(library, layer)(inner, 2, library.LayerNorm(8) if "norm" in options else None)

    def quiet(*args, **kwargs):
        inner = torch.nn.__dict__[f"{layer}Layer"](*_SMALL, **twin)
        norm = torch.nn.LayerNorm(8) if "norm" in options else None
        more = {"enable_nested_tensor": False} if layer == "TransformerEncoder" else {}
        return getattr(torch.nn, layer)(inner, 2, norm, **more)

    return {"build": lambda *args, **kwargs: build(xpl), "twin": quiet}


def _quiet(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nested tensors
        return torch.nn.Transformer(*args, **kwargs)


_SRC, _TGT = (4, 3, 8), (5, 3, 8)
_FIRST = {"batch_first": True}
_KINK = dict.fromkeys(
    ("agrees_in_float16", "agrees_in_bfloat16"), "a rounding to half precision may carry a ReLU over its kink"
)

LAYERS = [
    _mha(8, 2),
    _mha(8, 4, inputs=((4, 3, 8),) * 3, batch_first=True),
    _mha(8, 2, bias=False, add_bias_kv=True, add_zero_attn=True),
    _mha(8, 2, kdim=6, vdim=4, inputs=((5, 3, 8), (4, 3, 6), (4, 3, 4))),
    _mha(8, 2, 0.0, True, True, kdim=6, inputs=((5, 8), (4, 6), (4, 8)), call={"average_attn_weights": False}),
    _mha(8, 2, call={"need_weights": False}),
    _mha(8, 2, arrays={"key_padding_mask": _PADDED}, call={"average_attn_weights": False}),
    _mha(8, 2, arrays={"key_padding_mask": ~_PADDED[[0, 1, 1]]}, call={"need_weights": False}),
    _mha(8, 2, arrays={"attn_mask": _barred(5, 4), "key_padding_mask": _PADDED}, add_zero_attn=True),
    _mha(8, 2, arrays={"attn_mask": _FLOATS}, call={"need_weights": False}, add_bias_kv=True),
    _mha(8, 2, arrays={"attn_mask": _FLOATS, "key_padding_mask": _FLOATS[:3]}),
    _mha(8, 2, arrays={"attn_mask": _barred(6, 5, 4)}, inputs=((3, 5, 8), (3, 4, 8), (3, 4, 8)), batch_first=True),
    _mha(8, 2, arrays={"attn_mask": _causal(4)}, inputs=((4, 3, 8),) * 3, call={"is_causal": True}),
    _mha(
        8,
        2,
        arrays={"attn_mask": _causal(4)},
        inputs=((4, 8),) * 3,
        call={"is_causal": True, "need_weights": False},
    ),
    Case(
        "MultiheadAttention",
        (8, 2, 0.3),
        inputs=((5, 3, 8), (4, 3, 8), (4, 3, 8)),
        arrays={"mask": _kept(0.3, 3, 2, 5, 4)},
        twin_call=lambda module, inputs, call: _draw(module, *inputs),
    ),
    Case("TransformerEncoderLayer", _SMALL, inputs=(_SRC,), skip=_KINK),
    Case("TransformerEncoderLayer", (*_SMALL, "gelu", 1e-3, True, True, False), inputs=(_SRC,)),
    Case("TransformerEncoderLayer", _SMALL, {"norm_first": True, "activation": torch.nn.functional.gelu}, ((4, 8),)),
    Case(
        "TransformerEncoderLayer",
        _SMALL,
        {"activation": torch.nn.functional.silu, "batch_first": True},
        inputs=((3, 4, 8),),
        arrays={"src_mask": values(_barred(4, 4)), "src_key_padding_mask": values(_PADDED)},
    ),
    Case(
        "TransformerEncoderLayer",
        _SMALL,
        inputs=(_SRC,),
        arrays={"src_mask": values(_causal(4))},
        call={"is_causal": True},
        skip=_KINK,
    ),
    Case("TransformerDecoderLayer", _SMALL, inputs=(_TGT, _SRC), skip=_KINK),
    Case("TransformerDecoderLayer", (*_SMALL, "gelu"), {"norm_first": True, "bias": False}, (_TGT, _SRC)),
    Case(
        "TransformerDecoderLayer",
        _SMALL,
        {"batch_first": True},
        inputs=((3, 5, 8), (3, 4, 8)),
        arrays={
            "tgt_mask": values(_causal(5) < 0),
            "memory_mask": values(_barred(5, 4)),
            "tgt_key_padding_mask": values(_barred(3, 5)),
            "memory_key_padding_mask": values(_PADDED),
        },
        skip=_KINK,
    ),
    Case("TransformerDecoderLayer", _SMALL, inputs=((5, 8), (4, 8)), skip=_KINK),
    Case("TransformerEncoder", ("norm",), inputs=(_SRC,), skip=_KINK, **_deep("TransformerEncoder", {}, "norm")),
    Case(
        "TransformerEncoder",
        ("batch_first",),
        inputs=((3, 4, 8),),
        arrays={"src_key_padding_mask": values(_PADDED)},
        skip=_KINK,
        **_deep("TransformerEncoder", _FIRST, **_FIRST),
    ),
    Case(
        "TransformerEncoder",
        ("causal",),
        inputs=(_SRC,),
        arrays={"mask": values(_causal(4))},
        skip=_KINK,
        **_deep("TransformerEncoder", {}),
    ),
    Case("TransformerDecoder", ("norm",), inputs=(_TGT, _SRC), skip=_KINK, **_deep("TransformerDecoder", {}, "norm")),
    Case(
        "TransformerDecoder",
        ("batch_first",),
        inputs=((3, 5, 8), (3, 4, 8)),
        arrays={"tgt_mask": values(_causal(5)), "memory_mask": values(np.zeros((5, 4)))},
        skip=_KINK,
        **_deep("TransformerDecoder", _FIRST, **_FIRST),
    ),
    Case("TransformerDecoder", ("unbatched",), inputs=((5, 8), (4, 8)), skip=_KINK, **_deep("TransformerDecoder", {})),
    Case("Transformer", (8, 2, 1, 2, 6, 0.0), inputs=(_SRC, _TGT), twin=_quiet, skip=_KINK),
    Case(
        "Transformer",
        (8, 2, 1, 1, 6, 0.0),
        {"batch_first": True, "norm_first": True, "activation": "gelu"},
        inputs=((3, 4, 8), (3, 5, 8)),
        arrays={"tgt_mask": values(_causal(5)), "src_key_padding_mask": values(np.where(_PADDED, -np.inf, 0.0))},
        twin=_quiet,
    ),
    Case("Transformer", (8, 4, 2, 1, 6, 0.0), {"bias": False}, ((4, 8), (5, 8)), twin=_quiet, skip=_KINK),
]


def _sdpa(q, k, v, mask=None, twin=None, **kwargs):
    return Function(
        "scaled_dot_product_attention",
        {"query": q, "key": k, "value": v, "attn_mask": mask},
        kwargs,
        twin=lambda **given: torch.nn.functional.scaled_dot_product_attention(**given),
    )


_Q, _K, _V = (2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 2)
_EMPTY_ROW = np.array([[True, False, True, True, False, True]] * 2 + [[False] * 6] + [[True] * 6] * 2)


def _dropped(query, key, value, attn_mask, mask, dropout_p):
    w = torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, -1) * mask / (1 - dropout_p)
    return w @ value


ARRAYS = {  # of multi_head_attention, in its order
    "query": (5, 3, 8),
    "key": (4, 3, 8),
    "value": (4, 3, 8),
    "in_proj_weight": (24, 8),
    "in_proj_bias": (24,),
    "bias_k": None,
    "bias_v": None,
    "out_proj_weight": (8, 8),
    "out_proj_bias": (8,),
    "key_padding_mask": None,
    "attn_mask": None,
    "q_proj_weight": None,
    "k_proj_weight": None,
    "v_proj_weight": None,
    "static_k": None,
    "static_v": None,
}
_OPTIONS = {"embed_dim_to_check": 8, "num_heads": 2, "add_zero_attn": False, "dropout_p": 0.0}


def _heads(given=None, **kwargs):
    def twin(mask=None, **arguments):
        return _draw(torch.nn.functional.multi_head_attention_forward, **arguments)

    given = given or {}
    options = {**_OPTIONS, **kwargs}
    return Function("multi_head_attention", {**ARRAYS, **given}, options, twin=twin)


_SEPARATE = {
    "key": (4, 3, 6),
    "value": (4, 3, 7),
    "in_proj_weight": None,
    "q_proj_weight": (8, 8),
    "k_proj_weight": (8, 6),
    "v_proj_weight": (8, 7),
}
_UNBATCHED = {"query": (5, 8), "key": (4, 8), "value": (4, 8)}
_ADDED = {"bias_k": (1, 1, 8), "bias_v": (1, 1, 8)}

FUNCTIONS = [
    _sdpa(_Q, _K, _V),
    _sdpa(_Q, _K, _V, is_causal=True, scale=0.3),
    _sdpa(_Q, _K, _V, values(_EMPTY_ROW)),
    _sdpa(_Q, _K, _V, values(np.where(_EMPTY_ROW, 0.5, -np.inf))),
    _sdpa(_Q, _K, _V, (2, 1, 5, 6)),
    _sdpa((5, 4), (6, 4), (6, 2), (5, 6)),
    _sdpa((2, 6, 5, 4), (2, 3, 6, 4), (2, 3, 6, 2), (2, 6, 5, 6), enable_gqa=True),
    _sdpa((6, 5, 4), (2, 6, 4), (2, 6, 2), values(_EMPTY_ROW[:, :6]), enable_gqa=True),
    _sdpa((2, 6, 5, 4), (2, 2, 6, 4), (2, 2, 6, 2), (6, 5, 6), enable_gqa=True, dropout_p=0.0),
    Function(
        "scaled_dot_product_attention",
        {"query": _Q, "key": _K, "value": _V, "attn_mask": None, "mask": _kept(0.4, 2, 3, 5, 6)},
        {"dropout_p": 0.4},
        twin=_dropped,
    ),
    _heads(),
    _heads(_UNBATCHED, average_attn_weights=False),
    _heads({**_SEPARATE, "in_proj_bias": None, "out_proj_bias": None}, use_separate_proj_weight=True),
    _heads({**_ADDED, "attn_mask": (5, 4), "key_padding_mask": (3, 4)}, add_zero_attn=True),
    _heads({**_UNBATCHED, "attn_mask": (2, 5, 4), "key_padding_mask": (4,)}, need_weights=False),
    _heads({"attn_mask": (6, 5, 4)}, need_weights=False, num_heads=2),
    _heads({"attn_mask": values(_barred(5, 4)), "key_padding_mask": values(_PADDED)}, add_zero_attn=True),
    _heads({"key_padding_mask": values(~_PADDED[[0, 1, 1]])}),
    _heads({"key_padding_mask": values(~_PADDED[[0, 1, 1]])}, need_weights=False),
    _heads({"attn_mask": values(_FLOATS > 0)}, need_weights=False, is_causal=True),
    _heads({"static_k": (6, 4, 4), "static_v": (6, 4, 4), "attn_mask": (5, 4)}, add_zero_attn=True),
    _heads({"mask": _kept(0.3, 3, 2, 5, 4)}, dropout_p=0.3),
    _heads({}, dropout_p=0.3, training=False),
]


_heads_of = lambda: xpl.MultiheadAttention(8, 2)  # noqa: E731
_x = f32(4, 3, 8)
_encoder = lambda **kwargs: xpl.TransformerEncoderLayer(8, 2, 6, **kwargs)  # noqa: E731


def _called():
    layer = _heads_of()
    layer(_x, _x, _x)
    return layer


BAD_CALLS = [
    Bad(lambda: _heads_of()(f32(4, 3, 6), _x, _x), "MultiheadAttention(8, 2)", "query", "6 features", "8", "(6, ...)"),
    Bad(lambda: _heads_of()(_x, f32(4, 3, 6), _x), "MultiheadAttention(8, 2)", "key", "6 features", "8", "kdim=6"),
    Bad(lambda: _heads_of()(_x, _x, f32(5, 3, 8)), "MultiheadAttention", "value", "(5, 3, 8)", "(4, 3)", "value a key"),
    Bad(lambda: _heads_of()(_x, f32(4, 2, 8), f32(4, 2, 8)), "Multi", "key", "2 samples", "3 samples", "one batch"),
    Bad(lambda: _heads_of()(f32(8), _x, _x), "MultiheadAttention", "query", "1-d", "(L, N, 8) or (L, 8)", "missing"),
    Bad(lambda: _heads_of()(_x, f32(4, 8), f32(4, 8)), "Multi", "key", "2-d", "3 axes, as query", "axis of the batch"),
    Bad(lambda: _heads_of()(np.ones((4, 3, 8), int), _x, _x), "Multi", "query", "int64", "floating", "asty", TypeError),
    Bad(
        lambda: _heads_of()(_x, _x, _x, is_causal=True), "Multi", "attn_mask", "None", "causal mask", "generate_square"
    ),
    Bad(lambda: _heads_of()(_x, _x, _x, attn_mask=f32(3, 4)), "Multi", "attn_mask", "(3, 4)", "(4, 4) or (6", "(4, 4)"),
    Bad(lambda: _heads_of()(_x, _x, _x, f32(4, 3)), "Multi", "key_padding_mask", "(4, 3)", "(3, 4)", "of shape (3, 4)"),
    Bad(
        lambda: _heads_of()(_x, _x, _x, attn_mask=np.ones((4, 4), int)),
        "MultiheadAttention(8, 2)",
        "attn_mask",
        "int64",
        "booleans or floats",
        "!= 0",
        TypeError,
    ),
    Bad(
        lambda: _heads_of()(_x, _x, _x, attn_mask=f64(4, 4)),
        "MultiheadAttention(8, 2)",
        "attn_mask",
        "numpy float64",
        "numpy float32",
        "move the mask",
        TypeError,
    ),
    Bad(lambda: _called().backward(_x), "MultiheadAttention", "dy", "a ndarray", "tuple of 2", "structure", TypeError),
    Bad(
        lambda: xpl.MultiheadAttention(8, 3), "MultiheadAttention(8, 3)", "embed_dim", "8", "multiple of", "embed_dim=9"
    ),
    Bad(lambda: xpl.MultiheadAttention(0, 2), "MultiheadAttention(0, 2", "embed_dim", "0", "positive int", "(8, 2)"),
    Bad(
        lambda: xpl.MultiheadAttention(8, 2, 1.5), "MultiheadAttention(8, 2", "dropout", "1.5", "probab", "dropout=0.1"
    ),
    Bad(
        lambda: _encoder(activation="silu"), "TransformerEncoderLayer(8, 2)", "activation", "'silu'", "'gelu'", "SiLU()"
    ),
    Bad(lambda: _encoder(activation=abs), "TransformerEncoderLayer(8, 2)", "activation", "abs", "a layer", "relu"),
    Bad(lambda: xpl.TransformerEncoderLayer(8, 2, 0), "TransformerEncoderLayer", "dim_feedforward", "0", "int", "2048"),
    Bad(lambda: _encoder()(f32(4, 3, 6)), "MultiheadAttention(8, 2", "query", "6 features", "8 features", "8 features"),
    Bad(lambda: xpl.TransformerEncoder(_encoder(), 0), "TransformerEncoder(0", "num_layers", "0", "positive", "=1"),
    Bad(
        lambda: xpl.TransformerEncoder(8, 2), "TransformerEncoder(2", "encoder_layer", "int", "Layer", "Enc", TypeError
    ),
    Bad(
        lambda: xpl.Transformer(8, 2, 1, 1)(_x, f32(4, 2, 8)), "Transformer(8, 2)", "tgt", "2 samples", "3", "one batch"
    ),
    Bad(
        lambda: xpl.Transformer(8, 2, 1, 1)(_x, f32(4, 3, 6)), "Transformer(8, 2)", "tgt", "6 features", "8", "(6, ...)"
    ),
    Bad(lambda: xpl.Transformer(8, 2, 1, 1)(_x, f32(4, 8)), "Transformer(8, 2)", "tgt", "2-d", "3 axes", "axis of"),
    Bad(
        lambda: xpl.functional.scaled_dot_product_attention(_x, _x, _x, f32(3, 3), is_causal=True),
        "scaled_dot_product_attention",
        "attn_mask",
        "is_causal=True",
        "one of the two",
        "join",
    ),
    Bad(
        lambda: xpl.functional.scaled_dot_product_attention(_x, f32(3, 3, 8), f32(3, 3, 8), enable_gqa=True),
        "scaled_dot_product_attention",
        "key",
        "4 heads of query, 3 of key",
        "divide",
        "repeat",
    ),
]

FAULTS = [
    Fault("attention._attend_forward", "q * scale", "q", "MultiheadAttention(8,2)"),
    Fault("attention._attend_forward", "xp.where(top == -math.inf, vacant, ", "(", "MultiheadAttention(8,2)-"),
    Fault("attention._attend_forward", "s + attn_mask if", "s - attn_mask if", "MultiheadAttention(8,2)-"),
    Fault("attention._attend_forward", "xp.where(w > 0.0, p, -p)", "w", "MultiheadAttention(8,2,0.3)"),
    Fault(
        "attention._attend_backward", "ds -= p * total(ds, axis=-1, keepdims=True)", "pass", "MultiheadAttention(8,2)"
    ),
    Fault("attention._attend_backward", "dp if dw is None else dp + dw", "dp", "MultiheadAttention(8,2)"),
    Fault("attention._attend_backward", "dp if kept is None else dp * kept", "dp", "MultiheadAttention(8,2,0.3)"),
    Fault("attention._attend_backward", "k.shape) * scale", "k.shape)", "MultiheadAttention(8,2)"),
    Fault("attention._joined", "~(masks[0] | masks[1])", "~masks[0]", "MultiheadAttention(8,2)-"),
    Fault("attention._joined", "floats[0] + floats[1]", "floats[0]", "MultiheadAttention(8,2)-"),
    Fault(
        "attention._extended_backward",
        "d[:, :, :-1, :] if add_zero_attn",
        "d[:, :, 1:, :] if add_zero_attn",
        "MultiheadAttention(8,2,bias=False",
    ),
    Fault(
        "attention._extended_backward", "total(d[s:, ...]", "total(d[:1, ...]", "MultiheadAttention(8,2,0.0,True,True"
    ),
    Fault(
        "attention._heads",
        "(t, n, h, e // h)), (1, 2, 0, 3)",
        "(t, n, e // h, h)), (1, 3, 0, 2)",
        "MultiheadAttention(8,2)",
    ),
    Fault(
        "attention.multi_head_attention_backward",
        "dw[:, None, :, :] * (1.0 / h)",
        "dw[:, None, :, :]",
        "MultiheadAttention(8,2)",
    ),
    Fault(
        "attention.multi_head_attention_backward",
        "zip(dq, dk, dv, strict=True)",
        "zip(dk, dq, dv, strict=True)",
        "MultiheadAttention(8,2)",
    ),
    Fault("layers.attention.MultiheadAttention.forward", "_turn(y) if turned else y", "y", "MultiheadAttention(8,4"),
    Fault(
        "layers.attention.MultiheadAttention.backward", "(dout, dweights)", "(dout, None)", "MultiheadAttention(8,2)"
    ),
    Fault(
        "layers.transformer._Block._around_backward",
        "add_gradients(dy, body_backward(dy))",
        "body_backward(dy)",
        "TransformerEncoderLayer(8,2",
    ),
    Fault(
        "layers.transformer._Block._around_backward",
        "add_gradients(dy, norm",
        "add_gradients(dy * 0.5, norm",
        "TransformerEncoderLayer(8,2",
    ),
    Fault("layers.transformer._attend_backward", "add_gradients(dkey, dvalue)", "dkey", "TransformerDecoderLayer(8,2"),
    Fault(
        "layers.transformer.TransformerDecoder.backward",
        "add_gradients(*dmemories)",
        "dmemories[-1]",
        "TransformerDecoder(",
    ),
    Fault(
        "layers.transformer.TransformerEncoder.backward", "reversed(self.layers)", "self.layers", "TransformerEncoder("
    ),
]

# Blocks of rows, of samples and of heads, masks that broadcast, and batches that lie first.
TWINS = [
    _sdpa(_Q, _K, _V),
    _sdpa((5, 4), (6, 4), (6, 2), (5, 6)),
    _sdpa((3, 5, 4), (3, 6, 4), (3, 6, 2), (6,), scale=0.0),
    _sdpa(_Q, _K, _V, is_causal=True, scale=-0.3),
    _sdpa(_Q, _K, _V, values(_EMPTY_ROW)),
    _sdpa(_Q, _K, _V, values(np.where(_EMPTY_ROW, 0.5, -np.inf))),
    _sdpa(_Q, _K, _V, (2, 1, 5, 6)),
    _sdpa(floats(2, 3, 5, 4, scale=30.0), floats(2, 3, 6, 4, scale=30.0), _V),
    _sdpa((2, 3, 300, 8), (2, 3, 300, 8), (2, 3, 300, 4)),
    _sdpa((1, 3, 300, 8), (1, 3, 260, 8), (1, 3, 260, 4), is_causal=True),
    _sdpa((1, 2, 200, 8), (1, 2, 333, 8), (1, 2, 333, 4), is_causal=True),
    _sdpa((1, 1, 400, 4), (1, 1, 400, 4), (1, 1, 400, 4), masks(400, 400)),
    _heads(need_weights=False),
    _heads(
        {**_SEPARATE, "in_proj_bias": None, "out_proj_bias": None}, use_separate_proj_weight=True, need_weights=False
    ),
    _heads({**_UNBATCHED, "attn_mask": (2, 5, 4), "key_padding_mask": (4,)}, need_weights=False),
    _heads({"attn_mask": (6, 5, 4)}, need_weights=False, num_heads=2),
    _heads({"key_padding_mask": values(~_PADDED[[0, 1, 1]])}, need_weights=False),
    _heads({"attn_mask": values(_FLOATS > 0)}, need_weights=False, is_causal=True),
    _heads({"query": (150, 5, 8), "key": (150, 5, 8), "value": (150, 5, 8)}, need_weights=False, num_heads=4),
]
