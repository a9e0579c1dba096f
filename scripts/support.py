"""Writes README.md's tables of backends and of support: every layer, backend and dtype, as the tests say.

python scripts/support.py                    runs the laws on every backend of this machine, then writes
python scripts/support.py --from FILE ...    writes what runs of `./scripts/test --all --report-json FILE` have found:
                                             one run, or several of other backends or other rows
"""

import argparse
import datetime
import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DTYPES = ("float64", "float32", "float16", "bfloat16")
BACKENDS = ("numpy", "numpy-readonly", "strict", "strict-device1", "torch", "torch-cuda", "jax", "cupy")
MARKS = {"passed": "✓", "left out": "–", "failed": "✗", "not run": "·"}


def fingerprint() -> str:
    """What the tables depend on: the rows of the table of layers. A test compares it with the README's."""
    sys.path.insert(0, str(ROOT))
    from tests.cases import rows

    text = "\n".join(f"{case} {sorted(case.skip)}" for case in rows("LAYERS"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def measured() -> dict[str, Any]:
    """Runs every law of every layer on every backend, and gives what pytest reports."""
    target = ROOT / ".out" / "support.json"
    target.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", f"--report-json={target}"]
    done = subprocess.run([*command, "tests/test_layers.py"], cwd=ROOT)
    if done.returncode:
        raise SystemExit("the laws do not hold everywhere: mend that first; nothing was written")
    return json.loads(target.read_text())


def merged(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Several reports as one: runs of other backends, or of other rows on the same ones, are added up."""
    sums: dict[str, dict[str, Any]] = {}
    support: dict[str, dict[str, Any]] = {}
    for report in reports:
        for row in report["backends"]:
            held = sums.setdefault(row["backend"], {**row, "passed": 0, "failed": 0, "checks": 0, "worst": 0.0})
            if row["not_run"] is None:
                held |= {"version": row["version"], "not_run": None}
            held |= {k: held[k] + row.get(k, 0) for k in ("passed", "failed", "checks")}
            held["worst"] = max(held["worst"], row.get("worst", 0.0))
        for layer, by_backend in report["support"].items():
            for name, dtypes in by_backend.items():
                cell = support.setdefault(layer, {}).setdefault(name, {})
                for dtype, said in dtypes.items():
                    cell[dtype] = max(cell.get(dtype, said), said, key=("passed", "left out", "failed").index)
    return {"backends": [sums[b] for b in BACKENDS if b in sums], "support": support}


def backends_table(result: dict[str, Any]) -> str:
    lines = [
        "| backend | version | tests | comparisons | worst error, as a share of its tolerance |",
        "|---|---|---|---|---|",
    ]
    for row in result["backends"]:
        if row["not_run"]:
            lines.append(f"| {row['backend']} | – | not run on this machine: {row['not_run']} | | |")
            continue
        rows = f"{row.get('passed', 0)} passed, {row.get('failed', 0)} failed"
        lines.append(
            f"| {row['backend']} | {row['version']} | {rows} | {row['checks']} | {row.get('worst', 0.0):.2f} |"
        )
    return "\n".join(lines)


def unrun(backend: str, dtype: str) -> str:
    """What a dtype that no row ran is: unknown to the library, or beyond the spread."""
    lacking = {"numpy": "bfloat16", "numpy-readonly": "bfloat16", "strict": "float16", "strict-device1": "float16"}
    return "left out" if lacking.get(backend, "none") in dtype else "not run"


def support_table(result: dict[str, Any]) -> str:
    """One row a layer; a cell has one mark for each of float64, float32, float16 and bfloat16."""
    ran = [b for b in BACKENDS if any(b in held for held in result["support"].values())]
    lines = ["| layer | " + " | ".join(ran) + " |", "|---" * (len(ran) + 1) + "|"]
    for layer in sorted(result["support"]):
        held = result["support"][layer]
        cells = ["".join(MARKS[held.get(b, {}).get(d, unrun(b, d))] for d in DTYPES) for b in ran]
        lines.append(f"| {layer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def written(result: dict[str, Any]) -> str:
    date = datetime.date.today().isoformat()
    host = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return (
        f"Written by `python scripts/support.py` on {date} ({host}; rows {fingerprint()}).\n\n"
        f"{backends_table(result)}\n\n<details><summary>Every layer on every backend: {', '.join(DTYPES)} (✓ passes, "
        "– the library does not compute it, · not in this spread: ./scripts/test --all runs it)</summary>\n\n"
        f"{support_table(result)}\n\n</details>"
    )


def between(text: str, name: str, new: str) -> str:
    """The text with what stands between the markers of `name` replaced."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, rest = text.split(start)
    _, tail = rest.split(end)
    return f"{head}{start}\n{new}\n{end}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = "reports of ./scripts/test --all --report-json FILE"
    parser.add_argument("--from", dest="sources", type=Path, nargs="+", metavar="FILE", help=what)
    sources = parser.parse_args().sources
    result = merged([json.loads(source.read_text()) for source in sources]) if sources else measured()
    README.write_text(between(README.read_text(), "support", written(result)))
    print(f"wrote {README.name}: {len(result['support'])} layers")


if __name__ == "__main__":
    main()
