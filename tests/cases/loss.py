"""Rows for the losses."""

import math

import numpy as np
import torch

import xplayers as xpl
from tests.cases import Bad, Case, Fault, Function, f32, floats, integers, positive, probabilities, values

_ignoring = values(np.array([1, -100, 0, 3, -100]))
_signs = lambda *shape: values(np.sign(np.random.default_rng(7).standard_normal(shape)))  # noqa: E731
_twin = torch.nn.functional


def _fixed(name, *arrays):
    """torch's function with these arrays detached: it refuses to differentiate by them."""

    def twin(**kwargs):
        held = {k: v.detach() if k in arrays else v for k, v in kwargs.items()}
        return getattr(_twin, name)(held.pop("x"), **held)

    return twin


def _whole(x, options, weight=None, target=None, **kwargs):
    """torch's over the whole batch at once: in pieces it gives the same numbers, but not all gradients."""
    weight = weight if target.is_floating_point() else weight.detach()
    return _twin.linear_cross_entropy(x, target=target, weight=weight, **kwargs)


FUNCTIONS = [
    Function("mse_loss", {"x": (3, 4), "target": (3, 4)}),
    Function("mse_loss", {"x": (3, 4), "target": (3, 4)}, {"reduction": "none"}),
    Function("mse_loss", {"x": (3, 4), "target": (3, 4), "weight": positive(3, 4)}),
    Function("mse_loss", {"x": (3, 4), "target": (3, 4), "weight": positive(3, 4)}, {"reduction": "sum"}),
    Function("mse_loss", {"x": (), "target": ()}),
    Function("mse_loss", {"x": (), "target": ()}, {"reduction": "none"}),
    Function("mse_loss", {"x": (3, 4), "target": integers((3, 4), 5)}),
    Function("mse_loss", {"x": (0, 4), "target": (0, 4)}),
    Function("l1_loss", {"x": (3, 4), "target": (3, 4)}),
    Function("l1_loss", {"x": (3, 4), "target": (3, 4)}, {"reduction": "sum"}),
    Function("l1_loss", {"x": values([0.0, 1.0, -1.0]), "target": values([0.0, 0.0, 0.0])}, {"reduction": "none"}),
    Function("l1_loss", {"x": (3, 4), "target": (3, 4), "weight": positive(3, 4)}),
    Function("smooth_l1_loss", {"x": (3, 4), "target": (3, 4)}),
    Function("smooth_l1_loss", {"x": (3, 4), "target": (3, 4)}, {"reduction": "none", "beta": 0.3}),
    Function("smooth_l1_loss", {"x": (3, 4), "target": (3, 4)}, {"reduction": "sum", "beta": 0.0}),
    Function("huber_loss", {"x": (3, 4), "target": (3, 4)}),
    Function("huber_loss", {"x": (3, 4), "target": (3, 4)}, {"reduction": "none", "delta": 0.3}),
    Function("huber_loss", {"x": (3, 4), "target": (3, 4), "weight": positive(3, 4)}),
    Function("huber_loss", {"x": (3, 4), "target": (3, 4), "weight": positive(3, 4)}, {"reduction": "sum"}),
    Function("poisson_nll_loss", {"x": (3, 4), "target": positive(3, 4)}),
    Function("poisson_nll_loss", {"x": positive(3, 4), "target": positive(3, 4)}, {"log_input": False, "eps": 0.1}),
    Function(
        "poisson_nll_loss",
        {"x": (6,), "target": values([0.5, 1.0, 2.0, 3.5, 7.0, 0.2])},
        {"full": True, "reduction": "none"},
    ),
    Function("poisson_nll_loss", {"x": (4,), "target": (3, 4)}, {"reduction": "sum"}),
    Function("gaussian_nll_loss", {"x": (3, 4), "target": (3, 4), "var": positive(3, 4)}),
    Function("gaussian_nll_loss", {"x": (3, 4), "target": (3, 4), "var": positive(3)}, {"full": True}),
    Function(
        "gaussian_nll_loss",
        {"x": (3, 4), "target": (3, 4), "var": positive(3, 1)},
        {"eps": 0.7, "reduction": "none"},
    ),
    Function("gaussian_nll_loss", {"x": (3, 4), "target": (3, 4)}, {"var": 0.4, "reduction": "sum"}),
    Function("kl_div", {"x": (3, 4), "target": probabilities(3, 4)}, {"reduction": "batchmean"}),
    Function("kl_div", {"x": (3, 4), "target": (3, 4)}, {"reduction": "sum", "log_target": True}),
    Function("kl_div", {"x": (3, 4), "target": probabilities(3, 4)}, {"reduction": "none"}),
    Function("kl_div", {"x": (4,), "target": (3, 4)}, {"reduction": "none", "log_target": True}),
    Function("kl_div", {"x": (), "target": probabilities()}, {"reduction": "batchmean"}),
    Function("binary_cross_entropy", {"x": probabilities(3, 4), "target": probabilities(3, 4)}),
    Function(
        "binary_cross_entropy",
        {"x": probabilities(3, 4), "target": probabilities(3, 4), "weight": positive(4)},
        {"reduction": "none"},
        twin=_fixed("binary_cross_entropy", "weight"),
        gradients=("x", "target"),
    ),
    Function("binary_cross_entropy", {"x": probabilities(), "target": probabilities()}, {"reduction": "sum"}),
    Function(
        "binary_cross_entropy",
        {"x": values([0.0, 1.0, 0.0, 1.0, 0.5]), "target": values([0.0, 1.0, 1.0, 0.0, 0.5])},
        {"reduction": "none"},
        twin=_fixed("binary_cross_entropy", "target"),
        gradients=("x",),
    ),
    Function("binary_cross_entropy_with_logits", {"x": (3, 4), "target": probabilities(3, 4)}),
    Function(
        "binary_cross_entropy_with_logits",
        {"x": (3, 4), "target": probabilities(3, 4), "weight": positive(4)},
        {"reduction": "none"},
        twin=_fixed("binary_cross_entropy_with_logits", "weight"),
        gradients=("x", "target"),
    ),
    Function(
        "binary_cross_entropy_with_logits",
        {"x": (3, 4, 2), "target": probabilities(3, 4, 2), "weight": positive(3, 1, 1), "pos_weight": positive(4, 1)},
        {"reduction": "sum"},
        twin=_fixed("binary_cross_entropy_with_logits", "weight", "pos_weight"),
        gradients=("x", "target"),
    ),
    Function(
        "binary_cross_entropy_with_logits",
        {"x": values([1e4, -1e4, 0.0, 1e4]), "target": values([0.0, 1.0, 1.0, 0.5])},
        {"reduction": "none"},
    ),
    Function("multilabel_soft_margin_loss", {"x": (3, 4), "target": probabilities(3, 4)}),
    Function(
        "multilabel_soft_margin_loss",
        {"x": (2, 3, 4), "target": probabilities(2, 3, 4), "weight": positive(4)},
        {"reduction": "none"},
    ),
    Function("multilabel_soft_margin_loss", {"x": (4,), "target": probabilities(4)}, {"reduction": "none"}),
    Function("multilabel_soft_margin_loss", {"x": (3, 4), "target": probabilities(3, 4)}, {"reduction": "sum"}),
    Function(
        "soft_margin_loss",
        {"x": (3, 4), "target": _signs(3, 4)},
        twin=_fixed("soft_margin_loss", "target"),
        gradients=("x",),
    ),
    Function(
        "soft_margin_loss",
        {"x": (3, 4), "target": _signs(4)},
        {"reduction": "none"},
        twin=_fixed("soft_margin_loss", "target"),
        gradients=("x",),
    ),
    Function("soft_margin_loss", {"x": (), "target": values(1)}, {"reduction": "sum"}),
    Function(
        "hinge_embedding_loss",
        {"x": (3, 4), "target": _signs(3, 4)},
        twin=_fixed("hinge_embedding_loss", "target"),
        gradients=("x",),
    ),
    Function(
        "hinge_embedding_loss",
        {"x": values([1.0, 1.0, 1.0, 2.0, 0.0, 0.5]), "target": values([1, -1, 0, -1, -1, -1])},
        {"reduction": "none"},
    ),
    Function(
        "hinge_embedding_loss",
        {"x": (3, 4), "target": _signs(4)},
        {"reduction": "sum", "margin": 0.4},
        twin=_fixed("hinge_embedding_loss", "target"),
        gradients=("x",),
    ),
    Function("nll_loss", {"x": (5, 4), "target": integers((5,), 4)}),
    Function(
        "nll_loss",
        {"x": (5, 4), "target": _ignoring, "weight": positive(4)},
        twin=_fixed("nll_loss", "target", "weight"),
        gradients=("x",),
    ),
    Function(
        "nll_loss", {"x": (2, 3, 4, 2), "target": integers((2, 4, 2), 3)}, {"reduction": "none", "ignore_index": 1}
    ),
    Function("nll_loss", {"x": (4,), "target": values(2)}, {"reduction": "sum"}),
    Function("nll_loss", {"x": (5, 4), "target": values([-100] * 5)}),
    Function("nll_loss", {"x": (0, 4), "target": integers((0,), 4)}),
    Function("cross_entropy", {"x": (5, 4), "target": integers((5,), 4)}),
    Function(
        "cross_entropy",
        {"x": (5, 4), "target": _ignoring, "weight": positive(4)},
        twin=_fixed("cross_entropy", "target", "weight"),
        gradients=("x",),
    ),
    Function("cross_entropy", {"x": (5, 4), "target": _ignoring}, {"label_smoothing": 0.2}),
    Function(
        "cross_entropy",
        {"x": (5, 4), "target": _ignoring, "weight": positive(4)},
        {"label_smoothing": 0.2, "reduction": "sum"},
        twin=_fixed("cross_entropy", "target", "weight"),
        gradients=("x",),
    ),
    Function(
        "cross_entropy",
        {"x": (5, 4), "target": _ignoring, "weight": positive(4)},
        {"label_smoothing": 0.2},
        twin=_fixed("cross_entropy", "target", "weight"),
        gradients=("x",),
    ),
    Function(
        "cross_entropy", {"x": (2, 3, 4, 2), "target": integers((2, 4, 2), 3)}, {"reduction": "none", "ignore_index": 1}
    ),
    Function("cross_entropy", {"x": (2, 3, 4), "target": integers((2, 4), 3)}, {"label_smoothing": 0.1}),
    Function("cross_entropy", {"x": (4,), "target": values(2)}, {"reduction": "none", "label_smoothing": 0.3}),
    Function("cross_entropy", {"x": (5, 4), "target": probabilities(5, 4, axis=1)}),
    Function(
        "cross_entropy",
        {"x": (5, 4), "target": probabilities(5, 4), "weight": positive(4)},
        {"label_smoothing": 0.2},
    ),
    Function(
        "cross_entropy",
        {"x": (2, 3, 4), "target": probabilities(2, 3, 4), "weight": positive(3)},
        {"reduction": "none"},
    ),
    Function("cross_entropy", {"x": (4,), "target": probabilities(4), "weight": positive(4)}, {"reduction": "sum"}),
    Function("cross_entropy", {"x": (5, 4), "target": values([-100] * 5)}),
    Function("cross_entropy", {"x": (0, 4), "target": integers((0,), 4)}),
    Function("cross_entropy", {"x": (0, 4), "target": (0, 4)}, {"reduction": "sum"}),
    Function(
        "cross_entropy",
        {"x": values([[1e4, -1e4, 9999.0], [0.5, -np.inf, 0.25]]), "target": values([1, 0])},
        {"reduction": "none"},
    ),
    Function("linear_cross_entropy", {"x": (6, 3), "linear_weight": (5, 3), "target": integers((6,), 5)}),
    Function(
        "linear_cross_entropy",
        {
            "x": (6, 3),
            "linear_weight": (5, 3),
            "target": values([0, 1, -100, 4, 2, 2]),
            "linear_bias": (5,),
            "weight": positive(5),
        },
        {"label_smoothing": 0.1},
        twin=_fixed("linear_cross_entropy", "weight"),
        gradients=("x", "linear_weight", "linear_bias"),
    ),
    Function(
        "linear_cross_entropy",
        {
            "x": (6, 3),
            "linear_weight": (5, 2, 3),
            "target": probabilities(6, 5, 2),
            "linear_bias": (5, 2),
            "weight": positive(5),
        },
        {"reduction": "sum"},
        gradients=("x", "linear_weight", "target", "linear_bias", "weight"),
    ),
    Function(
        "linear_cross_entropy",
        {"x": (3,), "linear_weight": (5, 3), "target": values(4), "linear_bias": (5,)},
        {"reduction": "none"},
        gradients=("x", "linear_weight", "linear_bias"),
    ),
    Function(
        "linear_cross_entropy",
        {"x": (7, 3), "linear_weight": (5, 3), "target": integers((7,), 5), "linear_bias": (5,), "weight": positive(5)},
        {"options": xpl.functional.LinearCrossEntropyOptions(batch_chunk_size=3), "ignore_index": 2},
        twin=_whole,
        gradients=("x", "linear_weight", "linear_bias"),
    ),
    Function(
        "linear_cross_entropy",
        {
            "x": (7, 2),
            "linear_weight": (5, 2, 2),
            "target": probabilities(7, 5, 2),
            "linear_bias": (5, 2),
            "weight": positive(5),
        },
        {"options": xpl.functional.LinearCrossEntropyOptions(), "reduction": "none"},
        twin=_whole,
        gradients=("x", "linear_weight", "target", "linear_bias", "weight"),
    ),
    Function("multi_margin_loss", {"x": (5, 4), "target": integers((5,), 4)}),
    Function(
        "multi_margin_loss",
        {"x": (5, 4), "target": integers((5,), 4), "weight": positive(4)},
        {"p": 2, "margin": 0.5, "reduction": "none"},
        twin=_fixed("multi_margin_loss", "target", "weight"),
        gradients=("x",),
    ),
    Function("multi_margin_loss", {"x": (4,), "target": values(1)}, {"reduction": "sum"}),
    Function("multi_margin_loss", {"x": (4,), "target": values([1])}, {"p": 2, "reduction": "none"}),
    Function("multilabel_margin_loss", {"x": (2, 4), "target": values([[3, 0, -1, 1], [2, 1, 0, -1]])}),
    Function(
        "multilabel_margin_loss",
        {"x": (3, 4), "target": values([[3, 3, -1, 1], [-1, 0, 0, 0], [0, 1, 2, 3]])},
        {"reduction": "none"},
    ),
    Function("multilabel_margin_loss", {"x": (4,), "target": values([1, -1, 0, 2])}, {"reduction": "sum"}),
    Function("multilabel_margin_loss", {"x": (4,), "target": values([1, -1, 0, 2])}, {"reduction": "none"}),
    Function("multilabel_margin_loss", {"x": values([-math.inf, 1.0, 2.0]), "target": values([1, 0, -1])}),
    Function("multilabel_margin_loss", {"x": values([math.inf, 1.0, 2.0]), "target": values([1, 0, -1])}),
    Function("margin_ranking_loss", {"input1": (5,), "input2": (5,), "target": _signs(5)}),
    Function(
        "margin_ranking_loss",
        {"input1": (3, 4), "input2": (3, 1), "target": _signs(3, 4)},
        {"margin": 0.5, "reduction": "none"},
    ),
    Function(
        "margin_ranking_loss",
        {"input1": (5,), "input2": (5,), "target": values([1, -1, 1, 1, -1])},
        {"reduction": "sum"},
    ),
    Function(
        "cosine_embedding_loss",
        {"input1": (5, 3), "input2": (5, 3), "target": _signs(5)},
        gradients=("input1", "input2"),
    ),
    Function(
        "cosine_embedding_loss",
        {"input1": (5, 3), "input2": (5, 3), "target": values([1, -1, -1, 1, 0])},
        {"margin": -0.4, "reduction": "none"},
    ),
    Function(
        "cosine_embedding_loss",
        {"input1": (3,), "input2": (3,), "target": values(-1)},
        {"reduction": "sum", "margin": -0.9},
    ),
    Function("triplet_margin_loss", {"anchor": (5, 3), "positive": (5, 3), "negative": (5, 3)}),
    Function(
        "triplet_margin_loss",
        {"anchor": (5, 3), "positive": (5, 3), "negative": (5, 3)},
        {"margin": 2.0, "p": 1.0, "eps": 0.1, "swap": True, "reduction": "none"},
    ),
    Function(
        "triplet_margin_loss",
        {"anchor": (5, 3), "positive": (1, 3), "negative": (5, 3)},
        {"margin": 3.0, "p": 3.0, "swap": True, "reduction": "sum"},
    ),
    Function(
        "triplet_margin_loss",
        {"anchor": (3,), "positive": (3,), "negative": (3,)},
        {"margin": 3.0, "reduction": "none"},
    ),
    Function("triplet_margin_with_distance_loss", {"anchor": (5, 3), "positive": (5, 3), "negative": (5, 3)}),
    Function(
        "triplet_margin_with_distance_loss",
        {"anchor": (5, 3), "positive": (5, 3), "negative": (5, 3)},
        {
            "distance_function": (xpl.functional.cosine_similarity_forward, xpl.functional.cosine_similarity_backward),
            "margin": 0.5,
            "swap": True,
            "reduction": "none",
        },
        twin=lambda distance_function, **kw: _twin.triplet_margin_with_distance_loss(
            distance_function=_twin.cosine_similarity, **kw
        ),
    ),
    Function(
        "triplet_margin_with_distance_loss",
        {"anchor": (5, 3), "positive": (5, 3), "negative": (5, 3)},
        {"swap": True, "reduction": "sum", "margin": 3.0},
    ),
    Function(
        "ctc_loss",
        {
            "log_probs": (6, 3, 4),
            "targets": values([[1, 2, 3], [3, 3, 0], [2, 1, 2]]),
            "input_lengths": values([6, 5, 6]),
            "target_lengths": values([2, 2, 3]),
        },
    ),
    Function(
        "ctc_loss",
        {
            "log_probs": (5, 3, 4),
            "targets": values([0, 2, 1, 1, 0, 2]),
            "input_lengths": values([5, 3, 5]),
            "target_lengths": values([2, 2, 2]),
        },
        {"blank": 3, "reduction": "none"},
    ),
    Function(
        "ctc_loss",
        {"log_probs": (5, 2, 4), "targets": values([2, 1, 1])},
        {"input_lengths": (5, 4), "target_lengths": (2, 1), "reduction": "sum"},
    ),
    Function(
        "ctc_loss",
        {
            "log_probs": (5, 4, 4),
            "targets": values([[1, 1, 1, 2], [1, 0, 0, 0], [1, 2, 3, 1], [1, 1, 1, 1]]),
            "input_lengths": values([3, 5, 2, 0]),
            "target_lengths": values([3, 0, 4, 0]),
        },
        {"zero_infinity": True},
    ),
    Function(
        "ctc_loss",
        {"log_probs": (3, 2, 4), "targets": values([[1, 1], [1, 2]])},
        {"input_lengths": (2, 3), "target_lengths": (2, 2), "reduction": "none"},
    ),
    Function(
        "ctc_loss",
        {"log_probs": (5, 4), "targets": values([2, 1])},
        {"input_lengths": (5,), "target_lengths": (2,), "reduction": "none"},
    ),
]

