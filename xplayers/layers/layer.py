"""The base of every layer: its parameters and where they live, its gradients, its mode, its own tape.

A layer's author writes `__init__`, `forward(self, x, *, tape=None)` and `backward(self, dy, *, tape)`. What is the same
for all of them (the door, the check of `dy`, the layer's own tape) is wrapped around these two when the class is made.
"""

import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

from xplayers.arrays import (
    Array,
    Recording,
    array_namespace,
    as_array,
    convert,
    device,
    is_array,
    is_floating,
    is_integer,
    is_traced,
    leaves,
    namespace_of_module,
    place_of,
    recording,
    unscalar,
    without_history,
)
from xplayers.errors import refusal

from .tape import Tape, record

__all__ = ["UNSET", "Layer", "add_gradients", "gradient_alias", "record"]

_GIVEN_BY_CALLER = object()


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"


UNSET: Any = _Unset()
"""The value of a parameter whose size is not known before it is assigned, as in `Affine()`."""

_OF_INIT = ("_parameters", "_buffers", "_children")  # what a layer lacks whose author forgot super().__init__()

_lock = threading.Lock()  # one for all: held only while an array is added or rebound


class _Running(threading.local):
    """How many forwards and backwards of layers are running in this thread."""

    forwards = 0
    backwards = 0


_running = _Running()


