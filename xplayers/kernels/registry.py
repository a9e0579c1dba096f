"""The look-up of twins, its switch, and what it counts.

A kernel file registers a pair: `@kernel("numpy", conv2d_forward, conv2d_backward_twin)`. The forward twin has the
signature of the agnostic one, answers `(y, cache)` with a cache of its own, and returns NotImplemented where it
declines; then the agnostic function answers, and the fall-back is counted.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from xplayers.arrays import Array, leaves
from xplayers.errors import refusal
from xplayers.functional.pair import Maker, find_twin

__all__ = ["kernel", "status", "use_kernels"]

_MODES = ("auto", "off", "require")


@dataclass
class _Twin:
    """A kernel for one function on one library, and how often it answered and declined."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    supports: Callable[..., bool] | None
    answered: int = 0
    declined: int = 0


@dataclass
class _State:
    twins: dict[tuple[str, Any], _Twin] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # means: why it could not be loaded
    mode: str = "auto"


_state = _State()
_scoped = threading.local()


def _mode() -> str:
    return getattr(_scoped, "mode", None) or _state.mode


def kernel(
    library: str,
    reference: Callable[..., Any],
    backward: Callable[..., Any],
    supports: Callable[..., bool] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated forward and `backward` as the twin of `reference` for arrays of `library`.

    `supports(*args, **kwargs)` is the table of what the pair claims: under `require` a forward that declines such a
    call is an error.
    """
    if not hasattr(reference, "reference"):
        raise refusal("kernel", "reference", reference.__name__, "a function marked @accelerable", "mark it so")

    def register(forward: Callable[..., Any]) -> Callable[..., Any]:
        _state.twins[library, reference] = _Twin(f"{library}:{reference.__name__}", forward, backward, supports)
        find_twin.by = _find
        return forward

    return register


def unregister(library: str, reference: Callable[..., Any]) -> None:
    """Takes a twin out again."""
    del _state.twins[library, reference]
    if not _state.twins:
        find_twin.by = None


def _library_of(x: Array) -> str:
    return type(x).__module__.split(".")[0]


def _find(reference: Callable[..., Any], args: tuple, kwargs: dict) -> tuple[Any, Any] | None:
    mode = _mode()
    if mode == "off":
        return None
    first = next(leaves(args), None)
    if first is None:
        first = next(leaves(tuple(kwargs.values())), None)
    twin = _state.twins.get((_library_of(first), reference))
    if twin is None:
        return None
    answer = twin.forward(*args, **kwargs)
    if answer is NotImplemented:
        twin.declined += 1
        if mode == "require" and twin.supports is not None and twin.supports(*args, **kwargs):
            raise RuntimeError(f"kernel {twin.name} declined a call that its table of support claims")
        return None
    twin.answered += 1
    y, cache = answer
    return y, (Maker(twin.backward), *cache)


def _set_mode(mode: str, where: str) -> str:
    if mode not in _MODES:
        raise refusal(where, "mode", repr(mode), f"one of {', '.join(_MODES)}", f'{where}("auto")')
    if mode == "require" and _state.absent:
        why = "; ".join(f"{means}: {reason}" for means, reason in _state.absent.items())
        raise RuntimeError(f"{where}: kernels are required and cannot be loaded: {why}")
    return mode


@contextmanager
def _scope(mode: str) -> Iterator[None]:
    outer = getattr(_scoped, "mode", None)
    _scoped.mode = mode
    try:
        yield
    finally:
        _scoped.mode = outer


def use_kernels(mode: str = "auto") -> Any:
    """`with use_kernels("off"):` the agnostic code alone; "auto": what is there; "require": an error where one lacks.

    In this thread. The environment's XPLAYERS_KERNELS sets it for the whole process.
    """
    return _scope(_set_mode(mode, "use_kernels"))


def status() -> dict[str, Any]:
    """The mode, every kernel with how often it answered and declined, and why a means is absent."""
    return {
        "mode": _mode(),
        "kernels": {t.name: {"answered": t.answered, "declined": t.declined} for t in _state.twins.values()},
        "absent": dict(_state.absent),
    }


_state.mode = _set_mode(os.environ.get("XPLAYERS_KERNELS", "auto"), "XPLAYERS_KERNELS")
