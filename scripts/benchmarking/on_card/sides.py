"""Both sides of a row on a card, and torch's in float64 as the judge: the same rounded numbers go into all three."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import xplayers as xpl
from scripts.benchmarking.rows import OptimizerStep
from scripts.benchmarking.sides import first, parameters, work_of
from scripts.benchmarking.steps import Step
from tests.cases import Case, make

from .places import Place

__all__ = ["NotHere", "Numbers", "Side", "numbers", "ours", "torchs"]

MOST_SETS = 16  # copies of the inputs that are rotated

Mark = Callable[[], None]
Outcome = dict[str, list[Any]]  # arrays of the side's own


class NotHere(Exception):
    """Why a row cannot run here."""


@dataclass
class Side:
    """`once(mark)` marks the beginning and the end of each part; `outcome()` is what is compared."""

    parts: tuple[str, ...]
    once: Callable[[Mark], None]
    outcome: Callable[[], Outcome]


@dataclass
class Numbers:
    """What goes into all sides, in float32 rounded to the row's dtype; torch's initial values in `state`."""

    inputs: list[np.ndarray]
    state: dict[str, np.ndarray] = field(default_factory=dict)
    dy: np.ndarray | None = None
    work: dict[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(a.size for a in self.inputs)


def numbers(row: Any, dtype: str) -> Numbers:
    """The numbers of a row, and the least that it moves (bytes) and multiplies (FLOP)."""

    def rounded(a: np.ndarray) -> np.ndarray:
        return torch.tensor(a).to(getattr(torch, dtype)).float().numpy() if a.dtype.kind == "f" else a

    if isinstance(row, OptimizerStep):
        held = [a for both in parameters(row) for a in both]
        moments = 1 if row.name == "SGD" else 2
        return Numbers(held, work={"bytes": 2.0 * (3 + 2 * moments) * sum(a.size for a in held), "flops": 0.0})
    torch.manual_seed(0)
    if isinstance(row, Step):
        x, target = row.data()
        state = row.net(torch.nn).state_dict()
        return Numbers([rounded(x), rounded(target)], {k: rounded(v.numpy()) for k, v in state.items()})
    rng = np.random.default_rng(0)
    inputs = [rounded(_drawn(spec, rng)) for spec in row.inputs]
    module = getattr(torch.nn, row.layer)(*row.args, **row.kwargs)
    with torch.device("meta"):  # for the shape of the output alone
        shadow = getattr(torch.nn, row.layer)(*row.args, **row.kwargs)
        shape = tuple(first(shadow(*(torch.tensor(a, device="meta") for a in inputs), **row.call)).shape)
    work = work_of(row, inputs, shape, [tuple(p.shape) for p in module.parameters()])
    work["bytes"] *= torch.finfo(getattr(torch, dtype)).bits / 32
    state = {k: rounded(v.numpy()) for k, v in module.state_dict().items()}
    return Numbers(inputs, state, rounded(_drawn(shape, np.random.default_rng(1))) if shape else None, work)


def _drawn(spec: Any, rng: np.random.Generator) -> np.ndarray:
    """Normal numbers, of which a million are drawn and repeated; or what the spec draws."""
    if isinstance(spec, tuple):
        pool = rng.standard_normal(min(2**20 + 7, int(np.prod(spec))), dtype=np.float32)
        return np.resize(pool, spec)
    a = make(spec, rng)
    return a.astype(np.float32) if a.dtype.kind == "f" else a


def _sets(inputs: list[np.ndarray], place: Place, made: Callable[[np.ndarray], Any]) -> Iterator[list[Any]]:
    """The inputs over and over: as many copies as lie beyond the cache of the card."""
    count = min(MOST_SETS, 1 + 2 * place.cache // max(1, sum(a.nbytes for a in inputs)))
    return itertools.cycle([[made(a) for a in inputs] for _ in range(count)])


def ours(row: Any, given: Numbers, place: Place, dtype: str, captured: bool = False) -> Side:
    """Our side. The gradients are in the order of the state dictionary's names."""
    made = lambda a: place.array(a, dtype)  # noqa: E731
    if isinstance(row, OptimizerStep):
        return _our_optimizer(row, given, made)
    net = row.net(xpl) if isinstance(row, Step) else getattr(xpl, row.layer)(*row.args, **row.kwargs)
    net.load_state_dict(given.state)
    net.to(like=made(np.zeros(1, np.float32)))
    if isinstance(row, Step):
        return _our_step(row, net, *map(made, given.inputs), captured)
    sets = _sets(given.inputs, place, made)
    dy = None if given.dy is None else made(given.dy)
    last: list[Any] = []

    def once(mark: Mark) -> None:
        net.zero_grad()
        inputs, tape = next(sets), xpl.Tape()
        mark()
        y = net.forward(*inputs, tape=tape, **row.call)
        mark()
        dx = net.backward((dy, *([None] * (len(y) - 1))) if isinstance(y, tuple) else dy, tape=tape)
        mark()
        last[:] = [first(y), first(dx)]

    def outcome() -> Outcome:
        once(lambda: None)
        grads = [net.grads[k] for k in sorted(net.grads)]
        return _agreed(row, *last, grads)

    return Side(("forward", "backward"), once, outcome)


