"""Parameters that are computed from others at every call. Twins: torch.nn.utils.parametrizations.

A layer keeps its place and its class's mathematics. The parameter's name is given over to a child under
`parametrizations`, which holds what is trained instead; state dicts, gradients, optimizers, `to` and `freeze` find
these by their dotted names, which are torch's: `parametrizations.weight.original0` (g) and `.original1` (v) of
`weight_norm`; `parametrizations.weight.original`, `.0._u` and `.0._v` of `spectral_norm`. Build optimizers afterwards.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xplayers import functional as F
from xplayers.arrays import Array, array_namespace, convert, device, host_normal, is_array
from xplayers.errors import refusal

from .container import ModuleDict
from .convolution import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .layer import Layer, record
from .tape import Tape

__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]


def weight_norm(module: Layer, name: str = "weight", dim: int | None = 0) -> Layer:
    """Makes the parameter g v / ||v||, the norm over all axes but `dim`. See `functional.weight_norm_forward`.

    The layer itself is changed and returned; g and v start with the parameter's own norm and value.
    """
    weight = _free_parameter(module, name, "weight_norm")
    _refuse_dim("weight_norm", weight, dim)
    return _install(module, name, _WeightNorm(module, name, weight, dim))


def spectral_norm(
    module: Layer,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
    *,
    rng: Any = None,
) -> Layer:
    """Divides the parameter by its largest singular value. See `functional.spectral_norm_forward`.

    The layer itself is changed and returned. Each call in training mode makes `n_power_iterations` steps towards the
    singular vectors, which start at random (`rng`) with 15 steps. `dim` counts the outputs: by default 1 for
    transposed convolutions, 0 otherwise. Looking at the parameter between calls makes no step (torch makes one).
    """
    weight = _free_parameter(module, name, "spectral_norm")
    if dim is None:
        dim = 1 if isinstance(module, ConvTranspose1d | ConvTranspose2d | ConvTranspose3d) else 0
    _refuse_dim("spectral_norm", weight, dim)
    if not isinstance(n_power_iterations, int) or n_power_iterations <= 0:
        raise refusal(
            "spectral_norm",
            "n_power_iterations",
            repr(n_power_iterations),
            "a positive integer",
            "pass n_power_iterations=1",
        )
    return _install(module, name, _SpectralNorm(module, name, weight, dim % weight.ndim, n_power_iterations, eps, rng))


def remove_weight_norm(module: Layer, name: str = "weight") -> Layer:
    """Makes the parameter a plain one again, with the value that it has now."""
    return _remove(module, name, _WeightNorm, "weight_norm")


def remove_spectral_norm(module: Layer, name: str = "weight") -> Layer:
    """Makes the parameter a plain one again, with the value that it has now: divided, without another step."""
    return _remove(module, name, _SpectralNorm, "spectral_norm")


class _Parametrization(Layer):
    """What stands in for one parameter of a layer. It is no step of a network: its host calls it."""

    originals: tuple[str, ...]

    def __init__(self, host: Layer, name: str) -> None:
        super().__init__()
        self.declared = host._parameters[name]
        self.training = host.training
        if name in host._frozen:
            self._frozen.update(self.originals)
        if name in host._settled:
            self._settled.update(self.originals)

    def compute(self, update: bool = True) -> tuple[Array, tuple]:
        """The parameter, and the cache of its pair. `update` lets training move what it tracks."""
        raise NotImplementedError

    def undo(self, gradient: Array | None, cache: tuple) -> None:
        """Adds the gradients of the originals."""
        raise NotImplementedError

    def assign(self, value: Array) -> None:
        """Takes a value for the parameter."""
        raise NotImplementedError

    def _wants(self, *names: str) -> tuple[bool, ...]:
        return tuple(name not in self._frozen for name in names)


class _WeightNorm(_Parametrization):
    originals = ("original0", "original1")

    def __init__(self, host: Layer, name: str, weight: Array, dim: int | None) -> None:
        super().__init__(host, name)
        self.dim = dim
        self.parameter("original0", F.weight_norm_magnitude(weight, dim))
        self.parameter("original1", weight)

    def describe(self) -> str:
        return f"dim={self.dim}"

    def compute(self, update: bool = True) -> tuple[Array, tuple]:
        return F.weight_norm_forward(self.original1, self.original0, self.dim)

    def undo(self, gradient: Array | None, cache: tuple) -> None:
        dv = dg = None
        if gradient is not None:
            dv, dg = F.weight_norm_backward(gradient, cache, wanted=self._wants("original1", "original0"))
        self.accumulate(original0=dg, original1=dv)

    def assign(self, value: Array) -> None:
        self.original1 = value
        self.original0 = F.weight_norm_magnitude(value, self.dim)


class _Vectors(Layer):
    """The singular vectors that a `_SpectralNorm` keeps, under torch's names."""

    def __init__(self, u: Array, v: Array) -> None:
        super().__init__()
        self.buffer("_u", u)
        self.buffer("_v", v)


