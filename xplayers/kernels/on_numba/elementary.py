"""Elementary functions of one float32, without branches, so that LLVM vectorises the loops they stand in.

numba alone calls the C library for each element. Here every function is a polynomial between the right powers of two.
Their errors, in units of the last place over all float32, subnormal answers and the edges of the range included, stand
beside them and are held by tests/test_elementary.py. NaN gives NaN; infinities give their limits.
"""

import math

import numpy as np
from numba import types

from xplayers.kernels.approximations import ERF, EXP, LOG, LOG1P, NORMAL

from .compiling import intrinsic, scalar

__all__ = [
    "SCALE_DOWN",
    "bits",
    "decay",
    "erf",
    "exp",
    "exp_up",
    "expm1",
    "log",
    "log1p",
    "normal",
    "number",
    "sigmoid",
    "softplus",
    "softplus_from",
    "tanh",
]

_0, _HALF, _1, _2 = (np.float32(v) for v in (0.0, 0.5, 1.0, 2.0))
_INF, _NAN = np.float32(math.inf), np.float32(math.nan)

_E0, _E1, _E2, _E3, _E4 = map(np.float32, EXP)
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7 = map(np.float32, LOG)
_P0, _P1, _P2, _P3, _P4, _P5, _P6, _P7, _P8 = map(np.float32, LOG1P)
_R0, _R1, _R2, _R3, _R4, _R5, _R6, _R7, _R8 = map(np.float32, ERF)
_N0, _N1, _N2, _N3, _N4, _N5, _N6 = map(np.float32, NORMAL)

_LOG2E = np.float32(math.log2(math.e))
_LN2_HIGH = np.float32(0.693359375)  # nine bits: its products with exponents are exact
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
_FRACTION = np.int32(23)  # bits of a float32: 2^n is the bits (n + 127) << 23
_SIGN, _NO_SIGN = np.int32(-(2**31)), np.int32(2**31 - 1)
_ONE_BIT = np.int32(1)


def _rounding(shift: int) -> np.float32:
    """Added to a small number it leaves the nearest integer n + shift + 127 in the last bits: of 2^(n + shift)."""
    return np.float32(1.5 * 2**23 + 127 + shift)


_HALVED, _TWICE = _rounding(-1), _rounding(127)
_UP, _DOWN = _rounding(24), _rounding(-24)
SCALE_DOWN = np.float32(2.0**-24)

_EXP_LOW, _EXP_HIGH = np.float32(-104.0), np.float32(89.0)  # beyond these 0 and inf
_ONE_LOW, _ZERO_HIGH = np.float32(-70.0), np.float32(104.0)  # of z: beyond these 1 / (1 + e^z) is 1 and 0
_EXPM1_LOW = np.float32(-18.0)  # below it -1
_TANH_HIGH, _ERF_HIGH = np.float32(9.5), np.float32(3.93)  # beyond these 1

_ROOT_HALF_BITS = np.float32(math.sqrt(0.5)).view(np.int32)
_SMALLEST_NORMAL = np.float32(2.0**-126)
_LIFT, _LIFT_BITS = np.float32(2.0**23), np.float32(23.0)


@intrinsic
def bits(context, x):
    """The bits of a float32 as int32."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], context.get_value_type(types.int32))

    return types.int32(types.float32), generate


@intrinsic
def number(context, n):
    """The float32 of the low 32 bits of an integer: numba's sums of int32 are int64."""

    def generate(context, builder, signature, args):
        low = builder.trunc(args[0], context.get_value_type(types.int32))
        return builder.bitcast(low, context.get_value_type(types.float32))

    return types.float32(types.int64), generate


@scalar
def _rest(x, k):
    """x - k log(2)."""
    return (x - k * _LN2_HIGH) - k * _LN2_LOW


@scalar
def _exp_of_rest(r):
    return (((((_E4 * r + _E3) * r + _E2) * r + _E1) * r + _E0) * r + _1) * r + _1


@scalar
def _shifted(x, rounding):
    """2^shift e^x, for what the power of two it holds is neither subnormal nor too large."""
    t = x * _LOG2E + rounding
    return _exp_of_rest(_rest(x, t - rounding)) * number(bits(t) << _FRACTION)


@scalar
def exp(x):
    """e^x, to 1.1 units."""
    x = _EXP_LOW if x < _EXP_LOW else x
    x = _EXP_HIGH if x > _EXP_HIGH else x
    t = x * _LOG2E + _TWICE
    y = _exp_of_rest(_rest(x, t - _TWICE))
    n = bits(t)  # n + 254; of NaN it is any, and y is NaN
    half = np.int32(n >> _ONE_BIT)  # in two factors, as 2^128 and 2^-150 are not floats
    return y * number(half << _FRACTION) * number(np.int32(n - half) << _FRACTION)


