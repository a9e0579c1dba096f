"""torch as the judge: the same numbers through torch's module or function, and through its autograd, in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tests.cases import Case, Function, make, seeded

TOLERANCE = {"float64": 64 * 2.0**-52, "float32": 64 * 2.0**-23, "float16": 16 * 2.0**-10, "bfloat16": 16 * 2.0**-7}
"""Error allowed in units of the larger of 1 and the largest magnitude in the array: 64 roundings (16 of the halves)."""


def flat(tree: Any) -> list:
    """The leaves of a nest of tuples and dictionaries, None included."""
    if isinstance(tree, tuple | list):
        return [leaf for branch in tree for leaf in flat(branch)]
    if isinstance(tree, dict):
        return [leaf for branch in tree.values() for leaf in flat(branch)]
    return [tree]


def rounded(tree: Any, dtype: str) -> Any:
    """The nest with its floats rounded to `dtype` and held in float64, so that all sides see the same numbers."""
    if isinstance(tree, dict):
        return {k: rounded(v, dtype) for k, v in tree.items()}
    if isinstance(tree, tuple):
        return tuple(rounded(v, dtype) for v in tree)
    if tree is None or tree.dtype.kind != "f":
        return tree
    return tree.astype(dtype).astype(np.float64)


def to_torch(tree: Any, device: str, grad: bool = False) -> Any:
    if isinstance(tree, dict):
        return {k: to_torch(v, device, grad) for k, v in tree.items()}
    if isinstance(tree, tuple):
        return tuple(to_torch(v, device, grad) for v in tree)
    if tree is None:
        return None
    t = torch.tensor(tree, device=device)
    return t.requires_grad_() if grad and t.is_floating_point() else t


def to_host(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: to_host(v) for k, v in tree.items()}
    if isinstance(tree, tuple | list):
        return tuple(to_host(v) for v in tree)
    return tree.detach().cpu().numpy() if isinstance(tree, torch.Tensor) else tree


@dataclass
class Answer:
    """What torch says: outputs, the upstream gradients used, gradients of inputs and parameters, buffers after."""

    y: Any
    dy: Any
    inputs: list
    parameters: dict
    buffers: dict


@dataclass
class Drawn:
    """The numbers of a row: state of the layer, inputs, keyword arrays."""

    state: dict
    inputs: tuple
    arrays: dict


def draw_state(state: dict, rng: np.random.Generator) -> dict:
    """Random values for a state dict, none of them degenerate: weights of 1 and biases of 0 hide faults."""
    out = {}
    for key, value in state.items():
        if value.dtype.kind != "f":
            out[key] = value + 3
        elif key.endswith("running_var"):
            out[key] = rng.uniform(0.5, 2.0, value.shape)
        else:
            scale = float(np.std(value)) if value.size > 1 and np.std(value) > 0 else 0.5
            shift = float(np.mean(value)) if value.size and np.std(value) == 0 else 0.0
            out[key] = rng.standard_normal(value.shape) * scale + shift
    return out


def run_module(case: Case, drawn: Drawn, training: bool, device: str = "cpu") -> Answer:
    """Runs torch's twin of a case in float64."""
    module = (case.twin or getattr(torch.nn, case.layer))(*case.args, **case.kwargs).double().to(device)
    if drawn.state:
        module.load_state_dict(to_torch(drawn.state, device))
    module.train(training)
    inputs = to_torch(drawn.inputs, device, grad=True)
    call = {**case.call, **to_torch(drawn.arrays, device)}
    y = case.twin_call(module, inputs, call) if case.twin_call else module(*inputs, **call)
    y = tuple(y) if isinstance(y, list) else y
    return _differentiate(y, flat(inputs), dict(module.named_parameters()), dict(module.named_buffers()), str(case))


def run_function(case: Function, arrays: dict, device: str = "cpu") -> Answer:
    """Runs torch's function of a row in float64; the gradients are those of its arrays in order."""
    tensors = {k: to_torch(v, device, grad=True) for k, v in arrays.items()}
    if case.twin is not None:
        y = case.twin(**tensors, **case.given(torch))
    else:
        function = getattr(torch.nn.functional, case.name)
        first, *rest = tensors.items()
        y = function(first[1], **dict(rest), **case.given(torch))
    y = tuple(y) if isinstance(y, list) else y
    return _differentiate(y, flat(tuple(tensors.values())), {}, {}, str(case))


def _differentiate(y: Any, inputs: list, parameters: dict, buffers: dict, text: str) -> Answer:
    rng = seeded("dy" + text)

    def upstream(tree: Any) -> Any:
        if isinstance(tree, tuple):
            return tuple(upstream(v) for v in tree)
        if tree is None or not tree.is_floating_point() or not tree.requires_grad:
            return None
        dy = rng.standard_normal(tuple(tree.shape)).astype("float16").astype("float64")  # exact in every dtype
        return torch.tensor(dy, device=tree.device)

    dy = upstream(y)
    pairs = [(a, b) for a, b in zip(flat(y), flat(dy), strict=True) if b is not None]
    wrt = [t for t in inputs if isinstance(t, torch.Tensor) and t.requires_grad]
    wrt += [p for p in parameters.values() if p.requires_grad]
    found: list = [None] * len(wrt)
    if pairs and wrt:
        outs, ups = zip(*pairs, strict=True)
        found = list(torch.autograd.grad(outs, wrt, ups, allow_unused=True))
    by_id = {id(t): g for t, g in zip(wrt, found, strict=True)}
    zero = lambda t: torch.zeros_like(t) if by_id.get(id(t)) is None else by_id[id(t)]  # noqa: E731
    return Answer(
        to_host(y),
        to_host(dy),
        [to_host(zero(t)) if isinstance(t, torch.Tensor) and t.requires_grad else None for t in inputs],
        {k: to_host(zero(p)) for k, p in parameters.items() if p.requires_grad},
        {k: to_host(b.clone()) for k, b in buffers.items()},
    )


def share_of_tolerance(got: np.ndarray, expected: np.ndarray, dtype: str, factor: float = 1.0) -> float:
    """The largest error as a share of what is allowed; inf where shapes, NaN or infinities differ."""
    if got.shape != expected.shape:
        return float("inf")
    if not got.size:
        return 0.0
    if got.dtype.kind != "f" and expected.dtype.kind != "f":
        return 0.0 if np.array_equal(got, expected) else float("inf")
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    if dtype in ("float16", "bfloat16"):
        limit = 6e4 if dtype == "float16" else 3e38
        expected = np.where(np.abs(expected) > limit, np.copysign(np.inf, expected), expected)
    finite = np.isfinite(expected)
    if not np.array_equal(got[~finite], expected[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(1.0, float(np.abs(expected[finite]).max()))
    return float(np.abs(got[finite] - expected[finite]).max()) / (TOLERANCE[dtype] * factor * scale)


__all__ = [
    "Answer",
    "Drawn",
    "draw_state",
    "flat",
    "make",
    "rounded",
    "run_function",
    "run_module",
    "share_of_tolerance",
]
