"""The softmax over so many classes that the rare ones are looked up in two steps."""

import itertools
from typing import Any, NamedTuple

from xplayers import functional as F
from xplayers.arrays import Array, array_namespace, is_integer, mean, size
from xplayers.errors import refusal

from .container import ModuleList, Sequential
from .layer import Layer, add_gradients, record
from .linear import Linear
from .tape import Tape

__all__ = ["AdaptiveLogSoftmaxWithLoss"]


class AdaptiveAnswer(NamedTuple):
    """What `AdaptiveLogSoftmaxWithLoss` gives: the target's log-probability of each row, and the loss."""

    output: Array
    loss: Array


class AdaptiveLogSoftmaxWithLoss(Layer):
    """The softmax over many classes, the frequent ones in a head, the others in clusters that the head points to.

    log p(c) = log_softmax(head(x))[c] for c under cutoffs[0]; in cluster i it is
    log_softmax(head(x))[cutoffs[0] + i] + log_softmax(tail_i(x))[c - cutoffs[i]], each tail two Linear layers with
    in_features // div_value^(i + 1) features between. x (N, in) or (in,), target (N,) or () of labels -> output (N,) or
    () of log-probabilities, and loss (), minus their mean; classes are sorted by frequency. `backward()` takes 1 for
    the loss, `backward((doutput, dloss))` both. Every row goes through every tail: no shape depends on a label.
    Twin: torch.nn.AdaptiveLogSoftmaxWithLoss.
    Source: Grave et al., Efficient softmax approximation for GPUs (2016).
    """

    is_loss = True

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Any,
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        rising = all(a < b for a, b in itertools.pairwise([0, *cutoffs, n_classes]))
        if not cutoffs or not rising or any(int(c) != c for c in cutoffs):
            raise refusal(
                f"AdaptiveLogSoftmaxWithLoss({in_features}, {n_classes})",
                "cutoffs",
                repr(cutoffs),
                f"rising integers from 1 to {n_classes - 1}",
                "pass cutoffs as [100, 1000], each where a cluster begins",
            )
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size, self.n_clusters = cutoffs[0], len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        where: dict[str, Any] = {"device": device, "dtype": dtype, "xp": xp, "rng": rng}
        self.head = Linear(in_features, self.head_size, head_bias, **where)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(itertools.pairwise(self.cutoffs)):
            hidden = int(in_features // div_value ** (i + 1))
            self.tail.append(
                Sequential(Linear(in_features, hidden, False, **where), Linear(hidden, high - low, False, **where))
            )

    def describe(self) -> str:
        return f"{self.in_features}, {self.n_classes}, cutoffs={self.cutoffs[:-1]}, div_value={self.div_value}"

    def _head_target(self, target: Array) -> Array:
        """The label's place in the head: itself, or its cluster's; out of range for a label that is."""
        xp = array_namespace(target)
        place = xp.zeros_like(target)
        for low in self.cutoffs[:-1]:
            place = place + xp.astype(target >= low, target.dtype)
        place = xp.where(place > 0, self.shortlist_size - 1 + place, target)
        return xp.where((target < 0) | (target >= self.n_classes), self.head_size, place)

    def forward(self, x: Array, target: Array, *, tape: Tape | None = None) -> AdaptiveAnswer:
        self._refuse_no_array(target, "target", optional=False)
        if not is_integer(target):
            raise self.refusal("target", f"dtype {target.dtype}", "integer labels", "cast target to int64", TypeError)
        shapes = f"(N, {self.in_features}) or ({self.in_features},)"
        self._refuse_no_array(x, "x", optional=False)
        self.expect_rank(x, (1, 2), shapes)
        self.expect_size(x, -1, self.in_features, "features", f"pass x with {self.in_features} features")
        if target.shape != x.shape[:-1]:
            expected = f"shape {tuple(x.shape[:-1])}, one label a row of x"
            raise self.refusal("target", f"shape {tuple(target.shape)}", expected, "pass x and target of one batch")
        xp = array_namespace(x, target)
        loss, cache = F.cross_entropy_forward(
            self.head.forward(x, tape=tape), self._head_target(target), reduction="none"
        )
        caches = [cache]
        for cluster, low, high in zip(self.tail, self.cutoffs, self.cutoffs[1:], strict=False):
            inside = (target >= low) & (target < high)
            label = xp.where(inside, target - low, -100)  # rows of other clusters cost nothing here
            own, cache = F.cross_entropy_forward(cluster.forward(x, tape=tape), label, reduction="none")
            loss = loss + own
            caches.append(cache)
        loss = xp.asarray(loss)
        record(tape, self, (tuple(caches), loss))
        return AdaptiveAnswer(xp.asarray(-loss), xp.asarray(mean(loss)))

    def backward(self, dy: Any = None, *, tape: Tape) -> Array:
        caches, loss = tape.pop(self)
        doutput, dloss = (None, 1.0) if dy is None else dy
        d = array_namespace(loss).zeros_like(loss)  # by the loss of each row
        d = d if dloss is None else d + dloss * (1.0 / max(size(loss), 1))
        d = d if doutput is None else d - doutput
        undone = []
        for layer, cache in reversed(list(zip((self.head, *self.tail), caches, strict=True))):
            dlogits, _, _ = F.cross_entropy_backward(d, cache, wanted=(True, False, False))
            undone.append(layer.backward(dlogits, tape=tape))
        return add_gradients(*undone)

    def log_prob(self, x: Array) -> Array:
        """x (N, in) -> the log-probabilities of all classes, (N, n_classes)."""
        xp = array_namespace(x)
        head = F.log_softmax(self.head.forward(x, tape=None), 1)
        parts = [head[:, : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            pointer = head[:, self.shortlist_size + i : self.shortlist_size + i + 1]
            parts.append(pointer + F.log_softmax(cluster.forward(x, tape=None), 1))
        return xp.concat(parts, axis=1)

    def predict(self, x: Array) -> Array:
        """x (N, in) -> the most probable class of each row, (N,)."""
        return array_namespace(x).argmax(self.log_prob(x), axis=1)
