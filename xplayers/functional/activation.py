"""Activations of one element at a time: a value, and under it the derivative that its gradient multiplies dy with."""

import functools
import inspect
import math

from xplayers.arrays import array_namespace, clip, erf, sum_to, uniform
from xplayers.errors import refusal

from .pair import accelerable, answer_of, follows_cache, wants

__all__ = [
    "celu",
    "celu_backward",
    "celu_forward",
    "elu",
    "elu_backward",
    "elu_forward",
    "gelu",
    "gelu_backward",
    "gelu_forward",
    "glu",
    "glu_backward",
    "glu_forward",
    "hardshrink",
    "hardshrink_backward",
    "hardshrink_forward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardsigmoid_forward",
    "hardswish",
    "hardswish_backward",
    "hardswish_forward",
    "hardtanh",
    "hardtanh_backward",
    "hardtanh_forward",
    "leaky_relu",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "logsigmoid",
    "logsigmoid_backward",
    "logsigmoid_forward",
    "mish",
    "mish_backward",
    "mish_forward",
    "prelu",
    "prelu_backward",
    "prelu_forward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu6_forward",
    "relu_backward",
    "relu_forward",
    "rrelu",
    "rrelu_backward",
    "rrelu_forward",
    "selu",
    "selu_backward",
    "selu_forward",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu",
    "silu_backward",
    "silu_forward",
    "softplus",
    "softplus_backward",
    "softplus_forward",
    "softshrink",
    "softshrink_backward",
    "softshrink_forward",
    "softsign",
    "softsign_backward",
    "softsign_forward",
    "tanh",
    "tanh_backward",
    "tanh_forward",
    "tanhshrink",
    "tanhshrink_backward",
    "tanhshrink_forward",
    "threshold",
    "threshold_backward",
    "threshold_forward",
]


def times_dy(derivative):
    """Makes the backward of a derivative: dx = dy * derivative(*cache), element by element.

    What stands under it is written as mathematics: the derivative of the forward above it, from what that one kept.
    """

    @functools.wraps(derivative)
    def backward(dy, cache, *, wanted=None):
        (want_x,) = wants(wanted, 1)
        return dy * derivative(*cache) if want_x else None

    forward = derivative.__name__.replace("_backward", "_forward")
    backward.__doc__ = (
        f"dy (*) -> dx (*): dy times the derivative, the gradient of `{forward}`.\n\n{derivative.__doc__}"
    )
    backward.__signature__ = inspect.signature(lambda dy, cache, *, wanted=None: None)
    return follows_cache(backward)


# -- straight lines --


@accelerable
def relu_forward(x):
    """y = max(x, 0).

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.relu.
    Source: Nair, Hinton, Rectified linear units improve restricted Boltzmann machines (2010).
    """
    y = clip(x, 0.0, math.inf)  # on NumPy three times as fast as a maximum with a scalar
    return y, (y,)


@times_dy
def relu_backward(y):
    """1 where x > 0, else 0."""
    return array_namespace(y).astype(y > 0, y.dtype)


relu = answer_of(relu_forward)


def _two_slopes(x, negative):
    """1 where x > 0, `negative` where not. By masks: `where` is many times slower on signs that change at random."""
    positive = array_namespace(x).astype(x > 0, x.dtype)
    return positive + negative * (1.0 - positive)


@accelerable
def leaky_relu_forward(x, negative_slope=0.01):
    """y = x where x > 0, negative_slope * x where not.

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.leaky_relu.
    Source: Maas, Hannun, Ng, Rectifier nonlinearities improve neural network acoustic models (2013).
    """
    return x * _two_slopes(x, negative_slope), (x, negative_slope)


@times_dy
def leaky_relu_backward(x, negative_slope):
    """1 where x > 0, negative_slope where not, 0 included."""
    return _two_slopes(x, negative_slope)


leaky_relu = answer_of(leaky_relu_forward)


@accelerable
def prelu_forward(x, weight):
    """y = x where x > 0, weight * x where not; one weight for all, or one a channel.

    x (*) or (N, C, *), weight (), (1,) or (C,) -> y of x's shape. Errors: ValueError where a weight of several values
    does not count the channels. Twin: torch.nn.functional.prelu.
    Source: He, Zhang, Ren, Sun, Delving deep into rectifiers (2015).
    """
    xp = array_namespace(x, weight)
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.shape not in ((), (1,), (channels,)):
        raise refusal(
            "prelu",
            "weight",
            f"shape {weight.shape} for x of shape {x.shape}",
            f"shape () or (1,), or ({channels},) for the channels on axis 1",
            f"pass a weight of shape ({channels},)",
        )
    column = xp.reshape(weight, (-1, *(1,) * (x.ndim - 2)) if x.ndim > 1 else ())  # (C, 1, ..., 1) against (N, C, *)
    return x * _two_slopes(x, column), (x, column, weight.shape)


