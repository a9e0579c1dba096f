"""One row: errors against float64, then both sides' times interleaved, their peak memory, and what bounds the row."""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from scripts.benchmarking.steps import Step

from .places import Place
from .rows import CardRow
from .sides import NotHere, Numbers, Outcome, Side, numbers, ours, torchs

__all__ = ["measure"]

ROUNDS, TINY_ROUNDS = 5, 1
SLOT = 0.04  # seconds that a side runs in a round
LEAST, MOST = 4, 100  # runs of a slot
CHECKED = 8  # samples of a step whose gradients are compared with float64
SLACK = 3.0  # what our error may be of torch's where it is beyond the tolerance
TOLERANCES = {"float32": 1e-4, "tf32": 5e-3, "bfloat16": 3e-2}

Times = list[list[float]]  # a round: seconds of each part


def _errors(found: Outcome, judge: Outcome, place: Place) -> dict[str, float]:
    """|a - b| / |b| of each outcome, all its arrays as one: the gradient of a bias that cancels is rounding alone."""
    out = {}
    for what, expected in judge.items():
        pairs = [(place.shared(a), place.shared(b)) for a, b in zip(found[what], expected, strict=True)]
        if any(a.shape != b.shape for a, b in pairs):
            raise AssertionError(f"the {what} has other shapes than torch's")
        off = sum(float((a - b).square().sum()) for a, b in pairs)  # in float64, as the judge is
        size = sum(float(b.square().sum()) for _, b in pairs)
        out[what] = (off / max(size, 1e-300)) ** 0.5
    return out


def compared(entry: CardRow, row: Any, given: Numbers, place: Place) -> dict[str, Any]:
    """The errors of both sides, the greatest of each, and whether ours is within the tolerance or beside torch's."""
    if isinstance(row, Step):
        n = min(CHECKED, row.inputs[0])
        row = row._replace(inputs=(n, *row.inputs[1:]), targets=(n, *row.targets[1:]))
        given = Numbers([a[:n] for a in given.inputs], given.state)
    place.poison(4 * given.size)
    with place.flags(entry.precision):
        mine = ours(row, given, place, entry.dtype).outcome()
        theirs = torchs(row, given, place, entry.dtype).outcome()
    with place.flags("exact"):
        judge = torchs(row, given, place, "float64").outcome()
    if not judge:  # random
        return {"errors": {}, "torch_errors": {}, "agree": True}
    errors, torch_errors = _errors(mine, judge, place), _errors(theirs, judge, place)
    most = TOLERANCES[entry.ceiling]
    agree = all(e <= max(most, SLACK * torch_errors[what]) for what, e in errors.items())
    found = {"errors": errors, "torch_errors": torch_errors, "agree": agree}
    return {**found, "error": max(errors.values()), "torch_error": max(torch_errors.values())}


def _slot(side: Side, place: Place, runs: int, launches: bool) -> tuple[list[float], float]:
    """The median seconds of each part, or with `launches` the host's of the whole, and the host's of enqueueing it."""
    held: list[list[Any]] = []
    place.synchronize()
    start = time.perf_counter()
    for _ in range(runs):
        marks: list[Any] = []
        side.once(lambda marks=marks: None if launches else marks.append(place.mark()))
        held.append(marks)
    host = (time.perf_counter() - start) / runs
    place.synchronize()
    if launches:
        return [(time.perf_counter() - start) / runs], host
    parts = [list(itertools.starmap(place.seconds, itertools.pairwise(marks))) for marks in held]
    return [statistics.median(part) for part in zip(*parts, strict=True)], host


def _runs(side: Side, place: Place) -> int:
    """How often a side runs in a slot; warms it up first: plans and kernels are made by then."""
    for _ in range(1 if place.tiny else 3):
        side.once(lambda: None)
    if place.tiny:
        return 1
    place.synchronize()
    start = time.perf_counter()
    side.once(lambda: None)
    place.synchronize()
    return int(min(MOST, max(LEAST, SLOT / (time.perf_counter() - start))))


def timed(sides: dict[str, Side], place: Place, launches: bool) -> dict[str, Any]:
    """Medians over rounds that interleave the sides, another beginning each."""
    runs = {name: _runs(side, place) for name, side in sides.items()}
    times: dict[str, Times] = {name: [] for name in sides}
    hosts: dict[str, list[float]] = {name: [] for name in sides}
    for i in range(TINY_ROUNDS if place.tiny else ROUNDS):
        for name in sorted(sides, reverse=bool(i % 2)):
            parts, host = _slot(sides[name], place, runs[name], launches)
            times[name].append(parts)
            hosts[name].append(host)
    ratios = [sum(a) / sum(b) for a, b in zip(times["ours"], times["torch"], strict=True)]
    out: dict[str, Any] = {"ratio": statistics.median(ratios), "ratio_range": [min(ratios), max(ratios)]}
    for name, rounds in times.items():
        out[f"{name}_parts_ms"] = [1e3 * statistics.median(part) for part in zip(*rounds, strict=True)]
        out[f"{name}_ms"] = 1e3 * statistics.median(map(sum, rounds))
        out[f"{name}_host_us"] = 1e6 * statistics.median(hosts[name])
    return out


def bound(work: dict[str, float], ceilings: dict[str, float], ceiling: str, ms: float) -> dict[str, Any]:
    """What a row would take at the ceilings, and the share of the greater one that it reaches."""
    least = {"copy": 1e3 * work["bytes"] / ceilings["copy"], "product": 1e3 * work["flops"] / ceilings[ceiling]}
    by = max(least, key=lambda k: least[k])
    return {"by": by, "least_ms": least[by], "share": least[by] / ms} if least[by] else {}


def _counted(once: Callable[[Callable[[], None]], None]) -> dict[str, float]:
    """The multiplications and additions of a run of torch's."""
    with FlopCounterMode(display=False) as counter:
        once(lambda: None)
    return {"bytes": 0.0, "flops": float(counter.get_total_flops())}


def measure(entry: CardRow, place: Place, ceilings: dict[str, float]) -> dict[str, Any]:
    """A row of the report. Raises NotHere where it cannot run here, and what fails."""
    if entry.captured and place.tiny:
        raise NotHere("a graph is recorded on a card only")
    row = entry.row(place.tiny)
    given = numbers(row, entry.dtype)
    found = compared(entry, row, given, place)
    place.release()
    with place.flags(entry.precision):
        mine = ours(row, given, place, entry.dtype, entry.captured)
        sides = {"ours": mine, "torch": torchs(row, given, place, entry.dtype)}
        found |= timed(sides, place, entry.launches)
        found["parts"] = ["whole"] if entry.launches else list(mine.parts)
        found["memory"] = place.peaks(*(lambda side=side: side.once(lambda: None) for side in sides.values()))
        work = given.work or _counted(sides["torch"].once)
    if ceilings:
        found["bound"] = bound(work, ceilings, entry.ceiling, found["ours_ms"])
        found["torch_bound"] = bound(work, ceilings, entry.ceiling, found["torch_ms"])
    return found
