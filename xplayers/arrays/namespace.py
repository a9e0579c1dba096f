"""Where an array lives: its namespace, device and dtype, and the ways in and out of a library."""

import functools
import math
from collections.abc import Iterator
from typing import Any

import array_api_compat as aac
import numpy as np

from xplayers.errors import refusal

__all__ = [
    "Array",
    "accumulator",
    "array_namespace",
    "as_array",
    "convert",
    "device",
    "from_numpy",
    "is_array",
    "is_floating",
    "is_integer",
    "is_read_only",
    "is_traced",
    "know",
    "leaves",
    "like",
    "namespace_of_module",
    "nbytes",
    "place_of",
    "size",
    "to_numpy",
    "unscalar",
]

Array = Any  # any array of any library: the Array API has no common type to name

_BY_TYPE: dict[type, Any] = {}  # 0.07 us instead of 1.3 us for a look-up by value


def array_namespace(*arrays: Any) -> Any:
    """The Array API namespace that all the arrays share. None and Python scalars are ignored.

    Raises TypeError for lists, np.matrix and other things that are no arrays, and where the arrays come from different
    libraries.
    """
    found: Any = None
    for x in arrays:
        xp = _BY_TYPE.get(type(x))
        if xp is None:
            if isinstance(x, np.generic):  # what NumPy makes of 0-d arrays; a np.float64 is a Python float as well
                x = np.asarray(x)
            if x is None or isinstance(x, bool | int | float | complex):
                continue
            xp = _namespace_of_type(x)
        if found is None:
            found = xp
        elif xp is not found:
            names = " and ".join(sorted({_library(found), _library(xp)}))
            raise TypeError(f"arrays of different libraries meet: {names}. Mend: move them into one library first")
    if found is None:
        raise TypeError("no array among the arguments. Mend: pass at least one array")
    return found


def _namespace_of_type(x: Any) -> Any:
    if isinstance(x, np.matrix):  # its * is a matrix product and it never leaves two dimensions
        raise TypeError("got np.matrix, expected an array. Mend: pass np.asarray(x)")
    if not aac.is_array_api_obj(x):
        raise TypeError(f"got {type(x).__name__}, expected an array. Mend: pass an array, as np.asarray(x) makes one")
    xp = _BY_TYPE[type(x)] = aac.array_namespace(x)
    return xp


def know(kind: type, xp: Any) -> None:
    """Makes a type known whose objects stand for arrays while a function is traced, and the namespace they share."""
    _BY_TYPE[kind] = xp


def _library(xp: Any) -> str:
    return xp.__name__.removeprefix("array_api_compat.").split(".")[0]


def is_array(x: object) -> bool:
    """Whether x is an array that layers take: np.matrix, NumPy scalars and lists are not."""
    return type(x) in _BY_TYPE or (aac.is_array_api_obj(x) and not isinstance(x, np.matrix | np.generic))


def is_traced(x: Array) -> bool:
    """Whether x stands for an array inside jax.jit: it has a shape and a dtype, but no device and no values."""
    return type(x).__name__.endswith("Tracer")


def device(x: Array) -> Any:
    """The device of an array, to be handed to a creation function; None under jax.jit, where it is not known."""
    if type(x) is np.ndarray:
        return "cpu"
    return None if is_traced(x) else aac.device(x)


def like(x: Array) -> dict[str, Any]:
    """`dtype=` and `device=` of an array: `xp.zeros(shape, **like(x))`."""
    return {"dtype": x.dtype, "device": device(x)}


def place_of(x: Array) -> str:
    """A short description for messages: `numpy float32` or `torch float64 on cuda:0`."""
    xp = array_namespace(x)
    dtype = str(x.dtype).removeprefix("torch.").rsplit(".", 1)[-1]
    where = str(device(x))
    return f"{_library(xp)} {dtype}" + ("" if where in ("cpu", "None") else f" on {where}")


def namespace_of_module(xp: Any) -> Any:
    """The compatible namespace of a module that a user names: `numpy`, `cupy`, `torch`, `jax.numpy`, ..."""
    if hasattr(xp, "asarray"):
        return array_namespace(xp.asarray(0.0))
    raise refusal(
        "xplayers",
        "xp",
        repr(xp),
        "an array library",
        "pass the module, as in xp=jax.numpy; a device goes to device=",
        TypeError,
    )


def size(x: Array) -> int:
    """The number of elements (`x.size` is a method on torch)."""
    return math.prod(x.shape)


def is_floating(x: Array) -> bool:
    return _is_kind(array_namespace(x), "real floating", x.dtype)


def is_integer(x: Array) -> bool:
    return _is_kind(array_namespace(x), "integral", x.dtype)