@follows_cache
def prelu_backward(dy, cache, *, wanted=None):
    """dy of x's shape -> dx of x's shape, dweight of weight's: the gradients of `prelu_forward`."""
    x, column, shape = cache
    want_x, want_weight = wants(wanted, 2)
    dx = dweight = None
    if want_x:
        dx = dy * _two_slopes(x, column)
    if want_weight:
        per_channel = sum_to(dy * clip(x, -math.inf, 0.0), column.shape)  # where x > 0, the weight has no part in y
        dweight = array_namespace(x).reshape(per_channel, shape)
    return dx, dweight


prelu = answer_of(prelu_forward)


@accelerable
def rrelu_forward(x, lower=1.0 / 8, upper=1.0 / 3, training=False, *, mask=None, rng=None):
    """y = x where x > 0, a * x where not: a uniform in [lower, upper) for each element, in training; else their mean.

    x (*) -> y (*). mask (*): the slopes a, where they are not to be drawn. Errors: ValueError where lower > upper.
    Twin: torch.nn.functional.rrelu.
    Source: Xu, Wang, Chen, Li, Empirical evaluation of rectified activations in convolutional network (2015).
    """
    if lower > upper:
        raise refusal("rrelu", "lower", f"{lower} > upper {upper}", "lower <= upper", "exchange the two")
    if not training:
        slope = (lower + upper) / 2
    else:
        slope = lower + (upper - lower) * uniform(rng, x.shape, x) if mask is None else mask
    return x * _two_slopes(x, slope), (x, slope)


@times_dy
def rrelu_backward(x, slope):
    """1 where x > 0, the slope that was drawn where not."""
    return _two_slopes(x, slope)


rrelu = answer_of(rrelu_forward)


@accelerable
def hardtanh_forward(x, min_val=-1.0, max_val=1.0):
    """y = min(max(x, min_val), max_val).

    x (*) -> y (*). Errors: ValueError where min_val > max_val. Twin: torch.nn.functional.hardtanh.
    Source: Collobert, Large scale machine learning (2004).
    """
    if min_val > max_val:
        raise refusal("hardtanh", "min_val", f"{min_val} > max_val {max_val}", "min_val <= max_val", "exchange the two")
    return clip(x, min_val, max_val), (x, min_val, max_val)


@times_dy
def hardtanh_backward(x, min_val, max_val):
    """1 where min_val < x < max_val, else 0."""
    return array_namespace(x).astype((x > min_val) & (x < max_val), x.dtype)


hardtanh = answer_of(hardtanh_forward)


@accelerable
def relu6_forward(x):
    """y = min(max(x, 0), 6).

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.relu6.
    Source: Krizhevsky, Convolutional deep belief networks on CIFAR-10 (2010).
    """
    y = clip(x, 0.0, 6.0)
    return y, (y,)


@times_dy
def relu6_backward(y):
    """1 where 0 < x < 6, else 0."""
    return array_namespace(y).astype((y > 0) & (y < 6), y.dtype)


relu6 = answer_of(relu6_forward)


@accelerable
def threshold_forward(x, threshold, value):
    """y = x where x > threshold, value where not.

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.threshold.
    Source: elementary; the name is torch's.
    """
    return array_namespace(x).where(x > threshold, x, value), (x, threshold)


@times_dy
def threshold_backward(x, threshold):
    """1 where x > threshold, else 0."""
    return array_namespace(x).astype(x > threshold, x.dtype)


threshold = answer_of(threshold_forward)


@accelerable
def hardshrink_forward(x, lambd=0.5):
    """y = x where |x| > lambd, 0 where not.

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.hardshrink.
    Source: Donoho, Johnstone, Ideal spatial adaptation by wavelet shrinkage (1994).
    """
    xp = array_namespace(x)
    return x * xp.astype(xp.abs(x) > lambd, x.dtype), (x, lambd)


