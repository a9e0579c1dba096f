"""Rows for pooling."""

import itertools

import numpy as np
import torch

import xplayers as xpl
import xplayers.functional as F
from tests.cases import Bad, Case, Fault, Function, distinct, f32, positive, probabilities, values

SIZES = {1: (11,), 2: (9, 8), 3: (5, 6, 7)}
EVEN = {1: (10,), 2: (6, 8), 3: (4, 6, 4)}


def _shape(n, lead=(2, 3)):
    return (*lead, *SIZES[n])


def _uneven(n):
    """A kernel and a stride that differ from axis to axis."""
    return (3, 2, 2)[-n:], (2, 1, 3)[-n:]


def _pooled(n, *args, sizes=SIZES):
    """What max pooling of distinct numbers gives: maxima, and their indices."""
    shape = (2, 3, *sizes[n])
    x = torch.tensor(np.random.default_rng(n).permutation(int(np.prod(shape))).reshape(shape) / 16.0)
    y, indices = getattr(torch.nn.functional, f"max_pool{n}d")(x, *args, return_indices=True)
    return values(y.numpy()), values(indices.numpy())


def _with_samples(n):
    """torch's fractional pooling with the samples of the call."""

    def call(module, inputs, call):
        pool = getattr(torch.nn.functional, f"fractional_max_pool{n}d")
        sizes = (module.kernel_size, module.output_size, module.output_ratio, module.return_indices)
        return pool(*inputs, *sizes, _random_samples=call["_random_samples"])

    return call


def _without_gradient(pool):
    """torch refuses samples that ask for a gradient."""
    return lambda x, _random_samples, **kwargs: pool(x, **kwargs, _random_samples=_random_samples.detach())


def _fractional(n, shape, **kwargs):
    samples = probabilities(*(1, *shape)[-n - 2 : -n], n)
    arrays = {"_random_samples": samples}
    return Case(f"FractionalMaxPool{n}d", (2,), kwargs, (distinct(*shape),), arrays=arrays, twin_call=_with_samples(n))


# An infinity and a NaN in one plane; a plane of -inf, where only the padding is as low.
_EXTREME = np.arange(72.0).reshape(1, 2, 6, 6) % 7 + 0.25
_EXTREME[0, 0, 2, 3], _EXTREME[0, 0, 5, 5], _EXTREME[0, 1, :, :] = np.nan, np.inf, -np.inf
_SIZED = {"batch": "the output's size is given"}
_TWICE = {**_SIZED, "derivative_along_a_direction": "an index named twice keeps one of its values"}
_TIED = np.round(np.random.default_rng(0).standard_normal((2, 3, 9, 8)))

