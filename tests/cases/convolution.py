"""Rows for convolution, transposed convolution, unfold and fold."""

import numpy as np

import xplayers as xpl
import xplayers.functional as F
from tests.cases import Bad, Case, Fault, Function, f32

LAYERS = [
    Case("Conv1d", (3, 4, 3), inputs=((2, 3, 7),)),
    Case("Conv1d", (4, 6, 3), {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}, inputs=((2, 4, 9),)),
    Case("Conv1d", (3, 4, 4), {"padding": "same", "padding_mode": "circular", "bias": False}, inputs=((3, 7),)),
    Case("Conv2d", (3, 4, 3), inputs=((2, 3, 6, 5),)),
    Case("Conv2d", (3, 8, 3), {"stride": 2, "padding": 1}, inputs=((2, 3, 8, 8),)),
    Case("Conv2d", (12, 5, 3), {"padding": 1}, inputs=((2, 12, 5, 6),)),
    Case("Conv2d", (12, 1, 3), {"padding": 1}, inputs=((8, 12, 32, 32),)),  # more columns than stand at once
    Case("Conv2d", (2, 9, (2, 3)), {"padding": (1, 0)}, inputs=((3, 2, 5, 6),)),
    Case("Conv2d", (4, 6, 1), inputs=((2, 4, 5, 5),)),
    Case("Conv2d", (4, 6, 1), {"stride": (2, 1), "bias": False}, inputs=((2, 4, 5, 5),)),
    Case("Conv2d", (4, 4, 3), {"groups": 4, "padding": 1, "stride": 2}, inputs=((2, 4, 6, 6),)),
    Case("Conv2d", (4, 8, 3), {"groups": 4, "dilation": (2, 1)}, inputs=((2, 4, 7, 6),)),
    Case("Conv2d", (24, 6, (3, 5)), {"groups": 2, "padding": "same", "dilation": 2}, inputs=((2, 24, 5, 5),)),
    Case("Conv2d", (3, 4, 3), {"padding": (1, 2), "padding_mode": "reflect"}, inputs=((2, 3, 5, 6),)),
    Case("Conv2d", (3, 4, 3), {"padding": 2, "padding_mode": "replicate", "stride": 2}, inputs=((3, 5, 6),)),
    Case("Conv2d", (3, 4, 3), {"padding": "valid"}, inputs=((3, 5, 6),)),
    Case("Conv3d", (2, 3, 2), inputs=((2, 2, 3, 4, 3),)),
    Case("Conv3d", (4, 4, 3), {"padding": 1, "groups": 1}, inputs=((2, 4, 3, 3, 4),)),
    Case("Conv3d", (2, 4, (1, 2, 3)), {"stride": (1, 2, 1), "padding": 1, "groups": 2}, inputs=((2, 2, 3, 4, 3),)),
    Case("ConvTranspose1d", (3, 4, 3), inputs=((2, 3, 5),)),
    Case("ConvTranspose1d", (4, 2, 3), {"stride": 3, "output_padding": 2, "groups": 2}, inputs=((4, 5),)),
    Case("ConvTranspose2d", (3, 4, 3), inputs=((2, 3, 4, 5),)),
    Case("ConvTranspose2d", (3, 4, 3), {"stride": 2, "padding": 1, "output_padding": (1, 0)}, inputs=((2, 3, 4, 5),)),
    Case("ConvTranspose2d", (4, 6, (2, 3)), {"groups": 2, "dilation": 2, "output_padding": 1}, inputs=((2, 4, 4, 3),)),
    Case("ConvTranspose2d", (9, 2, 2), {"bias": False, "padding": 1}, inputs=((2, 9, 4, 3),)),
    Case(
        "ConvTranspose2d",
        (3, 4, 3),
        {"stride": 2},
        inputs=((2, 3, 4, 4),),
        call={"output_size": (10, 9)},
        skip={"batch": "its rows are run without output_size"},
    ),
    Case("ConvTranspose3d", (2, 3, 2), inputs=((2, 2, 2, 3, 2),)),
    Case("ConvTranspose3d", (4, 2, 2), {"stride": 2, "groups": 2, "padding": 1}, inputs=((2, 4, 2, 3, 2),)),
    Case("Unfold", (2,), inputs=((2, 3, 4, 5),)),
    Case("Unfold", ((2, 3),), {"dilation": 2, "padding": (1, 2), "stride": (2, 1)}, inputs=((3, 5, 4),)),
    Case("Unfold", (3, 1, 1, 2), inputs=((2, 2, 5, 6),)),
    Case("Fold", ((4, 5), 2), inputs=((2, 12, 12),)),
    Case("Fold", (6, 3), {"dilation": 2, "padding": 1, "stride": 2}, inputs=((2, 18, 4),)),
    Case("Fold", ((4, 5), (2, 3)), {"stride": (1, 2)}, inputs=((12, 6),)),
]


