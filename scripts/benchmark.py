"""Times the layers on NumPy arrays against torch on the CPU: forward and backward, interleaved in one run.

    python scripts/benchmark.py --quick              the small rows, a minute
    python scripts/benchmark.py --only "conv 3x3"    the rows whose names match, or a family: --only recurrent
    python scripts/benchmark.py --compare old.json   what has changed since a run
    python scripts/benchmark.py --memory             and the peak memory of each row, a process a side
    python scripts/benchmark.py --growth             time over batch, channels and length
    python scripts/benchmark.py --overhead           a tiny layer taken apart
    python scripts/benchmark.py --readme             all of this, into README.md and scripts/figures/
    python scripts/benchmark.py --readme --from a.json b.json      the same from earlier runs' rows
    python scripts/benchmark.py --readme --from c.json --before a.json b.json      and the means of runs before it

A ratio is our time over torch's: below 1 is faster than torch. Each is the median over rounds of the ratio within a
round; less than 8 % is noise. Ours runs twice in a round: with NumPy alone, and with what the `fast` extra installs.
The copy and the matrix product of the machine, measured in the same run, give the time that a row would take if
nothing but the arrays' traffic or the multiplications counted.

The run starts itself again under conditions of its own: equal threads on both sides, no OPENBLAS_CORETYPE (which holds
NumPy back and not torch), freed memory kept by malloc (for both), and a pause between the sides, as the workers of one
library keep spinning into the other's time.
"""

# ruff: noqa: E402
import argparse
import gc
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.needs import needs

needs("numpy", "torch", "threadpoolctl", "matplotlib", "array_api_compat", "array_api_extra")

import torch

from scripts.benchmarking import growth, memory, overhead, report
from scripts.benchmarking.conditions import conditions, cores, machine, measure_ceilings, restart
from scripts.benchmarking.measure import has_numba, measure
from scripts.benchmarking.picture import plot
from scripts.benchmarking.rows import FAMILIES, OPTIMIZER_ROWS, QUICK
from scripts.benchmarking.sides import Row
from scripts.benchmarking.steps import STEPS

ALL: dict[str, dict[str, Row]] = {**FAMILIES, "optimizer": OPTIMIZER_ROWS, "steps": STEPS}


def chosen(quick: bool, only: str | None) -> Iterator[tuple[str, str, Row]]:
    """Family, name and row of what is asked for."""
    for family, rows in ALL.items():
        for name, row in rows.items():
            if quick and not re.search(QUICK, name):
                continue
            if only and not (only == family if only in ALL else re.search(only, name)):
                continue
            yield family, name, row


def timed(asked: argparse.Namespace, result: dict[str, Any]) -> None:
    """Measures the chosen rows into `result`, a line each as they come."""
    rounds = asked.rounds or (3 if asked.quick else 7)
    print(report.line(report.HEADER))
    result["rows"] = []
    for family, name, row in chosen(asked.quick, asked.only):
        found = measure(name, row, rounds, result["ceilings"], asked.peers)
        result["rows"].append({"family": family, **found})
        gc.collect()
        print(report.line(report.cells(found)) + report.remarks(found), flush=True)
    if not result["rows"]:
        raise SystemExit("no row of that name")


def remembered(asked: argparse.Namespace, result: dict[str, Any]) -> None:
    """The peak memory of the whole steps, or of the rows that `--only` names."""
    print("\npeak memory of a process, above what stands after its imports")
    result["memory"] = {}
    for _, name, _row in chosen(asked.quick, asked.only):
        if asked.only or name in STEPS:
            result["memory"][name] = memory.peaks(name, has_numba())
            print(memory.line(name, result["memory"][name]), flush=True)


def grown(asked: argparse.Namespace, result: dict[str, Any]) -> None:
    result["growth"] = {}
    for title in growth.SERIES:
        if asked.only and not re.search(asked.only, title):
            continue
        print(f"\n{title}\n{growth.HEADER}")
        rows: list[dict[str, Any]] = []
        for n, row in growth.grown(title, asked.rounds or 3, result["ceilings"]):
            print(growth.line(n, row, rows[-1] if rows else None), flush=True)
            rows.append({"size": n, **row})
        result["growth"][title] = rows


