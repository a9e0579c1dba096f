"""A row's times: its sides checked against each other, then interleaved round by round."""

import importlib.util
import statistics
import time
from typing import Any

import numpy as np

from . import peers
from .conditions import cores, others_seconds
from .sides import Row, Side, Times, ours, torchs

PAUSE = 0.05  # seconds between the sides: their threads come to rest
SLOT = 0.1  # seconds that one side runs in a round, at least once
MOST = 2000  # runs in a slot
QUIET = 0.08  # of the cores' time: what other processes may take in a round


def has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


class Timed:
    """A side under its own kernels, and how often it runs in a slot."""

    def __init__(self, side: Side) -> None:
        self.side = side
        with side.scope():
            side.once()
            times = [sum(side.once())]
            self.outcome = side.outcome()  # after two runs on each side, as a step changes what the next one sees
            while len(times) < 3 and sum(times) < SLOT:
                times.append(sum(side.once()))
        self.repeats = max(1, min(MOST, round(SLOT / min(times))))

    def slot(self) -> Times:
        """The medians over one slot."""
        with self.side.scope():
            runs = [self.side.once() for _ in range(self.repeats)]
        return tuple(statistics.median(times) for times in zip(*runs, strict=True))


def check(name: str, configuration: str, mine: Timed, theirs: Timed) -> None:
    """Ends the run where the sides do not compute the same.

    By the root of the summed squares: a ReLU whose input rounds to the other side of 0 changes a few numbers much.
    """
    for what, a in mine.outcome.items():
        b = theirs.outcome[what]
        error = float(np.linalg.norm(a - b) / max(1e-6, np.linalg.norm(b))) if a.size else 0.0
        if not error < 1e-3:
            raise SystemExit(
                f"{name}: the {what} with {configuration} differs from torch's by {error:.1e} of its length"
            )


def together(row: Row) -> dict[str, Side]:
    """Every side of a row, ours with torch's initial values."""
    theirs = torchs(row)
    sides = {"numpy": ours(row, theirs.state(), "numpy")}
    if has_numba():
        sides["fast"] = ours(row, theirs.state(), "fast")
    return {**sides, "torch": theirs}


def interleaved(timed: dict[str, Timed], rounds: int) -> tuple[dict[str, list[Times]], float]:
    """Each side's times, round by round, and the share of the cores that others took meanwhile.

    Another side begins each round. A round in which others were busy is run again, up to twice as many rounds in all,
    and the quietest count: a thread that waits for a core holds up every barrier.
    """
    done: list[tuple[float, dict[str, Times]]] = []
    order = list(timed)
    while sum(share <= QUIET for share, _ in done) < rounds and len(done) < 2 * rounds:
        others, start = others_seconds(), time.perf_counter()
        times = {}
        for name in order[len(done) % len(order) :] + order[: len(done) % len(order)]:
            time.sleep(PAUSE)
            times[name] = timed[name].slot()
        share = (others_seconds() - others) / (time.perf_counter() - start) / cores()
        done.append((share, times))
    done = sorted(done, key=lambda held: held[0])[:rounds]
    return {name: [times[name] for _, times in done] for name in timed}, statistics.mean(share for share, _ in done)


def medians(times: list[Times]) -> list[float]:
    return [1e3 * statistics.median(part) for part in zip(*times, strict=True)]


def ratios(mine: list[Times], theirs: list[Times]) -> list[float]:
    """Of the whole, within each round."""
    return [sum(a) / sum(b) for a, b in zip(mine, theirs, strict=True)]


def measure(name: str, row: Row, rounds: int, ceilings: dict[str, float], with_peers: bool = False) -> dict[str, Any]:
    """One row of the table."""
    sides = together(row)
    timed = {key: Timed(side) for key, side in sides.items()}
    for key, configuration in (("numpy", "NumPy alone"), ("fast", "numba")):
        if key in timed:
            check(name, configuration, timed[key], timed["torch"])
    for side in timed.values():
        side.outcome = {}
    if with_peers:
        timed |= {key: Timed(side) for key, side in peers.sides(row).items()}
    times, others = interleaved(timed, rounds)
    alone = ratios(times["numpy"], times["torch"])
    result: dict[str, Any] = {
        "name": name,
        "case": str(row) if not isinstance(row, tuple) else type(row).__name__,
        "parts": sides["torch"].parts,
        "ours_ms": medians(times["numpy"]),
        "torch_ms": medians(times["torch"]),
        "ratio": statistics.median(alone),
        "ratio_range": [min(alone), max(alone)],
        "others": others,
    }
    if len(sides["torch"].parts) > 1:
        for i, part in enumerate(("forward", "backward")):
            each = [a[i] / b[i] for a, b in zip(times["numpy"], times["torch"], strict=True)]
            result[f"ratio_{part}"] = statistics.median(each)
    if "fast" in times:
        fast = ratios(times["fast"], times["torch"])
        result |= {"fast_ms": medians(times["fast"]), "ratio_fast": statistics.median(fast)}
        result["ratio_fast_range"] = [min(fast), max(fast)]
    for key in [key for key in timed if key not in sides]:
        result[f"{key}_ms"] = medians(times[key])
        result[f"ratio_{key}"] = statistics.median(ratios(times[key], times["torch"]))
    if sides["torch"].work is not None:
        result["copy_ms"] = 1e3 * sides["torch"].work["bytes"] / ceilings["copy_bytes_per_s"]
        result["product_ms"] = 1e3 * sides["torch"].work["flops"] / ceilings["product_flops_per_s"]
    return result