def _conv(n, x, weight, bias=None, **kwargs):
    return Function(f"conv{n}d", {"x": x, "weight": weight, "bias": bias}, kwargs)


def _transposed(n, x, weight, bias=None, **kwargs):
    return Function(f"conv_transpose{n}d", {"x": x, "weight": weight, "bias": bias}, kwargs)


FUNCTIONS = [
    _conv(1, (2, 3, 7), (4, 3, 3), (4,)),
    _conv(1, (2, 4, 9), (6, 2, 3), (6,), stride=2, padding=2, dilation=2, groups=2),
    _conv(1, (3, 7), (4, 3, 4), padding="same", dilation=2),
    _conv(1, (0, 3, 7), (4, 3, 3), (4,)),
    _conv(2, (2, 3, 6, 5), (4, 3, 3, 3), (4,)),
    _conv(2, (2, 3, 8, 8), (4, 3, 3, 3), stride=2),
    _conv(2, (2, 12, 6, 5), (4, 12, 3, 3), (4,), padding=1),
    _conv(2, (2, 12, 7, 9), (4, 12, 3, 3), (4,), padding=(0, 2), dilation=(2, 1), stride=(1, 2)),
    _conv(2, (2, 24, 5, 6), (4, 12, 3, 3), (4,), groups=2, padding="same", dilation=2),
    _conv(2, (2, 2, 5, 6), (9, 2, 2, 2), (9,), padding=3),
    _conv(2, (2, 4, 5, 6), (8, 1, 3, 3), (8,), groups=4, padding=1, stride=2),
    _conv(2, (2, 4, 5, 6), (4, 1, 3, 3), (4,), groups=4, padding=1, stride=(2, 3)),
    _conv(2, (12, 5, 6), (4, 12, 3, 1), (4,), padding="valid"),
    _conv(2, (0, 12, 5, 6), (4, 12, 3, 3), (4,), padding=1),
    _conv(2, (8, 12, 32, 32), (4, 12, 3, 3), (4,), padding=1),  # more columns than stand at once
    _conv(2, (9, 6, 33, 33), (4, 6, 3, 3), (4,), padding=1, stride=2),
    _conv(3, (2, 2, 3, 4, 3), (3, 2, 2, 2, 2), (3,)),
    _conv(3, (2, 4, 4, 3, 3), (4, 4, 3, 3, 3), (4,), padding=1),
    _conv(3, (4, 3, 5, 3), (4, 2, 1, 2, 3), groups=2, stride=(1, 2, 1), padding=(0, 1, 1), dilation=(1, 2, 1)),
    Function("conv_tbc", {"x": (5, 2, 3), "weight": (3, 3, 4), "bias": (4,)}),
    Function("conv_tbc", {"x": (5, 2, 3), "weight": (2, 3, 4), "bias": (4,)}, {"pad": 2}),
    Function("conv_tbc", {"x": (6, 1, 2), "weight": (1, 2, 1), "bias": (1,)}, {"pad": 1}),
    _transposed(1, (2, 3, 5), (3, 4, 3), (4,)),
    _transposed(1, (4, 5), (4, 1, 3), (2,), stride=3, output_padding=2, groups=2),
    _transposed(1, (2, 3, 5), (3, 4, 3), padding=2, dilation=2),
    _transposed(2, (2, 3, 4, 5), (3, 4, 3, 3), (4,)),
    _transposed(2, (2, 3, 4, 5), (3, 4, 3, 2), (4,), stride=2, padding=1, output_padding=(1, 0)),
    _transposed(2, (2, 4, 4, 3), (4, 3, 2, 3), (6,), groups=2, dilation=2, output_padding=1),
    _transposed(2, (2, 9, 4, 3), (9, 2, 2, 2), padding=1, dilation=2),
    _transposed(2, (0, 3, 4, 5), (3, 4, 3, 3), (4,), stride=2),
    _transposed(3, (2, 2, 2, 3, 2), (2, 3, 2, 2, 2), (3,)),
    _transposed(3, (2, 4, 2, 3, 2), (4, 1, 2, 2, 2), groups=2, stride=(2, 1, 3), padding=1, output_padding=(1, 0, 2)),
    _transposed(3, (2, 2, 3, 2), (2, 3, 2, 1, 2), (3,), dilation=(1, 1, 2)),
    Function("unfold", {"x": (2, 3, 4, 5)}, {"kernel_size": 2}),
    Function("unfold", {"x": (3, 5, 4)}, {"kernel_size": (2, 3), "dilation": 2, "padding": (1, 2), "stride": (2, 1)}),
    Function("unfold", {"x": (0, 3, 4, 5)}, {"kernel_size": 2}),
    Function("fold", {"x": (2, 12, 12)}, {"output_size": (4, 5), "kernel_size": 2}),
    Function("fold", {"x": (18, 4)}, {"output_size": 6, "kernel_size": 3, "dilation": 2, "padding": 1, "stride": 2}),
    Function("fold", {"x": (0, 12, 12)}, {"output_size": (4, 5), "kernel_size": 2}),
]

