"""The twins of the normalisations: signatures, what is claimed, and the two kinds of rows, around the sums of a means.

Batch, instance and group norm differ in which rows form a set (`sets`, as functional/normalization.py has it), layer
and RMS norm in whether a row is centred. A means gives one forward and one backward for each of the two kinds.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xplayers.arrays import accumulator, array_namespace
from xplayers.functional import normalization as agnostic
from xplayers.functional.pair import wants

from .registry import kernel, worth

__all__ = ["Sums", "register"]


@dataclass(frozen=True)
class Sums:
    """What a means computes, and for which arrays.

    `rows(x, sets, weight, bias, eps, given)` -> y, cache, which ends in mean, variance and the count of a set;
    `trailing(x, shape, weight, bias, eps, centred)` -> y, cache; each backward takes dy, its cache and three booleans.
    `is_plain(x, *others)` says whether the dtypes are its own, x with something in it; shapes are looked at here.
    """

    rows: Callable[..., Any]
    rows_backward: Callable[..., Any]
    trailing: Callable[..., Any]
    trailing_backward: Callable[..., Any]
    is_plain: Callable[..., bool]
    least: int = 0  # elements of x that are worth it
    shortest: int = 1  # elements of a row of instance and group norm
    shortest_batch: int = 1  # elements of a row of batch norm
    shortest_trailing: int = 1  # elements of a row of layer and RMS norm


def register(library: str, means: str, sums: Sums, rule_of_sets: str, rule_of_rows: str) -> None:
    """Registers the twins of batch, instance, group, layer and RMS norm."""

    def of_channels(x: Any, shortest: int, *others: Any) -> bool:
        """Whether x is (N, C, *) with rows long enough, and the others are (C,)."""
        return (
            x.ndim > 1
            and sums.is_plain(x, *others)
            and math.prod(x.shape[2:]) >= shortest
            and all(t is None or t.shape == x.shape[1:2] for t in others)
        )

    def five(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        want_x, _, _, want_weight, want_bias = wants(wanted, 5)
        dx, dweight, dbias = sums.rows_backward(dy, cache, want_x, want_weight, want_bias)
        return dx, None, None, dweight, dbias

    def three(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        return sums.rows_backward(dy, cache, *wants(wanted, 3))

    def batch_supports(x: Any, mean: Any, var: Any, weight: Any, bias: Any, training: bool, *rest: Any) -> bool:
        if training:
            return of_channels(x, sums.shortest_batch, weight, bias) and x.size > x.shape[1]
        given = mean is not None and var is not None
        return given and of_channels(x, sums.shortest_batch, weight, bias, mean, var)

    @kernel(library, agnostic.batch_norm_forward, five, batch_supports, means=means, rule=rule_of_sets)
    def batch_norm_forward(x: Any, *given: Any) -> Any:
        """A set is a channel of all samples."""
        if not worth(x.size, sums.least) or not batch_supports(x, *given):
            return NotImplemented
        mean, var, weight, bias, training, _, eps = given
        return sums.rows(x, (x.shape[0], x.shape[1], 1), weight, bias, eps, None if training else (mean, var))

    def instance_supports(x: Any, mean: Any, var: Any, weight: Any, bias: Any, input_stats: bool, *rest: Any) -> bool:
        return input_stats and of_channels(x, max(2, sums.shortest), weight, bias)

    @kernel(library, agnostic.instance_norm_forward, five, instance_supports, means=means, rule=rule_of_sets)
    def instance_norm_forward(x: Any, *given: Any) -> Any:
        """A set is a channel of a sample: a row."""
        if not worth(x.size, sums.least) or not instance_supports(x, *given):
            return NotImplemented
        _, _, weight, bias, *_, eps = given
        return sums.rows(x, (1, x.shape[0] * x.shape[1], 1), weight, bias, eps, None)

    def group_supports(x: Any, num_groups: int, weight: Any, bias: Any, eps: float) -> bool:
        return (
            of_channels(x, sums.shortest, weight, bias)
            and num_groups >= 1
            and x.shape[1] % num_groups == 0
            and x.size > num_groups
        )

    @kernel(library, agnostic.group_norm_forward, three, group_supports, means=means, rule=rule_of_sets)
    def group_norm_forward(x: Any, num_groups: int, weight: Any, bias: Any, eps: float) -> Any:
        """A set is a group of neighbouring rows of a sample."""
        if not worth(x.size, sums.least) or not group_supports(x, num_groups, weight, bias, eps):
            return NotImplemented
        return sums.rows(x, (1, x.shape[0] * num_groups, x.shape[1] // num_groups), weight, bias, eps, None)

    def layer_supports(x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: Any) -> bool:
        shape = tuple(normalized_shape)
        return (
            bool(shape)
            and tuple(x.shape[-len(shape) :]) == shape
            and sums.is_plain(x, weight, bias)
            and math.prod(shape) >= sums.shortest_trailing
            and all(t is None or tuple(t.shape) == shape for t in (weight, bias))
        )

    def layer_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        return sums.trailing_backward(dy, cache, *wants(wanted, 3))

    @kernel(library, agnostic.layer_norm_forward, layer_backward, layer_supports, means=means, rule=rule_of_rows)
    def layer_norm_forward(x: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float) -> Any:
        """Rows around their means."""
        if not worth(x.size, sums.least) or not layer_supports(x, normalized_shape, weight, bias, eps):
            return NotImplemented
        return sums.trailing(x, tuple(normalized_shape), weight, bias, eps, True)

    def rms_supports(x: Any, normalized_shape: Any, weight: Any, eps: float | None) -> bool:
        return layer_supports(x, normalized_shape, weight, None, eps)

    def rms_backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        want_x, want_weight = wants(wanted, 2)
        return sums.trailing_backward(dy, cache, want_x, want_weight, False)[:2]

    @kernel(library, agnostic.rms_norm_forward, rms_backward, rms_supports, means=means, rule=rule_of_rows)
    def rms_norm_forward(x: Any, normalized_shape: Any, weight: Any, eps: float | None) -> Any:
        """Rows as they are."""
        if not worth(x.size, sums.least) or not rms_supports(x, normalized_shape, weight, eps):
            return NotImplemented
        if eps is None:
            eps = float(array_namespace(x).finfo(accumulator(x)).eps)
        return sums.trailing(x, tuple(normalized_shape), weight, None, eps, False)
