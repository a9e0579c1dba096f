"""How the twins of this package are compiled: when they are first called, kept on disk, without the interpreter's lock.

Reordering sums and taking a product and a sum in one step is allowed; that NaN, infinities and -0.0 exist is not
forgotten. Loops that LLVM is to vectorise run over `range(s.size)` of a slice taken just before them, and name their
constants in float32: a literal such as 0.5 is a double, and turns the loop into one of doubles.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
from numba import extending

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

__all__ = ["compiled", "intrinsic", "scalar"]

_turn = threading.RLock()  # of this process's threads
_lock: Any = None  # the file that processes take turns by, while one of their threads has it


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process at a time: numba reads and writes a loop's index on disk without a lock, and two that compile at once
    can be left with each other's code. Where files cannot be locked, or the folder is read-only, nobody waits."""
    global _lock
    with _turn:
        if _lock is not None or fcntl is None:  # a loop that another one calls
            yield
            return
        try:
            _lock = (Path(__file__).parent / "__pycache__" / "compiling.lock").open("w")
        except OSError:
            yield
            return
        try:
            with _lock:
                fcntl.flock(_lock, fcntl.LOCK_EX)
                yield
        finally:
            _lock = None


def compiled(loop: Callable[..., Any]) -> Any:
    """A loop over arrays. Sums may be taken in any order (that is what vectorises them)."""
    made: Any = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"})(loop)
    compile_ = made.compile

    def in_turn(signature: Any) -> Any:
        with _alone():
            return compile_(signature)

    made.compile = in_turn
    return made


# A function of numbers for the inside of loops. It stays a Python function with a name, so that a loop made for it by a
# factory is found again on disk, which a loop around a compiled function is not. Its sums keep their order.
scalar: Callable[..., Any] = extending.register_jitable(error_model="numpy", fastmath={"contract"})

# A scalar function that writes its own instructions.
intrinsic: Callable[..., Any] = extending.intrinsic
