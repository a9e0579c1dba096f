"""What a run says: the table, the means, the slowest rows, the block of the README, and what an older run said."""

import re
import statistics
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .peers import CHAINER
from .rows import WHY, fingerprint

NOISE = 0.08
BUSY = 0.1  # of the cores' time: others' share that is remarked on
PEERS = ("jax", "thinc")
BOUNDS = {"ratio": 2.5, "ratio_fast": 1.2}  # a row above these is told to why
SIDES = ("numpy", "fast")
CONFIGURATIONS = {"ratio": "NumPy alone", "ratio_fast": "the `fast` extra"}
KINDS = {"ratio": "NumPy alone", "ratio_fast": "numba"}

HEADER = (
    "layer, forward + backward",
    "ours ms",
    "numba ms",
    "torch ms",
    "forward",
    "backward",
    "both",
    "numba",
    "at the ceilings",
)
WIDTH = 52


def milliseconds(times: list[float] | None) -> str:
    if times is None:
        return ""
    return f"{sum(times):.3g}" if sum(times) < 100 else f"{sum(times):.0f}"


def figure(row: dict[str, Any], key: str) -> str:
    return f"{row[key]:.2f}" if key in row else ""


def floor(row: dict[str, Any]) -> str:
    """The time of the row's traffic at the speed of a copy or of its products at the speed of a product."""
    if "copy_ms" not in row:
        return ""
    by = "product" if row["product_ms"] > row["copy_ms"] else "copy"
    ms = row[f"{by}_ms"]
    return f"{ms:.2g} ms, {by}" if ms < 100 else f"{ms:.0f} ms, {by}"


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        milliseconds(row["ours_ms"]),
        milliseconds(row.get("fast_ms")),
        milliseconds(row["torch_ms"]),
        figure(row, "ratio_forward"),
        figure(row, "ratio_backward"),
        figure(row, "ratio"),
        figure(row, "ratio_fast"),
        floor(row),
    )


def line(row: tuple[str, ...]) -> str:
    widths = (9, 9, 9, 9, 9, 8, 8, 20)
    return f"{row[0]:{WIDTH}}" + "".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))


def remarks(row: dict[str, Any]) -> str:
    """jax's and Thinc's times over torch's, where the row was timed with them, and whether the machine was busy."""
    busy = f"  others took {row['others']:.0%} of the cores" if row["others"] > BUSY else ""
    return "".join(f"  {name} {row[f'ratio_{name}']:.2f}" for name in PEERS if f"ratio_{name}" in row) + busy


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The geometric mean of each configuration's ratios."""
    out = {}
    for key in KINDS:
        held = [row[key] for row in rows if key in row]
        if held:
            out[key] = statistics.geometric_mean(held)
    return out


def slowest(rows: list[dict[str, Any]], key: str, count: int = 5) -> list[dict[str, Any]]:
    return sorted((row for row in rows if key in row), key=lambda row: -row[key])[:count]


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """The lines below the table."""
    found = means(rows)
    lines = [f"geometric mean of {len(rows)} ratios: {', '.join(f'{KINDS[k]} {v:.2f}' for k, v in found.items())}"]
    for family in dict.fromkeys(row["family"] for row in rows):
        of = means([row for row in rows if row["family"] == family])
        lines.append(f"    {family:16}{', '.join(f'{KINDS[k]} {v:.2f}' for k, v in of.items())}")
    for key in found:
        worst = "; ".join(f"{row['name']} {row[key]:.2f}" for row in slowest(rows, key))
        lines.append(f"slowest, {KINDS[key]}: {worst}")
    busy = [row["name"] for row in rows if row.get("others", 0) > BUSY]
    if busy:
        lines.append(f"not to be trusted, as other processes ran: {'; '.join(busy)}")
    return lines


