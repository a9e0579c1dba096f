"""Rows for the normalisations."""

import numpy as np
import torch

import xplayers as xpl
from tests.cases import Bad, Case, Fault, Function, Spec, f32, f64, floats, positive, values


def _sync(*args, **kwargs):
    """torch's SyncBatchNorm wants several processes; alone it is a batch norm."""
    kwargs.pop("reduce", None)
    return torch.nn.BatchNorm2d(*args, **kwargs)


def _summed(x):
    """A reduction over one process."""
    return x + 0.0


_NO_BATCH = {"batch": "its first axis is that of the channels"}

LAYERS = [
    Case("BatchNorm1d", (5,), inputs=((3, 5),)),
    Case("BatchNorm1d", (3,), {"eps": 0.1, "momentum": 0.3}, inputs=((4, 3, 5),)),
    Case("BatchNorm1d", (3,), {"momentum": None}, inputs=((1100, 3),)),
    Case("BatchNorm1d", (3,), {"affine": False}, inputs=((4, 3),)),
    Case("BatchNorm1d", (3,), {"bias": False}, inputs=((4, 3),)),
    Case("BatchNorm1d", (3,), {"track_running_stats": False}, inputs=((4, 3, 2),)),
    Case("BatchNorm1d", (3,), inputs=((0, 3),)),
    Case("BatchNorm1d", (3,), inputs=((0, 3, 4),)),
    Case("BatchNorm1d", (3,), inputs=((1, 3, 4),)),
    Case("BatchNorm2d", (3,), inputs=((2, 3, 4, 5),)),
    Case("BatchNorm2d", (3, 1e-3, None), inputs=((2, 3, 4, 5),)),
    Case("BatchNorm2d", (3, 1e-3, 0.2, False, False), inputs=((2, 3, 4, 5),)),
    Case("BatchNorm2d", (3,), inputs=(floats(4, 3, 8, 8, shift=1e3),), tolerance=1e3),
    Case("BatchNorm3d", (3,), inputs=((2, 3, 4, 5, 2),)),
    Case("BatchNorm3d", (3,), {"affine": False, "momentum": 0.5}, inputs=((2, 3, 1, 2, 2),)),
    Case("SyncBatchNorm", (3,), inputs=((2, 3, 4, 5),), twin=_sync),
    Case("SyncBatchNorm", (3, 1e-3, None), {"reduce": _summed}, inputs=((2, 3, 4, 5),), twin=_sync),
    Case("SyncBatchNorm", (5, 0.1, 0.5), inputs=((4, 5, 2, 3),), twin=_sync),
    Case("InstanceNorm1d", (3,), inputs=((2, 3, 5),)),
    Case("InstanceNorm1d", (3,), {"affine": True, "track_running_stats": True}, inputs=((3, 5),), skip=_NO_BATCH),
    Case("InstanceNorm1d", (3, 1e-3, 0.4, True, True), inputs=((2, 3, 5),)),
    Case("InstanceNorm1d", (3,), {"affine": True, "bias": False}, inputs=((2, 3, 5),)),
    Case("InstanceNorm2d", (3,), {"affine": True}, inputs=((2, 3, 4, 5),)),
    Case("InstanceNorm2d", (3,), {"track_running_stats": True}, inputs=((3, 4, 5),), skip=_NO_BATCH),
    Case("InstanceNorm3d", (3,), {"affine": True}, inputs=((2, 3, 2, 4, 2),)),
    Case("InstanceNorm3d", (3,), {"eps": 0.1}, inputs=((3, 2, 4, 2),), skip=_NO_BATCH),
    Case("GroupNorm", (2, 6), inputs=((3, 6),)),
    Case("GroupNorm", (3, 6, 0.1), inputs=((2, 6, 4),)),
    Case("GroupNorm", (1, 4), {"affine": False}, inputs=((2, 4, 3, 3),)),
    Case("GroupNorm", (4, 4), {"bias": False}, inputs=((2, 4, 3, 3),)),
    Case("GroupNorm", (2, 4), inputs=((0, 4, 3),)),
    Case("LayerNorm", (5,), inputs=((3, 5),)),
    Case("LayerNorm", ((4, 5), 0.1), inputs=((2, 3, 4, 5),)),
    Case("LayerNorm", ((4,),), {"elementwise_affine": False}, inputs=((4,),)),
    Case("LayerNorm", (4,), {"bias": False}, inputs=((1030, 4),)),
    Case("LayerNorm", (4,), inputs=((0, 4),)),
    Case("RMSNorm", (5,), inputs=((3, 5),)),
    Case("RMSNorm", ((4, 5), 0.1), inputs=((2, 3, 4, 5),)),
    Case("RMSNorm", ((4,),), {"elementwise_affine": False}, inputs=((0, 4),)),
    Case("LocalResponseNorm", (2,), {"alpha": 0.5}, inputs=((2, 5, 4),)),
    Case("LocalResponseNorm", (3, 0.2, 0.5, 2.0), inputs=((2, 4, 3, 3),)),
    Case("LocalResponseNorm", (7,), inputs=((1, 3, 2, 2, 2),)),
]