class _SpectralNorm(_Parametrization):
    originals = ("original",)

    def __init__(
        self, host: Layer, name: str, weight: Array, dim: int, n_power_iterations: int, eps: float, rng: Any
    ) -> None:
        super().__init__(host, name)
        self.dim = dim
        self.n_power_iterations = n_power_iterations
        self.eps = eps
        self.parameter("original", weight)
        if weight.ndim < 2:
            return
        n = weight.shape[dim]
        m = 1
        for i, size in enumerate(weight.shape):
            m *= size if i != dim else 1
        here = {"device": device(weight), "dtype": weight.dtype}
        u, v = (convert(host_normal(rng, (size,)), array_namespace(weight), **here) for size in (n, m))
        _, cache = F.spectral_norm_forward(weight, u, v, dim, 15, eps)
        vectors = _Vectors(*F.spectral_norm_vectors(cache))
        if name in host._settled:
            vectors._settled.update(("_u", "_v"))
        vectors.training = self.training
        self.adopt("0", vectors)

    def describe(self) -> str:
        return f"dim={self.dim}, n_power_iterations={self.n_power_iterations}, eps={self.eps}"

    def door(self, *args: Any, **named: Any) -> None:
        super().door(*args, **named)
        for child in self.children():
            child.door(*args, **named)

    def compute(self, update: bool = True) -> tuple[Array, tuple]:
        vectors = self._children.get("0")
        if vectors is None:
            return F.spectral_norm_forward(self.original, eps=self.eps)
        steps = self.n_power_iterations if self.training and update else 0
        y, cache = F.spectral_norm_forward(self.original, vectors._u, vectors._v, self.dim, steps, self.eps)
        if steps:
            vectors.track(lambda: dict(zip(("_u", "_v"), F.spectral_norm_vectors(cache), strict=True)))
        return y, cache

    def undo(self, gradient: Array | None, cache: tuple) -> None:
        dx = None
        if gradient is not None and "original" not in self._frozen:
            dx, _, _ = F.spectral_norm_backward(gradient, cache)
        self.accumulate(original=dx)

    def assign(self, value: Array) -> None:
        self.original = value


# -- the host --


class _Standing(threading.local):
    """In this thread: for each layer that is being called, its computed parameters and the gradients that came back."""

    def __init__(self) -> None:
        self.values: dict[int, dict[str, Array]] = {}
        self.gradients: dict[int, dict[str, Array]] = {}


_standing = _Standing()


@contextmanager
def _stand_in(layer: Layer, values: dict[str, Array]) -> Iterator[dict[str, Array]]:
    key = id(layer)
    _standing.values[key], _standing.gradients[key] = values, {}
    try:
        yield _standing.gradients[key]
    finally:
        del _standing.values[key], _standing.gradients[key]


class _Reparametrized(Layer):
    """Goes before a layer's own class: computes the parameters before its forward, undoes them after its backward."""

    _host: type[Layer]
    parametrizations: ModuleDict

    def forward(self, *args: Any, tape: Tape | None = None, **kwargs: Any) -> Any:
        found = {name: p.compute() for name, p in self.parametrizations.items()}
        with _stand_in(self, {name: value for name, (value, _) in found.items()}):
            y = super().forward(*args, tape=tape, **kwargs)
        record(tape, self, tuple(found.values()))  # above what the layer itself recorded
        return y

    def backward(self, dy: Any = None, *, tape: Tape) -> Any:
        found = dict(zip(self.parametrizations.keys(), tape.pop(self), strict=True))
        with _stand_in(self, {name: value for name, (value, _) in found.items()}) as gradients:
            dx = super().backward(dy, tape=tape)
        for name, (_, cache) in found.items():
            self.parametrizations[name].undo(gradients.get(name), cache)
        return dx

    def wanted(self, tape: Tape, *names: str, inputs: int = 1) -> tuple[bool, ...]:
        found = super().wanted(tape, *names, inputs=inputs)
        own = (not (n in self.parametrizations and self._is_still(n)) for n in names)
        return (*found[:inputs], *(w and o for w, o in zip(found[inputs:], own, strict=True)))

    def accumulate(self, **gradients: Array | None) -> None:
        held = _standing.gradients[id(self)]
        for name in [n for n in gradients if n in self.parametrizations]:
            gradient = gradients.pop(name)
            if gradient is not None:
                held[name] = held[name] + gradient if name in held else gradient
        super().accumulate(**gradients)

    def door(self, *args: Any, **named: Any) -> None:
        super().door(*args, **named)
        for p in self.parametrizations.values():
            p.door(*args, **named)

    def _is_still(self, name: str) -> bool:
        """Whether nothing that the parameter is computed from is trained."""
        p = self.parametrizations[name]
        return p._frozen.issuperset(p.originals)

    def __getattr__(self, name: str) -> Any:
        parametrizations = self.__dict__.get("parametrizations", ())
        if name not in parametrizations:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        standing = _standing.values.get(id(self))
        return parametrizations[name].compute(update=False)[0] if standing is None else standing[name]

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("parametrizations", ()):
            self.parametrizations[name].assign(value)
        else:
            super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _blank, (self._host,), self.__getstate__()


