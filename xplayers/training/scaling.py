"""The scale of losses in float16, whose smallest gradients would round to nothing."""

from typing import Any

from xplayers.arrays import Array, accumulator, array_namespace, device, put_at
from xplayers.errors import refusal
from xplayers.optim import Optimizer
from xplayers.optim.slots import Slot

__all__ = ["LossScaler"]


class LossScaler:
    """Multiplies the gradient of a loss, divides those of the parameters, and leaves out steps that overflow.

    dloss <- s dloss; after the backward g <- g / s, and where any g is not finite, parameters and states stay as they
    are and s <- backoff_factor s; after `growth_interval` steps without, s <- growth_factor s.
    The scale and the count are arrays where the parameters live: nothing waits for the device. (A step is made and
    taken back where it overflowed, which takes a copy of parameters and states for so long. An optimizer that counts on
    the host counts it all the same; with `capturable=True` it does not.) The divided gradients are float32.

        net.backward(scaler.scale(loss.backward()))
        scaler.step(optimizer)
        scaler.update()

    Twin: torch.amp.GradScaler. Source: Micikevicius et al., Mixed precision training (2018).
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        if growth_factor <= 1.0:
            raise refusal("LossScaler", "growth_factor", repr(growth_factor), "a number > 1", "pass growth_factor=2.0")
        if not 0.0 < backoff_factor < 1.0:
            mend = "pass backoff_factor=0.5"
            raise refusal("LossScaler", "backoff_factor", repr(backoff_factor), "a number in (0, 1)", mend)
        self.init_scale, self.growth_factor, self.backoff_factor = init_scale, growth_factor, backoff_factor
        self.growth_interval = growth_interval
        self._scale: Array = None  # 0-d float32, born with the first gradient
        self._steps: Array = None  # since the scale was changed, 0-d float32
        self._good: Array = None  # whether every gradient of this step was finite, 0-d
        self._divided: list[Optimizer] = []  # those whose gradients are divided in this step

    def scale(self, dy: Array) -> Array:
        """dy times the scale, in its dtype."""
        xp = array_namespace(dy)
        if self._scale is None:
            here = {"dtype": xp.float32, "device": device(dy)}
            self._scale, self._steps = xp.full((), self.init_scale, **here), xp.zeros((), **here)
        return xp.astype(xp.astype(dy, xp.float32) * self._scale, dy.dtype)

    def get_scale(self) -> float:
        """The scale, read from the device."""
        return self.init_scale if self._scale is None else float(self._scale)

    def unscale(self, optimizer: Optimizer) -> None:
        """Divides the gradients of the optimizer's parameters, and notes whether all are finite: once a step."""
        if self._scale is None:
            mend = "call net.backward(scaler.scale(loss.backward()))"
            raise refusal("LossScaler", "scale", "a step before any scale(dy)", "one behind it", mend, RuntimeError)
        if any(optimizer is other for other in self._divided):
            return
        self._divided.append(optimizer)
        xp = array_namespace(self._scale)
        good = self._scale == self._scale if self._good is None else self._good  # true at first, where the scale lives
        for slot in _slots(optimizer):
            dx = slot.gradient
            if dx is not None:
                dx = (xp.astype(dx, xp.float32) if dx.dtype != xp.float64 else dx) / self._scale
                good = good & xp.all(xp.isfinite(dx))
                slot.put_gradient(dx)
        self._good = good

    def step(self, optimizer: Optimizer) -> None:
        """`optimizer.step()` where every gradient is finite, nothing elsewhere. `clip` between `unscale` and this."""
        self.unscale(optimizer)
        xp = array_namespace(self._scale)
        held = [(s, xp.asarray(s.value, copy=True)) for s in _slots(optimizer) if s.value is not None]
        wholes = {s.key: xp.astype(before, xp.float32) for s, before in held if before.dtype != accumulator(before)}
        states = {k: {n: _copied(xp, v) for n, v in s.items()} for k, s in optimizer.state.items()}
        optimizer.step()
        for slot, before in held:
            x = slot.value
            moved = put_at(x, ..., xp.where(self._good, x, before))
            if moved is not x:
                slot.layer.put(slot.name, moved)
        for key, state in optimizer.state.items():
            for name, value in state.items():
                if not isinstance(value, int):
                    before = states.get(key, {}).get(name, 0)
                    if name == "master" and isinstance(before, int):  # born in this step, of the parameter
                        before = wholes[key]
                    elif isinstance(before, int):  # zeros at first; a count may come from a file
                        before = xp.full_like(value, before)
                    state[name] = put_at(value, ..., xp.where(self._good, value, before))

    def update(self) -> None:
        """The scale of the next step."""
        if self._good is None:
            mend = "call scaler.step(optimizer)"
            raise refusal("LossScaler", "update", "no step since the last one", "one step", mend, RuntimeError)
        xp = array_namespace(self._scale)
        steps = xp.where(self._good, self._steps + 1.0, xp.zeros_like(self._steps))
        grown = steps >= self.growth_interval
        larger = xp.where(grown, self._scale * self.growth_factor, self._scale)
        self._scale = put_at(self._scale, ..., xp.where(self._good, larger, self._scale * self.backoff_factor))
        self._steps = put_at(self._steps, ..., xp.where(grown, xp.zeros_like(steps), steps))
        self._good, self._divided = None, []


def _slots(optimizer: Optimizer) -> list[Slot]:
    return [slot for group in optimizer.param_groups for slot in group["params"]]


def _copied(xp: Any, value: Any) -> Any:
    return value if isinstance(value, int) else xp.asarray(value, copy=True)
