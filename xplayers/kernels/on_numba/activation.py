"""Activations in float32, compiled: a row of the table is a value and the slope that multiplies dy, of one number.

Each loop reads and writes every array once, its exponentials a few multiplications in the processor's widest registers.
Only other dtypes are declined: with no calls of NumPy in between, small arrays gain as well.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import xplayers.functional.activation as F
from xplayers.functional.pair import wants

from ..registry import kernel
from ..threads import in_parts, runs
from .compiling import compiled, scalar
from .elementary import decay, exp, expm1, normal, sigmoid, softplus_from, tanh

__all__: list[str] = []

_PART = 1 << 18  # numbers that are worth a thread: 30 us of the lightest loops, 90 us of the others
_FLOAT32 = np.dtype(np.float32)
_BLOCK = 1 << 11  # numbers that stay in the nearest cache between two steps
_0, _1, _2, _3, _6, _20, _HALF = (np.float32(v) for v in (0, 1, 2, 3, 6, 20, 0.5))


def _value_loop(value: Callable) -> Callable:
    """y = value(x); a and b are an activation's constants, in float32."""

    @compiled
    def forward(x, y, a, b):
        for i in range(y.size):
            y[i] = value(x[i], a, b)

    return forward


def _slope_loop(slope: Callable) -> Callable:
    """dx = dy * slope(kept), of what the forward kept: x or y."""

    @compiled
    def backward(kept, dy, dx, a, b):
        for i in range(dx.size):
            dx[i] = dy[i] * slope(kept[i], a, b)

    return backward


def _value_loop_of_two(first: Callable, second: Callable) -> Callable:
    """y = second(x, first(x)), in two steps: in one, LLVM finds too much to vectorise."""

    @compiled
    def forward(x, y, a, b):
        for start in range(0, y.size, _BLOCK):
            part, out = x[start : start + _BLOCK], y[start : start + _BLOCK]
            for i in range(out.size):
                out[i] = first(part[i], a, b)
            for i in range(out.size):
                out[i] = second(part[i], out[i], a, b)

    return forward


def _slope_loop_of_two(first: Callable, second: Callable) -> Callable:
    """dx = dy * second(kept, first(kept)), in two steps as well."""

    @compiled
    def backward(kept, dy, dx, a, b):
        for start in range(0, dx.size, _BLOCK):
            part, d, out = kept[start : start + _BLOCK], dy[start : start + _BLOCK], dx[start : start + _BLOCK]
            for i in range(out.size):
                out[i] = first(part[i], a, b)
            for i in range(out.size):
                out[i] = d[i] * second(part[i], out[i], a, b)

    return backward


def _over(loop: Callable, arrays: tuple, constants: list) -> None:
    """The loop over all numbers of contiguous arrays of one size, on threads where that is worth it."""
    flat = [a.reshape(-1) for a in arrays]
    if flat[0].size <= _PART:
        loop(*flat, *constants)
    else:
        in_parts(lambda r: loop(*[t[r] for t in flat], *constants), runs(flat[0].size, _PART))


def _register(reference: Any, way: Callable[..., tuple | None], keeps: str = "x") -> None:
    """Registers the twin of an activation.

    `way` takes the arguments after x to a forward loop, a backward loop and two constants, to None where it declines.
    """

    def found(*options: Any) -> tuple | None:
        try:
            return way(*options)
        except TypeError:  # a value of another kind: the reference says so
            return None

    def supports(x: Any, *options: Any) -> bool:
        return x.dtype == _FLOAT32 and found(*options) is not None

    def backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        kept, loop, *constants = cache
        (want_x,) = wants(wanted, 1)
        if not want_x:
            return None
        if type(dy) is not np.ndarray or dy.dtype != _FLOAT32 or dy.shape != kept.shape:
            dy = np.broadcast_to(np.asarray(dy, np.float32), kept.shape)  # a number is a dy where the answer is 0-d
        dx = np.empty(kept.shape, np.float32)
        _over(loop, (kept, np.ascontiguousarray(dy), dx), constants)
        return dx

    @kernel("numpy", reference, backward, supports, means="numba", rule="float32")
    def forward(x: Any, *options: Any) -> Any:
        """One visit of every number."""
        given = found(*options) if x.dtype == _FLOAT32 else None
        if given is None:
            return NotImplemented
        loop, back, *constants = given
        x = np.ascontiguousarray(x).reshape(x.shape)
        y = np.empty(x.shape, np.float32)
        _over(loop, (x, y), constants)
        return y, (x if keeps == "x" else y, back, *constants)


def _activation(
    reference: Any,
    value: Callable,
    slope: Callable,
    *,
    first: Callable | None = None,
    keeps: str = "x",
    constants: Callable[..., Any] = lambda: (),
) -> None:
    """A row: the value, the slope, and the constants that the arguments after x come to, None to decline.

    Where `first` is given, the value is value(x, first(x)).
    """
    loops = _value_loop(value) if first is None else _value_loop_of_two(first, value), _slope_loop(slope)

    def way(*options: Any) -> tuple | None:
        given = constants(*options)
        if given is None or not all(isinstance(v, int | float) for v in given):
            return None
        return (*loops, *(np.float32(v) for v in given), _0, _0)[:4]

    _register(reference, way, keeps)


# -- straight lines --


@scalar
def _relu(x, a, b):
    return _0 if x < _0 else x  # NaN stays


@scalar
def _relu_slope(y, a, b):
    return _1 if y > _0 else _0


_activation(F.relu_forward, _relu, _relu_slope, keeps="y")


@scalar
def _leaky_relu(x, a, b):
    return x * (_1 if x > _0 else a)


