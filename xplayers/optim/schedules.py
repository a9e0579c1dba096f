"""Learning rates that change with the epoch. Twins: torch.optim.lr_scheduler's of the same names.

As torch's, most multiply the rate that stands there, so that schedules can be chained on one optimizer and a rate that
is set by hand in between is kept.
"""

import math
import numbers
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xplayers.arrays import as_array, to_numpy
from xplayers.errors import refusal

from .optimizer import Optimizer

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "StepLR",
]


class LRScheduler:
    """The base: counts epochs in `last_epoch` and puts what `get_lr` gives into the optimizer's groups.

    Building it makes the first step, to epoch 0, and notes the rates that it starts from as the groups' "initial_lr".
    With last_epoch >= 0 those are there already: load the optimizer's state first.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise self._refusal(
                "optimizer", f"a {type(optimizer).__name__}", "an Optimizer", "pass xpl.optim.SGD(net)", TypeError
            )
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise self._refusal(
                    "last_epoch",
                    f"{last_epoch}, with no initial_lr in param_groups[{i}]",
                    "the groups of an optimizer that a schedule has worked on",
                    "load the optimizer's state dict first, or leave last_epoch out",
                )
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._initial = True
        self.step()
        self._initial = False

    def get_lr(self) -> list[float]:
        """The rates of all groups at `last_epoch`."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates that the last step gave."""
        return list(self._last_lr)

    def step(self) -> None:
        """One epoch on (one batch, for a schedule that counts batches)."""
        self.last_epoch += 1
        try:
            rates = self.get_lr()
        except Exception:
            self.last_epoch -= 1
            raise
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = self._current()

    def state_dict(self) -> dict[str, Any]:
        """The epoch and the rates that the schedule started from; save the optimizer's state with it."""
        return {"last_epoch": self.last_epoch, **{f"base_lrs.{i}": lr for i, lr in enumerate(self.base_lrs)}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave to a schedule built with the same arguments. The optimizer has its own."""
        if set(state) != set(self.state_dict()):
            raise self._refusal(
                "state", f"the names {sorted(state)}", f"{sorted(self.state_dict())}", "pass a schedule's state_dict()"
            )
        plain: dict[str, Any] = {}
        for name, value in state.items():
            array = None if _is_number(value) else as_array(value)
            if not _is_number(value) and (array is None or array.shape != ()):
                raise self._refusal("state", f"{name} that is no number", "numbers", "pass a schedule's state_dict()")
            plain[name] = value if array is None else to_numpy(array).item()
        self.last_epoch = int(plain["last_epoch"])
        self.base_lrs = [float(plain[f"base_lrs.{i}"]) for i in range(len(self.base_lrs))]
        self._last_lr = self._current()

    def _current(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _times(self, factor: float) -> list[float]:
        return [lr * factor for lr in self._current()]

    def _for_groups(self, name: str, value: Any) -> list[Any]:
        """One value a group: the list given, or the same for all."""
        n = len(self.optimizer.param_groups)
        if not isinstance(value, list | tuple):
            return [value] * n
        if len(value) != n:
            raise self._refusal(name, f"{len(value)} values", f"{n}, one a group", f"pass one {name} for all groups")
        return list(value)

    def _refusal(
        self, argument: str, got: str, expected: str, mend: str, kind: type[Exception] = ValueError
    ) -> Exception:
        return refusal(type(self).__name__, argument, got, expected, mend, kind)

    def _positive(self, name: str, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self._refusal(name, repr(value), "a positive integer", f"pass {name}=10")


class LambdaLR(LRScheduler):
    """lr = base_lr f(epoch), with one f for all groups or a list of them. Twin: torch's LambdaLR."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = optimizer
        self.lr_lambdas = self._for_groups("lr_lambda", lr_lambda)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for base, f in zip(self.base_lrs, self.lr_lambdas, strict=True)]


class StepLR(LRScheduler):
    """lr times gamma every step_size epochs. Twin: torch's StepLR."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self._positive("step_size", step_size)
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        due = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return self._times(self.gamma) if due else self._current()


class MultiStepLR(LRScheduler):
    """lr times gamma at every milestone. Twin: torch's MultiStepLR."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        times = self.milestones[self.last_epoch]
        return self._times(self.gamma**times) if times else self._current()


