"""Activations. `inplace` is accepted where torch has it, and has no effect: what is given is never written to."""

from typing import Any, ClassVar

from xplayers import functional as F
from xplayers.arrays import Array, host_full

from .layer import Layer, is_whole, record
from .tape import Tape

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class _Activation(Layer):
    """One array in, one out, by the pair of the name `function`; `arguments` are what it takes after x.

    They become attributes, which `forward` reads again at each call.
    """

    function: ClassVar[str]

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.arguments = tuple(arguments)
        for name, value in arguments.items():
            setattr(self, name, value)

    def describe(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.arguments)

    def check(self, x: Array) -> None:
        """Refuses what the function cannot take; here, what has no floats."""
        self.expect_floating(x)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.check(x)
        forward = getattr(F, f"{self.function}_forward")
        y, cache = forward(x, **{name: getattr(self, name) for name in self.arguments})
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        backward = getattr(F, f"{self.function}_backward")
        return backward(dy, cache, wanted=self.wanted(tape))


class ReLU(_Activation):
    """max(x, 0). See `functional.relu_forward`."""

    function = "relu"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()


class LeakyReLU(_Activation):
    """x, or negative_slope * x where x is negative. See `functional.leaky_relu_forward`."""

    function = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(negative_slope=negative_slope)


class ReLU6(_Activation):
    """x between 0 and 6. See `functional.relu6_forward`."""

    function = "relu6"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()


class Hardtanh(_Activation):
    """x between two bounds. See `functional.hardtanh_forward`. `min_value`, `max_value` are old names of the bounds."""

    function = "hardtanh"
    min_val: float
    max_val: float

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__(
            min_val=min_val if min_value is None else min_value, max_val=max_val if max_value is None else max_value
        )
        if self.min_val >= self.max_val:
            raise self.refusal("max_val", repr(self.max_val), f"more than min_val {self.min_val!r}", "exchange the two")


class Threshold(_Activation):
    """x, or value where x is not above the threshold. See `functional.threshold_forward`."""

    function = "threshold"

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(threshold=threshold, value=value)


class Hardshrink(_Activation):
    """x, or 0 where |x| is not above lambd. See `functional.hardshrink_forward`."""

    function = "hardshrink"

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)


class Softshrink(_Activation):
    """x moved by lambd towards 0. See `functional.softshrink_forward`."""

    function = "softshrink"

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)
        if lambd < 0:
            raise self.refusal("lambd", repr(lambd), "lambd >= 0", f"pass lambd={-lambd}")


class Hardsigmoid(_Activation):
    """x / 6 + 1 / 2 between 0 and 1. See `functional.hardsigmoid_forward`."""

    function = "hardsigmoid"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()


class Hardswish(_Activation):
    """x times its hard sigmoid. See `functional.hardswish_forward`."""

    function = "hardswish"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()


class Sigmoid(_Activation):
    """1 / (1 + e^-x). See `functional.sigmoid_forward`."""

    function = "sigmoid"


class Tanh(_Activation):
    """tanh(x). See `functional.tanh_forward`."""

    function = "tanh"


class Tanhshrink(_Activation):
    """x - tanh(x). See `functional.tanhshrink_forward`."""

    function = "tanhshrink"


class Softsign(_Activation):
    """x / (1 + |x|). See `functional.softsign_forward`."""

    function = "softsign"


class LogSigmoid(_Activation):
    """The logarithm of the sigmoid. See `functional.logsigmoid_forward`."""

    function = "logsigmoid"


class Softplus(_Activation):
    """log(1 + e^(beta x)) / beta, or x where beta x is above the threshold. See `functional.softplus_forward`."""

    function = "softplus"

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(beta=beta, threshold=threshold)


class SiLU(_Activation):
    """x times its sigmoid. See `functional.silu_forward`."""

    function = "silu"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()


class GELU(_Activation):
    """x times the normal distribution function of x. See `functional.gelu_forward`."""

    function = "gelu"

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(approximate=approximate)
        if approximate not in ("none", "tanh"):
            raise self.refusal("approximate", repr(approximate), '"none" or "tanh"', 'write GELU(approximate="tanh")')


class Mish(_Activation):
    """x times the tanh of its softplus. See `functional.mish_forward`."""

    function = "mish"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()


class GLU(_Activation):
    """The first half of an axis times the sigmoid of the second. See `functional.glu_forward`."""

    function = "glu"
    dim: int

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)

    def check(self, x: Array) -> None:
        super().check(x)
        _expect_axis(self, x, self.dim)
        if x.ndim == 0 or x.shape[self.dim] % 2:
            got = f"shape {x.shape}"
            raise self.refusal(
                "x", got, f"an even length on axis {self.dim}", "pass an axis of two halves, or another dim"
            )


