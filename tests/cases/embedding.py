"""Rows for the look-ups."""

import numpy as np
import torch

import xplayers as xpl
from tests.cases import Bad, Case, Fault, Function, f32, integers, values

_SCALED = {  # max_norm scales the weight itself, and the scaling has no gradient
    "nothing_is_written_to": "max_norm rebinds the weight",
    "derivative_along_a_direction": "the scaling by max_norm has no gradient",
}
_UNLIKE = {"derivative_along_a_direction": "padding_idx and scale_grad_by_freq change the gradient, not the output"}
_X = integers((2, 5), 4)
_FLAT = integers((7,), 4)
_OFFSETS = values([0, 2, 2, 5])


def _bag(*args, **kwargs):
    return Case("EmbeddingBag", args[:2], kwargs, inputs=args[2:])


def _dense(function):
    """torch's function with the dense gradient of its weight that ours always has."""
    return lambda x, weight, sparse, **kwargs: function(x, weight, **kwargs)


LAYERS = [
    Case("Embedding", (4, 3), inputs=(_X,)),
    Case("Embedding", (4, 3, 1), inputs=(integers((7,), 4),), skip=_UNLIKE),
    Case("Embedding", (4, 3), {"padding_idx": -2, "scale_grad_by_freq": True}, inputs=(_X,), skip=_UNLIKE),
    Case("Embedding", (4, 3), {"max_norm": 1.0}, inputs=(_X,), skip=_SCALED),
    Case("Embedding", (4, 3), {"max_norm": 0.5, "norm_type": 1.0, "sparse": False}, inputs=(_X,), skip=_SCALED),
    Case("Embedding", (4, 3), inputs=(integers((0, 2), 4),)),
    _bag(4, 3, _X),
    _bag(4, 3, _X, mode="sum", padding_idx=1),
    _bag(4, 3, _X, mode="max", padding_idx=1),
    _bag(4, 3, _FLAT, _OFFSETS),
    _bag(4, 3, _FLAT, _OFFSETS, mode="mean", padding_idx=-1),
    _bag(4, 3, _FLAT, _OFFSETS, mode="max"),
    _bag(4, 3, _FLAT, _OFFSETS, (7,), mode="sum", padding_idx=2),
    _bag(4, 3, _FLAT, values([0, 3, 7]), mode="sum", include_last_offset=True, sparse=False),
    _bag(4, 3, _X, None, (2, 5), mode="sum"),
    Case("EmbeddingBag", (4, 3, 1.0, 3.0), inputs=(_X,), skip=_SCALED),
]


def _by_frequency(x, weight, offsets, per_sample_weights, scale_grad_by_freq, **kwargs):
    """Torch's bags with the gradient of a row over its count; torch 2.13 divides by another row's on the CPU."""
    assert scale_grad_by_freq
    counts = torch.bincount(x.reshape(-1), minlength=weight.shape[0]).clamp(min=1)[:, None]
    weight = weight / counts + (weight - weight / counts).detach()
    return torch.nn.functional.embedding_bag(x, weight, offsets, per_sample_weights=per_sample_weights, **kwargs)


def _bags(x, offsets=None, per_sample_weights=None, **kwargs):
    arrays = {"x": x, "weight": (4, 3), "offsets": offsets, "per_sample_weights": per_sample_weights}
    twin = _by_frequency if "scale_grad_by_freq" in kwargs else None
    return Function("embedding_bag", arrays, kwargs, twin=twin)


def _plain(x, **kwargs):
    return torch.nn.functional.one_hot(x, **kwargs)


_NO_JIT = {"jit": "the number of classes depends on the values"}

