"""What a recording of a step must know of: arrays that are put in the place of others, and draws of the host.

A recorded step is replayed on the same arrays. What it rebinds is copied back into the first array's memory, and what
the host would do anew each time, such as drawing a seed, is refused.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Recording", "recording", "recording_into"]


class Recording:
    """The entries that were rebound, each with its first array; the gradients that were left; the arrays to keep."""

    def __init__(self) -> None:
        self._rebound: dict[tuple[int, str], tuple[dict[str, Any], Any]] = {}
        self.gradients: list[tuple[dict[str, Any], str, Any]] = []
        self.keep: list[Any] = []

    def rebinds(self, entries: dict[str, Any], name: str, before: Any) -> None:
        """`entries[name]` was `before`, and is something else now or soon."""
        self._rebound.setdefault((id(entries), name), (entries, before))

    def rebound(self) -> Iterator[tuple[dict[str, Any], str, Any]]:
        """Each entry's mapping, name and first array."""
        for (_, name), (entries, before) in self._rebound.items():
            yield entries, name, before


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
