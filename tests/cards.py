"""The twins for cards where none is: taken out of the registry, and put in the place of NumPy's for a test."""

import contextlib

import xplayers.functional as F
from xplayers.kernels import registry
from xplayers.kernels.cards import lacks_card

__all__ = ["answering_for", "taken_out"]


def taken_out(means):
    """The twins of a means by name and its steps of optimizers, out of the registry: it is for a card to load them."""
    state = registry._state
    updates = [u for u in state.updates if u.means == means]
    found = [t for twins in state.twins.values() for t in twins if t.means == means]
    if lacks_card():
        state.twins = {k: tuple(t for t in v if t.means != means) for k, v in state.twins.items()}
        state.updates = [u for u in state.updates if u not in updates]
        state.products = {k: p for k, p in state.products.items() if p.means != means}
    return {t.name.partition(":")[2].removesuffix("_forward"): t for t in found}, updates


@contextlib.contextmanager
def answering_for(library, twins, monkeypatch):
    """The twins of a card answer for the arrays of a library."""
    held = {(library, getattr(F, f"{name}_forward")): (twin,) for name, twin in twins.items()}
    monkeypatch.setattr(registry._state, "twins", {**registry._state.twins, **held})
    for _, reference in held:
        reference.known.clear()
    yield
    for _, reference in held:
        reference.known.clear()
