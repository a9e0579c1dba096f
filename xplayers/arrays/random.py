"""Random numbers: a NumPy Generator on the host, or a counter-based Key with the same bits on every library."""

import math
from typing import Any

import array_api_compat as aac
import numpy as np

from xplayers.errors import refusal

from .namespace import Array, array_namespace, device, from_numpy
from .recording import recording

__all__ = ["Key", "default_generator", "key_of", "manual_seed", "threefry2x32", "uniform", "unit_interval"]

_default = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Seeds the package's own generator, which draws initial values and masks where no `rng=` was given."""
    global _default
    _default = np.random.default_rng(seed)


def default_generator() -> np.random.Generator:
    return _default


class Key:
    """A seed and a counter: every draw of it is the same on every library and device, bit for bit.

    The bits are those of Threefry-2x32 with 20 rounds (Salmon et al., Parallel random numbers: as easy as 1, 2, 3,
    2011), computed in int32 on the device of the array. Each draw moves the counter on by one; `(seed, counter)` is the
    whole state.
    """

    def __init__(self, seed: int, counter: int = 0) -> None:
        self.seed = int(seed)
        self.counter = int(counter)

    def __repr__(self) -> str:
        return f"Key({self.seed}, counter={self.counter})"

    def uniform(self, shape: tuple[int, ...], like: Array) -> Array:
        """Uniform numbers in [0, 1) with 24 random bits, in the library, on the device and in the dtype of `like`."""
        xp = array_namespace(like)
        n = math.prod(shape)
        half = (n + 1) // 2
        count = xp.arange(half, dtype=xp.int32, device=device(like))
        a, b = threefry2x32(self.words(), count, xp.zeros_like(count))
        bits = xp.concat([a, b])[:n]
        floats = xp.float64 if "float64" in str(like.dtype) else xp.float32
        draws = unit_interval(bits, floats)
        return xp.reshape(xp.astype(draws, like.dtype) if like.dtype != floats else draws, shape)

    def words(self) -> tuple[int, ...]:
        """What the next draw adds to the two words of the text, in turn before and behind each four rounds.

        The key is the seed's 64 bits; the counter's go into the second word of the text and, above 2**32, into the key.
        """
        if recording() is not None:
            raise refusal(
                "Key",
                "rng",
                "a draw in a step that is recorded",
                "none: replayed, it would give the same numbers each time",
                "draw outside of the step and pass the mask in, or leave dropout out of it",
                RuntimeError,
            )
        k0, k1 = self.seed & 0xFFFFFFFF, (self.seed >> 32 ^ self.counter >> 32) & 0xFFFFFFFF
        keys = (k0, k1, k0 ^ k1 ^ 0x1BD11BDA)
        later = (w for g in range(1, 6) for w in (keys[g % 3], keys[(g + 1) % 3] + g))
        words = tuple(_int32(w) for w in (k0, k1 + self.counter, *later))
        self.counter += 1
        return words


def uniform(rng: np.random.Generator | Key | None, shape: tuple[int, ...], like: Array) -> Array:
    """Uniform numbers in [0, 1) in the place of `like`. rng None: the package's own generator.

    On NumPy a Generator draws them itself. On another library a Generator gives a seed, and the device draws: nothing
    large crosses from the host.
    """
    rng = _default if rng is None else rng
    if isinstance(rng, Key) or not aac.is_numpy_array(like):
        return key_of(rng).uniform(shape, like)
    _expect_generator(rng)
    return from_numpy(rng.random(shape, np.float64 if like.dtype == np.float64 else np.float32), np, dtype=like.dtype)


def key_of(rng: np.random.Generator | Key | None) -> Key:
    """The Key itself, or one whose seed a Generator draws: the package's own for None."""
    if isinstance(rng, Key):
        return rng
    rng = _default if rng is None else rng
    _expect_generator(rng)
    return Key(int(rng.integers(2**63)))


def _expect_generator(rng: object) -> None:
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng: got {type(rng).__name__}, expected numpy.random.Generator or xplayers.random.Key")


def unit_interval(bits: Array, dtype: Any) -> Array:
    """Numbers in [0, 1) of the upper 24 of 32 bits."""
    return array_namespace(bits).astype((bits >> 8) & 0xFFFFFF, dtype) * 2.0**-24


_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _int32(word: int) -> int:
    word &= 0xFFFFFFFF
    return word - 2**32 if word >= 2**31 else word


def threefry2x32(words: tuple[Any, ...], x0: Any, x1: Any) -> tuple[Any, Any]:
    """The block cipher on two int32 words, keyed by `Key.words`. Signed overflow wraps on every library."""
    x0, x1 = x0 + words[0], x1 + words[1]
    for group in range(5):
        for r in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = ((x1 << r) | ((x1 >> (32 - r)) & ((1 << r) - 1))) ^ x0
        x0 = x0 + words[2 * group + 2]
        x1 = x1 + words[2 * group + 3]
    return x0, x1