LAYERS = [
    *(
        Case(f"MaxPool{n}d", args, kwargs, (distinct(*shape),))
        for n in (1, 2, 3)
        for args, kwargs, shape in (
            ((2,), {}, _shape(n)),
            ((3, 2, 1), {}, _shape(n)),
            (_uneven(n), {"return_indices": True}, _shape(n)),
            ((3,), {"stride": 2, "padding": 1, "ceil_mode": True}, _shape(n, (3,))),
            ((2,), {"stride": 1, "dilation": 2}, _shape(n)),
        )
    ),
    Case("MaxPool2d", (3, 2, 1), inputs=(values(_TIED),), skip={"derivative_along_a_direction": "ties"}),
    Case("AdaptiveMaxPool2d", (3, True), inputs=(values(_TIED),), skip={"derivative_along_a_direction": "ties"}),
    Case("MaxPool2d", (3, 2, 1), inputs=(values(_EXTREME),), skip={"derivative_along_a_direction": "infinities"}),
    Case("MaxPool2d", ((7, 8),), inputs=(distinct(2, 3, 9, 8),)),
    *(
        Case(f"AvgPool{n}d", args, kwargs, (shape,))
        for n in (1, 2, 3)
        for args, kwargs, shape in (
            ((2,), {}, _shape(n)),
            ((3, 2, 1), {}, _shape(n)),
            (_uneven(n), {"ceil_mode": True}, _shape(n)),
            ((3, 2, 1, True, False), {}, _shape(n, (3,))),
            ((4, 3, 2), {"ceil_mode": True}, _shape(n)),
            *([((2,), {"divisor_override": 3}, _shape(n))] if n > 1 else []),
        )
    ),
    *(
        Case(f"Adaptive{kind}Pool{n}d", (size,), {}, (distinct(*shape),))
        for kind, n in itertools.product(("Avg", "Max"), (1, 2, 3))
        for size, shape in (
            (1, _shape(n)),
            (4, _shape(n)),
            ((3, *SIZES[n][1:]), _shape(n)),
            (12, _shape(n, (3,))),
            *([((None, 2, 3)[:n], _shape(n))] if n > 1 else []),
        )
    ),
    *(Case(f"AdaptiveMaxPool{n}d", (3, True), {}, (distinct(*_shape(n)),)) for n in (1, 2, 3)),
    *(
        Case(f"LPPool{n}d", args, kwargs, (spec,))
        for n in (1, 2, 3)
        for args, kwargs, spec in (
            ((2, 3), {"stride": 2}, _shape(n)),
            ((1.5, 2), {"ceil_mode": True}, positive(*_shape(n))),
            ((float("inf"), 2), {}, distinct(*_shape(n))),
            ((-float("inf"), 3, 1), {}, distinct(*_shape(n))),
            ((1, 2), {}, _shape(n, (3,))),
        )
    ),
    Case("LPPool1d", (2, 2), inputs=(values(np.zeros((1, 2, 4))),), skip={"derivative_along_a_direction": "a kink"}),
    *(
        _fractional(n, _shape(n, lead), **kwargs)
        for n in (2, 3)
        for lead, kwargs in (
            ((2, 3), {"output_size": 3}),
            ((2, 3), {"output_ratio": (0.5, 0.7, 0.5)[:n], "return_indices": True}),
            ((3,), {"output_size": (1, 3, 2)[:n]}),
        )
    ),
    *(
        Case(f"MaxUnpool{n}d", args, {}, _pooled(n, *args, sizes=sizes), call, skip=skip)
        for n in (1, 2, 3)
        for args, sizes, call, skip in (
            ((2,), EVEN, {}, {}),
            ((2,), SIZES, {"output_size": SIZES[n]}, _SIZED),
            ((3, 2, 1), SIZES, {"output_size": SIZES[n]}, _TWICE),
            ((3, 1), SIZES, {"output_size": (2, 3, *SIZES[n])}, _TWICE),
        )
    ),
]

