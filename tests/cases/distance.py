"""Rows for the norms, the distances and the bilinear form."""

import math

import numpy as np
import torch

import xplayers as xpl
from tests.cases import Bad, Case, Fault, Function, f32, f64, values

_HELD = {"derivative_along_a_direction": "torch's gradient passes through a norm that is held at eps"}

LAYERS = [
    Case("CosineSimilarity", inputs=((3, 4), (3, 4))),
    Case("CosineSimilarity", (0, 2.0), inputs=((3, 4, 2), (3, 4, 2)), skip=_HELD),
    Case("CosineSimilarity", (), {"dim": -1}, inputs=((1, 4), (3, 4))),
    Case("CosineSimilarity", (), {"dim": 0}, inputs=((4,), (4,))),
    Case("PairwiseDistance", inputs=((3, 4), (3, 4))),
    Case("PairwiseDistance", (1.0, 1e-3, True), inputs=((3, 4), (3, 4))),
    Case("PairwiseDistance", (3.0,), inputs=((4,), (3, 4))),
    Case("PairwiseDistance", (), {"p": math.inf}, inputs=((2, 3, 4), (2, 3, 4))),
    Case("Bilinear", (3, 2, 4), inputs=((5, 3), (5, 2))),
    Case("Bilinear", (3, 2, 4), {"bias": False}, inputs=((2, 5, 3), (2, 5, 2))),
    Case("Bilinear", (3, 2, 1), inputs=((3,), (2,))),
]


def _norm(x, p=2.0, dim=None, keepdim=False):
    return torch.linalg.vector_norm(x, p, dim, keepdim)


_SOME_ZEROS = values([[0.0, 0.0, 0.0], [1.0, 0.0, -2.0]])

FUNCTIONS = [
    Function("cosine_similarity", {"x1": (3, 4), "x2": (3, 4)}),
    Function("cosine_similarity", {"x1": (3, 4, 2), "x2": (4, 1)}, {"dim": -2}),
    Function("cosine_similarity", {"x1": (3, 4), "x2": (3, 4)}, {"dim": 0, "eps": 3.0}),
    Function("cosine_similarity", {"x1": _SOME_ZEROS, "x2": (2, 3)}),
    Function("cosine_similarity", {"x1": (0, 4), "x2": (0, 4)}),
    Function("pairwise_distance", {"x1": (3, 4), "x2": (3, 4)}),
    Function("pairwise_distance", {"x1": (3, 4), "x2": (4,)}, {"p": 1.0, "eps": 0.1}),
    Function("pairwise_distance", {"x1": (3, 4), "x2": (3, 1)}, {"p": 0.5, "keepdim": True}),
    Function("pairwise_distance", {"x1": (2, 4), "x2": (3, 1, 4)}, {"p": math.inf}),
    Function("pairwise_distance", {"x1": (4,), "x2": (4,)}, {"p": 0.0}),
    Function("pdist", {"x": (5, 3)}),
    Function("pdist", {"x": (4, 3)}, {"p": 1.0}),
    Function("pdist", {"x": (4, 3)}, {"p": 3.0}),
    Function("pdist", {"x": values([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])}, {"p": math.inf}),
    Function("pdist", {"x": values([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])}),
    Function("vector_norm", {"x": (3, 4)}, twin=_norm),
    Function("vector_norm", {"x": (3, 4, 2)}, {"p": 3.0, "dim": (0, -1)}, twin=_norm),
    Function("vector_norm", {"x": _SOME_ZEROS}, {"p": 2.0, "dim": 1, "keepdim": True}, twin=_norm),
    Function("vector_norm", {"x": _SOME_ZEROS}, {"p": 1.0, "dim": 1}, twin=_norm),
    Function("vector_norm", {"x": _SOME_ZEROS}, {"p": 0.5, "dim": 1}, twin=_norm),
    Function("vector_norm", {"x": _SOME_ZEROS}, {"p": 0.0, "dim": 0}, twin=_norm),
    Function("vector_norm", {"x": values([[math.inf, 2.0, 1.0]])}, {"p": -0.5, "dim": 1}, twin=_norm),
    Function("vector_norm", {"x": values([[2.0, -2.0, 1.0]])}, {"p": math.inf, "dim": 1}, twin=_norm),
    Function("vector_norm", {"x": (3, 4)}, {"p": -math.inf, "dim": 0}, twin=_norm),
    Function("bilinear", {"input1": (5, 3), "input2": (5, 2), "weight": (4, 3, 2), "bias": (4,)}),
    Function("bilinear", {"input1": (2, 5, 3), "input2": (2, 5, 2), "weight": (4, 3, 2), "bias": None}),
    Function("bilinear", {"input1": (0, 3), "input2": (0, 2), "weight": (4, 3, 2), "bias": (4,)}),
]