_classes: dict[Any, type[Layer]] = {}


def _with_parametrizations(host: type[Layer]) -> type[Layer]:
    """The one subclass of a layer's class that computes parameters; it goes by the same name."""
    if host not in _classes:
        _classes[host] = type(host.__name__, (_Reparametrized, host), {"__doc__": host.__doc__, "_host": host})
    return _classes[host]


def _blank(host: type[Layer]) -> Layer:
    """An empty layer for copies and pickles to fill."""
    return object.__new__(_with_parametrizations(host))


def _install(layer: Layer, name: str, p: _Parametrization) -> Layer:
    if not isinstance(layer, _Reparametrized):
        object.__setattr__(layer, "__class__", _with_parametrizations(type(layer)))
        layer.adopt("parametrizations", ModuleDict())
    del layer._parameters[name], layer.__dict__[name]
    layer._settled.discard(name)
    layer._frozen.discard(name)
    layer._grads.pop(name, None)
    layer._drop_own_tape()
    layer.parametrizations[name] = p
    layer.parametrizations.training = layer.training
    return layer


def _remove(layer: Layer, name: str, kind: type[_Parametrization], what: str) -> Layer:
    p = layer.parametrizations[name] if isinstance(layer, _Reparametrized) and name in layer.parametrizations else None
    if not isinstance(p, kind):
        raise refusal(
            layer.title if isinstance(layer, Layer) else f"remove_{what}",
            "name",
            f"{name!r}, which is under no {what}",
            f"a parameter under {what}",
            f"call {what}(layer, {name!r}) first",
        )
    value = p.compute(update=False)[0]
    settled, still = p.originals[-1] in p._settled, layer._is_still(name)
    del layer.parametrizations[name]
    layer._parameters[name] = p.declared
    layer.__dict__[name] = value
    if settled:
        layer._settled.add(name)
    if still:
        layer._frozen.add(name)
    layer._place = None
    layer._drop_own_tape()
    if not len(layer.parametrizations):
        del layer._children["parametrizations"], layer.__dict__["parametrizations"]
        object.__setattr__(layer, "__class__", layer._host)
    return layer


def _free_parameter(layer: Layer, name: str, where: str) -> Array:
    """The array of a parameter that nothing stands in for yet."""
    if not isinstance(layer, Layer):
        raise refusal(where, "module", f"a {type(layer).__name__}", "a layer", f"pass {where}(layer)", TypeError)
    if isinstance(layer, _Reparametrized) and name in layer.parametrizations:
        raise refusal(
            layer.title,
            "name",
            f"{name!r}, which is computed already",
            "a plain parameter",
            f"call remove_{where}(layer, {name!r}), or leave this call out",
        )
    value = layer.__dict__.get(name) if name in layer._parameters else None
    if not is_array(value):
        known = [n for n in layer._parameters if is_array(layer.__dict__[n])]
        raise refusal(
            layer.title,
            "name",
            f"{name!r}, which is no parameter with a value",
            f"one of {known}" if known else "the name of a parameter",
            "pass another name, or assign the parameter first",
        )
    return value


def _refuse_dim(where: str, weight: Array, dim: int | None) -> None:
    if dim is not None and (not isinstance(dim, int) or not -weight.ndim <= dim < weight.ndim):
        raise refusal(
            where,
            "dim",
            repr(dim),
            f"an axis of the parameter's shape {tuple(weight.shape)}",
            f"pass a dim between {-weight.ndim} and {weight.ndim - 1}",
        )