def misses(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The rows beyond their bounds: name with ratios, and what bounds them as far as it is known."""
    out = []
    for row in rows:
        beyond = [f"{KINDS[k]} {row[k]:.2f}" for k, most in BOUNDS.items() if row.get(k, 0) > most]
        if beyond:
            out.append((f"{row['name']} ({', '.join(beyond)})", WHY.get(row["name"], "not looked into yet")))
    return out


def told(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for name, why in misses(rows):
        lines += [name, *textwrap.wrap(why, 110, initial_indent="    ", subsequent_indent="    ")]
    return [f"beyond {BOUNDS['ratio']} with NumPy alone or {BOUNDS['ratio_fast']} with numba:", *lines] if lines else []


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return ["", *(f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)), ""]


def folded(title: str, lines: list[str]) -> list[str]:
    return [f"<details><summary>{title}</summary>", *lines, "</details>", ""]


def markdown(result: dict[str, Any]) -> str:
    """The block of the README."""
    rows, found = result["rows"], means(result["rows"])
    mean = " and ".join(f"**{found[k]:.2f}** with {CONFIGURATIONS[k]}" for k in found)
    worst = {row["name"]: row for key in found for row in slowest(rows, key)}
    lines = [
        "Time over torch's, forward + backward, below 1 faster than torch. Geometric mean of all "
        f"{len(rows)} rows: {mean}.{of_runs(result)}",
        "",
        *(f"{text}  " for text in result["conditions"]),
        *table(
            ("the slowest rows", *CONFIGURATIONS.values(), "what bounds it"),
            [(n, figure(r, "ratio"), figure(r, "ratio_fast"), WHY.get(n, "")) for n, r in worst.items()],
        ),
        *by_family(rows),
        *remembered(result),
        *folded(f"All {len(rows)} rows", [*table(HEADER, map(cells, rows)), *missed(rows)]),
        *beside_peers(rows),
        *apart(result),
        *grown(result),
        "Ratios are medians over rounds that interleave the sides, with equal threads and torch's defaults; less than "
        "8 % is noise. At the ceilings: the time of the arrays' traffic at the speed of a copy, or of the "
        "multiplications at that of a large product. Written by `python scripts/benchmark.py --readme` "
        f"({result['machine']['date']}; rows {fingerprint()}).",
    ]
    return "\n".join(lines)


def of_runs(result: dict[str, Any]) -> str:
    """The means of the whole runs before this one and of this one."""
    if "before" not in result:
        return ""
    held = [*result["before"], means(result["rows"])]
    said = "; ".join(" and ".join(f"{mean[k]:.2f}" for k in KINDS if k in mean) for mean in held)
    return f" All runs in a row, the last of them below: {said}."


def by_family(rows: list[dict[str, Any]]) -> list[str]:
    out = []
    for family in dict.fromkeys(row["family"] for row in rows):
        held = [row for row in rows if row["family"] == family]
        of = means(held)
        out.append((family, str(len(held)), *(figure(of, key) for key in KINDS)))
    return table(("family", "rows", *CONFIGURATIONS.values()), out)


def missed(rows: list[dict[str, Any]]) -> list[str]:
    found = [f"- {name}: {why}" for name, why in misses(rows)]
    title = f"Beyond {BOUNDS['ratio']} with NumPy alone or {BOUNDS['ratio_fast']} with numba:"
    return [title, "", *found, ""] if found else []


def remembered(result: dict[str, Any]) -> list[str]:
    """Peak memory of the whole steps."""
    header = ("peak memory, MB above what stands after the imports", *CONFIGURATIONS.values(), "torch")
    rows = [
        (name, *(f"{mb[k]:.0f} ({mb[k] / mb['torch']:.2f})" if k in mb else "" for k in SIDES), f"{mb['torch']:.0f}")
        for name, mb in result.get("memory", {}).items()
    ]
    return table(header, rows) if rows else []


def beside_peers(rows: list[dict[str, Any]]) -> list[str]:
    keys = ("ratio", "ratio_fast", "ratio_jax", "ratio_thinc")
    held = [
        (r["name"], *(figure(r, k) for k in keys), f"{CHAINER[r['name']]:.2f}" if r["name"] in CHAINER else "")
        for r in rows
        if "ratio_jax" in r or "ratio_thinc" in r or r["name"] in CHAINER
    ]
    header = ("time over torch's", *CONFIGURATIONS.values(), "jax, compiled", "Thinc", "Chainer, elsewhere")
    said = ["Chainer's figures are of another day and of one core of a Zen 5 with AVX-512.", ""]
    return folded("Beside other libraries", [*table(header, held), *said]) if held else []


def apart(result: dict[str, Any]) -> list[str]:
    """A tiny layer taken apart."""
    found = result.get("overhead", {})
    rows = [(f"{title}: {name}", f"{us:.1f}") for title, times in found.items() for name, us in times.items()]
    return folded("What a call costs beside its arithmetic", table(("a tiny layer", "us"), rows)) if rows else []


def grown(result: dict[str, Any]) -> list[str]:
    """The ratios along each series."""
    rows = [
        (title, *(", ".join(f"{r['size']}: {r[key]:.2f}" for r in held if key in r) for key in KINDS))
        for title, held in result.get("growth", {}).items()
    ]
    header = ("one size doubles", *(f"{c}, time over torch's" for c in CONFIGURATIONS.values()))
    return folded("As sizes grow", table(header, rows)) if rows else []


def into_readme(path: Path, text: str) -> None:
    """Puts the block between its markers."""
    held = path.read_text() if path.exists() else ""
    marked = re.compile(r"(<!-- benchmark -->\n).*?(<!-- /benchmark -->)", re.DOTALL)
    if not marked.search(held):
        raise SystemExit("README.md has no block between <!-- benchmark --> and <!-- /benchmark -->")
    path.write_text(marked.sub(lambda m: f"{m[1]}{text}\n{m[2]}", held))


def compared(result: dict[str, Any], old: dict[str, Any]) -> list[str]:
    """The ratios now and in an older run, and by name what became slower."""
    before = {row["name"]: row for row in old["rows"]}
    then, now = ({k: r["machine"].get(k) for k in ("cpu", "threads", "blas", "torch")} for r in (old, result))
    other = "".join(f"  ({k} was {then[k]}, is {now[k]})" for k in now if now[k] != then[k])
    lines = [f"against {old['machine']['date']}:{other}"]
    slower = []
    for row in result["rows"]:
        was = before.get(row["name"], {})
        for key, kind in KINDS.items():
            if key in row and key in was:
                change = row[key] / was[key] - 1
                note = "" if abs(change) < NOISE else "  faster" if change < 0 else "  SLOWER"
                label = f"{row['name']}, {kind}"
                lines.append(f"{label:{WIDTH + 14}}{was[key]:8.2f} -> {row[key]:.2f}{change:+8.0%}{note}")
                if change >= NOISE:
                    slower.append((change, label))
    named = "; ".join(f"{label} {change:+.0%}" for change, label in sorted(slower, reverse=True))
    return [*lines, f"slower than before: {named or 'nothing'}"]


def joined(results: list[dict[str, Any]], order: list[str]) -> dict[str, Any]:
    """One result of several runs' rows: of a row that stands in more than one, the last."""
    rows = {row["name"]: row for result in results for row in result.get("rows", ())}
    parts = {
        part: {k: v for result in results for k, v in result.get(part, {}).items()}
        for part in ("memory", "overhead", "growth")
    }
    return {**results[-1], "rows": [rows[name] for name in order if name in rows], **parts}
