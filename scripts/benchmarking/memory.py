"""Peak memory of a row: the most that a process of its own holds above what stands after its imports.

To the imports belongs a step of the digits network on two images: libraries load much of their code at first use.

    python -m scripts.benchmarking.memory fast "step of ResNet-18 @64, batch 16"

The resident set, as the kernel counts it: what malloc keeps and what threads and compiled code take is in it. malloc
behaves as it does for everyone, unlike in the timed runs, which keep freed pages.
"""

import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from .conditions import KEPT_PAGES, RUN
from .steps import STEPS

ROOT = Path(__file__).resolve().parent.parent.parent
RUNS = 4  # forwards and backwards, or steps: the second already holds what the first left
PROCESSES = 2


def held(field: str) -> int:
    """A field of the process's status, in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found, "the peak of memory is read from /proc, which Linux has"
    return 1024 * int(found[1])


def peak_here(side: str, name: str) -> int:
    """Bytes, in this process: import, then build and run."""
    from .rows import OPTIMIZER_ROWS, ROWS

    row = {**ROWS, **OPTIMIZER_ROWS, **STEPS}[name]
    if side == "torch":
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    else:
        import xplayers as xpl

        xpl.kernels.status()  # loads the kernels
    run(STEPS["step of the digits network, batch 64"]._replace(inputs=(2, 1, 8, 8), targets=(2,)), side, 1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = held("VmRSS")
    run(row, side, RUNS)
    return held("VmHWM") - before


def run(row: Any, side: str, runs: int) -> None:
    from . import sides

    built = sides.torchs(row) if side == "torch" else sides.ours(row, None, side)
    with built.scope():
        for _ in range(runs):
            built.once()


def peak(side: str, name: str) -> float:
    """MB, the median of several processes; the first of ours compiles what is not compiled yet and does not count."""
    env = {k: v for k, v in os.environ.items() if k not in KEPT_PAGES} | {RUN: "as it was"}
    command = [sys.executable, "-m", "scripts.benchmarking.memory", side, name]
    found = [
        float(subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout)
        for _ in range(PROCESSES + (side == "fast"))
    ]
    return statistics.median(found[side == "fast" :]) / 1e6


def peaks(name: str, fast: bool) -> dict[str, float]:
    """MB of each side."""
    return {side: peak(side, name) for side in ("numpy", *(("fast",) if fast else ()), "torch")}


def line(name: str, found: dict[str, float]) -> str:
    ours = "".join(
        f"{side} {mb:.1f} MB ({mb / found['torch']:.2f} of torch's)  " for side, mb in found.items() if side != "torch"
    )
    return f"{name:52}{ours}torch {found['torch']:.1f} MB"


if __name__ == "__main__":
    print(peak_here(*sys.argv[1:]))
