"""A whole step of training recorded once and replayed as one graph: a small network then waits for its card alone."""

from collections.abc import Callable
from typing import Any

from xplayers.arrays import CudaGraphs, Recording, leaves, put_at, recording_into
from xplayers.errors import refusal

__all__ = ["Captured", "capture"]

_WARM_UP = 2  # calls before the recording: kernels are compiled, plans made, states of optimizers born


class Captured:
    """What `capture` gives: call it as the step."""

    def __init__(self, step: Callable[..., Any]) -> None:
        self.step = step
        self.graphs: Any = None
        self._recorded: dict[Any, tuple[Any, list, Any, Recording]] = {}
        self._calls: dict[Any, int] = {}

    def __call__(self, *args: Any) -> Any:
        arrays = list(leaves(args))
        machine = self.graphs or CudaGraphs
        if not any(map(machine.takes, arrays)):
            return self.step(*args)
        if len(arrays) != len(args) or not all(map(machine.takes, arrays)):
            got = ", ".join(type(a).__name__ for a in args)
            mend = "pass the arrays of a batch, and let the step close over all else"
            raise refusal("capture", "args", got, "CuPy arrays alone", mend, TypeError)
        self.graphs = self.graphs or CudaGraphs()
        key = tuple((a.shape, str(a.dtype)) for a in arrays)
        if key not in self._recorded:
            calls = self._calls[key] = self._calls.get(key, 0) + 1
            if calls <= _WARM_UP:
                return self.graphs.run(lambda: self.step(*args))
            self._recorded[key] = self._record(arrays)
        graph, inputs, answer, record = self._recorded[key]

        def replay() -> None:
            for held, x in zip(inputs, arrays, strict=True):
                put_at(held, ..., x)
            self.graphs.launch(graph)

        self.graphs.run(replay)
        for grads, name, gradient in record.gradients:
            grads[name] = gradient
        return answer

    def _record(self, arrays: list[Any]) -> tuple[Any, list, Any, Recording]:
        inputs = self.graphs.run(lambda: [x.copy() for x in arrays])
        record = Recording()

        def whole() -> Any:
            with recording_into(record):
                answer = self.step(*inputs)
            for entries, name, before in record.rebound():  # each replay is to begin where the last one ended
                after = entries[name]
                if after is before:
                    continue
                if after.shape != before.shape or after.dtype != before.dtype:
                    got = f"{after.dtype} {after.shape} in the place of {before.dtype} {before.shape}"
                    raise refusal("capture", "step", got, "states that keep their shapes", "warm the step up first")
                put_at(before, ..., after)
                entries[name] = before
            return answer

        try:
            graph, answer = self.graphs.record(whole)
        except Exception as e:
            for entries, name, before in record.rebound():
                entries[name] = before
            if not self.graphs.is_about_recording(e):
                raise
            raise refusal(
                "capture",
                "step",
                f"one that waits for the card ({type(e).__name__}: {e})",
                "a step that leaves all numbers on the card",
                "move float(), .item(), print() and masks of booleans behind the call, and fix the shapes",
                RuntimeError,
            ) from e
        return graph, inputs, answer, record


def capture(step: Callable[..., Any]) -> Captured:
    """`step` with its work on the card recorded: `step = xpl.training.capture(step)`, then called as before.

    step(*arrays) -> arrays: a forward and a backward, and what moves the parameters, that begins with `zero_grad()`.
    For each set of shapes the first two calls run as they are; the third is recorded, and it and all later ones are
    launched as one CUDA graph on copies of their arguments. Numbers are those of the eager step. What it returns, and
    the gradients it leaves, are written anew by the next call: copy what is to stay. Learning rates and other numbers
    of the host are those of the recording; build a new one where they change. On arrays that are not CuPy's the step
    is called.

    Errors: RuntimeError where something in the step waits for the card (float(), .item(), a mask of booleans), draws
    random numbers by the host's count, adds to gradients from before it, or steps an optimizer that counts on the host
    (`capturable=True` mends that). TypeError for arguments that are not all CuPy arrays.
    Twin: torch.cuda.make_graphed_callables, torch.cuda.graph.
    """
    return Captured(step)
