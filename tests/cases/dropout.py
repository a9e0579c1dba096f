"""Rows for the dropouts: torch draws from a known seed, and ours are given the mask that it drew."""

import warnings

import numpy as np
import torch

import xplayers as xpl
from tests.cases import Bad, Case, Fault, Function, f32, masks, values

KINDS = {  # layer: function, two shapes
    "Dropout": ("dropout", (3, 4), (2, 3, 4)),
    "Dropout1d": ("dropout1d", (2, 3, 4), (3, 4)),
    "Dropout2d": ("dropout2d", (2, 3, 4, 5), (4, 3, 5)),
    "Dropout3d": ("dropout3d", (2, 3, 2, 3, 2), (4, 2, 3, 2)),
    "AlphaDropout": ("alpha_dropout", (3, 4), (2, 3, 4)),
    "FeatureAlphaDropout": ("feature_alpha_dropout", (4, 3, 2), (4, 3)),
}


def _draw(function, *args, **kwargs):
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of three axes in dropout2d
        torch.manual_seed(11)
        return function(*args, **kwargs)


def _kept(layer, shape, p):
    """The mask that torch draws in `_draw`, told by what becomes of ones. Channels have one element each."""
    y = _draw(getattr(torch.nn, layer)(p), torch.ones(shape, dtype=torch.float64, requires_grad=True)).detach()
    mask = (y == y.max()).numpy()
    if layer not in ("Dropout", "AlphaDropout"):
        lead = len(shape) - int(layer[-2]) if layer in ("Dropout1d", "Dropout3d") else 2
        mask = mask[(..., *(slice(0, 1),) * (len(shape) - lead))]
    return values(mask)


def _call(module, inputs, call):
    return _draw(module, *inputs)


def _case(layer, shape, p, **kwargs):
    def twin(p, inplace=False):  # torch cannot write to a leaf that has a gradient
        return getattr(torch.nn, layer)(p)

    mask = {"mask": _kept(layer, shape, p)}
    return Case(layer, (p,), kwargs, inputs=(shape,), arrays=mask, twin=twin, twin_call=_call)


def _function(layer, shape, p, **kwargs):
    name = KINDS[layer][0]

    def twin(x, mask, **kwargs):
        return _draw(getattr(torch.nn.functional, name), x, **kwargs)

    return Function(name, {"x": shape, "mask": _kept(layer, shape, p)}, {"p": p, **kwargs}, twin=twin)


LAYERS = [
    *(_case(layer, first, 0.5) for layer, (_, first, _) in KINDS.items()),
    *(_case(layer, second, 0.3, inplace=True) for layer, (_, _, second) in KINDS.items()),
    *(Case(layer, (1.0,), inputs=(first,)) for layer, (_, first, _) in KINDS.items()),
    *(Case(layer, (0.0,), inputs=(first,)) for layer, (_, first, _) in KINDS.items()),
]

FUNCTIONS = [
    *(_function(layer, first, 0.5, training=True) for layer, (_, first, _) in KINDS.items()),
    *(_function(layer, second, 0.3, training=True) for layer, (_, _, second) in KINDS.items()),
    *(_function(layer, first, 1.0, training=True) for layer, (_, first, _) in KINDS.items()),
    *(_function(layer, first, 0.4, training=False) for layer, (_, first, _) in KINDS.items()),
    *(Function(name, {"x": first}, {"p": 0.0, "training": True}) for name, first, _ in KINDS.values()),
]

_dropout = lambda: xpl.Dropout(0.5)  # noqa: E731

BAD_CALLS = [
    Bad(lambda: xpl.Dropout(1.5), "Dropout(p=1.5)", "p", "1.5", "0 <= p <= 1", "Dropout(p=0.5)"),
    Bad(lambda: xpl.Dropout2d(-0.1), "Dropout2d(p=-0.1)", "p", "-0.1", "0 <= p <= 1", "Dropout2d(p=0.5)"),
    Bad(lambda: _dropout()(np.ones((2, 3), int)), "Dropout(p=0.5)", "x", "int64", "floating", "astype", TypeError),
    Bad(lambda: _dropout()(f32(2, 3), mask=f32(3, 2)), "Dropout(p=0.5)", "mask", "(3, 2)", "(2, 3)", "broadcasts"),
    Bad(lambda: _dropout()(f32(2, 3), mask=True), "Dropout(p=0.5)", "mask", "a bool", "an array", "(2, 3)", TypeError),
    Bad(lambda: xpl.Dropout1d()(f32(2, 3, 4, 5)), "Dropout1d(p=0.5)", "x", "4-d", "(N, C, L) or (C, L)", "x[0"),
    Bad(lambda: xpl.Dropout2d()(f32(2, 3)), "Dropout2d(p=0.5)", "x", "2-d", "(N, C, H, W)", "x[None"),
    Bad(lambda: xpl.Dropout3d()(f32(2, 3, 4)), "Dropout3d(p=0.5)", "x", "3-d", "(C, D, H, W)", "x[None"),
    Bad(lambda: xpl.FeatureAlphaDropout()(f32(3)), "FeatureAlphaDropout(", "x", "1-d", "(N, C, *)", "AlphaDropout"),
    Bad(lambda: xpl.functional.dropout(f32(3), -1), "dropout", "p", "-1", "0 <= p <= 1", "p=0.5"),
    Bad(lambda: xpl.functional.dropout2d(f32(3)), "dropout2d", "x", "1-d", "(N, C, H, W)", "dropout"),
]

FAULTS = [
    Fault("dropout.dropout_backward", " * a)", ")", "Dropout("),
    Fault("dropout.dropout_backward", "dy if mask is None", "dy * a * 0.5 if mask is None", "Dropout(0.5"),
    Fault("dropout._drop", "a = 1.0 / (1.0 - p)", "a = 1.0", "Dropout2d(0.5"),
    Fault("dropout._drop", "not training or", "", "Dropout1d(0.5"),
    Fault("dropout._drop", "if p == 1:", "if False:", "AlphaDropout(1.0"),
    Fault("dropout._drop", "(1.0 - p - keep)", "(1.0 - keep)", "AlphaDropout(0.5"),
    Fault("dropout._drop", "p * dropped * dropped", "dropped * dropped", "FeatureAlphaDropout(0.5"),
    Fault("dropout._drop", "keep = xp.astype(mask, x.dtype)", "keep = xp.astype(mask, xp.float32)", "Dropout(0.3"),
    Fault(
        "dropout.alpha_dropout_backward", "return dropout_backward(dy", "return dropout_backward(-dy", "AlphaDropout"
    ),
    Fault("layers.dropout.Dropout.forward", "self.training", "True", "Dropout3d(0.5"),
]

TWINS = [
    Function("dropout", {"x": (7, 3, 11), "mask": masks(7, 3, 11)}, {"p": 0.3}),
    Function("dropout", {"x": (70_001,), "mask": masks(70_001)}, {"p": 0.9}),
]