_one = lambda **kwargs: xpl.Conv2d(3, 8, 3, **kwargs)  # noqa: E731
_up = lambda **kwargs: xpl.ConvTranspose2d(3, 8, 3, **kwargs)  # noqa: E731


def _unsized(weight):
    layer = xpl.Conv2d(stride=2)
    layer.weight = weight
    layer.bias = None
    return layer


BAD_CALLS = [
    Bad(lambda: _one()(f32(2, 4, 8, 8)), "Conv2d(3, 8", "x", "(2, 4, 8, 8)", "3 channels", "Conv2d(4,"),
    Bad(lambda: _one()(f32(8, 8)), "Conv2d(3, 8", "x", "(8, 8), 2-d", "(N, 3, H, W) or (3, H, W)", "x[None, ...]"),
    Bad(lambda: _one()(np.ones((1, 3, 8, 8), int)), "Conv2d(3, 8", "x", "int64", "floating", "float32", TypeError),
    Bad(lambda: _one()(f32(1, 3, 2, 8)), "Conv2d(3, 8", "x", "(2, 8)", "(3, 3), the reach", "larger x"),
    Bad(lambda: _one(dilation=4)(f32(1, 3, 8, 8)), "Conv2d(3, 8", "x", "(8, 8)", "(9, 9)", "pad more"),
    Bad(lambda: _one().backward(f32(1, 8, 6, 6)), "Conv2d(3, 8", "tape", "nothing recorded", "training", "Tape()"),
    Bad(lambda: _one(stride=0), "Conv2d(3, 8, 3)", "stride", "0", "at least 1", "stride="),
    Bad(lambda: _one(stride=(1, 2, 3)), "Conv2d(3, 8, 3)", "stride", "(1, 2, 3)", "or 2 of them", "stride="),
    Bad(lambda: _one(dilation=-1), "Conv2d(3, 8, 3)", "dilation", "-1", "at least 1", "dilation="),
    Bad(lambda: _one(padding=-1), "Conv2d(3, 8, 3)", "padding", "-1", "at least 0", "padding="),
    Bad(lambda: _one(padding="all"), "Conv2d(3, 8, 3)", "padding", "'all'", "'same', 'valid'", "padding='same'"),
    Bad(lambda: _one(padding="same", stride=2), "Conv2d(3, 8, 3)", "padding", "stride (2, 2)", "of 1", "in numbers"),
    Bad(lambda: _one(groups=2), "Conv2d(3, 8, 3)", "groups", "2", "a divisor of in_channels, 3", "groups=1"),
    Bad(lambda: _one(groups=0), "Conv2d(3, 8, 3)", "groups", "0", "at least 1", "groups=1"),
    Bad(lambda: _one(padding_mode="mirror"), "Conv2d(3, 8", "padding_mode", "'mirror'", "'reflect'", "'zeros'"),
    Bad(
        lambda: _one(padding=9, padding_mode="reflect")(f32(1, 3, 8, 8)),
        "Conv2d(3, 8",
        "padding",
        "(9, 9) for axis 2",
        "at most 7",
        "pad less",
    ),
    Bad(lambda: xpl.Conv2d(3, 8, 0), "Conv2d(3, 8, 0)", "kernel_size", "0", "at least 1", "kernel_size="),
    Bad(lambda: xpl.Conv2d(3, 8), "Conv2d(3, 8, None)", "kernel_size", "None", "all sizes, or none", "assign weight"),
    Bad(lambda: xpl.Conv1d(0, 8, 3), "Conv1d(0, 8, 3)", "in_channels", "0", "at least 1", "in_channels=1"),
    Bad(lambda: xpl.Conv2d(stride=2)(f32(1, 3, 5, 5)), "Conv2d(", "weight", "no value", "an array", "layer.weight ="),
    Bad(lambda: _unsized(f32(4, 3, 3))(f32(1, 3, 5, 5)), "Conv2d(", "weight", "(4, 3, 3)", "4-d", "assign"),
    Bad(lambda: xpl.Conv3d(3, 8, 3)(f32(2, 3, 8)), "Conv3d(3, 8", "x", "3-d", "(N, 3, D, H, W)", "x[None, ...]"),
    Bad(lambda: _up()(f32(2, 4, 8, 8)), "ConvTranspose2d(3, 8", "x", "4 channels", "3 channels", "ConvTranspose2d(4,"),
    Bad(
        lambda: _up(output_padding=1)(f32(2, 3, 8, 8)),
        "ConvTranspose2d(3, 8",
        "output_padding",
        "(1, 1)",
        "less than the stride (1, 1)",
        "pass less",
    ),
    Bad(lambda: _up(padding=5)(f32(2, 3, 4, 4)), "ConvTranspose2d(3, 8", "x", "(4, 4)", "not (-4, -4)", "a larger x"),
    Bad(
        lambda: _up(stride=2)(f32(2, 3, 8, 8), output_size=(28, 28)),
        "ConvTranspose2d(3, 8",
        "output_size",
        "(28, 28)",
        "from (17, 17) to (18, 18)",
        "output_size=(17, 17)",
    ),
    Bad(lambda: _up(padding_mode="reflect"), "ConvTranspose2d", "padding_mode", "'reflect'", "'zeros'", "'zeros'"),
    Bad(lambda: _up(padding="same"), "ConvTranspose2d", "padding", "'same'", "integers", "in numbers", TypeError),
    Bad(lambda: xpl.Unfold(3)(f32(1, 3, 2, 8)), "Unfold(kernel_size=3", "x", "(2, 8)", "(3, 3)", "larger x"),
    Bad(lambda: xpl.Unfold(3)(f32(8, 8)), "Unfold(kernel_size=3", "x", "2-d", "(C, H, W)", "x[None, ...]"),
    Bad(lambda: xpl.Unfold(3, stride=0), "Unfold(3)", "stride", "0", "at least 1", "stride="),
    Bad(lambda: xpl.Fold(4, 3)(f32(1, 10, 4)), "Fold(output_size=4", "x", "10 rows", "multiple of 9", "kernel_size"),
    Bad(lambda: xpl.Fold(4, 3)(f32(1, 9, 5)), "Fold(output_size=4", "x", "5 columns", "4 columns", "unfold"),
    Bad(lambda: xpl.Fold(2, 3), "Fold(2, 3)", "output_size", "(2, 2)", "(3, 3)", "pad more"),
    Bad(
        lambda: F.conv2d(f32(2, 4, 8, 8), f32(8, 3, 3, 3)), "conv2d", "x", "4 channels", "3 channels", "another weight"
    ),
    Bad(lambda: F.conv2d(f32(4, 8), f32(8, 4, 3, 3)), "conv2d", "x", "2-d", "(N, C, H, W)", "x[None, ...]"),
    Bad(lambda: F.conv2d(f32(4, 8, 8), f32(8, 4, 3)), "conv2d", "weight", "(8, 4, 3)", "4 axes", "kernel"),
    Bad(lambda: F.conv1d(f32(4, 8), f32(7, 2, 3), groups=2), "conv1d", "groups", "2", "divisor of 7", "groups=1"),
    Bad(lambda: F.conv1d(f32(4, 8), f32(7, 4, 3), f32(6)), "conv1d", "bias", "(6,)", "(7,)", "one number"),
    Bad(lambda: F.conv_transpose1d(f32(4, 8), f32(3, 2, 3)), "conv_transpose1d", "x", "4 channels", "3", "another"),
    Bad(lambda: F.conv_tbc(f32(8, 2), f32(3, 2, 4), f32(4)), "conv_tbc", "x", "(8, 2)", "(T, N, C)", "permute"),
    Bad(lambda: F.unfold(f32(8, 8), 3), "unfold", "x", "2-d", "(N, C, H, W)", "x[None, ...]"),
    Bad(lambda: F.fold(f32(9), 4, 3), "fold", "x", "1-d", "(N, C * KH * KW, L)", "reshape"),
]

