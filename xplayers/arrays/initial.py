"""Initial values: torch's distributions, drawn on the host in float32, so that they are the same on every library."""

import math

import numpy as np

from .random import Key, default_generator

__all__ = ["fan_in_bound", "generator", "host_full", "host_normal", "host_uniform"]


def generator(rng: np.random.Generator | Key | None) -> np.random.Generator:
    """The NumPy Generator that `rng=` names: itself, one seeded by a Key, or the package's own."""
    if isinstance(rng, Key):
        rng.counter += 1
        return np.random.default_rng((rng.seed, rng.counter - 1))
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng: got {type(rng).__name__}, expected numpy.random.Generator or xplayers.random.Key")
    return default_generator() if rng is None else rng


def host_uniform(rng: np.random.Generator | Key | None, shape: tuple[int, ...], bound: float) -> np.ndarray:
    """U(-bound, bound)."""
    return generator(rng).uniform(-bound, bound, shape).astype(np.float32)


def host_normal(rng: np.random.Generator | Key | None, shape: tuple[int, ...], std: float = 1.0) -> np.ndarray:
    """N(0, std^2)."""
    return (generator(rng).standard_normal(shape) * std).astype(np.float32)


def host_full(shape: tuple[int, ...], value: float, dtype: type = np.float32) -> np.ndarray:
    """A constant; `math.nan` to find what is never filled."""
    return np.full(shape, value, dtype)


def fan_in_bound(fan_in: int) -> float:
    """1/sqrt(fan_in): the bound of torch's default for Linear, Conv and kin, kaiming_uniform with a = sqrt(5)."""
    return 1 / math.sqrt(fan_in) if fan_in else 0.0
