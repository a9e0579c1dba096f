"""Convolution and transposed convolution in one, two and three dimensions, Unfold and Fold."""

import math
from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array, fan_in_bound, host_uniform
from xplayers.errors import refusal
from xplayers.functional.convolution import (
    expect_columns,
    fitting_counts,
    output_sizes,
    padding_pairs,
    window_geometry,
)
from xplayers.functional.padding import checked_pairs
from xplayers.functional.pooling import n_tuple

from .layer import UNSET, Layer, gradient_alias, is_whole, record
from .tape import Tape

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Fold",
    "Unfold",
]

_AXES = {1: "L", 2: "H, W", 3: "D, H, W"}
_MODES = ("zeros", "reflect", "replicate", "circular")


class _Conv(Layer):
    """What a convolution and its transpose share: sizes, initial values, the door."""

    n: int  # how many trailing axes the kernel moves along
    transposed = False

    dw = gradient_alias("weight")
    db = gradient_alias("bias")

    def _build(
        self,
        in_channels: int | None,
        out_channels: int | None,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        bias: bool,
        padding_mode: str,
    ) -> None:
        where = f"{type(self).__name__}({in_channels}, {out_channels}, {kernel_size})"
        given = (in_channels, out_channels, kernel_size)
        for name, size in (("groups", groups), ("in_channels", in_channels), ("out_channels", out_channels)):
            if (size is not None or name == "groups") and not (is_whole(size) and (size or 0) >= 1):
                raise refusal(where, name, repr(size), "an integer of at least 1", f"pass {name}=1")
            if size is not None and size % groups:
                mend = f"pass groups={math.gcd(in_channels or 0, out_channels or 0)} or another {name}"
                raise refusal(where, "groups", f"{groups}", f"a divisor of {name}, {size}", mend)
        if None in given and given != (None,) * 3:
            name = ("in_channels", "out_channels", "kernel_size")[given.index(None)]
            mend = "pass all three, or build the layer without sizes and assign weight and bias"
            raise refusal(where, name, "None", "all sizes, or none", mend)
        if padding_mode not in _MODES[: 1 if self.transposed else None]:
            expected = "'zeros'" if self.transposed else f"one of {_MODES}"
            raise refusal(where, "padding_mode", repr(padding_mode), expected, "pass padding_mode='zeros'")
        self.stride = n_tuple(where, "stride", stride, self.n, 1)
        self.dilation = n_tuple(where, "dilation", dilation, self.n, 1)
        self.padding = padding if isinstance(padding, str) else n_tuple(where, "padding", padding, self.n, 0)
        self.groups = groups
        self.padding_mode = padding_mode
        if in_channels is None or out_channels is None:
            padding_pairs(where, self.padding, (1,) * self.n, self.stride, self.dilation)
            self.parameter("weight", UNSET)
            self.parameter("bias", UNSET if bias else None)
            return
        kernel = n_tuple(where, "kernel_size", kernel_size, self.n, 1)
        padding_pairs(where, self.padding, kernel, self.stride, self.dilation)
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (first, second // groups, *kernel)
        bound = fan_in_bound(math.prod(shape[1:]))
        self.parameter("weight", host_uniform(self.rng, shape, bound))
        self.parameter("bias", host_uniform(self.rng, (out_channels,), bound) if bias else None)

    @property
    def _channels(self) -> tuple[Any, Any]:
        if self.weight is UNSET:
            return None, None
        first, second = self.weight.shape[0], self.weight.shape[1] * self.groups
        return (first, second) if self.transposed else (second, first)

    @property
    def in_channels(self) -> int | None:
        return self._channels[0]

    @property
    def out_channels(self) -> int | None:
        return self._channels[1]

    @property
    def kernel_size(self) -> tuple[int, ...] | None:
        return None if self.weight is UNSET else tuple(self.weight.shape[2:])

    def describe(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        ones, zeros = (1,) * self.n, (0,) * self.n
        usual = {"padding": zeros, "output_padding": zeros, "dilation": ones, "groups": 1, "padding_mode": "zeros"}
        parts += [f"{k}={getattr(self, k)!r}" for k, v in usual.items() if getattr(self, k, v) != v]
        return ", ".join(parts + ["bias=False"] * (self.bias is None))

    def expect_planes(self, x: Array) -> None:
        self.expect_floating(x)
        if self.weight.ndim != self.n + 2:
            expected = f"{self.n + 2}-d, (out, in / groups, *kernel)"
            raise self.refusal("weight", f"shape {self.weight.shape}", expected, "assign a weight of that shape")
        axes, (c, n_out) = _AXES[self.n], self._channels
        self.expect_rank(x, (self.n + 2, self.n + 1), f"(N, {c}, {axes}) or ({c}, {axes})")
        came = x.shape[-self.n - 1]
        if came != c:
            mend = f"pass x with {c} channels, or build {type(self).__name__}({came}, {n_out}, ...)"
            self.expect_size(x, -self.n - 1, c, "channels", mend)


class _Convolution(_Conv):
    def __init__(
        self,
        in_channels: int | None = None,
        out_channels: int | None = None,
        kernel_size: int | tuple[int, ...] | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: int | str | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        self._build(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.expect_planes(x)
        kernel = self.kernel_size
        pairs = padding_pairs(self, self.padding, kernel, self.stride, self.dilation)
        fitting_counts(self, "x", x.shape[-self.n :], kernel, self.stride, pairs, self.dilation)
        padding, rim = self.padding, None
        if self.padding_mode != "zeros":
            pad = tuple(side for pair in reversed(pairs) for side in pair)
            checked_pairs(self, x, pad, self.padding_mode, argument="padding")
            x, rim = F.pad_forward(x, pad, self.padding_mode)
            padding = 0
        forward = getattr(F, f"conv{self.n}d_forward")
        y, cache = forward(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        record(tape, self, (rim, cache))
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        rim, cache = tape.pop(self)
        backward = getattr(F, f"conv{self.n}d_backward")
        dx, dweight, dbias = backward(dy, cache, wanted=self.wanted(tape, "weight", "bias"))
        self.accumulate(weight=dweight, bias=dbias)
        return dx if rim is None or dx is None else F.pad_backward(dx, rim)


class Conv1d(_Convolution):
    """The convolution of x (N, C, L) or (C, L). See `functional.conv1d_forward`. Twin: torch.nn.Conv1d.

    Everything else as in `Conv2d`.
    """

    n = 1


class Conv2d(_Convolution):
    """The convolution of x (N, C, H, W) or (C, H, W). See `functional.conv2d_forward`. Twin: torch.nn.Conv2d.

    `padding_mode` 'reflect', 'replicate' or 'circular' pads by `functional.pad_forward` first. `Conv2d(stride=2)` takes
    its sizes from `weight` and `bias` as they are assigned. Gradients also as `dw`, `db`.
    """

    n = 2


class Conv3d(_Convolution):
    """The convolution of x (N, C, D, H, W) or (C, D, H, W). See `functional.conv3d_forward`. Twin: torch.nn.Conv3d.

    Everything else as in `Conv2d`.
    """

    n = 3


class _ConvTranspose(_Conv):
    transposed = True

    def __init__(
        self,
        in_channels: int | None = None,
        out_channels: int | None = None,
        kernel_size: int | tuple[int, ...] | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        where = f"{type(self).__name__}({in_channels}, {out_channels}, {kernel_size})"
        if isinstance(padding, str):
            raise refusal(where, "padding", repr(padding), "integers", "pass the padding in numbers", TypeError)
        self._build(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        self.output_padding = n_tuple(where, "output_padding", output_padding, self.n, 0)

    def forward(self, x: Array, output_size: Any = None, *, tape: Tape | None = None) -> Array:
        self.expect_planes(x)
        extra, sizes = self.output_padding, x.shape[-self.n :]
        geometry = (self.stride, self.padding, self.dilation)
        if output_size is not None:
            extra = self._extra(sizes, tuple(output_size))
        output_sizes(self, sizes, self.kernel_size, *geometry, extra)
        forward = getattr(F, f"conv_transpose{self.n}d_forward")
        y, cache = forward(x, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)
        record(tape, self, cache)
        return y

    def _extra(self, sizes: tuple[int, ...], output_size: tuple[int, ...]) -> tuple[int, ...]:
        """The output_padding that gives `output_size` (with or without the axes N and C)."""
        geometry = (self.kernel_size, self.stride, self.padding, self.dilation)
        least = output_sizes(self, sizes, *geometry, (0,) * self.n)
        extra = tuple(a - b for a, b in zip(output_size[-self.n :], least, strict=False))
        fits = len(output_size) in (self.n, self.n + 1, self.n + 2) and len(extra) == self.n
        if not fits or any(e not in range(s) for e, s in zip(extra, self.stride, strict=True)):
            most = tuple(a + s - 1 for a, s in zip(least, self.stride, strict=True))
            expected = f"from {least} to {most} for x of sizes {sizes}"
            raise self.refusal("output_size", f"{output_size}", expected, f"pass output_size={least}")
        return extra

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        backward = getattr(F, f"conv_transpose{self.n}d_backward")
        dx, dweight, dbias = backward(dy, cache, wanted=self.wanted(tape, "weight", "bias"))
        self.accumulate(weight=dweight, bias=dbias)
        return dx


class ConvTranspose1d(_ConvTranspose):
    """The transposed convolution of x (N, C, L) or (C, L). See `functional.conv_transpose1d_forward`.

    Twin: torch.nn.ConvTranspose1d. Everything else as in `ConvTranspose2d`.
    """

    n = 1


class ConvTranspose2d(_ConvTranspose):
    """The transposed convolution of x (N, C, H, W) or (C, H, W). See `functional.conv_transpose2d_forward`.

    Twin: torch.nn.ConvTranspose2d. `layer(x, output_size=(H', W'))` chooses the output_padding that gives this size.
    Sizes may be left out and taken from `weight` and `bias`, as in `Conv2d`. Gradients also as `dw`, `db`.
    """

    n = 2


class ConvTranspose3d(_ConvTranspose):
    """The transposed convolution of x (N, C, D, H, W) or (C, D, H, W). See `functional.conv_transpose3d_forward`.

    Twin: torch.nn.ConvTranspose3d. Everything else as in `ConvTranspose2d`.
    """

    n = 3


class Unfold(Layer):
    """The windows of x as columns. See `functional.unfold_forward`. Twin: torch.nn.Unfold."""

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        dilation: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        stride: int | tuple[int, ...] = 1,
    ) -> None:
        super().__init__()
        self._geometry = window_geometry(f"Unfold({kernel_size})", kernel_size, dilation, padding, stride)
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def describe(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.expect_rank(x, (3, 4), "(N, C, H, W) or (C, H, W)")
        fitting_counts(self, "x", x.shape[-2:], *self._geometry)
        y, cache = F.unfold_forward(x, self.kernel_size, self.dilation, self.padding, self.stride)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        return F.unfold_backward(dy, cache, wanted=self.wanted(tape))


class Fold(Layer):
    """Columns added up to what they are windows of. See `functional.fold_forward`. Twin: torch.nn.Fold."""

    def __init__(
        self,
        output_size: int | tuple[int, ...],
        kernel_size: int | tuple[int, ...],
        dilation: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        stride: int | tuple[int, ...] = 1,
    ) -> None:
        super().__init__()
        where = f"Fold({output_size}, {kernel_size})"
        sizes = n_tuple(where, "output_size", output_size, 2, 1)
        self._geometry = window_geometry(where, kernel_size, dilation, padding, stride)
        self._counts = fitting_counts(where, "output_size", sizes, *self._geometry)
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def describe(self) -> str:
        own = f"output_size={self.output_size}, kernel_size={self.kernel_size}"
        return f"{own}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.expect_rank(x, (2, 3), "(N, C * KH * KW, L) or (C * KH * KW, L)")
        expect_columns(self, x, self._geometry[0], self._counts)
        y, cache = F.fold_forward(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        return F.fold_backward(dy, cache, wanted=self.wanted(tape))
