"""Steps of optimizers on CuPy arrays: a launch steps up to 32 parameters, each array of which is visited once.

The addresses travel with the launch, as a struct by value: nothing is copied to the device and nothing waited for, so
a step can be captured in a graph, with the numbers of that step. Given back: what `is_plain` says no to, and what
lives on another device than the current one.
"""

from itertools import accumulate
from typing import Any

import numpy as np

from ..registry import update
from ..updates import calls_of, ways
from .launching import address, blocks_of, is_here, launch, types

__all__: list[str] = []

_MOST = 32  # tensors of a launch: a launch takes 4 KB of arguments
_EACH_THREAD = 4
_ADDRESSES = "x", "dx", "m", "v"
_TENSORS = np.dtype([*((n, "u8", _MOST) for n in _ADDRESSES), ("size", "i8", _MOST), ("first", "i4", _MOST)])
_LARGEST = np.iinfo("i4").max

_WAYS = ways("adam", "sgd", "plain_sgd")


@update("cupy", "cuda", rule="SGD, Adam and AdamW without amsgrad on contiguous arrays of float32 or float64")
def step_many(optimizer: Any, items: list, options: dict) -> list:
    way = _WAYS.get(type(optimizer).change.__qualname__)
    if way is None:
        return items
    here: list = []
    away: list = []
    for item in items:
        (here if is_here(item[0]) else away).append(item)
    calls, left = calls_of(way, optimizer, here, options)
    alike: dict[tuple, list[tuple[int, ...]]] = {}
    for name, arrays, numbers in calls:
        x = arrays[0]
        if x.size:
            key = name, types(x.dtype), tuple(map(float, numbers))
            alike.setdefault(key, []).append((x.size, *map(address, arrays)))
    for (name, kinds, numbers), tensors in alike.items():
        for some in _launches(tensors):
            packed, blocks = _pack(some)
            launch("update", name, kinds, blocks_of(blocks), packed, *numbers)
    return left + away


def _launches(tensors: list[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """The tensors in runs of at most 32, none of them twice in one: its steps are made one after the other."""
    out: list[list[tuple[int, ...]]] = []
    held: set[int] = set()
    for tensor in tensors:
        x = tensor[1]
        if not out or len(out[-1]) == _MOST or x in held:
            out.append([])
            held.clear()
        out[-1].append(tensor)
        held.add(x)
    return out


def _pack(tensors: list[tuple[int, ...]]) -> tuple[np.ndarray, int]:
    """`Tensors` of update.cu, and the number of blocks."""
    n = len(tensors)
    packed = np.zeros((), _TENSORS)
    sizes, *addresses = zip(*tensors, strict=True)
    for name, column in zip(_ADDRESSES, addresses, strict=False):  # no moments: null
        packed[name][:n] = column
    chunk = blocks_of(1)[1][0] * _EACH_THREAD
    *first, blocks = accumulate((-(-size // chunk) for size in sizes), initial=0)
    packed["size"][:n] = sizes
    packed["first"] = _LARGEST
    packed["first"][:n] = first
    return packed, blocks
