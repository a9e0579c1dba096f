"""Steps of optimizers as one loop over flat arrays: what the means of all libraries share.

`ways(loops)[the optimizer's change](options, step)` gives the loop, the names of the moments it takes behind x and dx,
and its numbers; None where the options ask for more than the loop does.
"""

import math
from collections.abc import Callable
from typing import Any

from .threads import in_parts, runs

__all__ = ["calls_of", "is_plain", "step_by", "ways"]

_PART = 1 << 20  # numbers that are worth a thread

Way = Callable[[dict, int], tuple[Callable[..., None], tuple[str, ...], tuple[float, ...]] | None]


def ways(adam: Any, sgd: Any, plain_sgd: Any) -> dict[str, Way]:
    """By the name of the optimizer's `change`: a subclass with a change of its own has another."""

    def of_adam(options: dict, step: Any) -> Any:
        if options["amsgrad"] or not isinstance(step, int):  # or counted on the device
            return None
        (beta1, beta2), lr, decay = options["betas"], options["lr"], options["weight_decay"]
        decoupled = options["decoupled_weight_decay"]
        root, rate = 1 / math.sqrt(1 - beta2**step), -lr / (1 - beta1**step)
        averages = beta1, 1 - beta1, beta2, 1 - beta2
        kinds = _sign(options), 0.0 if decoupled else decay, lr * decay if decoupled else 0.0
        return adam, ("exp_avg", "exp_avg_sq"), (*averages, root, options["eps"], rate, *kinds)

    def of_sgd(options: dict, step: int) -> Any:
        lr, momentum, decay = options["lr"], options["momentum"], options["weight_decay"]
        if not momentum:
            return plain_sgd, (), (lr, _sign(options), decay)
        rest = 1.0 if step == 1 else 1 - options["dampening"]  # the first step's buffer is the gradient, undamped
        return sgd, ("momentum_buffer",), (momentum, rest, lr, _sign(options), decay, float(options["nesterov"]))

    return {"Adam.change": of_adam, "SGD.change": of_sgd}


def _sign(options: dict) -> float:
    return -1.0 if options["maximize"] else 1.0


def is_plain(x: Any, dx: Any, state: dict[str, Any]) -> bool:
    """Whether the arrays can be walked flat and written into."""
    dtype = x.dtype
    if dtype.char not in "fd" or dx.dtype != dtype or not dx.flags.c_contiguous:
        return False
    for a in (x, *(v for n, v in state.items() if n != "step")):
        flags = a.flags
        if a.dtype != dtype or not flags.c_contiguous or not getattr(flags, "writeable", True):
            return False
    return True


def calls_of(way: Way, optimizer: Any, items: list, options: dict) -> tuple[list[tuple[Any, list, tuple]], list]:
    """Of each parameter that the way takes: its loop, the arrays for it and its numbers; and the other items."""
    calls: list[tuple[Any, list, tuple]] = []
    left: list = []
    names = set(optimizer.moments(options))
    found, at = None, None  # most parameters of a group are at the same step
    for item in items:
        x, dx, state, *_ = item
        step = state["step"]
        if type(step) is not int or step != at:
            found, at = way(options, step), step
        fresh = step > 1 and not names <= state.keys()
        if found is None or fresh or not is_plain(x, dx, state):
            left.append(item)
            continue
        loop, moments, numbers = found
        calls.append((loop, [x, dx, *(optimizer.moment(state, n, x) for n in moments)], numbers))
    return calls, left


def step_by(
    way: Way, optimizer: Any, items: list, options: dict, gather: Callable[[list], tuple[list, Callable]] | None = None
) -> list:
    """Steps the arrays of all parameters, in runs of about the same work; gives back what the way does not take.

    `gather` may make fewer calls of all, and says what is to be called after them.
    """
    calls, left = calls_of(way, optimizer, items, options)
    calls, scatter = (calls, None) if gather is None else gather(calls)
    parts: list[list] = [[]]
    weight = 0
    kind, before, given = None, None, []  # the numbers in the arrays' dtype, made anew where they change
    for loop, arrays, numbers in calls:
        size = arrays[0].size
        if numbers is not before or arrays[0].dtype.type is not kind:
            kind, before = arrays[0].dtype.type, numbers
            given = [kind(v) for v in numbers]
        flat = [a.reshape(-1) for a in arrays]
        for r in runs(size, _PART) if size > _PART else (slice(0, size),):
            if weight >= _PART:  # small parameters share a part
                parts.append([])
                weight = 0
            parts[-1].append((loop, flat if r.stop - r.start == size else [a[r] for a in flat], given))
            weight += r.stop - r.start

    def work(part: list) -> None:
        for loop, arrays, numbers in part:
            loop(*arrays, *numbers)

    in_parts(work, parts)
    if scatter is not None:
        scatter()
    return left
