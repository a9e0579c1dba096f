"""Steps of optimizers with NumPy alone: the optimizer's own mathematics in blocks that stay in the cache, on threads.

A step is a dozen operations on a handful of arrays; in blocks, each array crosses the memory's bus once. Small arrays
are copied into one and back, two copies an array in place of a dozen operations. Declined: half precision, parameters,
gradients and states that are not contiguous.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from ..registry import update
from ..threads import in_parts, runs
from ..updates import is_plain, step_by, ways

__all__: list[str] = []

_BLOCK = 1 << 18  # numbers: smaller blocks stay nearer in the cache, but the threads wait for the interpreter
_SMALL = 1 << 12  # numbers of an array that is copied
_PART = 1 << 20  # numbers that are worth a thread


def _in_blocks(count):
    """`change(*blocks, spare, t, *numbers)` over blocks of the arrays that a loop of kernels/updates.py begins with."""

    def decorate(change):
        def loop(*given):
            arrays, numbers = given[:count], given[count:]
            size = arrays[0].size
            spare, t = np.empty((2, min(size, _BLOCK)), arrays[0].dtype)
            if size <= _BLOCK:
                change(*arrays, spare, t, *numbers)
                return
            for r in runs(size, _BLOCK):
                n = r.stop - r.start
                change(*[a[r] for a in arrays], spare[:n], t[:n], *numbers)

        return loop

    return decorate


@_in_blocks(4)
def _adam(x, dx, m, v, spare, t, beta1, rest1, beta2, rest2, root, eps, rate, sign, decay, shrink):
    """`Adam.change` without amsgrad."""
    dx = _with_decay(x, dx, sign, decay, spare, t)
    np.multiply(m, beta1, m)
    np.multiply(dx, rest1, t)
    np.add(m, t, m)
    np.multiply(v, beta2, v)
    np.multiply(t, t, t)  # of rest1 dx, which is in the cache
    np.multiply(t, float(rest2) / float(rest1) ** 2, t)
    np.add(v, t, v)
    if not rate:
        return
    np.sqrt(v, t)
    np.multiply(t, root / rate, t)  # rate m / (root sqrt(v) + eps), the rate taken into the sum below
    np.add(t, eps / rate, t)
    np.divide(m, t, t)
    if shrink:
        np.multiply(x, 1 - shrink, x)
    np.add(x, t, x)


@_in_blocks(3)
def _sgd(x, dx, buffer, spare, t, momentum, rest, rate, sign, decay, nesterov):
    """`SGD.change` with momentum."""
    dx = _with_decay(x, dx, sign, decay, spare, t)
    np.multiply(buffer, momentum, buffer)
    np.add(buffer, dx if rest == 1 else np.multiply(dx, rest, t), buffer)
    if nesterov:
        np.multiply(buffer, momentum, t)
        np.add(t, dx, t)
        np.multiply(t, rate, t)
    else:
        np.multiply(buffer, rate, t)
    np.subtract(x, t, x)


@_in_blocks(2)
def _plain_sgd(x, dx, spare, t, rate, sign, decay):
    """`SGD.change` without momentum."""
    np.multiply(_with_decay(x, dx, sign, decay, spare, t), rate, t)
    np.subtract(x, t, x)


def _with_decay(x, dx, sign, decay, out, spare):
    """sign dx + decay x, dx itself where that is all."""
    if sign == 1 and not decay:
        return dx
    np.multiply(dx, sign, out)
    if decay:
        np.add(out, np.multiply(x, decay, spare), out)
    return out


def _gathered(calls: list) -> tuple[list, Callable[[], None]]:
    """The calls of updates.py with small arrays that share loop and numbers in one, and the copying back."""
    alike: dict[tuple, list] = {}
    fewer = []
    places = Counter(id(arrays[0]) for _, arrays, _ in calls)  # one array in two is stepped twice
    for call in calls:
        loop, arrays, numbers = call
        if arrays[0].size > _SMALL or places[id(arrays[0])] > 1:
            fewer.append(call)
        else:
            alike.setdefault((loop, numbers, arrays[0].dtype.char), []).append([a.reshape(-1) for a in arrays])
    copies = []
    for (loop, numbers, _), group in alike.items():
        flat = group[0] if len(group) == 1 else [np.concatenate(same) for same in zip(*group, strict=True)]
        fewer.append((loop, flat, numbers))
        if len(group) > 1:
            copies.append((flat, group))

    def scatter() -> None:
        for flat, group in copies:
            at = 0
            for arrays in group:
                end = at + arrays[0].size
                for i in (0, *range(2, len(arrays))):  # all but dx
                    arrays[i][...] = flat[i][at:end]
                at = end

    return fewer, scatter


_WAYS = ways(_adam, _sgd, _plain_sgd)


@update("numpy", "numpy", rule="contiguous arrays of float32 or float64, in cache-sized blocks on threads")
def step_in_blocks(optimizer: Any, items: list, options: dict) -> list:
    """SGD and Adam written in place; of others `change` is called with flat parts, and what it gives put in place."""
    way = _WAYS.get(type(optimizer).change.__qualname__)
    if way is not None:
        items = step_by(way, optimizer, items, options, _gathered)
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