# A dtype has few values, and asking costs more than a small layer's product. What comes before the dtype in a cache's
# key parts the libraries: array-api-strict warns where a dtype of its own is compared with NumPy's.
@functools.cache
def _is_kind(xp: Any, kind: str, dtype: Any) -> bool:
    try:
        return xp.isdtype(dtype, kind)
    except (TypeError, ValueError):  # bfloat16 is unknown to some isdtype
        return kind == "real floating" and "bfloat16" in str(dtype)


def accumulator(x: Array) -> Any:
    """The dtype to accumulate in: float32 for the half precisions, the array's own otherwise."""
    xp, dtype = array_namespace(x), x.dtype
    return xp.float32 if _is_half(xp, dtype) else dtype


@functools.cache
def _is_half(xp: Any, dtype: Any) -> bool:
    return str(dtype).endswith("float16")


def is_read_only(x: Array) -> bool:
    """Whether writing into x is impossible: a JAX array, a read-only NumPy array."""
    if type(x) is np.ndarray:  # before the look-ups, which a step of an optimizer would make for each parameter
        return not x.flags.writeable
    if aac.is_jax_array(x) or aac.is_dask_array(x):
        return True
    flags = getattr(x, "flags", None)
    return flags is not None and not getattr(flags, "writeable", True)


def to_numpy(x: Array) -> np.ndarray:
    """The values as a NumPy array, from any library and device. Shares memory where the library does."""
    if isinstance(x, np.ndarray):
        return x
    if isinstance(x, np.generic):
        return np.asarray(x)
    if aac.is_torch_array(x):
        x = x.detach().cpu()
        if "bfloat16" in str(x.dtype):
            import ml_dtypes

            return x.float().numpy().astype(ml_dtypes.bfloat16)
        return x.numpy()
    if aac.is_cupy_array(x):
        return x.get()
    if hasattr(x, "unwrap_numpy"):  # ndonnx
        return x.unwrap_numpy()
    if hasattr(x, "__array_namespace__") and hasattr(array_namespace(x), "Device"):  # array-api-strict
        x = aac.to_device(x, array_namespace(x).Device("CPU_DEVICE"))
    return np.asarray(x)


def from_numpy(a: np.ndarray, xp: Any, *, device: Any = None, dtype: Any = None) -> Array:
    """A fresh array of the library `xp` with the values of `a`; never a view of it."""
    if aac.is_torch_namespace(xp) and "bfloat16" in str(a.dtype):
        return xp.asarray(a.astype(np.float32), device=device, dtype=dtype or xp.bfloat16)
    if aac.is_jax_namespace(xp):
        import jax

        with jax.ensure_compile_time_eval():  # a value of its own even inside jax.jit, where asarray would be traced
            return xp.array(a, device=device, dtype=dtype)
    if aac.is_torch_namespace(xp) and dtype is not None:  # torch.asarray refuses a dtype for a 0-d copy
        return xp.astype(xp.asarray(a, device=device, copy=True), dtype, copy=False)
    return xp.asarray(a, device=device, dtype=dtype, copy=True)


def convert(x: Array, xp: Any, *, device: Any = None, dtype: Any = None) -> Array:
    """A fresh copy of x in the library `xp`, on `device` (None: the library's default) with `dtype` (None: x's own)."""
    if array_namespace(x) is xp:
        if device is not None and device != aac.device(x):
            x = aac.to_device(x, device)
        if is_traced(x):
            return x if dtype is None else xp.astype(x, dtype)
        return xp.asarray(x, copy=True) if dtype is None or dtype == x.dtype else xp.astype(x, dtype)
    return from_numpy(to_numpy(x), xp, device=device, dtype=dtype)


def nbytes(x: Array) -> int:
    """The memory of the elements, in bytes."""
    xp = array_namespace(x)
    if xp.isdtype(x.dtype, "bool"):
        return size(x)
    info = xp.iinfo if is_integer(x) else xp.finfo
    return size(x) * info(x.dtype).bits // 8


def leaves(tree: Any) -> Iterator[Array]:
    """The arrays of a nest of tuples, in order; everything that is no array is passed over."""
    if isinstance(tree, tuple):
        for branch in tree:
            yield from leaves(branch)
    elif is_array(tree):
        yield tree


def unscalar(x: Any) -> Any:
    """NumPy numbers as the 0-d arrays that any other library gives, in tuples too; everything else as it is."""
    if isinstance(x, np.generic):
        return np.asarray(x)
    return tuple(map(unscalar, x)) if type(x) is tuple else x


def as_array(x: Any) -> Array | None:
    """x itself where it is an array, a NumPy number as a 0-d array, None where it is neither."""
    if isinstance(x, np.generic):
        return np.asarray(x)
    return x if is_array(x) else None
