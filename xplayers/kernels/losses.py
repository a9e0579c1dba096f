"""What the twins of losses of a number against a number share: which calls they take, the reduction, the gradients.

The loops over x and target are the means' own. Declined: other dtypes, shapes that differ, weights.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xplayers.functional.loss import kl_div_forward, share
from xplayers.functional.pair import wants

from .registry import kernel, worth

__all__ = ["Loops", "huber_delta", "no_logarithm", "pair", "smooth_beta", "unweighted"]


class Loops(NamedTuple):
    """The loops of a loss over flat arrays; a is its constant.

    Where one `keeps`, they take an array more: the first two write into it, for the others, what both halves need.
    """

    total: Callable[..., float]  # (x, t, a): the sum
    each: Callable[..., None]  # (x, t, y, a): all of them, into y
    by_x: Callable[..., None]  # (x, t, d, s, a): s times the slope, s one number or one each, into d
    by_target: Callable[..., None] | None  # None: by_x of -s
    keeps: bool = False


def pair(
    means: str,
    reference: Any,
    loops: Loops,
    constant: Callable[..., float | None],
    gradients: int,
    *,
    floats: str,
    least: int,
    rule: str,
) -> None:
    """Registers the twin of a loss of x and target that has so many gradients, of which the others are None.

    `constant` takes the arguments after target, without reduction, to a; None where they are declined.
    """
    names = list(inspect.signature(reference).parameters)
    reductions = ("mean", "sum", "none", *(("batchmean",) if reference is kl_div_forward else ()))

    def reading(x: Any, target: Any, *options: Any) -> tuple[str, Any] | None:
        """The reduction and a."""
        if type(x) is not np.ndarray or type(target) is not np.ndarray or x.dtype.char not in floats:
            return None
        if target.dtype != x.dtype or x.shape != target.shape or not x.size:
            return None
        given = dict(zip(names[2:], options, strict=True))
        reduction = given.pop("reduction")
        try:
            a = constant(**given)
        except TypeError:  # a value of another kind: the reference says so
            return None
        return (reduction, x.dtype.type(a)) if a is not None and reduction in reductions else None

    def supports(*given: Any) -> bool:
        return reading(*given) is not None

    def backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        x, t, *known, reduction, norm = cache
        s = share(dy, reduction, norm, x)
        s = np.broadcast_to(np.asarray(s, x.dtype), x.shape) if reduction == "none" else x.dtype.type(s)
        s = np.ascontiguousarray(s).reshape(-1) if reduction == "none" else s
        out: list = [None] * gradients
        for i, want in enumerate(wants(wanted, gradients)[:2]):
            if want:
                out[i] = np.empty(x.shape, x.dtype)
                flat = x.reshape(-1), t.reshape(-1), out[i].reshape(-1)
                if i == 0 or loops.by_target is None:
                    loops.by_x(*flat, -s if i else s, *known)
                else:
                    loops.by_target(*flat, s, *known)
        return tuple(out)

    @kernel("numpy", reference, backward, supports, means=means, rule=rule)
    def forward(x: Any, target: Any, *options: Any) -> Any:
        """One visit of every pair."""
        if type(x) is not np.ndarray or not worth(x.size, least):
            return NotImplemented
        given = reading(x, target, *options)
        if given is None:
            return NotImplemented
        reduction, a = given
        shape, norm = x.shape, x.size
        if reduction == "batchmean":
            reduction, norm = "mean", shape[0] if shape else 1
        x, t = (np.ascontiguousarray(v).reshape(shape) for v in (x, target))
        known = (a, np.empty(x.size, x.dtype)) if loops.keeps else (a,)
        if reduction == "none":
            y = np.empty(shape, x.dtype)
            loops.each(x.reshape(-1), t.reshape(-1), y.reshape(-1), *known)
        else:
            s = loops.total(x.reshape(-1), t.reshape(-1), *known)
            y = np.asarray(s / norm if reduction == "mean" else s).astype(x.dtype)
        return y, (x, t, *known, reduction, norm)


# -- the constants of the losses, None where weights or their sign are declined --


def unweighted(weight: Any = None, pos_weight: Any = None) -> float | None:
    return 0.0 if weight is None and pos_weight is None else None


def huber_delta(delta: float = 1.0, weight: Any = None) -> float | None:
    return delta if weight is None and delta >= 0 else None


def smooth_beta(beta: float = 1.0) -> float | None:
    return beta if beta > 0 else None


def no_logarithm(log_target: bool = False) -> float | None:
    return None if log_target else 0.0
