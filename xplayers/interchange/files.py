"""`save` and `load`: one call for every format, and no half-written file."""

import contextlib
import numbers
import os
import secrets
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from xplayers.arrays import as_array, is_traced, to_numpy
from xplayers.errors import refusal

from . import npz

__all__ = ["load", "save"]

FORMATS: dict[str, ModuleType] = {".npz": npz}  # each has write(file, arrays) and read(path) -> arrays


def save(path: str | os.PathLike[str], net_or_state: Any) -> None:
    """Writes a state to a file that `load` reads: arrays of any library, and numbers, under dotted names.

    Takes a network, an optimizer or a schedule (anything with a `state_dict()`), or a mapping. The file is written
    beside its place and renamed when it is whole: a save that fails leaves the old file as it was.
    """
    where, written_by = _format_of(path, "save")
    arrays = _arrays_of(net_or_state)
    target = os.path.realpath(where)  # the file, where the path is a link to it
    folder, name = os.path.split(target)
    if not os.path.isdir(folder):
        raise refusal(
            "save", "path", repr(where), "a path in a folder that exists", f"os.makedirs({folder!r})", FileNotFoundError
        )
    if os.path.isdir(target):
        raise refusal("save", "path", f"the folder {where!r}", "a file", "add a file name", IsADirectoryError)
    beside = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.part")
    try:
        with open(beside, "xb") as file:
            written_by.write(file, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(beside)
        raise


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a state file under their names, as `load_state_dict` takes them.

    A file that is truncated, damaged or of another kind is refused with a ValueError; nothing in it is ever executed.
    """
    where, read_by = _format_of(path, "load")
    if not os.path.isfile(where):
        kind: type[Exception] = IsADirectoryError if os.path.isdir(where) else FileNotFoundError
        got = f"the folder {where!r}" if os.path.isdir(where) else f"{where!r}, which does not exist"
        raise refusal("load", "path", got, "a file that save wrote", "check the path", kind)
    return read_by.read(where)


def _format_of(path: Any, caller: str) -> tuple[str, ModuleType]:
    known = ", ".join(FORMATS)
    if not isinstance(path, str | os.PathLike):
        raise refusal(
            caller, "path", f"a {type(path).__name__}", "a path", f'write xpl.{caller}("net.npz", ...)', TypeError
        )
    where = os.fspath(path)
    suffix = os.path.splitext(where)[1]
    if suffix not in FORMATS:
        raise refusal(caller, "path", repr(where), f"a path that ends in {known}", f"name the file with {known}")
    return where, FORMATS[suffix]


def _arrays_of(net_or_state: Any) -> dict[str, np.ndarray]:
    """The state as NumPy arrays; everything that cannot be saved is reported at once."""
    state = net_or_state
    if not isinstance(state, Mapping) and callable(getattr(state, "state_dict", None)):
        state = state.state_dict()
    if not isinstance(state, Mapping):
        raise refusal(
            "save",
            "net_or_state",
            f"a {type(net_or_state).__name__}",
            "a network, or a mapping of names to arrays",
            "pass the network, or its state_dict()",
            TypeError,
        )
    arrays: dict[str, np.ndarray] = {}
    wrong: list[str] = []
    for name, value in state.items():
        array = np.asarray(value) if isinstance(value, numbers.Number) else as_array(value)
        if not isinstance(name, str) or not name:
            wrong.append(f"the name {name!r}")
        elif array is None:
            wrong.append(f"a {type(value).__name__} under {name!r}")
        elif is_traced(array):
            wrong.append(f"an array inside jax.jit, which has no values, under {name!r}")
        else:
            host = to_numpy(array)
            if host.dtype.kind not in "biufc" and not npz.is_extended(host.dtype):
                wrong.append(f"an array of {host.dtype} under {name!r}")
            arrays[name] = host
    if wrong:
        raise refusal(
            "save",
            "net_or_state",
            "; ".join(wrong),
            "dotted names and arrays of numbers",
            "leave the others out, and join the names of nested mappings with dots",
            TypeError,
        )
    return arrays