@times_dy
def hardshrink_backward(x, lambd):
    """1 where |x| > lambd, else 0."""
    xp = array_namespace(x)
    return xp.astype(xp.abs(x) > lambd, x.dtype)


hardshrink = answer_of(hardshrink_forward)


@accelerable
def softshrink_forward(x, lambd=0.5):
    """y = x - lambd where x > lambd, x + lambd where x < -lambd, 0 between.

    x (*) -> y (*). Errors: ValueError where lambd < 0. Twin: torch.nn.functional.softshrink.
    Source: Donoho, Johnstone, Ideal spatial adaptation by wavelet shrinkage (1994).
    """
    if lambd < 0:
        raise refusal("softshrink", "lambd", repr(lambd), "lambd >= 0", f"pass lambd={-lambd}")
    return x - clip(x, -lambd, lambd), (x, lambd)


@times_dy
def softshrink_backward(x, lambd):
    """1 where |x| > lambd, else 0."""
    xp = array_namespace(x)
    return xp.astype(xp.abs(x) > lambd, x.dtype)


softshrink = answer_of(softshrink_forward)


@accelerable
def hardsigmoid_forward(x):
    """y = min(max(x + 3, 0), 6) / 6.

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.hardsigmoid.
    Source: Courbariaux, Bengio, David, BinaryConnect (2015).
    """
    return clip(x + 3.0, 0.0, 6.0) / 6.0, (x,)


@times_dy
def hardsigmoid_backward(x):
    """1/6 where -3 < x < 3, else 0. (torch's 1/6 is rounded to float32, in float64 too.)"""
    return array_namespace(x).astype((x > -3) & (x < 3), x.dtype) / 6.0


hardsigmoid = answer_of(hardsigmoid_forward)


@accelerable
def hardswish_forward(x):
    """y = x min(max(x + 3, 0), 6) / 6.

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.hardswish.
    Source: Howard et al., Searching for MobileNetV3 (2019).
    """
    return x * clip(x + 3.0, 0.0, 6.0) / 6.0, (x,)


@times_dy
def hardswish_backward(x):
    """0 where x <= -3, x/3 + 1/2 where -3 < x < 3, 1 where x >= 3."""
    xp = array_namespace(x)
    inside = xp.astype((x > -3) & (x < 3), x.dtype)
    return inside * (clip(x, -3.0, 3.0) / 3.0 + 0.5) + xp.astype(x >= 3, x.dtype)  # no infinity times 0


hardswish = answer_of(hardswish_forward)


# -- sigmoids --


def _sigmoid(xp, x):
    """1 / (1 + e^-x), with all its digits also where it is small, and without an overflow where it is not."""
    e = xp.exp(-xp.abs(x))  # <= 1
    return xp.maximum(xp.astype(x >= 0, x.dtype), e) / (1.0 + e)  # 1 / (1 + e) where x >= 0, e / (1 + e) where not


def _softplus(xp, x):
    """log(1 + e^x), for any x."""
    return clip(x, 0.0, math.inf) + xp.log1p(xp.exp(-xp.abs(x)))


@accelerable
def sigmoid_forward(x):
    """y = 1 / (1 + e^-x).

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.sigmoid.
    Source: Rumelhart, Hinton, Williams, Learning representations by back-propagating errors (1986).
    """
    y = _sigmoid(array_namespace(x), x)
    return y, (y,)


@times_dy
def sigmoid_backward(y):
    """y (1 - y)."""
    return y * (1.0 - y)


sigmoid = answer_of(sigmoid_forward)


@accelerable
def tanh_forward(x):
    """y = tanh(x).

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.tanh.
    Source: LeCun, Bottou, Orr, Müller, Efficient BackProp (1998).
    """
    y = array_namespace(x).tanh(x)
    return y, (y,)


@times_dy
def tanh_backward(y):
    """1 - y^2."""
    return 1.0 - y * y


tanh = answer_of(tanh_forward)


@accelerable
def tanhshrink_forward(x):
    """y = x - tanh(x).

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.tanhshrink.
    Source: elementary; the name is torch's.
    """
    t = array_namespace(x).tanh(x)
    return x - t, (t,)


@times_dy
def tanhshrink_backward(t):
    """tanh(x)^2."""
    return t * t


tanhshrink = answer_of(tanhshrink_forward)


