"""What a recording of a step must know of: arrays that are put in the place of others, and draws of the host.

A recorded step is replayed on the same arrays. What it rebinds is copied back into the first array's memory, and what
the host would do anew each time, such as drawing a seed, is refused.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Recording", "recording", "recording_into"]


class Recording:
    """The slots that were rebound, each with its first array and a way to put one back, and the arrays to keep."""

    def __init__(self) -> None:
        self.rebound: dict[Any, tuple[Any, Callable[[Any], None], Callable[[], Any]]] = {}
        self.keep: list[Any] = []

    def rebinds(self, slot: Any, before: Any, put: Callable[[Any], None], get: Callable[[], Any]) -> None:
        """`slot` holds `before`, and is about to hold something else."""
        self.rebound.setdefault(slot, (before, put, get))


class _Now(threading.local):
    recording: Recording | None = None


_now = _Now()


def recording() -> Recording | None:
    """The recording that this thread's step goes into, None where nothing is recorded."""
    return _now.recording


@contextmanager
def recording_into(target: Recording) -> Iterator[None]:
    outer, _now.recording = _now.recording, target
    try:
        yield
    finally:
        _now.recording = outer