FUNCTIONS = [
    *(
        Function(f"max_pool{n}d", {"x": distinct(*_shape(n))}, kwargs)
        for n in (1, 2, 3)
        for kwargs in (
            {"kernel_size": 2},
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
            {"kernel_size": 2, "stride": 1, "dilation": 3, "return_indices": True},
        )
    ),
    Function("max_pool2d", {"x": values(_EXTREME)}, {"kernel_size": 3, "stride": 1, "padding": 1}),
    Function(
        "max_pool2d", {"x": values(_EXTREME)}, {"kernel_size": 3, "stride": 2, "padding": 1, "return_indices": True}
    ),
    *(
        Function(f"avg_pool{n}d", {"x": _shape(n)}, kwargs)
        for n in (1, 2, 3)
        for kwargs in (
            {"kernel_size": 2, "stride": None},
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
            {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
            *([{"kernel_size": 2, "divisor_override": 5}] if n > 1 else []),
        )
    ),
    *(
        Function(f"adaptive_avg_pool{n}d", {"x": _shape(n)}, {"output_size": size})
        for n in (1, 2, 3)
        for size in (1, 3, (5, *SIZES[n][1:]))
    ),
    Function("adaptive_avg_pool2d", {"x": (2, 3, 6, 8)}, {"output_size": (None, 4)}),
    *(
        Function(f"adaptive_max_pool{n}d", {"x": distinct(*_shape(n))}, kwargs)
        for n in (1, 2, 3)
        for kwargs in ({"output_size": 1}, {"output_size": 3}, {"output_size": 4, "return_indices": True})
    ),
    *(
        Function(f"lp_pool{n}d", {"x": spec}, kwargs)
        for n in (1, 2, 3)
        for spec, kwargs in (
            (_shape(n), {"norm_type": 2, "kernel_size": 2}),
            (positive(*_shape(n)), {"norm_type": 2.5, "kernel_size": 3, "stride": 2, "ceil_mode": True}),
            (positive(*_shape(n)), {"norm_type": 3, "kernel_size": 2}),
            (distinct(*_shape(n)), {"norm_type": -float("inf"), "kernel_size": 2}),
        )
    ),
    *(
        Function(
            f"fractional_max_pool{n}d",
            {"x": distinct(*_shape(n)), "_random_samples": probabilities(2, 3, n)},
            {"kernel_size": 2, **kwargs},
            twin=_without_gradient(getattr(torch.nn.functional, f"fractional_max_pool{n}d")),
        )
        for n in (2, 3)
        for kwargs in (
            {"output_size": 3},
            {"output_ratio": (0.5, 0.6, 0.5)[:n]},
            {"output_size": (3, 4, 1)[:n], "return_indices": True},
        )
    ),
    *(
        Function(f"max_unpool{n}d", dict(zip(("x", "indices"), _pooled(n, *args, sizes=sizes), strict=True)), kwargs)
        for n in (1, 2, 3)
        for args, sizes, kwargs in (
            ((2,), EVEN, {"kernel_size": 2}),
            ((3, 2, 1), SIZES, {"kernel_size": 3, "stride": 2, "padding": 1, "output_size": SIZES[n]}),
            ((3, 1), SIZES, {"kernel_size": 3, "stride": 1, "output_size": (2, 3, *SIZES[n])}),
        )
    ),
]


def _indices(*shape):
    return np.zeros(shape, np.int64)


BAD_CALLS = [
    Bad(lambda: xpl.MaxPool2d(2)(f32(8, 8)), "MaxPool2d(kernel_size=2", "x", "(8, 8)", "(N, C, H, W)", "x[None, ...]"),
    Bad(lambda: xpl.MaxPool2d(2)(f32(2, 2, 2, 8, 8)), "MaxPool2d(", "x", "5-d", "(C, H, W)", "x[0, ...]"),
    Bad(lambda: xpl.MaxPool1d(2)(_indices(2, 3, 8)), "MaxPool1d(", "x", "int64", "floating", "astype", TypeError),
    Bad(lambda: xpl.MaxPool2d(0), "MaxPool2d(kernel_size=0)", "kernel_size", "0", "at least 1", "kernel_size=2"),
    Bad(lambda: xpl.MaxPool2d((2, 2, 2)), "MaxPool2d(", "kernel_size", "(2, 2, 2)", "2 of them", "kernel_size=2"),
    Bad(lambda: xpl.MaxPool2d(2.5), "MaxPool2d(", "kernel_size", "2.5", "an integer", "kernel_size=2"),
    Bad(lambda: xpl.MaxPool2d(2, stride=0), "MaxPool2d(", "stride", "0", "at least 1", "stride=2"),
    Bad(lambda: xpl.MaxPool2d(2, dilation=0), "MaxPool2d(", "dilation", "0", "at least 1", "dilation=2"),
    Bad(lambda: xpl.MaxPool2d(2, padding=-1), "MaxPool2d(", "padding", "-1", "at least 0", "padding="),
    Bad(lambda: xpl.MaxPool2d(2, padding=2), "MaxPool2d(", "padding", "2", "at most 1", "padding=1"),
    Bad(lambda: xpl.MaxPool1d(3, padding=2, dilation=3), "MaxPool1d(", "padding", "2", "at most 1", "padding=1"),
    Bad(lambda: xpl.MaxPool2d(5)(f32(2, 3, 4, 9)), "MaxPool2d(", "x", "4, 9", "at least 5", "a smaller kernel_size"),
    Bad(lambda: xpl.MaxPool2d(2)(f32(2, 0, 4, 4)), "MaxPool2d(", "x", "(2, 0, 4, 4)", "one channel", "leave the call"),
    Bad(lambda: xpl.AvgPool3d(2)(f32(3, 8, 8)), "AvgPool3d(", "x", "(3, 8, 8)", "(N, C, D, H, W)", "x[None, ...]"),
    Bad(lambda: xpl.AvgPool1d(2, padding=2), "AvgPool1d(kernel_size=2)", "padding", "2", "at most 1", "padding=1"),
    Bad(lambda: xpl.AvgPool2d(4)(f32(2, 3, 3, 3)), "AvgPool2d(", "x", "3, 3", "at least 4", "a larger input"),
    Bad(lambda: xpl.AvgPool2d(2, divisor_override=0), "AvgPool2d(", "divisor_override", "0", "other than 0", "leave"),
    Bad(lambda: xpl.AdaptiveAvgPool2d(0), "AdaptiveAvgPool2d(0)", "output_size", "0", "at least 1", "output_size=2"),
    Bad(lambda: xpl.AdaptiveAvgPool2d((2, 2, 2)), "AdaptiveAvgPool2d(", "output_size", "(2, 2, 2)", "2 of", "size=2"),
    Bad(lambda: xpl.AdaptiveAvgPool2d(2)(f32(8, 8)), "AdaptiveAvgPool2d(", "x", "2-d", "(C, H, W)", "x[None, ...]"),
    Bad(lambda: xpl.AdaptiveMaxPool1d(2)(f32(3, 0)), "AdaptiveMaxPool1d(", "x", "(3, 0)", "one element", "leave"),
    Bad(lambda: xpl.LPPool2d(0, 2), "LPPool2d(0", "norm_type", "0", "other than 0", "norm_type=2"),
    Bad(lambda: xpl.LPPool2d(2, 3)(f32(1, 2, 2)), "LPPool2d(", "x", "2, 2", "at least 3", "a larger input"),
    Bad(lambda: xpl.FractionalMaxPool2d(2), "FractionalMaxPool2d(", "output_size", "None", "one of the two", "pass"),
    Bad(lambda: xpl.FractionalMaxPool2d(2, 3, 0.5), "FractionalMaxPool2d(", "output_size", "3", "one of", "not both"),
    Bad(
        lambda: xpl.FractionalMaxPool3d(2, output_ratio=1.5),
        "FractionalMaxPool3d(",
        "output_ratio",
        "1.5",
        "0 and 1",
        "output_ratio=0.5",
    ),
    Bad(
        lambda: xpl.FractionalMaxPool2d(3, 4)(f32(1, 2, 5, 5)),
        "FractionalMaxPool2d(",
        "x",
        "5, 5",
        "at least 6",
        "smaller",
    ),
    Bad(
        lambda: xpl.FractionalMaxPool2d(2, 2, _random_samples=f32(1, 3, 2))(f32(2, 3, 5, 5)),
        "FractionalMaxPool2d(",
        "_random_samples",
        "(1, 3, 2)",
        "(2, 3, 2)",
        "leave them out",
    ),
    Bad(
        lambda: xpl.MaxUnpool2d(2)(f32(1, 2, 2, 2), _indices(1, 2, 2, 3)),
        "MaxUnpool2d(",
        "indices",
        "(1, 2, 2, 3)",
        "(1, 2, 2, 2)",
        "return_indices=True",
    ),
    Bad(
        lambda: xpl.MaxUnpool2d(2)(f32(1, 2, 2, 2), f32(1, 2, 2, 2)),
        "MaxUnpool2d(",
        "indices",
        "float32",
        "an integer dtype",
        "return_indices=True",
        TypeError,
    ),
    Bad(
        lambda: xpl.MaxUnpool2d(2)(f32(1, 2, 2, 2), _indices(1, 2, 2, 2), (7, 7)),
        "MaxUnpool2d(",
        "output_size",
        "(7, 7)",
        "(4, 4)",
        "output_size=(4, 4)",
    ),
    Bad(lambda: F.max_pool2d(f32(1, 4, 4), 5), "max_pool2d", "x", "4, 4", "at least 5", "a larger input"),
    Bad(lambda: F.avg_pool1d(f32(1, 4), 2, padding=3), "avg_pool1d", "padding", "3", "at most 1", "padding=1"),
    Bad(
        lambda: F.avg_pool2d(f32(1, 4, 4), 2, divisor_override=0),
        "avg_pool2d",
        "divisor_override",
        "0",
        "other than",
        "leave divisor_override out",
    ),
]

FAULTS = [
    Fault("pooling._give_to_winners", "(tap > best)", "(tap >= best)", "MaxPool2d(3,2,1)"),
    Fault("pooling._give_to_winners", " | (tap != tap)", "", "MaxPool2d(3,2,1)"),
    Fault("pooling._give_to_winners", "take & ~given", "take", "MaxPool"),
    Fault("pooling._give_to_winners", "if first < before", "if False", "MaxPool2d(3,2,1)"),
    Fault("pooling._taps", "fill, **like(t)", "0.0, **like(t)", "MaxPool2d(3,2,1)"),
    Fault("pooling._add_taps", "tap), piece)", "tap), 0.5 * piece)", "MaxPool"),
    Fault("pooling._add_taps", "slice(step.padding, step.padding + step.size)", "slice(0, step.size)", "MaxPool2d(3"),
    Fault("pooling._max_along", "xp.maximum", "xp.minimum", "MaxPool1d(2"),
    Fault("pooling._argmax", "(value > y)", "(value >= y)", "AdaptiveMaxPool2d(3,True)"),
    Fault("pooling._put", "index_add(flat", "index_add(flat + 1.0", "AdaptiveMaxPool2d"),
    Fault("pooling.pooled_counts", "step.padding if include_pad else 0", "step.padding", "AvgPool2d"),
    Fault("pooling.pooled_counts", "step.size + pad", "10**9", "AvgPool2d"),
    Fault("pooling._average", "dtype=accumulator(x), device=device(x)", "dtype=accumulator(x)", "AvgPool2d"),
    Fault("pooling._spread_along", "), d[_along", "), 0.5 * d[_along", "AdaptiveAvgPool2d"),
    Fault("pooling.adaptive_runs", "-(-(o + 1) * size // out)", "(o + 1) * size // out", "AdaptiveAvgPool2d"),
    Fault("pooling.pooling_steps", "count -= ceil_mode and", "count -= False and", "AvgPool2d,AvgPool3d,AvgPool1d"),
    Fault("pooling._power", "return x**exponent", "return x*x", "LPPool2d"),
    Fault("layers.pooling._Pooling.backward", "tape.pop(self)", "tape.top().cache", "MaxPool1d"),
    Fault("layers.pooling._MaxUnpool.backward", "return dx", "return dx + 1", "MaxUnpool1d"),
]

_EQUAL = {"numpy": "windows in equal steps are left to the agnostic code"}
_WHOLE = {"numba": "whole planes are left to NumPy alone"}
_INDICES = {"numpy": "indices are left to the agnostic code"}

TWINS = [
    *(
        Function(name, {"x": x}, kwargs, skip=_INDICES if "return_indices" in kwargs else {})
        for name, x, kwargs in (
            ("max_pool1d", distinct(3, 4, 21), {"kernel_size": 4}),
            ("max_pool1d", distinct(3, 4, 90), {"kernel_size": 4, "stride": 2, "padding": 2, "return_indices": True}),
            ("max_pool1d", distinct(5, 9), {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": True}),
            ("max_pool2d", distinct(3, 4, 9, 11), {"kernel_size": 2}),
            ("max_pool2d", distinct(3, 4, 31, 41), {"kernel_size": 2, "stride": 1, "padding": 1}),
            ("max_pool2d", distinct(40, 30, 15, 14), {"kernel_size": 3, "stride": 2, "padding": 1}),
            ("max_pool2d", distinct(2, 3, 9, 12), {"kernel_size": (3, 2), "stride": 1, "dilation": (2, 3)}),
            ("max_pool2d", distinct(2, 3, 19, 37), {"kernel_size": 5, "stride": (3, 2), "padding": 2}),
            ("max_pool2d", distinct(2, 3, 9, 37), {"kernel_size": (4, 7), "stride": 3, "padding": (1, 3)}),
            ("max_pool2d", values(np.tile([0.0, 1.0, 1.0, 0.0, 1.0], (2, 1, 5, 2))), {"kernel_size": 3, "stride": 2}),
            ("max_pool2d", values(np.tile(_TIED, (1, 1, 3, 4))), {"kernel_size": 3, "stride": 2, "padding": 1}),
            ("max_pool2d", values(_EXTREME), {"kernel_size": 3, "stride": 2, "padding": 1, "return_indices": True}),
            ("max_pool2d", values(_EXTREME), {"kernel_size": 3, "stride": 1, "padding": 1}),
            ("max_pool2d", distinct(2, 3, 19, 23), {"kernel_size": (2, 3), "stride": (2, 4), "dilation": (3, 1)}),
            ("max_pool2d", distinct(9, 10, 56, 61), {"kernel_size": 3, "stride": 2, "padding": 1}),
            ("max_pool3d", distinct(2, 3, 5, 6, 7), {"kernel_size": 2, "padding": 1, "ceil_mode": True}),
            ("max_pool3d", values(np.tile(_TIED, (2, 1, 1, 1, 3))), {"kernel_size": 3, "stride": 1, "padding": 1}),
            ("max_pool3d", distinct(40, 3, 5, 16, 17), {"kernel_size": (1, 2, 3), "stride": 2, "return_indices": True}),
            ("avg_pool1d", (3, 4, 21), {"kernel_size": 4}),
            ("avg_pool1d", (5, 9), {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}),
            ("avg_pool1d", (2, 3, 77), {"kernel_size": 7, "stride": 2, "padding": 3, "ceil_mode": True}),
            ("avg_pool2d", (3, 4, 9, 11), {"kernel_size": 2}),
            ("avg_pool2d", (40, 30, 15, 14), {"kernel_size": 3, "stride": 2, "padding": 1}),
            ("avg_pool2d", (2, 3, 28, 40), {"kernel_size": 3, "stride": 1, "padding": 1, "count_include_pad": False}),
            ("avg_pool2d", (2, 3, 9, 12), {"kernel_size": (4, 2), "stride": (1, 3), "divisor_override": -7}),
            ("avg_pool2d", (2, 3, 10, 13), {"kernel_size": 4, "stride": 3, "padding": 2, "ceil_mode": True}),
            ("avg_pool2d", (2, 3, 19, 23), {"kernel_size": (2, 3), "stride": (3, 1)}),
            ("avg_pool2d", (9, 10, 56, 61), {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False}),
            ("avg_pool3d", (2, 3, 5, 6, 7), {"kernel_size": 2, "padding": 1, "ceil_mode": True}),
            ("avg_pool3d", (2, 3, 5, 6, 37), {"kernel_size": (2, 3, 5), "stride": 1, "padding": (0, 1, 2)}),
            ("avg_pool3d", (40, 3, 5, 16, 17), {"kernel_size": (1, 2, 3), "stride": 2, "divisor_override": 5}),
        )
    ),
    *(
        Function(f"adaptive_avg_pool{n}d", {"x": shape}, {"output_size": size})
        for n, shape, size in (
            (1, (3, 4, 21), 4),
            (1, (5, 9), 3),
            (1, (2, 3, 7), 11),
            (2, (3, 4, 28, 28), 6),
            (2, (40, 30, 12, 14), (3, 7)),
            (2, (2, 3, 9, 8), (None, 3)),
            (3, (2, 3, 5, 6, 7), 3),
            (3, (2, 3, 4, 6, 8), 2),
            (3, (40, 3, 5, 16, 17), (1, 4, 5)),
        )
    ),
    *(
        Function(f"adaptive_max_pool{n}d", {"x": x}, kwargs, skip=skip)
        for n, x, kwargs, skip in (
            (1, distinct(3, 4, 21), {"output_size": 4}, {}),
            (1, distinct(3, 40, 21), {"output_size": 1}, _WHOLE),
            (1, distinct(3, 7), {"output_size": 11, "return_indices": True}, {}),
            (1, distinct(3, 4, 21), {"output_size": 7}, _EQUAL),
            (2, distinct(3, 4, 28, 28), {"output_size": 6}, {}),
            (2, values(_TIED), {"output_size": (4, 3), "return_indices": True}, {}),
            (2, values(_TIED), {"output_size": 1, "return_indices": True}, _WHOLE),
            (2, values(_EXTREME), {"output_size": 1}, _WHOLE),
            (2, values(_EXTREME), {"output_size": 4}, {}),
            (2, distinct(40, 30, 12, 14), {"output_size": (3, 7)}, _EQUAL),
            (3, distinct(2, 3, 5, 6, 7), {"output_size": 3}, {}),
            (3, distinct(40, 3, 5, 16, 17), {"output_size": 1}, _WHOLE),
            (3, distinct(4, 3, 5, 6, 7), {"output_size": (2, 1, 3), "return_indices": True}, {}),
        )
    ),
]