@accelerable
def softsign_forward(x):
    """y = x / (1 + |x|).

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.softsign.
    Source: Bergstra, Desjardins, Lamblin, Bengio, Quadratic polynomials learn better image features (2009).
    """
    return x / (1.0 + array_namespace(x).abs(x)), (x,)


@times_dy
def softsign_backward(x):
    """1 / (1 + |x|)^2."""
    r = 1.0 / (1.0 + array_namespace(x).abs(x))
    return r * r


softsign = answer_of(softsign_forward)


@accelerable
def logsigmoid_forward(x):
    """y = log(1 / (1 + e^-x)).

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.logsigmoid.
    Source: Cox, The regression analysis of binary sequences (1958).
    """
    return -_softplus(array_namespace(x), -x), (x,)


@times_dy
def logsigmoid_backward(x):
    """1 / (1 + e^x)."""
    return _sigmoid(array_namespace(x), -x)


logsigmoid = answer_of(logsigmoid_forward)


@accelerable
def softplus_forward(x, beta=1.0, threshold=20.0):
    """y = log(1 + e^(beta x)) / beta, and x itself where beta x > threshold.

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.softplus.
    Source: Dugas, Bengio, Bélisle, Nadeau, Garcia, Incorporating second-order functional knowledge (2001).
    """
    xp = array_namespace(x)
    z = beta * x
    return xp.where(z > threshold, x, _softplus(xp, z) / beta), (x, beta, threshold)


@times_dy
def softplus_backward(x, beta, threshold):
    """1 / (1 + e^-(beta x)), and 1 where beta x > threshold."""
    xp = array_namespace(x)
    z = beta * x
    return xp.where(z > threshold, 1.0, _sigmoid(xp, z))


softplus = answer_of(softplus_forward)


# -- gates: x times something between 0 and 1 --


@accelerable
def silu_forward(x):
    """y = x s with s = 1 / (1 + e^-x).

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.silu.
    Source: Elfwing, Uchibe, Doya, Sigmoid-weighted linear units (2017).
    """
    return x * _sigmoid(array_namespace(x), x), (x,)


@times_dy
def silu_backward(x):
    """s + x s (1 - s)."""
    s = _sigmoid(array_namespace(x), x)
    return s * (1.0 + x * (1.0 - s))


silu = answer_of(silu_forward)


@accelerable
def gelu_forward(x, approximate="none"):
    """y = x Phi(x), Phi the distribution function of the normal distribution: (1 + erf(x / sqrt 2)) / 2.

    With approximate="tanh", Phi(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.
    x (*) -> y (*). Errors: ValueError for another `approximate`. Twin: torch.nn.functional.gelu.
    Source: Hendrycks, Gimpel, Gaussian error linear units (2016).
    """
    if approximate not in ("none", "tanh"):
        raise refusal(
            "gelu", "approximate", repr(approximate), '"none" or "tanh"', 'leave it out, or pass approximate="tanh"'
        )
    phi = _normal_by_tanh(x) if approximate == "tanh" else 0.5 + 0.5 * erf(x * math.sqrt(0.5))
    return x * phi, (x, approximate)


@times_dy
def gelu_backward(x, approximate):
    """Phi(x) + x Phi'(x), Phi'(x) = e^(-x^2 / 2) / sqrt(2 pi) where Phi is not the approximate one."""
    xp = array_namespace(x)
    if approximate == "tanh":
        phi = _normal_by_tanh(x)
        inner = _SLOPE + (3.0 * _SLOPE * _CUBIC) * (x * x)  # the derivative of tanh's argument
        return phi + 2.0 * phi * (1.0 - phi) * (x * inner)
    r = x * math.sqrt(0.5)
    return 0.5 + 0.5 * erf(r) + x * (xp.exp(-r * r) / math.sqrt(2.0 * math.pi))


gelu = answer_of(gelu_forward)

_SLOPE, _CUBIC = math.sqrt(2.0 / math.pi), 0.044715


def _normal_by_tanh(x):
    return 0.5 + 0.5 * array_namespace(x).tanh(x * (_SLOPE + (_SLOPE * _CUBIC) * (x * x)))


@accelerable
def mish_forward(x):
    """y = x t with t = tanh(log(1 + e^x)).

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.mish.
    Source: Misra, Mish: a self regularized non-monotonic activation function (2019).
    """
    xp = array_namespace(x)
    return x * xp.tanh(_softplus(xp, x)), (x,)


