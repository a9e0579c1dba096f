"""What is timed: one side of a row, ours or torch's, built from the same numbers in float32.

`ours(row)` imports no torch and `torchs(row)` runs nothing of ours, so that either can be had in a process of its own.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import xplayers as xpl
from tests.cases import Case, make

from .rows import OptimizerStep
from .steps import Step

Row = Case | OptimizerStep | Step
Times = tuple[float, ...]  # seconds of each part: forward, backward, step

# What `use_kernels` is asked for: NumPy alone lacks what the `fast` extra installs.
KERNELS: dict[str, dict[str, Any]] = {
    "numpy": {"mode": "auto", "without": ("numba",)},
    "fast": {"mode": "auto"},
}


class Side:
    """`once()` runs the parts of a row and gives their times; after as many runs both sides agree on `outcome()`."""

    def __init__(
        self,
        parts: tuple[str, ...],
        once: Callable[[], Times],
        outcome: Callable[[], dict[str, np.ndarray]],
        scope: Callable[[], Any] = contextlib.nullcontext,
        work: dict[str, float] | None = None,
        state: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self.parts, self.once, self.outcome, self.scope, self.work, self.state = (
            parts,
            once,
            outcome,
            scope,
            work,
            state,
        )


def ours(row: Row, state: dict[str, Any] | None = None, kernels: str = "numpy") -> Side:
    """Our side, with torch's initial values where they are given, and the kernels of a configuration."""
    build = {Case: our_layer, OptimizerStep: our_optimizer, Step: our_step}[type(row)]
    scope = lambda: xpl.use_kernels(**KERNELS[kernels])  # noqa: E731
    with scope():  # building calls the layer once, which would load numba
        side = build(row, state)
    side.scope = scope
    return side


def torchs(row: Row) -> Side:
    import torch

    torch.manual_seed(0)
    return {Case: torchs_layer, OptimizerStep: torchs_optimizer, Step: torchs_step}[type(row)](row)


# -- layers: a forward and a backward --


def inputs(case: Case) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The arrays of a case, and those among its keyword arguments."""
    rng = np.random.default_rng(0)
    drawn = [make(spec, rng) for spec in case.inputs]
    masks = {k: make(spec, rng) for k, spec in case.arrays.items()}
    single = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in (*drawn, *masks.values())]
    return single[: len(drawn)], dict(zip(masks, single[len(drawn) :], strict=True))


def upstream(shape: tuple[int, ...]) -> np.ndarray:
    """The gradient from above: the same numbers for both sides."""
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32) if shape else np.ones((), np.float32)


def copied(module: Any) -> dict[str, np.ndarray]:
    """A torch module's state in NumPy arrays of their own: ours are stepped in place."""
    return {k: v.numpy().copy() for k, v in module.state_dict().items()}


def first(y: Any) -> Any:
    return y[0] if isinstance(y, tuple) else y


def agreed(case: Case, y: Any, dx: Any) -> dict[str, np.ndarray]:
    if case.layer == "Dropout":  # the two draw different masks
        return {}
    return {"output": np.asarray(y), **({} if dx is None else {"input gradient": np.asarray(dx)})}


def our_layer(case: Case, state: dict[str, Any] | None = None) -> Side:
    host, masks = inputs(case)
    call = {**case.call, **masks}
    layer = getattr(xpl, case.layer)(*case.args, **case.kwargs)
    if state:
        layer.load_state_dict(state)
    y = layer.forward(*host, **call)
    dy = upstream(first(y).shape)
    dy = None if layer.is_loss else (dy, *([None] * (len(y) - 1))) if isinstance(y, tuple) else dy
    last: list[Any] = []

    def once() -> Times:
        last.clear()  # as torch's side lets go of its output and gradients: two runs' arrays fill the cache of one
        layer.zero_grad()
        tape = xpl.Tape()
        t0 = time.perf_counter()
        y = layer.forward(*host, tape=tape, **call)
        t1 = time.perf_counter()
        dx = layer.backward(dy, tape=tape)
        t2 = time.perf_counter()
        last[:] = [y, dx]
        return t1 - t0, t2 - t1

    return Side(("forward", "backward"), once, lambda: agreed(case, first(last[0]), first(last[1])))


def torchs_layer(case: Case) -> Side:
    import torch

    host, masks = inputs(case)
    call = {**case.call, **{k: torch.tensor(a) for k, a in masks.items()}}
    twin = getattr(torch.nn, case.layer)(*case.args, **case.kwargs)
    leaves = [torch.tensor(a) for a in host]
    for leaf in leaves if not getattr(xpl, case.layer).is_loss else leaves[:1]:
        if leaf.is_floating_point():
            leaf.requires_grad_()
    y = first(twin(*leaves, **call))
    dy = torch.tensor(upstream(tuple(y.shape)))

    def once() -> Times:
        for tensor in (*leaves, *twin.parameters()):
            tensor.grad = None
        t0 = time.perf_counter()
        y = twin(*leaves, **call)
        t1 = time.perf_counter()
        first(y).backward(dy)
        t2 = time.perf_counter()
        return t1 - t0, t2 - t1

    def outcome() -> dict[str, np.ndarray]:
        return agreed(case, first(twin(*leaves, **call)).detach(), leaves[0].grad)

    work = work_of(case, host, tuple(y.shape), [tuple(p.shape) for p in twin.parameters()])
    return Side(("forward", "backward"), once, outcome, work=work, state=lambda: copied(twin))


