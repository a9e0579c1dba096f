"""Rows for the activations and the softmaxes."""

import numpy as np
import torch

import xplayers as xpl
from tests.cases import Bad, Case, Fault, Function, f32, floats, integers, values

_KINKS = [-6.0, -3.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 6.0]
_FAR = [-1e4, -100.0, -30.0, -20.0, -9.0, 9.0, 20.0, 30.0, 100.0, 1e4]
KINKS, FAR = values(_KINKS), values(_FAR)
MASKED = values([[-np.inf, 1.0, 2.0], [-np.inf, -np.inf, -np.inf], [1.0, np.inf, 2.0]])
AT_KINKS = {"derivative_along_a_direction": "at the kinks there is none"}


class _Hardsigmoid(torch.nn.Module):
    """torch's own derivative holds 1/6 rounded to float32, in float64 too."""

    def forward(self, x):
        return torch.nn.functional.relu6(x + 3) / 6


def _draw(function, *args, **kwargs):
    """Calls a random function of torch with numbers that `_slopes` and `_gumbels` know."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return function(*args, **kwargs)


def _not_in_place(layer):
    """torch's layer without its last argument: a leaf that has a gradient cannot be written to."""
    return lambda *args: getattr(torch.nn, layer)(*args[:-1])


SIGNS = np.random.default_rng(0).standard_normal((3, 4)).round(2)


def _slopes(lower, upper):
    noise = torch.empty(SIGNS.shape, dtype=torch.float64)
    _draw(torch.ops.aten.rrelu_with_noise, torch.tensor(SIGNS), noise, lower, upper, True)
    return values(noise.numpy())


def _gumbels(*shape):
    return values(-_draw(torch.empty(shape, dtype=torch.float64).exponential_).log().numpy())


def _gumbel_softmax(x, noise, **kwargs):
    return _draw(torch.nn.functional.gumbel_softmax, x, **kwargs)


def _rrelu(x, mask, **kwargs):
    return _draw(torch.nn.functional.rrelu, x, **kwargs)


def _rrelu_call(module, inputs, call):
    return _draw(module, *inputs)


LAYERS = [
    *(
        Case(name, inputs=inputs, skip=skip, twin=_Hardsigmoid if name == "Hardsigmoid" else None)
        for name in (
            "CELU",
            "ELU",
            "GELU",
            "Hardshrink",
            "Hardsigmoid",
            "Hardswish",
            "Hardtanh",
            "LeakyReLU",
            "LogSigmoid",
            "Mish",
            "RReLU",
            "ReLU",
            "ReLU6",
            "SELU",
            "SiLU",
            "Sigmoid",
            "Softplus",
            "Softshrink",
            "Softsign",
            "Tanh",
            "Tanhshrink",
        )
        for inputs, skip in ((((2, 3, 4),), {}), ((KINKS,), AT_KINKS), (((),), {}))
        if name != "RReLU"
    ),
    Case("CELU", (0.5,), inputs=((3, 4),)),
    Case("ELU", (-0.7, True), twin=_not_in_place("ELU"), inputs=((3, 4),)),
    Case("GELU", ("tanh",), inputs=((3, 4),)),
    Case("GELU", (), {"approximate": "tanh"}, inputs=(KINKS,), skip=AT_KINKS),
    Case("GLU", inputs=((3, 4),)),
    Case("GLU", (1,), inputs=((2, 6, 3),)),
    Case("GLU", (-3,), inputs=((2, 3, 2),)),
    Case("Hardshrink", (1.2,), inputs=((3, 4),)),
    Case("Hardtanh", (-0.2, 1.5, True), twin=_not_in_place("Hardtanh"), inputs=((3, 4),)),
    Case("LeakyReLU", (0.3, True), twin=_not_in_place("LeakyReLU"), inputs=((3, 4),)),
    Case("LeakyReLU", (-0.3,), inputs=((3, 4),)),
    Case("LogSoftmax", (1,), inputs=((3, 4),)),
    Case("LogSoftmax", (-1,), inputs=((2, 3, 4),)),
    Case("LogSoftmax", (0,), inputs=((),)),
    Case("PReLU", inputs=((3, 4),)),
    Case("PReLU", (4, 0.1), inputs=((3, 4),)),
    Case("PReLU", (3,), inputs=((2, 3, 4, 5),)),
    Case("PReLU", (), {"init": 0.5}, inputs=((5,),)),
    Case("PReLU", inputs=((),)),
    Case("RReLU", inputs=(values(SIGNS),), arrays={"mask": _slopes(1 / 8, 1 / 3)}, twin_call=_rrelu_call),
    Case(
        "RReLU",
        (0.2, 0.6, True),
        twin=_not_in_place("RReLU"),
        inputs=(values(SIGNS),),
        arrays={"mask": _slopes(0.2, 0.6)},
        twin_call=_rrelu_call,
    ),
    Case("RReLU", (0.3, 0.3), inputs=((3, 4),)),
    Case("ReLU", (True,), twin=_not_in_place("ReLU"), inputs=((1200, 3),)),
    Case("Softmax", (1,), inputs=((3, 4),)),
    Case("Softmax", (), {"dim": -2}, inputs=((2, 3, 4),)),
    Case("Softmax", (0,), inputs=((),)),
    Case("Softmax2d", inputs=((2, 3, 4, 5),)),
    Case("Softmax2d", inputs=((3, 4, 5),)),
    Case("Softmin", (1,), inputs=((3, 4),)),
    Case("Softmin", (0,), inputs=((3, 4, 2),)),
    Case("Softplus", (2.0, 0.5), inputs=((3, 4),)),
    Case("Softshrink", (0.9,), inputs=((3, 4),)),
    Case("Threshold", (0.1, 20.0), inputs=((3, 4),)),
    Case("Threshold", (0.5, -1.0, True), twin=_not_in_place("Threshold"), inputs=(KINKS,), skip=AT_KINKS),
]

