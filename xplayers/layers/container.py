"""Containers: layers made of layers. Each is one line forward and one line back, as the tape is a stack."""

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from xplayers.arrays import Array, array_namespace
from xplayers.errors import refusal

from .layer import Layer, add_gradients, record
from .tape import Tape

__all__ = ["Concat", "ModuleDict", "ModuleList", "Residual", "Sequential"]


class _Ordered(Layer):
    """Children in order, under the names "0", "1", ... or names of their own."""

    def _at(self, index: int) -> str:
        names = list(self._children)
        try:
            return names[operator.index(index)]
        except IndexError:
            raise IndexError(
                f"{type(self).__name__}: index {index} is out of range, it has {len(names)} layers"
            ) from None

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)._of(list(self._children.items())[index])
        if isinstance(index, str):
            return self._children[index]
        return self._children[self._at(index)]

    def __setitem__(self, index: int, layer: Layer) -> None:
        self.adopt(self._at(index), layer)

    def __len__(self) -> int:
        return len(self._children)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._children.values())

    def __reversed__(self) -> Iterator[Layer]:
        return reversed(self._children.values())

    def append(self, layer: Layer) -> "_Ordered":
        self.adopt(str(len(self._children)), layer)
        return self

    def extend(self, layers: Iterable[Layer]) -> "_Ordered":
        for layer in layers:
            self.append(layer)
        return self

    @classmethod
    def _of(cls, items: list[tuple[str, Layer]]) -> "_Ordered":
        """A container of the same kind with these children; they keep their parents."""
        out = cls()
        for i, (name, layer) in enumerate(items):
            out.adopt(str(i) if name.isdigit() else name, layer)
        return out

    def describe(self) -> str:
        return f"{len(self)} layers"


class Sequential(_Ordered):
    """The layers one after the other: y = l_n(... l_1(x)). Twin: torch.nn.Sequential.

    Takes layers, or one mapping of names to layers. Indexed by number, slice or name.
    """

    def __init__(self, *layers: Layer | Mapping[str, Layer]) -> None:
        super().__init__()
        if len(layers) == 1 and isinstance(layers[0], Mapping):
            for name, layer in layers[0].items():
                self.adopt(name, layer)
        else:
            self.extend(layers)  # type: ignore[arg-type]

    def forward(self, x: Array, *, tape: Tape | None = None) -> Any:
        for layer in self:
            x = layer.forward(x, tape=tape)
        return x

    def backward(self, dy: Any, *, tape: Tape) -> Any:
        for layer in reversed(self):
            dy = layer.backward(dy, tape=tape)
        return dy


class Residual(Layer):
    """y = shortcut(x) + body(x), the shortcut being the identity where none is given.

    No torch twin. Source: He et al., Deep residual learning for image recognition (2015).
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def describe(self) -> str:
        return type(self.body).__name__ + ("" if self.shortcut is None else f", {type(self.shortcut).__name__}")

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        skip = x if self.shortcut is None else self.shortcut.forward(x, tape=tape)
        y = self.body.forward(x, tape=tape)
        if y.shape != skip.shape:
            raise self.refusal(
                "body",
                f"an output of shape {y.shape}",
                f"shape {skip.shape}, that of the shortcut's",
                "give the two branches the same output, as with shortcut=Conv2d(c_in, c_out, 1, stride)",
            )
        return skip + y

    def backward(self, dy: Array, *, tape: Tape) -> Array | None:
        dx = self.body.backward(dy, tape=tape)
        return add_gradients(dx, dy if self.shortcut is None else self.shortcut.backward(dy, tape=tape))


class Concat(_Ordered):
    """The outputs of branches that all see x, joined along the axis `dim`. No torch twin.

    Source: Szegedy et al., Going deeper with convolutions (2014).
    """

    def __init__(self, *branches: Layer | Mapping[str, Layer], dim: int = 1) -> None:
        super().__init__()
        self.dim = dim
        if len(branches) == 1 and isinstance(branches[0], Mapping):
            for name, layer in branches[0].items():
                self.adopt(name, layer)
        else:
            self.extend(branches)  # type: ignore[arg-type]

    def describe(self) -> str:
        return f"{len(self)} branches, dim={self.dim}"

    def forward(self, x: Array, *, tape: Tape | None = None) -> Array:
        if not len(self):
            raise self.refusal("branches", "none", "at least one", "build Concat(branch, ...)")
        parts = [branch.forward(x, tape=tape) for branch in self]
        first = parts[0]
        if not -first.ndim <= self.dim < first.ndim:
            raise self.refusal("dim", str(self.dim), f"an axis of {first.shape}", "pass another dim")
        axis = self.dim % first.ndim
        for i, part in enumerate(parts):
            if part.ndim != first.ndim or any(
                n != m for a, (n, m) in enumerate(zip(part.shape, first.shape, strict=True)) if a != axis
            ):
                raise self.refusal(
                    f"branch {i}",
                    f"an output of shape {part.shape}",
                    f"{first.shape} but for axis {self.dim}",
                    "give the branches outputs of the same shape on all other axes",
                )
        record(tape, self, (axis, tuple(part.shape[axis] for part in parts)))
        return array_namespace(x).concat(parts, axis=axis)

    def backward(self, dy: Array, *, tape: Tape) -> Array | None:
        axis, sizes = tape.pop(self)
        end = dy.shape[axis]
        gradients = []
        for branch, size in zip(reversed(self), reversed(sizes), strict=True):
            part = dy[(*(slice(None),) * axis, slice(end - size, end), ...)]
            gradients.append(branch.backward(part, tape=tape))
            end -= size
        return add_gradients(*gradients)


class ModuleList(_Ordered):
    """A list of layers, which its owner calls itself. Twin: torch.nn.ModuleList."""

    def __init__(self, modules: Iterable[Layer] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def insert(self, index: int, layer: Layer) -> None:
        layers = list(self)
        layers.insert(index, layer)
        for i, each in enumerate(layers):
            self.adopt(str(i), each)

    @classmethod
    def _of(cls, items: list[tuple[str, Layer]]) -> "ModuleList":
        return cls(layer for _, layer in items)


class ModuleDict(Layer):
    """A dictionary of layers, which its owner calls itself. Twin: torch.nn.ModuleDict."""

    def __init__(self, modules: Mapping[str, Layer] | Iterable[tuple[str, Layer]] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def update(self, modules: Mapping[str, Layer] | Iterable[tuple[str, Layer]]) -> None:
        for name, layer in dict(modules).items():
            self[name] = layer

    def __getitem__(self, name: str) -> Layer:
        return self._children[name]

    def __setitem__(self, name: str, layer: Layer) -> None:
        if hasattr(type(self), name):
            raise refusal(
                type(self).__name__, "name", repr(name), "a name that is no method", "choose another", KeyError
            )
        self.adopt(name, layer)

    def __delitem__(self, name: str) -> None:
        del self._children[name]
        del self.__dict__[name]

    def __contains__(self, name: object) -> bool:
        return name in self._children

    def __len__(self) -> int:
        return len(self._children)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._children)

    def keys(self) -> Iterable[str]:
        return self._children.keys()

    def values(self) -> Iterable[Layer]:
        return self._children.values()

    def items(self) -> Iterable[tuple[str, Layer]]:
        return self._children.items()
