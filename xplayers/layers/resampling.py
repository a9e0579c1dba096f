"""The layers that resample: other sizes, and channels traded for space."""

from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array
from xplayers.errors import refusal
from xplayers.functional.resampling import expect_groups, expect_shuffling, interpolated_sizes

from .layer import Layer, is_whole, record
from .tape import Tape

__all__ = [
    "ChannelShuffle",
    "PixelShuffle",
    "PixelUnshuffle",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
]


class Upsample(Layer):
    """Another size by interpolation. See `functional.interpolate_forward`. Twin: torch.nn.Upsample."""

    def __init__(
        self,
        size: int | tuple[int, ...] | None = None,
        scale_factor: float | tuple[float, ...] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            got = "None, as scale_factor" if size is None else f"{size}, beside scale_factor={scale_factor}"
            mend = "pass size= or scale_factor=, not both"
            raise refusal(f"{type(self).__name__}(mode={mode!r})", "size", got, "one of the two", mend)
        self.size = size
        self.scale_factor = scale_factor
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def describe(self) -> str:
        sizes = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{sizes}, mode={self.mode!r}" + (", align_corners=True" if self.align_corners else "")

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        options = (self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor)
        interpolated_sizes(self, x.shape, *options, False)
        y, cache = F.interpolate_forward(x, *options)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        return F.interpolate_backward(dy, cache, wanted=self.wanted(tape))


class UpsamplingNearest2d(Upsample):
    """`Upsample` of images by the nearest element. Twin: torch.nn.UpsamplingNearest2d."""

    def __init__(
        self, size: int | tuple[int, int] | None = None, scale_factor: float | tuple[float, float] | None = None
    ) -> None:
        super().__init__(size, scale_factor)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.expect_rank(x, (4,), "(N, C, H, W)")
        return super().forward(x, tape=tape)


class UpsamplingBilinear2d(Upsample):
    """`Upsample` of images, bilinear with corners aligned. Twin: torch.nn.UpsamplingBilinear2d."""

    def __init__(
        self, size: int | tuple[int, int] | None = None, scale_factor: float | tuple[float, float] | None = None
    ) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class _PixelShuffling(Layer):
    pair: str
    factor: str  # the name of the argument

    def __init__(self, r: int) -> None:
        super().__init__()
        if not is_whole(r) or r < 1:
            where = f"{type(self).__name__}({r!r})"
            raise refusal(where, self.factor, repr(r), "an integer of at least 1", f"pass {self.factor}=2")
        setattr(self, self.factor, r)

    def describe(self) -> str:
        return f"{self.factor}={getattr(self, self.factor)}"

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        r = getattr(self, self.factor)
        expect_shuffling(self, x.shape, r, self.factor == "upscale_factor")
        y, cache = getattr(F, f"{self.pair}_forward")(x, r)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Any:
        cache = tape.pop(self)
        return getattr(F, f"{self.pair}_backward")(dy, cache, wanted=self.wanted(tape))


class PixelShuffle(_PixelShuffling):
    """Channels made to space. See `functional.pixel_shuffle_forward`. Twin: torch.nn.PixelShuffle."""

    pair, factor = "pixel_shuffle", "upscale_factor"

    def __init__(self, upscale_factor: int) -> None:
        super().__init__(upscale_factor)


class PixelUnshuffle(_PixelShuffling):
    """Space made to channels. See `functional.pixel_unshuffle_forward`. Twin: torch.nn.PixelUnshuffle."""

    pair, factor = "pixel_unshuffle", "downscale_factor"

    def __init__(self, downscale_factor: int) -> None:
        super().__init__(downscale_factor)


class ChannelShuffle(Layer):
    """The channels of all groups dealt in turn. See `functional.channel_shuffle_forward`. Twin: torch.nn's."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        if not is_whole(groups) or groups < 1:
            where = f"ChannelShuffle({groups!r})"
            raise refusal(where, "groups", repr(groups), "an integer of at least 1", "pass groups=2")
        self.groups = groups

    def describe(self) -> str:
        return f"groups={self.groups}"

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        expect_groups(self, x.shape, self.groups)
        y, cache = F.channel_shuffle_forward(x, self.groups)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        return F.channel_shuffle_backward(dy, cache, wanted=self.wanted(tape))
