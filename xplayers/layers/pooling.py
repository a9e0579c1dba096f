"""The pooling layers: one class a family, three names each."""

from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array, is_floating
from xplayers.errors import refusal
from xplayers.functional.pooling import adaptive_sizes, fractional_sizes, n_tuple, pooling_steps, unpooled_sizes

from .layer import Layer, record
from .tape import Tape

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]

_AXES = {1: "L", 2: "H, W", 3: "D, H, W"}
_ANY = 2**30  # a size that any window fits into: for checks that need no input


class _Pooling(Layer):
    """What all pooling layers share: the check of x, and the call of the pair of `functional` that `pair` names."""

    n: int  # how many trailing axes are pooled
    pair: str

    def arguments(self) -> dict[str, Any]:
        """The arguments of the pair by name."""
        raise NotImplementedError

    def expect_fitting(self, x: Array) -> None:
        """Refuses an x of the right rank that the windows do not fit into."""
        raise NotImplementedError

    def describe(self) -> str:
        return ", ".join(f"{k}={v!r}" for k, v in self.arguments().items())

    def expect_planes(self, x: Array) -> None:
        axes = _AXES[self.n]
        self.expect_floating(x)
        self.expect_rank(x, (self.n + 2, self.n + 1), f"(N, C, {axes}) or (C, {axes})")
        if 0 in x.shape[1:]:
            expected = "at least one channel and one element on each axis"
            raise self.refusal("x", f"shape {x.shape}", expected, "leave the call out where there is nothing to pool")

    def forward(self, x: Array, *, tape: Tape | None = None) -> Any:
        self.expect_planes(x)
        self.expect_fitting(x)
        y, cache = getattr(F, f"{self.pair}_forward")(x, **self.arguments())
        record(tape, self, cache)
        return y

    def backward(self, dy: Any, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        return getattr(F, f"{self.pair}_backward")(dy, cache, wanted=self.wanted(tape))


class _MaxPool(_Pooling):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        where = f"{type(self).__name__}(kernel_size={kernel_size!r})"
        pooling_steps(where, (_ANY,) * self.n, kernel_size, stride, padding, dilation)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode

    def arguments(self) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        return {name: getattr(self, name) for name in names}

    def expect_fitting(self, x: Array) -> None:
        steps = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        pooling_steps(self, x.shape[-self.n :], *steps)


class MaxPool1d(_MaxPool):
    """The maximum of each window. See `functional.max_pool1d_forward`. Twin: torch.nn.MaxPool1d.

    With `return_indices` the answer is `(y, indices)`, and `backward` takes `(dy, None)`.
    """

    n, pair = 1, "max_pool1d"


class MaxPool2d(_MaxPool):
    """The maximum of each window. See `functional.max_pool2d_forward`. Twin: torch.nn.MaxPool2d.

    With `return_indices` the answer is `(y, indices)`, and `backward` takes `(dy, None)`.
    """

    n, pair = 2, "max_pool2d"


class MaxPool3d(_MaxPool):
    """The maximum of each window. See `functional.max_pool3d_forward`. Twin: torch.nn.MaxPool3d.

    With `return_indices` the answer is `(y, indices)`, and `backward` takes `(dy, None)`.
    """

    n, pair = 3, "max_pool3d"


class _AvgPool(_Pooling):
    divisor_override: float | None = None

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        where = f"{type(self).__name__}(kernel_size={kernel_size!r})"
        pooling_steps(where, (_ANY,) * self.n, kernel_size, stride, padding)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def arguments(self) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
        more = {} if self.divisor_override is None else {"divisor_override": self.divisor_override}
        return {name: getattr(self, name) for name in names} | more

    def expect_fitting(self, x: Array) -> None:
        steps = (self.kernel_size, self.stride, self.padding, 1, self.ceil_mode)
        pooling_steps(self, x.shape[-self.n :], *steps)


class _AvgPoolByDivisor(_AvgPool):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        if divisor_override == 0:
            expected = "a number other than 0, or None"
            raise self.refusal("divisor_override", "0", expected, "leave divisor_override out")
        self.divisor_override = divisor_override


class AvgPool1d(_AvgPool):
    """The mean of each window. See `functional.avg_pool1d_forward`. Twin: torch.nn.AvgPool1d."""

    n, pair = 1, "avg_pool1d"


class AvgPool2d(_AvgPoolByDivisor):
    """The mean of each window. See `functional.avg_pool2d_forward`. Twin: torch.nn.AvgPool2d."""

    n, pair = 2, "avg_pool2d"


class AvgPool3d(_AvgPoolByDivisor):
    """The mean of each window. See `functional.avg_pool3d_forward`. Twin: torch.nn.AvgPool3d."""

    n, pair = 3, "avg_pool3d"


class _AdaptivePool(_Pooling):
    def __init__(self, output_size: int | tuple[int | None, ...] | None) -> None:
        super().__init__()
        adaptive_sizes(f"{type(self).__name__}({output_size!r})", (_ANY,) * self.n, output_size)
        self.output_size = output_size

    def arguments(self) -> dict[str, Any]:
        return {"output_size": self.output_size}

    def expect_fitting(self, x: Array) -> None:
        pass  # every input of at least one element an axis does


class AdaptiveAvgPool1d(_AdaptivePool):
    """The means of `output_size` windows. See `functional.adaptive_avg_pool1d_forward`. Twin: torch.nn's."""

    n, pair = 1, "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_AdaptivePool):
    """The means of `output_size` windows. See `functional.adaptive_avg_pool2d_forward`. Twin: torch.nn's."""

    n, pair = 2, "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(_AdaptivePool):
    """The means of `output_size` windows. See `functional.adaptive_avg_pool3d_forward`. Twin: torch.nn's."""

    n, pair = 3, "adaptive_avg_pool3d"


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(self, output_size: int | tuple[int | None, ...] | None, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def arguments(self) -> dict[str, Any]:
        return {"output_size": self.output_size, "return_indices": self.return_indices}


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The maxima of `output_size` windows. See `functional.adaptive_max_pool1d_forward`. Twin: torch.nn's.

    With `return_indices` the answer is `(y, indices)`, and `backward` takes `(dy, None)`.
    """

    n, pair = 1, "adaptive_max_pool1d"


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The maxima of `output_size` windows. See `functional.adaptive_max_pool2d_forward`. Twin: torch.nn's.

    With `return_indices` the answer is `(y, indices)`, and `backward` takes `(dy, None)`.
    """

    n, pair = 2, "adaptive_max_pool2d"


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The maxima of `output_size` windows. See `functional.adaptive_max_pool3d_forward`. Twin: torch.nn's.

    With `return_indices` the answer is `(y, indices)`, and `backward` takes `(dy, None)`.
    """

    n, pair = 3, "adaptive_max_pool3d"


class _FractionalMaxPool(_Pooling):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        output_size: int | tuple[int, ...] | None = None,
        output_ratio: float | tuple[float, ...] | None = None,
        return_indices: bool = False,
        _random_samples: Any = None,
        *,
        rng: Any = None,
    ) -> None:
        super().__init__(rng=rng)
        where = f"{type(self).__name__}(kernel_size={kernel_size!r})"
        fractional_sizes(where, (_ANY,) * self.n, kernel_size, output_size, output_ratio)
        self.kernel_size = kernel_size
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.return_indices = return_indices
        self.buffer("_random_samples", _random_samples)

    def arguments(self) -> dict[str, Any]:
        names = ("kernel_size", "output_size", "output_ratio", "return_indices")
        return {name: getattr(self, name) for name in names}

    def expect_fitting(self, x: Array) -> None:
        fractional_sizes(self, x.shape[-self.n :], self.kernel_size, self.output_size, self.output_ratio)

    def forward(self, x: Array, *, _random_samples: Array | None = None, tape: Tape | None = None) -> Any:
        self.expect_planes(x)
        self.expect_fitting(x)
        u = self._random_samples if _random_samples is None else _random_samples
        batch, channels = (1, *x.shape)[-self.n - 2 : -self.n]
        if u is not None and (u.ndim != 3 or u.shape[1:] != (channels, self.n) or u.shape[0] < batch):
            expected = f"shape ({batch}, {channels}, {self.n})"
            mend = f"pass uniform numbers of {expected}, or leave them out"
            raise self.refusal("_random_samples", f"shape {u.shape}", expected, mend)
        forward = getattr(F, f"{self.pair}_forward")
        y, cache = forward(x, **self.arguments(), _random_samples=u, rng=self.rng)
        record(tape, self, cache)
        return y


class FractionalMaxPool2d(_FractionalMaxPool):
    """The maxima of windows at random steps. See `functional.fractional_max_pool2d_forward`. Twin: torch.nn's.

    The samples are `_random_samples`, of the call or of the constructor, or drawn from `rng` in each call. With
    `return_indices` the answer is `(y, indices)`, and `backward` takes `(dy, None)`.
    """

    n, pair = 2, "fractional_max_pool2d"


class FractionalMaxPool3d(_FractionalMaxPool):
    """The maxima of windows at random steps. See `functional.fractional_max_pool3d_forward`. Twin: torch.nn's.

    The samples are `_random_samples`, of the call or of the constructor, or drawn from `rng` in each call. With
    `return_indices` the answer is `(y, indices)`, and `backward` takes `(dy, None)`.
    """

    n, pair = 3, "fractional_max_pool3d"


class _LPPool(_Pooling):
    def __init__(
        self,
        norm_type: float,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        where = f"{type(self).__name__}({norm_type!r}, kernel_size={kernel_size!r})"
        if norm_type == 0:
            raise refusal(where, "norm_type", "0", "a power other than 0", "pass norm_type=2")
        pooling_steps(where, (_ANY,) * self.n, kernel_size, stride)
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("norm_type", "kernel_size", "stride", "ceil_mode")}

    def expect_fitting(self, x: Array) -> None:
        pooling_steps(self, x.shape[-self.n :], self.kernel_size, self.stride, 0, 1, self.ceil_mode)


class LPPool1d(_LPPool):
    """The p-norm of each window. See `functional.lp_pool1d_forward`. Twin: torch.nn.LPPool1d."""

    n, pair = 1, "lp_pool1d"


class LPPool2d(_LPPool):
    """The p-norm of each window. See `functional.lp_pool2d_forward`. Twin: torch.nn.LPPool2d."""

    n, pair = 2, "lp_pool2d"


class LPPool3d(_LPPool):
    """The p-norm of each window. See `functional.lp_pool3d_forward`. Twin: torch.nn.LPPool3d."""

    n, pair = 3, "lp_pool3d"


class _MaxUnpool(_Pooling):
    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: int | tuple[int, ...] = 0,
    ) -> None:
        super().__init__()
        where = f"{type(self).__name__}(kernel_size={kernel_size!r})"
        self.kernel_size = n_tuple(where, "kernel_size", kernel_size, self.n, 1)
        self.stride = self.kernel_size if stride is None else n_tuple(where, "stride", stride, self.n, 1)
        self.padding = n_tuple(where, "padding", padding, self.n, 0)

    def arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("kernel_size", "stride", "padding")}

    def forward(  # type: ignore[override]
        self, x: Array, indices: Array, output_size: tuple[int, ...] | None = None, *, tape: Tape | None = None
    ) -> Array:
        self.expect_planes(x)
        if is_floating(indices):
            mend = "pass the indices that came with x from max pooling with return_indices=True"
            raise self.refusal("indices", f"dtype {indices.dtype}", "an integer dtype", mend, TypeError)
        unpooled_sizes(self, x, indices, self.n, **self.arguments(), output_size=output_size)
        y, cache = getattr(F, f"{self.pair}_forward")(x, indices, **self.arguments(), output_size=output_size)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        dx, _ = getattr(F, f"{self.pair}_backward")(dy, cache, wanted=(*self.wanted(tape), False))
        return dx


class MaxUnpool1d(_MaxUnpool):
    """Maxima back where they stood, zeros elsewhere. See `functional.max_unpool1d_forward`. Twin: torch.nn's."""

    n, pair = 1, "max_unpool1d"


class MaxUnpool2d(_MaxUnpool):
    """Maxima back where they stood, zeros elsewhere. See `functional.max_unpool2d_forward`. Twin: torch.nn's."""

    n, pair = 2, "max_unpool2d"


class MaxUnpool3d(_MaxUnpool):
    """Maxima back where they stood, zeros elsewhere. See `functional.max_unpool3d_forward`. Twin: torch.nn's."""

    n, pair = 3, "max_unpool3d"
