"""Times the layers on NumPy arrays against torch on the CPU: forward and backward, interleaved in one run.

    python scripts/benchmark.py --quick              the small rows, half a minute
    python scripts/benchmark.py --only "conv 3x3"    the rows whose names match
    python scripts/benchmark.py --compare old.json   what has changed since a run
    python scripts/benchmark.py --readme             the whole table, into README.md and scripts/figures/

A ratio is our time over torch's: below 1 is faster than torch. Each is the median over rounds of the ratio within a
round; less than 8 % is noise. The copy and the matrix product of the machine, measured in the same run, give the time
that a row would take if nothing but the arrays' traffic or the multiplications counted.

The run starts itself again under conditions of its own: equal threads on both sides, no OPENBLAS_CORETYPE (which holds
NumPy back and not torch), freed memory kept by malloc (for both), and a pause between the sides, as the workers of one
library keep spinning into the other's time.
"""

# ruff: noqa: E402
import argparse
import gc
import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.needs import needs

needs("numpy", "torch", "threadpoolctl", "matplotlib", "array_api_compat", "array_api_extra")

RUN = "XPLAYERS_BENCHMARK"  # set in the process that measures


def restart(threads: int) -> None:
    """Starts this script again under the conditions of a run, which hold from a process's first line on."""
    if os.environ.get(RUN):
        return
    env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    env |= {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    env |= {"OPENBLAS_THREAD_TIMEOUT": "4"}
    env |= {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_TOP_PAD_": str(2**26)}
    env[RUN] = "without OPENBLAS_CORETYPE" if "OPENBLAS_CORETYPE" in os.environ else "as it was"
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.argv], env)


import numpy as np
import threadpoolctl
import torch

import xplayers as xpl
from scripts.benchmarking.rows import QUICK, ROWS
from tests.cases import Case, make

PAUSE = 0.1  # seconds between the sides
SLOT = 0.15  # seconds that one side runs in a round, at least once

Times = tuple[float, float]  # seconds of a forward and a backward


class Side:
    """One side of a row: `once()` is a forward and a backward, `outcome()` its output and input gradient."""

    def __init__(self, once: Callable[[], Times], outcome: Callable[[], list[np.ndarray]]) -> None:
        self.once, self.outcome = once, outcome
        once()
        self.repeats = max(1, min(2000, round(SLOT / sum(once()))))

    def slot(self) -> Times:
        """The medians over one slot."""
        runs = [self.once() for _ in range(self.repeats)]
        return statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs)