def work_of(
    case: Case, host: list[np.ndarray], shape: tuple[int, ...], parameters: list[tuple[int, ...]]
) -> dict[str, float]:
    """The least that a forward and a backward move and multiply."""
    size_y = int(np.prod(shape))
    products = 0
    for p in parameters if "Embedding" not in case.layer else ():
        if len(p) > 2:
            products += (host[0].size if "Transpose" in case.layer else size_y) * int(np.prod(p)) // p[0]
        elif len(p) == 2:
            products += size_y // shape[-1] * int(np.prod(p))
    if case.layer in ("MultiheadAttention", "TransformerEncoderLayer"):  # the scores and what they weigh
        products += 2 * size_y * host[0].shape[1]
    floats = sum(a.size for a in host if a.dtype.kind == "f")
    # forward reads x and writes y, backward reads dy and x and writes dx; a product there and two products back
    return {"bytes": 4.0 * (3 * floats + 2 * size_y), "flops": 6.0 * products}


# -- optimizers: one step on gradients that stay --


def parameters(row: OptimizerStep) -> list[tuple[np.ndarray, np.ndarray]]:
    """The values of each parameter and its gradient."""
    rng = np.random.default_rng(0)
    both = [rng.standard_normal((2, *shape), dtype=np.float32) for shape in row.shapes]
    return [(a[0].copy(), a[1].copy()) for a in both]


def our_optimizer(row: OptimizerStep, state: Any = None) -> Side:
    net = xpl.Layer()
    for i, (x, dx) in enumerate(parameters(row)):
        net.parameter(f"p{i}", x)
        net.grads[f"p{i}"] = dx
    optimizer = getattr(xpl.optim, row.name)(net, **row.options)

    def once() -> Times:
        t0 = time.perf_counter()
        optimizer.step()
        return (time.perf_counter() - t0,)

    return Side(("step",), once, lambda: {k: np.array(v) for k, v in net.params.items()})


def torchs_optimizer(row: OptimizerStep) -> Side:
    import torch

    held = {}
    for i, (x, dx) in enumerate(parameters(row)):
        held[f"p{i}"] = torch.nn.Parameter(torch.tensor(x))
        held[f"p{i}"].grad = torch.tensor(dx)
    optimizer = getattr(torch.optim, row.name)(
        list(held.values()), **row.options, **({"fused": True} if row.fused else {})
    )

    def once() -> Times:
        t0 = time.perf_counter()
        optimizer.step()
        return (time.perf_counter() - t0,)

    # x is read and written, dx read, and each moment read and written
    moments = 1 if row.name == "SGD" else 2
    numbers = sum(p.numel() for p in held.values())
    work = {"bytes": 4.0 * (3 + 2 * moments) * numbers, "flops": 0.0}
    return Side(("step",), once, lambda: {k: p.detach().numpy().copy() for k, p in held.items()}, work=work)


# -- whole steps: forward and loss, backward, the optimizer's step and zero_grad --


def our_step(row: Step, state: dict[str, Any] | None = None) -> Side:
    x, target = row.data()
    net, loss = row.net(xpl), getattr(xpl, row.loss)()
    if state:
        net.load_state_dict(state)
    optimizer = getattr(xpl.optim, row.optimizer)(net, **row.options)
    losses: list[float] = []

    def once() -> Times:
        t0 = time.perf_counter()
        value = loss(net(x), target)
        t1 = time.perf_counter()
        net.backward(loss.backward(), input_grad=False)
        t2 = time.perf_counter()
        optimizer.step()
        net.zero_grad()
        t3 = time.perf_counter()
        losses.append(float(value))
        return t1 - t0, t2 - t1, t3 - t2

    return Side(("forward", "backward", "step"), once, lambda: {"losses of two steps": np.array(losses[:2])})


def torchs_step(row: Step) -> Side:
    import torch

    x, target = (torch.tensor(a) for a in row.data())
    torch.manual_seed(0)
    net, loss = row.net(torch.nn), getattr(torch.nn, row.loss)()
    start = copied(net)
    optimizer = getattr(torch.optim, row.optimizer)(net.parameters(), **row.options)
    losses: list[float] = []

    def once() -> Times:
        t0 = time.perf_counter()
        value = loss(net(x), target)
        t1 = time.perf_counter()
        value.backward()
        t2 = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        t3 = time.perf_counter()
        losses.append(value.item())
        return t1 - t0, t2 - t1, t3 - t2

    parts = ("forward", "backward", "step")
    outcome = lambda: {"losses of two steps": np.array(losses[:2])}  # noqa: E731
    return Side(parts, once, outcome, state=lambda: {k: v.copy() for k, v in start.items()})