_MOVING = ("x", "weight", "bias")  # the running statistics have no gradient


def _batch(x, weight=None, bias=None, **kwargs):
    arrays = {"x": x, "running_mean": None, "running_var": None, "weight": weight, "bias": bias}
    return Function("batch_norm", arrays, {"training": True, **kwargs})


def _detached(name):
    """torch refuses running statistics that want a gradient."""

    def twin(x, running_mean, running_var, weight, bias, reduce=None, **kwargs):
        held = [None if t is None else t.detach() for t in (running_mean, running_var)]
        return getattr(torch.nn.functional, name)(x, *held, weight, bias, **kwargs)

    return twin


def _given(name, x, weight, bias, **kwargs):
    arrays = {"x": x, "running_mean": (3,), "running_var": positive(3), "weight": weight, "bias": bias}
    gradients = tuple(k for k in _MOVING if arrays[k] is not None)
    return Function(name, arrays, kwargs, twin=_detached(name), gradients=gradients)


FUNCTIONS = [
    _batch((4, 3), (3,), (3,)),
    _batch((4, 3, 5), (3,), None, eps=0.1),
    _batch((2, 3, 4, 5), None, (3,), momentum=0.7),
    _batch((0, 3, 4), (3,), (3,)),
    _given("batch_norm", (4, 3), (3,), (3,)),
    _given("batch_norm", (1, 3, 5), None, (3,), eps=0.1),
    _given("batch_norm", (2, 3, 4, 5), (3,), None),
    Function(
        "sync_batch_norm",
        {"x": (4, 3), "running_mean": None, "running_var": None, "weight": (3,), "bias": (3,)},
        {"training": True, "reduce": _summed},
        twin=_detached("batch_norm"),
    ),
    Function(
        "sync_batch_norm",
        {"x": (4, 3, 2), "running_mean": None, "running_var": None, "weight": None, "bias": None},
        {"training": True, "eps": 0.1, "momentum": 0.2, "reduce": None},
        twin=_detached("batch_norm"),
    ),
    Function(
        "sync_batch_norm",
        {"x": (2, 3, 4, 2), "running_mean": (3,), "running_var": positive(3), "weight": (3,), "bias": (3,)},
        {"training": False, "reduce": _summed},
        twin=_detached("batch_norm"),
        gradients=_MOVING,
    ),
    Function("instance_norm", {"x": (2, 3, 5)}),
    Function(
        "instance_norm",
        {"x": (2, 3, 4, 5), "running_mean": None, "running_var": None, "weight": (3,), "bias": (3,)},
        {"eps": 0.1, "momentum": 0.5},
    ),
    _given("instance_norm", (2, 3, 4), (3,), (3,), use_input_stats=False),
    _given("instance_norm", (1, 3, 2, 4), None, None, use_input_stats=False, eps=0.1),
    Function("group_norm", {"x": (3, 6), "weight": (6,), "bias": (6,)}, {"num_groups": 2}),
    Function("group_norm", {"x": (2, 6, 5), "weight": None, "bias": None}, {"num_groups": 3, "eps": 0.1}),
    Function("group_norm", {"x": (2, 4, 3, 3), "weight": (4,), "bias": None}, {"num_groups": 4}),
    Function("group_norm", {"x": (0, 4, 3), "weight": (4,), "bias": (4,)}, {"num_groups": 1}),
    Function("layer_norm", {"x": (3, 5), "weight": (5,), "bias": (5,)}, {"normalized_shape": (5,)}),
    Function("layer_norm", {"x": (2, 3, 4), "weight": None, "bias": (3, 4)}, {"normalized_shape": (3, 4), "eps": 0.1}),
    Function("layer_norm", {"x": (1030, 3), "weight": (3,), "bias": None}, {"normalized_shape": (3,)}),
    Function("rms_norm", {"x": (3, 5), "weight": (5,)}, {"normalized_shape": (5,)}),
    Function("rms_norm", {"x": (2, 3, 4), "weight": None}, {"normalized_shape": (3, 4), "eps": 0.1}),
    Function("rms_norm", {"x": (0, 4), "weight": (4,)}, {"normalized_shape": (4,)}),
    Function("local_response_norm", {"x": (2, 5, 4)}, {"size": 2, "alpha": 0.5}),
    Function("local_response_norm", {"x": (2, 5, 3, 3)}, {"size": 3, "beta": 0.3, "k": 2.0}),
    Function("local_response_norm", {"x": (1, 3, 2, 2, 2)}, {"size": 9, "alpha": 1.0}),
    Function("normalize", {"x": (3, 4)}),
    Function("normalize", {"x": (3, 4, 2)}, {"p": 3.0, "dim": (0, -1)}),
    Function("normalize", {"x": (3, 4)}, {"p": 1.0, "dim": 0, "eps": 3.0}),
    Function("normalize", {"x": (3, 4)}, {"p": float("inf")}),
    Function("normalize", {"x": values([[0.0, 0.0], [3.0, -4.0]])}),
    Function("normalize", {"x": (0, 4)}),
]