_POINTWISE = {
    "celu": {"alpha": 0.5},
    "elu": {"alpha": -0.7},
    "gelu": {"approximate": "tanh"},
    "hardshrink": {"lambd": 1.2},
    "hardswish": {},
    "hardtanh": {"min_val": -0.2, "max_val": 1.5},
    "leaky_relu": {"negative_slope": 0.3},
    "logsigmoid": {},
    "mish": {},
    "relu": {},
    "relu6": {},
    "rrelu": {"lower": 0.2, "upper": 0.6},
    "selu": {},
    "sigmoid": {},
    "silu": {},
    "softplus": {"beta": 2.0, "threshold": 1.0},
    "softshrink": {"lambd": 0.9},
    "softsign": {},
    "tanh": {},
    "tanhshrink": {},
}

FUNCTIONS = [
    *(Function(name, {"x": x}) for name in _POINTWISE for x in (KINKS, FAR, (0, 3))),
    *(Function(name, {"x": (2, 3, 4)}, kwargs) for name, kwargs in _POINTWISE.items()),
    Function("hardsigmoid", {"x": (2, 3, 4)}, twin=lambda x: torch.nn.functional.relu6(x + 3) / 6),
    Function("hardsigmoid", {"x": FAR}),
    Function("hardsigmoid", {"x": values([-4.0, -3.0, 3.0, 4.0])}),
    Function("threshold", {"x": (3, 4)}, {"threshold": 0.5, "value": 20.0}),
    Function("threshold", {"x": KINKS}, {"threshold": 0.5, "value": -1.0}),
    Function("threshold", {"x": FAR}, {"threshold": -1.0, "value": 0.0}),
    Function("prelu", {"x": (3, 4), "weight": (1,)}),
    Function("prelu", {"x": (2, 3, 4), "weight": (3,)}),
    Function("prelu", {"x": (3, 4), "weight": ()}),
    Function("prelu", {"x": (), "weight": (1,)}),
    Function("prelu", {"x": KINKS, "weight": (1,)}),
    Function("prelu", {"x": (0, 3), "weight": (3,)}),
    Function(
        "rrelu",
        {"x": values(SIGNS), "mask": _slopes(0.2, 0.6)},
        {"lower": 0.2, "upper": 0.6, "training": True},
        twin=_rrelu,
    ),
    Function("glu", {"x": (3, 4)}),
    Function("glu", {"x": (2, 6, 3)}, {"dim": 1}),
    Function("glu", {"x": (4, 0)}, {"dim": 0}),
    Function("glu", {"x": values([_KINKS, _FAR])}, {"dim": 0}),
    *(
        Function(name, {"x": x}, {"dim": dim})
        for name in ("softmax", "log_softmax", "softmin")
        for x, dim in (
            ((3, 4), 1),
            ((2, 3, 4), -2),
            ((), 0),
            (FAR, 0),
            ((0, 3), 1),
            ((0, 3), 0),
            (MASKED, 1),
            (MASKED, 0),
        )
        if name != "softmin" or x is not MASKED
    ),
    *(
        Function(
            name, {"x": shape}, twin=lambda x, f=name: getattr(torch.nn.functional, f)(x, dim=int(x.ndim in (2, 4)))
        )
        for name in ("softmax", "log_softmax", "softmin")
        for shape in ((4,), (3, 4), (2, 3, 4), (2, 3, 2, 2))
    ),
    *(
        Function(name, {"x": x}, {"dim": 1, "dtype": "float64"})
        for name in ("softmax", "log_softmax", "softmin")
        for x in ((3, 4), integers((2, 3), 9))
    ),
    Function("gumbel_softmax", {"x": (3, 4), "noise": _gumbels(3, 4)}, twin=_gumbel_softmax),
    Function("gumbel_softmax", {"x": (3, 4), "noise": _gumbels(3, 4)}, {"tau": 0.5, "dim": 0}, twin=_gumbel_softmax),
    Function("gumbel_softmax", {"x": (3, 4), "noise": _gumbels(3, 4)}, {"hard": True}, twin=_gumbel_softmax),
    Function(  # eps has no effect, and torch warns of it
        "gumbel_softmax",
        {"x": (3, 4), "noise": _gumbels(3, 4)},
        {"eps": 1e-6},
        twin=lambda x, noise, eps: _gumbel_softmax(x, noise),
    ),
    Function(
        "gumbel_softmax",
        {"x": (2, 3, 4), "noise": _gumbels(2, 3, 4)},
        {"hard": True, "tau": 2.0, "eps": 1e-10, "dim": 1},
        twin=_gumbel_softmax,
    ),
]

