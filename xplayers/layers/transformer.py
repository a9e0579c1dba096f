"""Transformers: attention and a small network over each position, as residual sublayers."""

import copy
import math
from collections.abc import Callable
from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array, array_namespace, convert, host_full, host_uniform, like, namespace_of_module

from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .layer import Layer, add_gradients, is_whole, record
from .linear import Linear
from .normalization import LayerNorm
from .tape import Tape

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

Body = Callable[[Any], Any]


class _Pair(Layer):
    """A pair of `functional` of one array, by its name, as a layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def describe(self) -> str:
        return self.name

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        y, cache = getattr(F, f"{self.name}_forward")(x)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        return getattr(F, f"{self.name}_backward")(dy, tape.pop(self))


class _Block(Layer):
    """What encoder and decoder layers share: the network over each position, and the residual around a sublayer.

    activation: "relu", "gelu", a layer, or a function that names a pair of `functional`, as F.silu or torch's does.
    """

    def __init__(
        self,
        norms: int,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(rng=rng)
        self.d_model = d_model
        self.norm_first = norm_first
        where = {"device": device, "dtype": dtype, "xp": xp, "rng": rng}
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **where)
        if norms == 3:
            self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **where)
        if not is_whole(dim_feedforward) or dim_feedforward <= 0:
            mend = "pass dim_feedforward as an int, as in dim_feedforward=2048"
            raise self.refusal("dim_feedforward", repr(dim_feedforward), "a positive int", mend)
        self.linear1 = Linear(d_model, dim_feedforward, bias, **where)
        self.dropout = Dropout(dropout, rng=rng)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **where)
        for i in range(1, norms + 1):
            setattr(self, f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias, **where))
            setattr(self, f"dropout{i}", Dropout(dropout, rng=rng))
        self.activation = self._activation(activation)

    def _activation(self, activation: Any) -> Layer:
        if isinstance(activation, Layer):
            return activation
        name = activation if isinstance(activation, str) else getattr(activation, "__name__", "")
        known = name in ("relu", "gelu") if isinstance(activation, str) else hasattr(F, f"{name}_forward")
        if not known:
            mend = 'pass activation="relu", or a layer as in activation=SiLU()'
            expected = "'relu', 'gelu', a layer, or a function of xplayers.functional"
            raise self.refusal("activation", repr(activation), expected, mend)
        return _Pair(name)

    def describe(self) -> str:
        return f"{self.d_model}, {self.self_attn.num_heads}"

    def _around(self, x: Array, norm: Layer, body: Body, tape: Tape | None) -> Array:
        """x + body(norm(x)), or norm(x + body(x)): the residual around a sublayer."""
        if self.norm_first:
            return x + body(norm.forward(x, tape=tape))
        return norm.forward(x + body(x), tape=tape)

    def _around_backward(self, dy: Array, norm: Layer, body_backward: Body, tape: Tape) -> Array | None:
        if self.norm_first:
            return add_gradients(dy, norm.backward(body_backward(dy), tape=tape))
        dy = norm.backward(dy, tape=tape)
        return add_gradients(dy, body_backward(dy))

    def _feed(self, x: Array, dropout: Layer, tape: Tape | None) -> Array:
        for layer in (self.linear1, self.activation, self.dropout, self.linear2, dropout):
            x = layer.forward(x, tape=tape)
        return x

    def _feed_backward(self, dy: Array, dropout: Layer, tape: Tape) -> Array:
        for layer in (dropout, self.linear2, self.dropout, self.activation, self.linear1):
            dy = layer.backward(dy, tape=tape)
        return dy


def _attend(
    attention: Layer, dropout: Layer, x: Array, memory: Array, mask: Any, padding: Any, causal: bool, tape: Tape | None
) -> Array:
    y, _ = attention.forward(x, memory, memory, padding, False, mask, is_causal=causal, tape=tape)
    return dropout.forward(y, tape=tape)


def _attend_backward(attention: Layer, dropout: Layer, dy: Array, tape: Tape) -> tuple[Any, Any]:
    """-> dx, dmemory."""
    dquery, dkey, dvalue = attention.backward((dropout.backward(dy, tape=tape), None), tape=tape)
    return dquery, add_gradients(dkey, dvalue)


class TransformerEncoderLayer(_Block):
    """x = norm1(x + self_attn(x)); x = norm2(x + linear2(activation(linear1(x)))), with dropout after each step; with
    `norm_first` x = x + self_attn(norm1(x)) and so on. See `functional.multi_head_attention_forward`.

    activation: "relu", "gelu", a layer, or a function that names a pair of `functional`, as F.silu or torch's does.
    Source: Vaswani et al., Attention is all you need (2017); Xiong et al., On layer normalization in the transformer
    architecture (2020) for norm_first.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        options = (dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device, dtype)
        super().__init__(2, d_model, nhead, *options, xp=xp, rng=rng)

    def forward(
        self,
        src: Array,
        src_mask: Array | None = None,
        src_key_padding_mask: Array | None = None,
        is_causal: bool = False,
        *,
        tape: Tape | None = None,
    ) -> Array:
        def attend(x: Array) -> Array:
            return _attend(self.self_attn, self.dropout1, x, x, src_mask, src_key_padding_mask, is_causal, tape)

        x = self._around(src, self.norm1, attend, tape)
        return self._around(x, self.norm2, lambda x: self._feed(x, self.dropout2, tape), tape)

    def backward(self, dy: Array, *, tape: Tape) -> Array | None:
        def attend_backward(d: Array) -> Array | None:
            return add_gradients(*_attend_backward(self.self_attn, self.dropout1, d, tape))

        dx = self._around_backward(dy, self.norm2, lambda d: self._feed_backward(d, self.dropout2, tape), tape)
        return self._around_backward(dx, self.norm1, attend_backward, tape)


