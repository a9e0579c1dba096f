"""The seam: what the array libraries disagree on, each against NumPy or a published number."""

import math

import numpy as np
import pytest

from xplayers import arrays
from xplayers.arrays import special
from xplayers.arrays.random import Key, threefry2x32, uniform

KNOWN = [  # known answers of Threefry-2x32, 20 rounds, published with Random123
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("key", "text", "cipher"), KNOWN)
def test_threefry_known_answers(key, text, cipher):
    signed = [np.asarray([w], np.uint32).view(np.int32) for w in text]
    with np.errstate(over="ignore"):
        words = threefry2x32(Key(key[0] | key[1] << 32).words(), *signed)
    assert [int(w.view(np.uint32)[0]) for w in words] == list(cipher)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_keys_draw_the_same_everywhere(backend, dtype):
    here = backend.asarray(np.zeros(1, dtype))
    key, reference = Key(2**40 + 7), Key(2**40 + 7)
    for shape in ((5,), (2, 3), ()):
        got = key.uniform(shape, here)
        assert backend.at_home(got) is None
        np.testing.assert_array_equal(backend.numpy(got), reference.uniform(shape, np.zeros(1, dtype)))
    assert (key.seed, key.counter) == (2**40 + 7, 3)


def test_draws_are_uniform_and_fresh():
    key = Key(3)
    a, b = (key.uniform((100_000,), np.zeros(1)) for _ in range(2))
    assert abs(a.mean() - 0.5) < 0.005
    assert abs(a.var() * 12 - 1) < 0.02
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
    assert a.min() >= 0
    assert a.max() < 1


def test_a_generator_draws_on_every_library(backend):
    here = backend.asarray(np.zeros(1, np.float32))
    a = uniform(np.random.default_rng(1), (4, 5), here)
    b = uniform(np.random.default_rng(1), (4, 5), here)
    assert backend.at_home(a) is None
    np.testing.assert_array_equal(backend.numpy(a), backend.numpy(b))
    with pytest.raises(TypeError, match="rng"):
        uniform(7, (2,), here)


def test_erf(backend):
    x = np.asarray([*np.linspace(-7, 7, 401), math.inf, -math.inf, 0.0])
    expected = np.asarray([math.erf(v) for v in x])
    for f in (arrays.erf, special._erf):
        got = backend.numpy(f(backend.asarray(x)))
        assert np.abs(got - expected).max() < 5e-15
        assert np.isnan(backend.numpy(f(backend.asarray(np.asarray([math.nan]))))).all()


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 2, 3)])
def test_index_add_adds_up_repeats(backend, shape):
    rng = np.random.default_rng(0)
    x, index = rng.standard_normal(shape), rng.integers(0, 7, (4, 5))
    values = rng.standard_normal((4, 5, *shape[1:]))
    expected = x.copy()
    np.add.at(expected, index, values)
    here = backend.asarray(x)
    got = arrays.index_add(here, backend.asarray(index), backend.asarray(values))
    assert backend.at_home(got) is None
    np.testing.assert_allclose(backend.numpy(got), expected, rtol=1e-14, atol=1e-14)
    np.testing.assert_array_equal(backend.numpy(here), x)


def test_index_add_of_nothing(backend):
    x = backend.asarray(np.ones((3, 2)))
    got = arrays.index_add(x, backend.asarray(np.zeros((0,), np.int64)), backend.asarray(np.zeros((0, 2))))
    np.testing.assert_array_equal(backend.numpy(got), np.ones((3, 2)))


WINDOWS = [((7,), (3,), (2,), (1,)), ((6, 5), (2, 3), (2, 1), (1, 2)), ((3, 4, 5), (1, 1, 1), (1, 1, 1), (1, 1, 1))]


@pytest.mark.parametrize(("sizes", "kernel", "stride", "dilation"), WINDOWS)
def test_windows_and_their_adjoint(backend, sizes, kernel, stride, dilation):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, *sizes))
    got = backend.numpy(arrays.windows(backend.asarray(x), kernel, stride, dilation))
    counts = arrays.window_counts(sizes, kernel, stride, dilation)
    assert got.shape == (2, 3, *kernel, *counts)
    for index in np.ndindex(*kernel, *counts):
        k, o = index[: len(sizes)], index[len(sizes) :]
        place = tuple(i * s + j * d for i, s, j, d in zip(o, stride, k, dilation, strict=True))
        np.testing.assert_array_equal(got[(..., *index)], x[(..., *place)])
    w = rng.standard_normal(got.shape)
    back = backend.numpy(arrays.add_windows(backend.asarray(w), sizes, stride, dilation))
    np.testing.assert_allclose(np.sum(back * x), np.sum(w * got), rtol=1e-12)  # <A^T w, x> = <w, A x>


def test_sums(backend):
    x = np.random.default_rng(0).standard_normal((1500, 2, 3)) + 1
    got = arrays.sum_leading(backend.asarray(x))
    np.testing.assert_allclose(backend.numpy(got), x.sum(axis=(0, 1)), rtol=1e-13)
    got = arrays.sum_to(backend.asarray(x), (2, 1))
    np.testing.assert_allclose(backend.numpy(got), x.sum(axis=(0, 2))[:, None], rtol=1e-13)
    if not hasattr(backend.xp, "float16"):  # array-api-strict has none
        return
    half = backend.asarray(np.ones(4096, np.float16))
    assert float(backend.numpy(arrays.total(half))) == 4096  # adding ones in float16 stops at 2048


def test_namespaces_do_not_mix(backend):
    x = backend.asarray(np.ones(2))
    assert arrays.array_namespace(x, None, 1.0) is backend.xp
    other = backend.asarray(np.ones(2)) if backend.name != "torch" else np.ones(2)
    if backend.name == "torch":
        with pytest.raises(TypeError, match="different libraries"):
            arrays.array_namespace(x, other)
    for wrong in ([1.0], (1.0,), "x"):
        with pytest.raises(TypeError, match="expected an array"):
            arrays.array_namespace(wrong)
    with pytest.raises(TypeError, match="no array"):
        arrays.array_namespace(None, 2)


def test_moves(backend):
    x = np.arange(6.0).reshape(2, 3)
    moved = arrays.convert(x, backend.xp, device=backend.device)
    assert backend.at_home(moved) is None
    back = arrays.convert(moved, arrays.array_namespace(x))
    np.testing.assert_array_equal(back, x)
    back[...] = 0
    np.testing.assert_array_equal(backend.numpy(moved), np.arange(6.0).reshape(2, 3))
    assert arrays.nbytes(moved) == 48
