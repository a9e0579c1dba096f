"""Where the rows run: `Card`, CuPy and torch on one CUDA card, or `Host`, NumPy and torch's CPU in a dry run."""

import contextlib
import functools
import gc
import importlib.util
import itertools
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import numpy as np
import torch

import xplayers as xpl
from scripts.benchmarking.conditions import version
from xplayers.arrays import from_numpy, namespace_of_module

__all__ = ["Card", "Host", "Place"]


class Host:
    """The dry run: it shows that every row computes, and claims no figures."""

    name, device, tiny = "numpy", "cpu", True
    cache = 0  # bytes beyond which inputs are rotated
    without: tuple[str, ...] = ("numba",)  # kernels left out: compiling takes a minute
    ceiling_sizes = 2**16, 128  # numbers of a copy, rows of a product

    @property
    def module(self) -> Any:
        return np

    @contextlib.contextmanager
    def flags(self, precision: str) -> Iterator[None]:
        """The same leave to use TF32 on both sides: "exact" none, "torch" in convolutions, "fast" in products too."""
        products = torch.backends.cuda.matmul
        before = products.allow_tf32
        products.allow_tf32 = precision == "fast"
        try:
            with (
                torch.backends.cudnn.flags(enabled=True, allow_tf32=precision != "exact"),
                xpl.use_kernels(precision=precision, without=self.without),
            ):
                yield
        finally:
            products.allow_tf32 = before

    def dtype(self, name: str) -> str:
        """What a row of this dtype is computed in here."""
        return "float32" if name == "bfloat16" else name

    def array(self, a: np.ndarray, dtype: str) -> Any:
        """A fresh array of ours; floats become `dtype`."""
        if a.dtype.kind == "f":
            a = a.astype(np.dtype(self.dtype(dtype)))
        return from_numpy(a, namespace_of_module(self.module))

    def tensor(self, a: np.ndarray, dtype: str) -> torch.Tensor:
        """A fresh tensor of torch's; floats become `dtype`."""
        t = torch.tensor(a, device=self.device)
        return t.to(getattr(torch, self.dtype(dtype))) if t.is_floating_point() else t

    def shared(self, x: Any) -> torch.Tensor:
        """An array of either side as a tensor, for comparing."""
        return x.detach() if isinstance(x, torch.Tensor) else torch.tensor(np.asarray(x))

    def mark(self) -> Any:
        """A point in time, between two of which `seconds` tells."""
        return time.perf_counter()

    def seconds(self, a: Any, b: Any) -> float:
        return b - a

    def synchronize(self) -> None:
        pass

    def poison(self, numbers: int) -> None:
        """Fills what the next arrays are likely to be made of with NaN: what is not written shows."""

    def peaks(self, mine: Callable[[], Any], theirs: Callable[[], Any]) -> dict[str, float] | None:
        """The most bytes that a run of each holds above what stands before it."""
        return None

    def release(self) -> None:
        """Gives freed memory back, so that each row begins as the first did."""

    def works(self) -> bool:
        """Whether the device still computes: after some failures it never does again in this process."""
        return True

    def environment(self) -> dict[str, Any]:
        return {
            "date": date.today().isoformat(),
            "card": "none: a dry run on NumPy and torch's CPU",
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": torch.__version__,
        }

    def times(self, f: Callable[[], Any], count: int) -> list[float]:
        """Seconds of each of many runs, one after the other, two of them to warm up."""
        for _ in range(2):
            f()
        self.synchronize()
        marks = [self.mark()]
        for _ in range(count):
            f()
            marks.append(self.mark())
        self.synchronize()
        return list(itertools.starmap(self.seconds, itertools.pairwise(marks)))

    def ceilings(self) -> dict[str, float]:
        """The quickest copy, in bytes read and written a second, and the quickest products, in FLOP/s."""
        numbers, n = self.ceiling_sizes
        source = torch.ones(numbers, device=self.device)
        target = torch.empty_like(source)
        found = {"copy": 8 * numbers / min(self.times(functools.partial(target.copy_, source), 10))}
        for name, dtype, precision in (
            ("float32", "float32", "exact"),
            ("tf32", "float32", "fast"),
            ("bfloat16", "bfloat16", "exact"),
        ):
            a, b = (torch.randn(n, n, device=self.device).to(getattr(torch, dtype)) for _ in range(2))
            with self.flags(precision):
                found[name] = 2 * n**3 / min(self.times(lambda a=a, b=b: a @ b, 10))
        self.release()
        return found


