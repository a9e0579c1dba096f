"""Where chance has a say: statistics of what is drawn, the generators that draw it, and the same draw everywhere."""

import math

import numpy as np
import pytest

import xplayers as xpl
from tests import backends
from xplayers import functional as F

N = 200_000


def sure(deviation, spread):
    """Within five standard errors: one run in two million strays further, and the seeds are fixed."""
    return abs(deviation) < 5 * spread / math.sqrt(N)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_share_and_the_mean(p):
    y = xpl.Dropout(p, rng=np.random.default_rng(0))(np.ones(N))
    assert sure(np.mean(y == 0) - p, math.sqrt(p * (1 - p)))
    assert sure(np.mean(y) - 1, math.sqrt(p / (1 - p)))
    assert np.allclose(y[y != 0], 1 / (1 - p), rtol=1e-14, atol=0)


@pytest.mark.parametrize("layer, shape", [(xpl.Dropout1d, (4,)), (xpl.Dropout2d, (2, 2)), (xpl.Dropout3d, (1, 2, 2))])
def test_channels_go_whole_and_apart(layer, shape):
    y = layer(0.3, rng=np.random.default_rng(0))(np.ones((N // 100, 100, *shape))).reshape(N, 4)
    assert np.array_equal(y[:, :1] * np.ones(4), y)
    assert sure(np.mean(y[:, 0] == 0) - 0.3, 0.5)


@pytest.mark.parametrize("layer, shape", [(xpl.AlphaDropout, (N,)), (xpl.FeatureAlphaDropout, (N // 100, 100))])
@pytest.mark.parametrize("p", [0.1, 0.6])
def test_alpha_dropout_keeps_mean_and_variance(layer, shape, p):
    x = np.random.default_rng(1).standard_normal(shape)
    y = layer(p, rng=np.random.default_rng(0))(x)
    assert sure(np.mean(y), 1) and sure(np.var(y) - 1, 3)


def test_rrelu_draws_each_slope_between_the_bounds():
    slopes = -xpl.RReLU(0.2, 0.6, rng=np.random.default_rng(0))(-np.ones(N))
    assert slopes.min() >= 0.2 and slopes.max() < 0.6
    assert sure(np.mean(slopes) - 0.4, 0.12) and sure(np.var(slopes) - 0.4**2 / 12, 0.012)


def test_gumbel_softmax_draws_the_classes_as_often_as_they_are_likely():
    p = np.array([0.1, 0.2, 0.7])
    y = F.gumbel_softmax(np.tile(np.log(p), (N, 1)), hard=True, rng=np.random.default_rng(0))
    assert set(np.unique(y)) == {0.0, 1.0} and np.all(y.sum(axis=1) == 1)
    assert all(sure(d, 0.5) for d in y.mean(axis=0) - p)


LAYERS = [xpl.Dropout, xpl.AlphaDropout, xpl.FeatureAlphaDropout, xpl.Dropout1d, xpl.RReLU]


@pytest.mark.parametrize("layer", LAYERS)
def test_a_generator_of_its_own_decides_and_moves_on(layer):
    x = np.random.default_rng(2).standard_normal((6, 7, 8))
    one, other = layer(rng=np.random.default_rng(3)), layer(rng=np.random.default_rng(3))
    first, second = one(x), one(x)
    assert np.array_equal(first, other(x)) and np.array_equal(second, other(x))
    assert not np.array_equal(first, second)
    one.eval()
    assert np.array_equal(one(x), one(x))


def test_the_seed_of_the_package_decides_where_there_is_no_generator():
    x = np.ones((6, 7))
    found = []
    for _ in range(2):
        xpl.manual_seed(5)
        found.append(xpl.Dropout()(x))
    assert np.array_equal(*found)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_key_draws_the_same_on_every_library(layer, backend):
    numpy, _ = backends.load("numpy")
    x = np.random.default_rng(2).standard_normal((6, 7, 8)).astype(np.float32)
    ours, theirs = (layer(rng=xpl.random.Key(4))(b.asarray(x)) for b in (numpy, backend))
    assert backend.at_home(theirs) is None
    np.testing.assert_allclose(backend.numpy(theirs), ours, rtol=1e-6, atol=1e-6)


def test_what_draws_must_be_a_generator():
    with pytest.raises(TypeError, match=r"rng: got int, expected numpy\.random\.Generator"):
        xpl.Dropout(rng=3)(np.ones(4))
