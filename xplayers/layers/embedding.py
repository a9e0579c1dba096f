"""Look-ups in a table of rows."""

from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array, array_namespace, host_normal
from xplayers.errors import refusal

from .layer import UNSET, Layer, gradient_alias, is_whole, record
from .tape import Tape

__all__ = ["Embedding", "EmbeddingBag"]


class _Table(Layer):
    """The weight, one row an index, and what both layers do with it."""

    dw = gradient_alias("weight")

    def _build(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, given: Any, rng: Any) -> None:
        where = f"{type(self).__name__}({num_embeddings}, {embedding_dim})"
        for name, size in (("num_embeddings", num_embeddings), ("embedding_dim", embedding_dim)):
            if not is_whole(size) or size < 0:
                mend = f"pass {name} as an int, as in {type(self).__name__}(10, 3)"
                raise refusal(where, name, repr(size), "a non-negative integer", mend)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            expected = f"a row of {num_embeddings}"
            mend = f"pass one in [{-num_embeddings}, {num_embeddings})"
            raise refusal(where, "padding_idx", str(padding_idx), expected, mend)
        self.num_embeddings = int(num_embeddings)
        self.embedding_dim = int(embedding_dim)
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        if given is not None:
            self.parameter("weight", UNSET)
            self.weight = given  # settles where it lives
            return
        weight = host_normal(rng, (num_embeddings, embedding_dim))
        if padding_idx is not None:
            weight[padding_idx] = 0.0
        self.parameter("weight", weight)

    @classmethod
    def _rows_of(cls, embeddings: Array) -> tuple[int, int]:
        if getattr(embeddings, "ndim", None) != 2:
            got = f"shape {embeddings.shape}" if hasattr(embeddings, "shape") else f"a {type(embeddings).__name__}"
            mend = "pass an array with one row an index"
            raise refusal(f"{cls.__name__}.from_pretrained", "embeddings", got, "shape (V, D)", mend)
        return tuple(embeddings.shape)

    def describe(self) -> str:
        given = {k: v for k, v in (("padding_idx", self.padding_idx), ("max_norm", self.max_norm)) if v is not None}
        return ", ".join([str(self.num_embeddings), str(self.embedding_dim), *(f"{k}={v}" for k, v in given.items())])

    def _expect_index(self, x: Array, argument: str = "x") -> None:
        xp = array_namespace(x)
        if x.dtype not in (xp.int32, xp.int64):
            name = xp.__name__.rsplit(".", 1)[-1]
            mend = f"pass {name}.astype({argument}, {name}.int64)" if name != "torch" else f"pass {argument}.long()"
            raise self.refusal(argument, f"dtype {x.dtype}", "int32 or int64 indices", mend, TypeError)

    def _keep(self, weight: Array) -> None:
        """Rebinds the weight with the rows that max_norm has scaled down."""
        if self.max_norm is not None:
            self.track(lambda: {"weight": weight})


