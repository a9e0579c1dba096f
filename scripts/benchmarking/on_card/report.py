"""What a run on a card says: the tables on the screen and in the README."""

import statistics
from typing import Any

from scripts.benchmarking.report import folded, table

__all__ = ["NOT_RUN", "line", "markdown", "said"]

NOT_RUN = (
    "Nothing in this library has run on a card yet: neither the matrix on cupy and torch-cuda, nor the kernels for "
    "CuPy arrays (cuDNN's and our own), nor any timing. `python scripts/gpu_check.py --readme`, ten minutes on a "
    "machine with a card, writes here what it finds."
)
HEADER = ("family", "row", "ours ms", "torch ms", "ratio", "error, ours / torch's", "peak MB, ours / torch's", "bound")


def _ms(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["status"] != "ok":
        return (row["family"], row["name"], "", "", "", "", "", f"{row['status']}: {row['why']}".replace("|", "/"))
    errors = f"{row['error']:.0e} / {row['torch_error']:.0e}" if "error" in row else "random"
    memory = row["memory"]
    peaks = f"{memory['ours'] / 1e6:.0f} / {memory['torch'] / 1e6:.0f}" if memory else ""
    held = row.get("bound")
    share = f"{held['share']:.0%} of the {held['by']} ceiling" if held else ""
    figures = _ms(row["ours_ms"]), _ms(row["torch_ms"]), f"{row['ratio']:.2f}"
    return (row["family"], row["name"], *figures, errors, peaks, share)


def line(row: dict[str, Any]) -> str:
    """A row on the screen, as it comes."""
    _, name, ours, torchs, ratio, errors, peaks, share = cells(row)
    return f"{name[:60]:60}{ours:>9}{torchs:>9}{ratio:>7}  {errors:16}{peaks:>14}  {share}"


def matrix(found: dict[str, Any]) -> list[str]:
    """The runs of the tests, a line each."""
    out = []
    for mode, run in found.items():
        rows = [
            f"{b['backend']}: {b.get('passed', 0)} passed, {b.get('failed', 0)} failed, worst error "
            f"{b.get('worst', 0.0):.2f} of its tolerance"
            if not b["not_run"]
            else f"{b['backend']}: not run, {b['not_run']}"
            for b in run.get("backends", ())
        ]
        out.append(f"XPLAYERS_KERNELS={mode}: {run['ended']}{'; ' if rows else ''}{'; '.join(rows)}")
    return out


def ceilings(found: dict[str, float]) -> str:
    products = ", ".join(f"{k} {found[k] / 1e12:.3g}" for k in ("float32", "tf32", "bfloat16"))
    return f"Ceilings of this run: copy {found['copy'] / 1e12:.3g} TB/s; products in TFLOP/s: {products}."


def sections(result: dict[str, Any]) -> list[str]:
    """What did not run to its end."""
    return [f"{name} {s['status']}: {s['why']}" for name, s in result["sections"].items() if s["status"] != "ok"]


def means(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    out = []
    for family in dict.fromkeys(row["family"] for row in rows):
        of = [row for row in rows if row["family"] == family]
        ratios = [row["ratio"] for row in of if row["status"] == "ok"]
        mean = f"{statistics.geometric_mean(ratios):.2f}" if ratios else ""
        out.append((family, f"{len(ratios)} of {len(of)}", mean))
    return out


def said(result: dict[str, Any]) -> list[str]:
    """The lines of Markdown, on the screen and in the README."""
    found = {name: s["found"] for name, s in result["sections"].items()}
    rows = [*(found.get("rows") or ()), *(found.get("steps") or ())]
    lines = [", ".join(f"{k} {v}" for k, v in (found.get("environment") or {}).items() if v and k != "date") + ".", ""]
    if found.get("ceilings"):
        lines += [ceilings(found["ceilings"]), ""]
    lines += [f"- {text}" for text in (*matrix(found.get("matrix") or {}), *sections(result))]
    lines += table(("family", "rows that ran", "time over torch's, geometric mean"), means(rows))
    return lines + folded(f"All {len(rows)} rows", table(HEADER, map(cells, rows)))


def markdown(result: dict[str, Any]) -> str:
    """The block of the README."""
    text = (
        "Medians of CUDA events over rounds that interleave the sides (launch-bound rows: the host's clock), inputs "
        "rotated beyond the L2 cache, equal leave to use TF32: none of it without the word, TF32 in convolutions on "
        "both sides in rows of convolutions, everywhere in the others that say so. Errors are the greatest of |a - b| "
        "/ |b| of outputs and of gradients against torch's float64. A bound is the time that the least traffic or the "
        "products would take at a ceiling, over ours. Written by `python scripts/gpu_check.py --readme` on "
        f"{result['date']}."
    )
    return "\n".join([*said(result), text])