@times_dy
def mish_backward(x):
    """t + x (1 - t^2) s with s = 1 / (1 + e^-x)."""
    xp = array_namespace(x)
    t = xp.tanh(_softplus(xp, x))
    return t + x * ((1.0 - t * t) * _sigmoid(xp, x))


mish = answer_of(mish_forward)


@accelerable
def glu_forward(x, dim=-1):
    """y = a / (1 + e^-b), a the first half of x along the axis dim and b the second.

    x (*, 2n, *) -> y (*, n, *). Errors: ValueError where the axis is of odd length. Twin: torch.nn.functional.glu.
    Source: Dauphin, Fan, Auli, Grangier, Language modeling with gated convolutional networks (2016).
    """
    if x.ndim == 0 or x.shape[dim] % 2:
        raise refusal("glu", "x", f"shape {x.shape}", f"an even length on axis {dim}", "pass an axis of even length")
    n = x.shape[dim] // 2
    lead = (slice(None),) * (dim % x.ndim)
    a, b = x[(*lead, slice(0, n), ...)], x[(*lead, slice(n, 2 * n), ...)]
    return a * _sigmoid(array_namespace(x), b), (a, b, dim)


@follows_cache
def glu_backward(dy, cache, *, wanted=None):
    """dy (*, n, *) -> dx (*, 2n, *): the gradient of `glu_forward`."""
    a, b, dim = cache
    (want_x,) = wants(wanted, 1)
    if not want_x:
        return None
    xp = array_namespace(dy, a)
    da = dy * _sigmoid(xp, b)
    db = da * (a * _sigmoid(xp, -b))  # a s (1 - s): 1 - s of b is s of -b
    return xp.concat([da, db], axis=dim)


glu = answer_of(glu_forward)


# -- exponential units --


def _elu(x, alpha, scale, rate):
    """scale * x where x > 0, scale * alpha (e^(rate x) - 1) where not: what ELU, CELU and SELU have in common."""
    xp = array_namespace(x)
    return scale * clip(x, 0.0, math.inf) + (scale * alpha) * xp.expm1(rate * clip(x, -math.inf, 0.0))


def _elu_derivative(x, alpha, scale, rate):
    xp = array_namespace(x)
    e = xp.exp(rate * clip(x, -math.inf, 0.0))
    return xp.where(x > 0, scale, (scale * alpha * rate) * e)


@accelerable
def elu_forward(x, alpha=1.0):
    """y = x where x > 0, alpha (e^x - 1) where not.

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.elu.
    Source: Clevert, Unterthiner, Hochreiter, Fast and accurate deep network learning by ELUs (2015).
    """
    return _elu(x, alpha, 1.0, 1.0), (x, alpha)


@times_dy
def elu_backward(x, alpha):
    """1 where x > 0, alpha e^x where not."""
    return _elu_derivative(x, alpha, 1.0, 1.0)


elu = answer_of(elu_forward)


@accelerable
def celu_forward(x, alpha=1.0):
    """y = x where x > 0, alpha (e^(x / alpha) - 1) where not: smooth at 0 for every alpha.

    x (*) -> y (*). Errors: ValueError where alpha is 0. Twin: torch.nn.functional.celu.
    Source: Barron, Continuously differentiable exponential linear units (2017).
    """
    if alpha == 0:
        raise refusal("celu", "alpha", repr(alpha), "a number other than 0", "pass alpha=1.0, or call relu")
    return _elu(x, alpha, 1.0, 1.0 / alpha), (x, alpha)


@times_dy
def celu_backward(x, alpha):
    """1 where x > 0, e^(x / alpha) where not."""
    return _elu_derivative(x, alpha, 1.0, 1.0 / alpha)


celu = answer_of(celu_forward)

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@accelerable
def selu_forward(x):
    """y = scale * x where x > 0, scale * alpha (e^x - 1) where not; alpha = 1.6732632..., scale = 1.0507009...

    x (*) -> y (*). Errors: none of its own. Twin: torch.nn.functional.selu.
    Source: Klambauer, Unterthiner, Mayr, Hochreiter, Self-normalizing neural networks (2017).
    """
    return _elu(x, _SELU_ALPHA, _SELU_SCALE, 1.0), (x,)


@times_dy
def selu_backward(x):
    """scale where x > 0, scale * alpha e^x where not."""
    return _elu_derivative(x, _SELU_ALPHA, _SELU_SCALE, 1.0)


selu = answer_of(selu_forward)
