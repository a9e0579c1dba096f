"""A network as two pure functions of its parameters, as jax.jit and jax.grad want them."""

from collections.abc import Callable, Mapping
from typing import Any

from xplayers.arrays import Array

from .layer import Layer
from .tape import Tape

__all__ = ["pure"]


def pure(net: Layer) -> tuple[Callable[..., Any], Callable[..., tuple[Any, dict[str, Array]]]]:
    """`forward(params, *inputs) -> y` and `backward(params, *inputs, dy) -> (dx, grads)`.

    `params` maps dotted names to arrays: `dict(net.params)`, or `net.state_dict()` where running statistics are to be
    handed in too. The network itself is not touched: no gradient, no tape and no running statistics reach it, so a
    function under jax.jit leaves no tracer behind. It runs in the mode that the network has at the time of the call.

    >>> forward, backward = xpl.pure(net)
    >>> step = jax.jit(backward)
    >>> dx, grads = step(dict(net.params), x, dy)
    """

    def prepared(params: Mapping[str, Array]) -> Layer:
        copy = net.skeleton()
        slots = {key: (layer, name) for key, layer, name in copy._state_slots()}
        unknown = [key for key in params if key not in slots]
        if unknown:
            raise net.refusal(
                "params", f"unknown names {unknown}", f"names of {sorted(slots)}", "pass dict(net.params)"
            )
        for key, value in params.items():
            layer, name = slots[key]
            layer.put(name, value)
            layer._settled.add(name)
        return copy

    def forward(params: Mapping[str, Array], *inputs: Any) -> Any:
        return prepared(params).forward(*inputs, tape=None)

    def backward(params: Mapping[str, Array], *inputs_and_dy: Any) -> tuple[Any, dict[str, Array]]:
        *inputs, dy = inputs_and_dy
        copy = prepared(params)
        tape = Tape()
        copy.forward(*inputs, tape=tape)
        dx = copy.backward(dy, tape=tape)
        return dx, dict(copy.grads)

    return forward, backward