_ones = np.ones
_integers = lambda *shape: integers(shape, 3)  # noqa: E731


def _weighted(name, **arrays):
    """Both sides' constructor with weights: arrays for ours, tensors for torch's."""
    tensors = {k: torch.tensor(v) for k, v in arrays.items()}
    return {
        "build": lambda *args, **kwargs: getattr(xpl, name)(*args, **arrays, **kwargs),
        "twin": lambda *args, **kwargs: getattr(torch.nn, name)(*args, **tensors, **kwargs),
    }


class _Euclid(torch.nn.Module):
    def forward(self, a, b):
        return torch.nn.functional.pairwise_distance(a, b)


def _nll2d(weight, ignore_index):
    return torch.nn.NLLLoss(weight, ignore_index=ignore_index)  # NLLLoss2d warns that it is old


_not_a_derivative = {
    "derivative_along_a_direction": "torch's gradient by log_probs is that of the logits before a log_softmax"
}
_no_mean = {"batch": "torch's mean over no rows is whatever stands in memory"}
_no_batch = {"batch": "the row has no axis of the batch"}

LAYERS = [
    Case("MSELoss", inputs=((3, 4), (3, 4))),
    Case("MSELoss", kwargs={"reduction": "none"}, inputs=((2, 3, 4), (2, 3, 4))),
    Case("MSELoss", kwargs={"reduction": "sum"}, inputs=((5,), (5,))),
    Case("L1Loss", inputs=((3, 4), (3, 4))),
    Case("L1Loss", kwargs={"reduction": "none"}, inputs=((3, 4), (3, 4))),
    Case("SmoothL1Loss", inputs=((3, 4), (3, 4))),
    Case("SmoothL1Loss", kwargs={"reduction": "none", "beta": 0.25}, inputs=((3, 4), (3, 4))),
    Case("SmoothL1Loss", kwargs={"reduction": "sum", "beta": 0.0}, inputs=((3, 4), (3, 4))),
    Case("HuberLoss", inputs=((3, 4), (3, 4))),
    Case("HuberLoss", kwargs={"reduction": "none", "delta": 0.3}, inputs=((3, 4), (3, 4))),
    Case("PoissonNLLLoss", inputs=((3, 4), positive(3, 4))),
    Case(
        "PoissonNLLLoss",
        kwargs={"log_input": False, "full": True, "eps": 0.01, "reduction": "none"},
        inputs=(positive(3, 4), positive(3, 4)),
    ),
    Case("GaussianNLLLoss", inputs=((3, 4), (3, 4), positive(3, 4))),
    Case("GaussianNLLLoss", kwargs={"full": True, "reduction": "none"}, inputs=((3, 4), (3, 4), positive(3, 1))),
    Case(
        "GaussianNLLLoss",
        kwargs={"eps": 0.5, "reduction": "sum"},
        inputs=((3, 4), (3, 4), positive(3)),
        skip={"derivative_along_a_direction": "torch's gradient by var passes the bound eps, where y is flat"},
    ),
    Case("KLDivLoss", kwargs={"reduction": "batchmean"}, inputs=((3, 4), probabilities(3, 4))),
    Case("KLDivLoss", kwargs={"reduction": "sum", "log_target": True}, inputs=((3, 4), (3, 4))),
    Case("KLDivLoss", kwargs={"reduction": "none"}, inputs=((3, 4), probabilities(3, 4))),
    Case("SoftMarginLoss", inputs=((4,), values([1, -1, 1, 1]))),
    Case("SoftMarginLoss", kwargs={"reduction": "none"}, inputs=((2, 2), values([[1, -1], [-1, 1]]))),
    Case("HingeEmbeddingLoss", inputs=((3, 4), _signs(3, 4))),
    Case("HingeEmbeddingLoss", (0.4,), {"reduction": "none"}, inputs=((3, 4), _signs(3, 4))),
    Case("MarginRankingLoss", inputs=((5,), (5,), _signs(5))),
    Case("MarginRankingLoss", (0.6,), {"reduction": "none"}, inputs=((3, 4), (3, 4), _signs(3, 4))),
    Case("CosineEmbeddingLoss", inputs=((5, 3), (5, 3), _signs(5))),
    Case("CosineEmbeddingLoss", (-0.6,), {"reduction": "none"}, inputs=((5, 3), (5, 3), _signs(5))),
    Case("CosineEmbeddingLoss", (-0.9,), {"reduction": "sum"}, inputs=((3,), (3,), values(-1)), skip=_no_batch),
    Case("TripletMarginLoss", inputs=((5, 3), (5, 3), (5, 3))),
    Case(
        "TripletMarginLoss",
        kwargs={"margin": 3.0, "p": 3.0, "eps": 1e-3, "swap": True, "reduction": "none"},
        inputs=((5, 3), (5, 3), (5, 3)),
    ),
    Case("TripletMarginLoss", kwargs={"margin": 2.0, "reduction": "sum"}, inputs=((2, 4, 3), (2, 4, 3), (2, 4, 3))),
    Case("TripletMarginWithDistanceLoss", inputs=((5, 3), (5, 3), (5, 3))),
    Case(
        "TripletMarginWithDistanceLoss",
        kwargs={"margin": 2.0, "swap": True, "reduction": "none"},
        inputs=((5, 3), (5, 3), (5, 3)),
        build=lambda **kw: xpl.TripletMarginWithDistanceLoss(distance_function=xpl.PairwiseDistance(), **kw),
        twin=lambda **kw: torch.nn.TripletMarginWithDistanceLoss(distance_function=_Euclid(), **kw),
    ),
    Case("TripletMarginWithDistanceLoss", kwargs={"margin": 3.0, "reduction": "sum"}, inputs=((4, 6), (4, 6), (4, 6))),
    Case("NLLLoss", inputs=((5, 4), integers((5,), 4))),
    Case("NLLLoss", kwargs={"reduction": "none", "ignore_index": 1}, inputs=((2, 3, 4, 2), integers((2, 4, 2), 3))),
    Case("NLLLoss", inputs=((5, 4), _ignoring), **_weighted("NLLLoss", weight=_ones(4))),
    Case("NLLLoss2d", inputs=((2, 3, 4, 2), integers((2, 4, 2), 3)), twin=torch.nn.NLLLoss),
    Case("NLLLoss2d", (None, 1), inputs=((2, 3, 4, 2), integers((2, 4, 2), 3)), twin=_nll2d),
    Case(
        "NLLLoss2d", kwargs={"reduction": "none"}, inputs=((1, 4, 2, 3), integers((1, 2, 3), 4)), twin=torch.nn.NLLLoss
    ),
    Case("CrossEntropyLoss", inputs=((5, 4), integers((5,), 4))),
    Case("CrossEntropyLoss", inputs=((4,), values(2)), skip=_no_batch),
    Case("CrossEntropyLoss", inputs=((5, 4), probabilities(5, 4, axis=1))),
    Case(
        "CrossEntropyLoss",
        kwargs={"reduction": "none", "ignore_index": 1},
        inputs=((2, 3, 4, 2), integers((2, 4, 2), 3)),
    ),
    Case(
        "CrossEntropyLoss",
        kwargs={"label_smoothing": 0.1},
        inputs=((5, 4), _ignoring),
        **_weighted("CrossEntropyLoss", weight=_ones(4)),
    ),
    Case(
        "CrossEntropyLoss",
        kwargs={"label_smoothing": 0.1, "reduction": "sum"},
        inputs=((2, 3, 4), probabilities(2, 3, 4, axis=1)),
        **_weighted("CrossEntropyLoss", weight=_ones(3)),
    ),
    Case("LinearCrossEntropyLoss", (3, 5), inputs=((6, 3), integers((6,), 5))),
    Case(
        "LinearCrossEntropyLoss",
        (3, 5),
        {"bias": True, "label_smoothing": 0.1, "ignore_index": 2},
        inputs=((6, 3), integers((6,), 5)),
        **_weighted("LinearCrossEntropyLoss", weight=_ones(5)),
    ),
    Case(
        "LinearCrossEntropyLoss",
        (3, 5),
        {"out_features": (2,), "bias": True, "reduction": "none"},
        inputs=((4, 3), probabilities(4, 5, 2, axis=1)),
    ),
    Case(
        "LinearCrossEntropyLoss",
        (3, 5),
        {"bias": True, "reduction": "sum"},
        inputs=((7, 3), integers((7,), 5)),
        build=lambda *args, **kw: xpl.LinearCrossEntropyLoss(
            *args, options=xpl.LinearCrossEntropyOptions(batch_chunk_size=3), **kw
        ),
    ),
    Case("MultiMarginLoss", inputs=((5, 4), integers((5,), 4)), skip=_no_mean),
    Case(
        "MultiMarginLoss",
        (2, 0.5),
        {"reduction": "none"},
        inputs=((5, 4), integers((5,), 4)),
        **_weighted("MultiMarginLoss", weight=_ones(4)),
    ),
    Case("MultiLabelMarginLoss", inputs=((2, 4), values([[3, 0, -1, 1], [2, 1, 0, -1]])), skip=_no_mean),
    Case("MultiLabelMarginLoss", kwargs={"reduction": "none"}, inputs=((4,), values([1, -1, 0, 2]))),
    Case("BCELoss", inputs=(probabilities(3, 4), probabilities(3, 4))),
    Case(
        "BCELoss",
        kwargs={"reduction": "none"},
        inputs=(probabilities(3, 4), probabilities(3, 4)),
        **_weighted("BCELoss", weight=_ones(4)),
    ),
    Case("BCEWithLogitsLoss", inputs=((3, 4), probabilities(3, 4))),
    Case(
        "BCEWithLogitsLoss",
        kwargs={"reduction": "none"},
        inputs=((3, 4), probabilities(3, 4)),
        **_weighted("BCEWithLogitsLoss", weight=_ones((3, 1)), pos_weight=_ones(4)),
    ),
    Case("MultiLabelSoftMarginLoss", inputs=((3, 4), probabilities(3, 4))),
    Case(
        "MultiLabelSoftMarginLoss",
        kwargs={"reduction": "none"},
        inputs=((3, 4), probabilities(3, 4)),
        **_weighted("MultiLabelSoftMarginLoss", weight=_ones(4)),
    ),
    Case(
        "CTCLoss",
        inputs=((6, 3, 4), values([[1, 2, 3], [3, 3, 0], [2, 1, 2]]), values([6, 5, 6]), values([2, 2, 3])),
        skip=_not_a_derivative,
    ),
    Case(
        "CTCLoss",
        (3,),
        {"reduction": "none", "zero_infinity": True},
        inputs=((3, 3, 4), values([0, 2, 1, 1, 0, 2]), values([3, 2, 3]), values([2, 2, 2])),
        skip=_not_a_derivative,
    ),
    Case("AdaptiveLogSoftmaxWithLoss", (16, 10, [3, 6]), inputs=((5, 16), values([0, 9, 4, 2, 6]))),
    Case(
        "AdaptiveLogSoftmaxWithLoss",
        (8, 10, [2, 4, 7]),
        {"div_value": 2.0, "head_bias": True},
        inputs=((8,), values(5)),
        skip=_no_batch,
    ),
    Case("AdaptiveLogSoftmaxWithLoss", (8, 6, [2]), {"div_value": 1.0}, ((4, 8), values([5, 2, 0, 1]))),
]