def sides(case: Case) -> tuple[Side, Side, dict[str, float]]:
    """Ours and torch's, with the same numbers in float32, and the work of a forward and a backward."""
    rng = np.random.default_rng(0)
    host = [make(spec, rng) for spec in case.inputs]
    host = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in host]
    masks = {k: make(spec, rng).astype(np.float32) for k, spec in case.arrays.items()}
    call, twins_call = {**case.call, **masks}, {**case.call, **{k: torch.tensor(a) for k, a in masks.items()}}
    twin = getattr(torch.nn, case.layer)(*case.args, **case.kwargs)
    layer = getattr(xpl, case.layer)(*case.args, **case.kwargs)
    state = twin.state_dict()
    if state:
        layer.load_state_dict(state)
    leaves = [torch.tensor(a) for a in host]
    for leaf in leaves if not layer.is_loss else leaves[:1]:
        if leaf.is_floating_point():
            leaf.requires_grad_()

    result = twin(*leaves, **twins_call)
    first = result[0] if isinstance(result, tuple) else result
    dy_host = rng.standard_normal(tuple(first.shape)).astype(np.float32) if first.ndim else np.float32(1)
    dy = torch.tensor(dy_host)
    ours_dy = None if layer.is_loss else (dy_host, None) if isinstance(result, tuple) else dy_host

    def once_ours() -> Times:
        layer.zero_grad()
        tape = xpl.Tape()
        t0 = time.perf_counter()
        y = layer.forward(*host, tape=tape, **call)
        t1 = time.perf_counter()
        dx = layer.backward(ours_dy, tape=tape)
        t2 = time.perf_counter()
        last[:] = [y, dx]
        return t1 - t0, t2 - t1

    def once_torchs() -> Times:
        for tensor in (*leaves, *twin.parameters()):
            tensor.grad = None
        t0 = time.perf_counter()
        y = twin(*leaves, **twins_call)
        t1 = time.perf_counter()
        (y[0] if isinstance(y, tuple) else y).backward(dy)
        t2 = time.perf_counter()
        return t1 - t0, t2 - t1

    last: list[Any] = []

    def outcome_ours() -> list[np.ndarray]:
        y, dx = last
        dx = dx[0] if isinstance(dx, tuple) else dx
        return [np.asarray(y[0] if isinstance(y, tuple) else y), *([] if dx is None else [np.asarray(dx)])]

    def outcome_torchs() -> list[np.ndarray]:
        y = twin(*leaves, **twins_call)
        y = (y[0] if isinstance(y, tuple) else y).detach().numpy()
        return [y, *([] if leaves[0].grad is None else [leaves[0].grad.numpy()])]

    size_y = first.numel()
    products = 0
    for p in twin.parameters() if "Embedding" not in case.layer else ():
        if p.ndim > 2:
            products += (host[0].size if "Transpose" in case.layer else size_y) * p.numel() // p.shape[0]
        elif p.ndim == 2:
            products += size_y // first.shape[-1] * p.numel()
    if case.layer in ("MultiheadAttention", "TransformerEncoderLayer"):  # the scores and what they weigh
        products += 2 * size_y * host[0].shape[1]
    floats = sum(a.size for a in host if a.dtype.kind == "f")
    # forward reads x and writes y, backward reads dy and x and writes dx; a product there and two products back
    work = {"bytes": 4.0 * (3 * floats + 2 * size_y), "flops": 6.0 * products}
    return Side(once_ours, outcome_ours), Side(once_torchs, outcome_torchs), work


def measure(name: str, case: Case, rounds: int, ceilings: dict[str, float]) -> dict[str, Any]:
    """One row of the table."""
    ours, torchs, work = sides(case)
    if case.layer != "Dropout":  # the two draw different masks
        for what, a, b in zip(("output", "input gradient"), ours.outcome(), torchs.outcome(), strict=False):
            error = float(np.abs(a - b).max() / max(1e-6, np.abs(b).max()))
            if not error < 1e-3:
                raise SystemExit(f"{name}: the {what} differs from torch's by {error:.1e} of its largest value")
    mine, theirs = [], []
    for _ in range(rounds):
        for side, times in ((ours, mine), (torchs, theirs)):
            time.sleep(PAUSE)
            times.append(side.slot())
    ratios = [(a[0] / b[0], a[1] / b[1], sum(a) / sum(b)) for a, b in zip(mine, theirs, strict=True)]
    forward, backward, both = (statistics.median(r) for r in zip(*ratios, strict=True))
    totals = sorted(r[2] for r in ratios)
    floor = max(work["bytes"] / ceilings["copy_bytes_per_s"], work["flops"] / ceilings["product_flops_per_s"])
    return {
        "name": name,
        "case": str(case),
        "ours_ms": [1e3 * statistics.median(t) for t in zip(*mine, strict=True)],
        "torch_ms": [1e3 * statistics.median(t) for t in zip(*theirs, strict=True)],
        "ratio_forward": forward,
        "ratio_backward": backward,
        "ratio": both,
        "ratio_range": [totals[0], totals[-1]],
        "floor_ms": 1e3 * floor,
    }


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
    """What the machine does at most, with the threads of this run: copies of 25 MB and products of 2048 x 2048."""
    source = np.ones(25 * 2**18, np.float32)
    target = np.empty_like(source)
    a = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32)
    t = torch.tensor(a)
    copy = best_time(lambda: np.copyto(target, source))
    product = best_time(lambda: a @ a)
    time.sleep(PAUSE)
    return {
        "copy_bytes_per_s": 2 * source.nbytes / copy,
        "product_flops_per_s": 2 * 2048**3 / product,
        "torch_product_flops_per_s": 2 * 2048**3 / best_time(lambda: t @ t),
    }


