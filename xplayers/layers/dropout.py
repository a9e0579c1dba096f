"""Dropout. `inplace` is accepted and has no effect: arrays that are given are never written to."""

from typing import Any, ClassVar

from xplayers import functional as F
from xplayers.arrays import Array

from .activation import expect_mask
from .layer import Layer, record
from .tape import Tape

__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]


class Dropout(Layer):
    """Leaves out elements at random, in training. See `functional.dropout_forward`.

    The mask is drawn from `rng`, a NumPy Generator or a Key (the package's own generator where it is None), or given
    to the call as `mask=`: what is kept, boolean or 0 and 1.
    """

    function: ClassVar[str] = "dropout"
    shapes: ClassVar[dict[int, str]] = {}  # the ranks that x may have, and how they are written; none: any

    def __init__(self, p: float = 0.5, inplace: bool = False, *, rng: Any = None) -> None:
        super().__init__(rng=rng)
        self.p = p
        if not 0 <= p <= 1:
            mend = f"write {type(self).__name__}(p=0.5) to leave out one half"
            raise self.refusal("p", repr(p), "a probability, 0 <= p <= 1", mend)

    def describe(self) -> str:
        return f"p={self.p!r}"

    def check(self, x: Array) -> None:
        """Refuses what the function cannot take."""
        self.expect_floating(x)
        if self.shapes:
            self.expect_rank(x, tuple(self.shapes), " or ".join(self.shapes.values()))

    def forward(self, x: Array, *, mask: Array | None = None, tape: Tape | None = None) -> Array:
        self.check(x)
        expect_mask(self, x, mask)
        forward = getattr(F, f"{self.function}_forward")
        y, cache = forward(x, self.p, self.training, mask=mask, rng=self.rng)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        backward = getattr(F, f"{self.function}_backward")
        return backward(dy, cache, wanted=self.wanted(tape))


class Dropout1d(Dropout):
    """Leaves out channels of series at random, in training. See `functional.dropout1d_forward` and `Dropout`."""

    function = "dropout1d"
    shapes: ClassVar = {3: "(N, C, L)", 2: "(C, L)"}


class Dropout2d(Dropout):
    """Leaves out channels of images at random, in training. See `functional.dropout2d_forward` and `Dropout`."""

    function = "dropout2d"
    shapes: ClassVar = {4: "(N, C, H, W)", 3: "(N, C, L)"}


class Dropout3d(Dropout):
    """Leaves out channels of volumes at random, in training. See `functional.dropout3d_forward` and `Dropout`."""

    function = "dropout3d"
    shapes: ClassVar = {5: "(N, C, D, H, W)", 4: "(C, D, H, W)"}


class AlphaDropout(Dropout):
    """Sets elements to SELU's limit at random, in training. See `functional.alpha_dropout_forward` and `Dropout`."""

    function = "alpha_dropout"


class FeatureAlphaDropout(Dropout):
    """`AlphaDropout` of whole channels. See `functional.feature_alpha_dropout_forward` and `Dropout`."""

    function = "feature_alpha_dropout"

    def check(self, x: Array) -> None:
        super().check(x)
        if x.ndim < 2:
            raise self.refusal(
                "x", f"shape {x.shape}, {x.ndim}-d", "shape (N, C, *)", "use AlphaDropout, or add the axis"
            )
