"""Winograd's two ways beside the direct sum: their errors, who asks for which, odd sizes, bands, what is not finite."""

import numpy as np
import pytest

import xplayers as xpl
import xplayers.functional as F
from xplayers.kernels import winograd_four

MEANS = ("numba", "numpy")
BOUND = {"exact": 2.0, "fast": 6.0}  # of the direct sum's root mean square error in float32


def alone(means):
    return xpl.use_kernels("require", without=tuple(m for m in MEANS if m != means))


def arrays(n, c, h, w, o, seed=0, dtype="f4"):
    rng = np.random.default_rng(seed)
    x, weight, bias = (rng.standard_normal(s).astype(dtype) for s in ((n, c, h, w), (o, c, 3, 3), (o,)))
    return x, weight / np.sqrt(9 * c).astype(dtype), bias


def answers(x, weight, bias, padding, dtype="f4"):
    """Output and gradients."""
    x, weight, bias = (a.astype(dtype) for a in (x, weight, bias))
    y, cache = F.conv2d_forward(x, weight, bias, 1, padding)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype("f4").astype(dtype)
    return [y, *F.conv2d_backward(dy, cache)]


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("precision", BOUND)
@pytest.mark.parametrize("shape", [(2, 64, 12, 12, 64), (1, 256, 20, 20, 32)], ids=str)
def test_the_error_is_bounded(shape, precision, means, monkeypatch):
    given = arrays(*shape)
    taken = []
    for maps in {type(winograd_four._MAPS)} if precision == "fast" else set():
        whole = maps.answer
        monkeypatch.setattr(maps, "answer", lambda *a, whole=whole: (taken.append(1), whole(*a))[1])
    with xpl.use_kernels("off"):
        exact, direct = answers(*given, 1, "f8"), answers(*given, 1)
    with alone(means), xpl.use_kernels(precision=precision):
        got = answers(*given, 1)
    assert bool(taken) == (precision == "fast"), "another way has been taken"
    rms = lambda a, b: np.sqrt(np.mean((a.astype("f8") - b) ** 2))  # noqa: E731
    for what, a, d, e in zip(("y", "dx", "dweight", "dbias"), got, direct, exact, strict=True):
        assert rms(a, e) <= BOUND[precision] * rms(d, e) + 1e-9, what


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize(
    ("shape", "padding"),
    [
        ((1, 2, 3, 3, 3), 0),  # an output of one number
        ((2, 3, 7, 10, 4), 1),
        ((3, 2, 9, 5, 2), (0, 2)),
        ((2, 3, 13, 6, 2), 2),
        ((1, 300, 61, 60, 4), 1),  # in bands of tiles
    ],
    ids=str,
)
def test_every_size_by_tiles_of_four(shape, padding, means):
    given = arrays(*shape)
    with xpl.use_kernels("off"):
        exact = answers(*given, padding, "f8")
    with alone(means), xpl.use_kernels(precision="fast"):
        got = answers(*given, padding)
    for a, e in zip(got, exact, strict=True):
        assert np.abs(a - e).max() <= 1e-5 * np.abs(e).max()


@pytest.mark.parametrize("means", MEANS)
def test_what_is_not_finite_stays_where_it_is(means):
    x, weight, bias = arrays(1, 3, 12, 12, 2)
    x[0, 1, 5, 5] = np.inf
    with xpl.use_kernels("off"):
        expected = answers(x, weight, bias, 1)
    with alone(means), xpl.use_kernels(precision="fast"):
        got = answers(x, weight, bias, 1)
    for a, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, e, 1e-5, 1e-5)