class Embedding(_Table):
    """y = weight[x]. See `functional.embedding_forward`. Twin: torch.nn.Embedding.

    The weight is drawn from N(0, 1), the row padding_idx is 0. With max_norm a call, also in evaluation, rebinds
    `weight` with the named rows scaled down, where torch writes into it. The backward returns None: x has no gradient.
    `sparse` has no effect. Gradient also as `dw`.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        self._build(num_embeddings, embedding_dim, padding_idx, _weight, rng)
        if _freeze:
            self.freeze("weight")

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Array,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> "Embedding":
        """A layer with `embeddings` (V, D) as its weight, frozen unless freeze=False."""
        sizes = cls._rows_of(embeddings)
        return cls(*sizes, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self._expect_index(x)
        y, cache = F.embedding_forward(
            x, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )
        self._keep(F.embedding_weight(cache))
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> None:
        cache = tape.pop(self)
        _, dweight = F.embedding_backward(dy, cache, wanted=(False, self.wanted(tape, "weight")[1]))
        self.accumulate(weight=dweight)


class EmbeddingBag(_Table):
    """The sum, mean or maximum of the rows of each bag. See `functional.embedding_bag_forward`.

    `layer(x)` with x (B, L), or `layer(x, offsets, per_sample_weights)`. The weight is drawn from N(0, 1), the row
    padding_idx is 0. With max_norm a call rebinds `weight`, as in `Embedding`. The backward returns the gradient of
    per_sample_weights, None where there are none. `sparse` has no effect. Gradient also as `dw`.
    Twin: torch.nn.EmbeddingBag.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Any = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.mode = mode
        self.sparse = sparse
        self.include_last_offset = include_last_offset
        self._build(num_embeddings, embedding_dim, padding_idx, _weight, rng)
        if mode not in ("sum", "mean", "max"):
            raise self.refusal("mode", repr(mode), "'sum', 'mean' or 'max'", "pass one of them")
        if mode == "max" and scale_grad_by_freq:
            raise self.refusal("scale_grad_by_freq", "True with mode='max'", "False", "pass another mode")

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Array,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> "EmbeddingBag":
        """A layer with `embeddings` (V, D) as its weight, frozen unless freeze=False."""
        kwargs: dict[str, Any] = {"include_last_offset": include_last_offset, "padding_idx": padding_idx}
        sizes = cls._rows_of(embeddings)
        layer = cls(*sizes, max_norm, norm_type, scale_grad_by_freq, mode, sparse, embeddings, **kwargs)
        return layer.freeze("weight") if freeze else layer  # type: ignore[return-value]

    def describe(self) -> str:
        return f"{super().describe()}, mode={self.mode!r}"

    def forward(
        self,
        x: Array,
        offsets: Array | None = None,
        per_sample_weights: Array | None = None,
        *,
        tape: Tape | None = None,
    ) -> Array:
        self._check(x, offsets, per_sample_weights)
        y, cache = F.embedding_bag_forward(
            x,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )
        self._keep(F.embedding_bag_weight(cache))
        record(tape, self, (per_sample_weights is not None, cache))
        return y

    def _check(self, x: Array, offsets: Array | None, per_sample_weights: Array | None) -> None:
        self._expect_index(x)
        if x.ndim not in (1, 2):
            raise self.refusal("x", f"shape {x.shape}", "shape (B, L), or (N,) with offsets", "reshape x")
        if x.ndim == 2 and offsets is not None:
            got, mend = f"shape {offsets.shape} with x of shape {x.shape}", "leave offsets out, or flatten x"
            raise self.refusal("offsets", got, "None, as each row of x is a bag", mend)
        if x.ndim == 1 and (offsets is None or offsets.ndim != 1):
            got, mend = (
                "None" if offsets is None else f"shape {offsets.shape}",
                "pass where each bag starts, or x[None]",
            )
            raise self.refusal("offsets", got, "shape (B,), as x has one axis", mend)
        if offsets is not None:
            self._expect_index(offsets, "offsets")
        if per_sample_weights is None:
            return
        name = "per_sample_weights"
        self.expect_floating(per_sample_weights, name)
        if self.mode != "sum":
            raise self.refusal(name, f"an array with mode={self.mode!r}", "None", "build the layer with mode='sum'")
        if per_sample_weights.shape != x.shape:
            got, expected = f"shape {per_sample_weights.shape}", f"shape {x.shape}, that of x"
            raise self.refusal(name, got, expected, "pass one weight an index")

    def backward(self, dy: Array, *, tape: Tape) -> Array | None:
        weighted, cache = tape.pop(self)
        want_samples, want_weight = self.wanted(tape, "weight")
        wanted = (False, want_weight, False, want_samples and weighted)
        _, dweight, _, dsamples = F.embedding_bag_backward(dy, cache, wanted=wanted)
        self.accumulate(weight=dweight)
        return dsamples
