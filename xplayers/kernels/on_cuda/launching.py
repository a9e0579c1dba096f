"""Where CUDA C++ is compiled and launched and its answers allocated: nothing else of this package meets a device.

A family of kernels is a file `<family>.cu` over `types.cuh` and `rows.cuh`; it is written for types T, A (what sums are
taken in) and others that `types` names, and compiled once for each choice of them. It includes no header of CUDA's, so
that NVRTC alone, which comes with CuPy, compiles it.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = [
    "FLOATS",
    "Types",
    "accumulator",
    "address",
    "blocks_of",
    "contiguous",
    "elements",
    "empty",
    "gradient",
    "grid_of",
    "is_here",
    "launch",
    "one_block",
    "product",
    "rows",
    "source",
    "types",
    "zeros",
]

_HERE = Path(__file__).parent
_NAMES = {
    "float32": "float",
    "float64": "double",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "int32": "int",
    "int64": "i64",
}
FLOATS = ("float32", "float64", "float16", "bfloat16")
_LARGEST = 2**31 - 1  # blocks of a grid

Types = tuple[tuple[str, str], ...]
Shape = tuple[int, ...]


class Card:
    """The current device and stream of CuPy. Tests put a host in its place."""

    threads = 256  # of a block: enough to wait for memory in, few enough that eight blocks share a processor

    @property
    def xp(self) -> Any:
        import cupy

        return cupy

    @staticmethod
    @functools.cache
    def kernel(family: str, name: str, types: Types) -> Callable[..., Any]:
        return _module(family, types).get_function(name)

    def contiguous(self, x: Any, dtype: Any = None) -> Any:
        return self.xp.ascontiguousarray(x, dtype)

    def address(self, x: Any) -> int:
        return x.data.ptr

    def is_here(self, x: Any) -> bool:
        return x.data.device_id == self.xp.cuda.runtime.getDevice()


machine: Any = Card()


@functools.cache
def _module(family: str, types: Types) -> Any:
    import cupy

    return cupy.RawModule(code=source(family, types), options=("-std=c++17",))


def source(family: str, types: Types, first: str = "types.cuh") -> str:
    """The text that is compiled."""
    usings = "".join(f"using {name} = {kind};\n" for name, kind in types)
    types_text, rows_text, kernels = ((_HERE / f).read_text() for f in (first, "rows.cuh", f"{family}.cu"))
    return types_text + usings + rows_text + kernels


def accumulator(dtype: Any) -> str:
    """The dtype of sums: float32, and float64 of float64."""
    return "float64" if dtype.name == "float64" else "float32"


def types(T: Any, **others: Any) -> Types:
    """The types of a family by dtypes: T, A for T, and others."""
    return (
        ("T", _NAMES[T.name]),
        ("A", _NAMES[accumulator(T)]),
        *((name, _NAMES[dtype.name]) for name, dtype in others.items()),
    )


def contiguous(x: Any, dtype: Any = None) -> Any:
    """x in C order and of a dtype, itself where it is so; None stays."""
    return None if x is None else machine.contiguous(x, dtype)


def gradient(dy: Any, shape: Shape, dtype: Any) -> Any:
    """dy as a kernel reads it: of the answer's shape and dtype, so that nothing is read beyond its end."""
    dy = machine.xp.asarray(dy, dtype)
    return machine.contiguous(dy if dy.shape == tuple(shape) else machine.xp.broadcast_to(dy, shape))


def empty(shape: Shape, dtype: Any) -> Any:
    return machine.xp.empty(shape, dtype)


def zeros(shape: Shape, dtype: Any) -> Any:
    return machine.xp.zeros(shape, dtype)


def address(x: Any) -> int:
    """Where the numbers of x begin, for a struct that holds it; the caller keeps x until the launch."""
    return machine.address(x)


def is_here(x: Any) -> bool:
    """Whether x lives on the current device, where kernels run."""
    return machine.is_here(x)


def product(a: Any, b: Any) -> Any:
    """a b of matrices, in the dtype of a whatever the library makes of bfloat16."""
    return (a @ b).astype(a.dtype, copy=False)


def rows(count: int, n: int, parts: int = 1) -> tuple[Shape, Shape]:
    """Grid and block for `count` rows of n numbers: a warp for a short row, a block for a long one."""
    t = machine.threads
    if n <= 4 * t:
        return grid_of(count, t // 32, parts), (32, t // 32)
    return grid_of(count, 1, parts), (t if n <= 32 * t else 4 * t, 1)


def grid_of(count: int, each: int, parts: int = 1) -> Shape:
    """Blocks for `count` pieces of work, `each` of them a block."""
    return (-(-count // each), parts)


def blocks_of(count: int) -> tuple[Shape, Shape]:
    """Grid and block for `count` blocks, which share the work out by themselves."""
    return grid_of(count, 1), (machine.threads, 1)


def one_block() -> tuple[Shape, Shape]:
    return (1, 1), (4 * machine.threads, 1)


def elements(count: int) -> tuple[Shape, Shape]:
    """Grid and block for numbers one by one: a thread takes several where they are more than a grid holds."""
    return (min(-(-count // machine.threads), _LARGEST), 1), (machine.threads, 1)


def launch(family: str, name: str, types: Types, shape: tuple[Shape, Shape], *arguments: Any) -> None:
    """Runs a kernel on contiguous arrays (None: a null pointer), ints (long long), floats (double) and structs.

    A struct is passed by value: a NumPy array of one element, packed as the kernel's compiler does it.
    """
    grid, block = shape
    given = tuple(int(a) if isinstance(a, bool) else a for a in arguments)
    machine.kernel(family, name, types)(grid, block, given)
