"""How the twins of this package are compiled: when they are first called, kept on disk, without the interpreter's lock.

Reordering sums and taking a product and a sum in one step is allowed; that NaN, infinities and -0.0 exist is not
forgotten. Loops that LLVM is to vectorise run over `range(s.size)` of a slice taken just before them, and name their
constants in float32: a literal such as 0.5 is a double, and turns the loop into one of doubles.
"""

import functools
from collections.abc import Callable
from typing import Any

import numba
from numba import extending

__all__ = ["compiled", "compiled_for", "intrinsic", "scalar"]

# A loop over arrays. Sums may be taken in any order (that is what vectorises them).
compiled: Callable[..., Any] = functools.partial(
    numba.njit, nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"}
)


def compiled_for(*functions: Callable) -> Callable[[Callable], Any]:
    """`compiled` for a loop that a factory makes for these functions, named after them.

    Loops of one name share their files on disk: a process that looks for one of them while another process writes could
    be given another's code.
    """

    def compile_(loop: Callable) -> Any:
        loop.__qualname__ += "".join(f"_{f.__name__}" for f in functions)
        return compiled(loop)

    return compile_


# A function of numbers for the inside of loops. It stays a Python function with a name, so that a loop made for it by a
# factory is found again on disk, which a loop around a compiled function is not. Its sums keep their order.
scalar: Callable[..., Any] = extending.register_jitable(error_model="numpy", fastmath={"contract"})

# A scalar function that writes its own instructions.
intrinsic: Callable[..., Any] = extending.intrinsic
