"""Checks and times the library on a CUDA card beside torch on the same one: one command, ten minutes at most.

    python scripts/gpu_check.py                          the environment, the ceilings, the matrix, whole steps and rows
    python scripts/gpu_check.py --only "conv 3x3"        the rows whose family and name match
    python scripts/gpu_check.py --sections ceilings,rows some sections
    python scripts/gpu_check.py --readme                 writes what it finds into README.md
    python scripts/gpu_check.py --dry-run                tiny rows on NumPy and torch's CPU: no card, and no figures

A section or a row that fails is reported, and the rest goes on; what the time does not suffice for is reported as not
run. The figures go to --json after each row. Exit code: 0, 1 where something failed, 2 where there is no card.
"""

# ruff: noqa: E402
import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.needs import needs

needs("numpy", "torch", "threadpoolctl", "array_api_compat", "array_api_extra")

from scripts.benchmarking.on_card import report
from scripts.benchmarking.on_card.measure import measure
from scripts.benchmarking.on_card.places import Card, Host, Place
from scripts.benchmarking.on_card.rows import ROWS, STEP_ROWS, CardRow
from scripts.benchmarking.on_card.sides import NotHere
from scripts.support import between
from xplayers.kernels.cards import lacks_card

SECTIONS = ("environment", "ceilings", "matrix", "steps", "rows")  # in this order: the rows take what time is left
SHARES = {"require": 0.3, "off": 0.2}  # of the run's time: what the tests may take with these XPLAYERS_KERNELS
RESERVE = 15.0  # seconds before the end in which no further row begins
TESTS = {  # what pytest is asked for
    "card": ("tests", "-k", "cupy or cuda or cudnn", "--backends", "cupy,torch-cuda", "--require", "cupy,torch-cuda"),
    "dry": ("tests/test_layers.py", "-k", "Identity", "--backends", "numpy,torch", "--require", "numpy,torch"),
}


class Run:
    """A run: its place, its end, and the result that is written as it grows."""

    def __init__(self, place: Place, asked: argparse.Namespace) -> None:
        self.place, self.asked = place, asked
        self.start, self.seconds = time.monotonic(), 60.0 * asked.minutes
        self.result: dict[str, Any] = {"date": date.today().isoformat(), "dry_run": place.tiny, "sections": {}}
        self.written = 0.0
        self.lost: str | None = None  # the row after which the card computed no more

    @property
    def left(self) -> float:
        return self.start + self.seconds - time.monotonic()

    def write(self, every: float = 0.0) -> None:
        """Writes the result, unless it was written in the last `every` seconds."""
        if time.monotonic() - self.written < every:
            return
        self.written = time.monotonic()
        self.asked.json.parent.mkdir(parents=True, exist_ok=True)
        self.asked.json.write_text(json.dumps(self.result, indent=1) + "\n")

    def section(self, name: str, f: Callable[["Run", dict[str, Any]], None]) -> None:
        """Runs a section, which leaves what it finds under "found" as it goes."""
        held = self.result["sections"][name] = {"status": "ok", "why": None, "found": None}
        print(f"\n== {name} ({self.left:.0f} s left)", flush=True)
        begun = time.monotonic()
        try:
            f(self, held)
        except Exception as e:
            held |= {"status": "failed", "why": told(e), "traceback": traceback.format_exc()}
            print(f"{name} failed: {told(e)}", flush=True)
        held["seconds"] = time.monotonic() - begun
        self.write()

    @property
    def failures(self) -> list[str]:
        """Sections and rows that failed."""
        held = self.result["sections"]
        rows = [row for name in ("rows", "steps") for row in held.get(name, {}).get("found") or ()]
        names = [name for name, s in held.items() if s["status"] == "failed"]
        return names + [row["name"] for row in rows if row["status"] == "failed"]


def told(e: BaseException) -> str:
    return f"{type(e).__name__}: {e}".strip().splitlines()[0][:300]


def environment(run: Run, held: dict[str, Any]) -> None:
    held["found"] = run.place.environment()
    print(*(f"{k}: {v}" for k, v in held["found"].items()), sep="\n", flush=True)


def ceilings(run: Run, held: dict[str, Any]) -> None:
    held["found"] = run.place.ceilings()
    print(report.ceilings(held["found"]), flush=True)


