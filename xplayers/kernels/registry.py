"""The look-up of twins, its switch, and what it counts.

A kernel file registers a pair: `@kernel("numpy", conv2d_forward, conv2d_backward_twin, means="numba")`. The forward
twin has the signature of the agnostic one, answers `(y, cache)` with a cache of its own, and returns NotImplemented
where it declines; then the next means is asked, and at last the agnostic function. Each fall-back is counted.

The means of a library are loaded when its first array is met, never by `import xplayers`.
"""

import importlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from xplayers.arrays import find_product, find_step
from xplayers.errors import refusal
from xplayers.functional.pair import Maker, find_twin

from .calls import as_called
from .cards import lacks_card, lacks_cudnn

__all__ = ["kernel", "precision", "status", "use_kernels", "worth"]

_MODES = ("auto", "off", "require")
_PRECISIONS = ("exact", "torch", "fast")


def _lacks(module: str, mend: str) -> Callable[[], str | None]:
    """A probe that says why a means cannot be loaded: None where it can."""
    return lambda: None if importlib.util.find_spec(module) else f"{module} is not installed. Mend: {mend}"


@dataclass
class _Means:
    """A way to be faster on the arrays of one library: the module that registers its twins, and what it lacks."""

    name: str
    module: str
    lacks: Callable[[], str | None]
    loaded: bool = False


_FAST = 'pip install "xplayers[fast]"'

# The means of each library, the one that is asked first in front.
_MEANS: dict[str, tuple[_Means, ...]] = {
    "numpy": (
        _Means("numba", "xplayers.kernels.on_numba", _lacks("numba", _FAST)),
        _Means("numpy", "xplayers.kernels.on_numpy", lambda: None),
    ),
    "cupy": (
        _Means("cudnn", "xplayers.kernels.on_cudnn", lacks_cudnn),
        _Means("cuda", "xplayers.kernels.on_cuda", lacks_card),
        _Means("cupy", "xplayers.kernels.on_cupy", lacks_card),
    ),
}


@dataclass
class _Twin:
    """A kernel for one function on one library, and how often it answered and declined."""

    name: str
    means: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    supports: Callable[..., bool] | None
    rule: str
    answered: int = 0
    declined: int = 0


@dataclass
class _Update:
    """A kernel for the step of optimizers on one library, and how many parameters it stepped and declined."""

    name: str
    of_library: str
    means: str
    step: Callable[[Any, list, dict], list]
    rule: str
    answered: int = 0
    declined: int = 0


@dataclass
class _Product:
    """A library's products of stacks of matrices, and how often it answered and declined."""

    name: str
    means: str
    product: Callable[[Any, Any], Any]
    rule: str
    answered: int = 0
    declined: int = 0


@dataclass
class _State:
    twins: dict[tuple[str, Any], tuple[_Twin, ...]] = field(default_factory=dict)
    updates: list["_Update"] = field(default_factory=list)
    products: dict[str, _Product] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # means: why it could not be loaded
    mode: str = "auto"
    precision: str = "exact"


class _Scope(threading.local):
    """What `use_kernels` has set in this thread."""

    mode: str | None = None
    precision: str | None = None
    without: tuple[str, ...] = ()


_state = _State()
_scope = _Scope()
_loading = threading.RLock()


def _mode() -> str:
    return _scope.mode or _state.mode


def precision() -> str:
    """How exact kernels are: "exact", as the direct computation, or what `use_kernels` asks for."""
    return _scope.precision or _state.precision


def worth(amount: int, least: int) -> bool:
    """Whether a call of this size is a kernel's: under `require` every one is, so that tests may be small."""
    return amount >= least or _mode() == "require"