class Layer:
    """A forward and a backward with parameters. See the module for what an author writes.

    Keyword arguments of every layer with parameters: `xp`, `device`, `dtype` say where the parameters live from the
    start (otherwise they settle with the first array that the layer meets), `rng` draws their initial values.
    """

    is_loss = False  # only a loss may be called back without a dy

    def __init__(self, *, xp: Any = None, device: Any = None, dtype: Any = None, rng: Any = None) -> None:
        self.training = True
        self.rng = rng
        self._parameters: dict[str, tuple[int, ...] | None] = {}  # name: declared shape, None where any will do
        self._buffers: dict[str, tuple[int, ...] | None] = {}
        self._transient: set[str] = set()  # buffers that are no part of a state dict
        self._settled: set[str] = set()
        self._place: Any = None  # type, dtype and device (None: there is one) of what the door lets through unseen
        self._frozen: set[str] = set()
        self._grads: dict[str, Array] = {}
        self._children: dict[str, Layer] = {}
        self._parent: Any = None
        self._own = threading.local()
        self._birth = None if xp is None and device is None and dtype is None else (xp, device, dtype)

    # -- what an author uses --

    if TYPE_CHECKING:  # each layer has its own inputs, and its parameters are attributes
        forward: Callable[..., Any]
        backward: Callable[..., Any]

        def __getattr__(self, name: str) -> Any: ...

    else:

        def forward(self, *args: Any, tape: Tape | None = None) -> Any:
            raise NotImplementedError(f"{type(self).__name__} has no forward")

        def backward(self, dy: Any = None, *, tape: Tape | None = None, input_grad: bool = True) -> Any:
            raise NotImplementedError(f"{type(self).__name__} has no backward")

        def __getattr__(self, name: str) -> Any:
            mend = ". Mend: call super().__init__() first in __init__" if name in _OF_INIT else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{mend}", name=name, obj=self)

    def describe(self) -> str:
        """The constructor arguments, as `repr` shows them."""
        return ""

    def parameter(self, name: str, value: Any) -> None:
        """Declares a parameter: an initial value from `arrays.initial`, None where it is left out, or UNSET."""
        self._declare(self._parameters, name, value)

    def buffer(self, name: str, value: Any, persistent: bool = True) -> None:
        """Declares an array that is no parameter; `persistent=False` keeps it out of the state dict."""
        self._declare(self._buffers, name, value)
        if not persistent:
            self._transient.add(name)

    def wanted(self, tape: Tape, *names: str, inputs: int = 1) -> tuple[bool, ...]:
        """The `wanted` of a functional backward with `inputs` inputs and then the parameters `names`.

        Ask after the pop: with the tape empty, what is undone is the first layer, and its dx is the net's.
        """
        dx = tape.input_grad or len(tape) > 0
        return (dx,) * inputs + tuple(n not in self._frozen and getattr(self, n) is not None for n in names)

    def accumulate(self, **gradients: Array | None) -> None:
        """Adds gradients of parameters into `grads`; None for one that is absent or frozen."""
        with _lock:
            for name, gradient in gradients.items():
                value = getattr(self, name)
                if gradient is None:
                    if value is not None and name not in self._frozen:
                        raise self.refusal(
                            name,
                            "no gradient",
                            "a gradient, as the parameter is not frozen",
                            "compute it in backward. Where dx of a child feeds it, record before the child's forward",
                        )
                    continue
                if gradient.shape != value.shape:
                    raise self.refusal(
                        name,
                        f"a gradient of shape {gradient.shape}",
                        f"the parameter's shape {value.shape}",
                        "reduce the gradient over the axes along which the parameter was broadcast",
                    )
                held = self._grads.get(name)
                now = recording()
                if now is not None:
                    self._expect_recorded(now, name, held)
                self._grads[name] = gradient if held is None else unscalar(held + gradient)
                if now is not None:
                    now.gradients.append((self._grads, name, self._grads[name]))

    def _expect_recorded(self, now: Recording, name: str, held: Array | None) -> None:
        """Refuses to add to a gradient that stood here before the recording: replayed, it would not be there."""
        if held is not None and not any(held is kept for *_, kept in now.gradients):
            raise self.refusal(
                name,
                "a gradient from before the step that is recorded",
                "none: a recorded step adds up its own gradients alone",
                "begin the step with net.zero_grad()",
                RuntimeError,
            )

    def track(self, update: Callable[[], Mapping[str, Array]]) -> None:
        """Rebinds buffers to what `update()` gives, in the order of arrival: one thread at a time."""
        with _lock:
            for name, value in update().items():
                self.put(name, value)

    def put(self, name: str, value: Array) -> None:
        """Rebinds a parameter or buffer without the checks of an assignment."""
        now, held = recording(), self.__dict__
        if now is not None:
            now.rebinds(held, name, held[name])
        held[name] = value

    # -- refusals in words --

    def refusal(
        self, argument: str, got: str, expected: str, mend: str, kind: type[Exception] = ValueError
    ) -> Exception:
        return refusal(self.title, argument, got, expected, mend, kind)

    def expect_rank(self, x: Array, ranks: tuple[int, ...], shapes: str, argument: str = "x") -> None:
        """`shapes` says in words what is taken, as in "(N, 3, H, W) or (3, H, W)"."""
        if x.ndim not in ranks:
            raise self.refusal(
                argument, f"shape {x.shape}, {x.ndim}-d", f"shape {shapes}", _mend_rank(x, ranks, argument)
            )

    def expect_size(self, x: Array, axis: int, size: int, noun: str, mend: str, argument: str = "x") -> None:
        """`noun` names what the axis counts, as in "channels"."""
        if x.shape[axis] != size:
            raise self.refusal(
                argument, f"shape {x.shape}, {x.shape[axis]} {noun}", f"{size} {noun} on axis {axis}", mend
            )

    def expect_floating(self, x: Array, argument: str = "x") -> None:
        if self._place is not None and x.dtype is self._place[1]:  # floats, which the door has seen before
            return
        if not is_floating(x):
            xp = array_namespace(x)
            name = xp.__name__.rsplit(".", 1)[-1]
            mend = f"pass {name}.astype({argument}, {name}.float32)" if name != "torch" else f"pass {argument}.float()"
            raise self.refusal(argument, f"dtype {x.dtype}", "a floating dtype", mend, TypeError)

    @property
    def path(self) -> str:
        """The dotted name in the outermost container, "" for a layer that stands alone."""
        parent = self._parent and self._parent()
        if parent is None:
            return ""
        name = next((n for n, child in parent._children.items() if child is self), "?")
        return f"{parent.path}.{name}" if parent.path else name

    @property
    def title(self) -> str:
        """One line for messages: the class, its arguments and its dotted name."""
        return f"{type(self).__name__}({self.describe()})" + (f" '{self.path}'" if self.path else "")

    def __repr__(self) -> str:
        if not self._children:
            return f"{type(self).__name__}({self.describe()})"
        lines = [f"({n}): {child!r}".replace("\n", "\n  ") for n, child in self._children.items()]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"

    # -- calling --

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in cls.__dict__:
            cls.forward = _guard_forward(cls.__dict__["forward"])
        if "backward" in cls.__dict__:
            cls.backward = _guard_backward(cls.__dict__["backward"])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`forward`; without `tape=`, a layer in training mode remembers the call on a tape of its own."""
        if not self.training or "tape" in kwargs or _running.forwards:
            return self.forward(*args, **kwargs)
        tape = Tape()
        y = self.forward(*args, tape=tape, **kwargs)
        self._own.tape = tape
        return y

    def door(self, *args: Any, **named: Any) -> None:
        """What every forward checks first: arrays, and all of them where the parameters live.

        A layer with neither parameters nor buffers of its own but with children leaves this to them. An argument given
        by its name, but for the first, may be of any kind that the layer's own forward takes.
        """
        if self._children and not self._parameters and not self._buffers:
            return
        if args and not named and self._place is not None:
            (x, *others), (kind, dtype, where) = args, self._place
            here = type(x) is kind and x.dtype == dtype and (where is None or (device(x) == where and not others))
            if here and (not others or all(type(a) is kind and (a.dtype == dtype or is_integer(a)) for a in others)):
                return
        takes = getattr(type(self).forward, "takes", ()) or ("x",)
        names = [*takes[: len(args)], *(f"argument {i + 1}" for i in range(len(takes), len(args)))]
        for i, (name, a) in enumerate(zip(names, args, strict=True)):
            if isinstance(a, Tape):
                raise self.refusal(name, "a Tape", "an array", "pass the tape by its name: tape=tape", TypeError)
            self._refuse_no_array(a, name, optional=i > 0)
        if takes[0] in named:
            self._refuse_no_array(named[takes[0]], takes[0], optional=False)
        arrays = [
            (n, a) for n, tree in zip((*names, *named), (*args, *named.values()), strict=True) for a in leaves(tree)
        ]
        if not arrays:
            raise self.refusal("x", "nothing", "an array", f"call {type(self).__name__} with an array", TypeError)
        first = arrays[0][1]
        for name, a in arrays:
            if a is not first and (array_namespace(a) is not array_namespace(first) or _apart(a, first)):
                raise self.refusal(
                    name,
                    f"an array in {place_of(a)}",
                    f"one where the first lives, {place_of(first)}",
                    "move one of the two to the library and the device of the other",
                    TypeError,
                )
            if name not in named or name == takes[0]:
                self._settle(a, name)
        if args and first is args[0] and is_floating(first) and not is_traced(first):
            plain = type(first).__module__ == "numpy"
            self._place = (type(first), first.dtype, None if plain else device(first))

    def _refuse_no_array(self, a: Any, argument: str, optional: bool) -> None:
        if isinstance(a, tuple):
            for branch in a:
                self._refuse_no_array(branch, argument, True)
        elif not is_array(a) and not (optional and (a is None or isinstance(a, bool | int | float | str))):
            raise self.refusal(
                argument,
                f"a {type(a).__name__}",
                "an array",
                f"pass an array of the layer's library, as numpy.asarray({argument}) makes one",
                TypeError,
            )

    # -- parameters and where they live --

    def _declare(self, table: dict[str, Any], name: str, value: Any) -> None:
        if "." in name:
            raise self.refusal("name", repr(name), "a name without dots", "dots part the names of nested layers")
        table[name] = None if value is None or value is UNSET else tuple(value.shape)
        if self._birth is not None and is_array(value):
            value = self._moved(value, *self._resolve(*self._birth))
            self._settled.add(name)
        self.__dict__[name] = value

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__
        if isinstance(value, Layer):
            if name in held.get("_parameters", ()):
                raise self.refusal(name, type(value).__name__, "an array", "give the child another name", TypeError)
            self.adopt(name, value)
        elif name in held.get("_parameters", ()) or name in held.get("_buffers", ()):
            self._assign(name, value)
        elif name in held.get("_children", ()):
            del self._children[name]
            held[name] = value
        else:
            held[name] = value

    def adopt(self, name: str, child: "Layer") -> None:
        """Makes `child` a child under `name` (dots are for nesting)."""
        if "." in name or not name:
            raise self.refusal("name", repr(name), "a name without dots", "dots part the names of nested layers")
        if not isinstance(child, Layer):
            mend = "wrap the function in a Layer"
            if isinstance(child, type):
                mend = f"build it: {child.__name__}()"
            elif isinstance(child, list | tuple):
                mend = f"pass the layers one by one: {type(self).__name__}(*layers)"
            raise self.refusal(name, f"a {type(child).__name__}", "a Layer", mend, TypeError)
        self._children[name] = child
        self.__dict__[name] = child
        if child._parent is None or child._parent() is None:
            child._parent = weakref.ref(self)

    def _assign(self, name: str, value: Any) -> None:
        """An assignment of a parameter or buffer by the user: checked, and settled where the value lives."""
        if value is not None:
            self._refuse_no_array(value, name, optional=False)
            shape = self._parameters.get(name, self._buffers.get(name))
            if shape is not None and tuple(value.shape) != shape:
                raise self.refusal(
                    name,
                    f"shape {value.shape}",
                    f"shape {shape}",
                    f"assign an array of shape {shape}, or build a new layer",
                )
            held = self.__dict__[name]
            if name in self._settled and is_array(held) and place_of(held) != place_of(value):
                raise self.refusal(
                    name,
                    f"an array in {place_of(value)}",
                    f"{place_of(held)}, where the parameter has settled",
                    "move the layer first: layer.to(like=value)",
                    TypeError,
                )
            self._settled.add(name)
            value = without_history(value)
        self.__dict__[name] = value
        self._place = None

    def _settle(self, x: Array, argument: str) -> None:
        """Moves what has not settled to where x lives, and refuses x where something has settled elsewhere."""
        xp = array_namespace(x)
        floating = is_floating(x)
        for name in (*self._parameters, *self._buffers):
            value = self.__dict__[name]
            if value is UNSET:
                raise self.refusal(
                    name,
                    "no value",
                    "an array, as the layer was built without sizes",
                    f"assign layer.{name} = ... before the first call"
                    + (f", or layer.{name} = None to leave it out" if name != "weight" else ""),
                )
            if value is None:
                continue
            if name not in self._settled:
                dtype = x.dtype if floating and is_floating(value) else None
                self.__dict__[name] = convert(value, xp, device=device(x), dtype=dtype)
                self._settled.add(name)
                continue
            if array_namespace(value) is not xp:
                raise self._elsewhere(argument, x, value, name)
            if _apart(value, x) or (floating and is_floating(value) and value.dtype != x.dtype):
                raise self._elsewhere(argument, x, value, name)

    def _elsewhere(self, argument: str, x: Array, value: Array, name: str) -> Exception:
        return self.refusal(
            argument,
            f"an array in {place_of(x)}",
            f"{place_of(value)}, where {name} lives",
            f"move the layer with layer.to(like={argument}), or move {argument}",
            TypeError,
        )

    @staticmethod
    def _resolve(xp: Any, device: Any, dtype: Any) -> tuple[Any, Any, Any]:
        return (None if xp is None else namespace_of_module(xp), device, dtype)

    @staticmethod
    def _moved(value: Array, xp: Any, device: Any, dtype: Any) -> Array:
        xp = xp or array_namespace(value)
        dtype = getattr(xp, dtype, dtype) if isinstance(dtype, str) else dtype
        return convert(value, xp, device=device, dtype=dtype if is_floating(value) else None)

    def to(self, xp: Any = None, *, like: Array = None, device: Any = None, dtype: Any = None) -> "Layer":
        """Moves parameters, buffers and gradients, here and in all children, and settles them there.

        `like` gives library, device and (where it is floating) dtype; `dtype` is for floating arrays only.
        """
        if like is not None:
            if not is_array(like):
                raise self.refusal("like", f"a {type(like).__name__}", "an array", "pass an array", TypeError)
            xp, device = array_namespace(like), _device(like) if device is None else device
            dtype = like.dtype if dtype is None and is_floating(like) else dtype
        where = self._resolve(xp, device, dtype)
        for layer in self.unique_layers():
            layer._drop_own_tape()
            for name in (*layer._parameters, *layer._buffers):
                value = layer.__dict__[name]
                if is_array(value):
                    layer.__dict__[name] = self._moved(value, *where)
                    layer._settled.add(name)
            layer._grads = {n: self._moved(g, *where) for n, g in layer._grads.items()}
            layer._place = None
        return self

    # -- the tree --

    def children(self) -> Iterator["Layer"]:
        return iter(self._children.values())

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, "Layer"]]:
        """This layer and all below it with their dotted names; one that stands in two places comes twice."""
        yield prefix, self
        for name, child in self._children.items():
            yield from child.named_layers(f"{prefix}.{name}" if prefix else name)

    def unique_layers(self) -> Iterator["Layer"]:
        seen: set[int] = set()
        for _, layer in self.named_layers():
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer

    def parameter_slots(self) -> Iterator[tuple[str, "Layer", str]]:
        """(dotted name, layer, name) of every parameter that is there, each once: what optimizers hold."""
        seen: set[int] = set()
        for path, layer in self.named_layers():
            if id(layer) not in seen:
                seen.add(id(layer))
                for name in layer._parameters:
                    if layer.__dict__[name] is not None:
                        yield _dotted(path, name), layer, name

    @property
    def params(self) -> "Entries":
        """A live mapping of dotted names to parameters: assigning an entry reaches the layer."""
        return Entries(self, gradients=False)

    @property
    def grads(self) -> "Entries":
        """A live mapping of dotted names to gradients; no entry before the first backward."""
        return Entries(self, gradients=True)

    def zero_grad(self) -> None:
        """Clears the gradients, here and in all children."""
        for layer in self.unique_layers():
            layer._grads.clear()

    def freeze(self, *names: str) -> "Layer":
        """No gradient is computed for the parameters named (dotted; all where none is) until `unfreeze`."""
        for layer, name in self._named_parameters(names):
            layer._frozen.add(name)
            layer._grads.pop(name, None)
        return self

    def unfreeze(self, *names: str) -> "Layer":
        for layer, name in self._named_parameters(names):
            layer._frozen.discard(name)
        return self

    def _named_parameters(self, names: tuple[str, ...]) -> list[tuple["Layer", str]]:
        if names:
            return [self._locate(name) for name in names]
        return [(layer, name) for layer in self.unique_layers() for name in layer._parameters]

    def _locate(self, dotted: str) -> tuple["Layer", str]:
        """The layer and the name of a parameter's dotted name."""
        *path, name = dotted.split(".")
        layer = self
        for step in path:
            layer = layer._children.get(step)  # type: ignore[assignment]
            if layer is None:
                break
        if layer is None or name not in layer._parameters:
            known = ", ".join(p for p, _, _ in self.parameter_slots()) or "none"
            raise self.refusal("name", repr(dotted), f"one of the parameters: {known}", "use a name of layer.params")
        return layer, name

    # -- mode --

    def train(self, mode: bool = True) -> "Layer":
        """Sets training mode here and in all children."""
        for layer in self.unique_layers():
            layer.training = mode
            if not mode:
                layer._drop_own_tape()
        return self

    def eval(self) -> "Layer":
        """Inference: calls keep nothing, and what was kept is dropped."""
        return self.train(False)

    def _drop_own_tape(self) -> None:
        self._own = threading.local()

    # -- state --

    def state_dict(self) -> dict[str, Array]:
        """The live parameters and buffers under torch's names."""
        return {key: layer.__dict__[name] for key, layer, name in self._state_slots() if _has(layer, name)}

    def _state_slots(self) -> Iterator[tuple[str, "Layer", str]]:
        for path, layer in self.named_layers():
            for name in (*layer._parameters, *layer._buffers):
                if name not in layer._transient:
                    yield _dotted(path, name), layer, name

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> tuple[list[str], list[str]]:
        """Takes the values of a state dict: arrays of any library, torch tensors too; they are copied.

        Settled parameters keep their library, device and dtype. Returns the missing and the unexpected names; with
        `strict` they are refused, together with everything of a wrong shape or kind, and nothing is loaded.
        `num_batches_tracked`, which old files lack, may be missing.
        """
        if not isinstance(state, Mapping):
            got, mend = f"a {type(state).__name__}", "pass module.state_dict() or xplayers.load(path)"
            raise self.refusal("state", got, "a mapping of names to arrays", mend, TypeError)
        slots = {key: (layer, name) for key, layer, name in self._state_slots() if layer.__dict__[name] is not None}
        missing = [k for k in slots if k not in state and not k.endswith("num_batches_tracked")]
        unexpected = [k for k in state if k not in slots]
        wrong: list[str] = []
        values: dict[str, Array] = {}
        for key in slots:
            if key not in state:
                continue
            layer, name = slots[key]
            value = as_array(state[key])
            shape = layer._parameters.get(name, layer._buffers.get(name))
            held = layer.__dict__[name]
            if value is None:
                wrong.append(f"{key} is a {type(state[key]).__name__}, no array")
            elif shape is not None and tuple(value.shape) != shape:
                wrong.append(f"{key} has shape {tuple(value.shape)}, not {shape}")
            elif is_array(held) and is_floating(held) != is_floating(value):
                wrong.append(f"{key} has dtype {value.dtype}, not {held.dtype}")
            else:
                values[key] = value
        if wrong or (strict and (missing or unexpected)):
            found = [f"missing {missing}"] * bool(missing and strict)
            found += [f"unexpected {unexpected}"] * bool(unexpected and strict)
            raise self.refusal(
                "state",
                "; ".join(found + wrong),
                "the names and shapes of layer.state_dict()",
                "build the layer with the sizes of the state, or pass strict=False for names that may differ",
            )
        for key, value in values.items():  # convert all before the first is put in its place
            layer, name = slots[key]
            held, value = layer.__dict__[name], without_history(value)
            if name in layer._settled and is_array(held):
                values[key] = convert(value, array_namespace(held), device=device(held), dtype=held.dtype)
            else:
                values[key] = convert(value, array_namespace(value))
        for key, value in values.items():
            layer, name = slots[key]
            layer.__dict__[name] = value
            layer._place = None
        return missing, unexpected

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_own", "_parent", "_place")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _own=threading.local(), _parent=None, _place=None)
        for child in self._children.values():
            child._parent = weakref.ref(self)

    def skeleton(self, memo: dict[int, "Layer"] | None = None) -> "Layer":
        """A copy that shares the arrays but nothing else: what is done to it does not reach this layer."""
        memo = {} if memo is None else memo
        if id(self) not in memo:
            copy = memo[id(self)] = object.__new__(type(self))
            copy.__dict__.update(self.__dict__, _own=threading.local(), _parent=None, _place=None, _grads={})
            copy._settled = set(self._settled)
            copy._children = {}
            for name, child in self._children.items():
                copy.adopt(name, child.skeleton(memo))
        return memo[id(self)]