def started(asked: argparse.Namespace) -> dict[str, Any]:
    """A result with the machine and its ceilings, said first."""
    torch.set_num_threads(asked.threads)
    gc.disable()  # what a collection costs falls on whoever runs then
    ceilings = measure_ceilings()
    info = machine(asked.threads)
    pools = ", ".join(f"{p['internal_api']} {p['version'] or ''}: {p['num_threads']}" for p in info["pools"])
    result = {"machine": info, "ceilings": ceilings, "conditions": conditions(info, ceilings)}
    print(*result["conditions"], f"threads of each pool: {pools}", "", sep="\n")
    return result


def main(arguments: list[str] | None = None) -> None:
    summary, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the small rows, three rounds")
    parser.add_argument("--only", metavar="PATTERN", help=f"names to search, or a family: {', '.join(ALL)}")
    parser.add_argument("--rounds", type=int, help="rounds of a row (default 7)")
    parser.add_argument("--threads", type=int, default=cores(), help="threads of both sides (default: all cores)")
    parser.add_argument("--peers", action="store_true", help="jax and Thinc too, on the rows that they compute")
    parser.add_argument("--memory", action="store_true", help="peak memory of the whole steps, or of --only's rows")
    parser.add_argument("--growth", action="store_true", help="instead of the table: time as one size doubles")
    parser.add_argument("--overhead", action="store_true", help="instead of the table: a tiny layer taken apart")
    parser.add_argument("--json", type=Path, help="where the figures go, the plot beside them (default: .out/)")
    parser.add_argument("--compare", type=Path, metavar="OLD", help="an older run's JSON to set beside this one")
    parser.add_argument("--from", dest="source", type=Path, nargs="+", metavar="RUN", help="rows of runs, not measured")
    parser.add_argument("--before", type=Path, nargs="+", metavar="RUN", help="whole runs just before, to be told of")
    parser.add_argument("--readme", action="store_true", help="write README.md's table and scripts/figures/")
    asked = parser.parse_args(arguments)
    old = json.loads(asked.compare.read_text()) if asked.compare else None
    if asked.readme and (asked.quick or asked.only):
        parser.error("--readme takes the whole table")
    names = [name for _, name, _ in chosen(asked.quick, asked.only)]
    if asked.source:
        result = report.joined([json.loads(path.read_text()) for path in asked.source], names)
        missing = set(names) - {row["name"] for row in result["rows"]}
        if asked.readme and missing:
            parser.error(f"--readme takes the whole table; these runs lack {sorted(missing)}")
    else:
        restart(asked.threads)
        result = started(asked)
        if asked.overhead or asked.readme:
            result["overhead"] = overhead.measured(asked.rounds or 7)
            print(*overhead.lines(result["overhead"]), sep="\n")
        if asked.readme or not (asked.overhead or asked.growth):
            timed(asked, result)
            if asked.memory or asked.readme:
                remembered(asked, result)
        if asked.growth or asked.readme:
            grown(asked, result)

    if asked.before:
        result["before"] = [report.means(json.loads(path.read_text())["rows"]) for path in asked.before]
    figures = ROOT / "scripts" / "figures" / "benchmark.json"
    target = asked.json or (figures if asked.readme else ROOT / ".out" / "benchmark.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nfigures: {target}")
    if not result.get("rows"):
        return
    plot(result, target.with_suffix(".png"))
    print(f"picture: {target.with_suffix('.png')}", "", *report.summary(result["rows"]), sep="\n")
    print(*report.told(result["rows"]), sep="\n")
    if asked.readme:
        report.into_readme(ROOT / "README.md", report.markdown(result))
        print("README.md has the table")
    if old is not None:
        print("", *report.compared(result, old), sep="\n")


if __name__ == "__main__":
    main()
