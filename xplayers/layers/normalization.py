"""Normalisation layers. Running statistics are rebound, never written to."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array, array_namespace, host_full
from xplayers.errors import refusal

from .layer import UNSET, Layer, gradient_alias, is_whole, record
from .tape import Tape

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
    "SyncBatchNorm",
]


class _ChannelNorm(Layer):
    """Weight, bias and running statistics, one value a channel, and how the latter are tracked."""

    _ranks: tuple[int, ...] = ()
    _shapes = ""
    _defaults: Mapping[str, Any] = {}

    dw = gradient_alias("weight")
    db = gradient_alias("bias")

    def _build(
        self, num_features: Any, eps: float, momentum: Any, affine: bool, track_running_stats: bool, bias: bool
    ) -> None:
        if num_features is not None and (not is_whole(num_features) or num_features < 0):
            raise refusal(
                f"{type(self).__name__}({num_features!r})",
                "num_features",
                repr(num_features),
                "a non-negative integer",
                f"pass the number of channels, as in {type(self).__name__}(3)",
            )
        if not eps > 0:
            where = f"{type(self).__name__}({num_features})"
            raise refusal(where, "eps", repr(eps), "a positive number", "leave eps at its default, 1e-5")
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats

        def filled(value: float) -> Any:
            return UNSET if num_features is None else host_full((num_features,), value)

        self._sizes = num_features
        self.parameter("weight", filled(1.0) if affine else None)
        self.parameter("bias", filled(0.0) if affine and bias else None)
        self.buffer("running_mean", filled(0.0) if track_running_stats else None)
        self.buffer("running_var", filled(1.0) if track_running_stats else None)
        self.buffer("num_batches_tracked", host_full((), 0, int) if track_running_stats else None)

    @property
    def num_features(self) -> int | None:
        arrays = (self.weight, self.bias, self.running_mean)
        return next((a.shape[0] for a in arrays if a is not None and a is not UNSET), self._sizes)

    def _assign(self, name: str, value: Any) -> None:
        """A layer built without sizes takes them from the weight or bias that is assigned."""
        c = self.num_features
        if self._sizes is None and getattr(value, "shape", (c,)) != (c,) and (c is not None or value.ndim != 1):
            mend = "assign one value a channel, or build a new layer"
            raise self.refusal(name, f"shape {value.shape}", f"shape ({'C' if c is None else c},)", mend)
        super()._assign(name, value)
        if name in ("weight", "bias") and value is not None and self.running_mean is UNSET:
            self.put("running_mean", host_full((value.shape[0],), 0.0))
            self.put("running_var", host_full((value.shape[0],), 1.0))

    def describe(self) -> str:
        given = {
            "eps": self.eps,
            "momentum": self.momentum,
            "affine": self.affine,
            "track_running_stats": self.track_running_stats,
            "bias": self.bias is not None or not self.affine,
        }
        return ", ".join([str(self.num_features), *(f"{k}={v}" for k, v in given.items() if v != self._defaults[k])])

    def _check(self, x: Array, axis: int) -> None:
        self.expect_floating(x)
        self.expect_rank(x, self._ranks, self._shapes)
        channels = self.num_features
        if channels is not None and (self.weight is not None or self.running_mean is not None):
            mend = f"pass x with {channels} channels, or build {type(self).__name__}({x.shape[axis]})"
            self.expect_size(x, axis, channels, "channels", mend)

    def _refuse_one_value(self, x: Array, count: int, unit: str) -> None:
        if count == 1:
            raise self.refusal(
                "x",
                f"shape {tuple(x.shape)}, one value {unit}",
                f"more than one value {unit}, as the statistics are those of x",
                "pass a larger batch, or call layer.eval() first",
            )

    def _average(self, mean: Array, var: Array, count: Any, momentum: Any) -> dict[str, Array]:
        """The running statistics moved towards the mean and the unbiased variance."""
        xp = array_namespace(mean)
        if not isinstance(count, int):  # of several processes: nothing is moved where all batches are empty
            momentum = momentum * xp.astype(xp.minimum(count, 1.0), self.running_mean.dtype)
        less = max(count - 1, 1) if isinstance(count, int) else xp.maximum(count - 1.0, 1.0)
        moved = {}
        for name, new in (("running_mean", mean), ("running_var", var * (count / less))):
            held = getattr(self, name)
            new = new if new.dtype == held.dtype else xp.astype(new, held.dtype)
            moved[name] = held + momentum * (new - held)
        return moved


class _BatchNorm(_ChannelNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias. See `functional.batch_norm_forward`.

    In training with the statistics of x, which are also tracked: running = (1 - momentum) running + momentum new, the
    variance unbiased; momentum=None is the mean of all batches so far. In evaluation with the running ones. Without
    `track_running_stats` always with those of x. An empty batch leaves the running ones. Built without sizes, as
    `BatchNorm2d()`, the layer takes them from `weight` and `bias` as they are assigned. Gradients also as `dw`, `db`.
    """

    _defaults: Mapping[str, Any] = {
        "eps": 1e-5,
        "momentum": 0.1,
        "affine": True,
        "track_running_stats": True,
        "bias": True,
    }

    def __init__(
        self,
        num_features: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        self._build(num_features, eps, momentum, affine, track_running_stats, bias)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self._check(x, 1)
        of_x = self.training or self.running_mean is None
        if of_x:
            self._refuse_one_value(x, x.shape[0] * math.prod(x.shape[2:]), "a channel")
        y, cache = F.batch_norm_forward(
            x, self.running_mean, self.running_var, self.weight, self.bias, of_x, 0.0, self.eps
        )
        self._track(cache)
        record(tape, self, cache)
        return y

    def _track(self, cache: tuple) -> None:
        if self.training and self.running_mean is not None and self.track_running_stats:
            self.track(lambda: self._tracked(*F.batch_norm_moments(cache)))

    def _tracked(self, mean: Array, var: Array, count: Any) -> dict[str, Array]:
        batches = self.num_batches_tracked
        moved = {}
        if batches is not None:
            # NumPy's sum of 0-d arrays is no array
            batches = moved["num_batches_tracked"] = array_namespace(mean).asarray(batches + 1)
        if not isinstance(count, int) or count:
            momentum = self.momentum
            if momentum is None:
                momentum = 1.0 / array_namespace(mean).astype(batches, self.running_mean.dtype)
            moved |= self._average(mean, var, count, momentum)
        return moved

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        want_x, want_weight, want_bias = self.wanted(tape, "weight", "bias")
        wanted = (want_x, False, False, want_weight, want_bias)
        dx, _, _, dweight, dbias = F.batch_norm_backward(dy, cache, wanted=wanted)
        self.accumulate(weight=dweight, bias=dbias)
        return dx


class BatchNorm1d(_BatchNorm):
    __doc__ = f"{_BatchNorm.__doc__}\n    x (N, C) or (N, C, L). Twin: torch.nn.BatchNorm1d.\n    "
    _ranks, _shapes = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    __doc__ = f"{_BatchNorm.__doc__}\n    x (N, C, H, W). Twin: torch.nn.BatchNorm2d.\n    "
    _ranks, _shapes = (4,), "(N, C, H, W)"


class BatchNorm3d(_BatchNorm):
    __doc__ = f"{_BatchNorm.__doc__}\n    x (N, C, D, H, W). Twin: torch.nn.BatchNorm3d.\n    "
    _ranks, _shapes = (5,), "(N, C, D, H, W)"


class SyncBatchNorm(_BatchNorm):
    """Batch norm over the batches of several processes. See `functional.sync_batch_norm_forward`.

    x (N, C, *). `reduce` takes an array and gives its sum over all processes; without one the process is alone. All
    processes call forward and backward in the same order. `process_group` has no effect: `reduce` knows who takes part.
    Twin: torch.nn.SyncBatchNorm.
    """

    _ranks, _shapes = tuple(range(2, 9)), "(N, C, *)"

    def __init__(
        self,
        num_features: int | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        reduce: Callable[[Array], Array] | None = None,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias, xp=xp, rng=rng
        )
        self.reduce = reduce

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self._check(x, 1)
        of_x = self.training or self.running_mean is None
        reduce = self.reduce if self.training else None
        if of_x and reduce is None:
            self._refuse_one_value(x, x.shape[0] * math.prod(x.shape[2:]), "a channel")
        y, cache = F.sync_batch_norm_forward(
            x, self.running_mean, self.running_var, self.weight, self.bias, of_x, 0.0, self.eps, reduce=reduce
        )
        self._track(cache)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        want_x, want_weight, want_bias = self.wanted(tape, "weight", "bias")
        wanted = (want_x, False, False, want_weight, want_bias)
        dx, _, _, dweight, dbias = F.sync_batch_norm_backward(dy, cache, wanted=wanted)
        self.accumulate(weight=dweight, bias=dbias)
        return dx


class _InstanceNorm(_ChannelNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, each sample apart. See `functional.instance_norm_forward`.

    With the statistics of x, except in evaluation with `track_running_stats`. What is tracked is the mean over the
    samples, the variance unbiased; momentum=None tracks nothing and batches are not counted, as in torch. num_features
    has no effect without `affine` and `track_running_stats`.
    """

    _defaults: Mapping[str, Any] = {
        "eps": 1e-5,
        "momentum": 0.1,
        "affine": False,
        "track_running_stats": False,
        "bias": True,
    }

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        self._build(num_features, eps, momentum, affine, track_running_stats, bias)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        alone = x.ndim == self._ranks[0]
        self._check(x, 0 if alone else 1)
        batch = x[None, ...] if alone else x  # (N, C, *)
        of_x = self.training or self.running_mean is None
        if of_x:
            self._refuse_one_value(x, math.prod(batch.shape[2:]), "a channel of a sample")
        y, cache = F.instance_norm_forward(
            batch, self.running_mean, self.running_var, self.weight, self.bias, of_x, 0.0, self.eps
        )
        if self.training and self.running_mean is not None and self.momentum and math.prod(x.shape):
            self.track(lambda: self._tracked(batch.shape[:2], *F.instance_norm_moments(cache)))
        record(tape, self, (alone, cache))
        return y[0, ...] if alone else y

    def _tracked(self, shape: tuple[int, ...], mean: Array, var: Array, count: int) -> dict[str, Array]:
        xp = array_namespace(mean)
        mean, var = (xp.mean(xp.reshape(t, shape), axis=0) for t in (mean, var))  # (C,)
        return self._average(mean, var, count, self.momentum)

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        alone, cache = tape.pop(self)
        want_x, want_weight, want_bias = self.wanted(tape, "weight", "bias")
        wanted = (want_x, False, False, want_weight, want_bias)
        dx, _, _, dweight, dbias = F.instance_norm_backward(dy[None, ...] if alone else dy, cache, wanted=wanted)
        self.accumulate(weight=dweight, bias=dbias)
        return dx[0, ...] if alone and dx is not None else dx


class InstanceNorm1d(_InstanceNorm):
    __doc__ = f"{_InstanceNorm.__doc__}\n    x (N, C, L) or (C, L). Twin: torch.nn.InstanceNorm1d.\n    "
    _ranks, _shapes = (2, 3), "(N, C, L) or (C, L)"


class InstanceNorm2d(_InstanceNorm):
    __doc__ = f"{_InstanceNorm.__doc__}\n    x (N, C, H, W) or (C, H, W). Twin: torch.nn.InstanceNorm2d.\n    "
    _ranks, _shapes = (3, 4), "(N, C, H, W) or (C, H, W)"


class InstanceNorm3d(_InstanceNorm):
    __doc__ = f"{_InstanceNorm.__doc__}\n    x (N, C, D, H, W) or (C, D, H, W). Twin: torch.nn.InstanceNorm3d.\n    "
    _ranks, _shapes = (4, 5), "(N, C, D, H, W) or (C, D, H, W)"


class GroupNorm(Layer):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, by groups of channels. See `functional.group_norm_forward`.

    x (N, C, *). Twin: torch.nn.GroupNorm.
    """

    dw = gradient_alias("weight")
    db = gradient_alias("bias")

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        if num_groups < 1 or num_channels % num_groups:
            raise refusal(
                f"GroupNorm({num_groups}, {num_channels})",
                "num_groups",
                f"{num_groups} for {num_channels} channels",
                f"a divisor of {num_channels}",
                f"build GroupNorm(1, {num_channels}) or with another divisor",
            )
        self.num_groups = num_groups
        self.num_channels = num_channels
        self.eps = eps
        self.affine = affine
        self.parameter("weight", host_full((num_channels,), 1.0) if affine else None)
        self.parameter("bias", host_full((num_channels,), 0.0) if affine and bias else None)

    def describe(self) -> str:
        text = f"{self.num_groups}, {self.num_channels}"
        text += f", eps={self.eps}" * (self.eps != 1e-5) + ", affine=False" * (not self.affine)
        return text + ", bias=False" * (self.affine and self.bias is None)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        if x.ndim < 2:
            raise self.refusal("x", f"shape {tuple(x.shape)}", "shape (N, C, *)", "add the axis of the batch: x[None]")
        c = x.shape[1]
        mend = f"pass x with {self.num_channels} channels, or build GroupNorm({self.num_groups}, {c})"
        self.expect_size(x, 1, self.num_channels, "channels", mend)
        if x.shape[0] * (c // self.num_groups) * math.prod(x.shape[2:]) == 1:
            raise self.refusal(
                "x", f"shape {tuple(x.shape)}, one value a group", "more than one value a group", "take fewer groups"
            )
        y, cache = F.group_norm_forward(x, self.num_groups, self.weight, self.bias, self.eps)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        dx, dweight, dbias = F.group_norm_backward(dy, cache, wanted=self.wanted(tape, "weight", "bias"))
        self.accumulate(weight=dweight, bias=dbias)
        return dx


class _TrailingNorm(Layer):
    """The shape that is normalised over, and the check that x ends in it."""

    dw = gradient_alias("weight")

    def _build(self, normalized_shape: Any, eps: float | None, elementwise_affine: bool) -> None:
        sizes = (normalized_shape,) if is_whole(normalized_shape) else tuple(normalized_shape)
        if not sizes or not all(is_whole(n) and n >= 0 for n in sizes):
            raise refusal(
                f"{type(self).__name__}({normalized_shape!r})",
                "normalized_shape",
                repr(normalized_shape),
                "one size or more, non-negative integers",
                f"pass the sizes that x ends in, as in {type(self).__name__}((3, 4))",
            )
        self.normalized_shape = sizes
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.parameter("weight", host_full(sizes, 1.0) if elementwise_affine else None)

    def describe(self) -> str:
        text = f"{self.normalized_shape}, eps={self.eps}"
        return text + ("" if self.elementwise_affine else ", elementwise_affine=False")

    def _check(self, x: Array) -> None:
        self.expect_floating(x)
        sizes = self.normalized_shape
        if tuple(x.shape[-len(sizes) :]) != sizes:
            ends = ", ".join(map(str, sizes))
            ending = tuple(x.shape[-len(sizes) :])
            raise self.refusal(
                "x",
                f"shape {tuple(x.shape)}",
                f"shape (*, {ends})",
                f"pass x that ends in {ends}, or build {type(self).__name__}({ending})",
            )


class LayerNorm(_TrailingNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the trailing axes. See `functional.layer_norm_forward`.

    x (*, *normalized_shape), which may be one int. Twin: torch.nn.LayerNorm.
    """

    db = gradient_alias("bias")

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        self._build(normalized_shape, eps, elementwise_affine)
        self.parameter("bias", host_full(self.normalized_shape, 0.0) if elementwise_affine and bias else None)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self._check(x)
        y, cache = F.layer_norm_forward(x, self.normalized_shape, self.weight, self.bias, self.eps)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        dx, dweight, dbias = F.layer_norm_backward(dy, cache, wanted=self.wanted(tape, "weight", "bias"))
        self.accumulate(weight=dweight, bias=dbias)
        return dx


class RMSNorm(_TrailingNorm):
    """y = x / sqrt(mean(x^2) + eps) * weight over the trailing axes. See `functional.rms_norm_forward`.

    x (*, *normalized_shape), which may be one int. Twin: torch.nn.RMSNorm.
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        xp: Any = None,
        rng: Any = None,
    ) -> None:
        super().__init__(xp=xp, device=device, dtype=dtype, rng=rng)
        self._build(normalized_shape, eps, elementwise_affine)

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self._check(x)
        y, cache = F.rms_norm_forward(x, self.normalized_shape, self.weight, self.eps)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        cache = tape.pop(self)
        dx, dweight = F.rms_norm_backward(dy, cache, wanted=self.wanted(tape, "weight"))
        self.accumulate(weight=dweight)
        return dx


class LocalResponseNorm(Layer):
    """y = x / (k + alpha / size * sum of x^2 over near channels)^beta. See `functional.local_response_norm_forward`.

    x (N, C, *) of 3 axes or more. Twin: torch.nn.LocalResponseNorm.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        if not is_whole(size) or size < 1:
            raise refusal(
                f"LocalResponseNorm({size!r})", "size", repr(size), "a positive integer", "pass LocalResponseNorm(5)"
            )
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def describe(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        self.expect_floating(x)
        if x.ndim < 3:
            raise self.refusal("x", f"shape {tuple(x.shape)}", "shape (N, C, *), 3 axes or more", "pass x[..., None]")
        y, cache = F.local_response_norm_forward(x, self.size, self.alpha, self.beta, self.k)
        record(tape, self, cache)
        return y

    def backward(self, dy: Array, *, tape: Tape) -> Array:
        return F.local_response_norm_backward(dy, tape.pop(self), wanted=(self.wanted(tape)[0],))
