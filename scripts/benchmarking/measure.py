"""A row's times: its sides checked against each other, then interleaved round by round."""

import importlib.util
import statistics
import time
from typing import Any

import numpy as np

from . import peers
from .sides import Row, Side, Times, ours, torchs

PAUSE = 0.05  # seconds between the sides: their threads come to rest
SLOT = 0.1  # seconds that one side runs in a round, at least once
MOST = 2000  # runs in a slot


def has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


class Timed:
    """A side under its own kernels, and how often it runs in a slot."""

    def __init__(self, side: Side) -> None:
        self.side = side
        with side.scope():
            side.once()
            times = [sum(side.once())]
            while len(times) < 3 and sum(times) < SLOT:
                times.append(sum(side.once()))
        self.repeats = max(1, min(MOST, round(SLOT / min(times))))

    def slot(self) -> Times:
        """The medians over one slot."""
        with self.side.scope():
            runs = [self.side.once() for _ in range(self.repeats)]
        return tuple(statistics.median(times) for times in zip(*runs, strict=True))


def check(name: str, configuration: str, mine: Side, theirs: dict[str, np.ndarray]) -> None:
    """Ends the run where the sides do not compute the same."""
    for what, a in mine.outcome().items():
        b = theirs[what]
        error = float(np.abs(a - b).max() / max(1e-6, np.abs(b).max())) if a.size else 0.0
        if not error < 1e-3:
            raise SystemExit(
                f"{name}: the {what} with {configuration} differs from torch's by {error:.1e} of its largest value"
            )


def together(row: Row) -> dict[str, Side]:
    """Every side of a row, ours with torch's initial values."""
    theirs = torchs(row)
    sides = {"numpy": ours(row, theirs.state(), "numpy")}
    if has_numba():
        sides["fast"] = ours(row, theirs.state(), "fast")
    return {**sides, "torch": theirs}


def interleaved(timed: dict[str, Timed], rounds: int) -> dict[str, list[Times]]:
    """Each side's times, round by round; another side begins each round."""
    times: dict[str, list[Times]] = {name: [] for name in timed}
    order = list(timed)
    for i in range(rounds):
        for name in order[i % len(order) :] + order[: i % len(order)]:
            time.sleep(PAUSE)
            times[name].append(timed[name].slot())
    return times


def medians(times: list[Times]) -> list[float]:
    return [1e3 * statistics.median(part) for part in zip(*times, strict=True)]


def ratios(mine: list[Times], theirs: list[Times]) -> list[float]:
    """Of the whole, within each round."""
    return [sum(a) / sum(b) for a, b in zip(mine, theirs, strict=True)]


def measure(name: str, row: Row, rounds: int, ceilings: dict[str, float], with_peers: bool = False) -> dict[str, Any]:
    """One row of the table."""
    sides = together(row)
    timed = {key: Timed(side) for key, side in sides.items()}
    theirs = sides["torch"].outcome()
    for key, configuration in (("numpy", "NumPy alone"), ("fast", "numba")):
        if key in sides:
            check(name, configuration, sides[key], theirs)
    if with_peers:
        timed |= {key: Timed(side) for key, side in peers.sides(row).items()}
    times = interleaved(timed, rounds)
    alone = ratios(times["numpy"], times["torch"])
    result: dict[str, Any] = {
        "name": name,
        "case": str(row) if not isinstance(row, tuple) else type(row).__name__,
        "parts": sides["torch"].parts,
        "ours_ms": medians(times["numpy"]),
        "torch_ms": medians(times["torch"]),
        "ratio": statistics.median(alone),
        "ratio_range": [min(alone), max(alone)],
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