def _bn():
    return xpl.BatchNorm2d(3)


BAD_CALLS = [
    Bad(lambda: _bn()(f32(2, 4, 5, 5)), "BatchNorm2d(3)", "x", "4 channels", "3 channels", "BatchNorm2d(4)"),
    Bad(lambda: _bn()(f32(2, 3, 5)), "BatchNorm2d(3)", "x", "3-d", "(N, C, H, W)", "x[None, ...]"),
    Bad(lambda: _bn()(np.ones((2, 3, 4, 4), int)), "BatchNorm2d(3)", "x", "int64", "floating", "astype", TypeError),
    Bad(lambda: xpl.BatchNorm1d(3)(f32(1, 3)), "BatchNorm1d(3)", "x", "one value", "more than one", "layer.eval()"),
    Bad(lambda: xpl.BatchNorm1d(3)(f32(3)), "BatchNorm1d(3)", "x", "1-d", "(N, C) or (N, C, L)", "x[None, ...]"),
    Bad(lambda: xpl.BatchNorm3d(3)(f32(2, 3, 4, 4)), "BatchNorm3d(3)", "x", "4-d", "(N, C, D, H, W)", "x[None, ...]"),
    Bad(lambda: xpl.BatchNorm1d()(f32(2, 3)), "BatchNorm1d(", "weight", "no value", "without sizes", "layer.weight ="),
    Bad(lambda: xpl.BatchNorm2d(-1), "BatchNorm2d(-1)", "num_features", "-1", "non-negative", "BatchNorm2d(3)"),
    Bad(lambda: xpl.BatchNorm2d(3.0), "BatchNorm2d(3.0)", "num_features", "3.0", "integer", "BatchNorm2d(3)"),
    Bad(lambda: _bn().load_state_dict({}), "BatchNorm2d(3)", "state", "'running_var'", "state_dict()", "strict=False"),
    Bad(lambda: setattr(_unsized(), "bias", f32(4)), "BatchNorm1d(3", "bias", "(4,)", "(3,)", "one value a channel"),
    Bad(lambda: xpl.SyncBatchNorm(3)(f32(2, 4)), "SyncBatchNorm(3)", "x", "4 channels", "3", "SyncBatchNorm(4)"),
    Bad(lambda: xpl.functional.batch_norm(f32(2, 3), None, None), "batch_norm", "running_mean", "None", "(C,)", "pass"),
    Bad(
        lambda: xpl.functional.batch_norm(f32(1, 3), None, None, training=True),
        "batch_norm",
        "x",
        "one value",
        "more than one",
        "larger batch",
    ),
    Bad(lambda: xpl.InstanceNorm1d(3)(f32(2, 3, 1)), "InstanceNorm1d(3)", "x", "one value", "more than one", "eval()"),
    Bad(lambda: xpl.InstanceNorm2d(3)(f32(2, 3)), "InstanceNorm2d(3)", "x", "2-d", "(C, H, W)", "x[None, ...]"),
    Bad(
        lambda: xpl.InstanceNorm1d(3, affine=True)(f32(4, 5)),
        "InstanceNorm1d(3, affine=True)",
        "x",
        "4 channels",
        "3 channels on axis 0",
        "InstanceNorm1d(4)",
    ),
    Bad(lambda: xpl.GroupNorm(3, 4), "GroupNorm(3, 4)", "num_groups", "3 for 4", "divisor of 4", "GroupNorm(1, 4)"),
    Bad(lambda: xpl.GroupNorm(2, 4)(f32(2, 6, 3)), "GroupNorm(2, 4)", "x", "6 channels", "4", "GroupNorm(2, 6)"),
    Bad(lambda: xpl.GroupNorm(2, 4)(f32(4)), "GroupNorm(2, 4)", "x", "(4,)", "(N, C, *)", "x[None]"),
    Bad(lambda: xpl.GroupNorm(4, 4)(f32(1, 4)), "GroupNorm(4, 4)", "x", "one value", "more than one", "fewer groups"),
    Bad(lambda: xpl.LayerNorm((3, 4))(f32(2, 4, 3)), "LayerNorm((3, 4)", "x", "(2, 4, 3)", "(*, 3, 4)", "LayerNorm"),
    Bad(lambda: xpl.LayerNorm(()), "LayerNorm(())", "normalized_shape", "()", "one size or more", "LayerNorm((3, 4))"),
    Bad(lambda: xpl.RMSNorm(4)(f32(2, 3)), "RMSNorm((4,)", "x", "(2, 3)", "(*, 4)", "RMSNorm((3,))"),
    Bad(lambda: xpl.RMSNorm(4)(np.ones((2, 4), int)), "RMSNorm((4,)", "x", "int64", "floating", "astype", TypeError),
    Bad(lambda: xpl.LocalResponseNorm(2)(f32(2, 3)), "LocalResponseNorm(2", "x", "(2, 3)", "3 axes", "x[..., None]"),
    Bad(lambda: xpl.LocalResponseNorm(0), "LocalResponseNorm(0)", "size", "0", "positive", "LocalResponseNorm(5)"),
    Bad(lambda: _called().backward(f32(2, 3)), "BatchNorm1d(3)", "dy", "(2, 3)", "(4, 3)", "this very output"),
    Bad(lambda: _called()(f64(4, 3)), "BatchNorm1d(3)", "x", "float64", "float32", "to(like=x)", TypeError),
]


