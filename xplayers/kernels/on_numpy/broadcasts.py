"""Work on rows that are met by one number each, or by one row: NumPy's way with short and with long ones.

A ufunc whose operand is broadcast along an inner axis of less than NumPy's buffer (8192 elements) first copies that
operand out into the buffer, which takes as long as the operation. With the smallest buffer it does not: for rows of 512
and more this halves the time. For rows below 256 the copy is the better way, as a call for each row would be slower.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..threads import in_parts, one_blas_thread

__all__ = ["over_rows"]

_LONG = 320  # elements of a row from which it is not copied
_SMALLEST = 16  # elements of NumPy's buffer
_WORTH_THREADS = 1 << 18  # elements


def over_rows(work: Callable[[Any], object], parts: Iterable[Any], size: int, length: int) -> None:
    """work(part) for every part of an array of `size` elements in rows of `length`, over threads where it is worth it.

    BLAS has one thread in it, however many there are, so that sums do not depend on their number.
    """
    before = np.setbufsize(_SMALLEST) if length >= _LONG else None  # seen by the threads that take a part
    try:
        with one_blas_thread() as alone:
            if alone and size >= _WORTH_THREADS:
                in_parts(work, parts)
            else:
                for part in parts:
                    work(part)
    finally:
        if before is not None:
            np.setbufsize(before)