@scalar
def exp_up(x):
    """2^24 e^x of x <= 0, to 1.1 units: cheaper than e^x, and the factor often goes by itself."""
    return _shifted(_EXP_LOW if x < _EXP_LOW else x, _UP)


@scalar
def _expm1(x):
    """`expm1` within its bounds."""
    t = x * _LOG2E + _HALVED
    r = _rest(x, t - _HALVED)
    small = (((((_E4 * r + _E3) * r + _E2) * r + _E1) * r + _E0) * r) * r + r  # e^r - 1
    power = number(bits(t) << _FRACTION)  # half of it, as 2^128 is not a float
    return (power * small + (power - _HALF)) * _2


@scalar
def expm1(x):
    """e^x - 1, to 1.6 units."""
    x = _EXPM1_LOW if x < _EXPM1_LOW else x
    return _expm1(_EXP_HIGH if x > _EXP_HIGH else x)


@scalar
def _with_sign_of(y, x):
    return number(bits(y) | (bits(x) & _SIGN))


@scalar
def _magnitude(x):
    return number(bits(x) & _NO_SIGN)


@scalar
def tanh(x):
    """tanh(x), to 2.5 units."""
    a = _magnitude(x)
    a = _TANH_HIGH if a > _TANH_HIGH else a
    e = _expm1(_2 * a)
    return _with_sign_of(e / (e + _2), x)


@scalar
def erf(x):
    """The error function, to 4 units."""
    a = _magnitude(x)
    s = a * a
    p = (((((((_R8 * s + _R7) * s + _R6) * s + _R5) * s + _R4) * s + _R3) * s + _R2) * s + _R1) * s + _R0
    e = _expm1(a * p)
    return _with_sign_of(_1 if a > _ERF_HIGH else e / (e + _2), x)


@scalar
def _logistic(z):
    """1 / (1 + e^z), both sides of the fraction times 2^-24."""
    z = _ONE_LOW if z < _ONE_LOW else z
    z = _ZERO_HIGH if z > _ZERO_HIGH else z
    return SCALE_DOWN / (SCALE_DOWN + _shifted(z, _DOWN))


@scalar
def normal(x):
    """The distribution function of the normal distribution: x times it to 1.5e-7 max(1, |x|), in absolute terms."""
    s = x * x
    p = (((((_N6 * s + _N5) * s + _N4) * s + _N3) * s + _N2) * s + _N1) * s + _N0
    return _logistic(-x * p)


@scalar
def sigmoid(x):
    """1 / (1 + e^-x), to 2.5 units: with all its digits also where it is small."""
    return _logistic(-x)


@scalar
def _log(x, shift):
    """log(x) - shift log(2) of a positive x that is neither subnormal nor infinite."""
    b = bits(x)
    n = np.int32(np.int32(b - _ROOT_HALF_BITS) >> _FRACTION)
    f = number(b - (n << _FRACTION)) - _1  # x = 2^n (1 + f), sqrt(1/2) <= 1 + f < sqrt(2)
    k = np.float32(n) - shift
    s = f * f
    p = ((((((_L7 * f + _L6) * f + _L5) * f + _L4) * f + _L3) * f + _L2) * f + _L1) * f + _L0
    return k * _LN2_HIGH + (f + (k * _LN2_LOW + (f * s * p - _HALF * s)))


@scalar
def log(x):
    """log(x), to 1 unit; NaN below 0, -inf at 0."""
    subnormal = x < _SMALLEST_NORMAL
    y = _log(x * _LIFT if subnormal else x, _LIFT_BITS if subnormal else _0)
    y = y if x < _INF else x  # inf, NaN
    y = y if x > _0 else -_INF
    return _NAN if x < _0 or x != x else y


@scalar
def log1p(x):
    """log(1 + x), to 2 units."""
    u = _1 + x
    y = _log(u, _0) + (x - (u - _1)) / u  # what rounding 1 + x has taken away
    y = y if x < _INF else x  # inf, NaN
    y = y if x > -_1 else -_INF
    return _NAN if x < -_1 or x != x else y


@scalar
def decay(x):
    """e^-|x|."""
    return exp_up(-_magnitude(x)) * SCALE_DOWN


@scalar
def softplus(x):
    """log(1 + e^x), to 2.5 units."""
    return softplus_from(x, decay(x))


@scalar
def softplus_from(x, e):
    """`softplus` where e^-|x| is known."""
    p = (((((((_P8 * e + _P7) * e + _P6) * e + _P5) * e + _P4) * e + _P3) * e + _P2) * e + _P1) * e + _P0
    return p * e * e + e + (_0 if x < _0 else x)
