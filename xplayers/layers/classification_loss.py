"""Losses of classes: of one out of several, of yes and no, and of sequences of labels."""

import math
from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array, array_namespace, is_array, is_floating, is_integer
from xplayers.functional import LinearCrossEntropyOptions

from .linear import Linear
from .loss import Loss
from .tape import Tape

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CTCLoss",
    "CrossEntropyLoss",
    "LinearCrossEntropyLoss",
    "LinearCrossEntropyOptions",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "NLLLoss2d",
]


class _Labelled(Loss):
    """A loss of x (N, C, *) or (C,) and integer labels (N, *) or ()."""

    def expect_integers(self, target: Any, shape: tuple[int, ...], argument: str = "target") -> None:
        self.expect_array(target, argument)
        if not is_integer(target):
            name = array_namespace(target).__name__.rsplit(".", 1)[-1]
            mend = f"pass {name}.astype({argument}, {name}.int64)" if name != "torch" else f"pass {argument}.long()"
            if target.ndim == len(shape) + 1:
                mend = f"pass the labels, {name}.argmax({argument}, axis=1)"
            raise self.refusal(argument, f"dtype {target.dtype}", "integer labels", mend, TypeError)

    def check(self, x: Array, target: Array, rank: int | None = None) -> None:
        """x floating and of rank 1 to `rank`, and its target."""
        self.expect_floating(x)
        if x.ndim == 0 or (rank and x.ndim > rank):
            shapes = "(N, C) or (C,)" if rank else "(N, C, *) or (C,)"
            raise self.refusal(
                "x", f"shape {tuple(x.shape)}, {x.ndim}-d", f"shape {shapes}", "put the classes on axis 1"
            )
        self.check_target(x.shape, target)
        self.expect_class_weights(x.shape[min(1, x.ndim - 1)])

    def check_target(self, shape: tuple[int, ...], target: Array) -> None:
        """Integer labels, one a row of an x of that shape."""
        rows = (shape[0], *shape[2:]) if len(shape) > 1 else ()
        self.expect_integers(target, rows)
        if target.shape != rows and not (len(shape) == 1 and target.shape == (1,)):
            expected = f"shape {rows}, one label a row of scores of shape {tuple(shape)}"
            mend = "pass x and target of one batch, the classes of x on axis 1"
            raise self.refusal("target", f"shape {tuple(target.shape)}", expected, mend)


