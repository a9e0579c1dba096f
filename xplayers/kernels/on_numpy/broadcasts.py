"""Work on rows that are met by one number each, or by one row: NumPy's way with short and with long ones.

A ufunc over rows of less than NumPy's buffer (8192 elements) that do not follow one another, or whose operand is
broadcast along them, first copies into the buffer, which takes as long as the operation and longer. With the smallest
buffer it does not: for rows of 512 and more this halves the time. For rows below 256 the copy is the better way, as a
call for each row would be slower.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..threads import in_parts, one_blas_thread

__all__ = ["WORTH_THREADS", "ones", "over_rows", "unbuffered"]

_LONG = 320  # elements of a row from which it is not copied
_SMALLEST = 16  # elements of NumPy's buffer
WORTH_THREADS = 1 << 18  # elements


class unbuffered:
    """NumPy with its smallest buffer inside, where rows of `length` are long; seen by the threads that take a part."""

    __slots__ = ("before", "length")

    def __init__(self, length: int) -> None:
        self.length = length

    def __enter__(self) -> None:
        self.before = np.setbufsize(_SMALLEST) if self.length >= _LONG else None

    def __exit__(self, *error: object) -> None:
        if self.before is not None:
            np.setbufsize(self.before)


class over_rows:
    """`with over_rows(size, length) as over:` an array of `size` elements in rows of `length`; then `over(work, parts)`
    calls work(part) for every part, over threads where there are `worth` elements.

    BLAS has one thread inside, however many there are, so that sums do not depend on their number.
    """

    __slots__ = ("blas", "buffer", "parted")

    def __init__(self, size: int, length: int, worth: int | None = None) -> None:
        self.blas, self.buffer = one_blas_thread(), unbuffered(length)
        self.parted = size >= (WORTH_THREADS if worth is None else worth)

    def __enter__(self) -> Callable[[Callable[[Any], object], Iterable[Any]], None]:
        self.buffer.__enter__()
        return in_parts if self.blas.__enter__() and self.parted else _one_by_one

    def __exit__(self, *error: object) -> None:
        self.blas.__exit__()
        self.buffer.__exit__()


def _one_by_one(work: Callable[[Any], object], parts: Iterable[Any]) -> None:
    for part in parts:
        work(part)


@functools.lru_cache(maxsize=64)
def ones(n: int, kind: str) -> np.ndarray:
    """What a row is multiplied with to be added up; not to be written to."""
    return np.ones(n, kind)