def _labels(*shape):
    return np.zeros(shape, np.int64)


_CE = "CrossEntropyLoss(ignore_index=-100"

BAD_CALLS = [
    Bad(lambda: xpl.MSELoss("average"), "MSELoss(", "reduction", "'average'", "'mean'", "reduction='mean'"),
    Bad(lambda: xpl.MSELoss("batchmean"), "MSELoss(", "reduction", "'batchmean'", "'sum'", "reduction='mean'"),
    Bad(lambda: xpl.MSELoss()(_labels(3), f32(3)), "MSELoss(", "x", "int64", "floating", "float32", TypeError),
    Bad(lambda: xpl.MSELoss()(f32(3, 4), f32(3)), "MSELoss(", "target", "(3,)", "(3, 4)", "reshape target"),
    Bad(lambda: xpl.MSELoss()(f32(3), torch.ones(3)), "MSELoss(", "target", "torch", "numpy", "move", TypeError),
    Bad(lambda: xpl.MSELoss()(f32(3), target=torch.ones(3)), "MSELoss(", "target", "torch", "numpy", "move", TypeError),
    Bad(lambda: xpl.MSELoss()(x=[1.0], target=f32(1)), "MSELoss(", "x", "a list", "an array", "asarray", TypeError),
    Bad(
        lambda: xpl.MSELoss()(f32(3), [1.0, 2.0, 3.0]),
        "MSELoss(",
        "target",
        "a list",
        "an array",
        "asarray",
        TypeError,
    ),
    Bad(lambda: xpl.MSELoss().backward(), "MSELoss(", "tape", "nothing recorded", "training mode", "Tape()"),
    Bad(
        lambda: _called(xpl.MSELoss("none"), f32(3), f32(3)).backward(),
        "MSELoss(reduction='none')",
        "dy",
        "None",
        "each of the losses",
        "reduction='mean'",
        TypeError,
    ),
    Bad(
        lambda: _called(xpl.MSELoss("none"), f32(3), f32(3)).backward(f32(2)),
        "MSELoss(",
        "dy",
        "(2,)",
        "(3,)",
        "output",
    ),
    Bad(lambda: _called(xpl.MSELoss(), f32(3), f32(3)).backward(f32(3)), "MSELoss(", "dy", "(3,)", "()", "output"),
    Bad(lambda: xpl.functional.mse_loss(f32(3), f32(3), "all"), "loss", "reduction", "'all'", "'mean'", "'mean'"),
    Bad(lambda: xpl.SmoothL1Loss(beta=-1.0), "SmoothL1Loss(", "beta", "-1.0", "not under 0", "beta=1.0"),
    Bad(lambda: xpl.HuberLoss(delta=0.0), "HuberLoss(", "delta", "0.0", "positive", "delta=1.0"),
    Bad(lambda: xpl.KLDivLoss()(f32(3), _labels(3)), "KLDivLoss(", "target", "int64", "floating", "float32", TypeError),
    Bad(
        lambda: xpl.GaussianNLLLoss()(f32(3, 4), f32(3, 4), f32(4)), "Gaussian", "var", "(4,)", "(3, 4)", "reshape var"
    ),
    Bad(lambda: xpl.GaussianNLLLoss()(f32(3), f32(3), -1.0), "Gaussian", "var", "-1.0", "not under 0", "var=1.0"),
    Bad(lambda: xpl.SoftMarginLoss()(f32(3), f32(2, 3)), "SoftMargin", "target", "(2, 3)", "(3,)", "reshape target"),
    Bad(lambda: xpl.MarginRankingLoss()(f32(3), f32(2), f32(3)), "Ranking", "input2", "(2,)", "(3,)", "reshape input2"),
    Bad(lambda: xpl.MarginRankingLoss()(f32(3), f32(1, 3), f32(3)), "Ranking", "input2", "2-d", "1 axes", "reshape"),
    Bad(
        lambda: xpl.CosineEmbeddingLoss()(f32(3, 4), f32(3, 4), f32(3, 1)), "Cosine", "target", "(3, 1)", "(3,)", "row"
    ),
    Bad(
        lambda: xpl.CosineEmbeddingLoss()(f32(2, 3, 4), f32(2, 3, 4), f32(3)), "Cosine", "input1", "3-d", "(N, D)", "[0"
    ),
    Bad(lambda: xpl.TripletMarginLoss(margin=0.0), "TripletMarginLoss(", "margin", "0.0", "positive", "margin=1.0"),
    Bad(
        lambda: xpl.TripletMarginLoss()(f32(3, 4), f32(4), f32(3, 4)), "Triplet", "positive", "1-d", "2 axes", "reshape"
    ),
    Bad(
        lambda: xpl.TripletMarginWithDistanceLoss(distance_function=max),
        "TripletMarginWithDistanceLoss(",
        "distance_function",
        "builtin_function",
        "a pair of functions",
        "PairwiseDistance()",
        TypeError,
    ),
    Bad(
        lambda: xpl.CrossEntropyLoss()(f32(5, 4), f32(5)),
        _CE,
        "target",
        "float32",
        "integer labels",
        "int64",
        TypeError,
    ),
    Bad(
        lambda: xpl.CrossEntropyLoss()(f32(5, 4), _labels(5, 4)),
        _CE,
        "target",
        "int64",
        "floating",
        "floats",
        TypeError,
    ),
    Bad(lambda: xpl.CrossEntropyLoss()(f32(5, 4), f32(5, 3)), _CE, "target", "float32", "integer", "argmax", TypeError),
    Bad(lambda: xpl.CrossEntropyLoss()(f32(5, 4), f32(5) > 0), _CE, "target", "bool", "integer", "int64", TypeError),
    Bad(lambda: xpl.CrossEntropyLoss()(f32(5, 4), _labels(4)), _CE, "target", "(4,)", "(5,)", "one batch"),
    Bad(lambda: xpl.CrossEntropyLoss()(f32(5, 4, 2), _labels(5)), _CE, "target", "(5,)", "(5, 2)", "axis 1"),
    Bad(lambda: xpl.CrossEntropyLoss()(f32(), _labels()), _CE, "x", "0-d", "(N, C, *)", "axis 1"),
    Bad(lambda: xpl.CrossEntropyLoss(f32(3))(f32(5, 4), _labels(5)), _CE, "weight", "(3,)", "(4,)", "4 weights"),
    Bad(lambda: xpl.CrossEntropyLoss([1.0, 2.0]), _CE, "weight", "a list", "an array", "asarray", TypeError),
    Bad(lambda: xpl.CrossEntropyLoss(label_smoothing=1.5), _CE, "label_smoothing", "1.5", "from 0 to 1", "0.1"),
    Bad(lambda: xpl.NLLLoss()(f32(5, 4), f32(5, 4)), "NLLLoss(", "target", "float32", "labels", "argmax", TypeError),
    Bad(lambda: xpl.NLLLoss()(f32(5, 4), torch.zeros(5)), "NLLLoss(", "target", "torch", "numpy", "move", TypeError),
    Bad(
        lambda: xpl.LinearCrossEntropyLoss(3, 5)(f32(6, 4), _labels(6)), "Linear", "x", "4 features", "3", "3 features"
    ),
    Bad(
        lambda: xpl.LinearCrossEntropyLoss(3, 5)(f32(6, 3), _labels(5)), "Linear", "target", "(5,)", "(6,)", "one batch"
    ),
    Bad(
        lambda: xpl.LinearCrossEntropyLoss(3, 5, out_features=(2,))(f32(3), _labels()),
        "Linear",
        "x",
        "1-d",
        "(N, 3)",
        "x[",
    ),
    Bad(
        lambda: xpl.LinearCrossEntropyLoss(3, 5, ignore_index=2)(f32(6, 3), f32(6, 5)),
        "LinearCrossEntropyLoss(",
        "ignore_index",
        "2",
        "None",
        "leave ignore_index out",
    ),
    Bad(
        lambda: xpl.LinearCrossEntropyOptions(batch_chunk_size=0),
        "LinearCrossEntropyOptions(",
        "batch_chunk_size",
        "0",
        "a positive int",
        "batch_chunk_size=1024",
    ),
    Bad(
        lambda: xpl.LinearCrossEntropyOptions(chunking_method="rows"),
        "Linear",
        "chunking_method",
        "rows",
        "'auto'",
        "=",
    ),
    Bad(lambda: xpl.MultiMarginLoss(p=3), "MultiMarginLoss(", "p", "3", "1 or 2", "p=1"),
    Bad(lambda: xpl.MultiMarginLoss()(f32(5, 4, 2), _labels(5, 2)), "MultiMargin", "x", "3-d", "(N, C)", "axis 1"),
    Bad(lambda: xpl.MultiLabelMarginLoss()(f32(5, 4), _labels(5)), "MultiLabel", "target", "(5,)", "(5, 4)", "reshape"),
    Bad(
        lambda: xpl.MultiLabelMarginLoss()(f32(4), f32(4)),
        "MultiLabel",
        "target",
        "float32",
        "integer",
        "int",
        TypeError,
    ),
    Bad(lambda: xpl.MultiLabelSoftMarginLoss()(f32(), f32()), "MultiLabelSoft", "x", "0-d", "(*, C)", "last axis"),
    Bad(lambda: xpl.BCELoss()(f32(3, 1), f32(3)), "BCELoss(", "target", "(3,)", "(3, 1)", "reshape target"),
    Bad(lambda: xpl.BCELoss()(f32(3), _labels(3)), "BCELoss(", "target", "int64", "floating", "float32", TypeError),
    Bad(lambda: xpl.BCEWithLogitsLoss()(f32(3, 1), f32(3)), "BCEWithLogits", "target", "(3,)", "(3, 1)", "reshape"),
    Bad(lambda: xpl.BCEWithLogitsLoss(f32(3))(f32(3, 4), f32(3, 4)), "BCEWith", "weight", "(3,)", "(3, 4)", "reshape"),
    Bad(
        lambda: xpl.BCEWithLogitsLoss(pos_weight=f32(2, 3))(f32(3), f32(3)),
        "BCEWithLogitsLoss(",
        "pos_weight",
        "(2, 3)",
        "(3,)",
        "reshape pos_weight",
    ),
    Bad(lambda: xpl.CTCLoss()(f32(6), _labels(2), (6,), (2,)), "CTCLoss(", "log_probs", "1-d", "(T, N, C)", "[None"),
    Bad(lambda: xpl.CTCLoss(9)(f32(6, 1, 4), _labels(1, 2), (6,), (2,)), "CTC", "blank", "9", "4 classes", "blank=0"),
    Bad(
        lambda: xpl.CTCLoss()(f32(6, 1, 4), f32(1, 2), (6,), (2,)),
        "CTC",
        "targets",
        "float32",
        "integer",
        "int",
        TypeError,
    ),
    Bad(
        lambda: xpl.CTCLoss()(f32(6, 2, 4), _labels(3, 2), (6, 6), (2, 2)),
        "CTC",
        "targets",
        "(3, 2)",
        "(2, S)",
        "batch",
    ),
    Bad(lambda: xpl.CTCLoss()(f32(6, 1, 4), _labels(1, 2), (7,), (2,)), "CTC", "input_lengths", "7", "over 6", "true"),
    Bad(
        lambda: xpl.CTCLoss()(f32(6, 1, 4), _labels(1, 2), (6,), _labels(2)),
        "CTC",
        "target_lengths",
        "2",
        "1",
        "pass 1",
    ),
    Bad(
        lambda: xpl.AdaptiveLogSoftmaxWithLoss(8, 10, [6, 3]), "Adaptive", "cutoffs", "[6, 3]", "rising", "[100, 1000]"
    ),
    Bad(lambda: xpl.AdaptiveLogSoftmaxWithLoss(8, 10, []), "Adaptive", "cutoffs", "[]", "rising", "cluster begins"),
    Bad(
        lambda: xpl.AdaptiveLogSoftmaxWithLoss(8, 10, [3])(f32(5, 7), _labels(5)), "Adaptive", "x", "7 f", "8 f", "8 f"
    ),
    Bad(
        lambda: xpl.AdaptiveLogSoftmaxWithLoss(8, 10, [3])(f32(5, 8), _labels(4)),
        "Adaptive",
        "target",
        "(4,)",
        "(5,)",
        "batch",
    ),
    Bad(
        lambda: xpl.AdaptiveLogSoftmaxWithLoss(8, 10, [3])(f32(5, 8), f32(5)),
        "AdaptiveLogSoftmaxWithLoss(",
        "target",
        "float32",
        "integer",
        "int64",
        TypeError,
    ),
]