def _cosine():
    return xpl.CosineSimilarity()


def _bilinear():
    return xpl.Bilinear(3, 2, 4)


BAD_CALLS = [
    Bad(lambda: _cosine()(f32(2, 3), f32(2, 4)), "CosineSimilarity(dim=1", "x2", "(2, 4)", "(2, 3)", "of one shape"),
    Bad(lambda: _cosine()(f32(3), f32(3)), "CosineSimilarity(dim=1", "x1", "(3,)", "an axis 1", "another dim"),
    Bad(
        lambda: _cosine()(f32(2, 3), np.ones((2, 3), int)),
        "CosineSimilarity(",
        "x2",
        "int64",
        "a floating dtype",
        "astype(x2",
        TypeError,
    ),
    Bad(
        lambda: xpl.PairwiseDistance()(f32(2, 3), torch.ones(2, 3)),
        "PairwiseDistance(",
        "x2",
        "torch float32",
        "numpy float32",
        "move one of the two",
        TypeError,
    ),
    Bad(
        lambda: xpl.PairwiseDistance()(f32(2, 3), f32(3, 3)), "PairwiseDistance(", "x2", "(3, 3)", "(2, 3)", "one shape"
    ),
    Bad(lambda: xpl.PairwiseDistance()(f32(), f32()), "PairwiseDistance(", "x1", "0-d", "(*, D)", "x1[None]"),
    Bad(lambda: _bilinear()(f32(5, 4), f32(5, 2)), "Bilinear(3, 2, 4)", "input1", "4 features", "3 features", "pass"),
    Bad(lambda: _bilinear()(f32(5, 3), f32(5, 3)), "Bilinear(3, 2, 4)", "input2", "3 features", "2 features", "pass"),
    Bad(lambda: _bilinear()(f32(5, 3), f32(4, 2)), "Bilinear(3, 2, 4)", "input2", "(4, 2)", "(5,)", "as many rows"),
    Bad(lambda: _bilinear()(f32(), f32()), "Bilinear(3, 2, 4)", "input1", "0-d", "(*, 3)", "input1[None]"),
    Bad(lambda: xpl.Bilinear(0, 2, 4), "Bilinear(0, 2, 4)", "in1_features", "0", "positive", "as an int"),
    Bad(
        lambda: _bilinear().load_state_dict({"weight": f64(4, 2, 3), "bias": f64(4)}),
        "Bilinear",
        "state",
        "(4, 2, 3)",
        "names and shapes",
        "build the layer",
    ),
]

FAULTS = [
    Fault(
        "distance.bilinear_backward", "xp.matmul(d.T, _outer(x1, x2, m))", "xp.matmul(d.T, _outer(x1, x2, m)) * 2", "Bi"
    ),
    Fault("distance.bilinear_backward", "dbias = sum_leading(d)", "dbias = sum_leading(d) / m", "Bilinear"),
    Fault("distance.bilinear_backward", "xp.reshape(x2, (m, in2, 1))", "xp.reshape(x1, (m, in2, 1))", "Bilinear"),
    Fault("distance.bilinear_forward", "y = y if bias is None else y + bias", "pass", "Bilinear"),
    Fault("distance.pairwise_distance_backward", "-sum_to(d, shape2)", "sum_to(d, shape2)", "PairwiseDistance"),
    Fault("distance.pairwise_distance_forward", "forward(x1 - x2 + eps", "forward(x1 - x2", "PairwiseDistance"),
    Fault("distance.cosine_similarity_backward", "other - y * _slope(full, norm, 2)", "other", "CosineSimilarity"),
    Fault("distance.cosine_similarity_backward", "_slope(full, norm, 2)", "full / n", "CosineSimilarity"),
    Fault("distance._slope", "(p - 1)", "p", "PairwiseDistance(3.0"),
    Fault("distance.vector_norm_backward", "dy = dy / total", "dy = 2 * dy / total", "PairwiseDistance(p=inf"),
]