_ints = np.ones((2, 3), int)

BAD_CALLS = [
    Bad(lambda: xpl.ReLU()(_ints), "ReLU()", "x", "int64", "floating", "astype", TypeError),
    Bad(lambda: xpl.ReLU()([1.0, 2.0]), "ReLU()", "x", "a list", "an array", "asarray", TypeError),
    Bad(lambda: xpl.ReLU().backward(f32(2)), "ReLU()", "tape", "nothing recorded", "training mode", "layer(x)"),
    Bad(lambda: xpl.Hardtanh(1.0, -1.0), "Hardtanh(min_val=1.0", "max_val", "-1.0", "more than", "exchange"),
    Bad(lambda: xpl.Softshrink(-0.5), "Softshrink(lambd=-0.5)", "lambd", "-0.5", ">= 0", "lambd=0.5"),
    Bad(lambda: xpl.GELU("erf"), "GELU(approximate='erf')", "approximate", "'erf'", '"none" or "tanh"', "GELU("),
    Bad(lambda: xpl.CELU(0.0), "CELU(alpha=0.0)", "alpha", "0.0", "other than 0", "CELU()"),
    Bad(lambda: xpl.GLU()(f32(2, 3)), "GLU(dim=-1)", "x", "(2, 3)", "even length on axis -1", "two halves"),
    Bad(lambda: xpl.GLU()(f32()), "GLU(dim=-1)", "x", "()", "even length", "two halves"),
    Bad(lambda: xpl.GLU(2)(f32(2, 4)), "GLU(dim=2)", "x", "(2, 4), 2-d", "an axis 2", "another dim"),
    Bad(lambda: xpl.PReLU(0), "PReLU(num_parameters=0)", "num_parameters", "0", "positive integer", "PReLU()"),
    Bad(lambda: xpl.PReLU(3)(f32(2, 4)), "PReLU(num_parameters=3)", "x", "4 channels", "3 channels", "PReLU(4)"),
    Bad(lambda: xpl.RReLU(0.5, 0.1), "RReLU(lower=0.5, upper=0.1)", "lower", "0.5", "at most upper 0.1", "exchange"),
    Bad(lambda: xpl.RReLU()(f32(2, 3), mask=f32(2)), "RReLU(", "mask", "(2,)", "(2, 3)", "broadcasts"),
    Bad(lambda: xpl.RReLU()(f32(2, 3), mask=[1.0]), "RReLU(", "mask", "a list", "an array", "(2, 3)", TypeError),
    Bad(lambda: xpl.Softmax(2)(f32(2, 3)), "Softmax(dim=2)", "x", "(2, 3), 2-d", "an axis 2", "dim=-1"),
    Bad(lambda: xpl.LogSoftmax(-3)(f32(2, 3)), "LogSoftmax(dim=-3)", "x", "2-d", "an axis -3", "dim=-1"),
    Bad(lambda: xpl.Softmax2d()(f32(2, 3)), "Softmax2d()", "x", "(2, 3), 2-d", "(N, C, H, W) or (C, H, W)", "x[None"),
    Bad(lambda: xpl.functional.softshrink(f32(2), -1.0), "softshrink", "lambd", "-1.0", ">= 0", "lambd=1.0"),
    Bad(lambda: xpl.functional.hardtanh(f32(2), 1, -1), "hardtanh", "min_val", "1 > max_val -1", "<=", "exchange"),
    Bad(lambda: xpl.functional.celu(f32(2), 0), "celu", "alpha", "0", "other than 0", "alpha=1.0"),
    Bad(lambda: xpl.functional.gelu(f32(2), "erf"), "gelu", "approximate", "'erf'", '"none"', "tanh"),
    Bad(lambda: xpl.functional.glu(f32(3)), "glu", "x", "(3,)", "even length", "even length"),
    Bad(lambda: xpl.functional.rrelu(f32(3), 0.5, 0.1), "rrelu", "lower", "0.5 > upper 0.1", "<=", "exchange"),
    Bad(lambda: xpl.functional.prelu(f32(2, 3), f32(2)), "prelu", "weight", "(2,)", "(3,)", "shape (3,)"),
]

