"""Rows for weights that are computed from other parameters."""

import numpy as np
import torch
from torch.nn.utils import parametrizations

import xplayers as xpl
from tests.cases import Bad, Case, Fault, Function, f32, values


def _ours(wrap, layer, *args, name="weight", dim=0, **kwargs):
    return getattr(xpl.utils, wrap)(getattr(xpl, layer)(*args, **kwargs), name, dim=dim)


def _theirs(wrap, layer, *args, name="weight", dim=0, **kwargs):
    return getattr(parametrizations, wrap)(getattr(torch.nn, layer)(*args, **kwargs), name, dim=dim)


def _twice(layer, *names):
    """Two parameters of one layer, one reparametrized each way."""
    return lambda *args: xpl.utils.spectral_norm(xpl.utils.weight_norm(getattr(xpl, layer)(*args), names[0]), names[1])


def _twice_in_torch(layer, *names):
    return lambda *args: parametrizations.spectral_norm(
        parametrizations.weight_norm(getattr(torch.nn, layer)(*args), names[0]), names[1]
    )


_ITERATES = {  # tests/test_reparametrization.py holds these two in their stead
    "derivative_along_a_direction": "every call in training moves the vectors, which count as constants",
    "calls_are_independent": "the second call in training divides by another number than the first",
}


def _case(wrap, layer, *args, inputs, **kwargs):
    skip = _ITERATES if wrap == "spectral_norm" and kwargs.get("name") != "bias" else {}
    return Case(wrap, (wrap, layer, *args), kwargs, inputs=(inputs,), build=_ours, twin=_theirs, skip=skip)


LAYERS = [
    _case("weight_norm", "Linear", 4, 5, inputs=(3, 4)),
    _case("weight_norm", "Linear", 4, 5, inputs=(3, 4), dim=1, bias=False),
    _case("weight_norm", "Linear", 4, 5, inputs=(2, 3, 4), dim=None),
    _case("weight_norm", "Linear", 4, 5, inputs=(3, 4), name="bias"),
    _case("weight_norm", "Conv1d", 3, 4, 2, inputs=(2, 3, 5), dim=-2),
    _case("weight_norm", "Conv2d", 4, 6, 3, inputs=(2, 4, 5, 5), groups=2, padding=1),
    _case("weight_norm", "LSTM", 3, 4, inputs=(5, 2, 3), name="weight_hh_l0"),
    _case("spectral_norm", "Linear", 4, 5, inputs=(3, 4)),
    _case("spectral_norm", "Linear", 4, 5, inputs=(3, 4), dim=1, bias=False),
    _case("spectral_norm", "Linear", 4, 5, inputs=(3, 4), name="bias"),
    _case("spectral_norm", "Conv2d", 3, 4, 3, inputs=(2, 3, 5, 5), stride=2),
    _case("spectral_norm", "ConvTranspose1d", 3, 4, 2, inputs=(2, 3, 5), dim=None),
    Case(
        "both",
        (4, 5),
        inputs=((3, 4),),
        build=_twice("Linear", "bias", "weight"),
        twin=_twice_in_torch("Linear", "bias", "weight"),
        skip=_ITERATES,
    ),
    Case(
        "both",
        (3, 2),
        inputs=((2, 5, 3),),
        build=_twice("Linear", "bias", "weight"),
        twin=_twice_in_torch("Linear", "bias", "weight"),
        skip=_ITERATES,
    ),
    Case(
        "both",
        (6, 1),
        inputs=((6,),),
        build=_twice("Linear", "bias", "weight"),
        twin=_twice_in_torch("Linear", "bias", "weight"),
        skip={**_ITERATES, "batch": "it has none"},
    ),
]


def _weight_norm(x, g, dim=0):
    return torch._weight_norm(x, g, -1 if dim is None else dim)


def _spectral_norm(x, u=None, v=None, dim=0, n_power_iterations=0, eps=1e-12):
    """torch's module, its vectors and its iterations set from outside."""
    module = parametrizations._SpectralNorm(x.detach(), max(n_power_iterations, 1), dim, eps).to(x.dtype)
    if u is not None:
        module._u, module._v = u.detach().clone(), v.detach().clone()
    return module.train(n_power_iterations > 0)(x)


def _spectral(x, n, m, **kwargs):
    arrays = {"x": x, "u": (n,), "v": (m,)} if n else {"x": x}
    return Function("spectral_norm", arrays, kwargs, twin=_spectral_norm, gradients=("x",))


