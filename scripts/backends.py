"""`--backend` of the scripts: the matrix's own backends by name, and what to install where one cannot be used."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.backends import load

__all__ = ["CHOICES", "Choice", "usable", "use"]

CHOICES = ("numpy", "cupy", "torch", "jax")

_INSTALL = {
    "cupy": "cupy-cuda13x (or cupy-cuda12x, by the driver's CUDA version)",
    "torch": "torch==2.13.0",
    "jax": "jax",
}


class Choice(NamedTuple):
    """A library: its namespace, arrays in and arrays out, or None thrice and the reason in one line."""

    xp: Any
    asarray: Callable[..., Any] | None
    to_numpy: Callable[[Any], np.ndarray] | None
    reason: str | None


def usable(name: str) -> Choice:
    """The library of that name if it computes here: on a GPU a device is counted and a kernel run."""
    found, reason = load(name)
    if found is not None:
        return Choice(found.xp, found.asarray, found.numpy, None)
    if reason.startswith("ModuleNotFoundError") and name in _INSTALL:
        reason = f"{name} is not installed. Install it with: {sys.executable} -m pip install {_INSTALL[name]}"
    return Choice(None, None, None, reason)


def use(name: str) -> Choice:
    """`usable(name)` for a script, which ends with the reason where there is one."""
    choice = usable(name)
    if choice.reason is not None:
        raise SystemExit(f"--backend {name} cannot be used: {choice.reason}")
    return choice