def _called(loss, *inputs):
    loss(*inputs)
    return loss


FAULTS = [
    Fault("loss.reduce", "y * _inverse(norm)", "y", "MSELoss"),
    Fault("loss.share", "dy * (inverse", "1.0 * (inverse", "MSELoss"),
    Fault("loss.share", 'if reduction != "mean":', 'if reduction == "none":', "MSELoss"),
    Fault("loss.sum_of_weights", "accumulator(weight))", "accumulator(weight)) * 2.0", "NLLLoss"),
    Fault("loss._clipped", "clip(d, -float(delta), float(delta))", "sign(d)", "HuberLoss,SmoothL1Loss"),
    Fault("loss._huber", "near * (a - 0.5 * near)", "near * a", "HuberLoss"),
    Fault("loss.mse_loss_backward", "2.0 * d", "d", "MSELoss"),
    Fault("loss.l1_loss_backward", "xp.sign", "xp.abs", "L1Loss"),
    Fault("loss._difference_backward", "d = x - as_floats(target, x)", "d = x - target; d -= 0.5", "MSELoss"),
    Fault("loss.poisson_nll_loss_backward", "t / (x + eps)", "t / x", "PoissonNLLLoss"),
    Fault("loss.gaussian_nll_loss_backward", "1.0 - d * d / v", "1.0 - d / v", "GaussianNLLLoss"),
    Fault("loss.kl_div_backward", "lambda: -target,", "lambda: target,", "KLDivLoss"),
    Fault(
        "binary_loss.binary_cross_entropy_with_logits_backward",
        "- pos_weight * target",
        "- target",
        "BCEWithLogitsLoss",
    ),
    Fault("binary_loss.binary_cross_entropy_forward", "_clamped_log(xp, 1.0 - x)", "_clamped_log(xp, x)", "BCELoss"),
    Fault(
        "binary_loss.multilabel_soft_margin_loss_backward",
        "1.0 / max(x.shape[-1], 1)",
        "1.0",
        "MultiLabelSoftMarginLoss",
    ),
    Fault("binary_loss.soft_margin_loss_backward", "sigmoid(-t * x)", "sigmoid(t * x)", "SoftMarginLoss"),
    Fault("binary_loss.hinge_embedding_loss_backward", "(x <= margin)", "(x <= 1.0)", "HingeEmbeddingLoss"),
    Fault("classification_loss._class_axis", "min(1, x.ndim - 1)", "x.ndim - 1", "CrossEntropyLoss,NLLLoss"),
    Fault("classification_loss._indices", "t != ignore_index", "t != -100", "NLLLoss"),
    Fault("classification_loss._label_weights", "if weight is None", "if True", "NLLLoss"),
    Fault("classification_loss.nll_loss_backward", "-w * _row_shares", "w * _row_shares", "NLLLoss"),
    Fault(
        "classification_loss.cross_entropy_forward",
        "z = x - top",
        "z = xp.astype(x - top, xp.float64)",
        "CrossEntropyLoss",
    ),
    Fault(
        "classification_loss.cross_entropy_backward", "add_along(dx, index, -dlabel, axis)", "dx", "CrossEntropyLoss"
    ),
    Fault("classification_loss.cross_entropy_backward", "drow * spread", "0.0", "CrossEntropyLoss"),
    Fault("classification_loss.cross_entropy_backward", "/ sum_exp) - q)", ") - q)", "CrossEntropyLoss"),
    Fault(
        "classification_loss.cross_entropy_backward",
        "dx = dtarget = dweight = None",
        "x -= top; dx = None",
        "CrossEntropyLoss",
    ),
    Fault("linear_loss._sum_pieces", "out = out + ", "out = ", "LinearCrossEntropyLoss"),
    Fault(
        "classification_loss.multi_margin_loss_backward", "-total(d, axis", "-0.5 * total(d, axis", "MultiMarginLoss"
    ),
    Fault("classification_loss._label_pairs", "xp.where(listed, t, -1)", "t", "MultiLabelMarginLoss"),
    Fault("classification_loss.multilabel_margin_loss_backward", "- at_labels", "", "MultiLabelMarginLoss"),
    Fault(
        "ranking_loss.margin_ranking_loss_backward",
        "-t * sloped, lambda: t",
        "-t * sloped, lambda: -t",
        "MarginRankingLoss",
    ),
    Fault(
        "ranking_loss.cosine_embedding_loss_backward",
        "cos * input2 / square2",
        "cos * input2 / square1",
        "CosineEmbeddingLoss",
    ),
    Fault(
        "ranking_loss.triplet_margin_with_distance_loss_backward",
        "dpositive + dpositive2",
        "dpositive",
        "TripletMarginLoss",
    ),
    Fault("ctc.ctc_loss_forward", "into + emitted[t, ...], alpha)", "into + emitted[t, ...], into)", "CTCLoss"),
    Fault("ctc.ctc_loss_backward", "_shifted(skips, -2, False)", "skips", "CTCLoss"),
    Fault("ctc.ctc_loss_backward", "_per_label(s, lengths) if", "s if", "CTCLoss"),
    Fault("layers.loss.MarginRankingLoss.backward", "[:2]", "[:2][::-1]", "MarginRankingLoss"),
    Fault(
        "layers.classification_loss.LinearCrossEntropyLoss.backward",
        "weight=dweight",
        "weight=2.0 * dweight",
        "LinearCrossEntropyLoss",
    ),
    Fault(
        "layers.adaptive_loss.AdaptiveLogSoftmaxWithLoss.backward",
        "d if doutput is None else d - doutput",
        "d if doutput is None else d + doutput",
        "AdaptiveLogSoftmaxWithLoss",
    ),
    Fault(
        "layers.adaptive_loss.AdaptiveLogSoftmaxWithLoss._head_target",
        "self.shortlist_size - 1 + place",
        "self.shortlist_size",
        "AdaptiveLogSoftmaxWithLoss",
    ),
]

