"""Recurrent networks beyond the table: what stands past an end, initial values, frozen weights."""

import math

import numpy as np
import pytest

import xplayers as xpl

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.standard_normal(shape)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_what_stands_past_an_end_reaches_nothing(name):
    layer = getattr(xpl, name)(2, 3, 2, bidirectional=True, batch_first=True)
    x, lengths, dy = draw(3, 5, 2), np.array([2, 5, 1]), draw(3, 5, 6)
    y, _ = layer(x, None, lengths)
    dx, _ = layer.backward((dy, None))
    grads = dict(layer.grads)
    layer.zero_grad()
    padded = np.arange(5) >= lengths[:, None]
    x[padded] = dy[padded] = np.nan
    again, _ = layer(x, lengths=tuple(lengths.tolist()))
    np.testing.assert_array_equal(again, y)
    np.testing.assert_array_equal(layer.backward((dy, None))[0], dx)
    assert not y[padded].any()
    assert not dx[padded].any()
    for key, gradient in layer.grads.items():
        np.testing.assert_array_equal(gradient, grads[key])


def test_an_empty_sequence_keeps_its_first_state():
    layer = xpl.GRU(2, 3)
    x, h = draw(4, 2, 2), draw(1, 2, 3)
    y, last = layer(x, h, np.array([0, 4]))
    np.testing.assert_array_equal(last[:, 0], h[:, 0])
    dlast = draw(1, 2, 3)
    _, dh = layer.backward((None, dlast))
    np.testing.assert_array_equal(dh[:, 0], dlast[:, 0])
    assert not y[:, 0].any()


def test_lengths_are_traced():
    jax = pytest.importorskip("jax")
    layer = xpl.LSTM(2, 3, bidirectional=True)
    x, lengths = draw(4, 3, 2), np.array([2, 4, 1])
    y, (h, c) = layer(x, None, lengths)
    forward, _ = xpl.pure(layer)
    params = {k: jax.numpy.asarray(v) for k, v in layer.params.items()}
    traced = jax.jit(lambda p, x, n: forward(p, x, None, n))(params, jax.numpy.asarray(x), jax.numpy.asarray(lengths))
    for got, want in zip((traced[0], *traced[1]), (y, h, c), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-14)


def test_each_weight_can_be_frozen():
    layer = xpl.LSTM(2, 3, 2, proj_size=2)
    layer.freeze("weight_hh_l1", "bias_ih_l0")
    y, _ = layer(draw(4, 3, 2))
    assert layer.backward((y, None), input_grad=False) is None
    assert set(layer.grads) == set(layer.params) - {"weight_hh_l1", "bias_ih_l0"}


def test_initial_values_and_warning():
    layer = xpl.LSTM(3, 400, rng=np.random.default_rng(0))
    weight = layer.weight_hh_l0
    assert abs(weight).max() <= 1 / math.sqrt(400)
    assert abs(weight.std() * math.sqrt(3 * 400) - 1) < 0.01
    with pytest.warns(UserWarning, match="between layers"):
        xpl.GRU(2, 3, dropout=0.5)


def test_dropout_is_drawn_between_the_layers():
    layer = xpl.RNN(2, 64, 2, dropout=0.25, rng=xpl.random.Key(1))
    x = draw(40, 8, 2)
    first, second = layer(x)[0], layer(x)[0]
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(layer.eval()(x)[0], layer(x)[0])