FUNCTIONS = [
    Function("embedding", {"x": _X, "weight": (4, 3)}),
    Function("embedding", {"x": integers((), 4), "weight": (4, 3)}, {"padding_idx": 3, "sparse": False}),
    Function(
        "embedding",
        {"x": integers((5,), 4), "weight": (4, 3)},
        {"sparse": True},
        twin=_dense(torch.nn.functional.embedding),
    ),
    Function(
        "embedding_bag",
        {"x": integers((2, 5), 4), "weight": (4, 3)},
        {"mode": "sum", "sparse": True},
        twin=_dense(torch.nn.functional.embedding_bag),
    ),
    Function("embedding", {"x": _X, "weight": (4, 3)}, {"padding_idx": -4, "scale_grad_by_freq": True}),
    Function("embedding", {"x": _X, "weight": (4, 3)}, {"max_norm": 0.7}),
    Function("embedding", {"x": _X, "weight": (4, 3)}, {"max_norm": 0.7, "norm_type": 3.0}),
    Function("embedding", {"x": integers((0,), 4), "weight": (4, 3)}),
    _bags(_X),
    _bags(_X, mode="max", sparse=False),
    _bags(_X, None, (2, 5), mode="sum", padding_idx=1),
    _bags(_FLAT, _OFFSETS),
    _bags(_FLAT, _OFFSETS, mode="max", padding_idx=0),
    _bags(_FLAT, _OFFSETS, (7,), mode="sum"),
    _bags(_FLAT, _OFFSETS, mode="mean", padding_idx=2, max_norm=0.5, norm_type=1.0),
    _bags(_FLAT, _OFFSETS, mode="mean", scale_grad_by_freq=True),
    _bags(_FLAT, _OFFSETS, (7,), mode="sum", scale_grad_by_freq=True, padding_idx=1),
    _bags(_FLAT, values([0, 0, 4, 7]), mode="max", include_last_offset=True),
    _bags(integers((0,), 4), values([0, 0]), mode="max"),
    Function("one_hot", {"x": _X}, {"num_classes": 5}, twin=_plain),
    Function("one_hot", {"x": _X}, twin=_plain, skip=_NO_JIT),
    Function("one_hot", {"x": integers((), 4)}, {"num_classes": 4}, twin=_plain),
]


def _layer(**kwargs):
    return xpl.EmbeddingBag(4, 3, **kwargs)


_i = lambda *shape: np.zeros(shape, np.int64)  # noqa: E731
_F = xpl.functional

BAD_CALLS = [
    Bad(lambda: xpl.Embedding(4, 3)(f32(2)), "Embedding(4, 3)", "x", "float32", "int32 or int64", "astype", TypeError),
    Bad(lambda: xpl.Embedding(4, 3)([1]), "Embedding(4, 3)", "x", "a list", "an array", "asarray", TypeError),
    Bad(lambda: xpl.Embedding(4, 3, 4), "Embedding(4, 3)", "padding_idx", "4", "a row of 4", "[-4, 4)"),
    Bad(lambda: xpl.Embedding(4.0, 3), "Embedding(4.0, 3)", "num_embeddings", "4.0", "integer", "Embedding(10, 3)"),
    Bad(
        lambda: xpl.Embedding.from_pretrained(f32(3)), "from_pretrained", "embeddings", "(3,)", "(V, D)", "row an index"
    ),
    Bad(lambda: _layer(mode="median"), "EmbeddingBag(4, 3", "mode", "'median'", "'max'", "one of them"),
    Bad(
        lambda: _layer(mode="max", scale_grad_by_freq=True),
        "EmbeddingBag",
        "scale_grad_by_freq",
        "True",
        "False",
        "mode",
    ),
    Bad(lambda: _layer()(_i(2, 3), _i(2)), "EmbeddingBag(4, 3", "offsets", "(2,)", "None", "leave offsets out"),
    Bad(lambda: _layer()(_i(3)), "EmbeddingBag(4, 3", "offsets", "None", "(B,)", "where each bag starts"),
    Bad(lambda: _layer()(_i(3, 1, 1)), "EmbeddingBag(4, 3", "x", "(3, 1, 1)", "(B, L)", "reshape x"),
    Bad(
        lambda: _layer()(_i(2, 3), None, f32(2, 3)),
        "EmbeddingBag",
        "per_sample_weights",
        "'mean'",
        "None",
        "mode='sum'",
    ),
    Bad(
        lambda: _layer(mode="sum")(_i(2, 3), None, f32(3)),
        "EmbeddingBag",
        "per_sample_weights",
        "(3,)",
        "(2, 3)",
        "pass",
    ),
    Bad(
        lambda: _layer()(_i(3), np.zeros(2, np.float32)),
        "EmbeddingBag",
        "offsets",
        "float32",
        "int32 or int64",
        "astype(offsets",
        TypeError,
    ),
    Bad(lambda: _F.embedding(_i(2), f32(4, 3), 7), "embedding", "padding_idx", "7", "a row of 4", "[-4, 4)"),
    Bad(
        lambda: _F.embedding_bag(_i(3), f32(4, 3)), "embedding_bag", "offsets", "None", "(B,)", "where each bag starts"
    ),
    Bad(lambda: _F.one_hot(_i(0)), "one_hot", "num_classes", "-1", "number of classes", "num_classes="),
]

