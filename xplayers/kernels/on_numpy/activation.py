"""Activations in blocks that stay in the cache, each written in place, over threads.

One driver walks over the blocks; a row of the table gives the few operations on one block of the forward and of the
backward. They exploit what NumPy does quickly and avoid what it does slowly: `where` on signs that change at random,
expm1 and log1p (an element at a time), scipy's erf. Declined are half precision and arrays too small to repay the
calls; of what is one operation already (relu, tanh), those that are too small for threads.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import xplayers.functional.activation as F
from xplayers.functional.pair import wants

from ..approximations import NORMAL
from ..registry import kernel, worth
from ..threads import even_runs, in_parts

_LEAST = 1 << 12  # elements: below, calls cost what is saved
_ONE_OPERATION = 1 << 18  # elements, of functions that are little more than one operation: threads alone help
_BLOCK = 1 << 20  # elements: two threads that call NumPy more often wait for one another instead, at 50 us a time
_SPARED = 1 << 19  # where there are spare blocks
_WORTH_THREADS = {True: 1 << 17, False: 1 << 18}  # elements, of heavy and of light functions


def over_blocks(function: Callable, arrays: tuple, out: Any, spare: int, heavy: bool, constants: tuple) -> Any:
    """out = function of arrays of its shape, block by block: `function(*blocks, out, *spare blocks, *constants)`."""
    flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
    to = out.reshape(-1)
    if out.size < _WORTH_THREADS[heavy]:
        function(*flat, to, *[np.empty_like(to) for _ in range(spare)], *constants)
        return out
    parts = even_runs(out.size, out.size, _SPARED if spare else _BLOCK)
    idle: list = []  # spare blocks that no thread works in

    def work(part: slice) -> None:
        size = part.stop - part.start
        try:
            space = idle.pop()
        except IndexError:
            space = [np.empty(parts[0].stop, out.dtype) for _ in range(spare)]
        function(*[a[part] for a in flat], to[part], *[s[:size] for s in space], *constants)
        idle.append(space)

    in_parts(work, parts)
    return out


def _quiet(function: Callable) -> Callable:
    """Without warnings: an e^x that overflows on its way to 1 / (1 + e^x) = 0 is meant."""

    def quietly(*args: Any) -> None:
        with np.errstate(all="ignore"):
            function(*args)

    return quietly


def pair(
    reference: Callable,
    forward: Callable,
    backward: Callable,
    *,
    keeps: str = "x",
    spare: tuple[int, int] = (0, 0),
    heavy: bool = False,
    least: int = _LEAST,
    constants: Callable[..., tuple | None] = lambda: (),
    floats: str = "fd",
    rule: str = "",
) -> None:
    """Registers the twin of an activation.

    `forward(x, out, *spare, *constants)` and `backward(*kept, dy, out, *spare, *constants)` work on blocks; kept are
    x, y or both as `keeps` says. `constants` takes the arguments after x to numbers, None where they are declined.
    """

    def numbers(x: Any, *options: Any) -> tuple | None:
        if type(x) is not np.ndarray or x.dtype.char not in floats:
            return None
        try:
            given = constants(*options)
        except TypeError:  # a value of another kind: the reference says so
            return None
        return given if given is None or all(type(c) in (float, int, tuple) for c in given) else None

    def twin(x: Any, *options: Any) -> Any:
        if not isinstance(x, np.ndarray) or not worth(x.size, least):
            return NotImplemented
        given = numbers(x, *options)
        if given is None:
            return NotImplemented
        x = np.ascontiguousarray(x).reshape(x.shape)
        y = over_blocks(forward, (x,), np.empty(x.shape, x.dtype), spare[0], heavy, given)
        return y, ({"x": (x,), "y": (y,), "xy": (x, y)}[keeps], *given)

    def twin_backward(dy: Any, cache: tuple, *, wanted: tuple | None = None) -> Any:
        (want_x,) = wants(wanted, 1)
        if not want_x:
            return None
        kept, *given = cache
        like = kept[0]
        if type(dy) is not np.ndarray or dy.dtype != like.dtype or dy.shape != like.shape:
            return dy * twin_backward(np.ones_like(like), cache)  # of another shape or dtype: as NumPy multiplies them
        return over_blocks(backward, (*kept, dy), np.empty(like.shape, like.dtype), spare[1], heavy, tuple(given))

    def supports(*given: Any) -> bool:
        return numbers(*given) is not None

    twin.__doc__ = f"`{reference.__name__}` in blocks, each written in place."
    said = f"{rule}{'float32 and float64' if floats == 'fd' else 'float32'}, {least} elements and more"
    kernel("numpy", reference, twin_backward, supports, rule=said)(twin)


# -- straight lines: a comparison gives bytes, which are copied into floats and multiplied, twice as fast as mixed --


def _relu(x: Any, out: Any) -> None:
    x.clip(0.0, math.inf, out=out)  # in half the time of a maximum with a number


def _relu_backward(y: Any, dy: Any, out: Any) -> None:
    np.copyto(out, np.greater(y, 0.0))
    np.multiply(out, dy, out=out)


def _between(kept: Any, dy: Any, out: Any, low: float, high: float) -> None:
    """dy where low < kept < high."""
    inside = np.greater(kept, low)
    np.bitwise_and(inside, np.less(kept, high), out=inside)
    np.copyto(out, inside)
    np.multiply(out, dy, out=out)


def _leaky(x: Any, out: Any, negative: float) -> None:
    """negative * x is below x where x > 0 and above it where not, the other way round where negative > 1."""
    np.multiply(x, negative, out=out)
    (np.maximum if negative < 1 else np.minimum)(x, out, out=out)


def _leaky_backward(x: Any, dy: Any, out: Any, negative: float) -> None:
    np.copyto(out, np.greater(x, 0.0))
    np.multiply(out, 1.0 - negative, out=out)
    np.add(out, negative, out=out)
    np.multiply(out, dy, out=out)


def _leaky_constants(negative_slope: float = 0.01) -> tuple | None:
    return (negative_slope,) if negative_slope and math.isfinite(negative_slope) else None  # 0 times infinity is NaN


def _hardsigmoid(x: Any, out: Any) -> None:
    np.add(x, 3.0, out=out)
    out.clip(0.0, 6.0, out=out)
    np.divide(out, 6.0, out=out)


def _hardsigmoid_backward(x: Any, dy: Any, out: Any) -> None:
    _between(x, dy, out, -3.0, 3.0)
    np.divide(out, 6.0, out=out)


def _hardswish(x: Any, out: Any) -> None:
    np.add(x, 3.0, out=out)
    out.clip(0.0, 6.0, out=out)
    np.multiply(out, x, out=out)
    np.multiply(out, 1.0 / 6.0, out=out)


def _hardswish_backward(x: Any, dy: Any, out: Any, t: Any) -> None:
    """c + 1/2 with c = x/3 between -1 and 1: of c = -1 and 1, which trunc leaves, half is taken back."""
    x.clip(-3.0, 3.0, out=out)
    np.divide(out, 3.0, out=out)  # below 1 for every x < 3, which a product with 1/3 is not
    np.trunc(out, out=t)
    np.multiply(t, 0.5, out=t)
    np.subtract(out, t, out=out)
    np.add(out, 0.5, out=out)
    np.multiply(out, dy, out=out)


def _softsign(x: Any, out: Any) -> None:
    np.abs(x, out=out)
    np.add(out, 1.0, out=out)
    np.divide(x, out, out=out)


def _softsign_backward(x: Any, dy: Any, out: Any) -> None:
    np.abs(x, out=out)
    np.add(out, 1.0, out=out)
    np.multiply(out, out, out=out)
    np.divide(dy, out, out=out)


pair(F.relu_forward, _relu, _relu_backward, keeps="y", least=_ONE_OPERATION)
pair(F.leaky_relu_forward, _leaky, _leaky_backward, constants=_leaky_constants, rule="negative_slope not 0, ")
pair(F.hardsigmoid_forward, _hardsigmoid, _hardsigmoid_backward)
pair(F.hardswish_forward, _hardswish, _hardswish_backward, spare=(0, 1))
pair(F.softsign_forward, _softsign, _softsign_backward)


# -- sigmoids --


def sigmoid_into(x: Any, out: Any) -> None:
    """1 / (1 + e^-x): where e^-x overflows the answer is below the smallest float."""
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1.0, out=out)
    np.divide(1.0, out, out=out)


def _sigmoid_backward(y: Any, dy: Any, out: Any) -> None:
    np.subtract(1.0, y, out=out)
    np.multiply(out, y, out=out)
    np.multiply(out, dy, out=out)


def _tanh(x: Any, out: Any) -> None:
    np.tanh(x, out=out)


def _tanh_backward(y: Any, dy: Any, out: Any) -> None:
    np.multiply(y, y, out=out)
    np.subtract(1.0, out, out=out)
    np.multiply(out, dy, out=out)


def _log1p_of_exp(x: Any, out: Any, t: Any, u: Any) -> None:
    """log(1 + e^-|x|): of u = 1 + e the logarithm, and (e - (u - 1)) / u for what rounding has taken from u."""
    bits = f"i{x.itemsize}"
    np.bitwise_or(x.view(bits), np.iinfo(bits).min, out=t.view(bits))  # -|x|: the sign's bit is set
    np.exp(t, out=t)  # e <= 1
    np.add(t, 1.0, out=u)
    np.log(u, out=out)
    np.subtract(t, u, out=t)  # e - u + 1 is exact in this order too, as u - e is nearly 1
    np.add(t, 1.0, out=t)
    np.divide(t, u, out=t)
    np.add(out, t, out=out)


def _softplus(x: Any, out: Any, t: Any, u: Any, z: Any, beta: float) -> None:
    if beta != 1.0:
        x = np.multiply(x, beta, out=z)
    _log1p_of_exp(x, out, t, u)
    x.clip(0.0, math.inf, out=z)
    np.add(out, z, out=out)
    if beta != 1.0:
        np.divide(out, beta, out=out)


@_quiet
def _softplus_backward(x: Any, dy: Any, out: Any, beta: float) -> None:
    sigmoid_into(x if beta == 1.0 else np.multiply(x, beta, out=out), out)
    np.multiply(out, dy, out=out)


def _softplus_constants(beta: float = 1.0, threshold: float = 20.0) -> tuple | None:
    return (beta,) if beta and threshold >= 17.0 else None  # from there on x and softplus are the same float32


def logsigmoid_into(x: Any, out: Any, t: Any, u: Any) -> None:
    _log1p_of_exp(x, out, t, u)
    x.clip(-math.inf, 0.0, out=t)
    np.subtract(t, out, out=out)


@_quiet
def _logsigmoid_backward(x: Any, dy: Any, out: Any) -> None:
    np.exp(x, out=out)
    np.add(out, 1.0, out=out)
    np.divide(dy, out, out=out)


pair(F.sigmoid_forward, _quiet(sigmoid_into), _sigmoid_backward, keeps="y", heavy=True)
pair(F.tanh_forward, _tanh, _tanh_backward, keeps="y", heavy=True, least=_ONE_OPERATION)
pair(F.logsigmoid_forward, logsigmoid_into, _logsigmoid_backward, spare=(2, 0), heavy=True)
pair(
    F.softplus_forward,
    _softplus,
    _softplus_backward,
    spare=(3, 0),
    heavy=True,
    constants=_softplus_constants,
    floats="f",
    rule="threshold >= 17, ",
)


# -- gates: y = x g(x), g between 0 and 1. The backward has g from y / x, in a fifth of an exponential's time --

_TINY = 1e-30  # below it y is rounded to multiples of the smallest float, and of 0 / 0 there is no g


def _gate(x: Any, y: Any, out: Any, again: Callable, *more: Any) -> None:
    """out = y / x, or where an x is (next to) 0 what `again(x, out, *more)` computes."""
    np.abs(x, out=out)
    if out.min(initial=1.0) > _TINY:
        np.divide(y, x, out=out)
    else:  # or NaN
        again(x, out, *more)


@_quiet
def _silu(x: Any, out: Any) -> None:
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1.0, out=out)
    np.divide(x, out, out=out)


@_quiet
def _silu_backward(x: Any, y: Any, dy: Any, out: Any, t: Any) -> None:
    """dy (g + y (1 - g)), g the sigmoid."""
    _gate(x, y, out, sigmoid_into)
    np.subtract(1.0, out, out=t)
    np.multiply(t, y, out=t)
    np.add(out, t, out=out)
    np.multiply(out, dy, out=out)


def _exponent(x: Any, out: Any, t: Any, coefficients: tuple) -> None:
    """-x P(x^2)."""
    np.multiply(x, x, out=t)
    np.multiply(t, -coefficients[-1], out=out)
    for c in coefficients[-2:0:-1]:
        np.subtract(out, c, out=out)
        np.multiply(out, t, out=out)
    np.subtract(out, coefficients[0], out=out)
    np.multiply(out, x, out=out)


def _one_and_exponential(x: Any, out: Any, t: Any, coefficients: tuple) -> None:
    """1 + e^(-x P(x^2)): with the one P it is 1 / Phi, Phi of the normal distribution, with the other its tanh form."""
    _exponent(x, out, t, coefficients)
    np.exp(out, out=out)
    np.add(out, 1.0, out=out)


def _phi(x: Any, out: Any, t: Any, coefficients: tuple) -> None:
    _one_and_exponential(x, out, t, coefficients)
    np.divide(1.0, out, out=out)


@_quiet
def _gelu(x: Any, out: Any, t: Any, coefficients: tuple) -> None:
    _one_and_exponential(x, out, t, coefficients)
    np.divide(x, out, out=out)


@_quiet
def _gelu_backward(x: Any, y: Any, dy: Any, out: Any, t: Any, u: Any, coefficients: tuple) -> None:
    _gate(x, y, out, _phi, t, coefficients)
    np.multiply(x, x, out=t)
    if coefficients is NORMAL:  # Phi + x e^(-x^2 / 2) / sqrt(2 pi)
        np.multiply(t, -0.5, out=t)
        np.exp(t, out=t)
        np.multiply(t, 1.0 / math.sqrt(2.0 * math.pi), out=t)
        np.multiply(t, x, out=t)
    else:  # Phi + y (1 - Phi) (P(x^2) + 2 x^2 P'(x^2)), P linear
        np.multiply(t, -3.0 * coefficients[1], out=t)
        np.subtract(t, coefficients[0], out=t)
        np.multiply(t, y, out=t)
        np.subtract(out, 1.0, out=u)
        np.multiply(t, u, out=t)
    np.add(out, t, out=out)
    np.multiply(out, dy, out=out)


_SLOPE = 2.0 * math.sqrt(2.0 / math.pi)  # (1 + tanh(z)) / 2 = 1 / (1 + e^(-2 z))
_BY_TANH = (_SLOPE, 0.044715 * _SLOPE)


def _gelu_constants(approximate: str = "none") -> tuple | None:
    return {"none": (NORMAL,), "tanh": (_BY_TANH,)}.get(approximate)


def _mish_terms(x: Any, w: Any, n: Any) -> None:
    """w = e^x and n = w (w + 2): tanh(log(1 + w)) = n / (n + 2), which is 1 long before w^2 overflows."""
    x.clip(-math.inf, 20.0, out=w)
    np.exp(w, out=w)
    np.add(w, 2.0, out=n)
    np.multiply(n, w, out=n)


@_quiet
def _mish(x: Any, out: Any, n: Any) -> None:
    _mish_terms(x, out, n)
    np.add(n, 2.0, out=out)
    np.divide(n, out, out=out)
    np.multiply(out, x, out=out)


@_quiet
def _mish_backward(x: Any, dy: Any, out: Any, n: Any, t: Any) -> None:
    """t + x (1 - t^2) w / (1 + w), with t as above."""
    _mish_terms(x, out, n)
    np.add(n, 2.0, out=t)
    np.divide(n, t, out=t)
    np.add(out, 1.0, out=n)
    np.divide(out, n, out=out)
    np.multiply(t, t, out=n)
    np.subtract(1.0, n, out=n)
    np.multiply(out, n, out=out)
    np.multiply(out, x, out=out)
    np.add(out, t, out=out)
    np.multiply(out, dy, out=out)


pair(F.silu_forward, _silu, _silu_backward, keeps="xy", spare=(0, 1), heavy=True)
pair(
    F.gelu_forward,
    _gelu,
    _gelu_backward,
    keeps="xy",
    spare=(1, 2),
    heavy=True,
    constants=_gelu_constants,
    floats="f",
)
pair(F.mish_forward, _mish, _mish_backward, spare=(1, 2), heavy=True, floats="f")


# -- exponential units --


def _elu(x: Any, out: Any, t: Any, alpha: float, scale: float, rate: float) -> None:
    """scale max(x, 0) + scale alpha (e^z - 1), z = rate min(x, 0), e^z - 1 = 2 t / (1 - t) with t = tanh(z / 2)."""
    x.clip(-math.inf, 0.0, out=t)
    np.multiply(t, 0.5 * rate, out=t)
    np.tanh(t, out=t)
    np.subtract(1.0, t, out=out)
    np.multiply(t, 2.0 * scale * alpha, out=t)
    np.divide(t, out, out=t)
    x.clip(0.0, math.inf, out=out)
    if scale != 1.0:
        np.multiply(out, scale, out=out)
    np.add(out, t, out=out)


def _elu_backward(x: Any, dy: Any, out: Any, t: Any, alpha: float, scale: float, rate: float) -> None:
    """scale where x > 0, scale alpha rate e^(rate x) where not."""
    x.clip(-math.inf, 0.0, out=t)
    if rate != 1.0:
        np.multiply(t, rate, out=t)
    factor = scale * alpha * rate
    if factor == scale == 1.0:
        np.exp(t, out=out)  # 1 where x > 0
    else:
        np.exp(t, out=t)
        np.multiply(t, factor, out=t)
        np.copyto(out, np.greater(x, 0.0))
        np.multiply(out, scale - factor, out=out)
        np.add(out, t, out=out)
    np.multiply(out, dy, out=out)


def _celu_constants(alpha: float = 1.0) -> tuple | None:
    return (alpha, 1.0, 1.0 / alpha) if alpha > 0 else None


def _elu_constants(alpha: float = 1.0) -> tuple:
    return alpha, 1.0, 1.0


for _reference, _constants in (
    (F.elu_forward, _elu_constants),
    (F.celu_forward, _celu_constants),
    (F.selu_forward, lambda: (F._SELU_ALPHA, F._SELU_SCALE, 1.0)),
):
    pair(_reference, _elu, _elu_backward, spare=(1, 1), heavy=True, constants=_constants)
