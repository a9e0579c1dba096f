"""The twins of recurrent networks: the agnostic function around the scans of a means."""

import functools
from collections.abc import Callable
from typing import Any

from xplayers.functional import recurrent as agnostic

from .registry import kernel

__all__ = ["register"]


def register(
    library: str, means: str, rule: str, name: str, scans: Any, agnostic_cell: Any, supports: Callable[..., bool]
) -> None:
    """Registers the twin of `<name>_forward` that goes by `scans`, where `supports` takes the call."""
    reference = getattr(agnostic, f"{name}_forward")
    several = scans.cell.states > 1

    def backward(dy: Any, cache: Any, *, wanted: Any = None) -> Any:
        if several:
            return agnostic.backward_by(scans, agnostic_cell, dy[0], dy[1] or (None, None), cache, wanted)
        dx, dhx, dparams = agnostic.backward_by(scans, agnostic_cell, dy[0], dy[1:], cache, wanted)
        return dx, None if dhx is None else dhx[0], dparams

    @kernel(library, reference, backward, supports, means=means, rule=rule)
    @functools.wraps(reference)
    def forward(
        x: Any,
        hx: Any,
        params: Any,
        has_biases: bool = True,
        num_layers: int = 1,
        dropout: float = 0.0,
        train: bool = False,
        bidirectional: bool = False,
        batch_first: bool = False,
        *,
        lengths: Any = None,
        mask: Any = None,
        rng: Any = None,
    ) -> Any:
        options = (has_biases, num_layers, dropout, train, bidirectional, batch_first)
        if not supports(x, hx, params, *options, lengths=lengths):
            return NotImplemented
        given = hx if several or hx is None else (hx,)
        (y, states), cache = agnostic.forward_by(scans, agnostic_cell, x, given, params, *options, None, mask, rng)
        return (y, states if several else states[0]), cache
