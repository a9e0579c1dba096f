"""Graphs of a card's work, recorded from a stream and launched at once: CuPy's way to CUDA graphs."""

from collections.abc import Callable
from typing import Any

__all__ = ["CudaGraphs"]


class CudaGraphs:
    """CUDA graphs of CuPy: one stream, and memory that nothing else is given. Tests put a host in its place."""

    def __init__(self) -> None:
        import cupy

        self.cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.pool = cupy.cuda.MemoryPool()

    @staticmethod
    def takes(x: Any) -> bool:
        return type(x).__module__.split(".")[0] == "cupy"

    def run(self, work: Callable[[], Any]) -> Any:
        """`work()` on the stream, behind what the caller's stream has been given so far, and before what comes."""
        outer = self.cupy.cuda.get_current_stream()
        self.stream.wait_event(outer.record())
        try:
            with self.stream, self.cupy.cuda.using_allocator(self.pool.malloc):
                return work()
        finally:
            outer.wait_event(self.stream.record())

    def record(self, work: Callable[[], Any]) -> tuple[Any, Any]:
        """The graph of `work()`, which is not run, and the arrays that it gives."""
        with self.stream, self.cupy.cuda.using_allocator(self.pool.malloc):
            self.stream.begin_capture()
            try:
                answer = work()
            except BaseException:
                self._abandon()
                raise
            return self.stream.end_capture(), answer

    def _abandon(self) -> None:
        try:
            self.stream.end_capture()
        except Exception:  # what was begun is invalid, as the error that is on its way says
            self.stream = self.cupy.cuda.Stream(non_blocking=True)

    def is_about_recording(self, error: Exception) -> bool:
        return "StreamCapture" in f"{type(error).__name__}: {error}"

    def launch(self, graph: Any) -> None:
        """Inside of `run`."""
        graph.launch(self.stream)