_NUMPY = {"numpy": "left to the agnostic code"}
TWINS = [
    *(
        Function("cross_entropy", {"x": shape, "target": target}, kwargs)
        for shape, target, kwargs in (
            ((7, 5), integers((7,), 5), {}),
            ((90, 1003), integers((90,), 1003), {"reduction": "sum"}),
            ((7, 5), integers((7,), 5), {"reduction": "none", "ignore_index": 3}),
            ((1, 1), integers((1,), 1), {}),
            (floats(6, 9, scale=1e3), integers((6,), 9), {"ignore_index": 2}),
            ((300, 701), integers((300,), 701), {"ignore_index": 7}),
            ((1100, 1003), integers((1100,), 1003), {"ignore_index": 7}),
            ((2, 5, 7), integers((2, 7), 5), {}),
            ((3, 11, 40, 41), integers((3, 40, 41), 11), {"ignore_index": 4}),
            ((2, 1, 3, 4, 3), integers((2, 3, 4, 3), 1), {"reduction": "sum"}),
            (floats(2, 6, 9, 40, scale=1e3), integers((2, 9, 40), 6), {"reduction": "none", "ignore_index": 2}),
            ((1, 7, 300, 301), integers((1, 300, 301), 7), {"ignore_index": 4}),
        )
    ),
    *(
        Function("nll_loss", {"x": shape, "target": target, "weight": weight}, kwargs, skip=_NUMPY)
        for shape, target, weight, kwargs in (
            ((7, 5), integers((7,), 5), None, {}),
            ((90, 33), integers((90,), 33), positive(33), {"ignore_index": 3}),
            ((7, 5), integers((7,), 5), positive(5), {"reduction": "none"}),
            ((3, 11, 40, 41), integers((3, 40, 41), 11), positive(11), {"ignore_index": 4}),
            ((2, 5, 7), integers((2, 7), 5), None, {"reduction": "sum"}),
        )
    ),
    *(
        Function(name, {"x": shape}, {"dim": dim})
        for name in ("softmax", "log_softmax")
        for shape, dim in (((7, 5), 1), ((3, 4, 33), -1), ((200, 701), 1), ((9,), 0), (floats(5, 17, scale=1e3), 1))
    ),
    *(
        Function(name, {"x": shape}, {"dim": dim}, skip={"numba": "along the last axis only"})
        for name in ("softmax", "log_softmax")
        for shape, dim in (
            ((7, 5), 0),
            ((2, 3, 4, 5), 1),
            ((5, 4, 3), None),
            ((2, 9, 300, 81), -3),
            (floats(3, 17, 9, scale=1e3), 1),
        )
    ),
    *(
        Function(name, {"x": shape, "target": shape}, {**kwargs, "reduction": reduction}, skip=skip)
        for name, options, skip in (
            ("mse_loss", ({}, {}, {}), {}),
            ("l1_loss", ({}, {}, {}), _NUMPY),
            ("huber_loss", ({}, {"delta": 0.3}, {"delta": 2.5}), {}),
            ("smooth_l1_loss", ({}, {"beta": 0.3}, {"beta": 2.5}), {}),
        )
        for kwargs, shape, reduction in zip(
            options, ((7, 5), (300, 301), (3, 4, 9)), ("mean", "sum", "none"), strict=True
        )
    ),
    *(
        Function(name, {"x": draw(*shape), "target": probabilities(*shape)}, {"reduction": reduction}, skip=skip)
        for name, draw, skip in (
            ("binary_cross_entropy", probabilities, _NUMPY),
            ("binary_cross_entropy_with_logits", floats, {}),
            ("kl_div", floats, {}),
        )
        for shape, reduction in (((7, 5), "mean"), ((300, 301), "sum"), ((3, 4, 9), "none"))
    ),
    Function("l1_loss", {"x": values([0.0, 1.0, -1.0]), "target": values([0.0, 0.0, 0.0])}, skip=_NUMPY),
    Function(
        "binary_cross_entropy",
        {"x": values([0.0, 1.0, 1.0, 0.0, 0.5]), "target": values([0.0, 1.0, 0.0, 1.0, 1.0])},
        skip=_NUMPY,
    ),
    Function("binary_cross_entropy_with_logits", {"x": floats(5, 7, scale=60.0), "target": probabilities(5, 7)}),
    Function("kl_div", {"x": (3, 3), "target": values(np.eye(3))}, {"reduction": "batchmean"}),
]