FAULTS = [
    Fault("convolution.conv_forward_by", "stride, dilation =", "dilation, stride =", "Conv2d,Conv3d"),
    Fault(
        "convolution.conv_backward_by",
        "x.shape[2:], *geometry)",
        "x.shape[2:], (1,) * len(x.shape[2:]), *geometry[1:])",
        "Conv2d(3,8",
    ),
    Fault("convolution.conv_backward_by", "scatter(dy, weight, None", "scatter(dy, weight * 2.0, None", "Conv1d"),
    Fault(
        "convolution.conv_backward_by", "dbias = _bias_gradient(dy)", "dbias = _bias_gradient(dy) / dy.shape[0]", "Conv"
    ),
    Fault("convolution.conv_backward_by", "dx if batched else dx[0, ...]", "dx", "Conv2d(3,4,3,padding='valid')"),
    Fault("convolution.conv_transpose_forward_by", "(p, p - e)", "(p - e, p)", "ConvTranspose2d"),
    Fault(
        "convolution.conv_transpose_backward_by",
        "weight_gradient(dy, x",
        "weight_gradient(dy * 0.5, x",
        "ConvTranspose3d",
    ),
    Fault("convolution._correlate", "t += product", "t = product", "Conv2d(12,5"),
    Fault("convolution._correlate", "if bias is not None:", "if bias is not None and n > 1:", "Conv2d"),
    Fault("convolution._scatter", "xp.moveaxis(t, 1, 0)", "xp.moveaxis(t, 1, 0) * 2.0", "Conv2d(3,8"),
    Fault("convolution._weight_gradient", "[a + b for", "[b for", "Conv2d(12,1"),
    Fault(
        "convolution._turned",
        "(groups, n_out // groups, c_in, *kernel)",
        "(n_out // groups, groups, c_in, *kernel)",
        "Conv2d(24",
    ),
    Fault("convolution._turned", "xp.flip(w, axis=tuple(range(2, w.ndim)))", "w", "Conv2d"),
    Fault("convolution._bias_gradient", "dy.shape\n", "dy.shape\n    dy[...] = 0.0\n", "Conv2d"),
    Fault("convolution._columns", "constant_pad(x, ", "constant_pad(xp.astype(x, xp.float64), ", "Conv2d"),
    Fault(
        "convolution.padding_pairs",
        "(d * (k - 1) // 2, -(-d * (k - 1) // 2))",
        "(-(-d * (k - 1) // 2), d * (k - 1) // 2)",
        "Conv1d(3,4,4",
    ),
    Fault("convolution._fold", "add_windows(", "-add_windows(", "Fold"),
    Fault("arrays.windows.add_windows", ", w[", ", 0.5 * w[", "Fold"),
    Fault("layers.convolution._Convolution.backward", "weight=dweight", "weight=dweight * 2.0", "Conv2d"),
    Fault(
        "layers.convolution._Convolution.backward", "F.pad_backward(dx, rim)", "F.pad_backward(dx * 0.5, rim)", "Conv2d"
    ),
    Fault(
        "layers.convolution._ConvTranspose.backward",
        "cache = tape.pop(self)",
        "cache = self.__dict__.setdefault('_kept', tape.pop(self))",
        "ConvTranspose2d",
    ),
    Fault(
        "layers.convolution._ConvTranspose._extra",
        "a - b for a, b",
        "a - b - 1 for a, b",
        "ConvTranspose2d(3,4,3,stride=2)",
    ),
]