class NLLLoss(_Labelled):
    """-x[label]. See `functional.nll_loss_forward`. Twin: torch.nn.NLLLoss."""

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction, ignore_index=ignore_index)
        self.weights(weight=weight)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.check(x, target)
        return self.keep(tape, F.nll_loss_forward(x, target, self.weight, self.ignore_index, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.nll_loss_backward(dy, cache, wanted=self.wants(tape, 1, 2))[0]


class NLLLoss2d(NLLLoss):
    """`NLLLoss` under torch's old name."""


class CrossEntropyLoss(_Labelled):
    """-log(softmax(x)[label]), or against probabilities. See `functional.cross_entropy_forward`.

    The target's dtype says which: integers are labels, floats are probabilities of x's shape.
    Twin: torch.nn.CrossEntropyLoss.
    """

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction, ignore_index=ignore_index, label_smoothing=label_smoothing)
        self.weights(weight=weight)
        if not 0.0 <= label_smoothing <= 1.0:
            mend = "pass label_smoothing=0.1"
            raise self.refusal("label_smoothing", repr(label_smoothing), "a number from 0 to 1", mend)

    def check_target(self, shape: tuple[int, ...], target: Array) -> None:
        self.expect_array(target)
        if target.shape != shape:
            super().check_target(shape, target)
        elif not is_floating(target):
            mend = "pass probabilities as floats, or labels without the axis of the classes"
            got = f"dtype {target.dtype} in the shape of the scores, {tuple(shape)}"
            raise self.refusal("target", got, "floating probabilities", mend, TypeError)
        elif self.ignore_index is not None and self.ignore_index >= 0:
            mend = "leave ignore_index out, or pass labels"
            raise self.refusal("ignore_index", repr(self.ignore_index), "None, as the target is floating", mend)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.check(x, target)
        how = self.weight, self.ignore_index, self.reduction, self.label_smoothing
        return self.keep(tape, F.cross_entropy_forward(x, target, *how))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.cross_entropy_backward(dy, cache, wanted=self.wants(tape, 1, 2))[0]


class LinearCrossEntropyLoss(CrossEntropyLoss):
    """A Linear and CrossEntropyLoss in one, in pieces where asked for. See `functional.linear_cross_entropy_forward`.

    The parameters are `linear.weight` (C prod(out_features), in) and, with `bias`, `linear.bias`.
    Twin: torch.nn.LinearCrossEntropyLoss.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: LinearCrossEntropyOptions | None = None,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(weight, ignore_index, reduction, label_smoothing)  # type: ignore[arg-type]
        self.in_features, self.num_classes = in_features, num_classes
        self.out_features, self.options = tuple(out_features), options
        self._shown = ("in_features", "num_classes", "out_features", *self._shown)
        self.expect_class_weights(num_classes)
        rows = math.prod(self.out_features) * num_classes
        self.linear = Linear(in_features, rows, bias, device, dtype, xp=xp, rng=rng)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.linear.door(x)
        self.expect_floating(x)
        self.expect_rank(x, (2,) if self.out_features else (1, 2), f"(N, {self.in_features}) or ({self.in_features},)")
        self.expect_size(x, -1, self.in_features, "features", f"pass x with {self.in_features} features")
        self.check_target((*x.shape[:-1], self.num_classes, *self.out_features), target)
        if is_floating(target) and self.ignore_index is not None:
            mend = "leave ignore_index out"
            raise self.refusal("ignore_index", repr(self.ignore_index), "None, as the target is floating", mend)
        xp = array_namespace(x)
        out = (self.num_classes, *self.out_features)
        weight = xp.reshape(self.linear.weight, (*out, self.in_features))
        bias = None if self.linear.bias is None else xp.reshape(self.linear.bias, out)
        pair = F.linear_cross_entropy_forward(
            x,
            weight,
            target,
            linear_bias=bias,
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )
        return self.keep(tape, pair)

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        want_x, want_weight, want_bias = self.linear.wanted(tape, "weight", "bias")
        wanted = want_x, want_weight, False, want_bias, False
        dx, dweight, _, dbias, _ = F.linear_cross_entropy_backward(dy, cache, wanted=wanted)
        rows = self.num_classes * math.prod(self.out_features)
        if dweight is not None:
            dweight = array_namespace(dweight).reshape(dweight, (rows, self.in_features))
        if dbias is not None:
            dbias = array_namespace(dbias).reshape(dbias, (rows,))
        self.linear.accumulate(weight=dweight, bias=dbias)
        return dx


class MultiMarginLoss(_Labelled):
    """A margin between the label and every other class. See `functional.multi_margin_loss_forward`.

    Twin: torch.nn.MultiMarginLoss.
    """

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction, p=p, margin=margin)
        self.weights(weight=weight)
        if p not in (1, 2):
            raise self.refusal("p", repr(p), "1 or 2", "pass p=1")

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.check(x, target, rank=2)
        return self.keep(tape, F.multi_margin_loss_forward(x, target, self.p, self.margin, self.weight, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.multi_margin_loss_backward(dy, cache, wanted=self.wants(tape, 1, 2))[0]


class MultiLabelMarginLoss(_Labelled):
    """A margin between every label and every other class. See `functional.multilabel_margin_loss_forward`.

    Twin: torch.nn.MultiLabelMarginLoss.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.expect_rank(x, (1, 2), "(N, C) or (C,)")
        self.expect_floating(x)
        self.expect_shape(target, x.shape)
        self.expect_integers(target, x.shape)
        return self.keep(tape, F.multilabel_margin_loss_forward(x, target, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.multilabel_margin_loss_backward(dy, cache, wanted=self.wants(tape, 1, 1))[0]


class _Binary(Loss):
    """A loss of x (*) and a target (*) of the same shape, with weights that broadcast into them."""

    def check(self, x: Array, target: Array) -> None:
        self.expect_floating(x)
        self.expect_shape(target, x.shape)
        for name in self._buffers:
            if getattr(self, name) is not None:
                self.expect_broadcast(x, getattr(self, name), name, into_x=True)


class BCELoss(_Binary):
    """-(t log(x) + (1 - t) log(1 - x)). See `functional.binary_cross_entropy_forward`. Twin: torch.nn.BCELoss.

    That x lies in [0, 1] is not looked at: it would wait for the device.
    """

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weights(weight=weight)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.check(x, target)
        self.expect_floating(target, "target")
        return self.keep(tape, F.binary_cross_entropy_forward(x, target, self.weight, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.binary_cross_entropy_backward(dy, cache, wanted=self.wants(tape, 1, 2))[0]


class BCEWithLogitsLoss(_Binary):
    """`BCELoss` of 1 / (1 + e^-x). See `functional.binary_cross_entropy_with_logits_forward`.

    Twin: torch.nn.BCEWithLogitsLoss.
    """

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction)
        self.weights(weight=weight, pos_weight=pos_weight)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        self.check(x, target)
        self.expect_floating(target, "target")
        how = self.weight, self.reduction, self.pos_weight
        return self.keep(tape, F.binary_cross_entropy_with_logits_forward(x, target, *how))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.binary_cross_entropy_with_logits_backward(dy, cache, wanted=self.wants(tape, 1, 3))[0]


class MultiLabelSoftMarginLoss(_Binary):
    """The mean of `BCEWithLogitsLoss` over the classes. See `functional.multilabel_soft_margin_loss_forward`.

    Twin: torch.nn.MultiLabelSoftMarginLoss.
    """

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weights(weight=weight)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> Array:
        if x.ndim == 0:
            raise self.refusal("x", "a 0-d array", "shape (*, C)", "put the classes on the last axis")
        self.check(x, target)
        return self.keep(tape, F.multilabel_soft_margin_loss_forward(x, target, self.weight, self.reduction))

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.multilabel_soft_margin_loss_backward(dy, cache, wanted=self.wants(tape, 1, 2))[0]


class CTCLoss(_Labelled):
    """A sequence of labels without their times. See `functional.ctc_loss_forward`. Twin: torch.nn.CTCLoss.

    The lengths are arrays, or tuples of numbers.
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction, blank=blank, zero_infinity=zero_infinity)

    def forward(
        self, log_probs: Array, targets: Array, input_lengths: Any, target_lengths: Any, *, tape: Tape | None = None
    ) -> Array:
        self.expect_rank(log_probs, (2, 3), "(T, N, C) or (T, C)", "log_probs")
        self.expect_floating(log_probs, "log_probs")
        self.expect_integers(targets, (), "targets")
        self.expect_rank(
            targets, (1, 2) if log_probs.ndim == 3 else (1,), "(N, S) or (sum of target_lengths,)", "targets"
        )
        n = log_probs.shape[1] if log_probs.ndim == 3 else 1
        if targets.ndim == 2 and targets.shape[0] != n:
            got, expected = f"shape {tuple(targets.shape)}", f"shape ({n}, S), one row a sequence of log_probs"
            raise self.refusal("targets", got, expected, "pass log_probs and targets of one batch")
        if not 0 <= self.blank < log_probs.shape[-1]:
            raise self.refusal(
                "blank",
                repr(self.blank),
                f"one of the {log_probs.shape[-1]} classes of log_probs",
                "build CTCLoss(blank=0)",
            )
        for name, lengths in (("input_lengths", input_lengths), ("target_lengths", target_lengths)):
            self._check_lengths(name, lengths, n, log_probs.shape[0] if name == "input_lengths" else None)
        how = self.blank, self.reduction, self.zero_infinity
        return self.keep(tape, F.ctc_loss_forward(log_probs, targets, input_lengths, target_lengths, *how))

    def _check_lengths(self, name: str, lengths: Any, n: int, longest: int | None) -> None:
        if is_array(lengths):
            self.expect_integers(lengths, (), name)
            count, numbers = math.prod(lengths.shape), []
        else:
            numbers = [lengths] if isinstance(lengths, int) else list(lengths)
            count = len(numbers)
        if count != n:
            raise self.refusal(name, f"{count} lengths", f"{n}, one a sequence of log_probs", f"pass {n} lengths")
        if any(not isinstance(v, int) or v < 0 or (longest is not None and v > longest) for v in numbers):
            upper = "" if longest is None else f", none over {longest}, that of log_probs"
            raise self.refusal(name, repr(lengths), f"lengths as ints not under 0{upper}", "pass the true lengths")

    def backward(self, dy: Array | None = None, *, tape: Tape) -> Array:
        cache = self.kept(dy, tape)
        return F.ctc_loss_backward(dy, cache, wanted=self.wants(tape, 1, 3))[0]