_device = device  # `to` has an argument of that name


class Entries(MutableMapping[str, Array]):
    """The live mapping behind `layer.params` and `layer.grads`."""

    def __init__(self, root: Layer, gradients: bool) -> None:
        self._root = root
        self._gradients = gradients

    def _slots(self) -> Iterator[tuple[str, Layer, str]]:
        for path, layer in self._root.named_layers():
            for name in layer._parameters:
                if (name in layer._grads) if self._gradients else _has(layer, name):
                    yield _dotted(path, name), layer, name

    def __getitem__(self, key: str) -> Array:
        if not isinstance(key, str):
            raise KeyError(key)
        *path, name = key.split(".")
        layer: Layer | None = self._root
        for step in path:
            layer = None if layer is None else layer._children.get(step)
        if layer is not None and name in layer._parameters:
            if self._gradients and name in layer._grads:
                return layer._grads[name]
            if not self._gradients and _has(layer, name):
                return layer.__dict__[name]
        raise KeyError(key)

    def __setitem__(self, key: str, value: Array) -> None:
        layer, name = self._root._locate(key)
        if self._gradients:
            layer._refuse_no_array(value, name, optional=False)
            layer._grads[name] = value
        else:
            setattr(layer, name, value)

    def __delitem__(self, key: str) -> None:
        if not self._gradients:
            raise TypeError("a parameter cannot be deleted. Mend: assign None to a parameter that may be left out")
        self[key]  # a KeyError where there is none
        layer, name = self._root._locate(key)
        del layer._grads[name]

    def __iter__(self) -> Iterator[str]:
        return (key for key, _, _ in self._slots())

    def __len__(self) -> int:
        return sum(1 for _ in self._slots())

    def __repr__(self) -> str:
        kind = "grads" if self._gradients else "params"
        return f"{kind} of {self._root.title}: " + ", ".join(f"{k} {tuple(v.shape)}" for k, v in self.items())


