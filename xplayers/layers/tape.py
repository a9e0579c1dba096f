"""The tape: what a forward leaves behind for its backward, a stack that the backward unwinds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xplayers.arrays import leaves, nbytes
from xplayers.errors import refusal

if TYPE_CHECKING:
    from .layer import Layer

__all__ = ["Tape", "record"]


class Record:
    """One forward of one layer: its owner, its caches, and the answer's shape that a `dy` must have."""

    __slots__ = ("answer", "cache", "owner")

    def __init__(self, owner: "Layer", cache: Any) -> None:
        self.owner = owner
        self.cache = cache
        self.answer: Any = None


class Tape:
    """A stack of records. Each call of a network has its own, and the caller owns it.

    >>> tape = xpl.Tape()
    >>> y = net(x, tape=tape)
    >>> dx = net.backward(dy, tape=tape)

    A tape is true also when it is empty, so that `if tape` asks whether there is one. `len(tape)` counts its records,
    `tape.nbytes` the memory that they hold, and `tape.copy()` lets one forward be undone twice.
    """

    def __init__(self) -> None:
        self._records: list[Record] = []
        self.input_grad = True  # whether the gradient of the net's input is wanted; see Layer.backward

    def push(self, owner: "Layer", cache: Any) -> None:
        self._records.append(Record(owner, cache))

    def pop(self, owner: "Layer") -> Any:
        """The cache of the owner's last forward, taken off the tape. Another layer's record is refused and stays."""
        if not self._records:
            raise refusal(
                owner.title,
                "tape",
                "an empty tape",
                f"a record of {owner.title} on top",
                "call the layer with tape=tape before its backward, once for each backward",
            )
        top = self._records[-1]
        if top.owner is not owner:
            raise refusal(
                owner.title,
                "tape",
                f"a record of {top.owner.title} on top",
                f"a record of {owner.title}",
                "a backward mirrors its forward: undo the layers in the reverse order of their calls, on the same tape",
            )
        self._records.pop()
        return top.cache

    def top(self) -> Record | None:
        return self._records[-1] if self._records else None

    def copy(self) -> "Tape":
        """Another tape with the same records; caches are never written to and so are shared."""
        other = Tape()
        other._records = list(self._records)
        return other

    __copy__ = copy

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays on the tape, each counted once."""
        arrays = {id(a): a for r in self._records for a in leaves(r.cache)}
        return sum(nbytes(a) for a in arrays.values())

    def __len__(self) -> int:
        return len(self._records)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator["Layer"]:
        """The owners of the records, the oldest first."""
        return (r.owner for r in self._records)

    def __repr__(self) -> str:
        lines = [f"  {r.owner.title}: {sum(map(nbytes, leaves(r.cache)))} bytes" for r in self._records]
        return "\n".join([f"Tape of {len(self)} records, {self.nbytes} bytes", *lines])


def record(tape: Tape | None, owner: "Layer", cache: Any) -> None:
    """Puts what `owner` will need in its backward on the tape; nothing where there is no tape."""
    if tape is not None:
        tape.push(owner, cache)
