"""Attention and transformers beyond the table: the cache's size, dropout, initial values, the causal mask."""

import math

import numpy as np
import pytest
import torch

import xplayers as xpl
import xplayers.functional as F
from xplayers.arrays import leaves

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.standard_normal(shape)


def matrices(cache, length, steps):
    """How many (L, S) matrices a head the cache holds."""
    return len({id(a) for a in leaves(cache) if a.shape[-2:] == (length, steps)})


@pytest.mark.parametrize("dropout_p", [0.0, 0.5])
def test_the_cache_holds_one_matrix_a_head(dropout_p):
    q, k, v = draw(2, 3, 5, 8), draw(2, 3, 7, 8), draw(2, 3, 7, 8)
    y, cache = F.scaled_dot_product_attention_forward(q, k, v, draw(2, 3, 5, 7), dropout_p)
    assert matrices(cache, 5, 7) == 1
    layer, tape = xpl.MultiheadAttention(8, 2, dropout_p), xpl.Tape()
    mask, padding = RNG.random((5, 7)) < 0.3, RNG.random((3, 7)) < 0.3
    mask[:, 0] = padding[:, 0] = False
    for options in ({"need_weights": False}, {"average_attn_weights": False}, {}):
        y, _ = layer(draw(5, 3, 8), draw(7, 3, 8), draw(7, 3, 8), padding, attn_mask=mask, tape=tape, **options)
        assert matrices(tape.pop(layer), 5, 7) == 1
    assert y.shape == (5, 3, 8)


def test_dropout_leaves_out_its_share():
    q = np.zeros((2, 2, 100, 4))
    v = np.broadcast_to(np.eye(100), (2, 2, 100, 100))  # y shows the weights
    y = F.scaled_dot_product_attention(q, q, v, dropout_p=0.3, rng=xpl.random.Key(0))
    assert abs((y == 0).mean() - 0.3) < 0.01
    assert np.allclose(y[y != 0], 0.01 / 0.7)
    layer = xpl.MultiheadAttention(4, 2, 1.0)
    y, weights = layer(draw(3, 2, 4), draw(3, 2, 4), draw(3, 2, 4))
    assert not weights.any()
    dq, *_ = layer.backward((np.ones_like(y), None))
    assert not dq.any()


def test_huge_scores_are_exact():
    q = np.full((1, 2, 4), 1e4, np.float32)
    k = np.concatenate([q, -q], axis=1)
    y, cache = F.scaled_dot_product_attention_forward(q, k, k)
    np.testing.assert_array_equal(y, q)
    assert all(np.isfinite(d).all() for d in F.scaled_dot_product_attention_backward(y, cache)[:3])


def test_initial_values():
    layer = xpl.MultiheadAttention(64, 4, add_bias_kv=True, rng=np.random.default_rng(0))
    assert abs(layer.in_proj_weight).max() <= math.sqrt(6 / 256)
    assert abs(layer.in_proj_weight.std() / math.sqrt(2 / 256) - 1) < 0.02
    assert abs(layer.out_proj.weight).max() <= 1 / 8
    assert not layer.in_proj_bias.any()
    assert not layer.out_proj.bias.any()
    assert abs(layer.bias_k.std() * 8 - 1) < 0.3
    net = xpl.Transformer(32, 2, 2, 1, 48, rng=np.random.default_rng(0))
    assert abs(net.encoder.layers[0].linear1.weight.std() / math.sqrt(2 / 80) - 1) < 0.05
    assert np.any(net.encoder.layers[0].linear1.weight != net.encoder.layers[1].linear1.weight)
    twin = torch.nn.Transformer(32, 2, 2, 1, 48, batch_first=True)  # otherwise it warns
    assert list(net.state_dict()) == [k for k in twin.state_dict() if k in net.state_dict()]
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: tuple(v.shape) for k, v in twin.state_dict().items()
    }


def test_copies_of_a_layer_draw_masks_of_their_own():
    inner = xpl.TransformerEncoderLayer(8, 2, 16, 0.5, rng=xpl.random.Key(3))
    net = xpl.TransformerEncoder(inner, 2)
    assert net.layers[0].dropout.rng is net.layers[1].dropout.rng is inner.rng
    assert net.layers[0].linear1.weight is not net.layers[1].linear1.weight
    np.testing.assert_array_equal(net.layers[0].linear1.weight, net.layers[1].linear1.weight)


def test_the_causal_mask_is_torchs():
    ours = xpl.Transformer.generate_square_subsequent_mask(4)
    np.testing.assert_array_equal(ours, torch.nn.Transformer.generate_square_subsequent_mask(4).numpy())
    assert ours.dtype == np.float32
    theirs = xpl.Transformer.generate_square_subsequent_mask(4, dtype=torch.float64, xp=torch)
    assert theirs.dtype == torch.float64
    np.testing.assert_array_equal(theirs.numpy(), ours)


def test_the_first_layers_gradient_can_be_spared():
    for norm_first in (False, True):
        net = xpl.Transformer(8, 2, 1, 1, 16, 0.0, norm_first=norm_first)
        y = net(draw(4, 3, 8), draw(5, 3, 8))
        assert net.backward(y, input_grad=False) is None
        assert set(net.grads) == set(net.params)


def test_an_activation_may_be_a_layer_with_parameters():
    layer = xpl.TransformerEncoderLayer(8, 2, 16, 0.0, activation=xpl.PReLU())
    assert "activation.weight" in layer.state_dict()
    y = layer(draw(4, 3, 8))
    layer.backward(y)
    assert "activation.weight" in layer.grads


def test_custom_encoders_are_called_as_they_are():
    net = xpl.Transformer(8, 2, custom_encoder=_Encoder(), num_decoder_layers=1, dim_feedforward=16, dropout=0.0)
    src, tgt = draw(4, 3, 8), draw(5, 3, 8)
    y = net(src, tgt)
    dsrc, dtgt = net.backward(y)
    assert dsrc.shape == src.shape
    assert dtgt.shape == tgt.shape


class _Encoder(xpl.Layer):
    """Twice its input, whatever the masks say."""

    def forward(self, src, mask=None, src_key_padding_mask=None, is_causal=None, *, tape=None):
        return 2.0 * src

    def backward(self, dy, *, tape):
        return 2.0 * dy


@pytest.mark.parametrize("where", ["query", "key", "value", "dy"])
@pytest.mark.parametrize("row", [5, 290])
def test_nan_beyond_the_causal_columns_goes_where_the_whole_product_takes_it(where, row):
    arrays = {name: draw(1, 2, 300, 4) for name in ("query", "key", "value", "dy")}
    arrays[where][0, 1, row, 2] = np.nan
    found = []
    for mode in ("off", "require"):
        with xpl.use_kernels(mode), np.errstate(all="ignore"):
            given = dict(arrays)
            dy = given.pop("dy")
            y, cache = F.scaled_dot_product_attention_forward(**given, is_causal=True)
            found.append((y, *F.scaled_dot_product_attention_backward(dy, cache)[:3]))
    for agnostic, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, agnostic, rtol=1e-9, atol=1e-12)