class ExponentialLR(LRScheduler):
    """lr times gamma every epoch. Twin: torch's ExponentialLR."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._current() if self._initial else self._times(self.gamma)


class LinearLR(LRScheduler):
    """lr times a factor that goes from start_factor to end_factor in total_iters epochs. Twin: torch's LinearLR."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise self._refusal("start_factor", repr(start_factor), "a number in (0, 1]", "pass start_factor=0.1")
        if not 0 <= end_factor <= 1:
            raise self._refusal("end_factor", repr(end_factor), "a number in [0, 1]", "pass end_factor=1.0")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        start, step = self.start_factor, self.end_factor - self.start_factor
        if self.last_epoch == 0:
            return self._times(start)
        if self._initial or self.last_epoch > self.total_iters:
            return self._current()
        return self._times(1 + step / (self.total_iters * start + (self.last_epoch - 1) * step))


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base_lr - eta_min) (1 + cos(pi epoch / T_max)) / 2, step by step. Twin: torch's of this name.

    Source: Loshchilov, Hutter, SGDR: stochastic gradient descent with warm restarts (2016), without the restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self._positive("T_max", T_max)
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, end, low = self.last_epoch, self.T_max, self.eta_min
        if self._initial:
            return self._current()
        if (t - 1 - end) % (2 * end) == 0:  # the rate is at its lowest, there is nothing to multiply
            rise = (1 - math.cos(math.pi / end)) / 2
            return [lr + (base - low) * rise for lr, base in zip(self._current(), self.base_lrs, strict=True)]
        ratio = (1 + math.cos(math.pi * t / end)) / (1 + math.cos(math.pi * (t - 1) / end))
        return [ratio * (lr - low) + low for lr in self._current()]


class OneCycleLR(LRScheduler):
    """Up from max_lr / div_factor to max_lr, down to that start / final_div_factor; step it after every batch.

    Momentum (or the first beta) goes the other way between max_momentum and base_momentum. With three_phase the way
    down stops at the start. Twin: torch's OneCycleLR.
    Source: Smith, Topin, Super-convergence: very fast training of neural networks using large learning rates (2017).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None and (epochs is None or steps_per_epoch is None):
            raise self._refusal("total_steps", "None", "total_steps, or both others", "pass epochs and steps_per_epoch")
        if total_steps is None:
            self._positive("epochs", epochs)
            self._positive("steps_per_epoch", steps_per_epoch)
            total_steps = epochs * steps_per_epoch  # type: ignore[operator]
        self._positive("total_steps", total_steps)
        if not isinstance(pct_start, float) or not 0 <= pct_start <= 1:
            raise self._refusal("pct_start", repr(pct_start), "a float in [0, 1]", "pass pct_start=0.3")
        if anneal_strategy not in ("cos", "linear"):
            raise self._refusal("anneal_strategy", repr(anneal_strategy), "'cos' or 'linear'", "pass one of the two")
        self.optimizer = optimizer
        self.total_steps = total_steps
        self.anneal = _cosine if anneal_strategy == "cos" else _line
        self.cycle_momentum = cycle_momentum
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise self._refusal(
                "cycle_momentum", "True", "an optimizer with momentum or betas", "pass cycle_momentum=False"
            )
        tops = self._for_groups("max_lr", max_lr)
        highs, lows = self._for_groups("max_momentum", max_momentum), self._for_groups("base_momentum", base_momentum)
        starts = [lr / div_factor for lr in tops]
        # Where each phase ends, and between which rates and momenta it goes, one pair a group.
        up = (pct_start * total_steps - 1, zip(starts, tops, strict=True), zip(highs, lows, strict=True))
        ends = [lr / final_div_factor for lr in starts]
        if three_phase:
            back = (2 * pct_start * total_steps - 2, zip(tops, starts, strict=True), zip(lows, highs, strict=True))
            down = (total_steps - 1, zip(starts, ends, strict=True), zip(highs, highs, strict=True))
            phases = [up, back, down]
        else:
            phases = [up, (total_steps - 1, zip(tops, ends, strict=True), zip(lows, highs, strict=True))]
        self.phases = [(float(end), list(rates), list(momenta)) for end, rates, momenta in phases]
        if last_epoch == -1:
            for group, start in zip(optimizer.param_groups, starts, strict=True):
                group["initial_lr"] = start
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t > self.total_steps:
            raise self._refusal(
                "total_steps", f"step {t} of {self.total_steps}", "no more steps than that", "pass a larger total_steps"
            )
        begin, (*earlier, phase) = 0.0, self.phases
        for each in earlier:
            if t <= each[0]:
                phase = each
                break
            begin = each[0]
        end, rates, momenta = phase
        share = (t - begin) / (end - begin) if end != begin else 1.0
        if self.cycle_momentum:
            for group, (start, stop) in zip(self.optimizer.param_groups, momenta, strict=True):
                momentum = self.anneal(start, stop, share)
                if "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                else:
                    group["momentum"] = momentum
        return [self.anneal(start, stop, share) for start, stop in rates]


def _cosine(start: float, stop: float, share: float) -> float:
    return stop + (start - stop) / 2 * (1 + math.cos(math.pi * share))


def _line(start: float, stop: float, share: float) -> float:
    return start + (stop - start) * share


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
