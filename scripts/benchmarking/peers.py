"""Other libraries on the CPU beside torch, where they are installed: jax, compiled, and Thinc, on a few rows.

Chainer, which has no further releases, is told of by figures of one day: its time over torch's, forward + backward in
float32, on one core of a Zen 5 with AVX-512.
"""

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.cases import Case

from .sides import Row, Side, inputs, upstream

CHAINER = {
    "conv 3x3 64-64 @56": 3.15,
    "conv 3x3 256-256 @14": 1.70,
    "conv 3x3 3-32 @32, batch 64": 2.12,
    "lstm 256, 64 steps, batch 32": 5.2,
}


def sides(row: Row) -> dict[str, Side]:
    """A side for each peer that computes the row: a forward and a backward as one."""
    out = {}
    for name, build in (("jax", jaxs), ("thinc", thincs)):
        once = build(row) if isinstance(row, Case) and importlib.util.find_spec(name) else None
        if once is not None:
            out[name] = Side(("both",), timed(once), dict)
    return out


def timed(once: Callable[[], Any]) -> Callable[[], tuple[float]]:
    def run() -> tuple[float]:
        start = time.perf_counter()
        once()
        return (time.perf_counter() - start,)

    return run


def jaxs(case: Case) -> Callable[[], Any] | None:
    """One compiled function: the output, and the gradients of the input and of every parameter."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    (x, *_), _ = inputs(case)
    draw = lambda *shape: np.random.default_rng(2).standard_normal(shape).astype(np.float32)  # noqa: E731
    options = case.kwargs

    def conv(x: Any, w: Any, b: Any) -> Any:
        n = x.ndim - 2
        pad = [(options.get("padding", 0),) * 2] * n
        y = lax.conv_general_dilated(
            x,
            w,
            (options.get("stride", 1),) * n,
            pad,
            rhs_dilation=(options.get("dilation", 1),) * n,
            feature_group_count=options.get("groups", 1),
        )
        return y + jnp.reshape(b, (-1, *(1,) * n))

    def batch_norm(x: Any, w: Any, b: Any) -> Any:
        axes = (0, *range(2, x.ndim))
        c = (x - jnp.mean(x, axes, keepdims=True)) * lax.rsqrt(jnp.var(x, axes, keepdims=True) + 1e-5)
        shape = (-1, *(1,) * (x.ndim - 2))
        return c * jnp.reshape(w, shape) + jnp.reshape(b, shape)

    def layer_norm(x: Any, w: Any, b: Any) -> Any:
        c = (x - jnp.mean(x, -1, keepdims=True)) * lax.rsqrt(jnp.var(x, -1, keepdims=True) + 1e-5)
        return c * w + b

    def max_pool(x: Any) -> Any:
        k, s, p = case.args[0], options.get("stride", case.args[0]), options.get("padding", 0)
        return lax.reduce_window(x, -np.inf, lax.max, (1, 1, k, k), (1, 1, s, s), [(0, 0), (0, 0), (p, p), (p, p)])

    if case.layer == "Linear":
        inn, out = case.args
        f, params = lambda x, w, b: x @ w.T + b, (draw(out, inn), draw(out))
    elif case.layer in ("Conv1d", "Conv2d", "Conv3d"):
        c_in, c_out, k = case.args
        f, params = conv, (draw(c_out, c_in // options.get("groups", 1), *(k,) * (x.ndim - 2)), draw(c_out))
    elif case.layer in ("BatchNorm1d", "BatchNorm2d", "LayerNorm"):
        f = layer_norm if case.layer == "LayerNorm" else batch_norm
        params = (draw(*case.args), draw(*case.args))
    elif case.layer == "MaxPool2d":
        f, params = max_pool, ()
    elif case.layer in ("ReLU", "GELU", "SiLU", "Sigmoid", "Tanh", "Softmax"):
        exact = {"approximate": False} if case.layer == "GELU" and not options else {}
        g = jnp.tanh if case.layer == "Tanh" else getattr(jax.nn, case.layer.lower())
        f, params = lambda x: g(x, **exact), ()
    else:
        return None
    x, params = jnp.asarray(x), tuple(map(jnp.asarray, params))
    dy = jnp.asarray(upstream(jax.eval_shape(f, x, *params).shape))

    @jax.jit
    def both(dy: Any, *args: Any) -> Any:
        y, back = jax.vjp(f, *args)
        return y, back(dy)

    return lambda: jax.block_until_ready(both(dy, x, *params))


def thincs(case: Case) -> Callable[[], Any] | None:
    from thinc import api

    (x, *_), _ = inputs(case)
    if case.layer == "Linear" and x.ndim == 2:
        model = api.Linear(case.args[1], case.args[0])
    elif case.layer == "LayerNorm":
        model = api.LayerNorm(case.args[0])
    else:
        return None
    model.initialize(X=x)
    dy = upstream(model.predict(x).shape)

    def both() -> Any:
        _, back = model(x, is_train=True)
        return back(dy)

    return both
