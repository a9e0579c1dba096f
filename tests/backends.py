"""The backends of the matrix: what can run on this machine, how an array gets in and out, and what a backend adds.

A backend is usable when it computes, not when it imports: CuPy imports without a GPU, so it is asked for a device and
one real kernel.
"""

import functools
import importlib
import os
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("JAX_ENABLE_X64", "1")  # before jax is imported: float64 is what is compared
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compiling is what takes the time here

import contextlib

import numpy as np

with contextlib.suppress(ImportError):  # gives NumPy the dtype's name; it comes with jax
    import ml_dtypes  # noqa: F401

from xplayers.arrays import device, from_numpy, namespace_of_module, to_numpy

NAMES = ("numpy", "numpy-readonly", "strict", "strict-device1", "torch", "torch-cuda", "jax", "cupy")


@dataclass(frozen=True)
class Backend:
    name: str
    module: Any
    device: Any
    version: str

    @property
    def xp(self) -> Any:
        return namespace_of_module(self.module)

    @property
    def readonly(self) -> bool:
        return self.name == "numpy-readonly"

    def asarray(self, a: Any, dtype: str | None = None) -> Any:
        """A fresh array with the values of `a`; floats become `dtype`."""
        a = np.array(a)
        if dtype is not None and a.dtype.kind == "f":
            a = a.astype(dtype)
        if dtype == "bfloat16":
            return from_numpy(a, self.xp, device=self.device)
        if self.readonly:
            a.flags.writeable = False
            return a
        if self.name == "numpy":
            return a
        return self.xp.asarray(a, device=self.device) if self.device is not None else self.xp.asarray(a)

    def tree(self, tree: Any, dtype: str | None = None) -> Any:
        """`asarray` over a nest of tuples and dictionaries; None stays."""
        if isinstance(tree, dict):
            return {k: self.tree(v, dtype) for k, v in tree.items()}
        if isinstance(tree, tuple):
            return tuple(self.tree(v, dtype) for v in tree)
        return None if tree is None else self.asarray(tree, dtype)

    def numpy(self, x: Any) -> np.ndarray:
        return to_numpy(x)

    def at_home(self, x: Any) -> str | None:
        """Why x is no array of this backend: another library or device; None where it is."""
        here = self.asarray(0.0)
        if type(x) is not type(here):
            return f"is a {type(x)}, expected {type(here)}"
        if device(x) != device(here):
            return f"is on {device(x)}, expected {device(here)}"
        return None


def _load(name: str) -> Backend:
    if name in ("numpy", "numpy-readonly"):
        return Backend(name, np, None, np.__version__)
    if name in ("strict", "strict-device1"):
        import array_api_strict

        array_api_strict.set_array_api_strict_flags(boolean_indexing=False, data_dependent_shapes=False)
        where = array_api_strict.Device("CPU_DEVICE" if name == "strict" else "device1")
        return Backend(name, array_api_strict, where, array_api_strict.__version__)
    if name in ("torch", "torch-cuda"):
        import torch

        if name == "torch-cuda":
            if not torch.cuda.is_available():
                raise RuntimeError("torch.cuda.is_available() is False")
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        return Backend(name, torch, torch.device("cpu" if name == "torch" else "cuda:0"), torch.__version__)
    if name == "jax":
        jax = importlib.import_module("jax")
        return Backend(name, importlib.import_module("jax.numpy"), None, jax.__version__)
    if name == "cupy":
        cupy = importlib.import_module("cupy")
        count = cupy.cuda.runtime.getDeviceCount()
        if not count:
            raise RuntimeError("no CUDA device")
        assert int((cupy.arange(3) + 1).sum().get()) == 6
        return Backend(name, cupy, cupy.cuda.Device(0), cupy.__version__)
    raise ValueError(f"unknown backend {name!r}; known: {', '.join(NAMES)}")


@functools.cache
def load(name: str) -> tuple[Backend | None, str]:
    """The backend, or None with the reason why it cannot run here."""
    if name not in NAMES:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(NAMES)}")
    try:
        return _load(name), ""
    except Exception as e:  # a driver can fail in any way
        return None, f"{type(e).__name__}: {e}".splitlines()[0][:100]
