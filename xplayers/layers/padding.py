"""The padding layers: constant, reflection, replication and circular, in one, two and three dimensions."""

from xplayers import functional as F
from xplayers.arrays import Array
from xplayers.errors import refusal
from xplayers.functional.padding import checked_pairs

from .layer import Layer, is_whole, record
from .tape import Tape

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]


class _Pad(Layer):
    """`padding`: an int for all sides, or (before, after) of the last axis, then of the one before it, and so on;
    negative numbers take elements away."""

    n: int  # how many trailing axes are padded
    mode: str
    value: float | None = None

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        super().__init__()
        sides = 2 * self.n
        given = (padding,) * sides if is_whole(padding) else padding
        if not isinstance(given, tuple | list) or len(given) != sides or not all(is_whole(side) for side in given):
            expected = f"an integer, or {sides} of them"
            raise refusal(f"{type(self).__name__}({padding!r})", "padding", repr(padding), expected, "pass padding=1")
        self.padding = tuple(given)

    def describe(self) -> str:
        return str(self.padding)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        if self.mode != "constant":
            axes = ("L", "H, W", "D, H, W")[self.n - 1]
            self.expect_rank(x, (self.n + 2, self.n + 1), f"(N, C, {axes}) or (C, {axes})")
        checked_pairs(self, x, self.padding, self.mode, argument="padding")
        y, cache = F.pad_forward(x, self.padding, self.mode, self.value)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        return F.pad_backward(dy, cache, wanted=self.wanted(tape))


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def describe(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ZeroPad(_Pad):
    mode = "constant"


class _ReflectionPad(_Pad):
    mode = "reflect"


class _ReplicationPad(_Pad):
    mode = "replicate"


class _CircularPad(_Pad):
    mode = "circular"


class ConstantPad1d(_ConstantPad):
    """Pads the last axis with `value`. See `functional.pad_forward`. Twin: torch.nn.ConstantPad1d."""

    n = 1


class ConstantPad2d(_ConstantPad):
    """Pads the last two axes with `value`. See `functional.pad_forward`. Twin: torch.nn.ConstantPad2d."""

    n = 2


class ConstantPad3d(_ConstantPad):
    """Pads the last three axes with `value`. See `functional.pad_forward`. Twin: torch.nn.ConstantPad3d."""

    n = 3


class ZeroPad1d(_ZeroPad):
    """Pads the last axis with zeros. See `functional.pad_forward`. Twin: torch.nn.ZeroPad1d."""

    n = 1


class ZeroPad2d(_ZeroPad):
    """Pads the last two axes with zeros. See `functional.pad_forward`. Twin: torch.nn.ZeroPad2d."""

    n = 2


class ZeroPad3d(_ZeroPad):
    """Pads the last three axes with zeros. See `functional.pad_forward`. Twin: torch.nn.ZeroPad3d."""

    n = 3


class ReflectionPad1d(_ReflectionPad):
    """Pads the last axis with its mirror image. See `functional.pad_forward`. Twin: torch.nn.ReflectionPad1d."""

    n = 1


class ReflectionPad2d(_ReflectionPad):
    """Pads the last two axes with their mirrors. See `functional.pad_forward`. Twin: torch.nn.ReflectionPad2d."""

    n = 2


class ReflectionPad3d(_ReflectionPad):
    """Pads the last three axes with their mirrors. See `functional.pad_forward`. Twin: torch.nn.ReflectionPad3d."""

    n = 3


class ReplicationPad1d(_ReplicationPad):
    """Pads the last axis with the edge. See `functional.pad_forward`. Twin: torch.nn.ReplicationPad1d."""

    n = 1


class ReplicationPad2d(_ReplicationPad):
    """Pads the last two axes with the edge. See `functional.pad_forward`. Twin: torch.nn.ReplicationPad2d."""

    n = 2


class ReplicationPad3d(_ReplicationPad):
    """Pads the last three axes with the edge. See `functional.pad_forward`. Twin: torch.nn.ReplicationPad3d."""

    n = 3


class CircularPad1d(_CircularPad):
    """Pads the last axis with the other end. See `functional.pad_forward`. Twin: torch.nn.CircularPad1d."""

    n = 1


class CircularPad2d(_CircularPad):
    """Pads the last two axes with the other end. See `functional.pad_forward`. Twin: torch.nn.CircularPad2d."""

    n = 2


class CircularPad3d(_CircularPad):
    """Pads the last three axes with the other end. See `functional.pad_forward`. Twin: torch.nn.CircularPad3d."""

    n = 3