def _called():
    layer = xpl.BatchNorm1d(3)
    layer(np.arange(12, dtype=np.float32).reshape(4, 3))
    return layer


def _unsized():
    layer = xpl.BatchNorm1d()
    layer.weight = f32(3)
    return layer


_BACK = "normalization._rows_norm_backward"
_FORTH = "normalization._rows_norm"

FAULTS = [
    Fault(_FORTH, "xp.sqrt(var + eps)", "xp.sqrt(var)", "BatchNorm,InstanceNorm"),
    Fault(_FORTH, "u += _wide(bias)[None, :, None]", "pass", "BatchNorm"),
    Fault(_FORTH, "u = rows - _spread(mean, sets, c)\n        sq", "u = rows\n        sq", "GroupNorm"),
    Fault(_BACK, "dx -= u", "pass", "BatchNorm2d"),
    Fault(_BACK, "u += _spread(r * mean_g, sets, c)", "pass", "BatchNorm2d,GroupNorm"),
    Fault(_BACK, "r * r * r * mean_gu", "r * r * mean_gu", "InstanceNorm2d"),
    Fault(_BACK, "sum_leading(sum_du * rows_r[:, :, 0])", "sum_leading(sum_du)", "BatchNorm1d"),
    Fault(_BACK, "moving = want_x and count is not None", "moving = want_x", "BatchNorm1d"),
    Fault(_BACK, "sum_leading(sum_d)", "sum_leading(sum_d) / x.shape[0]", "BatchNorm1d"),
    Fault(
        _BACK,
        "dx = _narrow(xp.reshape(dx, x.shape), x.dtype)",
        "dx = xp.reshape(dx, x.shape) * xp.ones(1)",
        "GroupNorm",
    ),
    Fault(_BACK, "rows, d = _rows(x), _rows(dy)", "rows, d = _rows(x), _rows(dy); d *= 1.0", "BatchNorm2d"),
    Fault("layers.normalization._ChannelNorm._average", "var * (count / less)", "var", "BatchNorm,InstanceNorm"),
    Fault(
        "layers.normalization._ChannelNorm._average", "momentum * (new - held)", "(1 - momentum) * (new - held)", "Ba"
    ),
    Fault("layers.normalization._BatchNorm._tracked", "batches + 1", "batches", "BatchNorm"),
    Fault("layers.normalization._BatchNorm.forward", "self.training or", "True or", "BatchNorm"),
    Fault("normalization._trailing_norm_backward", "sum_leading(flat * h)", "sum_leading(flat)", "LayerNorm"),
    Fault("normalization._trailing_norm_backward", "h -= _share(d)", "h -= 2 * _share(d)", "LayerNorm"),
    Fault("normalization._trailing_norm_backward", "h += g", "h += flat", "RMSNorm"),
    Fault("normalization.rms_norm_forward", "if eps is None", "if True", "RMSNorm"),
    Fault(
        "normalization.local_response_norm_backward",
        "(size - 1) // 2, size // 2",
        "size // 2, (size - 1) // 2",
        "LocalResponseNorm",
    ),
]

