"""`python -m xplayers.kernels`: which kernels are active here, by which rule each answers, and what is absent."""

from .registry import status
from .threads import threads


def lines() -> list[str]:
    found = status()
    out = [f"mode {found['mode']}, precision {found['precision']}, {threads()} threads"]
    out += [f"absent  {means}: {why}" for means, why in found["absent"].items()]
    width = max(map(len, found["kernels"]), default=0)
    return out + [f"{name:{width}}  {kernel['rule']}".rstrip() for name, kernel in sorted(found["kernels"].items())]


if __name__ == "__main__":
    print(*lines(), sep="\n")
