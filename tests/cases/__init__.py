"""The table of cases: what a row is. The rows stand in this package, one file a family."""

import functools
import importlib
import pkgutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = [
    "Bad",
    "Case",
    "Fault",
    "Function",
    "distinct",
    "f32",
    "f64",
    "floats",
    "integers",
    "make",
    "masks",
    "positive",
    "probabilities",
    "rows",
    "values",
]


@dataclass(frozen=True)
class Spec:
    """How to draw an array: `draw(rng) -> float64 or int64 NumPy array`."""

    name: str
    draw: Callable[[np.random.Generator], np.ndarray]

    def __repr__(self) -> str:
        return self.name


def floats(*shape: int, scale: float = 1.0, shift: float = 0.0) -> Spec:
    """Normal floats; a bare tuple of ints in a row means the same."""
    return Spec(f"floats{shape}", lambda rng: rng.standard_normal(shape) * scale + shift)


def integers(shape: tuple[int, ...], high: int, low: int = 0) -> Spec:
    return Spec(f"integers{shape}<{high}", lambda rng: rng.integers(low, high, shape))


def positive(*shape: int) -> Spec:
    """Uniform in (0.1, 2)."""
    return Spec(f"positive{shape}", lambda rng: rng.uniform(0.1, 2.0, shape))


def probabilities(*shape: int, axis: int | None = None) -> Spec:
    """Uniform in (0.05, 0.95); with an axis, adding up to 1 along it."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        p = rng.uniform(0.05, 0.95, shape)
        return p if axis is None else p / p.sum(axis=axis, keepdims=True)

    return Spec(f"probabilities{shape}", draw)


def distinct(*shape: int) -> Spec:
    """Shuffled numbers, no two closer than 0.08, none within 0.02 of a multiple of a half: no kinks, no ties."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        n = int(np.prod(shape))
        return (rng.permutation(n) - n // 2).reshape(shape) * (1 / 12) + 0.03

    return Spec(f"distinct{shape}", draw)


def values(array: Any) -> Spec:
    """Exactly these."""
    array = np.asarray(array)
    name = str(array.tolist()) if array.size <= 4 else f"{array.shape}#{zlib.crc32(array.tobytes()) % 10000}"
    return Spec(f"values{name}", lambda rng: np.array(array))


def masks(*shape: int, keep: float = 0.7) -> Spec:
    """Booleans, true with probability `keep`."""
    return Spec(f"masks{shape}", lambda rng: rng.random(shape) < keep)


def make(spec: Any, rng: np.random.Generator) -> Any:
    """The arrays of a spec: a Spec, a tuple of ints (normal floats of that shape), None, or a nest of these."""
    if spec is None:
        return None
    if isinstance(spec, Spec):
        return spec.draw(rng)
    if isinstance(spec, tuple) and all(isinstance(n, int) for n in spec):
        return rng.standard_normal(spec)
    return tuple(make(s, rng) for s in spec)


def _text(value: Any) -> str:
    """An argument in the name of a row: the same in every process, so no address of a function and no long array."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, np.ndarray):
        return f"array{value.shape}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {_text(v)}' for k, v in value.items())}}}"
    return getattr(value, "__name__", None) or repr(value)


def seeded(text: str) -> np.random.Generator:
    """A generator of a row's own: the same in every process."""
    return np.random.default_rng(zlib.crc32(text.encode()))


@dataclass(frozen=True)
class Case:
    """A layer, its constructor's arguments, its inputs.

    twin(*args, **kwargs) builds torch's module where it is not `torch.nn.<layer>` with the same arguments.
    `call` holds keyword arguments of the forward that are no arrays, `arrays` those that are (name: spec);
    `twin_call(module, inputs, call)` calls torch's where the call differs. `build(*args, **kwargs)` builds ours where
    `xpl.<layer>` does not. `skip` maps a law or a backend to the reason why it does not hold.
    """

    layer: str
    args: tuple = ()
    kwargs: dict = field(default_factory=dict)
    inputs: tuple = ((2, 3),)
    call: dict = field(default_factory=dict)
    arrays: dict = field(default_factory=dict)
    twin: Callable[..., Any] | None = None
    twin_call: Callable[..., Any] | None = None
    build: Callable[..., Any] | None = None
    skip: dict = field(default_factory=dict)
    tolerance: float = 1.0

    def __str__(self) -> str:
        parts = [*map(_text, self.args), *(f"{k}={_text(v)}" for k, v in self.kwargs.items())]
        call = [f"{k}={_text(v)}" for k, v in {**self.call, **self.arrays}.items()]
        return f"{self.layer}({', '.join(parts)})-{', '.join([*map(repr, self.inputs), *call])}".replace(" ", "")


@dataclass(frozen=True)
class Function:
    """A functional pair: its name, its arrays in the order of the signature (name: spec or None), its other arguments.

    twin(**arrays, **kwargs) is called where it is not `torch.nn.functional.<name>` (our `x` is its `input`).
    `gradients` names the arrays whose gradients are compared; by default the floating ones.
    """

    name: str
    arrays: dict
    kwargs: dict = field(default_factory=dict)
    twin: Callable[..., Any] | None = None
    gradients: tuple[str, ...] | None = None
    skip: dict = field(default_factory=dict)
    tolerance: float = 1.0

    def given(self, xp: Any) -> dict:
        """The other arguments for a library: a row names a dtype, and each library has its own."""
        return {k: getattr(xp, v) if k == "dtype" and isinstance(v, str) else v for k, v in self.kwargs.items()}

    def __str__(self) -> str:
        parts = [f"{k}={_text(v)}" for k, v in {**self.arrays, **self.kwargs}.items()]
        return f"{self.name}({', '.join(parts)})".replace(" ", "")


@dataclass(frozen=True)
class Bad:
    """A wrong call and the five parts of what it is told: pieces of text that the message holds."""

    call: Callable[[], Any]
    layer: str
    argument: str
    got: str
    expected: str
    mend: str
    kind: type[Exception] = ValueError


@dataclass(frozen=True)
class Fault:
    """A bug to plant: in `where` (functional's "linear.linear_backward", or "layers.linear.Affine.backward"), `old`
    becomes `new`.

    `cases` names the layers (by the beginning of the row's text) whose laws must notice.
    """

    where: str
    old: str
    new: str
    cases: str


def f32(*shape: int) -> np.ndarray:
    """Any float32 array of that shape, for the tables of bad calls."""
    return np.ones(shape, np.float32)


def f64(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float64)


def in_spread(row: object) -> bool:
    """Whether a row is one of the eighth that CI runs on a slow backend: the same ones each time."""
    return zlib.crc32(str(row).encode()) % 8 == 0


def in_half(*words: object) -> bool:
    """Whether a combination is in the half of them that CI runs: the same one each time."""
    return zlib.crc32(" ".join(map(str, words)).encode()) % 2 == 0


def is_first(row: object) -> bool:
    """Whether a row is the first of its layer."""
    return isinstance(row, Case) and row is next(c for c in rows("LAYERS") if c.layer == row.layer)


@functools.cache
def rows(table: str) -> tuple:
    """All rows of one table ("LAYERS", "FUNCTIONS", "BAD_CALLS", "FAULTS") over the families."""
    out: list = []
    for info in pkgutil.iter_modules(__path__):
        out += getattr(importlib.import_module(f"{__name__}.{info.name}"), table, [])
    return tuple(out)
