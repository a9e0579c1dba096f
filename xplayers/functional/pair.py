"""What every pair of functions shares: the shorthand without a cache, the look-up of faster twins, and `wanted`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from xplayers.arrays import unscalar

__all__ = ["Maker", "accelerable", "answer_of", "find_twin", "follows_cache", "wants"]

Forward = Callable[..., tuple[Any, Any]]
Backward = Callable[..., Any]


class find_twin:
    """Where `kernels/` hangs its look-up. It stands here, empty, so that this package never imports the one above it.

    `twins(forward, kind)` gives the twins of a forward for a type of array, None where it is to be asked again;
    `ask(twins, args, kwargs)` the answer of the first that takes the call, or None.
    """

    twins: Callable[[Forward, type], tuple | None] | None = None
    ask: Callable[[tuple, tuple, dict], tuple[Any, Any] | None]


class Maker:
    """First item of a twin's cache: says whose backward undoes it."""

    __slots__ = ("backward",)

    def __init__(self, backward: Backward) -> None:
        self.backward = backward


def accelerable(forward: Forward) -> Forward:
    """Marks a forward that a kernel may answer in its place. The agnostic one stays at `forward.reference`."""
    known: dict[type, tuple | None] = {}  # a type of array: its twins

    @functools.wraps(forward)
    def dispatch(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        kind = type(args[0] if args else next(iter(kwargs.values()), None))
        twins = known.get(kind)
        if twins is None and find_twin.twins is not None:
            twins = known[kind] = find_twin.twins(dispatch, kind)
        if twins:
            answer = find_twin.ask(twins, args, kwargs)
            if answer is not None:
                return answer
        y, cache = forward(*args, **kwargs)
        return unscalar(y), cache

    dispatch.reference, dispatch.known = forward, known  # type: ignore[attr-defined]
    return dispatch


def follows_cache(backward: Backward) -> Backward:
    """Marks the backward of an accelerable forward: it goes where the cache was made."""

    @functools.wraps(backward)
    def dispatch(dy: Any, cache: tuple, **kwargs: Any) -> Any:
        if cache and type(cache[0]) is Maker:
            return cache[0].backward(dy, cache[1:], **kwargs)
        return unscalar(backward(dy, cache, **kwargs))

    dispatch.reference = backward  # type: ignore[attr-defined]
    return dispatch


def answer_of(forward: Forward) -> Callable[..., Any]:
    """The shorthand of a pair: the forward's answer alone, nothing remembered."""

    @functools.wraps(forward)
    def answer(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)[0]

    answer.__name__ = answer.__qualname__ = forward.__name__.removesuffix("_forward")
    answer.__doc__ = f"The answer of `{forward.__name__}` alone: nothing is remembered."
    answer.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    return answer


def wants(wanted: tuple[bool, ...] | None, n: int) -> tuple[bool, ...]:
    """The `wanted` of a backward with n gradients, all of them where it is None."""
    if wanted is None:
        return (True,) * n
    if len(wanted) != n:
        raise ValueError(f"wanted: got {len(wanted)} booleans; expected {n}, one a gradient. Mend: name every gradient")
    return wanted
