"""The base of the losses, and those that compare a number with a number or one thing with another."""

from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array, is_array

from .layer import Layer, record
from .tape import Tape

__all__ = [
    "CosineEmbeddingLoss",
    "GaussianNLLLoss",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "MarginRankingLoss",
    "PoissonNLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]


class Loss(Layer):
    """What all losses share. `backward()` gives the gradients of what is not a target; dy None is 1.

    `options` are the constructor's arguments, kept under their names and shown by `repr`.
    """

    is_loss = True
    reductions: tuple[str, ...] = ("none", "mean", "sum")

    def __init__(self, reduction: str = "mean", **options: Any) -> None:
        super().__init__()
        for name, value in options.items():
            setattr(self, name, value)
        self.reduction = reduction
        self._shown = (*options, "reduction")
        if reduction not in self.reductions:
            raise self.refusal(
                "reduction", repr(reduction), f"one of {', '.join(map(repr, self.reductions))}", "pass reduction='mean'"
            )

    def describe(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._shown)

    def weights(self, **weights: Any) -> None:
        """Declares the weights that the constructor was given: buffers, as in torch, and None where there are none."""
        for name, value in weights.items():
            if value is not None and not is_array(value):
                mend = f"pass numpy.asarray({name})"
                raise self.refusal(name, f"a {type(value).__name__}", "an array or None", mend, TypeError)
            self.buffer(name, value)

    def keep(self, tape: Tape | None, pair: tuple[Array, tuple]) -> Array:
        """Puts the cache of a forward's answer on the tape and gives the value."""
        y, cache = pair
        record(tape, self, cache)
        return y

    def kept(self, dy: Array | None, tape: Tape) -> tuple:
        """The cache of the last forward. Without a dy there must have been a mean or a sum."""
        if dy is None and self.reduction == "none":
            mend = "pass it: loss.backward(dy), or build the loss with reduction='mean'"
            raise self.refusal("dy", "None", "the gradient by each of the losses", mend, TypeError)
        return tape.pop(self)

    def wants(self, tape: Tape, inputs: int, others: int) -> tuple[bool, ...]:
        """The `wanted` of a pair whose first `inputs` arrays are inputs and whose `others` are targets and weights."""
        return (*self.wanted(tape, inputs=inputs), *(False,) * others)

    # -- the door --

    def expect_array(self, target: Any, argument: str = "target") -> None:
        self._refuse_no_array(target, argument, optional=False)

    def expect_shape(self, a: Array, shape: tuple[int, ...], argument: str = "target") -> None:
        self.expect_array(a, argument)
        if a.shape != shape:
            mend = f"reshape {argument} to {tuple(shape)}"
            raise self.refusal(argument, f"shape {tuple(a.shape)}", f"shape {tuple(shape)}, that of x", mend)

    def expect_broadcast(self, x: Array, a: Array, argument: str = "target", into_x: bool = False) -> None:
        """That a goes with x; `into_x`: without making it larger."""
        self.expect_array(a, argument)
        pairs = list(zip(reversed(x.shape), reversed(a.shape), strict=False))
        fits = all(m == n or n == 1 or (m == 1 and not into_x) for m, n in pairs)
        if not fits or (into_x and a.ndim > x.ndim):
            mend = f"reshape {argument} to {tuple(x.shape)}"
            expected = f"a shape that broadcasts with that of x, {tuple(x.shape)}"
            raise self.refusal(argument, f"shape {tuple(a.shape)}", expected, mend)

    def expect_class_weights(self, classes: int) -> None:
        """That `weight` has one number a class."""
        weight = self.weight
        if weight is not None and weight.shape != (classes,):
            mend = f"build {type(self).__name__} with {classes} weights, or pass x with {weight.shape[0]} classes"
            raise self.refusal(
                "weight", f"shape {tuple(weight.shape)}", f"shape ({classes},), one weight a class of x", mend
            )

    def expect_positive(self, argument: str, value: float, zero: bool = False) -> None:
        if not isinstance(value, int | float) or not (value >= 0 if zero else value > 0):
            kind = "a number not under 0" if zero else "a positive number"
            raise self.refusal(argument, repr(value), kind, f"pass {argument}=1.0")


class _OfDifference(Loss):
    """A loss of x - target."""

    def check(self, x: Array, target: Array) -> None:
        self.expect_floating(x)
        self.expect_broadcast(x, target)


class MSELoss(_OfDifference):
    """(x - target)^2. See `functional.mse_loss_forward`. Twin: torch.nn.MSELoss."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.check(x, target)
        return self.keep(tape, F.mse_loss_forward(x, target, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.mse_loss_backward(dy, cache, wanted=self.wants(tape, 1, 2))[0]


class L1Loss(_OfDifference):
    """|x - target|. See `functional.l1_loss_forward`. Twin: torch.nn.L1Loss."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.check(x, target)
        return self.keep(tape, F.l1_loss_forward(x, target, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.l1_loss_backward(dy, cache, wanted=self.wants(tape, 1, 2))[0]


class SmoothL1Loss(_OfDifference):
    """A parabola within beta, |x - target| beyond. See `functional.smooth_l1_loss_forward`.

    Twin: torch.nn.SmoothL1Loss.
    """

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction, beta=beta)
        self.expect_positive("beta", beta, zero=True)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.check(x, target)
        return self.keep(tape, F.smooth_l1_loss_forward(x, target, self.reduction, self.beta))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.smooth_l1_loss_backward(dy, cache, wanted=self.wants(tape, 1, 1))[0]


class HuberLoss(_OfDifference):
    """A parabola within delta, a line beyond. See `functional.huber_loss_forward`. Twin: torch.nn.HuberLoss."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction, delta=delta)
        self.expect_positive("delta", delta)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.check(x, target)
        return self.keep(tape, F.huber_loss_forward(x, target, self.reduction, self.delta))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.huber_loss_backward(dy, cache, wanted=self.wants(tape, 1, 2))[0]


class PoissonNLLLoss(Loss):
    """The likelihood of a count. See `functional.poisson_nll_loss_forward`. Twin: torch.nn.PoissonNLLLoss."""

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean") -> None:
        super().__init__(reduction, log_input=log_input, full=full, eps=eps)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        self.expect_broadcast(x, target)
        how = self.log_input, self.full, self.eps, self.reduction
        return self.keep(tape, F.poisson_nll_loss_forward(x, target, *how))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.poisson_nll_loss_backward(dy, cache, wanted=self.wants(tape, 1, 1))[0]


class GaussianNLLLoss(Loss):
    """The likelihood under a normal distribution. See `functional.gaussian_nll_loss_forward`.

    The backward returns (dx, dvar), dvar None where var is a number. Twin: torch.nn.GaussianNLLLoss, which also looks
    for negative values in an array var.
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction, full=full, eps=eps)

    def forward(self, x: Array, target: Array, var: Array | float, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        self.expect_broadcast(x, target)
        if isinstance(var, int | float):
            self.expect_positive("var", var, zero=True)
        else:
            self.expect_array(var, "var")
            apart = [n for m, n in zip(x.shape, var.shape, strict=False) if m != n]
            if var.shape != x.shape[:-1] and (var.ndim != x.ndim or apart not in ([], [1])):
                expected = f"shape {tuple(x.shape)}, that of x, without its last axis or with one axis of size 1"
                raise self.refusal("var", f"shape {tuple(var.shape)}", expected, "reshape var, or pass a number")
        return self.keep(tape, F.gaussian_nll_loss_forward(x, target, var, self.full, self.eps, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> tuple[Array, Array | None]:
        cache = self.kept(dy, tape)
        (want,) = self.wanted(tape)
        dx, _, dvar = F.gaussian_nll_loss_backward(dy, cache, wanted=(want, False, want))
        return dx, dvar


class KLDivLoss(Loss):
    """The divergence of log-probabilities x from a target. See `functional.kl_div_forward`.

    torch warns that its 'mean' is not what the mathematics means; 'batchmean' is. Twin: torch.nn.KLDivLoss.
    """

    reductions = ("none", "mean", "sum", "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, log_target=log_target)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        self.expect_broadcast(x, target)
        self.expect_floating(target, "target")
        return self.keep(tape, F.kl_div_forward(x, target, self.reduction, self.log_target))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.kl_div_backward(dy, cache, wanted=self.wants(tape, 1, 1))[0]


class SoftMarginLoss(Loss):
    """log(1 + e^(-target x)). See `functional.soft_margin_loss_forward`. Twin: torch.nn.SoftMarginLoss."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        self.expect_broadcast(x, target, into_x=True)
        return self.keep(tape, F.soft_margin_loss_forward(x, target, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.soft_margin_loss_backward(dy, cache, wanted=self.wants(tape, 1, 1))[0]


class HingeEmbeddingLoss(Loss):
    """A distance, small for 1 and large for -1. See `functional.hinge_embedding_loss_forward`.

    Twin: torch.nn.HingeEmbeddingLoss.
    """

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        self.expect_broadcast(x, target)
        return self.keep(tape, F.hinge_embedding_loss_forward(x, target, self.margin, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.hinge_embedding_loss_backward(dy, cache, wanted=self.wants(tape, 1, 1))[0]


class _OfSeveral(Loss):
    """A loss of several inputs, whose gradients the backward returns as a tuple."""

    def check(self, **inputs: Array) -> None:
        """That all are floating, of one rank, and of shapes that broadcast with the first."""
        (first, x), *others = inputs.items()
        self.expect_floating(x, first)
        for name, a in others:
            self.expect_array(a, name)
            self.expect_floating(a, name)
            if a.ndim != x.ndim:
                got = f"shape {tuple(a.shape)}, {a.ndim}-d"
                expected = f"{x.ndim} axes, as {first} has with shape {tuple(x.shape)}"
                raise self.refusal(name, got, expected, f"reshape {name} to {tuple(x.shape)}")
            self.expect_broadcast(x, a, name)


class MarginRankingLoss(_OfSeveral):
    """max(-target (input1 - input2) + margin, 0). See `functional.margin_ranking_loss_forward`.

    The backward returns (dinput1, dinput2). Twin: torch.nn.MarginRankingLoss.
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)

    def forward(self, input1: Array, input2: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.check(input1=input1, input2=input2)
        self.expect_broadcast(input1, target)
        if target.ndim != input1.ndim:
            expected = f"{input1.ndim} axes, as the inputs have"
            raise self.refusal("target", f"shape {tuple(target.shape)}", expected, f"reshape to {tuple(input1.shape)}")
        return self.keep(tape, F.margin_ranking_loss_forward(input1, input2, target, self.margin, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> tuple[Array, Array]:
        cache = self.kept(dy, tape)
        return F.margin_ranking_loss_backward(dy, cache, wanted=self.wants(tape, 2, 1))[:2]


class CosineEmbeddingLoss(_OfSeveral):
    """1 - cos for 1, cos - margin for -1. See `functional.cosine_embedding_loss_forward`.

    The backward returns (dinput1, dinput2). Twin: torch.nn.CosineEmbeddingLoss.
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)

    def forward(self, input1: Array, input2: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.expect_rank(input1, (1, 2), "(N, D) or (D,)", "input1")
        self.check(input1=input1, input2=input2)
        self.expect_array(target)
        if target.ndim != input1.ndim - 1 or (target.ndim and target.shape[0] not in (1, input1.shape[0])):
            expected = f"shape {tuple(input1.shape[:-1])}, one 1 or -1 a row"
            raise self.refusal(
                "target", f"shape {tuple(target.shape)}", expected, "pass one target a row of the inputs"
            )
        return self.keep(tape, F.cosine_embedding_loss_forward(input1, input2, target, self.margin, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> tuple[Array, Array]:
        cache = self.kept(dy, tape)
        return F.cosine_embedding_loss_backward(dy, cache, wanted=self.wants(tape, 2, 1))[:2]


class TripletMarginLoss(_OfSeveral):
    """max(|a - p| - |a - n| + margin, 0). See `functional.triplet_margin_loss_forward`.

    The backward returns (danchor, dpositive, dnegative). Twin: torch.nn.TripletMarginLoss.
    """

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, margin=margin, p=p, eps=eps, swap=swap)
        self.expect_positive("margin", margin)

    def forward(self, anchor: Array, positive: Array, negative: Array, *, tape: Tape | None = None) -> Array:
        self.check(anchor=anchor, positive=positive, negative=negative)
        how = self.margin, self.p, self.eps, self.swap, self.reduction
        return self.keep(tape, F.triplet_margin_loss_forward(anchor, positive, negative, *how))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> tuple[Array, Array, Array]:
        cache = self.kept(dy, tape)
        return F.triplet_margin_loss_backward(dy, cache, wanted=self.wants(tape, 3, 0))


class TripletMarginWithDistanceLoss(_OfSeveral):
    """max(d(a, p) - d(a, n) + margin, 0). See `functional.triplet_margin_with_distance_loss_forward`.

    distance_function is a layer of two inputs without parameters, as `PairwiseDistance()`, or a pair of functions
    (forward, backward); None is the Euclidean distance. The backward returns (danchor, dpositive, dnegative).
    Twin: torch.nn.TripletMarginWithDistanceLoss.
    """

    def __init__(
        self, *, distance_function: Any = None, margin: float = 1.0, swap: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, margin=margin, swap=swap)
        self.expect_positive("margin", margin)
        pair = isinstance(distance_function, tuple) and len(distance_function) == 2
        if not (distance_function is None or pair or isinstance(distance_function, Layer)):
            mend = "pass a layer as PairwiseDistance(), or (d_forward, d_backward)"
            got = f"a {type(distance_function).__name__}"
            raise self.refusal("distance_function", got, "a layer or a pair of functions", mend, TypeError)
        self.distance_function = distance_function

    def _pair(self) -> Any:
        layer = self.distance_function
        if not isinstance(layer, Layer):
            return layer

        def forward(a: Array, b: Array) -> tuple[Array, Tape]:
            tape = Tape()
            return layer.forward(a, b, tape=tape), tape

        return forward, lambda dd, tape: layer.backward(dd, tape=tape.copy())

    def forward(self, anchor: Array, positive: Array, negative: Array, *, tape: Tape | None = None) -> Array:
        self.check(anchor=anchor, positive=positive, negative=negative)
        how = {"margin": self.margin, "swap": self.swap, "reduction": self.reduction}
        pair = F.triplet_margin_with_distance_loss_forward(
            anchor, positive, negative, distance_function=self._pair(), **how
        )
        return self.keep(tape, pair)

    def backward(self, dy: Array | None = None, *, tape: Tape) -> tuple[Array, Array, Array]:
        cache = self.kept(dy, tape)
        return F.triplet_margin_with_distance_loss_backward(dy, cache, wanted=self.wants(tape, 3, 0))
