"""Gradient descent: torch's four, each one line of mathematics away from its page."""

import math
from collections.abc import Mapping
from typing import Any

from xplayers.arrays import Array, add_to, array_namespace, scale_by

from .optimizer import Optimizer, elementwise

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]


def _average(m: Array, dx: Array, decay: float) -> Array:
    """decay m + (1 - decay) dx, in m's memory where that can be written to."""
    return add_to(scale_by(m, decay), (1 - decay) * dx)


def _ascent_and_decay(x: Array, dx: Array, group: Mapping[str, Any]) -> Array:
    """The gradient, turned round to maximize, plus that of weight_decay / 2 |x|^2."""
    dx = -dx if group["maximize"] else dx
    return dx + group["weight_decay"] * x if group["weight_decay"] else dx


def _whole(beta: float, t: Array) -> Array | float:
    """1 - beta^t of an array t, with all its digits."""
    return -array_namespace(t).expm1(t * math.log(beta)) if beta else 1.0


class SGD(Optimizer):
    """Gradient descent with momentum. Twin: torch.optim.SGD.

    b_1 = dx, b_t = momentum b_{t-1} + (1 - dampening) dx; x <- x - lr b_t, with nesterov x - lr (dx + momentum b_t).
    Source: Sutskever et al., On the importance of initialization and momentum in deep learning (2013).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        switches = {"nesterov": nesterov, "maximize": maximize, "master_weights": master_weights}
        super().__init__(params, {**options, **switches})

    def _check(self, options: Mapping[str, Any]) -> None:
        super()._check(options)
        if options.get("nesterov") and (options["momentum"] <= 0 or options["dampening"] != 0):
            raise self._refusal(
                "nesterov",
                f"True with momentum={options['momentum']}, dampening={options['dampening']}",
                "a positive momentum and no dampening",
                "pass momentum=0.9, dampening=0",
            )

    def moments(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    @elementwise
    def change(self, x: Array, dx: Array, state: dict[str, Any], group: Mapping[str, Any]) -> Array:
        lr, momentum = group["lr"], group["momentum"]
        dx = _ascent_and_decay(x, dx, group)
        if not momentum:
            return -lr * dx
        if "momentum_buffer" in state:
            held = scale_by(state["momentum_buffer"], momentum)
            buffer = add_to(held, (1 - group["dampening"]) * dx)
        else:
            buffer = array_namespace(dx).asarray(dx, copy=True)
        state["momentum_buffer"] = buffer
        return -lr * (dx + momentum * buffer if group["nesterov"] else buffer)


class Adam(Optimizer):
    """Steps of about lr in every coordinate. Twin: torch.optim.Adam.

    m_t = b1 m + (1 - b1) dx; v_t = b2 v + (1 - b2) dx^2, with amsgrad the largest v so far;
    x <- x - lr m_t / (1 - b1^t) / (sqrt(v_t / (1 - b2^t)) + eps).
    With decoupled_weight_decay, x shrinks by lr weight_decay x instead of dx growing by weight_decay x. capturable: t
    is counted on the device, so that the step may be recorded; master_weights as in `Optimizer`.
    Source: Kingma, Ba, Adam: a method for stochastic optimization (2014).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        capturable: bool = False,
        master_weights: bool = False,
    ) -> None:
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        switches = {"maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay, "capturable": capturable}
        super().__init__(params, {**options, **switches, "master_weights": master_weights})

    def moments(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))

    @elementwise
    def change(self, x: Array, dx: Array, state: dict[str, Any], group: Mapping[str, Any]) -> Array:
        xp = array_namespace(x)
        lr, t, (beta1, beta2) = group["lr"], state["step"], group["betas"]
        decoupled = group["decoupled_weight_decay"]
        dx = _ascent_and_decay(x, dx, {**group, "weight_decay": 0.0} if decoupled else group)
        m = state["exp_avg"] = _average(self.moment(state, "exp_avg", x), dx, beta1)
        v = state["exp_avg_sq"] = _average(self.moment(state, "exp_avg_sq", x), dx * dx, beta2)
        if group["amsgrad"]:
            v = state["max_exp_avg_sq"] = xp.asarray(xp.maximum(self.moment(state, "max_exp_avg_sq", x), v))
        if isinstance(t, int):
            whole1, whole2 = 1 - beta1**t, math.sqrt(1 - beta2**t)
        else:  # counted on the device
            whole1, whole2 = _whole(beta1, t), xp.sqrt(_whole(beta2, t))
        scale = xp.sqrt(v) * (1 / whole2) + group["eps"]
        change = m * (-lr / whole1) / scale
        return change - lr * group["weight_decay"] * x if decoupled and group["weight_decay"] else change


class AdamW(Adam):
    """`Adam` with decoupled weight decay: x shrinks by lr weight_decay x. Twin: torch.optim.AdamW.

    Source: Loshchilov, Hutter, Decoupled weight decay regularization (2017).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        capturable: bool = False,
        master_weights: bool = False,
    ) -> None:
        switches = {"maximize": maximize, "capturable": capturable, "master_weights": master_weights}
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **switches)


class RMSprop(Optimizer):
    """Gradients divided by their own running size. Twin: torch.optim.RMSprop.

    v_t = alpha v + (1 - alpha) dx^2, when centered less the square of a_t = alpha a + (1 - alpha) dx;
    b_t = momentum b + dx / (sqrt(v_t) + eps); x <- x - lr b_t.
    Where rounding makes a centered v_t negative it counts as 0 (torch: NaN).
    Source: Tieleman, Hinton, Lecture 6.5: RMSprop (2012).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
        master_weights: bool = False,
    ) -> None:
        options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        switches = {"centered": centered, "maximize": maximize, "master_weights": master_weights}
        super().__init__(params, {**options, **switches})

    def moments(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        averages = ("square_avg", "grad_avg") if group["centered"] else ("square_avg",)
        return (*averages, "momentum_buffer") if group["momentum"] else averages

    @elementwise
    def change(self, x: Array, dx: Array, state: dict[str, Any], group: Mapping[str, Any]) -> Array:
        xp = array_namespace(x)
        dx = _ascent_and_decay(x, dx, group)
        v = state["square_avg"] = _average(self.moment(state, "square_avg", x), dx * dx, group["alpha"])
        if group["centered"]:
            a = state["grad_avg"] = _average(self.moment(state, "grad_avg", x), dx, group["alpha"])
            v = xp.maximum(v - a * a, 0.0)
        buffer = dx / (xp.sqrt(v) + group["eps"])
        if group["momentum"]:
            held = scale_by(self.moment(state, "momentum_buffer", x), group["momentum"])
            buffer = state["momentum_buffer"] = add_to(held, buffer)
        return -group["lr"] * buffer
