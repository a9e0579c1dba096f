"""Activations of CuPy arrays, forward and backward one kernel each, traced from the agnostic functions.

Each reads its arrays and writes its answer once, where the library's own operations would visit memory at each step.
Declined: arguments that are arrays (prelu's weight, rrelu's slopes in training), and dtypes that do not float.
"""

from typing import Any

import xplayers.functional as F
from xplayers.functional.pair import wants

from ..registry import kernel
from .fusing import DTYPES, fused_backward, fused_forward

__all__: list[str] = []

NAMES = (
    *("relu", "leaky_relu", "hardtanh", "relu6", "threshold", "hardshrink", "softshrink", "hardsigmoid", "hardswish"),
    *("sigmoid", "tanh", "tanhshrink", "softsign", "logsigmoid", "softplus", "silu", "mish", "gelu"),
    *("elu", "celu", "selu"),
)


def _plain(x: Any, args: tuple, kwargs: dict) -> bool:
    values = (*args, *kwargs.values())
    return x.dtype.name in DTYPES and all(isinstance(v, bool | int | float | str) for v in values)


def _register(name: str) -> None:
    whole, back = getattr(F, f"{name}_forward"), getattr(F, f"{name}_backward")

    def supports(x: Any, *args: Any, **kwargs: Any) -> bool:
        return _plain(x, args, kwargs)

    def backward(dy: Any, cache: tuple, *, wanted: Any = None) -> Any:
        (want_x,) = wants(wanted, 1)
        if not want_x:
            return None
        if not hasattr(dy, "dtype"):  # a number, where the answer is 0-d
            return back.reference(dy, cache)
        return fused_backward(back.reference, dy, cache)

    @kernel("cupy", whole, backward, supports, rule="floating dtypes, arguments that are numbers")
    def forward(x: Any, *args: Any, **kwargs: Any) -> Any:
        """One kernel."""
        return fused_forward(whole.reference, x, args, kwargs) if _plain(x, args, kwargs) else NotImplemented


for _name in NAMES:
    _register(_name)