FAULTS = [
    Fault("activation.relu_forward", "clip(x, 0.0, math.inf)", "clip(x, -0.1, math.inf)", "ReLU("),
    Fault("activation.relu_backward", "y > 0", "y >= 0", "ReLU("),
    Fault(
        "activation.leaky_relu_backward",
        "return _two_slopes(x, negative_slope)",
        "return _two_slopes(x, 0.0)",
        "LeakyReLU",
    ),
    Fault("activation.prelu_forward", "x.ndim - 2", "x.ndim - 1", "PReLU(3"),
    Fault("activation.prelu_backward", "clip(x, -math.inf, 0.0)", "x", "PReLU"),
    Fault("activation.prelu_backward", "dy * _two_slopes(x, column)", "_two_slopes(x, column)", "PReLU"),
    Fault("activation.rrelu_forward", "if mask is None else mask", "", "RReLU"),
    Fault("activation.rrelu_forward", "(lower + upper) / 2", "lower", "RReLU"),
    Fault("activation.hardtanh_backward", "(x < max_val", "(x <= max_val", "Hardtanh"),
    Fault("activation.relu6_backward", "y > 0", "y >= 0", "ReLU6"),
    Fault("activation.hardswish_backward", "astype(x >= 3", "astype(x > 3", "Hardswish"),
    Fault("activation.hardshrink_forward", "xp.abs(x) > lambd", "xp.abs(x) >= lambd", "Hardshrink"),
    Fault("activation.softshrink_backward", "xp.abs(x) > lambd", "xp.abs(x) > -lambd", "Softshrink"),
    Fault("activation.threshold_backward", "astype(x > threshold", "astype(x >= threshold", "Threshold"),
    Fault("activation.sigmoid_backward", "(1.0 - y)", "(1.0 + y)", "Sigmoid"),
    Fault("activation.tanh_backward", "1.0 - y * y", "1.0 - y", "Tanh("),
    Fault("activation.tanh_forward", "return y, (y,)", "return y, (x,)", "Tanh("),
    Fault("activation.silu_backward", "1.0 + x * (1.0 - s)", "1.0 + x", "SiLU"),
    Fault("activation.gelu_backward", "r = x * math.sqrt(0.5)", "r = x * 0.7071", "GELU()"),
    Fault(
        "activation.gelu_forward", "0.5 + 0.5 * erf(x", "0.5 + 0.5 * erf(array_namespace(x).astype(x, float)", "GELU()"
    ),
    Fault("activation.gelu_backward", "3.0 * _SLOPE", "_SLOPE", "GELU("),
    Fault("activation.mish_backward", "1.0 - t * t", "1.0 - t", "Mish"),
    Fault("activation.softplus_forward", "z) / beta", "z) * beta", "Softplus"),
    Fault("activation.softplus_backward", "z > threshold, 1.0", "z > threshold, beta", "Softplus"),
    Fault("activation.glu_backward", "[da, db]", "[db, da]", "GLU"),
    Fault("activation.glu_forward", "a, b = x", "b, a = x", "GLU"),
    Fault("activation.elu_backward", "alpha, 1.0, 1.0", "1.0, 1.0, 1.0", "ELU"),
    Fault("activation.celu_backward", "1.0 / alpha", "1.0", "CELU"),
    Fault("activation.selu_backward", "_SELU_SCALE", "1.0", "SELU"),
    Fault("softmax.softmax_backward", "dy - total(dy * y, axis=axis, keepdims=True)", "dy", "Softmax("),
    Fault("softmax.softmax_forward", "axis=axis", "axis=None", "Softmax("),
    Fault("softmax.log_softmax_backward", "array_namespace(y).exp(y)", "y", "LogSoftmax"),
    Fault("softmax.softmin_backward", "-dx", "dx", "Softmin"),
    Fault("layers.activation._Activation.forward", "record(tape, self, cache)", "record(tape, self, (x,))", "Sigmoid"),
    Fault("layers.activation.PReLU.backward", "weight=dweight", "weight=dweight * 2.0", "PReLU"),
]

