"""Gradients kept within bounds, and parameters as one vector. Twins: torch.nn.utils.

`params` is what an optimizer takes: a network, or (layer, name) pairs. A layer that stands in two places counts once.
"""

import math
import numbers
from typing import Any

from xplayers.arrays import (
    Array,
    accumulator,
    array_namespace,
    at_home,
    device,
    host_full,
    is_floating,
    size,
    to_numpy,
)
from xplayers.errors import refusal

from .slots import Slot, slots_of

__all__ = ["clip_grad_norm", "clip_grad_value", "parameters_to_vector", "vector_to_parameters"]


def clip_grad_norm(params: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Array:
    """Scales the gradients by min(1, max_norm / (norm + 1e-6)); the norm of all of them as one vector is returned.

    A 0-d array in the library of the gradients, in float32 for the half precisions: nothing is read by the host, but
    for `error_if_nonfinite`, which asks whether the norm is finite. Gradients are rebound, never written to.
    Twin: torch.nn.utils.clip_grad_norm_. Source: Pascanu, Mikolov, Bengio, On the difficulty of training recurrent
    neural networks (2012).
    """
    where = "clip_grad_norm"
    _refuse_negative(where, "max_norm", max_norm)
    _refuse_negative(where, "norm_type", norm_type)
    p = float(norm_type)
    slots = slots_of(params, where)
    ready = [(s, dx) for s in slots if (dx := s.gradient) is not None]
    total = _norm([dx for _, dx in ready], p) if ready else _nothing(slots)
    if error_if_nonfinite and not math.isfinite(float(to_numpy(total))):
        raise refusal(
            where,
            "params",
            f"gradients whose norm is {float(to_numpy(total))}",
            "a finite norm",
            "look for the layer whose gradient is not finite, or pass error_if_nonfinite=False",
        )
    if ready:
        xp = array_namespace(total)
        scale = xp.minimum(float(max_norm) / (total + 1e-6), 1.0)
        for slot, dx in ready:
            acc = accumulator(dx)
            factor = at_home(scale, dx, acc)
            xp = array_namespace(dx)
            # Halves are scaled in float32; asarray, as NumPy multiplies 0-d arrays to a scalar.
            slot.put_gradient(xp.astype(xp.asarray(xp.astype(dx, acc, copy=False) * factor), dx.dtype, copy=False))
    return total


def clip_grad_value(params: Any, clip_value: float) -> None:
    """Clips every entry of the gradients to [-clip_value, clip_value]. Twin: torch.nn.utils.clip_grad_value_."""
    _refuse_negative("clip_grad_value", "clip_value", clip_value)
    bound = float(clip_value)
    for slot in slots_of(params, "clip_grad_value"):
        if (dx := slot.gradient) is not None:
            xp = array_namespace(dx)
            slot.put_gradient(xp.asarray(xp.clip(dx, -bound, bound)))


def parameters_to_vector(params: Any) -> Array:
    """All parameters, flattened and joined: (sum of sizes,). Twin: torch.nn.utils.parameters_to_vector."""
    values = [_present(s, "parameters_to_vector") for s in slots_of(params, "parameters_to_vector")]
    if not values:
        raise refusal("parameters_to_vector", "params", "no parameter", "at least one", "pass a net that has some")
    xp = array_namespace(*values)
    return xp.concat([xp.reshape(v, (-1,)) for v in values])


def vector_to_parameters(vec: Array, params: Any) -> None:
    """The reverse: every parameter is assigned its part of the vector, a copy. Twin: torch.nn.utils's of this name."""
    where = "vector_to_parameters"
    slots = slots_of(params, where)
    values = [_present(s, where) for s in slots]
    sizes = [size(v) for v in values]
    xp = array_namespace(vec)
    if vec.ndim != 1 or vec.shape[0] != sum(sizes):
        raise refusal(
            where,
            "vec",
            f"shape {tuple(vec.shape)}",
            f"shape ({sum(sizes)},), one entry a parameter",
            "pass what parameters_to_vector gave for this net",
        )
    if not is_floating(vec):
        raise refusal(where, "vec", f"dtype {vec.dtype}", "a floating dtype", "pass a floating vector", TypeError)
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    for slot, value, end in zip(slots, values, ends, strict=True):
        part = xp.reshape(vec[end - size(value) : end], tuple(value.shape))
        part = xp.asarray(part, copy=True)
        slot.layer.put(slot.name, at_home(part, value, value.dtype) if slot.is_settled else part)


def _norm(gradients: list[Array], p: float) -> Array:
    """(sum |dx|^p)^(1/p) over all entries of all gradients, 0-d, where the first gradient lives."""
    first = gradients[0]
    xp = array_namespace(first)
    dtype = xp.result_type(*(accumulator(dx) for dx in gradients if array_namespace(dx) is xp))
    parts = []
    for dx in gradients:
        ns = array_namespace(dx)
        a = ns.abs(ns.astype(dx, accumulator(dx), copy=False))
        if not size(a):
            continue
        if p == math.inf:
            part = ns.max(a)
        elif p == 0:  # as torch has it, the norm of the norms: the number of gradients that are not all 0
            part = ns.astype(ns.any(a != 0), a.dtype)
        else:
            part = ns.sum(a * a if p == 2 else a if p == 1 else a**p)
        parts.append(at_home(ns.asarray(part), first, dtype))
    if not parts:
        return xp.zeros((), dtype=dtype, device=device(first))
    joined = xp.stack(parts)
    if p == math.inf:
        return xp.asarray(xp.max(joined))
    total = xp.asarray(xp.sum(joined))
    return total if p in (0, 1) else xp.asarray(xp.sqrt(total) if p == 2 else total ** (1 / p))


def _nothing(slots: list[Slot]) -> Array:
    """The norm of no gradient: 0 where the first parameter lives, a NumPy array where there is none."""
    value = next((v for s in slots if (v := s.value) is not None), None)
    zero = host_full((), 0.0)
    return zero if value is None else at_home(zero, value, accumulator(value))


def _present(slot: Slot, where: str) -> Array:
    value = slot.value
    if value is None:
        raise refusal(where, "params", f"'{slot.key}' without a value", "arrays", f"assign {slot.key} first")
    return value


def _refuse_negative(where: str, name: str, value: Any) -> None:
    if not isinstance(value, numbers.Real) or not float(value) >= 0:
        raise refusal(where, name, repr(value), "a number >= 0", f"pass {name}=1.0")
