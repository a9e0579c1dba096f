"""Work on the CPU in parts, one a thread: NumPy's loops and kernels compiled with nogil release the interpreter's lock.

The threads are the package's own and wait for work; they are as many as XPLAYERS_THREADS says, else OMP_NUM_THREADS,
else the cores that the process may use. Handing work to one costs 20 to 50 us, on virtual machines whose idle cores
halt 200 to 300, so only calls of 0.3 ms or more are parted. The parts of a call do not depend on the number of threads,
so that its result does not either; fewer products than threads are left to BLAS's own, whose number it may round by.
"""

import contextlib
import contextvars
import ctypes
import functools
import importlib
import os
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from xplayers.errors import refusal

__all__ = ["even_runs", "in_parts", "one_blas_thread", "products_in_parts", "runs", "set_threads", "threads"]


def _from_environment() -> int:
    for name in ("XPLAYERS_THREADS", "OMP_NUM_THREADS"):
        first = os.environ.get(name, "").split(",")[0]
        if first.isdigit() and int(first):
            return int(first)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Pool:
    """The threads that wait, made when they are first needed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.started = 0
        self.lock = threading.Lock()

    def start(self, count: int) -> None:
        with self.lock:
            for _ in range(self.started, count):
                threading.Thread(target=self._serve, args=(self.waiting,), name="xplayers", daemon=True).start()
            self.started = max(self.started, count)

    @staticmethod
    def _serve(waiting: "queue.SimpleQueue[Callable[[], None]]") -> None:
        _here.inside = True
        while True:
            waiting.get()()


class _Here(threading.local):
    inside = False  # whether this thread works on a part already: what it calls is not parted again


_here = _Here()
_pool = _Pool(_from_environment())


def _after_fork() -> None:  # threads do not survive a fork
    global _pool
    _pool = _Pool(_pool.count)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads() -> int:
    """How many threads a kernel may use."""
    return _pool.count


def set_threads(n: int) -> None:
    """Sets how many threads a kernel may use; BLAS has its own (OPENBLAS_NUM_THREADS)."""
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise refusal("set_threads", "n", repr(n), "an integer of at least 1", "pass set_threads(1)")
    _pool.count = n


def runs(count: int, run: int) -> list[slice]:
    """0 ... count in runs of about `run`, of equal length."""
    run = max(1, min(run, count))
    run = -(-count // -(-count // run)) if count else 1
    return [slice(i, min(i + run, count)) for i in range(0, count, run)]


def even_runs(count: int, size: int, block: int) -> list[slice]:
    """0 ... count in equal runs of about `block` of `size` elements, an even number where there are as many: for two
    threads."""
    return runs(count, -(-count // (2 * -(-size // (2 * block)))))


def in_parts(work: Callable[[Any], object], parts: Iterable[Any]) -> None:
    """Calls `work(part)` for every part, in any order, on as many threads as there are. An error in one is raised.

    Each sees the caller's context variables, as NumPy's `errstate`.
    """
    left = list(parts)
    helpers = min(_pool.count, len(left)) - 1
    if helpers < 1 or _here.inside:
        for part in left:
            work(part)
        return
    left.reverse()
    missing = len(left)
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()  # an entry a part

    def run() -> None:
        while True:
            try:
                part = left.pop()
            except IndexError:
                return
            error = None
            try:
                work(part)
            except BaseException as e:
                error = e
            done.put(error)

    pool = _pool
    if pool.started < helpers:
        pool.start(helpers)
    for _ in range(helpers):
        pool.waiting.put(functools.partial(contextvars.copy_context().run, run))
    _here.inside = True
    try:
        run()
    finally:
        _here.inside = False
    # A helper that comes too late finds nothing left, and is not waited for.
    errors = [e for e in (done.get() for _ in range(missing)) if e is not None]
    if errors:
        raise errors[0]


# How builds of BLAS call the number of their threads: OpenBLAS as in NumPy's wheels and elsewhere, and MKL.
_NAMES = (
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
    ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
)


@functools.cache
def _blas() -> tuple[Callable[[], int], Callable[[int], Any]] | None:
    """Gets and sets the threads of the BLAS that NumPy is linked with, in a microsecond; None where it is another."""
    try:
        library = ctypes.CDLL(importlib.import_module("numpy._core._multiarray_umath").__file__)
    except (ImportError, OSError, TypeError):
        return None
    for get, put in _NAMES:
        try:
            return getattr(library, get), getattr(library, put)
        except AttributeError:  # another build's name
            continue
    return None


_MANY = 1 << 23  # multiplications that are worth BLAS's own threads
_holders = 0  # how many calls hold BLAS to one thread: the first sets it, the last gives it back
_before = 0
_limiting = threading.Lock()


class one_blas_thread:
    """`with one_blas_thread() as alone:` BLAS on one thread, for products that are taken in parts; whether it is so.

    Where NumPy's BLAS cannot be told, the parts' products would wait for one another's threads. A class, as a generator
    takes 4 us.
    """

    __slots__ = ("put",)

    def __enter__(self) -> bool:
        global _holders, _before
        blas = _blas()
        self.put = blas and blas[1]
        if blas is None:
            return False
        with _limiting:
            if _holders == 0:
                _before = blas[0]()
                blas[1](1)
            _holders += 1
        return True

    def __exit__(self, *error: object) -> None:
        global _holders
        if self.put is None:
            return
        with _limiting:
            _holders -= 1
            if _holders == 0:
                self.put(_before)


def products_in_parts(work: Callable[[Any], object], parts: Iterable[Any], multiplications: int = _MANY) -> None:
    """`in_parts` for work that is mostly products: on threads of ours with one BLAS thread each.

    Where that cannot be said to BLAS, or the parts are fewer than the threads, one after the other on BLAS's own. These
    are one as well where so few `multiplications` are to be done in all that the others would come too late.
    """
    parts = list(parts)
    fewer = len(parts) < _pool.count
    with contextlib.nullcontext(False) if fewer and multiplications >= _MANY else one_blas_thread() as alone:
        if alone and not fewer:
            in_parts(work, parts)
        else:
            for part in parts:
                work(part)
