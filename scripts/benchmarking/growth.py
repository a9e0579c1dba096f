"""How time grows as one size doubles: a ratio that stays level says that no size falls off a cliff."""

from collections.abc import Iterator
from typing import Any

from tests.cases import Case

from .measure import measure
from .rows import attention, conv

SERIES: dict[str, dict[int, Case]] = {
    "affine 256-256 over batch": {n: Case("Linear", (256, 256), {}, ((n, 256),)) for n in (1, 4, 16, 64, 256, 1024)},
    "affine n-n over channels, batch 64": {
        n: Case("Linear", (n, n), {}, ((64, n),)) for n in (32, 64, 128, 256, 512, 1024, 2048)
    },
    "conv 3x3 64-64 @28 over batch": {n: conv(64, 64, 3, n, 28, padding=1) for n in (1, 2, 4, 8, 16, 32)},
    "conv 3x3 n-n @28 over channels, batch 4": {n: conv(n, n, 3, 4, 28, padding=1) for n in (8, 16, 32, 64, 128, 256)},
    "conv 3x3 32-32 over length, batch 4": {n: conv(32, 32, 3, 4, n, padding=1) for n in (7, 14, 28, 56, 112, 224)},
    "attention 8 heads of 64, 64 tokens over batch": {n: attention(8, 64, n, 64) for n in (1, 2, 4, 8, 16)},
    "attention n heads of 64, 128 tokens over heads": {n: attention(n, 64, 2, 128) for n in (1, 2, 4, 8, 16)},
    "attention 8 heads of 64 over length, batch 1": {n: attention(8, 64, 1, n) for n in (32, 64, 128, 256, 512, 1024)},
}


def grown(title: str, rounds: int, ceilings: dict[str, float]) -> Iterator[tuple[int, dict[str, Any]]]:
    for n, case in SERIES[title].items():
        yield n, measure(f"{title}: {n}", case, rounds, ceilings)


def line(n: int, row: dict[str, Any], before: dict[str, Any] | None) -> str:
    """One size: milliseconds, the ratios, and the factor over the size before, ours and torch's."""
    ours, torchs = sum(row["ours_ms"]), sum(row["torch_ms"])
    text = f"{n:8}{ours:10.3g}{torchs:10.3g}{row['ratio']:10.2f}"
    text += f"{row['ratio_fast']:10.2f}" if "ratio_fast" in row else f"{'':10}"
    if before is not None:
        text += f"   x {ours / sum(before['ours_ms']):.1f}, torch x {torchs / sum(before['torch_ms']):.1f}"
    return text


HEADER = f"{'size':>8}{'ours ms':>10}{'torch ms':>10}{'ratio':>10}{'numba':>10}   over the size before"
