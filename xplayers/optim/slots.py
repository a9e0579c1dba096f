"""The slots that optimizers and clipping work on: a layer and the name of a parameter, never the array itself.

An array is looked up at the moment it is needed, so that assigning, loading and moving parameters is right at any time
between steps.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from xplayers.arrays import Array, accumulator, array_namespace, device, is_array, place_of, recording
from xplayers.errors import refusal
from xplayers.layers import UNSET, Layer
from xplayers.layers.layer import Entries

__all__ = ["Slot", "is_slot", "slots_of"]


class Slot(NamedTuple):
    """A parameter: its dotted name, its layer and its name there."""

    key: str
    layer: Layer
    name: str

    @property
    def value(self) -> Array | None:
        """The array that stands there now, None where there is none."""
        self._refuse_lost()
        value = self.layer.__dict__[self.name]
        return None if value is UNSET else value

    @property
    def gradient(self) -> Array | None:
        """The gradient that has gathered there, None before a backward and for a frozen parameter."""
        self._refuse_lost()
        gradient = self.layer._grads.get(self.name)
        value = None if gradient is None or self.name in self.layer._frozen else self.layer.__dict__[self.name]
        if value is None or value is UNSET or gradient is None:
            return None
        if gradient.shape != value.shape or not _together(gradient, value):
            raise self._refusal(
                f"grads['{self.name}']",
                f"shape {tuple(gradient.shape)} in {place_of(gradient)}",
                f"shape {tuple(value.shape)} in {place_of(value)}, as the parameter's",
                "call zero_grad() when a parameter is given another shape, and assign gradients where it lives",
            )
        return gradient

    @property
    def is_settled(self) -> bool:
        """Whether the array has a library, a device and a dtype to stay with."""
        return self.name in self.layer._settled

    def put_gradient(self, gradient: Array) -> None:
        self.layer._grads[self.name] = gradient
        now = recording()
        if now is not None:
            now.gradients.append((self.layer._grads, self.name, gradient))

    def _refuse_lost(self) -> None:
        if self.name not in self.layer._parameters:
            raise self._refusal(
                "params",
                f"'{self.name}', which is no parameter of it any longer",
                f"one of {list(self.layer._parameters)}",
                "build the optimizer after the layer's parameters have their names, as after weight_norm(layer)",
            )

    def _refusal(self, argument: str, got: str, expected: str, mend: str) -> Exception:
        return refusal(f"{self.layer.title}, parameter '{self.key}'", argument, got, expected, mend)


def is_slot(item: object) -> bool:
    """Whether the item is (layer, name) or (dotted name, layer, name)."""
    if not isinstance(item, tuple) or len(item) not in (2, 3):
        return False
    return isinstance(item[-2], Layer) and isinstance(item[-1], str) and (len(item) == 2 or isinstance(item[0], str))


def slots_of(params: Any, where: str) -> list[Slot]:
    """The slots that `params` names, each once.

    `params` is a layer, `layer.params`, a (layer, name) pair, a mapping of names to layers or pairs, or an iterable of
    layers, pairs and the triples of `layer.parameter_slots()`. Dotted names are those in the outermost container.
    """
    out: list[Slot] = []
    seen: set[tuple[int, str]] = set()
    for slot in _walk(params, where):
        if (id(slot.layer), slot.name) not in seen:
            seen.add((id(slot.layer), slot.name))
            out.append(slot)
    return out


def _walk(params: Any, where: str, prefix: str | None = None) -> Iterator[Slot]:
    if isinstance(params, Layer):
        path = params.path if prefix is None else prefix
        for key, layer, name in params.parameter_slots():
            yield Slot(_dotted(path, key), layer, name)
    elif isinstance(params, Entries):
        yield from _walk(params._root, where, prefix)
    elif is_slot(params):
        *given, layer, name = params
        if name not in layer._parameters:
            raise refusal(
                where,
                "params",
                f"'{name}' of {layer.title}",
                f"one of its parameters: {', '.join(layer._parameters) or 'none'}",
                "use names of layer.params",
            )
        path = layer.path if prefix is None else prefix
        yield Slot(given[0] if given else _dotted(path, name), layer, name)
    elif isinstance(params, Mapping):
        for key, item in params.items():
            if is_slot(item):
                yield Slot(str(key), *item[-2:])
            else:
                yield from _walk(item, where, str(key))
    elif isinstance(params, Iterable) and not isinstance(params, str) and not is_array(params):
        for item in params:
            if isinstance(item, Layer) or is_slot(item):
                yield from _walk(item, where, prefix)
            else:
                raise _no_slot(where, item)
    else:
        raise _no_slot(where, params)


def _together(dx: Array, x: Array) -> bool:
    """Whether a gradient lives where x does, in its dtype or in the one that x is stepped in."""
    if array_namespace(dx) is not array_namespace(x):
        return False
    if dx.dtype != x.dtype and dx.dtype != accumulator(x):
        return False
    return device(dx) == device(x)


def _no_slot(where: str, item: Any) -> Exception:
    got = f"an array in {place_of(item)}" if is_array(item) else f"a {type(item).__name__}"
    return refusal(
        where,
        "params",
        got,
        "a layer, or (layer, name) pairs: parameters are found by their place, not by the array",
        f"pass the network, as in {where.partition('(')[0]}(net, ...)",
        TypeError,
    )


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
