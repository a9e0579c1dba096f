"""Distances of rows, and the bilinear form."""

from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array, fan_in_bound, host_uniform
from xplayers.errors import refusal

from .layer import Layer, gradient_alias, is_whole, record
from .tape import Tape

__all__ = ["Bilinear", "CosineSimilarity", "PairwiseDistance"]


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))


class _OfTwo(Layer):
    """A function of x1 and x2, whose gradients the backward returns as a pair."""

    def _check(self, x1: Array, x2: Array) -> None:
        self.expect_floating(x1, "x1")
        self.expect_floating(x2, "x2")
        if not _broadcasts(x1.shape, x2.shape):
            mend = "pass arrays of one shape, or with axes of size 1"
            got, expected = f"shape {tuple(x2.shape)}", f"a shape that broadcasts against that of x1, {tuple(x1.shape)}"
            raise self.refusal("x2", got, expected, mend)


class CosineSimilarity(_OfTwo):
    """y = sum(x1 x2) / (||x1|| ||x2||) along an axis. See `functional.cosine_similarity_forward`.

    The backward returns (dx1, dx2). Twin: torch.nn.CosineSimilarity.
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim = dim
        self.eps = eps

    def describe(self) -> str:
        return f"dim={self.dim}, eps={self.eps}"

    def forward(self, x1: Array, x2: Array, *, tape: Tape | None = None) -> Array:
        self._check(x1, x2)
        ndim = max(x1.ndim, x2.ndim)
        if not -ndim <= self.dim < ndim:
            mend = "build CosineSimilarity with another dim"
            raise self.refusal("x1", f"shape {tuple(x1.shape)}", f"an axis {self.dim}", mend)
        y, cache = F.cosine_similarity_forward(x1, x2, self.dim, self.eps)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> tuple[Array, Array]:
        cache = tape.pop(self)
        return F.cosine_similarity_backward(dy, cache, wanted=self.wanted(tape, inputs=2))


class PairwiseDistance(_OfTwo):
    """y = ||x1 - x2 + eps||_p along the last axis. See `functional.pairwise_distance_forward`.

    The backward returns (dx1, dx2). Twin: torch.nn.PairwiseDistance.
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm = p
        self.eps = eps
        self.keepdim = keepdim

    def describe(self) -> str:
        return f"p={self.norm}, eps={self.eps}, keepdim={self.keepdim}"

    def forward(self, x1: Array, x2: Array, *, tape: Tape | None = None) -> Array:
        self._check(x1, x2)
        if max(x1.ndim, x2.ndim) == 0:
            raise self.refusal("x1", "a 0-d array", "shape (*, D)", "pass x1[None] and x2[None]")
        y, cache = F.pairwise_distance_forward(x1, x2, self.norm, self.eps, self.keepdim)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> tuple[Array, Array]:
        cache = tape.pop(self)
        return F.pairwise_distance_backward(dy, cache, wanted=self.wanted(tape, inputs=2))


class Bilinear(Layer):
    """y = x1^T W x2 + b. See `functional.bilinear_forward`.

    The backward returns (dinput1, dinput2). Twin: torch.nn.Bilinear.
    """

    dw = gradient_alias("weight")
    db = gradient_alias("bias")

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        sizes = {"in1_features": in1_features, "in2_features": in2_features, "out_features": out_features}
        for name, size in sizes.items():
            if not is_whole(size) or size < (1 if name == "in1_features" else 0):
                where = f"Bilinear({in1_features}, {in2_features}, {out_features})"
                raise refusal(where, name, repr(size), "a positive integer", f"pass {name} as an int")
        self.in1_features = in1_features
        self.in2_features = in2_features
        self.out_features = out_features
        bound = fan_in_bound(in1_features)
        self.parameter("weight", host_uniform(rng, (out_features, in1_features, in2_features), bound))
        self.parameter("bias", host_uniform(rng, (out_features,), bound) if bias else None)

    def describe(self) -> str:
        text = f"{self.in1_features}, {self.in2_features}, {self.out_features}"
        return text + (", bias=False" if self.bias is None else "")

    def forward(self, input1: Array, input2: Array, *, tape: Tape | None = None) -> Array:
        for name, x, size in (("input1", input1, self.in1_features), ("input2", input2, self.in2_features)):
            self.expect_floating(x, name)
            if x.ndim == 0:
                raise self.refusal(name, "a 0-d array", f"shape (*, {size})", f"pass {name}[None]")
            self.expect_size(x, -1, size, "features", f"pass {name} with {size} features", name)
        if input1.shape[:-1] != input2.shape[:-1]:
            got, expected = f"shape {tuple(input2.shape)}", f"the leading axes of input1, {tuple(input1.shape[:-1])}"
            raise self.refusal("input2", got, expected, "pass as many rows in both")
        y, cache = F.bilinear_forward(input1, input2, self.weight, self.bias)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> tuple[Array, Array]:
        cache = tape.pop(self)
        wanted = self.wanted(tape, "weight", "bias", inputs=2)
        dx1, dx2, dweight, dbias = F.bilinear_backward(dy, cache, wanted=wanted)
        self.accumulate(weight=dweight, bias=dbias)
        return dx1, dx2
