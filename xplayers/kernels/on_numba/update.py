"""Steps of optimizers compiled: one loop that reads and writes each array once, all parameters of a group in one go.

Each number is read before the first is written: what is read again after a write to another array is read twice, as the
two may be one to the compiler (12.2 ms a step of Adam on 25 million numbers; so 7.5). Declined: other optimizers than
SGD, Adam and AdamW, amsgrad, half precision, arrays that are not contiguous.
"""

from typing import Any

import numpy as np

from ..registry import update
from ..updates import step_by, ways
from .compiling import compiled

__all__: list[str] = []


@compiled
def _adam(x, dx, m, v, beta1, rest1, beta2, rest2, root, eps, rate, sign, decay, shrink):
    """`Adam.change` without amsgrad; the constants come in the arrays' dtype."""
    for i in range(x.size):
        w = x[i]
        d = sign * dx[i] + decay * w
        a = m[i] * beta1 + rest1 * d
        b = v[i] * beta2 + rest2 * (d * d)
        m[i] = a
        v[i] = b
        x[i] = w + (a * rate / (np.sqrt(b) * root + eps) - shrink * w)


@compiled
def _sgd(x, dx, buffer, momentum, rest, rate, sign, decay, nesterov):
    """`SGD.change` with momentum."""
    for i in range(x.size):
        w = x[i]
        d = sign * dx[i] + decay * w
        b = buffer[i] * momentum + rest * d
        buffer[i] = b
        x[i] = w - rate * (nesterov * (d + momentum * b) + (1 - nesterov) * b)


@compiled
def _plain_sgd(x, dx, rate, sign, decay):
    """`SGD.change` without momentum."""
    for i in range(x.size):
        x[i] -= rate * (sign * dx[i] + decay * x[i])


_WAYS = ways(_adam, _sgd, _plain_sgd)


@update("numpy", "numba", rule="SGD, Adam and AdamW without amsgrad on contiguous arrays of float32 or float64")
def step_in_one_pass(optimizer: Any, items: list, options: dict) -> list:
    way = _WAYS.get(type(optimizer).change.__qualname__)
    return items if way is None else step_by(way, optimizer, items, options)