_EDGES = values(
    np.array([*_KINKS, *_FAR, 1e-30, -1e-30, 88.0, -88.0, 103.0, -103.0, 16.9, -16.9, 5.5, -5.5], np.float32)
)

TWINS = [
    row
    for name in (
        "celu",
        "elu",
        "gelu",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "leaky_relu",
        "logsigmoid",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "softplus",
        "softsign",
        "tanh",
    )
    for row in (
        Function(name, {"x": floats(3, 5, 7, scale=3.0)}),
        Function(name, {"x": _EDGES}),
        Function(name, {"x": floats(70_001, scale=4.0)}),
    )
] + [
    Function("celu", {"x": floats(1000)}, {"alpha": 0.3}),
    Function("elu", {"x": floats(1000)}, {"alpha": -0.3}),
    Function("gelu", {"x": floats(1000, scale=3.0)}, {"approximate": "tanh"}),
    Function("gelu", {"x": _EDGES}, {"approximate": "tanh"}),
    Function("hardtanh", {"x": floats(1000)}, {"min_val": -0.5, "max_val": 2.0}),
    Function("leaky_relu", {"x": floats(1000)}, {"negative_slope": 1.5}),
    Function("leaky_relu", {"x": floats(1000)}, {"negative_slope": 0}, skip={"numpy": "0 times infinity is NaN"}),
    Function("leaky_relu", {"x": floats(1000)}, {"negative_slope": -0.2}),
    Function("relu", {"x": floats(600_000)}),
    Function("hardswish", {"x": values(np.nextafter(np.float32([-3, -3, 3, 3, 1]), np.float32([-4, 0, 0, 4, 1])))}),
    Function("softplus", {"x": floats(1000, scale=9.0)}, {"beta": 2.0, "threshold": 17.0}),
    Function("softplus", {"x": floats(1000, scale=9.0)}, {"beta": -0.5}),
    Function("silu", {"x": values([0.5])}),
    Function("silu", {"x": values([0.5, 1e-45, -3e-42, 1.5])}),
    Function("gelu", {"x": values([0.5, 1e-45, -3e-42, 1.5])}),
    Function("gelu", {"x": values([0.5, 1e-45, -3e-42, 1.5])}, {"approximate": "tanh"}),
]