def machine(threads: int) -> dict[str, Any]:
    """Where and under which conditions the run takes place."""
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
        "numpy": np.__version__,
        "torch": torch.__version__,
        "blas": f"{blas.get('internal_api', 'unknown')} {blas.get('version', '')} for {blas.get('architecture', '?')}",
        "torch_instructions": torch.backends.cpu.get_cpu_capability(),
        "openblas_coretype": os.environ[RUN],
        "pools": [{k: p[k] for k in ("internal_api", "version", "num_threads")} for p in pools],
    }


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


WIDE = ("SkylakeX", "Cooperlake", "SapphireRapids", "Zen4", "Zen5")  # OpenBLAS kernels with AVX-512


def conditions(info: dict[str, Any], ceilings: dict[str, float]) -> list[str]:
    """The lines above the table."""
    lines = [
        f"{info['date']}, {info['cpu']}, {info['threads']} of {info['cores']} cores, Python {info['python']}",
        f"NumPy {info['numpy']} ({info['blas']}), torch {info['torch']} ({info['torch_instructions']}), float32",
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


HEADER = ("layer, forward + backward", "ours ms", "torch ms", "forward", "backward", "both", "at the ceilings")


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    ours, torchs = sum(row["ours_ms"]), sum(row["torch_ms"])
    return (
        row["name"],
        f"{ours:.3g}" if ours < 100 else f"{ours:.0f}",
        f"{torchs:.3g}" if torchs < 100 else f"{torchs:.0f}",
        f"{row['ratio_forward']:.2f}",
        f"{row['ratio_backward']:.2f}",
        f"{row['ratio']:.2f}",
        f"{row['floor_ms']:.2g} ms" if row["floor_ms"] < 100 else f"{row['floor_ms']:.0f} ms",
    )


def line(row: tuple[str, ...]) -> str:
    return f"{row[0]:38}" + "".join(
        f"{cell:>{max(10, len(title) + 2)}}" for cell, title in zip(row[1:], HEADER[1:], strict=True)
    )


def markdown(result: dict[str, Any]) -> str:
    """The block of the README."""
    conditions_, rows = result["conditions"], result["rows"]
    table = [f"| {' | '.join(HEADER)} |", f"|{'---|' * len(HEADER)}", *(f"| {' | '.join(cells(r))} |" for r in rows)]
    foot = (
        "Ratios are our time over torch's, medians over rounds that interleave the two; below 1 is faster than torch. "
        "Written by `python scripts/benchmark.py --readme`."
    )
    return "\n".join([*(f"{text}  " for text in conditions_), "", *table, "", foot])


def into_readme(text: str) -> None:
    """Puts the block between its markers."""
    path = ROOT / "README.md"
    held = path.read_text() if path.exists() else ""
    marked = re.compile(r"(<!-- benchmark -->\n).*?(<!-- /benchmark -->)", re.DOTALL)
    if not marked.search(held):
        raise SystemExit("README.md has no block between <!-- benchmark --> and <!-- /benchmark -->")
    path.write_text(marked.sub(lambda m: f"{m[1]}{text}\n{m[2]}", held))


def plot(result: dict[str, Any], path: Path) -> None:
    """Ratios as bars on a logarithmic axis, torch at 1."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = result["rows"][::-1]
    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.3 * len(rows)), layout="constrained")
    for i, row in enumerate(rows):
        axis.barh(i, row["ratio"] - 1, left=1, height=0.6, color="tab:blue" if row["ratio"] <= 1 else "tab:orange")
        axis.plot([row["ratio_forward"]], [i], "k>", markersize=4, label="forward" if i == 0 else None)
        axis.plot([row["ratio_backward"]], [i], "k<", markersize=4, label="backward" if i == 0 else None)
    axis.set_xscale("log")
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize="small")
    ticks = [t for t in (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32) if axis.get_xlim()[0] <= t <= axis.get_xlim()[1]]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.set_xlabel("time over torch's, forward + backward (left of 1: faster than torch)")
    axis.set_title("\n".join(result["conditions"][:2]), fontsize="x-small")
    axis.legend(fontsize="small")
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def compared(result: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """The ratios now and in an older run."""
    before = {row["name"]: row["ratio"] for row in old["rows"]}
    then, now = ({k: r["machine"][k] for k in ("cpu", "threads", "blas", "torch")} for r in (old, result))
    other = "".join(f"  ({k} was {then[k]}, is {now[k]})" for k in now if now[k] != then[k])
    lines = [f"against {old['machine']['date']}:{other}"]
    for row in result["rows"]:
        if row["name"] in before:
            change = row["ratio"] / before[row["name"]] - 1
            note = "" if abs(change) < 0.08 else "  faster" if change < 0 else "  SLOWER"
            lines.append(f"{row['name']:38}{before[row['name']]:8.2f} -> {row['ratio']:.2f}{change:+8.0%}{note}")
    return lines


def main(arguments: list[str] | None = None) -> None:
    summary, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the small rows, three rounds")
    parser.add_argument("--only", metavar="PATTERN", help="rows whose name holds the regular expression")
    parser.add_argument("--rounds", type=int, help="rounds of a row (default 7)")
    parser.add_argument("--threads", type=int, default=cores(), help="threads of both sides (default: all cores)")
    parser.add_argument("--json", type=Path, help="where the figures go, the plot beside them (default: .out/)")
    parser.add_argument("--compare", type=Path, metavar="OLD", help="an older run's JSON to set beside this one")
    parser.add_argument("--readme", action="store_true", help="write README.md's table and scripts/figures/")
    asked = parser.parse_args(arguments)
    old = json.loads(asked.compare.read_text()) if asked.compare else None
    if asked.readme and (asked.quick or asked.only):
        parser.error("--readme takes the whole table")
    restart(asked.threads)

    torch.set_num_threads(asked.threads)
    gc.disable()  # what a collection costs falls on whoever runs then
    rounds = asked.rounds or (3 if asked.quick else 7)
    ceilings = measure_ceilings()
    info = machine(asked.threads)
    result: dict[str, Any] = {"machine": info, "ceilings": ceilings, "conditions": conditions(info, ceilings)}
    pools = ", ".join(f"{p['internal_api']} {p['version'] or ''}: {p['num_threads']}" for p in info["pools"])
    print(*result["conditions"], f"threads of each pool: {pools}", "", line(HEADER), sep="\n")
    result["rows"] = []
    for name, case in ROWS.items():
        if (asked.quick and not re.search(QUICK, name)) or (asked.only and not re.search(asked.only, name)):
            continue
        if not hasattr(xpl, case.layer):
            print(f"{name:38}  no {case.layer} yet")
            continue
        result["rows"].append(measure(name, case, rounds, ceilings))
        gc.collect()
        print(line(cells(result["rows"][-1])), flush=True)
    if not result["rows"]:
        raise SystemExit("no row of that name")
    overall = statistics.geometric_mean(row["ratio"] for row in result["rows"])
    print(f"\ngeometric mean of {len(result['rows'])} ratios: {overall:.2f}")

    figures = ROOT / "scripts" / "figures" / "benchmark.json"
    target = asked.json or (figures if asked.readme else ROOT / ".out" / "benchmark.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    plot(result, target.with_suffix(".png"))
    print(f"figures: {target}, {target.with_suffix('.png')}")
    if asked.readme:
        into_readme(markdown(result))
        print("README.md has the table")
    if old is not None:
        print("", *compared(result, old), sep="\n")


if __name__ == "__main__":
    main()
