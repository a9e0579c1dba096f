"""The base of every optimizer: groups of slots, their options, the state of each slot, and the step."""

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xplayers.arrays import (
    Array,
    Recording,
    accumulator,
    add_to,
    array_namespace,
    as_array,
    at_home,
    convert,
    device,
    find_step,
    is_array,
    put_at,
    recording,
    to_numpy,
    without_history,
    writable,
)
from xplayers.errors import refusal
from xplayers.layers import Layer

from .slots import Slot, is_slot, slots_of
from .together import Together

__all__ = ["Optimizer", "elementwise"]


def elementwise(change: Callable[..., Array]) -> Callable[..., Array]:
    """Marks a `change` that treats each element by itself: called with parts of arrays, or several side by side."""
    change.elementwise = True  # type: ignore[attr-defined]
    return change


class Optimizer:
    """Steps the parameters of a network against their gradients.

    `params` is the network (or anything that `slots_of` takes), or an iterable of groups: dicts with "params" and
    options of the group's own. The groups stand in `param_groups`; their options may be changed between steps, and
    `optimizer.lr` sets the rate of all groups. `state[dotted name]` holds what a parameter's next step needs: in the
    library and on the device of the parameter, wherever that has been moved, in float32 for the half precisions. With
    `master_weights` a parameter in half precision is stepped in float32 too: the state keeps it whole, as "master", and
    the parameter is that rounded, so that steps smaller than its last digit add up.

    A step writes into a parameter where its library and the array allow it and rebinds it otherwise, so it belongs
    behind the backward: a step between a forward and its backward changes what the tape remembers.

    An optimizer's author writes `change`, and `moments` for the arrays that it keeps.
    """

    def __init__(self, params: Any, defaults: Mapping[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[str, dict[str, Any]] = {}
        self._together = Together()
        self._rounded: dict[str, Array] = {}  # the parameters that the master weights were last rounded to
        groups = self._groups_of(params)
        for group in groups:
            self.add_param_group(group)
        if not self._slots():
            raise self._refusal("params", "no parameter", "at least one", "pass a network that has parameters")

    # -- what an author writes --

    def moments(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the arrays in a parameter's state, each of the parameter's shape."""
        return ()

    def change(self, x: Array, dx: Array, state: dict[str, Any], group: Mapping[str, Any]) -> Array:
        """What is added to the parameter x with gradient dx; `state["step"]` counts from 1. Neither is written to.

        Marked `@elementwise` where it is so, it is called with flat parts of the arrays, on several threads, and with
        small parameters side by side.
        """
        raise NotImplementedError

    # -- what a user calls --

    def step(self) -> None:
        """Moves every parameter that has a gradient."""
        ready = [  # every gradient is looked at before the first parameter moves
            (
                {n: _plain(v) for n, v in group.items()},
                [(s, dx) for s in group["params"] if (dx := s.gradient) is not None],
            )
            for group in self.param_groups
        ]
        for options, slots in ready:
            items = []
            for slot, dx in slots:
                held = without_history(slot.value)
                x = writable(held)  # so that every step of it goes one way
                if x is not held:
                    slot.layer.put(slot.name, x)
                state = self._state_for(slot.key, x, accumulator(x))
                self._count(state, x, options)
                items.append((x, without_history(dx), state, slot))
            now, left = recording(), items
            held = [] if now is None else [(state, dict(state)) for _, _, state, _ in items]
            if getattr(type(self).change, "elementwise", False):
                left = items if find_step.by is None else find_step.by(self, items, options)
                left = left if now is not None else self._together.step(self, left, options)
            for x, dx, state, slot in left:
                self._step_one(x, dx, state, slot, options)
            if now is not None:
                for state, before in held:
                    _record(now, state, before)

    def _count(self, state: dict[str, Any], x: Array, options: Mapping[str, Any]) -> None:
        """One step more, on the device where the options say so."""
        capturable = options.get("capturable")
        if capturable and isinstance(state["step"], int):
            xp = array_namespace(x)
            state["step"] = xp.full((), state["step"], dtype=accumulator(x), device=device(x))
        elif recording() is not None and capturable is False:
            raise self._refusal(
                "capturable",
                "False in a step that is recorded",
                "True: a step that the host counts would stay the same each time",
                f"pass capturable=True to {type(self).__name__}",
                RuntimeError,
            )
        state["step"] += 1

    def _step_one(self, x: Array, dx: Array, state: dict[str, Any], slot: Slot, group: Mapping[str, Any]) -> None:
        dtype = accumulator(x)
        if dtype == x.dtype:
            moved = add_to(x, self.change(x, dx, state, group))
        else:
            xp = array_namespace(x)
            dx, wide = xp.astype(dx, dtype), self._master(x, dtype, state, slot, group)
            change = self.change(wide, dx, state, group)
            if group.get("master_weights"):
                state["master"] = add_to(wide, change)
                moved = put_at(x, ..., xp.astype(state["master"], x.dtype))
            else:
                moved = add_to(x, xp.astype(change, x.dtype))
        if moved is not x:
            slot.layer.put(slot.name, moved)
        if "master" in state:
            self._rounded[slot.key] = slot.value

    def _master(self, x: Array, dtype: Any, state: dict[str, Any], slot: Slot, group: Mapping[str, Any]) -> Array:
        """x in the dtype to step in: what the state keeps, unless x has been given other values since."""
        fresh = self._rounded.get(slot.key, slot.value) is not slot.value
        if not group.get("master_weights") or "master" not in state or fresh:
            return array_namespace(x).astype(x, dtype, copy=True)
        return state["master"]

    def zero_grad(self) -> None:
        """Clears the gradients of the parameters that are held here."""
        for slot in self._slots():
            slot.layer._grads.pop(slot.name, None)

    @property
    def lr(self) -> float:
        """The learning rate of the first group; assigning it sets every group's."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, rate: float) -> None:
        self._check({"lr": rate})
        for group in self.param_groups:
            group["lr"] = rate

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds a group: "params", and options where they differ from the optimizer's own."""
        unknown = [name for name in group if name not in self.defaults and name not in ("params", "initial_lr")]
        if unknown:
            raise self._refusal(
                "params", f"a group with options {unknown}", f"options of {list(self.defaults)}", "remove the others"
            )
        options = {**self.defaults, **group}
        self._check(options)
        slots = slots_of(group["params"], type(self).__name__)
        held = {(id(s.layer), s.name) for s in self._slots()}
        twice = [s.key for s in slots if (id(s.layer), s.name) in held]
        if twice:
            raise self._refusal("params", f"{twice} in two groups", "every parameter in one", "remove it from one")
        keys = {s.key for s in self._slots()}
        options["params"] = [s._replace(key=_unique(s.key, keys)) for s in slots]
        self.param_groups.append(options)

    def state_dict(self) -> dict[str, Any]:
        """A copy of state and options, flat: "state.<dotted name>.<entry>" and "param_groups.<i>.<option>"."""
        out: dict[str, Any] = {}
        for key, entries in self.state.items():
            for name, value in entries.items():
                out[f"state.{key}.{name}"] = value if isinstance(value, int) else convert(value, array_namespace(value))
        for i, group in enumerate(self.param_groups):
            for name, value in group.items():
                if isinstance(value, tuple):
                    out |= {f"param_groups.{i}.{name}.{k}": v for k, v in enumerate(value)}
                elif name != "params":
                    out[f"param_groups.{i}.{name}"] = value
        return out

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave, or `xpl.load` of its file. A state that does not fit changes nothing."""
        wrong: list[str] = []
        rest = dict(state)
        groups = [self._group_from(rest, i, group, wrong) for i, group in enumerate(self.param_groups)]
        loaded: dict[str, dict[str, Any]] = {}
        for group in self.param_groups:
            for slot in group["params"]:
                entries = self._entries_from(rest, slot, group, wrong)
                if entries:
                    loaded[slot.key] = entries
        if rest:
            wrong.append(f"unexpected {list(rest)}")
        if wrong:
            raise self._refusal(
                "state",
                "; ".join(wrong),
                "the names and shapes of this optimizer's state_dict()",
                "build the optimizer with the groups, options and network of the state",
            )
        for options in groups:
            self._check(options)
        self.state = {
            k: {n: v if n == "step" else convert(v, array_namespace(v)) for n, v in entries.items()}
            for k, entries in loaded.items()
        }
        for group, options in zip(self.param_groups, groups, strict=True):
            group.update(options)

    def __repr__(self) -> str:
        options = ", ".join(f"{n}={v!r}" for n, v in self.param_groups[0].items() if n != "params")
        return f"{type(self).__name__}({options}) of {len(self._slots())} parameters"

    # -- inside --

    def _groups_of(self, params: Any) -> list[Any]:
        if isinstance(params, Mapping):
            return [params] if "params" in params else [{"params": params}]
        if isinstance(params, Layer) or is_slot(params) or is_array(params) or not isinstance(params, Iterable):
            return [{"params": params}]
        items = list(params)
        if not any(isinstance(item, Mapping) for item in items):
            return [{"params": items}]
        for item in items:
            if not isinstance(item, Mapping) or "params" not in item:
                got = f"a dict of {list(item)}" if isinstance(item, Mapping) else f"a {type(item).__name__}"
                raise self._refusal(
                    "params",
                    f"groups of which one is {got}",
                    'dicts with "params"',
                    'write every group as {"params": layer, "lr": 0.1}',
                    TypeError,
                )
        return items

    def _slots(self) -> list[Slot]:
        return [slot for group in self.param_groups for slot in group["params"]]

    def _state_for(self, key: str, x: Array, dtype: Any) -> dict[str, Any]:
        """The state of a parameter, moved to where x lives now; anew where x has been given another shape."""
        state, shape = self.state.setdefault(key, {"step": 0}), x.shape
        for name, value in state.items():
            if name != "step":
                if value.shape != shape:
                    state = self.state[key] = {"step": 0}
                    break
                state[name] = at_home(value, x, dtype)
        return state

    @staticmethod
    def moment(state: dict[str, Any], name: str, like: Array) -> Array:
        """The array `name` of a state: zeros at first."""
        if name not in state:
            state[name] = array_namespace(like).zeros_like(like)
        return state[name]

    def _check(self, options: Mapping[str, Any]) -> None:
        """Refuses options that torch refuses."""
        own = inspect.signature(type(self)).parameters
        for name, value in options.items():
            if name == "params":
                continue
            default = own[name].default if name in own else self.defaults.get(name, 0.0)
            if isinstance(default, bool):
                good, expected = isinstance(value, bool), "True or False"
            elif isinstance(default, tuple):
                good = isinstance(value, tuple | list) and len(value) == len(default)
                good = good and all(_is_number(v) and 0 <= v < 1 for v in value)
                expected = f"{len(default)} numbers in [0, 1)"
            else:
                good = _is_number(value) and (value >= 0 or name == "dampening")
                expected = "a number" if name == "dampening" else "a number >= 0"
            if not good:
                kind = ValueError if isinstance(value, numbers.Real | tuple | list) else TypeError
                raise self._refusal(name, repr(value), expected, f"pass {name}={default!r}", kind)

    def _group_from(self, rest: dict[str, Any], i: int, group: dict[str, Any], wrong: list[str]) -> dict[str, Any]:
        """The options of group i, taken out of `rest`."""

        def number(key: str, like: Any) -> Any:
            value = rest.pop(key)
            array = None if isinstance(value, bool | int | float) else as_array(value)
            if array is not None and array.shape == ():
                value = to_numpy(array).item()
            if isinstance(value, bool | int | float):
                return type(like)(value)
            wrong.append(f"{key} is no number")
            return like

        options: dict[str, Any] = {}
        for name, held in group.items():
            key = f"param_groups.{i}.{name}"
            keys = [f"{key}.{k}" for k in range(len(held))] if isinstance(held, tuple) else [key]
            missing = [k for k in keys if k not in rest]
            if name == "params" or (name == "initial_lr" and missing):
                continue
            if missing:
                wrong.append(f"missing {missing}")
                for k in keys:
                    rest.pop(k, None)
            elif isinstance(held, tuple):
                options[name] = tuple(number(k, 0.0) for k in keys)
            else:
                options[name] = number(key, held if isinstance(held, bool) else 0.0)
        first = f"param_groups.{i}.initial_lr"  # a schedule's, which may be built after the state is loaded
        if first in rest:
            options["initial_lr"] = number(first, 0.0)
        return options

    def _entries_from(
        self, rest: dict[str, Any], slot: Slot, group: Mapping[str, Any], wrong: list[str]
    ) -> dict[str, Any]:
        """The state of one parameter, taken out of `rest`; empty where it has made no step."""
        prefix = f"state.{slot.key}."
        names = ("step", *self.moments(group))
        master = f"{prefix}master"
        found = {name: rest.pop(prefix + name) for name in names if prefix + name in rest}
        missing = [prefix + name for name in names if name not in found]
        if group.get("master_weights") and master in rest:
            found["master"] = rest.pop(master)
        if found and missing:
            wrong.append(f"missing {missing}")
        shape = None if slot.value is None else tuple(slot.value.shape)
        for name, value in found.items():
            array = as_array(value)
            if name == "step":
                if array is not None and array.shape == ():
                    value = to_numpy(array).item()
                if not _is_number(value) or value != int(value):
                    wrong.append(f"{prefix}step is no integer")
                    continue
                found[name] = int(value)
            elif array is None:
                wrong.append(f"{prefix}{name} is a {type(value).__name__}, no array")
            elif shape is not None and tuple(array.shape) != shape:
                wrong.append(f"{prefix}{name} has shape {tuple(array.shape)}, not {shape}")
            else:
                found[name] = array
        return found

    def _refusal(
        self, argument: str, got: str, expected: str, mend: str, kind: type[Exception] = ValueError
    ) -> Exception:
        return refusal(type(self).__name__, argument, got, expected, mend, kind)


def _record(now: Recording, state: dict[str, Any], before: dict[str, Any]) -> None:
    """Tells a recording which arrays of a state were put in the place of others."""
    for name, value in state.items():
        if name in before and value is not before[name] and not isinstance(value, int):
            now.rebinds(state, name, before[name])
        now.keep.append(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)


def _plain(value: Any) -> Any:
    """A Python number for a NumPy one, which would make float32 arrays float64."""
    if isinstance(value, tuple):
        return tuple(map(float, value))
    return float(value) if _is_number(value) else value


def _unique(key: str, taken: set[str]) -> str:
    """The key, numbered where two networks of one optimizer have a parameter of the same name."""
    name, n = key, 2
    while name in taken:
        name, n = f"{key}#{n}", n + 1
    taken.add(name)
    return name