_STATISTICS = {"running_mean": (5,), "running_var": positive(5)}
_EIGHT = {"running_mean": (8,), "running_var": positive(8)}
_TRAIN = {"training": True}
_SOME_ZEROS = Spec("zeros and floats(8)", lambda rng: rng.standard_normal(8) * (np.arange(8) % 3 > 0))
_ONE_FAR = Spec(  # the mean of one channel in eight is a hundred times its spread
    "one far(4, 8, 70, 66)",
    lambda rng: rng.standard_normal((4, 8, 70, 66)) + 100.0 * (np.arange(8) == 5)[:, None, None],
)
_ROW_513 = {"normalized_shape": (513,)}
TWINS = [
    Function(name, arrays, kwargs)
    for name, arrays, kwargs in (
        ("batch_norm", {"x": (6, 5, 7, 9), **_STATISTICS, "weight": (5,), "bias": (5,)}, {"training": True}),
        ("batch_norm", {"x": (6, 5), "running_mean": None, "running_var": None}, {"training": True, "eps": 1e-3}),
        ("batch_norm", {"x": (3, 5, 300, 101), **_STATISTICS, "weight": (5,), "bias": None}, {"training": True}),
        ("batch_norm", {"x": (6, 5, 7), **_STATISTICS, "weight": (5,), "bias": (5,)}, {}),
        (
            "batch_norm",
            {"x": floats(4, 3, 50, shift=100.0), "running_mean": None, "running_var": None},
            {"training": True},
        ),
        (
            "instance_norm",
            {"x": (3, 5, 8, 9), "running_mean": None, "running_var": None, "weight": (5,), "bias": (5,)},
            {},
        ),
        ("instance_norm", {"x": (40, 64, 70)}, {"eps": 1e-2}),
        ("group_norm", {"x": (4, 6, 5, 7)}, {"num_groups": 3}),
        ("group_norm", {"x": (3, 12, 70, 81)}, {"num_groups": 4}),
        ("layer_norm", {"x": (7, 3, 33), "weight": (33,), "bias": (33,)}, {"normalized_shape": (33,)}),
        ("layer_norm", {"x": floats(90, 4, 5, 51, shift=3.0)}, {"normalized_shape": (5, 51), "eps": 1e-3}),
        ("rms_norm", {"x": (7, 3, 33)}, {"normalized_shape": (33,)}),
        ("rms_norm", {"x": (700, 129), "weight": (129,)}, {"normalized_shape": (129,), "eps": 1e-3}),
    )
] + [
    Function("group_norm", {"x": (4, 6, 5, 7), "weight": (6,), "bias": (6,)}, {"num_groups": 2}),
    Function("batch_norm", {"x": (6, 5, 29), **_STATISTICS, "weight": (5,), "bias": (5,)}),
    Function("batch_norm", {"x": (6, 5, 29), **_STATISTICS}),
    Function("layer_norm", {"x": floats(700, 513, shift=50.0), "weight": (513,), "bias": (513,)}, _ROW_513),
    Function("layer_norm", {"x": (30, 40), "weight": (40,), "bias": None}, {"normalized_shape": (40,)}),
    Function("group_norm", {"x": floats(9, 8, 63, 65, shift=30.0), "weight": (8,), "bias": None}, {"num_groups": 4}),
    # blocks with and without a mean that is large beside the spread, and scales of 0
    Function("group_norm", {"x": (6, 8, 70, 66), "weight": _SOME_ZEROS, "bias": (8,)}, {"num_groups": 4}),
    Function("batch_norm", {"x": (4, 8, 70, 66), **_EIGHT, "weight": _SOME_ZEROS, "bias": None}, _TRAIN),
    Function("batch_norm", {"x": _ONE_FAR, **_EIGHT, "weight": (8,), "bias": (8,)}, _TRAIN),
    Function("batch_norm", {"x": (4, 8, 70, 66), **_EIGHT, "weight": (8,), "bias": (8,)}),
    # short rows
    Function("batch_norm", {"x": (70, 24, 3, 3), "running_mean": None, "running_var": None, "weight": (24,)}, _TRAIN),
    Function("batch_norm", {"x": floats(3000, 400, shift=9.0), "running_mean": None, "running_var": None}, _TRAIN),
    Function("layer_norm", {"x": floats(30, 9000, shift=2.0), "weight": (9000,)}, {"normalized_shape": (9000,)}),
]