def is_whole(n: object) -> bool:
    """Whether n is an integer: Python's, or what numpy.prod gives. A bool is none."""
    return isinstance(n, Integral) and not isinstance(n, bool)


def gradient_alias(name: str) -> property:
    """`layer.dw` for `layer.grads["weight"]`, as the posts write it; None before the first backward."""
    return property(lambda self: self._grads.get(name), doc=f'`grads["{name}"]`, None before the first backward.')


def add_gradients(*gradients: Array | None) -> Array | None:
    """The sum of the gradients of one array that went several ways; None where the net's input gradient is unwanted."""
    out = gradients[0]
    for g in gradients[1:]:
        if out is None or g is None:
            return None
        out = out + g
    return out


def _apart(x: Array, y: Array) -> bool:
    """Whether two arrays of one library are on different devices."""
    return not is_traced(x) and not is_traced(y) and device(x) != device(y)


def _has(layer: Layer, name: str) -> bool:
    value = layer.__dict__[name]
    return value is not None and value is not UNSET


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _mend_rank(x: Array, ranks: tuple[int, ...], argument: str) -> str:
    if x.ndim + 1 in ranks:
        return f"add the missing axis, as in {argument}[None, ...]"
    if x.ndim - 1 in ranks:
        return f"take the surplus axis away, as in {argument}[0, ...]"
    return f"reshape {argument}"


