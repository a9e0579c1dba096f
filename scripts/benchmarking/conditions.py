"""Where and how a run takes place: the machine, its ceilings, and conditions that are equal for both sides."""

import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

RUN = "XPLAYERS_BENCHMARK"  # set in the process that measures
KEPT_PAGES = {"MALLOC_MMAP_THRESHOLD_": 2**25, "MALLOC_TRIM_THRESHOLD_": 2**33, "MALLOC_TOP_PAD_": 2**26}
WIDE = ("SkylakeX", "Cooperlake", "SapphireRapids", "Zen4", "Zen5")  # OpenBLAS kernels with AVX-512


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(threads: int) -> dict[str, str]:
    """The variables that a process must hold from its first line on."""
    env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    env |= {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    env |= {"XPLAYERS_THREADS": str(threads), "OPENBLAS_THREAD_TIMEOUT": "4"}
    return env | {name: str(value) for name, value in KEPT_PAGES.items()}


def restart(threads: int) -> None:
    """Starts the script again under the conditions of a run."""
    if os.environ.get(RUN):
        return
    env = environment(threads)
    env[RUN] = "without OPENBLAS_CORETYPE" if "OPENBLAS_CORETYPE" in os.environ else "as it was"
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.argv], env)


def others_seconds() -> float:
    """Processor time that went to other processes so far, or to other guests of the host; 0 where no one says."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, path.read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK") - time.process_time()


def best_time(f: Callable[[], Any], seconds: float = 1.0) -> float:
    """The quickest of many runs: a ceiling is what the machine can do."""
    f()
    end, best = time.perf_counter() + seconds, float("inf")
    while time.perf_counter() < end:
        start = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - start)
    return best


def measure_ceilings() -> dict[str, float]:
    """What the machine does at most, with the threads of this run: copies of 25 MB and products of 2048 x 2048.

    The copy is NumPy's on one thread or torch's on all, whichever is quicker.
    """
    import numpy as np
    import torch

    source = np.ones(25 * 2**18, np.float32)
    target = np.empty_like(source)
    a = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    t = torch.tensor(a)
    copy = best_time(lambda: np.copyto(target, source), 0.5)
    from_, to = torch.tensor(source), torch.tensor(target)
    copy = min(copy, best_time(lambda: to.copy_(from_), 0.5))
    time.sleep(0.1)
    product = best_time(lambda: a @ a)
    time.sleep(0.1)
    return {
        "copy_bytes_per_s": 2 * source.nbytes / copy,
        "product_flops_per_s": 2 * 2048**3 / product,
        "torch_product_flops_per_s": 2 * 2048**3 / best_time(lambda: t @ t),
    }


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine(threads: int) -> dict[str, Any]:
    """Where and under which conditions the run takes place."""
    import threadpoolctl
    import torch

    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"model name\s*: (.+)", text)
    pools = threadpoolctl.threadpool_info()
    (blas,) = [p for p in pools if p["internal_api"] == "openblas" and "numpy" in p["filepath"]][:1] or [{}]
    return {
        "date": date.today().isoformat(),
        "cpu": found[1] if found else platform.processor() or platform.machine(),
        "cores": cores(),
        "threads": threads,
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
        "torch": torch.__version__,
        "blas": f"{blas.get('internal_api', 'unknown')} {blas.get('version', '')} for {blas.get('architecture', '?')}",
        "torch_instructions": torch.backends.cpu.get_cpu_capability(),
        "openblas_coretype": os.environ[RUN],
        "pools": [{k: p[k] for k in ("internal_api", "version", "num_threads")} for p in pools],
    }


def conditions(info: dict[str, Any], ceilings: dict[str, float]) -> list[str]:
    """The lines above the table."""
    numba = f"numba {info['numba']}" if info["numba"] else "no numba"
    lines = [
        f"{info['date']}, {info['cpu']}, {info['threads']} of {info['cores']} cores, Python {info['python']}",
        f"NumPy {info['numpy']} ({info['blas']}), {numba}, torch {info['torch']} ({info['torch_instructions']}), "
        "float32",
        f"ceilings: copy {ceilings['copy_bytes_per_s'] / 1e9:.0f} GB/s, product "
        f"{ceilings['product_flops_per_s'] / 1e9:.0f} GFLOP/s (torch's product "
        f"{ceilings['torch_product_flops_per_s'] / 1e9:.0f})",
    ]
    if info["openblas_coretype"].startswith("without"):
        lines.append("OPENBLAS_CORETYPE was set: the run started itself again without it")
    wide_ours = any(name.lower() in info["blas"].lower() for name in WIDE)
    if wide_ours != ("AVX512" in info["torch_instructions"]):
        lines.append(f"the sides use different instructions: {info['blas']}; torch {info['torch_instructions']}")
    return lines
