"""cuDNN's graphs: what is asked for is planned once, kept, and executed on CuPy's current stream.

A `Request` is all that a plan depends on, and the key under which it is kept: a plan takes milliseconds, where it
compiles a kernel seconds. Handles and plans are of one device and one thread; what cuDNN refuses is remembered for all
threads. The workspace of a call comes from CuPy's pool, which frees in the order of the stream: so threads and streams
never share one, and one taken while a CUDA graph is recorded stays in that graph's pool.
"""

import threading
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["Operand", "Refused", "Request", "build", "executor", "run"]

_PLANS = 4096  # kept in a thread; the oldest go first
_WORKSPACE = 1 << 31  # bytes that a plan may ask for
_ALIGNMENT = 16  # bytes that the address of an operand must be a multiple of: cuDNN's own default

# The names of an operation's inputs, in the order of the operands.
_INPUTS = {
    "conv_fprop": ("image", "weight"),
    "conv_dgrad": ("loss", "filter"),
    "conv_wgrad": ("image", "loss"),
    "sdpa": ("q", "k", "v"),
    "sdpa_backward": ("q", "k", "v", "o", "dO", "stats"),
}
_DTYPES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}

# Engines of less than the direct computation's exactness; Winograd with tiles of 4 is F(2x2, 3x3), which is as exact.
_INEXACT = ("REDUCED_PRECISION_REDUCTION", "FFT", "WINOGRAD_TILE_6x6", "WINOGRAD_TILE_13x13")
_TF32 = ("TENSOR_CORE", "DOWN_CONVERT_INPUTS")


class Refused(Exception):
    """cuDNN has no plan for a request."""


class Operand(NamedTuple):
    """How an array lies: the strides count elements, and those of axes of size 1 are what a dense array has."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class Request(NamedTuple):
    """An operation on operands, inputs first, with its options sorted by name."""

    op: str
    operands: tuple[Operand, ...]
    options: tuple[tuple[str, Any], ...]
    exact: bool


def build(request: Request, **where: Any) -> Any:
    """A graph with its plan. `where`: a handle, or a device's properties, for which planning needs no card."""
    import cudnn

    types = cudnn.data_type
    inputs = _INPUTS[request.op]
    io = request.operands[0].dtype
    wide = types.DOUBLE if io == "float64" else types.FLOAT
    graph = cudnn.pygraph(
        io_data_type=getattr(types, _DTYPES[io]), intermediate_data_type=wide, compute_data_type=wide, **where
    )
    given = {}
    for uid, (name, x) in enumerate(zip(inputs, request.operands, strict=False), 1):
        dtype = getattr(types, _DTYPES[x.dtype])
        given[name] = graph.tensor(dim=list(x.shape), stride=list(x.strides), data_type=dtype, uid=uid, name=name)
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in request.options}
    answer = getattr(graph, request.op)(**given, **options)
    made = answer if isinstance(answer, list) else [answer]
    for uid, (y, out) in enumerate(zip(made, request.operands[len(inputs) :], strict=True), len(inputs) + 1):
        y.set_output(True).set_uid(uid).set_dim(list(out.shape)).set_stride(list(out.strides))
        y.set_data_type(getattr(types, _DTYPES[out.dtype]))
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    graph.deselect_workspace_greater_than(_WORKSPACE)
    graph.deselect_numeric_notes([getattr(cudnn.numerical_note, note) for note in _notes(request)])
    graph.check_support()
    graph.build_plans()
    return graph


def _notes(request: Request) -> tuple[str, ...]:
    """What an engine must not be marked with."""
    if not request.exact:
        return ("NONDETERMINISTIC",)
    tf32 = _TF32 if request.operands[0].dtype == "float32" else ()
    return "NONDETERMINISTIC", *_INEXACT, *tf32


class _Place:
    """A thread on a device: its handle and its plans, each with the bytes of its workspace."""

    def __init__(self) -> None:
        import cudnn

        self.handle = cudnn.create_handle()
        self.plans: dict[Request, tuple[Any, int]] = {}
        weakref.finalize(self, cudnn.destroy_handle, self.handle).atexit = False  # the driver may be gone by then


class Executor:
    """Plans requests and executes them; tests put another in its place."""

    def __init__(self) -> None:
        self.refused: dict[tuple[int, Request], str] = {}  # by device: cuDNN's words
        self._local = threading.local()

    def execute(self, request: Request, arrays: tuple[Any, ...]) -> None:
        """Enqueues the request on the current stream of the arrays' device. Raises Refused."""
        import cudnn
        import cupy

        with arrays[0].device as device:
            place = self._place(device.id)
            graph, size = place.plans.get(request) or self._plan(place, device.id, request)
            space = cupy.cuda.alloc(size) if size else None
            cudnn.set_stream(place.handle, cupy.cuda.get_current_stream().ptr)
            pointers = {uid: x.data.ptr for uid, x in enumerate(arrays, 1)}
            graph.execute(pointers, space.ptr if space is not None else None, handle=place.handle)

    @staticmethod
    def takes(x: Any) -> bool:
        """Whether cuDNN takes the address of x."""
        return x.data.ptr % _ALIGNMENT == 0

    def release(self) -> None:
        """Gives back the handles and plans of all threads."""
        self._local = threading.local()

    def _place(self, device: int) -> _Place:
        places = self._local.__dict__.setdefault("places", {})
        if device not in places:
            places[device] = _Place()
        return places[device]

    def _plan(self, place: _Place, device: int, request: Request) -> tuple[Any, int]:
        import cudnn

        if (device, request) in self.refused:
            raise Refused(self.refused[device, request])
        try:
            graph = build(request, handle=place.handle)
        except (cudnn.cudnnGraphNotSupportedError, RuntimeError) as e:  # the second where a descriptor is not taken
            self.refused[device, request] = str(e)
            raise Refused(str(e)) from e
        if len(place.plans) >= _PLANS:
            place.plans.pop(next(iter(place.plans)))
        plan = place.plans[request] = graph, graph.get_workspace_size()
        return plan


executor = Executor()


def run(op: str, exact: bool, arrays: Sequence[tuple[Any, Operand]], **options: Any) -> None:
    """Executes `op` on arrays, inputs first, each with how it lies, and writes into the outputs. Raises Refused."""
    request = Request(op, tuple(operand for _, operand in arrays), tuple(sorted(options.items())), exact)
    executor.execute(request, tuple(x for x, _ in arrays))
