"""Rows for affine maps and for the layers that only change shapes."""

import numpy as np
import torch

import xplayers as xpl
from tests.cases import Bad, Case, Fault, Function, f32, f64


class _Dense(torch.nn.Module):
    """What the book's layer computes, in torch."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.W = torch.nn.Parameter(torch.ones(n_in, n_out))
        self.b = torch.nn.Parameter(torch.ones(n_out))

    def forward(self, x):
        return x.flatten(1) @ self.W + self.b


def _dense(n_in, n_out):
    return xpl.Dense(f32(n_in, n_out), f32(n_out))


LAYERS = [
    Case("Affine", (4, 5), inputs=((3, 4),), twin=torch.nn.Linear),
    Case("Affine", (4, 5), {"bias": False}, inputs=((3, 4),), twin=torch.nn.Linear),
    Case("Affine", (4, 1), inputs=((2, 3, 4),), twin=torch.nn.Linear),
    Case("Linear", (4, 5), inputs=((4,),)),
    Case("Linear", (4, 5), inputs=((2, 3, 4),)),
    Case("Linear", (3, 1), inputs=((1200, 3),)),
    Case("Dense", (12, 5), inputs=((2, 3, 4),), build=_dense, twin=_Dense),
    Case("Dense", (12, 5), inputs=((2, 12),), build=_dense, twin=_Dense),
    Case("Dense", (4, 1), inputs=((3, 2, 1, 2),), build=_dense, twin=_Dense),
    Case("Identity", inputs=((2, 3),)),
    Case("Identity", (54,), {"unused": 0.1}, inputs=((2, 3, 4),)),
    Case("Identity", inputs=((),)),
    Case("Flatten", inputs=((2, 3, 4),)),
    Case("Flatten", (0, 1), inputs=((2, 3, 4),)),
    Case("Flatten", (1, -2), inputs=((2, 3, 4, 5),)),
    Case("Unflatten", (1, (2, 3)), inputs=((4, 6),)),
    Case("Unflatten", (-1, (-1, 3)), inputs=((4, 2, 6),)),
    Case("Unflatten", (2, (2, 1, -1)), inputs=((3, 2, 8, 2),)),
]

FUNCTIONS = [
    Function("linear", {"x": (3, 4), "weight": (5, 4), "bias": (5,)}),
    Function("linear", {"x": (2, 3, 4), "weight": (5, 4), "bias": None}),
    Function("linear", {"x": (4,), "weight": (4,), "bias": None}),
    Function("linear", {"x": (0, 4), "weight": (5, 4), "bias": (5,)}),
    Function("flatten", {"x": (2, 3, 4)}, twin=lambda x: torch.flatten(x)),
    Function("flatten", {"x": (2, 3, 4)}, {"start_dim": 1}, twin=lambda x, start_dim: torch.flatten(x, start_dim)),
    Function(
        "flatten",
        {"x": (2, 3, 4)},
        {"start_dim": -3, "end_dim": -2},
        twin=lambda x, start_dim, end_dim: x.flatten(0, 1),
    ),
    Function(
        "unflatten", {"x": (2, 6)}, {"dim": 1, "sizes": (2, 3)}, twin=lambda x, dim, sizes: x.unflatten(dim, sizes)
    ),
    Function(
        "unflatten", {"x": (6, 2)}, {"dim": -2, "sizes": (-1, 3)}, twin=lambda x, dim, sizes: x.unflatten(0, sizes)
    ),
    Function("unflatten", {"x": (6,)}, {"dim": 0, "sizes": (6, 1)}, twin=lambda x, dim, sizes: x.unflatten(dim, sizes)),
]

_affine = lambda: xpl.Affine(4, 5)  # noqa: E731


def _settled():
    layer = xpl.Affine(4, 5)
    layer(f32(3, 4))
    return layer


def _assigned(weight, bias):
    layer = xpl.Affine()
    layer.weight = weight
    layer.bias = bias
    return layer


BAD_CALLS = [
    Bad(lambda: _affine()(f32(3, 3)), "Affine(4, 5)", "x", "3 features", "4 features", "Affine(3, 5)"),
    Bad(lambda: _affine()(np.ones((3, 4), int)), "Affine(4, 5)", "x", "int64", "floating", "astype", TypeError),
    Bad(lambda: _affine()([[1.0] * 4]), "Affine(4, 5)", "x", "a list", "an array", "asarray", TypeError),
    Bad(
        lambda: _affine()(np.ones((1, 4), np.float32).view(np.matrix)),
        "Affine(4, 5)",
        "x",
        "matrix",
        "an array",
        "asarray",
        TypeError,
    ),
    Bad(lambda: _affine()(f32()), "Affine(4, 5)", "x", "0-d", "(*, 4)", "x[None]"),
    Bad(lambda: _settled()(f64(3, 4)), "Affine(4, 5)", "x", "float64", "float32", "layer.to(like=x)", TypeError),
    Bad(
        lambda: _settled()(torch.ones(3, 4)),
        "Affine(4, 5)",
        "x",
        "torch float32",
        "numpy float32",
        "to(like=x)",
        TypeError,
    ),
    Bad(lambda: xpl.Affine()(f32(3, 4)), "Affine(", "weight", "no value", "built without sizes", "layer.weight = ..."),
    Bad(lambda: xpl.Affine(4), "Affine(4, None)", "out_features", "None", "both sizes", "pass both"),
    Bad(lambda: xpl.Affine(-1, 3), "Affine(-1, 3)", "in_features", "-1", "non-negative", "as an int"),
    Bad(
        lambda: setattr(_affine(), "weight", f32(4, 5)), "Affine(4, 5)", "weight", "(4, 5)", "(5, 4)", "assign an array"
    ),
    Bad(
        lambda: setattr(_settled(), "weight", f64(5, 4)), "Affine", "weight", "float64", "settled", "to(like", TypeError
    ),
    Bad(lambda: _settled().backward(f32(3, 4)), "Affine(4, 5)", "dy", "(3, 4)", "(3, 5)", "this very output"),
    Bad(lambda: _settled().backward(f64(3, 5)), "Affine(4, 5)", "dy", "float64", "float32", "move dy", TypeError),
    Bad(lambda: _settled().backward([1.0]), "Affine(4, 5)", "dy", "a list", "an array", "asarray", TypeError),
    Bad(lambda: _settled().backward(), "Affine(4, 5)", "dy", "None", "gradient", "layer.backward(dy)", TypeError),
    Bad(lambda: _affine().backward(f32(3, 5)), "Affine(4, 5)", "tape", "nothing recorded", "training mode", "Tape()"),
    Bad(
        lambda: _affine().load_state_dict({"weight": f32(2, 2), "extra": f32(1)}),
        "Affine(4, 5)",
        "state",
        "missing ['bias']; unexpected ['extra']; weight has shape (2, 2), not (5, 4)",
        "state_dict()",
        "strict=False",
    ),
    Bad(lambda: _assigned(f32(5, 4), f32(4))(f32(3, 4)), "Affine(4, 5)", "bias", "(4,)", "(5,)", "layer.bias"),
    Bad(lambda: _assigned(f32(5, 4), f32(1))(f32(3, 4)), "Affine(4, 5)", "bias", "(1,)", "(5,)", "layer.bias"),
    Bad(lambda: _assigned(f32(5, 4, 1), f32(5))(f32(3, 4)), "Affine(", "weight", "3-d", "(out, in)", "layer.weight"),
    Bad(lambda: xpl.Dense(f32(4, 5), f32(4))(f32(3, 4)), "Dense(4, 5)", "b", "(4,)", "(out,)", "Dense(W, b)"),
    Bad(lambda: _affine().freeze("w"), "Affine(4, 5)", "name", "'w'", "weight, bias", "layer.params"),
    Bad(lambda: xpl.Dense(f32(4, 5), f32(5))(f32(4)), "Dense(4, 5)", "x", "(4,)", "(N, *)", "x[None, ...]"),
    Bad(lambda: xpl.Dense(f32(4, 5), f32(5))(f32(2, 2, 3)), "Dense(4, 5)", "x", "6 values", "4 values", "(6, 5)"),
    Bad(lambda: xpl.Flatten(3)(f32(2, 3)), "Flatten(start_dim=3", "x", "2-d", "axis 3", "start_dim"),
    Bad(lambda: xpl.Flatten(2, 1)(f32(2, 3, 4)), "Flatten(", "start_dim", "behind", "<=", "exchange"),
    Bad(lambda: xpl.Unflatten(1, (2, 4))(f32(2, 6)), "Unflatten(", "x", "6 elements", "(2, 4)", "product is 6"),
    Bad(lambda: xpl.Unflatten("C", (2, 4)), "Unflatten", "dim", "'C'", "int", "pass the axis", TypeError),
]

FAULTS = [
    Fault("linear.linear_forward", "y if bias is None else y + bias", "y", "Affine"),
    Fault("linear.linear_forward", "y + bias", "y + bias * 2.0", "Affine"),
    Fault(
        "linear.linear_forward", "(*x.shape[:-1], *weight.shape[:-1])", "(*weight.shape[:-1], *x.shape[:-1])", "Linear"
    ),
    Fault("linear.linear_backward", "sum_leading(d)", "sum_leading(d) / m", "Affine"),
    Fault(
        "linear.linear_backward",
        "matmul(d.T, xp.reshape(x, (m, inn)))",
        "matmul(d.T, xp.reshape(x, (m, inn))) * 2.0",
        "Affine",
    ),
    Fault("linear.linear_backward", "dweight = xp", "x[...] = 0.0; dweight = xp", "Affine"),
    Fault(
        "linear.linear_backward",
        "d = xp.reshape(dy, (m, out))",
        "d = xp.reshape(xp.astype(dy, xp.float64), (m, out))",
        "Affine",
    ),
    Fault("linear.linear_backward", "d = xp.reshape(dy, (m, out))", "d = xp.reshape(dy, (m, out)); d += 1.0", "Affine"),
    Fault("layers.layer.Layer.accumulate", "held + gradient", "gradient", "Affine"),
    Fault(
        "layers.layer.Layer.accumulate",
        "gradient if held is None else unscalar(held + gradient)",
        "gradient * 0.5",
        "Affine",
    ),
    Fault(
        "layers.linear.Affine.forward",
        "record(tape, self, cache)",
        "self._last = cache; record(tape, self, cache)",
        "Affine",
    ),
    Fault(
        "layers.linear.Affine.backward",
        "cache = tape.pop(self)",
        "cache = self.__dict__.setdefault('_kept', tape.pop(self))",
        "Affine",
    ),
    Fault("layers.linear.Dense.backward", "array_namespace(dweight).matrix_transpose(dweight)", "dweight", "Dense"),
    Fault("layers.linear.Dense.backward", "F.flatten_backward(dx, shape)", "dx", "Dense"),
    Fault("linear.flatten_forward", "start_dim % x.ndim", "0", "Flatten"),
    Fault("linear.unflatten_forward", "for n in sizes)", "for n in sizes[::-1])", "Unflatten"),
]