class TransformerDecoderLayer(_Block):
    """`TransformerEncoderLayer` with attention to the encoder's output between the two: tgt, memory -> x.

    `backward(dy)` -> (dtgt, dmemory).
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        options = (dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device, dtype)
        super().__init__(3, d_model, nhead, *options, xp=xp, rng=rng)

    def forward(
        self,
        tgt: Array,
        memory: Array,
        tgt_mask: Array | None = None,
        memory_mask: Array | None = None,
        tgt_key_padding_mask: Array | None = None,
        memory_key_padding_mask: Array | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
        *,
        tape: Tape | None = None,
    ) -> Array:
        def attend(x: Array) -> Array:
            masks = tgt_mask, tgt_key_padding_mask, tgt_is_causal
            return _attend(self.self_attn, self.dropout1, x, x, *masks, tape)

        def look(x: Array) -> Array:
            masks = memory_mask, memory_key_padding_mask, memory_is_causal
            return _attend(self.multihead_attn, self.dropout2, x, memory, *masks, tape)

        x = self._around(tgt, self.norm1, attend, tape)
        x = self._around(x, self.norm2, look, tape)
        return self._around(x, self.norm3, lambda x: self._feed(x, self.dropout3, tape), tape)

    def backward(self, dy: Array, *, tape: Tape) -> tuple[Array | None, Array | None]:
        dmemory = None

        def look_backward(d: Array) -> Array | None:
            nonlocal dmemory
            dx, dmemory = _attend_backward(self.multihead_attn, self.dropout2, d, tape)
            return dx

        def attend_backward(d: Array) -> Array | None:
            return add_gradients(*_attend_backward(self.self_attn, self.dropout1, d, tape))

        dx = self._around_backward(dy, self.norm3, lambda d: self._feed_backward(d, self.dropout3, tape), tape)
        dx = self._around_backward(dx, self.norm2, look_backward, tape)
        return self._around_backward(dx, self.norm1, attend_backward, tape), dmemory


def _clones(layer: Layer, n: int) -> ModuleList:
    """Copies with the same initial values; the generators that draw masks stay shared."""
    shared = {id(each.rng): each.rng for each in layer.unique_layers() if each.rng is not None}
    return ModuleList([copy.deepcopy(layer, dict(shared)) for _ in range(n)])


class TransformerEncoder(Layer):
    """`num_layers` copies of an encoder layer, one after the other, and `norm` behind them.

    enable_nested_tensor and mask_check are torch's and have no effect. is_causal None asks torch to look whether the
    mask is the causal one; the answer is the same without looking.
    """

    def __init__(
        self,
        encoder_layer: Layer,
        num_layers: int,
        norm: Layer | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.num_layers = num_layers
        _expect_layers(self, "encoder_layer", encoder_layer, num_layers)
        self.layers = _clones(encoder_layer, num_layers)
        self.norm = norm

    def describe(self) -> str:
        return f"{self.num_layers} layers"

    def forward(
        self,
        src: Array,
        mask: Array | None = None,
        src_key_padding_mask: Array | None = None,
        is_causal: bool | None = None,
        *,
        tape: Tape | None = None,
    ) -> Array:
        x = src
        for layer in self.layers:
            x = layer.forward(x, mask, src_key_padding_mask, bool(is_causal), tape=tape)
        return x if self.norm is None else self.norm.forward(x, tape=tape)

    def backward(self, dy: Array, *, tape: Tape) -> Array | None:
        if self.norm is not None:
            dy = self.norm.backward(dy, tape=tape)
        for layer in reversed(self.layers):
            dy = layer.backward(dy, tape=tape)
        return dy


class TransformerDecoder(Layer):
    """`num_layers` copies of a decoder layer, one after the other, and `norm` behind them: tgt, memory -> x.

    `backward(dy)` -> (dtgt, dmemory).
    """

    def __init__(self, decoder_layer: Layer, num_layers: int, norm: Layer | None = None) -> None:
        super().__init__()
        self.num_layers = num_layers
        _expect_layers(self, "decoder_layer", decoder_layer, num_layers)
        self.layers = _clones(decoder_layer, num_layers)
        self.norm = norm

    def describe(self) -> str:
        return f"{self.num_layers} layers"

    def forward(
        self,
        tgt: Array,
        memory: Array,
        tgt_mask: Array | None = None,
        memory_mask: Array | None = None,
        tgt_key_padding_mask: Array | None = None,
        memory_key_padding_mask: Array | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        *,
        tape: Tape | None = None,
    ) -> Array:
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        x = tgt
        for layer in self.layers:
            x = layer.forward(x, memory, *masks, bool(tgt_is_causal), memory_is_causal, tape=tape)
        return x if self.norm is None else self.norm.forward(x, tape=tape)

    def backward(self, dy: Array, *, tape: Tape) -> tuple[Array | None, Array | None]:
        if self.norm is not None:
            dy = self.norm.backward(dy, tape=tape)
        dmemories = []
        for layer in reversed(self.layers):
            dy, dmemory = layer.backward(dy, tape=tape)
            dmemories.append(dmemory)
        return dy, add_gradients(*dmemories)


def _expect_layers(owner: Layer, argument: str, layer: Any, n: Any) -> None:
    if not isinstance(layer, Layer):
        mend = f"pass a Transformer{'En' if argument == 'encoder_layer' else 'De'}coderLayer"
        raise owner.refusal(argument, f"a {type(layer).__name__}", "a Layer", mend, TypeError)
    if not is_whole(n) or n < 1:
        raise owner.refusal("num_layers", repr(n), "a positive int", "pass num_layers=1 or more")


class Transformer(Layer):
    """An encoder, and a decoder that attends to its output: src, tgt -> x. `backward(dy)` -> (dsrc, dtgt).

    See `TransformerEncoderLayer` for the arguments. custom_encoder, custom_decoder: layers that stand in their places
    and are called as they are. Source: Vaswani et al., Attention is all you need (2017).
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Any = F.relu,
        custom_encoder: Layer | None = None,
        custom_decoder: Layer | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(rng=rng)
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first
        where = {"device": device, "dtype": dtype, "xp": xp, "rng": rng}
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        norm = (d_model, layer_norm_eps, True, bias)
        if custom_encoder is None:
            encoder_layer = TransformerEncoderLayer(*sizes, **where)
            custom_encoder = TransformerEncoder(encoder_layer, num_encoder_layers, LayerNorm(*norm, **where))
        if custom_decoder is None:
            decoder_layer = TransformerDecoderLayer(*sizes, **where)
            custom_decoder = TransformerDecoder(decoder_layer, num_decoder_layers, LayerNorm(*norm, **where))
        self.encoder = custom_encoder
        self.decoder = custom_decoder
        for _, owner, name in self.parameter_slots():
            old = getattr(owner, name)
            if old.ndim > 1:  # xavier_uniform
                fans = (old.shape[0] + old.shape[1]) * math.prod(old.shape[2:])
                drawn = host_uniform(rng, tuple(old.shape), math.sqrt(6.0 / fans))
                owner.put(name, convert(drawn, array_namespace(old), **like(old)))

    def describe(self) -> str:
        return f"{self.d_model}, {self.nhead}"

    def forward(
        self,
        src: Array,
        tgt: Array,
        src_mask: Array | None = None,
        tgt_mask: Array | None = None,
        memory_mask: Array | None = None,
        src_key_padding_mask: Array | None = None,
        tgt_key_padding_mask: Array | None = None,
        memory_key_padding_mask: Array | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
        *,
        tape: Tape | None = None,
    ) -> Array:
        self._check(src, tgt)
        memory = self.encoder.forward(src, src_mask, src_key_padding_mask, src_is_causal, tape=tape)
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        return self.decoder.forward(tgt, memory, *masks, tgt_is_causal, memory_is_causal, tape=tape)

    def _check(self, src: Array, tgt: Array) -> None:
        for name, x in (("src", src), ("tgt", tgt)):
            self._refuse_no_array(x, name, optional=False)
            length = name[0].upper()
            shape = f"(N, {length}, {self.d_model})" if self.batch_first else f"({length}, N, {self.d_model})"
            self.expect_rank(x, (2, 3), f"{shape} or ({length}, {self.d_model})", name)
            mend = f"pass {name} with {self.d_model} features, or build Transformer({x.shape[-1]}, ...)"
            self.expect_size(x, -1, self.d_model, "features", mend, name)
        if tgt.ndim != src.ndim:
            got, expected = f"shape {tgt.shape}, {tgt.ndim}-d", f"{src.ndim} axes, as src has"
            raise self.refusal("tgt", got, expected, "give both the axis of the batch, or neither")
        if src.ndim == 3:
            axis = 0 if self.batch_first else 1
            self.expect_size(tgt, axis, src.shape[axis], "samples", "pass src and tgt of one batch", "tgt")

    def backward(self, dy: Array, *, tape: Tape) -> tuple[Array | None, Array | None]:
        dtgt, dmemory = self.decoder.backward(dy, tape=tape)
        return self.encoder.backward(dmemory, tape=tape), dtgt

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None, *, xp: Any = None) -> Array:
        """(sz, sz), 0 where a row may look, -inf above the diagonal. In NumPy's float32 where nothing else is asked."""
        full = host_full((sz, sz), -math.inf)
        mask = array_namespace(full).triu(full, k=1)
        library = array_namespace(full) if xp is None else namespace_of_module(xp)
        return convert(mask, library, device=device, dtype=dtype)
