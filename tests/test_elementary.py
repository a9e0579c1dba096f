"""The elementary functions of compiled kernels: their error in units of the last place, over all of float32."""

import numpy as np
import pytest

numba = pytest.importorskip("numba")
special = pytest.importorskip("scipy.special")

from xplayers.kernels.on_numba import elementary  # noqa: E402
from xplayers.kernels.on_numba.compiling import compiled  # noqa: E402

TINY = np.float32(2.0**-149)
INF, NAN = np.inf, np.nan


def loop(f):
    @compiled
    def run(x, y):
        for i in range(x.size):
            y[i] = f(x[i])

    return run


def all_sizes():
    """Every exponent of float32 with a spread of fractions, both signs, 0 and subnormals among them."""
    bits = np.arange(0, 0x7F800000, 997, dtype=np.int64)
    near = np.linspace(-20, 20, 400_001).astype(np.float32)
    x = bits.astype(np.int32).view(np.float32)
    return np.concatenate([x, -x, near])


def units(y, exact):
    """The error in units of the last place of the exact answer; the smallest subnormal is the least unit."""
    rounded = exact.astype(np.float32)
    same = (y == rounded) | (np.isnan(y) & np.isnan(rounded))
    unit = np.spacing(np.abs(rounded)).astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(y.astype(np.float64) - exact) / unit
    # next to overflow the spacing of inf is NaN: the largest finite number is a unit away
    error[~np.isfinite(error)] = np.where(np.abs(y[~np.isfinite(error)]) >= 3.4e38, 1.0, np.inf)
    return np.where(same, np.minimum(error, 0.5001), error)


def softplus(x):
    return np.logaddexp(0.0, x)


BOUNDS = {  # function: exact one in float64, bound in units
    "exp": (np.exp, 1.1),
    "exp_up": (lambda x: np.exp(x) * 2.0**24, 1.1),
    "expm1": (np.expm1, 1.6),
    "tanh": (np.tanh, 2.5),
    "erf": (special.erf, 4.0),
    "sigmoid": (special.expit, 2.5),
    "log": (np.log, 1.0),
    "log1p": (np.log1p, 2.0),
    "softplus": (softplus, 2.5),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_errors_in_units_of_the_last_place(name):
    exact, bound = BOUNDS[name]
    x = all_sizes()
    if name.startswith("log"):
        x = x[x > (0.0 if name == "log" else -1.0)]
    if name == "exp_up":  # of numbers up to 0; below -103 its answer stays
        x = x[(x <= 0.0) & (x >= -103.0)]
    y = np.full_like(x, np.nan)
    loop(getattr(elementary, name))(x, y)
    with np.errstate(over="ignore", under="ignore"):
        error = units(y, exact(x.astype(np.float64)))
    worst = int(np.argmax(error))
    assert error[worst] <= bound, f"{name}({x[worst]!r}) = {y[worst]!r}: {error[worst]:.3g} units"


def test_a_lifted_exponential_of_minus_infinity_vanishes_beside_one():
    y = np.empty(33, np.float32)
    loop(elementary.exp_up)(np.full(33, -INF, np.float32), y)
    assert (y * elementary.SCALE_DOWN == 0).all()


def test_the_normal_distribution():
    x = all_sizes()
    x = x[np.abs(x) < 1e10]
    y = np.empty_like(x)
    loop(elementary.normal)(x, y)
    error = np.abs(x * (y - special.ndtr(x.astype(np.float64)))) / np.maximum(np.abs(x), 1.0)
    assert error.max() <= 1.5e-7
    assert y[np.argmin(x)] == 0
    assert y[np.argmax(x)] == 1


EDGES = {  # function: x, y
    "exp": [(INF, INF), (-INF, 0.0), (89.0, INF), (-104.0, 0.0), (0.0, 1.0)],
    "exp_up": [(0.0, 2.0**24), (-0.0, 2.0**24)],
    "expm1": [(INF, INF), (-INF, -1.0), (89.0, INF), (0.0, 0.0)],
    "tanh": [(INF, 1.0), (-INF, -1.0), (0.0, 0.0), (-0.0, -0.0)],
    "erf": [(INF, 1.0), (-INF, -1.0), (4.0, 1.0), (-0.0, -0.0)],
    "normal": [(INF, 1.0), (-INF, 0.0), (1e30, 1.0), (-1e30, 0.0), (0.0, 0.5)],
    "sigmoid": [(INF, 1.0), (-INF, 0.0), (0.0, 0.5)],
    "log": [(INF, INF), (0.0, -INF), (-0.0, -INF), (-1.0, NAN), (-INF, NAN), (1.0, 0.0), (TINY, np.log(2.0**-149))],
    "log1p": [(INF, INF), (-1.0, -INF), (-2.0, NAN), (-INF, NAN), (0.0, 0.0)],
    "softplus": [(INF, INF), (-INF, 0.0)],
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name):
    x, y = np.array([*EDGES[name], (NAN, NAN)], np.float32).T.copy()
    x, y = np.tile(x, 9), np.tile(y, 9)  # more than a vector, and a rest
    got = np.empty_like(x)
    loop(getattr(elementary, name))(x, got)
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal(np.signbit(got[y == 0]), np.signbit(y[y == 0]))
