"""Small parameters stepped side by side: as one flat array they cost a dozen operations, not a dozen each.

Of a network of a hundred arrays that is a few dozen calls (on a card: launches) a step in place of thousands. The
moments are views of flat arrays from then on, where the library has views; x and dx are put side by side for a step,
and the change is added to each x where it lies, as a parameter is the array that its user holds.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from xplayers.arrays import Array, accumulator, add_to, array_namespace, device, size

__all__ = ["Together"]

_NONE = None, None, None

_SMALL = 1 << 16  # numbers: from here on an operation takes longer than to call it
_MOST = 1 << 20  # numbers side by side, which bounds what a step takes beside the parameters


class Together:
    """The flat moments of an optimizer's small parameters. A copy of it is empty: copied arrays share no memory."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Array, Array, slice]] = {}  # a parameter's moment: the view, of what, and where

    def __reduce__(self) -> Any:
        return Together, ()

    def step(self, optimizer: Any, items: list, options: Mapping[str, Any]) -> list:
        """Steps those of the (x, dx, state, slot) that are small and alike, and gives back the others."""
        alike: dict[Any, list] = {}
        widths: dict[Any, int] = {}
        seen: set[int] = set()
        for i, (x, dx, state, _) in enumerate(items):
            width, again = size(x), id(x) in seen  # one array in two places is stepped twice, one after the other
            seen.add(id(x))
            if again or width >= _SMALL or not isinstance(state["step"], int) or accumulator(x) != x.dtype:
                continue
            kind = type(x), x.dtype, dx.dtype, device(x), state["step"], tuple(state)
            if kind not in widths or widths[kind] + width > _MOST:
                alike.setdefault(kind, []).append([])
                widths[kind] = 0
            alike[kind][-1].append(i)
            widths[kind] += width
        taken: set[int] = set()
        for run in (run for runs in alike.values() for run in runs if len(run) > 1):
            self._step(optimizer, [items[i] for i in run], options)
            taken.update(run)
        return [item for i, item in enumerate(items) if i not in taken]

    def _step(self, optimizer: Any, items: list, options: Mapping[str, Any]) -> None:
        xp = array_namespace(items[0][0])
        ends = [0]
        for x, *_ in items:
            ends.append(ends[-1] + size(x))
        places = [slice(a, b) for a, b in pairwise(ends)]

        def flat(arrays: list) -> Array:
            return xp.concat([xp.reshape(a, (-1,)) for a in arrays])

        first = items[0][2]
        state = {n: first[n] if n == "step" else self._whole(flat, n, items, places) for n in first}
        change = optimizer.change(flat([x for x, *_ in items]), flat([dx for _, dx, *_ in items]), state, options)
        del state["step"]
        for place, (x, _, own, slot) in zip(places, items, strict=True):
            for name, whole in state.items():
                view, held, where = self._held.get(f"{slot.key}.{name}", _NONE)
                if view is None or view is not own.get(name) or held is not whole or where != place:
                    own[name] = xp.reshape(whole[place], x.shape)
                    self._held[f"{slot.key}.{name}"] = own[name], whole, place
            moved = add_to(x, xp.reshape(change[place], x.shape))
            if moved is not x:
                slot.layer.put(slot.name, moved)

    def _whole(self, flat: Any, name: str, items: list, places: list[slice]) -> Array:
        """A moment of all: the array that theirs are still views of, or they side by side."""
        found = [self._held.get(f"{slot.key}.{name}", _NONE) for *_, slot in items]
        whole = found[0][1]
        for (view, held, where), place, (_, _, own, _) in zip(found, places, items, strict=True):
            if whole is None or view is not own[name] or held is not whole or where != place:
                return flat([own[name] for _, _, own, _ in items])
        return whole
