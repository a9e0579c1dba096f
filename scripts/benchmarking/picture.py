"""The picture of a run: every row's ratio on a logarithmic axis, torch at 1."""

import math
from pathlib import Path
from typing import Any

COLUMNS = 2


def plot(result: dict[str, Any], path: Path) -> None:
    """Bars for NumPy alone, dots for numba."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = result["rows"]
    columns = COLUMNS if len(rows) > 40 else 1
    height = math.ceil(len(rows) / columns)
    figure, axes = plt.subplots(
        1, columns, figsize=(7 * columns, 1.4 + 0.16 * height), layout="constrained", sharex=True, squeeze=False
    )
    held = [row[key] for row in rows for key in ("ratio", "ratio_fast") if key in row]
    low, high = min(*held, 0.5) / 1.1, max(*held, 2) * 1.1
    for axis, start in zip(axes[0], range(0, len(rows), height), strict=True):
        part = rows[start : start + height]
        for i, row in enumerate(part):
            axis.barh(i, row["ratio"] - 1, left=1, height=0.7, color="tab:blue" if row["ratio"] <= 1 else "tab:orange")
        fast = [(row["ratio_fast"], i) for i, row in enumerate(part) if "ratio_fast" in row]
        if fast:
            axis.plot(*zip(*fast, strict=True), "k.", markersize=5, label="with numba")
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set(xscale="log", xlim=(low, high), ylim=(height - 0.4, -0.6))
        axis.set_yticks(range(len(part)), [row["name"] for row in part], fontsize="x-small")
        ticks = [t for t in (0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32) if low <= t <= high]
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.minorticks_off()
        axis.grid(axis="x", linewidth=0.3)
        axis.set_xlabel("time over torch's, forward + backward (left of 1: faster)")
        if fast:
            axis.legend(fontsize="small", loc="lower right")
    figure.suptitle("\n".join(["NumPy alone (bars), with numba (dots)", *result["conditions"][:2]]), fontsize="x-small")
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)
