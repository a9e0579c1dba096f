"""What a call costs beside its arithmetic: a tiny affine layer taken apart, in microseconds."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import xplayers as xpl
import xplayers.functional as F
from xplayers.arrays import array_namespace

RUNS = 400  # calls between two looks at the clock
SIZES = (1, 48)


def forms(batch: int) -> dict[str, Callable[[], Any]]:
    """A forward and a backward of Linear(24, 48) in each form, from the bare products to the layer."""
    import torch

    rng = np.random.default_rng(0)
    x, w, b, dy = (rng.standard_normal(s).astype(np.float32) for s in ((batch, 24), (48, 24), (48,), (batch, 48)))
    ones = np.ones(batch, np.float32)
    layer, twin = xpl.Linear(24, 48), torch.nn.Linear(24, 48)
    leaf, upstream = torch.tensor(x, requires_grad=True), torch.tensor(dy)

    def products() -> Any:
        return x @ w.T + b, dy @ w, dy.T @ x, ones @ dy

    def pair() -> Any:
        _, cache = F.linear_forward(x, w, b)
        return F.linear_backward(dy, cache)

    def agnostic() -> Any:
        _, cache = F.linear_forward.reference(x, w, b)
        return F.linear_backward.reference(dy, cache)

    def with_a_tape() -> Any:
        layer._grads.clear()
        tape = xpl.Tape()
        layer.forward(x, tape=tape)
        return layer.backward(dy, tape=tape)

    def called() -> Any:
        layer._grads.clear()
        layer(x)
        return layer.backward(dy)

    def torchs() -> Any:
        leaf.grad = twin.weight.grad = twin.bias.grad = None
        twin(leaf).backward(upstream)

    return {
        "bare products": products,
        "pair, agnostic": agnostic,
        "pair, as called": pair,
        "layer with a tape": with_a_tape,
        "layer, called": called,
        "torch": torchs,
    }


def pieces() -> dict[str, Callable[[], Any]]:
    """What the forms are made of."""
    layer = xpl.Linear(24, 48)
    x, w, b = np.ones((1, 24), np.float32), np.ones((48, 24), np.float32), np.ones(48, np.float32)
    layer.forward(x)

    def taped() -> Any:
        tape = xpl.Tape()
        xpl.record(tape, layer, (x,))
        return tape.pop(layer)

    return {
        "namespace of one array": lambda: array_namespace(x),
        "namespace of three": lambda: array_namespace(x, w, x),
        "tape: made, recorded, popped": taped,
        "check of floats and features": lambda: (layer.expect_floating(x), x.shape[-1] != layer.weight.shape[-1]),
        "accumulating two gradients": lambda: (layer._grads.clear(), layer.accumulate(weight=w, bias=b)),
    }


def microseconds(functions: dict[str, Callable[[], Any]], rounds: int = 7) -> dict[str, float]:
    """Medians over rounds that interleave them."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, f in functions.items():
            f()
            start = time.perf_counter()
            for _ in range(RUNS):
                f()
            times[name].append((time.perf_counter() - start) / RUNS * 1e6)
    return {name: statistics.median(t) for name, t in times.items()}


def measured(rounds: int = 7) -> dict[str, dict[str, float]]:
    out = {f"Linear(24, 48), batch {n}, forward + backward": microseconds(forms(n), rounds) for n in SIZES}
    return {**out, "pieces": microseconds(pieces(), rounds)}


def lines(found: dict[str, dict[str, float]]) -> list[str]:
    out = []
    for title, times in found.items():
        out += [f"{title}, us"]
        for name, us in times.items():
            over = f"{us / times['torch']:8.2f} of torch's" if "torch" in times else ""
            out.append(f"    {name:32}{us:8.2f}{over}")
    return out