def torchs(row: Any, given: Numbers, place: Place, dtype: str) -> Side:
    made = lambda a: place.tensor(a, dtype)  # noqa: E731
    if isinstance(row, OptimizerStep):
        return _torchs_optimizer(row, given, made)
    net = row.net(torch.nn) if isinstance(row, Step) else getattr(torch.nn, row.layer)(*row.args, **row.kwargs)
    net.load_state_dict({k: torch.tensor(a) for k, a in given.state.items()})
    net.to(place.device, dtype=getattr(torch, place.dtype(dtype)))
    if isinstance(row, Step):
        return _torchs_step(row, net, *map(made, given.inputs))
    leaves = 1 if getattr(xpl, row.layer).is_loss else len(given.inputs)
    sets = _sets(given.inputs, place, made)
    dy = None if given.dy is None else made(given.dy)
    last: list[Any] = []

    def once(mark: Mark) -> None:
        inputs = next(sets)
        for tensor in (*inputs, *net.parameters()):
            tensor.grad = None
        for tensor in inputs[:leaves]:
            tensor.requires_grad_(tensor.is_floating_point())
        mark()
        y = first(net(*inputs, **row.call))
        mark()
        y.backward(dy)
        mark()
        last[:] = [y.detach(), inputs[0].grad]

    def outcome() -> Outcome:
        once(lambda: None)
        return _agreed(row, *last, _gradients(net))

    return Side(("forward", "backward"), once, outcome)


def _agreed(case: Case, y: Any, dx: Any, grads: list[Any]) -> Outcome:
    if case.layer == "Dropout":  # the two draw different masks
        return {}
    found = {"output": [y], "input gradient": [] if dx is None else [dx], "gradients": grads}
    return {k: v for k, v in found.items() if v}


def _gradients(net: Any) -> list[Any]:
    held = dict(net.named_parameters())
    return [held[k].grad for k in sorted(held) if held[k].grad is not None]


# -- optimizers: the outcome is the parameters after a step --


def _our_optimizer(row: OptimizerStep, given: Numbers, made: Callable[[np.ndarray], Any]) -> Side:
    net = xpl.Layer()
    for i, (x, dx) in enumerate(zip(given.inputs[::2], given.inputs[1::2], strict=True)):
        net.parameter(f"p{i}", made(x))
        net.grads[f"p{i}"] = made(dx)
    optimizer = getattr(xpl.optim, row.name)(net, **row.options)
    return _optimizer_side(optimizer, lambda: list(net.params.values()))


def _torchs_optimizer(row: OptimizerStep, given: Numbers, made: Callable[[np.ndarray], Any]) -> Side:
    held = [torch.nn.Parameter(made(x)) for x in given.inputs[::2]]
    for x, dx in zip(held, given.inputs[1::2], strict=True):
        x.grad = made(dx)
    optimizer = getattr(torch.optim, row.name)(held, **row.options, fused=row.fused)
    return _optimizer_side(optimizer, lambda: held)


def _optimizer_side(optimizer: Any, held: Callable[[], list[Any]]) -> Side:
    def once(mark: Mark) -> None:
        mark()
        optimizer.step()
        mark()

    def outcome() -> Outcome:
        once(lambda: None)
        return {"parameters": held()}

    return Side(("step",), once, outcome)


# -- whole steps: forward and loss, backward, the optimizer's step and zero_grad --


def _our_step(row: Step, net: Any, x: Any, target: Any, captured: bool) -> Side:
    loss = getattr(xpl, row.loss)()
    optimizer = getattr(xpl.optim, row.optimizer)(net, **row.options)

    def outcome() -> Outcome:
        value = loss(net(x), target)
        net.backward(loss.backward(), input_grad=False)
        grads = [net.grads[k] for k in sorted(net.grads)]
        return {"loss": [value], "gradients": grads}

    def once(mark: Mark) -> None:
        mark()
        loss(net(x), target)
        mark()
        net.backward(loss.backward(), input_grad=False)
        mark()
        optimizer.step()
        net.zero_grad()
        mark()

    if not captured:
        return Side(("forward", "backward", "step"), once, outcome)
    capture = getattr(getattr(xpl, "training", None), "capture", None)
    if capture is None:
        raise NotHere("this version has no xplayers.training.capture")

    def step(x: Any, target: Any) -> Any:
        value = loss(net(x), target)
        net.backward(loss.backward(), input_grad=False)
        optimizer.step()
        net.zero_grad()
        return value

    run = capture(step)

    def replayed(mark: Mark) -> None:
        mark()
        run(x, target)
        mark()

    return Side(("step",), replayed, outcome)


def _torchs_step(row: Step, net: Any, x: Any, target: Any) -> Side:
    loss = getattr(torch.nn, row.loss)()
    optimizer = getattr(torch.optim, row.optimizer)(net.parameters(), **row.options)

    def outcome() -> Outcome:
        value = loss(net(x), target)
        value.backward()
        return {"loss": [value], "gradients": _gradients(net)}

    def once(mark: Mark) -> None:
        mark()
        value = loss(net(x), target)
        mark()
        value.backward()
        mark()
        optimizer.step()
        optimizer.zero_grad()
        mark()

    return Side(("forward", "backward", "step"), once, outcome)
