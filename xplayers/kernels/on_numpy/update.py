"""Steps of optimizers with NumPy alone: the optimizer's own mathematics in blocks that stay in the cache, on threads.

A step is a dozen operations on a handful of arrays; in blocks, each array crosses the memory's bus once.
"""

from typing import Any

import numpy as np

from ..registry import update
from ..threads import in_parts, runs
from ..updates import is_plain, step_by, ways

__all__: list[str] = []

_BLOCK = 1 << 17  # numbers: smaller blocks stay nearer in the cache, but the threads wait for the interpreter
_PART = 1 << 20  # numbers that are worth a thread


def _adam(x, dx, m, v, beta1, rest1, beta2, rest2, root, eps, rate, sign, decay, shrink):
    """`Adam.change` without amsgrad."""
    spare, t = (np.empty(min(x.size, _BLOCK), x.dtype) for _ in range(2))
    for r in runs(x.size, _BLOCK):
        (xr, dr, mr, vr), u = (a[r] for a in (x, dx, m, v)), t[: r.stop - r.start]
        dr = _with_decay(xr, dr, sign, decay, spare, u)
        mr *= beta1
        mr += np.multiply(dr, rest1, out=u)
        vr *= beta2
        np.multiply(dr, dr, out=u)
        u *= rest2
        vr += u
        np.sqrt(vr, out=u)
        u *= root
        u += eps
        np.divide(mr, u, out=u)
        u *= rate
        if shrink:
            xr *= 1 - shrink
        xr += u


def _sgd(x, dx, buffer, momentum, rest, rate, sign, decay, nesterov):
    """`SGD.change` with momentum."""
    spare, t = (np.empty(min(x.size, _BLOCK), x.dtype) for _ in range(2))
    for r in runs(x.size, _BLOCK):
        (xr, dr, br), u = (a[r] for a in (x, dx, buffer)), t[: r.stop - r.start]
        dr = _with_decay(xr, dr, sign, decay, spare, u)
        br *= momentum
        br += dr if rest == 1 else np.multiply(dr, rest, out=u)
        if nesterov:
            np.multiply(br, momentum, out=u)
            u += dr
            u *= rate
        else:
            np.multiply(br, rate, out=u)
        xr -= u


def _plain_sgd(x, dx, rate, sign, decay):
    """`SGD.change` without momentum."""
    spare, t = (np.empty(min(x.size, _BLOCK), x.dtype) for _ in range(2))
    for r in runs(x.size, _BLOCK):
        (xr, dr), u = (a[r] for a in (x, dx)), t[: r.stop - r.start]
        xr -= np.multiply(_with_decay(xr, dr, sign, decay, spare, u), rate, out=u)


def _with_decay(x, dx, sign, decay, out, spare):
    """sign dx + decay x, dx itself where that is all."""
    if sign == 1 and not decay:
        return dx
    out = np.multiply(dx, sign, out=out[: x.size])
    if decay:
        out += np.multiply(x, decay, out=spare)
    return out


_WAYS = ways(_adam, _sgd, _plain_sgd)


@update("numpy", "numpy", rule="contiguous arrays of float32 or float64, in cache-sized blocks on threads")
def step_in_blocks(optimizer: Any, items: list, options: dict) -> list:
    """SGD and Adam written in place; of others `change` is called with flat parts, and what it gives put in place."""
    way = _WAYS.get(type(optimizer).change.__qualname__)
    if way is not None:
        items = step_by(way, optimizer, items, options)
    names, left, blocks = optimizer.moments(options), [], []
    for item in items:
        x, dx, state, *_ = item
        if not x.size or not is_plain(x, dx, state):
            left.append(item)
            continue
        held = {n: v.reshape(-1) for n, v in state.items() if n != "step"}
        whole = dict(held)
        for name in names:
            if name not in state:  # the first step makes it
                state[name] = np.empty_like(x)
                whole[name] = state[name].reshape(-1)
        x, dx, count = x.reshape(-1), dx.reshape(-1), state["step"]
        blocks += [(x[r], dx[r], held, whole, count, r) for r in runs(x.size, _BLOCK)]

    def work(part: slice) -> None:
        for x, dx, held, whole, count, r in blocks[part]:
            mine = {"step": count, **{n: v[r] for n, v in held.items()}}
            views = dict(mine)
            x += optimizer.change(x, dx, mine, options)
            for name, target in whole.items():
                if mine[name] is not views.get(name):
                    target[r] = mine[name]

    in_parts(work, runs(len(blocks), _PART // _BLOCK))
    return left