class ELU(_Activation):
    """x, or alpha (e^x - 1) where x is negative. See `functional.elu_forward`."""

    function = "elu"

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha)


class CELU(_Activation):
    """x, or alpha (e^(x / alpha) - 1) where x is negative. See `functional.celu_forward`."""

    function = "celu"

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha)
        if alpha == 0:
            raise self.refusal("alpha", repr(alpha), "a number other than 0", "write CELU(), or ReLU() for its limit")


class SELU(_Activation):
    """The ELU that keeps mean 0 and variance 1. See `functional.selu_forward`."""

    function = "selu"

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()


class PReLU(Layer):
    """x, or weight * x where x is negative. See `functional.prelu_forward`. All weights begin at `init`."""

    weight: Array

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None, *, xp: Any = None
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype)
        self.num_parameters = num_parameters
        self.init = init
        if not is_whole(num_parameters) or num_parameters < 1:
            mend = "write PReLU() for one weight, PReLU(channels) for one a channel"
            raise self.refusal("num_parameters", repr(num_parameters), "a positive integer", mend)
        self.parameter("weight", host_full((num_parameters,), init))

    def describe(self) -> str:
        return f"num_parameters={self.num_parameters}"

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        channels = x.shape[1] if x.ndim > 1 else 1
        if self.num_parameters not in (1, channels):
            got = f"shape {x.shape}, {channels} channels"
            mend = f"build PReLU({channels}), or PReLU() for one weight"
            raise self.refusal("x", got, f"{self.num_parameters} channels on axis 1", mend)
        y, cache = F.prelu_forward(x, self.weight)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        dx, dweight = F.prelu_backward(dy, cache, wanted=self.wanted(tape, "weight"))
        self.accumulate(weight=dweight)
        return dx


class RReLU(Layer):
    """x, or a random multiple of it where x is negative. See `functional.rrelu_forward`.

    In training the slopes are drawn from `rng`, a NumPy Generator or a Key, or given to the call as `mask=`.
    """

    def __init__(
        self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False, *, rng: Any = None
    ) -> None:
        super().__init__(rng=rng)
        self.lower = lower
        self.upper = upper
        if lower > upper:
            raise self.refusal("lower", repr(lower), f"at most upper {upper!r}", "exchange the two")

    def describe(self) -> str:
        return f"lower={self.lower!r}, upper={self.upper!r}"

    def forward(self, x: Array, *, mask: Array | None = None, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        expect_mask(self, x, mask)
        y, cache = F.rrelu_forward(x, self.lower, self.upper, self.training, mask=mask, rng=self.rng)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        return F.rrelu_backward(dy, cache, wanted=self.wanted(tape))


class Softmax(_Activation):
    """e^x / sum(e^x) along the axis dim. See `functional.softmax_forward`."""

    function = "softmax"
    dim: int | None

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)

    def check(self, x: Array) -> None:
        super().check(x)
        _expect_axis(self, x, self.dim)


class LogSoftmax(Softmax):
    """The logarithm of the softmax. See `functional.log_softmax_forward`."""

    function = "log_softmax"


class Softmin(Softmax):
    """The softmax of -x. See `functional.softmin_forward`."""

    function = "softmin"


class Softmax2d(_Activation):
    """The softmax over the channels of images, (N, C, H, W) or (C, H, W). See `functional.softmax_forward`."""

    function = "softmax"

    def __init__(self) -> None:
        super().__init__(dim=-3)

    def describe(self) -> str:
        return ""

    def check(self, x: Array) -> None:
        super().check(x)
        self.expect_rank(x, (3, 4), "(N, C, H, W) or (C, H, W)")


def _expect_axis(layer: Layer, x: Array, dim: int | None) -> None:
    if dim is not None and not -max(x.ndim, 1) <= dim < max(x.ndim, 1):
        raise layer.refusal("x", f"shape {x.shape}, {x.ndim}-d", f"an axis {dim}", "pass another dim, as in dim=-1")


def expect_mask(layer: Layer, x: Array, mask: Array | None) -> None:
    """Refuses a mask that is no array or does not broadcast to x."""
    if mask is None:
        return
    mend = f"pass an array of shape {x.shape}, or one that broadcasts to it"
    if not hasattr(mask, "shape"):
        raise layer.refusal("mask", f"a {type(mask).__name__}", "an array in the library of x", mend, TypeError)
    fits = len(mask.shape) <= x.ndim and all(m in (1, n) for m, n in zip(mask.shape[::-1], x.shape[::-1], strict=False))
    if not fits:
        raise layer.refusal("mask", f"shape {mask.shape}", f"one that broadcasts to x's {x.shape}", mend)