class Card(Host):
    """CuPy and torch on the first card, both on the legacy default stream, so that CUDA's events order both."""

    name, device, tiny = "cupy", "cuda", False
    ceiling_sizes = 2**29, 8192
    without = ()

    def __init__(self) -> None:
        import cupy

        self.cupy = cupy
        self.properties = cupy.cuda.runtime.getDeviceProperties(0)
        self.cache = self.properties["l2CacheSize"]

    @property
    def module(self) -> Any:
        return self.cupy

    def dtype(self, name: str) -> str:
        return name

    def array(self, a: np.ndarray, dtype: str) -> Any:
        if dtype == "bfloat16":
            import ml_dtypes  # noqa: F401  gives NumPy the dtype's name
        return super().array(a, dtype)

    def shared(self, x: Any) -> torch.Tensor:
        if isinstance(x, torch.Tensor):
            return x.detach()
        if x.dtype.name == "bfloat16":  # which not every version hands over
            return torch.from_dlpack(x.view(np.int16)).view(torch.bfloat16)
        return torch.from_dlpack(x)

    def mark(self) -> Any:
        event = self.cupy.cuda.Event()
        event.record()
        return event

    def seconds(self, a: Any, b: Any) -> float:
        return self.cupy.cuda.get_elapsed_time(a, b) / 1e3

    def synchronize(self) -> None:
        self.cupy.cuda.Device().synchronize()

    def poison(self, numbers: int) -> None:
        numbers = min(numbers, 2**28)
        self.cupy.full(numbers, np.nan, np.float32)
        torch.full((numbers,), np.nan, device=self.device)

    def peaks(self, mine: Callable[[], Any], theirs: Callable[[], Any]) -> dict[str, float]:
        pool = self.cupy.get_default_memory_pool()

        class Highest(self.cupy.cuda.MemoryHook):  # type: ignore[name-defined,misc]
            name, bytes = "highest", 0

            def malloc_postprocess(self, **_: Any) -> None:
                self.bytes = max(self.bytes, pool.used_bytes())

        before = pool.used_bytes()
        with Highest() as highest:
            mine()
        torch.cuda.reset_peak_memory_stats()
        theirs_before = torch.cuda.memory_allocated()
        theirs()
        found = {"ours": highest.bytes - before, "torch": torch.cuda.max_memory_allocated() - theirs_before}
        return {side: max(0.0, float(held)) for side, held in found.items()}

    def release(self) -> None:
        gc.collect()
        self.cupy.get_default_memory_pool().free_all_blocks()
        torch.cuda.empty_cache()

    def works(self) -> bool:
        try:
            return int((self.cupy.arange(3) + 1).sum()) == 6
        except Exception:  # a context that is lost fails in any way
            return False

    def environment(self) -> dict[str, Any]:
        ask, driver, frontend = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], "", None
        if importlib.util.find_spec("cudnn"):
            with contextlib.suppress(Exception):  # "kernels absent" says why
                import cudnn

                frontend = f"{version('nvidia-cudnn-frontend')} with cuDNN {cudnn.backend_version()}"
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            driver = subprocess.run(ask, capture_output=True, text=True, timeout=30).stdout.partition("\n")[0]
        absent = xpl.kernels.status()["absent"]
        memory = self.properties["totalGlobalMem"] / 2**30
        return super().environment() | {
            "card": f"{self.properties['name'].decode()}, {memory:.0f} GiB, {self.cache / 2**20:.0f} MiB L2",
            "driver": f"{driver}, CUDA {self.cupy.cuda.runtime.driverGetVersion()}",
            "cupy": f"{self.cupy.__version__}, CUDA {self.cupy.cuda.runtime.runtimeGetVersion()}",
            "torch": f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}",
            "cudnn frontend": frontend,
            "ml_dtypes": version("ml_dtypes"),
            "torch.backends.cudnn.benchmark": "False",
            "kernels absent": "; ".join(f"{k}: {v}" for k, v in absent.items() if k in ("cudnn", "cuda", "cupy")),
        }


Place = Host  # a card is one too