TWINS = [
    Function("conv2d", {"x": (3, 5, 9, 12), "weight": (4, 5, 3, 3), "bias": (4,)}, {"padding": 1}),
    Function("conv2d", {"x": (2, 32, 14, 14), "weight": (24, 32, 3, 3)}, {"padding": 1}),
    Function("conv2d", {"x": (5, 3, 7, 7), "weight": (6, 3, 3, 3), "bias": (6,)}, {"padding": (1, 2)}),
    Function("conv2d", {"x": (2, 4, 8, 5), "weight": (3, 4, 3, 3)}, {"padding": "same", "stride": (1, 1)}),
    Function("conv2d", {"x": (1, 2, 3, 3), "weight": (2, 2, 3, 3)}),
    # images so large that they are taken in bands of tiles
    Function("conv2d", {"x": (2, 20, 121, 117), "weight": (24, 20, 3, 3), "bias": (24,)}, {"padding": 1}),
    Function("conv2d", {"x": (1, 24, 130, 130), "weight": (20, 24, 3, 3)}, {"padding": (0, 2)}),
    Function("conv2d", {"x": (2, 3, 4, 6), "weight": (3, 3, 3, 3)}, {"padding": 3}),
    # plane by plane
    _conv(2, (3, 6, 9, 7), (6, 1, 3, 3), (6,), padding=1, groups=6),
    _conv(2, (2, 6, 9, 8), (12, 1, 3, 3), padding=1, stride=2, groups=6),
    _conv(2, (3, 4, 11, 8), (4, 1, 5, 4), (4,), padding=(2, 1), stride=(2, 3), dilation=(1, 2), groups=4),
    _conv(2, (3, 4, 11, 8), (8, 1, 2, 3), padding="same", dilation=(3, 2), groups=4),
    _conv(2, (2, 4, 5, 5), (4, 1, 1, 1), (4,), stride=3, groups=4),
    _conv(2, (33, 5, 20, 20), (5, 1, 7, 7), (5,), padding=3, groups=5),
    _conv(2, (9, 40, 30, 31), (40, 1, 3, 3), (40,), padding=1, groups=40),
    _conv(2, (1, 4, 3, 5), (4, 1, 3, 5), (4,), groups=4),
    _conv(2, (3, 4, 12, 24), (8, 1, 3, 5), (8,), padding=(1, 2), stride=2, groups=4),
    _conv(2, (2, 3, 6, 11), (3, 1, 2, 8), padding=(0, 5), stride=(1, 5), groups=3),
    _conv(2, (2, 3, 5, 3), (3, 1, 5, 5), (3,), padding=4, groups=3),
    _conv(2, (2, 2, 25, 26), (2, 1, 3, 3), padding=(2, 0), groups=2),
    _conv(1, (3, 4, 17), (8, 1, 5), (8,), padding=2, stride=3, dilation=2, groups=4),
    # in vectors of channels
    _conv(2, (3, 32, 7, 7), (32, 1, 3, 3), (32,), padding=1, groups=32),
    _conv(2, (9, 48, 27, 14), (48, 1, 3, 5), padding=(1, 0), stride=(2, 1), dilation=(2, 1), groups=48),
    _conv(1, (2, 16, 19), (16, 1, 4), (16,), padding=2, stride=3, groups=16),
    _conv(1, (3, 4, 11), (8, 1, 7), (8,), padding=4, stride=3, groups=4),
    # images side by side: 16 and the rest, over channels in several sums, in groups, by phases, and on threads
    _conv(2, (35, 20, 4, 4), (33, 20, 3, 3), (33,), padding=1),
    _conv(2, (40, 40, 9, 10), (48, 40, 3, 3), (48,), padding=1),
    _conv(2, (17, 6, 14, 13), (16, 6, 5, 5), (16,), padding=(1, 0)),
    _conv(2, (5, 70, 9, 11), (24, 70, 3, 3), padding=1, stride=2),
    _conv(2, (9, 64, 14, 14), (72, 16, 3, 3), (72,), padding=1, groups=4),
    _conv(2, (20, 5, 2, 2), (7, 5, 3, 3), (7,), padding=1, stride=2),
    Function("conv_transpose2d", {"x": (18, 40, 4, 4), "weight": (40, 9, 4, 4)}, {"stride": 2, "padding": 1}),
    _conv(2, (3, 6, 11, 8), (9, 2, 4, 3), (9,), padding=2, stride=(2, 3), groups=3),
    _conv(2, (9, 1, 28, 28), (8, 1, 5, 5), (8,)),
    _conv(1, (3, 4, 40), (8, 4, 3), (8,), padding=1, dilation=2),
    Function("conv2d", {"x": (3, 4, 9, 10), "weight": (6, 2, 5, 3), "bias": (6,)}, {"groups": 2, "stride": (2, 1)}),
    Function("conv2d", {"x": (5, 6, 7, 8), "weight": (4, 6, 1, 1), "bias": (4,)}),
    Function("conv2d", {"x": (2, 6, 7, 8), "weight": (4, 3, 1, 1)}, {"stride": 2, "groups": 2, "padding": 1}),
    Function("conv2d", {"x": (6, 11, 12), "weight": (4, 6, 4, 3)}, {"dilation": (2, 1), "padding": "same"}),
    Function("conv2d", {"x": (1, 24, 150, 150), "weight": (8, 24, 5, 5)}, {"padding": 2}),
    Function("conv2d", {"x": (64, 3, 6, 6), "weight": (7, 3, 2, 2)}, {"stride": 3}),
    Function("conv1d", {"x": (3, 4, 20), "weight": (6, 2, 5), "bias": (6,)}, {"groups": 2, "stride": 3, "padding": 2}),
    Function("conv1d", {"x": (4, 33), "weight": (6, 4, 3)}, {"dilation": 4}),
    _conv(1, (30, 17, 11), (8, 17, 7), (8,), padding=4, stride=3),
    _conv(1, (3, 17, 1100), (8, 17, 70), (8,), padding=4),
    _conv(2, (4, 20, 6, 6), (18, 20, 3, 2), (18,), stride=2, padding=1),
    _conv(2, (7, 34, 9, 7), (70, 17, 3, 3), (70,), padding=1, groups=2),
    _conv(2, (3, 20, 40, 41), (6, 20, 5, 4), (6,), padding=(2, 1), stride=(2, 3), dilation=(1, 2)),
    _conv(2, (3, 17, 5, 5), (4, 17, 1, 1), (4,)),
    _conv(2, (3, 17, 6, 5), (4, 17, 1, 1), (4,), stride=3),
    Function("conv3d", {"x": (2, 3, 5, 6, 7), "weight": (4, 3, 2, 3, 2), "bias": (4,)}, {"stride": (1, 2, 2)}),
    Function("conv3d", {"x": (1, 24, 12, 30, 30), "weight": (8, 24, 3, 3, 3)}, {"padding": 1}),
    Function(
        "conv_transpose2d",
        {"x": (3, 6, 5, 7), "weight": (6, 2, 4, 3), "bias": (4,)},
        {"stride": (2, 3), "padding": 1, "output_padding": (1, 0), "groups": 2},
    ),
    Function("conv_transpose2d", {"x": (2, 16, 60, 60), "weight": (16, 9, 6, 6)}, {"stride": 2, "dilation": 2}),
    Function("conv_transpose1d", {"x": (4, 6, 9), "weight": (6, 5, 8), "bias": (5,)}, {"stride": 4, "padding": 2}),
    Function(
        "conv_transpose3d",
        {"x": (2, 3, 4, 3, 5), "weight": (3, 4, 2, 3, 2)},
        {"stride": 2, "padding": (0, 1, 0)},
    ),
    # one window: an affine map
    _conv(2, (5, 6, 3, 4), (7, 6, 3, 4), (7,)),
    Function("conv_transpose2d", {"x": (4, 9, 1, 1), "weight": (9, 5, 4, 3), "bias": (5,)}),
    # columns that are the image; many channels out; columns' gradients that are added up in bands
    _conv(2, (3, 70, 64, 64), (20, 70, 1, 1), (20,)),
    _conv(2, (2, 30, 6, 6), (130, 30, 3, 3), (130,), stride=2, padding=1),
    _conv(2, (2, 4, 9, 6), (130, 4, 3, 3)),
    _conv(2, (1, 3, 90, 90), (16, 3, 5, 5), (16,), padding=1),
    _conv(2, (2, 3, 91, 90), (16, 3, 7, 5), (16,), padding=2, stride=(2, 1)),
    _conv(2, (5, 3, 9, 8), (17, 3, 3, 5), (17,), padding=(1, 2)),
    _conv(2, (3, 4, 9, 8), (26, 2, 3, 3), (26,), padding=1, groups=2),
    _conv(2, (3, 48, 9, 8), (40, 24, 3, 3), (40,), padding=1, groups=2),
    _conv(3, (2, 2, 5, 6, 7), (9, 2, 3, 3, 3), (9,), padding=1),
    _transposed(2, (3, 26, 9, 8), (26, 2, 3, 3), (4,), padding=1, groups=2),
    # lines of planes longer than a block
    _conv(2, (3, 4, 100, 101), (4, 1, 3, 3), (4,), padding=1, stride=2, groups=4),
]