FUNCTIONS = [
    Function("weight_norm", {"x": (4, 3), "g": (4, 1)}, twin=_weight_norm),
    Function("weight_norm", {"x": (4, 3, 2), "g": (1, 3, 1)}, {"dim": 1}, twin=_weight_norm),
    Function("weight_norm", {"x": (4, 3, 2), "g": (1, 3, 1)}, {"dim": -2}, twin=_weight_norm),
    Function("weight_norm", {"x": (4, 3, 2), "g": ()}, {"dim": None}, twin=_weight_norm),
    Function("weight_norm", {"x": (4, 3), "g": ()}, {"dim": -1}, twin=_weight_norm),
    Function("weight_norm", {"x": (4,), "g": (4,)}, twin=_weight_norm),
    Function("weight_norm", {"x": (2, 1), "g": (2, 1)}, twin=_weight_norm),
    _spectral((4, 3), 4, 3),
    _spectral((4, 3), 4, 3, n_power_iterations=3),
    _spectral((4, 3, 2), 3, 8, dim=1),
    _spectral((4, 3, 2), 2, 12, dim=-1, n_power_iterations=1),
    _spectral((4, 3), 4, 3, eps=100.0, n_power_iterations=2),
    _spectral((5,), 0, 0),
    _spectral((5,), 0, 0, eps=50.0),
    _spectral(values(np.zeros(3)), 0, 0),
]


def _linear(*wraps):
    layer = xpl.Linear(4, 5)
    for wrap in wraps:
        getattr(xpl.utils, wrap)(layer)
    return layer


BAD_CALLS = [
    Bad(
        lambda: xpl.utils.weight_norm(f32(2)),
        "weight_norm",
        "module",
        "a ndarray",
        "a layer",
        "weight_norm(layer)",
        TypeError,
    ),
    Bad(lambda: xpl.utils.weight_norm(_linear(), "wait"), "Linear(4, 5)", "name", "'wait'", "weight", "another name"),
    Bad(lambda: xpl.utils.weight_norm(xpl.Affine()), "Affine(", "name", "'weight'", "a parameter", "assign"),
    Bad(lambda: xpl.utils.weight_norm(xpl.Flatten()), "Flatten(", "name", "'weight'", "a parameter", "another name"),
    Bad(lambda: xpl.utils.weight_norm(_linear(), dim=2), "weight_norm", "dim", "2", "(5, 4)", "between -2 and 1"),
    Bad(lambda: xpl.utils.spectral_norm(_linear(), dim=-3), "spectral_norm", "dim", "-3", "(5, 4)", "between -2 and 1"),
    Bad(
        lambda: xpl.utils.spectral_norm(_linear(), n_power_iterations=0),
        "spectral_norm",
        "n_power_iterations",
        "0",
        "positive",
        "n_power_iterations=1",
    ),
    Bad(
        lambda: xpl.utils.spectral_norm(_linear("weight_norm")),
        "Linear(4, 5)",
        "name",
        "computed already",
        "a plain parameter",
        "remove_spectral_norm",
    ),
    Bad(
        lambda: xpl.utils.remove_weight_norm(_linear()),
        "Linear(4, 5)",
        "name",
        "under no weight_norm",
        "a parameter under",
        "weight_norm(layer, 'weight')",
    ),
    Bad(
        lambda: xpl.utils.remove_weight_norm(_linear("spectral_norm")),
        "Linear(4, 5)",
        "name",
        "under no weight_norm",
        "a parameter under",
        "weight_norm(layer, 'weight')",
    ),
    Bad(lambda: _linear("weight_norm")([[1.0]]), "Linear(4, 5)", "x", "a list", "an array", "asarray", TypeError),
    Bad(lambda: _linear("weight_norm")(f32(2, 3)), "Linear(4, 5)", "x", "3 features", "4 features", "Linear(3, 5)"),
]

FAULTS = [
    Fault("reparametrization.weight_norm_backward", "dy - along * direction", "dy", "weight_norm"),
    Fault("reparametrization.weight_norm_backward", "xp.reshape(along,", "xp.reshape(along * 2,", "weight_norm"),
    Fault("reparametrization.weight_norm_magnitude", "if i != dim % x.ndim", "if i == dim % x.ndim", "weight_norm"),
    Fault("reparametrization.spectral_norm_backward", "dy - along * xp.moveaxis(outer, 0, dim)", "dy", "spectral_norm"),
    Fault("reparametrization.spectral_norm_backward", "u[:, None] * v[None, :]", "u[:, None] + v[None, :]", "spectral"),
    Fault("reparametrization.spectral_norm_forward", "matrix.T, u", "matrix.T, u + 1", "spectral_norm"),
    Fault("layers.reparametrization._WeightNorm.undo", "original0=dg", "original0=-dg", "weight_norm"),
    Fault(
        "layers.reparametrization._SpectralNorm.compute", "if self.training and update", "if update", "spectral_norm"
    ),
    Fault("layers.reparametrization._SpectralNorm.compute", 'zip(("_u", "_v")', 'zip(("_v", "_u")', "spectral_norm"),
    Fault("layers.reparametrization._Reparametrized.accumulate", "held[name] + gradient", "gradient", "weight_norm"),
]
