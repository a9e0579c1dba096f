"""Affine maps, and the layers that only change shapes."""

from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array, array_namespace, fan_in_bound, host_uniform
from xplayers.errors import refusal

from .layer import UNSET, Layer, gradient_alias, is_whole, record
from .tape import Tape

__all__ = ["Affine", "Dense", "Flatten", "Identity", "Linear", "Unflatten"]


class Affine(Layer):
    """y = x W^T + b. See `functional.linear_forward`. Twin: torch.nn.Linear.

    `Affine()` takes its sizes from `weight` and `bias` as they are assigned. Gradients also as `dw`, `db`.
    """

    dw = gradient_alias("weight")
    db = gradient_alias("bias")

    def __init__(
        self,
        in_features: int | None = None,
        out_features: int | None = None,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        if in_features is None or out_features is None:
            if in_features is not None or out_features is not None:
                raise refusal(
                    f"{type(self).__name__}({in_features}, {out_features})",
                    "out_features" if out_features is None else "in_features",
                    "None",
                    "both sizes, or neither",
                    "pass both, or build the layer without sizes and assign weight and bias",
                )
            self.parameter("weight", UNSET)
            self.parameter("bias", UNSET if bias else None)
            return
        for name, size in (("in_features", in_features), ("out_features", out_features)):
            if not is_whole(size) or size < 0:  # also what numpy.prod gives
                raise refusal(
                    f"{type(self).__name__}({in_features}, {out_features})",
                    name,
                    repr(size),
                    "a non-negative integer",
                    f"pass {name} as an int, as in Affine(4, 5)",
                )
        bound = fan_in_bound(in_features)
        self.parameter("weight", host_uniform(rng, (out_features, in_features), bound))
        self.parameter("bias", host_uniform(rng, (out_features,), bound) if bias else None)

    @property
    def in_features(self) -> int | None:
        return None if self.weight is UNSET else self.weight.shape[-1]

    @property
    def out_features(self) -> int | None:
        return None if self.weight is UNSET else self.weight.shape[0]

    def describe(self) -> str:
        return f"{self.in_features}, {self.out_features}" + (", bias=False" if self.bias is None else "")

    def door(self, *args: Any, **named: Any) -> None:
        super().door(*args, **named)
        weight, bias = self.weight, self.bias
        if weight.ndim != 2:
            mend = "assign layer.weight of shape (out_features, in_features)"
            raise self.refusal("weight", f"shape {weight.shape}, {weight.ndim}-d", "shape (out, in)", mend)
        if bias is not None and bias.shape != weight.shape[:1]:
            out = weight.shape[0]
            mend = f"assign layer.bias of shape ({out},), or None to leave it out"
            raise self.refusal("bias", f"shape {bias.shape}", f"shape ({out},), one number a row of weight", mend)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        if x.ndim == 0:
            raise self.refusal("x", "a 0-d array", f"shape (*, {self.in_features})", "pass x[None]")
        if x.shape[-1] != self.weight.shape[-1]:
            other = f"{type(self).__name__}({x.shape[-1]}, {self.out_features})"
            mend = f"pass x with {self.in_features} features, or build {other}"
            self.expect_size(x, -1, self.weight.shape[-1], "features", mend)
        y, cache = F.linear_forward(x, self.weight, self.bias)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        dx, dweight, dbias = F.linear_backward(dy, cache, wanted=self.wanted(tape, "weight", "bias"))
        self.accumulate(weight=dweight, bias=dbias)
        return dx


class Linear(Affine):
    """`Affine` under torch's name."""


class Dense(Layer):
    """y = flatten(x) W + b, the book's affine layer: W (in, out), b (out,), an N-d x is flattened and dx restored.

    The book prints no numbers; compared with torch's `x.flatten(1) @ W + b`. Gradients also as `dW`, `db`.
    """

    dW = gradient_alias("W")
    db = gradient_alias("b")

    def __init__(self, W: Array, b: Array) -> None:
        super().__init__()
        self.parameter("W", UNSET)
        self.parameter("b", UNSET)
        self.W = W
        self.b = b

    def describe(self) -> str:
        return ", ".join(map(str, self.W.shape)) if self.W is not UNSET else ""

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        if x.ndim < 2:
            raise self.refusal("x", f"shape {x.shape}", "shape (N, *)", "add the axis of the batch: x[None, ...]")
        flat, shape = F.flatten_forward(x, 1)
        if self.W.ndim != 2 or self.b.shape != self.W.shape[1:]:
            mend = "pass W of shape (in, out) and b of shape (out,), as in Dense(W, b)"
            raise self.refusal("b", f"shapes {self.W.shape} of W and {self.b.shape} of b", "(in, out) and (out,)", mend)
        n_in, n_out = self.W.shape
        mend = f"pass x with {n_in} values a sample, or a W of shape ({flat.shape[1]}, {n_out})"
        self.expect_size(flat, 1, n_in, "values a sample", mend)
        y, cache = F.linear_forward(flat, array_namespace(x).matrix_transpose(self.W), self.b)
        record(tape, self, (shape, cache))
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        shape, cache = tape.pop(self)
        dx, dweight, db = F.linear_backward(dy, cache, wanted=self.wanted(tape, "W", "b"))
        dW = None if dweight is None else array_namespace(dweight).matrix_transpose(dweight)
        self.accumulate(W=dW, b=db)
        return None if dx is None else F.flatten_backward(dx, shape)


class Identity(Layer):
    """y = x. Takes and ignores any arguments, as torch.nn.Identity does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        record(tape, self, ())
        return x

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        tape.pop(self)
        return dy


class Flatten(Layer):
    """Makes one axis of the axes start_dim to end_dim. See `functional.flatten_forward`. Twin: torch.nn.Flatten."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim = start_dim
        self.end_dim = end_dim

    def describe(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        for name, dim in (("start_dim", self.start_dim), ("end_dim", self.end_dim)):
            if not -max(x.ndim, 1) <= dim < max(x.ndim, 1):
                raise self.refusal("x", f"shape {x.shape}, {x.ndim}-d", f"an axis {dim}", f"pass another {name}")
        if x.ndim and self.start_dim % x.ndim > self.end_dim % x.ndim:
            raise self.refusal(
                "start_dim",
                f"{self.start_dim}, behind end_dim {self.end_dim} in shape {x.shape}",
                "start_dim <= end_dim",
                "exchange the two",
            )
        y, cache = F.flatten_forward(x, self.start_dim, self.end_dim)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        return F.flatten_backward(dy, tape.pop(self))


class Unflatten(Layer):
    """Parts one axis into several. See `functional.unflatten_forward`. Twin: torch.nn.Unflatten (axes by number)."""

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        super().__init__()
        if not isinstance(dim, int):
            raise refusal(
                "Unflatten", "dim", repr(dim), "an int: arrays have no named axes", "pass the axis", TypeError
            )
        self.dim = dim
        self.unflattened_size = tuple(unflattened_size)

    def describe(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        if not -x.ndim <= self.dim < x.ndim:
            raise self.refusal("x", f"shape {x.shape}, {x.ndim}-d", f"an axis {self.dim}", "pass another dim")
        sizes, held = self.unflattened_size, x.shape[self.dim]
        known = 1
        for n in sizes:
            known *= n if n != -1 else 1
        if sizes.count(-1) > 1 or (known != held if -1 not in sizes else known == 0 or held % known):
            raise self.refusal(
                "x",
                f"{held} elements on axis {self.dim} of shape {x.shape}",
                f"what unflattened_size {sizes} multiplies to",
                f"build Unflatten({self.dim}, ...) with sizes whose product is {held}",
            )
        y, cache = F.unflatten_forward(x, self.dim, sizes)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        return F.unflatten_backward(dy, tape.pop(self))