def tested(mode: str, arguments: tuple[str, ...], limit: float) -> dict[str, Any]:
    """The matrix in a process of its own, ended with all its workers after `limit` seconds."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "matrix.json"
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", f"--report-json={target}"]
        workers = min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        command += ["-n", str(workers), *arguments] if arguments == TESTS["card"] else ["-p", "no:xdist", *arguments]
        log = Path(folder) / "log"
        with log.open("w") as out:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "XPLAYERS_KERNELS": mode},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
        lines = log.read_text(errors="replace").splitlines()
        backends = json.loads(target.read_text())["backends"] if target.exists() else []
    ended = f"ended after {limit:.0f} s, unfinished" if code is None else "passed" if code == 0 else f"exit code {code}"
    return {"code": code, "ended": ended, "command": command, "backends": backends, "tail": lines[-60:]}


def matrix(run: Run, held: dict[str, Any]) -> None:
    held["found"] = {}
    for mode, share in SHARES.items():
        limit = min(share * run.seconds, run.left - RESERVE)
        if limit <= 0:
            held |= {"status": "not run", "why": "the time was over"}
            return
        held["found"][mode] = tested(mode, TESTS["dry" if run.place.tiny else "card"], limit)
        run.write()
        print(report.matrix(held["found"])[-1], flush=True)
        if held["found"][mode]["code"] != 0:
            print(*held["found"][mode]["tail"], sep="\n", flush=True)
    ended = {mode: found["ended"] for mode, found in held["found"].items() if found["code"] != 0}
    if ended:
        held |= {"status": "failed", "why": "; ".join(f"XPLAYERS_KERNELS={m}: {how}" for m, how in ended.items())}


def one(run: Run, entry: CardRow) -> dict[str, Any]:
    """A row of the report, whatever happens."""
    named = {"family": entry.family, "name": entry.name, "dtype": entry.dtype, "precision": entry.precision}
    if run.lost:
        return {**named, "status": "not run", "why": f"the card computes no more since the row {run.lost}"}
    if run.left < (0 if run.place.tiny else RESERVE):
        return {**named, "status": "not run", "why": "the time was over"}
    try:
        measured = (run.result["sections"].get("ceilings") or {}).get("found") or {}
        found = {"status": "ok", "why": None, **measure(entry, run.place, measured)}
        if not found["agree"]:
            worst = max(found["errors"], key=lambda k: found["errors"][k])
            pair = f"{found['errors'][worst]:.1e} against {found['torch_errors'][worst]:.1e} of torch's"
            found |= {"status": "failed", "why": f"the error of the {worst} is {pair}"}
    except NotHere as e:
        found = {"status": "not run", "why": str(e)}
    except Exception as e:
        found = {"status": "failed", "why": told(e), "traceback": traceback.format_exc()}
    run.place.release() if run.place.works() else setattr(run, "lost", entry.name)
    return {**named, **found}


def benched(rows: list[CardRow]) -> Callable[[Run, dict[str, Any]], None]:
    def section(run: Run, held: dict[str, Any]) -> None:
        held["found"] = []
        for entry in rows:
            if run.asked.only and not re.search(run.asked.only, f"{entry.family} {entry.name}"):
                continue
            held["found"].append(one(run, entry))
            run.write(every=5)
            print(report.line(held["found"][-1]), flush=True)

    return section


def main(arguments: list[str] | None = None) -> None:
    summary, _, usage = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="what does not begin before is not run (10)")
    parser.add_argument("--json", type=Path, default=ROOT / ".out" / "gpu_check.json", help="where the figures go")
    parser.add_argument("--only", metavar="PATTERN", help="rows whose family and name match")
    parser.add_argument("--sections", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--readme", action="store_true", help="write README.md's block of the card")
    parser.add_argument("--dry-run", action="store_true", help="tiny rows without a card; no figures are claimed")
    asked = parser.parse_args(arguments)
    chosen = asked.sections.split(",")
    if not set(chosen) <= set(SECTIONS):
        parser.error(f"--sections are of {', '.join(SECTIONS)}")
    if asked.readme and (asked.dry_run or asked.only or set(chosen) != set(SECTIONS)):
        parser.error("--readme takes a whole run on a card")
    reason = None if asked.dry_run else lacking()
    if reason:
        print(f"gpu_check.py: cannot run here: {reason}", file=sys.stderr)
        raise SystemExit(2)
    run = Run(Host() if asked.dry_run else Card(), asked)
    how = {"environment": environment, "ceilings": ceilings, "matrix": matrix}
    how |= {"rows": benched(ROWS), "steps": benched(STEP_ROWS)}
    for name in SECTIONS:
        if name in chosen:
            run.section(name, how[name])
    print("", *report.said(run.result), "", f"figures: {asked.json}", sep="\n")
    if asked.readme:
        readme = ROOT / "README.md"
        readme.write_text(between(readme.read_text(), "gpu", report.markdown(run.result)))
        print("README.md has the table")
    if run.failures:
        raise SystemExit(f"failed: {'; '.join(run.failures)}")


def lacking() -> str | None:
    """Why there is nothing to compare on a card: CuPy or torch computes on none."""
    import torch

    reason = lacks_card()
    return reason or (
        None if torch.cuda.is_available() else "torch sees no CUDA device: torch.cuda.is_available() is False"
    )


if __name__ == "__main__":
    main()