def _guard_forward(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Around an author's forward: the door before it, the answer's shape noted after it."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(forward).parameters.values()

    @functools.wraps(forward)
    def guarded(self: Layer, *args: Any, **kwargs: Any) -> Any:
        tape = kwargs.get("tape")
        if tape is None and _running.forwards and "tape" not in kwargs:
            raise self.refusal(
                "tape",
                "no tape= inside another layer's forward",
                "tape=tape handed on, also where it is None",
                f"write self.{self.path.rsplit('.', 1)[-1] or 'layer'}.forward(x, tape=tape)",
            )
        if len(kwargs) > ("tape" in kwargs):
            self.door(*args, **{name: a for name, a in kwargs.items() if name != "tape"})
        else:
            self.door(*args)
        records: list = [] if tape is None else tape._records
        held = len(records)
        _running.forwards += 1
        try:
            y = forward(self, *args, **kwargs)
        finally:
            _running.forwards -= 1
        if len(records) > held and records[-1].owner is self:
            records[-1].answer = _shape_of(y)
        return y

    guarded.takes = tuple(p.name for p in signature if p.kind in kinds)[1:]  # type: ignore[attr-defined]
    return guarded


def _guard_backward(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Around an author's backward: the layer's own tape where none is given, and the check of dy before the pop."""

    @functools.wraps(backward)
    def guarded(self: Layer, dy: Any = None, *, tape: Tape | None = None, input_grad: bool = True) -> Any:
        own = tape is None
        if own:
            tape = _open_own_tape(self)
        assert tape is not None
        top = tape.top()
        if top is not None and top.owner is self and top.answer is not None:
            _check_dy(self, dy, top.answer)
        elif dy is None and not self.is_loss and not self._children:
            raise _missing_dy(self)
        outer, tape.input_grad = tape.input_grad, tape.input_grad and input_grad
        _running.backwards += 1
        try:
            dx = backward(self, dy, tape=tape)
        finally:
            _running.backwards -= 1
            tape.input_grad = outer
        if own:
            if len(tape):
                raise self.refusal(
                    "tape",
                    f"{len(tape)} records left after the backward",
                    "an empty tape",
                    "undo every forward: a backward mirrors its forward and pops each record once",
                )
            self._own.tape = None
        return dx if input_grad else None

    return guarded


def _open_own_tape(self: Layer) -> Tape:
    """A copy of what the last call in this thread left, so that a refused backward consumes nothing."""
    if _running.backwards:
        raise self.refusal(
            "tape",
            "no tape= inside another layer's backward",
            "tape=tape handed on",
            f"write self.{self.path.rsplit('.', 1)[-1] or 'layer'}.backward(dy, tape=tape)",
        )
    tape = getattr(self._own, "tape", None)
    if tape is None:
        raise self.refusal(
            "tape",
            "a backward with nothing recorded",
            "a call of the layer in training mode before each backward",
            "call layer(x) first, or keep calls apart: tape = Tape(); layer(x, tape=tape); "
            "layer.backward(dy, tape=tape)",
        )
    return tape.copy()


def _shape_of(y: Any) -> Any:
    """Shape, dtype, namespace and device of an answer, in its structure."""
    if isinstance(y, tuple):
        return tuple(_shape_of(branch) for branch in y)
    if y is None:
        return None
    return _Answer(y)


class _Answer:
    __slots__ = ("device", "dtype", "shape", "type")

    def __init__(self, y: Array) -> None:
        self.shape = y.shape
        self.dtype = y.dtype
        self.type = type(y)
        self.device = None if type(y).__module__ == "numpy" else device(y)


def _missing_dy(layer: Layer) -> Exception:
    return layer.refusal(
        "dy",
        "None",
        "the gradient of the loss by this layer's output",
        "pass it: layer.backward(dy). Only a loss is called back without one",
        TypeError,
    )


def _check_dy(layer: Layer, dy: Any, answer: Any, outermost: bool = True) -> None:
    if dy is None:
        if outermost and not layer.is_loss:
            raise _missing_dy(layer)
        return
    if isinstance(answer, tuple):
        if not isinstance(dy, tuple) or len(dy) != len(answer):
            got = f"a tuple of {len(dy)}" if isinstance(dy, tuple) else f"a {type(dy).__name__}"
            raise layer.refusal(
                "dy",
                got,
                f"a tuple of {len(answer)}, as the forward gave",
                "pass a dy of the answer's structure, None where nothing depends on a part",
                TypeError,
            )
        for d, a in zip(dy, answer, strict=True):
            _check_dy(layer, d, a, outermost=False)
        return
    if answer is None:
        raise layer.refusal("dy", "an array where the answer is None", "None", "pass None for that part")
    if answer.shape == () and isinstance(dy, int | float):
        return
    layer._refuse_no_array(dy, "dy", optional=False)
    if dy.shape != answer.shape:
        raise layer.refusal(
            "dy",
            f"shape {dy.shape}",
            f"shape {answer.shape}, that of the output",
            "pass the gradient by this very output",
        )
    if type(dy) is answer.type and dy.dtype == answer.dtype and answer.device is None:
        return
    alien = (
        not is_traced(dy)
        and "Tracer" not in answer.type.__name__
        and (
            type(dy) is not answer.type
            and not issubclass(type(dy), answer.type)
            and not issubclass(answer.type, type(dy))
        )
    )
    elsewhere = not alien and not is_traced(dy) and answer.device is not None and device(dy) != answer.device
    if alien or elsewhere or dy.dtype != answer.dtype:
        where = "" if answer.device is None else f" on {answer.device}"
        raise layer.refusal(
            "dy",
            f"an array in {place_of(dy)}",
            f"dtype {answer.dtype}{where} of the library {answer.type.__module__.split('.')[0]}, that of the output",
            "move dy to where the output lives, in its dtype",
            TypeError,
        )