@scalar
def _leaky_relu_slope(x, a, b):
    return _1 if x > _0 else a


_activation(
    F.leaky_relu_forward, _leaky_relu, _leaky_relu_slope, constants=lambda negative_slope=0.01: (negative_slope,)
)


@scalar
def _clipped(x, low, high):
    x = low if x < low else x
    return high if x > high else x


@scalar
def _clipped_slope(x, low, high):
    return _1 if (x > low) & (x < high) else _0


def _limits(min_val: float = -1.0, max_val: float = 1.0) -> tuple | None:
    return (min_val, max_val) if min_val <= max_val else None


_activation(F.hardtanh_forward, _clipped, _clipped_slope, constants=_limits)
_activation(F.relu6_forward, _clipped, _clipped_slope, keeps="y", constants=lambda: (0.0, 6.0))


@scalar
def _hardswish(x, a, b):
    return x * _clipped(x + _3, _0, _6) / _6


@scalar
def _hardswish_slope(x, a, b):
    inside = _clipped(x, -_3, _3) / _3 + _HALF
    inside = _0 if x <= -_3 else inside  # NaN stays
    return _1 if x >= _3 else inside


_activation(F.hardswish_forward, _hardswish, _hardswish_slope)


@scalar
def _hardsigmoid(x, a, b):
    return _clipped(x + _3, _0, _6) / _6


@scalar
def _hardsigmoid_slope(x, a, b):
    return _1 / _6 if (x > -_3) & (x < _3) else _0


_activation(F.hardsigmoid_forward, _hardsigmoid, _hardsigmoid_slope)


# -- sigmoids and gates --


@scalar
def _sigmoid(x, a, b):
    return sigmoid(x)


@scalar
def _sigmoid_slope(y, a, b):
    return y * (_1 - y)


_activation(F.sigmoid_forward, _sigmoid, _sigmoid_slope, keeps="y")


@scalar
def _tanh(x, a, b):
    return tanh(x)


@scalar
def _tanh_slope(y, a, b):
    return _1 - y * y


_activation(F.tanh_forward, _tanh, _tanh_slope, keeps="y")


@scalar
def _softplus_first(x, beta, threshold):
    return decay(beta * x)


@scalar
def _softplus(x, e, beta, threshold):
    z = beta * x
    return x if z > threshold else softplus_from(z, e) / beta


@scalar
def _softplus_slope(x, beta, threshold):
    z = beta * x
    return _1 if z > threshold else sigmoid(z)


_activation(
    F.softplus_forward,
    _softplus,
    _softplus_slope,
    first=_softplus_first,
    constants=lambda beta=1.0, threshold=20.0: (beta, threshold),
)


@scalar
def _logsigmoid_first(x, a, b):
    return decay(x)


@scalar
def _logsigmoid(x, e, a, b):
    return -softplus_from(-x, e)


@scalar
def _logsigmoid_slope(x, a, b):
    return sigmoid(-x)


_activation(F.logsigmoid_forward, _logsigmoid, _logsigmoid_slope, first=_logsigmoid_first)


@scalar
def _silu(x, a, b):
    return x * sigmoid(x)


@scalar
def _silu_slope(x, a, b):
    s = sigmoid(x)
    return s * (_1 + x * (_1 - s))


_activation(F.silu_forward, _silu, _silu_slope)

_ROOT_2PI = np.float32(1 / math.sqrt(2 * math.pi))
_SLOPE, _CUBIC = math.sqrt(2 / math.pi), 0.044715
_LINE, _CURVE, _BEND = np.float32(_SLOPE), np.float32(_SLOPE * _CUBIC), np.float32(3 * _SLOPE * _CUBIC)


@scalar
def _gelu(x, a, b):
    return x * normal(x)


@scalar
def _gelu_density(x, a, b):
    return exp(-_HALF * x * x) * _ROOT_2PI


@scalar
def _gelu_slope(x, density, a, b):
    return normal(x) + x * density


@scalar
def _gelu_tanh(x, a, b):
    return x * (_HALF + _HALF * tanh(x * (_LINE + _CURVE * (x * x))))


@scalar
def _gelu_tanh_slope(x, a, b):
    phi = _HALF + _HALF * tanh(x * (_LINE + _CURVE * (x * x)))
    return phi + _2 * phi * (_1 - phi) * (x * (_LINE + _BEND * (x * x)))


_GELU = {  # the argument chooses between loops, as no constant could
    "none": (_value_loop(_gelu), _slope_loop_of_two(_gelu_density, _gelu_slope), _0, _0),
    "tanh": (_value_loop(_gelu_tanh), _slope_loop(_gelu_tanh_slope), _0, _0),
}
_register(F.gelu_forward, lambda approximate="none": _GELU.get(approximate))


@scalar
def _mish_power(x):
    return exp(_20 if x > _20 else x)  # from 20 on tanh(log(1 + e^x)) is 1


@scalar
def _mish(x, a, b):
    e = _mish_power(x)
    n = e * (e + _2)  # tanh(log(1 + e^x)) is n / (n + 2)
    return x * (n / (n + _2))


@scalar
def _mish_slope(x, a, b):
    e = _mish_power(x)
    n = e * (e + _2)
    t = n / (n + _2)
    return t + x * ((_1 - t * t) * (e / (_1 + e)))


_activation(F.mish_forward, _mish, _mish_slope)


# -- exponential units --


@scalar
def _elu(x, alpha, b):
    return x if x > _0 else alpha * expm1(x)


@scalar
def _elu_slope(x, alpha, b):
    return _1 if x > _0 else alpha * exp(x)


_activation(F.elu_forward, _elu, _elu_slope, constants=lambda alpha=1.0: (alpha,))