def kernel(
    library: str,
    reference: Callable[..., Any],
    backward: Callable[..., Any],
    supports: Callable[..., bool] | None = None,
    *,
    means: str | None = None,
    rule: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated forward and `backward` as the twin of `reference` for arrays of `library`.

    Both `forward` and `supports` are called with every argument of the reference, in its order (see calls.py).
    `supports` is the table of what the pair claims: under `require` a forward that declines such a call is an error.
    `means` names the way ("numba"); the library's own where it is not given. `rule` says in words
    when the twin answers, for `status`.
    """
    if not hasattr(reference, "reference"):
        raise refusal("kernel", "reference", reference.__name__, "a function marked @accelerable", "mark it so")
    way = means or library
    name = f"{library}:{reference.__name__}" if way == library else f"{way}:{reference.__name__}"

    def register(forward: Callable[..., Any]) -> Callable[..., Any]:
        claims = supports and as_called(reference, supports, False)
        twin = _Twin(name, way, as_called(reference, forward, NotImplemented), backward, claims, rule)
        held = (twin, *(t for t in _state.twins.get((library, reference), ()) if t.means != way))
        order = [m.name for m in _MEANS.get(library, ())]
        _state.twins[library, reference] = tuple(
            sorted(held, key=lambda t: order.index(t.means) if t.means in order else -1)
        )
        reference.known.clear()  # type: ignore[attr-defined]
        return forward

    return register


def update(library: str, means: str, rule: str) -> Callable[[Callable[[Any, list, dict], list]], Callable[..., Any]]:
    """Registers the decorated function as a way to step the parameters of an optimizer, all of a group at once.

    It is called with the optimizer, a list of (x, dx, state) and the group's options, writes into x and the state, and
    gives back those that it has left alone.
    """

    def register(step: Callable[[Any, list, dict], list]) -> Callable[..., Any]:
        _state.updates.append(_Update(f"{means}:{step.__name__}", library, means, step, rule))
        order = [m.name for held in _MEANS.values() for m in held]
        _state.updates.sort(key=lambda u: order.index(u.means))
        return step

    return register


def _step(optimizer: Any, items: list, options: dict) -> list:
    """Steps what kernels take of the (x, dx, state), and gives back the others."""
    if _mode() == "off":
        return items
    alike: dict[str, list] = {}
    for item in items:
        alike.setdefault(_library_of(type(item[0])), []).append(item)
    return [item for library, some in alike.items() for item in _step_alike(library, optimizer, some, options)]


def _step_alike(library: str, optimizer: Any, items: list, options: dict) -> list:
    load(library)
    for found in _state.updates:
        if items and found.of_library == library and found.means not in _scope.without:
            left = found.step(optimizer, items, options)
            found.answered += len(items) - len(left)
            found.declined += len(left)
            items = left
    return items


find_step.by = _step


def product(library: str, means: str, rule: str) -> Callable[[Callable[[Any, Any], Any]], Callable[..., Any]]:
    """Registers the decorated function as the product of stacks of matrices; it may answer NotImplemented."""

    def register(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        _state.products[library] = _Product(f"{means}:{function.__name__}", means, function, rule)
        return function

    return register


def _multiply(a: Any, b: Any) -> Any:
    """The product by a kernel, None where it is the library's."""
    if _mode() == "off":
        return None
    found = _state.products.get(_loaded(type(a)))
    if found is None or found.means in _scope.without:
        return None
    y = found.product(a, b)
    if y is NotImplemented:
        found.declined += 1
        return None
    found.answered += 1
    return y


find_product.by = _multiply


def unregister(library: str, reference: Callable[..., Any], means: str | None = None) -> None:
    """Takes a twin out again."""
    left = tuple(t for t in _state.twins[library, reference] if t.means != (means or library))
    _state.twins[library, reference] = left
    reference.known.clear()  # type: ignore[attr-defined]


def load(library: str) -> None:
    """Loads every means of a library that can be loaded, once; notes why one cannot."""
    for means in _MEANS.get(library, ()):
        with _loading:
            if means.loaded:
                continue
            means.loaded = True
            reason = means.lacks()
            if reason is None:
                try:
                    importlib.import_module(means.module)
                except Exception as e:  # a driver or a compiler can fail in any way
                    reason = f"{type(e).__name__}: {e}"
            if reason is not None:
                _state.absent[means.name] = reason


_met: dict[type, str] = {}


def _loaded(kind: type) -> str:
    """The library of a type of array, its means loaded."""
    if kind not in _met:
        library = _library_of(kind)
        load(library)
        _met[kind] = library
    return _met[kind]


def _library_of(kind: type) -> str:
    return kind.__module__ if kind.__module__.startswith("numpy") else kind.__module__.split(".")[0]


def _twins(reference: Callable[..., Any], kind: type) -> tuple[_Twin, ...] | None:
    if _mode() == "off":
        return None
    library = _library_of(kind)
    load(library)
    if _mode() == "require":
        _refuse_absent("a call", library)
    return _state.twins.get((library, reference), ())


def _ask(twins: tuple[_Twin, ...], args: tuple, kwargs: dict) -> tuple[Any, Any] | None:
    mode = _scope.mode or _state.mode
    if mode == "off":
        return None
    for twin in twins:
        if twin.means in _scope.without:
            continue
        answer = twin.forward(*args, **kwargs)
        if answer is not NotImplemented:
            twin.answered += 1
            y, cache = answer
            return y, (Maker(twin.backward), *cache)
        twin.declined += 1
        if mode == "require" and twin.supports is not None and twin.supports(*args, **kwargs):
            raise RuntimeError(f"kernel {twin.name} declined a call that its table of support claims")
    return None


find_twin.twins, find_twin.ask = _twins, _ask


def _refuse_absent(where: str, library: str) -> None:
    absent = {m.name: _state.absent[m.name] for m in _MEANS.get(library, ()) if m.name in _state.absent}
    if absent:
        why = "; ".join(f"{means}: {reason}" for means, reason in absent.items())
        raise RuntimeError(f"{where}: kernels are required and cannot be loaded: {why}")


def _one_of(where: str, argument: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        mend = f"{where}({known[0]!r})" if argument == "mode" else f"{where}({argument}={known[0]!r})"
        raise refusal(where, argument, repr(value), f"one of {', '.join(known)}", mend)
    return value


@contextmanager
def _scoped(mode: str | None, without: tuple[str, ...], exactness: str | None) -> Iterator[None]:
    outer = _scope.mode, _scope.without, _scope.precision
    _scope.mode = mode or outer[0]
    _scope.without = (*outer[1], *without)
    _scope.precision = exactness or outer[2]
    try:
        yield
    finally:
        _scope.mode, _scope.without, _scope.precision = outer


def use_kernels(mode: str | None = None, *, without: tuple[str, ...] = (), precision: str | None = None) -> Any:
    """`with use_kernels("off"):` the agnostic code alone; "auto": what is there; "require": an error where one lacks.

    `without=("numba",)` leaves means out. `precision="fast"` lets kernels be less exact than the direct computation:
    each states its error; "torch" only where torch is so by default: its convolutions on a card may use TF32, its
    products may not. What is not given stays as it is outside. In this thread; for the whole process the environment's
    XPLAYERS_KERNELS (auto, off, require) and XPLAYERS_PRECISION (exact, torch, fast) say so.
    """
    if mode is not None:
        _one_of("use_kernels", "mode", mode, _MODES)
    if precision is not None:
        _one_of("use_kernels", "precision", precision, _PRECISIONS)
    if mode == "require":
        load("numpy")
        _refuse_absent("use_kernels", "numpy")
    return _scoped(mode, tuple(without), precision)


def status() -> dict[str, Any]:
    """The mode, every kernel with its rule and how often it answered and declined, and why a means is absent.

    What each library lacks is found out here, and where it lacks nothing its kernels are loaded.
    """
    for library in _MEANS:
        load(library)
    twins: list[Any] = [t for held in _state.twins.values() for t in held]
    twins += _state.updates
    twins += _state.products.values()
    return {
        "mode": _mode(),
        "precision": precision(),
        "kernels": {t.name: {"answered": t.answered, "declined": t.declined, "rule": t.rule} for t in twins},
        "absent": dict(_state.absent),
    }


_state.mode = _one_of("XPLAYERS_KERNELS", "mode", os.environ.get("XPLAYERS_KERNELS", "auto"), _MODES)
_state.precision = _one_of(
    "XPLAYERS_PRECISION", "precision", os.environ.get("XPLAYERS_PRECISION", "exact"), _PRECISIONS
)