FAULTS = [
    Fault(
        "embedding.embedding_backward",
        "index_add(xp.zeros(weight.shape, **like(weight)), index, drows)",
        "index_add(xp.zeros(weight.shape, **like(weight)), index[:1], drows[:1])",
        "Embedding(",
    ),
    Fault("embedding.embedding_backward", "if padding_idx is not None:", "if False:", "Embedding("),
    Fault("embedding._over_frequency", "drows / take", "drows * take", "Embedding("),
    Fault("embedding._renormalised", "(norm > max_norm)", "(norm > 2 * max_norm)", "Embedding("),
    Fault(
        "embedding._renormalised",
        "return xp.where(large, weight * (max_norm / (norm + 1e-7)), weight)",
        "weight *= 0.5; return weight",
        "Embedding(",
    ),
    Fault("embedding.embedding_bag_forward", 'side="right") - 1', 'side="left") - 1', "EmbeddingBag"),
    Fault(
        "embedding.embedding_bag_forward",
        "xp.maximum(counts, 1.0)",
        "1.0 * max(n // max(bags, 1), 1) * xp.ones_like(counts)",
        "EmbeddingBag",
    ),
    Fault(
        "embedding.embedding_bag_backward",
        "drows = drows * xp.reshape(per_sample_weights, (-1, 1))",
        "pass",
        "EmbeddingBag",
    ),
    Fault("embedding.embedding_bag_backward", "chosen * d + columns", "chosen * d", "EmbeddingBag"),
    Fault("embedding._largest", "same & ", "", "EmbeddingBag"),
    Fault("layers.embedding.EmbeddingBag.backward", "return dsamples", "return None", "EmbeddingBag"),
]

_NUMPY = {"numpy": "bags with offsets, weights, maxima or a padding index are left to the agnostic code"}
TWINS = [
    Function("embedding", {"x": integers((5, 7), 9), "weight": (9, 6)}),
    Function("embedding", {"x": integers((300,), 40), "weight": (40, 129)}, {"padding_idx": -3}),
    Function("embedding", {"x": integers((), 4), "weight": (4, 3)}, {"padding_idx": 2}),
    *(
        Function(
            "embedding_bag",
            {"x": integers(shape, v), "weight": weight, **arrays},
            kwargs,
            skip=_NUMPY if arrays or kwargs.get("mode") == "max" or "padding_idx" in kwargs else {},
        )
        for shape, v, weight, arrays, kwargs in (
            ((5, 7), 9, (9, 6), {}, {}),
            ((64, 40), 50, (50, 65), {}, {"mode": "sum"}),
            ((64, 16), 50, (50, 64), {}, {"mode": "sum", "padding_idx": -3}),
            ((41, 13), 30, (30, 129), {}, {"padding_idx": 2}),
            ((3, 5), 4, (4, 3), {"per_sample_weights": (3, 5)}, {"mode": "sum", "padding_idx": 1}),
            ((40, 50), 90, (90, 33), {"per_sample_weights": (40, 50)}, {"mode": "sum"}),
            ((7, 9), 12, (12, 5), {}, {"mode": "max"}),
            ((40, 50), 90, (90, 65), {}, {"mode": "max", "padding_idx": 3}),
            ((6, 8), 5, values(np.tile([[1.0, 2.0], [2.0, 1.0]], (3, 4))), {}, {"mode": "max"}),
            ((30,), 12, (12, 5), {"offsets": values([0, 4, 4, 11, 30])}, {}),
            ((30,), 12, (12, 5), {"offsets": values([0, 4, 4, 11, 30])}, {"mode": "max", "padding_idx": 0}),
            ((30,), 12, (12, 5), {"offsets": values([0, 3, 30])}, {"mode": "sum", "include_last_offset": True}),
        )
    ),
]
